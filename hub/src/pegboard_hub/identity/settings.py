"""The sign-in file: the company's login, how long sessions live, which clients may connect.

    operators = ["platform"]

    [provider]
    issuer        = "https://login.acme.example"
    client_id     = "pegboard"
    client_secret = { file = "/etc/pegboard/client-secret" }

    [provider.groups]
    claim = "groups"
    map   = { "Ads Engineering" = "ads-eng" }

Without `[provider]` people are those of the demo directory, and nothing but this machine may reach them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from pegboard.core.checks import load_toml
from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import Name
from pegboard.core.names import ACTING_SURFACES, SIGN_IN_SURFACES
from pegboard_hub.common.secret_references import SecretReference, read_secrets
from pegboard_hub.identity.clients.errors import RedirectRefused
from pegboard_hub.identity.clients.redirects import check_redirects, host_fault, scheme_fault
from pegboard_hub.identity.directory import is_loopback
from pegboard_hub.identity.sessions.model import LOGIN_LENGTH

SECRETS = "PEGBOARD_SIGN_IN_SECRETS"
"""In it the supervisor hands the hub the secrets that the file names: the hub's user may not read them."""

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures by a key of the provider's own. None with a shared secret is among them, and not `none`."""

DEFAULT_ALGORITHMS = ("RS256", "PS256", "ES256")

