"""Step 6: did the people say yes who must? Until they have, the tool does not run.

What runs is what was shown: the arguments of a call that waits are read back from their canonical form. The
hub alone knows who said yes and claims it for this call; what a client answers opens nothing but a confirmation, and
what the caller brings back says only what was asked.

| the call waits for | the client                                    | it is answered with              |
|--------------------|-----------------------------------------------|----------------------------------|
| an approval        | opens pages (MCP 2026-07-28, URL elicitation) | the page, then is held open      |
| a confirmation     | fills forms, in either era                    | a form                           |
| either             | does neither, or put it off                   | a result that says how to go on  |
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from mcp.server.mcpserver.exceptions import ToolError

from pegboard.call.asking import Said, State, come_again, digest, fill_form, open_page
from pegboard.call.author import form_of, holds, preview_of
from pegboard.call.ports import Approvals
from pegboard.call.telling import asked_to_open, refusal_of
from pegboard.call.waiting import Go, Held, Wanted, as_result, claimed_in, code_of, held, ids_of, impossible, is_open
from pegboard.core.access import ServerAccess
from pegboard.core.approval import (
    CALLER,
    LONGEST_WAIT_S,
    MOST_ACTIONS,
    Action,
    Answer,
    Ask,
    Kind,
    Preview,
    Requirement,
    Unbindable,
    canonical_arguments,
)
from pegboard.core.approval import State as Stage
from pegboard.core.caller import Caller
from pegboard.core.errors import ApprovalImpossible, ApprovalsAway
from pegboard.core.required import effective_requirement
from pegboard.gates import Confirmation, Gate, shown

logger = logging.getLogger(__name__)

MOST_ROUNDS: Final = 6
"""How often a client is sent back to wait before it is told to come again by itself. Clients give up after ten."""

_ANSWER_S: Final = 5.0
"""Seconds before the end of the caller's token within which an answer must be on its way."""

_NO_GATE: Final = Gate()


