"""The certificate that the edge serves with: reading the pair, and what is wrong with one."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from pegboard.core.errors import ConfigurationError

CERTIFICATE, KEY = "PEGBOARD_TLS_CERT", "PEGBOARD_TLS_KEY"
"""The variables that name the files."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the pair is: a chain in PEM, the server's own certificate first, and its key in PEM, not encrypted."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Pair:
    """What the files hold. `key` is never shown."""

    chain: str
    key: str
    leaf: x509.Certificate

    def __repr__(self) -> str:
        return f"Pair({self.leaf.subject.rfc4514_string()})"


def open_pair(files: TlsFiles, now: float) -> Pair:
    """Read a pair that can be served with at `now`, seconds since the epoch.

    Raises:
        ConfigurationError: a file cannot be read, holds something else, the two do not belong together, or the
            certificate has ended. The message holds nothing of the key.
    """
    chain, key = _read(CERTIFICATE, files.certificate), _read(KEY, files.key)
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except (ValueError, IndexError) as error:
        raise _wrong(
            CERTIFICATE, files.certificate, "holds no certificate in PEM", "put the whole chain there"
        ) from error
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError as error:
        raise _wrong(KEY, files.key, "is encrypted with a password", "keep it without one, mode 0600") from error
    except ValueError as error:
        raise _wrong(KEY, files.key, "holds no private key in PEM", "put the certificate's key there") from error
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise _wrong(
            KEY, files.key, f"is not the key of the first certificate in {files.certificate}", "replace both"
        )
    if leaf.not_valid_after_utc <= datetime.fromtimestamp(now, UTC):
        raise _wrong(
            CERTIFICATE, files.certificate, f"ended at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", "renew it"
        )
    return Pair(chain.decode("ascii"), key.decode("ascii"), leaf)


def covers(certificate: x509.Certificate, host: str) -> bool:
    """Whether a certificate is for `host`, a name or an address (RFC 9525 §6.3: by its alternative names)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        known = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
        return host.lower() in known or f"*.{host.lower().partition('.')[2]}" in known


def noted_files(instance: Mapping[str, object]) -> TlsFiles | None:
    """The files that an instance's note of its last start names, if any."""
    certificate, key = instance.get("tls_cert"), instance.get("tls_key")
    return TlsFiles(Path(str(certificate)), Path(str(key))) if certificate and key else None


def trusting(certificate: Path) -> ssl.SSLContext:
    """TLS that believes the very certificate in a file, whoever made it, beside those the machine believes.

    Raises:
        OSError: it cannot be read.
    """
    context = ssl.create_default_context()
    if certificate.exists():
        context.load_verify_locations(certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _wrong(
            name, path, f"cannot be read: {error.strerror}", "name another, or let this user read it"
        ) from error


def _wrong(name: str, path: Path, what: str, mend: str) -> ConfigurationError:
    return ConfigurationError(f"{name} {path}", [what, mend])
