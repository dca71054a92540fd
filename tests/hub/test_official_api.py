"""The official registry API at the hub's door: what clients ask for, and what they must get."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from pegboard.core.grants import PublicRegistry
from pegboard_hub.common.settings import HubSettings
from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Lifecycle, releases
from pegboard_hub.registry.official.names import official_prefix
from pegboard_hub.web.app import public_app
from tests.hub.company import URL, Company, Hub, opened, presto
from tests.hub.official import LOCAL, check, description

pytestmark = pytest.mark.anyio

OFFICIAL = "io.modelcontextprotocol.registry/official"
PREFIX = "localhost.pegboard"
PRESTO = f"{PREFIX}/presto"


def grant(company: Company, *servers: str, registry: str = "") -> None:
    """Write a grants file with these servers."""
    tables = "".join(f'[servers."{name}"]\nsource = "x"\ngroups = ["ads-eng"]\n' for name in servers)
    company.grants.write_text(f"{registry}\n{tables}")


def declared(name: str, **changes: Any) -> dict[str, Any]:
    return presto(**{"name": name, **changes})


@asynccontextmanager
async def many(company: Company, count: int, versions: int = 1) -> AsyncIterator[Hub]:
    """A hub with servers s00, s01, … of so many versions each, and dev/scratch."""
    names = [f"s{number:02}" for number in range(count)]
    grant(company, *(f"prod/{name}" for name in names), "dev/scratch")
    for name in names:
        company.deploy(f"prod/{name}", declared(name, description="version 0"))
    async with opened(company) as hub:
        for version in range(1, versions):
            for name in names:
                company.deploy(f"prod/{name}", declared(name, description=f"version {version}"))
            await hub.parts.registry.refresh()
        yield hub


async def ask(hub: Hub, path: str = "/v0.1/servers", /, **query: Any) -> httpx2.Response:
    """Ask as somebody on this machine, and hold the answer to the contract."""
    answer = await hub.public.get(path, params=query or None, headers=LOCAL)
    check(answer)
    return answer


async def listed(hub: Hub, **query: Any) -> list[dict[str, Any]]:
    """Every entry, page after page."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = (await ask(hub, **query, **cursor)).json()
        assert answer["metadata"]["count"] == len(answer["servers"])
        found += answer["servers"]
        if "nextCursor" not in answer["metadata"]:
            return found
        assert answer["servers"], "a page that has a next one has entries"
        cursor = {"cursor": answer["metadata"]["nextCursor"]}


def names(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["server"]["name"] for entry in entries]


def numbers(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["server"]["version"] for entry in entries]


async def test_a_server_is_told_of_with_its_address_and_its_standing(hub: Hub) -> None:
    [entry] = (await ask(hub)).json()["servers"]
    assert entry["server"] == {
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": PRESTO,
        "description": "Query the warehouse",
        "version": "1.0.0",
        "websiteUrl": f"{URL}/servers/prod/presto",
        "remotes": [{"type": "streamable-http", "url": f"{URL}/mcp/prod/presto"}],
    }
    official = entry["_meta"][OFFICIAL]
    assert (official["status"], official["isLatest"]) == ("active", True)


async def test_dev_what_is_held_back_and_what_is_not_deployed_are_nowhere(company: Company) -> None:
    grant(company, "prod/presto", "prod/hidden", "prod/undeployed", "dev/scratch", "dev/presto")
    company.deploy("prod/hidden", declared("hidden", gallery=False))
    company.deploy("dev/presto", declared("presto", description="the one in dev"))
    async with opened(company) as hub:
        assert names(await listed(hub, include_deleted="true")) == [PRESTO]
        for name in ("hidden", "undeployed", "scratch"):
            for rest in ("versions", "versions/latest", "versions/1.0.0"):
                answer = await ask(hub, f"/v0.1/servers/{PREFIX}%2F{name}/{rest}", include_deleted="true")
                assert answer.status_code == 404
                assert name not in answer.json()["error"]


