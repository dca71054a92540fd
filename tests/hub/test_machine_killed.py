"""A supervisor that is killed leaves nothing running, and the next one goes on where it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pegboard.core.names import ServerName
from pegboard_hub.publishing.orders import Scale
from pegboard_hub.runtime.building.orders import clear_builds
from tests.hub.machine_rig import Releases, commands, machine, until
from tests.hub.runtime_suite import ONE, desired, ready
from tests.hub.runtime_suite import until as observed
from tests.system.runtime_kit import short_folder

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def releases() -> Iterator[Releases]:
    made = Releases()
    yield made
    made.close()


async def test_what_a_killed_supervisor_started_ends_and_the_next_brings_it_back(releases: Releases) -> None:
    folder = short_folder()
    async with machine(releases, folder=folder) as first:
        archive = releases.archive(ONE)
        wanted = releases.signed(ONE, await releases.made(ONE, archive), scale=Scale(min=2, max=2))
        for content in releases.bytes.values():
            first.home.artifact_file(releases.digest(content)).write_bytes(content)
        (folder / "desired.json").write_text(desired((ONE, wanted)).model_dump_json())
        (folder / "source").write_bytes(_hangs(archive))
        supervisor = _supervisor(folder)
        try:
            assert supervisor.stdout is not None
            while (line := supervisor.stdout.readline().strip()) != "reading its tools":
                assert line, "it ended by itself"
            await until(lambda: any(text.startswith(str(folder)) for text in commands("pegboard.describe")))
            await until(lambda: first.running(ONE) == 2)
        finally:
            supervisor.kill()
            supervisor.wait()
            supervisor.stdout.close()  # type: ignore[union-attr]
        await until(lambda: commands(str(folder), "pegboard.") == [])
        name = ServerName.parse(ONE)
        left = sorted(path.name for path in first.home.socket(name).parent.glob("*.sock"))
        assert len(left) == 2
        clear_builds(first.home)
        assert list((first.home.root / "builds").iterdir()) == []
        await first.runtime.bring_about(desired((ONE, wanted), version="2"))
        seen = await observed(first, lambda seen: len(ready(seen, wanted)) == 2 == first.running(ONE))
        for replica in ready(seen, wanted):
            assert await first.ask(replica.address, "'back'") == "back"


def _supervisor(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.hub.machine_life", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _hangs(archive: bytes) -> bytes:
    from tests.hub.test_building import changed

    return changed(archive, "src/pegboard/describe.py", "print(", "import time; time.sleep(600); print(")
