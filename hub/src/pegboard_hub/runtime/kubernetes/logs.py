"""What servers in pods wrote, found for whoever asks."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from pegboard.core.names import ServerName
from pegboard_hub.publishing.orders import LogLine, LogPage, LogQuestion
from pegboard_hub.runtime.kubernetes.api import ApiAway, ApiRefused, Cluster
from pegboard_hub.runtime.kubernetes.objects import RELEASE, Json, server_labels
from pegboard_hub.runtime.machine.log_search import LONGEST_LINE, bearable, read_line

MOST_LINES: Final = 5000
"""Lines that are read of one pod; who wants older ones asks the company's own log store."""


async def read_logs(cluster: Cluster, runtime: str, pods: Iterable[Json], question: LogQuestion) -> LogPage:
    """Lines of one server's pods, oldest first.

    Args:
        cluster: where they run.
        runtime: whose they are.
        pods: those that are seen.
        question: what is looked for.
    """
    try:
        labels = server_labels(runtime, ServerName.parse(question.server))
    except ValueError:
        return LogPage()
    found: list[LogLine] = []
    for pod in pods:
        metadata = pod["metadata"]
        has = metadata.get("labels") or {}
        if any(has.get(name) != value for name, value in labels.items()):
            continue
        if question.replica not in ("", metadata["name"]) or not _begins(has.get(RELEASE, ""), question.release):
            continue
        try:
            lines = await cluster.log(metadata["name"], "server", MOST_LINES, _since(question.since))
        except (ApiAway, ApiRefused):
            continue
        found += [_line(text, has.get(RELEASE, ""), metadata["name"]) for text in lines]
    fitting = sorted((each for each in found if _fits(each, question)), key=lambda each: each.at)
    return LogPage(lines=tuple(fitting[-question.limit :]), more=len(fitting) > question.limit)


def _begins(label: str, asked: str) -> bool:
    """Labels have a digest's beginning, and so may the question."""
    return label.startswith(asked[: len(label)])


def _since(text: str) -> int | None:
    try:
        began = datetime.fromisoformat(text)
    except ValueError:
        return None
    began = began if began.tzinfo else began.replace(tzinfo=UTC)
    return max(1, int((datetime.now(UTC) - began).total_seconds()) + 1)


def _line(text: str, release: str, replica: str) -> LogLine:
    """A line as the kubelet gives it: its time, and what the server wrote, which is JSON where the kit wrote it."""
    at, _, written = text.partition(" ")
    said = read_line(written)
    if said is None or not isinstance(said.get("message"), str):
        return LogLine(at=at, release=release, replica=replica, text=written[:LONGEST_LINE])
    known = ("message", "level", "request_id", "timestamp", "time", "ts")
    return LogLine(
        at=at,
        level=str(said.get("level", "")),
        release=release,
        replica=replica,
        request_id=str(said.get("request_id", ""))[:64],
        text=said["message"][:LONGEST_LINE],
        more={name: bearable(value) for name, value in said.items() if name not in known},
    )


def _fits(line: LogLine, question: LogQuestion) -> bool:
    if question.request_id and line.request_id != question.request_id:
        return False
    return not question.q or question.q.casefold() in line.text.casefold()