@pytest.mark.parametrize("name", ["localhost.pegboard%2Fpresto", "localhost.pegboard/presto"])
async def test_a_name_is_understood_escaped_and_unescaped(hub: Hub, name: str) -> None:
    latest = (await ask(hub, f"/v0.1/servers/{name}/versions/latest")).json()
    assert latest["server"]["name"] == PRESTO
    assert (await ask(hub, f"/v0.1/servers/{name}/versions/1.0.0")).json() == latest
    assert (await ask(hub, f"/v0.1/servers/{name}/versions")).json()["servers"] == [latest]


@pytest.mark.parametrize(
    "path",
    [
        "presto/versions/latest",
        "prod%2Fpresto/versions/latest",
        "localhost.pegboard%252Fpresto/versions/latest",
        "localhost.pegboard%2Fpresto%0A/versions",
        "localhost.pegboard%2Fpre%0Asto/versions/latest",
        "localhost.pegboard%2F%2Fpresto/versions/latest",
        "localhost.pegboard%2Fpresto%2F/versions/latest",
        "LOCALHOST.pegboard%2Fpresto/versions/latest",
        "localhost.pegboard%2FPresto/versions/latest",
        "localhost.pegboard%2Fdev%2Fscratch/versions/latest",
        "localhost.pegboard%2F..%2Fpresto/versions/latest",
        "localhost.pegboard%2Fpresto%00/versions/latest",
        "localhost.pegboard%2Fpresto/versions/1.0.9",
        "localhost.pegboard%2Fpresto/versions/LATEST",
        "localhost.pegboard%2Fpresto/versions/",
        "localhost.pegboard%2Fpresto",
        "",
    ],
)
async def test_any_other_name_or_version_is_not_here(hub: Hub, path: str) -> None:
    assert (await ask(hub, f"/v0.1/servers/{path}")).status_code == 404


async def test_the_operator_names_the_prefix(company: Company) -> None:
    grant(company, "prod/presto", registry='[registry]\nprefix = "com.acme"')
    async with opened(company) as hub:
        assert names(await listed(hub)) == ["com.acme/presto"]
        assert (await ask(hub, "/v0.1/servers/com.acme%2Fpresto/versions/latest")).status_code == 200
        assert (await ask(hub, f"/v0.1/servers/{PREFIX}%2Fpresto/versions/latest")).status_code == 404


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("https://mcp.acme.com", "com.acme.mcp"),
        ("https://Tools:8443", "tools.pegboard"),
        ("http://127.0.0.1:8400", "localhost.pegboard"),
        ("http://[::1]:8400", "localhost.pegboard"),
    ],
)
async def test_without_one_it_is_made_of_the_host(url: str, prefix: str) -> None:
    assert official_prefix(PublicRegistry(), url) == prefix


async def test_each_release_is_a_version_for_good_and_latest_is_what_runs(company: Company) -> None:
    async with many(company, 1, versions=3) as hub:
        path = f"/v0.1/servers/{PREFIX}%2Fs00/versions"
        entries = (await ask(hub, path)).json()["servers"]
        assert numbers(entries) == ["1.0.2", "1.0.1", "1.0.0"]
        assert [e["server"]["description"] for e in entries] == ["version 2", "version 1", "version 0"]
        assert [e["_meta"][OFFICIAL]["isLatest"] for e in entries] == [True, False, False]

        company.deploy("prod/s00", declared("s00", description="version 1"))  # a rollback
        await hub.parts.registry.refresh()
        entries = (await ask(hub, path)).json()["servers"]
        assert numbers(entries) == ["1.0.2", "1.0.1", "1.0.0"]
        assert [e["_meta"][OFFICIAL]["isLatest"] for e in entries] == [False, True, False]
        assert (await ask(hub, f"{path}/latest")).json() == entries[1]
        assert numbers(await listed(hub, version="latest")) == ["1.0.1"]
        assert numbers(await listed(hub, version="1.0.2")) == ["1.0.2"]


