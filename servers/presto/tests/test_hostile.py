"""Nothing that a caller can write gets out of the open tables, or holds the server up."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import copy

import pytest
from hostile import HOSTILE, SLOW_OR_LARGE
from pegboard_presto.build import OPEN_FILE
from pegboard_presto.engine import Engine
from pegboard_presto.limits import Limits
from pegboard_presto.memory import GROWTH_MB, bounded_memory
from pegboard_presto.warehouse import ADS_LIMITS, Warehouse

from pegboard import ToolError
from pegboard.core.manifest import read_manifest

pytestmark = pytest.mark.anyio

INTERNALS = (
    "/tmp",  # noqa: S108 - looked for, not used
    "/root",
    "/work",
    "Traceback",
    "site-packages",
    ".duckdb",
    "read-only mode",
    "lock_configuration",
)


@pytest.fixture
def production_memory() -> Iterator[None]:
    """The ceiling the process has in production."""
    with bounded_memory():
        yield


@pytest.mark.parametrize(("statement"), [pytest.param(sql, id=what) for what, sql in HOSTILE])
async def test_a_hostile_statement_is_refused_at_once_and_learns_nothing(
    warehouse: Warehouse, statement: str
) -> None:
    started = time.monotonic()
    with pytest.raises(ToolError) as refused:
        await warehouse.query(statement, 200)
    assert time.monotonic() - started < 5, "refusing must be cheap"
    text = str(refused.value)
    assert text
    assert not [word for word in INTERNALS if word in text and word not in statement]


@pytest.mark.parametrize(("statement"), [pytest.param(sql, id=what) for what, sql in SLOW_OR_LARGE])
async def test_a_query_without_measure_is_stopped_by_time_or_memory(
    data: Path, tmp_path: Path, production_memory: None, statement: str
) -> None:
    engine = Engine(Path(copy(data / OPEN_FILE, tmp_path)), Limits(seconds=1.0))
    try:
        with pytest.raises(ToolError, match=r"was stopped after 1 s|needs more memory|too long or too deeply nested"):
            await Warehouse(engine, engine).query(statement, 200)
        answer = await Warehouse(engine, engine).query("SELECT count(*) FROM flights", 1)
        assert answer.rows == [[336_776]], "the engine serves the next query"
    finally:
        engine.close()


STUBBORN = """
SELECT levenshtein(x, reverse(x)) FROM (SELECT string_agg(CAST(hash(i) AS VARCHAR), '') AS x FROM range(2000) t(i))
"""
"""Some seconds inside one value, where the engine does not look whether it was interrupted."""


GIVES_UP = """
import os, sys
from pathlib import Path
import anyio
import pegboard_presto.engine as engine
from pegboard import ToolError
from pegboard_presto.limits import Limits

engine.STUBBORN_S = 0.3
broken = []
one = engine.Engine(Path(sys.argv[1]), Limits(seconds=0.1), on_broken=lambda: broken.append("broken"))
try:
    anyio.run(lambda: one.run(lambda _: sys.argv[2], max_rows=1))
except ToolError as error:
    print(error, broken, flush=True)
os._exit(0)
"""
"""In a process of its own, which ends as the server's does: nobody waits for an engine that was given up."""


def test_a_statement_that_nothing_stops_is_given_up_and_the_engine_with_it(data: Path, tmp_path: Path) -> None:
    file = copy(data / OPEN_FILE, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", GIVES_UP, file, STUBBORN], timeout=60, capture_output=True, text=True, check=False
    )
    assert "failed on this query and starts again" in done.stdout, done.stderr
    assert "['broken']" in done.stdout


def test_a_process_whose_engine_broke_ends_whatever_holds_it_up() -> None:
    holds_on = (
        "import signal, threading, pegboard_presto.engine as engine; engine.END_WITHIN_S = 0.1;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); engine._end_process(); threading.Event().wait()"
    )
    ended = subprocess.run([sys.executable, "-c", holds_on], timeout=20, capture_output=True, check=False)
    assert ended.returncode == 1
    assert b"most recent call first" in ended.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "FROM '/etc/passwd'",
        "COPY flights TO '/tmp/pegboard-presto-must-not-exist.csv'",
        "ATTACH '/tmp/pegboard-presto-must-not-exist.db' AS x",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "RESET memory_limit",
        "CREATE TABLE x AS SELECT 1",
        "DELETE FROM flights",
        "SELECT * FROM warehouse",
        "SELECT * FROM ads_revenue",
    ],
)
async def test_the_engine_alone_refuses_even_what_no_guard_has_looked_at(
    warehouse: Warehouse, statement: str
) -> None:
    with pytest.raises(ToolError):
        await warehouse.open.run(lambda _: statement, max_rows=1)


async def test_ads_revenue_is_not_in_the_open_database_at_all(warehouse: Warehouse) -> None:
    found = await warehouse.open.run(
        lambda _: "SELECT table_name FROM information_schema.tables UNION ALL SELECT view_name FROM duckdb_views()",
        max_rows=1000,
    )
    names = {name for (name,) in found.rows}
    assert {"flights", "pg_tables"} <= names
    assert not [name for name in names if "ads" in name or "revenue" in name]


async def test_what_is_hidden_answers_as_what_does_not_exist(warehouse: Warehouse) -> None:
    answers = set()
    for name in ("ads_revenue", "no_such_table_"):
        for ask in (lambda n: warehouse.query("SELECT * FROM " + n, 1), warehouse.describe):  # noqa: S608
            with pytest.raises(ToolError) as refused:
                await ask(name)
            answers.add(str(refused.value).replace(name, "X"))
    assert len(answers) == 1


def test_ads_has_limits_of_its_own() -> None:
    assert ADS_LIMITS.memory_mb < Limits().memory_mb


def test_the_process_refuses_before_the_platform_would_start_it_again() -> None:
    limit = read_manifest(Path(__file__).parents[1]).resources.memory_mb
    assert limit >= GROWTH_MB + 150, "150 MB is what the server uses by itself"


def test_the_ceiling_on_memory_holds_and_is_taken_away_again() -> None:
    with bounded_memory(64), pytest.raises(MemoryError):
        bytearray(128 * 1024 * 1024)
    assert len(bytearray(128 * 1024 * 1024)) == 128 * 1024 * 1024
