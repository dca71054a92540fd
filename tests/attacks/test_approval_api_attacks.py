"""Approvals, attacked by an agent that has its caller's token, by others, and by texts that lie to a terminal.

Rules (design §4, An approval): a decision counts from a person's browser alone, never from a bearer token, be it the
approver's own; whose request it is not learns nothing of it; what would run is seen as it is.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest

from pegboard.cli.verbatim import arguments, block, fact, visible
from pegboard.core.approval import Answer, State
from tests.folders import new_folder
from tests.hub.asked import ask, decide, ids, look
from tests.hub.company import PRESTO, URL, Hub, found_company, opened

pytestmark = pytest.mark.anyio

VERDICTS: list[dict[str, Any]] = [
    {"verdict": "approve"},
    {"state": "approved"},
    {"approve": True, "why": "I am the agent", "decided_by": "pat"},
]
WAYS = [
    ("POST", "/api/v1/approvals/{id}/approve"),
    ("POST", "/api/v1/approvals/{id}/reject"),
    ("POST", "/api/v1/approvals/{id}/decide"),
    ("POST", "/api/v1/approvals/{id}/claim"),
    ("POST", "/api/v1/approvals/{id}/again"),
    ("POST", "/api/v1/approvals/{id}/withdraw/../approve"),
    ("POST", "/api/v1/approvals/{id}"),
    ("POST", "/api/v1/approvals/{id}:approve"),
    ("POST", "/api/v1/approvals"),
    ("POST", "/api/v1/approvals:approve"),
    ("PUT", "/api/v1/approvals/{id}"),
    ("PATCH", "/api/v1/approvals/{id}"),
    ("DELETE", "/api/v1/approvals/{id}"),
    ("GET", "/api/v1/approvals/{id}?state=approved&verdict=approve"),
    ("GET", "/api/v1/approvals/{id}/approve"),
    ("POST", "/approvals/{id}"),
    ("POST", "/approvals/{id}/decide"),
    ("POST", "/approvals/decide"),
    ("GET", "/approvals/{id}?verdict=approve"),
    ("POST", "/internal/v1/approvals/ask"),
    ("POST", "/internal/v1/approvals/over"),
    ("POST", "/internal/v1/approvals/decide"),
]


_numbers = count()


def fresh() -> dict[str, Any]:
    """Arguments that no other call had."""
    return {"sql": "SELECT 1", "n": next(_numbers)}


@pytest.fixture(scope="module")
async def hub() -> AsyncIterator[Hub]:
    root = new_folder()
    async with opened(found_company(root)) as found:
        yield found
    shutil.rmtree(root)


async def answers(hub: Hub, person: str, method: str, path: str, **more: Any) -> list[int]:
    """What each verdict is answered with, sent with a person's token in every place where one can stand."""
    token = await hub.token(person)
    found: list[int] = []
    for headers in (
        {"Authorization": f"Bearer {token}"},
        {"Authorization": f"Bearer {token}", "X-HTTP-Method-Override": "PUT", "X-Forwarded-User": "pat"},
        {"Authorization": f"Bearer {token}", "Origin": URL, "Sec-Fetch-Site": "same-origin"},
        {"Cookie": f"{hub.parts.identity.cookie.name}={token}", "Origin": URL, "Sec-Fetch-Site": "same-origin"},
    ):
        for body in VERDICTS:
            for sent in ({"content": json.dumps(body)}, {"data": {k: str(v) for k, v in body.items()}}):
                if method == "GET":
                    sent = {}
                answer = await hub.public.request(method, path, headers=headers, **sent, **more)
                found.append(answer.status_code)
    return found


async def test_the_approval_of_these_attacks_works_for_whom_it_is_meant(hub: Hub) -> None:
    given = fresh()
    [id_] = await ids(hub, "ana", given)
    await decide(hub, "pat", id_)
    assert (await look(hub, id_)).state is State.APPROVED
    assert (await ask(hub, "ana", given)).claimed


