"""Connecting a client for a person: codes, access tokens with their refresh tokens, and the end of it.

A code and a refresh token are good once. One that comes a second time was stolen from somebody, and nobody can tell
from whom: the connection ends and its access tokens are revoked (RFC 6749 §10.4, §10.5; OAuth 2.1 §4.3.1).

Who slept over a theft for days comes with a refresh token that the thief used up long ago, and ends what the thief
has: a used one is recognised by its family, for as long as the connection could be renewed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, and_
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.identity.clients.model import Client
from pegboard_hub.identity.connections import store
from pegboard_hub.identity.connections.families import family_of, new_refresh_token
from pegboard_hub.identity.connections.model import Connection, connections
from pegboard_hub.identity.connections.store import Code, Refresh
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.issue import Bearer, Issued, TokenIssuer
from pegboard_hub.identity.person import LoginUnavailable
from pegboard_hub.identity.revocations import KEPT_MS, Revocations
from pegboard_hub.identity.secrets import digest_of, new_id, new_secret
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.identity.sessions.service import SessionEnded, Sessions
from pegboard_hub.identity.surfaces.store import exchanged_tokens
from pegboard_hub.storage.database import Database

log = logging.getLogger(__name__)

CODE_LIFETIME_S = 60
"""RFC 6749 §4.1.2 recommends ten minutes at most; the client that asked is waiting."""

OURS_S = 120
"""Seconds that a token of our own pages lives: longer than the one call that it is for may take."""

KEPT_AFTER_MS = 24 * 3600 * 1000
"""How long what has expired is kept, so that a second use of it is still recognised."""

FORGOTTEN_AT_ONCE = 2000
"""Rows deleted in one transaction."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An access token with the refresh token for the next."""

    issued: Issued
    refresh_token: str


