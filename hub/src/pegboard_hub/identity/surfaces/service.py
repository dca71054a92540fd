"""Registering, changing and removing surfaces that act for people; who is registered now."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from pegboard.core.jose import Jwks, read_public_jwks
from pegboard.core.names import ACTING_SURFACES, NAME_PATTERN, ServerName
from pegboard_hub.identity.clients.errors import RedirectRefused
from pegboard_hub.identity.clients.redirects import check_redirects
from pegboard_hub.identity.clients.store import withdraw_all
from pegboard_hub.identity.revocations import Revocations
from pegboard_hub.identity.settings import OWN_IDS
from pegboard_hub.identity.surfaces import store
from pegboard_hub.identity.surfaces.errors import SurfaceRefused
from pegboard_hub.identity.surfaces.model import WHOLE, ActingSurface, By, Event, Exchange
from pegboard_hub.storage.database import Database

log = logging.getLogger(__name__)

FOLLOW_S = 0.5
"""How often a hub looks for what others registered or removed, in seconds."""

MOST_KEYS = 8
MOST_VALUES = 200
LONGEST_NAME = 200
LONGEST_VALUE = 200
LONGEST_WHY = 500
MOST_EVENTS = 200
MOST_EXCHANGES = 200

KEPT_MS = 90 * 24 * 3600 * 1000
"""How long the record of an exchange is kept; the calls themselves stay in the ledger."""

_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_GROUP = re.compile(NAME_PATTERN)


class Surfaces:
    """The registered surfaces of an instance.

    Args:
        database: has the tables.
        revocations: what a change adds to: tokens under the old facts are void.
        end_connections: ends the connections of client ids, for a reason.
        taken: whether a client id is somebody else's.
        clock: seconds since the epoch.

    Attributes:
        current: those that are registered now, by client id.
    """

    def __init__(
        self,
        database: Database,
        revocations: Revocations,
        end_connections: Callable[[list[str], str], Awaitable[None]],
        taken: Callable[[str], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._revocations = revocations
        self._end_connections = end_connections
        self._taken = taken
        self._clock = clock
        self._known = 0
        self._one_at_a_time = asyncio.Lock()
        self.current: Mapping[str, ActingSurface] = {}

    async def reload(self) -> None:
        """Take over what the table says."""
        # Of two that look, the one that looked first must not have the last word.
        async with self._one_at_a_time, self._database.read() as db:
            self._known, self.current = await store.newest(db), await store.registered(db)

    async def follow(self) -> None:
        """Take over what other hubs do, until cancelled."""
        while True:
            try:
                async with self._database.read() as db:
                    newest = await store.newest(db)
                if newest != self._known:
                    await self.reload()
            except Exception:
                log.exception("which surfaces are registered could not be looked up, and is tried again")
            await asyncio.sleep(FOLLOW_S)

    async def register(self, by: By, surface: ActingSurface, why: str) -> ActingSurface:
        """Register a surface that there is not yet.

        Raises:
            SurfaceRefused: its id is taken, or a value cannot be.
        """
        surface, why = _checked(surface), _why(why)
        if surface.client_id.startswith(OWN_IDS) or self._taken(surface.client_id):
            raise _fault("client_id", "This id is another client's.", "Choose another.", "taken")
        async with self._database.write() as db:
            if await store.find(db, surface.client_id) is not None:
                raise _fault("client_id", "A surface of this id is registered.", "Change that one.", "taken")
            version = await store.note(db, surface, "register", by, why, self._now_ms())
            # What people said to whatever had this id before was not said to this one.
            await withdraw_all(db, surface.client_id)
            surface = replace(surface, version=version)
            await store.put(db, surface)
        return await self._done("surface registered", surface, by, why)

    async def change(self, by: By, surface: ActingSurface, why: str, of_version: int | None = None) -> ActingSurface:
        """Put other facts in the place of a surface's. What it got under the old ones is void at once.

        Args:
            by: who wants it.
            surface: as it shall be.
            why: for the history.
            of_version: the version that was looked at; None changes whatever there is.

        Raises:
            SurfaceRefused: there is none of that id, a value cannot be, or somebody else changed it meanwhile.
        """
        surface, why = _checked(surface), _why(why)
        async with self._database.write() as db:
            before = await store.find(db, surface.client_id)
            if before is None:
                raise _unknown(surface.client_id)
            if of_version is not None and before.version != of_version:
                raise _fault("version", "Somebody else changed it meanwhile.", "Look at it again.", "changed")
            if before.surface != surface.surface:
                raise _fault("surface", "What it is cannot change.", "Register another under its own id.")
            version = await store.note(db, surface, "change", by, why, self._now_ms())
            surface = replace(surface, version=version)
            await store.put(db, surface)
            await self._revocations.add(db, "token", await self._tokens(db, surface.client_id))
        await self._revocations.reload()
        return await self._done("surface changed", surface, by, why)

    async def remove(self, by: By, client_id: str, why: str) -> ActingSurface:
        """Forget a surface: it gets nothing any more, what it has is void, and everybody's yes to it has ended.

        Raises:
            SurfaceRefused: there is none of that id, or no reason.
        """
        why = _why(why)
        async with self._database.write() as db:
            before = await store.find(db, client_id)
            if before is None:
                raise _unknown(client_id)
            await store.note(db, before, "remove", by, why, self._now_ms())
            await store.remove(db, client_id)
            await withdraw_all(db, client_id)
            await self._revocations.add(db, "token", await self._tokens(db, client_id))
        await self._revocations.reload()
        await self._end_connections([client_id], "surface removed")
        return await self._done("surface removed", before, by, why)

    async def history(self, client_id: str | None = None, limit: int = MOST_EVENTS) -> list[Event]:
        """What was done, newest first; with one surface, or with all."""
        async with self._database.read() as db:
            return await store.events(db, client_id, min(limit, MOST_EVENTS))

    async def exchanges(self, client_id: str, limit: int = MOST_EXCHANGES) -> list[Exchange]:
        """For whom a surface acted, newest first, with what was refused."""
        async with self._database.read() as db:
            return await store.latest(db, client_id, min(limit, MOST_EXCHANGES))

    async def tidy(self) -> None:
        """Forget assertions that have expired anyway, and exchanges of long ago."""
        now = self._now_ms()
        async with self._database.write() as db:
            await store.forget(db, now, now - KEPT_MS)

    async def _tokens(self, db: Any, client_id: str) -> list[str]:
        return await store.live_tokens(db, client_id, self._now_ms())

    async def _done(self, what: str, surface: ActingSurface, by: By, why: str) -> ActingSurface:
        await self.reload()
        log.warning(what, extra={"client_id": surface.client_id, "sub": by.sub, "why": why})
        return surface

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def surface_of_text(client_id: str, said: Mapping[str, Any]) -> ActingSurface:
    """A surface as a command, the API or a page describes it; what each value may be is looked at later.

    Raises:
        SurfaceRefused: a value has the wrong form.
    """

    def listed(field: str) -> tuple[str, ...]:
        given = said.get(field) or ()
        if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
            raise _fault(field, "It is not a list of texts.", "Write a list.")
        return tuple(dict.fromkeys(each.strip() for each in given))

    name, surface = said.get("name"), said.get("surface")
    if not isinstance(name, str) or not isinstance(surface, str):
        raise _fault("name" if not isinstance(name, str) else "surface", "It is not a text.", "Write one.")
    return ActingSurface(
        client_id,
        name,
        surface,
        said.get("jwks") or {},
        groups=listed("groups"),
        servers=listed("servers"),
        channels=listed("channels"),
        redirect_uris=listed("redirect_uris"),
    )


def _checked(surface: ActingSurface) -> ActingSurface:
    """The surface with nothing in it that cannot be.

    Raises:
        SurfaceRefused: a value cannot be; it is named.
    """
    if not _CLIENT_ID.fullmatch(surface.client_id):
        words = "It is not 1 to 100 of A-Z, a-z, 0-9, '.', '_' and '-', beginning with a letter or digit."
        raise _fault("client_id", words, "Choose another.")
    name = " ".join(surface.name.split())
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise _fault("name", f"It is empty, or longer than {LONGEST_NAME} characters.", "Write what people call it.")
    if surface.surface not in ACTING_SURFACES:
        mend = f"Use {' or '.join(ACTING_SURFACES)}; programs of one person sign in by themselves."
        raise _fault("surface", "No such surface acts for people.", mend)
    for field, at_least in (("groups", 1), ("servers", 1), ("channels", 0), ("redirect_uris", 0)):
        _check_list(field, getattr(surface, field), at_least)
    if bad := [group for group in surface.groups if not _GROUP.fullmatch(group)]:
        raise _fault("groups", f"{bad[0]!a} is no name of a business group.", "Write them as grants do.")
    for pattern in surface.servers:
        _check_server(pattern)
    if (surface.surface == "bot") != bool(surface.channels):
        raise _fault("channels", "A bot has channels, and nothing else has.", "Name those it was invited to.")
    try:
        if surface.redirect_uris:
            check_redirects(surface.redirect_uris)
    except RedirectRefused as error:
        raise _fault("redirect_uris", f"{error}.", "Mend it.") from error
    return replace(surface, name=name, jwks=_keys(surface.jwks))


def _keys(jwks: Jwks) -> Jwks:
    try:
        found = read_public_jwks(jwks)
    except ValueError as error:
        raise _fault("jwks", f"{error}.", "Hand over the public half of an ES256 key, with a kid.") from error
    if not 0 < len(found["keys"]) <= MOST_KEYS:
        raise _fault("jwks", f"It has not 1 to {MOST_KEYS} keys.", "Leave out those that are not in use.")
    return found


def _check_list(field: str, values: tuple[str, ...], at_least: int) -> None:
    if not at_least <= len(values) <= MOST_VALUES:
        raise _fault(field, f"There must be {at_least} to {MOST_VALUES}.", "Nothing is open by default: name each.")
    for value in values:
        if not 0 < len(value) <= LONGEST_VALUE or not value.isprintable():
            raise _fault(field, "One is empty, too long, or has characters that hide.", "Write it out.")


def _check_server(pattern: str) -> None:
    try:
        ServerName.parse(f"{pattern.removesuffix(WHOLE)}/any" if pattern.endswith(WHOLE) else pattern)
    except ValueError as error:
        raise _fault("servers", f"{error}.", "Write NAMESPACE/NAME, or NAMESPACE/* for all of one.") from error


def _why(why: str) -> str:
    text = " ".join(why.split())
    if not 0 < len(text) <= LONGEST_WHY or not text.isprintable():
        raise _fault("why", f"It is empty, or longer than {LONGEST_WHY} characters.", "Say why, for later readers.")
    return text


def _unknown(client_id: str) -> SurfaceRefused:
    return _fault("client_id", f"No surface {client_id[:100]!a} is registered.", "Look at the list.", "unknown")


def _fault(field: str, message: str, mend: str, reason: Any = "invalid") -> SurfaceRefused:
    return SurfaceRefused(reason, field, message, mend)
