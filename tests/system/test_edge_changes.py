"""The edge while it ends, and while it is told what it cannot use."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from pegboard_hub.common.home import replace_file
from pegboard_hub.edge.command import DRAIN_S, drain
from pegboard_hub.edge.config import ROUTES
from pegboard_hub.edge.filters import file_of
from pegboard_hub.edge.rules import COMPILERS
from pegboard_hub.telemetry.edge_table import EDGE_CONFIG_REJECTED
from tests.system.edge_rig import DEADLINE_S, GONE, PRESTO, ROBOT, SCRATCH, Rig, running_edge, tool_call, until


@pytest.fixture
def edge() -> Iterator[Rig]:
    with running_edge(services=True) as rig:
        yield rig


@pytest.fixture(scope="module")
def steady() -> Iterator[Rig]:
    """One that goes on."""
    with running_edge() as rig:
        yield rig


def by_token(edge: Rig) -> httpx2.Response:
    return edge.call("/mcp/prod/presto", edge.token(), tool_call("hold"))


def by_certificate(edge: Rig) -> httpx2.Response:
    headers = {
        "authorization": f"Bearer {edge.service_token(ROBOT)}",
        "accept": "application/json, text/event-stream",
    }
    with edge.service(edge.authority.mint(ROBOT)) as client:
        return client.post("/mcp/prod/presto", json=tool_call("hold"), headers=headers, timeout=DEADLINE_S)


@pytest.mark.parametrize("call", [by_token, by_certificate])
def test_a_call_under_way_ends_and_no_new_connection_is_taken_while_the_edge_winds_up(
    edge: Rig, call: Callable[[Rig], httpx2.Response]
) -> None:
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(call, edge)
        until(lambda: edge.presto.arrivals, "the call is under way")
        ending = pool.submit(edge.run, drain(edge.home))
        until(lambda: refused(edge.port) and refused(edge.mtls_port), "the ports are closed")
        assert not ending.done()
        edge.presto.release.set()
        assert held.result(DEADLINE_S).status_code == 200
        ending.result(DEADLINE_S)


def test_a_stream_that_stays_open_holds_up_the_end_for_so_long_and_no_longer(edge: Rig) -> None:
    headers = {"authorization": f"Bearer {edge.token()}"}
    with edge.client() as client, client.stream("GET", "/mcp/prod/presto", headers=headers):
        began = time.monotonic()
        edge.run(drain(edge.home, 0.5))
        assert 0.5 <= time.monotonic() - began < DRAIN_S
    edge.presto.release.set()


def test_an_edge_that_is_gone_is_not_waited_for(edge: Rig) -> None:
    edge.stop_envoy(kill=True)
    began = time.monotonic()
    edge.run(drain(edge.home))
    assert time.monotonic() - began < DRAIN_S


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def rejected(edge: Rig) -> float:
    assert edge.agent is not None
    return sum(sample.value for sample in edge.run(edge.agent.metrics()) if sample.metric is EDGE_CONFIG_REJECTED)


@pytest.mark.parametrize("name", [ROUTES, file_of("grants"), file_of("rate_person"), file_of("jwt")])
def test_a_configuration_that_is_no_good_is_rejected_counted_and_the_one_before_serves(
    steady: Rig, name: str
) -> None:
    path, before = steady.home.edge / name, rejected(steady)
    good = path.read_text()
    document = json.loads(good)
    document["version_info"] = "bad"
    document["resources"][0]["no_such_field"] = 1
    replace_file(path, json.dumps(document))
    until(lambda: rejected(steady) > before, "Envoy counted it")
    assert steady.call(token=steady.token()).status_code == 200
    assert steady.call(token=steady.token(groups=["strangers"])).status_code == 403
    assert steady.call().status_code == 401
    replace_file(path, good)


def test_what_envoy_does_not_take_is_told_until_it_takes_the_next(
    steady: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pegboard_hub.edge.publish.ACKNOWLEDGED_WITHIN_S", 0.5)
    with monkeypatch.context() as patched:
        patched.setitem(COMPILERS, "group", broken)
        steady.publish(PRESTO, SCRATCH)
        until(lambda: steady.agent is not None and steady.agent.faults, "it is told")
        assert steady.agent is not None
        assert steady.agent.faults == ("Envoy refused ecds-grants.json and goes on with the one before",)
        assert steady.call(token=steady.token()).status_code == 200
    steady.publish(PRESTO, SCRATCH, GONE)
    until(lambda: not (steady.agent and steady.agent.faults), "it is told no more")


def broken(_: object) -> list[list[dict[str, object]]]:
    return [[{"no_such_rule": True}]]
