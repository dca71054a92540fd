"""Everything of a release as objects of a cluster: they fit the schemas, and confine what an author's code may do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pegboard.core.names import ServerName
from pegboard_hub.publishing.orders import DesiredRelease, Scale
from pegboard_hub.runtime.kubernetes.manifests import CannotRun, release_objects
from pegboard_hub.runtime.kubernetes.objects import Manifest, release_name
from pegboard_hub.runtime.kubernetes.pod import LAUNCH, WORK
from pegboard_hub.runtime.launching import LAUNCH_SCRIPT
from tests.hub.kube_rig import CREDENTIAL, IMAGE, KEYS, SERVER, release, settings
from tests.hub.kube_schemas import VERSIONS, faults

SECRETS = {"API_TOKEN": "env:API_TOKEN", "PASSWORD": "file:trino.password"}


def objects(wanted: DesiredRelease, **changes: Any) -> dict[str, Manifest]:
    made = release_objects(SERVER, wanted, settings(**changes), CREDENTIAL, KEYS)
    return {each["kind"]: each for each in made}


def pod(wanted: DesiredRelease, **changes: Any) -> Any:
    return objects(wanted, **changes)["Deployment"]["spec"]["template"]["spec"]


def containers(spec: Any) -> Iterator[Any]:
    yield from (*spec["initContainers"], *spec["containers"])


VARIANTS = {
    "plain": (release(), {}),
    "scaled on processors": (release(scale=Scale(min=2, max=5)), {}),
    "scaled on calls": (release(scale=Scale(min=1, max=3)), {"scale_on": "in_flight"}),
    "with secrets": (release(secrets=SECRETS), {}),
    "with egress": (
        release(egress=["10.1.2.3:5432", "db.acme.com:5432"], granted=("10.1.2.3:5432", "db.acme.com:5432")),
        {"egress": {"db.acme.com:5432": ["10.9.0.0/24", "0.0.0.0/0"]}},
    ),
    "the author's own image": (
        release(image=f"registry.acme.com/teams/presto@sha256:{'b' * 64}"),
        {"image_registries": ["registry.acme.com/teams/"]},
    ),
    "whole processors": (release(resources={"cpu_millis": 2000, "memory_mb": 2048}), {}),
    "where the cluster wants more": (release(), {"pull_secret": "registry", "node_selector": {"pool": "mcp"}}),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_fits_the_strict_schema_of_three_versions(variant: str, version: str) -> None:
    wanted, changes = VARIANTS[variant]
    made = objects(wanted, **changes)
    assert len(made) >= 7
    assert {kind: found for kind, each in made.items() if (found := faults(each, version))} == {}


def test_a_schema_that_is_strict_names_a_field_that_there_is_not() -> None:
    wrong: Any = objects(release())["Deployment"]
    wrong["spec"]["template"]["spec"]["containers"][0]["securityContext"]["runAsNonRoots"] = True
    assert "runAsNonRoots" in faults(wrong)[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_container_may_more_than_it_must(variant: str) -> None:
    wanted, changes = VARIANTS[variant]
    spec = pod(wanted, **changes)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    for each in containers(spec):
        context = each["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["privileged"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory", "ephemeral-storage"} <= each["resources"]["limits"].keys()


def test_every_folder_that_is_written_has_a_limit_and_none_is_the_nodes() -> None:
    for volume in pod(release())["volumes"]:
        kind = next(name for name in volume if name != "name")
        assert kind in ("emptyDir", "configMap", "secret", "csi")
        if kind == "emptyDir":
            assert volume["emptyDir"]["sizeLimit"]


def mib(quantity: str) -> int:
    assert quantity.endswith("Mi")
    return int(quantity[:-2])


def test_what_a_servers_code_writes_is_held_to_its_disk_mb_by_the_kubelet() -> None:
    """Each of its folders by itself; both together, and what else it writes, by the pod's sum."""
    for disk_mb in (64, 4096):
        spec = pod(release(resources={"disk_mb": disk_mb}))
        sizes = {each["name"]: mib(each["emptyDir"]["sizeLimit"]) for each in spec["volumes"] if "emptyDir" in each}
        assert (sizes.pop("work"), sizes.pop("state")) == (disk_mb, disk_mb)
        assert sizes.pop("fetched") == 1024  # emptied before the server starts
        limits = {each["name"]: mib(each["resources"]["limits"]["ephemeral-storage"]) for each in containers(spec)}
        # What the kubelet holds the pod to: the sum of those that run together. All may be full at once, and no more.
        assert limits["server"] + limits["agent"] - sum(sizes.values()) - disk_mb == 128
        assert limits["pull"] + limits["agent"] <= limits["server"] + limits["agent"]


