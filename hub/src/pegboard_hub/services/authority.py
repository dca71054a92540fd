"""The development CA: X.509 SVIDs on one machine, without a SPIFFE server (X509-SVID specification §3, §4).

It is for developing and trying things out. Whoever can read its folder can be any service of its trust domain; in
production the source is a Workload API (`workload.py`), and there is no such key here.

The folder has a certificate for each authority that was ever made, `NUMBER.pem`, and the key of those that sign or
will, `NUMBER.key`. A new one is told of first, and signs once everybody had time to hear of it: whoever still trusts
the last one alone would refuse what it signs.
"""

from __future__ import annotations

import datetime as dt
import stat
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pegboard.core.errors import ConfigurationError
from pegboard.core.spiffe import SCHEME, is_spiffe_id, trust_domain_of
from pegboard_hub.common.home import locked, replace_file
from pegboard_hub.services.material import Svid

TRUST_DOMAIN = "dev.pegboard.local"
"""The development CA's, unless the operator names another."""

LONGEST_S = 3600
"""The longest life of an SVID, in seconds."""

AUTHORITY_S = 365 * 24 * 3600
"""The life of an authority, in seconds."""

SETTLE_S = 60
"""Seconds between the moment that a new authority is told of and the first thing that it signs."""

SKEW_S = 60
"""Seconds that a certificate begins before it was signed, for clocks that are behind."""


