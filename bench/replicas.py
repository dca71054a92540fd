"""How long a submitted server takes to be built, started and woken on this machine, and what it holds of memory.

    .venv/bin/python -m bench.replicas

The server is `servers/scratch` as an author would submit it: its packages come from the index that its lock file
names, the kit from the platform. No hub and no edge: what is timed is the runtime alone.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import httpx2

from pegboard.core.archive import File, is_kept, pack
from pegboard.core.jose import Signer, new_private_key, public_jwks
from pegboard.core.publishing import RELEASE_TYPE, SignedRelease, sha256
from pegboard_hub.common.home import Home
from pegboard_hub.packages.shelf import Shelf, platform_wheels
from pegboard_hub.publishing.orders import Desired, DesiredRelease, DesiredServer, Role, Scale
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

SERVER = "dev/scratch"
ROUNDS = 5
REPOSITORY = Path(__file__).resolve().parents[1]


def archive() -> bytes:
    """The seed server, as its author submits it."""
    project = REPOSITORY / "servers" / "scratch"
    files = {
        name: File(path.read_bytes())
        for path in project.rglob("*")
        if path.is_file() and is_kept(name := path.relative_to(project).as_posix())
    }
    return pack(files)


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="pgbbench", dir="/tmp"))
    folder.chmod(0o755)
    return folder


async def main() -> None:
    """Measure, and print a line each."""
    folder = _folder()
    home = Home.open(folder / "home")
    isolation = GrowingIsolation(choose("auto", home, [], preflight.find_envoy()))
    prepare(home, isolation.now, [])
    kept: dict[str, bytes] = {}

    async def own(digest: str) -> bytes:
        return kept[digest]

    async def tell(step: str, _what: str) -> None:
        steps.append((step, time.monotonic()))

    platform_wheels(home)
    store = ArtifactStore(home, own, lambda: platform_wheels(home))
    uv = preflight.find_uv()
    builder = Builder(home, isolation, uv, store, Shelf(home).of_version, lambda: ["https://pypi.org/simple"])
    source = archive()
    for name in ("first build, packages fetched", "second build, packages here"):
        steps: list[tuple[str, float]] = []
        began = time.monotonic()
        made = await builder.build("bench", SERVER, source, tell)
        ends = [*(at for _, at in steps[1:]), time.monotonic()]
        parts = ", ".join(f"{step} {end - at:.1f}" for (step, at), end in zip(steps, ends, strict=True))
        print(f"{name}: {time.monotonic() - began:.1f} s ({parts})", flush=True)
    kept |= {sha256(content): content for content, _ in made.own}
    key = new_private_key()
    home.release_keys.write_text(json.dumps(public_jwks(key)))
    signed = SignedRelease(
        server=SERVER,
        release=made.declaration.digest,
        artifact=made.artifact.digest,
        source=made.artifact.source,
        sbom=sha256(made.sbom),
        submitted_by="bench",
        at=0,
    )
    supervisor = Supervisor(lambda _: None)
    groups = find_groups(home.instance)
    site = Site(home, isolation, supervisor, "http://localhost:25002", lambda *_: False, lambda: None, groups)
    runtime = MachineRuntime(site, store, uv)
    release = DesiredRelease(
        release=signed.release,
        artifact=made.artifact,
        declaration=made.declaration,
        signature=Signer(key).sign(signed.model_dump(), RELEASE_TYPE),
        role=Role.LIVE,
        scale=Scale(min=1, max=1),
    )
    try:
        await measure(home, runtime, release)
    finally:
        await runtime.close()
        await supervisor.stop([])
        groups.close()
        shutil.rmtree(folder, ignore_errors=True)


async def measure(home: Home, runtime: MachineRuntime, release: DesiredRelease) -> None:
    """Start, restart, wake."""
    starts, wakes, memory = [], [], 0
    for number in range(ROUNDS):
        began = time.monotonic()
        await bring(runtime, release, f"up {number}")
        while not (found := (await runtime.observed()).releases) or found[0].step != "running":
            await asyncio.sleep(0.01)
        starts.append(time.monotonic() - began)
        memory = found[0].replicas[0].memory_mb or 0
        await bring(runtime, None, f"down {number}")
        while (await runtime.observed()).releases:
            await asyncio.sleep(0.01)
    asleep = release.model_copy(update={"scale": Scale(min=0, max=1, idle_s=0.1)})
    await bring(runtime, asleep, "asleep")
    for _ in range(ROUNDS):
        while not (found := (await runtime.observed()).releases) or found[0].replicas[:1] == ():
            await asyncio.sleep(0.01)
        while (await runtime.observed()).releases[0].replicas[0].state != "asleep":
            await asyncio.sleep(0.05)
        path = home.run / found[0].replicas[0].address.removeprefix("unix:")
        began = time.monotonic()
        async with httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=str(path)), timeout=60) as client:
            (await client.get("http://server/healthz")).raise_for_status()
        wakes.append(time.monotonic() - began)
    for name, values in (("from the hub's word to ready", starts), ("a cold call, from none to its answer", wakes)):
        print(f"{name}: median {statistics.median(values):.2f} s, worst {max(values):.2f} s of {len(values)}")
    print(f"memory of one replica at rest: {memory} MiB private, its sandbox included")


async def bring(runtime: MachineRuntime, release: DesiredRelease | None, version: str) -> None:
    """Say what should run."""
    releases = () if release is None else (release,)
    await runtime.bring_about(Desired(version=version, servers=(DesiredServer(server=SERVER, releases=releases),)))


if __name__ == "__main__":
    asyncio.run(main())
