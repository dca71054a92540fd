"""Finding lines in the logs of a server's replicas, rotated ones included. Everything in them is an author's word."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from heapq import merge
from pathlib import Path
from typing import Any

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.publishing.orders import LogLine, LogPage, LogQuestion

MOST_BYTES = 64 * 1024 * 1024
"""Of logs that one question reads, the newest."""

OLD_S = 14 * 86_400.0
"""Seconds for which a replica's log is kept at least."""

KEPT_LOGS = 20
"""Logs of replicas of one server that are kept however old they are, the newest ones."""

LONGEST_S = 8.0
"""Seconds that one question may take."""

LONGEST_JSON = 256 * 1024
"""Characters of a line that is read as the kit's; a longer one is text."""

DEEPEST = 20
"""Levels of what else stands on a line; what nests more deeply is given as text."""

LONGEST_LINE = 16 * 1024
"""Characters of a line that are given."""

_OURS = ("at", "level", "message", "request_id", "server", "release", "replica")


def search(home: Home, question: LogQuestion) -> LogPage:
    """The newest lines that fit, oldest first.

    Raises:
        ValueError: `server` is no server's name, or `since` no time.
    """
    since = datetime.fromisoformat(question.since) if question.since else None
    if since is not None and since.tzinfo is None:
        raise ValueError("since: say the time zone, as in 2026-11-26T09:30:00Z")
    found: list[list[LogLine]] = []
    left, until = MOST_BYTES, time.monotonic() + LONGEST_S
    for replica, files in sorted(_logs(home, ServerName.parse(question.server)).items()):
        if question.replica not in ("", replica) or not _of_release(replica, question.release):
            continue
        fitting: list[LogLine] = []
        for path in files:  # the newest first
            left -= path.stat().st_size
            if left < 0 or len(fitting) > question.limit:
                break
            lines_here = (line for line in _lines(path, replica, until) if _fits(line, question, since))
            # Of millions of lines those alone are kept that may be given.
            fitting = [*deque(lines_here, maxlen=question.limit + 1 - len(fitting)), *fitting]
        found.append(fitting)
    lines = list(merge(*found, key=lambda line: line.at))
    return LogPage(
        lines=tuple(lines[-question.limit :]),
        more=len(lines) > question.limit or left < 0 or time.monotonic() > until,
    )


def prune_logs(home: Home) -> None:
    """Remove logs of replicas that have written nothing for `OLD_S`, but for the newest ones of each server."""
    oldest = time.time() - OLD_S
    by_server: dict[str, list[tuple[float, Path]]] = {}
    for path in home.log("hub").parent.glob("*~*.log*"):
        with suppress(OSError):
            by_server.setdefault(path.name.partition("~")[0], []).append((path.stat().st_mtime, path))
    for logs in by_server.values():
        for at, path in sorted(logs, reverse=True)[KEPT_LOGS:]:
            if at < oldest:
                path.unlink(missing_ok=True)


def _logs(home: Home, server: ServerName) -> dict[str, list[Path]]:
    """A server's logs by replica, each the newest file first; a server without replicas has one that is called ``."""
    found: dict[str, list[Path]] = {}
    plain = home.log(server)
    for path in (plain, *plain.parent.glob(f"{plain.stem}~*.log")):
        rotated = sorted(path.parent.glob(f"{path.name}.*"), key=_number)
        files = [each for each in (path, *rotated) if each.is_file() and not each.is_symlink()]
        if files:
            found[path.stem.partition("~")[2]] = files
    return found


def _number(path: Path) -> int:
    digits = path.suffix[1:]
    return int(digits) if digits.isdecimal() else 0


def _of_release(replica: str, release: str) -> bool:
    return not release or not replica or replica.startswith(release[:8])


def _lines(path: Path, replica: str, until: float) -> Iterator[LogLine]:
    at = ""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, raw in enumerate(file):
            if number % 1000 == 0 and time.monotonic() > until:
                return
            line = _line(raw.rstrip("\n"), replica, at)
            at = line.at
            yield line


def _line(raw: str, replica: str, before: str) -> LogLine:
    """A line as the kit wrote it; anything else stands at the time of the one before."""
    said, release = read_line(raw), replica.partition("-")[0]
    if said is None:
        return LogLine(at=before, release=release, replica=replica, text=raw[:LONGEST_LINE])
    whole = str(said.get("release", ""))[:64]
    return LogLine(
        at=str(said.get("at", before))[:40],
        level=str(said.get("level", ""))[:20],
        release=whole if whole.startswith(release) else release,
        replica=replica,
        request_id=str(said.get("request_id", ""))[:64],
        text=str(said["message"])[:LONGEST_LINE],
        more={str(name)[:64]: bearable(value) for name, value in said.items() if name not in _OURS},
    )


def read_line(raw: str) -> dict[str, Any] | None:
    """What the kit wrote in a line, of which all can be written again; None of what is none of the kit's."""
    if not raw.startswith("{") or len(raw) > LONGEST_JSON:
        return None
    try:
        said = json.loads(raw)
        if "\\u" in raw:  # half of a pair is no text
            said = json.loads(json.dumps(said, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and "message" in said else None


def bearable(value: Any) -> Any:
    """A value of a line as it is, or as text where it nests too deeply."""
    return value if _depth(value) <= DEEPEST else json.dumps(value)[:LONGEST_LINE]


def _depth(value: Any) -> int:
    deep, level = 0, [value]
    while level and deep <= DEEPEST:
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        deep += 1
    return deep


def _fits(line: LogLine, question: LogQuestion, since: datetime | None) -> bool:
    if question.request_id and line.request_id != question.request_id:
        return False
    if question.release and not line.release.startswith(question.release[: len(line.release) or None]):
        return False
    if question.q and question.q.casefold() not in f"{line.text} {json.dumps(line.more)}".casefold():
        return False
    return since is None or _time(line.at) is None or _time(line.at) >= since  # type: ignore[operator]


def _time(at: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(at) if at else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found
