"""The company's login: begin a sign-in, complete it, renew what it said, and end with it."""

from __future__ import annotations

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace

from pegboard_hub.identity.person import LoginEnded, LoginRefused, LoginUnavailable, PersonFacts, SignedIn
from pegboard_hub.identity.provider.attempt import PURPOSE, Attempt, attempt_of, code_of
from pegboard_hub.identity.provider.claims import facts_of, tells_groups
from pegboard_hub.identity.provider.errors import NotAdmitted, Unbelievable
from pegboard_hub.identity.provider.exchange import Exchange, Tokens
from pegboard_hub.identity.provider.fetch import Fetcher, Json
from pegboard_hub.identity.provider.id_token import Expected, check, is_subject, proved_at
from pegboard_hub.identity.provider.logout import LONGEST_HINT, Remembered, SignedOut, sign_out_url, signed_out
from pegboard_hub.identity.provider.metadata import Place
from pegboard_hub.identity.sealing import Sealer
from pegboard_hub.identity.settings import Groups, Provider, SignInSettings

log = logging.getLogger(__name__)

SIGN_IN = "/sign-in"
START = f"{SIGN_IN}/start"
"""Where a browser begins."""

AGAIN_FIELD = "again"
"""In a query of the two: the person is to prove anew who they are."""

CALLBACK = f"{SIGN_IN}/callback"
BACK_CHANNEL = f"{SIGN_IN}/back-channel"
SIGNED_OUT = "/sign-out"
"""Registered at the provider: where answers go, where it tells of a sign-out, where it sends people after one."""


MOST_REPLACED = 10_000
"""Replaced refresh tokens that are remembered: those of the last few minutes, where thousands are signed in."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that was begun: where the browser goes, and what it keeps until it is back."""

    url: str
    cookie: str
    sealed: str


@dataclass(frozen=True, slots=True)
class Completed:
    """A sign-in that was completed, and where the person goes on to: what the attempt was begun with."""

    signed_in: SignedIn
    continue_to: str


@dataclass(frozen=True, slots=True, repr=False)
class _Renewal:
    """What is kept to ask again; a secret.

    Attributes:
        subject: of whom.
        refresh: the refresh token, where the provider gives one.
        access: else the access token, which userinfo takes for as long as it lives.
        hint: the id token, where people are signed out there too.
        groups_from: which of the two told groups, so that silence of the other is not taken for none.
    """

    subject: str
    refresh: str
    access: str
    hint: str
    groups_from: str

    @classmethod
    def of(cls, tokens: Tokens, subject: str, groups_from: str, before: _Renewal | None) -> _Renewal:
        """What the next renewal needs: of these tokens, and where they bring none, of the last."""
        last = before or cls(subject, "", "", "", "")
        refresh = tokens.refresh or last.refresh
        hint = tokens.id if len(tokens.id) <= LONGEST_HINT else ""
        access = "" if refresh else tokens.access
        return cls(subject, refresh, access, hint or last.hint, groups_from or last.groups_from)

    def text(self) -> str:
        """As it is kept; empty where there is nothing to ask with."""
        return json.dumps(astuple(self)) if self.refresh or self.access else ""

    @classmethod
    def read(cls, text: str) -> _Renewal:
        """What was kept.

        Raises:
            LoginEnded: nothing was.
        """
        try:
            return cls(*(str(each) for each in json.loads(text)))
        except (ValueError, TypeError):
            raise LoginEnded("the login gave nothing to ask it again with") from None


@dataclass(frozen=True, slots=True)
class _Told:
    """What the provider told of a person, by where it told it; None where it told nothing."""

    id_token: Json | None
    userinfo: Json | None

    @property
    def claims(self) -> Json:
        """Both together; userinfo is what it knows now."""
        return {**(self.id_token or {}), **(self.userinfo or {})}

    @property
    def subject(self) -> str:
        return str((self.id_token or {}).get("sub", ""))

    @property
    def session(self) -> str:
        """The provider's own id of the sign-in; empty where it tells none."""
        found = (self.id_token or {}).get("sid", "")
        return str(found) if is_subject(found) else ""

    def proved_at(self, *, asked: bool) -> float | None:
        """When the person proved who they are (`SignedIn.authenticated_at`): what is not told is just now only where
        the provider was asked to have them do it."""
        told = proved_at(self.id_token or {})
        return told if told is not None or asked else 0.0

    def source_of(self, groups: Groups) -> str:
        """Which of the two tells of groups."""
        told = {"userinfo": self.userinfo, "id_token": self.id_token}
        return next((name for name, claims in told.items() if claims and tells_groups(claims, groups)), "")

    def tells_again(self, source: str) -> bool:
        """Whether it tells of groups by silence too: what told of them was asked again, or anything was."""
        return bool(getattr(self, source) if source else self.claims)