class Approver:
    """Asks for the approvals and confirmations of one server."""

    def __init__(self, gates: Mapping[str, Gate], approvals: Approvals, process: str) -> None:
        """Prepare.

        Args:
            gates: what the code asks for, by tool.
            approvals: who knows whether people said yes.
            process: id of this server process; the hub remembers it with what is claimed.
        """
        self._gates = gates
        self._approvals = approvals
        self._process = process

    def concerns(self, tool: str, access: ServerAccess) -> bool:
        """Whether a call of this tool may have to wait."""
        return tool in self._gates or tool in access.approvals

    async def approve(self, wanted: Wanted) -> Go:
        """Let the call go on, if everybody who must has said yes to it.

        Raises:
            Held: somebody has not.
            ToolError: the arguments do not fit, or the author's own code refuses or fails.
            MCPError: the author's own code answers with a protocol error.
        """
        name = wanted.tool.name
        gate, registered = self._gates.get(name, _NO_GATE), wanted.access.approvals.get(name)
        if gate.idle and registered is None:
            return Go(wanted.arguments)
        fitted = wanted.invocation.fit(wanted.arguments)
        needed, said = await holds(gate.when, wanted, fitted) if gate.requirement else (False, None)
        requirement = effective_requirement(gate.requirement if needed else None, registered)
        if requirement is not None:
            return await self._approval(_canonical(wanted), gate, requirement, said)
        if gate.confirmation is not None:
            needed, said = await holds(gate.confirmation.when, wanted, fitted)
            if needed:
                return await self._confirmation(_canonical(wanted), gate, gate.confirmation, said)
        return Go(wanted.arguments)

    async def _approval(self, wanted: Wanted, gate: Gate, requirement: Requirement, said: Preview | None) -> Go:
        _hold_impossible(wanted, gate)
        elements = _elements(gate, wanted.arguments)
        each = [{**wanted.arguments, gate.each: [one]} for one in elements] or [wanted.arguments]
        actions = [Action(arguments=one, preview=await preview_of(gate.preview, wanted, one, said)) for one in each]
        ask = self._asked(wanted, "approval", requirement, actions)
        client = wanted.client
        if client.state is not None and client.opened == "no":
            answer = await self._put(wanted, ask, answered="no", about=client.state.ids)
            raise held(code_of(answer), wanted, answer)
        waits = client.state is not None and client.opened != "later"
        about = client.state.ids if client.state is not None else ()
        answer = await self._put(wanted, ask, wait_s=_wait(wanted.caller) if waits else 0, about=about)
        if answer.claimed:
            return _gone(wanted, gate, elements, answer)
        self._wait_for_page(wanted, answer)
        raise held(code_of(answer), wanted, answer)

    async def _confirmation(self, wanted: Wanted, gate: Gate, confirmation: Confirmation, said: Preview | None) -> Go:
        _hold_impossible(wanted, _NO_GATE)
        shown_first, words = await form_of(wanted, confirmation, said)
        ask = self._asked(wanted, "confirm", _BY_CALLER, [Action(arguments=wanted.arguments, preview=shown_first)])
        client = wanted.client
        answered: Said = client.filled(words)
        about = client.state.ids if client.state is not None else ()
        answer = await self._put_answered(wanted, ask, answered, about)
        if answered == "yes" and ids_of(answer) != about:
            answered = ""  # what was confirmed is over, and this is another request
        if not answer.claimed and answered == "" and is_open(answer) and client.forms:
            answered = await self._form(wanted, answer, words)
            if answered == "yes" and not await _still_asked(wanted, gate, confirmation, words):
                answered = "later"  # the person took their time, and it would do something else by now
            answer = await self._put_answered(wanted, ask, answered, ids_of(answer)) if answered else answer
        if answer.claimed and answered != "no":
            return _gone(wanted, _NO_GATE, (), answer)
        if not client.forms and answered != "later":
            self._wait_for_page(wanted, answer)
        raise held("confirmation_refused" if answered == "no" else code_of(answer), wanted, answer)

    async def _put_answered(self, wanted: Wanted, ask: Ask, answered: Said, about: tuple[str, ...]) -> Answer:
        if answered in ("yes", "no"):
            return await self._put(wanted, ask, answered=answered, about=about)
        # Without a form the person decides on the page, for which a client that opened it waits.
        waits = wanted.client.state is not None and not wanted.client.forms and wanted.client.opened != "later"
        return await self._put(wanted, ask, wait_s=_wait(wanted.caller) if waits else 0, about=about)

    async def _form(self, wanted: Wanted, answer: Answer, words: str) -> Said:
        """Ask for a form; in the newer era by the answer, which ends this call here."""
        client = wanted.client
        if client.fill is None:
            result = fill_form(words, State(ids_of(answer), digest(words)))
            raise held("approval_pending", wanted, answer, result)
        try:
            return await client.filled_now(words)
        except Exception as error:  # whatever it is: the page is there all the same
            logger.info("a client could not be asked for a confirmation: %s", type(error).__name__)
            return "later"

    def _wait_for_page(self, wanted: Wanted, answer: Answer) -> None:
        """Ask a client that opens pages to do so, or to come again while its person does.

        Raises:
            Held: with that answer.
        """
        client, ids = wanted.client, ids_of(answer)
        if not client.pages or not is_open(answer):
            return
        if client.state is None or client.state.ids != ids:
            message = asked_to_open(wanted.tool.name, wanted.access, answer)
            raise held("approval_pending", wanted, answer, open_page(message, answer.page, State(ids)))
        rounds = client.state.rounds + 1
        if client.opened != "later" and rounds < MOST_ROUNDS:
            raise held("approval_pending", wanted, answer, come_again(replace(client.state, rounds=rounds)))

    def _asked(self, wanted: Wanted, kind: Kind, requirement: Requirement, actions: Sequence[Action]) -> Ask:
        return Ask(
            token=wanted.token,
            tool=wanted.tool.name,
            kind=kind,
            requirement=requirement,
            policy=wanted.tool.policy.name,
            policy_version=wanted.tool.policy.version,
            actions=tuple(actions),
            call_id=wanted.call_id,
            process=self._process,
            request_id=wanted.request_id,
        )

    async def _put(self, wanted: Wanted, ask: Ask, **more: Any) -> Answer:
        """Ask the hub.

        Raises:
            Held: it does not answer, or not what was asked.
        """
        try:
            answer = await self._approvals.ask(ask.model_copy(update=more))
            if len(answer.actions) != len(ask.actions) or (answer.claimed and not claimed_in(answer)):
                raise ApprovalsAway("the answer is not for what was asked")
        except ApprovalImpossible as error:
            raise impossible(wanted, str(error)) from error
        except ApprovalsAway as error:
            logger.warning("a call waits for an approval that nobody can tell of: %s", error)
            refusal = refusal_of("approvals_unavailable", wanted.tool.name, wanted.access)
            raise Held(refusal, as_result(refusal), detail=str(error)) from error
        return answer


