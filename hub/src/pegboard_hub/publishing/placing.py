"""What edges and runtimes are told of a deployment: where its replicas answer, and what should run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from pydantic import ValidationError

from pegboard.core.address import UNIX
from pegboard.core.bundle import Endpoint
from pegboard.core.manifest import Replicas
from pegboard_hub.publishing.deployment_store import Deployable
from pegboard_hub.publishing.orders import Desired, DesiredRelease, DesiredServer, Replica, Role, Scale
from pegboard_hub.publishing.rollout import NOTHING, Deployment, Running, Stage

log = logging.getLogger(__name__)

FORGOTTEN_MS: Final = 5_000
"""Milliseconds before the end of what leaves in which no edge sends anything there any more."""

_ANSWER: Final = frozenset({"ready", "asleep"})
"""States of replicas that calls are sent to; one that is asleep wakes, and the call waits."""

Egress = Callable[[Deployable], tuple[str, ...]]
"""What is granted of the outside world to a release."""


def roles(deployment: Deployment) -> dict[str, tuple[Role, int]]:
    """What each submission runs for, and the percent of the callers that it has."""
    found: dict[str, tuple[Role, int]] = {}
    if deployment.leaving is not None:
        found[deployment.leaving] = (Role.DRAINING, 0)
    if deployment.stage is Stage.WATCHING and deployment.previous is not None:
        found[deployment.previous] = (Role.WARM, 0)
    if deployment.candidate is not None:
        found[deployment.candidate] = (Role.CANDIDATE, deployment.percent)
    if deployment.live is not None:
        found[deployment.live] = (Role.LIVE, 100 - deployment.percent)
    return found


def endpoints(
    deployment: Deployment,
    known: Mapping[str, Deployable],
    running: Mapping[str, Running],
    before: tuple[Endpoint, ...],
    now_ms: int,
) -> tuple[Endpoint, ...]:
    """Where edges send calls of a server.

    Before a first release takes calls, nowhere: a candidate that nobody should call is not named to edges alone.

    Where nothing of the live release answers, its replicas stay as they are known: a call that waits, or is refused
    by the one that should answer, says more than one that goes nowhere.

    Args:
        deployment: of the server.
        known: its submissions.
        running: what runs, by submission.
        before: what edges were told last.
        now_ms: the time. What leaves is taken away from edges a moment before it ends.
    """
    if deployment.live is None:
        return ()
    found: list[Endpoint] = []
    for submission, (role, percent) in roles(deployment).items():
        if submission not in known:
            continue
        if role is Role.DRAINING and now_ms >= (deployment.leaving_until_ms or 0) - FORGOTTEN_MS:
            continue
        release = known[submission].release
        seen = running.get(submission, NOTHING).replicas
        there = [each for each in seen if each.state in _ANSWER]
        if role is Role.LIVE and not there:
            there = [each for each in seen if each.address and each.state != "stopping"]
            if not there:
                found += [each.model_copy(update={"percent": percent}) for each in before if each.release == release]
        found += _told(there, release, percent)
    return _summing(_agreeing(sorted(found, key=lambda each: (-each.percent, each.release, each.address))))


def _told(replicas: list[Replica], release: str, percent: int) -> Iterator[Endpoint]:
    for each in replicas:
        try:
            yield Endpoint(address=each.address, release=release, percent=percent)
        except ValidationError:
            log.error("a replica is nowhere an edge could reach it", extra={"replica": each.id})


def _agreeing(found: list[Endpoint]) -> list[Endpoint]:
    """Those that can stand beside one another in a bundle: each address once, and all of the first one's kind.

    A bundle that cannot be made would be everybody's trouble: no stop would reach an edge any more, for what one
    runtime said of one server, or while a namespace goes from one runtime to another.
    """
    kept: dict[str, Endpoint] = {}
    for each in found:
        if each.address not in kept and each.address.startswith(UNIX) == found[0].address.startswith(UNIX):
            kept[each.address] = each
    return list(kept.values())


def _summing(found: list[Endpoint]) -> tuple[Endpoint, ...]:
    """Percents that sum to a hundred also where one of two releases has no replica just now."""
    shares = {each.release: each.percent for each in found if each.percent}
    if not shares or sum(shares.values()) == 100:
        return tuple(found)
    most = max(shares, key=lambda release: (shares[release], release))
    rest = 100 - sum(share for release, share in shares.items() if release != most)
    return tuple(each.model_copy(update={"percent": rest}) if each.release == most else each for each in found)


def scale(deployment: Deployment, declared: Replicas, role: Role, live_ready: int = 0) -> Scale:
    """How many replicas a release has, as its manifest says, or whoever looks after the server.

    Args:
        deployment: of the server.
        declared: as the manifest says.
        role: of the release.
        live_ready: replicas of the live release that answer now: a candidate must be able to do as much.
    """
    most = deployment.replicas_max if deployment.replicas_max is not None else declared.max
    least = deployment.replicas_min if deployment.replicas_min is not None else declared.min
    most = max(most, least, 1)
    if role is not Role.LIVE:
        least = max(least, 1)
    if role is Role.CANDIDATE:
        least = min(most, max(least, live_ready))
    return Scale(min=least, max=most, in_flight=declared.in_flight, idle_s=declared.idle_minutes * 60)


def desired_server(
    deployment: Deployment,
    known: Mapping[str, Deployable],
    running: Mapping[str, Running],
    egress: Egress,
    now_ms: int,
) -> DesiredServer | None:
    """What should run of one server; None: nothing."""
    live_ready = running.get(deployment.live or "", NOTHING).ready(now_ms)
    releases = tuple(
        DesiredRelease(
            release=known[submission].release,
            artifact=known[submission].artifact,
            declaration=known[submission].declaration,
            signature=known[submission].signature,
            role=role,
            scale=scale(deployment, known[submission].manifest.replicas, role, live_ready),
            egress=egress(known[submission]),
            turn=deployment.turn,
        )
        for submission, (role, _) in roles(deployment).items()
        if submission in known
    )
    return DesiredServer(server=deployment.server, releases=releases) if releases else None


def desired(servers: Mapping[str, DesiredServer]) -> Desired:
    """Everything that should run, with its version."""
    told = tuple(servers[name] for name in sorted(servers))
    digest = hashlib.sha256()
    for server in told:
        for each in server.releases:
            said = (
                server.server,
                each.release,
                each.role,
                each.scale.model_dump_json(),
                str(each.turn),
                *each.egress,
                each.signature,
            )
            digest.update("\0".join(said).encode() + b"\n")
    return Desired(version=digest.hexdigest()[:32], servers=told)
