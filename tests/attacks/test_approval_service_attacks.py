"""What is said yes to is what runs, once, and nobody says yes to what is not theirs to decide.

Rules (design, An approval): bound to person, server, release, tool, arguments, policy version, expiry; claimed once;
a decision counts only from a person's own browser, never from a token or a form; a request is there only for whom it
concerns. In process: the server is played, as one that does everything it can with its channel.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import update

from pegboard.core.approval import ASK, OVER, Ask, Requirement, State
from pegboard_hub.approvals import asking
from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.approvals.model import Verdict
from pegboard_hub.approvals.service import Approvals
from pegboard_hub.common.home import Home
from pegboard_hub.ledger.channels import Channel
from pegboard_hub.registry.tables import servers
from pegboard_hub.stopping.service import MACHINE
from pegboard_hub.upkeep.backup import back_up
from pegboard_hub.upkeep.restore import RESTORED, restore
from tests.folders import new_folder
from tests.hub.approvals_rig import Asking, decide, decider, reader, seen, states
from tests.hub.company import API, OPERATOR, Company, found_company, opened, outcome, scratch
from tests.hub.company import presto as declaration
from tests.leaks import holding

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def stage() -> AsyncIterator[Asking]:
    folder = new_folder()
    company = found_company(folder)
    async with opened(company) as hub:
        yield Asking.of(hub, company)
    shutil.rmtree(folder)


@pytest.fixture
async def presto() -> AsyncIterator[Asking]:
    async with stage() as found:
        yield found


async def approved(presto: Asking, *arguments: dict[str, Any], **changes: Any) -> list[str]:
    """Requests of Ana's that Sol has approved; their ids."""
    asked = await presto.ask("ana", *arguments, **changes)
    ids = [each.id for each in asked.actions]
    await decide(presto.hub.parts.approvals, "sol", *ids)
    return ids


async def count(presto: Asking) -> int:
    """How many requests of Ana's there are."""
    approvals = presto.hub.parts.approvals
    return len((await approvals.mine(reader(approvals, "ana"), 200)).requests)


# Who asks.

CREDENTIALS: dict[str, Callable[[Asking], str]] = {
    "none": lambda _: "",
    "made up": lambda _: "channel-of-prod/nothing",
    "the operator's": lambda _: OPERATOR,
    "the caller's token": lambda presto: presto.tokens["ana"],
}


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize("route", [ASK, OVER])
async def test_only_a_servers_own_channel_asks_or_tells(presto: Asking, credential: str, route: str) -> None:
    question = await presto.question("ana") if route == ASK else {"processes": ["process-1"]}
    await presto.token("ana")
    headers = {"Authorization": f"Bearer {CREDENTIALS[credential](presto)}"}
    answer = await presto.hub.internal.post(route, json=question, headers=headers)
    assert answer.status_code == 401
    assert await count(presto) == 0


@pytest.mark.parametrize("route", [ASK, OVER])
async def test_the_public_door_has_no_such_route(presto: Asking, route: str) -> None:
    headers = {"Authorization": f"Bearer {presto.channel}"}
    answer = await presto.hub.public.post(route, json=await presto.question("ana"), headers=headers)
    assert answer.status_code == 404


async def other_audience(presto: Asking) -> str:
    return await presto.hub.token("ana", resource="http://localhost:8400/mcp/dev/scratch")


async def of_the_api(presto: Asking) -> str:
    return await presto.hub.token("ana", resource=API)


async def changed(presto: Asking) -> str:
    head, body, signature = (await presto.token("ana")).split(".")
    return f"{head}.{body[:-4]}AAAA.{signature}"


async def unsigned(presto: Asking) -> str:
    body = (await presto.token("ana")).split(".")[1]
    return f"eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{body}."


async def junk(_: Asking) -> str:
    return "…"


