"""The tools that ask people first: what they show, what runs after a yes, and that nothing runs without."""

from pathlib import Path
from typing import Any

import duckdb
import pytest
from mcp_types import CallToolResult, ElicitRequestParams, ElicitRequestURLParams, ElicitResult
from pegboard_presto import changing
from pegboard_presto.own import Note, OwnFile

from pegboard.core.approval import State
from pegboard.core.refusal import META_KEY
from pegboard.testing import InMemoryHub

pytestmark = pytest.mark.anyio

PER_CARRIER = "SELECT carrier, count(*) AS flights FROM flights GROUP BY carrier"
WIDE = " UNION ALL ".join(f"SELECT * FROM flights WHERE distance > {least}" for least in range(12))  # noqa: S608
MANY = [f"t{number}" for number in range(1, 9)]


@pytest.fixture(params=["modern", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    """Both protocol eras."""
    return str(request.param)


async def _yes(_context: Any, params: ElicitRequestParams) -> ElicitResult:
    """An agent's client: it says yes to every form, and that it has opened every page."""
    if isinstance(params, ElicitRequestURLParams):
        return ElicitResult(action="accept")
    return ElicitResult(action="accept", content=dict.fromkeys(params.requested_schema["properties"], True))


async def _no(_context: Any, params: ElicitRequestParams) -> ElicitResult:
    return ElicitResult(action="decline")


def _code(result: CallToolResult) -> str:
    return str(((result.meta or {}).get(META_KEY) or {}).get("code", ""))


def _text(result: CallToolResult) -> str:
    return "\n".join(getattr(block, "text", "") for block in result.content)


async def _tables(client: Any) -> dict[str, int]:
    listed = (await client.call_tool("list_tables", {})).structured_content["tables"]
    return {table["name"]: table["row_count"] for table in listed if table["comment"].startswith("Written by")}


def _written_by_ana(state: Path, names: list[str]) -> None:
    """Tables of 16 rows, as a process of the server's wrote them long ago."""
    with duckdb.connect(state / "source.duckdb") as source:
        for name in names:
            source.execute(f"CREATE TABLE {name} AS SELECT * FROM range(16)")  # noqa: S608
    OwnFile(state).write(state / "source.duckdb", [Note(name, "ana", 0) for name in names])


async def test_a_cheap_query_runs_at_once_and_an_expensive_one_after_its_caller_said_yes(
    hub: InMemoryHub, era: str
) -> None:
    async with hub.client("fay", groups=["finance"], era=era) as client:
        cheap = await client.call_tool("run_expensive_query", {"sql": "SELECT count(*) FROM flights"})
        assert cheap.structured_content["rows"] == [[336_776]]
        assert hub.approvals.asks == []
        wide = {"sql": WIDE, "max_rows": 5}
        refused = await client.call_tool("run_query", wide)
        assert "run_expensive_query, which asks a person first" in _text(refused)
        assert _code(await client.call_tool("run_expensive_query", wide)) == "approval_pending"
        [request] = hub.approvals.requests
        assert request.requirement.by == "caller"
        assert request.preview is not None
        assert "3" in request.preview.cost
        assert request.preview.cost.endswith("MB read; queries that are not asked about read 256 MB")
        assert request.preview.blocks[0].kind == "sql"
        hub.approvals.approve()
        ran = await client.call_tool("run_expensive_query", wide)
        assert ran.structured_content["row_count"] == 5
    assert request.state is State.DONE


async def test_nobody_is_asked_for_what_may_not_run_at_all(hub: InMemoryHub, era: str) -> None:
    beyond = " UNION ALL ".join([f"({WIDE})"] * 7)
    async with hub.client("ana", groups=["ads-eng"], era=era) as client:
        for tool, arguments, says in (
            ("run_expensive_query", {"sql": beyond}, "may read 2048 MB"),
            ("run_expensive_query", {"sql": "SELECT * FROM ads_revenue"}, "no table 'ads_revenue'"),
            ("run_expensive_query", {"sql": "DROP TABLE flights"}, "DROP is not offered"),
            ("overwrite_table", {"table": "flights", "sql": "SELECT 1 AS x"}, "nobody may change"),
            ("overwrite_table", {"table": "mine", "sql": "SELECT * FROM ads_revenue"}, "no table 'ads_revenue'"),
            ("overwrite_table", {"table": "mine", "sql": "SELECT count(*) FROM flights"}, "needs a name of its own"),
            ("drop_tables", {"tables": ["flights"]}, "nobody may change"),
            ("drop_tables", {"tables": ["nothing"]}, "There is no table 'nothing'"),
            ("drop_tables", {"tables": ["a", " A"]}, "twice"),
        ):
            result = await client.call_tool(tool, arguments)
            assert result.is_error, tool
            assert says in _text(result), (tool, arguments, _text(result))
    assert hub.approvals.asks == []


async def test_a_caller_confirms_in_a_form_and_the_table_is_written(hub: InMemoryHub, era: str) -> None:
    asked: list[str] = []

    async def look_and_accept(context: Any, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        return await _yes(context, params)

    async with hub.client("ana", groups=["ads-eng"], era=era, elicit=look_and_accept) as client:
        arguments = {"table": "late", "sql": PER_CARRIER}
        written = await client.call_tool("overwrite_table", arguments)
        assert not written.is_error, _text(written)
        assert (written.structured_content["rows_before"], written.structured_content["rows"]) == (0, 16)
        assert 'Overwrite "late"?' in asked[0]
        assert "Write 16 rows and 2 columns to table late; there is none so far." in asked[0]
        again = await client.call_tool("overwrite_table", {"table": "late", "sql": "SELECT 1 AS x"})
        assert (again.structured_content["rows_before"], again.structured_content["rows"]) == (16, 1)
        assert "its 16 rows, written by ana, are gone" in asked[1]
        await client.call_tool("overwrite_table", {"table": "late", "sql": "SELECT 2 AS x"})
        assert "Write 1 row and 1 column to table late; its 1 row, written by ana, is gone." in asked[2]
        assert "less than 0.1 MB read, less than 0.1 MB kept" in asked[2]
        assert await _tables(client) == {"late": 1}


async def test_a_caller_who_says_no_or_can_show_no_form_has_nothing_written(hub: InMemoryHub, era: str) -> None:
    arguments = {"table": "late", "sql": PER_CARRIER}
    async with hub.client("ana", groups=["ads-eng"], era=era, elicit=_no) as client:
        assert _code(await client.call_tool("overwrite_table", arguments)) == "confirmation_refused"
    async with hub.client("ana", groups=["ads-eng"], era=era) as client:
        assert _code(await client.call_tool("overwrite_table", arguments)) == "approval_pending"
        assert await _tables(client) == {}


async def test_another_ones_table_is_overwritten_once_the_owner_said_yes_whatever_the_client_answers(
    hub: InMemoryHub, era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changing, "MOMENT_S", 0)
    async with hub.client("ana", groups=["ads-eng"], elicit=_yes) as ana:
        await ana.call_tool("overwrite_table", {"table": "shared", "sql": PER_CARRIER})
    seen = len(hub.approvals.requests)
    other = {"table": "shared", "sql": "SELECT 1 AS x"}
    async with hub.client("ben", groups=["data-infra"], era=era, elicit=_yes) as ben:
        await ben.call_tool("overwrite_table", other)
        [request] = hub.approvals.requests[seen:]
        assert (request.kind, request.requirement.by, request.state) == ("approval", "owner", State.REQUESTED)
        assert await _tables(ben) == {"shared": 16}
        hub.approvals.approve(request)
        written = await ben.call_tool("overwrite_table", other)
        assert (written.structured_content["rows_before"], written.structured_content["rows"]) == (16, 1)


async def test_a_table_that_another_process_of_the_server_wrote_is_anothers_at_once(
    hub: InMemoryHub, era: str, tmp_path: Path
) -> None:
    async with hub.client("ben", groups=["data-infra"], era=era, elicit=_yes) as ben:
        assert await _tables(ben) == {}
        _written_by_ana(tmp_path, ["shared"])
        await ben.call_tool("overwrite_table", {"table": "shared", "sql": "SELECT 1 AS x"})
        [request] = hub.approvals.requests
        assert (request.kind, request.requirement.by, request.state) == ("approval", "owner", State.REQUESTED)
        assert await _tables(ben) == {"shared": 16}


async def test_of_eight_tables_proposed_the_owner_approves_five_and_five_are_dropped(
    hub: InMemoryHub, era: str, tmp_path: Path
) -> None:
    _written_by_ana(tmp_path, MANY)
    async with hub.client("ana", groups=["ads-eng"], era=era, elicit=_yes) as client:
        assert _code(await client.call_tool("drop_tables", {"tables": MANY})) == "approval_pending"
        requests = hub.approvals.requests
        assert [request.arguments["tables"] for request in requests] == [[name] for name in MANY]
        assert all(request.requirement.by == "owner" for request in requests)
        assert requests[0].preview is not None
        assert requests[0].preview.what == "Drop table t1 with 16 rows. Nobody can bring it back."
        hub.approvals.approve(*requests[:5])
        hub.approvals.reject(*requests[5:], why="still read by finance")
        result = await client.call_tool("drop_tables", {"tables": MANY})
        assert [table["table"] for table in result.structured_content["dropped"]] == MANY[:5]
        assert _text(result).count("still read by finance") == 3
        assert await _tables(client) == dict.fromkeys(MANY[5:], 16)
    assert {request.state for request in requests[:5]} == {State.DONE}


async def test_whoever_may_not_write_does_not_even_see_the_tools_that_do(hub: InMemoryHub) -> None:
    async with hub.client("fay", groups=["finance"]) as client:
        assert {"overwrite_table", "drop_tables"}.isdisjoint(tool.name for tool in (await client.list_tools()).tools)
        result = await client.call_tool("drop_tables", {"tables": ["t1"]})
    assert result.is_error
    assert hub.approvals.asks == []


async def test_sql_arguments_say_that_they_are_sql(hub: InMemoryHub) -> None:
    async with hub.client("ana", groups=["ads-eng"]) as client:
        schemas = {tool.name: tool.input_schema for tool in (await client.list_tools()).tools}
    for name in ("run_query", "run_expensive_query", "overwrite_table"):
        assert schemas[name]["properties"]["sql"]["contentMediaType"] == "application/sql"
