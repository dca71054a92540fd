"""The signed document that edge and servers decide with, so that neither needs the hub per call.

A bundle is a compact JWS (ES256, typ `pegboard-bundle+jws`) signed with a key of its own. A consumer holds the
public half from its launch, refuses anything that does not verify or is meant for somebody else, never goes back
to a lower version, and refuses what its age no longer allows:

| older than        | refused                                                        | at most   |
|-------------------|----------------------------------------------------------------|-----------|
| `stops_max_age_s` | servers whose data is confidential or restricted (`SENSITIVE`) | 5 minutes |
| `max_age_s`       | everything                                                     | 24 hours  |

Its age is the time since the hub last signed it, which it does again every minute: so it is also how long ago there
was contact, and a stop or a revocation could have come.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer

from pegboard.core.access import ServerAccess
from pegboard.core.errors import BundleRefused
from pegboard.core.jose import Signer, Verifier
from pegboard.core.manifest import Sensitivity
from pegboard.core.names import ServerName
from pegboard.core.revoked import NOTHING, Revoked

BUNDLE_TYPE = "pegboard-bundle+jws"
EDGE = "edge"
"""Consumer name of the edge's bundle; a server's is its own `namespace/name`."""

MAX_AGE_S = 24 * 3600
STOPS_MAX_AGE_S = 5 * 60


class Ages(NamedTuple):
    """How old a bundle may grow without contact, in seconds, for grants and for stops."""

    grants_s: int = MAX_AGE_S
    stops_s: int = STOPS_MAX_AGE_S


class BundledServer(BaseModel):
    """One server as edge and gate need it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: str
    owner: str
    support_channel: str
    release: str
    groups: tuple[str, ...] = ()
    surfaces: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    reason: str = ""
    sensitivity: Sensitivity = "restricted"
    stopped: str = ""
    stopped_tools: dict[str, str] = {}

    def access(self, public_url: str) -> ServerAccess:
        """The decision's view of this server."""
        name = ServerName.parse(self.server)
        return ServerAccess(
            server=name,
            owner=self.owner,
            support_channel=self.support_channel,
            resource_url=name.resource_url(public_url),
            groups=frozenset(self.groups),
            surfaces=frozenset(self.surfaces),
            channels=frozenset(self.channels),
            services=frozenset(self.services),
            reason=self.reason,
            sensitivity=self.sensitivity,
            stopped=self.stopped,
            stopped_tools=self.stopped_tools,
        )


class Bundle(BaseModel):
    """What one consumer may know and decide with. Times are seconds since the epoch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    consumer: str
    version: int
    issued_at: int
    issuer: str
    jwks: dict[str, list[dict[str, Any]]]
    servers: tuple[BundledServer, ...]
    revoked: Revoked = NOTHING
    max_age_s: int = Field(default=MAX_AGE_S, ge=1, le=MAX_AGE_S)
    stops_max_age_s: int = Field(default=STOPS_MAX_AGE_S, ge=1, le=STOPS_MAX_AGE_S)

    @field_serializer("revoked")
    def _in_order(self, revoked: Revoked) -> dict[str, list[str]]:
        return revoked.as_json()

    def too_old(self, now: float) -> bool:
        """True when nothing may be decided with this bundle any more."""
        return now - self.issued_at > self.max_age_s

    def stops_too_old(self, now: float) -> bool:
        """True when a stop may have been missed, so that sensitive servers refuse."""
        return now - self.issued_at > self.stops_max_age_s

    def sign(self, signer: Signer) -> str:
        """This bundle as text for its consumer's disk."""
        return signer.sign(self.model_dump(mode="json"), BUNDLE_TYPE)


class BundleSigner:
    """Signs bundles that differ in consumer, version and servers alone; what they share is written out once."""

    def __init__(self, shared: Bundle, signer: Signer) -> None:
        """Write out what they share: all of `shared` but those three."""
        fields = shared.model_dump(mode="json", exclude={"consumer", "version", "servers"})
        self._shared = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)[1:]
        self._signer = signer

    def sign(self, consumer: str, version: int, servers: Iterable[str]) -> str:
        """One consumer's bundle. `servers` are the texts of `BundledServer.model_dump_json`."""
        own = f'{{"consumer":{json.dumps(consumer)},"version":{version},"servers":[{",".join(servers)}],'
        return self._signer.sign_text(own + self._shared, BUNDLE_TYPE)


def open_bundle(text: str, verifier: Verifier, consumer: str, at_least: int = 0) -> Bundle:
    """Verify and read a bundle.

    Args:
        text: the file's content.
        verifier: holds the hub's bundle keys, given at launch.
        consumer: who is reading.
        at_least: the version in use; a lower one is refused, so an old file cannot bring back old grants.

    Raises:
        BundleRefused: with the reason.
    """
    try:
        bundle = Bundle.model_validate(verifier.verify(text.strip(), BUNDLE_TYPE))
    except (ValueError, ValidationError) as error:
        raise BundleRefused("it is not signed by this hub, or was changed") from error
    if bundle.consumer != consumer:
        raise BundleRefused(f"it was made for {bundle.consumer}")
    if bundle.version < at_least:
        raise BundleRefused(f"version {bundle.version} is older than {at_least}, which is in use")
    return bundle
