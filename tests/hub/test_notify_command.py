"""`pegboard notify`, doctor and status: what cannot be delivered is told, and what is tried is tried."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pegboard.cli.app import run
from pegboard_hub.notify.service import Notifying
from pegboard_hub.notify.settings import open_notify
from pegboard_hub.runtime import notify_watch
from pegboard_hub.runtime.grants_watch import Reporter
from pegboard_hub.runtime.looking import _remarks
from pegboard_hub.runtime.notify_watch import NotifyWatch
from pegboard_hub.runtime.status import StatusFile
from pegboard_hub.storage.database import Database
from pegboard_hub.upkeep.checks.notify import _standing, notify
from pegboard_hub.upkeep.doctor import gather
from pegboard_hub.upkeep.finding import Finding, State
from tests.hub.company import URL, Company, begin_with_the_newest_schema, beside, opened
from tests.hub.hub_process import Process, arguments
from tests.hub.serving import inner_door
from tests.hub.webhooks import SECRET, Hook, hook, notice, notify_file
from tests.ports import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
async def receiver() -> AsyncIterator[Hook]:
    async with hook() as found:
        yield found


@pytest.fixture
def process(company: Company) -> Iterator[Process]:
    found = Process(company)
    yield found
    found.end()


async def said(capsys: pytest.CaptureFixture[str], company: Company, *words: str) -> tuple[int, str]:
    """A command of the operator's, beside the test's own receiver."""
    status = await asyncio.to_thread(run, ["notify", *words, "--home", str(company.home.root)])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


class Terminal:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, line: str) -> None:
        self.lines.append(line)

    problem = step


@pytest.mark.heavy
async def test_a_running_hub_tells_tries_and_lists(
    company: Company,
    process: Process,
    receiver: Hook,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = notify_file(tmp_path, chat=f'url = "{receiver.url}"', ads=f'url = "{receiver.url}"\ngroups = ["ads-eng"]')
    await begin_with_the_newest_schema(company.home.database)
    await a_message_waits(company, file)
    receiver.answers = ["HTTP/1.1 500 Oops"]
    process.start(*arguments(company), "--notify", str(file), "--log-level", "DEBUG")
    await asyncio.to_thread(process.ready)

    monkeypatch.setattr(notify_watch, "LOOK_S", 0.05)
    terminal, status = Terminal(), SimpleNamespace(notify=())
    watch = NotifyWatch(company.home, cast(Reporter, terminal), cast(StatusFile, status))
    async with beside(watch.run()):
        await until(lambda: bool(terminal.lines))
        assert status.notify == ("chat is not told of approvals: 1 wait: it answers 500",)
        assert terminal.lines == ["chat is not told of approvals: 1 wait: it answers 500"]

        code, out = await said(capsys, company, "list")
        assert code == 1
        at = f"http://localhost:{receiver.port}"
        told = "all: requested, expiring, decided, unknown"
        assert f"chat  {at}  {told}; 1 wait; 1 wait: it answers 500" in out
        assert "what ads-eng decide" in out
        assert await said(capsys, company, "test", "chat") == (
            1,
            f"chat did not take it, at {at}: it answers 500.\n",
        )

        receiver.answers = ["HTTP/1.1 200 OK"]
        assert await said(capsys, company, "test", "ads") == (0, f"ads took it, at {at}.\n")
        code, out = await said(capsys, company, "test", "adds", "--json")
        assert code != 0
        assert "there are ads, chat" in out
        await until(lambda: len(terminal.lines) == 2)
        assert terminal.lines[1:] == ["chat is told of approvals again"]
    code, out = await said(capsys, company, "list", "--json")
    assert code == 0
    assert {each["name"]: each["waiting"] for each in json.loads(out)["destinations"]} == {"chat": 0, "ads": 0}
    assert [word for word in ("s3cret-of-the-path", SECRET) if word in process.log()] == []


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not so():
            await asyncio.sleep(0.02)


async def a_message_waits(company: Company, file: Path) -> None:
    database = Database.at(company.home.database)
    told = Notifying(database, open_notify(file, {}), URL)
    async with database.write() as connection:
        await told.note(connection, "requested", [notice()])
    await told.close()
    await database.close()


async def test_a_file_that_became_wrong_keeps_no_hub_down_and_loses_no_message(
    company: Company, receiver: Hook, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one to which a secret was added that the supervisor did not read, when the hub is started again."""
    file = company.notify = notify_file(tmp_path, chat=f'url = "{receiver.url}"')
    good = file.read_text()
    async with opened(company) as hub, hub.parts.database.write() as connection:
        await hub.parts.notifying.note(connection, "requested", [notice()])
    file.write_text(f'{good}old_secret = {{ env = "NOT_SET" }}\n')
    async with opened(company) as hub, inner_door(hub, company):
        code, out = await said(capsys, company, "list")
        assert code == 1
        assert "Nobody is told of approvals: " in out
        assert "NOT_SET is not set" in out
        await hub.parts.notifying.tidy()
        await hub.parts.notifying.look()
        assert receiver.got == []
    file.write_text(good)
    async with opened(company) as hub:
        await hub.parts.notifying.look()
        await hub.parts.notifying.settled()
    assert len(receiver.got) == 1