@pytest.mark.parametrize("forged", [other_audience, of_the_api, changed, unsigned, junk])
async def test_a_token_that_is_not_the_callers_own_for_this_server_asks_nothing(
    presto: Asking, forged: Callable[[Asking], Any]
) -> None:
    assert await presto.refused("ana", token=await forged(presto)) == (403, "token_refused")
    assert await count(presto) == 0


async def test_a_yes_is_not_claimed_with_a_revoked_token(presto: Asking) -> None:
    await approved(presto)
    parts = presto.hub.parts
    async with parts.database.write() as db:
        await parts.identity.revocations.add(db, "client", ["pegboard-cli"])
    await parts.identity.revocations.reload()
    assert await presto.refused("ana") == (403, "token_refused")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("person", "ana"),
        ("surface", "cli"),
        ("client", "pegboard-cli"),
        ("server", "prod/presto"),
        ("tool", "prod/presto/run_query"),
    ],
)
async def test_a_yes_is_not_claimed_while_anything_about_the_call_is_stopped(
    presto: Asking, kind: str, name: str
) -> None:
    await approved(presto)
    await presto.hub.parts.stopping.stop(MACHINE, kind, name, "an incident")
    assert await presto.refused("ana") == (403, "stopped")


async def test_whoever_is_stopped_while_their_call_waits_gets_no_claim(presto: Asking) -> None:
    """Neither does a call whose server went away, nor one of a tool that security asks more of meanwhile."""
    parts = presto.hub.parts
    asked = await presto.ask("ana")
    waiting = asyncio.create_task(presto.send(await presto.question("ana", wait_s=50)))
    await held(parts.approvals)
    await parts.stopping.stop(MACHINE, "person", "ana", "an incident")
    await decide(parts.approvals, "sol", asked.actions[0].id)
    assert (await waiting).json()["error"]["code"] == "stopped"
    assert (await seen(parts.approvals, asked.actions[0].id)).state is State.APPROVED


async def test_a_call_that_nobody_waits_for_any_more_claims_nothing(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    asked = await presto.ask("ana")

    async def gone() -> bool:
        return False

    question = Ask.model_validate(await presto.question("ana", wait_s=50))
    channel = Channel(server=presto.server, release=presto.release)
    waiting = asyncio.create_task(approvals.ask(channel, question, gone))
    await held(approvals)
    await decide(approvals, "sol", asked.actions[0].id)
    assert not (await waiting).claimed
    assert (await seen(approvals, asked.actions[0].id)).state is State.APPROVED


async def held(approvals: Approvals) -> None:
    """Wait until a question is held open."""
    async with asyncio.timeout(30):
        while not approvals.held:
            await asyncio.sleep(0)


# What an agent could answer itself.

NO_GROUPS = ("person:fay", "server:prod/presto", "group:finance", "*", " finance", "the CEO: see http://evil.example")
"""Neither the keys by which an inbox is found are names of groups, nor is a sentence."""

FORMS = [
    ("a form answers an approval", {"answered": "yes"}, (422, "invalid")),
    ("a confirmation for somebody else", {"kind": "confirm", "answered": "yes"}, (422, "invalid")),
    ("an answer of its own", {"answered": "approved"}, (422, "invalid_request")),
    ("a field of its own", {"approved": True}, (422, "invalid_request")),
    ("a state of its own", {"actions": [{"arguments": {}, "state": "approved"}]}, (422, "invalid_request")),
    ("a person of its own", {"person": "sol"}, (422, "invalid_request")),
    ("a release of its own", {"release": "f" * 64}, (422, "invalid_request")),
    ("a yes for years", {"requirement": {"expires_s": 7 * 24 * 3600 + 1}}, None),
    ("names that hide", {"tool": "run_query\u202e"}, (422, "invalid")),
    ("a tool that its release has not", {"tool": "run_quary"}, (422, "invalid")),
    ("a sentence for a tool", {"tool": "pay now at http://evil.example"}, (422, "invalid")),
    *((f"approvers called {by}", {"requirement": {"by": by}}, (422, "invalid")) for by in NO_GROUPS),
    ("names that a database ends at", {"call_id": "a\0b"}, (422, "invalid")),
    ("too many actions", {"actions": [{"arguments": {"n": n}} for n in range(101)]}, (422, "invalid_request")),
    ("no action", {"actions": []}, (422, "invalid_request")),
    ("one twice", {"actions": [{"arguments": {"n": 1}}, {"arguments": {"n": 1.0}}]}, (422, "same_action_twice")),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "refused"), [row[1:] for row in FORMS], ids=[row[0] for row in FORMS])
