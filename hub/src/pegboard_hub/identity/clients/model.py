"""Clients and what operators decided on them.

Whoever registers a client by itself can have as many ids as it has words, so what people and operators decide is kept
for the *software*: where its answers go and what it calls itself (`software_of`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from urllib.parse import urlsplit

from sqlalchemy import JSON, BigInteger, Column, Index, PrimaryKeyConstraint, String, Table, Text

from pegboard_hub.identity.sessions.model import LOGIN_LENGTH, SUB_LENGTH
from pegboard_hub.storage.metadata import metadata

CLIENT_ID_LENGTH = 512
SOFTWARE_LENGTH = CLIENT_ID_LENGTH

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
"""Hosts of a redirect to a program on the person's own machine (RFC 8252 §7.3, §8.3)."""

clients = Table(
    "clients",
    metadata,
    Column("client_id", String(CLIENT_ID_LENGTH), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("software", String(SOFTWARE_LENGTH), nullable=False),
    Column("name", String(200), nullable=False, comment="what it calls itself"),
    Column("redirect_uris", JSON, nullable=False),
    Column("uri", Text, comment="its home page, as it says"),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("seen_at_ms", BigInteger, nullable=False),
    Index("ix_clients_software", "software"),
    Index("ix_clients_seen_at_ms", "seen_at_ms"),
)

client_decisions = Table(
    "client_decisions",
    metadata,
    Column("software", String(SOFTWARE_LENGTH), primary_key=True),
    Column("standing", String(16), nullable=False),
    Column("surface", String(16), comment="null: by its redirects"),
    Column("decided_by", String(SUB_LENGTH), nullable=False),
    Column("decided_at_ms", BigInteger, nullable=False),
    Column("why", Text, nullable=False),
)

consents = Table(
    "consents",
    metadata,
    Column("login", String(LOGIN_LENGTH), nullable=False, comment="issuer of the login that the person is from"),
    Column("sub", String(SUB_LENGTH), nullable=False),
    Column("software", String(SOFTWARE_LENGTH), nullable=False),
    Column("scope", Text, nullable=False),
    Column("given_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("login", "sub", "software"),
)


class ClientKind(StrEnum):
    """How a client came to be known."""

    FIRST_PARTY = "first-party"
    """Pegboard's own."""
    REGISTERED = "registered"
    """By the operator, in the settings."""
    DOCUMENT = "document"
    """By a client id metadata document: its id is the document's URL."""
    DYNAMIC = "dynamic"
    """It registered itself (RFC 7591)."""
    SURFACE = "surface"
    """By the operator, with its own key: it acts for many people (`identity/surfaces`)."""


class Standing(StrEnum):
    """What the operator decided on a client's software."""

    UNKNOWN = "unknown"
    """Nothing yet: each person is asked once."""
    APPROVED = "approved"
    """People are not asked."""
    BLOCKED = "blocked"
    """It gets nothing, and what it has is void."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client, with what was decided on it.

    Attributes:
        software: what decisions and consents are kept for.
        name: what it calls itself; untrusted unless the operator registered it.
        redirect_uris: where answers may go, exactly as registered.
        surface: from which its calls count; decided here, never by its words.
        secret: of a confidential client; None of a public one.
        any_resource: whether one sign-in of it reaches every server (Pegboard's own command alone).
    """

    client_id: str
    kind: ClientKind
    software: str
    name: str
    redirect_uris: tuple[str, ...]
    surface: str
    standing: Standing = Standing.UNKNOWN
    uri: str | None = None
    secret: str | None = None
    any_resource: bool = False

    @property
    def acts(self) -> bool:
        """Whether it acts for people, and so gets nothing by a sign-in but what it exchanges (RFC 8693)."""
        return self.kind is ClientKind.SURFACE

    @property
    def asks(self) -> bool:
        """Whether a person is asked before it gets a token. One that acts for many is let in by each of them."""
        if self.acts:
            return True
        return self.kind in (ClientKind.DOCUMENT, ClientKind.DYNAMIC) and self.standing is not Standing.APPROVED


def software_of(name: str, redirect_uris: Iterable[str]) -> str:
    """The software of a client that registered itself: the digest of its name and of where its answers go.

    Ports of redirects to the person's own machine differ at every start (RFC 8252 §7.3), so they do not count.
    Neither does what a name has in brackets at its end: some put the server there that they register for, as in
    "Claude Code (presto)". Nobody checks names, so that gives no stranger more than the name itself does.
    """
    places = sorted({_place(uri) for uri in redirect_uris})
    name = _BRACKETS.sub("", name) or name
    # As JSON, which keeps a name apart from a place, whatever signs they have.
    return f"dynamic:{sha256(json.dumps([name, *places]).encode()).hexdigest()[:40]}"


_BRACKETS = re.compile(r"\s*\([^()]*\)\s*\Z")


def _place(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS:
        return f"http://{parts.hostname}{parts.path}?{parts.query}"
    return uri
