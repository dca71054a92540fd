"""A running instance tells what its tables say, and one call can be followed through all logs."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from docs.generate.metrics import exported
from pegboard.core.metrics import SERVER_METRICS
from pegboard.core.names import ServerName
from pegboard_hub.telemetry.edge_table import AGENT_METRICS, ENVOY_METRICS
from pegboard_hub.telemetry.supervisor_table import SUPERVISOR_METRICS
from pegboard_hub.telemetry.table import HUB_METRICS
from tests.attacks.wire import MODERN, modern
from tests.system.instance import REPOSITORY, Instance
from tests.system.promtool import needs_promtool, promtool

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

T = TypeVar("T")
TABLES = {
    metric.name: metric
    for metric in (*SERVER_METRICS, *HUB_METRICS, *ENVOY_METRICS, *AGENT_METRICS, *SUPERVISOR_METRICS)
}
RULES = REPOSITORY / "deploy" / "prometheus" / "rules.yml"
SQL = "SELECT count(*) FROM flights"


def until(condition: Callable[[], T], what: str, limit_s: float = 60) -> T:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {limit_s} s: {what}")


def scrape(pegboard: Instance) -> str:
    """The page, as a collector gets it."""
    token = pegboard.home.scrape_token.read_text()
    answer = httpx2.get(f"{pegboard.public_url}/metrics", headers={"authorization": f"Bearer {token}"}, timeout=15)
    assert answer.status_code == 200, answer.text
    return answer.text


def figures(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(page)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def figure(page: str, name: str, **labels: str) -> float:
    """Of all series that have these labels among theirs, together."""
    found = figures(page).items()
    return sum(value for (of, has), value in found if of == name and labels.items() <= dict(has).items())


COUNTED: list[tuple[str, dict[str, str]]] = [
    (
        "pegboard_server_calls_total",
        {"server": "prod/presto", "tool": "run_query", "surface": "cli", "outcome": "ok"},
    ),
    (
        "pegboard_server_refused_calls_total",
        {"server": "prod/presto", "tool": "get_revenue_metrics", "surface": "cli"},
    ),
    ("pegboard_edge_rules_total", {"rule": "audience", "decision": "denied"}),
    ("pegboard_edge_request_seconds_count", {}),  # which Envoy sums up every five seconds
]
"""What the calls below count in each part, which is asked at a moment of its own."""


@pytest.fixture(scope="module")
def page(pegboard: Instance) -> str:
    """A page that was gathered after a call that ran, one that a server refused and one that the edge refused."""
    before = scrape(pegboard)
    ask(pegboard, "ana", "run_query", sql=SQL)
    ask(pegboard, "fay", "get_revenue_metrics")
    modern(pegboard, pegboard.token("ana", "dev/scratch"), "tools/list")
    httpx2.post(f"{pegboard.public_url}/mcp/dev/scratch", json={})

    def gathered() -> str:
        found = scrape(pegboard)
        return found if all(figure(found, name, **of) > figure(before, name, **of) for name, of in COUNTED) else ""

    return until(gathered, "the calls are in the metrics")


def ask(pegboard: Instance, person: str, tool: str, **arguments: Any) -> httpx2.Response:
    return modern(pegboard, pegboard.token(person), "tools/call", {"name": tool, "arguments": arguments})


def test_instance_exports_what_the_tables_say_and_nothing_else(page: str) -> None:
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    assert types == {metric.name: metric.kind for metric in TABLES.values()}
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", page, re.MULTILINE))
    assert helps == {metric.name: metric.help for metric in TABLES.values()}
    assert len(re.findall(r"^# TYPE", page, re.MULTILINE)) == len(types)


def test_every_series_has_the_labels_of_its_table(page: str) -> None:
    samples = {name: metric for metric in TABLES.values() for name in metric.samples}
    for name, labels in figures(page):
        assert {label for label, _ in labels} - {"le"} == set(exported(samples[name])), name


def test_no_series_names_a_person(page: str) -> None:
    values = {value for _, labels in figures(page) for _, value in labels}
    assert not values & {"ana", "fay", "sam", "pat", "gus"}
    assert "@" not in "".join(values)


def test_figures_tell_of_each_part(page: str) -> None:
    for process in ("hub", "edge", "prober", "prod/presto", "dev/scratch"):
        assert figure(page, "pegboard_process_up", process=process) == 1
        assert figure(page, "pegboard_process_memory_bytes", process=process) > 2**20
        assert figure(page, "pegboard_process_cpu_seconds_total", process=process) > 0
    assert figure(page, "pegboard_server_metrics_up", server="prod/presto") == 1
    assert figure(page, "pegboard_server_metrics_dropped", server="prod/presto") == 0
    refused = {"server": "prod/presto", "tool": "get_revenue_metrics", "surface": "cli"}
    assert figure(page, "pegboard_server_refused_calls_total", **refused) >= 1
    assert figure(page, "pegboard_edge_tokens_total", verdict="bad") >= 1
    assert figure(page, "pegboard_edge_rules_total", rule="audience", decision="denied") >= 1
    assert figure(page, "pegboard_edge_server_requests_total", **{"server": "prod/presto", "class": "2xx"}) >= 2
    assert figure(page, "pegboard_edge_config_rejected_total", source="filters") == 0
    age = time.time() - figure(page, "pegboard_server_bundle_issued_timestamp_seconds", server="dev/scratch")
    assert 0 <= age < figure(page, "pegboard_server_bundle_max_age_seconds", server="dev/scratch")


@needs_promtool
def test_page_is_what_prometheus_wants(page: str) -> None:
    assert promtool("check", "metrics", stdin=page) == ""


def test_credential_is_the_operators_alone(pegboard: Instance) -> None:
    assert stat.S_IMODE(pegboard.home.scrape_token.stat().st_mode) == 0o600
    assert stat.S_IMODE(pegboard.home.gathered.stat().st_mode) == 0o400
    assert pegboard.home.scrape_token.read_text() not in pegboard.home.log("hub").read_text()


def test_command_shows_what_was_gathered_without_asking_the_hub(pegboard: Instance) -> None:
    command = [sys.executable, "-m", "pegboard.cli", "metrics", "--home", str(pegboard.home.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert figure(done.stdout, "pegboard_process_up", process="hub") == 1
    assert "pegboard_hub_" not in done.stdout
    assert done.stderr == ""


def test_command_says_when_nothing_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pegboard.cli", "metrics", "--home", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 5
    assert "no instance runs" in done.stderr


# Alerts


@needs_promtool
def test_alert_rules_are_well_formed() -> None:
    assert "SUCCESS" in promtool("check", "rules", str(RULES))


@needs_promtool
def test_example_configuration_is_well_formed(tmp_path: Path) -> None:
    text = (RULES.parent / "prometheus.yml").read_text()
    credential = tmp_path / "pegboard.token"
    credential.write_text("token")
    (tmp_path / "rules.yml").write_text(RULES.read_text())
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/pegboard.token", str(credential)))
    assert "SUCCESS" in promtool("check", "config", str(tmp_path / "prometheus.yml"))


@needs_promtool
def test_alerts_fire_when_they_should_and_not_before() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(REPOSITORY / "tests" / "system" / "alerts.yml"))


def test_alerts_speak_of_metrics_that_exist() -> None:
    samples = {name for metric in TABLES.values() for name in metric.samples}
    named = set(re.findall(r"\bpegboard_[a-z_]+", RULES.read_text()))
    assert named <= samples
    assert len(named) > 10


# One call, everywhere


def lines_of(log: Path, **wanted: str) -> list[dict[str, Any]]:
    """The whole lines of a log that have these fields."""
    found = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in found if all(line.get(name) == value for name, value in wanted.items())]


@pytest.mark.parametrize(("tool", "status"), [("run_query", "ok"), ("no_such_tool", "denied")])
@pytest.mark.parametrize("where", ["header", "meta", "none"])
def test_one_call_is_found_by_request_and_by_trace_in_every_log_and_in_the_ledger(
    pegboard: Instance, where: str, tool: str, status: str
) -> None:
    trace = f"{time.time_ns():032x}"
    parent = f"00-{trace}-{'b' * 16}-01"
    params: dict[str, Any] = {"name": tool, "arguments": {"sql": SQL}}
    headers = {"traceparent": parent} if where == "header" else {}
    if where == "meta":
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "traceparent": parent,
        }
    answer = modern(pegboard, pegboard.token("ana"), "tools/call", params, **headers)
    assert answer.status_code == 200, answer.text
    ids = {"request_id": answer.headers["x-request-id"]}
    ids["trace_id"] = trace if where != "none" else ids["request_id"].replace("-", "")

    [edge] = until(lambda: lines_of(pegboard.home.edge_access_log, **ids), "the call is in the edge's log")
    assert (edge["server"], edge["tool"], edge["sub"]) == ("prod/presto", tool, "ana")
    if status == "denied":  # of an allowed call a server's log says nothing, unless it crashes or its author does
        presto = pegboard.home.log(ServerName("prod", "presto"))
        [server] = until(lambda: lines_of(presto, **ids), "the refusal is in the server's log")
        assert (server["server"], server["tool"]) == ("prod/presto", tool)
        assert (server["sub"], server["surface"]) == ("ana", "cli")
    for by in ("request_id", "trace_id"):
        [call] = until(lambda by=by: in_ledger(pegboard, by, ids[by], status), f"it is in the ledger by {by}")  # type: ignore[misc]
        assert (call["request_id"], call["trace_id"]) == (ids["request_id"], ids["trace_id"])
        assert (call["tool"], call["status"]) == (tool, status)


def in_ledger(pegboard: Instance, by: str, value: str, status: str) -> list[dict[str, Any]]:
    headers = {"authorization": f"Bearer {pegboard.token('ana', 'api')}"}
    query = {by: value}
    answer = httpx2.get(f"{pegboard.public_url}/api/v1/calls", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["calls"]
    return [call for call in found if call["status"] == status]


def test_a_refusal_of_the_edge_has_the_callers_trace_in_the_ledger(pegboard: Instance) -> None:
    trace = f"{time.time_ns():032x}"
    token = pegboard.token("ana", "dev/scratch", "chat")
    headers = {"authorization": f"Bearer {token}", "traceparent": f"00-{trace}-{'b' * 16}-01"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {}}}
    accept = {"accept": "application/json, text/event-stream"}
    answer = httpx2.post(f"{pegboard.public_url}/mcp/dev/scratch", json=body, headers=headers | accept)
    assert answer.status_code == 403

    def found() -> list[dict[str, Any]]:
        api = {"authorization": f"Bearer {pegboard.token('ana', 'api')}"}
        answer = httpx2.get(f"{pegboard.public_url}/api/v1/calls", params={"trace_id": trace}, headers=api)
        return list(answer.json()["calls"])

    [call] = until(found, "the refusal is in the ledger")
    assert (call["server"], call["request_id"]) == ("dev/scratch", answer.headers["x-request-id"])


def test_the_logs_of_hub_and_servers_are_json_lines(pegboard: Instance) -> None:
    names: list[str | ServerName] = ["hub", "prober", ServerName("prod", "presto"), ServerName("dev", "scratch")]
    for name in names:
        for line in lines_of(pegboard.home.log(name)):
            assert {"at", "level", "logger", "message"} <= line.keys()
