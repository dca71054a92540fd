"""Decorators that note facts about a tool's function and give the same function back.

Order does not matter: facts are kept on the function and read when the server is built.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from pegboard.core.approval import CALLER, LONGEST_S, OWNER, SHORTEST_S, USUAL_S
from pegboard.core.errors import DeclarationError
from pegboard.core.names import NAME_PATTERN

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__pegboard_facts__"


LONGEST_WHY = 500
"""Characters of the reason that an author gives."""

LONGEST_QUESTION = 300
"""Characters of what an author asks a caller to confirm."""


@dataclass(frozen=True, slots=True)
class AskedApproval:
    """What `requires_approval` noted; `by` is None where the manifest's sensitivity decides."""

    by: str | None
    own: bool
    expires_s: int
    why: str
    when: Callable[..., Any] | None
    preview: Callable[..., Any] | None
    each: str | None


@dataclass(frozen=True, slots=True)
class AskedConfirmation:
    """What `confirm` noted."""

    question: str
    when: Callable[..., Any] | None
    preview: Callable[..., Any] | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What decorators noted of one function."""

    policy: str | None = None
    minutes_saved: float = 0.0
    approval: AskedApproval | None = None
    confirmation: AskedConfirmation | None = None


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


def requires_approval(
    *,
    by: str | None = None,
    when: Callable[..., Any] | None = None,
    preview: Callable[..., Any] | None = None,
    each: str | None = None,
    own: bool = False,
    expires: timedelta | float = USUAL_S,
    why: str = "",
) -> Callable[[F], F]:
    """Note that a person must say yes to exactly this call before the tool runs.

    The yes is given in a browser, by somebody who has just signed in, never by the agent that calls. It is bound to
    the person, the release, the tool, its policy and the arguments, and good for one run.

        @requires_approval(by="owner", when=lambda table: table in PROTECTED, preview=what_is_lost)

    `when` and `preview` take the tool's arguments by name, as many of them as they like, and a `Context` where one is
    annotated. They see the arguments as the tool would get them, and run again whenever the call is repeated, so they
    must change nothing. `when` is asked of every call: a plain function runs in the event loop and must be quick; one
    that looks something up is `async`. A plain `preview` runs in a thread. A `ToolError` of theirs is the tool's
    answer; any other error of theirs fails the call, and the tool does not run.

    Args:
        by: who decides: `"caller"`, the person whose call it is; `"owner"`, the team that owns the server; or the
            name of a business group. Unless given, the manifest's sensitivity decides: `caller` for public and
            internal data, `owner` for confidential and restricted.
        when: whether this call needs it; always unless given. It returns a bool, or a `Preview`, which means yes and
            is shown.
        preview: what whoever decides is shown beside the arguments: a `Preview`, or a text. They decide on the
            newest, so let it say the same while nothing has changed.
        each: the name of a list among the arguments, each element of which is approved by itself. The tool runs once,
            with those that were approved in their order, and the result says which were left out and why.
        own: whether people of the team or group may decide on what they asked for themselves.
        expires: how long a request waits for its decision and its run: a `timedelta`, or seconds; from one minute to
            seven days.
        why: what callers and deciders are told of the reason, at most 500 characters.

    Raises:
        DeclarationError: the function asks for an approval already, or an argument is impossible.
    """
    seconds = expires.total_seconds() if isinstance(expires, timedelta) else float(expires)
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise DeclarationError(
            f"requires_approval(expires={expires!r}): give {SHORTEST_S} seconds to {LONGEST_S // 86_400} days"
        )
    if by is not None and by not in (CALLER, OWNER) and not re.fullmatch(NAME_PATTERN, by):
        raise DeclarationError(
            f"requires_approval(by={by!r}): give 'caller', 'owner' or the name of a business group"
        )
    if len(why) > LONGEST_WHY:
        raise DeclarationError(f"requires_approval(why=…): say it in at most {LONGEST_WHY} characters")

    def note(function: F) -> F:
        facts = facts_of(function)
        if facts.approval is not None:
            raise DeclarationError(f"{_name(function)} already requires an approval; say it once, with all of it")
        asked = AskedApproval(by, own, int(seconds), why, when, preview, each)
        return _note(function, replace(facts, approval=asked))

    return note


def confirm(
    question: str, *, when: Callable[..., Any] | None = None, preview: Callable[..., Any] | None = None
) -> Callable[[F], F]:
    """Note that whoever calls confirms the call before the tool runs.

    The caller's client shows a form where it can, in both eras of MCP; else the person confirms on a page. A client
    may answer by itself, so this keeps from mistakes and not from an agent's will: for that there is
    `requires_approval`. Where a call needs an approval, that takes the confirmation's place.

        @confirm("Overwrite {table}?", preview=rows_that_go)

    Args:
        question: with the tool's arguments in braces by name; their values are quoted and cut. At most 300
            characters.
        when: whether this call needs it, as for `requires_approval`; always unless given.
        preview: what the person is shown with the question: a `Preview`, or a text.

    Raises:
        DeclarationError: the function asks for a confirmation already, or the question is empty or too long.
    """
    if not question.strip() or len(question) > LONGEST_QUESTION:
        raise DeclarationError(f"confirm({question[:40]!r}): ask in 1 to {LONGEST_QUESTION} characters")

    def note(function: F) -> F:
        facts = facts_of(function)
        if facts.confirmation is not None:
            raise DeclarationError(f"{_name(function)} already asks for a confirmation; ask once")
        return _note(function, replace(facts, confirmation=AskedConfirmation(question, when, preview)))

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
