"""Clients: found by their id, registered, decided on by operators, consented to by people."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, Protocol

from pegboard.core.names import SIGN_IN_SURFACES
from pegboard.core.redirects import surface_of
from pegboard.core.scopes import SCOPE_TOOLS, SCOPE_TOOLS_READ
from pegboard_hub.identity.clients import store
from pegboard_hub.identity.clients.document import looks_like_document
from pegboard_hub.identity.clients.errors import DecisionRefused, RegistrationRefused
from pegboard_hub.identity.clients.listing import ClientList, Software, gathered, with_decision
from pegboard_hub.identity.clients.metadata import ClientMetadata, read_metadata
from pegboard_hub.identity.clients.model import (
    CLIENT_ID_LENGTH,
    Client,
    ClientKind,
    Standing,
    software_of,
)
from pegboard_hub.identity.clients.rules import ClientRules, RegisteredClient
from pegboard_hub.identity.clients.store import Consent, Decided, StoredClient
from pegboard_hub.identity.revocations import Revocations
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.errors import StorageUnavailable

log = logging.getLogger(__name__)

COMMAND = Client(
    client_id="pegboard-cli",
    kind=ClientKind.FIRST_PARTY,
    software="pegboard-cli",
    name="pegboard",
    redirect_uris=("http://127.0.0.1/callback",),
    surface="cli",
    standing=Standing.APPROVED,
    any_resource=True,
)
"""Pegboard's own command."""

NEW_PER_MINUTE = 60
"""Clients unknown so far that may make themselves known in a minute. A known one that registers again is not counted,
so a flood keeps out nobody who was here before."""

MOST_UNUSED = 10_000
"""Clients that were never used. Past it the oldest is forgotten for each new one."""

FORGOTTEN_AFTER_MS = 24 * 3600 * 1000
"""After how long a client that was never used is forgotten; it may register again."""

SEEN_EVERY_MS = 60_000

NOT_APPROVED = "client approved no more"
"""Why connections ended whose client the operator had approved."""

LONGEST_WHY = 500
MOST_SHOWN_UNUSED = 50

DECIDED_SURFACES = SIGN_IN_SURFACES
"""What an operator may count a client as. What acts for many people is registered, with a key of its own."""


class Documents(Protocol):
    """Where the documents come from that clients are known by."""

    def covers(self, client_id: str) -> bool:
        """Whether a client id leads to a document that may be fetched."""

    async def get(self, url: str) -> ClientMetadata | None:
        """What the document says; None where it cannot be had or believed."""

    def trouble(self, client_id: str) -> str:
        """Why there is no document; empty where nothing is known, or it is no document's id."""


class NoDocuments:
    """Documents switched off."""

    def covers(self, client_id: str) -> bool:  # noqa: ARG002 - none is covered
        """None is."""
        return False

    async def get(self, url: str) -> ClientMetadata | None:  # noqa: ARG002 - there is none
        """There is none."""
        return None

    def trouble(self, client_id: str) -> str:
        """Said to whoever comes with a URL all the same."""
        off = "clients known by a document are not let in here; ask the operator to register yours"
        return off if looks_like_document(client_id) else ""


