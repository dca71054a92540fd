"""The real stack with canaries behind it: hub, Envoy and servers of the kit, and each layer opened on purpose.

A canary is a tool that notes that it ran, for whom, and says so in its answer. An attack gets through when a canary
ran, or its words came out, that the attacker may not have: a status alone proves nothing.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import shutil
import socket
import tempfile
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mcp_types import ToolAnnotations

from pegboard import Server, authorize_tool
from pegboard.call.context import current_caller
from pegboard.core.jose import Jwk, new_private_key
from pegboard_hub.demo.opened import open_edge
from pegboard_hub.identity.revocations import Kind
from pegboard_hub.stopping.service import MACHINE
from tests.attacks.catalogue import http2
from tests.attacks.catalogue.attack import (
    ABSENT,
    ATTACKER,
    CLOSED,
    HALTED,
    HIDDEN,
    HOSTILE,
    LOOK,
    OPEN,
    REPORTING,
    STOPPED,
    VICTIM,
    WRITE,
    Attack,
    Request,
    Seen,
    Token,
    mark,
)
from tests.attacks.signing import es256
from tests.attacks.wire import ACCEPT, LEGACY, META, MODERN
from tests.hub.company import beside
from tests.rings import key_in
from tests.system.edge_rig import until
from tests.system.one_answer.town import Desk, Town
from tests.system.one_answer.worlds import Grant, World

TOOLS = (LOOK, HIDDEN, WRITE, HALTED)
SILENT_S = 15
"""Seconds after which an answer is none, also on a busy machine."""

QUIET_S = 1.5
"""Seconds after which there is none where none need come."""

WHY = "it leaks"
REVOKED = "a sign-in that has ended"
"""The `sid` of a sign-in that was ended."""


BELIEVED = (
    "remote-user",
    "x-remote-user",
    "x-user",
    "x-username",
    "x-forwarded-email",
    "x-forwarded-preferred-username",
    "x-auth-request-user",
    "x-authenticated-user",
    "x-goog-authenticated-user-email",
    "x-amzn-oidc-identity",
    "x-ms-client-principal-name",
    "x-spiffe-id",
    "x-pegboard-sub",
    "cookie",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-forwarded-user",
)
"""Headers that some framework somewhere believes about who calls and what; a careless server believes the first."""


class Text(NamedTuple):
    """A policy's text."""

    text: str


_EVERYONE = Text("permit (principal, action, resource);")
_VICTIMS = Text('permit (principal in Group::"ads-eng", action, resource);')
POLICIES = {LOOK: _EVERYONE, HIDDEN: _VICTIMS, WRITE: _EVERYONE, HALTED: _EVERYONE}

_GRANTS = {
    OPEN: Grant(
        ("ads-eng", "search-eng"),
        ("cli", "ide", "bot", "service"),
        ("airflow",),
        (REPORTING,),
        "",
        (HALTED,),
        "live",
        "internal",
    ),
    CLOSED: Grant(("ads-eng",), ("cli", "service"), (), (REPORTING,), "", (), "live", "confidential"),
    HOSTILE: Grant(("ads-eng", "search-eng"), ("cli",), (), (), "", (), "live", "internal"),
}
PEOPLE = {VICTIM: ("ads-eng",), ATTACKER: ("search-eng",), STOPPED: ("ads-eng",)}


@dataclass(frozen=True, slots=True)
class Door:
    """A way to the servers.

    Attributes:
        name: in words.
        opened: which layers are opened on purpose.
        by: what stands in the way: the edge, an edge without a rule, or nothing.
    """

    name: str
    opened: frozenset[str] = frozenset()
    by: str = "edge"

    @property
    def careless(self) -> bool:
        """Whether the server runs whatever it is sent."""
        return "server" in self.opened


WHOLE = Door("both layers whole")
EDGE_OPENED = Door("layer 1 opened", frozenset({"edge"}), "opened edge")
EDGE_GONE = Door("at the server's own socket", frozenset({"edge"}), "nothing")
SERVER_OPENED = Door("layer 2 opened", frozenset({"server"}))
BOTH_OPENED = Door("both layers opened", frozenset({"edge", "server"}), "opened edge")
BARE = Door("no edge and no layer 2", frozenset({"edge", "server"}), "nothing")
DOORS = (WHOLE, EDGE_OPENED, EDGE_GONE, SERVER_OPENED)


