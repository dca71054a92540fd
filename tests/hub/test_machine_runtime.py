"""This machine keeps what every runtime promises, and what it promises beside that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from pegboard.core.jose import new_private_key, public_jwks
from pegboard_hub.publishing.orders import Observed, Scale
from tests.hub.machine_rig import MachineRig, Releases, machine
from tests.hub.runtime_suite import *  # noqa: F403
from tests.hub.runtime_suite import ONE, TWO, desired, of, ready, trouble, until

pytestmark = pytest.mark.anyio

EGRESS = "db.example.com:5432"


@pytest.fixture(scope="module")
def releases() -> Iterator[Releases]:
    made = Releases()
    yield made
    made.close()


@pytest.fixture
async def rig(releases: Releases) -> AsyncIterator[MachineRig]:
    async with machine(releases) as found:
        await found.ahead((ONE, "a"), (ONE, "b"), (TWO, "a"), (ONE, "a", EGRESS))
        yield found


async def test_another_turn_replaces_each_process_once_another_answers(rig: MachineRig) -> None:
    release = rig.release(ONE, scale=Scale(min=2, max=2))
    await rig.runtime.bring_about(desired((ONE, release)))
    seen = await until(rig, lambda seen: len(ready(seen, release)) == 2)
    before = {each.address for each in ready(seen, release)}
    answered: list[int] = []

    def replaced(seen: Observed) -> bool:
        answered.append(len(ready(seen, release)))
        return {each.address for each in ready(seen, release)}.isdisjoint(before) and rig.running(ONE) == 2

    await rig.runtime.bring_about(desired((ONE, release.model_copy(update={"turn": 1})), version="2"))
    seen = await until(rig, replaced)
    assert min(answered) >= 2
    assert {each.restarts for each in ready(seen, release)} == {0}


def _other_key(rig: MachineRig) -> None:
    """The key that signs releases leaked: another one signs from now on, and the old one is believed no more."""
    rig.releases.key = new_private_key()
    rig.home.release_keys.write_text(json.dumps(public_jwks(rig.releases.key)))


@pytest.fixture
def one_key(releases: Releases) -> Iterator[None]:
    """Other tests of the module have the key that they began with."""
    key = releases.key
    yield
    releases.key = key


async def test_what_runs_goes_on_while_it_is_signed_anew(
    rig: MachineRig, one_key: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = rig.release(ONE)
    await rig.runtime.bring_about(desired((ONE, release)))
    pids = rig.pids(ONE) if ready(await until(rig, lambda seen: bool(ready(seen, release))), release) else []
    _other_key(rig)
    anew, elsewhere = rig.release(ONE), rig.release(TWO).model_copy(update={"signature": release.signature})
    # The hub says the old word once more; nothing that is not signed is started meanwhile.
    await rig.runtime.bring_about(desired((ONE, release), (TWO, elsewhere), version="2"))
    seen = await until(rig, lambda seen: trouble(seen, elsewhere) is not None)
    assert (len(ready(seen, release)), rig.pids(ONE), rig.running(TWO)) == (1, pids, 0)
    await rig.runtime.bring_about(desired((ONE, anew), version="3"))
    monkeypatch.setattr("pegboard_hub.runtime.machine.run.RENEWED_S", 0.0)
    seen = await until(rig, lambda seen: seen.version == "3" and of(seen, elsewhere) is None)
    assert (len(ready(seen, anew)), rig.pids(ONE)) == (1, pids)


async def test_what_is_not_signed_anew_ends(rig: MachineRig, one_key: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pegboard_hub.runtime.machine.run.RENEWED_S", 0.0)
    release = rig.release(ONE)
    await rig.runtime.bring_about(desired((ONE, release)))
    await until(rig, lambda seen: bool(ready(seen, release)))
    _other_key(rig)
    async with asyncio.timeout(60):
        while rig.running(ONE):  # while the hub is away it says nothing, and what runs goes on
            await rig.runtime.changed(0.1)
            await rig.runtime.bring_about(desired((ONE, release)))
    seen = await until(rig, lambda seen: trouble(seen, release) is not None)
    assert trouble(seen, release).what == "its signature does not verify"  # type: ignore[union-attr]
