"""A server on another machine is reached by TLS with the SPIFFE IDs of both sides, and by nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pegboard_hub.edge import config
from pegboard_hub.edge.admin import EnvoyAdmin
from pegboard_hub.edge.command import envoy_arguments
from pegboard_hub.edge.envoy import Json
from pegboard_hub.edge.mutual import Identity
from pegboard_hub.edge.remote import Remote, front, remote_cluster
from pegboard_hub.services.authority import Authority
from pegboard_hub.services.material import Files, Material
from tests.ports import free_port
from tests.system.edge_rig import DEADLINE_S, Rig, tool_call, until

pytestmark = pytest.mark.system

TD = "example.org"
EDGE, SERVER, OTHER = (f"spiffe://{TD}/{name}" for name in ("pegboard/edge", "prod/presto", "prod/other"))


class Far(Rig):
    """The rig, whose server prod/presto is behind a front of its own, on TCP."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.front_port = free_port()
        self.ca = Authority(folder / "ca", TD, settle_s=0)
        self.ca.open()
        self.ids = {role: Identity(folder / f"{role}-svid.json", folder / f"{role}-trust.json") for role in "es"}
        self.front: subprocess.Popen[bytes] | None = None

    def be(self, role: str, name: str, authority: Authority | None = None) -> None:
        """Give one side the identity of `name`, by `authority` where it is another."""
        svid = (authority or self.ca).mint(name)
        own = self.ids[role]
        Files(own.svid, own.trust).write(Material(svid, {TD: self.ca.bundle}))

    def start_front(self) -> None:
        admin = self.home.run / "front.sock"
        config = front("127.0.0.1", self.front_port, self.socket("prod/presto"), self.ids["s"], EDGE, admin)
        file = self.home.root / "front.json"
        file.write_text(json.dumps(config))
        with (self.home.root / "front.log").open("ab") as log:
            self.front = subprocess.Popen(envoy_arguments(file, 1), stdout=log, stderr=log)

        async def ready() -> bool:
            asked = EnvoyAdmin(admin)
            try:
                return await asked.ready()
            finally:
                await asked.close()

        until(lambda: self.run(ready()), "the front is ready", (self.home.root / "front.log").read_text)

    def stop(self) -> None:
        if self.front is not None:
            self.front.terminate()
            self.front.wait(DEADLINE_S)
        super().stop()


@contextmanager
def _far(monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    rig = Far(folder)
    remote = Remote("localhost", rig.front_port, SERVER)

    def clusters(*given: Any) -> list[Json]:
        found = real(*given)
        return [
            remote_cluster(each["name"], remote, rig.ids["e"]) if each["name"] == "mcp/prod/presto" else each
            for each in found
        ]

    real = config.clusters
    monkeypatch.setattr(config, "clusters", clusters)
    config._clusters.cache_clear()
    try:
        rig.be("e", EDGE)
        rig.be("s", SERVER)
        rig.start()
        rig.start_front()
        yield rig
    finally:
        rig.stop()
        config._clusters.cache_clear()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def far() -> Iterator[Far]:
    with pytest.MonkeyPatch.context() as patch, _far(patch) as rig:
        yield rig


def served(far: Far) -> bool:
    return far.call(token=far.token(), body=tool_call()).status_code == 200


def test_edge_and_server_know_each_other_by_their_certificates(far: Far) -> None:
    until(lambda: served(far), "the server is reached", far.envoy_log)
    assert far.presto.arrivals[-1].values("x-forwarded-user") == ["ana"]


def connections(far: Far) -> int:
    """The edge's connections to the server."""

    async def asked() -> str:
        transport = httpx2.AsyncHTTPTransport(uds=str(far.home.edge_admin_socket))
        async with httpx2.AsyncClient(transport=transport, base_url="http://envoy") as client:
            return (await client.get("/stats?filter=presto.upstream_cx_active")).text

    return sum(int(line.rpartition(" ")[2]) for line in far.run(asked()).splitlines())


@pytest.mark.parametrize("role", ["e", "s"])
@pytest.mark.parametrize("wrong", ["another name", "another authority"])
def test_a_side_that_is_somebody_else_is_not_spoken_to(far: Far, role: str, wrong: str, tmp_path: Path) -> None:
    """And once it is itself again, it is: identities are files that are replaced, without a restart."""
    until(lambda: served(far), "the server is reached")
    name = {"e": EDGE, "s": SERVER}[role]
    twin = Authority(tmp_path / "twin", TD, settle_s=0)
    twin.open()
    if wrong == "another name":
        far.be(role, OTHER)
    else:
        far.be(role, name, twin)

    def refused() -> bool:
        # A connection that is open lives on while it is used, and calls are tried again on one that is.
        if connections(far):
            return False
        arrived, answer = far.arrived(), far.call(token=far.token(), body=tool_call())
        if answer.status_code == 200:
            return False
        assert far.arrived() == arrived
        # Whose own certificate is refused learns of it once the request is on its way (TLS 1.3).
        return answer.json()["error"]["data"]["reason"] in {"server_unreachable", "server_gone"}

    try:
        until(refused, "nobody is spoken to")
    finally:
        far.be(role, name)
    until(lambda: served(far), "the server is reached again")


def test_nobody_else_gets_past_the_front(far: Far) -> None:
    """Neither without a certificate, nor with one of the same trust domain."""
    for svid in (None, far.ca.mint(OTHER)):
        context = far.context(svid, far.ca.bundle)
        context.check_hostname = False
        with httpx2.Client(base_url=f"https://localhost:{far.front_port}", verify=context) as client:
            arrived = far.arrived()
            with pytest.raises(httpx2.TransportError):
                client.get("/")
            assert far.arrived() == arrived
