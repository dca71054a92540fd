"""Web sites of strangers, on this machine, over real TLS: what a client's document is fetched from."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pegboard_hub.identity.clients.addresses import Address, is_public

HOST = "app.example.com"
HERE = ipaddress.ip_address("127.0.0.1")


def answer(
    body: bytes | str, status: str = "200 OK", content_type: str = "application/json", **headers: str
) -> bytes:
    """An HTTP response, whole."""
    data = body.encode() if isinstance(body, str) else body
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(data)}",
        "Connection: close",
    ]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


@dataclass
class Site:
    """One site.

    Attributes:
        port: where it listens.
        says: the raw answer to every request; `serve` replaces it.
        asked: request lines and headers, in the order they came.
    """

    port: int = 0
    says: bytes = b""
    asked: list[str] = field(default_factory=list)
    serve: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None
    scheme: str = "https"
    host: str = HOST

    @property
    def url(self) -> str:
        """The id of the client whose document is here."""
        return f"{self.scheme}://{self.host}:{self.port}/client.json"

    def document(self, **changes: Any) -> dict[str, Any]:
        """The document of that client."""
        said = {"client_id": self.url, "client_name": "Example", "redirect_uris": [f"https://{HOST}/cb"]}
        return {name: value for name, value in (said | changes).items() if value is not None}

    def publish(self, said: Any = None, /, **headers: str) -> None:
        """Answer with a document from now on."""
        self.says = answer(json.dumps(self.document() if said is None else said), **headers)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if self.serve is not None:
                await self.serve(writer)
            else:
                writer.write(self.says)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()


@dataclass
class Names:
    """A name server that answers each question about a host with the next of its answers, and the last for ever."""

    answers: list[list[str]]
    asked: list[str] = field(default_factory=list)

    async def resolve(self, host: str, _port: int) -> Iterable[Address]:
        """The addresses."""
        self.asked.append(host)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [ipaddress.ip_address(address) for address in found]


def here_or_public(address: Address) -> bool:
    """What tests may connect to: the rule, and the one address at which their sites listen."""
    return address == HERE or is_public(address)


@asynccontextmanager
async def open_site(context: ssl.SSLContext | None) -> AsyncIterator[Site]:
    """A site that listens until the end; without a context it speaks plain HTTP."""
    site = Site(scheme="https" if context else "http", host=HOST if context else "localhost")
    server = await asyncio.start_server(site.handle, str(HERE), 0, ssl=context)
    site.port = server.sockets[0].getsockname()[1]
    site.publish()
    try:
        yield site
    finally:
        server.close()
        await server.wait_closed()


def authority(folder: Path, *names: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a site that has a certificate for `names`, and of one who believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain, secrets = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(pem)
    secrets.write_bytes(secret)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(chain, secrets)
    return serving, ssl.create_default_context(cadata=pem.decode())


@asynccontextmanager
async def open_proxy(port: int) -> AsyncIterator[Site]:
    """A proxy that leads every CONNECT to the same port of this machine."""
    proxy = Site(scheme="http")

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        there, back = await asyncio.open_connection(str(HERE), port)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))

    server = await asyncio.start_server(connect, str(HERE), 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await server.wait_closed()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(4096):
            target.write(data)
            await target.drain()
    except ConnectionError:
        pass
    finally:
        target.close()
