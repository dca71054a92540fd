"""What is void before its time: sign-ins that ended, tokens that were revoked, clients that were blocked."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from pydantic import ConfigDict

from pegboard.core.caller import Caller


@dataclass(frozen=True, slots=True)
class Revoked:
    """Values of claims that make a token void.

    Edge, servers and the hub's API refuse such tokens, all by this list, which edge and servers have in their bundle.

    Attributes:
        sessions: values of `sid`: everything that came of a sign-in.
        tokens: values of `jti`: one token.
        clients: values of `client_id`: everything that a client holds, for whomever.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    sessions: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()
    clients: frozenset[str] = frozenset()

    def voids(self, caller: Caller) -> bool:
        """Whether the token that `caller` was read from is void. It is asked at every request."""
        return caller.session in self.sessions or caller.token_id in self.tokens or caller.client_id in self.clients

    def adds_to(self, other: Revoked) -> bool:
        """Whether it has a value that `other` does not have."""
        return any(getattr(self, field.name) - getattr(other, field.name) for field in fields(self))

    def as_json(self) -> dict[str, list[str]]:
        """The lists in order, so that equal ones read the same in two processes."""
        return {field.name: sorted(getattr(self, field.name)) for field in fields(self)}


NOTHING = Revoked()
"""Every token counts until it expires."""
