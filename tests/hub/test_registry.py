"""The registry: what is granted beside what is requested, and how it reaches the bundles."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.bundle import EDGE, Bundle, Endpoint, open_bundle
from pegboard.core.jose import Verifier
from pegboard.core.names import ServerName
from pegboard.core.rates import NO_LIMITS, LimitsSection
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.registry import service, sources, store
from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import PEGBOARD, newest_seq
from pegboard_hub.registry.tables import bundles, grants, releases, servers
from tests.hub.company import Company, Hub, beside, opened, plain, presto

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]


def edge_bundle(company: Company) -> Bundle:
    return open_bundle(company.home.edge_bundle.read_text(), Verifier(open_keys(company.home).bundle_jwks), EDGE)


def own_bundle(company: Company, server: str) -> Bundle:
    text = company.home.bundle(ServerName.parse(server)).read_text()
    return open_bundle(text, Verifier(open_keys(company.home).bundle_jwks), server)


async def rows(hub: Hub, table: object) -> list[tuple[object, ...]]:
    async with hub.parts.database.read() as connection:
        return [tuple(row) for row in await connection.execute(select(table))]  # type: ignore[call-overload]


async def test_the_edge_gets_every_server_and_each_server_only_itself(hub: Hub, company: Company) -> None:
    edge = edge_bundle(company)
    assert [server.server for server in edge.servers] == ["dev/scratch", "prod/presto"]
    assert [server.server for server in own_bundle(company, "prod/presto").servers] == ["prod/presto"]
    assert edge.jwks == open_keys(company.home).token_jwks
    granted = edge.servers[1]
    assert granted.groups == ("ads-eng", "data-infra", "finance", "platform")
    assert granted.surfaces == ("chat", "cli", "ide", "web")
    assert (granted.owner, granted.support_channel) == ("platform", "#data-platform")


async def test_what_an_author_requests_is_kept_beside_what_is_granted_and_opens_nothing(
    hub: Hub, company: Company
) -> None:
    kept = {row[2]: row[3:] for row in await rows(hub, grants) if row[:2] == ("prod/presto", "group")}
    assert kept["ads-eng"] == (True, True)
    assert kept["sales"] == (True, False)
    assert kept["finance"] == (False, True)
    assert "sales" not in edge_bundle(company).servers[1].groups
    for person, told in (("pat", True), ("fay", False)):
        page = await hub.public.get("/servers/prod/presto/security", params={"as": person})
        assert ("sales: not granted" in plain(page.text)) is told


async def test_limits_of_the_file_reach_the_edge_and_a_broken_file_leaves_them(hub: Hub, company: Company) -> None:
    assert edge_bundle(company).limits == LimitsSection().compiled()
    good = company.grants.read_text()
    company.grants.write_text(f"[limits]\nperson = 7\n{good}")
    await hub.parts.registry.refresh()
    assert next(rate for rate in edge_bundle(company).limits.rates if rate.per == "person").requests == 7
    company.grants.write_text(f"[limits]\nperson = -7\n{good}")
    await hub.parts.registry.refresh()
    assert "limits.person" in hub.parts.registry.current.fault
    assert next(rate for rate in edge_bundle(company).limits.rates if rate.per == "person").requests == 7
    assert own_bundle(company, "prod/presto").limits == NO_LIMITS


async def test_starting_again_changes_nothing(company: Company) -> None:
    tables = (servers, releases, grants, bundles)
    async with opened(company) as hub:
        before = [await rows(hub, table) for table in tables]
    async with opened(company) as hub:
        assert [await rows(hub, table) for table in tables] == before


async def test_a_changed_grant_reaches_the_bundles_while_the_hub_runs(hub: Hub, company: Company) -> None:
    before = edge_bundle(company)
    async with beside(hub.parts.registry.watch(poll_s=0.05, resign_s=60)):
        text = company.grants.read_text()
        company.grants.write_text(text.replace('surfaces = ["cli", "chat", "ide", "web"]', 'surfaces = ["cli"]'))
        until = time.monotonic() + 10
        while edge_bundle(company).servers[1].surfaces != ("cli",):
            assert time.monotonic() < until
            await asyncio.sleep(0.02)
    assert edge_bundle(company).version > before.version
    assert own_bundle(company, "prod/presto").servers[0].surfaces == ("cli",)


async def test_a_server_whose_grants_did_not_change_keeps_its_bundles_version(hub: Hub, company: Company) -> None:
    before = own_bundle(company, "dev/scratch").version
    company.grants.write_text(
        company.grants.read_text().replace('"finance", "data-infra", "platform"]\n# W', "]\n# W")
    )
    await hub.parts.registry.refresh()
    assert own_bundle(company, "prod/presto").servers[0].groups == ("ads-eng",)
    assert own_bundle(company, "dev/scratch").version == before


async def test_bundles_are_signed_again_while_the_hub_lives(hub: Hub, company: Company) -> None:
    before = edge_bundle(company)
    until = time.monotonic() + 10
    while edge_bundle(company).issued_at == before.issued_at:
        assert time.monotonic() < until
        await asyncio.sleep(0.1)
        await hub.parts.registry.resign()
    assert edge_bundle(company).version == before.version


@pytest.mark.parametrize(
    ("broken", "named"),
    [("[servers", "not valid TOML"), ('[servers."prod/presto"]\nsuorce = "x"\n', "did you mean 'source'")],
)
async def test_a_broken_grants_file_keeps_the_last_good_one_and_says_so(
    hub: Hub, company: Company, broken: str, named: str
) -> None:
    before = edge_bundle(company)
    company.grants.write_text(broken)
    await hub.parts.registry.refresh()
    assert edge_bundle(company).servers == before.servers
    page = await hub.page()
    assert "Needs an operator" in page
    assert named.replace("'", "&#39;") in page
    assert (await hub.api("ana", "servers")).json()["servers"]


async def test_the_last_good_grants_survive_a_restart_with_a_broken_file(company: Company) -> None:
    async with opened(company):
        before = edge_bundle(company)
    company.grants.write_text("[servers")
    async with opened(company) as hub:
        assert edge_bundle(company).servers == before.servers
        assert "Needs an operator" in await hub.page()


async def test_a_grants_file_that_is_still_being_written_is_not_believed(
    hub: Hub, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, good = edge_bundle(company), company.grants.read_text()

    async def goes_on(_: float) -> None:
        company.grants.write_text(good.replace('"ads-eng", ', ""))

    with monkeypatch.context() as patch:
        patch.setattr(sources, "SETTLE_S", 60.0)
        patch.setattr(sources, "asyncio", SimpleNamespace(sleep=goes_on, to_thread=asyncio.to_thread))
        company.grants.write_text("# none\n")
        assert await hub.parts.registry.refresh() is False
    assert edge_bundle(company).servers == before.servers
    await hub.parts.registry.refresh()
    assert "ads-eng" not in edge_bundle(company).servers[1].groups


async def test_a_mended_grants_file_is_taken_over(hub: Hub, company: Company) -> None:
    good = company.grants.read_text()
    company.grants.write_text("[servers")
    await hub.parts.registry.refresh()
    company.grants.write_text(good.replace('"ads-eng", ', ""))
    await hub.parts.registry.refresh()
    assert hub.parts.registry.current.problems == ()
    assert "ads-eng" not in edge_bundle(company).servers[1].groups


async def test_a_missing_grants_file_at_the_first_start_opens_nothing(company: Company) -> None:
    company.grants.unlink()
    async with opened(company) as hub:
        assert edge_bundle(company).servers == ()
        assert "cannot be read" in await hub.page()


async def test_a_server_without_a_release_is_shown_as_not_deployed_and_cannot_be_reached(company: Company) -> None:
    company.home.declaration(ServerName("dev", "scratch")).unlink()
    async with opened(company) as hub:
        assert [server.server for server in edge_bundle(company).servers] == ["prod/presto"]
        assert "not deployed" in await hub.page()
        assert (await hub.api("ana", "explain", server="dev/scratch")).json()["error"]["code"] == "unknown_server"


async def test_a_new_release_is_taken_over_while_the_hub_runs(hub: Hub, company: Company) -> None:
    digest = company.deploy("prod/presto", presto(owner="data-infra"))
    await hub.parts.registry.refresh()
    assert (edge_bundle(company).servers[1].release, edge_bundle(company).servers[1].owner) == (digest, "data-infra")


@pytest.mark.parametrize(
    "broken",
    [
        "{",
        '{"manifest": {}, "tools": [], "policies": {}}',
        presto(name="other"),
        presto() | {"policies": {"granted": "permit (principal, action, resource);"}},
        presto() | {"policies": {"granted": "permit (", "ads-revenue": "permit ("}},
    ],
)
async def test_a_broken_declaration_keeps_the_servers_last_good_release(
    company: Company, broken: dict[str, object] | str
) -> None:
    async with opened(company):
        before = edge_bundle(company).servers
    company.deploy("prod/presto", broken)
    async with opened(company) as hub:
        assert edge_bundle(company).servers == before
        assert any("prod/presto" in problem for problem in hub.parts.registry.current.problems)


async def test_a_withdrawn_server_leaves_the_edge_and_its_own_bundle_grants_nobody(
    hub: Hub, company: Company
) -> None:
    text = company.grants.read_text()
    company.grants.write_text(text[: text.index('[servers."dev/scratch"]')])
    await hub.parts.registry.refresh()
    assert [server.server for server in edge_bundle(company).servers] == ["prod/presto"]
    own = own_bundle(company, "dev/scratch").servers[0]
    assert (own.groups, own.surfaces, own.services) == ((), (), ())
    assert "dev/scratch" not in await hub.page()


async def test_versions_do_not_fall_back_when_the_database_is_lost(company: Company) -> None:
    async with opened(company):
        before = edge_bundle(company).version
    for file in company.home.data.iterdir():
        file.unlink()
    async with opened(company):
        assert edge_bundle(company).version >= before


async def test_what_was_read_before_takes_back_nothing_that_was_changed_meanwhile(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, read, goes_on = hub.parts.registry, asyncio.Event(), asyncio.Event()

    async def slow(connection: AsyncConnection) -> int:
        seq = await newest_seq(connection)
        if not read.is_set():
            read.set()
            await goes_on.wait()
        return seq

    async def note() -> None:
        async with registry.changing() as changing:
            await changing.note("prod/presto", PEGBOARD, "look", "somebody looked")

    monkeypatch.setattr(service, "newest_seq", slow)
    before = registry.current.seq
    following = asyncio.create_task(registry.follow_tables())
    await read.wait()
    noting = asyncio.create_task(note())
    await asyncio.wait({noting}, timeout=0.2)
    goes_on.set()
    await asyncio.gather(following, noting)
    assert registry.current.seq == before + 1


async def test_a_change_leaves_alone_where_another_hub_has_placed_replicas(hub: Hub) -> None:
    registry, here = hub.parts.registry, Endpoint(address="unix:s/one.sock", release="a" * 64, percent=100)
    async with registry.changing() as changing:
        known = await changing.apply(Change("prod/presto", PEGBOARD, "submit", "", values={"submitted": True}))
    async with hub.parts.database.write() as connection:
        await store.place_server(connection, replace(known, endpoints=(here,)))
    async with registry.changing() as changing:
        await changing.apply(Change("prod/presto", PEGBOARD, "grant", "a test", values={"reason": "another"}))
    async with hub.parts.database.read() as connection:
        assert await store.placed(connection) == {"prod/presto": (here,)}
