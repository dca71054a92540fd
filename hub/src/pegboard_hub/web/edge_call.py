"""A tool's call on behalf of somebody who looks at our pages. It goes through the edge, as everybody's calls do.

The hub holds the keys and could do without: it does not. The call has a token like any other, bound to one server,
of the surface `web`; edge and server decide on it, and both write it down. The token is made for the one call and
leaves this module for the edge alone.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from pegboard.core.approval import MOST_ACTIONS
from pegboard.core.names import ServerName
from pegboard.core.refusal import META_KEY
from pegboard_hub.common.bodies import json_rpc_message, read_bounded
from pegboard_hub.common.certificates import trusting

PROTOCOL = "2026-07-28"
WHOLE_S = 45.0
"""Seconds that one call may take: the edge waits a minute for us to answer the person."""

CONNECT_S = 5.0
MOST_BYTES = 1024 * 1024
"""Bytes of an answer that are read; a page shows far less."""

MOST_AT_ONCE = 32
ACCEPT = "application/json, text/event-stream"


@dataclass(frozen=True, slots=True)
class Told:
    """A refusal, in the words of whoever refused."""

    code: str
    message: str
    what_to_do: str
    layer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call.

    Attributes:
        request_id: the edge's; empty where the edge did not answer.
        result: the tool's (MCP `CallToolResult`); None where there is none.
        refused: by edge or server; None where nothing refused.
        fault: why there is neither, a sentence; empty otherwise.
        took_ms: from asking to the whole answer.
        approvals: ids of the requests for a yes that the server says the call waits for or was decided on; a server's
            word, to be looked up before anything is made of it.
    """

    request_id: str = ""
    result: Mapping[str, Any] | None = None
    refused: Told | None = None
    fault: str = ""
    took_ms: float = 0
    approvals: tuple[str, ...] = ()


class EdgeCalls:
    """Calls tools through the edge. One HTTP client for all of them, until `close`."""

    def __init__(
        self,
        edge: str,
        public_url: str,
        transport: httpx2.AsyncBaseTransport | None = None,
        certificate: Path | None = None,
    ) -> None:
        """Prepare; nothing is called yet.

        Args:
            edge: origin at which the edge is reached from here.
            public_url: the origin it answers for.
            transport: in place of the network, in tests.
            certificate: file of the one that the edge serves with, where it speaks TLS; it may be replaced.
        """
        self._edge, self._public_url, self._transport = edge, public_url, transport
        self._certificate = certificate if edge.startswith("https://") else None
        self._trusted: tuple[int, int] | None = None
        self._clients: list[httpx2.AsyncClient] = []

    def _new_client(self) -> httpx2.AsyncClient:
        """Made for the first call: reading the system's authorities takes a while."""
        return httpx2.AsyncClient(
            transport=self._transport,
            verify=trusting(self._certificate) if self._certificate else True,
            follow_redirects=False,
            trust_env=False,
            timeout=httpx2.Timeout(WHOLE_S, connect=CONNECT_S, pool=CONNECT_S),
            limits=httpx2.Limits(max_connections=MOST_AT_ONCE, max_keepalive_connections=4),
            headers={
                "Host": httpx2.URL(self._public_url).netloc.decode(),
                "Accept": ACCEPT,
                "Accept-Encoding": "identity",
                "User-Agent": "pegboard-pages",
            },
        )

    def _current(self) -> httpx2.AsyncClient:
        """The client; a new one where the edge has another certificate since the last was made."""
        seen = self._trusted
        if self._certificate is not None:
            with suppress(OSError):
                stat = self._certificate.stat()
                seen = stat.st_mtime_ns, stat.st_ino
        if not self._clients or seen != self._trusted:
            self._clients.append(self._new_client())  # the last may have calls under way
            self._trusted = seen
        return self._clients[-1]

    async def close(self) -> None:
        """End the connections."""
        for client in self._clients:
            await client.aclose()

    async def call(
        self, server: ServerName, token: str, tool: str, arguments: Mapping[str, Any], schema: Mapping[str, Any]
    ) -> Outcome:
        """Call one tool of one server. It never raises for what the other side does.

        Args:
            server: a registered one: nothing of the URL is anybody's text.
            token: bound to it.
            tool: its name.
            arguments: by name.
            schema: the tool's input schema, which may want arguments in headers too.
        """
        sent = {
            "Authorization": f"Bearer {token}",
            "MCP-Protocol-Version": PROTOCOL,
            "Mcp-Method": "tools/call",
            "Mcp-Name": tool,
            **dict(_param_headers(arguments, schema)),
        }
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with (
                asyncio.timeout(WHOLE_S),
                self._current().stream(
                    "POST",
                    f"{self._edge}{server.path}",
                    json=_message(tool, arguments),
                    headers=sent,
                    extensions={"sni_hostname": httpx2.URL(self._public_url).host} if self._certificate else None,
                ) as response,
            ):
                body = await read_bounded(response, MOST_BYTES)
        except TimeoutError:
            return Outcome(fault=f"No answer came within {WHOLE_S:.0f} seconds, so the call was given up.")
        except (httpx2.HTTPError, OSError):
            return Outcome(fault="The edge could not be reached from the hub. Tell the platform team.")
        took_ms = (loop.time() - began) * 1000
        return _outcome(response.status_code, response.headers, body, took_ms)


