"""What the provider says of itself, and its keys: both from its own place, both kept for a while, both renewed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pegboard_hub.identity.directory import is_loopback
from pegboard_hub.identity.person import LoginUnavailable
from pegboard_hub.identity.provider.errors import Unbelievable
from pegboard_hub.identity.provider.fetch import Fetcher
from pegboard_hub.identity.provider.jose import ForeignKeys, UnknownKey

log = logging.getLogger(__name__)

GOOD_FOR_S = 3600.0
"""Seconds after which metadata and keys are asked for again: a key that was withdrawn counts that long at most."""

KEPT_FOR_S = 24 * 3600.0
"""Seconds for which the last ones are used while the provider does not answer."""

RETRY_S = 2.0
"""Seconds after a failure in which nobody asks again: who waits for one answer must not wait one after another."""

LOOK_AGAIN_S = 10.0
"""Seconds between two looks for a key that is not known: whoever sends forgeries must not make us ask for each."""

V = TypeVar("V")


class Metadata(BaseModel):
    """The parts of OpenID Connect Discovery 1.0 §3 that are used."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    names_itself: bool = Field(default=False, alias="authorization_response_iss_parameter_supported")

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Every URL that a request or a browser is sent to."""
        urls = (self.authorization_endpoint, self.token_endpoint, self.jwks_uri)
        return (*urls, *filter(None, (self.userinfo_endpoint, self.end_session_endpoint)))


class Place:
    """One provider's metadata and keys."""

    def __init__(self, issuer: str, fetcher: Fetcher, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._fetcher = fetcher
        self._clock = clock
        self._metadata = _Kept[Metadata](clock)
        self._keys = _Kept[ForeignKeys](clock)

    async def metadata(self) -> Metadata:
        """What it says of itself.

        Raises:
            LoginUnavailable: it does not answer.
            Unbelievable: it is not the issuer, or names places that are not safe to go to.
        """
        return await self._metadata.get(self._ask_metadata)

    async def keys(self) -> ForeignKeys:
        """Its keys, one at least.

        Raises:
            LoginUnavailable: it does not answer.
            Unbelievable: it has none that can be used.
        """
        return await self._keys.get(self._ask_keys)

    async def verify(self, text: str, algorithms: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims of what the provider signed; a key that is new is looked for once.

        Raises:
            LoginUnavailable: its keys cannot be had.
            Unbelievable: it did not sign this.
        """
        try:
            keys = await self.keys()
            try:
                return keys.verify(text, algorithms)
            except UnknownKey:
                return (await self._keys.get(self._ask_keys, LOOK_AGAIN_S)).verify(text, algorithms)
        except ValueError as error:
            raise Unbelievable(f"a token of the login does not verify: {error}") from error

    async def _ask_metadata(self) -> Metadata:
        answer = await self._fetcher.get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if not answer.well:
            raise Unbelievable(f"the login has no metadata at its issuer (status {answer.status})")
        try:
            found = Metadata.model_validate(answer.document)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors()[:5])
            raise Unbelievable(f"the login's metadata is not as it must be: {fields}") from error
        if found.issuer != self._issuer:
            raise Unbelievable(f"the login calls itself {found.issuer[:200]!r}, and not {self._issuer!r}")
        if unsafe := [url for url in found.endpoints if not _safe(url, self._issuer)]:
            raise Unbelievable(f"the login's metadata names a place that is not safe: {unsafe[0][:200]!r}")
        return found

    async def _ask_keys(self) -> ForeignKeys:
        answer = await self._fetcher.get((await self.metadata()).jwks_uri)
        keys = ForeignKeys(answer.document)
        if not answer.well or not len(keys):
            raise Unbelievable(f"the login has no key that can be used (status {answer.status})")
        return keys


def _safe(url: str, issuer: str) -> bool:
    """Over TLS, or, where the issuer itself is on this machine, on this machine."""
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None or parts.fragment:
            return False
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url) and is_loopback(issuer))


class _Kept(Generic[V]):
    """A value that is asked for when it is old, by one at a time, and kept while it cannot be had anew."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = asyncio.Lock()
        self._value: V | None = None
        self._asked_at = 0.0
        self._failure: LoginUnavailable | Unbelievable | None = None
        self._failed_at = 0.0

    async def get(self, ask: Callable[[], Awaitable[V]], good_for_s: float = GOOD_FOR_S) -> V:
        if (value := self._fresh(good_for_s)) is not None:
            return value
        async with self._lock:
            if (value := self._fresh(good_for_s)) is not None:
                return value
            if self._failure is None or self._clock() - self._failed_at >= RETRY_S:
                await self._ask(ask)
            if self._failure is not None and not self._still_good():
                raise self._failure
            assert self._value is not None  # noqa: S101 - without a failure there is one
            return self._value

    async def _ask(self, ask: Callable[[], Awaitable[V]]) -> None:
        try:
            self._value, self._asked_at, self._failure = await ask(), self._clock(), None
        except (LoginUnavailable, Unbelievable) as error:
            self._failure, self._failed_at = error, self._clock()

    def _fresh(self, good_for_s: float) -> V | None:
        return self._value if self._clock() - self._asked_at < good_for_s else None

    def _still_good(self) -> bool:
        silent = isinstance(self._failure, LoginUnavailable)
        return silent and self._value is not None and self._clock() - self._asked_at < KEPT_FOR_S