async def test_what_has_left_is_told_of_as_deleted_to_those_who_ask(company: Company) -> None:
    async with many(company, 2) as hub:
        grant(company, "prod/s01")
        await hub.parts.registry.refresh()
        assert names(await listed(hub)) == [f"{PREFIX}/s01"]
        both = await listed(hub, include_deleted="true")
        assert [entry["_meta"][OFFICIAL]["status"] for entry in both] == ["deleted", "active"]
        assert "remotes" not in both[0]["server"]
        path = f"/v0.1/servers/{PREFIX}%2Fs00/versions"
        for rest in ("", "/latest", "/1.0.0"):
            assert (await ask(hub, path + rest)).status_code == 404
            assert (await ask(hub, path + rest, include_deleted="true")).status_code == 200


OPERATOR = Actor("platform", "operator")


async def change(hub: Hub, name: str, lifecycle: Lifecycle, why: str = "secret why") -> None:
    async with hub.parts.registry.changing() as changing:
        values = {"lifecycle": lifecycle, "lifecycle_why": why}
        await changing.apply(Change(name, OPERATOR, lifecycle.value, why, values=values))


async def test_a_deprecated_server_says_so_and_where_to_read_why(hub: Hub) -> None:
    [live] = await listed(hub)
    await asyncio.to_thread(_pass, live["_meta"][OFFICIAL]["updatedAt"])
    await change(hub, "prod/presto", Lifecycle.DEPRECATED)
    [entry] = await listed(hub, updated_since=live["_meta"][OFFICIAL]["updatedAt"].replace("Z", "1Z"))
    official = entry["_meta"][OFFICIAL]
    assert official["status"] == "deprecated"
    assert f"{URL}/servers/prod/presto" in official["statusMessage"]
    assert official["statusChangedAt"] > live["_meta"][OFFICIAL]["statusChangedAt"]
    assert official["publishedAt"] == live["_meta"][OFFICIAL]["publishedAt"]
    assert entry["server"] == live["server"]
    assert "secret" not in json.dumps(entry)
    assert names(await listed(hub)) == [PRESTO]


async def test_a_retired_server_is_deleted_and_one_that_comes_back_is_not(hub: Hub) -> None:
    await change(hub, "prod/presto", Lifecycle.RETIRED)
    assert await listed(hub) == []
    [entry] = await listed(hub, include_deleted="true")
    assert entry["_meta"][OFFICIAL]["status"] == "deleted"
    await change(hub, "prod/presto", Lifecycle.LIVE)
    assert names(await listed(hub)) == [PRESTO]


async def test_a_draft_and_a_release_that_waits_are_nobody_s_to_know(company: Company) -> None:
    grant(company, "prod/presto")
    async with opened(company) as hub:
        async with hub.parts.registry.changing() as changing:
            record = {"description": "a secret plan", "owner": "ads-eng", "support_channel": "#x", "gallery": True}
            await changing.register("prod/plan", record, OPERATOR, "a plan")
        waiting = presto(sensitivity="restricted", description="a secret release")
        waiting["tools"][0]["description"] = "Run SQL, and tell a model of it."
        company.deploy("prod/presto", waiting)
        await hub.parts.registry.refresh()
        assert hub.parts.registry.current.servers["prod/presto"].waiting is not None
        entries = await listed(hub, include_deleted="true")
        assert numbers(entries) == ["1.0.0"]
        assert "secret" not in json.dumps(entries)
        assert (await ask(hub, f"/v0.1/servers/{PREFIX}%2Fplan/versions", include_deleted="true")).status_code == 404


async def test_a_version_whose_author_held_it_back_stays_so(company: Company) -> None:
    company.deploy("prod/presto", presto(gallery=False, description="not for others"))
    async with opened(company) as hub:
        company.deploy("prod/presto", presto(description="for everybody"))
        await hub.parts.registry.refresh()
        [entry] = await listed(hub)
        assert entry["server"]["description"] == "for everybody"


