"""What an author's `requires_approval` and `confirm` come to, checked and ready to be asked before a call.

| manifest's sensitivity     | who approves where the code does not say |
|----------------------------|------------------------------------------|
| public, internal           | the caller                               |
| confidential, restricted   | the team that owns the server            |
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from string import Formatter
from typing import Any

import anyio.to_thread
from mcp.server.mcpserver.resolve import find_resolved_parameters, returns_input_required
from mcp.server.mcpserver.utilities.context_injection import find_context_parameter

from pegboard.core.approval import CALLER, OWNER, Requirement
from pegboard.core.manifest import Sensitivity
from pegboard.core.release import DeclaredApproval
from pegboard.core.text import plain
from pegboard.declare import AskedApproval, Facts

DEFAULT_BY: Mapping[Sensitivity, str] = {
    "public": CALLER,
    "internal": CALLER,
    "confidential": OWNER,
    "restricted": OWNER,
}

LONGEST_VALUE = 120
"""Characters of an argument within a question; all of it stands on the page."""


@dataclass(frozen=True, slots=True)
class Question:
    """An author's function that is asked about a call.

    Attributes:
        takes: names of the arguments that it wants; None: all of them.
        context: the parameter that gets the `Context`, if one does.
        threaded: whether it runs in a thread: a plain function that may take its time.
    """

    function: Callable[..., Any]
    takes: tuple[str, ...] | None
    context: str | None
    threaded: bool

    async def ask(self, arguments: Mapping[str, Any], context: object) -> Any:
        """What the function says of a call with these arguments.

        Raises:
            Exception: whatever the function raises.
        """
        given = dict(arguments) if self.takes is None else {n: arguments[n] for n in self.takes if n in arguments}
        if self.context is not None:
            given[self.context] = context
        if not self.threaded:
            said = self.function(**given)
        else:
            said = await anyio.to_thread.run_sync(partial(self.function, **given))
        return await said if inspect.isawaitable(said) else said


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a caller is asked to confirm."""

    question: str
    when: Question | None
    preview: Question | None

    def text(self, arguments: Mapping[str, Any]) -> str:
        """The question of a call with these arguments, as they were sent.

        Their values are quoted, so that where the author's words end can be seen.
        """
        return "".join(
            words + (shown(arguments.get(field)) if field is not None else "")
            for words, field, _, _ in Formatter().parse(self.question)
        )


@dataclass(frozen=True, slots=True)
class Gate:
    """What is asked before a tool runs.

    Attributes:
        requirement: of the approval; None where the code asks for none.
        each: the list whose elements are approved one by one; empty where there is none.
        asks: whether the tool itself asks its client for input. It cannot wait for a person before that.
    """

    requirement: Requirement | None = None
    when: Question | None = None
    preview: Question | None = None
    each: str = ""
    confirmation: Confirmation | None = None
    asks: bool = False

    @property
    def idle(self) -> bool:
        """Whether the code asks for nothing."""
        return self.requirement is None and self.confirmation is None


def gate_of(facts: Facts, function: Callable[..., Any], sensitivity: Sensitivity) -> Gate | None:
    """The gate of a tool without problems; None where nothing has to be known of it before a call."""
    asks = asks_client(function)
    if facts.approval is None and facts.confirmation is None and not asks:
        return None
    asked, confirmed = facts.approval, facts.confirmation
    return Gate(
        requirement=_requirement(asked, sensitivity) if asked else None,
        when=_question(asked.when) if asked else None,
        preview=_question(asked.preview, slow=True) if asked else None,
        each=(asked.each or "") if asked else "",
        confirmation=(
            Confirmation(confirmed.question, _question(confirmed.when), _question(confirmed.preview, slow=True))
            if confirmed
            else None
        ),
        asks=asks,
    )


