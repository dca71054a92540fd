"""The life of a request inside a server, in order.

    admit      authenticate → not revoked → identity headers agree → origin → gate   every request, before anything
    agree      the body has one meaning, and the headers share it                     every POST
    permit     no coarse rule refuses the method                                      every POST
    step up    the token's scope reaches the tool that is called                      every POST with a narrow token
    call       authorize → approve → intent → run → outcome                           every tool call

Each step knows nothing of the others; this file alone knows their order. Every refusal is recorded (`refusing`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import anyio
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError

from pegboard.call.agree import disagreement, refuse_ambiguous
from pegboard.call.approve import Approver
from pegboard.call.asking import Client
from pegboard.call.authenticate import (
    authenticate,
    bearer,
    foreign_origin,
    identity_mismatch,
    refuse_mismatch,
    refuse_origin,
    refuse_token,
)
from pegboard.call.authorize import Authorizer
from pegboard.call.measure import CallIds, Measure
from pegboard.call.ports import Invocation, Meter, Recorder, Standing, Standings, ToolResult
from pegboard.call.refusing import LONGEST_NAME, Refused, Refusing, no_standing, unrecorded
from pegboard.call.run import Run, run_tool
from pegboard.call.step_up import called_tool, read_message
from pegboard.call.telling import refusal_of
from pegboard.call.waiting import Go, Held, Wanted
from pegboard.core.access import decide_access, decide_method, may_reach
from pegboard.core.caller import Caller
from pegboard.core.decide import GovernedTool, insufficient_scope
from pegboard.core.errors import BundleRefused, StopsUnknown, TokenRefused
from pegboard.core.logs import annotated
from pegboard.core.methods import CALL
from pegboard.core.readiness import BUNDLE_UNUSABLE, STOPS_UNKNOWN
from pegboard.core.refusal import stops_unknown, tool_blocked
from pegboard.core.scopes import SCOPE_TOOLS, has_scope

logger = logging.getLogger(__name__)

Headers = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that passed the gate.

    Attributes:
        method: of MCP, where what it opens lasts and must end once a rule refuses the method.
        token: the caller's own, which says to the hub who asks for an approval. Never logged.
    """

    caller: Caller
    standing: Standing
    request_id: str
    trace_id: str
    method: str = ""
    token: str = field(default="", repr=False)


