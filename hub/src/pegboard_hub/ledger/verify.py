"""Counting the ledger again, from its rows alone, and holding to it what was counted as they came in.

It shares no code with the intake: it reads the database beside running hubs, in one state, and changes nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString, NamedTuple, Protocol

from pegboard.core.errors import PegboardError
from pegboard_hub.storage.postgresql import address_of, open_snapshot, see
from pegboard_hub.storage.schema import Age, Schema, open_to_read, revisions, schema_of

DAY_MS = 86_400_000
WEEK_MINUTES = 7 * 24 * 60
PROGRESS_EVERY = 100_000


class CannotVerify(PegboardError):
    """There is no ledger to count, or it is of another version."""


class Finding(NamedTuple):
    """One thing that does not hold: which promise, and where."""

    promise: str
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a count found.

    Attributes:
        calls: how many calls have each status; `unknown` has those without an outcome, which may still be running.
        without_outcome: those by server.
        findings: what does not hold.
    """

    calls: dict[str, int]
    without_outcome: dict[str, int]
    findings: list[Finding]

    @property
    def total(self) -> int:
        """Calls and refusals in the ledger."""
        return sum(self.calls.values())


@dataclass(slots=True)
class _Count:
    """What the rows say."""

    days: Counter[tuple[str, int, str, str]] = field(default_factory=Counter)
    saved: Counter[tuple[str, int, str, str]] = field(default_factory=Counter)
    callers: defaultdict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    calls: Counter[str] = field(default_factory=Counter)
    without_outcome: Counter[str] = field(default_factory=Counter)
    wrong_status: list[str] = field(default_factory=list)

    def add(self, server: str, day: int, tool: str, status: str, saved: int = 0) -> None:
        self.days[server, day, tool, status] += 1
        self.saved[server, day, tool, status] += saved


def verify(database: Path, progress: Callable[[int], None] = lambda _: None) -> Verdict:
    """Count the ledger of a database file.

    Args:
        database: the hub's SQLite file.
        progress: told now and then how many rows were counted.

    Raises:
        CannotVerify: there is none, or its schema is another version's.
        DatabaseUnreadable: it cannot be read.
    """
    schema = schema_of(database)
    if schema.age is not Age.CURRENT:
        words = "there is no ledger yet" if schema.age is Age.NONE else f"its schema is {schema.found}"
        raise CannotVerify(f"{database}: {words}, and this version counts {schema.newest}: start `pegboard up` once")
    with open_to_read(database) as connection:
        connection.execute("BEGIN")
        return _verdict(connection, progress)


def verify_server(url: str, progress: Callable[[int], None] = lambda _: None) -> Verdict:
    """Count the ledger of a PostgreSQL, which hubs may be using: it is read as of one moment.

    Args:
        url: as libpq reads it.
        progress: told now and then how many rows were counted.

    Raises:
        CannotVerify: its schema is another version's.
        ConfigurationError: libpq does not understand the URL.
        DatabaseUnreadable: it cannot be read.
    """
    schema = Schema(see(url).revision, revisions()[-1])
    if schema.age is not Age.CURRENT:
        words = "there is no ledger yet" if schema.age is Age.NONE else f"its schema is {schema.found}"
        raise CannotVerify(f"{address_of(url)}: {words}, and this version counts {schema.newest}")
    with open_snapshot(url) as snapshot:
        return _verdict(snapshot, progress)


class Rows(Protocol):
    """A connection that reads one state: SQLite's own, or a PostgreSQL's."""

    def execute(self, query: LiteralString, /) -> Iterable[Any]:
        """The rows of a query."""


def _verdict(connection: Rows, progress: Callable[[int], None]) -> Verdict:
    count = _count(connection, progress)
    findings = [
        *(Finding("a call's kept status is its outcome's", each) for each in count.wrong_status),
        *_rows(connection),
        *_days(connection, count),
        *_totals(connection, count),
        *_callers(connection, count),
    ]
    return Verdict(dict(count.calls), dict(count.without_outcome), findings)


_ROWS: tuple[tuple[str, LiteralString, str], ...] = (
    (
        "an outcome belongs to an intent",
        "SELECT o.server, o.id, o.status FROM outcomes o LEFT JOIN calls c "
        "ON c.server = o.server AND c.id = o.id AND c.kind = 'intent' WHERE c.id IS NULL",
        "{0}: the outcome {2} of {1} has no intent",
    ),
    (
        "no id twice",
        "SELECT server, id, count(*) FROM calls WHERE kind <> 'edge' GROUP BY server, id HAVING count(*) > 1",
        "{0}: {1} is both allowed and refused",
    ),
    (
        "what the edge refused did not run",
        "SELECT c.server, c.id, e.request_id FROM calls e JOIN calls c ON c.request_id = e.request_id "
        "WHERE e.kind = 'edge' AND e.request_id <> '' AND c.kind = 'intent'",
        "{0}: {1} ran as request {2}, which the edge refused",
    ),
)
"""Promises on rows: what is promised, who breaks it, and how that is said."""