async def test_a_server_says_nothing_in_place_of_a_person(
    presto: Asking, changes: dict[str, Any], refused: tuple[int, str] | None
) -> None:
    question = await presto.question("ana")
    question |= {name: value for name, value in changes.items() if name != "requirement"}
    question["requirement"] |= changes.get("requirement", {})
    answer = await presto.send(question)
    assert (answer.status_code, answer.json()["error"]["code"]) == (refused or (422, "invalid_request"))
    assert await count(presto) == 0


async def test_a_server_speaks_not_as_security(presto: Asking) -> None:
    """That the registry requires an approval, an approver is told by the registry alone."""
    asked = await presto.ask("ana", requirement={"source": "registry", "why": "security wants it"})
    found = await seen(presto.hub.parts.approvals, asked.actions[0].id)
    assert (found.requirement.source, found.requirement.why) == ("server", "security wants it")


async def test_a_server_asks_for_no_less_than_its_reviewed_release_declares() -> None:
    company, declared = found_company(new_folder()), declaration()
    by_owner = {"by": "owner", "own": False, "expires_s": 600, "why": "it is gone then"}
    declared["tools"].append({"name": "drop", "policy": "granted", "approval": by_owner})
    company.deploy("prod/presto", declared)
    async with opened(company) as hub:
        presto, approvals = Asking.of(hub, company), hub.parts.approvals
        for n, asks in enumerate(
            [{"by": "caller"}, {"by": "owner", "own": True}, {"by": "owner", "expires_s": 3600}]
        ):
            asked = await presto.ask("ana", {"n": n}, tool="drop", requirement=asks)
            found = (await seen(approvals, asked.actions[0].id)).requirement
            assert (found.by, found.own, found.expires_s, found.source) == ("owner", False, 600, "server")
        stricter = await presto.ask("ana", {"n": 9}, tool="drop", by="security")
        assert (await seen(approvals, stricter.actions[0].id)).requirement.by == "security"


async def test_one_server_does_not_use_up_what_another_may_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MOST_AN_HOUR_ON_SERVER", 3)
    company = found_company(new_folder())
    async with opened(company) as hub:
        floods, other = Asking.of(hub, company), Asking.of(hub, company, "dev/scratch")
        for n in range(3):
            asked = await floods.ask("ana", {"n": n})
            await hub.parts.approvals.withdraw("ana", [asked.actions[0].id])
        assert await floods.refused("ana", {"n": 3}) == (429, "too_many")
        assert states(await other.ask("ana", tool="echo")) == [State.REQUESTED]


async def test_nothing_that_a_token_opens_decides(presto: Asking) -> None:
    """Whatever is posted with the approver's own token, and however it is called, what waits goes on waiting."""
    approvals = presto.hub.parts.approvals
    id_ = (await presto.ask("ana", by="security")).actions[0].id
    shown = (await seen(approvals, id_)).shown_digest
    token = await presto.hub.token("sol")
    body = {"ids": [id_], "id": id_, "shown": shown, "shown_digest": shown, "verdict": "approve", "approve": True}
    for path in (f"/approvals/{id_}", "/approvals", f"/api/v1/approvals/{id_}", "/api/v1/approvals"):
        for action in ("", "/approve", "/decide", ":approve", "/decision"):
            for form in ({"json": body}, {"data": {name: str(value) for name, value in body.items()}}):
                headers = {"Authorization": f"Bearer {token}"}
                await presto.hub.public.post(path + action, headers=headers, **form)  # type: ignore[arg-type]
    assert (await seen(approvals, id_)).state is State.REQUESTED


