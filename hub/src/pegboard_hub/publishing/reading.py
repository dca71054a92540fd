"""Reading strangers' text: archives, manifests, policies, code. It is done apart from the hub, which goes on whatever
the text does to its reader.

Each question has a process of its own, with limits of its own (`reader.py`), without network, and with nothing of the
machine but the programs that it is made of, where bubblewrap works. It hangs, takes all its memory or crashes: then
that submission is told so, and nothing else notices.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, Protocol

from pegboard.core.errors import PegboardError
from pegboard.core.manifest import Manifest
from pegboard.core.publishing import Finding, Trouble
from pegboard_hub.publishing.errors import STATUSES, PublishingRefused
from pegboard_hub.publishing.examining import STEP, Case, Checked, examine
from pegboard_hub.publishing.reader import ANSWER, CPU_S, MEMORY, READY
from pegboard_hub.publishing.source import Submitted, read_project

log = logging.getLogger(__name__)

DEADLINE_S: Final = 120.0
"""Seconds for one question, whatever the machine is at beside it."""

LONGEST_LINE: Final = 8 * 1024 * 1024
"""Bytes of an answer without its archive."""

LEAVE_OUT: Final = "Leave out what no release needs, or split the project; pegboard check reads it as the hub does."
TELL_US: Final = "Tell the platform team the submission's id."


class ReadingAway(PegboardError):
    """Nothing can be read at this moment, whatever it is: the machine is to blame, not the text."""


class ReadingFailed(PegboardError):
    """The text was too much for its reader. The message says in what."""


class Reading(Protocol):
    """Reads strangers' text."""

    async def project(self, archive: bytes) -> Submitted:
        """What somebody submitted.

        Raises:
            PublishingRefused: the archive or the manifest cannot be; it names what is wrong.
            ReadingAway: nothing can be read now.
        """

    async def check(self, case: Case, source: IO[bytes], told: IO[bytes]) -> Checked:
        """Check what was built, against files with its source and the archive that its processes are given.

        Raises:
            ReadingAway: nothing can be read now.
        """


class Here:
    """In this process: a text that is too much for its reader takes the hub with it. For tests."""

    def __init__(self) -> None:
        warnings.warn("strangers' text is read in this process, without limits", stacklevel=2)

    async def project(self, archive: bytes) -> Submitted:
        """As `Reading` says."""
        return Submitted.of(await asyncio.to_thread(read_project, archive))

    async def check(self, case: Case, source: IO[bytes], told: IO[bytes]) -> Checked:
        """As `Reading` says."""
        try:
            return await asyncio.to_thread(lambda: examine(case, read_project(_whole(source)), _whole(told)))
        except PublishingRefused as error:
            return _refused(error)
        except Exception as error:
            return _failed(ReadingFailed(f"its reader failed on it ({type(error).__name__})"))


