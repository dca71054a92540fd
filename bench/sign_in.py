"""Signing in: from nothing, with a live session, and renewing a token; 32 clients, many sessions in the database.

    .venv/bin/python bench/sign_in.py [--sessions 100000] [--seconds 10] [--save]

One detached instance through its edge, beside the official SDK's own authorization routes with everything in memory,
which sign nobody in and issue random words. Each client has a connection of its own and sends its next request when
the last was answered. CPU is that of whoever answers.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx2

from bench import keeping
from bench.calls import processes
from bench.instances import detached
from pegboard_hub.identity.secrets import digest_of
from tests.oauth import Browser, challenge, query_of
from tests.ports import free_port

CLIENTS = 32
REDIRECT = "http://127.0.0.1:43210/callback"
HERE = Path(__file__).parent / "identity"
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Issuer:
    """An authorization server that is measured.

    Attributes:
        label: how the table calls it.
        url: its issuer.
        client_id: a public client that redirects to `REDIRECT`.
        pids: the processes that answer.
        resource: what a token is asked for; empty where there is no such thing.
        sign_in: makes a browser one in which somebody is signed in; None where nobody signs in.
        scope: what is asked for.
    """

    label: str
    url: str
    client_id: str
    pids: tuple[int, ...]
    metadata: dict[str, Any]
    resource: str = ""
    scope: str = ""
    sign_in: Callable[[Browser], Awaitable[None]] | None = None


class Client:
    """One client with its browser."""

    def __init__(self, issuer: Issuer, http: httpx2.AsyncClient) -> None:
        self.issuer = issuer
        self.http = http
        self.browser = Browser(issuer.url, http)
        self.refresh_token = ""

    async def sign_in(self) -> None:
        """A new browser, a person who signs in, and a token."""
        self.browser = Browser(self.issuer.url, self.http)
        if self.issuer.sign_in is not None:
            await self.issuer.sign_in(self.browser)
        await self.connect()

    async def connect(self) -> None:
        """A code and a token, in a browser where somebody is signed in."""
        verifier = secrets.token_urlsafe(48)
        asked = {
            "response_type": "code",
            "client_id": self.issuer.client_id,
            "redirect_uri": REDIRECT,
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
            "state": "s",
            **({"resource": self.issuer.resource} if self.issuer.resource else {}),
            **({"scope": self.issuer.scope} if self.issuer.scope else {}),
        }
        code = await self._code(str(httpx2.URL(self.issuer.metadata["authorization_endpoint"], params=asked)))
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": verifier}
        await self._token(form)

    async def refresh(self) -> None:
        """The next token."""
        await self._token({"grant_type": "refresh_token", "refresh_token": self.refresh_token})

    async def _code(self, url: str) -> str:
        while not url.startswith(REDIRECT):
            response = await self.browser.get(url)
            if not response.is_redirect:
                raise RuntimeError(f"{response.status_code} {response.text[:300]}")
            url = urljoin(url, response.headers["location"])
        return query_of(url)["code"]

    async def _token(self, form: dict[str, str]) -> None:
        form = {**form, "client_id": self.issuer.client_id}
        response = await self.http.post(self.issuer.metadata["token_endpoint"], data=form)
        if response.status_code != 200:
            raise RuntimeError(f"{response.status_code} {response.text[:300]}")
        self.refresh_token = response.json()["refresh_token"]


STEPS = {
    "sign in, from nothing to a token": Client.sign_in,
    "connect another server, signed in": Client.connect,
    "refresh": Client.refresh,
}


async def measure(issuer: Issuer, seconds: float) -> list[dict[str, Any]]:
    """A row for each step."""
    rows = []
    async with _clients(issuer) as clients:
        for client in clients:
            await client.sign_in()
        for what, step in STEPS.items():
            used, began, took = _cpu_us(issuer), time.perf_counter(), list[float]()
            await asyncio.gather(*(_repeat(client, step, began + seconds, took) for client in clients))
            elapsed, took = time.perf_counter() - began, sorted(took)
            row = {
                "issuer": issuer.label,
                "what": what,
                "rate": round(len(took) / elapsed, 1),
                "p50_ms": round(took[len(took) // 2], 1),
                "p99_ms": round(took[int(len(took) * 0.99)], 1),
                "cpu_us": round((_cpu_us(issuer) - used) / len(took)),
            }
            print("{issuer:44}{what:36}{rate:9,.1f}{p50_ms:9.1f}{p99_ms:9.1f}{cpu_us:9,}".format(**row), flush=True)
            rows.append(row)
    return rows


async def _repeat(client: Client, step: Callable[[Client], Awaitable[None]], until: float, took: list[float]) -> None:
    while (began := time.perf_counter()) < until:
        await step(client)
        took.append((time.perf_counter() - began) * 1000)


@asynccontextmanager
async def _clients(issuer: Issuer) -> AsyncIterator[list[Client]]:
    one = httpx2.Limits(max_connections=1)
    https = [httpx2.AsyncClient(limits=one, timeout=60, trust_env=False) for _ in range(CLIENTS)]
    try:
        yield [Client(issuer, http) for http in https]
    finally:
        for http in https:
            await http.aclose()


def _cpu_us(issuer: Issuer) -> float:
    return processes.cpu_us(issuer.pids)


@contextmanager
def pegboard(sessions: int) -> Iterator[Issuer]:
    """An instance with so many sessions, two connections in each, and a refresh token for every one."""
    with detached() as instance:
        _fill(instance.home.database, sessions)
        running = instance.processes()

        async def sign_in(browser: Browser) -> None:
            await browser.sign_in("ana")

        yield Issuer(
            "**Pegboard**, through the edge",
            instance.url,
            "pegboard-cli",
            (running["hub"], running["edge"]),
            _metadata(instance.url, "oauth-authorization-server"),
            resource=f"{instance.url}/api",
            sign_in=sign_in,
        )


def _fill(database: Path, total: int) -> None:
    """Sessions as people leave them behind, over a week; written in one transaction beside the running hub."""
    now = int(time.time() * 1000)
    with sqlite3.connect(database, timeout=60) as to:
        for number in range(total):
            sid, sub, at = f"{number:032x}", f"person-{number % 20_000}", now - number * 7 * DAY_MS // total
            times = {f"{name}_at_ms": at for name in ("opened", "authenticated", "facts", "seen")}
            person = {"sub": sub, "name": sub, "email": f"{sub}@example.com", "groups": "[]", "subject": sub}
            kept = {"login": "", "login_session": "", "renewal": "", "device": "Firefox on Linux"}
            ids = {"sid": sid, "secret_digest": digest_of(sid), "expires_at_ms": at + 8 * DAY_MS}
            _insert(to, "sessions", **ids, **person, **kept, **times)
            for each in ("a", "b"):
                one = f"{each}{number:031x}"
                of = {"sid": sid, "sub": sub, "client_id": "pegboard-cli", "resource": "", "scope": "tools"}
                secrets_ = {"connection": one, "family_digest": digest_of(f"{each}-{sid}")}
                _insert(to, "connections", **secrets_, **of, opened_at_ms=at, seen_at_ms=at)
                until = {"issued_at_ms": at, "expires_at_ms": at + 8 * DAY_MS}
                _insert(to, "refresh_tokens", digest=digest_of(each + sid), connection=one, jti=sid, **until)
    to.close()


def _insert(to: sqlite3.Connection, table: str, **values: object) -> None:
    # Tables and columns are ours, in this file.
    columns, places = ", ".join(f'"{name}"' for name in values), ", ".join("?" * len(values))
    to.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", list(values.values()))  # noqa: S608


@contextmanager
def rival(label: str, command: list[str], kind: str, folder: Path, scope: str = "") -> Iterator[Issuer]:
    """A rival's process, with a public client."""
    port = free_port()
    log = folder / f"{kind}-{port}.log"
    process = processes.start([*command[:2], str(port), *command[2:]], log, processes.private(folder), folder)
    try:
        processes.until(lambda: processes.listens(port), f"{label} listens", log)
        metadata = _metadata(f"http://localhost:{port}", kind)
        client_id = _registered(metadata) if metadata.get("registration_endpoint") else "bench"
        yield Issuer(label, f"http://localhost:{port}", client_id, (process.pid,), metadata, scope=scope)
    finally:
        processes.stop(process)


