"""What a server's process says of itself and logs, against the supervisor that reads it and whoever looks."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import Iterator

import pytest

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.publishing.orders import LogQuestion
from pegboard_hub.runtime.machine.log_search import search
from pegboard_hub.runtime.machine.replica import last_words
from pegboard_hub.runtime.probes import Doors, answers_ok
from pegboard_hub.runtime.processes import _end_in_words
from tests.sockets import socket_path
from tests.system.runtime_kit import short_folder

SERVER = ServerName.parse("dev/one")


@pytest.fixture
def home() -> Iterator[Home]:
    folder = short_folder()
    yield Home.open(folder / "home")
    shutil.rmtree(folder)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
ANSWERS = {
    "without end": b"",
    "more calls than there are": b'{"calls": 1e999, "served": 0, "streams": 0, "sessions": 0}',
    "a number that no table holds": b'{"calls": 1' + b"0" * 40 + b', "served": 0, "streams": 0, "sessions": 0}',
    "lists in lists": b"[" * 60_000,
}


@pytest.mark.anyio
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_what_a_replica_says_of_itself_is_bounded(answer: bytes) -> None:
    async def hostile(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(HEAD + answer)
            while not answer:
                writer.write(b" " * 65_536)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    with socket_path() as path:
        server = await asyncio.start_unix_server(hostile, path)
        doors = Doors(path)
        async with asyncio.timeout(20):
            use = await doors.use()
            assert use is None or use.calls <= 1_000_000
            assert await doors.smoke() == ("", {})
            assert not await answers_ok(path)()
        await doors.close()
        server.close()


LINES = {
    "half a letter": '{"message": "\\ud800", "more": "\\udfff"}',
    "lists in lists": '{"message": "x", "more": ' + "[" * 400 + "]" * 400 + "}",
    "lists without end": '{"message": ' + "[" * 60_000,
    "a time without a zone": '{"message": "x", "at": "2026-01-01T00:00:00"}',
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_line_of_a_log_hides_no_other(home: Home, line: str) -> None:
    log = home.log(SERVER, "abababab-0")
    log.write_text(f"{line}\nthe last one\n")
    page = search(home, LogQuestion(server=str(SERVER), since="2020-01-01T00:00:00Z"))
    assert json.loads(page.model_dump_json())["lines"][-1]["text"] == "the last one"
    log.write_text(f"{line}\n")
    assert last_words(log)


def test_a_line_says_no_other_release_than_its_replicas(home: Home) -> None:
    home.log(SERVER, "abababab-0").write_text('{"message": "x", "release": "cdcdcdcdcd"}\n')
    assert search(home, LogQuestion(server=str(SERVER))).lines[0].release == "abababab"


def test_of_a_log_of_line_ends_no_more_is_kept_than_is_given(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    home.log(SERVER, "abababab-0").write_text("\n" * 100_000)
    tracemalloc.start()
    page = search(home, LogQuestion(server=str(SERVER), limit=10))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(page.lines), page.more) == (10, True)
    assert most < 8 * 1024 * 1024


def test_a_process_that_a_nameless_signal_ended_is_started_again() -> None:
    assert _end_in_words(-signal.SIGKILL) == "was ended by SIGKILL"
    assert _end_in_words(-40) == "was ended by signal 40"
