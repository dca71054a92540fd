"""Signing in and out: sessions are opened, found by their cookie, held to what the login says, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from typing import Protocol
from weakref import WeakValueDictionary

from sqlalchemy import ColumnElement, and_, or_, update

from pegboard.core.errors import PegboardError
from pegboard_hub.identity.connections.model import connections
from pegboard_hub.identity.person import Login, LoginEnded, LoginUnavailable, PersonFacts, SignedIn
from pegboard_hub.identity.revocations import KEPT_MS, Revocations
from pegboard_hub.identity.secrets import digest_of, new_id, new_secret
from pegboard_hub.identity.sessions import store
from pegboard_hub.identity.sessions.model import Session, sessions
from pegboard_hub.storage.database import Database, batches
from pegboard_hub.storage.errors import StorageUnavailable

log = logging.getLogger(__name__)

LIFETIME_S = 7 * 24 * 3600
RENEW_AFTER_S = 60
"""Age in seconds from which the login is asked again before a token is issued."""

SEEN_EVERY_MS = 60_000

KEPT_AFTER_MS = 24 * 3600 * 1000
"""How long a session that has expired is kept: as long as its refresh tokens, which tell when one is used twice."""

FORGOTTEN_AT_ONCE = 2000
"""Rows deleted in one transaction."""
DEVICE_LENGTH = 200


class SessionEnded(PegboardError):
    """The sign-in is over, so nothing can be issued for it any more."""


class Sealer(Protocol):
    """Keeps what renews a person's facts unreadable in the database."""

    def seal(self, text: str, /) -> str:
        """`text`, sealed."""

    def unseal(self, sealed: str, /) -> str:
        """What was sealed.

        Raises:
            ValueError: it was not sealed with a key that is known.
        """


def person_is(person: str) -> ColumnElement[bool]:
    """Whose sessions are meant by an id or an e-mail address."""
    return or_(sessions.c.sub == person, sessions.c.email == person)


class _Renewing:
    """One session's facts being asked for, as long as anybody waits for them.

    Attributes:
        silent: what is said of a login that did not answer who went first: those behind do not wait once more each.
    """

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.silent = ""