class _Replaced:
    """Refresh tokens that the provider replaced, with what replaced them.

    What comes after may fail, userinfo or the hub's own database; whoever then asks with the old one would be taken
    for a thief (RFC 9700 §4.14.2).
    """

    def __init__(self) -> None:
        self._by_old: OrderedDict[str, str] = OrderedDict()

    def newest(self, refresh: str) -> str:
        """The token to ask with, in place of `refresh`."""
        return self._by_old.get(refresh, refresh)

    def note(self, refresh: str, tokens: Tokens) -> None:
        """The provider answered to `refresh`, or to what stands in its place, with these."""
        if tokens.refresh and tokens.refresh != refresh:
            self._by_old[refresh] = tokens.refresh
            if len(self._by_old) > MOST_REPLACED:
                self._by_old.popitem(last=False)


class ProviderLogin:
    """A company's OpenID Connect provider as a way of signing in."""

    def __init__(
        self,
        provider: Provider,
        secret: str | None,
        public_url: str,
        key: bytes,
        fetcher: Fetcher,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; the provider is asked when the first person signs in, so a start does not depend on it.

        Args:
            provider: the settings.
            secret: of the client.
            public_url: the edge's origin.
            key: what attempts are sealed with.
            fetcher: asks the provider.
            clock: seconds since the epoch.
            monotonic: seconds that only go forward.
        """
        self._provider = provider
        self._public_url = public_url
        self._sealer = Sealer(key, PURPOSE)
        self._fetcher = fetcher
        self._clock = clock
        self._place = Place(provider.issuer, fetcher, monotonic)
        self._exchange = Exchange(provider, secret, fetcher)
        self._remembered = Remembered()
        self._replaced = _Replaced()

    @property
    def name(self) -> str:
        """What the sign-in page calls it."""
        return self._provider.title

    @property
    def issuer(self) -> str:
        """Whose subjects its sessions are of."""
        return self._provider.issuer

    async def begin(self, continue_to: str, *, again: bool = False) -> Begun:
        """Begin a sign-in.

        Args:
            continue_to: where the person goes on to; checked by whoever calls this.
            again: whether the person is to prove anew who they are.

        Raises:
            LoginUnavailable: the provider does not answer.
            LoginRefused: what it says of itself cannot be believed.
        """
        metadata = await self._place.metadata()
        attempt = Attempt.new(continue_to, self._clock(), again=again)
        url = attempt.url(self._provider, metadata, self._redirect_uri)
        return Begun(url, attempt.cookie, attempt.sealed(self._sealer))

    async def complete(self, answer: Mapping[str, str], sealed: str | None) -> Completed:
        """Complete a sign-in with what the browser brought back from the provider.

        Args:
            answer: parameters of the redirect, each once.
            sealed: what the browser kept (`Begun.sealed`).

        Raises:
            LoginRefused: nobody is signed in; the message is for the person.
            LoginUnavailable: the provider does not answer.
        """
        attempt = attempt_of(sealed, answer.get("state", ""), self._sealer, self._clock())
        metadata = await self._place.metadata()
        code = code_of(answer, metadata)
        tokens = await self._exchange.code(metadata, code, self._redirect_uri, attempt.verifier)
        since = attempt.begun_at if attempt.again else None
        expected = Expected(self.issuer, self._provider.client_id, self._clock(), attempt.nonce, proved_since=since)
        signed_in_ = await self._signed_in(tokens, expected)
        return Completed(signed_in_, attempt.continue_to)

    async def renew(self, renewal: str, facts: PersonFacts) -> SignedIn:
        """The facts as they are now.

        Raises:
            LoginEnded: the person has left, or may not sign in any more.
            LoginUnavailable: the provider does not answer, or what it answers cannot be believed.
        """
        kept = _Renewal.read(renewal)
        try:
            tokens = await self._renewed(kept)
            expected = Expected(self.issuer, self._provider.client_id, self._clock(), subject=kept.subject)
            return await self._signed_in(tokens, expected, kept)
        except NotAdmitted as error:
            log.info("no longer admitted", extra={"sub": facts.sub, "why": str(error)})
            raise LoginEnded(str(error)) from error
        except LoginRefused as error:
            log.warning("renewal is not believed", extra={"sub": facts.sub, "why": _why(error)})
            raise LoginUnavailable(str(error)) from error

    async def signed_out(self, logout_token: str) -> SignedOut:
        """Whose sign-in the provider says is over.

        Raises:
            LoginRefused: it is not the provider that says so, or it was said already.
            LoginUnavailable: the provider's keys cannot be had.
        """
        header, claims = await self._place.verify(logout_token, self._provider.algorithms)
        found = signed_out(header, claims, self.issuer, self._provider.client_id, self._clock())
        if self._remembered.seen(found.token_id, self._clock()):
            raise Unbelievable("the logout token is not believed: it came before")
        return found

    def acted_on(self, told: SignedOut) -> None:
        """The sign-out was acted on, and counts once."""
        self._remembered.add(told.token_id, self._clock())

    async def sign_out_url(self, renewal: str, state: str) -> str | None:
        """Where a browser is sent to be signed out at the provider too; None where none is wanted or there.

        The provider sends it on to our own page, with `state`.
        """
        if not self._provider.sign_out:
            return None
        try:
            hint = _Renewal.read(renewal).hint
        except LoginEnded:
            hint = ""
        try:
            metadata = await self._place.metadata()
        except (LoginUnavailable, LoginRefused):
            return None
        return sign_out_url(metadata, self._provider.client_id, hint, f"{self._public_url}{SIGNED_OUT}", state)

    async def close(self) -> None:
        """End the connections to the provider."""
        await self._fetcher.close()

    @property
    def _redirect_uri(self) -> str:
        return f"{self._public_url}{CALLBACK}"

    async def _renewed(self, kept: _Renewal) -> Tokens:
        if not kept.refresh:
            return Tokens(kept.access, "", "")
        metadata = await self._place.metadata()
        tokens = await self._exchange.refresh(metadata, self._replaced.newest(kept.refresh))
        self._replaced.note(kept.refresh, tokens)
        return tokens

    async def _signed_in(self, tokens: Tokens, expected: Expected, kept: _Renewal | None = None) -> SignedIn:
        """The person that the provider tells of, at a sign-in or, with what was kept of one, again."""
        told = _Told(await self._id_token(tokens, expected) if tokens.id or kept is None else None, None)
        subject = told.subject or str(expected.subject)
        told = replace(told, userinfo=await self._userinfo(tokens, subject, new=kept is None or bool(kept.refresh)))
        if kept is not None and not told.tells_again(kept.groups_from):
            raise LoginEnded("the login does not tell again what it told of groups")
        return SignedIn(
            facts_of(told.claims, self._provider),
            subject,
            told.session,
            self._renewal(tokens, subject, told, kept).text(),
            told.proved_at(asked=expected.proved_since is not None),
        )

    def _renewal(self, tokens: Tokens, subject: str, told: _Told, kept: _Renewal | None) -> _Renewal:
        if not tokens.refresh and kept is not None:
            tokens = replace(tokens, refresh=self._replaced.newest(kept.refresh))
        if not self._provider.sign_out:
            tokens = replace(tokens, id="")
        return _Renewal.of(tokens, subject, told.source_of(self._provider.groups), kept)

    async def _id_token(self, tokens: Tokens, expected: Expected) -> Json:
        if not tokens.id:
            raise Unbelievable("the login gave no id token")
        header, claims = await self._place.verify(tokens.id, self._provider.algorithms)
        check(header, claims, expected)
        return claims

    async def _userinfo(self, tokens: Tokens, subject: str, *, new: bool) -> Json | None:
        try:
            found = await self._exchange.userinfo(await self._place.metadata(), tokens.access)
        except LoginEnded as error:
            if new:  # the person is in, by what the provider said a moment ago
                raise Unbelievable("userinfo does not take the access token that the login just gave") from error
            raise
        # §5.3.2: without the same `sub` it may be anybody's.
        if found is not None and found.get("sub") != subject:
            raise Unbelievable("userinfo tells of somebody else")
        return found


def _why(error: LoginRefused) -> str:
    return error.why if isinstance(error, Unbelievable) else str(error)


def open_company_login(opened: SignInSettings, public_url: str, key: bytes) -> ProviderLogin | None:
    """The login that the sign-in file names; None where it names none. The provider is not asked yet.

    Raises:
        ConfigurationError: the file of its certificates cannot be used.
    """
    provider = opened.file.provider
    if provider is None:
        return None
    certificates = opened.folder / provider.certificates if provider.certificates else None
    secret = opened.secret(provider.client_secret)
    return ProviderLogin(provider, secret, public_url, key, Fetcher(certificates))
