"""Certificates for tests: self-signed ones of hosts, and those of services that no authority of ours would sign."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from pegboard_hub.common.certificates import TlsFiles
from pegboard_hub.services.authority import Authority, usage
from pegboard_hub.services.material import Svid

NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])


def make_pair(hosts: tuple[str, ...] = ("localhost",), days: float = 30) -> tuple[bytes, bytes]:
    """A certificate and its key in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    names = [*map(_alternative, hosts), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    begins = now - timedelta(days=40)
    builder = x509.CertificateBuilder(
        NAME, NAME, key.public_key(), x509.random_serial_number(), begins, now + timedelta(days=days)
    ).add_extension(x509.SubjectAlternativeName(names), critical=False)
    chain = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return chain, _private(key)


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def write_pair(folder: Path, chain: bytes, key: bytes) -> TlsFiles:
    """Put a pair over the one that is there, each by a rename, as tools that renew certificates do."""
    files = TlsFiles(folder / "edge.pem", folder / "edge.key")
    for path, content in ((files.certificate, chain), (files.key, key)):
        new = path.with_name(f".{path.name}")
        new.write_bytes(content)
        new.chmod(0o600)
        new.replace(path)
    return files


def forged(
    authority: Authority | None, names: Sequence[x509.GeneralName], *, ca: bool = False, lasting_s: float = 600
) -> Svid:
    """A certificate of these names by the key of `authority`, or by its own where there is none."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer, issuer = key, x509.Name([])
    if authority is not None:
        loaded = load_pem_private_key(authority.signer.with_suffix(".key").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signer, issuer = loaded, x509.load_pem_x509_certificate(authority.signer.read_bytes()).subject
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=60))
        .not_valid_after(now + timedelta(seconds=lasting_s))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    # Envoy takes no certificate whose use is not said.
    builder = builder.add_extension(usage(signs=ca), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    certificate = builder.sign(signer, hashes.SHA256())
    chain = certificate.public_bytes(Encoding.PEM).decode()
    return Svid("forged", chain, _private(key).decode(), certificate.not_valid_after_utc.timestamp())


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
