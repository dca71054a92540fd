"""Callers who want to see the metrics, and servers that want to say what is not theirs to say.

Rules (decision 0009): a server's page is the supervisor's alone; `/metrics` is the collector's; a server speaks for
itself, in the words of its table, within bounds; a caller's trace is a name for a request, and no header of another.
"""

from __future__ import annotations

import asyncio
import gzip
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from pegboard.core.trace import trace_id
from pegboard_hub.runtime import gathering
from pegboard_hub.runtime.gathering import PAGE_BYTES, ask, samples_of
from pegboard_hub.telemetry.exposition import write
from tests.attacks.wire import ACCEPT, PRESTO, send
from tests.folders import new_folder
from tests.system.edge_rig import Rig, running_edge, tool_call
from tests.system.instance import Instance

PATHS = (
    f"{PRESTO}/metrics",
    f"{PRESTO}/../../../metrics",
    f"{PRESTO}%2Fmetrics",
    f"{PRESTO}/%2e%2e/metrics",
    f"{PRESTO};/metrics",
    f"{PRESTO}?path=/metrics",
    f"{PRESTO}#/metrics",
    f"/metrics{PRESTO}",
    "//metrics",
    "/metrics/",
    "/metrics?server=prod/presto",
    "/./metrics",
    "/%6detrics",
    "/METRICS",
)


@pytest.mark.system
@pytest.mark.xdist_group("instance")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("who", ["ana", "pat", ""])
def test_no_path_and_no_persons_token_leads_to_metrics(pegboard: Instance, path: str, who: str) -> None:
    port = pegboard.public_url.rpartition(":")[2]
    lines = [f"GET {path} HTTP/1.1", f"Host: localhost:{port}", "Connection: close", f"Accept: {ACCEPT['accept']}"]
    if who:
        lines.append(f"Authorization: Bearer {pegboard.token(who)}")
    answer = send(pegboard, lines)
    assert answer.status in (400, 401, 404, 405, 406), answer
    assert "pegboard_server_" not in answer.text
    assert "pegboard_hub_" not in answer.text


@pytest.mark.system
@pytest.mark.xdist_group("instance")
def test_credential_counts_in_its_one_place_alone(pegboard: Instance) -> None:
    token = pegboard.home.scrape_token.read_text()
    url = f"{pegboard.public_url}/metrics"
    tries = [
        httpx2.get(url, params={"access_token": token, "token": token}),
        httpx2.get(url, headers={"cookie": f"token={token}", "x-api-key": token}),
        httpx2.get(url, headers={"authorization": f"Basic {token}"}),
        httpx2.get(url, headers={"authorization": f"Bearer {token[:-1]}"}),
        httpx2.get(url, headers={"authorization": f"Bearer {token} x"}),
        httpx2.get(url, headers=[("authorization", f"Bearer {token}"), ("authorization", "Bearer x")]),
    ]
    assert {answer.status_code for answer in tries} == {401}
    for door in ("servers", "calls"):
        api = httpx2.get(f"{pegboard.public_url}/api/v1/{door}", headers={"authorization": f"Bearer {token}"})
        assert api.status_code == 401


# Servers


@pytest.fixture
def socket_path() -> Iterator[Path]:
    folder = new_folder()
    yield folder / "mcp.sock"
    shutil.rmtree(folder)


