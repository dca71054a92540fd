"""The hub as a process of its own, for tests that start and end it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2

from pegboard_hub.common.database_url import VARIABLE
from tests.hub.company import URL, Company

DEADLINE_S = 120


class Process:
    """A hub process that is ended when the test is."""

    def __init__(self, company: Company) -> None:
        self._company = company
        self._log = company.home.log("hub").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pegboard_hub.main", "--home", str(self._company.home.root)]
        url = {VARIABLE: self._company.database_url} if self._company.database_url else {}
        self.process = subprocess.Popen(
            [*command, *more], stderr=self._log, stdout=self._log, env={**os.environ, **url}
        )
        return self.process

    def ready(self) -> None:
        until = time.monotonic() + DEADLINE_S
        while not self.answers():
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < until, self.log()
            time.sleep(0.05)
        with self.door(self._company.home.hub_socket) as client:
            client.get("/readyz").raise_for_status()

    def has_read_status(self) -> None:
        """Wait until it knows what the supervisor says, which it reads beside its answers."""
        until = time.monotonic() + DEADLINE_S
        with self.door(self._company.home.hub_socket) as client:
            while "isolation: unknown" in client.get("/", headers={"accept": "text/html"}).text:
                assert time.monotonic() < until
                time.sleep(0.05)

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as trial:
            return trial.connect_ex(str(self._company.home.hub_socket)) == 0

    @staticmethod
    def door(path: Path) -> httpx2.Client:
        return httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path)), base_url=URL, timeout=DEADLINE_S)

    def log(self) -> str:
        return self._company.home.log("hub").read_text()

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait(DEADLINE_S)
        self._log.close()


def arguments(company: Company) -> tuple[str, ...]:
    return ("--public-url", URL, "--grants", str(company.grants))
