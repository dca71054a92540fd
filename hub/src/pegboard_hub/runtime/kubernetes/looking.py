"""What a cluster shows of a release, in the hub's words: its pods and the endpoints of its Service say it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from pegboard.core.manifest import Resources
from pegboard.core.publishing import Trouble
from pegboard_hub.publishing.orders import ObservedRelease, Replica
from pegboard_hub.runtime.kubernetes.objects import Json
from pegboard_hub.runtime.kubernetes.pod import MTLS_PORT

State = Literal["starting", "ready", "asleep", "failing", "stopping"]
Step = Literal["fetching", "installing", "starting", "running", "stopping", "failed"]

LONGEST: Final = 500
"""Characters of what a container said at its end; it is its author's word."""

WAITING: Final[Mapping[str, tuple[str, str]]] = {
    "ImagePullBackOff": ("its image cannot be pulled", "see that the registry has it, and that the cluster may pull"),
    "ErrImagePull": ("its image cannot be pulled", "see that the registry has it, and that the cluster may pull"),
    "InvalidImageName": ("its image has no name that can be one", "have the operator mend the image"),
    "CreateContainerConfigError": (
        "its configuration is not whole: a secret that its manifest names is not in the cluster",
        "have the operator put it into the server's Secret",
    ),
    "CreateContainerError": ("its container cannot be made", "have the operator look at the pod"),
    "RunContainerError": ("its container cannot be started", "have the operator look at the pod"),
}
"""Why a container waits for something that will not come by waiting, in words, and what to do."""


def observe(
    server: str, release: str, spiffe_id: str, resources: Resources, found: Mapping[str, Iterable[Json]]
) -> ObservedRelease:
    """How one release does.

    Args:
        server: `namespace/name`.
        release: digest of the release.
        spiffe_id: who its pods must be.
        resources: what one may use, for the words where it used more.
        found: its `Pod`s, `EndpointSlice`s and `Deployment`, by kind.
    """
    pods, slices = list(found.get("Pod", ())), list(found.get("EndpointSlice", ()))
    serving = _serving(slices)
    replicas = tuple(_replica(pod, serving, spiffe_id, resources) for pod in sorted(pods, key=_name))
    trouble = _trouble(pods, list(found.get("Deployment", ())))
    step = _step(pods, replicas, trouble)
    return ObservedRelease(server=server, release=release, step=step, replicas=replicas, trouble=trouble)


def _replica(pod: Json, serving: Mapping[str, bool], spiffe_id: str, resources: Resources) -> Replica:
    status = pod.get("status", {})
    container = _container(status)
    address = status.get("podIP") or ""
    state = _state(pod, container, serving.get(address, False))
    return Replica(
        id=_name(pod),
        address=_address(spiffe_id, address) if address else "",
        state=state,
        restarts=int(container.get("restartCount") or 0),
        started_at_ms=_started(container) or _milliseconds(status.get("startTime")),
        last_failure=_last_failure(status, container, resources),
    )


def _address(spiffe_id: str, address: str) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{spiffe_id}@{host}:{MTLS_PORT}"


def _state(pod: Json, container: Json, serving: bool) -> State:
    if pod.get("metadata", {}).get("deletionTimestamp"):
        return "stopping"
    if pod.get("status", {}).get("phase") == "Failed" or _waits_in_vain(pod):
        return "failing"
    if _condition(pod, "Ready") and serving:
        return "ready"
    waiting = container.get("state", {}).get("waiting", {}).get("reason")
    return "failing" if waiting == "CrashLoopBackOff" or _ends_again(container) else "starting"


def _ends_again(container: Json) -> bool:
    return bool(container.get("restartCount")) and "terminated" in container.get("state", {})


def _serving(slices: Iterable[Json]) -> dict[str, bool]:
    """Which addresses the cluster's endpoints send to. What is not said counts as ready (EndpointSlice)."""
    found: dict[str, bool] = {}
    for each in slices:
        for endpoint in each.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            ready = conditions.get("ready") is not False and not conditions.get("terminating")
            for address in endpoint.get("addresses") or ():
                found[address] = found.get(address, False) or ready
    return found


def _step(pods: list[Json], replicas: tuple[Replica, ...], trouble: Trouble | None) -> Step:
    states = {each.state for each in replicas}
    if "ready" in states:
        return "running"
    if trouble is not None:
        return "failed"
    if states == {"stopping"}:
        return "stopping"
    pulling = [each for pod in pods for each in _init(pod) if each.get("name") == "pull"]
    if any("running" in each.get("state", {}) for each in pulling):
        return "installing"
    ended = [each for each in pulling if "terminated" in each.get("state", {})]
    return "starting" if ended else "fetching"


