"""Servers as the command sees them: real MCP through the edge, with the official client, imported only here."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import httpx2
from mcp import Client, MCPError
from mcp.client.session import ElicitationFnT
from mcp.client.streamable_http import streamable_http_client
from mcp_types.version import LATEST_MODERN_VERSION

from pegboard.cli.exit import ExitStatus, Failure, read_refusal, refused
from pegboard.cli.http import CONNECT_S, TOOL_S, Token, failure_of, reaching, trusts_proxies
from pegboard.core.refusal import META_KEY

Era = Literal["auto", "modern", "legacy"]
MAX_PAGES = 100
"""A listing that never ends must not hang the command."""

MAX_ROUNDS = 1000
"""Answers to one call that ask for more. Whoever answers ends it before: for a person, when the token ends."""

FOR_GOOD = frozenset({httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN})
"""Statuses of refusals that no other way of asking changes."""

T = TypeVar("T")
Document = dict[str, Any]


@dataclass(slots=True)
class _LastError:
    """The last HTTP answer that was an error: the SDK keeps a JSON-RPC body only, and drops the status."""

    status: int | None = None
    body: Any = None

    async def note(self, response: httpx2.Response) -> None:
        """Read and remember an answer of status 400 or more.

        Raises:
            Failure: who calls is refused. The SDK would try its other way in, to be refused and recorded once more.
        """
        if response.status_code < 400:
            return
        self.status = response.status_code
        try:
            self.body = json.loads(await response.aread())
        except ValueError:
            self.body = None
        if self.status in FOR_GOOD and (refusal := _refusal_in(self.body)):
            raise refused(refusal, self.status)


def _refusal_in(body: Any) -> dict[str, str] | None:
    """The refusal that an answer is, bare or within a JSON-RPC error; None where it is none."""
    error = body.get("error") if isinstance(body, dict) else None
    return read_refusal(error) or read_refusal(error.get("data") if isinstance(error, dict) else None)


class Session:
    """An open conversation with one server. Results are the wire's JSON documents."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def tools(self) -> list[Document]:
        """The tools this caller may see, over all pages."""
        found: list[Document] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._client.list_tools(cursor=cursor)
            found += [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                return found
        raise Failure.here(ExitStatus.FAILED, "endless_listing", f"The server's list has over {MAX_PAGES} pages.")

    async def call(self, tool: str, arguments: Document) -> Document:
        """A tool's result.

        Raises:
            Failure: a refusal came in the result's place.
        """
        result = await self._client.call_tool(tool, arguments)
        document = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        refusal = read_refusal((document.get("_meta") or {}).get(META_KEY))
        if document.get("isError") and refusal is not None:
            failure = refused(refusal)
            structured = document.get("structuredContent")
            failure.details = {"approval": structured.get("approval") if isinstance(structured, dict) else None}
            raise failure
        return document


def converse(
    token: Token, era: Era, talk: Callable[[Session], Awaitable[T]], person: ElicitationFnT | None = None
) -> T:
    """Open a session with the server the token is bound to and run `talk` in it.

    Args:
        token: of who talks.
        era: of the protocol.
        talk: what is said.
        person: answers what the server asks; without it the server is not told that it may ask.

    Raises:
        Failure: refused, unreachable, or the server broke the protocol.
    """
    if not os.environ.get("PEGBOARD_DEBUG"):
        # The SDK logs failures with their traces; what matters of them is told by the Failure.
        logging.getLogger("mcp").addHandler(logging.NullHandler())
        logging.getLogger("mcp").propagate = False
    last = _LastError()

    async def run() -> T:
        async with _open(token, era, last, person) as session:
            return await talk(session)

    try:
        return asyncio.run(run())
    except (Failure, MCPError, httpx2.HTTPError, ExceptionGroup) as error:
        raise _failure(error, last, token.resource) from error


@asynccontextmanager
async def _open(token: Token, era: Era, last: _LastError, person: ElicitationFnT | None) -> AsyncIterator[Session]:
    mode = {"auto": "auto", "legacy": "legacy", "modern": LATEST_MODERN_VERSION}[era]
    http = httpx2.AsyncClient(
        headers={"Authorization": f"Bearer {token.value}"},
        timeout=httpx2.Timeout(TOOL_S, connect=CONNECT_S),
        trust_env=trusts_proxies(token.resource),
        event_hooks={"response": [last.note]},
    )
    transport = streamable_http_client(token.resource, http_client=http)
    client = Client(transport, mode=mode, elicitation_callback=person, input_required_max_rounds=MAX_ROUNDS)
    async with http, client:
        yield Session(client)


def _failure(error: BaseException, last: _LastError, url: str) -> Failure:
    """What went wrong, as one failure. Task groups wrap errors in groups; the first that says something counts."""
    leaves = _leaves(error)
    for leaf in leaves:
        if isinstance(leaf, Failure):
            return leaf
    for leaf in leaves:
        if isinstance(leaf, MCPError):
            return _protocol_failure(leaf, last, url)
    for leaf in leaves:
        if isinstance(leaf, httpx2.HTTPError):
            try:
                with reaching(url):
                    raise leaf
            except Failure as failure:
                return failure
    raise error


def _protocol_failure(error: MCPError, last: _LastError, url: str) -> Failure:
    refusal = read_refusal(error.error.data)
    if refusal is not None:
        return refused(refusal, last.status)
    # A refusal that is no JSON-RPC error reaches us as a stand-in of the SDK's; the body noted has the words.
    if last.status is not None and isinstance(last.body, dict) and read_refusal(last.body.get("error")):
        return failure_of(last.status, last.body, url)
    if last.status in (502, 503, 504):
        return Failure.here(ExitStatus.UNREACHABLE, "server_unavailable", f"The server behind {url} does not answer.")
    return Failure.here(ExitStatus.FAILED, "protocol_error", f"The server answered an error: {error.error.message}")


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