def _count(connection: Rows, progress: Callable[[int], None]) -> _Count:
    prices = _prices(connection)
    count = _Count()
    rows = connection.execute(
        "SELECT c.server, c.kind, c.id, c.at_ms, c.release, c.tool, c.sub_type, c.sub, c.status, o.status "
        "FROM calls c LEFT JOIN outcomes o ON c.kind = 'intent' AND o.server = c.server AND o.id = c.id"
    )
    for number, (server, kind, id_, at_ms, release, tool, sub_type, sub, kept, outcome) in enumerate(rows, 1):
        if number % PROGRESS_EVERY == 0:
            progress(number)
        day = at_ms // DAY_MS * DAY_MS
        declared = prices.get((server, release), {})
        name = tool if tool in declared else ""
        if kept != (outcome or ""):
            count.wrong_status.append(
                f"{server}: {id_} is kept as {kept or 'open'}, its outcome is {outcome or 'none'}"
            )
        if kind != "intent":
            count.calls["denied"] += 1
            # Which servers were registered when the edge refused is not in the rows: of those only days are held.
            count.add(*(("", day, "", "edge") if kind == "edge" else (server, day, name, "denied")))
            continue
        count.add(server, day, name, "begun")
        count.calls[outcome or "unknown"] += 1
        if outcome is None:
            count.without_outcome[server] += 1
            continue
        count.add(server, day, name, outcome, declared.get(name, 0) if outcome == "ok" else 0)
        if outcome == "ok":
            count.callers[server].add((sub_type, sub))
            count.callers["*"].add((sub_type, sub))
    return count


def _prices(connection: Rows) -> dict[tuple[str, str], dict[str, int]]:
    """What each release's tools save, in milliseconds. A release that is still to be priced saves nothing yet."""
    prices: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for server, release, name, minutes in connection.execute(
        "SELECT server, release, name, minutes_saved FROM tools"
    ):
        prices[server, release][name] = int(min(minutes, WEEK_MINUTES) * 60_000 + 0.5)
    for server, release in connection.execute("SELECT server, release FROM unpriced"):
        prices.pop((server, release), None)
    return prices


def _rows(connection: Rows) -> Iterator[Finding]:
    for promise, query, words in _ROWS:
        for row in connection.execute(query):
            yield Finding(promise, words.format(*row))


def _days(connection: Rows, count: _Count) -> Iterator[Finding]:
    kept: Counter[tuple[str, int, str, str]] = Counter()
    saved: Counter[tuple[str, int, str, str]] = Counter()
    for server, day, tool, status, calls, saved_ms in connection.execute(
        "SELECT server, day_ms, tool, status, calls, saved_ms FROM usage_days"
    ):
        key = (server if status != "edge" else "", day, tool, status)
        kept[key] += calls
        saved[key] += saved_ms
    for key in sorted(kept.keys() | count.days.keys()):
        if (kept[key], saved[key]) != (count.days[key], count.saved[key]):
            where = f"{key[0] or 'the edge'}, day {key[1] // DAY_MS}, tool {key[2] or '-'}, {key[3]}"
            told = f"{kept[key]} calls and {saved[key]} ms saved are kept"
            yield Finding("days add up", f"{where}: {told}, the rows say {count.days[key]} and {count.saved[key]}")


def _totals(connection: Rows, count: _Count) -> Iterator[Finding]:
    rows: Counter[tuple[str, str]] = Counter()
    saved: Counter[tuple[str, str]] = Counter()
    for key, calls in count.days.items():
        for server in ("*",) if key[3] == "edge" else (key[0], "*"):
            rows[server, key[3]] += calls
            saved[server, key[3]] += count.saved[key]
    kept = {
        (server, status): (calls, saved_ms, callers)
        for server, status, calls, saved_ms, callers in connection.execute(
            "SELECT server, status, calls, saved_ms, callers FROM usage_totals WHERE status <> 'edge' OR server = '*'"
        )
    }
    for server, status in sorted(kept.keys() | rows.keys()):
        callers = len(count.callers[server]) if status == "ok" else 0
        said = (rows[server, status], saved[server, status], callers)
        if (found := kept.get((server, status), (0, 0, 0))) != said:
            where = f"{'all servers' if server == '*' else server}, {status}"
            words = "{} calls, {} ms saved, {} callers"
            yield Finding(
                "totals add up", f"{where}: {words.format(*found)} are kept, the rows say {words.format(*said)}"
            )


def _callers(connection: Rows, count: _Count) -> Iterator[Finding]:
    kept: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for server, sub_type, sub in connection.execute("SELECT server, sub_type, sub FROM usage_callers"):
        kept[server].add((sub_type, sub))
    for server in sorted(kept.keys() | count.callers.keys()):
        if wrong := len(kept[server] ^ count.callers[server]):
            where = "all servers" if server == "*" else server
            yield Finding("every caller is known", f"{where}: {wrong} callers are kept or counted, and not both")
