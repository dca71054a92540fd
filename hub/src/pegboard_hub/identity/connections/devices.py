"""Codes to type, for programs without a browser (RFC 8628): given out, typed by a person, answered, exchanged.

The program keeps the device code, a secret; the person types the user code, which is short. Whoever knows one of them
cannot tell the other. A yes comes from a signed-in person alone, and connects the program as that person.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.identity.clients.model import Client
from pegboard_hub.identity.connections import store
from pegboard_hub.identity.connections.model import (
    ADDRESS_LENGTH,
    PROGRAM_LENGTH,
    Connection,
    connections,
    device_codes,
)
from pegboard_hub.identity.connections.service import KEPT_AFTER_MS, Answer, Connections
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.secrets import digest_of, new_id, new_secret
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.storage.database import Database

log = logging.getLogger(__name__)

ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
"""RFC 8628 §6.1: consonants alone, so that no word comes of it and nothing looks like a digit."""

CODE_LENGTH = 8
"""Of twenty letters: 34.5 bits. With all codes that may wait, one guess in 25 million hits one."""

LIFETIME_S = 600
INTERVAL_S = 5
SLOW_DOWN_S = 5
"""RFC 8628 §3.2, §3.5."""

EARLY_MS = 500
"""How much too early a poll may come: clocks and networks are not exact."""

MOST_WAITING = 1000
MOST_OF_CLIENT = 500
MOST_OF_ADDRESS = 100
"""Codes that may wait at once: of all, of one client, and of one address that asks."""

MOST_GUESSES = 10
GUESSES_IN_S = 600
"""Codes that one person may mistype in that many seconds."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a program gets that asked for a code."""

    device_code: str
    user_code: str
    expires_in: int = LIFETIME_S
    interval: int = INTERVAL_S


@dataclass(frozen=True, slots=True)
class Waiting:
    """A code that a person has typed and that waits for their answer.

    Attributes:
        resource: what the program wants to reach; empty for every server.
        asked_from: the address that asked for the code; empty when it is not known.
        asked_by: what the program calls itself; untrusted.
    """

    user_code: str
    client_id: str
    resource: str
    scope: str
    asked_from: str
    asked_by: str
    asked_at_ms: int


class TooManyGuesses(Exception):
    """Somebody has typed too many codes that nobody was given; `again_in_s` tells for how long to wait."""

    def __init__(self, again_in_s: int) -> None:
        self.again_in_s = again_in_s
        super().__init__("too many codes that do not exist")


