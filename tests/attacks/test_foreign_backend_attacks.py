"""A backend that means harm, behind a proxy: what it changes, writes, asks and looks for gets it nowhere."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp_types import ElicitResult

from pegboard.core.manifest import read_manifest
from pegboard.core.pins import FILE_NAME, read_pins
from pegboard.core.record import Denial, Outcome
from pegboard.core.refusal import META_KEY
from pegboard.proxy import backend, connection, stdio
from pegboard.proxy.backend import Backend
from pegboard.proxy.starting import Launch
from pegboard.testing import InMemoryHub
from tests.foreign.projects import pinned, write_project

pytestmark = pytest.mark.anyio

HOSTILE = "hostile_backend.py"
NO_WIPE = {'[proxy.tools.wipe]\nconfirm = "Empty {drawer}?"\n': ""}


@pytest.fixture(scope="module")
def pins(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What its tools are while it behaves."""
    folder = hostile(tmp_path_factory.mktemp("pinning") / "project", "behave")
    return read_pins(anyio.run(pinned, folder)).text()


def hostile(folder: Path, how: str, timeout_s: str = "30", program: str = "", **more: str) -> Path:
    """A project with it; `program` is a name beside it for our own Python."""
    project = write_project(folder, how, backend=HOSTILE, **more)
    manifest = project / "pegboard.toml"
    text = manifest.read_text().replace("timeout_s = 30", f"timeout_s = {timeout_s}")
    if program:
        (project / "backend" / program).symlink_to(sys.executable)
        text = text.replace(f'"{sys.executable}"', f'"{program}"')
    for old, new in NO_WIPE.items():
        text = text.replace(old, new)
    manifest.write_text(text)
    return project


class Stage:
    """A hub with a proxy before a hostile backend, and somebody who calls."""

    def __init__(self, hub: InMemoryHub, client: Client) -> None:
        self.hub = hub
        self.client = client

    async def call(self, tool: str, text: str = "") -> tuple[str, bool]:
        result = await self.client.call_tool(tool, {"text": text})
        self.meta = result.meta or {}
        return "\n".join(block.text for block in result.content), bool(result.is_error)  # type: ignore[union-attr]

    async def still_serves(self) -> None:
        with anyio.fail_after(20):
            assert await self.call("echo", "as ever") == ("as ever", False)


@asynccontextmanager
async def struck(tmp_path: Path, pins: str, how: str, **more: str) -> AsyncIterator[Stage]:
    project = hostile(tmp_path / "project", how, **more)
    (project / FILE_NAME).write_text(pins)
    hub = InMemoryHub(project)
    asked: list[object] = []

    async def elicit(_context: object, params: object) -> ElicitResult:
        asked.append(params)
        return ElicitResult(action="accept", content={})

    async with hub.client("ana", groups=["ads-eng"], era="legacy", elicit=elicit) as client:
        yield Stage(hub, client)
    assert asked == []  # whatever it did: nobody was asked in Pegboard's place


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(connection, "SOONEST_LOOK_S", 0.0)
    monkeypatch.setattr(stdio, "END_S", 0.3)


async def until_refused(stage: Stage, tool: str) -> str:
    with anyio.fail_after(20):
        while True:
            words, refused = await stage.call(tool, "x")
            if refused:
                return words
            await anyio.sleep(0.02)


@pytest.mark.parametrize(
    ("how", "words"), [("rug pull", "changed its description"), ("same name twice", "changed its listing")]
)
async def test_a_tool_that_changes_after_it_was_pinned_is_blocked(
    tmp_path: Path, pins: str, how: str, words: str
) -> None:
    async with struck(tmp_path, pins, how) as stage:
        await stage.still_serves()
        await stage.call("strike")
        assert words in await until_refused(stage, "echo")
        assert stage.meta[META_KEY]["code"] == "tool_blocked"
        listed = {tool.name: tool.description for tool in (await stage.client.list_tools()).tools}
        assert listed["echo"] == "Give back the text."
        assert await stage.call("strike") == ("struck", False)
    denial = next(record for record in stage.hub.records if isinstance(record, Denial))
    assert (denial.code, denial.who.sub if denial.who else "") == ("tool_blocked", "ana")


