"""Whether a server's question is taken, for whom, and what must be met whatever its server asks for."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from pegboard.core.approval import Ask, Requirement
from pegboard.core.caller import Caller
from pegboard.core.errors import TokenRefused
from pegboard.core.names import ServerName
from pegboard.core.required import effective_requirement
from pegboard.core.revoked import Revoked
from pegboard.core.stops import CALLER_KINDS, Stops, told
from pegboard.core.token import REASONS
from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.identity.keys import Keys, RingVerifier
from pegboard_hub.ledger.channels import Channel
from pegboard_hub.registry.approving import code_approval
from pegboard_hub.registry.model import Release
from pegboard_hub.registry.service import Registry

MOST_VERIFIERS: Final = 1000

Registered = Callable[[str, str, Requirement], Requirement | None]
"""What the registry requires of a server's tool beside what the server asks for; None where it requires nothing."""


class Admitting:
    """Verifies callers, and holds questions to what is required.

    Args:
        registry: of servers.
        keys: that callers' tokens are verified with.
        public_url: the edge's origin.
        revoked: what is void before its time.
        stops: which callers are stopped.
        registered: what is required of a tool here, whatever its server asks for.
    """

    def __init__(
        self,
        registry: Registry,
        keys: Keys,
        public_url: str,
        revoked: Callable[[], Revoked],
        stops: Callable[[], Stops],
        registered: Registered,
    ) -> None:
        self._registry = registry
        self._keys = keys
        self._public_url = public_url
        self._revoked = revoked
        self._stops = stops
        self._registered = registered
        self._verifiers: OrderedDict[str, RingVerifier] = OrderedDict()

    def caller(self, channel: Channel, ask: Ask) -> Caller:
        """Who asks, verified here and now by the caller's own token.

        Raises:
            ApprovalRefused: the token is no good or no person's, or caller, server or tool are stopped.
        """
        try:
            caller = self._verifier(channel.server).verify(ask.token, time.time())
        except TokenRefused as error:
            message = f"Nobody is asked: {REASONS[error.reason]}."
            raise ApprovalRefused("token_refused", "token", message, "Sign in again.") from error
        if self._revoked().voids(caller):
            raise ApprovalRefused(
                "token_refused", "token", f"Nobody is asked: {REASONS['token_revoked']}.", "Sign in again."
            )
        if caller.sub_type != "person":
            message = "A service cannot wait for people, so it never runs what needs an approval."
            raise ApprovalRefused("not_for_services", "token", message, "Have a person make the call.")
        for kind in CALLER_KINDS:
            if why := self._stops().why(kind, caller):
                raise ApprovalRefused("stopped", kind, f"{told(kind, why)}.", "Ask the operators.")
        self._check_server(channel, ask.tool)
        return caller

    def required(self, channel: Channel, ask: Ask) -> Ask:
        """The question with what must be met, whatever its server asks for: what reviewers have seen in its release,
        and what the registry requires. A server whose bundle is a moment old gets no less.
        """
        # That security wants it, the registry alone says.
        asked = ask.requirement.model_copy(update={"source": "server"})
        if ask.kind == "approval":
            asked = self._reviewed(channel, ask.tool, asked)
        requirement = self._registered(channel.server, ask.tool, asked)
        if requirement is None:
            return ask.model_copy(update={"requirement": asked})
        # An approval takes a confirmation's place, and no form answers it.
        answered = "no" if ask.answered == "no" else ""
        return ask.model_copy(update={"requirement": requirement, "kind": "approval", "answered": answered})

    def _reviewed(self, channel: Channel, tool: str, asked: Requirement) -> Requirement:
        """What a server asks for, and no less than the code of its release declares."""
        release = self._release(channel)
        declared = code_approval(release, tool)[0] if release is not None else None
        return effective_requirement(asked, declared) or asked

    def _release(self, channel: Channel) -> Release | None:
        """The release that asks, where it is the one that is deployed: of another nothing is known here."""
        server = self._registry.current.deployed(channel.server)
        release = server.release if server is not None else None
        return release if release is not None and release.digest == channel.release else None

    def _check_server(self, channel: Channel, tool: str) -> None:
        server = self._registry.current.deployed(channel.server)
        if server is None:
            message = f"{channel.server} is not deployed here."
            raise ApprovalRefused("stopped", "server", message, "Ask its owners.")
        release = self._release(channel)
        if release is not None and all(each.name != tool for each in release.tools):
            message = f"{channel.server} has no tool {tool}."
            raise ApprovalRefused("invalid", "tool", message, "Name one that its release declares.")
        if why := server.stopped or server.stopped_tools.get(tool, ""):
            raise ApprovalRefused("stopped", "tool", f"It is stopped: {why}.", "Ask its owners, or the operators.")

    def _verifier(self, server: str) -> RingVerifier:
        found = self._verifiers.pop(server, None)
        if found is None:
            audience = ServerName.parse(server).resource_url(self._public_url)
            found = RingVerifier(self._keys.tokens, self._public_url, audience)
        self._verifiers[server] = found
        if len(self._verifiers) > MOST_VERIFIERS:
            self._verifiers.popitem(last=False)
        return found
