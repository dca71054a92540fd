"""prod/presto asks people first, on a whole instance: an agent calls through the edge, people answer in a browser."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult
from playwright.sync_api import Browser, Page

from pegboard.core.refusal import META_KEY
from tests.system.instance import Instance, running, statuses
from tests.system.test_runtime_up import until

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("presto-approvals"), pytest.mark.heavy]

SERVER = "prod/presto"
PER_CARRIER = "SELECT carrier, count(*) AS flights FROM flights GROUP BY carrier"
WIDE = " UNION ALL ".join(f"SELECT * FROM flights WHERE distance > {least}" for least in range(12))  # noqa: S608
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def pegboard(browser: Browser) -> Iterator[Instance]:
    """An instance of its own: people here change what others would read."""
    with running() as found:
        yield found


@pytest.fixture(params=["modern", pytest.param("legacy", marks=pytest.mark.heavy)])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent with its person's token; `answers` is what it says to forms, and without one it can show none."""

    pegboard: Instance
    person: str
    era: str
    answers: str = ""
    server: str = SERVER

    def call(self, tool: str, **arguments: Any) -> CallToolResult:
        """Call a tool, in a connection of its own."""
        # The browser holds this thread's event loop.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._call(tool, arguments)).result()

    async def _call(self, tool: str, arguments: dict[str, Any]) -> CallToolResult:
        headers = {"authorization": f"Bearer {self.pegboard.token(self.person, self.server)}"}
        async with httpx2.AsyncClient(headers=headers, timeout=120) as http:
            transport = streamable_http_client(f"{self.pegboard.public_url}/mcp/{self.server}", http_client=http)
            mode = "legacy" if self.era == "legacy" else "auto"
            async with Client(
                transport, mode=mode, elicitation_callback=self._elicit if self.answers else None
            ) as to:
                return await to.call_tool(tool, arguments)

    async def _elicit(self, _context: Any, params: ElicitRequestParams) -> ElicitResult:
        fields = dict.fromkeys(getattr(params, "requested_schema", {}).get("properties", {}), True)
        return ElicitResult(action=self.answers, content=fields if self.answers == "accept" else None)  # type: ignore[arg-type]

    def own_tables(self) -> dict[str, int]:
        """People's own tables, with their rows."""
        listed = rows_of(self.call("list_tables"))["tables"]
        return {each["name"]: each["row_count"] for each in listed if each["comment"].startswith("Written by")}


def code(result: CallToolResult) -> str:
    """Why a call did not run; empty where it did."""
    return str((result.meta or {}).get(META_KEY, {}).get("code", ""))


def waits(result: CallToolResult) -> str:
    """The page where people decide on a call that waits for them."""
    assert code(result) == "approval_pending", result
    assert result.structured_content is not None
    return str(result.structured_content["approval"]["page"])


def signed_in(browser: Browser, page_url: str, person: str) -> Page:
    """A person's own browser, which opens a link, signs in, and is where the link leads."""
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(page_url)
    page.click(f"button[value={person}]")
    page.wait_for_url(f"{page_url}**")
    return page


def decides(browser: Browser, page_url: str, person: str, press: str = "", ticks: int = 0, why: str = "") -> str:
    """What a person sees before they decide; then they press a button of that name."""
    page = signed_in(browser, page_url, person)
    seen = page.inner_text("#main")
    for box in page.locator("input[name^='tick:']").all()[:ticks]:
        box.check()
    if why:
        page.fill("#why", why)
    if press:
        page.get_by_role("button", name=press, exact=True).click()
        page.wait_for_url("**done=*")
    page.context.close()
    return seen


def rows_of(result: CallToolResult) -> Any:
    assert not result.is_error, result
    assert result.structured_content is not None
    return result.structured_content


