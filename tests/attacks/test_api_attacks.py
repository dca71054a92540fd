"""The API, under callers who want to know or change what is not theirs.

Rules (design, Rules of trust): deny by default; a tool that somebody may not use and one that does not exist get the
same answer; what widens access is never set by a token; acknowledged changes are not lost.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import Actor
from tests.folders import new_folder
from tests.hub.company import Hub, found_company, opened, presto

pytestmark = pytest.mark.anyio

HIDDEN = "get_revenue_metrics"
REFUSAL = {"code", "message", "layer", "reason", "what_to_do", "request_id"}
DRAFT = {
    "server": "prod/secret-plan",
    "description": "What nobody shall know yet",
    "owner": "search-eng",
    "support_channel": "#plan",
    "sensitivity": "restricted",
    "why": "it is a secret",
}
LISTS = ("servers", "me/servers", "me/tools", "teams", "history", "servers/prod/presto/history")


@pytest.fixture(scope="module")
async def hub() -> AsyncIterator[Hub]:
    root = new_folder()
    async with opened(found_company(root)) as found:
        made = await sent(found, "sam", "POST", "servers", DRAFT)
        assert made.status_code == 201, made.text
        yield found
    shutil.rmtree(root)


async def sent(
    hub: Hub, person: str, method: str, path: str, body: Any = None, headers: Any = None, **query: Any
) -> httpx2.Response:
    """One request to the API as a person; a body of text or bytes goes as it is."""
    token = await hub.token(person)
    content = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
    return await hub.public.request(
        method,
        f"/api/v1/{path}",
        content=content,
        headers={"Authorization": f"Bearer {token}", **(headers or {})},
        params=query or None,  # an empty one would take away the path's own
    )


def bare(response: httpx2.Response, *names: str) -> tuple[int, str]:
    """An answer without what differs from one question to the next."""
    text = re.sub(r'"request_id":"[^"]*"', "", response.text)
    for name in names:
        text = text.replace(name, "NAME")
    return response.status_code, text


# Cursors


@pytest.mark.parametrize("path", LISTS)
async def test_a_cursor_serves_nobody_else_and_nothing_else(hub: Hub, path: str) -> None:
    given = (await hub.api("pat", path, limit=1)).json()["next"]
    assert given
    tried = {
        "tampered": ("pat", path, f"{given[:-2]}AA", {}),
        "cut": ("pat", path, given[:-4], {}),
        "another person's": ("fay", path, given, {}),
        "of another list": ("pat", "teams" if path != "teams" else "servers", given, {}),
        "from another surface": ("pat", path, given, {"on": "chat"}),
        "made up": ("pat", path, "eyJhZnRlciI6ICJ6In0", {}),
    }
    for case, (person, where, cursor, more) in tried.items():
        answer = await hub.api(person, where, more.get("on", "cli"), cursor=cursor)
        assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "invalid_cursor"), case
        assert answer.json()["error"]["message"].startswith("cursor: ")


async def test_a_cursor_says_nothing_of_what_its_owner_may_not_know(hub: Hub) -> None:
    for path in LISTS:
        cursor = (await hub.api("fay", path, limit=1)).json()["next"]
        told = base64.urlsafe_b64decode(f"{cursor or ''}==")
        assert HIDDEN.encode() not in told
        assert b"secret-plan" not in told


# Drafts of others


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "servers/{}", None),
        ("GET", "servers/{}/releases", None),
        ("GET", "servers/{}/releases/1.0.0", None),
        ("GET", "servers/{}/tools", None),
        ("GET", "servers/{}/tools/x", None),
        ("GET", "servers/{}/history", None),
        ("GET", "servers/{}/access", None),
        ("GET", "explain?server={}", None),
        ("PATCH", "servers/{}", {"title": "mine", "why": "mine"}),
        ("DELETE", "servers/{}?why=mine", None),
        ("POST", "servers:validate", {"server": "{}", "endpoint": "x", "release": "1.0.0"}),
        ("POST", "access:check", {"server": "{}"}),
        ("POST", "access:check", {"questions": [{"server": "{}"}]}),
    ],
)
@pytest.mark.parametrize("person", ["ana", "gus"])
async def test_a_draft_of_others_answers_as_what_is_not_there(
    hub: Hub, method: str, path: str, body: Any, person: str
) -> None:
    answers = []
    for name in ("prod/secret-plan", "prod/not-there-at-all"):
        text = None if body is None else json.dumps(body).replace("{}", name)
        tag = {"If-Match": f'"1.00000000.{"0" * 32}"'}
        answers.append(bare(await sent(hub, person, method, path.format(name), text, tag), name))
    assert answers[0] == answers[1]
    assert answers[0][0] == (200 if path == "servers:validate" else 404)


@pytest.mark.parametrize("person", ["ana", "fay", "gus"])
async def test_no_list_and_no_count_tells_of_a_draft(hub: Hub, person: str) -> None:
    paths = ("servers?all=true", "servers?all=true&q=secret", "teams", "history", "me/servers", "teams/platform")
    for path in (*paths, "servers?all=true&lifecycle=draft"):
        answer = await sent(hub, person, "GET", path)
        assert "secret" not in answer.text.replace("q=secret", "")
        assert "search-eng" not in answer.text
    assert (await hub.api(person, "teams/search-eng")).status_code == 404


# Hidden tools


def routes_of(server: str) -> list[str]:
    return [
        "servers",
        "servers?all=true",
        "servers?q=revenue&all=true",
        f"servers?q={HIDDEN}&all=true",
        f"servers?q=presto {HIDDEN}",
        f"servers/{server}",
        f"servers/{server}/tools",
        f"servers/{server}/tools/{HIDDEN}",
        f"servers/{server}/tools?all=true",
        f"servers/{server}/tools?release=1.0.0",
        f"servers/{server}/releases",
        f"servers/{server}/releases/1.0.0",
        f"servers/{server}/history",
        f"servers/{server}/access",
        f"explain?server={server}&tool={HIDDEN}",
        "history",
        "me/servers",
        "me/tools",
        "me/tools?limit=1",
        "teams",
        "teams/platform",
    ]


async def told(hub: Hub, person: str) -> dict[str, str]:
    """All that the API tells a person, without what names a release or a moment."""
    found = {}
    for path in routes_of("prod/presto"):
        answer = await sent(hub, person, "GET", path)
        status, text = bare(answer)
        text = re.sub(r"\b[0-9a-f]{64}\b|(?<=release )[0-9a-f]{12}\b", "DIGEST", text)
        text = re.sub(r'"next":"[^"]*"', '"next":"CURSOR"', text)
        found[path] = f"{status} {re.sub(r'[0-9]{13}', 'MOMENT', text)}"
    for tool in (HIDDEN, "run_query"):
        checked = await sent(hub, person, "POST", "access:check", {"server": "prod/presto", "tool": tool})
        found[f"access:check {tool}"] = str(bare(checked))
    digest = (await sent(hub, person, "GET", "servers/prod/presto/tools")).json()["tools_digest"]
    claims = {"server": "prod/presto", "tools_digest": digest}
    found["validate"] = re.sub(
        r"\b[0-9a-f]{64}\b", "", (await sent(hub, person, "POST", "servers:validate", claims)).text
    )
    return found


@pytest.mark.parametrize("person", ["fay", "sam", "gus"])
async def test_a_registry_with_a_hidden_tool_looks_as_one_without(hub: Hub, person: str) -> None:
    root = new_folder()
    try:
        company = found_company(root)
        without = presto()
        without["tools"] = without["tools"][:1]
        company.deploy("prod/presto", without)
        async with opened(company) as other:
            await sent(other, "sam", "POST", "servers", DRAFT)
            assert await told(hub, person) == await told(other, person)
    finally:
        shutil.rmtree(root)


async def test_the_hidden_tool_is_there_for_those_who_may_use_it(hub: Hub) -> None:
    assert HIDDEN in (await hub.api("ana", "servers/prod/presto/tools")).text


async def test_what_happens_to_a_hidden_tool_changes_no_tag_and_no_answer(hub: Hub) -> None:
    paths = [path for path in routes_of("prod/presto") if HIDDEN not in path]

    async def seen(person: str) -> dict[str, tuple[str | None, tuple[int, str]]]:
        answers = {path: await sent(hub, person, "GET", path) for path in paths}
        return {path: (answer.headers.get("etag"), bare(answer)) for path, answer in answers.items()}

    before = {person: await seen(person) for person in ("fay", "gus")}
    async with hub.parts.registry.changing() as changing:
        why = f"{HIDDEN} is wrong"
        await changing.apply(Change("prod/presto", Actor("pat"), "stop", why, stops={HIDDEN: why}))
    assert {person: await seen(person) for person in ("fay", "gus")} == before
    assert HIDDEN in (await hub.api("pat", "servers/prod/presto/history")).text


async def test_why_a_server_is_stopped_is_told_to_nobody_who_could_not_use_it(hub: Hub) -> None:
    why = f"{HIDDEN} is wrong"
    async with hub.parts.registry.changing() as changing:
        await changing.apply(Change("prod/presto", Actor("pat"), "stop", why, stops={"": why}))
    for person, told in (("ana", True), ("pat", True), ("gus", False), ("sam", False)):
        for path in ("servers?all=true", "servers/prod/presto", "teams/platform"):
            assert (HIDDEN in (await sent(hub, person, "GET", path)).text) is told
        answer = await sent(hub, person, "POST", "servers:validate", {"server": "prod/presto"})
        assert ("it is stopped" in answer.text, HIDDEN in answer.text) == (True, told)
        assert (HIDDEN in (await sent(hub, person, "GET", "servers/prod/presto/history")).text) is (person == "pat")


# Fields that are nobody's to set


POWERS: dict[str, Any] = {
    "lifecycle": "live",
    "lifecycle_why": "x",
    "version": 99,
    "seq": 99,
    "source": "/etc",
    "granted": {"groups": ["search-eng"]},
    "requested": {"groups": ["search-eng"]},
    "groups": ["search-eng"],
    "surfaces": ["cli"],
    "release": "0" * 64,
    "waiting": "0" * 64,
    "takes_any": True,
    "first_live_at_ms": 1,
    "created_at_ms": 1,
    "reason": "approved by me",
    "stopped": "",
    "egress": ["evil.example:443"],
    "name": "prod/presto",
    "actor": "pat",
    "__class__": "x",
}


@pytest.mark.parametrize("field", POWERS)
async def test_a_draft_takes_no_power_from_its_body(hub: Hub, field: str) -> None:
    body = {**DRAFT, "server": "prod/powerful", field: POWERS[field]}
    made = await sent(hub, "sam", "POST", "servers", body)
    assert (made.status_code, made.json()["error"]["message"].partition(":")[0]) == (422, field)
    assert (await hub.api("sam", "servers/prod/powerful")).status_code == 404
    tag = (await hub.api("sam", "servers/prod/secret-plan")).headers["etag"]
    changed = await sent(
        hub, "sam", "PATCH", "servers/prod/secret-plan", {field: POWERS[field], "why": "x"}, {"If-Match": tag}
    )
    assert (changed.status_code, changed.json()["error"]["message"].partition(":")[0]) == (422, field)
    assert (await hub.api("sam", "servers/prod/secret-plan")).headers["etag"] == tag


async def test_nobody_registers_for_a_team_that_is_not_theirs_or_gives_a_draft_away(hub: Hub) -> None:
    made = await sent(hub, "sam", "POST", "servers", {**DRAFT, "server": "prod/theirs", "owner": "security"})
    assert made.status_code == 422
    tag = (await hub.api("sam", "servers/prod/secret-plan")).headers["etag"]
    body = {"owner": "security", "why": "x"}
    given = await sent(hub, "sam", "PATCH", "servers/prod/secret-plan", body, {"If-Match": tag})
    assert given.status_code == 422
    assert (await sent(hub, "gus", "POST", "servers", {**DRAFT, "server": "prod/his"})).status_code == 422


async def test_the_tag_of_another_server_lets_nobody_change_this_one(hub: Hub) -> None:
    other = await sent(hub, "sam", "POST", "servers", {**DRAFT, "server": "prod/other"})
    body = {"title": "x", "why": "x"}
    tag = {"If-Match": other.headers["etag"]}
    assert (await sent(hub, "sam", "PATCH", "servers/prod/secret-plan", body, tag)).status_code == 412
    two = {"If-Match": f"{other.headers['etag']}, {other.headers['etag']}"}
    assert (await sent(hub, "sam", "PATCH", "servers/prod/other", body, two)).status_code == 412


# Editing at once


async def test_of_two_who_edit_at_once_one_wins_and_the_other_is_told(hub: Hub) -> None:
    await sent(hub, "sam", "POST", "servers", {**DRAFT, "server": "prod/raced"})
    tag = (await hub.api("sam", "servers/prod/raced")).headers["etag"]
    answers = await asyncio.gather(
        *(
            sent(
                hub, person, "PATCH", "servers/prod/raced", {"title": f"{person} {n}", "why": "x"}, {"If-Match": tag}
            )
            for n in range(5)
            for person in ("sam", "pat")
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 9
    [won] = [answer.json()["title"] for answer in answers if answer.status_code == 200]
    assert (await hub.api("sam", "servers/prod/raced")).json()["title"] == won
    history = (await hub.api("sam", "servers/prod/raced/history")).json()["entries"]
    assert [entry["action"] for entry in history] == ["edit", "register"]


async def test_nothing_is_lost_of_those_who_try_again(hub: Hub) -> None:
    path = "servers/prod/tried"
    await sent(hub, "sam", "POST", "servers", {**DRAFT, "server": "prod/tried"})

    async def add(number: int) -> None:
        while True:
            now = await hub.api("sam", path)
            links = {**now.json()["links"], f"link-{number}": f"https://wiki.example/{number}"}
            tag = {"If-Match": now.headers["etag"]}
            answer = await sent(hub, "sam", "PATCH", path, {"links": links, "why": "x"}, tag)
            if answer.status_code == 200:
                return
            assert answer.status_code == 412

    await asyncio.gather(*map(add, range(6)))
    assert set((await hub.api("sam", path)).json()["links"]) == {f"link-{n}" for n in range(6)}


# Bodies and names


BODIES: dict[str, tuple[str | bytes, int]] = {
    "nothing": ("", 400),
    "half": ('{"server": ', 400),
    "a list": ("[]", 422),
    "a number": ("7", 422),
    "deep": ("[" * 50_000 + "]" * 50_000, 413),
    "a little deep": ('{"links": ' + "[" * 100 + "]" * 100 + "}", 400),
    "a key twice": ('{"why": "a", "why": "b"}', 400),
    "a key twice within": ('{"links": {"a": "https://a.example", "a": "https://b.example"}}', 400),
    "NaN": ('{"why": NaN}', 400),
    "half a character": ('{"why": "\\ud800"}', 400),
    "no UTF-8": (b'{"why": "\xff"}', 400),
    "huge": ('{"why": "' + "x" * 70_000 + '"}', 413),
    "many links": (json.dumps({"links": {f"l{n}": "https://a.example" for n in range(11)}}), 422),
    "a prototype": ('{"__proto__": {"lifecycle": "live"}}', 422),
}


@pytest.mark.parametrize("case", BODIES)
async def test_an_odd_body_is_refused_in_the_one_shape_and_changes_nothing(hub: Hub, case: str) -> None:
    body, status = BODIES[case]
    got = await hub.api("sam", "servers/prod/secret-plan")
    tag = {"If-Match": got.headers["etag"]}
    for method, path in (
        ("POST", "servers"),
        ("POST", "drafts:check"),
        ("PATCH", "servers/prod/secret-plan"),
        ("POST", "servers:validate"),
    ):
        answer = await sent(hub, "sam", method, path, body, tag)
        assert answer.status_code == status, (path, answer.text)
        assert set(answer.json()["error"]) == REFUSAL
    assert (await hub.api("sam", "servers/prod/secret-plan")).headers["etag"] == got.headers["etag"]


NAMES = [
    "prod/Presto",
    "prod/presto ",
    "prod/prest\u043e",  # a Cyrillic letter
    "prod/pre\u200bsto",
    "prod/\u202eotserp",
    "prod/presto\x00",
    "prod/presto\n",
    "prod/..",
    "prod/presto/x",
    "/presto",
    "prod/",
    "prod/<script>",
    "prod/" + "a" * 33,
    "prod/a--b",
    "prod/xn--presto",
    "prod/'; DROP TABLE servers; --",
    "__proto__/constructor",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
async def test_a_name_that_passes_for_another_is_no_name(hub: Hub, name: str) -> None:
    made = await sent(hub, "sam", "POST", "servers", {**DRAFT, "server": name})
    assert (made.status_code, made.json()["error"]["message"].partition(":")[0]) == (422, "server")
    validated = await sent(hub, "sam", "POST", "servers:validate", {"server": name})
    assert validated.json()["valid"] is False
    assert all(str(server).isascii() for server in hub.parts.registry.current.servers)


@pytest.mark.parametrize(
    "path",
    [
        "servers/prod/..%2fpresto",
        "servers/%00/presto",
        "servers/prod/%ff%fe",
        "servers/prod/" + "a" * 5000,
        "servers/prod/presto/tools/..%2f..",
        "servers/prod/presto/tools/%00",
        "servers/prod/presto/releases/%00",
        "servers/prod/presto/releases/" + "9" * 5000,
        "servers/prod/presto/releases/' OR 1=1 --",
        "teams/%00",
        "teams/__class__",
    ],
)
async def test_an_odd_path_leads_nowhere(hub: Hub, path: str) -> None:
    answer = await sent(hub, "pat", "GET", path)
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == REFUSAL


@pytest.mark.parametrize("header", ["a" * 100_000, '"' * 5000, 'W/"x", ' * 3000, "*, " * 3000, "\x80"])
async def test_an_odd_condition_is_a_condition_that_does_not_hold(hub: Hub, header: str) -> None:
    token = await hub.token("sam")
    answer = await hub.public.get(
        "/api/v1/servers/prod/presto",
        headers=[(b"authorization", f"Bearer {token}".encode()), (b"if-none-match", header.encode("latin-1"))],
    )
    assert answer.status_code == 200
