"""A whole instance on a full disk: what is killed comes back, nothing is pretended, and room mends everything."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from pegboard_hub.demo.wire import Wire
from pegboard_hub.runtime import procfs
from tests.system.instance import EXPECTED, Instance, running, statuses
from tests.system.survival.kills import PROCESSES, process

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.heavy, pytest.mark.xdist_group("survival")]

ROOM = 400 * 2**20
"""Bytes: two servers' environments, and some to spare."""

LIMIT_S = 120.0


class Disk:
    """A small file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Take every block that is left."""
        with self._filler.open("ab") as file:
            while True:
                try:
                    os.write(file.fileno(), bytes(4096))
                except OSError:
                    return

    def make_room(self) -> None:
        """Give it all back."""
        self._filler.unlink()


@contextmanager
def small_disk() -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    with tempfile.TemporaryDirectory(prefix="pgb", dir="/tmp") as name:
        command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=755", "tmpfs", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
        Path(name).chmod(0o755)
        try:
            yield Disk(Path(name))
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


async def said(instance: Instance) -> str:
    """What a caller with a fresh token is told: `hi` as the answer, or why not. It needs hub, edge and server."""
    async with httpx2.AsyncClient(timeout=20) as http:
        wire = Wire(http, instance.public_url)
        try:
            token = await wire.token("sam", "dev/scratch")
            reply = await wire.call(token, "echo", {"text": "hi"}, "dev/scratch")
        except httpx2.HTTPError as error:
            return type(error).__name__
    return str(reply.refusal["reason"]) if reply.refusal else reply.text


async def until(said_now: Callable[[], Awaitable[str]], wanted: str) -> None:
    """Wait until it is said."""
    heard: list[str] = []
    deadline = time.monotonic() + LIMIT_S
    while wanted not in (last := await said_now()):
        heard.append(last)
        assert time.monotonic() < deadline, heard[-20:]
        await asyncio.sleep(0.2)


def pegboard(instance: Instance, *arguments: str) -> str:
    words = [sys.executable, "-m", "pegboard.cli", *arguments, "--home", str(instance.home.root)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False).stdout


async def test_on_a_full_disk_calls_are_refused_what_is_killed_comes_back_and_room_mends_everything() -> None:
    with small_disk() as disk, running(home=disk.folder / "home") as instance:

        async def on_a_full_disk() -> str:
            disk.fill()
            return await said(instance)

        async def states() -> str:
            return str(statuses(instance.home) == dict.fromkeys(EXPECTED, "live"))

        assert await said(instance) == "hi"
        await until(on_a_full_disk, "ledger_unavailable")
        pids = {name: process(instance.home, name)["pid"] for name in PROCESSES}
        for pid in pids.values():
            for each in list(procfs.tree(pid)):
                os.kill(each, signal.SIGKILL)
        await until(on_a_full_disk, "ledger_unavailable")
        assert "The disk is full" in pegboard(instance, "status")

        disk.make_room()
        await until(states, "True")
        await until(lambda: said(instance), "hi")
        assert not set(pids.values()) & {process(instance.home, name)["pid"] for name in PROCESSES}
        assert "every promise holds" in pegboard(instance, "ledger", "verify")
