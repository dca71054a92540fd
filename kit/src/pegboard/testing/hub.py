"""The in-memory twin of hub, edge and disk. It skips no check: only transport and storage are in memory."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx2
from mcp import Client
from mcp.client.session import ElicitationFnT
from mcp.client.streamable_http import streamable_http_client

from pegboard.call.authenticate import GROUPS_HEADER, SURFACE_HEADER, USER_HEADER
from pegboard.call.ports import Standing
from pegboard.core.access import ServerAccess
from pegboard.core.jose import Signer, new_private_key, public_jwks
from pegboard.core.names import ACTING_SURFACES, ServerName
from pegboard.core.record import Denial, Intent, Outcome
from pegboard.core.scopes import SCOPE_TOOLS
from pegboard.core.token import TOKEN_TYPE, TokenVerifier
from pegboard.project import Project, load_project
from pegboard.remote.metrics import ServerMeter
from pegboard.server import Server
from pegboard.testing.approvals import InMemoryApprovals
from pegboard.testing.streaming import StreamingTransport
from pegboard.transport.application import build_application
from pegboard.transport.http import GovernedApp

PUBLIC_URL = "http://pegboard.test"


class InMemoryStanding:
    """A standing that a test can change: what `BundleFile` is in production."""

    def __init__(self, access: ServerAccess, tokens: TokenVerifier) -> None:
        self.standing = Standing(access, tokens, version=1)

    def current(self, now: float) -> Standing:  # noqa: ARG002 - the port's signature; nothing ages here
        """The standing as last set."""
        return self.standing


class InMemoryRecorder:
    """Records in a list: what `Spool` is in production."""

    def __init__(self, told: Callable[[Intent | Outcome | Denial], None]) -> None:
        self._told = told
        self.records: list[Intent | Outcome | Denial] = []

    def write(self, record: Intent | Outcome | Denial) -> None:
        """Keep one record."""
        self.records.append(record)
        self._told(record)

    def digest(self, document: bytes) -> str:
        """A digest under a fixed key."""
        return hashlib.blake2b(document, key=b"test", digest_size=16).hexdigest()


class InMemoryHub:
    """Everything a server needs around it, for a test.

    Attributes:
        records: what the server wrote, oldest first.
        meter: what it counted.
        approvals: what it asked people for, and how a test answers for them.
    """

    def __init__(
        self,
        project: Path,
        server: Server | None = None,
        *,
        namespace: str = "dev",
        groups: Iterable[str] | None = None,
        surfaces: Iterable[str] | None = None,
        public_url: str = PUBLIC_URL,
    ) -> None:
        """Load the project in folder `project`.

        Args:
            project: folder with `pegboard.toml` and `policies/`.
            server: the Server, to save importing the manifest's entry.
            namespace: where it is published.
            groups: business groups granted; all that the manifest asks for unless given.
            surfaces: surfaces granted; all that the manifest asks for unless given.
            public_url: the edge's origin, where a test puts the application behind a real port.
        """
        self.public_url = public_url
        self.project: Project = load_project(project, server)
        manifest = self.project.manifest
        self.name = ServerName(namespace, manifest.name)
        self._private_key = new_private_key()
        self._signer = Signer(self._private_key)
        access = ServerAccess(
            server=self.name,
            owner=manifest.owner,
            support_channel=manifest.support_channel,
            resource_url=self.name.resource_url(self.public_url),
            groups=frozenset(manifest.requests.business_groups if groups is None else groups),
            surfaces=frozenset(manifest.requests.surfaces if surfaces is None else surfaces),
        )
        keys = public_jwks(self._private_key)
        self.standings = InMemoryStanding(access, TokenVerifier(keys, self.public_url, access.resource_url))
        self.approvals = InMemoryApprovals(
            self.standings, self.project.declaration.digest, f"{self.public_url}/approvals"
        )
        self._recorder = InMemoryRecorder(self.approvals.settle)
        self._state_key = secrets.token_bytes(32)
        self.meter = ServerMeter(self.project.governed)

    @property
    def records(self) -> list[Intent | Outcome | Denial]:
        """What the server wrote, oldest first."""
        return self._recorder.records

    def token(self, person: str, groups: Iterable[str] = (), surface: str = "cli", /, **claims: object) -> str:
        """A token for this server; `claims` replace or add to the usual ones."""
        now = int(time.time())
        usual = {
            "iss": self.public_url,
            "sub": person,
            "sub_type": "person",
            "email": f"{person}@example.com",
            "groups": list(groups),
            "client_id": f"pegboard-{surface}",
            "surface": surface,
            "scope": SCOPE_TOOLS,
            "sid": f"session-of-{person}",
            "aud": self.name.resource_url(self.public_url),
            "iat": now,
            "exp": now + 300,
            "jti": uuid4().hex,
        }
        said = usual | claims
        if said["surface"] in ACTING_SURFACES:
            said.setdefault("act", {"sub": said["client_id"]})
        return self._signer.sign(said, TOKEN_TYPE)

    def headers(
        self, person: str, groups: Iterable[str] = (), surface: str = "cli", **claims: object
    ) -> dict[str, str]:
        """What the edge would send on for this person: the token, as of `token`, and the identity headers."""
        groups = list(groups)
        return {
            "authorization": f"Bearer {self.token(person, groups, surface, **claims)}",
            USER_HEADER: person,
            GROUPS_HEADER: json.dumps(groups),
            SURFACE_HEADER: surface,
        }

    def application(self) -> GovernedApp:
        """A fresh ASGI application of the server."""
        return build_application(
            self.project,
            self.name,
            self.public_url,
            self.standings,
            self._recorder,
            self.project.declaration.digest,
            self.meter,
            self.approvals,
            uuid4().hex,
            self._state_key,
        )

    @asynccontextmanager
    async def http(self, headers: dict[str, str] | None = None) -> AsyncIterator[httpx2.AsyncClient]:
        """An HTTP client in front of the running application, for requests no honest client would send."""
        application = self.application()
        async with application.running():
            transport = StreamingTransport(application)
            async with httpx2.AsyncClient(transport=transport, base_url=self.public_url, headers=headers) as client:
                yield client

    @asynccontextmanager
    async def client(
        self,
        person: str,
        *,
        groups: Iterable[str] = (),
        surface: str = "cli",
        era: str = "modern",
        elicit: ElicitationFnT | None = None,
    ) -> AsyncIterator[Client]:
        """The official MCP client, signed in as `person`.

        Args:
            person: whose token it has.
            groups: that the token names.
            surface: from which it calls.
            era: `modern` or `legacy`.
            elicit: answers what the server asks the client's person, forms and links; without it the client says
                that it can be asked nothing.
        """
        mode = "legacy" if era == "legacy" else "auto"
        async with self.http(self.headers(person, groups, surface)) as http:
            transport = streamable_http_client(self.name.resource_url(self.public_url), http_client=http)
            async with Client(transport, mode=mode, elicitation_callback=elicit) as client:
                yield client

    async def refusal(self, person: str, *, groups: Iterable[str] = (), surface: str = "cli") -> str:
        """Why somebody reaches nothing of the server, as its owner reads it: `group_not_granted`, for example.

        Raises:
            AssertionError: they reach it.
        """
        before = len(self.records)
        try:
            async with self.client(person, groups=groups, surface=surface) as client:
                await client.list_tools()
        except Exception:
            # The client tells a refused session in many ways; the server's own record tells why.
            denials = [each for each in self.records[before:] if isinstance(each, Denial)]
            if not denials:
                raise
            return denials[0].reason
        raise AssertionError(f"{person} reaches {self.name}: nothing refuses them")