# Spellings of arguments.

SAME = [
    ('{"n": 1}', '{"n": 1.0}'),
    ('{"n": 100}', '{"n": 1e2}'),
    ('{"n": 0}', '{"n": -0.0}'),
    ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}'),
    ('{"a": "x"}', '{"\\u0061": "\\u0078"}'),
]
OTHER = [
    ('{"n": 1}', '{"n": "1"}'),
    ('{"n": 1}', '{"n": true}'),
    ('{"n": null}', "{}"),
    ('{"a": "caf\\u00e9"}', '{"a": "cafe\\u0301"}'),
    ('{"a": "\\u212b"}', '{"a": "\\u00c5"}'),
    ('{"a": "ana"}', '{"a": "\\u0430na"}'),
    ('{"a": "x"}', '{"a": "x "}'),
    ('{"a": "x"}', '{"a": "x\\u200b"}'),
    ('{"n": 9007199254740991}', '{"n": 9007199254740990}'),
    ('{"t": ["a", "b"]}', '{"t": ["b", "a"]}'),
    ('{"a": 0.1}', '{"a": 0.10000000000000002}'),
]
NEVER = [
    '{"n": 9007199254740993}',
    '{"n": 1e400}',
    '{"n": NaN}',
    '{"a": "\\ud800"}',
    '{"n": ' + "9" * 5000 + "}",
    '{"a": ' + "[" * 5000 + "]" * 5000 + "}",
    '{"a": "' + "x" * 300_000 + '"}',
]


async def spelt(presto: Asking, arguments: str) -> Any:
    """Ask with arguments as they are spelt, byte for byte."""
    question = json.dumps(await presto.question("ana", {"here": 0})).replace('{"here": 0}', arguments)
    headers = {"Authorization": f"Bearer {presto.channel}", "Content-Type": "application/json"}
    return await presto.hub.internal.post(ASK, content=question, headers=headers)


@pytest.mark.parametrize(("one", "two"), SAME)
async def test_two_spellings_of_the_same_are_shown_once_and_run_as_they_were_shown(
    presto: Asking, one: str, two: str
) -> None:
    first, second = [await spelt(presto, each) for each in (one, two)]
    assert first.json()["actions"] == second.json()["actions"]


@pytest.mark.parametrize(("one", "two"), OTHER)
async def test_what_reads_alike_and_is_not_the_same_needs_a_yes_of_its_own(
    presto: Asking, one: str, two: str
) -> None:
    first = (await spelt(presto, one)).json()
    await decide(presto.hub.parts.approvals, "sol", first["actions"][0]["id"])
    second = (await spelt(presto, two)).json()
    assert not second["claimed"]
    assert second["actions"][0]["id"] != first["actions"][0]["id"]


@pytest.mark.parametrize("arguments", NEVER, ids=[each[:20] for each in NEVER])
async def test_what_has_no_one_reading_is_asked_of_nobody(presto: Asking, arguments: str) -> None:
    assert (await spelt(presto, arguments)).status_code in (400, 422)
    assert await count(presto) == 0


# Replays.


async def test_a_call_id_claims_nothing_more_with_other_actions(presto: Asking) -> None:
    await approved(presto, {"n": 1}, {"n": 2})
    assert (await presto.ask("ana", {"n": 1}, call_id="one")).claimed
    for actions in (({"n": 2},), ({"n": 1}, {"n": 2}), ({"n": 3},)):
        assert await presto.refused("ana", *actions, call_id="one") == (409, "call_id_used")
    assert await presto.refused("fay", {"n": 1}, call_id="one") == (409, "call_id_used")


