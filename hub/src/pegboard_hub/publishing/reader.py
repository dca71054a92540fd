"""What reads strangers' text for the hub, in a process for each question: limits first, then the question.

    python -I -m pegboard_hub.publishing.reader   question on standard input, answer on standard output

The answer is a line `ready` once the limits hold, a line of JSON, and where a project was read the archive as it was
packed anew. The hub believes none of it further than its form (`reading.py`).
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
from typing import BinaryIO, Final

from pegboard_hub.publishing.errors import PublishingRefused
from pegboard_hub.publishing.examining import Case, Checked, examine
from pegboard_hub.publishing.source import read_project

READY: Final = b"ready\n"

CPU_S: Final = 30
"""Seconds of a processor for one question. A usual project takes less than one; 30 are some 20 MiB of Python."""

MEMORY: Final = 1536 * 1024 * 1024
"""Bytes of address space. The largest archive that unfolds as far as it may takes 600 MiB."""

ANSWER: Final = 64 * 1024 * 1024
"""Bytes of an answer, archive and all."""

_LIMITS: Final = {
    resource.RLIMIT_CPU: CPU_S,
    resource.RLIMIT_AS: MEMORY,
    resource.RLIMIT_FSIZE: ANSWER,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NOFILE: 64,
}


def main() -> None:
    """Answer one question."""
    for limit, value in _LIMITS.items():
        # At the soft limit a signal says why; at the hard one it would be the same as for want of memory.
        resource.setrlimit(limit, (value, value + (limit == resource.RLIMIT_CPU)))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.nice(5)
    gc.disable()  # it ends soon
    out = sys.stdout.buffer
    out.write(READY)
    out.flush()
    try:
        said, archive = answer(sys.stdin.buffer)
    except MemoryError:
        said, archive = {"broke": "memory"}, b""
    except Exception as error:
        said, archive = {"broke": type(error).__name__}, b""
    out.write(json.dumps(said).encode() + b"\n" + archive)
    out.flush()


def answer(question: BinaryIO) -> tuple[dict[str, object], bytes]:
    """What is told of a question: a head of JSON, and the bytes whose sizes it names."""
    head = json.loads(question.readline())
    source, told = (question.read(size) for size in head["sizes"])
    try:
        project = read_project(source)
        if head["case"] is None:
            return {"manifest": project.manifest.model_dump(mode="json")}, project.archive
        case = Case.model_validate(head["case"])
        checked = examine(case, project, told)
    except PublishingRefused as error:
        return {"refused": [error.code, error.message, error.mend]}, b""
    return told_of(checked), b""


def told_of(checked: Checked) -> dict[str, object]:
    """What came of a check, for the hub."""
    trouble = checked.trouble.model_dump(mode="json") if checked.trouble else None
    return {"findings": [each.model_dump(mode="json") for each in checked.findings], "trouble": trouble}


if __name__ == "__main__":
    main()
