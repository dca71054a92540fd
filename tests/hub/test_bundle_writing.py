"""Writing bundles: the edge's first, of a changed server its own alone beside it, and of the others part by part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pegboard.core.bundle import EDGE, Ages, Bundle, open_bundle
from pegboard.core.coarse import RuleSet
from pegboard.core.jose import Verifier
from pegboard.core.names import ServerName
from pegboard.core.rates import Limits, RateLimit, ServerLimit
from pegboard.core.revoked import Revoked
from pegboard.core.stops import Stops
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.registry import bundles
from pegboard_hub.registry.bundles import BundleWriter
from pegboard_hub.registry.model import Lifecycle, RegisteredServer, Snapshot
from pegboard_hub.storage.database import Database
from tests.hub.catalogues import server, snapshot
from tests.hub.company import begin_with_the_newest_schema

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

URL = "http://localhost:8400"
SERVERS = tuple(server(f"prod/s{number:02}", ["echo"]) for number in range(12))
NAMES = [str(each.name) for each in SERVERS]


class Desk:
    """A writer, and what it wrote, in order."""

    def __init__(self, home: Home, database: Database) -> None:
        self.home, self.database = home, database
        self.keys = open_keys(home)
        self.revoked = Revoked()
        self.limits = Limits()
        self.wrote: list[str] = []
        self.fails_at = ""
        self.writer = self.another()

    def another(self) -> BundleWriter:
        return BundleWriter(
            self.home,
            self.database,
            self.keys,
            URL,
            Ages(),
            revoked=lambda: self.revoked,
            stops=Stops,
            limits=lambda: self.limits,
            rules=RuleSet,
            edges=tuple,
        )

    def put(self, path: Path, text: str) -> None:
        consumer = EDGE if path == self.home.edge_bundle else path.parent.name.replace(".", "/", 1)
        if consumer == self.fails_at:
            raise OSError("no room")
        self.wrote.append(consumer)
        replace_file(path, text)

    def read(self, consumer: str) -> Bundle:
        path = self.home.edge_bundle if consumer == EDGE else self.home.bundle(ServerName.parse(consumer))
        return open_bundle(path.read_text(), Verifier(self.keys.bundle_jwks), consumer)

    def take(self) -> list[str]:
        wrote, self.wrote = self.wrote, []
        return wrote


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    home = Home.open(tmp_path / "home")
    await begin_with_the_newest_schema(home.database)
    database = Database.at(home.database)
    desk = Desk(home, database)
    monkeypatch.setattr(bundles, "replace_file", desk.put)
    monkeypatch.setattr(bundles, "PART", 5)
    yield desk
    await database.close()


def changed(one: RegisteredServer, *groups: str) -> RegisteredServer:
    return replace(one, granted=one.granted._replace(groups=groups))


async def test_everybody_gets_a_bundle_the_edge_first(desk: Desk) -> None:
    told = await desk.writer.write(snapshot(*SERVERS), 1000, refresh=True)
    assert desk.take() == [EDGE, *NAMES] == told
    assert [each.server for each in desk.read(EDGE).servers] == NAMES
    assert [each.server for each in desk.read("prod/s03").servers] == ["prod/s03"]
    assert desk.writer.signed_at == 1000


async def test_of_a_changed_server_the_edges_and_its_own_are_written_and_no_other(desk: Desk) -> None:
    await desk.writer.write(snapshot(*SERVERS), 1000, refresh=True)
    desk.take()
    before = desk.read(EDGE).version, desk.read("prod/s07").version
    later = snapshot(*SERVERS[:7], changed(SERVERS[7], "sales"), *SERVERS[8:])
    assert await desk.writer.write(later, 1001, refresh=False) == desk.take() == [EDGE, "prod/s07"]
    assert desk.read("prod/s07").servers[0].groups == desk.read(EDGE).servers[7].groups == ("sales",)
    assert (desk.read(EDGE).version, desk.read("prod/s07").version) > before
    assert await desk.writer.write(later, 1002, refresh=False) == desk.take() == []


async def test_what_edge_and_server_do_not_decide_with_writes_nothing(desk: Desk) -> None:
    await desk.writer.write(snapshot(*SERVERS), 1000, refresh=True)
    desk.take()
    described = replace(SERVERS[0], description="In other words", version=9)
    assert await desk.writer.write(snapshot(described, *SERVERS[1:]), 1001, refresh=False) == desk.take() == []


async def test_a_server_that_is_shut_leaves_the_edge_and_its_own_bundle_grants_nobody(desk: Desk) -> None:
    await desk.writer.write(snapshot(*SERVERS), 1000, refresh=True)
    desk.take()
    shut = replace(SERVERS[0], lifecycle=Lifecycle.RETIRED)
    await desk.writer.write(snapshot(shut, *SERVERS[1:]), 1001, refresh=False)
    assert desk.take() == [EDGE, "prod/s00"]
    assert "prod/s00" not in [each.server for each in desk.read(EDGE).servers]
    assert desk.read("prod/s00").servers[0].groups == ()


async def test_what_is_revoked_is_at_the_edge_before_any_server_has_it(desk: Desk) -> None:
    await desk.writer.write(snapshot(*SERVERS), 1000, refresh=True)
    desk.take()
    desk.revoked = Revoked(sessions=frozenset({"one"}))
    assert await desk.writer.write_first(snapshot(*SERVERS), 1001, refresh=False) == desk.take() == [EDGE]
    assert desk.read(EDGE).revoked == desk.revoked
    assert desk.writer.unfinished
    assert sorted(await desk.writer.write_rest()) == sorted(desk.take()) == NAMES
    assert {desk.read(name).revoked for name in NAMES} == {desk.revoked}
    assert not desk.writer.unfinished


async def test_limits_are_told_to_the_edge_and_to_no_server(desk: Desk) -> None:
    await desk.writer.write(snapshot(*SERVERS), 1_000, refresh=False)
    desk.take()
    desk.limits = Limits(rates=(RateLimit(per="person", requests=5),), servers={"prod/s01": ServerLimit(calls=2)})
    assert await desk.writer.write(snapshot(*SERVERS), 1_001, refresh=False) == [EDGE]
    assert desk.take() == [EDGE]
    assert desk.read(EDGE).limits == desk.limits
    await desk.writer.write(snapshot(*SERVERS), 1_060, refresh=True)
    assert desk.read(NAMES[0]).limits == Limits()


async def test_what_is_newer_does_not_wait_for_the_rest_of_what_is_older(desk: Desk) -> None:
    await desk.writer.write(snapshot(*SERVERS), 1000, refresh=True)
    desk.take()
    desk.revoked = Revoked(sessions=frozenset({"one"}))
    await desk.writer.write_first(snapshot(*SERVERS), 1001, refresh=False)
    rest = asyncio.create_task(desk.writer.write_rest())
    await asyncio.sleep(0)  # it has its turn
    desk.revoked = Revoked(sessions=frozenset({"one", "two"}))
    later = snapshot(*SERVERS[:11], changed(SERVERS[11], "sales"))
    await desk.writer.write_first(later, 1002, refresh=False)
    await rest
    await desk.writer.write_rest()
    wrote = desk.take()
    assert wrote[0] == EDGE
    assert wrote.index(EDGE, 1) < len(wrote) - len(NAMES)
    assert wrote[wrote.index(EDGE, 1) + 1] == "prod/s11"
    assert {desk.read(each).revoked for each in (EDGE, *NAMES)} == {desk.revoked}


async def test_a_bundle_that_could_not_be_written_is_written_the_next_time(desk: Desk) -> None:
    await desk.writer.write(snapshot(*SERVERS), 1000, refresh=True)
    later = snapshot(changed(SERVERS[0], "sales"), *SERVERS[1:])
    for consumer in (EDGE, "prod/s00"):
        desk.fails_at = consumer
        with pytest.raises(OSError, match="no room"):
            await desk.writer.write(later, 1001, refresh=False)
    desk.fails_at = ""
    await desk.writer.write(later, 1002, refresh=False)
    assert desk.read("prod/s00").servers[0].groups == desk.read(EDGE).servers[0].groups == ("sales",)
    assert not desk.writer.unfinished


async def test_signing_again_dates_every_bundle_and_counts_once_the_last_is_there(desk: Desk) -> None:
    await desk.writer.write(snapshot(*SERVERS), 1000, refresh=True)
    versions = {each: desk.read(each).version for each in (EDGE, *NAMES)}
    await desk.writer.write_first(snapshot(*SERVERS), 2000, refresh=True)
    assert (desk.read(EDGE).issued_at, desk.writer.signed_at) == (2000, 1000)
    await desk.writer.write_rest()
    assert {desk.read(each).issued_at for each in (EDGE, *NAMES)} == {2000}
    assert {each: desk.read(each).version for each in (EDGE, *NAMES)} == versions
    assert desk.writer.signed_at == 2000


async def test_bundles_that_only_want_a_fresh_date_come_a_few_at_a_time_after_what_changed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "FEW", 2)
    await desk.writer.write(snapshot(*SERVERS), 1000, refresh=True)
    await desk.writer.write_first(snapshot(*SERVERS), 2000, refresh=True)
    desk.take()
    pauses: list[tuple[float, list[str]]] = []

    async def pause(seconds: float) -> None:
        pauses.append((seconds, desk.take()))
        if len(pauses) == 1:
            await desk.writer.write_first(snapshot(*SERVERS[:11], changed(SERVERS[11], "sales")), 2001, refresh=False)
            desk.revoked = Revoked(sessions=frozenset({"one"}))
            await desk.writer.write_first(snapshot(*SERVERS[:11], changed(SERVERS[11], "sales")), 2002, refresh=False)

    monkeypatch.setattr(asyncio, "sleep", pause)
    await desk.writer.write_rest(0.9)
    assert pauses == [(bundles.PAUSE_S, NAMES[:2])]
    assert desk.take() == [EDGE, "prod/s11", EDGE, *NAMES]
    assert {desk.read(each).revoked for each in (EDGE, *NAMES)} == {desk.revoked}
    assert desk.writer.signed_at == 2000
    assert not desk.writer.unfinished


async def test_a_hub_that_starts_again_writes_what_changed_meanwhile_and_versions_only_go_up(desk: Desk) -> None:
    await desk.writer.write(snapshot(*SERVERS), 1000, refresh=True)
    version = desk.read("prod/s00").version
    desk.take()
    again = desk.another()
    await again.write(snapshot(changed(SERVERS[0], "sales"), *SERVERS[1:]), 500, refresh=False)
    assert desk.take() == [EDGE, "prod/s00"]
    assert desk.read("prod/s00").version == version + 1


async def test_an_empty_registry_is_told_to_the_edge(desk: Desk) -> None:
    await desk.writer.write(Snapshot(), 1000, refresh=True)
    assert desk.take() == [EDGE]
    assert desk.read(EDGE).servers == ()
