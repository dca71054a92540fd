"""The API tells of approvals, to each what they may know, takes back what is one's own, and decides nothing."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from pegboard.core.approval import Block, Preview, State, canonical_arguments
from tests.hub.approvals_rig import SERVER
from tests.hub.asked import DROP, ask, decide, ids, look
from tests.hub.company import URL, Hub

pytestmark = pytest.mark.anyio

PREVIEW = Preview(what="drops flights", cost="1 GB", blocks=(Block(title="Rows", kind="diff", text="-1\n+2"),))


async def listed(hub: Hub, person: str, path: str = "approvals", /, **query: Any) -> list[str]:
    answer = await hub.api(person, path, **query)
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["approvals"]]


async def withdraw(hub: Hub, person: str, id_: str, body: str = '{"why": "the wrong table"}') -> httpx2.Response:
    headers = {"Authorization": f"Bearer {await hub.token(person)}"}
    return await hub.public.post(f"/api/v1/approvals/{id_}/withdraw", content=body, headers=headers)


async def test_a_request_is_told_whole_to_those_whose_business_it_is_and_is_not_there_for_others(hub: Hub) -> None:
    [id_] = await ids(hub, preview=PREVIEW)
    for person, waits in (("ana", False), ("pat", True), ("sol", False)):
        told = (await hub.api(person, f"approvals/{id_}")).json()
        assert told["arguments"] == DROP
        assert told["arguments_digest"] == canonical_arguments(DROP)[1]
        assert told["preview"] == PREVIEW.model_dump(mode="json")
        assert (told["state"], told["waits_for_you"], told["what"]) == ("requested", waits, "drops flights")
        assert (told["person"], told["server"], told["tool"]) == ("ana", SERVER, "run_query")
        assert told["requirement"]["why"] == "it cannot be undone"
        assert told["page"] == f"{URL}/approvals/{id_}"
        assert [event["after"] for event in told["events"]] == ["requested"]
    unknown = (await hub.api("pat", "approvals/019abb5a1f4000001f0e2d3c4b5a6978")).json()["error"]
    for person in ("fay", "gus"):
        answer = await hub.api(person, f"approvals/{id_}")
        assert answer.status_code == 404
        assert answer.json()["error"] | {"request_id": ""} == unknown | {"request_id": ""}


async def test_who_decides_is_told_to_each_reader_in_words_that_are_true_of_them(hub: Hub) -> None:
    [id_] = await ids(hub, "ana", {"n": 2}, by="caller")
    told = {person: (await hub.api(person, f"approvals/{id_}")).json()["asks"] for person in ("ana", "sol")}
    assert told == {"ana": "you, in your own browser", "sol": "ana@example.com, in their own browser"}


async def test_what_waits_for_a_yes_and_what_one_waits_for_are_two_lists(hub: Hub) -> None:
    [by_owner] = await ids(hub)
    [by_caller] = await ids(hub, "ana", {"n": 2}, by="caller")
    [rejected] = await ids(hub, "ana", {"n": 3})
    await decide(hub, "pat", rejected, approve=False)
    assert await listed(hub, "pat") == [by_owner]
    assert await listed(hub, "ana") == [by_caller]
    assert await listed(hub, "sol") == []
    assert await listed(hub, "ana", whose="mine") == [rejected, by_caller, by_owner]
    assert await listed(hub, "ana", whose="mine", ahead="true") == [by_caller, by_owner]
    assert await listed(hub, "pat", whose="mine") == []


async def test_the_history_tells_what_became_of_each_and_is_asked_by_server_person_and_state(hub: Hub) -> None:
    [no] = await ids(hub)
    await decide(hub, "pat", no, approve=False, why="not on a Friday")
    [yes] = await ids(hub, "pat", by="security")
    await decide(hub, "sol", yes)
    history = "approvals/history"
    assert await listed(hub, "sol", history) == [yes, no]
    assert await listed(hub, "ana", history) == [no]
    assert await listed(hub, "sol", history, state="rejected") == [no]
    assert await listed(hub, "sol", history, person="pat") == [yes]
    assert await listed(hub, "sol", history, server="dev/scratch") == []
    told = (await hub.api("ana", f"approvals/{no}")).json()
    assert (told["decided_by"], told["why"], told["asks"]) == ("Pat", "not on a Friday", told["asks"])
    last = told["events"][-1]
    assert (last["before"], last["after"], last["who"], last["door"]) == ("requested", "rejected", "Pat", "page")
    assert last["shown"] == (await look(hub, no)).shown_digest


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("approvals", {"whose": "waiting"}),
        ("approvals", {"whose": "mine"}),
        ("approvals", {"whose": "mine", "ahead": "true"}),
        ("approvals/history", {}),
    ],
)
async def test_pages_of_every_list_hold_each_once(hub: Hub, path: str, query: dict[str, str]) -> None:
    made = [(await ids(hub, "ana", {"n": n}, by="caller"))[0] for n in range(5)]
    await decide(hub, "ana", *made[1:3])
    whole = await listed(hub, "ana", path, **query)
    assert sorted(whole) == sorted(made if query.get("whose") != "waiting" else [made[0], *made[3:]])
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await hub.api("ana", path, **query, limit=2, **cursor)).json()
        seen += [each["id"] for each in page["approvals"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == whole
    other = await hub.api("pat", path, **query, limit=2, **cursor)
    assert other.status_code == 400


async def test_whoever_asked_takes_it_back_and_it_can_be_approved_no_more(hub: Hub) -> None:
    [id_] = await ids(hub)
    answer = await withdraw(hub, "ana", id_)
    assert (answer.status_code, answer.json()["state"]) == (200, "withdrawn")
    told = (await hub.api("pat", f"approvals/{id_}")).json()
    assert (told["state"], told["why"]) == ("withdrawn", "the wrong table")
    assert (told["events"][-1]["door"], told["events"][-1]["who"]) == ("api", "ana@example.com")
    again = await withdraw(hub, "ana", id_)
    assert (again.status_code, again.json()["error"]["reason"]) == (409, "already_decided")
    assert (await ask(hub)).actions[0].id != id_


async def test_what_runs_is_not_taken_back(hub: Hub) -> None:
    [id_] = await ids(hub)
    await decide(hub, "pat", id_)
    assert (await ask(hub, call_id="runs")).claimed
    answer = await withdraw(hub, "ana", id_)
    assert answer.status_code == 409
    assert (await look(hub, id_)).state is State.CLAIMED


async def test_nobody_takes_back_what_another_asked_for(hub: Hub) -> None:
    [id_] = await ids(hub)
    for person, status in (("pat", 403), ("sol", 403), ("fay", 404), ("gus", 404)):
        answer = await withdraw(hub, person, id_)
        assert answer.status_code == status, person
    assert (await look(hub, id_)).state is State.REQUESTED


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("", 400, "not JSON"),
        ("[]", 422, "not an object"),
        ('{"why": 1}', 422, "why"),
        ('{"because": "x"}', 422, "because"),
        (json.dumps({"why": "x" * 1001}), 422, "why"),
        ('{"why": "a\\u202eb"}', 422, "U+202E"),
    ],
)
async def test_a_wrong_reason_is_named_and_takes_nothing_back(hub: Hub, body: str, status: int, words: str) -> None:
    [id_] = await ids(hub)
    answer = await withdraw(hub, "ana", id_, body)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]
    assert (await look(hub, id_)).state is State.REQUESTED


async def test_an_answer_that_has_not_changed_is_not_sent_again(hub: Hub) -> None:
    [id_] = await ids(hub)
    headers = {"Authorization": f"Bearer {await hub.token('ana')}"}
    first = await hub.public.get(f"/api/v1/approvals/{id_}", headers=headers)
    headers["If-None-Match"] = first.headers["etag"]
    assert (await hub.public.get(f"/api/v1/approvals/{id_}", headers=headers)).status_code == 304
    await decide(hub, "pat", id_)
    assert (await hub.public.get(f"/api/v1/approvals/{id_}", headers=headers)).json()["state"] == "approved"


async def test_a_batch_is_told_with_those_beside_it(hub: Hub) -> None:
    first, second = await ids(hub, "ana", {"table": "a"}, {"table": "b"})
    told = (await hub.api("pat", f"approvals/{first}")).json()
    assert told["beside"] == [second]
    assert told["arguments"] == {"table": "a"}
