"""Every object of a release, as pure functions of what the hub desires and what the operator says of the cluster."""

from __future__ import annotations

import base64
import json
import re
from typing import Final

from pegboard.core.names import ServerName
from pegboard_hub.common.runtimes import RuntimeFile, channel_token, digest_key, digest_of
from pegboard_hub.publishing.orders import DesiredRelease
from pegboard_hub.runtime.kubernetes.egress import EgressRefused, egress_rules
from pegboard_hub.runtime.kubernetes.objects import (
    Json,
    Manifest,
    Metadata,
    release_labels,
    release_name,
    sealed,
    server_labels,
    server_name,
)
from pegboard_hub.runtime.kubernetes.pod import GRACE_S, MTLS_PORT, PROBE_PORT, SECRET_KEY_PATTERN, pod_template
from pegboard_hub.runtime.kubernetes.settings import ClusterSettings, Selected, is_image

KINDS: Final = (
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "NetworkPolicy",
    "Service",
    "Deployment",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
)
"""In the order in which they are applied: nothing runs before what confines it is there. Removed from the end."""

LARGEST_ORDER: Final = 900_000
"""Bytes of what a ConfigMap is given; etcd takes a mebibyte."""

CALLS_METRIC: Final = "pegboard_server_calls_under_way"
CPU_TARGET: Final = 70


class CannotRun(ValueError):
    """A release that this cluster will not run. `mend` says who does what about it."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.mend = mend


def release_objects(
    server: ServerName, release: DesiredRelease, settings: ClusterSettings, runtime: RuntimeFile, release_keys: str
) -> tuple[Manifest, ...]:
    """The objects of one release, in the order of `KINDS`. The release must have been verified.

    Args:
        server: whose it is.
        release: what should run.
        settings: the cluster.
        runtime: who applies it: its servers' channels are sealed with its credential.
        release_keys: public JWKS that releases are verified with, for the pod to verify once more.

    Raises:
        CannotRun: it asks for what this cluster does not give.
    """
    _check(release, settings)
    names = server_name(server), release_name(server, release.release)
    labels = release_labels(settings.runtime, server, release.release)
    of_server = _metadata(names[0], settings, server_labels(settings.runtime, server))
    of_release = _metadata(names[1], settings, labels)
    least, most = replicas(release, settings)
    objects = [
        _service_account(of_server),
        _channel(of_release, server, release, runtime),
        _order(of_release, release, release_keys),
        _network_policy(of_release, labels, release, settings),
        _service(of_release, labels),
        _deployment(of_release, labels, pod_template(server, release, names, labels, settings), least, most),
        *([_autoscaler(of_release, least, most, release, settings)] if most > least else []),
        _disruption_budget(of_release, labels),
    ]
    return tuple(sealed(each) for each in objects)


def replicas(release: DesiredRelease, settings: ClusterSettings) -> tuple[int, int]:
    """Fewest and most replicas. None at all is not offered here: nothing would hold a call until a pod is there."""
    least = min(max(1, release.scale.min), settings.most_replicas)
    return least, max(least, min(release.scale.max, settings.most_replicas))


def spiffe_id(server: ServerName, settings: ClusterSettings) -> str:
    """Who a server's pods must be."""
    return f"spiffe://{settings.trust_domain}/ns/{settings.namespace}/sa/{server_name(server)}"


def _check(release: DesiredRelease, settings: ClusterSettings) -> None:
    manifest = release.manifest
    resources = manifest.resources
    for what, asked, most in (
        ("memory_mb", resources.memory_mb, settings.most_memory_mb),
        ("cpu_millis", resources.cpu_millis, settings.most_cpu_millis),
        ("disk_mb", resources.disk_mb, settings.most_disk_mb),
    ):
        if asked > most:
            words = f"resources.{what} is {asked}, and {most} is the most that a replica may have here"
            raise CannotRun(words, f"ask for less in pegboard.toml, or have the operator raise most_{what}")
    for variable, reference in manifest.secrets.items():
        key = reference.partition(":")[2]
        if not re.fullmatch(SECRET_KEY_PATTERN, key) or key in (".", ".."):
            words = f"secrets.{variable} names {key[:80]!r}, which no Secret can have as a key"
            raise CannotRun(words, "use letters, digits, '-', '_' and '.' alone in its reference in pegboard.toml")
    image = release.artifact.image
    if image and not (is_image(image) and image.startswith(settings.image_registries or ("\0",))):
        words = f"the image {image[:120]!r} is not by digest from a registry that is allowed here"
        raise CannotRun(words, "submit the project itself, or have the operator add its registry to image_registries")


