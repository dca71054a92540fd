"""How a server is doing, as pages show it (`templates/health.html`)."""

from __future__ import annotations

from dataclasses import dataclass

from pegboard_hub.health.store import Entry
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.status import Health, ServerState
from pegboard_hub.web.parts import Parts

SHOWN = 10
"""Transitions that a server's page shows."""

WORDS: dict[str, str] = {"not started": "starting soon"}
"""States that are called otherwise on pages; all others by their own name."""


@dataclass(frozen=True, slots=True)
class HealthView:
    """One server's health. Times are milliseconds since the epoch; None where nobody says.

    Attributes:
        word: the state, as pages call it.
        why: why it is not live; empty when it is.
        checked_at_ms: when the prober last looked at it.
        history: its last transitions, newest first; left empty where they are not shown.
    """

    state: ServerState
    word: str
    since_ms: int | None
    why: str
    checked_at_ms: int | None
    history: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, health: Health, history: tuple[Entry, ...] = ()) -> HealthView:
        """What a page shows of `health`."""
        word = WORDS.get(health.state, health.state)
        return cls(health.state, word, health.since_ms, health.why, health.checked_at_ms, history)


async def health_view_of_one(parts: Parts, server: RegisteredServer) -> HealthView:
    """One server, with its last transitions."""
    history = await parts.health.history(str(server.name), None, SHOWN)
    return HealthView.of(parts.status.read().standing(server), tuple(history))
