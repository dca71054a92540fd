"""A log line is one JSON object that says within which request it was written, and no text can say otherwise."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pegboard import Server, authorize_tool
from pegboard.core.logs import LONGEST_TEXT, JsonFormatter, annotated, noted
from pegboard.remote.logs import EXTRA
from pegboard.testing import InMemoryHub

AUTHOR = logging.getLogger("author")
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


class Lines:
    """What is logged, as a server logs it."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(JsonFormatter({"server": "dev/desk"}, extra_under=EXTRA))
        # Beside all other loggers: pytest's own handlers would not bear what is logged here.
        self.apart = logging.Logger("author")
        self.apart.addHandler(self.handler)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def author(self) -> list[dict[str, Any]]:
        return [line for line in self.all() if line["logger"] == "author"]


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    root.addHandler(lines.handler)
    yield lines
    root.removeHandler(lines.handler)
    root.setLevel(level)


@pytest.fixture
def talking(project: Path) -> InMemoryHub:
    server = Server()

    @server.tool()
    @authorize_tool(policy="granted")
    async def say(text: str) -> str:
        """Log it."""
        AUTHOR.info("said %s", text)
        return text

    @server.tool()
    @authorize_tool(policy="granted")
    def shout(text: str) -> str:
        """Log it from a worker thread."""
        AUTHOR.warning(text)
        return text

    return InMemoryHub(project, server)


def rpc(tool: str, text: str, **meta: str) -> dict[str, Any]:
    about = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        **meta,
    }
    params = {"_meta": about, "name": tool, "arguments": {"text": text}}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


async def call(hub: InMemoryHub, tool: str, text: str, meta: dict[str, str] | None = None, **headers: str) -> None:
    sent = {
        **hub.headers("ana", ["ads-eng"]),
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": tool,
        **headers,
    }
    async with hub.http(sent) as http:
        response = await http.post(hub.name.path, json=rpc(tool, text, **(meta or {})))
        assert response.status_code == 200, response.text


ID = "0c6f9d8e-1111-4222-8333-944445555666"


@pytest.mark.anyio
@pytest.mark.parametrize("tool", ["say", "shout"])
async def test_an_authors_own_line_names_the_request_for_free(talking: InMemoryHub, lines: Lines, tool: str) -> None:
    await call(talking, tool, "hello", **{"x-request-id": ID})
    [line] = lines.author()
    wanted = {
        "server": "dev/desk",
        "request_id": ID,
        "trace_id": ID.replace("-", ""),
        "sub": "ana",
        "surface": "cli",
        "tool": tool,
    }
    assert {name: line[name] for name in wanted} == wanted


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["header", "meta"])
async def test_the_trace_is_the_callers_where_there_is_one(talking: InMemoryHub, lines: Lines, how: str) -> None:
    headers = {"x-request-id": ID} | ({"traceparent": TRACEPARENT} if how == "header" else {})
    await call(talking, "say", "hello", {"traceparent": TRACEPARENT} if how == "meta" else None, **headers)
    [line] = lines.author()
    assert line["trace_id"] == "a" * 32
    assert {record.trace_id for record in talking.records if record.kind == "intent"} == {"a" * 32}


@pytest.mark.anyio
async def test_a_legacy_session_names_each_request_by_its_own_id(talking: InMemoryHub, lines: Lines) -> None:
    headers = {**talking.headers("ana", ["ads-eng"]), "accept": "application/json, text/event-stream"}
    start = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    opening = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": start}
    async with talking.http(headers) as http:
        opened = await http.post(talking.name.path, json=opening, headers={"x-request-id": "opening"})
        session = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        body = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await http.post(talking.name.path, json=body, headers=session)
        for number in (1, 2):
            params = {"name": "say", "arguments": {"text": str(number)}}
            body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
            sent = session | {"x-request-id": f"request-{number}"}
            assert (await http.post(talking.name.path, json=body, headers=sent)).status_code == 200
    assert [line["request_id"] for line in lines.author()] == ["request-1", "request-2"]


@pytest.mark.anyio
async def test_a_refusal_is_logged_with_its_request_and_trace(talking: InMemoryHub, lines: Lines) -> None:
    async with talking.http(talking.headers("gus")) as http:
        await http.post(talking.name.path, json={}, headers={"x-request-id": ID})
    [line] = [line for line in lines.all() if line["message"].startswith("refused")]
    assert (line["request_id"], line["trace_id"]) == (ID, ID.replace("-", ""))
    assert {record.trace_id for record in talking.records if record.kind == "denial"} == {ID.replace("-", "")}


