"""What becomes of a cluster's objects when others touch them, when the API says no, and when it says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import kmock
import pytest

from pegboard_hub.publishing.orders import Desired, DesiredRelease, DesiredServer, Observed, Scale
from pegboard_hub.runtime.kubernetes import runtime as kubernetes_runtime
from pegboard_hub.runtime.kubernetes.api import ApiAway, Cluster
from pegboard_hub.runtime.kubernetes.applying import MOST_MENDS, Applying, Outcome
from pegboard_hub.runtime.kubernetes.manifests import release_objects
from pegboard_hub.runtime.kubernetes.objects import Manifest, release_name, server_name
from pegboard_hub.runtime.kubernetes.runtime import KubernetesRuntime
from tests.hub.fake_cluster import FakeCluster
from tests.hub.kube_rig import CREDENTIAL, KEYS, SERVER, Ring, release, settings

pytestmark = pytest.mark.anyio

WANTED = release()
NAME = release_name(SERVER, WANTED.release)
ENDED = {"exitCode": 1, "message": "digest of x is another"}
NO_SECRET = "CreateContainerConfigError"
IMAGE_PATH = ("spec", "template", "spec", "containers", ("key", "server"), "image")


@pytest.fixture
async def cluster(anyio_backend: Any) -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as made:
        yield made


@pytest.fixture
async def there(cluster: FakeCluster) -> AsyncIterator[Cluster]:
    async with kmock.Server(cluster) as listening:
        client = Cluster.at("pegboard-servers", str(listening.url))
        yield client
        await client.close()


def objects(wanted: DesiredRelease = WANTED) -> tuple[Manifest, ...]:
    return release_objects(SERVER, wanted, settings(), CREDENTIAL, KEYS)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def applying(there: Cluster, clock: Clock) -> Applying:
    return Applying(there, "kubernetes", clock)


def count(cluster: FakeCluster, method: str) -> int:
    return len(cluster[method])


async def test_everything_is_made_and_then_left_alone(cluster: FakeCluster, applying: Applying) -> None:
    first = await applying.make_so(objects())
    assert [kind for kind, _ in first.applied] == [
        "ServiceAccount", "Secret", "ConfigMap", "NetworkPolicy", "Service", "Deployment", "PodDisruptionBudget",
    ]  # fmt: skip
    patches = count(cluster, "patch")
    second = await applying.make_so(objects())
    assert (second.applied, second.removed, second.drift, second.refused) == ([], [], [], {})
    assert count(cluster, "patch") == patches


async def test_nothing_runs_before_what_confines_it(cluster: FakeCluster, applying: Applying) -> None:
    cluster["patch", kmock.resource("networking.k8s.io/v1/networkpolicies")] << 503
    with pytest.raises(ApiAway):
        await applying.make_so(objects())
    assert cluster.names("Deployment") == []


async def test_a_field_that_somebody_changed_is_told_with_who_and_mended(
    cluster: FakeCluster, applying: Applying
) -> None:
    await applying.make_so(objects())
    cluster.edit("Deployment", NAME, IMAGE_PATH, "evil.example/x:latest")
    outcome = await applying.make_so(objects())
    (drift,) = outcome.drift
    assert drift.mended
    assert drift.managers == ("kubectl-edit",)
    assert "containers[server].image" in str(drift)
    assert cluster.get("Deployment", NAME)["spec"]["template"]["spec"]["containers"][0]["image"] == settings().image
    assert (await applying.make_so(objects())).drift == []


async def test_what_is_changed_again_and_again_is_left_to_people(
    cluster: FakeCluster, applying: Applying, clock: Clock
) -> None:
    await applying.make_so(objects())
    outcome = Outcome()
    for turn in range(MOST_MENDS + 1):
        cluster.edit("Deployment", NAME, IMAGE_PATH, f"evil.example/x:{turn}", manager="some-operator")
        outcome = await applying.make_so(objects())
    (drift,) = outcome.drift
    assert not drift.mended
    assert "some-operator" in str(drift)
    clock.now = 3600
    assert (await applying.make_so(objects())).drift[0].mended


async def test_a_field_that_is_others_to_say_is_no_drift(cluster: FakeCluster, applying: Applying) -> None:
    scaled = release(scale=Scale(min=1, max=4))
    name = release_name(SERVER, scaled.release)
    await applying.make_so(objects(scaled))
    cluster.edit("Deployment", name, ("spec", "replicas"), 3, manager="kube-controller-manager")
    cluster.edit("Deployment", name, ("metadata", "annotations", "team.example/note"), "x")
    assert (await applying.make_so(objects(scaled))).drift == []
    assert cluster.get("Deployment", name)["spec"]["replicas"] == 3


async def test_what_was_the_autoscalers_is_ours_again_when_there_is_none(
    cluster: FakeCluster, applying: Applying
) -> None:
    scaled = release(scale=Scale(min=1, max=4))
    name = release_name(SERVER, scaled.release)
    await applying.make_so(objects(scaled))
    cluster.edit("Deployment", name, ("spec", "replicas"), 3, manager="kube-controller-manager")
    outcome = await applying.make_so(objects(scaled.model_copy(update={"scale": Scale(min=2, max=2)})))
    assert ("HorizontalPodAutoscaler", name) in outcome.removed
    assert outcome.drift == []
    assert cluster.get("Deployment", name)["spec"]["replicas"] == 2


async def test_no_pod_ends_while_the_number_of_replicas_goes_over_to_the_autoscaler(
    cluster: FakeCluster, applying: Applying
) -> None:
    """A field that nobody owns is set back to its default: three replicas would be one for a while."""
    fixed = release(scale=Scale(min=3, max=3))
    name = release_name(SERVER, fixed.release)
    await applying.make_so(objects(fixed))
    cluster.settle()
    before = cluster.pods()
    outcome = await applying.make_so(objects(fixed.model_copy(update={"scale": Scale(min=2, max=5)})))
    assert cluster.get("Deployment", name)["spec"]["replicas"] == 3
    cluster.settle()
    assert cluster.pods() == before
    assert outcome.drift == []
    # And back, when there is none again.
    outcome = await applying.make_so(objects(fixed.model_copy(update={"scale": Scale(min=4, max=4)})))
    assert cluster.get("Deployment", name)["spec"]["replicas"] == 4
    assert outcome.drift == []


async def test_a_container_that_somebody_adds_to_the_pod_is_told(cluster: FakeCluster, applying: Applying) -> None:
    await applying.make_so(objects())
    added = ("spec", "template", "spec", "containers", ("key", "miner"))
    cluster.edit("Deployment", NAME, (*added, "name"), "miner")
    cluster.edit("Deployment", NAME, (*added, "image"), "evil.example/miner:1")
    outcome = await applying.make_so(objects())
    (drift,) = outcome.drift
    assert not drift.mended
    assert "containers[miner] (added)" in str(drift)


async def test_a_rule_that_somebody_adds_to_the_network_policy_is_taken_away(
    cluster: FakeCluster, applying: Applying
) -> None:
    await applying.make_so(objects())
    rules = cluster.get("NetworkPolicy", NAME)["spec"]["egress"]
    cluster.edit("NetworkPolicy", NAME, ("spec", "egress"), [*rules, {}])
    outcome = await applying.make_so(objects())
    assert outcome.drift[0].mended
    assert cluster.get("NetworkPolicy", NAME)["spec"]["egress"] == rules


async def test_what_is_no_longer_wanted_is_removed_and_nothing_else(cluster: FakeCluster, applying: Applying) -> None:
    await applying.make_so(objects())
    theirs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "theirs", "namespace": "pegboard-servers"},
    }
    cluster.put("ConfigMap", "theirs", theirs)
    other = {**theirs, "metadata": {**theirs["metadata"], "name": "another-runtimes", "labels": {
        "app.kubernetes.io/managed-by": "pegboard", "pegboard.internal/runtime": "another"}}}  # fmt: skip
    cluster.put("ConfigMap", "another-runtimes", other)
    outcome = await applying.make_so(())
    assert len(outcome.removed) == 7
    assert [kind for kind, _ in outcome.removed].index("Deployment") < [k for k, _ in outcome.removed].index("Secret")
    assert sorted(name for _, name in cluster.objects) == ["another-runtimes", "theirs"]


async def test_two_releases_share_the_servers_identity_and_one_leaves_it(
    cluster: FakeCluster, applying: Applying
) -> None:
    await applying.make_so([*objects(), *objects(release(mark="b"))[1:]])
    await applying.make_so(objects(release(mark="b")))
    assert cluster.names("ServiceAccount") == [server_name(SERVER)]
    assert len(cluster.names("Deployment")) == 1


async def test_what_the_api_refuses_is_told_and_the_rest_goes_on(cluster: FakeCluster, applying: Applying) -> None:
    broken: Any = [dict(each) for each in objects()]
    broken[4] = {**broken[4], "spec": {"noSuchField": 1}}
    outcome = await applying.make_so(broken)
    (words,) = outcome.refused.values()
    assert "422" in words
    assert "noSuchField" in words
    assert cluster.names("Deployment") == [NAME]


async def test_a_namespace_without_room_is_told(cluster: FakeCluster, applying: Applying) -> None:
    words = {"kind": "Status", "code": 403, "message": "exceeded quota: pods"}
    cluster["patch", kmock.resource("apps/v1/deployments")] << kmock.Response(status=403, payload=words)
    outcome = await applying.make_so(objects())
    assert "exceeded quota" in outcome.refused["Deployment", NAME]


class Rig:
    """A runtime over a cluster that is played."""

    def __init__(self, cluster: FakeCluster, runtime: KubernetesRuntime, wanted: DesiredRelease) -> None:
        self.cluster, self.runtime, self.wanted = cluster, runtime, wanted

    async def until(self, wanted: Any, limit_s: float = 20) -> Observed:
        seen = await self.runtime.observed()
        async with asyncio.timeout(limit_s):
            while not wanted(seen := await self.runtime.observed()):
                self.cluster.settle()
                await self.runtime.changed(0.02)
        return seen


@pytest.fixture
async def rig(cluster: FakeCluster, there: Cluster, tmp_path: Any) -> AsyncIterator[Rig]:
    ring = Ring(tmp_path)
    runtime = KubernetesRuntime(there, settings(), CREDENTIAL, ring.keys, resync_s=0.2)
    wanted = ring.signed(release())
    servers = (DesiredServer(server=str(SERVER), releases=(wanted,)),)
    await runtime.bring_about(Desired(version="1", servers=servers))
    yield Rig(cluster, runtime, wanted)
    await runtime.close()


def states(seen: Observed) -> list[str]:
    return [each.state for release in seen.releases for each in release.replicas]


async def test_what_was_seen_stands_while_the_api_is_away_and_it_is_taken_up_again(rig: Rig) -> None:
    await rig.until(lambda seen: states(seen) == ["ready"])
    rig.cluster.away = True
    rig.cluster.cut_watches()
    await rig.until(lambda _: bool(rig.runtime.fault))
    assert states(await rig.runtime.observed()) == ["ready"]
    rig.cluster.end_container(rig.cluster.pods()[0])
    rig.cluster.away = False
    seen = await rig.until(lambda seen: seen.releases[0].replicas[0].restarts == 1)
    assert states(seen) == ["ready"]


@pytest.mark.parametrize("error", [None, 410, 500])
async def test_a_watch_that_is_cut_misses_nothing(rig: Rig, error: int | None) -> None:
    await rig.until(lambda seen: states(seen) == ["ready"])
    rig.cluster.cut_watches(error)
    (pod,) = rig.cluster.pods()
    rig.cluster.end_container(pod, "OOMKilled", 137)
    seen = await rig.until(lambda seen: seen.releases[0].replicas[0].restarts == 1)
    assert "512 MiB" in seen.releases[0].replicas[0].last_failure


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('Usage of EmptyDir volume "work" exceeds the limit "1Gi".', "its limit of 1024 MiB (resources.disk_mb)"),
        ("The node was low on resource: memory.", "was evicted: The node was low on resource"),
    ],
)
async def test_a_pod_that_is_evicted_says_what_it_used_too_much_of(rig: Rig, said: str, told: str) -> None:
    await rig.until(lambda seen: states(seen) == ["ready"])
    (pod,) = rig.cluster.pods()
    rig.cluster.say(pod, phase="Failed", reason="Evicted", message=said)
    seen = await rig.until(lambda seen: "failing" in states(seen))
    assert any(told in each.last_failure for each in seen.releases[0].replicas)


async def test_somebody_else_s_deployment_of_our_name_stands_and_the_release_says_so(
    cluster: FakeCluster, there: Cluster, tmp_path: Any
) -> None:
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": "pegboard-servers"},
        "spec": {"replicas": 7},
    }
    cluster.put("Deployment", NAME, theirs)
    ring = Ring(tmp_path)
    runtime = KubernetesRuntime(there, settings(), CREDENTIAL, ring.keys, resync_s=0.2)
    wanted = ring.signed(release())
    await runtime.bring_about(Desired(version="1", servers=(DesiredServer(server=str(SERVER), releases=(wanted,)),)))
    try:
        async with asyncio.timeout(20):
            while not (trouble := (await runtime.observed()).releases[0].trouble):
                await runtime.changed(0.02)
        assert "somebody else" in trouble.what
        assert cluster.get("Deployment", NAME)["spec"] == {"replicas": 7}
    finally:
        await runtime.close()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {"initContainerStatuses": [{"name": "pull", "state": {"terminated": ENDED}}]},
            "digest of x is another",
        ),
        (
            {"containerStatuses": [{"name": "server", "state": {"waiting": {"reason": NO_SECRET}}}]},
            "a secret that its manifest names",
        ),
        (
            {"containerStatuses": [{"name": "server", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]},
            "cannot be pulled",
        ),
    ],
)  # fmt: skip
async def test_why_a_pod_does_not_come_up_is_said_in_words(rig: Rig, status: Any, words: str) -> None:
    rig.cluster.kubelet = False
    await rig.until(lambda seen: states(seen) != [])
    rig.cluster.say(rig.cluster.pods()[0], **status)
    seen = await rig.until(lambda seen: seen.releases[0].trouble is not None)
    assert words in seen.releases[0].trouble.what  # type: ignore[union-attr]
    assert seen.releases[0].step == "failed"
    assert states(seen) == ["failing"]


async def test_that_somebody_changed_it_is_told_with_the_release(rig: Rig) -> None:
    await rig.until(lambda seen: states(seen) == ["ready"])
    rig.cluster.edit("Deployment", NAME, IMAGE_PATH, "evil.example/x:latest", manager="kubectl-edit")
    seen = await rig.until(lambda seen: seen.releases[0].notes != ())
    (note,) = seen.releases[0].notes
    assert "kubectl-edit" in note
    assert "containers[server].image" in note


async def test_a_word_that_does_not_verify_starts_nothing_and_ends_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_runtime, "RENEWED_S", 0)  # as long as the hub may take to sign anew
    await rig.until(lambda seen: states(seen) == ["ready"])
    bad = rig.wanted.model_copy(update={"signature": "x.y.z"})
    servers = (DesiredServer(server=str(SERVER), releases=(bad,)),)
    await rig.runtime.bring_about(Desired(version="2", servers=servers))
    seen = await rig.until(lambda seen: seen.releases[0].trouble is not None)
    assert "signature" in seen.releases[0].trouble.what  # type: ignore[union-attr]
    lists = len(rig.cluster["list"])
    await rig.until(lambda _: len(rig.cluster["list"]) > lists + 16)
    assert len(rig.cluster.pods()) == 1
    await rig.runtime.bring_about(Desired(version="3", servers=()))
    await rig.until(lambda _: rig.cluster.pods() == [])


async def test_who_a_pod_must_be_is_in_its_address(rig: Rig) -> None:
    seen = await rig.until(lambda seen: states(seen) == ["ready"])
    address = seen.releases[0].replicas[0].address
    account = server_name(SERVER)
    assert address.startswith(f"spiffe://acme.com/ns/pegboard-servers/sa/{account}@10.0.")
    assert address.endswith(":8443")
