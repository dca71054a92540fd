"""The process's own ceiling on memory, below the one at which the platform would start it again.

The engine's limit does not see inside one value, and a fetched value exists twice. At this ceiling an allocation
fails, the engine says so to the one caller who asked for too much, and everybody else is served on.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GROWTH_MB = 768
"""What queries may add to what the process uses once its data is open; see `memory_mb` in pegboard.toml."""


@contextmanager
def bounded_memory(growth_mb: int = GROWTH_MB) -> Iterator[None]:
    """Let the process's private memory grow by `growth_mb` MiB from here, and no further."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceiling = _private_now() + growth_mb * 1024 * 1024
    if hard != resource.RLIM_INFINITY:
        ceiling = min(ceiling, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _private_now() -> int:
    """Bytes of private writable memory, as RLIMIT_DATA counts them (proc(5), VmData)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmData:")) * 1024