class Connections:
    """The connections of an instance."""

    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        issuer: TokenIssuer,
        revocations: Revocations,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._issuer = issuer
        self._revocations = revocations
        self._clock = clock

    async def open(self, session: Session, client: Client, resource: str, scope: str) -> Connection:
        """Connect a client to a resource; empty is any, for the one client that may."""
        connection = self._new(session, client, resource, scope)
        async with self._database.write() as db:
            await store.insert(db, connection)
        return connection

    async def open_with_code(
        self,
        session: Session,
        client: Client,
        resource: str,
        scope: str,
        *,
        redirect_uri: str,
        redirect_uri_given: bool,
        code_challenge: str,
    ) -> str:
        """Connect a client, and give the code that it gets its first token with."""
        connection, secret = self._new(session, client, resource, scope), new_secret()
        expires = self._now_ms() + CODE_LIFETIME_S * 1000
        code = Code(connection, redirect_uri, redirect_uri_given, code_challenge, expires, None)
        async with self._database.write() as db:
            await store.insert(db, connection)
            await store.insert_code(db, digest_of(secret), code)
        return secret

    async def take_code(self, client: Client, secret: str) -> Code | None:
        """The code, which from now on is used, whatever comes of it.

        None where there is no such code, or it is another client's; a second use ends what the first one got.
        """
        async with self._database.write() as db:
            code = await store.take_code(db, digest_of(secret), self._now_ms())
            if code is None or code.connection.client_id != client.client_id:
                return None
            if code.used_at_ms is not None:
                await self._stolen(db, code.connection, "an authorization code was used twice")
        if code.used_at_ms is not None:
            await self._revocations.reload()
            return None
        return code if code.connection.ended_at_ms is None else None

    async def find_refresh(self, client: Client, secret: str) -> Refresh | None:
        """The refresh token, if it is good; one that was used before ends its connection."""
        family = family_of(secret)
        async with self._database.read() as db:
            found = await store.find_refresh(db, digest_of(secret))
            old = await store.of_family(db, digest_of(family)) if family and not found else None
        connection = found.connection if found else old
        if connection is None or connection.client_id != client.client_id:
            return None
        if found is None or found.used_at_ms is not None:
            async with self._database.write() as db:
                await self._stolen(db, connection, "a refresh token was used twice")
            await self._revocations.reload()
            return None
        return replace(found, family=family) if connection.ended_at_ms is None else None

    async def first(self, client: Client, connection: Connection, resource: str = "") -> Answer:
        """The first tokens of a connection.

        Raises:
            OAuthRefused: the sign-in is over, the login does not answer, or the resource is not the connection's.
        """
        return await self._answer(client, connection, resource, connection.scope, None)

    async def next(self, client: Client, refresh: Refresh, resource: str, scope: str) -> Answer:
        """The tokens that a refresh token is exchanged for.

        Args:
            client: whose it is.
            refresh: as `find_refresh` gave it.
            resource: what was asked for; empty for the connection's own.
            scope: no wider than the connection's.

        Raises:
            OAuthRefused: as `first`, or somebody else was faster with the same refresh token.
        """
        return await self._answer(client, refresh.connection, resource, scope, refresh)

    async def token_of_ours(
        self, session: Session, client_id: str, surface: str, resource: str, scope: str
    ) -> Issued:
        """A token for one call that our own pages make for who is signed in there, noted so that sign-out voids it.

        There is no refresh token: each call gets its own, which lives `OURS_S`.

        Raises:
            OAuthRefused: the sign-in is over, the login does not answer, or the resource is no server's.
        """
        connection = Connection(
            new_id(), session.sid, session.facts.sub, client_id, "", scope, self._now_ms(), self._now_ms()
        )
        session = await self._session(connection)
        scope = self._issuer.scope_for(resource, scope)
        async with self._database.write() as db:
            if not await store.note_ours(db, connection):
                raise OAuthRefused("invalid_grant", "this sign-in was ended meanwhile; sign in again")
        bearer = Bearer(session.facts, client_id, surface, session.sid)
        known_at, ends_at = session.facts_at_ms / 1000, session.expires_at_ms // 1000
        # A life is counted from when the login told; this one from now, and never past that.
        age_s = max(self._now_ms() - session.facts_at_ms, 0) // 1000
        return self._issuer.issue(bearer, resource, scope, age_s + OURS_S, known_at=known_at, ends_at=ends_at)

    async def of(self, sub: str) -> list[Connection]:
        """A person's connections that have not ended, the newest first; without those that no client came for."""
        async with self._database.read() as db:
            return await store.find(db, (connections.c.sub == sub) & store.in_use())

    async def end(self, connection: str, why: str, sub: str | None = None) -> bool:
        """End one connection and revoke its tokens; False where there is none, or it is not `sub`'s."""
        mine = connections.c.sub == sub if sub is not None else connections.c.sub.is_not(None)
        return bool(await self._end((connections.c.connection == connection) & mine, why))

    async def end_alike(self, one: Connection, client_ids: Iterable[str], why: str) -> None:
        """End every connection that has the person, sign-in and resource of `one` and is of one of some clients.

        So end those whose code no client came for yet, too.
        """
        same = and_(
            connections.c.sid == one.sid,
            connections.c.sub == one.sub,
            connections.c.resource == one.resource,
            connections.c.client_id.in_(sorted(client_ids)),
        )
        await self._end(same, why)

    async def end_of_client(self, client_ids: list[str], why: str) -> None:
        """End every connection of clients."""
        await self._end(connections.c.client_id.in_(client_ids), why)

    async def revoke_token(self, jti: str) -> None:
        """Revoke one access token, and end the connection that it came of (RFC 7009 §2.1)."""
        async with self._database.write() as db:
            found = await store.connection_of_token(db, jti)
            await self._revocations.add(db, "token", [jti])
            if found is not None:
                await self._end_within(db, connections.c.connection == found, "revoked")
        await self._revocations.reload()

    async def tidy(self) -> None:
        """Forget codes, refresh tokens and connections that nobody can use or misuse any more."""
        deleted = FORGOTTEN_AT_ONCE
        while deleted >= FORGOTTEN_AT_ONCE:
            now = self._now_ms()
            async with self._database.write() as db:
                # A used one is needed as long as the access token of it may have to be revoked.
                deleted = await store.forget_expired(db, now - KEPT_AFTER_MS, now - KEPT_MS, FORGOTTEN_AT_ONCE)

    def _new(self, session: Session, client: Client, resource: str, scope: str) -> Connection:
        now = self._now_ms()
        facts = (session.sid, session.facts.sub, client.client_id, resource, scope)
        return Connection(new_id(), *facts, opened_at_ms=now, seen_at_ms=now)

    async def _answer(
        self, client: Client, connection: Connection, resource: str, scope: str, used: Refresh | None
    ) -> Answer:
        session = await self._session(connection)
        resource = self._resource(connection, resource)
        bearer = Bearer(session.facts, client.client_id, client.surface, session.sid, software=client.software)
        # Of a connection to any resource each token has the scope of the resource it is for.
        scope = self._issuer.scope_for(resource, scope if connection.resource else None)
        known_at, ends_at = session.facts_at_ms / 1000, session.expires_at_ms // 1000
        issued = self._issuer.issue(bearer, resource, scope, known_at=known_at, ends_at=ends_at)
        family, now = used.family if used else new_secret(), self._now_ms()
        secret = new_refresh_token(family)
        async with self._database.write() as db:
            # What ended it meanwhile revoked the tokens that it had then; this one is not among them.
            if not await store.seen(db, connection.connection, now, None if used else digest_of(family)):
                raise OAuthRefused("invalid_grant", "this sign-in was ended meanwhile; sign in again")
            taken = used is None or await store.use_refresh(db, used.digest, now)
            if taken:
                await self._keep(db, connection, secret, issued, session.expires_at_ms)
            else:
                await self._stolen(db, connection, "a refresh token was used twice at once")
        if not taken:
            await self._revocations.reload()
            raise OAuthRefused("invalid_grant", "this refresh token was used before; sign in again")
        return Answer(issued, secret)

    async def _keep(
        self, db: AsyncConnection, connection: Connection, secret: str, issued: Issued, expires_at_ms: int
    ) -> None:
        await store.insert_refresh(
            db,
            digest=digest_of(secret),
            connection=connection.connection,
            jti=issued.token_id,
            issued_at_ms=self._now_ms(),
            expires_at_ms=expires_at_ms,
        )

    async def _session(self, connection: Connection) -> Session:
        try:
            return await self._sessions.current(connection.sid)
        except SessionEnded as error:
            raise OAuthRefused("invalid_grant", "the sign-in it came from has ended; sign in again") from error
        except LoginUnavailable as error:
            words = "the company's login does not answer, so nobody's groups can be known; try again in a moment"
            raise OAuthRefused("temporarily_unavailable", words) from error

    def _resource(self, connection: Connection, asked: str) -> str:
        """What the token is for: the connection's own resource, or of a connection to any the one that was asked."""
        if not connection.resource:
            return asked or f"{self._issuer.public_url}/api"
        if asked and asked != connection.resource:
            words = f"this sign-in is for {connection.resource} alone; sign in for {asked} by itself"
            raise OAuthRefused("invalid_target", words)
        return connection.resource

    async def _stolen(self, db: AsyncConnection, connection: Connection, what: str) -> None:
        """End a connection in the transaction that found it out, so that no death between the two saves a thief."""
        log.warning(
            "%s: the connection is ended",
            what,
            extra={"sub": connection.sub, "client_id": connection.client_id, "connection": connection.connection},
        )
        await self._end_within(db, connections.c.connection == connection.connection, "stolen")

    async def _end(self, which: ColumnElement[bool], why: str) -> int:
        async with self._database.write() as db:
            ended = await self._end_within(db, which, why)
        if ended:
            await self._revocations.reload()
        return ended

    async def _end_within(self, db: AsyncConnection, which: ColumnElement[bool], why: str) -> int:
        """End connections and revoke what they have; gives how many, of those that had not ended."""
        now = self._now_ms()
        ids = [each.connection for each in await store.find(db, which)]
        await store.end(db, ids, why, now)
        await self._revocations.add(db, "token", await store.recent_tokens(db, ids, now - KEPT_MS))
        await self._revocations.add(db, "token", await exchanged_tokens(db, ids, now))
        return len(ids)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
