"""What a deployment's page says: how it stands, a sentence each, and what each switch will do before it is thrown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, get_args

from pegboard.core.publishing import State
from pegboard.core.text import sentence
from pegboard_hub.publishing.rollout import Stage
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.registry.model import Lifecycle
from pegboard_hub.web.deployments_view import Action, DeployedRelease, DeploymentDetail
from pegboard_hub.web.pages.frame import moment

_HEADLINES: Final = {
    Stage.SETTLED: "Nothing is deployed yet",
    Stage.STARTING: "A release comes up",
    Stage.STEPPING: "A release takes its first callers",
    Stage.WATCHING: "A release takes all calls, and is watched",
}

_TRIED: Final = frozenset({State.SUPERSEDED, State.ROLLED_BACK, State.FAILED})
"""States of submissions that can be gone back to by name, where they got as far as a release."""

_ENDED: Final = frozenset({State.FAILED, State.ROLLED_BACK})


class Offer(NamedTuple):
    """A switch that whoever is signed in may throw now.

    Attributes:
        action: its word in the address.
        will: what happens then, in full sentences.
        no: whether it takes something away.
    """

    action: str
    title: str
    will: str
    button: str
    no: bool = False


class Choice(NamedTuple):
    """A release that can be gone back to by name."""

    release: str
    words: str


def headline(detail: DeploymentDetail) -> tuple[str, str]:
    """Tone and words of what stands first."""
    if retired(detail):
        return "denied", "It is retired: nothing of it runs"
    if unwell(detail):
        return "denied", f"Release {named(detail.live)} has all calls, and does not answer"
    if detail.paused:
        return "open", "It is paused"
    if detail.stage is Stage.SETTLED and detail.live is not None:
        return "allowed", f"Release {named(detail.live)} takes all calls"
    if detail.stage is Stage.STARTING and detail.going_back:
        return "open", "It goes back: the last release comes up"
    return "open", _HEADLINES[detail.stage]


def retired(detail: DeploymentDetail) -> bool:
    """Whether its server was retired: what was live then is kept, and runs no more."""
    return detail.lifecycle == Lifecycle.RETIRED


def unwell(detail: DeploymentDetail) -> bool:
    """Whether nothing of the live release answers, as its runtime says, and something of it fails."""
    if detail.live is None or detail.stage not in (Stage.SETTLED, Stage.WATCHING):
        return False
    states = {each.state for each in detail.replicas if each.role == "live"}
    return not states & {"ready", "asleep"} and ("failing" in states or bool(detail.live.trouble))


def lines(detail: DeploymentDetail) -> Iterator[str]:
    """What is so now, a sentence each."""
    if retired(detail):
        yield "Should it be brought back, the release that was live takes the calls again."
        return
    if unwell(detail) and detail.live is not None:
        yield (
            sentence(detail.live.trouble)
            if detail.live.trouble
            else "What its replicas say is below, and in its logs."
        )
    if detail.paused:
        yield f"Why: {sentence(detail.paused_why)}"
    if detail.going_back:
        yield f"It goes back because {sentence(detail.going_back)}"
    yield from _of_stage(detail)


def _of_stage(detail: DeploymentDetail) -> Iterator[str]:
    candidate, until = detail.candidate, moment(detail.until) if detail.until is not None else ""
    match detail.stage:
        case Stage.STARTING if candidate is not None:
            of = f"{candidate.ready} of {candidate.wanted} replicas are ready"
            yield f"{of}; until they are, nothing changes for anybody."
            if until and not detail.paused:
                rest = "the live release goes on" if detail.live else "nothing serves yet"
                yield f"If they are not by {until}, it fails, and {rest}."
        case Stage.STEPPING:
            yield f"{detail.percent} percent of the callers have it, and keep it; the others have the live release."
            if until and not detail.paused:
                yield f"The next step is at {until}."
        case Stage.WATCHING if until:
            yield f"The last release stays warm until {until}, and takes the calls back if this one does worse."
        case Stage.SETTLED if detail.live is None:
            yield "The first release takes the calls as soon as it is approved and its replicas answer."
        case _:
            pass


def last_trouble(detail: DeploymentDetail, listed: Sequence[Submission]) -> Submission | None:
    """The newest submission, where it came to nothing and nothing newer is on its way."""
    newest = listed[0] if listed else None
    if newest is None or newest.state not in _ENDED or detail.candidate is not None or retired(detail):
        return None
    return newest


def choices(listed: Sequence[Submission], versions: dict[str, str]) -> tuple[Choice, ...]:
    """Releases that can be gone back to by name, newest first, each once."""
    found: dict[str, Choice] = {}
    for each in listed:
        if each.release is not None and each.state in _TRIED:
            said = f"{each.state.value}, submitted {moment(each.created_at_ms)}"
            found.setdefault(each.release, Choice(versions.get(each.release) or each.release[:12], said))
    return tuple(found.values())


def offers(detail: DeploymentDetail, tried: Sequence[Choice]) -> Iterator[Offer]:
    """The switches that do something now, each with what it will do."""
    if retired(detail):
        return
    known = get_args(Action)
    yield from (each for each in _all(detail, tried) if each.action in known)


def _all(detail: DeploymentDetail, tried: Sequence[Choice]) -> Iterator[Offer]:
    live, candidate, previous = detail.live, detail.candidate, detail.previous
    if candidate is not None or (live is not None and (previous is not None or tried)):
        yield Offer("rollback", "Go back", _back(detail), "Go back", no=True)
    if detail.stage is not Stage.SETTLED and not detail.paused:
        yield Offer("promote", "Go on without waiting", _on(detail), "Go on")
    if detail.paused:
        will = "It goes on from where it was held; a watch that ran out meanwhile ends at once."
        yield Offer("resume", "Let it go on", will, "Resume")
    elif live is not None or candidate is not None:
        will = "Nothing new starts, no step is taken and no watch ends. What is worse still goes back by itself."
        yield Offer("pause", "Hold it", will, "Pause")
    if live is not None:
        yield Offer("scale", "Replicas", _scale(detail), "Keep it so")
        will = (
            f"New replicas of {named(live)} come up with the secrets as they are now, and take the calls when they "
            "answer; the old ones finish what they began. Nobody notices."
        )
        yield Offer("restart", "Start it again", will, "Start it again")


def _back(detail: DeploymentDetail) -> str:
    live, candidate, previous = detail.live, detail.candidate, detail.previous
    if candidate is not None:
        rest = f"{named(live)} goes on with all calls" if live else "nothing serves until another release does"
        return f"{named(candidate)} is given up, and ends as rolled back; {rest}. Calls under way finish."
    ends = f"{named(live)} ends as rolled back, and is not tried again by itself. Calls under way finish."
    if previous is None:
        return f"The release that you name is started, and takes all calls when it answers. {ends}"
    if detail.stage is Stage.WATCHING:
        return f"{named(previous)} takes all calls again within seconds: its replicas are warm. {ends}"
    return f"{named(previous)} is started first, and takes all calls when its replicas answer. {ends}"


def _on(detail: DeploymentDetail) -> str:
    if detail.stage is Stage.WATCHING:
        rest = f" {named(detail.previous)} is not kept warm any more." if detail.previous else ""
        return f"The watch ends now: what is worse does not go back by itself any more.{rest}"
    return (
        f"No more steps: {named(detail.candidate)} takes all calls, once its replicas are ready, and is watched then."
    )


def _scale(detail: DeploymentDetail) -> str:
    found = detail.scale
    if found is None:
        return ""
    says = f"; its manifest says {found.declared_min} to {found.declared_max}" if found.overridden else ""
    return (
        f"Now {found.min} to {found.max}{says or ', as its manifest says'}. They come and go within seconds, by the "
        "calls under way. Left empty, the manifest’s numbers hold."
    )


def named(release: DeployedRelease | None) -> str:
    """A release as people call it: its version, or how its digest begins."""
    return (release.version or release.release[:12]) if release else ""
