"""A server's pod: the platform's agent beside it, what it is made of fetched before it starts, and nothing else.

| container | has | does |
|---|---|---|
| `agent` (sidecar) | the pod's identity, its channel | mTLS in front of the server; the way to the hub; the bundle |
| `pull` (once) | the release's document, the way to the runtime | fetches by digest, verifies, installs offline |
| `server` | what `pull` made, read-only; its bundle, socket and secrets | runs the author's code |

No container has a token of the API. Only the agent has the pod's private key, and only the server has its secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pegboard.core.environment import SMOKE_YES, ServerEnvironment
from pegboard.core.manifest import Manifest as ServerManifest
from pegboard.core.names import ServerName
from pegboard_hub.publishing.orders import DesiredRelease
from pegboard_hub.runtime.kubernetes.objects import Json
from pegboard_hub.runtime.kubernetes.settings import ClusterSettings
from pegboard_hub.runtime.launching import Launch

MTLS_PORT: Final = 8443
"""Where the agent takes calls of edges."""

PROBE_PORT: Final = 8081
"""Where the kubelet and this runtime ask how the server is: `/healthz` and `/readyz`, and nothing else answers."""

DRAIN_S: Final = 30
"""Seconds between the word that a pod ends and its server's end: edges send no more, and calls under way end."""

GRACE_S: Final = DRAIN_S + 15

AGENT_USER, PULL_USER, SERVER_USER, GROUP = 65531, 65532, 65533, 65530

ROOT: Final = "/pegboard"
RELEASE: Final = f"{ROOT}/release"
FETCHED: Final = f"{ROOT}/fetched"
TOLD: Final = f"{ROOT}/told"
DOOR: Final = f"{ROOT}/door"
SPOOL: Final = f"{ROOT}/spool"
STATE: Final = f"{ROOT}/state"
WORK: Final = f"{ROOT}/work"
CHANNEL: Final = f"{ROOT}/channel"
ORDER: Final = f"{ROOT}/order"
AGENT: Final = f"{ROOT}/agent"
SPIFFE: Final = "/spiffe-workload-api"

SECRET_KEY_PATTERN: Final = r"[-._a-zA-Z0-9]{1,253}"  # noqa: S105 - of names of keys

_SIZES_MB: Final[Mapping[str, int]] = {
    "release": 2048,
    "fetched": 1024,
    "told": 64,
    "door": 1,
    "spool": 1024,
    "agent": 128,
}
"""Every folder that the platform's own write, with what it may hold."""

_NOT_THE_SERVERS: Final = ("agent", "fetched")
"""What the agent counts itself, and what is empty again before the server starts."""

_AUTHORS: Final = ("state", "work")
"""Folders that the author's code writes: each may hold `disk_mb` of the manifest."""

_LOGS_MB: Final = 128
"""What the kubelet keeps of a container's log before it turns it over, and some more."""

LAUNCH: Final = Path("/opt/pegboard/launch.py")
"""`runtime/launch.py`, where the platform's image has it."""

TURN: Final = "pegboard.internal/turn"
"""Annotation of pods: how often somebody had the server restarted."""

_OWN_NAME: Final = "\0"
"""As the value of a variable: what the pod is called, which only the cluster knows."""

_CONFINED: Final[Json] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def secret_name(server_objects: str) -> str:
    """The Secret that an operator makes with the values of a server's secrets."""
    return f"{server_objects}-secrets"


def literal(text: str) -> str:
    """`text` as the value of a variable or an argument, where `$(NAME)` would be replaced."""
    return text.replace("$", "$$")


def pod_template(
    server: ServerName,
    release: DesiredRelease,
    names: tuple[str, str],
    labels: Mapping[str, str],
    settings: ClusterSettings,
) -> Json:
    """The pod of one release.

    Args:
        server: whose it is.
        release: what it runs.
        names: what the server's objects are called, and those of the release.
        labels: of the release.
        settings: the cluster.
    """
    of_server, of_release = names
    manifest = release.manifest
    image = release.artifact.image or settings.image
    spec: Json = {
        "serviceAccountName": of_server,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "shareProcessNamespace": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": SERVER_USER,
            "runAsGroup": GROUP,
            "fsGroup": GROUP,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            _spread("kubernetes.io/hostname", labels),
            _spread("topology.kubernetes.io/zone", labels),
        ],
        "initContainers": [_agent(settings), _pull(release, settings)],
        "containers": [_server(server, release, manifest, image, of_server, settings)],
        "volumes": [
            *({"name": name, "emptyDir": {"sizeLimit": f"{size}Mi"}} for name, size in _sizes(manifest).items()),
            {"name": "order", "configMap": {"name": of_release, "defaultMode": 0o444}},
            {"name": "channel", "secret": {"secretName": of_release, "defaultMode": 0o440}},
            {"name": "identity", "csi": {"driver": settings.spiffe_csi, "readOnly": True}},
        ],
    }
    if settings.pull_secret:
        spec["imagePullSecrets"] = [{"name": settings.pull_secret}]
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    metadata: Json = {"labels": dict(labels)}
    if release.turn:
        # Another turn makes another template, so that the Deployment brings new pods, which read secrets anew.
        metadata["annotations"] = {TURN: str(release.turn)}
    return {"metadata": metadata, "spec": spec}


