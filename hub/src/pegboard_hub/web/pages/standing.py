"""How one server stands now, as every page shows it: its live state with since when and why, and what lasts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pegboard.core.text import sentence
from pegboard_hub.registry.model import REACHABLE, Lifecycle, RegisteredServer, day_of
from pegboard_hub.registry.reviews.granting import Unreached
from pegboard_hub.registry.reviews.model import TITLES, Review
from pegboard_hub.registry.status import RuntimeStatus
from pegboard_hub.web.pages.health_view import WORDS

UNWELL = frozenset({"down", "failed", "flapping"})
"""States of which whoever comes must know first."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a server stands.

    Attributes:
        state: its process's, or its lifecycle's where it cannot be called.
        since_ms: since when, in milliseconds since the epoch; None where nobody says.
        why: why it does not run as it should; empty where it does.
        checked_at_ms: when the prober last looked at it; None where it did not.
        restarts: of its process.
    """

    state: str
    since_ms: int | None = None
    why: str = ""
    checked_at_ms: int | None = None
    restarts: int = 0

    @property
    def word(self) -> str:
        """The state as pages call it."""
        return WORDS.get(self.state, self.state)

    @property
    def css(self) -> str:
        """The state as a class of the style sheet."""
        return self.state.replace(" ", "-")


class Banner(NamedTuple):
    """Something about a server that whoever uses it must know first.

    `kind` is the style sheet's, `href` where one goes on with it, by a link of the words `link`.
    """

    kind: str
    title: str
    text: str
    href: str = ""
    link: str = ""


def standing(status: RuntimeStatus, server: RegisteredServer, *, whole: bool = False) -> Standing:
    """How a server stands now.

    Args:
        status: of the instance.
        server: the server.
        whole: whether to say why its release cannot be deployed or started, in words that can name its tools and this
            machine's files.
    """
    if server.stopped:
        return Standing("stopped", why=server.stopped)
    health, fault = status.standing(server), status.faults.get(str(server.name), "")
    if health.state == "not deployed" and server.lifecycle not in (*REACHABLE, Lifecycle.APPROVED):
        return Standing(server.lifecycle.value)
    process = status.processes.get(str(server.name))
    why = fault if whole and health.state == "failed" and fault else health.why
    return Standing(health.state, health.since_ms, why, health.checked_at_ms, process.restarts if process else 0)


def banners(
    server: RegisteredServer,
    now: Standing,
    rejected: Iterable[Review] = (),
    closed: Unreached | None = None,
    ask: str = "",
    inside: str = "",
) -> Iterator[Banner]:
    """What must be known first.

    Args:
        server: whose page it is.
        now: how it stands.
        rejected: reviews of what it asks for now.
        closed: why nobody gets in.
        ask: where the one who looks asks for access to it; empty for those who may not.
        inside: where the one who looks sees how it runs; empty for those who may not.
    """
    if server.stopped:
        yield Banner("bad", "Stopped for everybody.", now.why)
    if now.state in UNWELL and now.why:
        yield Banner(
            "bad", "It does not run as it should.", sentence(now.why), inside, "See what runs" if inside else ""
        )
    if closed is not None:
        yield Banner("bad", "Nobody can reach it.", f"{closed.why} {closed.mend}", ask, "Ask for access")
    for review in rejected:
        title = f"Its {TITLES[review.kind]} review was rejected."
        text = "What it asks for stays out: its owners change that, or have it looked at again."
        yield Banner("bad", title, text, f"/reviews/{review.id}", "Look at the review")
    if said := _LIFECYCLES.get(server.lifecycle):
        kind, title, text = said
        words = (_said(server.lifecycle_why), text, _ending(server), _next_step(server))
        instead = server.successor if server.lifecycle in _ENDING else None
        onward = (f"/servers/{instead}", f"Look at {instead}") if instead else ("", "")
        yield Banner(kind, title, " ".join(filter(None, words)), *onward)
    if server.waiting is not None and server.lifecycle in REACHABLE:
        text = "The release before it goes on until then."
        yield Banner("warn", "A new release waits for reviews.", text)


def _said(why: str) -> str:
    return sentence(why) if why else ""


def _ending(server: RegisteredServer) -> str:
    """When a server that is deprecated closes, and what takes its place, also once it is closed."""
    if server.lifecycle not in _ENDING:
        return ""
    ends = server.ends_at_ms if server.lifecycle is Lifecycle.DEPRECATED else None
    day = f"It closes on {day_of(ends)} (UTC)." if ends is not None else ""
    named = server.successor is None or server.successor in server.lifecycle_why
    return " ".join(filter(None, (day, "" if named else f"Use {server.successor} instead.")))


def _next_step(server: RegisteredServer) -> str:
    """What somebody has to do next: the code of an approved draft is its owners' to submit."""
    if server.lifecycle is not Lifecycle.APPROVED or server.source or server.submitted:
        return ""
    return f"Next, its owners submit its code: pegboard submit --namespace {server.name.namespace}."


_ENDING = (Lifecycle.DEPRECATED, Lifecycle.RETIRED)

_LIFECYCLES = {
    Lifecycle.DRAFT: ("warn", "A draft.", "Nobody can call it, and few know of it."),
    Lifecycle.IN_REVIEW: ("warn", "In review.", "Nobody can call it before it is approved."),
    Lifecycle.APPROVED: ("warn", "Approved, and not deployed yet.", "It goes live once its release is deployed."),
    Lifecycle.DEPRECATED: ("warn", "Deprecated.", "It still answers: move on to another."),
    Lifecycle.RETIRED: ("bad", "Retired.", "Nobody can call it any more."),
}
