"""Processes are kept alive, watched and ended: with real children, tiny ones, on their own sockets."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pegboard_hub.runtime import probes
from pegboard_hub.runtime.launching import Launch
from pegboard_hub.runtime.probes import answers_ok
from pegboard_hub.runtime.processes import ProcessSpec, State, Supervised, Timing
from pegboard_hub.runtime.supervisor import StartFailed, Supervisor
from tests.system.runtime_kit import alive, short_folder

pytestmark = pytest.mark.anyio

QUICK = Timing(first_pause=0.05, longest_pause=0.2, steady=30, start_limit=60, silence_limit=60, look=0.1, grace=60)
IMPATIENT = replace(QUICK, silence_limit=0.5, grace=2)
"""For tests about what does not answer or end: on a busy machine it takes others for such, too."""

PATIENCE_S = 60.0
"""Seconds after which what must come to be has not: not how long it may take."""

SERVE = """
import http.server, os, signal, socketserver, subprocess, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def address_string(self): return ""
    def log_message(self, *_): pass
    def do_GET(self):
        {on_request}
        body = b'{{"status": "ok"}}'
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
{before}
print("serving", os.getpid(), flush=True)
socketserver.ThreadingUnixStreamServer({socket!r}, Handler).serve_forever()
"""


class Stage:
    """A supervisor, and specs of children that serve /healthz."""

    def __init__(self, folder: Path, timing: Timing) -> None:
        self.folder = folder
        self.published: list[dict[str, State]] = []
        self.told_to = True
        self.supervisor = Supervisor(self._publish, timing)

    def spec(self, name: str, before: str = "", on_request: str = "pass") -> ProcessSpec:
        socket = self.folder / f"{name}.sock"
        code = SERVE.format(socket=str(socket), before=before, on_request=on_request)
        return ProcessSpec(
            name=name,
            command=Launch().command([sys.executable, "-I", "-S", "-c", code]),
            environment={"PATH": "/usr/bin:/bin"},
            ready=answers_ok(socket),
            log=self.folder / f"{name}.log",
            socket=socket,
        )

    async def live(self, spec: ProcessSpec) -> Supervised:
        process = self.supervisor.start(spec)
        await self.supervisor.require(process, PATIENCE_S)
        return process

    def _publish(self, processes: object) -> None:
        if not self.told_to:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.published.append({each.spec.name: each.state for each in processes})  # type: ignore[attr-defined]


@pytest.fixture
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    folder = short_folder()
    found = Stage(folder, getattr(request, "param", QUICK))
    yield found
    await found.supervisor.stop([])
    shutil.rmtree(folder)


async def until(holds: Callable[[], object], limit: float = PATIENCE_S) -> None:
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < deadline, "the condition did not come to hold"
        await asyncio.sleep(0.02)


async def test_a_process_that_cannot_be_watched_for_a_fault_of_ours_is_started_again(stage: Stage) -> None:
    spec, faults = stage.spec("one"), [ValueError("a fault of ours")]

    async def ready() -> bool:
        if faults:
            raise faults.pop()
        return await spec.ready()

    process = await stage.live(replace(spec, ready=ready))
    assert (process.restarts, process.state) == (1, State.LIVE)
    assert process.last_failure is not None
    assert "could not be watched (ValueError: a fault of ours)" in process.last_failure.what


async def test_a_process_that_is_killed_is_started_again(stage: Stage) -> None:
    process = await stage.live(stage.spec("one"))
    first = process.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: process.restarts == 1 and process.state is State.LIVE)
    assert process.pid != first
    assert process.last_error == ""
    assert {"one": State.DOWN} in stage.published


async def test_a_process_comes_back_while_nothing_can_be_written_of_it_and_that_is_told_once(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    process = await stage.live(stage.spec("one"))
    stage.told_to = False
    for restarts in (1, 2):
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: process.restarts == restarts and process.state is State.LIVE)  # noqa: B023 - at once
    told = [record.getMessage() for record in caplog.records if "status cannot be written" in record.getMessage()]
    assert told == ["the status cannot be written, and is tried every second: No space left on device"]
    stage.told_to = True
    stage.published.clear()
    await until(lambda: {"one": State.LIVE} in stage.published)


async def test_one_that_ends_at_once_is_started_ever_later_and_its_log_is_shown(stage: Stage) -> None:
    process = stage.supervisor.start(stage.spec("one", before="sys.exit('no such table')"))
    with pytest.raises(StartFailed, match=r"(?s)one does not start: it ended with status 1.*no such table"):
        await stage.supervisor.require(process, PATIENCE_S)
    starts = process.starts
    began = time.monotonic()
    await until(lambda: process.starts >= starts + 3)
    # Three pauses of at least the fourth one's length (0.2 s, the longest), whatever the starts themselves take.
    assert time.monotonic() - began >= 2 * QUICK.longest_pause


STUBBORN = pytest.mark.parametrize("stage", [IMPATIENT], indirect=True, ids=["impatient"])


@STUBBORN
async def test_one_that_falls_silent_is_started_again(stage: Stage) -> None:
    flag = stage.folder / "silent"
    spec = stage.spec("one", on_request=f"time.sleep(60) if os.path.exists({str(flag)!r}) else None")
    process = await stage.live(replace(spec, ready=_impatient(spec.ready)))
    flag.touch()
    await until(lambda: "did not answer" in process.last_error)
    flag.unlink()
    await until(lambda: process.restarts >= 1 and process.state is State.LIVE)


@STUBBORN
async def test_one_whose_socket_is_gone_is_started_again(stage: Stage) -> None:
    process = await stage.live(stage.spec("one"))
    (stage.folder / "one.sock").unlink()
    await until(lambda: process.restarts >= 1 and process.state is State.LIVE)
    assert "did not answer" in (process.last_failure.what if process.last_failure else "")


async def test_one_that_outgrows_its_memory_is_started_again_and_told_why(stage: Stage) -> None:
    # The first life grows when it is asked after the flag is set; the next one finds the flag gone.
    flag = stage.folder / "grow"
    grow = f"os.path.exists({str(flag)!r}) and (os.unlink({str(flag)!r}), globals().update(kept=b'x' * 2**26))"
    process = await stage.live(replace(stage.spec("one", on_request=grow), memory_mb=48))
    flag.touch()
    await until(lambda: process.restarts == 1)
    assert "its limit is 48" in (process.last_failure.what if process.last_failure else "")
    await until(lambda: process.state is State.LIVE)


async def test_stopping_goes_wave_by_wave_and_leaves_nothing(stage: Stage) -> None:
    ended = "signal.signal(signal.SIGTERM, lambda *_: (print('ended', time.monotonic_ns(), flush=True), os._exit(0)))"
    names = ("hub", "one", "edge")
    processes = [await stage.live(stage.spec(name, before=ended)) for name in names]
    pids = [process.pid for process in processes]
    await stage.supervisor.stop([["edge"], ["one"]])
    times = [int((stage.folder / f"{name}.log").read_text().split()[-1]) for name in ("edge", "one", "hub")]
    assert times == sorted(times)
    assert not any(alive(pid) for pid in pids if pid)


@STUBBORN
async def test_one_that_does_not_stop_is_killed_with_all_it_started(stage: Stage) -> None:
    before = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('child', subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True)"
    )
    process = await stage.live(stage.spec("one", before=before))
    words = (stage.folder / "one.log").read_text().split()
    child, parent = int(words[1]), int(words[3])
    assert alive(child)
    assert parent == process.pid
    await stage.supervisor.stop([])
    assert not alive(parent)
    await until(lambda: not alive(child))


async def test_the_log_is_appended_to_over_restarts(stage: Stage) -> None:
    process = await stage.live(stage.spec("one"))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    await until(lambda: process.restarts == 1 and process.state is State.LIVE)
    assert (stage.folder / "one.log").read_text().count("serving") == 2


async def test_a_server_too_busy_to_say_how_many_calls_it_answers_is_waited_for_and_a_dead_one_is_not(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PROBE_TIMEOUT_S", 0.1)
    socket, over = stage.folder / "busy.sock", asyncio.Event()

    async def busy(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    assert await probes.calls_under_way(socket) == 0
    async with await asyncio.start_unix_server(busy, socket):
        assert await probes.calls_under_way(socket) == 1
        over.set()


def _impatient(ready: object) -> object:
    async def ask() -> bool:
        try:
            return bool(await asyncio.wait_for(ready(), 0.2))  # type: ignore[operator]
        except TimeoutError:
            return False

    return ask