OWN_PARAMETERS = (
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "request",
    "request_uri",
    "response_mode",
    "response_type",
    "scope",
    "state",
)
"""Parameters of an authorization request that are made for each sign-in, so that no setting may fix them."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Claims(_Strict):
    """Which claims of the login say what of a person."""

    sub: str = Field(default="sub", min_length=1, description="the person's id here; one that never changes hands")
    name: str = Field(default="name", min_length=1, description="how pages call them")
    email: str = Field(default="email", min_length=1, description="their address, taken over where it is verified")
    email_is_verified: bool = Field(
        default=False,
        description="the login lets nobody set an address that is not theirs, and so does not say `email_verified`",
    )
    require: dict[str, str | bool] = Field(
        default={}, description="claims that must have this value, or a list with it, for a person to come in"
    )


ClaimPath = Annotated[tuple[str, ...], Field(min_length=1)]
GroupNames = tuple[Name, ...]


def _listed(found: object) -> object:
    """One text where a list may stand is a list of that one."""
    return (found,) if isinstance(found, str) else found


class Groups(_Strict):
    """Which business groups a person is in, by what the login says."""

    claim: str | ClaimPath = Field(
        default="groups", description="the claim with the login's groups; a list is the way through nested claims"
    )
    separator: str = Field(
        default="", description="what parts the groups where the claim is one text; else it is one"
    )
    map: dict[str, GroupNames] = Field(
        default={},
        description="business groups by the login's name or id of a group; with `map` or `prefix` no other counts",
    )
    prefix: str = Field(
        default="", description="beginning of the login's groups that count; the rest is the business group"
    )
    everyone: GroupNames = Field(default=(), description="business groups of everybody who may sign in")
    people: dict[str, GroupNames] = Field(
        default={}, description="business groups by verified e-mail address, where the login knows no groups"
    )

    @field_validator("map", "people", mode="before")
    @classmethod
    def _one_or_more(cls, found: object) -> object:
        return {key: _listed(value) for key, value in found.items()} if isinstance(found, dict) else found

    @property
    def path(self) -> tuple[str, ...]:
        """The way to the claim."""
        return (self.claim,) if isinstance(self.claim, str) else self.claim


def _issuer(url: str) -> str:
    try:
        parts = urlsplit(url)
        plain = bool(parts.hostname) and parts.port != 0 and not parts.query and not parts.fragment
    except ValueError:
        plain = False
    if not plain or parts.username is not None or parts.scheme not in ("http", "https"):
        raise ValueError(
            "is no issuer; it is the URL that the login calls itself, for example https://login.acme.com"
        )
    if len(url) > LOGIN_LENGTH:
        raise ValueError(f"is longer than {LOGIN_LENGTH} characters")
    if parts.scheme == "http" and not is_loopback(url):
        raise ValueError("must begin with https://, since what a login says over http can be changed on the way")
    return url


class Provider(_Strict):
    """The company's login: an OpenID Connect provider."""

    issuer: Annotated[str, AfterValidator(_issuer)] = Field(description="the login's issuer, exactly as it says it")
    client_id: str = Field(min_length=1, max_length=255, description="as which Pegboard is registered there")
    client_secret: SecretReference | None = Field(
        default=None, description="where the client's secret is; none for a public client"
    )
    name: str = Field(default="", max_length=60, description="what the sign-in page calls it")
    scopes: tuple[str, ...] = Field(
        default=("openid", "profile", "email"),
        description="what is asked for; with `offline_access` many logins give what renews groups while one works",
    )
    parameters: dict[str, str] = Field(
        default={}, description="more parameters of the authorization request, as the login documents them"
    )
    authentication: Literal["basic", "post"] | None = Field(
        default=None, description="how the client's secret is sent; by default as the login's metadata says"
    )
    algorithms: tuple[str, ...] = Field(
        default=DEFAULT_ALGORITHMS, description=f"signatures that count, of {', '.join(ALGORITHMS)}"
    )
    sign_out: bool = Field(
        default=False,
        description="sign people out at the login too when they sign out here, where it has a place for it",
    )
    userinfo: bool = Field(default=True, description="ask the userinfo endpoint too, where the login has one")
    certificates: Path | None = Field(
        default=None,
        description="PEM file of the authorities that sign the login's certificate, if not the machine's",
    )
    claims: Claims = Field(default=Claims(), description="which claims say what of a person")
    groups: Groups = Field(default=Groups(), description="which business groups a person is in")

    @field_validator("scopes")
    @classmethod
    def _with_openid(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in scopes:
            raise ValueError("must have openid among them: without it nobody is signed in (OpenID Connect Core §3.1)")
        if bad := [each for each in scopes if not each or not each.isprintable() or set(each) & set(' "\\')]:
            raise ValueError(f"{bad[0][:40]!r} is no scope; write each as a text of its own")
        return scopes

    @field_validator("algorithms")
    @classmethod
    def _by_a_key(cls, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        if not algorithms or (bad := [each for each in algorithms if each not in ALGORITHMS]):
            raise ValueError(
                f"{bad[0] if algorithms else 'an empty list'!r} cannot be used; use {', '.join(ALGORITHMS)}"
            )
        return algorithms

    @field_validator("parameters")
    @classmethod
    def _not_ours(cls, parameters: dict[str, str]) -> dict[str, str]:
        if ours := [name for name in parameters if name in OWN_PARAMETERS]:
            raise ValueError(f"{ours[0]} is made anew for every sign-in and cannot be set here")
        return parameters

    @model_validator(mode="after")
    def _secret_fits(self) -> Provider:
        if self.client_secret is None and self.authentication is not None:
            raise ValueError(f"authentication = {self.authentication!r} needs a client_secret")
        if self.groups.people and not self.claims.email:
            raise ValueError("groups.people goes by e-mail address, so claims.email must name a claim")
        return self

    @property
    def title(self) -> str:
        """What people read: its name, else its host."""
        return self.name or str(urlsplit(self.issuer).hostname)


class SessionSettings(_Strict):
    """How long people stay signed in."""

    lifetime_s: int = Field(
        default=7 * 86_400,
        ge=300,
        le=90 * 86_400,
        description="seconds after which one must sign in again, used or not",
    )
    renew_after_s: int = Field(
        default=60, ge=0, le=900, description="seconds after which the login is asked again before a token is issued"
    )


class RegisteredClient(_Strict):
    """A client that the operator registered: people are not asked before it gets a token."""

    name: str = Field(min_length=1, max_length=200, description="how pages call it")
    redirect_uris: tuple[str, ...] = Field(
        min_length=1, description="where its answers may go; of the person's own machine any port will do"
    )
    surface: str = Field(description=f"from which its calls count: {' or '.join(SIGN_IN_SURFACES)}")
    secret: SecretReference | None = Field(default=None, description="where its secret is; none of a public client")

    @field_validator("surface")
    @classmethod
    def _for_people(cls, surface: str) -> str:
        if surface in ACTING_SURFACES:
            raise ValueError(f"{surface!r} acts for many people: run `pegboard surfaces register` for it instead")
        if surface not in SIGN_IN_SURFACES:
            raise ValueError(f"unknown surface {surface!r}; known are {', '.join(SIGN_IN_SURFACES)}")
        return surface


def _without_fault(fault: Callable[[str], str]) -> AfterValidator:
    """Take a text that has no fault; a fault is told with its mend."""

    def take(text: str) -> str:
        if said := fault(text):
            raise ValueError(f"{text[:80]!a}: {said}")
        return text

    return AfterValidator(take)


def _proxy(url: str) -> str:
    parts = urlsplit(url)
    if parts.path not in ("", "/") or "@" in parts.netloc or parts.scheme not in ("http", "https"):
        # It is not repeated: what stands before an '@' may be a password.
        raise ValueError("write it as http://HOST:PORT, without a user")
    return url


ClientId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Scheme = Annotated[str, _without_fault(scheme_fault)]
Host = Annotated[str, _without_fault(host_fault)]
Proxy = Annotated[str, AfterValidator(_proxy)]

OWN_IDS = ("pegboard-", "dyn-")
"""How ids begin that Pegboard gives away itself."""


class ClientSettings(_Strict):
    """Which clients may connect for people."""

    dynamic_registration: bool = Field(
        default=True, description="clients may register themselves (RFC 7591), as most of today do"
    )
    documents: bool = Field(default=True, description="clients may be named by the URL of their metadata document")
    document_hosts: tuple[Host, ...] = Field(
        default=(), description="the only hosts that such documents are fetched from; empty for any"
    )
    documents_from_loopback: bool = Field(
        default=False,
        description="fetch documents of programs on this machine too, to develop a client; on loopback alone",
    )
    document_proxy: Proxy | None = Field(
        default=None, description="URL of the proxy that documents are fetched through; the environment's is not used"
    )
    redirect_schemes: tuple[Scheme, ...] = Field(
        default=(),
        description="schemes of their own that such clients' redirects may have, beside the known editors'",
    )
    registered: dict[ClientId, RegisteredClient] = Field(default={}, description="clients by their id")

    @model_validator(mode="after")
    def _registered_are_safe(self) -> ClientSettings:
        for client_id, client in self.registered.items():
            if client_id.startswith(OWN_IDS):
                raise ValueError(f"registered.{client_id}: ids that begin so are Pegboard's own; choose another")
            try:
                check_redirects(client.redirect_uris, self.redirect_schemes)
            except RedirectRefused as error:
                raise ValueError(f"registered.{client_id}.redirect_uris: {error}") from error
        return self


class SignInFile(_Strict):
    """The whole file."""

    provider: Provider | None = Field(default=None, description="the company's login; without it the demo directory")
    sessions: SessionSettings = Field(default=SessionSettings(), description="how long people stay signed in")
    clients: ClientSettings = Field(default=ClientSettings(), description="which clients may connect for people")
    operators: tuple[Name, ...] = Field(
        default=("platform",), description="business groups whose people look after clients"
    )

    def references(self) -> Iterator[tuple[str, SecretReference]]:
        """Every reference to a secret, with the key it stands at."""
        if self.provider is not None and self.provider.client_secret is not None:
            yield "provider.client_secret", self.provider.client_secret
        for client_id, client in self.clients.registered.items():
            if client.secret is not None:
                yield f"clients.registered.{client_id}.secret", client.secret


@dataclass(frozen=True, slots=True)
class SignInSettings:
    """The file as it was read at the start, with its secrets, which nothing shows.

    Attributes:
        file: what it says.
        folder: where it lies; what it names is relative to it.
        secrets: each secret by its reference, as `str(reference)` has it.
    """

    file: SignInFile = field(default_factory=SignInFile)
    folder: Path = Path()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def demo(self) -> bool:
        """Whether people are those of the demo directory, so that anyone may act as anyone."""
        return self.file.provider is None

    def secret(self, reference: SecretReference | None) -> str | None:
        """What a reference stands for; None where there is none."""
        return None if reference is None else self.secrets[str(reference)]


def open_sign_in(path: Path | None, variables: Mapping[str, str] = os.environ) -> SignInSettings:
    """Read the sign-in file and the secrets it names; without a file everything is as its defaults say.

    Args:
        path: the file.
        variables: the environment; where `SECRETS` is in it, the supervisor has read them.

    Raises:
        ConfigurationError: it cannot be read, is wrong, or a secret cannot be had; every fault is named.
    """
    if path is None:
        return SignInSettings()
    file, folder = read_sign_in(path), path.absolute().parent
    secrets, problems = read_secrets(file.references(), folder, variables, SECRETS)
    if problems:
        raise ConfigurationError(str(path), problems)
    return SignInSettings(file, folder, secrets)


def read_sign_in(path: Path) -> SignInFile:
    """What the file says; no secret is read.

    Raises:
        ConfigurationError: it cannot be read, or is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(str(path), [f"cannot be read: {why}", "name another with --sign-in"]) from error
    return load_toml(SignInFile, text, str(path))
