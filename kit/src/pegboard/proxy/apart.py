"""How the backend's process is kept from the proxy's own: its credentials, bundle, records, sockets and memory.

Both stand in one sandbox, under one user. So the backend gets a second one inside it, made by the proxy itself with
bubblewrap (bwrap(1)), which needs no right that the proxy lacks: of files it sees the system, its own packages and
one folder of its own; of processes it can touch none but its own; and no descriptor is handed on but the three of
its standard streams. `step.py` is the last thing that runs before the backend does.

| here                                    | the backend                                                              |
|-----------------------------------------|--------------------------------------------------------------------------|
| bubblewrap works within the sandbox     | is apart, as above                                                       |
| it does not, or is not installed        | could read what the proxy can, as a kit's own tools can: this is logged  |
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

STEP: Final = Path(__file__).with_name("step.py")

_SYSTEM: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC: Final = ("/etc/ld.so.cache", "/etc/localtime", "/etc/ssl", "/etc/ca-certificates")
_ETC_NETWORK: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")
_TMP_BYTES: Final = 64 * 1024 * 1024
_TRIAL_S: Final = 10.0

# A fresh /proc shows its own processes alone; within another sandbox the kernel allows only the one that is there,
# whose other processes the backend can neither look into nor signal (ptrace(2), user_namespaces(7)).
_PROC: Final = (("--proc", "/proc"), ("--ro-bind", "/proc", "/proc"))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a backend's process is at home.

    Attributes:
        folder: its files and packages, in which it starts; read-only.
        own: the one folder that it may change; its HOME and TMPDIR.
        readable: what else it needs to see.
        network: whether it shares the proxy's network; else it has a loopback of its own and nothing more.
        processes: processes and threads that it may have.
    """

    folder: Path
    own: Path
    readable: tuple[Path, ...] = ()
    network: bool = False
    processes: int = 64


@dataclass(frozen=True, slots=True)
class Started:
    """How to start a backend: the whole command, and whether it is apart from the proxy."""

    command: tuple[str, ...]
    apart: bool


def started(command: Iterable[str], place: Place) -> Started:
    """The command that starts `command` as far apart from this process as the machine allows.

    Args:
        command: an absolute program and its arguments.
        place: where it is at home.
    """
    python = base_python()
    step = [str(python), "-I", "-S", str(STEP), json.dumps({"processes": place.processes}), "--", *command]
    sandbox = _sandbox(place)
    if sandbox is None:
        return Started(tuple(step), False)
    return Started((*sandbox, *step), True)


def base_python() -> Path:
    """The interpreter that this process' environment was made from: it runs nothing that was installed there."""
    return Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()


def environment(place: Place, said: Mapping[str, str], programs: Iterable[Path]) -> dict[str, str]:
    """The variables of a backend's process: what was said, and none of the proxy's own.

    Args:
        place: where it is at home.
        said: variables that its owner gives it.
        programs: folders of programs before the system's.
    """
    path = os.pathsep.join([*map(str, programs), "/usr/local/bin", "/usr/bin", "/bin"])
    return {**said, "PATH": path, "LANG": "C.UTF-8", "HOME": str(place.own), "TMPDIR": str(place.own)}


def _sandbox(place: Place) -> list[str] | None:
    """The command of a sandbox that works here; None where none does."""
    program = shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin")
    faults: list[str] = ["bubblewrap is not installed"] if program is None else []
    for proc in _PROC if program is not None else ():
        arguments = [str(program), *_arguments(place, proc), "--"]
        if not (fault := _fault([*arguments, str(base_python()), "-I", "-S", "-c", "pass"])):
            return arguments
        faults.append(fault)
    logger.warning(
        "the backend is NOT kept apart from the proxy: it could read its credentials and records (%s)", faults[-1]
    )
    return None


def _arguments(place: Place, proc: tuple[str, ...]) -> Iterator[str]:
    yield from ("--die-with-parent", "--new-session", "--unshare-user", "--unshare-pid", "--unshare-ipc")
    yield from ("--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL")
    if not place.network:
        yield "--unshare-net"
    yield from ("--ro-bind", "/usr", "/usr")
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), name)
        elif path.exists():
            yield from ("--ro-bind", name, name)
    for name in (*_ETC, *(_ETC_NETWORK if place.network else ())):
        yield from ("--ro-bind-try", name, name)
    yield from (*proc, "--dev", "/dev", "--size", str(_TMP_BYTES), "--tmpfs", "/tmp")  # noqa: S108 - its own
    base = base_python()
    for path in dict.fromkeys((base.parent.parent, STEP, *place.readable, place.folder)):
        if path != Path("/usr"):
            yield from ("--ro-bind", str(path), str(path))
    yield from ("--bind", str(place.own), str(place.own), "--chdir", str(place.folder))


def _fault(command: list[str]) -> str:
    """Why a trial run failed, in a line; empty when it went well."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TRIAL_S, env={}, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[:200]
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
    return "" if done.returncode == 0 else lines[-1][:200]
