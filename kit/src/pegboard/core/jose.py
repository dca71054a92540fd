"""The one door to joserfc: ES256 keys, and signing and verifying with exactly that algorithm (RFC 7515, 7518).

An algorithm named by the message itself is never believed: verification is always told ES256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

ALGORITHM = "ES256"

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""Largest payload that is verified. What fits in a header bounds a token; a bundle grows with its servers."""

_REGISTRY = jws.JWSRegistry(algorithms=[ALGORITHM])
# joserfc stops at 128,000 bytes, which is a bundle of some 400 servers.
_REGISTRY.max_payload_length = MAX_DOCUMENT_BYTES

Jwk = dict[str, Any]
"""A JSON Web Key (RFC 7517) as plain JSON."""

Jwks = dict[str, list[Jwk]]
"""A JSON Web Key Set: {"keys": [...]}."""


def new_private_key() -> Jwk:
    """A fresh P-256 private key with its RFC 7638 thumbprint as `kid`."""
    key = ECKey.generate_key("P-256", {"use": "sig", "alg": ALGORITHM}, private=True, auto_kid=True)
    return dict(key.as_dict(private=True))


def public_jwks(*private_keys: Jwk) -> Jwks:
    """The public halves of `private_keys`, as a key set."""
    return {"keys": [dict(ECKey.import_key(key).as_dict(private=False)) for key in private_keys]}


def read_public_jwks(document: Any) -> Jwks:
    """A key set of somebody else's, by which they sign in ES256: public halves, each with a `kid` of its own.

    Raises:
        ValueError: it is another form, has a private half, or a key that cannot be used; no key is repeated.
    """
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise ValueError('it is no key set, which is written {"keys": [...]}')
    found: list[Jwk] = []
    for key in keys:
        kid = key.get("kid")
        if "d" in key or key.get("kty") != "EC" or key.get("crv") != "P-256":
            raise ValueError("a key is private, or is not of P-256")
        if not isinstance(kid, str) or not 0 < len(kid) <= 200 or kid in {known["kid"] for known in found}:
            raise ValueError("a key has no kid, or that of another")
        try:
            half = ECKey.import_key({name: key[name] for name in ("kty", "crv", "x", "y")})
            coordinates = half.as_dict(private=False)
            half.get_op_key("verify")
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise ValueError("a key cannot be read") from error
        found.append({**{name: str(coordinates[name]) for name in ("kty", "crv", "x", "y")}, "kid": kid})
    return {"keys": found}


class Signer:
    """Signs JSON documents with one private key; the key is parsed once."""

    def __init__(self, private_key: Jwk) -> None:
        """Parse.

        Raises:
            ValueError: it is not a private EC key with a `kid`; the key is not repeated.
        """
        try:
            self._key = ECKey.import_key(private_key)
            self.kid = str(private_key["kid"])
        except (JoseError, KeyError) as error:
            raise ValueError("not an EC key with a kid") from error
        if not self._key.is_private:
            raise ValueError("not a private key")

    def sign(self, payload: Mapping[str, Any], typ: str) -> str:
        """`payload` as a compact JWS whose protected header carries `typ` and `kid`."""
        return self.sign_text(json.dumps(payload, separators=(",", ":"), ensure_ascii=False), typ)

    def sign_text(self, payload: str, typ: str) -> str:
        """The same, for a payload that is a JSON object's text already."""
        header = {"alg": ALGORITHM, "typ": typ, "kid": self.kid}
        return jws.serialize_compact(header, payload.encode(), self._key)


class Verifier:
    """Verifies compact JWS made by one of a set of public keys; the keys are parsed once."""

    def __init__(self, keys: Jwks) -> None:
        """Parse.

        Raises:
            ValueError: one is no EC key.
        """
        try:
            self._keys = {str(key["kid"]): ECKey.import_key(key) for key in keys["keys"]}
        except JoseError as error:
            raise ValueError("not a set of EC keys") from error
        self.kids = tuple(self._keys)

    def verify(self, text: str, typ: str, *, unique: bool = False) -> dict[str, Any]:
        """The payload of `text`; with `unique` one that names a key twice is refused (RFC 7519 §4).

        Raises:
            ValueError: not a compact JWS of this `typ`, by a known key, in ES256, with a JSON object inside.
        """
        try:
            found = jws.extract_compact(text.encode("ascii"), registry=_REGISTRY)
            header = found.headers()
            key = self._keys.get(str(header.get("kid")))
            # `crit` names extensions that must be understood (RFC 7515 §4.1.11); there are none here.
            if header.get("alg") != ALGORITHM or header.get("typ") != typ or key is None or "crit" in header:
                raise ValueError("wrong algorithm, type or key")
            if not jws.validate_compact(found, key, registry=_REGISTRY):
                raise ValueError("wrong signature")
            # UTF-8 and nothing else (RFC 7519 §3): `json.loads` would guess, and the edge does not.
            payload = json.loads(found.payload.decode("utf-8"), object_pairs_hook=_unique if unique else None)
        except (JoseError, ValueError) as error:
            raise ValueError("signature does not verify") from error
        if not isinstance(payload, dict):
            raise ValueError("payload is not an object")
        return payload


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def kid_of(text: str) -> str:
    """Which key a compact JWS says it was signed with. Believed only of one that a `Verifier` has verified.

    Raises:
        ValueError: it is no compact JWS.
    """
    try:
        return str(jws.extract_compact(text.strip().encode("ascii"), registry=_REGISTRY).headers().get("kid"))
    except JoseError as error:
        raise ValueError("not a compact JWS") from error


__all__ = [
    "ALGORITHM",
    "Jwk",
    "Jwks",
    "Signer",
    "Verifier",
    "kid_of",
    "new_private_key",
    "public_jwks",
    "read_public_jwks",
]