async def test_a_hub_without_the_file_says_that_nobody_is_told(
    company: Company, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(company) as hub, inner_door(hub, company):
        assert await said(capsys, company, "list") == (
            0,
            "Nobody is told of approvals: pegboard up --notify FILE names destinations.\n",
        )
        code, out = await said(capsys, company, "test", "chat")
        assert code != 0
        assert "pegboard up --notify FILE" in out


def test_the_status_names_whom_the_hub_cannot_tell() -> None:
    found: dict[str, Any] = {"faults": {}, "closed": {}, "isolation": {}, "processes": [], "not_started": []}
    found |= {"stale": False, "keeper": None, "database": "x", "hubs": 1, "stopped": [], "edge_bundle_age_s": None}
    found |= {"home": "h", "logs": "l", "at": time.time(), "notify": ["chat is not told of approvals: 3 wait"]}
    assert "chat is not told of approvals: 3 wait" in _remarks(found)


def doctor(tmp_path: Path, file: Path | None) -> list[Finding]:
    facts = replace(gather(tmp_path / "none", free_port(), None, offline=True), notify=file)
    return list(notify(facts))


def test_the_doctor_says_that_nobody_is_told(tmp_path: Path) -> None:
    [finding] = doctor(tmp_path, None)
    assert finding.state is State.WELL
    assert "nobody is told" in finding.found


@pytest.mark.parametrize(
    ("lines", "state", "words"),
    [
        ('url = "https://acme.example/s3cret"', State.WELL, "1 destination will be told"),
        ('url = "http://acme.example/s3cret"', State.MEND, "destinations.one.url: must begin with https://"),
        (
            'url = "https://acme.example/s3cret"\ncertificates = "none.pem"',
            State.MEND,
            "holds no certificates in PEM",
        ),
    ],
)
def test_the_doctor_reads_the_file_and_tells_no_secret(tmp_path: Path, lines: str, state: State, words: str) -> None:
    found = doctor(tmp_path, notify_file(tmp_path, one=lines))
    assert found[0].state is state
    assert words in found[0].found
    assert [each for each in ("s3cret", SECRET) if each in repr(found)] == []


def test_a_destination_that_takes_nothing_is_a_warning_with_its_mend() -> None:
    word: dict[str, Any] = {"name": "chat", "origin": "https://acme.example", "trouble": "3 wait: it answers 500"}
    [finding] = _standing({"destinations": [word]})
    assert finding.state is State.WARNING
    assert "pegboard notify test chat" in finding.mend
    [well] = _standing({"destinations": [word | {"trouble": ""}]})
    assert well.state is State.WELL