class Devices:
    """The codes of an instance."""

    def __init__(self, database: Database, connected: Connections, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._connected = connected
        self._clock = clock
        self._missed: dict[str, list[int]] = {}

    async def give(self, client: Client, resource: str, scope: str, asked_from: str, asked_by: str) -> Given:
        """A new code.

        Raises:
            OAuthRefused: too many wait already.
        """
        now, secret = self._now_ms(), new_secret()
        row = {
            "digest": digest_of(secret),
            "client_id": client.client_id,
            "resource": resource,
            "scope": scope,
            "asked_from": asked_from[:ADDRESS_LENGTH],
            "asked_by": asked_by[:PROGRAM_LENGTH],
            "asked_at_ms": now,
            "interval_s": INTERVAL_S,
            "expires_at_ms": now + LIFETIME_S * 1000,
        }
        while True:
            user_code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
            try:
                async with self._database.write() as db:
                    await self._check_room(db, client.client_id, asked_from[:ADDRESS_LENGTH], now)
                    await db.execute(device_codes.insert().values(user_code=user_code, **row))
            except IntegrityError:  # that code is given to somebody already
                continue
            log.info("device code given", extra={"client_id": client.client_id, "asked_from": asked_from})
            return Given(secret, shown_code(user_code))

    async def find(self, typed: str, session: Session) -> Waiting | None:
        """The code that a person typed, if it waits for an answer.

        Raises:
            TooManyGuesses: the person has mistyped too many.
        """
        self._check_guesses(session.facts.sub)
        user_code = read_code(typed)
        async with self._database.read() as db:
            chosen = select(*(device_codes.c[name] for name in _WAITING)).where(self._waits(user_code))
            row = (await db.execute(chosen)).one_or_none()
        if row is None:
            self._missed.setdefault(session.facts.sub, []).append(self._now_ms())
            return None
        return Waiting(**row._mapping)

    async def allow(self, waiting: Waiting, client: Client, session: Session) -> bool:
        """Connect the program that has the code, as the person of the session; False when it waits no more."""
        now = self._now_ms()
        facts = (session.sid, session.facts.sub, client.client_id, waiting.resource, waiting.scope)
        connection = Connection(new_id(), *facts, opened_at_ms=now, seen_at_ms=now)
        async with self._database.write() as db:
            if not await self._settle(db, waiting, connection=connection.connection):
                return False
            await store.insert(db, connection)
        log.info("device code allowed", extra={"client_id": client.client_id, "sub": session.facts.sub})
        return True

    async def deny(self, waiting: Waiting, session: Session) -> bool:
        """Turn the program away; False when its code waits no more."""
        async with self._database.write() as db:
            settled = await self._settle(db, waiting, denied_at_ms=self._now_ms())
        log.info("device code denied", extra={"client_id": waiting.client_id, "sub": session.facts.sub})
        return settled

    async def exchange(self, client: Client, secret: str, resource: str) -> Answer:
        """The first tokens for a device code that a person has said yes to.

        Raises:
            OAuthRefused: nobody has yet, somebody said no, it is no code of this client's, was used, or has expired;
                in the words of RFC 8628 §3.5.
        """
        digest, now = digest_of(secret), self._now_ms()
        async with self._database.write() as db:
            chosen = select(device_codes).where(device_codes.c.digest == digest)
            row = (await db.execute(chosen)).one_or_none()
            if row is None or row.client_id != client.client_id:
                raise OAuthRefused("invalid_grant", "there is no such device code of this client")
            refused = _unsettled(row, now)
            this = update(device_codes).where(device_codes.c.digest == digest)
            if refused:
                await db.execute(this.values(_waited(row, now)))
            else:
                # Whether this use is the first, the update alone can say, as with an authorization code.
                first = await db.execute(this.where(device_codes.c.used_at_ms.is_(None)).values(used_at_ms=now))
                used_before = not first.rowcount
                found = await store.find(db, connections.c.connection == row.connection)
        if refused:
            raise refused
        if used_before:
            await self._connected.end(row.connection, "stolen")
            log.warning("a device code was used twice: the connection is ended", extra={"client_id": row.client_id})
        if used_before or not found:
            raise OAuthRefused("invalid_grant", "this device code was used before, or what it led to has ended")
        try:
            return await self._connected.first(client, found[0], resource)
        except OAuthRefused:
            # Nothing was issued: the program may come again, when the login answers or with the right resource.
            async with self._database.write() as db:
                again = device_codes.c.digest == digest
                await db.execute(update(device_codes).where(again).values(used_at_ms=None))
            raise

    async def tidy(self) -> None:
        """Forget codes that nobody can use or misuse any more, and connections that no program came for."""
        now = self._now_ms()
        async with self._database.write() as db:
            unused = device_codes.c.used_at_ms.is_(None) & (device_codes.c.expires_at_ms <= now)
            stale = select(device_codes.c.connection).where(unused, device_codes.c.connection.is_not(None))
            left = list((await db.execute(stale)).scalars())
            await db.execute(delete(device_codes).where(unused))
            old = device_codes.c.expires_at_ms <= now - KEPT_AFTER_MS
            await db.execute(delete(device_codes).where(old))
        for connection in left:
            await self._connected.end(connection, "unused")
        since = now - GUESSES_IN_S * 1000
        self._missed = {sub: kept for sub, times in self._missed.items() if (kept := [t for t in times if t > since])}

    async def _check_room(self, db: AsyncConnection, client_id: str, asked_from: str, now: int) -> None:
        waits = device_codes.c.expires_at_ms > now
        limits: tuple[tuple[ColumnElement[bool], int], ...] = (
            (waits, MOST_WAITING),
            (waits & (device_codes.c.client_id == client_id), MOST_OF_CLIENT),
            (waits & (device_codes.c.asked_from == asked_from), MOST_OF_ADDRESS),
        )
        for which, most in limits:
            count = await db.scalar(select(func.count()).select_from(device_codes).where(which))
            if (count or 0) >= most:
                words = "too many codes wait to be typed already; try again in some minutes"
                raise OAuthRefused("temporarily_unavailable", words)

    async def _settle(self, db: AsyncConnection, waiting: Waiting, **answer: str | int) -> bool:
        done = await db.execute(update(device_codes).where(self._waits(waiting.user_code)).values(answer))
        return bool(done.rowcount)

    def _waits(self, user_code: str) -> ColumnElement[bool]:
        return (
            (device_codes.c.user_code == user_code)
            & device_codes.c.connection.is_(None)
            & device_codes.c.denied_at_ms.is_(None)
            & (device_codes.c.expires_at_ms > self._now_ms())
        )

    def _check_guesses(self, sub: str) -> None:
        since = self._now_ms() - GUESSES_IN_S * 1000
        recent = [at for at in self._missed.pop(sub, []) if at > since]
        if recent:
            self._missed[sub] = recent
        if len(recent) >= MOST_GUESSES:
            raise TooManyGuesses((recent[0] - since) // 1000 + 1)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def read_code(typed: str) -> str:
    """A user code as a person types it: in any case, with dashes and spaces, of which none counts (RFC 8628 §6.1)."""
    return "".join(letter for letter in typed.upper()[:64] if letter in ALPHABET)[: CODE_LENGTH + 1]


def shown_code(user_code: str) -> str:
    """A user code as people read it: in two halves."""
    return f"{user_code[: CODE_LENGTH // 2]}-{user_code[CODE_LENGTH // 2 :]}"


_WAITING = tuple(Waiting.__slots__)


def _unsettled(row: Any, now: int) -> OAuthRefused | None:
    """Why there is nothing to be had for a code yet, or any more."""
    if row.denied_at_ms is not None:
        return OAuthRefused("access_denied", "the person said no")
    if row.connection is None and row.expires_at_ms <= now:
        return OAuthRefused("expired_token", "nobody typed the code in time; ask for a new one")
    if row.connection is None and _too_early(row, now):
        return OAuthRefused("slow_down", f"wait {row.interval_s + SLOW_DOWN_S} seconds between two requests")
    if row.connection is None:
        return OAuthRefused("authorization_pending", "nobody has typed the code and said yes yet")
    if row.used_at_ms is None and row.expires_at_ms <= now:
        return OAuthRefused("expired_token", "the code was not used in time; ask for a new one")
    return None


def _waited(row: Any, now: int) -> dict[str, int]:
    """What is kept of a request that got nothing: when it came, and how long the next has to wait."""
    slower = SLOW_DOWN_S if _too_early(row, now) else 0
    return {"polled_at_ms": now, "interval_s": row.interval_s + slower}


def _too_early(row: Any, now: int) -> bool:
    return row.polled_at_ms is not None and now - row.polled_at_ms < row.interval_s * 1000 - EARLY_MS
