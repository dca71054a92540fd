"""The bench of calls: it runs, checks every reply, and does not count what is no answer."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench.calls.rival import Target
from bench.calls.wire import Reply, Requests, is_answer, take, text
from bench.report import DOCS, pages
from tests.system.instance import REPOSITORY

RESULT = {"content": [{"type": "text", "text": text(7)}], "isError": False}


def reply(result: object, number: int = 7, status: int = 200) -> Reply:
    body = json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()
    return Reply(status, b"HTTP/1.1 200 OK\r\ncontent-type: application/json", body)


def test_an_answer_is_one_with_the_calls_own_id_and_text() -> None:
    assert is_answer(reply(RESULT), 7)
    stream = b"event: message\r\ndata: " + reply(RESULT).body + b"\r\n\r\n"
    assert is_answer(Reply(200, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream", stream), 7)


@pytest.mark.parametrize(
    "wrong",
    [
        reply(RESULT, number=8),
        reply({**RESULT, "isError": True}),
        reply({"content": [{"type": "text", "text": text(8)}]}),
        reply({"content": []}),
        reply("text"),
        reply(RESULT, status=503),
        Reply(200, b"", b"not JSON"),
        Reply(200, b"content-type: text/event-stream", b": ping\n\n"),
    ],
)
def test_anything_else_is_a_fault(wrong: Reply) -> None:
    assert not is_answer(wrong, 7)


@pytest.mark.parametrize(
    ("head", "body", "read"),
    [
        (b"content-length: 5", b"hello", b"hello"),
        (b"transfer-encoding: chunked", b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", b"hello"),
        (b"transfer-encoding: chunked", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    ],
)
def test_a_reply_is_taken_when_its_last_byte_is_there_and_not_before(head: bytes, body: bytes, read: bytes) -> None:
    whole = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body
    assert [take(whole[:size]) for size in range(len(whole))] == [None] * len(whole)
    found = take(whole)
    assert found is not None
    assert found.body == read


def test_no_two_calls_are_alike() -> None:
    requests = Requests(Target(1), "modern")
    one, other = (json.loads(requests.call(number, b"").partition(b"\r\n\r\n")[2]) for number in (1, 2))
    assert one["id"] != other["id"]
    assert one["params"]["arguments"] != other["params"]["arguments"]


@pytest.mark.parametrize("name", ["performance.md", "performance.svg", "comparison.md"])
def test_the_page_of_figures_says_what_was_measured(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name]


@pytest.mark.heavy
def test_a_quick_run_answers_every_call() -> None:
    command = [sys.executable, "bench/cost.py", "--quick"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "faults" not in done.stdout
    assert "none was answered" not in done.stdout
    for rival in ("mcp", "envoy", "envoy-guarded", "pegboard"):
        assert f"\n{rival} " in done.stdout