class Sessions:
    """The sessions of an instance."""

    def __init__(
        self,
        database: Database,
        login: Login,
        sealer: Sealer,
        revocations: Revocations,
        lifetime_s: int = LIFETIME_S,
        renew_after_s: float = RENEW_AFTER_S,
        clock: Callable[[], float] = time.time,
        alone: Callable[[str], AbstractAsyncContextManager[None]] = lambda _name: nullcontext(),
    ) -> None:
        """Prepare.

        Args:
            database: where sessions are kept.
            login: who tells who people are.
            sealer: seals what renews their facts.
            revocations: what the end of a session adds to.
            lifetime_s: of a session.
            renew_after_s: age of facts from which the login is asked again.
            clock: seconds since the epoch.
            alone: keeps other hubs from doing what is named meanwhile.
        """
        self._alone = alone
        self.login = login
        self.lifetime_s = lifetime_s
        self._database = database
        self._sealer = sealer
        self._revocations = revocations
        self.renew_after_s = renew_after_s
        self._clock = clock
        self._renewing: WeakValueDictionary[str, _Renewing] = WeakValueDictionary()

    async def open(self, signed_in: SignedIn, device: str) -> tuple[Session, str]:
        """A new session, with the secret for its cookie. There is no other way to get one."""
        now, secret = self._now_ms(), new_secret()
        proved_at = now if signed_in.authenticated_at is None else int(signed_in.authenticated_at * 1000)
        session = Session(
            sid=new_id(),
            facts=signed_in.facts,
            subject=signed_in.subject,
            login_session=signed_in.session,
            renewal=self._sealed(signed_in.renewal),
            device=device[:DEVICE_LENGTH],
            opened_at_ms=now,
            authenticated_at_ms=min(now, proved_at),
            facts_at_ms=now,
            seen_at_ms=now,
            expires_at_ms=now + self.lifetime_s * 1000,
        )
        async with self._database.write() as connection:
            await store.insert(connection, session, digest_of(secret), self.login.issuer)
        log.info("signed in", extra={"sub": session.facts.sub, "sid": session.sid})
        return session, secret

    async def find(self, secret: str | None) -> Session | None:
        """The live session that a cookie's value stands for."""
        if not secret:
            return None
        async with self._database.read() as connection:
            session = await store.by_digest(connection, digest_of(secret))
        return await self._if_live(session)

    async def get(self, sid: str) -> Session | None:
        """The live session of that id."""
        async with self._database.read() as connection:
            session = await store.by_sid(connection, sid)
        return await self._if_live(session)

    async def of(self, sub: str) -> list[Session]:
        """A person's live sessions, the newest first."""
        async with self._database.read() as connection:
            return await store.live(connection, sessions.c.sub == sub, self._now_ms())

    async def everybody(self) -> list[PersonFacts]:
        """Whoever is signed in, as the login last told of them."""
        async with self._database.read() as connection:
            return await store.everybody(connection, self._now_ms())

    async def called(self, person: str | None, most: int) -> list[Session]:
        """Live sessions of whoever has that id or e-mail address, or of everybody: the newest `most`."""
        named = sessions.c.sub.is_not(None) if person is None else person_is(person)
        async with self._database.read() as connection:
            return await store.live(connection, named, self._now_ms(), most)

    async def end_of_called(self, person: str, why: str) -> list[Session]:
        """End every session of whoever has that id or e-mail address; gives those that there were."""
        return await self._end(person_is(person), why)

    async def current(self, sid: str, at_most_s: float | None = None) -> Session:
        """The session with what the login says of its person now, or said less than `renew_after_s` ago.

        Args:
            sid: the session's id.
            at_most_s: how old the facts may be instead of `renew_after_s`, in seconds.

        Raises:
            SessionEnded: it is over, or the login says so now.
            LoginUnavailable: the login does not answer.
        """
        renewing = self._renewing.setdefault(sid, _Renewing())
        waited = renewing.lock.locked()
        async with renewing.lock:
            if waited and renewing.silent:
                raise LoginUnavailable(renewing.silent)
            session = await self._live(sid)
            if self._is_fresh(session, at_most_s):
                return session
            renewing.silent = ""
            try:
                # A login may take what renews for stolen when it comes twice (RFC 9700 §4.14.2).
                async with self._alone(f"renew {sid}"):
                    session = await self._live(sid)
                    return session if self._is_fresh(session, at_most_s) else await self._renew(session)
            except LoginUnavailable as error:
                renewing.silent = str(error)
                raise

    async def _live(self, sid: str) -> Session:
        session = await self.get(sid)
        if session is None:
            raise SessionEnded("the sign-in is over")
        return session

    def _is_fresh(self, session: Session, at_most_s: float | None) -> bool:
        oldest_s = self.renew_after_s if at_most_s is None else at_most_s
        return self._now_ms() - session.facts_at_ms <= oldest_s * 1000

    async def end(self, sid: str, why: str) -> None:
        """End one session, with everything that came of it."""
        await self._end(sessions.c.sid == sid, why)

    async def end_all_of(self, sub: str, why: str) -> None:
        """End every session of a person."""
        await self._end(sessions.c.sub == sub, why)

    async def end_by_login(self, *, subject: str = "", session: str = "", why: str) -> None:
        """End what the login names: its own session, or else everything of its person (Back-Channel Logout §2.4).

        A sign-in of which it told no session of its own may be the one that it names now, where the person is.
        """
        theirs = sessions.c.subject == subject
        named = theirs if not session else sessions.c.login_session == session
        if session and subject:
            named = or_(named, and_(theirs, sessions.c.login_session == ""))
        await self._end(named, why)

    async def tidy(self) -> None:
        """Forget sessions that expired a day ago, whose connections are forgotten."""
        deleted = FORGOTTEN_AT_ONCE
        while deleted >= FORGOTTEN_AT_ONCE:
            async with self._database.write() as connection:
                deleted = await store.forget_expired(connection, self._now_ms() - KEPT_AFTER_MS, FORGOTTEN_AT_ONCE)

    def renewal_of(self, session: Session) -> str:
        """What the login gave to ask it again with; empty where it gave nothing, or that cannot be read any more."""
        try:
            return self._unsealed(session.renewal)
        except LoginEnded:
            return ""

    async def end_others(self) -> None:
        """End what is left of another login: its people are not this one's, whatever they are called."""
        await self._end(sessions.c.login != self.login.issuer, "another login")

    async def _renew(self, session: Session) -> Session:
        told_at = self._now_ms()
        try:
            told = await self.login.renew(self._unsealed(session.renewal), session.facts)
            if told.facts.sub != session.facts.sub:
                raise LoginEnded("the login told of somebody else")
        except LoginEnded as error:
            await self.end(session.sid, "login")
            raise SessionEnded(str(error)) from error
        renewed = replace(session, facts=told.facts, renewal=self._sealed(told.renewal), facts_at_ms=told_at)
        async with self._database.write() as connection:
            if not await store.renew(connection, renewed):
                raise SessionEnded("the sign-in was ended meanwhile")
        return renewed

    async def _end(self, which: ColumnElement[bool], why: str) -> list[Session]:
        now = self._now_ms()
        async with self._database.write() as connection:
            ended = await store.live(connection, which, now)
            if not ended:
                return []
            for some in batches([session.sid for session in ended]):
                await store.end(connection, some, why, now)
                await connection.execute(
                    update(connections)
                    .where(connections.c.sid.in_(some), connections.c.ended_at_ms.is_(None))
                    .values(ended_at_ms=now, ended_why=why)
                )
                # Of the others no token is left to refuse, and the list is looked through at every call.
                lately = await store.with_tokens(connection, some, now - KEPT_MS)
                await self._revocations.add(connection, "session", lately)
        await self._revocations.reload()
        for session in ended:
            log.info("signed out", extra={"sub": session.facts.sub, "sid": session.sid, "why": why})
        return ended

    async def _if_live(self, session: Session | None) -> Session | None:
        now = self._now_ms()
        if session is None or not session.live(now):
            return None
        if now - session.seen_at_ms > SEEN_EVERY_MS:
            # A disk that is full signs nobody out.
            with contextlib.suppress(StorageUnavailable):
                async with self._database.write() as connection:
                    await store.seen(connection, session.sid, now)
        return session

    def _sealed(self, renewal: str) -> str:
        return self._sealer.seal(renewal) if renewal else ""

    def _unsealed(self, sealed: str) -> str:
        try:
            return self._sealer.unseal(sealed) if sealed else ""
        except ValueError as error:
            raise LoginEnded("what renews the sign-in cannot be read any more") from error

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
