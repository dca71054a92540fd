"""What a source of identities gives, and the files that it becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from pegboard_hub.common.home import replace_file
from pegboard_hub.edge.envoy import Json
from pegboard_hub.edge.mutual import edge_secret, trust_secret


@dataclass(frozen=True, slots=True)
class Svid:
    """An X.509 SVID.

    Attributes:
        spiffe_id: whose it is.
        chain: the certificate and those between it and an authority, in PEM.
        key: its private key, in PEM.
        ends_at: when it ends, in seconds since the epoch.
    """

    spiffe_id: str
    chain: str
    key: str = field(repr=False)
    ends_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Material:
    """All that the edge needs.

    Attributes:
        svid: the edge's own.
        bundles: the authorities of each trust domain, in PEM, by its name.
    """

    svid: Svid
    bundles: Mapping[str, str]


@dataclass(slots=True)
class Files:
    """The two files that Envoy watches. Each is replaced in one step, and left alone while it says the same.

    Attributes:
        svid: with the edge's certificate and key; the edge alone may read it.
        trust: with the authorities.
        owner: user and group id that the edge runs as; None for whoever runs this.
    """

    svid: Path
    trust: Path
    owner: tuple[int, int] | None = None
    _written: dict[Path, Json] = field(default_factory=dict)

    def write(self, material: Material) -> bool:
        """Make the files say what `material` does. True when one was replaced.

        Authorities come first: what they newly sign is let in before it is shown.

        Raises:
            OSError: a file cannot be written.
        """
        trust = self._put(self.trust, trust_secret(material.bundles))
        return self._put(self.svid, edge_secret(material.svid.chain, material.svid.key)) or trust

    def _put(self, path: Path, document: Json) -> bool:
        if self._written.get(path) == document and path.exists():
            return False
        replace_file(path, json.dumps(document, separators=(",", ":")), 0o400, owner=self.owner)
        self._written[path] = document
        return True


def spiffe_id_in(path: Path) -> str:
    """The SPIFFE ID in a file of one's own certificate.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds none.
    """
    secret = json.loads(path.read_text(encoding="utf-8"))
    try:
        chain = secret["resources"][0]["tls_certificate"]["certificate_chain"]["inline_string"]
        certificate = x509.load_pem_x509_certificate(chain.encode())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        [found] = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (KeyError, IndexError, TypeError, x509.ExtensionNotFound) as error:
        raise ValueError(f"{path} holds no certificate of a workload") from error
    return str(found)