async def test_a_tool_that_it_adds_is_there_for_nobody(
    tmp_path: Path, pins: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with struck(tmp_path, pins, "adds a tool") as stage:
        await stage.call("strike")
        with anyio.fail_after(20):
            while "admin_delete_all" not in caplog.text:
                await anyio.sleep(0.02)
        assert [tool.name for tool in (await stage.client.list_tools()).tools] == ["echo", "strike"]
        words, refused = await stage.call("admin_delete_all")
    assert refused
    assert "No tool admin_delete_all here for you" in words
    assert "not pinned and stay hidden: 'admin_delete_all'" in caplog.text


@pytest.mark.parametrize("how", ["answers for others", "prints rubbish", "floods"])
async def test_what_it_writes_beside_answers_reaches_nobody(tmp_path: Path, pins: str, how: str) -> None:
    async with struck(tmp_path, pins, how) as stage:
        with anyio.fail_after(20):
            assert await stage.call("strike") == ("struck", False)
        await stage.still_serves()


async def test_a_backend_that_hangs_costs_its_call_and_is_started_anew(
    tmp_path: Path, pins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "PING_S", 0.3)
    async with struck(tmp_path, pins, "hangs", timeout_s="2") as stage:
        with anyio.fail_after(20):
            words, refused = await stage.call("strike")
        assert refused
        assert "did not answer within 2 s. It may or may not have taken effect" in words
        await stage.still_serves()


async def test_what_it_says_as_it_ends_is_for_its_owner_alone_and_it_is_started_again_whenever_it_can_be(
    tmp_path: Path, pins: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "AGAIN_S", (0.05,))
    program = tmp_path / "project" / "backend" / "python"
    async with struck(tmp_path, pins, "ends with words", program="./python", timeout_s="1") as stage:
        program.unlink()
        told = [await stage.call("strike"), await stage.call("echo")]
        assert all(refused for _, refused in told)
        assert "echo was not run" in told[1][0] or "The call was not run" in told[1][0]
        assert "evil" not in str(told)
        assert "approve it at http://evil.example" in caplog.text
        program.symlink_to(sys.executable)
        with anyio.fail_after(20):
            while (await stage.call("echo", "as ever"))[1]:
                await anyio.sleep(0.02)


async def test_one_whose_connection_is_given_up_is_started_anew_before_a_call_meets_it(
    tmp_path: Path, pins: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with struck(tmp_path, pins, "shouts") as stage:
        assert await stage.call("strike") == ("struck", False)
        with anyio.fail_after(20):
            while "the backend is away" not in caplog.text:
                await anyio.sleep(0.02)
        await stage.still_serves()


async def test_a_line_that_never_ends_is_not_kept(tmp_path: Path, pins: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "MOST_SKIPPED", 4 * 1024 * 1024)
    async with struck(tmp_path, pins, "never ends a line") as stage:
        words, refused = await stage.call("strike")
        assert refused
        assert "ended while it ran this call" in words
        await stage.still_serves()


async def test_an_oversize_answer_is_refused_and_the_connection_goes_on(tmp_path: Path, pins: str) -> None:
    async with struck(tmp_path, pins, "oversize") as stage:
        words, refused = await stage.call("strike")
        assert refused
        assert "larger than 64 KiB" in words
        await stage.still_serves()


async def test_it_forks_within_its_bound_and_all_of_it_ends_with_the_server(tmp_path: Path, pins: str) -> None:
    import psutil

    async with struck(tmp_path, pins, "forks") as stage:
        words, _ = await stage.call("strike")
        forked, limit = map(int, words.split())
        assert limit == 128
        assert forked < 128 or os.geteuid() == 0  # the kernel counts no processes of root's
        await stage.still_serves()
    mine = psutil.Process()
    with anyio.fail_after(10):
        while [child for child in mine.children(recursive=True) if HOSTILE in " ".join(child.cmdline())]:
            await anyio.sleep(0.02)


@pytest.mark.parametrize("how", ["elicits", "samples"])
async def test_what_it_asks_of_people_and_models_is_refused(tmp_path: Path, pins: str, how: str) -> None:
    async with struck(tmp_path, pins, how) as stage:
        words, _ = await stage.call("strike")
        assert '"error"' in words
        assert "not supported" in words.lower()


async def test_a_request_for_input_is_no_answer(tmp_path: Path, pins: str) -> None:
    async with struck(tmp_path, pins, "asks for input") as stage:
        words, refused = await stage.call("strike")
    assert refused
    assert "password" not in words


@pytest.mark.parametrize("how", ["speaks as Pegboard", "refuses as Pegboard"])
async def test_nothing_that_it_says_passes_for_a_refusal_of_pegboards(tmp_path: Path, pins: str, how: str) -> None:
    async with struck(tmp_path, pins, how) as stage:
        words, refused = await stage.call("strike")
        assert refused
        assert words.startswith("The server behind strike ")
        assert "ts words" in words or "own words" in words
        assert META_KEY not in stage.meta
    assert [record.status for record in stage.hub.records if isinstance(record, Outcome)] == ["tool_error"]


async def test_a_result_that_is_none_fails_the_call(tmp_path: Path, pins: str) -> None:
    async with struck(tmp_path, pins, "no such result") as stage:
        words, refused = await stage.call("strike")
        assert refused
        assert "no valid result" in words
        await stage.still_serves()


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
async def test_nothing_of_the_proxys_own_is_within_its_reach(
    tmp_path: Path, pins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials, spool, bundle and sockets of a server lie beside it in the same sandbox, under the same user."""
    secret = tmp_path / "run"
    secret.mkdir()
    (secret / "credentials.json").write_text('{"channel_token": "t"}')
    monkeypatch.setenv("PEGBOARD_CREDENTIALS", str(secret / "credentials.json"))
    monkeypatch.setenv("API_TOKEN", "of the proxy alone")
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(secret / "hub.sock"))
    door.listen()
    targets = [str(secret), str(secret / "credentials.json"), str(secret / "hub.sock"), "/etc/shadow"]
    said = f"environment = {{ TARGETS = '''{json.dumps(targets)}''' }}"
    with door:
        async with struck(tmp_path, pins, "looks around", proxy=said) as stage:
            words, _ = await stage.call("strike")
    found = json.loads(words)
    assert set(found["files"].values()) == {"no: No such file or directory"}
    assert found["sockets"] == []
    assert not [name for name in found["environment"] if name.startswith(("PEGBOARD", "API_", "PYTEST"))]
    assert set(found["descriptors"]) <= {"0", "1", "2", "3"}  # the last is the listing itself
    others = {pid: seen for pid, seen in found["processes"].items() if HOSTILE not in seen["command"]}
    assert not [pid for pid, seen in others.items() if "mem" in seen or "environ" in seen], others
    assert not found.get("may signal")


async def test_a_backend_that_talks_without_end_costs_the_calls_nothing(
    tmp_path: Path, pins: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits at its own full pipe; of its lines a few a second are logged."""
    async with struck(tmp_path, pins, "talks on stderr") as stage:
        await stage.call("strike")
        with anyio.fail_after(15):
            for _ in range(20):
                assert await stage.call("echo", "as ever") == ("as ever", False)
    assert len([each for each in caplog.records if each.name == "pegboard.backend"]) < 50 * 20


async def test_neither_its_resources_nor_its_prompts_nor_its_questions_pass(tmp_path: Path, pins: str) -> None:
    async with struck(tmp_path, pins, "offers more") as stage:
        words, _ = await stage.call("strike")
        assert '"error"' in words
        assert "result" not in words
        assert (await stage.client.list_resources()).resources == []
        assert (await stage.client.list_prompts()).prompts == []
        await stage.still_serves()


async def test_one_caller_does_not_hold_all_places_of_a_slow_backend(tmp_path: Path) -> None:
    project = hostile(tmp_path / "project", "waits", proxy="concurrency = 2")
    slow, done = Backend(read_manifest(project), None, Launch(project, tmp_path / "own")), list[str]()

    async def call(person: str, tool: str) -> None:
        await slow.call(tool, {"text": ""}, None, None, person)
        done.append(person)

    async with slow.running(), anyio.create_task_group() as tasks:
        for person, tool in (("ana", "strike"), ("ana", "strike"), ("ana", "strike"), ("fay", "echo")):
            tasks.start_soon(call, person, tool)
    assert done == ["ana", "fay", "ana", "ana"]