async def test_who_asks_since_when_is_told_of_what_changed_and_of_what_has_gone(company: Company) -> None:
    async with many(company, 3) as hub:
        [first, *_] = await listed(hub)
        await asyncio.to_thread(_pass, first["_meta"][OFFICIAL]["updatedAt"])
        company.deploy("prod/s01", declared("s01", description="changed"))
        await hub.parts.registry.refresh()
        [new] = await listed(hub, version="latest", search="s01")
        since = new["_meta"][OFFICIAL]["publishedAt"]
        changed = await listed(hub, updated_since=since)
        # The one before changed too: it is not the latest any more.
        assert numbers(changed) == ["1.0.1", "1.0.0"]
        assert names(changed) == [f"{PREFIX}/s01"] * 2
        assert await listed(hub, updated_since="2999-01-01T00:00:00Z") == []
        assert len(await listed(hub, updated_since="1999-01-01T00:00:00+02:00")) == 4


def _pass(moment: str) -> None:
    """Wait for the next millisecond: moments have no more figures."""
    while datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") <= moment:
        time.sleep(0.0002)


async def test_a_search_finds_names_and_titles_in_any_case(company: Company) -> None:
    grant(company, "prod/presto", "prod/tickets")
    company.deploy("prod/tickets", declared("tickets", title="Help Desk"))
    async with opened(company) as hub:
        assert names(await listed(hub, search="REST")) == [PRESTO]
        assert names(await listed(hub, search="help d")) == [f"{PREFIX}/tickets"]
        assert len(await listed(hub, search=PREFIX)) == 2
        assert await listed(hub, search="warehouse") == []
        assert await listed(hub, search="%") == []


# What clients really send


async def test_vs_code_pages_through_a_search(company: Company) -> None:
    """As microsoft/vscode's mcpGalleryService.ts asks: a cursor as it is, and no search on further pages."""
    async with many(company, 60) as hub:
        probe = (await hub.public.get("/v0.1/servers?limit=1", headers=LOCAL)).json()
        assert probe["metadata"]["count"] == 1
        address, found = "/v0.1/servers?limit=50&version=latest&search=s", list[str]()
        while address:
            answer = await hub.public.get(address, headers=LOCAL)
            document = check(answer)
            for entry in document["servers"]:
                # What it leaves an entry out for.
                assert all(isinstance(entry["server"][name], str) for name in ("name", "description", "version"))
                assert entry["server"]["remotes"]
            found += names(document["servers"])
            cursor = document["metadata"].get("nextCursor")
            address = f"/v0.1/servers?limit=50&version=latest&cursor={cursor}" if cursor else ""
        assert found == [f"{PREFIX}/s{number:02}" for number in range(60)]


async def test_a_search_goes_on_with_its_cursor_alone(company: Company) -> None:
    async with many(company, 12) as hub:
        first = (await ask(hub, limit=1, search="s1", version="latest")).json()
        second = (await ask(hub, limit=9, version="latest", cursor=first["metadata"]["nextCursor"])).json()
        assert names([*first["servers"], *second["servers"]]) == [f"{PREFIX}/s10", f"{PREFIX}/s11"]


async def test_copilot_cli_verifies_a_server_by_its_name(hub: Hub) -> None:
    """As github/copilot-cli asks (its issues 3772, 4949): 200 is verified, 404 is not in this registry."""
    headers = {**LOCAL, "accept": "application/json"}
    found = await hub.public.get("/v0.1/servers/localhost.pegboard%2Fpresto/versions/latest", headers=headers)
    assert check(found)["server"]["remotes"][0]["url"] == f"{URL}/mcp/prod/presto"
    other = await hub.public.get("/v0.1/servers/io.github.x%2Fy/versions/latest", headers=headers)
    assert other.status_code == 404
    check(other)
    assert check(await hub.public.get("/v0.1/servers?limit=30", headers=headers))["metadata"] == {"count": 1}