def _sizes(manifest: ServerManifest) -> Mapping[str, int]:
    """MiB that each folder may hold. Past it the pod is evicted, and says so."""
    return {**_SIZES_MB, **dict.fromkeys(_AUTHORS, manifest.resources.disk_mb)}


def _disk(manifest: ServerManifest) -> int:
    """MiB that the server's container counts towards the pod, which together may hold that of all folders and logs.

    `disk_mb` is of the author's folders together, so once is enough: what one has, the other has not.
    """
    platforms = sum(size for name, size in _SIZES_MB.items() if name not in _NOT_THE_SERVERS)
    return platforms + manifest.resources.disk_mb + _LOGS_MB


def _spread(key: str, labels: Mapping[str, str]) -> Json:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(labels)},
    }


def _agent(settings: ClusterSettings) -> Json:
    """A sidecar: it is there before everything else starts, and until everything else has ended."""
    arguments = [
        *("--own", AGENT, "--told", TOLD, "--socket", f"{DOOR}/mcp.sock", "--channel", f"{CHANNEL}/channel.json"),
        *("--workload-api", f"unix://{SPIFFE}/spire-agent.sock", "--trust-domain", settings.trust_domain),
        *("--mtls-port", str(MTLS_PORT), "--probe-port", str(PROBE_PORT)),
        *(part for each in settings.edge_ids for part in ("--edge", each)),
        *("--hub", f"{settings.hub.spiffe_id}@{settings.hub.host}:{settings.hub.port}"),
        *("--releases", f"{settings.releases.spiffe_id}@{settings.releases.host}:{settings.releases.port}"),
    ]
    return {
        "name": "agent",
        "image": settings.image,
        "restartPolicy": "Always",
        "command": ["python", "-I", "-u", "-m", "pegboard_hub.runtime.kubernetes.agent"],
        "args": [literal(each) for each in arguments],
        "ports": [
            {"name": "mtls", "containerPort": MTLS_PORT, "protocol": "TCP"},
            {"name": "probe", "containerPort": PROBE_PORT, "protocol": "TCP"},
        ],
        "startupProbe": _probe("/agentz", 1, 60),
        "resources": _resources(cpu=50, most_cpu=1000, memory=256, disk=128),
        "securityContext": {**_CONFINED, "runAsUser": AGENT_USER, "runAsGroup": GROUP},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "agent", "mountPath": AGENT},
            {"name": "told", "mountPath": TOLD},
            {"name": "door", "mountPath": DOOR},
            {"name": "channel", "mountPath": CHANNEL, "readOnly": True},
            {"name": "identity", "mountPath": SPIFFE, "readOnly": True},
        ],
    }


def _pull(release: DesiredRelease, settings: ClusterSettings) -> Json:
    arguments = [
        *("--order", ORDER, "--artifact", release.artifact.digest, "--release", release.release),
        *("--releases", f"{TOLD}/releases.sock", "--fetched", FETCHED, "--into", RELEASE),
    ]
    return {
        "name": "pull",
        "image": settings.image,
        "command": ["python", "-I", "-u", "-m", "pegboard_hub.runtime.kubernetes.pull"],
        "args": arguments,
        "env": [{"name": "HOME", "value": FETCHED}, {"name": "TMPDIR", "value": FETCHED}],
        "resources": _resources(cpu=100, most_cpu=2000, memory=512, disk=2048),
        "securityContext": {**_CONFINED, "runAsUser": PULL_USER, "runAsGroup": GROUP},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "release", "mountPath": RELEASE},
            {"name": "fetched", "mountPath": FETCHED},
            {"name": "order", "mountPath": ORDER, "readOnly": True},
            {"name": "told", "mountPath": TOLD, "readOnly": True},
        ],
    }