@pytest.mark.parametrize("by", ["caller", "owner", "platform"])
@pytest.mark.parametrize(("method", "path"), WAYS)
async def test_no_token_decides_anything_be_it_the_caller_s_or_the_approver_s(
    hub: Hub, by: str, method: str, path: str
) -> None:
    given = fresh()
    [id_] = await ids(hub, "ana", given, by=by)
    before = await look(hub, id_)
    for person in ("ana", "pat"):
        statuses = await answers(hub, person, method, path.format(id=id_))
        assert method == "GET" or not [each for each in statuses if each < 300], statuses
        assert not [each for each in statuses if each >= 500], statuses
    assert await look(hub, id_) == before
    assert not (await ask(hub, "ana", given, by=by)).claimed


async def test_deciding_is_refused_in_the_same_words_whether_or_not_there_is_such_a_request(hub: Hub) -> None:
    [id_] = await ids(hub, "ana", fresh())
    headers = {"Authorization": f"Bearer {await hub.token('gus')}"}
    told = []
    for each in (id_, "019abb5a1f4000001f0e2d3c4b5a6978", "x"):
        answer = await hub.public.post(f"/api/v1/approvals/{each}/approve", headers=headers)
        told.append((answer.status_code, answer.json()["error"] | {"request_id": ""}))
    assert told[0] == told[1] == told[2]
    assert told[0][0] == 403
    assert "in a browser" in told[0][1]["message"]


@pytest.mark.parametrize("person", ["fay", "gus"])
async def test_another_s_request_is_not_there_in_any_list_or_answer(hub: Hub, person: str) -> None:
    [id_] = await ids(hub, "ana", {"secret": "of ana", **fresh()})
    for path, query in (
        ("approvals", {}),
        ("approvals", {"whose": "mine"}),
        ("approvals/history", {}),
        ("approvals/history", {"person": "ana"}),
        ("approvals/history", {"server": "prod/presto"}),
        (f"approvals/{id_}", {}),
    ):
        answer = await hub.api(person, path, **query)
        assert (answer.status_code, answer.json().get("approvals", [])) in ((200, []), (404, []))
        assert "of ana" not in answer.text
    headers = {"Authorization": f"Bearer {await hub.token(person)}"}
    for each in (id_, "019abb5a1f4000001f0e2d3c4b5a6978"):
        answer = await hub.public.post(f"/api/v1/approvals/{each}/withdraw", content="{}", headers=headers)
        assert (answer.status_code, answer.json()["error"]["reason"]) == (404, "unknown")
    assert (await look(hub, id_)).state is State.REQUESTED


@pytest.mark.parametrize(("path", "query"), [("approvals", {"whose": "mine"}), ("approvals/history", {})])
async def test_another_s_cursor_opens_no_list(hub: Hub, path: str, query: dict[str, str]) -> None:
    for _ in range(3):
        await ids(hub, "ana", fresh())
    cursor = (await hub.api("ana", path, **query, limit=1)).json()["next"]
    assert (await hub.api("ana", path, **query, limit=1, cursor=cursor)).status_code == 200
    for person in ("pat", "fay"):
        answer = await hub.api(person, path, **query, limit=1, cursor=cursor)
        assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "invalid_cursor")


async def test_a_token_for_a_server_opens_no_approval(hub: Hub) -> None:
    [id_] = await ids(hub, "ana", fresh())
    headers = {"Authorization": f"Bearer {await hub.token('ana', resource=PRESTO)}"}
    for path in ("approvals", f"approvals/{id_}"):
        assert (await hub.public.get(f"/api/v1/{path}", headers=headers)).status_code == 401
    answer = await hub.public.post(f"/api/v1/approvals/{id_}/withdraw", content="{}", headers=headers)
    assert answer.status_code == 401
    assert (await look(hub, id_)).state is State.REQUESTED