def _message(tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    about = {
        "io.modelcontextprotocol/protocolVersion": PROTOCOL,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "pegboard-pages", "version": "1"},
    }
    params = {"name": tool, "arguments": dict(arguments), "_meta": about}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")


def _param_headers(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Arguments that the schema wants mirrored into headers (MCP 2026-07-28, `x-mcp-header`)."""
    properties = schema.get("properties")
    for name, described in properties.items() if isinstance(properties, dict) else ():
        header = described.get("x-mcp-header") if isinstance(described, dict) else None
        value = arguments.get(name)
        if not isinstance(header, str) or not _HEADER_NAME.fullmatch(header) or value is None:
            continue
        if isinstance(value, str | bool | int | float):
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"Mcp-Param-{header}", text if _PLAIN.fullmatch(text) else _encoded(text)


def _encoded(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def _outcome(status: int, headers: httpx2.Headers, body: bytes | None, took_ms: float) -> Outcome:
    request_id = headers.get("x-request-id", "")[:64]
    if body is None:
        most = MOST_BYTES // 1024
        return Outcome(
            request_id, fault=f"The answer is larger than {most} KiB, so it is not shown.", took_ms=took_ms
        )
    message = json_rpc_message(body.decode("utf-8", "replace"), headers.get("content-type", ""))
    error, result = message.get("error"), message.get("result")
    if refused := _refusal(error, result):
        return Outcome(request_id, refused=refused, took_ms=took_ms, approvals=_approvals(result))
    if isinstance(result, dict):
        return Outcome(request_id, result=result, took_ms=took_ms)
    if isinstance(error, dict):
        words = str(error.get("message", ""))[:1000]
        return Outcome(request_id, fault=f"The server answered an error: {words}", took_ms=took_ms)
    return Outcome(request_id, fault=f"The answer, of status {status}, cannot be read.", took_ms=took_ms)


def _approvals(result: Any) -> tuple[str, ...]:
    """The ids that an answer names under `approval`."""
    structured = result.get("structuredContent") if isinstance(result, dict) else None
    named = structured.get("approval") if isinstance(structured, dict) else None
    ids = named.get("ids", [named.get("id")]) if isinstance(named, dict) else None
    found = ids[:MOST_ACTIONS] if isinstance(ids, list) else []
    return tuple(each for each in found if isinstance(each, str) and _APPROVAL.fullmatch(each))


_APPROVAL = re.compile(r"[0-9A-Za-z_-]{1,64}")


def _refusal(error: Any, result: Any) -> Told | None:
    """The refusal that a layer put into the answer, wherever it stands."""
    candidates: list[Any] = [error]
    if isinstance(error, dict):
        candidates.append(error.get("data"))
    if isinstance(result, dict) and isinstance(result.get("_meta"), dict):
        candidates.append(result["_meta"].get(META_KEY))
    for each in candidates:
        if isinstance(each, dict) and "layer" in each:
            return Told(**{name: str(each.get(name, ""))[:1000] for name in Told.__slots__})
    return None
