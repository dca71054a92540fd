"""How fast a stop is at every edge, and what the way through a gate costs a call.

    .venv/bin/python bench/edges.py [--rounds 20]

A whole instance, an edge that joined it on this machine, and one that comes through a gate, all called all the time.
A figure is negative where the first refusal came before the hub's answer did.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx2

from pegboard_hub.common.home import Home
from pegboard_hub.upkeep.hub_door import HubDoor
from tests.ports import free_port
from tests.system.edge_rig import until
from tests.system.instance import EXPECTED, running
from tests.system.joined import JoinedEdge, call, joined, operate, works
from tests.system.test_edges_far import FAR, Machines, gated, identify

PAUSE_S = 0.02


class Caller:
    """Somebody who calls one edge all the time.

    Attributes:
        ok: when the last call was sent that was served, by the monotonic clock.
        refused: when the last was sent that was refused.
    """

    def __init__(self, url: str, host: str, token: str) -> None:
        self.ok = self.refused = 0.0
        self.times: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(url, host, token))
        self._thread.start()

    def _work(self, url: str, host: str, token: str) -> None:
        with httpx2.Client(base_url=url, headers={"host": host}, timeout=30) as client:
            while not self._over.wait(PAUSE_S):
                sent = time.monotonic()
                if works(call(client, token)):
                    self.ok = sent
                    self.times.append(time.monotonic() - sent)
                else:
                    self.refused = sent

    def end(self) -> None:
        """Call no more."""
        self._over.set()
        self._thread.join()


def _line(name: str, found: list[float], unit: float = 1.0) -> str:
    late = quantiles(found, n=100, method="inclusive")[98]
    return f"{name:<8} {median(found) * unit:8.2f} {late * unit:8.2f} {max(found) * unit:8.2f}"


def _first(since: float, at: Callable[[], float]) -> float:
    until(lambda: at() > since, "it holds")
    return at()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgb", dir="/tmp")))
        folder.chmod(0o755)
        identity = {*EXPECTED, "identity"}
        pegboard = stack.enter_context(running("--mtls-port", str(free_port()), expected=identity))
        second = stack.enter_context(joined(pegboard, "second"))
        port, gate = stack.enter_context(gated(pegboard, folder))
        far = JoinedEdge(pegboard, "far", Home.open(folder / "edge"), free_port(), folder / "edge.log")
        join = folder / "join"
        operate(
            pegboard, "add", "far", "--out", str(join), "--spiffe-id", FAR, "--gate", f"127.0.0.1:{port}"
        ).check_returncode()
        identify(Machines(pegboard, port, gate, far, folder), FAR)
        far.start("--join", str(join))
        stack.callback(far.stop)
        host, token = pegboard.public_url.partition("://")[2], pegboard.token("fay")
        urls = {"own": pegboard.public_url, "joined": f"http://127.0.0.1:{second.port}"}
        urls["far"] = f"http://127.0.0.1:{far.port}"
        callers = {name: Caller(url, host, token) for name, url in urls.items()}
        stack.callback(lambda: [each.end() for each in callers.values()])
        stopped: dict[str, list[float]] = {name: [] for name in callers}
        resumed: dict[str, list[float]] = {name: [] for name in callers}
        with HubDoor(pegboard.home) as hub:
            for _ in range(options.rounds):
                for path, times, state in (("", stopped, "refused"), ("/resume", resumed, "ok")):
                    asked = time.monotonic()
                    hub.ask("POST", f"/internal/v1/stops{path}", {"kind": "person", "name": "fay", "why": "x"})
                    answered = time.monotonic()
                    for name, caller in callers.items():
                        first = _first(asked, partial(getattr, caller, state))
                        times[name].append(first - answered)
                    time.sleep(0.5)
        for what, times in (("a stop holds, s", stopped), ("a resume holds, s", resumed)):
            print(f"{what:<20} p50 p99 max")
            print("\n".join(_line(name, found) for name, found in times.items()))
        print("a call, ms           p50 p99 max")
        print("\n".join(_line(name, caller.times, 1000) for name, caller in callers.items()))


if __name__ == "__main__":
    main()
