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
import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from pegboard.core.access import ServerAccess
from pegboard.core.address import parse
from pegboard.core.approval import Requirement
from pegboard.core.coarse import CoarseRule, Rules, rules_as_json
from pegboard.core.errors import BundleRefused
from pegboard.core.jose import Signer, Verifier
from pegboard.core.manifest import Sensitivity
from pegboard.core.names import ServerName
from pegboard.core.rates import NO_LIMITS, Limits
from pegboard.core.revoked import NOTHING, Revoked
from pegboard.core.stops import NOTHING_STOPPED, Stops

BUNDLE_TYPE = "pegboard-bundle+jws"
EDGE = "edge"
"""Consumer name of the bundle of an instance's own edge; a server's is its own `namespace/name`, and that of a joined
edge `edge:name`."""

EDGE_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
"""What a joined edge may be called."""

MAX_AGE_S = 24 * 3600
STOPS_MAX_AGE_S = 5 * 60

WITHDRAWN_S = 15.0
"""Seconds for which a bundle is used whose key is no longer published: so long the hub has to sign it anew.

A key that leaked is withdrawn at once, and somebody else may have signed what is in use (docs/decisions/0038).
"""


def edge_consumer(name: str) -> str:
    """Consumer name of a joined edge's bundle, which is no server's: those have no colon."""
    return f"{EDGE}:{name}"


class Ages(NamedTuple):
    """How old a bundle may grow without contact, in seconds, for grants and for stops."""

    grants_s: int = MAX_AGE_S
    stops_s: int = STOPS_MAX_AGE_S


class Endpoint(BaseModel):
    """Where a replica of a server answers.

    Attributes:
        address: as `core.address` reads it.
        release: whose replica it is.
        percent: of the callers that go to its release; all endpoints of a release say the same. 0: nobody new goes
            there, and whoever has a session there stays.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(max_length=2400)
    release: str
    percent: int = Field(default=100, ge=0, le=100)

    @field_validator("address")
    @classmethod
    def _an_address(cls, value: str) -> str:
        parse(value)
        return value


class BundledServer(BaseModel):
    """One server as edge and gate need it.

    `approvals` stand in the server's own bundle alone, and only where the registry requires any: a consumer refuses a
    bundle with a key that it does not know, and one with an older kit, or an older edge, knows none of this
    (docs/decisions/0045). `endpoints` stand in edges' bundles alone, of servers whose releases were submitted; the
    others answer at the one socket that goes by their name. `notice` is what callers are told with every
    result, as of a server that is deprecated.
    """

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
    open_tools: tuple[str, ...] = ()
    rules: tuple[CoarseRule, ...] = ()
    approvals: dict[str, Requirement] = {}
    endpoints: tuple[Endpoint, ...] = ()
    notice: str = ""

    def access(self, public_url: str, stops: Stops, rules: Iterable[CoarseRule]) -> ServerAccess:
        """The decision's view of this server.

        Args:
            public_url: the edge's origin.
            stops: the callers' of the bundle it stands in.
            rules: coarse rules of that bundle, beside those that name this server alone.
        """
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
            open_tools=self.open_tools,
            stops=stops,
            rules=Rules.of((*rules, *self.rules)),
            approvals=self.approvals,
        )

    @model_validator(mode="after")
    def _endpoints_agree(self) -> Self:
        kinds = {parse(each.address).path == "" for each in self.endpoints}
        if len(kinds) > 1:
            raise ValueError(f"replicas of {self.server} are either all on this machine or all behind ports")
        if len({(each.release, each.percent) for each in self.endpoints}) > len({e.release for e in self.endpoints}):
            raise ValueError(f"replicas of one release of {self.server} have one percent")
        if len({each.address for each in self.endpoints}) < len(self.endpoints):
            raise ValueError(f"replicas of {self.server} have an address each")
        return self

    @model_serializer(mode="wrap")
    def _as_older_consumers_know_it(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        for later in ("approvals", "endpoints", "notice"):
            if not getattr(self, later):
                written.pop(later, None)
        return written

    @field_serializer("rules")
    def _without_defaults(self, rules: tuple[CoarseRule, ...]) -> list[dict[str, Any]]:
        return rules_as_json(rules)


class Bundle(BaseModel):
    """What one consumer may know and decide with. Times are seconds since the epoch.

    `limits` are told to the edge alone, which holds callers to them. `rules` are those that are about more than
    servers they name; a server is told of those that can be about its namespace.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    consumer: str
    version: int
    issued_at: int
    issuer: str
    jwks: dict[str, list[dict[str, Any]]]
    servers: tuple[BundledServer, ...]
    revoked: Revoked = NOTHING
    stops: Stops = NOTHING_STOPPED
    limits: Limits = NO_LIMITS
    rules: tuple[CoarseRule, ...] = ()
    max_age_s: int = Field(default=MAX_AGE_S, ge=1, le=MAX_AGE_S)
    stops_max_age_s: int = Field(default=STOPS_MAX_AGE_S, ge=1, le=STOPS_MAX_AGE_S)

    @field_serializer("rules")
    def _without_defaults(self, rules: tuple[CoarseRule, ...]) -> list[dict[str, Any]]:
        return rules_as_json(rules)

    @field_serializer("revoked")
    def _in_order(self, revoked: Revoked) -> dict[str, list[str]]:
        return revoked.as_json()

    @field_serializer("stops")
    def _by_name(self, stops: Stops) -> dict[str, dict[str, str]]:
        return stops.as_json()

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
