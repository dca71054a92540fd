"""What the Kubernetes runtime costs: objects of a release, looks at a namespace, and the sidecar of each pod.

    .venv/bin/python bench/kubernetes.py [--releases 300] [--save]

The namespace is in memory, so what a look takes is the runtime's own work, without its requests' way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import keeping
from pegboard.core.names import ServerName
from pegboard_hub.edge.command import envoy_arguments
from pegboard_hub.edge.mutual import Identity
from pegboard_hub.edge.sidecar import Door, Probes
from pegboard_hub.edge.sidecar import sidecar as bootstrap
from pegboard_hub.runtime.kubernetes.api import Cluster
from pegboard_hub.runtime.kubernetes.applying import Applying, unique
from pegboard_hub.runtime.kubernetes.manifests import release_objects
from pegboard_hub.services.authority import Authority
from pegboard_hub.services.material import Files, Material
from tests.hub.kube_rig import CREDENTIAL, KEYS, release, settings

_ASK = """
import pegboard_hub.runtime.kubernetes.agent
import pegboard_hub.services.workload
from pathlib import Path
print(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmRSS")).split()[1])
"""


class Memory(Cluster):
    """A namespace in memory, so that what is left is the runtime's own work."""

    def __init__(self) -> None:
        self.namespace = "pegboard-servers"
        self.objects: dict[tuple[str, str], Any] = {}
        self.asked = 0

    async def get(self, kind: str, name: str) -> Any:
        """One object."""
        self.asked += 1
        return self.objects.get((kind, name))

    async def list(self, kind: str, labels: Mapping[str, str]) -> Any:
        """All of a kind: all of them are ours."""
        del labels
        self.asked += 1
        return [each for (found, _), each in self.objects.items() if found == kind], "1"

    async def apply(self, manifest: Any, **_: Any) -> Any:
        """Take it as it is."""
        self.asked += 1
        self.objects[manifest["kind"], manifest["metadata"]["name"]] = json.loads(json.dumps(manifest))
        return manifest


async def looks(count: int) -> dict[str, float]:
    """Print how long looks at a namespace of so many releases take, and what they ask."""
    servers = [ServerName("prod", f"server-n{number}") for number in range(count)]
    wanted = [(server, release(server=server)) for server in servers]
    began = time.process_time()
    made = [release_objects(server, each, settings(), CREDENTIAL, KEYS) for server, each in wanted]
    figures = {"releases": count, "objects_ms": round((time.process_time() - began) / count * 1000, 2)}
    print(f"objects of a release: {figures['objects_ms']:.2f} ms of a processor")
    objects = unique(each for of in made for each in of)
    there = Memory()
    applying = Applying(there, "kubernetes")
    for what in ("nothing there", "all there"):
        asked, worked = there.asked, time.process_time()
        outcome = await applying.make_so(objects)
        assert not outcome.refused
        took = (time.process_time() - worked) * 1000
        asked = there.asked - asked
        print(f"{count} releases, {len(objects)} objects, {what}: {took:.0f} ms of a processor, {asked} requests")
        figures |= {f"{what.replace(' ', '_')}_ms": round(took), f"{what.replace(' ', '_')}_requests": asked}
    return figures


def sidecar() -> dict[str, int]:
    """Print what the sidecar of a pod holds of memory, in MiB."""
    python = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=True).stdout
    figures = {"python_mib": round(int(python) / 1024)}
    print(f"the agent's Python, everything imported: {figures['python_mib']} MiB")
    folder = Path(tempfile.mkdtemp(prefix="pgb"))
    try:
        authority = Authority(folder / "ca", "acme.com", settle_s=0)
        authority.open()
        own = Identity(folder / "own.json", folder / "trust.json")
        Files(own.svid, own.trust).write(
            Material(authority.mint("spiffe://acme.com/s"), {"acme.com": authority.bundle})
        )
        door = Door("mcp", 30999, folder / "mcp.sock", ("spiffe://acme.com/edge",))
        config = bootstrap(own, [door], [], Probes(30998, folder / "mcp.sock"), folder / "admin.sock")
        (folder / "sidecar.json").write_text(json.dumps(config))
        envoy = subprocess.Popen(envoy_arguments(folder / "sidecar.json", 1), stderr=subprocess.DEVNULL)
        time.sleep(2)
        status = Path(f"/proc/{envoy.pid}/status").read_text().splitlines()
        shown = {line.split(":")[0]: line.split()[1] for line in status if line.startswith(("VmRSS", "RssAnon"))}
        figures |= {
            "envoy_mib": round(int(shown["VmRSS"]) / 1024),
            "envoy_own_mib": round(int(shown["RssAnon"]) / 1024),
        }
        print(f"its Envoy: {figures['envoy_mib']} MiB, of which its own {figures['envoy_own_mib']}")
        envoy.terminate()
        envoy.wait()
    finally:
        shutil.rmtree(folder)
    return figures


def main() -> None:
    """Measure and print, and keep it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--releases", type=int, default=300)
    parser.add_argument("--save", action="store_true", help="keep the results in bench/results/kubernetes.json")
    options = parser.parse_args()
    before = keeping.load_average()
    print(f"load average {before}, {os.cpu_count()} cores")
    figures = {**asyncio.run(looks(options.releases)), **sidecar()}
    if options.save:
        print(keeping.save("kubernetes", [before, keeping.load_average()], **figures))


if __name__ == "__main__":
    main()
