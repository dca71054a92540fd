"""How a server's deployment stands, in words for those who look at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pegboard_hub.publishing.deployment_store import Deployable
from pegboard_hub.publishing.rollout import FRESH_S, NOTHING, Deployment, Running, Stage
from pegboard_hub.publishing.watching import Compared
from pegboard_hub.registry.status import Health

SILENT_RUNTIME: Final = "its runtime does not report"
FAILING: Final = "its replicas end, or do not answer; those who look after it see why on its page"


@dataclass(frozen=True)
class Standing:
    """One deployment as people look at it.

    Attributes:
        known: its releases by submission.
        running: what runs, by submission.
        compared: of the watch window; None where nobody watches.
        calls_per_minute: of the server lately.
    """

    deployment: Deployment
    known: Mapping[str, Deployable]
    running: Mapping[str, Running]
    compared: Compared | None
    calls_per_minute: float


def under_way(now: Deployment) -> str:
    """What is on its way of a server, in words that follow its name; empty: nothing."""
    if now.paused:
        return f"is held where it is: {now.paused_why}"
    match now.stage:
        case Stage.STARTING if now.going_back:
            return f"goes back to the last release: {now.going_back}"
        case Stage.STARTING:
            return "has a release that comes up"
        case Stage.STEPPING:
            return f"has a release that {now.percent} percent of the callers meet"
        case Stage.WATCHING:
            return "has a new release that is watched"
        case Stage.SETTLED:
            return ""


def health_of(now: Deployment, running: Mapping[str, Running], now_ms: int) -> Health:
    """How a server does, in words that anybody may read."""
    if now.live is None:
        return Health("preparing" if now.candidate else "not deployed")
    found = running.get(now.live, NOTHING)
    states = {each.state for each in found.replicas}
    since = min((each.started_at_ms for each in found.replicas if each.started_at_ms), default=now.since_ms)
    if now_ms - found.heard_at_ms > FRESH_S * 1000:
        return Health("unknown", found.heard_at_ms or None, SILENT_RUNTIME)
    if states & {"ready", "asleep"}:
        return Health("live", since, "", found.heard_at_ms)
    if "failing" in states or found.trouble is not None:
        return Health("down", since, FAILING, found.heard_at_ms)
    return Health("starting", since, "", found.heard_at_ms)