async def test_what_ran_never_runs_again_by_the_same_yes(presto: Asking) -> None:
    ids = await approved(presto)
    assert (await presto.ask("ana", call_id="one")).claimed
    for end in ("still running", "done", "over"):
        if end == "done":
            await presto.hub.deliver(presto.channel, outcome("one", 1))
        for call_id in ("one", "two"):
            again = await presto.ask("ana", call_id=call_id)
            assert again.claimed is (end == "still running" and call_id == "one")
    assert (await seen(presto.hub.parts.approvals, ids[0])).state is State.DONE


async def test_a_forged_end_brings_no_second_claim(presto: Asking) -> None:
    """A server may say that its call ended although it runs on: the next needs a new yes all the same."""
    await approved(presto)
    assert (await presto.ask("ana", call_id="one")).claimed
    await presto.hub.deliver(presto.channel, outcome("one", 1, "cancelled"))
    assert not (await presto.ask("ana", call_id="one")).claimed
    assert not (await presto.ask("ana", call_id="two")).claimed


# Races.


async def tried(job: Any) -> Any:
    try:
        return await job
    except ApprovalRefused as error:
        return error.code


@pytest.mark.parametrize("first", range(4))
async def test_of_approve_reject_withdraw_and_claim_at_once_one_comes_first_and_the_others_see_it(
    presto: Asking, first: int
) -> None:
    approvals = presto.hub.parts.approvals
    for number in range(10):
        id_ = (await presto.ask("ana", {"n": number}, by="finance")).actions[0].id
        shown = (await seen(approvals, id_)).shown_digest
        jobs = [
            tried(approvals.decide(decider("fay"), [Verdict(id_, shown, approve=True)], "")),
            tried(approvals.decide(decider("gus", ["finance"]), [Verdict(id_, shown, approve=False)], "no")),
            tried(approvals.withdraw("ana", [id_])),
            presto.ask("ana", {"n": number}, by="finance", wait_s=1),
        ]
        found = await asyncio.gather(*jobs[first:], *jobs[:first])
        answers = found[len(jobs) - first :] + found[: len(jobs) - first]
        request = await seen(approvals, id_)
        path = [event.after for event in request.events]
        # A claim and a withdrawal may follow an approval, and never each other.
        assert path in (
            [State.REQUESTED, State.APPROVED, State.CLAIMED],
            [State.REQUESTED, State.APPROVED, State.WITHDRAWN],
            [State.REQUESTED, State.APPROVED],
            [State.REQUESTED, State.REJECTED],
            [State.REQUESTED, State.WITHDRAWN],
        )
        assert answers[3].claimed is (request.state is State.CLAIMED)