_BY_CALLER: Final = Requirement(by=CALLER, own=True)


async def _still_asked(wanted: Wanted, gate: Gate, confirmation: Confirmation, words: str) -> bool:
    """Whether a call that was held open for a form still is what the form said, and needs no more than it.

    In the newer era the call that brings the answer is looked at as any other. In the older one the answer comes into
    a call that was looked at before, and the client says how long ago that is.
    """
    fitted = wanted.invocation.fit(wanted.arguments)
    if gate.requirement and (await holds(gate.when, wanted, fitted))[0]:
        return False
    needed, said = await holds(confirmation.when, wanted, fitted)
    return needed and (await form_of(wanted, confirmation, said))[1] == words


def _canonical(wanted: Wanted) -> Wanted:
    """The call with its arguments as they are shown, bound, and run.

    Raises:
        Held: they cannot be bound.
        ToolError: the tool would get them otherwise than they are shown.
    """
    try:
        arguments, _ = canonical_arguments(wanted.arguments)
    except Unbindable as error:
        raise impossible(wanted, f"{str(error)[:1].upper()}{str(error)[1:]}.") from error
    wanted.invocation.check_shown(arguments)
    return replace(wanted, arguments=arguments)


def _gone(wanted: Wanted, gate: Gate, elements: Sequence[Any], answer: Answer) -> Go:
    """The call as it runs, with what was claimed for it."""
    if not elements:
        return Go(wanted.arguments, claimed_in(answer))
    pairs = list(zip(elements, answer.actions, strict=True))
    run = [element for element, told in pairs if told.state is Stage.CLAIMED]
    out = tuple((element, told) for element, told in pairs if told.state is not Stage.CLAIMED)
    return Go({**wanted.arguments, gate.each: run}, claimed_in(answer), out)


def _hold_impossible(wanted: Wanted, gate: Gate) -> None:
    """Hold a call to which nobody could ever say yes.

    Raises:
        Held: it is one.
    """
    if wanted.caller.sub_type == "service":
        raise impossible(wanted, "A service cannot wait for a person.")
    if gate.asks:
        raise impossible(wanted, "The tool asks its client for more while it runs, so it cannot wait before that.")


def _wait(caller: Caller) -> float:
    """How long the hub may hold an ask open, in seconds: an answer must leave before the caller's token ends."""
    return max(0.0, min(LONGEST_WAIT_S, caller.expires_at - time.time() - _ANSWER_S))


def _elements(gate: Gate, arguments: Mapping[str, Any]) -> list[Any]:
    """What is approved one by one; empty where the call is approved as a whole.

    Raises:
        ToolError: it is no list, empty, too long, or names something twice.
    """
    if not gate.each or arguments.get(gate.each) is None:
        return []
    elements = arguments[gate.each]
    if not isinstance(elements, list):
        raise ToolError(f"{gate.each}: Send it as a list, because each of its elements is approved by itself")
    if not elements:
        raise ToolError(f"{gate.each}: Name at least one, because each of its elements is approved by itself")
    if len(elements) > MOST_ACTIONS:
        raise ToolError(f"{gate.each}: Send at most {MOST_ACTIONS} at once, because people look at each of them")
    if twice := _twice(elements):
        raise ToolError(f"{gate.each}: It names {twice} twice")
    return elements


def _twice(elements: Iterable[Any]) -> str:
    seen: set[str] = set()
    for element in elements:
        _, known = canonical_arguments({"": element})
        if known in seen:
            return shown(element)
        seen.add(known)
    return ""
