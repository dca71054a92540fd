"""The door to joserfc for what others signed: a provider's keys, and its signatures by an algorithm that is allowed.

The message says which key and which algorithm; neither is believed before the settings allow the one and the key's
own kind fits the other (RFC 8725 §3.1). A key that could be a shared secret is never taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

MOST_TOKEN_CHARACTERS = 256 * 1024
MOST_HEADER_BYTES = 8 * 1024
MOST_KEYS = 64
LEAST_RSA_BITS = 2048
"""RFC 7518 §3.3."""

Key = RSAKey | ECKey
KINDS: Mapping[str, type[RSAKey] | type[ECKey]] = {"RSA": RSAKey, "EC": ECKey}
FITTING = {"RS": "RSA", "PS": "RSA", "ES": "EC"}


class UnknownKey(ValueError):
    """It was signed with a key that is not among those known; the provider may have a new one."""


class ForeignKeys:
    """The public keys of a provider, parsed once. Those that cannot be used are left out."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        found = document.get("keys")
        listed = found[:MOST_KEYS] if isinstance(found, list) else []
        self._keys = [(each, key) for each in listed if isinstance(each, dict) and (key := _key(each)) is not None]

    def __len__(self) -> int:
        return len(self._keys)

    def verify(self, text: str, algorithms: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims of a compact JWS.

        Args:
            text: as it came.
            algorithms: those that are allowed.

        Raises:
            UnknownKey: none of the keys is the one it names.
            ValueError: it is no JWS of an allowed algorithm by that key, with a JSON object inside.
        """
        if len(text) > MOST_TOKEN_CHARACTERS:
            raise ValueError("too long")
        try:
            raw = text.encode("ascii")
            header = jws.extract_compact(raw, registry=_registry(algorithms)).headers()
            algorithm = header.get("alg")
            if algorithm not in algorithms:
                raise ValueError(f"its algorithm {str(algorithm)[:16]!r} is not one of provider.algorithms")
            if "crit" in header:
                raise ValueError("it has extensions that must be understood")
            key = self._choose(header.get("kid"), str(algorithm))
            signed = jws.deserialize_compact(raw, key, registry=_registry([str(algorithm)]))
            claims = json.loads(signed.payload.decode("utf-8"))
        except JoseError as error:
            raise ValueError(f"signature does not verify ({type(error).__name__})") from error
        except RecursionError as error:
            raise ValueError("nested too deep") from error
        if not isinstance(claims, dict):
            raise ValueError("payload is not an object")
        return dict(header), claims

    def _choose(self, kid: object, algorithm: str) -> Key:
        """The key that `kid` names; one that is named by nothing must be the only one that fits."""
        fitting = [
            (jwk, key)
            for jwk, key in self._keys
            if jwk["kty"] == FITTING.get(algorithm[:2]) and jwk.get("alg", algorithm) == algorithm
        ]
        named = [key for jwk, key in fitting if kid is None or jwk.get("kid") == kid]
        if len(named) != 1:
            raise UnknownKey("it names no key" if named else "its key is not known")
        return named[0]


def _registry(algorithms: Sequence[str]) -> jws.JWSRegistry:
    # Names in a header that nobody knows are passed over (RFC 7515 §4); `crit` was looked at.
    registry = jws.JWSRegistry(algorithms=list(algorithms), strict_check_header=False)
    registry.max_header_length = MOST_HEADER_BYTES
    registry.max_payload_length = MOST_TOKEN_CHARACTERS
    return registry


def _key(jwk: dict[str, Any]) -> Key | None:
    """A public signing key; None of anything else."""
    kind = KINDS.get(str(jwk.get("kty")))
    if kind is None or jwk.get("use", "sig") != "sig":
        return None
    if kind is RSAKey and len(str(jwk.get("n", ""))) * 6 < LEAST_RSA_BITS:
        return None  # joserfc takes it, with a warning
    public = {name: value for name, value in jwk.items() if name in ("kty", "n", "e", "crv", "x", "y", "kid")}
    try:
        key = kind.import_key(public)
        found = key.public_key
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if isinstance(found, RSAPublicKey) and found.key_size < LEAST_RSA_BITS:
        return None
    return key
