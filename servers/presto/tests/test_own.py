"""People's own tables: written as asked or not at all, kept over restarts, and no harm to anybody else's."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import copy

import anyio
import pytest
from hostile import HOSTILE
from pegboard_presto import changing, own
from pegboard_presto.build import OPEN_FILE
from pegboard_presto.changing import Tables
from pegboard_presto.generations import opened
from pegboard_presto.limits import Limits
from pegboard_presto.own import OwnFile
from pegboard_presto.tables import TABLES
from pegboard_presto.warehouse import Warehouse, open_warehouse

from pegboard import ToolError

pytestmark = pytest.mark.anyio

PER_CARRIER = "SELECT carrier, count(*) AS flights FROM flights GROUP BY carrier"


@asynccontextmanager
async def opened_at_once(data: Path, state: Path, limits: Limits | None = None) -> AsyncIterator[Warehouse]:
    """A warehouse that keeps what people write in `state`, without building the sample tables again."""
    limits = limits or Limits()
    kept = OwnFile(state)
    with tempfile.TemporaryDirectory() as folder:
        copied = copy(data / OPEN_FILE, folder)
        tables = Tables(opened(Path(copied), limits, [], kept.stamp()), limits, kept)
    warehouse = Warehouse(tables, tables.now.engine)
    yield warehouse
    tables.close()


@pytest.fixture
async def writable(data: Path, tmp_path: Path) -> AsyncIterator[Warehouse]:
    """A warehouse that keeps what people write in `tmp_path`."""
    async with opened_at_once(data, tmp_path) as warehouse:
        yield warehouse


async def _rows(warehouse: Warehouse, sql: str) -> list[list[object]]:
    return (await warehouse.query(sql, 200)).rows


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def _state(warehouse: Warehouse) -> dict[str, int]:
    return {name: table.rows for name, table in warehouse.tables.now.tables.items() if name not in TABLES}


async def test_a_table_is_written_read_listed_described_and_dropped(writable: Warehouse) -> None:
    name, before, measured = await writable.overwrite("Per_Carrier", PER_CARRIER, "ana")
    assert (name, before, measured.rows, [c.name for c in measured.columns]) == (
        "per_carrier", 0, 16, ["carrier", "flights"],
    )  # fmt: skip
    assert await _rows(writable, "SELECT sum(flights) FROM per_carrier JOIN airlines USING (carrier)") == [[336_776]]
    assert ["per_carrier", 16] in [[table.name, table.row_count] for table in writable.list().tables]
    described = await writable.describe("per_carrier")
    assert described.comment.startswith("Written by ana, 20")
    assert len(described.sample) == 3
    assert [row[0] for row in await _rows(writable, "DESCRIBE per_carrier")] == ["carrier", "flights"]
    _, before, measured = await writable.overwrite("per_carrier", "SELECT 1 AS x FROM per_carrier", "ana")
    assert (before, measured.rows) == (16, 16)
    assert [table.rows for table in await writable.drop(["per_carrier"])] == [16]
    with pytest.raises(ToolError, match="There is no table 'per_carrier'"):
        await writable.query("SELECT * FROM per_carrier", 1)


async def test_a_dry_run_says_what_would_be_written_and_writes_nothing(writable: Warehouse, tmp_path: Path) -> None:
    name, measured = await writable.would_write("mine", PER_CARRIER)
    assert (name, measured.rows, measured.planned_mb > 0.6) == ("mine", 16, True)
    assert await _state(writable) == {}
    assert not (tmp_path / own.FILE).exists()


async def test_what_was_written_is_there_after_a_restart_and_what_was_dropped_is_not(tmp_path: Path) -> None:
    async with open_warehouse(state=tmp_path) as first:
        for name in ("one", "two", "three"):
            await first.overwrite(name, PER_CARRIER, "ana")
        await first.drop(["two"])
        lists = "SELECT ARRAY[1, 2] AS many, cast(1.50 AS decimal(9, 2)) AS exact, NULL AS nothing, now() AS at"
        await first.overwrite("kinds", lists, "fay")
        before = await _rows(first, "SELECT * FROM kinds")
    async with open_warehouse(state=tmp_path) as again:
        assert await _state(again) == {"one": 16, "three": 16, "kinds": 1}
        assert await _rows(again, "SELECT * FROM kinds") == before
        assert again.tables.now.notes["kinds"].by == "fay"
        assert await _rows(again, "SELECT count(*) FROM flights") == [[336_776]]
    assert _files(tmp_path) == {own.FILE, "own.lock"}


@pytest.mark.parametrize("name", [*TABLES, " Flights "])
async def test_the_sample_tables_are_nobodys_to_change(writable: Warehouse, name: str) -> None:
    for change in (
        writable.overwrite(name, "SELECT 1 AS x", "pat"),
        writable.would_write(name, "SELECT 1 AS x"),
        writable.drop([name]),
    ):
        with pytest.raises(ToolError, match="a table of the warehouse, which nobody may change"):
            await change


@pytest.mark.parametrize(
    "name",
    ["", "1x", "a-b", 'a"b', "a.b", "own.x", "ａds", "x" * 64, "_notes", "a;drop", "pg_tables", "duckdb_tables",
     "select", "table", "values", "a b", "é"],
)  # fmt: skip
async def test_a_name_that_is_more_than_a_name_is_refused(writable: Warehouse, name: str) -> None:
    with pytest.raises(ToolError, match=r"cannot be a table's name|a word of SQL or of the engine"):
        await writable.overwrite(name, "SELECT 1 AS x", "ana")


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT count(*) FROM flights", "needs a name of its own"),
        ("SELECT 1 AS a, 2 AS A", "needs a name of its own"),
        ('SELECT 1 AS "a; DROP TABLE x"', "needs a name of its own"),
        ("SHOW TABLES", "Only a query's rows can be written"),
        ("DESCRIBE flights", "Only a query's rows can be written"),
        ("SELECT cast(now() AS timestamp with time zone) AS at", "cast it to timestamp"),
        ("SELECT 1 AS x; SELECT 2 AS x", "2 statements"),
        ("SELECT a.flight FROM flights a, flights b", "more than 500000 rows"),
        ("SELECT 1 AS x FROM nowhere", "There is no table 'nowhere'"),
    ],
)
async def test_what_cannot_be_written_says_why_and_changes_nothing(writable: Warehouse, sql: str, says: str) -> None:
    for change in (writable.would_write("mine", sql), writable.overwrite("mine", sql, "ana")):
        with pytest.raises(ToolError, match=says):
            await change
    assert await _state(writable) == {}


@pytest.fixture(scope="module")
async def hostile_target(data: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Warehouse]:
    """One warehouse for all that must get nowhere."""
    async with opened_at_once(data, tmp_path_factory.mktemp("state")) as warehouse:
        yield warehouse


@pytest.mark.parametrize(("statement"), [pytest.param(sql, id=what) for what, sql in HOSTILE])
async def test_a_hostile_statement_is_refused_at_the_doors_that_write_too(
    hostile_target: Warehouse, statement: str
) -> None:
    for door in (
        hostile_target.would_write("mine", statement),
        hostile_target.overwrite("mine", statement, "ana"),
        hostile_target.estimate(statement),
    ):
        with pytest.raises(ToolError):
            await door
    assert await _state(hostile_target) == {}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM flights; SELECT 1",
        "CREATE TABLE y AS SELECT 1",
        "DROP TABLE flights",
        "COPY flights TO '/tmp/pegboard-presto-must-not-exist.csv'",
        "ATTACH '/tmp/pegboard-presto-must-not-exist.db' AS x",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM ads_revenue",
    ],
)
async def test_even_past_the_guard_a_written_query_changes_nothing_that_others_read(
    writable: Warehouse, tmp_path: Path, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await writable.overwrite("mine", PER_CARRIER, "ana")
    monkeypatch.setattr(changing.guard, "check", lambda *_: None)
    with pytest.raises(ToolError):
        await writable.tables.overwrite("mine", statement, "ana")
    assert await _state(writable) == {"mine": 16}
    assert await _rows(writable, "SELECT count(*) FROM flights") == [[336_776]]
    assert [note.table for note in own.notes_in(tmp_path / own.FILE)] == ["mine"]


async def test_limits_hold_for_one_table_and_for_all_together(data: Path, tmp_path: Path) -> None:
    async with opened_at_once(data, tmp_path, Limits(own_tables=2, own_mb=1)) as small:
        await small.overwrite("one", PER_CARRIER, "ana")
        await small.overwrite("two", "SELECT tailnum FROM flights LIMIT 100000", "ana")
        with pytest.raises(ToolError, match="There are 2 tables of people's own already"):
            await small.overwrite("three", PER_CARRIER, "ana")
        with pytest.raises(ToolError, match=r"would hold 1\.\d MB together and may hold 1 MB"):
            await small.overwrite("one", "SELECT tailnum FROM flights LIMIT 100000", "ana")
        await small.overwrite("two", PER_CARRIER, "ana")
        assert await _state(small) == {"one": 16, "two": 16}


async def test_one_of_many_tables_that_is_not_there_keeps_all(writable: Warehouse) -> None:
    await writable.overwrite("one", PER_CARRIER, "ana")
    with pytest.raises(ToolError, match="There is no table 'two'"):
        await writable.drop(["one", "two"])
    assert await _state(writable) == {"one": 16}


async def test_what_somebody_else_wrote_a_moment_ago_is_not_overwritten(
    writable: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    await writable.overwrite("shared", PER_CARRIER, "fay")
    with pytest.raises(ToolError, match="fay wrote shared a moment ago"):
        await writable.overwrite("shared", "SELECT 1 AS x", "ana")
    monkeypatch.setattr(changing, "MOMENT_S", 0)
    await writable.overwrite("shared", "SELECT 1 AS x", "ana")
    assert await _state(writable) == {"shared": 1}


async def test_writers_and_readers_at_once_each_see_whole_tables(writable: Warehouse) -> None:
    await writable.overwrite("shared", "SELECT 0 AS round FROM flights LIMIT 1000", "ana")
    seen: set[tuple[object, ...]] = set()

    async def write(number: int) -> None:
        await writable.overwrite("shared", f"SELECT {number} AS round FROM flights LIMIT 1000", "ana")  # noqa: S608
        await writable.overwrite("mine_" + str(number), PER_CARRIER, "ana")

    async def look() -> None:
        for _ in range(20):
            [row] = await _rows(writable, "SELECT min(round), max(round), count(*) FROM shared")
            seen.add(tuple(row))

    async with anyio.create_task_group() as group:
        for number in range(1, 5):
            group.start_soon(write, number)
        group.start_soon(look)
    assert {(low == high, count) for low, high, count in seen} == {(True, 1000)}
    assert await _state(writable) == {"shared": 1000, **{f"mine_{number}": 16 for number in range(1, 5)}}


async def test_two_processes_of_the_server_do_not_lose_each_others_tables(
    built_before: None, data: Path, tmp_path: Path
) -> None:
    async with opened_at_once(data, tmp_path) as old, opened_at_once(data, tmp_path) as new:
        await old.overwrite("from_old", PER_CARRIER, "ana")
        await new.overwrite("from_new", PER_CARRIER, "ana")
        assert await _state(new) == {"from_old": 16, "from_new": 16}
        await old.drop(["from_new"])
        assert await _state(old) == {"from_old": 16}


async def test_a_writer_that_waits_too_long_for_another_process_is_told(
    writable: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "LOCK_S", 0.1)
    with OwnFile(tmp_path).locked(), pytest.raises(ToolError, match="Somebody else is changing tables"):
        await writable.overwrite("mine", PER_CARRIER, "ana")
    await writable.overwrite("mine", PER_CARRIER, "ana")


@pytest.mark.parametrize("step", ["copy", "own", "sync", "replace"])
async def test_a_full_disk_changes_nothing_whatever_step_it_stops(
    writable: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await writable.overwrite("mine", PER_CARRIER, "ana")
    kept = (tmp_path / own.FILE).read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        match step:
            case "copy":
                patched.setattr("pegboard_presto.generations.shutil.copyfileobj", full)
            case "own":
                patched.setattr("pegboard_presto.own.duckdb.connect", full)
            case "sync":
                patched.setattr("pegboard_presto.own.os.fsync", full)
            case "replace":
                patched.setattr("pathlib.Path.replace", full)
        with pytest.raises(ToolError, match="The server's disk takes no more: nothing was changed"):
            await writable.overwrite("mine", "SELECT 1 AS x", "ana")
    assert await _state(writable) == {"mine": 16}
    assert (tmp_path / own.FILE).read_bytes() == kept
    assert _files(tmp_path) == {own.FILE, "own.lock"}
    await writable.overwrite("mine", "SELECT 1 AS x", "ana")
    assert await _state(writable) == {"mine": 1}


IN_A_PROCESS_OF_ITS_OWN = """
import anyio, resource, signal, sys
from pathlib import Path
from pegboard import ToolError
from pegboard_presto.warehouse import open_warehouse
async def main():
    async with open_warehouse(state=Path(sys.argv[1])) as warehouse:
        {body}
