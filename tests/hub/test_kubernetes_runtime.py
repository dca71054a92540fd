"""The Kubernetes runtime keeps what every runtime promises, against the API of a cluster that is played."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import kmock
import pytest

from pegboard.core.names import ServerName
from pegboard_hub.publishing.orders import DesiredRelease, Role, Scale
from pegboard_hub.runtime.kubernetes.api import Cluster
from pegboard_hub.runtime.kubernetes.pod import TURN
from pegboard_hub.runtime.kubernetes.runtime import STAYS, KubernetesRuntime
from tests.hub.fake_cluster import FakeCluster
from tests.hub.kube_rig import CREDENTIAL, Ring, release, settings
from tests.hub.runtime_suite import *  # noqa: F403
from tests.hub.runtime_suite import desired, ready, trouble, until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Ring:
    return Ring(tmp_path_factory.mktemp("ring"))


class ClusterRig:
    def __init__(self, cluster: FakeCluster, url: str, ring: Ring) -> None:
        self.cluster = cluster
        self.ring = ring
        self._url = url
        self.runtime = self._new()

    def _new(self) -> KubernetesRuntime:
        there = Cluster.at("pegboard-servers", self._url)
        return KubernetesRuntime(there, settings(), CREDENTIAL, self.ring.keys, resync_s=0.2)

    def release(
        self,
        server: str,
        mark: str = "a",
        *,
        role: Role = Role.LIVE,
        scale: Scale | None = None,
        egress: tuple[str, ...] = (),
    ) -> DesiredRelease:
        name = ServerName.parse(server)
        return self.ring.signed(release(server=name, mark=mark, role=role, scale=scale, egress=egress))

    def settle(self) -> None:
        self.cluster.settle()

    async def end_one(self, server: str) -> None:
        self.cluster.end_container(self.cluster.pods(server.partition("/")[2])[0])

    async def anew(self) -> None:
        await self.runtime.close()
        self.runtime = self._new()

    def running(self, server: str) -> int:
        return len(self.cluster.pods(server.partition("/")[2]))


@pytest.fixture
async def rig(anyio_backend: Any, ring: Ring) -> AsyncIterator[ClusterRig]:
    async with FakeCluster() as cluster, kmock.Server(cluster) as listening:
        made = ClusterRig(cluster, str(listening.url), ring)
        yield made
        await made.runtime.close()


async def test_a_server_without_a_caller_sleeps_where_it_may(rig: ClusterRig) -> None:
    """Not in a cluster: nothing would hold a call until a pod is up, so one stays (docs/guides/kubernetes.md)."""
    wanted = rig.release("prod/one", scale=Scale(min=0, max=1, idle_s=0.2))
    await rig.runtime.bring_about(desired(("prod/one", wanted)))
    seen = await until(rig, lambda seen: bool(ready(seen, wanted)))
    assert len(seen.releases[0].replicas) == 1
    assert seen.releases[0].notes == (STAYS,)


async def test_what_runs_goes_on_while_the_hub_signs_anew_after_a_key_leaked(
    rig: ClusterRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = rig.release("prod/one")
    await rig.runtime.bring_about(desired(("prod/one", wanted)))
    before = await until(rig, lambda seen: bool(ready(seen, wanted)))
    rig.ring.forget()
    again = rig.release("prod/one")
    assert again.signature != wanted.signature
    await rig.runtime.bring_about(desired(("prod/one", wanted), version="2"))
    seen = await until(rig, lambda seen: seen.version == "2")
    assert ready(seen, wanted) == ready(before, wanted)
    await rig.runtime.bring_about(desired(("prod/one", again), version="3"))
    seen = await until(rig, lambda seen: seen.version == "3")
    assert [each.id for each in ready(seen, again)] == [each.id for each in ready(before, wanted)]
    monkeypatch.setattr("pegboard_hub.runtime.kubernetes.runtime.RENEWED_S", 0)
    await rig.runtime.bring_about(desired(("prod/one", wanted), version="4"))
    seen = await until(rig, lambda seen: trouble(seen, wanted) is not None)
    assert rig.running("prod/one") == 1


async def test_another_turn_brings_new_pods(rig: ClusterRig) -> None:
    wanted = rig.release("prod/one")
    await rig.runtime.bring_about(desired(("prod/one", wanted)))
    await until(rig, lambda seen: bool(ready(seen, wanted)))
    (name,) = rig.cluster.names("Deployment")
    assert "annotations" not in rig.cluster.get("Deployment", name)["spec"]["template"]["metadata"]
    await rig.runtime.bring_about(desired(("prod/one", wanted.model_copy(update={"turn": 2})), version="2"))

    def turned() -> bool:
        metadata = rig.cluster.get("Deployment", name)["spec"]["template"]["metadata"]
        return metadata.get("annotations") == {TURN: "2"}

    await until(rig, lambda _: turned())