def _trouble(pods: list[Json], deployments: list[Json]) -> Trouble | None:
    """Why it does not come up, where waiting does not help; None while any replica of it serves."""
    if any(_condition(pod, "Ready") for pod in pods):
        return None
    for pod in pods:
        if waits := _waits_in_vain(pod):
            return Trouble(step="starting", what=waits[0], mend=waits[1])
    for deployment in deployments:
        for condition in deployment.get("status", {}).get("conditions") or ():
            if condition.get("reason") == "ProgressDeadlineExceeded":
                return _out_of_time(pods)
            if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
                words = f"the cluster makes no pod for it: {_short(condition.get('message'))}"
                return Trouble(step="starting", what=words, mend="have the operator look at the namespace's quota")
    return None


def _out_of_time(pods: list[Json]) -> Trouble:
    for pod in pods:
        conditions: list[Json] = pod.get("status", {}).get("conditions") or []
        scheduled = next((each for each in conditions if each.get("type") == "PodScheduled"), {})
        if scheduled.get("status") == "False":
            words = f"no node has room for it: {_short(scheduled.get('message'))}"
            return Trouble(step="starting", what=words, mend="ask for less in pegboard.toml, or have room made")
    for pod in pods:
        container = _container(pod.get("status", {}))
        if words := _ended(
            container.get("lastState", {}).get("terminated") or container.get("state", {}).get("terminated"), None
        ):
            return Trouble(step="starting", what=f"it does not stay up: {words}", mend="see its log")
    return Trouble(step="starting", what="it did not come up within five minutes", mend="see its log")


def _waits_in_vain(pod: Json) -> tuple[str, str] | None:
    status = pod.get("status", {})
    for each in _init(pod):
        last = each.get("state", {}).get("terminated") or each.get("lastState", {}).get("terminated") or {}
        if each.get("name") == "pull" and last.get("exitCode"):
            return f"it could not be fetched and installed: {_short(last.get('message'))}", "see what it says"
    for each in (*_init(pod), *(status.get("containerStatuses") or ())):
        reason = each.get("state", {}).get("waiting", {}).get("reason")
        if reason in WAITING:
            return WAITING[reason]
    return None


def _last_failure(status: Json, container: Json, resources: Resources) -> str:
    if status.get("phase") == "Failed" and status.get("reason") == "Evicted":
        said = _short(status.get("message"))
        # Of others, as of a node that is full, the kubelet's words have neither.
        if "ephemeral" in said or "EmptyDir" in said:
            limit = f"{resources.disk_mb} MiB (resources.disk_mb)"
            return f"was ended: it has more on the disk than its limit of {limit} allows: {said}"
        return f"was evicted: {said}"
    return _ended(container.get("lastState", {}).get("terminated"), resources)


def _ended(last: Json | None, resources: Resources | None) -> str:
    if not last:
        return ""
    if last.get("reason") == "OOMKilled":
        limit = f" of {resources.memory_mb} MiB" if resources else ""
        return f"was ended: it used more memory than its limit{limit}"
    said = f": {_short(last['message'])}" if last.get("message") else ""
    if signal := last.get("signal"):
        return f"ended by signal {signal}{said}"
    return f"ended with status {last.get('exitCode', 0)}{said}"


def _short(text: Any) -> str:
    """Somebody's words on one line, without what moves a cursor, and not for ever."""
    line = " ".join(str(text or "").split())
    return "".join(each for each in line if each.isprintable())[-LONGEST:] or "nothing is said"


def _container(status: Json) -> Json:
    return next((each for each in status.get("containerStatuses") or () if each.get("name") == "server"), {})


def _init(pod: Json) -> list[Json]:
    return list(pod.get("status", {}).get("initContainerStatuses") or ())


def _condition(pod: Json, name: str) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each.get("type") == name and each.get("status") == "True" for each in conditions)


def _name(pod: Json) -> str:
    return str(pod.get("metadata", {}).get("name", ""))


def _started(container: Json) -> int | None:
    return _milliseconds(container.get("state", {}).get("running", {}).get("startedAt"))


def _milliseconds(text: Any) -> int | None:
    try:
        return int(datetime.fromisoformat(str(text)).timestamp() * 1000)
    except ValueError:
        return None


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)
