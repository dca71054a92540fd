"""A stop at the real Envoy: it refuses with its reason, whoever and whatever is stopped, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from pegboard.core.stops import Stops
from tests.system.edge_rig import GONE, PRESTO, ROBOT, SCRATCH, Rig, running_edge, tool_call, until

pytestmark = pytest.mark.system

WHY = 'grün "100 %" {falsch} <b>%REQ(authorization)%</b> \\ gerechnet'


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running_edge(services=True) as found:
        yield found


@pytest.fixture
def edge(rig: Rig) -> Rig:
    rig.publish(PRESTO, SCRATCH, GONE)
    until(lambda: _calls(rig, "service").status_code == 200, "nothing is stopped")
    return rig


CALLERS: dict[str, tuple[Stops, dict[str, Any], str]] = {
    "surface": (Stops(surfaces={"chat": WHY}), {"surface": "chat"}, "Calls from here are stopped"),
    "client": (
        Stops(clients={"https://x.example/client.json": WHY}),
        {"client_id": "https://x.example/client.json"},
        "The program that you call with is stopped",
    ),
    "person": (Stops(people={"bob": WHY}), {"sub": "bob"}, "Your access is stopped"),
    "service": (Stops(services={ROBOT: WHY}), {}, "This service is stopped"),
    "robots' surface": (Stops(surfaces={"service": WHY}), {}, "Calls from here are stopped"),
}
"""Who is stopped, with what the token of one says whom it is for. The last two call by certificate."""


def _calls(edge: Rig, kind: str, server: str = "prod/presto") -> httpx2.Response:
    claims = CALLERS[kind][1]
    if claims:
        return edge.call(f"/mcp/{server}", edge.token(server, **claims))
    headers = {
        "accept": "application/json, text/event-stream",
        "authorization": f"Bearer {edge.service_token(ROBOT, server)}",
    }
    with edge.service(edge.authority.mint(ROBOT)) as client:
        return client.post(f"/mcp/{server}", headers=headers, json=tool_call())


@pytest.mark.parametrize("kind", CALLERS)
def test_a_stopped_caller_is_refused_with_the_reason_and_nobody_else_is(edge: Rig, kind: str) -> None:
    stops, _, begins = CALLERS[kind]
    assert _calls(edge, kind).status_code == 200
    listener = (edge.home.edge / "lds.json").read_text()
    edge.publish(PRESTO, SCRATCH, GONE, stops=stops)
    response = until(lambda: (r := _calls(edge, kind)).status_code == 403 and r, f"the {kind} is stopped")
    refusal = response.json()["error"]["data"]
    reason = f"{kind.rpartition(' ')[2]}_stopped"
    assert (refusal["code"], refusal["reason"], refusal["layer"]) == ("stopped", reason, "edge")
    assert refusal["message"] == f"{begins}: {WHY}. Ask the operators of Pegboard, who alone can resume it."
    assert response.headers["x-pegboard-refused"] == reason
    assert not any("gerechnet" in value for value in response.headers.values())
    assert _calls(edge, kind, "dev/gone").status_code in (403, 503)
    robots = {"service", "robots' surface"}
    for other in CALLERS.keys() - (robots if kind in robots else {kind}):
        assert _calls(edge, other).status_code == 200
    assert (edge.home.edge / "lds.json").read_text() == listener
    edge.publish(PRESTO, SCRATCH, GONE)
    until(lambda: _calls(edge, kind).status_code == 200, f"the {kind} is resumed")


def test_a_tool_that_is_hidden_from_nobody_is_stopped_at_the_edge_and_another_by_its_server_alone(edge: Rig) -> None:
    stopped = PRESTO.model_copy(
        update={"stopped_tools": {"run_query": WHY, "secret": WHY}, "open_tools": ("run_query",)}
    )
    edge.publish(stopped, SCRATCH)

    def call(tool: str) -> httpx2.Response:
        return edge.call(token=edge.token(), body=tool_call(tool))

    response = until(lambda: (r := call("run_query")).status_code == 403 and r, "the tool is stopped")
    refusal = response.json()["error"]["data"]
    assert (refusal["code"], refusal["reason"], refusal["layer"]) == ("stopped", "tool_stopped", "edge")
    assert refusal["message"].startswith(f"run_query of prod/presto is stopped: {WHY}. Ask platform in #data")
    assert {call(tool).status_code for tool in ("secret", "other", "run_quer", "run_query2")} == {200}
    assert edge.call("/mcp/dev/scratch", edge.token("dev/scratch"), tool_call("run_query")).status_code == 200
    assert edge.call(token=edge.token(), body=tool_call("run_query", "tools/list")).status_code == 200


def test_a_stopped_server_says_so_also_of_a_tool_that_is_stopped(edge: Rig) -> None:
    """The first rule that does not hold refuses, and that of the server comes first."""
    both = {"stopped": "it leaks", "stopped_tools": {"echo": WHY}, "open_tools": ("echo",)}
    edge.publish(PRESTO.model_copy(update=both), SCRATCH)
    response = until(lambda: (r := edge.call(token=edge.token())).status_code == 403 and r, "the server is stopped")
    assert response.json()["error"]["data"]["reason"] == "server_stopped"


def test_a_stop_tells_nothing_to_whom_another_rule_refuses(edge: Rig) -> None:
    stopped = PRESTO.model_copy(update={"stopped_tools": {"echo": "miscounted"}, "open_tools": ("echo",)})
    edge.publish(stopped, SCRATCH, stops=Stops(people={"bob": "lost laptop"}))
    until(lambda: edge.call(token=edge.token()).status_code == 403, "the tool is stopped")
    for token, reason in (
        ("x", "token_invalid"),
        (edge.token("dev/scratch"), "token_wrong_audience"),
        (edge.token(groups=["search-eng"]), "group_not_granted"),
        (edge.token(sub="bob", groups=["search-eng"]), "group_not_granted"),
    ):
        refused = edge.call(token=token)
        assert refused.json()["error"]["data"]["reason"] == reason
        assert "miscounted" not in refused.text
        assert "laptop" not in refused.text