def test_a_cheap_query_runs_at_once_and_a_dear_one_once_its_caller_said_yes_in_a_browser(
    pegboard: Instance, browser: Browser, era: str
) -> None:
    fay = Agent(pegboard, "fay", era)
    assert rows_of(fay.call("run_expensive_query", sql="SELECT count(*) FROM flights"))["rows"] == [[336_776]]
    dear = {"sql": WIDE, "max_rows": 7}
    page = waits(fay.call("run_expensive_query", **dear))
    seen = decides(browser, page, "fay", "Approve")
    assert "MB read" in seen
    assert "SELECT * FROM flights WHERE distance > 11" in seen.replace("\n", " ")
    assert rows_of(fay.call("run_expensive_query", **dear))["row_count"] == 7
    answers: list[CallToolResult] = []

    def asks_anew() -> bool:
        # Until the hub has the outcome, the yes is told to be another call's.
        answers.append(fay.call("run_expensive_query", **dear))
        return code(answers[-1]) == "approval_pending"

    until(asks_anew)
    assert {code(each) for each in answers} <= {"approval_pending", "approval_claimed"}
    assert waits(answers[-1]) != page, "a yes is good for one run"


def test_a_table_is_written_once_its_caller_confirmed_in_a_form_or_on_the_page(
    pegboard: Instance, browser: Browser, era: str
) -> None:
    table = f"late_{era}"
    declines, accepts, mute = (Agent(pegboard, "ana", era, answer) for answer in ("decline", "accept", ""))
    assert declines.call("overwrite_table", table=table, sql=PER_CARRIER).is_error
    assert table not in mute.own_tables()
    assert rows_of(accepts.call("overwrite_table", table=table, sql=PER_CARRIER))["rows"] == 16
    assert mute.own_tables()[table] == 16
    fewer = {"table": table, "sql": "SELECT 1 AS one"}
    page = waits(mute.call("overwrite_table", **fewer))
    assert "its 16 rows, written by ana, are gone" in decides(browser, page, "ana", "Approve")
    written = rows_of(mute.call("overwrite_table", **fewer))
    assert (written["rows_before"], written["rows"]) == (16, 1)


def test_of_eight_tables_the_owner_approves_five_which_are_dropped_and_the_rest_outlives_the_server(
    pegboard: Instance, browser: Browser, era: str
) -> None:
    names = [f"{era}_{number}" for number in range(1, 9)]
    accepts, ana = Agent(pegboard, "ana", era, "accept"), Agent(pegboard, "ana", era)
    for name in names:
        assert rows_of(accepts.call("overwrite_table", table=name, sql=PER_CARRIER))
    page = waits(ana.call("drop_tables", tables=names))
    press = "Approve the ticked ones, reject the others"
    seen = decides(browser, page, "pat", press, ticks=5, why="finance reads these")
    assert seen.count("Nobody can bring it back") == 8
    result = ana.call("drop_tables", tables=names)
    assert [each["table"] for each in rows_of(result)["dropped"]] == names[:5]
    assert str(result.content).count("finance reads these") == 3
    left = dict.fromkeys(names[5:], 16)
    assert {name: rows for name, rows in ana.own_tables().items() if name in names} == left
    killed = pid_of(pegboard)
    os.kill(killed, signal.SIGKILL)
    until(lambda: pid_of(pegboard) not in (0, killed) and statuses(pegboard.home)[SERVER] == "live")
    assert {name: rows for name, rows in ana.own_tables().items() if name in names} == left


def test_whoever_may_not_decide_sees_no_button_and_an_agents_token_decides_nothing(
    pegboard: Instance, browser: Browser
) -> None:
    assert rows_of(Agent(pegboard, "ana", "modern", "accept").call("overwrite_table", table="kept", sql=PER_CARRIER))
    ana = Agent(pegboard, "ana", "modern")
    page = waits(ana.call("drop_tables", tables=["kept"]))
    assert "Yes or no?" not in decides(browser, page, "ana"), "not one's own, where the owner decides"
    for server in ("api", SERVER):
        headers = {"authorization": f"Bearer {pegboard.token('ana', server)}"}
        answer = httpx2.post(f"{page}/decide", data={"verdict": "all"}, headers=headers)
        assert answer.status_code >= 300
    assert waits(ana.call("drop_tables", tables=["kept"])) == page
    assert ana.own_tables()["kept"] == 16


def pid_of(pegboard: Instance) -> int:
    """The process id of the server; 0 while it has none."""
    document = json.loads(pegboard.home.status.read_text(encoding="utf-8"))
    return next((each["pid"] or 0 for each in document["processes"] if each["name"] == SERVER), 0)
