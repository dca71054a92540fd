"""Documents as they are known here: fetched when they are needed, kept for a while, and never by too many at once.

An error is not kept (draft-ietf-oauth-client-id-metadata-document-01 §4.4): after one, the same address is left alone
for some seconds and then asked again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from pegboard.core.errors import ConfigurationError
from pegboard_hub.identity.clients.document import (
    DocumentRefused,
    DocumentTrouble,
    DocumentUnavailable,
    DocumentUrl,
    looks_like_document,
    read_document,
    read_url,
)
from pegboard_hub.identity.clients.fetching import Fetched, Fetcher
from pegboard_hub.identity.clients.metadata import ClientMetadata
from pegboard_hub.identity.clients.rules import ClientRules, loopback_fault

log = logging.getLogger(__name__)

SHORTEST_S = 60
"""A document is used this long whatever its headers say."""

LONGEST_S = 24 * 3600
"""A document is used no longer than this, also while its address does not answer."""

USUAL_S = 3600
"""How long a document without such headers is used before it is fetched again."""

LEFT_ALONE_S = 10
"""After an error, nothing is fetched from the same URL for this long."""

AT_ONCE = 8
"""Documents that are fetched at the same time; more of them wait."""

MOST_WAITING = 64
"""Documents that wait for their turn; one more is not fetched."""

PER_MINUTE = 120
PER_HOST_AND_MINUTE = 20
"""Fetches of documents that are not known yet, so that nobody has the hub harass another's site. Those that are known
are fetched again whatever the others do."""

MOST_KEPT = 1000


@dataclass(frozen=True, slots=True)
class _Kept:
    said: ClientMetadata
    fresh_until: float
    usable_until: float


class DocumentCache:
    """The documents of clients.

    Args:
        fetcher: gets them.
        rules: which hosts they may come from, and which redirects they may name.
        public_url: the edge's origin; nothing is fetched from there.
        clock: seconds that only go up.
    """

    def __init__(
        self, fetcher: Fetcher, rules: ClientRules, public_url: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetcher = fetcher
        self._rules = rules
        self._own_host = urlsplit(public_url).hostname or ""
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._failed: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._running: dict[str, asyncio.Task[ClientMetadata | None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._asked: deque[tuple[float, str]] = deque()

    def covers(self, client_id: str) -> bool:
        """Whether a client id leads to a document that may be fetched."""
        if not looks_like_document(client_id):
            return False
        try:
            self._read(client_id)
        except DocumentRefused:
            return False
        return True

    def trouble(self, client_id: str) -> str:
        """Why there is no document of a client id that looks like one's URL; empty where nothing is known."""
        if not looks_like_document(client_id):
            return ""
        try:
            self._read(client_id)
        except DocumentRefused as error:
            return str(error)
        return self._failed.get(client_id, (0.0, ""))[1]

    async def get(self, url: str) -> ClientMetadata | None:
        """What the document says; None where it cannot be had or believed. `trouble` says why."""
        now, kept = self._clock(), self._kept.get(url)
        if kept is not None and now < kept.fresh_until:
            self._kept.move_to_end(url)
            return kept.said
        if now < self._failed.get(url, (0.0, ""))[0]:
            return kept.said if kept is not None and now < kept.usable_until else None
        task = self._running.get(url)
        if task is None:
            task = self._running[url] = asyncio.create_task(self._renew(url))
            task.add_done_callback(lambda _done: self._running.pop(url, None))
        # Whoever asked may go away; the others wait for the same answer.
        return await asyncio.shield(task)

    async def _renew(self, url: str) -> ClientMetadata | None:
        kept = self._kept.get(url)
        try:
            where = self._read(url)
            if kept is None:
                self._count(where.host)
            async with self._turns:
                fetched = await self._fetcher.fetch(where)
            said = read_document(fetched.body, url, self._rules.redirect_schemes)
        except DocumentRefused as error:
            # Its owner says something else now, so what they said before does not count any more.
            self._kept.pop(url, None)
            self._fail(url, error)
            return None
        except DocumentUnavailable as error:
            self._fail(url, error)
            return kept.said if kept is not None and self._clock() < kept.usable_until else None
        self._keep(url, said, fetched)
        return said

    def _read(self, client_id: str) -> DocumentUrl:
        """The URL, if documents may come from there.

        Raises:
            DocumentRefused: none may.
        """
        url = read_url(client_id, loopback=self._rules.documents_from_loopback)
        if url.is_loopback:
            return url
        if url.host == self._own_host:
            raise DocumentRefused("documents are not fetched from Pegboard itself")
        if self._rules.document_hosts and url.host not in self._rules.document_hosts:
            raise DocumentRefused(f"the operator lets documents come from other hosts alone, not from {url.host}")
        return url

    def _count(self, host: str) -> None:
        """Let the fetch of a document pass that is not known yet.

        Raises:
            DocumentUnavailable: there are too many of them.
        """
        if len(self._running) > AT_ONCE + MOST_WAITING:
            raise DocumentUnavailable("too many documents are being fetched; try again in a moment")
        now = self._clock()
        while self._asked and self._asked[0][0] <= now - 60:
            self._asked.popleft()
        of_host = sum(asked == host for _, asked in self._asked)
        if len(self._asked) >= PER_MINUTE or of_host >= PER_HOST_AND_MINUTE:
            raise DocumentUnavailable("too many unknown documents were asked for; try again in a minute")
        self._asked.append((now, host))

    def _keep(self, url: str, said: ClientMetadata, fetched: Fetched) -> None:
        now = self._clock()
        self._failed.pop(url, None)
        self._kept[url] = _Kept(said, now + kept_for(fetched), now + LONGEST_S)
        self._kept.move_to_end(url)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    def _fail(self, url: str, trouble: DocumentTrouble) -> None:
        log.warning("a client's document cannot be used: %s", trouble, extra={"client_id": url})
        self._failed[url] = (self._clock() + LEFT_ALONE_S, trouble.told)
        self._failed.move_to_end(url)
        while len(self._failed) > MOST_KEPT:
            self._failed.popitem(last=False)


def open_documents(rules: ClientRules, public_url: str) -> DocumentCache | None:
    """The documents, as the operator allows them; None where they do not.

    Raises:
        ConfigurationError: documents of this machine were allowed where others reach the hub.
    """
    if not rules.documents:
        return None
    if rules.documents_from_loopback and (fault := loopback_fault(public_url)):
        raise ConfigurationError("clients.documents_from_loopback", [fault])
    return DocumentCache(Fetcher(proxy=rules.document_proxy), rules, public_url)


def kept_for(fetched: Fetched) -> float:
    """Seconds that a document is fresh (RFC 9111 §4.2), within what we keep at all."""
    directives = {}
    for directive in fetched.cache_control.lower().split(","):
        name, _, value = directive.partition("=")
        directives[name.strip()] = value.strip().strip('"')
    if "no-store" in directives or "no-cache" in directives:
        return SHORTEST_S
    stated = directives.get("max-age", "")
    if "max-age" in directives:
        seconds = float(stated) if stated.isascii() and stated.isdigit() and len(stated) < 12 else 0.0
    else:
        seconds = _until_expiry(fetched)
    return min(max(seconds, SHORTEST_S), LONGEST_S)


def _until_expiry(fetched: Fetched) -> float:
    if not fetched.expires:
        return USUAL_S
    try:
        return (parsedate_to_datetime(fetched.expires) - parsedate_to_datetime(fetched.date)).total_seconds()
    except (TypeError, ValueError):
        # RFC 9111 §5.3: a date that cannot be read is one in the past.
        return 0.0