class Clients:
    """The clients of an instance.

    Args:
        database: where those are kept that made themselves known.
        rules: what the sign-in file says of clients.
        revocations: what a block adds to.
        documents: fetches the documents that clients are known by.
        end_connections: ends the connections of client ids, for a reason.
        clock: seconds since the epoch.
        login: issuer of the login that people are from.
        surfaces: those that the operator registered to act for people.
    """

    def __init__(
        self,
        database: Database,
        rules: ClientRules,
        revocations: Revocations,
        documents: Documents | None = None,
        end_connections: Callable[[list[str], str], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.time,
        login: str = "",
        surfaces: Callable[[], Iterable[Client]] = tuple,
    ) -> None:
        self.rules = rules
        self._database = database
        self._revocations = revocations
        self._documents = documents or NoDocuments()
        self._end_connections = end_connections
        self._login = login
        self._surfaces = surfaces
        self._clock = clock
        self._new: deque[float] = deque()
        self._noted: dict[str, int] = {}
        self._said: dict[str, ClientMetadata] = {}

    def may_look_after(self, groups: Iterable[str]) -> bool:
        """Whether somebody in these business groups is an operator, who sees every client and decides on them."""
        return not self.rules.operators.isdisjoint(groups)

    async def get(self, client_id: str) -> Client | None:
        """The client of an id with what was decided on it; None where there is none.

        A blocked one is given too: whoever asks must look at its standing.
        """
        if not client_id or len(client_id) > CLIENT_ID_LENGTH:
            return None
        found = self._settled(client_id)
        if found is None and self._documents.covers(client_id):
            found = await self._by_document(client_id)
        async with self._database.read() as db:
            if found is None:
                stored = await store.find(db, client_id)
                # One that was known by a document which cannot be had is nobody.
                found = _client(stored) if stored and stored.kind is ClientKind.DYNAMIC else None
            return with_decision(found, await store.decision(db, found.software)) if found else None

    async def last_known(self, client_id: str) -> Client | None:
        """The client of an id as it was when it last came, without asking anybody whether its document is still so.

        For telling of it, and for taking back what it has. Whoever lets it in asks `get`.
        """
        found = self._settled(client_id)
        async with self._database.read() as db:
            if found is None and (stored := await store.find(db, client_id)) is not None:
                found = _client(stored)
            return with_decision(found, await store.decision(db, found.software)) if found else None

    async def ids_of(self, software: str) -> list[str]:
        """The ids under which a software has ever connected."""
        async with self._database.read() as db:
            return await store.connected_ids(db, software)

    async def why_not(self, client_id: str) -> str:
        """Why a client gets nothing, for the person whom it sent here; empty where there is nothing to say."""
        found = await self.get(client_id)
        if found is not None:
            return "the operators here have blocked it" if found.standing is Standing.BLOCKED else ""
        trouble = self._documents.trouble(client_id)
        return f"the document that says who it is cannot be used: {trouble}" if trouble else ""

    async def register(self, metadata: Mapping[str, Any]) -> Client:
        """Register a client by its own words (RFC 7591). It is public, whatever it asks for.

        The same words give the same client (RFC 7591 §3.2.1 lets one id go to several instances): a client without
        a secret gains nothing by an id of its own, and one that registers at every start leaves one row.

        Args:
            metadata: the JSON object it sent.

        Raises:
            RegistrationRefused: with RFC 7591's code and words for whoever builds the client.
        """
        if not self.rules.dynamic_registration:
            words = "clients cannot register themselves here; ask the operator to register yours"
            raise RegistrationRefused("access_denied", words, status=403)
        said = read_metadata(metadata, self.rules.redirect_schemes)
        software = software_of(said.name, said.redirect_uris)
        client_id = _dynamic_id(software, said)
        async with self._database.read() as db:
            known, decided = await store.find(db, client_id), await store.decision(db, software)
        if decided is not None and decided.standing is Standing.BLOCKED:
            raise RegistrationRefused("access_denied", "the operator has blocked this client", status=403)
        if known is None:
            known = self._stored(client_id, ClientKind.DYNAMIC, software, said)
            await self._keep_new(known)
            log.info("client registered", extra={"client_id": client_id, "software": software})
        return with_decision(_client(known), decided)

    async def used(self, client_id: str) -> None:
        """Note that somebody got a token with a client; at most once a minute it is written.

        Of one that is known without the database a row says that alone: whatever else it is, the settings say.
        """
        now = self._now_ms()
        if now - self._noted.get(client_id, 0) < SEEN_EVERY_MS:
            return
        if len(self._noted) >= MOST_UNUSED:
            self._noted.clear()
        self._noted[client_id] = now
        # The token is there, and the refresh token before it is used up: a full disk must not have it unsaid.
        with contextlib.suppress(StorageUnavailable):
            async with self._database.write() as db:
                if (settled := self._settled(client_id)) is not None:
                    await store.add(db, self._row_of(settled, now))
                await store.used(db, client_id, now)

    async def listed(self) -> ClientList:
        """What operators see: everything that was used or decided on, then the newest of the rest."""
        now = self._now_ms()
        async with self._database.read() as db:
            stored = [*await store.all_used(db), *await store.latest_unused(db, MOST_SHOWN_UNUSED)]
            decisions, uses = await store.decisions(db), await store.uses(db, now)
            unused, used = await store.unused(db), await store.last_used(db)
        own = [COMMAND, *(_registered(name, client) for name, client in self.rules.registered.items())]
        own += self._surfaces()
        ours: list[tuple[Client, int | None]] = [(client, used.get(client.client_id)) for client in own]
        theirs = [(_client(one), used.get(one.client_id)) for one in stored]
        known = {client.software for client, _ in (*ours, *theirs)}
        awaited = [(_awaited(url), None) for url in decisions if looks_like_document(url) and url not in known]
        return ClientList(tuple(gathered([*ours, *theirs, *awaited], decisions, uses)), unused)

    async def software(self, software: str) -> Software | None:
        """One software as operators see it, also a document's that nobody has come with yet; None for no other."""
        for found in (await self.listed()).software:
            if found.software == software:
                return found
        async with self._database.read() as db:
            stored = await store.of_software(db, software)
        clients: list[tuple[Client, int | None]] = [(_client(one), None) for one in stored]
        if not clients and self._documents.covers(software):
            clients = [(_awaited(software), None)]
        # Nothing was decided on it and nobody has it connected: it would be in the list.
        return gathered(clients, {}, ())[0] if clients else None

    async def decide(self, software: str, standing: Standing, surface: str | None, by: str, why: str) -> Decided:
        """Decide on a software, in force at once.

        What a blocked one has connected ends, and its tokens are void. So it is of one that is not approved any more:
        nobody but the operator has said yes to that, and people are asked from now on.

        Args:
            software: of the client.
            standing: what it is from now on.
            surface: what its calls count as; None for what follows from its redirects.
            by: who decides.
            why: for whoever reads it later.

        Raises:
            DecisionRefused: there is no such software, no reason, or no such surface; nothing was changed.
        """
        why = cleaned_why(why)
        self._check_surface(software, surface)
        decided = Decided(software, standing, surface, by, self._now_ms(), why)
        async with self._database.read() as db:
            before = await store.decision(db, software)
        was = before.standing if before is not None else Standing.UNKNOWN
        taken_back = was is Standing.APPROVED and standing is not Standing.APPROVED
        if was is Standing.BLOCKED or taken_back:
            # First too: the hub may have died between a block and its consequences, and may die here. What a client
            # had does not come back with it, nor outlive its approval.
            await self._end(software, f"client {was.value}" if was is Standing.BLOCKED else NOT_APPROVED)
        await self._keep_decision(decided)
        if standing is Standing.BLOCKED or taken_back:
            await self._end(software, "client blocked" if standing is Standing.BLOCKED else NOT_APPROVED)
        facts = {"software": software, "standing": standing.value, "surface": surface, "sub": by, "why": why}
        log.warning("client decided on", extra={**facts, "before": was.value})
        return decided

    async def _keep_decision(self, decided: Decided) -> None:
        """Put a decision in force.

        Raises:
            DecisionRefused: there is no such software.
        """
        software = decided.software
        async with self._database.write() as db:
            # A document may be decided on before anybody came with it.
            known = self._settled(software) is not None or self._documents.covers(software)
            if not known and not await store.is_known(db, software):
                raise DecisionRefused(f"no client is known by {software[:100]!a}; it may have been forgotten since")
            await store.decide(db, decided)
            ids = await store.connected_ids(db, software)
            # A block in place of a block counts from now, so the old entries go in every case.
            await store.restore(db, ids)
            if decided.standing is Standing.BLOCKED:
                await self._revocations.add(db, "client", ids)
        await self._revocations.reload()

    async def _end(self, software: str, why: str) -> None:
        async with self._database.read() as db:
            ids = await store.connected_ids(db, software)
        if ids and self._end_connections is not None:
            await self._end_connections(ids, why)

    async def consented(self, sub: str, software: str, scope: str) -> bool:
        """Whether a person has said yes to all of a scope for a software."""
        async with self._database.read() as db:
            given = await store.consent(db, Consent(self._login, sub, software))
        allowed = set((given or "").split())
        # Who said yes to every tool has said so of those that only read.
        allowed |= {SCOPE_TOOLS_READ} if SCOPE_TOOLS in allowed else set()
        return bool(scope) and allowed.issuperset(scope.split())

    async def consent(self, sub: str, software: str, scope: str) -> None:
        """Keep a person's yes, in the place of what they said before."""
        async with self._database.write() as db:
            await store.give_consent(db, Consent(self._login, sub, software), scope, self._now_ms())

    async def withdraw(self, sub: str, software: str) -> None:
        """Take back a person's yes; they are asked again."""
        async with self._database.write() as db:
            await store.withdraw(db, Consent(self._login, sub, software))

    async def tidy(self) -> None:
        """Forget clients that made themselves known a day ago and were never used."""
        async with self._database.write() as db:
            gone = await store.forget_unused(db, self._now_ms() - FORGOTTEN_AFTER_MS)
        # A document whose row is gone is kept anew when somebody comes with it.
        self._said.clear()
        if gone:
            log.info("clients that nobody used were forgotten", extra={"count": gone})

    def _settled(self, client_id: str) -> Client | None:
        """A client that is known without the database."""
        if client_id == COMMAND.client_id:
            return COMMAND
        registered = self.rules.registered.get(client_id)
        if registered:
            return _registered(client_id, registered)
        return next((each for each in self._surfaces() if each.client_id == client_id), None)

    async def _by_document(self, url: str) -> Client | None:
        """The client whose document is at a URL; None where there is none, or too many new ones came at once."""
        said = await self._documents.get(url)
        if said is None:
            return None
        now = self._stored(url, ClientKind.DOCUMENT, url, said)
        if self._said.get(url) is not said:
            try:
                await self._keep_document(now)
            except RegistrationRefused as error:
                log.warning("a client's document was not kept: %s", error, extra={"client_id": url})
                return None
            self._said[url] = said
        return _client(now)

    async def _keep_document(self, now: StoredClient) -> None:
        """Keep what a document says for the operators' list.

        Where it sends answers to a new place, people are asked again: what they said yes to went elsewhere.

        Raises:
            RegistrationRefused: as `_keep_new`.
        """
        async with self._database.read() as db:
            known = await store.find(db, now.client_id)
        if known is None:
            await self._keep_new(now)
        elif (known.name, known.redirect_uris, known.uri) != (now.name, now.redirect_uris, now.uri):
            elsewhere = sorted(set(now.redirect_uris) - set(known.redirect_uris))
            async with self._database.write() as db:
                await store.replace(db, now)
                if elsewhere:
                    await store.withdraw_all(db, now.software)
            facts = {"client_id": now.client_id, "new_redirect_uris": elsewhere}
            log.log(logging.WARNING if elsewhere else logging.INFO, "a client's document has changed", extra=facts)

    async def _keep_new(self, client: StoredClient) -> None:
        """Keep a client that was unknown so far.

        Raises:
            RegistrationRefused: there were too many new ones in the last minute.
        """
        self._count_new()
        async with self._database.write() as db:
            if await store.unused(db) >= MOST_UNUSED:
                await store.forget_oldest(db)
            await store.add(db, client)

    def _count_new(self) -> None:
        now = self._clock()
        while self._new and self._new[0] <= now - 60:
            self._new.popleft()
        if len(self._new) >= NEW_PER_MINUTE:
            words = "too many clients that were unknown registered within a minute; try again in a minute"
            raise RegistrationRefused("temporarily_unavailable", words, 429, max(1, int(self._new[0] + 61 - now)))
        self._new.append(now)

    def _stored(self, client_id: str, kind: ClientKind, software: str, said: ClientMetadata) -> StoredClient:
        now = self._now_ms()
        return StoredClient(client_id, kind, software, said.name, said.redirect_uris, said.uri, now, now)

    def _row_of(self, settled: Client, now: int) -> StoredClient:
        """What is kept of a client that is known without the database: that it was used."""
        named = (settled.client_id, settled.kind, settled.software, settled.name, settled.redirect_uris)
        return StoredClient(*named, settled.uri, now, now)

    def _check_surface(self, software: str, surface: str | None) -> None:
        if surface is None:
            return
        if self._settled(software) is not None:
            raise DecisionRefused("the surface of this client is what the operator registered it with")
        if surface not in DECIDED_SURFACES:
            raise DecisionRefused(f"surface {surface[:40]!a} is none of {', '.join(DECIDED_SURFACES)}")

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def cleaned_why(why: str) -> str:
    """A reason as it is kept.

    Raises:
        DecisionRefused: there is none, or it is too long.
    """
    text = " ".join(why.split())
    if not text:
        raise DecisionRefused("say why, for whoever looks at it later")
    if len(text) > LONGEST_WHY:
        raise DecisionRefused(f"the reason has {len(text)} characters; {LONGEST_WHY} is the most")
    return text


def _dynamic_id(software: str, said: ClientMetadata) -> str:
    """The id of a client that registers itself: a digest of what it says, so never a URL that leads to a document."""
    return f"dyn-{sha256(json.dumps([software, said.uri]).encode()).hexdigest()[:32]}"


def _client(stored: StoredClient) -> Client:
    return Client(
        client_id=stored.client_id,
        kind=stored.kind,
        software=stored.software,
        name=stored.name,
        redirect_uris=stored.redirect_uris,
        surface=surface_of(stored.redirect_uris),
        uri=stored.uri,
    )


def _awaited(url: str) -> Client:
    """A client that nobody has come with: its document was never fetched."""
    return Client(url, ClientKind.DOCUMENT, url, url, (), surface="")


def _registered(client_id: str, registered: RegisteredClient) -> Client:
    return Client(
        client_id=client_id,
        kind=ClientKind.REGISTERED,
        software=client_id,
        name=registered.name,
        redirect_uris=registered.redirect_uris,
        surface=registered.surface,
        standing=Standing.APPROVED,
        secret=registered.secret,
    )
