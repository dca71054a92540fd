"""Releases and settings for tests of the Kubernetes runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pegboard.core.jose import Signer, new_private_key, public_jwks
from pegboard.core.names import ServerName
from pegboard.core.publishing import RELEASE_TYPE, Artifact, ArtifactFile, SignedRelease
from pegboard.core.release import Declaration
from pegboard_hub.common.runtimes import RuntimeFile
from pegboard_hub.publishing.orders import DesiredRelease, Role, Scale
from pegboard_hub.runtime.kubernetes.settings import ClusterSettings

DIGEST = "0" * 64
IMAGE = f"registry.acme.com/pegboard/base@sha256:{'a' * 64}"
SERVER = ServerName("prod", "presto")
CREDENTIAL = RuntimeFile(name="kubernetes", credential="c" * 43)
KEYS = '{"keys":[]}'

SETTINGS: dict[str, Any] = {
    "image": IMAGE,
    "public_url": "https://mcp.acme.com",
    "trust_domain": "acme.com",
    "edges": [{"namespace": "pegboard", "labels": {"app.kubernetes.io/component": "edge"}}],
    "edge_ids": ["spiffe://acme.com/ns/pegboard/sa/pegboard-edge"],
    "hub": {
        "host": "pegboard-hub.pegboard.svc",
        "port": 8444,
        "spiffe_id": "spiffe://acme.com/ns/pegboard/sa/pegboard-hub",
    },
    "hub_pods": {"namespace": "pegboard", "labels": {"app.kubernetes.io/component": "hub"}},
    "releases": {
        "host": "pegboard-runtime.pegboard.svc",
        "port": 8444,
        "spiffe_id": "spiffe://acme.com/ns/pegboard/sa/pegboard-runtime",
    },
    "runtime_pods": {"namespace": "pegboard", "labels": {"app.kubernetes.io/component": "runtime"}},
}


def settings(**changes: Any) -> ClusterSettings:
    return ClusterSettings.model_validate(SETTINGS | changes)


def release(
    *,
    server: ServerName = SERVER,
    mark: str = "a",
    image: str = "",
    scale: Scale | None = None,
    granted: tuple[str, ...] = (),
    role: Role = Role.LIVE,
    **manifest: Any,
) -> DesiredRelease:
    """A release; another `mark` is another one. `manifest` changes what its author says."""
    wheel = ArtifactFile(
        name=f"{server.name}-1-py3-none-any.whl", version="1", sha256=mark * 64, size=10, origin="own"
    )
    artifact = Artifact(
        server=str(server),
        source=mark * 64,
        lock=DIGEST,
        project=DIGEST,
        python="3.11",
        kit="0.1.0",
        files=() if image else (wheel,),
        image=image,
    )
    said = {
        "name": server.name,
        "entry": "presto:server",
        "description": "Query the warehouse",
        "owner": "platform",
        "support_channel": "#data-platform",
    }
    declaration = Declaration.model_validate(
        {"manifest": said | manifest, "tools": [], "policies": {}, "artifact": artifact.digest}
    )
    return DesiredRelease(
        release=declaration.digest,
        artifact=artifact,
        declaration=declaration,
        signature="signed",
        role=role,
        scale=scale or Scale(min=1, max=1),
        egress=granted,
    )


class Ring:
    """Keys that releases are signed with."""

    def __init__(self, folder: Path) -> None:
        key = new_private_key()
        self.keys = folder / "release-keys.json"
        self.keys.write_text(json.dumps(public_jwks(key)), encoding="utf-8")
        self._signer = Signer(key)

    def forget(self) -> None:
        """The key leaked: another takes its place, and nothing that the old one signed is believed."""
        key = new_private_key()
        self.keys.write_text(json.dumps(public_jwks(key)), encoding="utf-8")
        self._signer = Signer(key)

    def signed(self, wanted: DesiredRelease) -> DesiredRelease:
        said = SignedRelease(
            server=wanted.artifact.server,
            release=wanted.release,
            artifact=wanted.artifact.digest,
            source=wanted.artifact.source,
            sbom=DIGEST,
            submitted_by="jo",
            at=1,
        )
        signature = self._signer.sign(said.model_dump(mode="json"), RELEASE_TYPE)
        return wanted.model_copy(update={"signature": signature})