class Authority:
    """The CA of one folder. It is made at the first use.

    Args:
        folder: the instance's `Home.services`.
        trust_domain: whose names it signs.
        clock: seconds since the epoch.
        settle_s: seconds until a new authority signs.
    """

    def __init__(
        self,
        folder: Path,
        trust_domain: str = TRUST_DOMAIN,
        clock: Callable[[], float] = time.time,
        settle_s: float = SETTLE_S,
    ) -> None:
        self.folder = folder
        self.trust_domain = trust_domain
        self._clock = clock
        self._settle_s = settle_s

    def open(self) -> None:
        """Make the folder and the first authority, where there is none.

        Raises:
            ConfigurationError: somebody else may read the key, or it is another trust domain's.
            OSError: they cannot be made.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._certificates():
            with locked(self.folder):
                if not self._certificates():
                    self._add()
        for key in self.folder.glob("*.key"):
            if not stat.S_IMODE(key.stat().st_mode) & 0o077:
                continue
            raise ConfigurationError(str(key), ["others may read it", f"chmod 600 {key}, and rotate it"])
        found = _domain_of(_read(self._certificates()[0]))
        if found != self.trust_domain:
            mend = f"name that one, or remove {self.folder} to begin another"
            raise ConfigurationError("trust domain", [f"the authority in {self.folder} is of {found}", mend])

    @property
    def bundle(self) -> str:
        """The certificates of every authority that still counts, in PEM, the newest first.

        One counts as long as something that it signed may live.
        """
        paths = self._certificates()
        kept = [paths[0]]
        for newer, older in pairwise(paths):
            if self._signs_from(newer) + LONGEST_S > self._clock():
                kept.append(older)
        return "".join(path.read_text(encoding="ascii") for path in kept)

    @property
    def signer(self) -> Path:
        """The certificate of the authority that signs now: the newest that everybody had time to hear of."""
        paths = self._certificates()
        able = [path for path in paths if path.with_suffix(".key").exists()] or paths
        return next((path for path in able if self._signs_from(path) <= self._clock()), able[-1])

    def rotate(self) -> None:
        """Make another authority. It counts at once and signs in a while; the key of the last one then goes.

        Raises:
            OSError: a file cannot be written.
        """
        with locked(self.folder):
            self._forget()
            self._add()

    def give_up(self) -> tuple[str, ...]:
        """Make another authority that signs at once, and remove all others: nothing that they signed counts any more.

        Gives the names of those that are gone, as the certificates have them that they signed.

        Raises:
            OSError: a file cannot be written or removed; what is there still counts, and this may be tried again.
        """
        with locked(self.folder):
            before = self._certificates()
            names = tuple(_label(path) for path in before)
            self._add()
            for path in before:
                path.with_suffix(".key").unlink(missing_ok=True)
                path.unlink()
        return names

    def mint(self, spiffe_id: str, ttl_s: int = LONGEST_S, hosts: Iterable[str] = ()) -> Svid:
        """Sign an SVID with a key of its own.

        Args:
            spiffe_id: whose.
            ttl_s: seconds that it lives; at most `LONGEST_S`.
            hosts: names and addresses under which a server is reached, for clients that know it by these.

        Raises:
            ValueError: it is no SPIFFE ID of this trust domain, or it would live too long.
            OSError: the authority's key cannot be read.
        """
        if not is_spiffe_id(spiffe_id) or trust_domain_of(spiffe_id) != self.trust_domain:
            raise ValueError(f"{spiffe_id[:80]!r} is no SPIFFE ID of {self.trust_domain}")
        if not 1 <= ttl_s <= LONGEST_S:
            raise ValueError(f"{ttl_s} s is not from 1 to {LONGEST_S} s")
        with locked(self.folder):
            issuer = self.signer
            signer = serialization.load_pem_private_key(issuer.with_suffix(".key").read_bytes(), None)
            self._forget()
        assert isinstance(signer, ec.EllipticCurvePrivateKey)  # noqa: S101 - `_add` made it
        key, now = ec.generate_private_key(ec.SECP256R1()), self._clock()
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(spiffe_id), *map(_host, hosts)]
        certificate = (
            _builder(_read(issuer).subject, x509.Name([]), key, now, ttl_s)
            # Critical, because the subject is empty (RFC 5280 §4.1.2.6).
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage(signs=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        return Svid(spiffe_id, _pem(certificate), _key_pem(key), certificate.not_valid_after_utc.timestamp())

    def _certificates(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("*.pem"), key=lambda path: int(path.stem), reverse=True)

    def _signs_from(self, path: Path) -> float:
        """When an authority begins to sign, in seconds since the epoch."""
        return _read(path).not_valid_before_utc.timestamp() + SKEW_S + self._settle_s

    def _forget(self) -> None:
        """Remove the keys of authorities that do not sign any more."""
        signer = self.signer
        for path in self.folder.glob("*.key"):
            if int(path.stem) < int(signer.stem):
                path.unlink(missing_ok=True)

    def _add(self) -> None:
        numbers = [int(path.stem) for path in self._certificates()]
        path = self.folder / f"{max(numbers, default=0) + 1:04}.pem"
        key, now = ec.generate_private_key(ec.SECP256R1()), self._clock()
        # A name of its own: by it whoever verifies finds the right one of several.
        label = f"Pegboard development CA {path.stem} {x509.random_serial_number():x}"[:60]
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
        identity = x509.UniformResourceIdentifier(f"{SCHEME}{self.trust_domain}")
        certificate = (
            _builder(name, name, key, now, AUTHORITY_S)
            .add_extension(x509.SubjectAlternativeName([identity]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        replace_file(path.with_suffix(".key"), _key_pem(key), 0o600, sync=True)
        replace_file(path, _pem(certificate), 0o644, sync=True)


def _builder(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePrivateKey, now: float, ttl_s: float
) -> x509.CertificateBuilder:
    at = dt.datetime.fromtimestamp(int(now), dt.UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - dt.timedelta(seconds=SKEW_S))
        .not_valid_after(at + dt.timedelta(seconds=ttl_s))
    )


def usage(signs: bool) -> x509.KeyUsage:
    """What a key is for (X509-SVID §4.3): signing certificates, or proving who one is."""
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _label(path: Path) -> str:
    (name,) = _read(path).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


def _domain_of(certificate: x509.Certificate) -> str:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return trust_domain_of(names.get_values_for_type(x509.UniformResourceIdentifier)[0])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")
