"""Coarse rules cannot be got round, loosened by a token, or turned into something else than a refusal.

Rules (design, Rules of trust and Contracts): deny by default; what widens access wants a person who has just proved
who they are, never a bearer token; what the edge saw and what the server ran are the same bytes; internals never
leave.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from pegboard.core.coarse import CoarseRule, Rules
from pegboard.testing import InMemoryHub
from pegboard_hub.identity.sessions.model import sessions
from tests.hub.company import OPERATOR, URL, Company, Hub, found_company, opened
from tests.kit.conftest import hub as desk  # noqa: F401 - a fixture
from tests.kit.conftest import project, server  # noqa: F401 - fixtures
from tests.kit.test_gate import LEGACY
from tests.kit.test_stops import stop
from tests.oauth import Browser
from tests.system.edge_rig import PRESTO, SCRATCH, Rig, running_edge, tool_call

pytestmark = pytest.mark.anyio

ENDS = 'why = "the audit"\nask = "security in #sec"\n'
NO_CHAT = (
    '[rules.no-chat]\neffect = "deny"\nsurfaces = ["chat", "bot"]\nservers = ["prod/presto", "dev/scratch"]\n'
    f'groups = ["finance", "ads-eng"]\nexcept_groups = ["platform"]\nmethods = ["tools/call", "tools/list"]\n{ENDS}'
)
SLOW = f'[rules.slow]\neffect = "limit"\nrequests = 10\nseconds = 60\nsurfaces = ["chat"]\n{ENDS}'


@pytest.fixture
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    return found_company(Path(tmp_path_factory.mktemp("s", numbered=True)))


@pytest.fixture
async def hub(company: Company) -> AsyncIterator[Hub]:
    async with opened(company) as found:
        yield found


async def send(hub: Hub, person: str, method: str, path: str, body: Any = None) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {await hub.token(person)}"}
    return await hub.public.request(method, f"/api/v1/{path}", json=body, headers=headers)


async def begin(hub: Hub, text: str = NO_CHAT + SLOW) -> None:
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    answer = await hub.internal.post("/internal/v1/rules", json={"text": text, "why": "begin"}, headers=headers)
    assert answer.status_code == 200, answer.text


def version(hub: Hub) -> int:
    return hub.parts.rules.current.version


# What a stolen token of an operator, or of security, can do

LOOSER: dict[str, str] = {
    "all gone": "# nothing\n",
    "one gone": SLOW,
    "one surface fewer": NO_CHAT.replace('["chat", "bot"]', '["chat"]') + SLOW,
    "another surface": NO_CHAT.replace('"bot"', '"ide"') + SLOW,
    "one server fewer": NO_CHAT.replace(', "dev/scratch"', "") + SLOW,
    "a namespace that looks like its servers": NO_CHAT.replace('"prod/presto"', '"prod2/presto"') + SLOW,
    "one group fewer": NO_CHAT.replace('"finance", ', "") + SLOW,
    "one exception more": NO_CHAT.replace('["platform"]', '["platform", "search-eng"]') + SLOW,
    "one method fewer": NO_CHAT.replace(', "tools/list"', "") + SLOW,
    "to a limit": NO_CHAT.replace('"deny"', '"limit"\nrequests = 1').replace(
        'methods = ["tools/call", "tools/list"]\n', ""
    )
    + SLOW,
    "another rule of its name": f'[rules.no-chat]\neffect = "deny"\nsurfaces = ["chat"]\n{ENDS}' + SLOW,
    "split, and a part lost": NO_CHAT.replace("no-chat", "aa").replace('"chat", ', "")
    + NO_CHAT.replace("no-chat", "bb").replace(', "bot"', "").replace(', "dev/scratch"', "")
    + SLOW,
    "more requests": NO_CHAT + SLOW.replace("10", "11"),
    "in less time": NO_CHAT + SLOW.replace("60", "59"),
    "as many of each server": NO_CHAT + SLOW.replace("[rules.slow]", '[rules.slow]\nper = "server"'),
    "of fewer": NO_CHAT + SLOW.replace('"chat"', '"bot"'),
    "hidden among stricter ones": SLOW
    + "".join(f'[rules.r{n}]\neffect = "deny"\nsurfaces = ["ide"]\n{ENDS}' for n in range(10, 60)),
}


@pytest.mark.parametrize("case", LOOSER)
async def test_no_token_loosens_a_rule(hub: Hub, case: str) -> None:
    await begin(hub)
    for person in ("pat", "sol"):
        answer = await send(hub, person, "POST", "rules", {"text": LOOSER[case], "on": 1, "why": "x"})
        assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "rules_widens")
    assert version(hub) == 1


async def test_no_token_reverts_to_what_was_looser(hub: Hub) -> None:
    await begin(hub, SLOW)
    await send(hub, "pat", "POST", "rules", {"text": NO_CHAT + SLOW, "on": 1, "why": "x"})
    for to in (0, 1):
        answer = await send(hub, "pat", "POST", "rules", {"revert_to": to, "why": "x"})
        assert answer.json()["error"]["reason"] == "rules_widens"
    assert version(hub) == 2


async def test_two_steps_that_each_count_as_stricter_come_to_nothing_looser(hub: Hub) -> None:
    await begin(hub)
    wide = NO_CHAT.replace('groups = ["finance", "ads-eng"]\n', "")
    answer = await send(hub, "pat", "POST", "rules", {"text": wide + SLOW, "on": 1, "why": "stricter"})
    assert answer.status_code == 201
    answer = await send(hub, "pat", "POST", "rules", {"text": NO_CHAT + SLOW, "on": 2, "why": "as before"})
    assert answer.json()["error"]["reason"] == "rules_widens"


@pytest.mark.parametrize("person", ["ana", "gus", "lea"])
async def test_nobody_else_reads_or_changes_rules(hub: Hub, person: str) -> None:
    await begin(hub)
    for method, path, body in (
        ("GET", "rules", None),
        ("GET", "rules/file?version=1", None),
        ("GET", "rules/history", None),
        ("GET", "rules/difference", None),
        ("GET", "rules/effective?server=prod/presto", None),
        ("POST", "rules:preview", {"text": NO_CHAT, "on": 1}),
        ("POST", "rules", {"text": NO_CHAT, "on": 1, "why": "x"}),
    ):
        answer = await send(hub, person, method, path, body)
        assert answer.status_code == 403, (path, answer.text)
        assert "audit" not in answer.text
    for credential in ("", "Bearer x", f"Bearer {await hub.token('pat')}"):
        headers = {"Authorization": credential}
        assert (await hub.internal.get("/internal/v1/rules", headers=headers)).status_code == 401
    assert version(hub) == 1


async def test_of_two_who_change_the_same_version_one_is_told(hub: Hub) -> None:
    await begin(hub)
    bodies = [{"text": NO_CHAT.replace("audit", f"audit {n}") + SLOW, "on": 1, "why": f"{n}"} for n in range(6)]
    answers = await asyncio.gather(*(send(hub, "pat", "POST", "rules", body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 5]
    assert version(hub) == 2


# Files that are more than a file

FILES: dict[str, Any] = {
    "deep arrays": "a = " + "[" * 100_000,
    "a long number": "version = " + "9" * 10_000,
    "a number below": "version = -1\n",
    "a version that is text": 'version = "1"\n',
    "a version in a string": 'version = 1\nx = """\nversion = 0\n"""\n',
    "a name that is a path": f'[rules."../../etc"]\neffect = "deny"\nsurfaces = ["cli"]\n{ENDS}',
    "a name that is markup": f'[rules."<b>x</b>"]\neffect = "deny"\nsurfaces = ["cli"]\n{ENDS}',
    "the last of Envoy's names": f'[rules."~none"]\neffect = "deny"\nsurfaces = ["cli"]\n{ENDS}',
    "a header in a reason": '[rules.aa]\neffect = "deny"\nsurfaces = ["cli"]\nwhy = "a\\r\\nx: y"\nask = "b"\n',
    "letters in another order": '[rules.aa]\neffect = "deny"\nsurfaces = ["cli"]\nwhy = "a\\u202eb"\nask = "b"\n',
    "an escape in a comment": "# \u009b2J\n",
    "a comment in another order": "# a\u202eb\n",
    "a reason of nothing": '[rules.aa]\neffect = "deny"\nsurfaces = ["cli"]\nwhy = "..."\nask = "b"\n',
    "a long reason": f'[rules.aa]\neffect = "deny"\nsurfaces = ["cli"]\nwhy = "{"x" * 201}"\nask = "b"\n',
    "a server that is an expression": f'[rules.aa]\neffect = "deny"\nservers = ["prod/.*"]\n{ENDS}',
    "a namespace that is everything": f'[rules.aa]\neffect = "deny"\nnamespaces = [""]\n{ENDS}',
    "a group that ends a quote": f'[rules.aa]\neffect = "limit"\nrequests = 1\ngroups = [\'a"|.*\']\n{ENDS}',
    "an effect that opens": f'[rules.aa]\neffect = "allow"\nsurfaces = ["cli"]\n{ENDS}',
    "a rule twice": f'[rules.aa]\neffect = "deny"\nsurfaces = ["cli"]\n{ENDS}' * 2,
    "a rule about nothing": f'[rules.aa]\neffect = "deny"\n{ENDS}',
}


@pytest.mark.parametrize("case", FILES)
async def test_a_file_that_is_no_set_of_rules_changes_nothing(hub: Hub, case: str) -> None:
    await begin(hub)
    for path in ("rules:preview", "rules"):
        why = {} if path.endswith("preview") else {"why": "x"}
        answer = await send(hub, "pat", "POST", path, {"text": FILES[case], "on": 1, **why})
        assert answer.status_code == 422, answer.text
    assert version(hub) == 1
    assert hub.parts.rules.current.by_name.keys() == {"no-chat", "slow"}


async def test_a_file_beyond_every_bound_is_not_read(hub: Hub) -> None:
    body = {"text": "#" * (9 * 1024 * 1024), "on": 0, "why": "x"}
    assert (await send(hub, "pat", "POST", "rules", body)).status_code == 413


MARKUP = [
    "<script>alert(1)</script>",
    '"}, "admin": {"x": "',
    "%REQ(authorization)% %DYNAMIC_METADATA(envoy.filters.http.jwt_authn:claims)%",
    "{{ frame }} {% include 'base.html' %}",
    "\\u0022 \\n \\",
    "~none",
    "Your tools/call is refused",
]
"""Reasons that would be more than text somewhere."""


@pytest.mark.parametrize("words", MARKUP)
async def test_a_reason_is_text_on_every_page(hub: Hub, words: str) -> None:
    why = json.dumps(words)
    rule = f'[rules.aa]\neffect = "deny"\nsurfaces = ["chat"]\nservers = ["prod/presto"]\nwhy = {why}\nask = {why}\n'
    await begin(hub, rule)
    browser = Browser(URL, hub.public)
    await browser.sign_in("pat")
    for path in (
        "/rules",
        "/rules?rule=aa",
        "/rules?version=1",
        "/rules/edit",
        "/rules/edit?revert_to=0",
        "/rules?server=prod/presto&surface=chat&method=ping&groups=finance",
    ):
        page = await browser.get(f"{URL}{path}")
        assert page.status_code == 200, page.text
        assert "<script>alert" not in page.text
        assert "base.html" not in page.text or "{%" in page.text


@pytest.mark.parametrize(
    "query",
    [
        "version=99999999999999",
        "version=-1",
        "rule=../x",
        "rule=%3Cb%3E",
        "server=%3Cb%3E",
        "find=%00",
        "done=%3Cb%3E",
    ],
)
async def test_an_odd_address_of_the_page_is_no_way_in(hub: Hub, query: str) -> None:
    await begin(hub)
    browser = Browser(URL, hub.public)
    await browser.sign_in("pat")
    page = await browser.get(f"{URL}/rules?{query}")
    assert page.status_code in (200, 422)
    assert "<b>" not in page.text


# A browser that was left open


async def test_whoever_proved_themselves_long_ago_narrows_and_widens_nothing(hub: Hub) -> None:
    await begin(hub)
    browser = Browser(URL, hub.public)
    await browser.sign_in("pat")
    page = await browser.get(f"{URL}/rules/edit")
    async with hub.parts.database.write() as db:
        await db.execute(update(sessions).values(authenticated_at_ms=sessions.c.authenticated_at_ms - 3_600_000))
    assert (await browser.get(f"{URL}/rules/edit")).status_code == 303
    tried = await browser.press(page, "Show what it comes to", text=f"version = 1\n{SLOW}")
    assert "Bring it into force" not in tried.text
    stricter = NO_CHAT.replace('groups = ["finance", "ads-eng"]\n', "")
    tried = await browser.press(page, "Show what it comes to", text=f"version = 1\n{stricter}{SLOW}")
    answer = await browser.press(tried, "Bring it into force for everybody", text=SLOW, why="x")
    assert (answer.status_code, version(hub)) == (403, 1)
    answer = await browser.press(tried, "Bring it into force for everybody", why="x")
    assert (answer.status_code, version(hub)) == (303, 2)


@pytest.mark.parametrize("path", ["/rules/apply", "/rules/preview"])
async def test_a_link_changes_nothing(hub: Hub, path: str) -> None:
    await begin(hub)
    browser = Browser(URL, hub.public)
    await browser.sign_in("pat")
    answer = await browser.get(f"{URL}{path}?text=&on=1&why=x")
    assert (answer.status_code, version(hub)) == (303, 1)


# A method by another name

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "hi"}}}
DISGUISED: dict[str, bytes] = {
    "as it is": json.dumps(CALL).encode(),
    "with an escape": json.dumps(CALL).replace("tools/call", "tools\\u002fcall").encode(),
    "with an escaped slash": json.dumps(CALL).replace("tools/call", "tools\\/call").encode(),
    "in capitals": json.dumps(CALL).replace("tools/call", "Tools/Call").encode(),
    "with a blank": json.dumps(CALL).replace("tools/call", "tools/call ").encode(),
    "with a null": json.dumps(CALL).replace("tools/call", "tools/call\\u0000").encode(),
    "twice, the other first": json.dumps(CALL).replace('"method"', '"method": "tools/list", "method"').encode(),
    "twice, the other last": json.dumps(CALL)
    .replace('"tools/call",', '"tools/call", "method": "tools/list",')
    .encode(),
    "in a batch": json.dumps([CALL]).encode(),
    "as a list": json.dumps({**CALL, "method": ["tools/call"]}).encode(),
    "without an id": json.dumps({key: value for key, value in CALL.items() if key != "id"}).encode(),
    "behind a mark of order": b"\xef\xbb\xbf" + json.dumps(CALL).encode(),
    "in UTF-16": json.dumps(CALL).encode("utf-16"),
}
HEADERS: dict[str, dict[str, str]] = {
    "legacy": {},
    "modern": {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "echo"},
    "a lie": {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"},
    "a legacy lie": {"mcp-protocol-version": "2025-11-25", "mcp-method": "tools/list"},
}
NO_CALLS = CoarseRule(name="no-calls", effect="deny", methods=("tools/call",), why="SEC-31", ask="security in #sec")


@pytest.mark.parametrize("head", HEADERS)
@pytest.mark.parametrize("case", DISGUISED)
async def test_a_server_alone_runs_no_tool_by_another_name_of_the_method(
    desk: InMemoryHub,  # noqa: F811
    case: str,
    head: str,
) -> None:
    stop(desk, rules=Rules.of([NO_CALLS]))
    async with desk.http(desk.headers("ana", ["ads-eng"])) as http:
        headers = {**LEGACY, "content-type": "application/json", **HEADERS[head]}
        answer = await http.post(desk.name.path, headers=headers, content=DISGUISED[case])
    assert answer.status_code >= 400 or "error" in answer.text
    assert not any(type(record).__name__ == "Intent" for record in desk.records)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running_edge() as found:
        found.publish(PRESTO, SCRATCH, rules=(NO_CALLS,))
        found.everywhere(
            lambda: found.call(token=found.token(), body=tool_call()).status_code == 403, "the rule refuses"
        )
        yield found


MEANS_NO_CALL = ("in capitals", "with a blank", "with a null", "as a list")
"""The edge passes on what is no call, as it does every method that it does not know; no server takes it for one."""


@pytest.mark.system
@pytest.mark.parametrize("head", HEADERS)
@pytest.mark.parametrize("case", sorted(DISGUISED.keys() - {*MEANS_NO_CALL}))
def test_the_edge_alone_passes_no_call_by_another_name_of_the_method(rig: Rig, case: str, head: str) -> None:
    before = rig.arrived()
    headers = {name.replace("-", "_"): value for name, value in HEADERS[head].items()}
    answer = rig.call(token=rig.token(), body=DISGUISED[case], **headers)
    assert answer.status_code in (400, 403), answer.text
    assert rig.arrived() == before
