"""Signatures over whatever bytes: a good library refuses to sign under most of the headers that attackers write."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.jwk import ECKey

from pegboard.core.jose import Jwk


def es256(data: bytes, key: Jwk) -> bytes:
    """The signature of `data` (RFC 7518 §3.4)."""
    private = ECKey.import_key(key).private_key
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    r, s = utils.decode_dss_signature(private.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
