"""The page of metrics: for the collector alone, of what the tables say, and whole whatever a server sends."""

from __future__ import annotations

import hashlib
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pegboard.core.metrics import SERVER_METRICS, Metric
from pegboard.remote.metrics import ServerMeter
from pegboard_hub.edge.statistics import ROWS, translated
from pegboard_hub.runtime.gathering import samples_of
from pegboard_hub.storage.errors import StorageUnavailable
from pegboard_hub.telemetry.edge_table import AGENT_METRICS, ENVOY_METRICS
from pegboard_hub.telemetry.exposition import Sample, lines, write
from pegboard_hub.telemetry.meter import route_class
from pegboard_hub.telemetry.supervisor_table import ANSWERS, DROPPED, GATHERED, INSTANCE_INFO, SUPERVISOR_METRICS
from pegboard_hub.telemetry.table import HUB_METRICS, ROUTES
from tests.hub.company import Company, Hub, call, denial, edge_refusal

TABLES = (*SERVER_METRICS, *HUB_METRICS, *ENVOY_METRICS, *AGENT_METRICS, *SUPERVISOR_METRICS)
TOKEN = "scrape-token-of-the-test"


def samples(page: str) -> dict[tuple[str, ...], float]:
    """Every figure of a page by name and label values, in the order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


@pytest.fixture
def scraping(company: Company) -> dict[str, str]:
    company.home.scrape_digest.write_text(hashlib.sha256(TOKEN.encode()).hexdigest())
    return {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.anyio
async def test_metrics_are_for_the_collector_alone(company: Company, hub: Hub, scraping: dict[str, str]) -> None:
    assert (await hub.public.get("/metrics", headers=scraping)).status_code == 200
    person = {"Authorization": f"Bearer {await hub.token('pat')}"}
    for headers in ({}, person, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer "}):
        refused = await hub.public.get("/metrics", headers=headers)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        error = refused.json()["error"]
        assert (error["layer"], error["reason"]) == ("hub", "scrape_credential")
        assert "scrape.token" in error["what_to_do"]
    assert (await hub.internal.get("/metrics", headers=scraping)).status_code == 404


@pytest.mark.anyio
@pytest.mark.parametrize("digest", ["", "\n", None])
async def test_without_a_credential_nobody_gets_in(company: Company, hub: Hub, digest: str | None) -> None:
    if digest is not None:
        company.home.scrape_digest.write_text(digest)
    for token in ("", "x"):
        answer = await hub.public.get("/metrics", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401


@pytest.mark.anyio
async def test_page_has_the_hubs_figures_and_what_was_gathered(
    company: Company, hub: Hub, scraping: dict[str, str]
) -> None:
    alone = await hub.public.get("/metrics", headers=scraping)
    assert alone.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "pegboard_gathered" not in alone.text
    company.home.gathered.write_bytes(write([Sample(GATHERED, {}, 1234.0)]))
    found = samples((await hub.public.get("/metrics", headers=scraping)).text)
    assert found["pegboard_gathered_timestamp_seconds",] == 1234
    assert found["pegboard_hub_registry_servers", "deployed"] == 2


@pytest.mark.anyio
async def test_hub_counts_requests_tokens_records_and_their_lag(
    company: Company, hub: Hub, scraping: dict[str, str]
) -> None:
    now = int(time.time() * 1000)
    await hub.api("ana", "servers")
    await hub.public.get("/made/up/path")
    channel = company.open_channel("prod/presto", "r")
    await hub.deliver(channel, *call("one", now - 2_000), denial("two", now), {"kind": "strange"})
    await hub.deliver_edge(edge_refusal("three", now - 500))
    page = (await hub.public.get("/metrics", headers=scraping)).text
    found = samples(page)
    assert found["pegboard_hub_requests_total", "api", "200"] == 1
    assert found["pegboard_hub_requests_total", "other", "404"] == 1
    assert found["pegboard_hub_requests_total", "records", "200"] == 1
    assert found["pegboard_hub_tokens_issued_total", "cli"] == 1
    kinds = {kind: found["pegboard_hub_records_total", kind] for kind in ("intent", "outcome", "denial", "edge")}
    assert set(kinds.values()) == {1}
    assert found["pegboard_hub_records_total", "unreadable"] == 1
    assert found["pegboard_hub_intake_lag_seconds_count", "servers"] == 3
    assert 4 <= found["pegboard_hub_intake_lag_seconds_sum", "servers"] < 60
    assert found["pegboard_hub_database_seconds_count", "write"] >= 2
    assert found["pegboard_hub_database_bytes",] > 0
    assert not re.search(r"\b(ana|fay)\b", page)


@pytest.mark.anyio
async def test_a_disk_that_takes_nothing_is_counted(hub: Hub, scraping: dict[str, str]) -> None:
    with pytest.raises(StorageUnavailable):
        await _fill(hub)
    found = samples((await hub.public.get("/metrics", headers=scraping)).text)
    assert found["pegboard_hub_database_errors_total", "disk"] == 1
    assert found["pegboard_hub_database_refuses_writes",] == 1


async def _fill(hub: Hub) -> None:
    async with hub.parts.database.write() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count=1")
        await connection.exec_driver_sql("CREATE TABLE filler (text TEXT)")
        await connection.exec_driver_sql("INSERT INTO filler VALUES (randomblob(10000000))")


@pytest.mark.anyio
async def test_calls_whose_outcome_never_came_are_shown(company: Company, hub: Hub, scraping: dict[str, str]) -> None:
    now = int(time.time() * 1000)
    channel = company.open_channel("prod/presto", "r")
    lost, running, done = call("lost", now - 3_600_000), call("running", now), call("done", now - 3_600_000)
    await hub.deliver(channel, lost[0], running[0], *done)
    await hub.parts.ledger.tidy()
    assert samples((await hub.public.get("/metrics", headers=scraping)).text)["pegboard_hub_calls_unknown",] == 1


@pytest.mark.anyio
async def test_hub_exports_what_its_table_says_and_nothing_else(hub: Hub, scraping: dict[str, str]) -> None:
    page = (await hub.public.get("/metrics", headers=scraping)).text
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    assert types == {metric.name: metric.kind for metric in HUB_METRICS}


@pytest.mark.parametrize("metric", TABLES, ids=[metric.name for metric in TABLES])
def test_names_follow_prometheus_habits(metric: Metric) -> None:
    assert re.fullmatch(r"pegboard_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(metric.buckets)
    assert metric.help.endswith(".")
    assert not {"sub", "person", "email", "user", "le"} & set(metric.labels)


def test_no_metric_has_two_rows() -> None:
    names = [metric.name for metric in TABLES]
    assert len(names) == len(set(names))


def test_every_metric_of_envoys_is_taken_from_somewhere() -> None:
    assert {row.metric for row in ROWS.values()} == set(ENVOY_METRICS)


@pytest.mark.parametrize(
    ("path", "status", "route"),
    [
        ("/", 200, "pages"),
        ("/servers/prod/presto", 200, "pages"),
        ("/any/thing", 404, "other"),
        ("/api/v1/nothing", 404, "api"),
        ("/oauth/token", 400, "sign-in"),
        ("/internal/v1/records", 200, "records"),
        ("/metrics", 401, "metrics"),
    ],
)
def test_routes_have_few_classes(path: str, status: int, route: str) -> None:
    assert route_class(path, status) == route
    assert route in ROUTES


# What servers say

OWNER = {"server": "dev/scratch"}


def honest() -> bytes:
    meter = ServerMeter(["echo"])
    meter.ended("echo", "cli", "ok", 0.2)
    meter.call_refused("made up", "chat")
    meter.refused("access_denied", "group_not_granted")
    with meter.step("admit"):
        pass
    return meter.page()


def test_an_honest_page_is_taken_over_whole_under_its_servers_name() -> None:
    page = honest().decode()
    found = samples_of(OWNER, page, ["echo"])
    told = [line for line in page.splitlines() if not line.startswith("#")]
    assert len(found) == len(told) + 2
    assert {sample.labels["server"] for sample in found} == {"dev/scratch"}
    written = samples(write(found).decode())
    assert written["pegboard_server_metrics_dropped", "dev/scratch"] == 0
    assert written["pegboard_server_calls_total", "ok", "dev/scratch", "cli", "echo"] == 1
    assert written["pegboard_server_refused_calls_total", "dev/scratch", "chat", "(unknown)"] == 1
    assert written["pegboard_server_call_seconds_bucket", "0.25", "dev/scratch", "echo"] == 1


HOSTILE_LINES = {
    "another server's series": 'pegboard_server_calls_under_way{server="prod/presto"} 9',
    "another table's metric": 'pegboard_process_up{process="hub"} 0',
    "a metric of its own": "my_own_metric 1",
    "a tool nobody declared": 'pegboard_server_calls_total{tool="x1",surface="cli",outcome="ok"} 1',
    "a surface nobody has": 'pegboard_server_calls_total{tool="echo",surface="x",outcome="ok"} 1',
    "a label too many": 'pegboard_server_calls_total{tool="echo",surface="cli",outcome="ok",sub="ana"} 1',
    "a label too few": 'pegboard_server_calls_total{tool="echo",surface="cli"} 1',
    "a label twice": 'pegboard_server_calls_total{tool="echo",tool="echo",surface="cli",outcome="ok"} 1',
    "a bucket of its own": 'pegboard_server_call_seconds_bucket{tool="echo",le="0.3"} 1',
    "a bucket without a bound": 'pegboard_server_call_seconds_bucket{tool="echo"} 1',
    "no number": "pegboard_server_spool_bytes one",
    "not a number": "pegboard_server_spool_bytes NaN",
    "endless": "pegboard_server_spool_bytes +Inf",
    "larger than a number": "pegboard_server_spool_bytes 1e999",
    "less than nothing": "pegboard_server_spool_bytes -1",
    "a time stamp": "pegboard_server_spool_bytes 1 1700000000000",
    "an exemplar": "pegboard_server_spool_bytes 1 # {} 1",
    "other digits": "pegboard_server_spool_bytes \u0663",
    "an escape": 'pegboard_server_calls_total{tool="echo\\n",surface="cli",outcome="ok"} 1',
    "half a line": 'pegboard_server_calls_total{tool="echo',
    "carriage return": "pegboard_server_spool_bytes 1\r",
    "too long": f"pegboard_server_{'x' * 100_000} 1",
}


@pytest.mark.parametrize("line", HOSTILE_LINES.values(), ids=HOSTILE_LINES)
def test_a_line_that_is_not_of_the_table_is_left_out_and_counted(line: str) -> None:
    page = f"pegboard_server_sessions_open 3\n{line}\npegboard_server_bundle_version 4\n"
    written = samples(write(samples_of(OWNER, page, ["echo"])).decode())
    assert written == {
        ("pegboard_server_sessions_open", "dev/scratch"): 3,
        ("pegboard_server_bundle_version", "dev/scratch"): 4,
        ("pegboard_server_metrics_up", "dev/scratch"): 1,
        ("pegboard_server_metrics_dropped", "dev/scratch"): 1,
    }


def test_comments_cannot_change_what_a_metric_is() -> None:
    name = "pegboard_server_spool_bytes"
    page = f"# TYPE {name} histogram\n# HELP {name} \\n\n{name} 1\n"
    text = write(samples_of(OWNER, page, [])).decode()
    assert "# TYPE pegboard_server_spool_bytes gauge" in text
    assert "histogram" not in text


def test_a_series_that_is_told_twice_counts_once() -> None:
    page = "pegboard_server_spool_bytes 1\npegboard_server_spool_bytes 2\n"
    written = samples(write(samples_of(OWNER, page, [])).decode())
    assert written["pegboard_server_spool_bytes", "dev/scratch"] == 1
    assert written["pegboard_server_metrics_dropped", "dev/scratch"] == 1


def test_a_page_of_junk_is_read_quickly_and_to_its_bound() -> None:
    began = time.process_time()
    found = samples_of(OWNER, "x\n" * 500_000 + "pegboard_server_spool_bytes 1\n", [])
    assert time.process_time() - began < 5
    assert [sample.metric for sample in found] == [ANSWERS, DROPPED]


_NAMES = st.sampled_from([name for metric in TABLES for name in metric.samples])
_TEXT = st.text(max_size=20)


@st.composite
def _lines(draw: st.DrawFn) -> str:
    labels = draw(st.lists(st.tuples(st.sampled_from(["tool", "server", "le", "surface", "x"]), _TEXT), max_size=4))
    inside = ",".join(f'{name}="{value}"' for name, value in labels)
    return f"{draw(_NAMES)}{{{inside}}} {draw(st.floats() | st.integers() | _TEXT)}"


@settings(max_examples=60, deadline=None)
@given(page=st.lists(_lines() | _TEXT, max_size=20).map("\n".join))
def test_no_page_breaks_the_whole_or_names_another_server(page: str) -> None:
    text = write([*samples_of(OWNER, page, ["echo"]), *samples_of({"server": "prod/presto"}, None, [])]).decode()
    servers = {s.labels.get("server") for family in text_string_to_metric_families(text) for s in family.samples}
    assert servers == {"dev/scratch", "prod/presto"}
    of_presto = [line for line in text.splitlines() if "prod/presto" in line]
    assert of_presto == [
        'pegboard_server_metrics_up{server="prod/presto"} 0.0',
        'pegboard_server_metrics_dropped{server="prod/presto"} 0.0',
    ]


def test_text_of_ours_is_escaped_when_it_is_written() -> None:
    text = write([Sample(INSTANCE_INFO, {"version": 'a"} 1\nforged 1', "isolation": "off"}, 1)]).decode()
    [family] = text_string_to_metric_families(text)
    assert family.samples[0].labels["version"] == 'a"} 1\nforged 1'


# What Envoy says


ENVOY = """\
# TYPE envoy_http_downstream_rq_xx counter
envoy_http_downstream_rq_xx{envoy_response_code_class="2",envoy_http_conn_manager_prefix="edge"} 17
envoy_http_rbac_allowed{envoy_rbac_http_prefix="grants_",envoy_http_conn_manager_prefix="edge"} 9
envoy_http_rbac_policy_allowed{envoy_rbac_policy_name="00_held",envoy_rbac_http_prefix="grants_"} 6
envoy_http_rbac_policy_allowed{envoy_rbac_policy_name="02_surface",envoy_rbac_http_prefix="grants_"} 2
envoy_http_rbac_policy_allowed{envoy_rbac_policy_name="06_audience",envoy_rbac_http_prefix="grants_"} 1
envoy_http_rbac_denied{envoy_rbac_http_prefix="stopped_",envoy_http_conn_manager_prefix="edge"} 4
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="edge",le="0.5"} 1
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="edge",le="+Inf"} 3
envoy_http_downstream_rq_time_sum{envoy_http_conn_manager_prefix="edge"} 36.867868101731573915458284318447
envoy_http_downstream_rq_time_count{envoy_http_conn_manager_prefix="edge"} 3
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="mcp/prod/presto"} 4
envoy_cluster_upstream_cx_connect_fail{envoy_cluster_name="mcp/prod/presto"} 4
envoy_extension_config_discovery_http_filter_jwt_update_rejected{} 1
envoy_extension_config_discovery_http_filter_grants_update_rejected{} 1
envoy_something_else{} 5
"""


@pytest.fixture
def edge() -> dict[tuple[str, ...], float]:
    return samples(write(translated(lines(ENVOY))).decode())


def test_envoys_figures_have_our_names_labels_and_units(edge: dict[tuple[str, ...], float]) -> None:
    assert edge["pegboard_edge_requests_total", "2xx"] == 17
    rules = {key[1:]: count for key, count in edge.items() if key[0] == "pegboard_edge_rules_total" and count}
    assert rules == {
        ("denied", "audience"): 1,
        ("denied", "surface"): 2,
        ("denied", "stopped"): 1,  # of four, three in the name of rules
        **{("allowed", rule): 8 for rule in ("audience", "scope")},
        **{("allowed", rule): 6 for rule in ("surface", "channel", "group", "sensitivity")},
    }
    assert edge["pegboard_edge_request_seconds_bucket", "0.0005"] == 1
    assert edge["pegboard_edge_request_seconds_count",] == 3
    assert edge["pegboard_edge_request_seconds_sum",] == pytest.approx(0.036867868)
    assert edge["pegboard_edge_server_requests_total", "5xx", "prod/presto"] == 4
    assert edge["pegboard_edge_server_failures_total", "connect", "prod/presto"] == 4
    assert edge["pegboard_edge_config_rejected_total", "filters"] == 2


def test_what_envoy_has_not_counted_stands_at_nothing(edge: dict[tuple[str, ...], float]) -> None:
    assert edge["pegboard_edge_requests_total", "5xx"] == 0
    assert edge["pegboard_edge_rules_total", "allowed", "revoked"] == 0
    assert edge["pegboard_edge_server_failures_total", "timeout", "prod/presto"] == 0
    assert not any("something" in key[0] for key in edge)
