"""The hub's two private keys: one signs tokens, one signs bundles. No other process can read them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pegboard.core.errors import ConfigurationError
from pegboard.core.jose import Jwk, Jwks, Signer, new_private_key, public_jwks
from pegboard_hub.common.home import Home, replace_file


@dataclass(frozen=True, slots=True)
class Keys:
    """The hub's keys, opened. Public halves only leave it as key sets."""

    tokens: Signer
    token_jwks: Jwks
    bundles: Signer
    bundle_jwks: Jwks


def open_keys(home: Home) -> Keys:
    """Read the keys, making them at the first start; publish the bundles' public half.

    Raises:
        ConfigurationError: a key file cannot be read, is open to others, or holds no key.
    """
    token = _private_key(home.keys / "token-signing.jwk.json")
    bundle = _private_key(home.keys / "bundle-signing.jwk.json")
    keys = Keys(Signer(token), public_jwks(token), Signer(bundle), public_jwks(bundle))
    published = json.dumps(keys.bundle_jwks)
    if not home.bundle_keys.exists() or home.bundle_keys.read_text(encoding="utf-8") != published:
        replace_file(home.bundle_keys, published)
    return keys


def _private_key(path: Path) -> Jwk:
    try:
        if not path.exists():
            replace_file(path, json.dumps(new_private_key()), mode=0o600)
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(str(path), [f"others may read this private key; run: chmod 600 {path}"])
        key: Jwk = json.loads(path.read_text(encoding="utf-8"))
        Signer(key)
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be read or made: {error.strerror}"]) from error
    except (ValueError, TypeError) as error:
        # The fault is not repeated: a parser's message may quote the key.
        fault = "holds no private key; restore it from a backup, or remove it and every token and bundle starts anew"
        raise ConfigurationError(str(path), [fault]) from error
    return key
