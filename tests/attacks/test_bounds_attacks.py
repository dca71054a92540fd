"""A submitted server that takes what is not its own of the machine: memory that nobody counts, folders without end.

Promises (SECURITY.md): what one sends costs nobody else their calls, within the limits that the operator sets; who
may not release changes nothing that runs, and what was taken down does not live on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from pegboard_hub.publishing.orders import DesiredRelease
from tests.hub.machine_rig import MachineRig, Releases, machine
from tests.hub.runtime_suite import ONE, desired, of, ready, until

pytestmark = pytest.mark.anyio

GRAB = "[os.write(os.memfd_create('x'), bytes(32 << 20)) for _ in range({files})]"
"""Memory in no process's figures: pages of files in memory that nobody maps, each within what a file may be."""

DEEP = "[(os.mkdir('d'), os.chdir('d')) for _ in range(1500)] and os.chdir('/')"


@pytest.fixture(scope="module")
def releases() -> Iterator[Releases]:
    made = Releases()
    yield made
    made.close()


@pytest.fixture
async def rig(releases: Releases) -> AsyncIterator[MachineRig]:
    async with machine(releases) as found:
        yield found


async def up(rig: MachineRig) -> tuple[str, DesiredRelease]:
    made = await rig.releases.made(ONE, rig.releases.archive(ONE))
    wanted = rig.releases.signed(ONE, made)
    await rig.runtime.bring_about(desired((ONE, wanted), version="1"))
    return ready(await until(rig, lambda seen: bool(ready(seen, wanted))), wanted)[0].address, wanted


async def test_memory_that_is_in_no_processs_figures_is_bounded_too(rig: MachineRig) -> None:
    """128 MiB are its limit; the supervisor sees none of these, and without the kernel's word it could have all."""
    if "memory" not in rig.groups.folders:
        pytest.skip("no control group of memory can be made here")
    address, _ = await up(rig)
    [pid] = rig.pids(ONE)
    grab = GRAB.format(files=20)
    with pytest.raises(Exception, match=r"disconnected|closed|reset"):
        await rig.ask(address, f"{grab} and None")
    await until(rig, lambda _: rig.pids(ONE) not in ([pid], []))


async def test_folders_within_folders_do_not_keep_it_from_its_end(rig: MachineRig) -> None:
    address, wanted = await up(rig)
    assert await rig.ask(address, DEEP) is None
    assert await rig.ask(address, f"os.chdir(os.environ['PEGBOARD_SPOOL']) or {DEEP}") is None
    await rig.runtime.bring_about(desired(version="2"))
    await until(rig, lambda seen: of(seen, wanted) is None)
    assert rig.running(ONE) == 0
    assert list((rig.home.root / "work").glob("*~*")) == []


async def test_folders_within_folders_keep_no_instance_from_starting_anew(rig: MachineRig) -> None:
    address, wanted = await up(rig)
    assert await rig.ask(address, DEEP) is None
    await rig.anew()
    await rig.runtime.bring_about(desired((ONE, wanted), version="1"))
    await until(rig, lambda seen: bool(ready(seen, wanted)))