FORGERIES = {
    "a line": 'x\n{"level":"error","message":"forged"}',
    "a return": "x\r\nforged",
    "other ends of lines": "x\u2028forged\u0085forged\x0bforged\x1b[2J",
    "a field": '", "request_id": "forged", "x": "',
}


@pytest.mark.anyio
@pytest.mark.parametrize("text", FORGERIES.values(), ids=FORGERIES)
async def test_text_of_a_caller_makes_no_line_and_no_field(talking: InMemoryHub, lines: Lines, text: str) -> None:
    await call(talking, "say", text, **{"x-request-id": ID})
    [line] = lines.author()
    assert line["message"] == f"said {text}"
    assert line["request_id"] == ID
    assert lines.text.isascii()
    assert "\x1b" not in lines.text


@pytest.mark.parametrize("text", [*FORGERIES.values(), "\ud800"], ids=[*FORGERIES, "half a character"])
def test_every_line_is_ascii_whatever_is_logged(lines: Lines, text: str) -> None:
    lines.apart.info(text, extra={"at": text, "level": text, "server": text, text: text})
    [line] = lines.author()
    assert (line["level"], line["server"]) == ("info", "dev/desk")
    assert line[EXTRA]["server"] == text
    assert lines.text.isascii()
    assert len(lines.text.splitlines()) == 1


def test_what_authors_pass_as_extra_is_never_read_as_ours(lines: Lines) -> None:
    AUTHOR.info("outside of a request", extra={"request_id": "forged", "sub": "pat", "tool": "t"})
    [line] = lines.author()
    assert not {"request_id", "sub", "tool"} & line.keys()
    assert line[EXTRA] == {"request_id": "forged", "sub": "pat", "tool": "t"}


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_what_cannot_be_logged_is_a_line_all_the_same(lines: Lines) -> None:
    loop: list[Any] = []
    loop.append(loop)
    lines.apart.info("%d of %s", "wrong")
    lines.apart.info("odd", extra={"nan": float("nan"), "loop": loop, "hostile": Hostile(), "keys": {(1, 2): 3}})
    lines.apart.info("long %s", "x" * 100_000)
    try:
        raise ValueError("y" * 100_000)
    except ValueError:
        lines.apart.exception("failed")
    found = lines.author()
    assert len(found) == 4
    assert len(found[2]["message"]) < LONGEST_TEXT + 100
    assert len(found[3]["exception"]) < LONGEST_TEXT + 100
    assert "NaN" not in lines.text.splitlines()[1].replace('"nan', "")


@pytest.mark.anyio
async def test_a_task_that_outlives_its_request_is_not_logged_as_part_of_it() -> None:
    ended = asyncio.Event()

    async def later() -> dict[str, str]:
        await ended.wait()
        return dict(noted())

    with annotated(request_id="one"):
        task = asyncio.create_task(later())
        assert noted() == {"request_id": "one"}
        with annotated(tool="echo"):
            assert noted() == {"request_id": "one", "tool": "echo"}
    ended.set()
    assert await task == {}
    assert noted() == {}


def test_what_a_server_process_prints_is_log_lines_too() -> None:
    code = (
        "import sys, warnings\n"
        "from pegboard.core.names import ServerName\n"
        "from pegboard.remote.logs import configure_logging\n"
        "configure_logging(ServerName('dev', 'desk'))\n"
        "print('one\\ntwo'); print('to stderr', file=sys.stderr); warnings.warn('a warning')\n"
        "sys.stdout.write('begun '); print('and ended')\n"
        "import subprocess; subprocess.run(['true'], stdout=sys.stdout, stderr=sys.stderr, check=True)\n"
        "raise RuntimeError('the end')\n"
    )
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, timeout=60)
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.stdout == ""
    assert [line["message"] for line in found if line["logger"] == "stdout"] == ["one", "two", "begun and ended"]
    assert {line["server"] for line in found} == {"dev/desk"}
    assert any("a warning" in line["message"] for line in found)
    assert found[-1]["message"] == "RuntimeError: the end"


def test_a_log_that_takes_no_writes_holds_up_nobody() -> None:
    program = (
        "import logging, sys\n"
        "from pegboard.remote.logs import configure_logging\n"
        "configure_logging(None)\n"
        "logging.error('lost')\n"
        "print('lost too')\n"
        "sys.exit(7)\n"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", program], stderr=full, timeout=30, check=False)
    assert done.returncode in (7, 120)  # 120: the interpreter could not flush its own stderr at the end
