"""What every runtime promises: the same tests over this machine and over a cluster.

A module runs them by importing everything from here and giving a fixture `rig` (see `Rig`):

    from tests.hub.runtime_suite import *  # noqa: F403
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import pytest

from pegboard.core.publishing import Trouble
from pegboard_hub.publishing.orders import (
    Desired,
    DesiredRelease,
    DesiredServer,
    Observed,
    ObservedRelease,
    Replica,
    Role,
    Scale,
)
from pegboard_hub.runtime.interface import Runtime

__all__ = [
    "test_a_changed_role_restarts_nothing",
    "test_a_fault_of_one_release_is_its_own",
    "test_a_replica_that_ends_comes_back_and_is_counted",
    "test_a_runtime_that_starts_anew_leaves_nothing_of_before_and_has_nothing_twice",
    "test_a_server_without_a_caller_sleeps_where_it_may",
    "test_egress_that_is_not_granted_is_named",
    "test_more_and_fewer_replicas_as_desired",
    "test_nothing_runs_before_a_word_of_the_hub",
    "test_the_same_word_again_changes_nothing",
    "test_two_releases_of_a_server_run_side_by_side",
    "test_what_does_not_verify_is_not_started",
    "test_what_is_desired_comes_up_with_an_address_for_each_replica",
    "test_what_is_no_longer_desired_ends",
]

pytestmark = pytest.mark.anyio

LIMIT_S = 60.0
ONE = "prod/one"
TWO = "dev/two"


class Rig(Protocol):
    """A runtime and its world, as a test has it in its hands.

    Attributes:
        runtime: under test, with nothing desired yet.
    """

    runtime: Runtime

    def release(
        self,
        server: str,
        mark: str = "a",
        *,
        role: Role = Role.LIVE,
        scale: Scale | None = None,
        egress: tuple[str, ...] = (),
    ) -> DesiredRelease:
        """A signed release that works; another `mark` makes another release. `egress` is what its manifest asks for,
        and nothing of it is granted. The same arguments give the same release."""

    def settle(self) -> None:
        """Let the world play its part, where it does not by itself (a fake cluster's controllers); called often."""

    async def end_one(self, server: str) -> None:
        """End one process or pod of a server, as a crash does."""

    async def anew(self) -> None:
        """The runtime's own process was killed and starts again: `runtime` is another one afterwards."""

    def running(self, server: str) -> int:
        """How many processes or pods of a server there are in the world, counted without asking the runtime."""


def desired(*releases: tuple[str, DesiredRelease], version: str = "1") -> Desired:
    """A word of the hub."""
    servers: dict[str, tuple[DesiredRelease, ...]] = {}
    for server, release in releases:
        servers[server] = (*servers.get(server, ()), release)
    return Desired(version=version, servers=tuple(DesiredServer(server=s, releases=r) for s, r in servers.items()))


async def until(rig: Rig, wanted: Callable[[Observed], bool]) -> Observed:
    """What is observed once it is as `wanted`."""
    seen = await rig.runtime.observed()
    try:
        async with asyncio.timeout(LIMIT_S):
            while not wanted(seen := await rig.runtime.observed()):
                rig.settle()
                await rig.runtime.changed(0.05)
    except TimeoutError:
        pytest.fail(f"was not observed within {LIMIT_S:.0f} s; last: {seen.model_dump_json(indent=1)}")
    return seen


def of(seen: Observed, release: DesiredRelease) -> ObservedRelease | None:
    """What is observed of a release."""
    return next((each for each in seen.releases if each.release == release.release), None)


def ready(seen: Observed, release: DesiredRelease) -> tuple[Replica, ...]:
    """Its replicas that take calls."""
    found = of(seen, release)
    return tuple(each for each in found.replicas if each.state == "ready") if found else ()


def trouble(seen: Observed, release: DesiredRelease) -> Trouble | None:
    """Why it does not come up."""
    found = of(seen, release)
    return found.trouble if found else None


async def test_nothing_runs_before_a_word_of_the_hub(rig: Rig) -> None:
    seen = await rig.runtime.observed()
    assert seen.runtime == rig.runtime.name
    assert seen.releases == ()


async def test_what_is_desired_comes_up_with_an_address_for_each_replica(rig: Rig) -> None:
    release = rig.release(ONE, scale=Scale(min=2, max=2))
    await rig.runtime.bring_about(desired((ONE, release), version="7"))
    seen = await until(rig, lambda seen: len(ready(seen, release)) == 2)
    assert seen.version == "7"
    found = of(seen, release)
    assert found is not None
    assert (found.server, found.step, found.trouble) == (ONE, "running", None)
    assert len({each.id for each in found.replicas}) == len({each.address for each in found.replicas}) == 2
    assert all(each.started_at_ms for each in found.replicas)
    assert rig.running(ONE) == 2


async def test_the_same_word_again_changes_nothing(rig: Rig) -> None:
    release = rig.release(ONE)
    word = desired((ONE, release))
    await rig.runtime.bring_about(word)
    before = ready(await until(rig, lambda seen: len(ready(seen, release)) == 1), release)
    await rig.runtime.bring_about(word)
    await rig.runtime.bring_about(word.model_copy(update={"version": "2"}))
    seen = await until(rig, lambda seen: seen.version == "2" and len(ready(seen, release)) == 1)
    after = ready(seen, release)
    assert [(each.id, each.started_at_ms) for each in after] == [(each.id, each.started_at_ms) for each in before]


async def test_what_is_no_longer_desired_ends(rig: Rig) -> None:
    one, two = rig.release(ONE), rig.release(TWO)
    await rig.runtime.bring_about(desired((ONE, one), (TWO, two)))
    await until(rig, lambda seen: bool(ready(seen, one) and ready(seen, two)))
    await rig.runtime.bring_about(desired((TWO, two), version="2"))
    seen = await until(rig, lambda seen: of(seen, one) is None and rig.running(ONE) == 0)
    assert len(ready(seen, two)) == 1


async def test_two_releases_of_a_server_run_side_by_side(rig: Rig) -> None:
    old, new = rig.release(ONE, "a"), rig.release(ONE, "b", role=Role.CANDIDATE)
    assert old.release != new.release
    await rig.runtime.bring_about(desired((ONE, old), (ONE, new)))
    seen = await until(rig, lambda seen: bool(ready(seen, old) and ready(seen, new)))
    assert ready(seen, old)[0].address != ready(seen, new)[0].address


async def test_a_changed_role_restarts_nothing(rig: Rig) -> None:
    new = rig.release(ONE, role=Role.CANDIDATE)
    await rig.runtime.bring_about(desired((ONE, new)))
    before = ready(await until(rig, lambda seen: bool(ready(seen, new))), new)
    await rig.runtime.bring_about(desired((ONE, new.model_copy(update={"role": Role.LIVE})), version="2"))
    seen = await until(rig, lambda seen: seen.version == "2" and bool(ready(seen, new)))
    assert [each.started_at_ms for each in ready(seen, new)] == [each.started_at_ms for each in before]


async def test_more_and_fewer_replicas_as_desired(rig: Rig) -> None:
    release = rig.release(ONE)
    for version, count in (("1", 1), ("2", 3), ("3", 1)):
        scale = Scale(min=count, max=count)
        word = desired((ONE, release.model_copy(update={"scale": scale})), version=version)
        await rig.runtime.bring_about(word)
        seen = await until(rig, lambda seen, count=count: len(ready(seen, release)) == count == rig.running(ONE))
        assert of(seen, release) is not None


@pytest.mark.parametrize(
    "field", ["signature", "artifact of another release", "declaration of another release", "another server"]
)
async def test_what_does_not_verify_is_not_started(rig: Rig, field: str) -> None:
    good, other = rig.release(ONE), rig.release(ONE, "b")
    server = TWO if field == "another server" else ONE
    change = {
        "signature": {"signature": good.signature[:-8] + "AAAAAAAA"},
        "artifact of another release": {"artifact": other.artifact},
        "declaration of another release": {"declaration": other.declaration},
        "another server": {},
    }[field]
    bad = good.model_copy(update=change)
    await rig.runtime.bring_about(desired((server, bad)))
    seen = await until(rig, lambda seen: trouble(seen, bad) is not None)
    found = of(seen, bad)
    assert found is not None
    assert found.step == "failed"
    assert found.trouble is not None
    assert found.trouble.mend
    assert found.replicas == ()
    assert rig.running(server) == 0


async def test_a_fault_of_one_release_is_its_own(rig: Rig) -> None:
    bad, good = rig.release(ONE).model_copy(update={"signature": "no.such.thing"}), rig.release(TWO)
    await rig.runtime.bring_about(desired((ONE, bad), (TWO, good)))
    seen = await until(rig, lambda seen: trouble(seen, bad) is not None and bool(ready(seen, good)))
    assert trouble(seen, good) is None


async def test_egress_that_is_not_granted_is_named(rig: Rig) -> None:
    release = rig.release(ONE, egress=("db.example.com:5432",))
    await rig.runtime.bring_about(desired((ONE, release)))
    seen = await until(rig, lambda seen: trouble(seen, release) is not None)
    found = trouble(seen, release)
    assert found is not None
    assert "db.example.com:5432" in found.what
    assert rig.running(ONE) == 0


async def test_a_replica_that_ends_comes_back_and_is_counted(rig: Rig) -> None:
    release = rig.release(ONE)
    await rig.runtime.bring_about(desired((ONE, release)))
    await until(rig, lambda seen: bool(ready(seen, release)))
    await rig.end_one(ONE)
    seen = await until(rig, lambda seen: any(each.restarts for each in ready(seen, release)))
    assert ready(seen, release)[0].last_failure


async def test_a_server_without_a_caller_sleeps_where_it_may(rig: Rig) -> None:
    release = rig.release(ONE, scale=Scale(min=0, max=1, idle_s=0.2))
    await rig.runtime.bring_about(desired((ONE, release)))
    seen = await until(
        rig, lambda seen: rig.running(ONE) == 0 and any(r.state == "asleep" for r in _replicas(seen, release))
    )
    asleep = _replicas(seen, release)[0]
    assert asleep.address


async def test_a_runtime_that_starts_anew_leaves_nothing_of_before_and_has_nothing_twice(rig: Rig) -> None:
    one, two = rig.release(ONE, scale=Scale(min=2, max=2)), rig.release(TWO)
    await rig.runtime.bring_about(desired((ONE, one), (TWO, two)))
    await until(rig, lambda seen: len(ready(seen, one)) == 2 and bool(ready(seen, two)))
    await rig.anew()
    await rig.runtime.bring_about(desired((ONE, one), version="2"))
    seen = await until(rig, lambda seen: len(ready(seen, one)) == 2 == rig.running(ONE) and rig.running(TWO) == 0)
    assert of(seen, two) is None


def _replicas(seen: Observed, release: DesiredRelease) -> tuple[Replica, ...]:
    found = of(seen, release)
    return found.replicas if found else ()