def gate_problems(
    facts: Facts, function: Callable[..., Any], schema: Mapping[str, Any], *, destructive: bool
) -> Iterator[str]:
    """What is wrong with what a tool asks for, each in words that follow the tool's name."""
    known = schema.get("properties", {})
    asked, confirmed = facts.approval, facts.confirmation
    if destructive and asked is None and confirmed is None:
        yield "is destructive (destructive_hint) and asks nobody: add @confirm(…) or @requires_approval(…)"
    if (asked or confirmed) and asks_client(function):
        yield "asks its client itself (Resolve, InputRequiredResult), so it cannot wait for a person before: use one"
    if asked:
        yield from _unknown(asked.when, "requires_approval(when=…)", known)
        yield from _unknown(asked.preview, "requires_approval(preview=…)", known)
        if asked.each is not None and not _is_list(known.get(asked.each)):
            lists = ", ".join(name for name in known if _is_list(known[name])) or "none"
            yield f"requires_approval(each={asked.each!r}): name an argument that is a list; lists are {lists}"
    if confirmed:
        yield from _unknown(confirmed.when, "confirm(when=…)", known)
        yield from _unknown(confirmed.preview, "confirm(preview=…)", known)
        yield from _question_problems(confirmed.question, known)


def declared_approval(facts: Facts, sensitivity: Sensitivity) -> DeclaredApproval | None:
    """What a release says of the approval that its code asks for."""
    asked = facts.approval
    if asked is None:
        return None
    requirement = _requirement(asked, sensitivity)
    return DeclaredApproval(
        by=requirement.by,
        own=requirement.own,
        expires_s=requirement.expires_s,
        why=requirement.why,
        always=asked.when is None,
        each=asked.each or "",
    )


def asks_client(function: Callable[..., Any]) -> bool:
    """Whether a tool asks its client for input while it runs, in the form of MCP 2026-07-28."""
    return bool(find_resolved_parameters(function)) or returns_input_required(function)


def shown(value: Any) -> str:
    """An argument's value within a sentence of ours: as JSON, on one line, nothing hidden, and cut."""
    text = plain(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}… ({len(text)} characters)"


def _requirement(asked: AskedApproval, sensitivity: Sensitivity) -> Requirement:
    by = asked.by or DEFAULT_BY[sensitivity]
    return Requirement(by=by, own=asked.own or by == CALLER, expires_s=asked.expires_s, why=asked.why)


def _question(function: Callable[..., Any] | None, *, slow: bool = False) -> Question | None:
    """An author's function, to be asked. A plain `when` is asked of every call, and a thread would cost each."""
    if function is None:
        return None
    threaded = slow and not inspect.iscoroutinefunction(function)
    context = find_context_parameter(function)
    parameters = [each for each in inspect.signature(function).parameters.values() if each.name != context]
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return Question(function, None, context, threaded)
    return Question(function, tuple(each.name for each in parameters), context, threaded)


def _unknown(function: Callable[..., Any] | None, where: str, known: Collection[str]) -> Iterator[str]:
    """Parameters of an author's function that no argument of the tool fills."""
    if function is None:
        return
    context = find_context_parameter(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            yield f"{where}: take arguments by name, not {name!r} by position"
        elif parameter.kind is parameter.VAR_KEYWORD or name == context or name in known:
            continue
        elif parameter.default is parameter.empty:
            yield f"{where} takes {name!r}, which is no argument of the tool: it has {_names(known)}"


def _question_problems(question: str, known: Collection[str]) -> Iterator[str]:
    where = f"confirm({question[:40]!r})"
    try:
        fields = [part for part in Formatter().parse(question) if part[1] is not None]
    except ValueError as error:
        yield f"{where}: {error}; write a brace of the text twice"
        return
    for _, field, form, conversion in fields:
        if field not in known:
            yield f"{where} has {{{field}}}, which is no argument of the tool: it has {_names(known)}"
        elif form or conversion:
            yield f"{where}: write {{{field}}} plainly; values are quoted and cut by themselves"


def _is_list(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return False
    return schema.get("type") == "array" or any(_is_list(each) for each in schema.get("anyOf", ()))


def _names(known: Collection[str]) -> str:
    return ", ".join(sorted(known)) or "none"
