"""TLS by SPIFFE ID, both ways: what Envoy shows of itself, and whose certificates it takes.

Both are secrets in files of their own (Envoy's SDS), so that they are replaced while connections live, without a
restart. `pegboard_hub.services` writes them, from the
development CA or a Workload API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pegboard.core.spiffe import is_spiffe_id
from pegboard_hub.edge.envoy import Json, discovery, extension, typed, watched

EDGE_SECRET = "identity"  # noqa: S105 - a name
TRUST_SECRET = "trust"  # noqa: S105 - a name

_SECRET = "envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type
_PARAMETERS: Json = {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who one is and whom one believes.

    Attributes:
        svid: file with one's own certificate and key, as Envoy's secret `EDGE_SECRET`.
        trust: file with whose certificates count, as Envoy's secret `TRUST_SECRET`.
    """

    svid: Path
    trust: Path


def mutual_tls(own: Identity) -> Json:
    """The transport socket of a listener that wants a certificate of a trust domain."""
    return _server_side(own, None)


def from_some(own: Identity, peers: Sequence[str], below: Sequence[str] = ()) -> Json:
    """The transport socket of a listener that wants the certificate of one of these SPIFFE IDs.

    Args:
        own: what it shows, and whose count.
        peers: SPIFFE IDs.
        below: beginnings of SPIFFE IDs, each ending with `/`: who gives names below one decides who comes in.

    Raises:
        ValueError: none is named, which would be all of them; or a beginning would be somebody else's as well.
    """
    if not peers and not below:
        raise ValueError("a listener for nobody is none")
    if open_ended := [each for each in below if not is_spiffe_id(f"{each}x") or not each.endswith("/")]:
        raise ValueError(f"{open_ended[0]!r} is no beginning of SPIFFE IDs that ends with '/'")
    return _server_side(own, peers, below)


def from_one(own: Identity, peer: str) -> Json:
    """The transport socket of a listener that wants the certificate of one SPIFFE ID."""
    return from_some(own, [peer])


def to_one(own: Identity, peer: str, sni: str = "") -> Json:
    """The transport socket of connections to one SPIFFE ID, with one's own certificate.

    `sni` says which of several things behind that peer is meant.
    """
    message = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    named = {"sni": sni} if sni else {}
    return extension("tls", message, common_tls_context=_common(own, [peer]), **named)


def _server_side(own: Identity, peer: Sequence[str] | None, below: Sequence[str] = ()) -> Json:
    """No session is resumed: a certificate is looked at whenever a connection is opened."""
    return extension(
        "tls",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        require_client_certificate=True,
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
        common_tls_context=_common(own, peer, below)
        | ({"alpn_protocols": ["h2", "http/1.1"]} if peer is None else {}),
    )


def _common(own: Identity, peer: Sequence[str] | None, below: Sequence[str] = ()) -> Json:
    trusted = {"name": TRUST_SECRET, "sds_config": watched(own.trust)}
    context: Json = {
        "tls_params": _PARAMETERS,
        "tls_certificate_sds_secret_configs": [{"name": EDGE_SECRET, "sds_config": watched(own.svid)}],
    }
    if peer is None:
        return context | {"validation_context_sds_secret_config": trusted}
    matchers = [*({"exact": each} for each in peer), *({"prefix": each} for each in below)]
    named = {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": each} for each in matchers]}
    combined = {"default_validation_context": named, "validation_context_sds_secret_config": trusted}
    return context | {"combined_validation_context": combined}


def edge_secret(chain: str, key: str) -> Json:
    """The file of the edge's own certificate: `chain` and `key` in PEM, in one file, so that they change together."""
    certificate = {"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}}
    return discovery(typed(_SECRET, name=EDGE_SECRET, tls_certificate=certificate))


def trust_secret(bundles: Mapping[str, str]) -> Json:
    """The file of whose certificates count.

    Args:
        bundles: the authorities of each trust domain, in PEM, by its name; at least one.
    """
    domains = [{"name": name, "trust_bundle": {"inline_string": bundles[name]}} for name in sorted(bundles)]
    context = {
        # Each domain's authorities vouch for its own names alone: the validator goes by the name in the certificate.
        "custom_validator_config": extension(
            "envoy.tls.cert_validator.spiffe",
            "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
            trust_domains=domains,
        ),
    }
    return discovery(typed(_SECRET, name=TRUST_SECRET, validation_context=context))
