"""Errors of clients: what they registered, what their documents say, and what was decided on them."""

from __future__ import annotations

from typing import Literal

from pegboard.core.errors import PegboardError

RegistrationCode = Literal[
    "invalid_redirect_uri", "invalid_client_metadata", "access_denied", "temporarily_unavailable"
]
"""The first two are RFC 7591 §3.2.2's; the others are RFC 6749 §4.1.2.1's words for what it has no code for."""


class RegistrationRefused(PegboardError):
    """A registration that is answered with an error (RFC 7591 §3.2.2); the description is for who builds the client.

    Attributes:
        status: of the HTTP answer.
        retry_after_s: seconds after which it may be tried again; None where trying again helps nobody.
    """

    def __init__(
        self, code: RegistrationCode, description: str, status: int = 400, retry_after_s: int | None = None
    ) -> None:
        self.code = code
        self.description = description
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(f"{code}: {description}")


class RedirectRefused(PegboardError):
    """A redirect URI that nobody may register. The message names the fault and its mend."""


class DecisionRefused(PegboardError):
    """A decision on a client that cannot be made. The message is for the operator."""