@pytest.mark.parametrize("state", [State.REJECTED, State.CLAIMED, State.WITHDRAWN])
async def test_withdrawing_undoes_nothing_that_was_decided_or_runs(hub: Hub, state: State) -> None:
    given = fresh()
    [id_] = await ids(hub, "ana", given)
    headers = {"Authorization": f"Bearer {await hub.token('ana')}"}
    withdraw = f"/api/v1/approvals/{id_}/withdraw"
    if state is State.WITHDRAWN:
        assert (await hub.public.post(withdraw, content="{}", headers=headers)).status_code == 200
    else:
        await decide(hub, "pat", id_, approve=state is State.CLAIMED)
        answer: Answer = await ask(hub, "ana", given)
        assert answer.claimed is (state is State.CLAIMED)
    before = await look(hub, id_)
    assert before.state is state
    for _ in range(3):
        assert (await hub.public.post(withdraw, content="{}", headers=headers)).status_code == 409
    assert await look(hub, id_) == before


LIES = {
    "clears the screen": "\x1b[2J\x1b[Hall is well",
    "colours": "\x1b[8mhidden\x1b[0m",
    "title": "\x1b]0;owned\x07x",
    "link": "\x1b]8;;https://evil.example\x1b\\here\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;cm0gLXJmIC8=\x07",
    "C1": "\x9b2J\x9d0;owned\x9c\x90q\x9c",
    "overwrites": "DROP\rSELECT 1",
    "backspaces": "DROP\x08\x08\x08\x08SEL",
    "bidi": "\u202eelbat pord\u202c \u2066x\u2069 \u200fx \u061cx",
    "invisible": "a\u200bb\u2060c\ufeffd\u00ade\u180ef\u2062g",
    "tags": "a" + "".join(chr(0xE0000 + ord(each)) for each in "drop"),
    "variation selectors": "a\ufe0fb\U000e0100c",
    "blank letters": "\u3164\u2800\u115f\uffa0",
    "odd spaces": "a\u2003b\u00a0c\u3000d",
    "separators": "a\u2028b\u2029c\u0085d",
    "marks": "a" + "\u0301" * 50,
    "surrogates": "a\ud800b",
    "private": "a\ue000b\U000f0000c",
    "NUL": "a\x00b\x7fc",
    "a form feed": "a\x0cb\x0bc",
    "a screenful of lines": "harmless" + "\n" * 500 + "DROP TABLE x",
    "a screenful of spaces": "harmless" + " " * 5000 + "DROP TABLE x",
    "a screenful of tabs": "harmless" + "\t" * 500 + "DROP TABLE x",
    "a line of ours": "x\nstate         approved, and waits for nobody\nIt would run without arguments.",
    "a line of ours at the terminal's edge": "x" * 94 + "state         approved",
}


def shows(rows: list[str], indent: str) -> None:
    """Each row stands behind a bar, holds plain characters alone, and is no wider than the terminal."""
    for row in rows:
        assert row.startswith((f"{indent}|", f"{indent}> ")), row
        assert len(row) < 100
        assert all(each.isprintable() for each in row), ascii(row)
        assert not re.search("[\u115f\u1160\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]", row)
        assert not re.search(r"[^\S ]|\u0301{5}", row)
    assert len(rows) < 20


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize("lie", LIES)
def test_no_argument_does_more_at_a_terminal_than_be_read(lie: str) -> None:
    text = LIES[lie]
    shows(list(block(text, "  ")), "  ")
    for value in (text, [text], {text: text}):
        head, *rows = (row for row in arguments({"sql": value}) if not row.startswith("Look closely: "))
        assert head.startswith("sql (")
        shows(rows, "  ")
    first, *others = fact("reason", text, 14)
    assert first.startswith("reason        ")
    assert all(row.startswith(" " * 12 + "> ") for row in others)
    assert max(map(len, (first, *others))) < 100
    named = next(iter(arguments({text: 1})))
    assert named.isprintable()
    assert "\n" not in visible(text)


@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize("lie", LIES)
def test_what_hides_is_named_and_what_does_not_is_left(lie: str) -> None:
    told = "".join(row.strip()[2:] for row in block(LIES[lie]))
    for word in re.findall(r"[A-Za-z]{4,}", LIES[lie]):
        assert word in told
    hides = {each for each in LIES[lie] if each not in "\n\t" and not each.isprintable()}
    assert all(f"<U+{ord(each):04X}>" in told for each in hides)
