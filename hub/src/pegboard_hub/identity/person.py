"""Who somebody is, as the company's login says, and what a way of signing in must be able to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from pegboard.core.caller import Caller
from pegboard.core.errors import PegboardError
from pegboard.core.names import ACTING_SURFACES


@dataclass(frozen=True, slots=True)
class PersonFacts:
    """What tokens and pages say of a person.

    Attributes:
        sub: the person's id here; it never goes to another person.
        name: how pages call them.
        groups: business groups, as grants and policies name them.
        email: None where the login tells none that it has verified.
    """

    sub: str
    name: str
    groups: tuple[str, ...] = ()
    email: str | None = None


def caller_of(facts: PersonFacts, surface: str, client_id: str, channel: str | None = None) -> Caller:
    """The caller that a person would be on a surface, with a client; bound to nothing yet."""
    return Caller(
        sub=facts.sub,
        sub_type="person",
        groups=facts.groups,
        surface=surface,
        client_id=client_id,
        audience="",
        expires_at=0,
        token_id="",
        email=facts.email,
        channel=channel,
        act=client_id if surface in ACTING_SURFACES else None,
    )


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What the company's login said when somebody signed in.

    Attributes:
        facts: of the person.
        subject: the person's id at the login (`sub` of OpenID Connect), by which it tells of a sign-out.
        session: the login's own id of this sign-in (`sid`, OpenID Connect Back-Channel Logout 1.0); empty if none.
        renewal: what the login needs to tell the facts again; a secret, kept sealed. Empty where it cannot.
        authenticated_at: when the person proved who they are, in seconds since the epoch; None: just now, and 0
            where the login does not tell, as it may have let them in for what they did days ago.
    """

    facts: PersonFacts
    subject: str
    session: str = ""
    renewal: str = field(default="", repr=False)
    authenticated_at: float | None = None


class Login(Protocol):
    """A way of signing in: the demo directory, or a company's provider."""

    @property
    def name(self) -> str:
        """What the sign-in page calls it."""

    @property
    def issuer(self) -> str:
        """What tells it from every other login: a session of one is worth nothing with another."""

    async def renew(self, renewal: str, facts: PersonFacts) -> SignedIn:
        """The facts as they are now.

        Args:
            renewal: as the last answer gave it.
            facts: as they were.

        Raises:
            LoginEnded: the person has left, or may not sign in any more.
            LoginUnavailable: the login does not answer; nothing is known.
        """


class LoginEnded(PegboardError):
    """The login says that the sign-in is over: the person must sign in again, or has left."""


class LoginUnavailable(PegboardError):
    """The login does not answer, so nobody can be signed in and no facts can be renewed."""


class LoginRefused(PegboardError):
    """What came back from the login cannot be believed, or it refused; the message is for the person."""
