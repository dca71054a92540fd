"""A namespace of a cluster, as far as the API endpoint can be played: server-side apply with the ownership of fields,
lists by label, watches, strict schemas, and the controllers that make pods and endpoints. Built on `kmock`, whose
reactions play its faults: `cluster["patch"] << 503`.

What it is not: the API's defaulting (few fields), admission, quotas, or a kubelet.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs
import kmock

from pegboard_hub.runtime.kubernetes.api import PATHS
from pegboard_hub.runtime.kubernetes.objects import MANAGER, RELEASE, SERVER
from tests.hub.kube_schemas import faults

Json = dict[str, Any]
Path = tuple[Any, ...]

KEYED = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
"""`x-kubernetes-list-map-keys` of the lists that we write; others are taken as atomic."""

PLURALS = {plural: kind for kind, (_, _, plural) in PATHS.items()}
MANAGED = ("metadata.name", "metadata.namespace")


def flat(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The fields of an object as paths and values."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from flat(each, (*path, name))
    elif isinstance(value, list) and path and path[-1] in KEYED:
        for each in value:
            yield from flat(each, (*path, ("key", *(each.get(key) for key in KEYED[path[-1]]))))
    else:
        yield path, value


def shown(path: Path) -> str:
    return "".join(f"[{'/'.join(map(str, each[1:]))}]" if isinstance(each, tuple) else f".{each}" for each in path)


def whole(fields: dict[Path, Any]) -> Json:
    """The object of these fields."""
    root: Json = {}
    for path, value in fields.items():
        at: Any = root
        for place, step in enumerate(path[:-1]):
            at = at.setdefault(step, {})
            assert isinstance(at, dict), path[: place + 1]
        at[path[-1]] = value
    return _listed(root)


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return copy.deepcopy(value)
    if value and all(isinstance(name, tuple) for name in value):
        return [_listed(each) for each in value.values()]
    return {name: _listed(each) for name, each in value.items()}


@attrs.define(kw_only=True)
class Kept:
    """One object: its fields, who owns which, and what controllers say of it."""

    uid: str
    fields: dict[Path, Any] = attrs.field(factory=dict)
    owners: dict[Path, set[str]] = attrs.field(factory=dict)
    status: Json = attrs.field(factory=dict)
    version: int = 0
    deleted: bool = False


@attrs.define(kw_only=True)
class FakeCluster(kmock.KubernetesScaffold):
    """See the module. `kubelet` false: pods are made and never become ready; `away`: the API answers 503 to all."""

    kubelet: bool = True
    away: bool = False
    objects: dict[tuple[str, str], Kept] = attrs.field(factory=dict)
    _count: Iterator[int] = attrs.field(factory=lambda: itertools.count(1), init=False)
    _events: list[tuple[int, str, dict[str, str], Json]] = attrs.field(factory=list, init=False)
    _watches: list[tuple[str, dict[str, str], asyncio.Queue[Json | None]]] = attrs.field(factory=list, init=False)
    logs: dict[str, list[str]] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.fallback[kmock.action.LIST] << self._list
        self.fallback[kmock.action.WATCH] << self._watch
        self.fallback[kmock.action.FETCH] << self._fetch
        self.fallback[kmock.action.UPDATE] << self._apply
        self.fallback[kmock.action.DELETE] << self._delete

    async def _handle(self, request: kmock.Request) -> Any:
        if self.away:
            return await self._render_error(kmock.KubernetesError(status=503, reason="Away", message="is away"))
        return await super()._handle(request)

    # What tests do and look at.

    def get(self, kind: str, name: str) -> Json:
        return self._shown(kind, name)

    def names(self, kind: str) -> list[str]:
        return sorted(name for found, name in self.objects if found == kind)

    def edit(self, kind: str, name: str, path: Path, value: Any, manager: str = "kubectl-edit") -> None:
        """Somebody changes a field, as `kubectl edit` does: it is theirs then."""
        kept = self.objects[kind, name]
        self._set(kept, path, value)
        kept.owners[path] = {manager}
        self._tell("MODIFIED", kind, name)

    def put(self, kind: str, name: str, manifest: Json, manager: str = "helm") -> None:
        """An object of somebody else's."""
        kept = self.objects[kind, name] = Kept(uid=f"uid-{next(self._count)}")
        kept.fields = dict(flat(manifest))
        kept.owners = {path: {manager} for path in kept.fields}
        self._tell("ADDED", kind, name)

    def cut_watches(self, error: int | None = None) -> None:
        """Watches end now: in order, or with an error as the API says it."""
        for _, _, queue in self._watches:
            if error is not None:
                status = {"kind": "Status", "apiVersion": "v1", "code": error, "status": "Failure", "message": "gone"}
                queue.put_nowait({"type": "ERROR", "object": status})
            queue.put_nowait(None)

    def settle(self) -> None:
        """Controllers and kubelets look at everything once."""
        deployments = {name for kind, name in self.objects if kind == "Deployment"}
        for kind, name in list(self.objects):
            if kind == "Pod" and self.objects[kind, name].status.get("of") not in deployments:
                self._remove("Pod", name)
        for name in sorted(deployments):
            self._settle_one(name)
        for name in self.names("Service"):
            self._settle_endpoints(name)
        for name in self.names("EndpointSlice"):
            if ("Service", name.removesuffix("-slice")) not in self.objects:
                self._remove("EndpointSlice", name)

    def pods(self, name: str = "") -> list[str]:
        """Pods, or those of one Pegboard server."""
        found = self.names("Pod")
        return [each for each in found if not name or self._labels("Pod", each).get(SERVER) == name]

    def end_container(self, pod: str, reason: str = "Error", code: int = 1, message: str = "") -> None:
        """The server's container ends, and the kubelet starts it again."""
        kept = self.objects["Pod", pod]
        container = kept.status["containerStatuses"][0]
        container["lastState"] = {"terminated": {"reason": reason, "exitCode": code, "message": message}}
        container["restartCount"] += 1
        container["state"] = {"running": {"startedAt": "2026-11-26T10:00:05Z"}}
        self._tell("MODIFIED", "Pod", pod)

    def say(self, pod: str, **status: Any) -> None:
        """What the kubelet says of a pod."""
        self.objects["Pod", pod].status |= status
        self._tell("MODIFIED", "Pod", pod)

    # The controllers.

    def _settle_one(self, name: str) -> None:
        deployment = self._shown("Deployment", name)
        scaler = self.objects.get(("HorizontalPodAutoscaler", name))
        wanted = deployment["spec"]["replicas"]
        if scaler is not None:
            bounds = whole(scaler.fields)["spec"]
            if (scaled := min(max(wanted, bounds["minReplicas"]), bounds["maxReplicas"])) != wanted:
                wanted = scaled
                self.edit("Deployment", name, ("spec", "replicas"), scaled, manager="kube-controller-manager")
        have = [each for each in self.names("Pod") if self.objects["Pod", each].status.get("of") == name]
        for each in have[wanted:]:
            self._remove("Pod", each)
        for _ in range(wanted - len(have)):
            self._make_pod(name, deployment["spec"]["template"])

    def _make_pod(self, deployment: str, template: Json) -> None:
        number = next(self._count)
        name = f"{deployment}-{number:05d}"
        metadata = {"name": name, "labels": template["metadata"]["labels"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        assert not (wrong := faults({**pod, "metadata": {**metadata, "namespace": "x"}})), wrong
        kept = self.objects["Pod", name] = Kept(uid=f"uid-{number}")
        kept.fields = dict(flat(pod))
        ready = "True" if self.kubelet else "False"
        state = (
            {"running": {"startedAt": "2026-11-26T10:00:00Z"}}
            if self.kubelet
            else {"waiting": {"reason": "PodInitializing"}}
        )
        kept.status = {
            "of": deployment,
            "phase": "Running" if self.kubelet else "Pending",
            "podIP": f"10.0.{number // 250}.{number % 250 + 1}",
            "startTime": "2026-11-26T10:00:00Z",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{"name": "server", "restartCount": 0, "state": state, "lastState": {}}],
        }
        self._tell("ADDED", "Pod", name)

    def _settle_endpoints(self, service: str) -> None:
        selector = self._shown("Service", service)["spec"]["selector"]
        endpoints = []
        for pod in self.names("Pod"):
            if selector.items() <= self._labels("Pod", pod).items():
                status = self.objects["Pod", pod].status
                ready = any(each == {"type": "Ready", "status": "True"} for each in status["conditions"])
                endpoints.append({"addresses": [status["podIP"]], "conditions": {"ready": ready}})
        name = f"{service}-slice"
        metadata = {"name": name, "labels": self._labels("Service", service)}
        made = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata}
        slice_ = {**made, "addressType": "IPv4", "endpoints": endpoints}
        there = self.objects.get(("EndpointSlice", name))
        if there is None or there.fields != dict(flat(slice_)):
            event = "MODIFIED" if there else "ADDED"
            kept = there or Kept(uid=f"uid-{next(self._count)}")
            kept.fields = dict(flat(slice_))
            self.objects["EndpointSlice", name] = kept
            self._tell(event, "EndpointSlice", name)

    # The API.

    async def _list(self, request: kmock.Request) -> Json:
        kind, labels = PLURALS[request.resource.plural], _selector(request)
        names = [name for name in self.names(kind) if labels.items() <= self._labels(kind, name).items()]
        items = [self._shown(kind, name) for name in names]
        return {"kind": f"{kind}List", "metadata": {"resourceVersion": str(next(self._count))}, "items": items}

    async def _watch(self, request: kmock.Request) -> AsyncIterator[Any]:
        queue: asyncio.Queue[Json | None] = asyncio.Queue()
        mine = (PLURALS[request.resource.plural], _selector(request), queue)
        self._watches.append(mine)
        since = int(request.params.get("resourceVersion") or 0)
        for version, kind, labels, event in self._events:
            if version > since and kind == mine[0] and mine[1].items() <= labels.items():
                queue.put_nowait(event)
        try:
            yield b""
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._watches.remove(mine)

    async def _fetch(self, request: kmock.Request) -> Any:
        if request.subresource == "log":
            return "\n".join(self.logs.get(request.name or "", [])).encode() + b"\n"
        return self._shown(PLURALS[request.resource.plural], request.name or "")

    async def _delete(self, request: kmock.Request) -> Json:
        kind, name = PLURALS[request.resource.plural], request.name or ""
        self._shown(kind, name)
        self._remove(kind, name)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    async def _apply(self, request: kmock.Request) -> Json:
        kind, name = PLURALS[request.resource.plural], request.name or ""
        assert request.headers["Content-Type"] == "application/apply-patch+yaml"
        manager, force = request.params["fieldManager"], request.params.get("force", "").lower() == "true"
        # What a manager applies may be a part; the whole must fit.
        if wrong := faults(request.data) if manager == MANAGER else []:
            raise kmock.KubernetesError(status=422, reason="Invalid", message="; ".join(wrong[:3]))
        if request.data["metadata"]["name"] != name or request.data["metadata"]["namespace"] != request.namespace:
            raise kmock.KubernetesError(status=400, reason="BadRequest", message="the name is another")
        there = (kind, name) in self.objects
        kept = self.objects.setdefault((kind, name), Kept(uid=f"uid-{next(self._count)}"))
        applied = dict(flat(request.data))
        others = {
            path: kept.owners.get(path, set()) - {manager}
            for path, value in applied.items()
            if path in kept.fields and kept.fields[path] != value
        }
        if not force and (causes := [_cause(path, who) for path, owners in others.items() for who in sorted(owners)]):
            details = {"causes": causes}
            raise kmock.KubernetesError(status=409, reason="Conflict", message="conflicts", details=details)
        before = (dict(kept.fields), copy.deepcopy(kept.owners))
        for path in [path for path, owners in kept.owners.items() if manager in owners and path not in applied]:
            kept.owners[path].discard(manager)
            if not kept.owners[path]:
                del kept.owners[path]
                kept.fields.pop(path, None)
        for path, value in applied.items():
            changed = kept.fields.get(path) != value
            self._set(kept, path, value)
            kept.owners[path] = {manager} if changed else kept.owners.get(path, set()) | {manager}
        if kind == "Deployment":
            kept.fields.setdefault(("spec", "replicas"), 1)  # the API's own default
        if before != (kept.fields, kept.owners):
            self._tell("MODIFIED" if there else "ADDED", kind, name)
        return self._shown(kind, name)

    def _set(self, kept: Kept, path: Path, value: Any) -> None:
        # A field that becomes a struct, or the other way, takes the place of what was there.
        for known in [
            each for each in kept.fields if each != path and (path == each[: len(path)] or each == path[: len(each)])
        ]:
            del kept.fields[known]
        kept.fields[path] = value

    def _shown(self, kind: str, name: str) -> Json:
        kept = self.objects.get((kind, name))
        if kept is None:
            raise kmock.KubernetesError(status=404, reason="NotFound", message=f"{kind} {name} not found")
        found = whole(kept.fields)
        managers = sorted({each for owners in kept.owners.values() for each in owners})
        found["metadata"] |= {
            "uid": kept.uid,
            "resourceVersion": str(kept.version),
            "creationTimestamp": "2026-11-26T10:00:00Z",
            "managedFields": [{"manager": each, "operation": "Apply"} for each in managers],
        }
        status = {name: value for name, value in kept.status.items() if name != "of"}
        return {**found, "status": status} if status else found

    def _labels(self, kind: str, name: str) -> dict[str, str]:
        return dict(self._shown(kind, name)["metadata"].get("labels") or {})

    def _remove(self, kind: str, name: str) -> None:
        self.objects[kind, name].version = next(self._count)
        shown = self._shown(kind, name)
        del self.objects[kind, name]
        self._send("DELETED", kind, shown)

    def _tell(self, event: str, kind: str, name: str) -> None:
        self.objects[kind, name].version = next(self._count)
        self._send(event, kind, self._shown(kind, name))

    def _send(self, event: str, kind: str, found: Json) -> None:
        labels = found["metadata"].get("labels") or {}
        self._events.append(
            (int(found["metadata"]["resourceVersion"]), kind, labels, {"type": event, "object": found})
        )
        for watched, wanted, queue in self._watches:
            if watched == kind and wanted.items() <= labels.items():
                queue.put_nowait({"type": event, "object": found})


def _cause(path: Path, manager: str) -> Json:
    words = f'conflict with "{manager}" using v1'
    return {"reason": "FieldManagerConflict", "message": words, "field": shown(path)}


def _selector(request: kmock.Request) -> dict[str, str]:
    text = request.params.get("labelSelector", "")
    return dict(part.split("=", 1) for part in text.split(",") if part)


__all__ = ["RELEASE", "FakeCluster"]