def _metadata(url: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"{url}/.well-known/{kind}", trust_env=False).raise_for_status().json()
    return found


def _registered(metadata: dict[str, Any]) -> str:
    document = {"client_name": "bench", "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none"}
    answer = httpx2.post(metadata["registration_endpoint"], json=document, trust_env=False).raise_for_status()
    return str(answer.json()["client_id"])


def main() -> None:
    """Print a row for each issuer and step, and keep them if asked to."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--sessions", type=int, default=100_000)
    arguments.add_argument("--seconds", type=float, default=10.0, help="of each step")
    arguments.add_argument("--save", action="store_true", help="keep the results in bench/results/sign_in.json")
    options = arguments.parse_args()
    before, rows = keeping.load_average(), list[dict[str, Any]]()
    print(f"{'':44}{'':36}{'a second':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs':>9}")
    with tempfile.TemporaryDirectory(dir="/tmp") as name, ExitStack() as stack:
        folder = Path(name)
        issuers = [
            stack.enter_context(pegboard(options.sessions)),
            stack.enter_context(
                rival(
                    "The SDK's routes, in memory",
                    [sys.executable, str(HERE / "sdk_in_memory.py")],
                    "oauth-authorization-server",
                    folder,
                )
            ),
        ]
        for issuer in issuers:
            rows += asyncio.run(measure(issuer, options.seconds))
    if options.save:
        kept = {"sessions": options.sessions, "clients": CLIENTS, "rows": rows}
        print(keeping.save("sign_in", [before, keeping.load_average()], **kept))


if __name__ == "__main__":
    main()
