"""How long a newcomer waits: from a clean clone and `make up` to the first governed call, and the second time.

    .venv/bin/python bench/first_call.py [--save]

Three starts of a clone of this commit: with empty package caches, which needs the network; with warm ones, in another
clone; and again in that clone. The call is the echo tool of `dev/scratch`, tried until it is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx2

from bench import keeping
from bench.calls import processes
from pegboard_hub.demo.wire import Wire
from pegboard_hub.identity.demo import DEMO_GRANT
from tests.ports import free_port
from tests.system.instance import REPOSITORY

LIMIT_S = 900.0


def main() -> None:
    """Print a row for each start, and keep them if asked to."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--save", action="store_true", help="keep the results in bench/results/first_call.json")
    save = arguments.parse_args().save
    before = keeping.load_average()
    with _folder() as folder:
        caches = {"UV_CACHE_DIR": str(folder / "uv"), "PIP_CACHE_DIR": str(folder / "pip")}
        empty, warm = folder / "empty", folder / "warm"
        rows = []
        for label, clone in (
            ("clean clone, empty package caches", empty),
            ("clean clone, warm package caches", warm),
            ("second start", warm),
        ):
            rows.append({"start": label, "seconds": round(_start(clone, caches), 1)})
            print(f"{label:36} {rows[-1]['seconds']} s", flush=True)
    if save:
        print(keeping.save("first_call", [before, keeping.load_average()], rows=rows))


def _start(clone: Path, caches: dict[str, str]) -> float:
    """Seconds from `make up` to the first answer. The clone, where it is missing, is not counted."""
    if not clone.exists():
        subprocess.run(["git", "clone", "--quiet", f"file://{REPOSITORY}", clone], check=True)
    port = free_port()
    environment = {**os.environ, **caches, "PEGBOARD_PORT": str(port)}
    began = time.monotonic()
    process = processes.start(["make", "up"], clone / "up.log", environment, clone)
    try:
        while not _answered(port):
            if process.poll() is not None or time.monotonic() - began > LIMIT_S:
                raise RuntimeError((clone / "up.log").read_text(errors="replace")[-2000:])
            time.sleep(0.1)
        return time.monotonic() - began
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End `make` and what it started, as Ctrl-C does, and wait until all of it is gone."""
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(60)
    with suppress(ProcessLookupError):
        while True:
            os.killpg(process.pid, 0)
            time.sleep(0.1)


def _answered(port: int) -> bool:
    url = f"http://localhost:{port}"
    resource = f"{url}/mcp/dev/scratch"
    form = {"grant_type": DEMO_GRANT, "person": "ana", "surface": "cli", "resource": resource}
    try:
        token = httpx2.post(f"{url}/oauth/token", data=form).raise_for_status().json()["access_token"]
        return "hello" in _call(url, token)
    except httpx2.HTTPError:
        return False


def _call(url: str, token: str) -> str:
    async def call() -> str:
        async with httpx2.AsyncClient() as http:
            reply = await Wire(http, url).call(token, "echo", {"text": "hello"}, "dev/scratch")
            return reply.text if reply.status == httpx2.codes.OK else ""

    return asyncio.run(call())


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pgb", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
