"""`pegboard backup` of an instance under load, and `pegboard restore`: who had an answer finds the call again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pegboard_hub.storage.schema import open_to_read
from tests.attacks.wire import ACCEPT, META, MODERN
from tests.ports import free_port
from tests.system.instance import REPOSITORY, running
from tests.system.runtime_kit import short_folder

pytestmark = [pytest.mark.system, pytest.mark.heavy]

GRANTS = """
[servers."dev/scratch"]
source = "{source}"
groups = ["ads-eng"]
surfaces = ["cli"]
"""
LIVE = {"hub", "edge", "dev/scratch"}
CALLERS = 4


@pytest.fixture
def folder() -> Iterator[Path]:
    found = short_folder()
    (found / "grants.toml").write_text(GRANTS.format(source=REPOSITORY / "servers" / "scratch"))
    yield found
    shutil.rmtree(found)


def pegboard(*arguments: str) -> dict[str, Any]:
    """What a command prints with --json."""
    command = [sys.executable, "-m", "pegboard.cli", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def echo(url: str, token: str, client: httpx2.Client) -> str:
    """One call; the id of its request once it was answered."""
    params = {"_meta": META, "name": "echo", "arguments": {"text": "here"}}
    headers = {**ACCEPT, "mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "echo"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    answer = client.post(f"{url}/mcp/dev/scratch", json=body, headers={**headers, "authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"]["content"][0]["text"] == "here", answer.text
    return str(answer.headers["x-request-id"])


class Load:
    """Callers that call until they are told to stop, and remember what was answered."""

    def __init__(self, url: str, token: str) -> None:
        self.answered: list[str] = []
        self.faults: list[BaseException] = []
        self._url, self._token = url, token
        self._stop = threading.Event()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def until(self, calls: int) -> None:
        """Wait for so many answers."""
        while len(self.answered) < calls:
            assert not self.faults, self.faults
            self._stop.wait(0.02)

    def _call(self) -> None:
        try:
            with httpx2.Client(timeout=20) as client:
                while not self._stop.is_set():
                    self.answered.append(echo(self._url, self._token, client))
        except BaseException as error:
            self.faults.append(error)


def finished(database: Path) -> list[str]:
    """The request of every call that the ledger knows the outcome of, as often as it has it."""
    with open_to_read(database) as connection:
        rows = connection.execute(
            "SELECT request_id FROM calls JOIN outcomes USING (server, id) WHERE outcomes.status = 'ok'"
        )
        return [request for (request,) in rows]


def test_every_call_that_was_answered_before_a_backup_is_there_after_its_restore(folder: Path) -> None:
    port, grants = free_port(), str(folder / "grants.toml")
    with running("--grants", grants, expected=LIVE, home=folder / "home", port=port) as instance:
        token = instance.token("ana", "dev/scratch")
        load = Load(instance.public_url, token)
        with load():
            load.until(100)
            before = list(load.answered)
            made = pegboard("backup", str(folder / "b.tar.gz"), "--home", str(folder / "home"))
            load.until(len(load.answered) + 50)  # the backup did not disturb them
        assert load.faults == []
    assert {"database", "keys"} <= set(made["holds"])
    restored = pegboard("restore", made["file"], "--home", str(folder / "new"))
    assert restored["start"] == f"pegboard up --home {folder}/new --port {port} --grants {grants}"
    with running("--grants", grants, expected=LIVE, home=folder / "new", port=port) as instance:
        with httpx2.Client(timeout=20) as client:
            # Keys that sign are in no backup, so a program renews the token that it has from before.
            again = echo(instance.public_url, instance.token("ana", "dev/scratch"), client)
        while again not in (known := finished(instance.home.database)):
            assert instance.process.poll() is None
            threading.Event().wait(0.05)
        assert set(before) <= set(known)
        assert len(known) == len(set(known))
        replacing = [sys.executable, "-m", "pegboard.cli", "restore", made["file"], "--home", str(folder / "new")]
        refused = subprocess.run([*replacing, "--replace"], capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert "Pegboard runs on this home" in refused.stderr
        assert "Traceback" not in instance.said
        assert "not used" not in instance.said