def _server(
    server: ServerName,
    release: DesiredRelease,
    manifest: ServerManifest,
    image: str,
    of_server: str,
    settings: ClusterSettings,
) -> Json:
    resources = manifest.resources
    return {
        "name": "server",
        "image": image,
        "command": _command(release, resources.open_files),
        "workingDir": WORK,
        "env": [
            *(_given(name, value) for name, value in _variables(server, release, settings).items()),
            *(_by_reference(name, place, of_server) for name, place in sorted(manifest.secrets.items())),
        ],
        "startupProbe": _probe("/readyz", 2, 90),
        "readinessProbe": _probe("/readyz", 2, 2),
        "livenessProbe": _probe("/healthz", 10, 3),
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_S}}},
        "resources": _resources(
            cpu=max(10, resources.cpu_millis // 4),
            most_cpu=resources.cpu_millis,
            memory=resources.memory_mb,
            disk=_disk(manifest),
        ),
        "securityContext": {**_CONFINED, "runAsUser": SERVER_USER, "runAsGroup": GROUP},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "release", "mountPath": RELEASE, "readOnly": True},
            {"name": "told", "mountPath": TOLD, "readOnly": True},
            {"name": "order", "mountPath": ORDER, "readOnly": True},
            {"name": "channel", "mountPath": CHANNEL, "readOnly": True},
            {"name": "door", "mountPath": DOOR},
            {"name": "spool", "mountPath": SPOOL},
            {"name": "state", "mountPath": STATE},
            {"name": "work", "mountPath": WORK},
        ],
    }


def _command(release: DesiredRelease, open_files: int) -> list[str]:
    """How the server starts: with the limits that a container has no field for, where the image is the platform's."""
    if release.artifact.image:
        return ["python", "-I", "-u", "-m", "pegboard.serve"]
    limits = {"RLIMIT_CORE": 0, "RLIMIT_NOFILE": open_files}
    launch = Launch(limits=limits, umask=0o007, folder=Path(WORK), tied=False)
    command = [f"{RELEASE}/env/bin/python", "-I", "-u", "-m", "pegboard.serve"]
    return [literal(each) for each in launch.command(command, python="python", script=LAUNCH)]


def _variables(server: ServerName, release: DesiredRelease, settings: ClusterSettings) -> dict[str, str]:
    environment = ServerEnvironment(
        server=str(server),
        release=release.release,
        project=Path(RELEASE, "project"),
        public_url=settings.public_url,
        socket=Path(DOOR, "mcp.sock"),
        bundle=Path(TOLD, "bundle.jws"),
        bundle_keys=Path(TOLD, "bundle-keys.json"),
        spool=Path(SPOOL),
        state=Path(STATE),
        hub_socket=Path(TOLD, "hub.sock"),
        credentials=Path(CHANNEL, "credentials.json"),
        pinned=f"{ORDER}/declaration.json",
        replica=_OWN_NAME,
        smoke=SMOKE_YES,
    )
    given = {name: value for name, value in environment.variables().items() if value}
    return {"HOME": WORK, "TMPDIR": WORK, "LANG": "C.UTF-8", **given}


def _given(variable: str, value: str) -> Json:
    if value == _OWN_NAME:
        return {"name": variable, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}
    return {"name": variable, "value": literal(value)}


def _by_reference(variable: str, place: str, of_server: str) -> Json:
    """A secret, which is a key of the server's own Secret: `env:NAME` and `file:NAME` alike."""
    reference = {"name": secret_name(of_server), "key": place.partition(":")[2]}
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def _probe(path: str, every_s: int, failures: int) -> Json:
    return {
        "httpGet": {"path": path, "port": PROBE_PORT, "scheme": "HTTP"},
        "periodSeconds": every_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _resources(cpu: int, most_cpu: int, memory: int, disk: int) -> Json:
    """Memory is never promised twice; processors are."""
    return {
        "requests": {"cpu": _cpu(cpu), "memory": f"{memory}Mi", "ephemeral-storage": "64Mi"},
        "limits": {"cpu": _cpu(most_cpu), "memory": f"{memory}Mi", "ephemeral-storage": f"{disk}Mi"},
    }


def _cpu(millis: int) -> str:
    """As the API writes it back: whole processors without an `m`."""
    return str(millis // 1000) if millis % 1000 == 0 else f"{millis}m"
