"""The chart, rendered by Helm itself (its Go library, in a wheel): it fits the schemas, and allows what it must."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from pegboard_hub.runtime.kubernetes.api import PATHS
from pegboard_hub.runtime.kubernetes.settings import ClusterSettings
from tests.hub.kube_schemas import VERSIONS, faults

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "pegboard"

VALUES: dict[str, Any] = {
    "image": {"repository": "registry.acme.com/pegboard/base", "digest": f"sha256:{'a' * 64}"},
    "publicUrl": "https://mcp.acme.com",
    "spiffe": {"trustDomain": "acme.com"},
    "database": {"secret": "pegboard-database", "networks": ["10.2.0.0/24"]},
    "hub": {
        "grants": "[servers]\n",
        "signInSecret": "pegboard-sign-in",
        "egress": [{"cidr": "10.3.0.0/24", "port": 443}],
    },
    "edges": {
        "members": [{"name": "a", "joinSecret": "pegboard-edge-a"}, {"name": "b", "joinSecret": "pegboard-edge-b"}],
        "tlsSecret": "pegboard-tls",
    },
    "runtime": {
        "secret": "pegboard-runtime",
        "egress": {"db.acme.com:5432": ["10.9.0.0/24"]},
        "indexes": ["10.4.0.0/24"],
    },
    "builder": {"secret": "pegboard-builder", "sandbox": "process", "indexes": ["10.4.0.0/24"]},
    "apiServer": {"networks": ["10.0.0.1/32"], "port": 6443},
}
SECRETS = {
    "pegboard-database",
    "pegboard-sign-in",
    "pegboard-edge-a",
    "pegboard-edge-b",
    "pegboard-tls",
    "pegboard-runtime",
    "pegboard-builder",
}


def changed(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(VALUES))
    for path, value in changes.items():
        *folders, last = path.split("__")
        at = made
        for each in folders:
            at = at.setdefault(each, {})
        at[last] = value
    return made


def render(values: dict[str, Any], chart_at: Path = CHART) -> list[dict[str, Any]]:
    with helm.Chart.load(chart_at) as chart:
        chart.validate_schema(values)
        made = chart.render(values, name="pegboard", namespace="pegboard")
    texts = [text for name, text in made.items() if name.endswith(".yaml")]
    found = [each for text in texts for each in yaml.safe_load_all(text) if each]
    return sorted(found, key=lambda each: (each["kind"], each["metadata"]["name"]))


VARIANTS: dict[str, dict[str, Any]] = {
    "whole": VALUES,
    "without the runtime": changed(runtime__enabled=False, runtime__secret=""),
    "without an edge yet": changed(edges__members=[]),
    "with a sandbox in its builders": changed(
        builder__sandbox="bubblewrap", builder__replicas=3, builder__advisories="advisories"
    ),
    "without builders": changed(builder__enabled=False, builder__secret="", builder__sandbox=""),
    "behind a balancer of the company's": changed(
        edges__service={"type": "ClusterIP", "port": 8443},
        edges__from=[{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        image__pullSecret="registry",
        runtime__createNamespace=False,
        hub__home={"size": "5Gi", "storageClass": "fast"},
    ),
}


@cache
def rendered(variant: str = "whole") -> list[dict[str, Any]]:
    return render(VARIANTS[variant])


def named(kind: str, name: str) -> dict[str, Any]:
    return next(each for each in rendered() if (each["kind"], each["metadata"]["name"]) == (kind, name))


def pods(variant: str = "whole") -> Iterator[tuple[str, dict[str, Any]]]:
    for each in rendered(variant):
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_that_is_rendered_fits_the_strict_schema_of_three_versions(variant: str, version: str) -> None:
    made = rendered(variant)
    assert len(made) > 10
    wrong = {f"{each['kind']} {each['metadata']['name']}": found for each in made if (found := faults(each, version))}
    assert wrong == {}


def test_helm_finds_nothing_to_say() -> None:
    found = helm.lint(CHART, VALUES, strict=True, namespace="pegboard")
    assert [each for each in found["messages"] if each["severity"] >= 2] == []
    assert found["errors"] == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"image__digest": "latest"}, "digest"),
        ({"publicUrl": "http://mcp.acme.com"}, "publicUrl"),
        ({"database__secret": ""}, "secret"),
        ({"database__url": "postgresql://me:secret@db"}, "url"),
        ({"edges__members": [{"name": "edge", "joinSecret": "x"}]}, "name"),
        ({"runtime__secret": ""}, "secret"),
        ({"runtime__name": "machine"}, "name"),
        ({"runtime__egress": {"db:1": ["anywhere"]}}, "egress"),
        ({"hub__replicas": 3}, "replicas"),
        ({"builder__sandbox": ""}, "sandbox"),
        ({"builder__secret": ""}, "secret"),
        ({"apiServer__networks": []}, "networks"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_named(change: dict[str, Any], word: str) -> None:
    with pytest.raises(helm.HelmValuesError, match=word):
        render(changed(**change))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pod_keeps_the_pod_security_standard_restricted(variant: str) -> None:
    found = dict(pods(variant))
    assert found
    for name, spec in found.items():
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for each in (*spec.get("initContainers", ()), *spec["containers"]):
            context = each["securityContext"]
            boxed = (variant, each["name"]) == ("with a sandbox in its builders", "builder")
            assert context["seccompProfile"] == {"type": "Unconfined" if boxed else "RuntimeDefault"}
            assert ("procMount" in context) == boxed
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= each["resources"]["limits"].keys(), (name, each["name"])
            assert each["image"].endswith(f"@sha256:{'a' * 64}")
        for volume in spec["volumes"]:
            assert "hostPath" not in volume
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pod_has_a_network_policy_and_every_mount_a_volume(variant: str) -> None:
    made = rendered(variant)
    policies = [
        each["spec"]["podSelector"]["matchLabels"]
        for each in made
        if each["kind"] == "NetworkPolicy" and each["spec"]["podSelector"]
    ]
    for each in made:
        if each["kind"] not in ("Deployment", "StatefulSet", "Job"):
            continue
        labels = each["spec"]["template"]["metadata"]["labels"]
        assert any(policy.items() <= labels.items() for policy in policies), each["metadata"]["name"]
        spec = each["spec"]["template"]["spec"]
        volumes = {volume["name"] for volume in spec["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", ())}
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
        accounts = {other["metadata"]["name"] for other in made if other["kind"] == "ServiceAccount"}
        assert spec["serviceAccountName"] in accounts


def test_secrets_are_named_and_never_made() -> None:
    made = rendered()
    assert [each for each in made if each["kind"] == "Secret"] == []
    mounted = {v["secret"]["secretName"] for _, spec in pods() for v in spec["volumes"] if "secret" in v}
    assert mounted == SECRETS
    for _, spec in pods():
        for each in (*spec.get("initContainers", ()), *spec["containers"]):
            for variable in each.get("env", ()):
                assert variable["name"] in ("HOME", "TMPDIR", "PEGBOARD_DATABASE_URL_FILE", "PEGBOARD_BUILDS")


def test_the_migration_is_a_job_before_everything_else() -> None:
    job = named("Job", "pegboard-migration")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["command"][-1] == "pegboard_hub.storage.migrate"
    for kind in ("ServiceAccount", "NetworkPolicy"):
        before = named(kind, "pegboard-migration")["metadata"]["annotations"]
        assert int(before["helm.sh/hook-weight"]) < 0


def test_only_the_runtime_may_do_anything_at_the_api_and_there_what_it_asks_for_alone() -> None:
    roles = [each for each in rendered() if each["kind"] in ("Role", "ClusterRole")]
    (role,) = roles
    assert role["metadata"]["namespace"] == "pegboard-servers"
    allowed = {
        (group, resource) for rule in role["rules"] for group in rule["apiGroups"] for resource in rule["resources"]
    }
    assert allowed == {(group, plural) for group, _, plural in PATHS.values()} | {("", "pods/log")}
    assert "*" not in json.dumps(role["rules"])
    changes = {resource for rule in role["rules"] if "patch" in rule["verbs"] for resource in rule["resources"]}
    assert not {"pods", "pods/log", "endpointslices"} & changes
    tokens = [name for name, spec in pods() if "serviceAccountToken" in json.dumps(spec)]
    assert tokens == ["pegboard-runtime"]
    runtime = dict(pods())["pegboard-runtime"]
    mounts = {
        each["name"]: [m["name"] for m in each["volumeMounts"]]
        for each in (*runtime["initContainers"], *runtime["containers"])
    }
    assert "api" in mounts["runtime"]
    assert "api" not in mounts["agent"]


def test_the_runtime_is_told_of_the_cluster_what_it_reads() -> None:
    said = tomllib.loads(named("ConfigMap", "pegboard-runtime")["data"]["cluster.toml"])
    settings = ClusterSettings.model_validate(said)
    assert settings.namespace == "pegboard-servers"
    assert settings.hub.spiffe_id == "spiffe://acme.com/ns/pegboard/sa/pegboard-hub"
    assert settings.egress == {"db.acme.com:5432": ("10.9.0.0/24",)}
    assert (settings.most_memory_mb, settings.most_disk_mb) == (8192, 16_384)
    service = named("Service", "pegboard-hub")
    assert settings.hub.port in [each["port"] for each in service["spec"]["ports"]]
    labels = named("StatefulSet", "pegboard-hub")["spec"]["template"]["metadata"]["labels"]
    assert settings.hub_pods.labels.items() <= labels.items()


def test_nothing_in_the_namespace_of_servers_goes_anywhere_without_a_policy_of_its_own() -> None:
    spec = named("NetworkPolicy", "pegboard-nothing")["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    namespace = named("Namespace", "pegboard-servers")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_hubs_doors_are_for_edges_and_pods_and_nobody_reaches_it_otherwise() -> None:
    rules = named("NetworkPolicy", "pegboard-hub")["spec"]["ingress"]
    assert [[port["port"] for port in rule["ports"]] for rule in rules] == [[8444], [8445]]


def test_each_edge_has_a_credential_of_its_own_and_its_last_good_files() -> None:
    edges = [each for each in rendered() if each["kind"] == "StatefulSet" and "edge" in each["metadata"]["name"]]
    secrets = [
        v["secret"]["secretName"]
        for e in edges
        for v in e["spec"]["template"]["spec"]["volumes"]
        if v["name"] == "join"
    ]
    assert secrets == ["pegboard-edge-a", "pegboard-edge-b"]
    assert all(each["spec"]["volumeClaimTemplates"] for each in edges)


def test_the_hubs_pod_neither_builds_nor_runs_what_is_submitted() -> None:
    hub = dict(pods())["pegboard-hub"]
    (up,) = [each for each in hub["containers"] if each["name"] == "hub"]
    assert "--submitted=elsewhere" in up["args"]


def test_where_strangers_code_is_built_there_is_a_credential_for_building_and_nothing_else() -> None:
    builder = dict(pods())["pegboard-builder"]
    (builds,) = builder["containers"]
    mounted = {mount["name"] for mount in builds["volumeMounts"]}
    assert mounted == {"run", "scratch", "credential", "tmp"}
    secrets = [v["secret"] for v in builder["volumes"] if "secret" in v]
    assert [each["items"] for each in secrets] == [[{"key": "builder.json", "path": "builder.json"}]]
    # The pod's identity, which the hub's door asks for, is its agent's.
    agent = builder["initContainers"][0]
    assert "identity" in {mount["name"] for mount in agent["volumeMounts"]}
    assert not [each for each in agent["args"] if each.startswith(("--socket", "--mtls-port", "--below"))]


@pytest.mark.parametrize(("sandbox", "isolation"), [("bubblewrap", "bubblewrap"), ("process", "off")])
def test_a_builder_is_kept_apart_as_the_operator_chose_or_does_not_start(sandbox: str, isolation: str) -> None:
    made = next(
        each
        for each in render(changed(builder__sandbox=sandbox))
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "pegboard-builder")
    )
    spec = made["spec"]["template"]["spec"]
    assert f"--isolation={isolation}" in spec["containers"][0]["args"]
    assert spec.get("hostUsers", True) is (sandbox != "bubblewrap")


def test_builders_look_at_the_advisories_that_the_operator_keeps_on_a_volume() -> None:
    (builds,) = dict(pods("with a sandbox in its builders"))["pegboard-builder"]["containers"]
    place = next(each["value"] for each in builds["env"] if each["name"] == "PEGBOARD_ADVISORIES")
    mount = next(each for each in builds["volumeMounts"] if each["mountPath"] == place)
    assert mount["readOnly"] is True
    volumes = {
        each["name"]: each for each in dict(pods("with a sandbox in its builders"))["pegboard-builder"]["volumes"]
    }
    assert volumes[mount["name"]]["persistentVolumeClaim"] == {"claimName": "advisories", "readOnly": True}


HUB, EDGES, RUNTIME, BUILDER = (
    "pegboard-hub",
    {"pegboard-edge-a", "pegboard-edge-b"},
    "pegboard-runtime",
    "pegboard-builder",
)


def workloads(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        each["metadata"]["name"]: each for each in render(values) if each["kind"] in ("Deployment", "StatefulSet")
    }


@pytest.mark.parametrize(
    ("change", "rolls"),
    [
        ({"image__digest": f"sha256:{'b' * 64}"}, {HUB, *EDGES, RUNTIME, BUILDER}),
        ({"hub__grants": "[reviews]\n"}, set()),
        ({"hub__processes": 3}, {HUB}),
        ({"runtime__egress": {"db.acme.com:5432": ["10.9.1.0/24"]}}, {RUNTIME}),
        ({"runtime__quota": {"pods": "400"}}, set()),
        ({"builder__atOnce": 2}, {BUILDER}),
        ({"builder__replicas": 3}, set()),
        ({"edges__members": [*VALUES["edges"]["members"], {"name": "c", "joinSecret": "pegboard-edge-c"}]}, set()),
        ({"edges__from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}, set()),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else None,
)
def test_an_upgrade_replaces_the_pods_of_what_changed_and_no_others(change: dict[str, Any], rolls: set[str]) -> None:
    """And changes no field that the API lets nobody change, for which Helm would fail halfway."""
    before, after = workloads(VALUES), workloads(changed(**change))
    assert before.keys() <= after.keys()
    spec = {name: (before[name]["spec"], after[name]["spec"]) for name in before}
    assert {name for name, (was, now) in spec.items() if was["template"] != now["template"]} == rolls
    for fixed in ("selector", "serviceName", "volumeClaimTemplates"):
        assert [name for name, (was, now) in spec.items() if was.get(fixed) != now.get(fixed)] == []


def test_an_upgrade_runs_the_migration_anew_whatever_became_of_the_last_one() -> None:
    """A finished Job cannot be changed: it is a hook, whose last run is deleted before the next."""
    for kind in ("Job", "ServiceAccount", "NetworkPolicy"):
        said = named(kind, "pegboard-migration")["metadata"]["annotations"]
        assert "pre-upgrade" in said["helm.sh/hook"].split(",")
        assert said["helm.sh/hook-delete-policy"] == "before-hook-creation"


def test_the_next_version_of_the_chart_is_in_no_selector_and_in_no_pod(tmp_path: Path) -> None:
    """Only what changed is replaced: a version in labels would be in every pod."""
    shutil.copytree(CHART, tmp_path / "pegboard")
    about = tmp_path / "pegboard" / "Chart.yaml"
    said = about.read_text()
    about.write_text(re.sub(r"(?m)^(version|appVersion): .*$", r'\1: "99.9.9"', said))
    assert about.read_text() != said
    assert render(VALUES, tmp_path / "pegboard") == rendered()


def test_taking_the_chart_away_leaves_the_servers() -> None:
    namespace = named("Namespace", "pegboard-servers")
    assert namespace["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"edges__members": []}, "pegboard edge add a --home /var/lib/pegboard/home --out -"),
        ({"edges__members": []}, "--from-file=join.json && rm join.json"),
        ({"builder__enabled": False}, "Nothing builds what is submitted"),
        ({}, "no sandbox (builder.sandbox: process)"),
    ],
)
def test_whoever_installs_it_reads_what_to_do_next(change: dict[str, Any], said: str) -> None:
    with helm.Chart.load(CHART) as chart:
        made = chart.render(changed(**change), name="pegboard", namespace="pegboard")
    (notes,) = (text for name, text in made.items() if name.endswith("NOTES.txt"))
    assert said in notes