def _metadata(name: str, settings: ClusterSettings, labels: dict[str, str]) -> Metadata:
    return {"name": name, "namespace": settings.namespace, "labels": dict(labels)}


def _service_account(metadata: Metadata) -> Manifest:
    """The server's identity: SPIRE names pods after it. It may do nothing at the API, and has no token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata,
        "automountServiceAccountToken": False,
    }


def _channel(metadata: Metadata, server: ServerName, release: DesiredRelease, runtime: RuntimeFile) -> Manifest:
    """What the server's process shows to the hub; as on a machine it is the server's to know."""
    token = channel_token(runtime.name, digest_of(runtime.credential), server, release.release)
    credentials = json.dumps({"channel_token": token, "digest_key": digest_key(runtime.credential, server)})
    channel = json.dumps({"channel_token": token})
    data = {"credentials.json": _encoded(credentials), "channel.json": _encoded(channel)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def _order(metadata: Metadata, release: DesiredRelease, release_keys: str) -> Manifest:
    """What the pod verifies for itself before it installs anything."""
    data = {
        "artifact.json": release.artifact.text(),
        "declaration.json": release.declaration.canonical,
        "signature": release.signature,
        "release-keys.json": release_keys,
    }
    if sum(len(each.encode()) for each in data.values()) > LARGEST_ORDER:
        raise CannotRun(
            f"what it declares is larger than {LARGEST_ORDER} bytes, and does not fit into the cluster's store",
            "shorten its tools' schemas and descriptions, or its list of packages",
        )
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _network_policy(
    metadata: Metadata, labels: dict[str, str], release: DesiredRelease, settings: ClusterSettings
) -> Manifest:
    """Only edges reach a server; it reaches names, the hub's gate, its runtime, and what is granted."""
    try:
        granted = egress_rules(release.egress, settings.egress)
    except EgressRefused as error:
        raise CannotRun(str(error), "have the operator mend it, or take it out of pegboard.toml") from error
    spec: Json = {
        "podSelector": {"matchLabels": dict(labels)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [_pods(each) for each in settings.edges], "ports": [_tcp(MTLS_PORT)]},
            {"from": [_pods(settings.runtime_pods)], "ports": [_tcp(PROBE_PORT)]},
        ],
        "egress": [
            {"to": [_pods(settings.dns)], "ports": [_tcp(53), {"protocol": "UDP", "port": 53}]},
            {"to": [_pods(settings.hub_pods)], "ports": [_tcp(settings.hub.port)]},
            {"to": [_pods(settings.runtime_pods)], "ports": [_tcp(settings.releases.port)]},
            *granted,
        ],
    }
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _service(metadata: Metadata, labels: dict[str, str]) -> Manifest:
    """Without an address of its own: edges are told each pod, so that a session stays where it is."""
    spec: Json = {
        "clusterIP": "None",
        "publishNotReadyAddresses": False,
        "selector": dict(labels),
        "ports": [{"name": "mtls", "port": MTLS_PORT, "targetPort": MTLS_PORT, "protocol": "TCP"}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _deployment(metadata: Metadata, labels: dict[str, str], template: Json, least: int, most: int) -> Manifest:
    spec: Json = {
        # Where it is autoscaled the number is the autoscaler's field, not ours.
        **({"replicas": least} if least == most else {}),
        "minReadySeconds": 0,
        "progressDeadlineSeconds": 300,
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": dict(labels)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": template,
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _autoscaler(
    metadata: Metadata, least: int, most: int, release: DesiredRelease, settings: ClusterSettings
) -> Manifest:
    by_calls: Json = {
        "type": "Pods",
        "pods": {
            "metric": {"name": CALLS_METRIC},
            "target": {"type": "AverageValue", "averageValue": str(release.scale.in_flight)},
        },
    }
    by_cpu: Json = {
        "type": "ContainerResource",
        "containerResource": {
            "name": "cpu",
            "container": "server",
            "target": {"type": "Utilization", "averageUtilization": CPU_TARGET},
        },
    }
    spec: Json = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"]},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [by_calls if settings.scale_on == "in_flight" else by_cpu],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
    }
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}


def _disruption_budget(metadata: Metadata, labels: dict[str, str]) -> Manifest:
    """One at a time. It never keeps a node from being emptied: also the only replica may be moved."""
    spec: Json = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": dict(labels)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}


def _pods(chosen: Selected) -> Json:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": chosen.namespace}},
        "podSelector": {"matchLabels": dict(chosen.labels)},
    }


def _tcp(port: int) -> Json:
    return {"protocol": "TCP", "port": port}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


__all__ = ["GRACE_S", "KINDS", "CannotRun", "release_objects", "replicas", "spiffe_id"]