class Chain:
    """The steps of one server, in their order."""

    def __init__(
        self,
        tools: Mapping[str, GovernedTool],
        standings: Standings,
        recorder: Recorder,
        release: str,
        meter: Meter,
        approver: Approver,
        clock: Callable[[], float] = time.time,
        blocked: Callable[[str], str] = lambda _: "",
    ) -> None:
        """Put them together.

        Args:
            tools: by name, with their policies.
            standings: where grants and keys come from.
            recorder: where records go.
            release: digest that records carry.
            meter: counts.
            approver: asks people.
            clock: seconds since the epoch.
            blocked: why a tool is not called now, in words that follow its name; empty where it is.
        """
        self._standings = standings
        self._approver = approver
        self._authorizer = Authorizer(tools)
        self._measure = Measure(recorder, release, meter)
        self._refusing = Refusing(self._measure, meter)
        self._meter = meter
        self._clock = clock
        self._blocked = blocked

    def admit(self, headers: Headers, request_id: str, trace_id: str) -> Admitted:
        """Let a request in, or refuse it before anything is opened, listed or read.

        Raises:
            Refused: with the refusal to answer with.
        """
        with self._meter.step("admit"):
            return self._admit(headers, CallIds("", request_id, trace_id))

    def _admit(self, headers: Headers, ids: CallIds) -> Admitted:
        now = self._clock()
        standing = self._standing(now)
        try:
            caller = authenticate(headers, standing, now)
        except TokenRefused as error:
            raise self._refusing.deny(refuse_token(error.reason), 401, ids) from error
        if standing.revoked.voids(caller):
            raise self._refusing.deny(refuse_token("token_revoked"), 401, ids, caller=caller)
        if mismatch := identity_mismatch(headers, caller):
            refusal = refuse_mismatch(standing.access.ask)
            raise self._refusing.deny(refusal, 403, ids, caller=caller, detail=mismatch)
        if origin := foreign_origin(headers, standing.access):
            refusal = refuse_origin(standing.access.ask)
            raise self._refusing.deny(refusal, 403, ids, caller=caller, detail=f"origin {origin[:200]}")
        if not may_reach(caller, standing.access):
            gated = decide_access(caller, standing.access).refusal
            assert gated is not None  # noqa: S101 - the same table said no above
            raise self._refusing.deny(gated, 403, ids, caller=caller)
        return Admitted(caller, standing, ids.request_id, ids.trace_id, token=bearer(headers))

    def still_open(self, admitted: Admitted) -> bool:
        """Whether an admitted caller could come in now.

        What they opened must not outlive a grant, a sign-in, or the key that their token was signed with.
        """
        try:
            standing = self._standings.current(self._clock())
        except BundleRefused:
            return False
        caller, access = admitted.caller, standing.access
        return (
            may_reach(caller, access)
            and standing.tokens.believes(caller)
            and not standing.revoked.voids(caller)
            and decide_method(caller, access, admitted.method).allowed
        )

    def unready(self) -> str:
        """Why every request would be refused now, one of `core.readiness.UNREADY`; empty while they are not."""
        try:
            self._standings.current(self._clock())
        except StopsUnknown:
            return STOPS_UNKNOWN
        except BundleRefused:
            return BUNDLE_UNUSABLE
        return ""

    def agree(self, admitted: Admitted, headers: Headers, body: bytes) -> None:
        """Let a POST's body through if it can be read in one way only.

        Raises:
            Refused: it can be read in two.
        """
        with self._meter.step("agree"):
            found = disagreement(headers, body)
        if found:
            ids = CallIds("", admitted.request_id, admitted.trace_id)
            denied = self._refusing.deny(refuse_ambiguous(found.reason), 400, ids, caller=admitted.caller)
            raise Refused(denied.refusal, denied.status, found.message_id)

    def permit(self, admitted: Admitted, body: bytes) -> None:
        """Let a POST through unless a coarse rule refuses its method to this caller.

        Raises:
            Refused: one does.
        """
        access = admitted.standing.access
        if not access.rules.by_method or (message := read_message(body)) is None:
            return
        if refusal := decide_method(admitted.caller, access, message.method).refusal:
            ids = CallIds("", admitted.request_id, admitted.trace_id)
            denied = self._refusing.deny(
                refusal, 403, ids, caller=admitted.caller, detail=message.method[:LONGEST_NAME]
            )
            raise Refused(denied.refusal, denied.status, message.message_id)

    def step_up(self, admitted: Admitted, body: bytes) -> None:
        """Let a POST through unless it calls a tool for which its token may only look.

        A tool that the caller may not see goes on to be answered as one that does not exist.

        Raises:
            Refused: the caller may use the tool, with a token of more scope.
        """
        caller, standing = admitted.caller, admitted.standing
        if has_scope(caller.scope, SCOPE_TOOLS) or (called := called_tool(body)) is None:
            return
        if self._authorizer.too_narrow(caller, standing.access, standing.version, called.name):
            refusal = insufficient_scope(called.name, standing.access)
            ids = CallIds("", admitted.request_id, admitted.trace_id)
            governed = self._authorizer.tool(called.name)
            policy = governed.policy if governed else None
            denied = self._refusing.deny(refusal, 403, ids, caller=caller, tool=called.name, policy=policy)
            raise Refused(denied.refusal, denied.status, called.message_id)

    def visible(self, admitted: Admitted) -> set[str]:
        """Names of the tools to list for this caller."""
        return self._authorizer.visible(admitted.caller, admitted.standing.access, admitted.standing.version)

    async def call(
        self,
        admitted: Admitted,
        tool: str,
        arguments: dict[str, Any],
        invocation: Invocation,
        client: Client,
        *,
        protocol: str,
        trace_id: str,
    ) -> ToolResult:
        """Decide on a tool call, run it, and have both intent and outcome on disk before the answer leaves.

        A call that has to wait for a person is recorded as refused, and answered with how it goes on.

        Args:
            admitted: the request that it came with.
            tool: as the caller named it.
            arguments: as they were sent.
            invocation: runs it.
            client: the caller's, as far as it can be asked.
            protocol: the MCP revision spoken.
            trace_id: of the trace it belongs to.

        Raises:
            Refused: the tool is not there for this caller, or nothing can be recorded.
        """
        caller = admitted.caller
        facts = {"sub": caller.sub, "surface": caller.surface, "tool": tool[:LONGEST_NAME]}
        # Again, though the request was annotated: a legacy session runs calls in the task that opened it.
        with annotated(request_id=admitted.request_id, trace_id=trace_id, **facts):
            ids = CallIds(uuid4().hex, admitted.request_id, trace_id)
            governed = self._authorize(admitted, tool, arguments, ids)
            go, run = Go(arguments), _running(invocation, Go(arguments))
            if self._approver.concerns(governed.name, admitted.standing.access):
                try:
                    go = await self._approve(admitted, governed, arguments, invocation, client, ids)
                    run = _running(invocation, go)
                except Held as held:
                    return held.result
                except (ToolError, MCPError) as error:
                    run = _failing(error)
            return await self._run(admitted, governed, go, run, ids, protocol)

    async def _approve(
        self,
        admitted: Admitted,
        governed: GovernedTool,
        arguments: dict[str, Any],
        invocation: Invocation,
        client: Client,
        ids: CallIds,
    ) -> Go:
        """Let a call go on if everybody who must has said yes to it. From here on a yes may be claimed for it, so
        that it must be recorded how it ends, whatever happens.
        """
        caller, access = admitted.caller, admitted.standing.access
        facts: dict[str, Any] = {"caller": caller, "tool": governed.name, "policy": governed.policy}
        wanted = Wanted(
            caller, admitted.token, access, governed, arguments, invocation, client, ids.call_id, ids.request_id
        )
        try:
            with self._meter.step("approve"):
                go = await self._approver.approve(wanted)
        except Held as held:
            self._refusing.deny(held.refusal, 403, ids, **facts, detail=held.detail, approval=held.approval)
            raise
        except anyio.get_cancelled_exc_class():
            self._refusing.deny(refusal_of("caller_gone", governed.name, access), 403, ids, **facts)
            raise
        if go.approval:
            # With less than was asked for it is another call, too, on which the policy has not decided yet.
            self._authorize(self._still_admitted(admitted, ids, facts), governed.name, go.arguments, ids)
        return go

    def _still_admitted(self, admitted: Admitted, ids: CallIds, facts: Mapping[str, Any]) -> Admitted:
        """An admitted request as it is now: people took their time, and a stop may have come meanwhile.

        Raises:
            Refused: it would not come in any more.
        """
        try:
            standing = self._standing(self._clock())
        except Refused as refused:
            self._refusing.deny(refused.refusal, refused.status, ids, **facts)  # what was claimed for it did not run
            raise
        caller, access = admitted.caller, standing.access
        if standing.revoked.voids(caller) or not standing.tokens.believes(caller):
            raise self._refusing.deny(refuse_token("token_revoked"), 401, ids, **facts)
        if refusal := decide_access(caller, access).refusal or decide_method(caller, access, CALL).refusal:
            raise self._refusing.deny(refusal, 403, ids, **facts)
        return replace(admitted, standing=standing)

    def _authorize(self, admitted: Admitted, tool: str, arguments: dict[str, Any], ids: CallIds) -> GovernedTool:
        caller, standing = admitted.caller, admitted.standing
        with self._meter.step("authorize"):
            decision = self._authorizer.decide(caller, standing.access, standing.version, tool, arguments)
        governed = self._authorizer.tool(tool)
        refusal = decision.refusal
        if refusal is None and governed is not None:
            # Only here, past the policy: why it is blocked is not for those from whom it is hidden.
            if not (why := self._blocked(governed.name)):
                return governed
            refusal = tool_blocked(governed.name, why, standing.access.ask)
        assert refusal is not None  # noqa: S101 - an unknown tool always has one
        policy = governed.policy if governed else None
        raise self._refusing.deny(refusal, 403, ids, caller=caller, tool=tool, detail=decision.detail, policy=policy)

    async def _run(
        self,
        admitted: Admitted,
        governed: GovernedTool,
        go: Go,
        run: Run,
        ids: CallIds,
        protocol: str,
    ) -> ToolResult:
        caller, standing, tool = admitted.caller, admitted.standing, governed.name
        try:
            try:
                running = self._measure.begin(caller, governed, go.arguments, ids, protocol, go.approval)
            except OSError:
                if go.approval:  # what was claimed for it does not run, of which the hub is to hear
                    facts: dict[str, Any] = {"caller": caller, "tool": tool, "policy": governed.policy}
                    self._refusing.deny(unrecorded(standing.access, ids), 503, ids, **facts, approval=go.approval)
                raise
            # The ledger has every call that was allowed; this log is for crashes and refusals.
            logger.debug("call %s: %s by %s from %s", ids.told, tool, caller.sub, caller.surface)
            after_crash = f"{standing.access.ask} Name request {ids.told}."
            with self._meter.under_way():
                return await run_tool(run, running, caller, tool, after_crash)
        except OSError as error:
            logger.exception("a call of %s could not be recorded", tool)
            raise self._refusing.unable(unrecorded(standing.access, ids)) from error

    def _standing(self, now: float) -> Standing:
        try:
            return self._standings.current(now)
        except StopsUnknown as error:
            logger.error("every request is refused: the bundle is too old for a sensitive server: %s", error.reason)
            raise self._refusing.unable(stops_unknown("This server", "server")) from error
        except BundleRefused as error:
            logger.error("every request is refused: the bundle cannot be used: %s", error.reason)
            raise self._refusing.unable(no_standing()) from error


def _running(invocation: Invocation, go: Go) -> Run:
    async def run() -> ToolResult:
        return go.told(await invocation.run(go.arguments))

    return run


def _failing(error: Exception) -> Run:
    """What fails before the tool runs, and is the tool's own answer all the same."""

    async def fail() -> ToolResult:
        raise error

    return fail
