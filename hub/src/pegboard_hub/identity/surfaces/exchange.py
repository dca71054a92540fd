"""Token exchange (RFC 8693): a registered surface and a person's word, for a short token of one server.

The person's word is one of two:

- the token that the person's own sign-in to the surface led to (`SUBJECT_TYPE`), which is good for nothing else;
- a statement that the surface signs: this person wrote this message, in this channel. It counts only for people who
  let the surface act for them, in a browser of theirs that is still signed in.

Limits of the surface are held here, when a token is given; everything else, at both layers, when it is used.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.names import MCP_PREFIX, ServerName, exchange_audience
from pegboard.core.scopes import SCOPE_TOOLS, SCOPE_TOOLS_READ
from pegboard_hub.identity.connections import store as connections_store
from pegboard_hub.identity.connections.model import Connection, connections
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.issue import SUBJECT_TYPE, Bearer, Issued, TokenIssuer
from pegboard_hub.identity.keys import Keys
from pegboard_hub.identity.person import LoginUnavailable
from pegboard_hub.identity.revocations import Revocations
from pegboard_hub.identity.secrets import new_id
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.identity.sessions.service import SessionEnded, Sessions
from pegboard_hub.identity.surfaces import store
from pegboard_hub.identity.surfaces.assertions import Assertion, AssertionRefused, Kind, read_assertion
from pegboard_hub.identity.surfaces.model import ActingSurface, Exchange
from pegboard_hub.storage.database import Database

log = logging.getLogger(__name__)

LIFETIME_S = 5 * 60
"""Seconds that an exchanged token lives, at most."""

MOST_TRIED = 5
"""Sign-ins of one person that are looked at for one that is still good."""


@dataclass(frozen=True, slots=True)
class Subject:
    """For whom, by which of their connections, and what is to be kept of how it was said.

    Attributes:
        scope: no wider than this.
        ends_at: when the word ends that was given, in seconds since the epoch; None: with the sign-in.
        statement: that is used up by the exchange.
    """

    connection: Connection
    scope: str
    channel: str | None = None
    ends_at: float | None = None
    statement: Assertion | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What an exchange asks for.

    Attributes:
        subject_token: as it came.
        statement: whether that is the surface's own statement, and not the token of a sign-in.
    """

    surface: ActingSurface
    resource: str
    scope: str
    subject_token: str
    statement: bool


