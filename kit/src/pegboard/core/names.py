"""Names of namespaces, servers and surfaces, and the URLs that follow from them."""

from __future__ import annotations

import re
from dataclasses import dataclass

NAME_PATTERN = r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*"
"""A namespace or a server name: what can stand in a path, a DNS label, a variable and a file name alike."""

NAME_LENGTH = (2, 32)
"""Fewest and most characters of a name."""

TOOL_PATTERN = r"[A-Za-z0-9_.-]{1,64}"

SURFACES = ("cli", "chat", "bot", "ide", "web", "service")
"""Where a call can come from. The hub sets a token's surface from the client's registration."""

SERVICE = "service"
"""Programs without a person, known by a SPIFFE ID. No person calls from it, and no service from elsewhere."""

WEB = "web"
"""Pegboard's own pages, where a person tries a tool."""

PERSON_SURFACES = tuple(surface for surface in SURFACES if surface != SERVICE)

ACTING_SURFACES = ("chat", "bot")
"""Surfaces that work for many people: a token from there is exchanged for, and says in `act` who acts (RFC 8693)."""

CLIENT_SURFACES = tuple(surface for surface in PERSON_SURFACES if surface != WEB)
"""Surfaces that a client of somebody else's can have: our own pages are nobody else's."""

SIGN_IN_SURFACES = tuple(surface for surface in CLIENT_SURFACES if surface not in ACTING_SURFACES)
"""Those that a person's sign-in leads to by itself. The others are for surfaces that the operator registered."""

MCP_PREFIX = "/mcp/"
EXCHANGE_PATH = "/oauth/token"
"""Path of the token endpoint as a resource (RFC 8693)."""

API_PATH = "/api"
"""Path of the hub's API as a resource; what answers is below it."""


@dataclass(frozen=True, slots=True, order=True)
class ServerName:
    """A server's place in the registry, written `namespace/name`, for example `prod/presto`."""

    namespace: str
    name: str

    def __post_init__(self) -> None:
        for part in (self.namespace, self.name):
            if not re.fullmatch(NAME_PATTERN, part) or not NAME_LENGTH[0] <= len(part) <= NAME_LENGTH[1]:
                raise ValueError(
                    f"{part!r} is not a name: use 2 to 32 of a-z, 0-9 and single '-', starting with a letter"
                )

    @classmethod
    def parse(cls, text: str) -> ServerName:
        """Read `namespace/name`.

        Raises:
            ValueError: the text has another form; the message says which form is wanted.
        """
        namespace, slash, name = text.partition("/")
        if not slash:
            raise ValueError(f"{text!r} names no namespace: write it as NAMESPACE/NAME, for example prod/presto")
        return cls(namespace, name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        """Path of the server's MCP endpoint at the edge."""
        return f"{MCP_PREFIX}{self.namespace}/{self.name}"

    def resource_url(self, public_url: str) -> str:
        """The server's resource identifier (RFC 8707) and the only audience its tokens have."""
        return public_url.rstrip("/") + self.path


def exchange_audience(public_url: str) -> str:
    """The audience of what a person's sign-in to a registered surface leads to: it can be exchanged, and no more."""
    return public_url.rstrip("/") + EXCHANGE_PATH


def api_audience(public_url: str) -> str:
    """The audience of tokens for the hub's own API."""
    return public_url.rstrip("/") + API_PATH
