"""What the official registry API tells of servers, their versions and their standing."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime

import pytest

from pegboard.core.grants import PublicRegistry
from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Lifecycle
from pegboard_hub.registry.official.names import official_prefix
from tests.hub.company import URL, Company, Hub, opened, presto
from tests.hub.official_registry import OFFICIAL, PREFIX, PRESTO, ask, declared, grant, listed, many, names, numbers

pytestmark = pytest.mark.anyio


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
async def test_a_name_is_understood_escaped_and_unescaped(asked: Hub, name: str) -> None:
    latest = (await ask(asked, f"/v0.1/servers/{name}/versions/latest")).json()
    assert latest["server"]["name"] == PRESTO
    assert (await ask(asked, f"/v0.1/servers/{name}/versions/1.0.0")).json() == latest
    assert (await ask(asked, f"/v0.1/servers/{name}/versions")).json()["servers"] == [latest]


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
async def test_any_other_name_or_version_is_not_here(asked: Hub, path: str) -> None:
    assert (await ask(asked, f"/v0.1/servers/{path}")).status_code == 404


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


async def test_a_stopped_server_stays_as_it_was(hub: Hub) -> None:
    before = await listed(hub, include_deleted="true")
    async with hub.parts.registry.changing() as changing:
        await changing.apply(Change("prod/presto", OPERATOR, "stop", "secret why", stops={"": "secret why"}))
    [entry] = await listed(hub)
    assert entry["_meta"][OFFICIAL]["status"] == "active"
    assert entry["server"] == before[0]["server"]
    assert "secret" not in json.dumps(entry)


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