class Acting:
    """Exchanges of an instance.

    Args:
        database: has the tables.
        sessions: of people.
        issuer: signs what is given.
        keys: that subject tokens are verified with.
        revocations: what is void.
        clock: seconds since the epoch.
        refused: told the error of each request that is refused.
    """

    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        issuer: TokenIssuer,
        keys: Keys,
        revocations: Revocations,
        clock: Callable[[], float] = time.time,
        refused: Callable[[str], None] = lambda _error: None,
    ) -> None:
        self.refused = refused
        self._database = database
        self._sessions = sessions
        self._issuer = issuer
        self._keys = keys
        self._revocations = revocations
        self._clock = clock
        self.audience = exchange_audience(issuer.public_url)

    async def authenticate(self, surface: ActingSurface, assertion: str) -> None:
        """See to it that a request is the surface's: by what it signed, once (RFC 7523 §3).

        Raises:
            OAuthRefused: it is not.
        """
        try:
            said = self._read(assertion, "client", surface)
        except AssertionRefused as error:
            raise OAuthRefused("invalid_client", f"client_assertion: {error}") from error
        async with self._database.write() as db:
            first = await store.use(db, surface.client_id, said.digest, said.until_ms)
        if not first:
            raise OAuthRefused("invalid_client", "client_assertion: this jti was used before; sign a new one")

    async def exchange(self, wish: Wish) -> Issued:
        """The token, with the record of who acts for whom.

        Raises:
            OAuthRefused: in the words of RFC 8693 §2.2.2; it is recorded too.
        """
        named = _Named()
        try:
            return await self._exchange(wish, named)
        except OAuthRefused as refused:
            await self._note_refusal(wish, named, refused)
            raise

    async def _exchange(self, wish: Wish, named: _Named) -> Issued:
        surface = wish.surface
        subject = await (self._by_statement(wish, named) if wish.statement else self._by_token(wish, named))
        _check_server(surface, wish.resource, self._issuer.public_url)
        session = await self._session(subject.connection)
        if not surface.acts_for(session.facts.groups):
            words = f"{surface.client_id} may not act for anybody in the groups that this person is in"
            raise OAuthRefused("invalid_request", words)
        scope = _narrowed(self._issuer.scope_for(wish.resource, wish.scope or subject.scope), subject.scope)
        bearer = Bearer(
            session.facts,
            surface.client_id,
            surface.surface,
            session.sid,
            subject.channel,
            surface.client_id,
            acts=True,
        )
        now, facts_at = self._clock(), session.facts_at_ms / 1000
        ends_at = min(session.expires_at_ms // 1000, int(subject.ends_at or now + LIFETIME_S), int(now) + LIFETIME_S)
        # A life is counted from when the login told; this one from now, and never past that by more than the usual.
        issued = self._issuer.issue(
            bearer,
            wish.resource,
            scope,
            int(max(now - facts_at, 0)) + LIFETIME_S,
            known_at=facts_at,
            ends_at=ends_at,
        )
        await self._keep(wish, subject, issued)
        return issued

    async def _by_token(self, wish: Wish, named: _Named) -> Subject:
        """The subject of a token that the person's own sign-in to this surface led to."""
        surface = wish.surface
        if surface.surface == "bot":
            words = "a bot says in whose message and in which channel it acts: sign that as the subject_token"
            raise OAuthRefused("invalid_request", words)
        try:
            claims = self._keys.verify_token(wish.subject_token, SUBJECT_TYPE)
        except ValueError as error:
            words = f"subject_token is no token of ours for {self.audience}; it was not changed into one"
            raise OAuthRefused("invalid_request", words) from error
        jti, sid = str(claims.get("jti")), claims.get("sid")
        if claims.get("aud") != self.audience or claims.get("iss") != self._issuer.public_url:
            raise OAuthRefused("invalid_request", "subject_token is for another purpose")
        if claims.get("client_id") != surface.client_id:
            raise OAuthRefused("invalid_request", "subject_token was given to another client")
        if claims["exp"] <= self._clock():
            raise OAuthRefused("invalid_request", "subject_token has expired; renew it with its refresh token")
        void = self._revocations.current
        async with self._database.read() as db:
            found = await connections_store.connection_of_token(db, jti)
            ours = await connections_store.find(db, connections.c.connection == found) if found else []
        if jti in void.tokens or sid in void.sessions or not ours:
            raise OAuthRefused("invalid_request", "the sign-in that subject_token came of has ended; sign in again")
        named.sub = ours[0].sub
        return Subject(ours[0], str(claims.get("scope", "")), ends_at=float(claims["exp"]))

    async def _by_statement(self, wish: Wish, named: _Named) -> Subject:
        """The subject of a statement: the author of a message, who let this surface act for them."""
        surface = wish.surface
        try:
            said = self._read(wish.subject_token, "author", surface)
        except AssertionRefused as error:
            raise OAuthRefused("invalid_request", f"subject_token: {error}") from error
        named.channel = said.channel
        if surface.surface == "bot" and said.channel is None:
            raise OAuthRefused("invalid_request", "subject_token: channel is missing: say where the message is")
        if said.channel is not None and said.channel not in surface.channels:
            words = f"subject_token: channel is none that {surface.client_id} is registered with"
            raise OAuthRefused("invalid_request", words)
        connection = await self._connected(surface, said.sub)
        if connection is None:
            page = f"{self._issuer.public_url}/acting?client={surface.client_id}"
            words = f"this person did not let {surface.client_id} act for them: send them to {page}"
            raise OAuthRefused("invalid_request", words)
        named.sub = said.sub
        return Subject(connection, connection.scope, said.channel, statement=said)

    async def _connected(self, surface: ActingSurface, sub: str) -> Connection | None:
        """The newest of a person's connections of this surface whose sign-in has not ended."""
        which = and_(
            connections.c.sub == sub,
            connections.c.client_id == surface.client_id,
            connections.c.resource == self.audience,
        )
        async with self._database.read() as db:
            found = await connections_store.find(db, which)
        for connection in found[:MOST_TRIED]:
            if await self._sessions.get(connection.sid) is not None:
                return connection
        return None

    async def _session(self, connection: Connection) -> Session:
        try:
            return await self._sessions.current(connection.sid)
        except SessionEnded as error:
            words = "the person's sign-in has ended; they sign in again, and let this surface act for them"
            raise OAuthRefused("invalid_request", words) from error
        except LoginUnavailable as error:
            words = "the company's login does not answer, so nobody's groups can be known; try again in a moment"
            raise OAuthRefused("temporarily_unavailable", words) from error

    async def _keep(self, wish: Wish, subject: Subject, issued: Issued) -> None:
        """Record the exchange in one transaction with everything that must still be so for it to count."""
        surface, connection, said = wish.surface, subject.connection, subject.statement
        now = self._now_ms()
        async with self._database.write() as db:
            await self._check_unchanged(db, surface)
            if said is not None and not await store.use(db, surface.client_id, said.digest, said.until_ms):
                raise OAuthRefused("invalid_request", "subject_token: this jti was used before; sign a new one")
            if not await connections_store.seen(db, connection.connection, now):
                words = "the person took back meanwhile that this surface acts for them"
                raise OAuthRefused("invalid_request", words)
            record = Exchange(
                id=issued.token_id,
                at_ms=now,
                client_id=surface.client_id,
                sub=connection.sub,
                channel=subject.channel,
                resource=wish.resource,
                scope=issued.scope,
                connection=connection.connection,
                expires_at_ms=now + issued.expires_in * 1000,
            )
            await store.add(db, record)
        facts = {"act": surface.client_id, "sub": connection.sub, "channel": subject.channel}
        log.info("token exchanged", extra={**facts, "resource": wish.resource, "token_id": issued.token_id})

    async def _check_unchanged(self, db: AsyncConnection, surface: ActingSurface) -> None:
        now = await store.find(db, surface.client_id)
        if now is None or now.version != surface.version:
            raise OAuthRefused("invalid_client", "this surface was changed or removed meanwhile; ask again")

    async def _note_refusal(self, wish: Wish, named: _Named, refused: OAuthRefused) -> None:
        record = Exchange(
            id=new_id(),
            at_ms=self._now_ms(),
            client_id=wish.surface.client_id,
            sub=named.sub,
            channel=named.channel,
            resource=wish.resource[:LONGEST_NOTED],
            scope=wish.scope[:LONGEST_NOTED],
            connection=None,
            expires_at_ms=None,
            error=refused.code,
            detail=refused.description[:LONGEST_NOTED],
        )
        async with self._database.write() as db:
            await store.add(db, record)
        facts = {"act": wish.surface.client_id, "sub": named.sub, "error": refused.code, "why": refused.description}
        log.warning("token exchange refused", extra=facts)

    def _read(self, text: str, kind: Kind, surface: ActingSurface) -> Assertion:
        return read_assertion(text, kind, surface.client_id, surface.jwks, self._issuer.public_url, self._clock())

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


LONGEST_NOTED = 500


class _Named:
    """Who was named by what verified, for the record of a refusal."""

    def __init__(self) -> None:
        self.sub = ""
        self.channel: str | None = None


def _check_server(surface: ActingSurface, resource: str, public_url: str) -> None:
    try:
        name = ServerName.parse(resource.removeprefix(f"{public_url}{MCP_PREFIX}"))
    except ValueError:
        name = None
    if name is None or name.resource_url(public_url) != resource or not surface.opens(name):
        words = f"{resource[:200]!a} is no server that {surface.client_id} may reach for people"
        raise OAuthRefused("invalid_target", words)


def _narrowed(scope: str, allowed: str) -> str:
    """The scope that is given.

    Raises:
        OAuthRefused: it is wider than what the person said yes to.
    """
    wider: set[Any] = set(scope.split()) - set(allowed.split())
    if SCOPE_TOOLS in allowed.split():
        wider -= {SCOPE_TOOLS_READ}
    if wider:
        raise OAuthRefused("invalid_scope", f"the person said yes to {allowed or 'nothing'}")
    return scope
