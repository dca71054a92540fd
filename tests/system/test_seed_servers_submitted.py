"""The seed servers go the way of any author's project: submitted to an instance that is not the one whose index their
lock files name, live, and called through the edge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.system.instance import REPOSITORY, Instance, running
from tests.system.submitted import copied, moved, submitted
from tests.system.test_presto_approvals import PER_CARRIER, WIDE, Agent, code, decides, rows_of, waits

pytestmark = [pytest.mark.system, pytest.mark.heavy, pytest.mark.xdist_group("seeds-submitted")]


@pytest.fixture(scope="module")
def pegboard(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance that has no server, and then has the seed servers."""
    grants: Path = tmp_path_factory.mktemp("grants") / "grants.toml"
    grants.write_text("# what there is was submitted\n")
    with running("--grants", str(grants), expected={"hub", "edge", "prober"}) as instance:
        presto = moved(copied(REPOSITORY / "servers" / "presto", grants.parent / "presto"), instance)
        said = submitted(instance, presto, "pat")
        assert "dev/presto is live" in said
        assert "warning" not in said, said
        # Whatever index a lock file has the kit from, a release is made with the instance's own.
        assert "dev/scratch is live" in submitted(instance, REPOSITORY / "servers" / "scratch", "pat", "--no-check")
        yield instance


def test_presto_answers_whom_its_policies_let_in(pegboard: Instance) -> None:
    ana, fay = (Agent(pegboard, person, "modern", server="dev/presto") for person in ("ana", "fay"))
    assert rows_of(fay.call("run_query", sql="SELECT count(*) FROM flights"))["rows"] == [[336_776]]
    assert rows_of(ana.call("get_revenue_metrics"))["total"]
    assert code(fay.call("get_revenue_metrics")) == "tool_unavailable"
    assert code(fay.call("drop_tables", tables=["late"])) == "tool_unavailable"


def test_a_dear_query_waits_for_its_callers_yes_in_a_browser(pegboard: Instance, browser: Browser) -> None:
    fay = Agent(pegboard, "fay", "modern", server="dev/presto")
    assert rows_of(fay.call("run_expensive_query", sql="SELECT count(*) FROM flights"))["row_count"] == 1
    dear = {"sql": WIDE, "max_rows": 7}
    page = waits(fay.call("run_expensive_query", **dear))
    assert "MB read" in decides(browser, page, "fay", "Approve")
    assert rows_of(fay.call("run_expensive_query", **dear))["row_count"] == 7


def test_a_table_is_overwritten_once_its_caller_confirmed_and_dropped_once_its_owner_did(
    pegboard: Instance, browser: Browser
) -> None:
    declines, accepts, mute = (
        Agent(pegboard, "ana", "modern", answer, server="dev/presto") for answer in ("decline", "accept", "")
    )
    assert declines.call("overwrite_table", table="late", sql=PER_CARRIER).is_error
    assert "late" not in mute.own_tables()
    assert rows_of(accepts.call("overwrite_table", table="late", sql=PER_CARRIER))["rows"] == 16
    page = waits(mute.call("drop_tables", tables=["late"]))
    assert "Nobody can bring it back" in decides(browser, page, "pat", "Approve")
    assert [each["table"] for each in rows_of(mute.call("drop_tables", tables=["late"]))["dropped"]] == ["late"]
    assert "late" not in mute.own_tables()


def test_scratch_answers_every_employee_group_and_nobody_else(pegboard: Instance) -> None:
    sam = Agent(pegboard, "sam", "modern", server="dev/scratch")
    assert rows_of(sam.call("echo", text="hello")) == {"result": "hello"}
    assert "1 of at most 100" in str(rows_of(sam.call("note", text="x")))
