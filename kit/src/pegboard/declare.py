"""Decorators that note facts about a tool's function and give the same function back.

Order does not matter: facts are kept on the function and read when the server is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pegboard.core.errors import DeclarationError

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__pegboard_facts__"


@dataclass(frozen=True, slots=True)
class Facts:
    """What decorators noted of one function."""

    policy: str | None = None
    minutes_saved: float = 0.0


def authorize_tool(*, policy: str) -> Callable[[F], F]:
    """Note which Cedar policy decides who may see and call the tool.

    Args:
        policy: name of a file in the project's `policies/`, without `.cedar`.

    Raises:
        DeclarationError: the function already names a policy. Two rules on one tool belong into one policy file.
    """

    def note(function: F) -> F:
        facts = facts_of(function)
        if facts.policy is not None:
            raise DeclarationError(f"{_name(function)} already names policy {facts.policy!r}; name one policy only")
        return _note(function, replace(facts, policy=policy))

    return note


def saves(*, minutes: float) -> Callable[[F], F]:
    """Note how many minutes of a person's work one successful call saves.

    Args:
        minutes: the owner's estimate, from feedback and from how the work was done before; zero or more.

    Raises:
        DeclarationError: the number is negative or not finite.
    """
    if not 0 <= minutes < float("inf"):
        raise DeclarationError(f"saves(minutes={minutes!r}): give zero or more minutes")

    def note(function: F) -> F:
        return _note(function, replace(facts_of(function), minutes_saved=float(minutes)))

    return note


def facts_of(function: Callable[..., Any]) -> Facts:
    """The facts noted so far; empty ones when no decorator has touched `function`."""
    facts: Facts = getattr(function, _ATTRIBUTE, Facts())
    return facts


def _note(function: F, facts: Facts) -> F:
    try:
        setattr(function, _ATTRIBUTE, facts)
    except AttributeError as error:
        raise DeclarationError(f"{_name(function)} cannot carry facts: decorate a plain function") from error
    return function


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