anyio.run(main)
"""


def _process(state: Path, body: str) -> subprocess.Popen[str]:
    code = IN_A_PROCESS_OF_ITS_OWN.format(body=textwrap.indent(textwrap.dedent(body), " " * 8).strip())
    return subprocess.Popen([sys.executable, "-c", code, str(state)], stdout=subprocess.PIPE, text=True)


def test_a_disk_that_really_takes_no_more_changes_nothing(tmp_path: Path) -> None:
    with _process(
        tmp_path,
        """
        await warehouse.overwrite("mine", "SELECT 1 AS x", "ana")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (11 * 2**20 + 2**18, resource.RLIM_INFINITY))
        try:
            await warehouse.overwrite("mine", "SELECT md5(tailnum) AS x, md5(dest) AS y FROM flights", "ana")
        except ToolError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print((await warehouse.query("SELECT * FROM mine", 1)).rows)
        await warehouse.overwrite("mine", "SELECT 2 AS x", "ana")
        print((await warehouse.query("SELECT * FROM mine", 1)).rows)
        """,
    ) as process:
        told, _ = process.communicate(timeout=60)
    assert told.splitlines()[0].startswith("The server's disk takes no more: nothing was changed.")
    assert told.splitlines()[1:] == ["[[1]]", "[[2]]"]


@pytest.mark.parametrize("killed_after_ms", [0, 60, 250])
async def test_a_server_that_is_killed_in_the_middle_of_a_write_has_the_old_table_or_the_new(
    tmp_path: Path, killed_after_ms: int
) -> None:
    with _process(
        tmp_path,
        """
        await warehouse.overwrite("mine", "SELECT 0 AS round FROM flights LIMIT 100000", "ana")
        print("ready", flush=True)
        number = 0
        while True:
            number += 1
            sql = "SELECT " + str(number) + " AS round FROM flights LIMIT 100000"
            await warehouse.overwrite("mine", sql, "ana")
            print(number, flush=True)
        """,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        await anyio.sleep(killed_after_ms / 1000)  # the moment is the point
        process.send_signal(signal.SIGKILL)
        said = [int(line) for line in process.stdout.read().split()]
    async with open_warehouse(state=tmp_path) as again:
        [[low, high, count]] = await _rows(again, "SELECT min(round), max(round), count(*) FROM mine")
        assert (low, count) == (high, 100_000)
        assert int(str(low)) >= (said or [0])[-1], "what was said to be written is written"
        await again.overwrite("mine", "SELECT 1 AS x", "ana")
    assert _files(tmp_path) == {own.FILE, "own.lock"}


async def test_a_writer_that_is_cancelled_leaves_all_or_nothing(writable: Warehouse) -> None:
    for milliseconds in range(0, 400, 40):
        with anyio.move_on_after(milliseconds / 1000):
            await writable.overwrite("mine", "SELECT md5(tailnum) AS x FROM flights LIMIT 50000", "ana")
        assert await _state(writable) in ({}, {"mine": 50_000})
    await writable.overwrite("mine", "SELECT 1 AS x", "ana")
    assert await _state(writable) == {"mine": 1}


async def test_a_file_that_is_none_keeps_the_server_from_starting_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / own.FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(Exception, match=r"restore .*own\.duckdb from a backup, or move it away"):
        async with open_warehouse(state=tmp_path):
            pass


async def test_a_query_under_way_reads_on_in_the_tables_it_began_with(writable: Warehouse) -> None:
    await writable.overwrite("mine", "SELECT flight FROM flights LIMIT 2000", "ana")
    counted: list[object] = []

    async def slow() -> None:
        counted.extend(await _rows(writable, "SELECT count(*) FROM mine a, mine b, mine c WHERE a.flight < b.flight"))

    async with anyio.create_task_group() as group:
        group.start_soon(slow)
        await anyio.sleep(0.2)
        await writable.drop(["mine"])
    assert len(counted) == 1
