"""What an operator says of the cluster that servers run in: the file of `pegboard runtime kubernetes`."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator

from pegboard.core.checks import load_toml
from pegboard.core.errors import ConfigurationError
from pegboard.core.spiffe import TRUST_DOMAIN
from pegboard_hub.common.joining import GateAddress, SpiffeId

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_IMAGE = re.compile(
    r"[a-z0-9][a-z0-9.-]*(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+(?::[\w.-]{1,128})?@sha256:[0-9a-f]{64}"
)

Label = Annotated[str, StringConstraints(pattern=f"^{_LABEL}$")]
"""A DNS label (RFC 1123): names of namespaces and of their objects."""


def is_image(text: str) -> bool:
    """Whether `text` names an image with its registry and by its digest, so that it never means another."""
    return len(text) <= 512 and _IMAGE.fullmatch(text) is not None


def _image(text: str) -> str:
    if not is_image(text):
        raise ValueError(f"{text[:80]!r} names no image by digest, as registry.example/pegboard/base@sha256:…")
    return text


def _networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    if not texts:
        raise ValueError("name at least one network, as 10.1.2.0/24")
    return tuple(str(ipaddress.ip_network(text, strict=True)) for text in texts)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Selected(_Strict):
    """Pods of a namespace: who may reach, or is reached."""

    namespace: Label
    labels: dict[str, str] = Field(min_length=1)


class ClusterSettings(_Strict):
    """A cluster, as far as servers there need it.

    Attributes:
        runtime: what this runtime is called at the hub.
        namespace: where servers run; nothing else should be in there.
        image: the platform's base image, by digest.
        public_url: the edges' origin.
        trust_domain: of SPIFFE IDs here. A server's is `spiffe://{trust_domain}/ns/{namespace}/sa/{service account}`,
            which is what SPIRE's controller gives to pods by itself.
        edges: pods that calls come from.
        edge_ids: who those must be.
        hub: the gate in front of the hub's internal door.
        hub_pods: where that gate runs.
        releases: the door of this runtime at which pods fetch what a release is made of.
        runtime_pods: where this runtime runs.
        dns: pods that answer names; by default those that every distribution labels so.
        egress: networks behind a host that servers may be granted, by `host:port`: a NetworkPolicy knows no names.
        image_registries: beginnings of authors' own images that may run; none by default.
        pull_secret: name of a Secret in the namespace for pulling images; empty for none.
        scale_on: what replicas are counted by: `cpu`, or `in_flight` where an adapter gives the pods' metric.
        spiffe_csi: driver of the volume with the Workload API's socket.
    """

    runtime: Label = "kubernetes"
    namespace: Label = "pegboard-servers"
    image: Annotated[str, AfterValidator(_image)]
    public_url: str = Field(pattern=r"^https?://[^/\s$]+$")
    trust_domain: str = Field(pattern=f"^{TRUST_DOMAIN}$")
    edges: tuple[Selected, ...] = Field(min_length=1)
    edge_ids: tuple[SpiffeId, ...] = Field(min_length=1)
    hub: GateAddress
    hub_pods: Selected
    releases: GateAddress
    runtime_pods: Selected
    dns: Selected = Selected(namespace="kube-system", labels={"k8s-app": "kube-dns"})
    egress: dict[str, Annotated[tuple[str, ...], AfterValidator(_networks)]] = {}
    image_registries: tuple[str, ...] = ()
    pull_secret: str = Field(default="", pattern=f"^({_LABEL})?$")
    scale_on: Literal["cpu", "in_flight"] = "cpu"
    spiffe_csi: str = "csi.spiffe.io"
    node_selector: dict[str, str] = {}
    most_memory_mb: int = Field(default=8192, ge=64, description="of one replica; what asks for more is not started")
    most_cpu_millis: int = Field(default=8000, ge=50)
    most_disk_mb: int = Field(default=16_384, ge=64)
    most_replicas: int = Field(default=20, ge=1)

    @field_validator("image_registries")
    @classmethod
    def _whole(cls, registries: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [each for each in registries if not each.endswith("/")]:
            raise ValueError(f"{wrong[0]!r} must end with '/', or it would also mean its longer namesakes")
        return registries


def read_settings(path: Path) -> ClusterSettings:
    """Read the file.

    Raises:
        ConfigurationError: it cannot be read, or does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be read: {error.strerror}"]) from error
    return load_toml(ClusterSettings, text, str(path))
