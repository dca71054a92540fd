"""The production source: a SPIFFE Workload API (SPIFFE Workload API specification §5), as SPIRE's agent serves it.

The `spiffe` package holds a stream open and notes each update; here is what becomes of the newest one.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import serialization
from spiffe import TrustDomain, X509Source
from spiffe.bundle.x509_bundle.x509_bundle import X509Bundle
from spiffe.svid.x509_svid import X509Svid

from pegboard_hub.services.material import Material, Svid

PEM: Final = serialization.Encoding.PEM
FIRST_S = 5.0
"""Seconds that the first answer may take before the source is tried anew."""


class WorkloadApi:
    """A Workload API as a source.

    Args:
        address: where it is, for example unix:///run/spire/agent.sock.
        trust_domains: whose services count: the edge's own, and those that are federated with it. A domain that the
            API tells of and that is not named here does not count.
    """

    def __init__(self, address: str, trust_domains: tuple[str, ...]) -> None:
        self._address = address
        self._trust_domains = trust_domains
        self._source: X509Source | None = None

    def look(self) -> Material | None:
        """The newest of what the API said.

        Raises:
            ValueError: it tells of none of the trust domains.
            Exception: of the `spiffe` package: the API does not answer, or has no identity for us.
        """
        if self._source is None or self._source.is_closed():
            self._source = X509Source(socket_path=self._address, timeout_in_seconds=FIRST_S)
        told = self._source.get_x509_context()  # certificate and authorities of one answer
        bundles: dict[str, str] = {}
        for name in self._trust_domains:
            found = told.x509_bundle_set.get_bundle_for_trust_domain(TrustDomain(name))
            if found is not None and found.x509_authorities:
                bundles[name] = _authorities(found)
        if not bundles:
            raise ValueError(f"the Workload API has no authorities of {', '.join(self._trust_domains)}")
        return Material(_svid(told.default_svid), bundles)

    def close(self) -> None:
        """End the stream."""
        if self._source is not None:
            self._source.close()


def _svid(svid: X509Svid) -> Svid:
    chain = "".join(each.public_bytes(PEM).decode("ascii") for each in svid.cert_chain)
    key = svid.private_key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    ends_at = svid.leaf.not_valid_after_utc.timestamp()
    return Svid(str(svid.spiffe_id), chain, key.decode("ascii"), ends_at)


def _authorities(bundle: X509Bundle) -> str:
    return "".join(sorted(each.public_bytes(PEM).decode("ascii") for each in bundle.x509_authorities))