@asynccontextmanager
async def answering(socket: Path, *parts: bytes, pause_s: float = 0.0) -> AsyncIterator[None]:
    """A server that sends exactly these bytes to whoever asks, with a pause between the parts."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause_s)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, socket)
    try:
        yield
    finally:
        server.close()


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


GOOD = b"pegboard_server_sessions_open 3\n"
ANSWERS = {
    "too much": http(b"pegboard_server_sessions_open 3\n" * (PAGE_BYTES // 20)),
    "a bomb": http(gzip.compress(b"#" * 5_000_000 + b"\n" + GOOD), "Content-Encoding: gzip"),
    "elsewhere": http(b"", "Location: http://localhost/other", status="302 Found"),
    "an error": http(GOOD, status="500 Internal Server Error"),
    "no HTTP": b"pegboard_server_sessions_open 3\n" * 100,
    "nothing": b"",
    "half an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + GOOD,
    "a header without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000,
    "not ASCII": http("pegboard_server_sessions_open ٣\n".encode()),
    "a length that lies": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + GOOD,
}


@pytest.mark.anyio
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_a_strange_answer_is_no_page_and_no_error(socket_path: Path, answer: bytes) -> None:
    async with answering(socket_path, answer):
        assert await ask(socket_path) is None


@pytest.mark.anyio
async def test_an_honest_answer_is_one(socket_path: Path) -> None:
    async with answering(socket_path, http(GOOD)):
        assert await ask(socket_path) == GOOD.decode()


@pytest.mark.anyio
async def test_a_server_that_dribbles_is_given_up_in_time(socket_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "ANSWER_S", 0.3)
    drops = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\n#\r\n"] * 1000]
    began = time.monotonic()
    async with answering(socket_path, *drops, pause_s=0.05):
        assert await ask(socket_path) is None
    assert time.monotonic() - began < 20  # it would go on for fifty seconds


def test_a_server_cannot_make_more_series_than_its_table_and_its_tools_have() -> None:
    lines = [
        f'pegboard_server_calls_total{{tool="tool_{number}",surface="cli",outcome="ok"}} 1'
        for number in range(15_000)
    ]
    page = "\n".join(lines)
    assert len(samples_of({"server": "dev/scratch"}, page, ["tool_1", "tool_2"])) == 2 + 2


def test_a_server_cannot_hide_anothers_figures() -> None:
    of_presto = samples_of({"server": "prod/presto"}, "pegboard_server_sessions_open 5\n", [])
    name = "pegboard_server_sessions_open"
    lies = f'{name}{{server="prod/presto"}} 0\n# EOF\n# TYPE {name} counter\n'
    for order in (1, -1):
        pages = [of_presto, samples_of({"server": "dev/scratch"}, lies, [])][::order]
        text = write([sample for page in pages for sample in page]).decode()
        assert text.count("pegboard_server_sessions_open{") == 1
        assert 'pegboard_server_sessions_open{server="prod/presto"} 5.0' in text


# Traces


@pytest.fixture(scope="module")
def edge() -> Iterator[Rig]:
    with running_edge() as rig:
        yield rig


GOOD_TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
NO_TRACES = {
    "a line break": f"{GOOD_TRACE}\r\nx-forwarded-user: pat",
    "a line break first": f"\r\nx-forwarded-user: pat\r\n{GOOD_TRACE}",
    "NUL": f"{GOOD_TRACE}\0",
    "all zeros": f"00-{'0' * 32}-{'b' * 16}-01",
    "a parent of zeros": f"00-{'a' * 32}-{'0' * 16}-01",
    "a version that never is": f"ff-{'a' * 32}-{'b' * 16}-01",
    "capitals": GOOD_TRACE.upper(),
    "too short": f"00-{'a' * 31}-{'b' * 16}-01",
    "too long": "0" * 100_000,
    "no text": {"traceparent": GOOD_TRACE},
    "letters": "é" * 55,
    "JSON": '","sub":"pat","x":"',
}


@pytest.mark.system
@pytest.mark.parametrize("trace", NO_TRACES.values(), ids=NO_TRACES)
def test_a_trace_in_a_body_becomes_no_header_but_its_own(edge: Rig, trace: object) -> None:
    edge.presto.arrivals.clear()
    answer = edge.call(
        token=edge.token(), body=tool_call(_meta={"traceparent": trace, "tracestate": "a=b\r\nx-q: 1"})
    )
    [arrival] = edge.presto.arrivals
    names = [name for name, _ in arrival.headers]
    assert arrival.values("x-forwarded-user") == ["ana"]
    assert not {"traceparent", "tracestate", "x-q"} & set(names)
    line = edge.logged(answer.headers["x-request-id"])
    assert line["trace_id"] == line["request_id"].replace("-", "")
    assert line["sub"] == "ana"


HEADERS = (
    *(text for text in NO_TRACES.values() if isinstance(text, str) and text.isascii() and len(text) < 999),
    GOOD_TRACE,
    f"{GOOD_TRACE}-more",
    f"01-{'a' * 32}-{'b' * 16}-01-of-a-later-version",
    f"{GOOD_TRACE}x",
    f"00-{'a' * 32}-{'b' * 16}",
    f"00-{'a' * 32}-{'b' * 16}-1",
    "-",
    "---",
    "00--" + "b" * 16 + "-01",
)


@pytest.mark.system
@pytest.mark.parametrize("header", [text for text in HEADERS if text.isprintable()])
def test_edge_and_servers_read_the_same_trace_in_a_header(edge: Rig, header: str) -> None:
    answer = edge.call(token=edge.token(), traceparent=header)
    line = edge.logged(answer.headers["x-request-id"])
    assert line["trace_id"] == trace_id(header, line["request_id"])


@pytest.mark.system
def test_the_body_names_the_trace_where_header_and_body_differ(edge: Rig) -> None:
    other = f"00-{'c' * 32}-{'d' * 16}-00"
    edge.presto.arrivals.clear()
    answer = edge.call(token=edge.token(), body=tool_call(_meta={"traceparent": GOOD_TRACE}), traceparent=other)
    assert edge.logged(answer.headers["x-request-id"])["trace_id"] == "a" * 32
    assert edge.presto.arrivals[-1].values("traceparent") == [GOOD_TRACE]
