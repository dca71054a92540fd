"""Words of the Kubernetes API: what an object is here, how ours are called, and how they are told from others'."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, TypedDict

from pegboard.core.names import ServerName

Json = dict[str, Any]

DOMAIN: Final = "pegboard.internal"
"""Prefix of our labels and annotations; `.internal` is nobody's on the Internet."""

MANAGER: Final = "pegboard"
"""Field manager of everything that is applied (server-side apply)."""

HANDOVER: Final = "pegboard-handover"
"""Field manager that holds a number of replicas while it goes from us to an autoscaler: a field that nobody owns any
more is set back to its default, which is one replica."""

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
RUNTIME: Final = f"{DOMAIN}/runtime"
NAMESPACE: Final = f"{DOMAIN}/namespace"
SERVER: Final = f"{DOMAIN}/server"
RELEASE: Final = f"{DOMAIN}/release"
APPLIED: Final = f"{DOMAIN}/applied"
"""Annotation: SHA-256 of the manifest as it was applied, so that a field that is no longer in it is noticed."""

_NAMED = 16
"""Characters of a name that people recognise; what makes it unique follows, so long that nobody finds another
server's by trying. With what Deployment and ReplicaSet add a pod's name stays within a label's 63 (RFC 1123)."""

_RELEASE_IN_NAME = 10
_RELEASE_IN_LABEL = 16


class Metadata(TypedDict, total=False):
    """`ObjectMeta`, as far as it is ours to say."""

    name: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str]


class Manifest(TypedDict, total=False):
    """An object as it should be. Fields that are not here are others' to say."""

    apiVersion: str
    kind: str
    metadata: Metadata
    spec: Json
    data: dict[str, str]
    type: str
    automountServiceAccountToken: bool


def server_name(server: ServerName) -> str:
    """What a server's objects are called: two servers never share it (`a-b/c` and `a/b-c` do not)."""
    shown = f"{server.namespace}-{server.name}"[:_NAMED].rstrip("-")
    return f"{shown}-{hashlib.sha256(str(server).encode()).hexdigest()[:16]}"


def release_name(server: ServerName, release: str) -> str:
    """What the objects of one release are called."""
    return f"{server_name(server)}-{release[:_RELEASE_IN_NAME]}"


def ours(runtime: str) -> dict[str, str]:
    """Labels of everything that a runtime has made."""
    return {MANAGED_BY: MANAGER, RUNTIME: runtime}


def server_labels(runtime: str, server: ServerName) -> dict[str, str]:
    """Labels of everything of one server."""
    return {**ours(runtime), NAMESPACE: server.namespace, SERVER: server.name}


def release_labels(runtime: str, server: ServerName, release: str) -> dict[str, str]:
    """Labels of everything of one release; a label has 63 characters at most, and a digest has 64."""
    return {**server_labels(runtime, server), RELEASE: release[:_RELEASE_IN_LABEL]}


def is_ours(found: Mapping[str, Any], runtime: str) -> bool:
    """Whether an object in the cluster is this runtime's."""
    labels = found.get("metadata", {}).get("labels") or {}
    return all(labels.get(name) == value for name, value in ours(runtime).items())


def sealed(manifest: Manifest) -> Manifest:
    """The manifest with its own digest in it."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    metadata = manifest["metadata"]
    noted = {**metadata.get("annotations", {}), APPLIED: hashlib.sha256(text.encode()).hexdigest()}
    return {**manifest, "metadata": {**metadata, "annotations": noted}}


def selector(labels: Mapping[str, str]) -> str:
    """A label selector for the API."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
