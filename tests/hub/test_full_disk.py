"""A hub whose disk is full: what it cannot keep it does not take, reading goes on, and it recovers by itself."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import httpx2
import pytest

from pegboard_hub.storage.schema import open_to_read
from tests.hub.company import API, Company, call
from tests.hub.hub_process import DEADLINE_S, Process, arguments

TMPFS_BYTES = 3 * 1024 * 1024
BATCH = 200
MOST_BATCHES = 200

Room = Callable[[], None]
Way = Callable[[Company, Callable[[], int]], AbstractContextManager[tuple[Room, Room]]]


@contextmanager
def full_tmpfs(company: Company, _pid: Callable[[], int]) -> Iterator[tuple[Room, Room]]:
    """The database on a small file system of its own; gives what takes its room away, and what gives it back."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root; the file size limit is tried all the same")
    data = company.home.data
    size = f"size={TMPFS_BYTES}"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(data)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.decode().strip()}")
    filler = data / "filler"

    def fill() -> None:
        with filler.open("wb") as file:
            while True:
                try:
                    os.write(file.fileno(), bytes(4096))
                except OSError:
                    return

    try:
        yield fill, filler.unlink
    finally:
        subprocess.run(["umount", "--lazy", str(data)], check=True)


@contextmanager
def limited_files(company: Company, pid: Callable[[], int]) -> Iterator[tuple[Room, Room]]:
    """No file of the hub's may grow beyond what the log of its writes has now (setrlimit(2), RLIMIT_FSIZE)."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        size = company.home.database.with_name("pegboard.db-wal").stat().st_size
        resource.prlimit(pid(), resource.RLIMIT_FSIZE, (size, unlimited[1]))

    yield fill, lambda: resource.prlimit(pid(), resource.RLIMIT_FSIZE, unlimited) and None


@pytest.fixture
def hub(company: Company) -> Iterator[Process]:
    process = Process(company)
    yield process
    process.end()


class Delivering:
    """A server that delivers its calls, and delivers again what was not acknowledged."""

    def __init__(self, hub: Process, company: Company) -> None:
        self._hub = hub
        self._socket = company.home.internal_socket
        self._headers = {"Authorization": f"Bearer {company.open_channel('prod/presto', 'r')}"}
        self._now = int(time.time() * 1000)
        self.delivered = 0

    def deliver(self) -> httpx2.Response:
        """One batch; the next one is another only when this one was acknowledged."""
        first = self.delivered
        records = [record for number in range(first, first + BATCH) for record in call(f"{number:06}", self._now)]
        with self._hub.door(self._socket) as door:
            answer = door.post("/internal/v1/records", json={"records": records}, headers=self._headers, timeout=30)
        if answer.status_code == 200:
            self.delivered += BATCH
        return answer


def status_of(hub: Process, company: Company, path: str) -> int:
    with hub.door(company.home.hub_socket) as door:
        return door.get(path, timeout=30).status_code


def calls_of(hub: Process, company: Company) -> int:
    """How many of the newest call a person reads at the public door: one, when there are any."""
    with hub.door(company.home.hub_socket) as door:
        form = {"grant_type": "urn:pegboard:params:oauth:grant-type:demo-person", "person": "ana"}
        token = door.post("/oauth/token", data={**form, "surface": "cli", "resource": API}).json()["access_token"]
        answer = door.get("/api/v1/servers", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        with_calls = door.get("/api/v1/calls?limit=1", headers={"Authorization": f"Bearer {token}"})
        assert with_calls.status_code == 200
        return len(with_calls.json()["calls"])


@pytest.mark.parametrize("way", [full_tmpfs, limited_files])
def test_on_a_full_disk_nothing_is_acknowledged_that_is_not_kept(company: Company, hub: Process, way: Way) -> None:
    process: list[subprocess.Popen[bytes]] = []
    with way(company, lambda: process[0].pid) as (fill, free):
        process.append(hub.start(*arguments(company)))
        hub.ready()
        server = Delivering(hub, company)
        assert server.deliver().status_code == 200
        fill()
        for _ in range(MOST_BATCHES):
            if (answer := server.deliver()).status_code != 200:
                break
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "storage_unavailable"
        assert "pegboard.db" not in answer.text
        assert status_of(hub, company, "/readyz") == 503
        assert status_of(hub, company, "/healthz") == 200
        assert status_of(hub, company, "/") == 200
        assert calls_of(hub, company) == 1
        assert server.deliver().status_code == 503
        free()
        until(lambda: server.deliver().status_code == 200)
        assert status_of(hub, company, "/readyz") == 200
        assert process[0].poll() is None
        hub.end()
        assert counted(company) == server.delivered
        log = hub.log()
        assert "what only reads goes on" in log
        assert "Traceback" not in log


def counted(company: Company) -> int:
    """Finished calls in the database, once each by its key."""
    with open_to_read(company.home.database) as connection:
        return int(connection.execute("SELECT count(*) FROM calls JOIN outcomes USING (server, id)").fetchone()[0])


def granted(company: Company) -> set[str]:
    """The surfaces that the registry's tables say are granted."""
    with open_to_read(company.home.database) as connection:
        return {value for (value,) in connection.execute("SELECT value FROM grants WHERE server = 'dev/scratch'")}


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, "the condition did not come to hold"
        time.sleep(0.05)


def test_a_hub_that_starts_on_a_full_disk_serves_what_it_knew(company: Company, hub: Process) -> None:
    process: list[subprocess.Popen[bytes]] = []
    with full_tmpfs(company, lambda: process[0].pid) as (fill, free):
        process.append(hub.start(*arguments(company)))
        hub.ready()
        server = Delivering(hub, company)
        server.deliver()
        process[0].kill()
        process[0].wait(DEADLINE_S)
        fill()
        company.grants.write_text(company.grants.read_text().replace('"cli"', '"cli", "ide"'))
        process[0] = hub.start(*arguments(company))
        until(hub.answers)
        assert status_of(hub, company, "/") == 200
        assert calls_of(hub, company) == 1
        free()
        until(lambda: server.deliver().status_code == 200)
        until(lambda: "ide" in granted(company))
        assert process[0].poll() is None