@pytest.mark.parametrize("path", ["servers", "servers/a%2Fb/versions", "servers/a%2Fb/versions/latest", "nothing"])
async def test_a_browser_may_ask_from_any_page(hub: Hub, path: str) -> None:
    headers = {"origin": "https://vscode.dev", "access-control-request-method": "GET"}
    answer = await hub.public.options(f"/v0.1/{path}", headers=headers)
    assert answer.status_code == 204
    check(answer)
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["servers", "publish", "servers/localhost.pegboard%2Fpresto/versions/1.0.0"])
async def test_nothing_can_be_changed_here(hub: Hub, method: str, path: str) -> None:
    answer = await hub.public.request(method, f"/v0.1/{path}", headers=LOCAL, json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, OPTIONS")
    check(answer)


async def test_what_a_client_has_is_not_sent_again_until_it_changes(company: Company) -> None:
    async with many(company, 3) as hub:
        first = await ask(hub, limit=2)
        assert "nextCursor" in first.json()["metadata"]
        tag = first.headers["etag"]
        for known in (tag, f'"other", W/{tag}', "*"):
            again = await hub.public.get("/v0.1/servers?limit=2", headers={**LOCAL, "if-none-match": known})
            assert (again.status_code, again.headers["etag"]) == (304, tag)
            check(again)
        assert first.headers["cache-control"] == "private, no-cache"
        company.deploy("prod/s00", declared("s00", description="changed"))
        await hub.parts.registry.refresh()
        later = await hub.public.get("/v0.1/servers?limit=2", headers={**LOCAL, "if-none-match": tag})
        assert later.status_code == 200
        assert later.headers["etag"] != tag


# Pages


@pytest.mark.parametrize("limit", [1, 2, 5, 7, 100, 999_999])
async def test_pages_of_any_size_have_every_entry_once(company: Company, limit: int) -> None:
    async with many(company, 4, versions=3) as hub:
        whole = await listed(hub, limit=100)
        assert len(whole) == 12
        assert await listed(hub, limit=limit) == whole


async def test_the_longest_page_is_bounded(company: Company) -> None:
    async with many(company, 60, versions=2) as hub:
        page = (await ask(hub, limit=999_999)).json()
        assert page["metadata"]["count"] == 100
        assert len(await listed(hub, limit=999_999)) == 120


async def test_entries_that_come_and_go_between_pages_disturb_none_that_stay(company: Company) -> None:
    async with many(company, 6) as hub:
        first = (await ask(hub, limit=3)).json()
        grant(company, *(f"prod/s0{number}" for number in (0, 3, 4, 5)))
        await hub.parts.registry.refresh()
        second = (await ask(hub, limit=3, cursor=first["metadata"]["nextCursor"])).json()
        assert names(second["servers"]) == [f"{PREFIX}/s0{number}" for number in (3, 4, 5)]


async def test_a_cursor_that_anybody_touched_is_refused(company: Company) -> None:
    async with many(company, 3) as hub:
        cursor = (await ask(hub, limit=1)).json()["metadata"]["nextCursor"]
        assert cursor == (await ask(hub, limit=1)).json()["metadata"]["nextCursor"]
        forged = {
            "AAAA",
            "null",
            "é",
            "A" * 5000,
            "%",
            f"{cursor}=",
            f"{cursor}A",
            f" {cursor}",
            cursor[:-1],
            cursor[1:],
        }
        for place, letter in enumerate(cursor):
            forged.add(cursor[:place] + ("A" if letter != "A" else "B") + cursor[place + 1 :])
        for each in forged:
            answer = await ask(hub, limit=1, cursor=each)
            assert answer.status_code == 400, each
            assert answer.json()["error"].startswith("cursor: ")


async def test_a_cursor_of_another_instance_is_refused(company: Company) -> None:
    async with many(company, 3) as hub:
        cursor = (await ask(hub, limit=1)).json()["metadata"]["nextCursor"]
    company.home.sealing_key.unlink()
    async with opened(company) as hub:
        assert (await ask(hub, cursor=cursor)).status_code == 400


@pytest.mark.parametrize(
    "other",
    [{"search": "x"}, {"version": "1.0.0"}, {"include_deleted": "true"}, {"updated_since": "2026-01-01T00:00:00Z"}],
)
async def test_a_cursor_is_of_one_question(company: Company, other: dict[str, str]) -> None:
    async with many(company, 3) as hub:
        cursor = (await ask(hub, limit=1, version="latest", search="s")).json()["metadata"]["nextCursor"]
        answer = await ask(hub, cursor=cursor, **other)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(next(iter(other)))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.5", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=1&limit=2", "limit"),
        ("include_deleted=yes", "include_deleted"),
        ("include_deleted=", "include_deleted"),
        ("updated_since=yesterday", "updated_since"),
        ("updated_since=2026-01-01", "updated_since"),
        ("updated_since=2026-01-01T00:00:00", "updated_since"),
        ("updated_since=2026-13-01T00:00:00Z", "updated_since"),
        ("updated_since=9999-12-31T23:59:60Z", "updated_since"),
        (f"search={'a' * 256}", "search"),
        (f"version={'1' * 256}", "version"),
        ("search=a&search=b", "search"),
    ],
)
async def test_a_question_that_cannot_be_answered_says_which_part(hub: Hub, query: str, field: str) -> None:
    answer = await hub.public.get(f"/v0.1/servers?{query}", headers=LOCAL)
    assert answer.status_code == 400
    assert check(answer)["error"].startswith(f"{field}: ")