class Canaries(Desk):
    """One server's place, with canaries for tools; `careless` makes it run and tell whatever is asked of it."""

    def __init__(self, server: str) -> None:
        super().__init__()
        self.server = server
        self.careless = False
        self.sang: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.careless:
            await self._obey(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def tools(self, names: Any) -> Server:
        server = Server()
        for name in names:
            hints = ToolAnnotations(read_only_hint=name != WRITE)
            server.tool(name=name, annotations=hints)(authorize_tool(policy=name)(self._canary(name)))
        return server

    def _canary(self, name: str) -> Any:
        async def tool() -> str:
            return self.sing(name, current_caller().sub)

        return tool

    def sing(self, tool: str, sub: str) -> str:
        """Run, for somebody."""
        self.sang.append(mark(self.server, tool, sub))
        return self.sang[-1]

    async def _obey(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            part = await receive()
            if part["type"] == "http.disconnect":
                return
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        said = self._answers(scope["method"], headers, body)
        content = json.dumps({"jsonrpc": "2.0", "id": 1, "result": said}).encode()
        head = [(b"content-type", b"application/json"), (b"mcp-session-id", b"careless")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": content})

    def _answers(self, method: str, headers: Mapping[str, str], body: bytes) -> list[str]:
        """Every tool whose name is anywhere in the body runs, for whoever the headers name, however it is written."""
        told = next((headers[name] for name in BELIEVED if name in headers), "")
        sub = told or unverified(headers.get("authorization", "")).get("sub")
        texts = list(_readings(body, headers.get("content-encoding", "")))
        named = [tool for tool in (*TOOLS, ABSENT) if any(tool in text for text in texts)]
        if any("tools/list" in text for text in texts):
            return [*TOOLS, self.sing("list", str(sub))]
        return [self.sing(tool, str(sub)) for tool in named or [f"{method} of nothing"]]


def _readings(body: bytes, coding: str) -> Iterator[str]:
    """Whatever somebody could read in these bytes."""
    with suppress(Exception):
        body = {"gzip": gzip.decompress, "deflate": zlib.decompress}.get(coding, bytes)(body)
    for encoding in ("utf-8", "latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        with suppress(UnicodeError):
            text = body.decode(encoding)
            yield text
            yield re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)
            yield text.casefold().replace(" ", "_")


def unverified(authorization: str) -> dict[str, Any]:
    """What a token says, whoever signed it; nothing where that cannot be read."""
    with suppress(Exception):
        part = authorization.rpartition(" ")[2].split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return found if isinstance(found, dict) else {}
    return {}


class Stand(Town):
    """The town of the catalogue."""

    host = "localhost"

    def desk(self, server: str) -> Canaries:
        return Canaries(server)

    def begin(self) -> None:
        """Let everything be granted, stopped and revoked as the catalogue says, and start the opened edge."""
        self.become(World(PEOPLE, _GRANTS, dict.fromkeys(_GRANTS, POLICIES), ()))  # type: ignore[arg-type]
        self._opened = AsyncExitStack()
        self.opened_edge: Path = self.run(self._opened.enter_async_context(open_edge(self.home)))
        self._watching = beside(self.parts.registry.watch_revoked())
        self.run(self._watching.__aenter__())
        self.run(self._forbid())
        self.own_key: Jwk = new_private_key()
        self._keys = {
            "hub": key_in(self.home.token_ring),
            "own": self.own_key,
            "bundle": key_in(self.home.bundle_ring),
        }
        self.hostile: Any = None
        self.unserve(self.socket(HOSTILE))
        self.serve_raw(self._misbehave, self.socket(HOSTILE))
        self._until_all_is_in_force()

    async def _forbid(self) -> None:
        await self.parts.stopping.stop(MACHINE, "person", STOPPED, WHY)
        kind: Kind = "session"
        revocations = self.parts.identity.revocations
        async with self.parts.database.write() as connection:
            await revocations.add(connection, kind, [REVOKED])
        await revocations.reload()

    def _until_all_is_in_force(self) -> None:
        stopped = Request(Token(STOPPED, OPEN))
        revoked = Request(Token(VICTIM, OPEN, {"sid": REVOKED}))
        for door in (WHOLE, EDGE_GONE):
            until(lambda: self.send(door, stopped).status == 403, "the person is stopped")  # noqa: B023
            until(lambda: self.send(door, revoked).status == 401, "the sign-in is revoked")  # noqa: B023
            good = Request()
            until(lambda: self.send(door, good).status == 200, "the attacker may look")  # noqa: B023

    def end(self) -> None:
        self.run(self._watching.__aexit__(None, None, None))
        self.run(self._opened.aclose())

    # Tokens

    def token(self, token: Token | str | None) -> str | None:
        """A token as it is told."""
        if not isinstance(token, Token):
            return token
        claims = self._changed(self.usual(token.who, token.server), token.claims)
        key = self._keys[token.key]
        header = self._changed({"alg": "ES256", "typ": "at+jwt", "kid": self._keys["hub"]["kid"]}, token.header)
        if token.made is not None:
            return token.made(self, header, claims)
        return self.jws(json.dumps(header).encode(), json.dumps(claims).encode(), key)

    def private_key(self, name: str) -> Jwk:
        """A private key by whose it is."""
        return self._keys[name]

    def jws(self, header: bytes, payload: bytes, key: Jwk | None = None) -> str:
        """A compact JWS of exactly these bytes, in ES256."""
        signed = f"{encoded(header)}.{encoded(payload)}"
        return f"{signed}.{encoded(es256(signed.encode(), key or self._keys['hub']))}"

    def usual(self, who: str, server: str) -> dict[str, Any]:
        """The claims of an honest token."""
        now = int(time.time())
        service = who.startswith("spiffe:")
        more: dict[str, Any] = (
            {"sub_type": "service", "groups": [], "client_id": who, "surface": "service", "scope": "tools:read"}
            if service
            else {
                "sub_type": "person",
                "groups": list(PEOPLE.get(who, ())),
                "client_id": "pegboard-cli",
                "surface": "cli",
                "scope": "tools" if server != "api" else "api",
                "sid": f"sign-in of {who}",
                "email": f"{who}@example.com",
            }
        )
        audience = self.api if server == "api" else self.at(server)
        times = {"iat": now, "exp": now + 300, "jti": uuid.uuid4().hex}
        return {"iss": self.public_url, "sub": who, "aud": audience, **more, **times}

    def _changed(self, usual: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        found = usual | {name: self.placed(value) for name, value in changes.items()}
        return {name: value for name, value in found.items() if value is not None}

    def placed(self, value: Any) -> Any:
        """A value with this instance's origin in it, and the time."""
        if isinstance(value, list):
            return [self.placed(item) for item in value]
        if not isinstance(value, str):
            return value
        if value.startswith("{now}"):
            return int(time.time()) + int(value.removeprefix("{now}") or 0)
        marks = {"{url}": self.public_url, "{URL}": self.public_url.upper(), "{port}": str(self.port)}
        for name, text in marks.items():
            value = value.replace(name, text)
        return value

    # Sending

    def attack(self, door: Door, attack: Attack) -> tuple[Seen, tuple[str, ...]]:
        """Try an attack at a door; what was seen, and what got through that must not, in words."""
        for desk in self.desks.values():
            assert isinstance(desk, Canaries)
            desk.careless = door.careless
            desk.sang.clear()
        try:
            seen = self.send(door, attack.how) if isinstance(attack.how, Request) else attack.how(self, door)
        finally:
            for desk in self.desks.values():
                desk.careless = False  # type: ignore[attr-defined]
        ran = [f"ran: {sang}" for sang in self.sang() if sang not in attack.may]
        told = re.findall(r"canary of \S+ \S+ for [a-z:/.]+", seen.text)
        came = [f"came out: {each}" for each in told if each not in attack.may]
        if HIDDEN in seen.text and not self._names_hidden(attack):
            came.append(f"came out: the name of {HIDDEN}")
        return seen, tuple(dict.fromkeys((*ran, *came, *seen.leaks)))

    def sang(self) -> list[str]:
        """What every canary noted."""
        return [each for desk in self.desks.values() if isinstance(desk, Canaries) for each in desk.sang]

    def _names_hidden(self, attack: Attack) -> bool:
        """Whether the attacker names the hidden tool, whose name may then be in the refusal."""
        how = attack.how
        if not isinstance(how, Request):
            return True
        return HIDDEN in how.tool or HIDDEN in json.dumps(dict(how.message)) or HIDDEN.encode() in (how.body or b"")

    def send(self, door: Door, request: Request) -> Seen:
        """Send one request at a door."""
        token = self.token(request.token)
        session = self._session(door, request)
        headers, body = self.written(door, request, token, session)
        with self.connected(door, request) as connection:
            if request.version == "HTTP/2":
                return self._by_http2(connection, request, headers, body)
            if request.ends:
                connection.settimeout(QUIET_S)
            return _answer(connection, self._framed(request, headers, body), alone=not request.behind)

    def bytes_of(self, door: Door, request: Request) -> bytes:
        """What is sent for a request, in HTTP/1."""
        token = self.token(request.token)
        return self._framed(request, *self.written(door, request, token, self._session(door, request)))

    def _framed(self, request: Request, headers: list[str], body: bytes) -> bytes:
        line = request.line or f"{request.verb} {self._path(request)} {request.version}".rstrip()
        framing = [f"Content-Length: {len(body)}"] if request.framed else []
        lines = [self.placed(line), *headers, *framing]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body + request.behind

    def written(self, door: Door, request: Request, token: str | None, session: str = "") -> tuple[list[str], bytes]:
        """The header lines of a request, without what frames the body, and the body."""
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": self._params(request)}
        message |= self._merged(message, request.message)
        call = json.dumps(message).encode()
        body = call if request.body is None else request.body.replace(b"{call}", call)
        body = b"" if request.verb in ("GET", "DELETE") and request.body is None else body
        modern = request.era == "modern"
        usual = {
            "Host": f"{self.host}:{self.mtls_port if request.certificate and door.by == 'edge' else self.port}",
            **ACCEPT,
            "mcp-protocol-version": MODERN if modern else LEGACY,
            "mcp-method": str(message["method"]) if modern else "",
            "mcp-name": str(message["params"].get("name", "")) if modern else "",
            "mcp-session-id": session,
            "authorization": f"Bearer {token}" if token is not None else "",
            "connection": "close",
        }
        lines = [self.placed(line) for line in request.lines]
        left_out = {name.lower() for name in request.without}
        headers = [f"{name}: {value}" for name, value in usual.items() if value and name.lower() not in left_out]
        return [*headers, *lines, *self._forged(door, request, token, lines)], body

    def _forged(self, door: Door, request: Request, token: str | None, lines: list[str]) -> list[str]:
        """The identity headers that the edge would set: without an edge the attacker writes them, as serves best."""
        if door.by == "edge" or not isinstance(request.token, Token | str):
            return []
        said = unverified(f"Bearer {token}")
        claims = {"sub": VICTIM, "groups": list(PEOPLE[VICTIM]), "surface": "cli"} | said
        told = {
            "X-Forwarded-User": claims["sub"],
            "X-Forwarded-Groups": json.dumps(claims["groups"]),
            "X-Forwarded-Surface": claims["surface"],
        }
        given = "\n".join(lines).lower()
        return [f"{name}: {value}" for name, value in told.items() if f"{name.lower()}:" not in given]

    def _params(self, request: Request) -> dict[str, Any]:
        params = {"name": request.tool, "arguments": {}}
        return {**params, "_meta": META} if request.era == "modern" else params

    def _merged(self, message: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        params = changes.get("params")
        merged = {**message["params"], **params} if isinstance(params, dict) else params
        return {**changes, **({"params": merged} if "params" in changes else {})}

    def _path(self, request: Request) -> str:
        return request.path or f"/mcp/{request.server}"

    def _session(self, door: Door, request: Request) -> str:
        if request.session.startswith("="):
            return request.session[1:]
        if request.session:
            return self.opened_session(door, Token(request.session, request.server), request.server)
        if request.era == "legacy" and not door.careless:
            return self.opened_session(door, OWN_OF[request.server], request.server)
        return ""

    def opened_session(self, door: Door, token: Token, server: str) -> str:
        """Open a legacy session; gives its id, and nothing where it was refused."""
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        opening = Request(token, server, body=json.dumps(body).encode(), era="legacy", session="=")
        found = re.search(r"mcp-session-id: (\S+)", self.send(door, opening).text, re.IGNORECASE)
        return found[1] if found else ""

    @contextmanager
    def connected(self, door: Door, request: Request) -> Iterator[socket.socket]:
        if door.by == "edge" and request.certificate:
            context = self.context(self.authority.mint(request.certificate))
            with (
                socket.create_connection(("localhost", self.mtls_port), SILENT_S) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secure,
            ):
                yield secure
            return
        where: Any = ("127.0.0.1", self.port)
        if door.by != "edge":
            where = str(self.opened_edge if door.by == "opened edge" else self.socket(request.server))
        with socket.socket(socket.AF_INET if door.by == "edge" else socket.AF_UNIX) as connection:
            connection.settimeout(SILENT_S)
            connection.connect(where)
            yield connection

    def _by_http2(self, connection: socket.socket, request: Request, headers: list[str], body: bytes) -> Seen:
        # What a library would tidy up stays as it is told in the request: names, pseudo-headers, their order.
        own = [_pair(self.placed(line)) for line in request.lines]
        odd = [_pair(line) for line in headers if line not in map(self.placed, request.lines)]
        usual = [(name.lower(), value) for name, value in odd if name.lower() not in ("host", "connection")]
        pseudo = {
            ":method": request.verb,
            ":scheme": "http",
            ":path": self._path(request),
            ":authority": f"{self.host}:{self.port}",
        }
        given = {name for name, _ in own} | set(request.without)
        pairs = [*((name, value) for name, value in pseudo.items() if name not in given)]
        pairs += [pair for pair in own if pair[0].startswith(":")]
        pairs += [*usual, *(pair for pair in own if not pair[0].startswith(":"))]
        with suppress(OSError):  # refused while we were still sending
            connection.sendall(http2.opening(pairs, body, map(_pair, request.trailers)))
        status, found = http2.answer(connection, http2.SOON_S if request.ends else SILENT_S, SILENT_S)
        return Seen(status, found.decode("utf-8", "replace"))

    # A server of the attacker's

    async def _misbehave(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = re.search(rb"content-length: (\d+)", head.lower())
            body = await reader.readexactly(int(length[1])) if length else b""
            await self.hostile(head, body, writer)


OWN_OF = {server: Token(ATTACKER, server) for server in (OPEN, CLOSED, HOSTILE)}


def _pair(line: str) -> tuple[str, str]:
    """Name and value of a line; a name may begin with a colon."""
    name, _, value = line[1:].partition(": ")
    return line[:1] + name, value


def encoded(data: bytes) -> str:
    """Base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _answer(connection: socket.socket, sent: bytes, alone: bool = True) -> Seen:
    """The one answer, or everything that came until the other side closed, or was silent for long."""
    found = b""
    try:
        connection.sendall(sent)
        while not (alone and is_whole(found)) and (part := connection.recv(65536)):
            found += part
    except OSError:
        pass  # refused while we were still sending, or kept open: what came counts
    status = found.split(b" ", 2)[1:2]
    return Seen(int(status[0]) if status and status[0].isdigit() else 0, found.decode("utf-8", "replace"))


def is_whole(answer: bytes) -> bool:
    """Whether these bytes hold one whole answer of HTTP/1.1."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return bool(end) and (len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n"))


@contextmanager
def standing() -> Iterator[Stand]:
    """A stand that is up, and gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    stand = Stand(folder)
    try:
        stand.start()
        stand.begin()
        yield stand
        stand.end()
    finally:
        stand.stop()
        shutil.rmtree(folder)
