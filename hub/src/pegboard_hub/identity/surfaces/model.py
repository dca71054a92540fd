"""Registered surfaces, their history, and every exchange: who acted for whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, String, Table, Text

from pegboard.core.jose import Jwks
from pegboard.core.names import ServerName
from pegboard_hub.identity.clients.model import CLIENT_ID_LENGTH, Client, ClientKind, Standing
from pegboard_hub.identity.sessions.model import SUB_LENGTH
from pegboard_hub.storage.metadata import metadata

ASSERTION_LENGTH = 64
CODE_LENGTH = 32
WHOLE = "/*"
"""How a limit ends that opens every server of a namespace."""

acting_surfaces = Table(
    "acting_surfaces",
    metadata,
    Column("client_id", String(CLIENT_ID_LENGTH), primary_key=True),
    Column("version", Integer, nullable=False, comment="number of the entry in acting_surface_history"),
    Column("facts", JSON, nullable=False, comment="name, surface, public keys and limits"),
)

acting_surface_history = Table(
    "acting_surface_history",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("client_id", String(CLIENT_ID_LENGTH), nullable=False),
    Column("action", String(8), nullable=False, comment="register, change or remove"),
    Column("actor", String(SUB_LENGTH), nullable=False, comment="who"),
    Column("actor_kind", String(8), nullable=False, comment="person or operator"),
    Column("why", Text, nullable=False),
    Column("facts", JSON, nullable=False, comment="as they are since; of one that was removed, as they were"),
    Index("ix_acting_surface_history_client_id_seq", "client_id", "seq"),
)
"""Append-only: the database itself refuses to change or remove a row."""

used_assertions = Table(
    "used_assertions",
    metadata,
    Column("client_id", String(CLIENT_ID_LENGTH), primary_key=True),
    Column("digest", String(ASSERTION_LENGTH), primary_key=True, comment="SHA-256 of kind and jti"),
    Column("until_ms", BigInteger, nullable=False, comment="when it has expired anyway"),
    Index("ix_used_assertions_until_ms", "until_ms"),
)

exchanges = Table(
    "exchanges",
    metadata,
    Column("id", String(32), primary_key=True, comment="jti of the token; of a refusal an id of its own"),
    Column("at_ms", BigInteger, nullable=False),
    Column("client_id", String(CLIENT_ID_LENGTH), nullable=False, comment="who acts"),
    Column("sub", String(SUB_LENGTH), nullable=False, comment="for whom; empty where nobody verified says so"),
    Column("channel", Text),
    Column("resource", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("connection", String(32), comment="the person's yes that it came of"),
    Column("expires_at_ms", BigInteger, comment="when the token ends; null of a refusal"),
    Column("error", String(CODE_LENGTH), nullable=False, comment="of a refusal; empty of a token"),
    Column("detail", Text, nullable=False),
    Index("ix_exchanges_at_ms", "at_ms"),
    Index("ix_exchanges_client_id_at_ms", "client_id", "at_ms"),
    Index("ix_exchanges_connection_at_ms", "connection", "at_ms"),
)

Action = Literal["register", "change", "remove"]


@dataclass(frozen=True, slots=True)
class ActingSurface:
    """A surface that the operator registered.

    Attributes:
        client_id: its id; `act` of every token that it gets.
        surface: `chat` or `bot`.
        jwks: its public keys, ES256; the private halves never leave it.
        groups: business groups for whose people it may act.
        servers: `namespace/name`, or `namespace/*` for all of a namespace.
        channels: of a bot, those it was invited to.
        redirect_uris: where its sign-in answers; none where it has no web page of its own.
        version: of these facts; it only grows.
    """

    client_id: str
    name: str
    surface: str
    jwks: Jwks
    groups: tuple[str, ...]
    servers: tuple[str, ...]
    channels: tuple[str, ...] = ()
    redirect_uris: tuple[str, ...] = ()
    version: int = field(default=0, compare=False)

    def opens(self, server: ServerName) -> bool:
        """Whether it may reach a server for anybody."""
        return str(server) in self.servers or f"{server.namespace}{WHOLE}" in self.servers

    def acts_for(self, groups: Iterable[str]) -> bool:
        """Whether it may act for somebody in these groups."""
        return not set(self.groups).isdisjoint(groups)

    @property
    def client(self) -> Client:
        """It as a client: the operator vouches for it, and each person is asked all the same."""
        return Client(
            client_id=self.client_id,
            kind=ClientKind.SURFACE,
            software=self.client_id,
            name=self.name,
            redirect_uris=self.redirect_uris,
            surface=self.surface,
            standing=Standing.APPROVED,
        )

    def facts(self) -> dict[str, Any]:
        """What is kept of it, as JSON."""
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return {"name": self.name, "surface": self.surface, "jwks": self.jwks, **lists}

    @classmethod
    def of(cls, client_id: str, facts: Mapping[str, Any], version: int) -> ActingSurface:
        """What `facts` gave, read again."""
        lists = {name: tuple(facts[name]) for name in _LISTS}
        return cls(client_id, facts["name"], facts["surface"], facts["jwks"], **lists, version=version)


_LISTS = ("groups", "servers", "channels", "redirect_uris")


@dataclass(frozen=True, slots=True)
class By:
    """Who registers, changes or removes a surface: a person by their id, or the operator at the machine."""

    sub: str
    kind: Literal["person", "operator"] = "person"


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the history. `surface` is as it is since; of one that was removed, as it was."""

    seq: int
    at_ms: int
    action: Action
    by: By
    why: str
    surface: ActingSurface


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange: who acted for whom. Times are milliseconds since the epoch.

    Attributes:
        id: `jti` of the token; of a refusal an id of its own.
        sub: the person; empty where nobody verified says who.
        connection: the person's yes that it came of.
        expires_at_ms: when the token ends; None of a refusal.
        error: of a refusal, in OAuth's word.
    """

    id: str
    at_ms: int
    client_id: str
    sub: str
    channel: str | None
    resource: str
    scope: str
    connection: str | None
    expires_at_ms: int | None
    error: str = ""
    detail: str = ""