async def test_what_later_clients_may_ask_beside_is_left_alone(hub: Hub) -> None:
    assert names(await listed(hub, sort="name", cursor="", search="", version="")) == [PRESTO]


# Who may read

OPEN, CLOSED = 200, 404


@pytest.mark.parametrize(
    ("says", "url", "address", "status"),
    [
        ("", URL, "127.0.0.1", OPEN),
        ("", URL, "127.8.8.8", OPEN),
        ("", URL, "::1", OPEN),
        ("", URL, "::ffff:127.0.0.1", OPEN),
        ("", URL, "10.1.2.3", CLOSED),
        ("", URL, "", CLOSED),
        ("", URL, "localhost", CLOSED),
        ("", "https://mcp.acme.com", "127.0.0.1", CLOSED),
        ("", "https://mcp.acme.com", "10.1.2.3", CLOSED),
        ("public = true", "https://mcp.acme.com", "203.0.113.9", OPEN),
        ("public = true", "https://mcp.acme.com", "", OPEN),
        ("public = false", URL, "127.0.0.1", CLOSED),
        ('networks = ["10.0.0.0/8"]', "https://mcp.acme.com", "10.255.0.1", OPEN),
        ('networks = ["10.0.0.0/8"]', "https://mcp.acme.com", "::ffff:10.0.0.1", OPEN),
        ('networks = ["10.0.0.0/8"]', "https://mcp.acme.com", "11.0.0.1", CLOSED),
        ('networks = ["10.0.0.0/8"]', "https://mcp.acme.com", "", CLOSED),
        ('networks = ["10.0.0.0/8"]', "https://mcp.acme.com", "10.0.0.1:4711", CLOSED),
        ('networks = ["10.0.0.0/8"]', "https://mcp.acme.com", "10.0.0.1, 10.0.0.1", CLOSED),
        ('networks = ["10.0.0.0/8"]', URL, "127.0.0.1", CLOSED),
        ('networks = ["2001:db8::/32"]', "https://mcp.acme.com", "2001:db8::7", OPEN),
        ('networks = ["2001:db8::/32"]', "https://mcp.acme.com", "10.0.0.1", CLOSED),
    ],
)
async def test_it_is_open_to_whom_the_operator_opens_it(
    company: Company, monkeypatch: pytest.MonkeyPatch, says: str, url: str, address: str, status: int
) -> None:
    grant(company, "prod/presto", registry=f"[registry]\n{says}")
    async with opened(company) as hub:
        monkeypatch.setattr(HubSettings, "public_url", url)
        headers = {"x-forwarded-for": "127.0.0.1, 10.0.0.1", **({"x-pegboard-peer": address} if address else {})}
        answer = await hub.public.get("/v0.1/servers", headers=headers)
        assert answer.status_code == status
        check(answer)
        shared = says == "public = true"
        kept = "public, no-cache" if shared else "private, no-cache" if status == OPEN else "no-store"
        assert answer.headers["cache-control"] == kept


