"""The notification file: where it is told that approvals wait, and for whom.

    [destinations.platform-chat]
    url    = "https://hooks.acme.example/pegboard"
    secret = { file = "/etc/pegboard/platform-chat.secret" }
    groups = ["platform", "ads-eng"]

Without a file nobody is told, and everything else works.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from pegboard.core.checks import load_toml
from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import Name
from pegboard_hub.common.secret_references import SecretReference, read_secrets
from pegboard_hub.identity.directory import is_loopback
from pegboard_hub.notify.signing import read_key

log = logging.getLogger(__name__)

SECRETS: Final = "PEGBOARD_NOTIFY_SECRETS"
"""In it the supervisor hands the hub the secrets that the file names: the hub's user may not read them."""

LONGEST_URL: Final = 2048
MOST_DESTINATIONS: Final = 50

Event = Literal["requested", "expiring", "decided", "unknown"]
EVENTS: Final[tuple[Event, ...]] = get_args(Event)


def url_fault(url: str) -> str:
    """Why nothing is sent to a URL, in words that do not repeat it (it may hold a secret); empty where it is."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > LONGEST_URL:
        return f"must be at most {LONGEST_URL} characters of ASCII, without spaces"
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return "is no URL such as https://hooks.acme.example/pegboard"
    if parts.username is not None or parts.fragment:
        return "must have neither a user nor a fragment"
    if parts.scheme == "http" and not is_loopback(url):
        return "must begin with https://, but on this machine (localhost, 127.0.0.1, [::1])"
    return ""


def _url(found: str | SecretReference) -> str | SecretReference:
    if isinstance(found, str) and (fault := url_fault(found)):
        raise ValueError(fault)
    return found


class Destination(BaseModel):
    """One receiver of webhooks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str | SecretReference, AfterValidator(_url)] = Field(
        repr=False,
        description="where it is told, with https or on this machine; where the URL is a secret, a reference to it",
    )
    secret: SecretReference = Field(
        description="what messages are signed with: `whsec_` and 24 to 64 bytes in Base64 (Standard Webhooks)"
    )
    old_secret: SecretReference | None = Field(
        default=None, description="a second one that they are signed with, while the receiver changes over"
    )
    groups: tuple[Name, ...] | None = Field(
        default=None,
        min_length=1,
        description="tell only of what people of these groups decide: owning teams, and groups; without it of all",
    )
    events: tuple[Event, ...] = Field(
        default=EVENTS,
        min_length=1,
        description=f"of what it is told: {', '.join(f'`{each}`' for each in EVENTS)}; all without it",
    )
    certificates: Path | None = Field(
        default=None,
        description="PEM file of the authorities that sign the receiver's certificate, if not the machine's",
    )

    def takes(self, event: Event, group: str) -> bool:
        """Whether it is told of an event about what people of `group` decide; an empty one: the caller does."""
        return event in self.events and (self.groups is None or group in self.groups)


class NotifyFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    destinations: dict[Name, Destination] = Field(
        max_length=MOST_DESTINATIONS, description="who is told, each under a name that logs and metrics show"
    )

    @field_validator("destinations")
    @classmethod
    def _somebody(cls, found: dict[str, Destination]) -> dict[str, Destination]:
        if not found:
            raise ValueError("names nobody: leave the file away, or begin with [destinations.NAME]")
        return found

    def references(self) -> Iterator[tuple[str, SecretReference]]:
        """Every reference to a secret, with the key it stands at."""
        for name, each in self.destinations.items():
            for key in ("url", "secret", "old_secret"):
                if isinstance(reference := getattr(each, key), SecretReference):
                    yield f"destinations.{name}.{key}", reference


@dataclass(frozen=True, slots=True)
class Receiver:
    """One destination with what its references stand for.

    Attributes:
        name: as the file calls it.
        url: where messages go. Never logged or shown: it may hold a secret.
        keys: what they are signed with, the newest first.
        asked: what the file says of it.
        certificates: a PEM file, as an absolute path.
    """

    name: str
    url: str = field(repr=False)
    keys: tuple[bytes, ...] = field(repr=False)
    asked: Destination
    certificates: Path | None = None

    @property
    def origin(self) -> str:
        """What may be shown of the URL."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """The file as it was read at the start.

    Attributes:
        receivers: by name.
        secrets: each secret by its reference, for the supervisor to hand on.
        fault: why nobody is told, where the file became wrong while Pegboard ran; empty where it is good.
    """

    receivers: Mapping[str, Receiver] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    fault: str = ""


def notify_or_fault(path: Path | None) -> NotifySettings:
    """`open_notify` for a hub that is started again: a file that became wrong meanwhile must not keep it down."""
    try:
        return open_notify(path)
    except ConfigurationError as error:
        log.error("nobody is told of approvals: %s", error)
        return NotifySettings(fault=str(error))


def open_notify(path: Path | None, variables: Mapping[str, str] = os.environ) -> NotifySettings:
    """Read the notification file and the secrets it names; without a file nobody is told.

    Args:
        path: the file.
        variables: the environment; where `SECRETS` is in it, the supervisor has read them.

    Raises:
        ConfigurationError: it cannot be read, is wrong, or a secret cannot be had; no message repeats a secret.
    """
    if path is None:
        return NotifySettings()
    file, folder = _read(path), path.absolute().parent
    secrets, problems = read_secrets(file.references(), folder, variables, SECRETS)
    receivers = {}
    for name, each in file.destinations.items() if not problems else ():
        try:
            receivers[name] = _receiver(name, each, folder, secrets)
        except ValueError as error:
            problems.append(f"destinations.{name}.{error}")
    if problems:
        raise ConfigurationError(str(path), problems)
    return NotifySettings(receivers, secrets)


def _receiver(name: str, asked: Destination, folder: Path, secrets: Mapping[str, str]) -> Receiver:
    url = asked.url if isinstance(asked.url, str) else secrets[str(asked.url)]
    if fault := url_fault(url):
        raise ValueError(f"url: what {asked.url} holds {fault}")
    keys = []
    for place in ("secret", "old_secret"):
        reference: SecretReference | None = getattr(asked, place)
        if reference is not None:
            try:
                keys.append(read_key(secrets[str(reference)]))
            except ValueError as error:
                raise ValueError(f"{place}: {reference} {error}") from None
    certificates = folder / asked.certificates if asked.certificates is not None else None
    return Receiver(name, url, tuple(keys), asked, certificates)


def _read(path: Path) -> NotifyFile:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(str(path), [f"cannot be read: {why}", "name another with --notify"]) from error
    return load_toml(NotifyFile, text, str(path))
