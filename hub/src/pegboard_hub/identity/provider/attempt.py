"""One attempt to sign in: what is sent with the browser to the provider, and what must come back with it.

What must come back lies sealed in a cookie of that browser alone, so an answer that another browser's attempt got, an
attacker's above all, signs nobody in here (RFC 9700 §4.7; OpenID Connect Core 1.0 §3.1.2.1).
"""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from hmac import compare_digest
from urllib.parse import urlencode

from pegboard_hub.identity.person import LoginRefused
from pegboard_hub.identity.provider.errors import Unbelievable
from pegboard_hub.identity.provider.metadata import Metadata
from pegboard_hub.identity.sealing import Sealer
from pegboard_hub.identity.settings import Provider

LIFETIME_S = 600
"""Seconds that a person may take at the provider."""

PURPOSE = "sign-in attempt"

LONGEST_CONTINUE = 2500
"""Characters of the path to go on to: sealed, it must fit in a cookie (4096 bytes, RFC 6265 §6.1)."""

LONGEST_CODE = 4096

_ASK_AGAIN = {"prompt": "login", "max_age": "0"}
"""Asks the provider to have the person prove anew who they are, and to say when they did (§3.1.2.1)."""

AGAIN = "This sign-in was begun in another browser, or too long ago. Sign in again."

ERRORS = {
    "access_denied": "The company's login did not let you in.",
    "login_required": "The company's login wants you to sign in there first. Sign in again.",
    "interaction_required": "The company's login wants to ask you something first. Sign in again.",
    "consent_required": "The company's login wants your consent first. Sign in again.",
    "temporarily_unavailable": "The company's login cannot sign anybody in right now. Try again in a minute.",
}
"""What people read for an error of the provider's; any other is named by its code (RFC 6749 §4.1.2.1)."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What must come back.

    Attributes:
        state: ties the answer to this browser.
        nonce: ties the id token to this attempt.
        verifier: ties the code to this attempt (RFC 7636).
        continue_to: where the person goes on to; a path of ours.
        begun_at: seconds since the epoch.
        again: whether the person is to prove anew who they are, whatever the provider remembers.
    """

    state: str
    nonce: str
    verifier: str
    continue_to: str
    begun_at: float
    again: bool = False

    @classmethod
    def new(cls, continue_to: str, now: float, *, again: bool = False) -> Attempt:
        """A fresh one; nothing of it can be guessed."""
        path = continue_to if len(continue_to) <= LONGEST_CONTINUE else "/"
        state, nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        return cls(state, nonce, verifier, path, now, again)

    @property
    def cookie(self) -> str:
        """Name of its cookie's purpose: each of several attempts in one browser has its own."""
        return cookie_of(self.state)

    def sealed(self, sealer: Sealer) -> str:
        """As the cookie holds it."""
        return sealer.seal(json.dumps(asdict(self)))

    def url(self, provider: Provider, metadata: Metadata, redirect_uri: str) -> str:
        """Where the browser is sent (OpenID Connect Core 1.0 §3.1.2.1, RFC 7636 §4.3)."""
        challenge = urlsafe_b64encode(sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        query = urlencode(
            {
                **provider.parameters,
                "response_type": "code",
                "client_id": provider.client_id,
                "redirect_uri": redirect_uri,
                "scope": " ".join(provider.scopes),
                "state": self.state,
                "nonce": self.nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
                **(_ASK_AGAIN if self.again else {}),
            }
        )
        separator = "&" if "?" in metadata.authorization_endpoint else "?"
        return f"{metadata.authorization_endpoint}{separator}{query}"


def cookie_of(state: str) -> str:
    """The purpose of the cookie that belongs to a `state`."""
    return f"sign-in-{sha256(state.encode()).hexdigest()[:16]}"


def attempt_of(sealed: str | None, state: str, sealer: Sealer, now: float) -> Attempt:
    """The attempt that a browser's cookie holds, and the answer's `state` belongs to.

    Raises:
        LoginRefused: the browser has none, it is another's, or too old.
    """
    try:
        attempt = Attempt(**json.loads(sealer.unseal(sealed or "")))
    except (ValueError, TypeError):
        raise LoginRefused(AGAIN) from None
    if not compare_digest(attempt.state, state) or not 0 <= now - attempt.begun_at <= LIFETIME_S:
        raise LoginRefused(AGAIN)
    return attempt


def code_of(answer: Mapping[str, str], metadata: Metadata) -> str:
    """The code that the provider sent back with the browser; its `state` was looked at.

    Raises:
        LoginRefused: it says an error instead.
        Unbelievable: another provider answered (RFC 9207 §2.4), or it has no code.
    """
    named = answer.get("iss")
    if named is None and metadata.names_itself:
        raise Unbelievable("the answer does not say which login it is from, and the login always says so")
    if named is not None and named != metadata.issuer:
        raise Unbelievable(f"the answer is from another login, {named[:200]!r}")
    if error := answer.get("error"):
        code = error[:60] if error.isascii() and error.replace("_", "").isalnum() else "an error"
        raise LoginRefused(ERRORS.get(error, f"The company's login did not sign you in: {code}."))
    code = answer.get("code", "")
    if not code or len(code) > LONGEST_CODE or not code.isprintable():
        raise Unbelievable("the answer has no code")
    return code