async def test_whom_it_is_closed_to_gets_one_answer_whatever_is_asked(company: Company) -> None:
    grant(company, "prod/presto", registry="[registry]\npublic = false")
    async with opened(company) as hub:
        of_one = [f"servers/{PREFIX}%2Fpresto/versions/latest", "servers/a%2Fb/versions"]
        paths = ["servers", "servers?cursor=x", *of_one]
        bodies = []
        for path in paths:
            answer = await hub.public.get(f"/v0.1/{path}", headers=LOCAL)
            assert answer.status_code == 404
            bodies.append({k: v for k, v in check(answer).items() if k != "request_id"})
        assert bodies == [bodies[0]] * len(paths)


async def test_it_opens_and_closes_while_the_hub_runs(company: Company) -> None:
    grant(company, "prod/presto", registry="[registry]\npublic = false")
    async with opened(company) as hub:
        assert (await ask(hub)).status_code == 404
        grant(company, "prod/presto", registry="[registry]\npublic = true")
        await hub.parts.registry.refresh()
        assert (await ask(hub)).status_code == 200


async def test_without_a_grants_file_that_can_be_read_it_says_so_and_opens_to_nobody(company: Company) -> None:
    async with opened(company):
        pass
    company.grants.write_text("[registry")
    async with opened(company) as hub:
        assert hub.parts.registry.current.servers
        assert (await ask(hub)).status_code == 503


@pytest.mark.parametrize(
    ("says", "complaint"),
    [
        ('prefix = "acme"', "registry.prefix"),
        ('prefix = "Com.Acme"', "registry.prefix"),
        ('prefix = "com.acme/x"', "registry.prefix"),
        ('prefix = "com..acme"', "registry.prefix"),
        ('prefix = "com.acme-"', "registry.prefix"),
        ('prefix = ""', "registry.prefix"),
        (f'prefix = "com.{"a" * 160}"', "registry.prefix"),
        ('networks = ["10.0.0.1/8"]', "registry.networks"),
        ('networks = ["everyone"]', "registry.networks"),
        ('networks = "10.0.0.0/8"', "registry.networks"),
        ('networks = ["10.0.0.0/8"]\npublic = true', "registry: networks and public = true contradict"),
        ("open = true", "registry.open: unknown key"),
    ],
)
async def test_a_fault_in_what_the_operator_says_is_named_and_opens_nothing(
    company: Company, says: str, complaint: str
) -> None:
    grant(company, "prod/presto", registry="[registry]\npublic = false")
    async with opened(company) as hub:
        grant(company, "prod/presto", registry=f"[registry]\n{says}")
        await hub.parts.registry.refresh()
        assert complaint in hub.parts.registry.current.fault
        assert (await ask(hub)).status_code == 404


# What may leave

SECRETS = {
    "owner": "secret-team",
    "support_channel": "#secret-channel",
    "sensitivity": "restricted",
    "entry": "secret_module:secret_server",
    "requests": {
        "business_groups": ["secret-group"],
        "surfaces": ["bot"],
        "channels": ["secret-bot-channel"],
        "services": ["spiffe://secret/service"],
    },
    "egress": ["secret.internal:5432"],
    "secrets": {"SECRET_TOKEN": "env:SECRET_VARIABLE"},
}