async def test_an_approver_who_lost_the_group_between_request_and_click_decides_nothing(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    id_ = (await presto.ask("ana", by="finance")).actions[0].id
    shown = (await seen(approvals, id_)).shown_digest
    assert id_ in [each.id for each in (await approvals.inbox(reader(approvals, "fay"))).requests]
    assert await tried(approvals.decide(decider("fay", []), [Verdict(id_, shown, approve=True)], "")) == "unknown"


async def test_a_team_that_lost_the_server_decides_nothing(presto: Asking) -> None:
    approvals, registry = presto.hub.parts.approvals, presto.hub.parts.registry
    id_ = (await presto.ask("ana", by="owner")).actions[0].id
    shown = (await seen(approvals, id_)).shown_digest
    async with presto.hub.parts.database.write() as db:
        await db.execute(update(servers).where(servers.c.name == presto.server).values(owner="finance"))
    assert registry.current.servers[presto.server].owner == "platform", "this hub has not heard of it yet"
    verdict = [Verdict(id_, shown, approve=True)]
    assert await tried(approvals.decide(decider("pat"), verdict, "")) == "unknown"
    assert isinstance(await tried(approvals.decide(decider("fay"), verdict, "")), list)


@pytest.mark.parametrize("by", ["caller", "owner", "person-fay", "nobody-is-in-it"])
async def test_no_name_of_a_group_makes_somebody_else_an_approver(presto: Asking, by: str) -> None:
    """A group that nobody is in has no people, whatever it is called."""
    approvals = presto.hub.parts.approvals
    id_ = (await presto.ask("ana", by=by)).actions[0].id
    shown = (await seen(approvals, id_)).shown_digest
    for groups in ([], ["finance"], ["caller", "owner"]):
        assert id_ not in [each.id for each in (await approvals.inbox(approvals.reader("fay", groups))).requests]
        verdict = [Verdict(id_, shown, approve=True)]
        assert await tried(approvals.decide(decider("fay", groups), verdict, "")) == "unknown"


async def test_what_somebody_approved_who_is_stopped_since_is_not_claimed(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    [told] = (await presto.ask("ana")).actions
    await decide(approvals, "sol", told.id)
    await presto.hub.parts.stopping.stop(MACHINE, "person", "sol", "their session was stolen")
    await approvals.look_after()
    request = await seen(approvals, told.id)
    assert (request.state, request.why) == (State.WITHDRAWN, "who approved it is stopped now")
    again = await presto.ask("ana")
    assert not again.claimed
    assert again.actions[0].id != told.id


async def test_an_approver_who_is_stopped_decides_nothing(presto: Asking) -> None:
    id_ = (await presto.ask("ana")).actions[0].id
    await presto.hub.parts.stopping.stop(MACHINE, "person", "sol", "left the company")
    with pytest.raises(ApprovalRefused) as refused:
        await decide(presto.hub.parts.approvals, "sol", id_)
    assert refused.value.code == "stopped"


async def test_what_is_not_theirs_and_what_does_not_exist_are_told_alike(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    request = await seen(approvals, (await presto.ask("ana")).actions[0].id)
    said = set()
    for id_ in (request.id, "f" * 32, "", "x", "\0", "' OR 1=1 --", request.id.upper(), request.id + " "):
        assert await approvals.find(reader(approvals, "fay"), id_) is None
        for job in (
            approvals.decide(decider("fay"), [Verdict(id_, request.shown_digest, approve=True)], ""),
            approvals.withdraw("fay", [id_]),
            approvals.again("fay", id_),
        ):
            with pytest.raises(ApprovalRefused) as refused:
                await job
            said.add(str(refused.value))
    assert len(said) == 1
    assert (await approvals.history(reader(approvals, "fay"))).requests == []
    assert await approvals.beside(reader(approvals, "fay"), request) == []


async def test_one_request_of_an_act_that_is_not_theirs_spoils_the_whole_act(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    mine = (await presto.ask("ana", {"n": 1}, by="finance")).actions[0].id
    other = (await presto.ask("ana", {"n": 2}, by="legal")).actions[0].id
    verdicts = [Verdict(id_, (await seen(approvals, id_)).shown_digest, approve=True) for id_ in (mine, other)]
    for order in (verdicts, verdicts[::-1]):
        assert await tried(approvals.decide(decider("fay"), order, "")) == "unknown"
    assert await tried(approvals.decide(decider("fay"), [verdicts[0]] * 2, "")) == "invalid"
    assert (await seen(approvals, mine)).state is State.REQUESTED


async def test_no_token_is_kept_or_logged(presto: Asking, caplog: pytest.LogCaptureFixture) -> None:
    await approved(presto)
    await presto.ask("ana")
    await presto.refused("ana", token=presto.tokens["ana"][:-2] + "xx")
    question = await presto.question("ana", tool=5)
    assert (await presto.send(question)).status_code == 422
    home = presto.hub.parts.rotation.keys.home.root
    secret = presto.tokens["ana"].rpartition(".")[2].encode()
    assert holding(home, [secret]) == set()
    assert secret.decode() not in caplog.text
    assert secret.decode() not in repr(Ask.model_validate(await presto.question("ana")))


async def test_questions_that_are_held_open_hold_nobody_else_up(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    asked = await presto.ask("ana")
    waiting = [asyncio.create_task(presto.ask("ana", wait_s=50)) for _ in range(120)]
    async with asyncio.timeout(60):
        while approvals.held < 100 or sum(task.done() for task in waiting) < 20:
            await asyncio.sleep(0.01)
    began = time.monotonic()
    await presto.ask("fay", {"n": 1}, wait_s=50)
    assert time.monotonic() - began < 20, "more than a hundred of one server are answered at once"
    await decide(approvals, "sol", asked.actions[0].id)
    answers = await asyncio.gather(*waiting)
    assert sum(answer.claimed for answer in answers) == 1
    assert {state for answer in answers for state in states(answer)} <= {State.CLAIMED, State.REQUESTED}


async def test_what_security_requires_meanwhile_is_not_claimed_by_the_yes_from_before(presto: Asking) -> None:
    parts = presto.hub.parts
    required: dict[str, Requirement] = {}
    approvals = Approvals(
        parts.database,
        parts.registry,
        parts.rotation.keys,
        parts.public_url,
        lambda: parts.reviewing.rights.roles,
        lambda: parts.identity.revocations.current,
        lambda: parts.stops.current,
        registered=lambda _server, tool, _asked: required.get(tool),
    )
    question = Ask.model_validate(await presto.question("ana", by="caller", wait_s=50))
    channel = Channel(server=presto.server, release=presto.release)
    waiting = asyncio.create_task(approvals.ask(channel, question))
    await held(approvals)
    [mine] = (await approvals.mine(reader(approvals, "ana"))).requests
    required["run_query"] = Requirement(by="security", source="registry")
    await decide(approvals, "ana", mine.id)
    assert not (await waiting).claimed
    assert states(await approvals.ask(channel, replace_wait(question))) == [State.REQUESTED]


async def test_code_that_was_changed_under_the_same_declaration_is_not_claimed_by_the_yes_from_before(
    presto: Asking,
) -> None:
    approvals = presto.hub.parts.approvals
    question = Ask.model_validate(await presto.question("ana"))
    before, after = (Channel(server=presto.server, release=presto.release, source=source) for source in "ab")
    [asked] = (await approvals.ask(before, question)).actions
    await decide(approvals, "sol", asked.id)
    assert states(await approvals.ask(after, replace_wait(question))) == [State.REQUESTED]
    assert states(await approvals.ask(before, replace_wait(question))) == [State.CLAIMED]


def replace_wait(question: Ask) -> Ask:
    """The same question without a wait."""
    return question.model_copy(update={"wait_s": 0, "call_id": "another"})


async def test_a_backup_brings_no_yes_back(presto: Asking) -> None:
    """What was approved then may have run since: after a restore it wants a new yes, and what ran then is unknown."""
    home = presto.hub.parts.rotation.keys.home
    waits = (await presto.ask("ana", {"n": 1})).actions[0].id
    yes = (await approved(presto, {"n": 2}))[0]
    runs = (await approved(presto, {"n": 3}))[0]
    assert (await presto.ask("ana", {"n": 3}, call_id="then")).claimed
    home.instance_file.write_text("{}")
    file = home.root.parent / "backup.tar.gz"
    await asyncio.to_thread(back_up, home, file, lambda _: None)
    assert (await presto.ask("ana", {"n": 2}, call_id="since")).claimed, "it ran after the backup"
    brought = await asyncio.to_thread(restore, file, home.root.parent / "restored", lambda _: None)
    company = Company(Home.open(brought.home), presto.hub.parts.settings.grants)
    for server, declared in (("prod/presto", declaration()), ("dev/scratch", scratch())):
        company.deploy(server, declared)
    async with opened(company) as hub:
        again = Asking.of(hub, company)
        for number in (1, 2, 3):
            assert states(await again.ask("ana", {"n": number})) == [State.REQUESTED]
        found = [await seen(hub.parts.approvals, id_) for id_ in (waits, yes, runs)]
        assert [request.state for request in found] == [State.EXPIRED, State.EXPIRED, State.UNKNOWN]
        assert {request.events[-1].why for request in found} == {RESTORED}
