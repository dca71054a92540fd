"""How much may be asked: rates that the edge holds callers to, and what one server may be given to do.

Limits only ever refuse what grants allow. They stand in the edge's bundle and are compiled by it, so that a call
costs no question to anybody. A rate is a token bucket: as many requests as it names may come at once, and what was
used comes back evenly over its seconds.
"""

from __future__ import annotations

from math import ceil
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from pegboard.core.manifest import Name, known_surfaces
from pegboard.core.names import ServerName

Per = Literal["address", "person", "surface", "server"]
"""Whose requests are counted together. A service counts as a person; an address is for who has no token yet."""

MOST_REQUESTS = 10_000_000
LONGEST_S = 24 * 3600
LONGEST_CALL_S = 24 * 3600
MOST_RATES = 100
"""Rates of one instance: each is looked at for every request."""

_PERS: tuple[Per, ...] = ("address", "person", "surface", "server")
_SurfaceNames = Annotated[tuple[str, ...], AfterValidator(known_surfaces)]
_Server = Annotated[str, AfterValidator(lambda text: str(ServerName.parse(text)))]


class RateLimit(BaseModel):
    """So many requests in so many seconds, of each one of a kind. What is left empty holds everywhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    per: Per = Field(description="whose requests are counted together: address, person, surface or server")
    requests: int = Field(ge=1, le=MOST_REQUESTS, description="how many")
    seconds: int = Field(default=60, ge=1, le=LONGEST_S, description="in how many seconds")
    surfaces: _SurfaceNames = Field(default=(), description="only calls from these surfaces")
    namespaces: tuple[Name, ...] = Field(default=(), description="only calls of servers in these namespaces")
    servers: tuple[_Server, ...] = Field(default=(), description="only calls of these servers")
    groups: tuple[Name, ...] = Field(default=(), description="only calls by people in one of these groups")
    except_groups: tuple[Name, ...] = Field(default=(), description="but by nobody in one of these")
    in_all: bool = Field(default=False, description="of an address: also requests that bring a token, good or bad")

    @model_validator(mode="after")
    def _an_address_is_not_narrowed(self) -> RateLimit:
        narrowed = self.surfaces or self.namespaces or self.servers or self.groups or self.except_groups
        if self.per == "address" and narrowed:
            raise ValueError("a rate per address holds for requests without a token: leave the rest out")
        if self.in_all and self.per != "address":
            raise ValueError("in_all is of a rate per address: others count what brings a good token, and only that")
        return self

    @property
    def retry_after_s(self) -> int:
        """Seconds until somebody who used all of it may ask once more."""
        return max(1, ceil(self.seconds / self.requests))


class ServerLimit(BaseModel):
    """What one server is given to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout_s: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST_CALL_S,
        description="seconds that a call may take in all; none: while it speaks",
    )
    calls: int | None = Field(default=None, ge=1, le=100_000, description="calls and streams at once; none: 1,024")


class Limits(BaseModel):
    """All limits of one instance, as the edge's bundle has them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rates: tuple[RateLimit, ...] = ()
    servers: dict[str, ServerLimit] = {}

    def of(self, server: str) -> ServerLimit:
        """What one server is given."""
        return self.servers.get(server, NO_SERVER_LIMIT)

    def kind(self, per: Per) -> tuple[RateLimit, ...]:
        """The rates of one kind."""
        return tuple(rate for rate in self.rates if rate.per == per)


NO_SERVER_LIMIT = ServerLimit()
NO_LIMITS = Limits()
"""Nothing is limited but by what the edge itself can bear."""

_MINUTE = Field(ge=0, le=MOST_REQUESTS)


class LimitsSection(BaseModel):
    """How much callers may ask, and what servers are given to do. Zero is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Annotated[int, _MINUTE] = Field(
        default=6_000,
        description="requests a minute from one address without a token, and to the hub; IPv6 counts by its /64",
    )
    address_in_all: Annotated[int, _MINUTE] = Field(
        default=120_000,
        description="requests a minute from one address, whatever they bring: counted before a token is looked at",
    )
    person: Annotated[int, _MINUTE] = Field(default=3_000, description="requests a minute of one person or service")
    surface: Annotated[int, _MINUTE] = Field(default=0, description="calls a minute from one surface, of everybody")
    server: Annotated[int, _MINUTE] = Field(default=6_000, description="calls a minute of one server, by everybody")
    rates: tuple[RateLimit, ...] = Field(
        default=(), max_length=MOST_RATES, description="further rates, which hold beside those"
    )
    servers: dict[_Server, ServerLimit] = Field(default={}, description="of single servers, by `namespace/name`")

    def compiled(self) -> Limits:
        """The limits for the edge."""
        named = [(per, requests) for per in _PERS if (requests := getattr(self, per))]
        every = tuple(RateLimit(per=per, requests=requests) for per, requests in named)
        if self.address_in_all:
            every += (RateLimit(per="address", requests=self.address_in_all, in_all=True),)
        return Limits(rates=every + self.rates, servers=dict(sorted(self.servers.items())))