async def test_nothing_else_of_a_manifest_or_a_grant_leaves(company: Company) -> None:
    company.grants.write_text(
        '[registry]\npublic = true\n[servers."prod/presto"]\nsource = "/srv/secret/source"\n'
        'groups = ["secret-group"]\nsurfaces = ["bot"]\nchannels = ["secret-bot-channel"]\n'
        'reason = "secret review"\nstopped = "secret incident"\nstopped_tools = { secret_tool = "secret why" }\n'
    )
    declaration = presto(**SECRETS)
    declaration["tools"][0]["name"] = "secret_tool"
    declaration["tools"][0]["description"] = "secret tool"
    digest = company.deploy("prod/presto", declaration)
    async with opened(company) as hub:
        paths = ["", f"/{PREFIX}%2Fpresto/versions", f"/{PREFIX}%2Fpresto/versions/latest"]
        for address in (f"/v0.1/servers{path}" for path in paths):
            answer = await hub.public.get(address)
            text = check(answer) and answer.text.lower()
            assert "presto" in text
            for word in ("secret", "restricted", digest, "ads-revenue"):
                assert word not in text


TRICKS = [
    "\u202egnp.exe",
    "<script>x</script>",
    "\x00",
    "\u200b",
    "a" * 101,
    "\n\n",
    " ",
    "\x1b[31mred",
    "\ud7ff\ue000",
]
TEXT = st.text(max_size=150) | st.sampled_from(TRICKS)
DESCRIPTION = TEXT.filter(lambda text: 1 <= len(text.strip()) <= 100)  # as a manifest's is checked
PARAMETERS = ["cursor", "limit", "search", "version", "updated_since", "include_deleted", "x"]

on_one_hub = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
"""The hub of an example is that of all: none changes what it leaves."""


@on_one_hub
@given(title=TEXT, description=DESCRIPTION)
async def test_whatever_authors_write_every_answer_keeps_the_contract(hub: Hub, title: str, description: str) -> None:
    """`check` holds each answer to the contract, and so no author can spoil a client's page for the others."""
    database = hub.parts.database
    async with database.write() as connection:
        pinned = await connection.scalar(select(releases.c.manifest).where(releases.c.server == "prod/presto"))
        changed = {**pinned, "title": title, "description": description}
        await connection.execute(update(releases).where(releases.c.server == "prod/presto").values(manifest=changed))
    [entry] = (await ask(hub)).json()["servers"]
    for text in (entry["server"]["description"], entry["server"].get("title", "x")):
        assert text.isprintable()
        assert text == " ".join(text.split())
    assert (await ask(hub, f"/v0.1/servers/{PREFIX}%2Fpresto/versions")).status_code == 200


@on_one_hub
@given(path=st.text(max_size=60), query=st.dictionaries(st.sampled_from(PARAMETERS), st.text(max_size=40)))
async def test_whatever_is_asked_is_answered_as_documented(hub: Hub, path: str, query: dict[str, str]) -> None:
    for address in ("/v0.1/servers", f"/v0.1/servers/{quote(path, safe='')}/versions", f"/v0.1/{quote(path)}"):
        answer = await hub.public.get(address, params=query, headers=LOCAL)
        assert answer.status_code in (200, 400, 404)
        if address.startswith("/v0.1/"):
            check(answer)


async def test_our_own_description_of_the_api_tells_of_every_route_and_status(hub: Hub) -> None:
    document = description(public_app(hub.parts))
    paths = document["paths"]
    assert set(paths) == {
        "/v0.1/servers",
        "/v0.1/servers/{name}/versions",
        "/v0.1/servers/{name}/versions/{version}",
    }
    for operations in paths.values():
        assert set(operations) == {"get"}
        assert set(operations["get"]["responses"]) == {"200", "304", "400", "404", "503"}
    asked = [each["name"] for each in paths["/v0.1/servers"]["get"]["parameters"]]
    assert asked == ["cursor", "limit", "search", "updated_since", "version", "include_deleted"]
    assert json.dumps(document)
