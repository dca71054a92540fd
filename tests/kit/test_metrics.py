"""What a server counts: everything that happened, by names that are bounded, and nobody's name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pegboard import Server, authorize_tool
from pegboard.core.errors import BundleRefused, StopsUnknown
from pegboard.core.metrics import CODES, OTHER, OUTCOMES, REASONS, SERVER_METRICS, STEPS
from pegboard.core.record import Outcome
from pegboard.remote.metrics import ServerMeter
from pegboard.remote.spool import Spool, SpoolReader
from pegboard.testing import InMemoryHub

KIT = Path(__file__).resolve().parents[2] / "kit" / "src" / "pegboard"


def figures(page: bytes) -> dict[tuple[str, ...], float]:
    """Every figure of a page by name and label values, in the order of the labels' names."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            found[sample.name, *(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_calls_count_by_tool_surface_and_outcome(hub: InMemoryHub, era: str) -> None:
    async with hub.client("ana", groups=["ads-eng"], era=era) as client:
        for _ in range(2):
            await client.call_tool("echo", {"text": "hello"})
        await client.call_tool("fail", {"how": "crash"})
        await client.call_tool("fail", {"how": "kindly"})
        open_now = figures(hub.meter.page())["pegboard_server_sessions_open",]
    found = figures(hub.meter.page())
    calls = "pegboard_server_calls_total"
    assert {key: value for key, value in found.items() if key[0] == calls} == {
        (calls, "ok", "cli", "echo"): 2,
        (calls, "crashed", "cli", "fail"): 1,
        (calls, "tool_error", "cli", "fail"): 1,
    }
    assert found["pegboard_server_call_seconds_count", "echo"] == 2
    assert found["pegboard_server_calls_under_way",] == 0
    assert open_now == (1 if era == "legacy" else 0)
    assert found["pegboard_server_step_seconds_count", "intent"] == 4
    steps = {step: found["pegboard_server_step_seconds_count", step] for step in STEPS}
    assert steps.pop("approve") == 0  # of tools alone that may need one
    assert min(steps.values()) >= 4


@pytest.mark.anyio
async def test_refused_calls_count_and_names_nobody_has_make_one_series(hub: InMemoryHub) -> None:
    async with hub.client("fay", groups=["finance"]) as client:
        await client.call_tool("revenue", {})
        for number in range(30):
            await client.call_tool(f"made_up_{number}", {})
    found = figures(hub.meter.page())
    refused = "pegboard_server_refused_calls_total"
    assert {key: value for key, value in found.items() if key[0] == refused} == {
        (refused, "cli", "revenue"): 1,
        (refused, "cli", "(unknown)"): 30,
    }
    assert found["pegboard_server_refusals_total", "tool_unavailable", "tool_unavailable"] == 31


@pytest.mark.anyio
async def test_refused_requests_count_by_reason_and_name_nobody(hub: InMemoryHub) -> None:
    async with hub.http() as http:
        path = hub.name.path
        await http.post(path, headers=hub.headers("gus"), json={})
        await http.post(path, headers=hub.headers("gus") | {"authorization": "Bearer nonsense"}, json={})
        await http.post(path, headers=hub.headers("ana", ["ads-eng"]), content=b"x" * (4 * 2**20 + 1))
        page = (await http.get("/metrics")).content
    found = figures(page)
    for code, reason in (
        ("access_denied", "group_not_granted"),
        ("unauthenticated", "token_invalid"),
        ("request_too_large", "request_too_large"),
    ):
        assert found["pegboard_server_refusals_total", code, reason] == 1
    assert b"gus" not in page
    assert b"ana" not in page.replace(b"unauthenticated", b"")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "reason"), [(BundleRefused("too old"), "bundle_unusable"), (StopsUnknown("too old"), "stops_unknown")]
)
async def test_what_cannot_be_decided_is_counted_too(
    hub: InMemoryHub, monkeypatch: pytest.MonkeyPatch, error: BundleRefused, reason: str
) -> None:
    def current(_now: float) -> NoReturn:
        raise error

    monkeypatch.setattr(hub.standings, "current", current)
    async with hub.http(hub.headers("ana", ["ads-eng"])) as http:
        assert (await http.post(hub.name.path, json={})).status_code == 503
    assert figures(hub.meter.page())["pegboard_server_refusals_total", "unavailable", reason] == 1


@pytest.mark.anyio
async def test_a_call_under_way_is_seen_until_it_ends(project: Path) -> None:
    server, seen = Server(), list[float]()

    @server.tool()
    @authorize_tool(policy="granted")
    async def look() -> str:
        """Look at the metrics from within."""
        seen.append(figures(hub.meter.page())["pegboard_server_calls_under_way",])
        return "seen"

    hub = InMemoryHub(project, server)
    async with hub.client("ana", groups=["ads-eng"]) as client:
        await client.call_tool("look", {})
    assert seen == [1]
    assert figures(hub.meter.page())["pegboard_server_calls_under_way",] == 0


def test_table_and_page_name_the_same_metrics() -> None:
    page = ServerMeter(["echo"]).page().decode()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    assert types == {metric.name: metric.kind for metric in SERVER_METRICS}
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", page, re.MULTILINE))
    assert helps == {metric.name: metric.help for metric in SERVER_METRICS}


def test_what_the_table_does_not_know_counts_as_other() -> None:
    meter = ServerMeter(["echo"])
    meter.refused("new_code", "new_reason")
    meter.ended("echo", "new_surface", "new_outcome", 0.1)
    found = figures(meter.page())
    assert found["pegboard_server_refusals_total", OTHER, OTHER] == 1
    assert found["pegboard_server_calls_total", OTHER, OTHER, "echo"] == 1


def test_every_refusal_and_outcome_of_the_kit_is_in_the_table() -> None:
    text = "".join(path.read_text() for part in ("call", "core", "transport") for path in (KIT / part).glob("*.py"))
    assert set(re.findall(r'\bcode="([a-z_]+)"', text)) <= set(CODES)
    assert set(re.findall(r'\breason="([a-z_]+)"', text)) <= set(REASONS)
    assert set(re.findall(r'Disagreement\("([a-z_]+)"', text)) <= set(REASONS)
    assert set(OUTCOMES) == set(Outcome.model_fields["status"].annotation.__args__)  # type: ignore[union-attr]


def test_undelivered_bytes_are_what_the_hub_has_not_acknowledged(tmp_path: Path) -> None:
    spool, reader = Spool(tmp_path, b"k"), SpoolReader(tmp_path)
    assert reader.undelivered_bytes() == 0
    sizes = []
    for number in range(3):
        spool.write(Outcome(id=f"call-{number}", at_ms=1, status="ok", duration_ms=1))
        sizes.append(reader.undelivered_bytes())
    batch = reader.next(limit=2)
    assert batch is not None
    reader.acknowledge(batch)
    assert reader.undelivered_bytes() == sizes[2] - sizes[1]
    spool.close()


@pytest.mark.anyio
async def test_metrics_are_read_and_nothing_else(hub: InMemoryHub) -> None:
    async with hub.http() as http:
        assert (await http.get("/metrics")).status_code == 200
        for method, path in (("POST", "/metrics"), ("GET", "/metrics/"), ("GET", f"{hub.name.path}/metrics")):
            assert (await http.request(method, path)).status_code == 404