class Apart:
    """In a process for each question."""

    def __init__(self, deadline_s: float = DEADLINE_S, command: list[str] | None = None) -> None:
        """Prepare.

        Args:
            deadline_s: seconds for one question.
            command: what reads; None: this Python, kept apart as well as the machine can.
        """
        self._deadline_s = deadline_s
        self._command = command

    async def project(self, archive: bytes) -> Submitted:
        """As `Reading` says."""
        try:
            said, packed = await self._ask(None, io.BytesIO(archive), io.BytesIO())
            return Submitted(packed, Manifest.model_validate(said["manifest"]))
        except ReadingFailed as error:
            raise PublishingRefused("invalid_archive", f"The archive is not taken: {error}.", LEAVE_OUT) from error
        except (ValueError, LookupError, TypeError) as error:
            raise ReadingAway("what was read cannot be understood") from error

    async def check(self, case: Case, source: IO[bytes], told: IO[bytes]) -> Checked:
        """As `Reading` says."""
        try:
            said, _ = await self._ask(case, source, told)
            trouble = Trouble.model_validate(said["trouble"]) if said["trouble"] else None
            return Checked(tuple(Finding.model_validate(each) for each in said["findings"]), trouble)
        except PublishingRefused as error:
            return _refused(error)
        except ReadingFailed as error:
            return _failed(error)
        except (ValueError, LookupError, TypeError) as error:
            raise ReadingAway("what was found cannot be understood") from error

    async def _ask(self, case: Case | None, *contents: IO[bytes]) -> tuple[dict[str, Any], bytes]:
        """Ask one question.

        Raises:
            PublishingRefused: as its reader said.
            ReadingFailed, ReadingAway: as they say.
        """
        try:
            # Files, not pipes: neither side waits for the other, and the kernel bounds what a reader writes.
            with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answered:
                await asyncio.to_thread(_write, asked, case, contents)
                ended = await self._run(asked, answered)
                return await asyncio.to_thread(_answer, answered, ended)
        except OSError as error:
            log.error("no text can be read: %s", error)
            raise ReadingAway(f"the machine cannot do it ({error.strerror or error})") from error

    async def _run(self, asked: IO[bytes], answered: IO[bytes]) -> int | None:
        """Run the reader to its end; its status, and None where its time was up."""
        command = self._command if self._command is not None else await asyncio.to_thread(_kept_apart)
        process = await asyncio.create_subprocess_exec(
            *command,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            cwd="/",
            stdin=asked,
            stdout=answered,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return await asyncio.wait_for(process.wait(), self._deadline_s)
        except TimeoutError:
            return None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


def _refused(error: PublishingRefused) -> Checked:
    return Checked((), Trouble(step=STEP, what=error.message, mend=error.mend))


def _failed(error: ReadingFailed) -> Checked:
    what = f"It could not be checked: {error}."
    return Checked((), Trouble(step=STEP, what=what, mend=f"{LEAVE_OUT} {TELL_US}"))


def _whole(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _write(file: IO[bytes], case: Case | None, contents: tuple[IO[bytes], ...]) -> None:
    told = case.model_dump(mode="json") if case else None
    sizes = [each.seek(0, io.SEEK_END) for each in contents]
    file.write(json.dumps({"case": told, "sizes": sizes}).encode() + b"\n")
    for each in contents:
        each.seek(0)
        shutil.copyfileobj(each, file)
    file.flush()
    file.seek(0)


def _answer(file: IO[bytes], status: int | None) -> tuple[dict[str, Any], bytes]:
    """What a reader said, as far as it can be taken."""
    file.seek(0)
    if file.readline(len(READY)) != READY:
        log.error("what reads strangers' text does not start", extra={"status": status})
        raise ReadingAway("its reader does not start")
    if status is None:
        raise ReadingFailed("reading it took too long")
    line = file.readline(LONGEST_LINE)
    if status != 0 or not line.endswith(b"\n"):
        raise ReadingFailed(_why(status))
    said = json.loads(line)
    if refused := said.get("refused"):
        code, message, mend = refused
        raise PublishingRefused(code if code in STATUSES else "invalid_project", str(message), str(mend))
    if broke := said.get("broke"):
        memory = f"reading it needs more than {MEMORY // 2**20} MiB of memory"
        raise ReadingFailed(memory if broke == "memory" else f"its reader failed on it ({str(broke)[:60]})")
    return said, file.read(ANSWER)


def _why(status: int) -> str:
    """How a reader ended that should not have. bubblewrap tells of a signal as shells do: 128 and its number."""
    number = -status if status < 0 else status - 128
    match number:
        case signal.SIGXCPU:
            return f"reading it needs more than {CPU_S} s of a processor"
        case signal.SIGKILL:
            return "its reader was killed, as machines do whose memory ends"
        case signal.SIGABRT:
            return f"reading it needs more than {MEMORY // 2**20} MiB of memory"
        case signal.SIGXFSZ:
            return f"what comes of it is larger than {ANSWER // 2**20} MiB"
    return f"its reader crashed on it ({signal.Signals(number).name if number in _SIGNALS else f'status {status}'})"


_SIGNALS: Final = frozenset(map(int, signal.Signals))


@cache
def _kept_apart() -> list[str]:
    """The command that reads: kept apart by bubblewrap where that works here, which is tried once."""
    plain = [sys.executable, "-I", "-m", "pegboard_hub.publishing.reader"]
    if (bwrap := shutil.which("bwrap")) is None:
        log.warning("bubblewrap is not installed: strangers' text is read by a process with limits alone")
        return plain
    command = [bwrap, *_view(), "--", *plain]
    trial = [bwrap, *_view(), "--", sys.executable, "-I", "-c", "import pegboard_hub.publishing.reader"]
    if fault := _fault(trial):
        log.warning("strangers' text is read by a process with limits alone: bubblewrap does not work (%s)", fault)
        return plain
    return command


def _view() -> Iterator[str]:
    """Nothing but what Python and the two distributions are made of, read-only; no network, no other process."""
    yield from ("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL")
    yield from ("--dev", "/dev", "--tmpfs", "/tmp")  # noqa: S108 - its own
    for name in ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/etc/ld.so.cache"):
        if Path(name).is_symlink():
            yield from ("--symlink", str(Path(name).readlink()), name)
        elif Path(name).exists():
            yield from ("--ro-bind", name, name)
    for path in _made_of():
        yield from ("--ro-bind", str(path), str(path))


def _made_of() -> list[Path]:
    """Folders outside /usr that this Python imports from."""
    places = {Path(sys.executable).parent.parent, Path(sys.base_prefix), Path(sysconfig.get_path("stdlib"))}
    places |= {Path(sys.executable).resolve().parent.parent, *(Path(each) for each in sys.path if each)}
    return sorted(each for each in places if each.is_dir() and each not in (Path("/"), Path("/usr")))


def _fault(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, env={}, cwd="/", check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return "" if done.returncode == 0 else (lines[-1] if lines else f"status {done.returncode}")[:200]
