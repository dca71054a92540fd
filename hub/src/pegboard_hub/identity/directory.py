"""The built-in demo directory: people who exist without a login, so that Pegboard can be tried on one machine.

Anyone who reaches it can act as any of its people. It therefore works only where nobody else reaches: nothing
starts with it unless the public URL and the address that the edge listens on are loopback addresses.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pegboard.core.checks import load_toml
from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import Name
from pegboard.core.names import PERSON_SURFACES


class Person(BaseModel):
    """Somebody in the directory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, description="how pages call this person")
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    groups: tuple[Name, ...] = ()
    about: str = Field(default="", description="one line for whoever tries the demo")


class Client(BaseModel):
    """A registered program that people sign in with; its registration, not its word, says which surface it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    surface: str
    channels: tuple[str, ...] = Field(default=(), description="for a bot: the channels it was invited to")

    @field_validator("surface")
    @classmethod
    def _for_people(cls, surface: str) -> str:
        if surface not in PERSON_SURFACES:
            raise ValueError(f"unknown surface {surface!r}; known are {', '.join(PERSON_SURFACES)}")
        return surface


class DemoDirectory(BaseModel):
    """The whole directory file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    people: dict[Name, Person]
    clients: dict[Annotated[str, Field(min_length=1)], Client]

    @field_validator("clients")
    @classmethod
    def _one_per_surface(cls, clients: dict[str, Client]) -> dict[str, Client]:
        surfaces = [client.surface for client in clients.values()]
        if len(set(surfaces)) != len(surfaces):
            raise ValueError("two clients have the same surface, so a surface would not name one client")
        return clients

    def client_of(self, surface: str) -> tuple[str, Client] | None:
        """The client that stands for a surface, with its id."""
        return next(((name, client) for name, client in self.clients.items() if client.surface == surface), None)

    @property
    def surfaces(self) -> tuple[str, ...]:
        """Surfaces that have a client."""
        return tuple(client.surface for client in self.clients.values())


NOBODY = DemoDirectory(people={}, clients={})
"""What takes the directory's place where a company's login says who people are."""


def open_directory(path: Path, public_url: str) -> DemoDirectory:
    """Read the demo directory, where it may be used.

    Raises:
        ConfigurationError: the public URL is not a loopback address, or the file is wrong.
    """
    if not is_loopback(public_url):
        raise ConfigurationError(
            "public URL",
            [
                f"{public_url} is not a loopback address, and the demo directory lets anyone act as anyone",
                "use http://localhost:PORT",
            ],
        )
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be read: {error.strerror}"]) from error
    return load_toml(DemoDirectory, text, str(path))


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine and nothing else: localhost, 127.0.0.0/8 or [::1]."""
    return is_loopback_host(urlsplit(url).hostname or "")


def is_loopback_host(host: str) -> bool:
    """Whether a host or an address is this machine and nothing else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