def test_the_private_key_is_the_agents_alone_and_what_was_installed_cannot_be_changed() -> None:
    spec = pod(release(secrets=SECRETS))
    mounts = {
        each["name"]: {m["name"]: m.get("readOnly", False) for m in each["volumeMounts"]} for each in containers(spec)
    }
    assert not {"identity", "agent"} & (mounts["server"].keys() | mounts["pull"].keys())
    assert mounts["server"]["release"] is True
    assert mounts["server"]["told"] is True
    assert "channel" not in mounts["pull"]
    users = [each["securityContext"]["runAsUser"] for each in containers(spec)]
    assert len(set(users)) == 3


def test_only_edges_reach_a_server_and_it_reaches_names_hub_and_runtime() -> None:
    policy = objects(release())["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    edges = policy["ingress"][0]
    assert edges["ports"] == [{"protocol": "TCP", "port": 8443}]
    assert edges["from"][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/component": "edge"}
    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [53, 53, 8444, 8444]
    assert all(
        peer.keys() == {"namespaceSelector", "podSelector"} for rule in policy["egress"] for peer in rule["to"]
    )


def test_what_is_granted_is_reached_and_the_clouds_own_never() -> None:
    wanted, changes = VARIANTS["with egress"]
    rules = objects(wanted, **changes)["NetworkPolicy"]["spec"]["egress"][3:]
    assert rules[0] == {"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"protocol": "TCP", "port": 5432}]}
    blocks = [peer["ipBlock"] for peer in rules[1]["to"]]
    assert blocks[0] == {"cidr": "10.9.0.0/24"}
    assert blocks[1]["cidr"] == "0.0.0.0/0"
    assert "169.254.0.0/16" in blocks[1]["except"]


@pytest.mark.parametrize(
    ("wanted", "changes", "words"),
    [
        (release(egress=["db.acme.com:5432"], granted=("db.acme.com:5432",)), {}, "knows no names"),
        (release(resources={"memory_mb": 65_536}), {}, "8192 is the most"),
        (release(resources={"cpu_millis": 64_000}), {}, "8000 is the most"),
        (release(resources={"disk_mb": 100_000}), {}, "resources.disk_mb is 100000, and 16384 is the most"),
        (release(image=f"docker.io/evil/presto@sha256:{'b' * 64}"), {}, "registry that is allowed"),
        (release(secrets={"KEY": "file:../../etc/shadow"}), {}, "no Secret can have"),
    ],
)
def test_what_the_cluster_does_not_give_is_named(wanted: DesiredRelease, changes: Any, words: str) -> None:
    with pytest.raises(CannotRun, match=words) as refused:
        objects(wanted, **changes)
    assert refused.value.mend


def test_replicas_are_the_autoscalers_where_there_is_one() -> None:
    fixed, scaled = objects(release(scale=Scale(min=2, max=2))), objects(release(scale=Scale(min=2, max=5)))
    assert fixed["Deployment"]["spec"]["replicas"] == 2
    assert "HorizontalPodAutoscaler" not in fixed
    assert "replicas" not in scaled["Deployment"]["spec"]
    spec = scaled["HorizontalPodAutoscaler"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)


def test_calls_under_way_may_end_before_a_pod_does() -> None:
    spec = pod(release())
    waits = [each["lifecycle"]["preStop"]["sleep"]["seconds"] for each in containers(spec) if "lifecycle" in each]
    assert len(waits) == 1  # a sidecar ends after what it stands beside
    assert spec["terminationGracePeriodSeconds"] > max(waits)


def test_what_the_pod_verifies_is_named_by_digest_in_the_pod_itself() -> None:
    wanted = release()
    made = objects(wanted)
    pull = made["Deployment"]["spec"]["template"]["spec"]["initContainers"][1]
    assert wanted.artifact.digest in pull["args"]
    assert wanted.release in pull["args"]
    assert json.loads(made["ConfigMap"]["data"]["artifact.json"])["source"] == wanted.artifact.source
    assert pull["image"] == IMAGE


def test_names_of_two_servers_never_meet_and_fit_where_a_name_must() -> None:
    one, other = ServerName("ab-cd", "ef"), ServerName("ab", "cd-ef")
    assert release_name(one, "1" * 64) != release_name(other, "1" * 64)
    longest = release_name(ServerName("a" * 32, "b" * 32), "1" * 64)
    # A Deployment's ReplicaSet adds 11 characters, and its pods 6.
    assert len(longest) + 17 <= 63


def test_the_same_release_gives_the_same_objects() -> None:
    assert objects(release()) == objects(release())
    assert objects(release()) != objects(release(mark="b"))


def test_a_server_is_started_as_this_platforms_image_starts_processes(tmp_path: Path) -> None:
    command = pod(release())["containers"][0]["command"]
    given = [each.replace(WORK, str(tmp_path)) for each in command[: command.index("--") + 1]]
    given[:1] = [sys.executable]
    given[given.index(str(LAUNCH))] = str(LAUNCH_SCRIPT)
    done = subprocess.run([*given, "/bin/pwd"], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(tmp_path), done.stderr
