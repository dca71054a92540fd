"""Asking what may not answer for a while, as a hub or an edge that starts again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pegboard.cli import render
from pegboard.cli.exit import Failure
from pegboard.cli.text import line

T = TypeVar("T")

PASSING = frozenset({"unreachable", "not_pegboard", "server_unavailable", "storage_unavailable", "hub_unavailable"})
"""Refusals that are none: the same is asked again."""


class Patiently:
    """Asks the same again and again; that nobody answers is said once, until somebody does."""

    def __init__(self) -> None:
        self._away = False

    def ask(self, question: Callable[[], T]) -> T | None:
        """What is answered; None while nobody does.

        Raises:
            Failure: it is refused.
        """
        try:
            answer = question()
        except Failure as failure:
            if failure.error["code"] not in PASSING:
                raise
            if not self._away:
                render.hint(f"{line(failure.error['message'])} Still waiting.")
            self._away = True
            return None
        self._away = False
        return answer
