"""What the kernel tells of running processes (proc(5)): children, memory, who holds a port."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_LISTEN = "0A"


def children(pid: int) -> list[int]:
    """The direct children of a process; none when it is gone."""
    found: list[int] = []
    with suppress(OSError):
        for thread in (_PROC / str(pid) / "task").iterdir():
            with suppress(OSError):
                found += [int(child) for child in (thread / "children").read_text(encoding="ascii").split()]
    return found


def tree(pid: int) -> Iterator[int]:
    """A process and everything it started that is still below it, parents first."""
    yield pid
    for child in children(pid):
        yield from tree(child)


def private_memory(pid: int) -> int:
    """Bytes of memory that a process alone uses (RssAnon); 0 when it is gone."""
    with suppress(OSError):
        for line in (_PROC / str(pid) / "status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def threads(pid: int) -> int:
    """How many threads a process has; 0 when it is gone."""
    with suppress(OSError):
        return sum(1 for _ in (_PROC / str(pid) / "task").iterdir())
    return 0


def open_files(pid: int) -> int:
    """How many files and connections a process has open; 0 when it is gone, or is not ours to see."""
    with suppress(OSError):
        return sum(1 for _ in (_PROC / str(pid) / "fd").iterdir())
    return 0


def of_user(uid: int) -> list[int]:
    """Every process of a user."""
    found: list[int] = []
    for process in _PROC.iterdir():
        with suppress(OSError):
            if process.name.isdigit() and process.stat().st_uid == uid:
                found.append(int(process.name))
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time that a process and its children that have ended used, in seconds; 0 when it is gone."""
    with suppress(OSError):
        # The command's name, in parentheses, may hold anything; utime, stime, cutime and cstime are fields 14 to 17.
        fields = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return 0.0


def flock_holder(path: Path) -> int | None:
    """Process id of who holds the flock(2) on a file; None when nobody does. Looking takes no lock itself."""
    with suppress(OSError):
        found = path.stat()
        place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        for line in (_PROC / "locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            # A line of somebody who waits has "->" before the kind of lock.
            if fields[1] == "FLOCK" and fields[5] == place:
                return int(fields[4])
    return None


def is_read_only(path: Path) -> bool:
    """Whether the file system below `path` takes no writes: mounted so, or shut by the kernel after an error."""
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return True
    device = path.stat().st_dev
    with suppress(OSError):
        for line in (_PROC / "self" / "mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split()
            if fields[2] == f"{os.major(device)}:{os.minor(device)}" and "emergency_ro" in fields[-1].split(","):
                return True
    return False


def holder_of_port(port: int) -> str:
    """Process id and command of who listens on a TCP port, in words; empty when it cannot be seen."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening(table, port)}
    for process in _PROC.iterdir():
        if process.name.isdigit() and _has_socket(process, inodes):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            return f"process {process.name} ({command[:80]})"
    return ""


def _listening(table: str, port: int) -> Iterator[str]:
    with suppress(OSError):
        for line in (_PROC / "net" / table).read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield f"socket:[{fields[9]}]"


def _has_socket(process: Path, inodes: set[str]) -> bool:
    with suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                if str(descriptor.readlink()) in inodes:
                    return True
    return False
