"""Tokens that must not work, made from one that does. By hand, since no good library makes them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from pegboard.core.jose import Signer, new_private_key
from pegboard.core.token import TOKEN_TYPE


def claims_of(token: str) -> dict[str, Any]:
    """A token's claims, unverified."""
    claims: dict[str, Any] = json.loads(_decode(token.split(".")[1]))
    return claims


def header_of(token: str) -> dict[str, Any]:
    """A token's header, unverified."""
    header: dict[str, Any] = json.loads(_decode(token.split(".")[0]))
    return header


def forged(token: str, **claims: object) -> str:
    """The same claims, changed as given, signed with a key of our own under the real key's id."""
    key = new_private_key() | {"kid": header_of(token)["kid"]}
    return Signer(key).sign(claims_of(token) | claims, TOKEN_TYPE)


def tampered(token: str, **claims: object) -> str:
    """Claims changed after signing, with the signature left as it was."""
    header, _, signature = token.split(".")
    return f"{header}.{_encode(json.dumps(claims_of(token) | claims).encode())}.{signature}"


def alg_none(token: str) -> str:
    """No signature at all, and a header that says so (RFC 8725 §2.1)."""
    header = header_of(token) | {"alg": "none"}
    return f"{_encode(json.dumps(header).encode())}.{token.split('.')[1]}."


def key_confusion(token: str, public_key: dict[str, Any]) -> str:
    """An HMAC whose secret is the issuer's public key (RFC 8725 §2.1)."""
    header = header_of(token) | {"alg": "HS256"}
    signed = f"{_encode(json.dumps(header).encode())}.{token.split('.')[1]}"
    mac = hmac.new(json.dumps(public_key).encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_encode(mac)}"


def forgeries(good: str, public_key: dict[str, Any], elsewhere: str) -> dict[str, tuple[str, str]]:
    """Every bad token the story tries, by what it is: the token, and the reason for which it must be refused.

    Args:
        good: a token that works.
        public_key: of the issuer.
        elsewhere: the same person's good token for another server.
    """
    return {
        "no token": ("", "token_missing"),
        "a forged token": (forged(good), "token_invalid"),
        "claims changed after signing": (tampered(good, groups=["platform"]), "token_invalid"),
        "alg: none": (alg_none(good), "token_invalid"),
        "key confusion (HS256)": (key_confusion(good, public_key), "token_invalid"),
        "another issuer's token": (forged(good, iss="http://elsewhere.example"), "token_invalid"),
        "ana's own token for another server": (elsewhere, "token_wrong_audience"),
    }


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
