"""A supervisor of its own process, for tests that kill it: `python -m tests.hub.machine_life FOLDER`.

FOLDER has `desired.json`, what should run, and `source`, what is built meanwhile; `home` is the instance's.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pegboard_hub.common.home import Home
from pegboard_hub.publishing.orders import Desired
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.building.builder import Builder
from pegboard_hub.runtime.cgroups import find_groups
from pegboard_hub.runtime.growing import GrowingIsolation
from pegboard_hub.runtime.isolation import choose
from pegboard_hub.runtime.machine.artifacts import ArtifactStore
from pegboard_hub.runtime.machine.replica import Site
from pegboard_hub.runtime.machine.runtime import MachineRuntime
from pegboard_hub.runtime.permissions import prepare
from pegboard_hub.runtime.supervisor import Supervisor


async def main(folder: Path) -> None:
    """Bring it about, build, and stay."""
    home = Home.open(folder / "home")
    isolation = GrowingIsolation(choose("auto", home, [], preflight.find_envoy()))
    prepare(home, isolation.now, [])
    store, uv = ArtifactStore(home, _own, dict), preflight.find_uv()
    supervisor = Supervisor(lambda _: None)
    groups = find_groups(home.instance)
    site = Site(home, isolation, supervisor, "http://localhost:25003", lambda *_: False, lambda: None, groups)
    runtime = MachineRuntime(site, store, uv)
    desired = Desired.model_validate_json((folder / "desired.json").read_text())
    await runtime.bring_about(desired)
    wanted = sum(release.scale.min for server in desired.servers for release in server.releases)
    while wanted != sum(r.state == "ready" for each in (await runtime.observed()).releases for r in each.replicas):
        await asyncio.sleep(0.05)
    print("up", flush=True)
    builder = Builder(home, isolation, uv, store, lambda _: None, list)
    await builder.build("killed", "prod/one", (folder / "source").read_bytes(), _tell)


async def _own(digest: str) -> bytes:
    raise AssertionError(f"{digest} is not here")


async def _tell(step: str, _what: str) -> None:
    print(step, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
