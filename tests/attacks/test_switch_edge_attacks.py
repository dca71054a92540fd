"""The switch at the real Envoy: no reason breaks out of an answer, and nothing a caller sends gets round a stop.

Rules (design, Rules of trust): a caller's identity headers never survive; an older bundle is never gone back to;
a hidden tool answers as one that does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from pegboard.core.stops import Stops
from tests.attacks.test_switch_attacks import MARKUP
from tests.system.edge_rig import PRESTO, SCRATCH, Rig, running_edge, tool_call, until

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def edge() -> Iterator[Rig]:
    with running_edge() as rig:
        yield rig


@pytest.mark.parametrize("why", MARKUP)
def test_a_reason_is_text_in_the_answer_and_in_no_header(edge: Rig, why: str) -> None:
    edge.publish(PRESTO, SCRATCH, stops=Stops(people={"ana": why}))
    message = f"Your access is stopped: {why}. Ask the operators of Pegboard, who alone can resume it."
    response = until(
        lambda: (r := edge.call(token=edge.token())).status_code == 403 and _message(r) == message and r,
        "it is stopped for this reason",
    )
    assert set(response.json()["error"]["data"]) == {
        "code",
        "message",
        "layer",
        "reason",
        "what_to_do",
        "request_id",
    }
    assert not any(why in value for value in response.headers.values())


@pytest.mark.parametrize(
    "lie",
    [
        {"x_pegboard_sub": "ana"},
        {"x_pegboard_surface": "cli"},
        {"x_pegboard_client_id": "pegboard-cli"},
        {"x_forwarded_user": "ana"},
        {"x-pegboard-sub": "ana", "X-PEGBOARD-SUB": "fay"},
    ],
)
def test_no_header_makes_one_who_is_stopped_somebody_else(edge: Rig, lie: dict[str, str]) -> None:
    stops = Stops(people={"mallory": "it leaks"}, surfaces={"ide": "closed"}, clients={"bad": "blocked"})
    edge.publish(PRESTO, SCRATCH, stops=stops)
    for claims, reason in (
        ({"sub": "mallory"}, "person_stopped"),
        ({"surface": "ide"}, "surface_stopped"),
        ({"client_id": "bad"}, "client_stopped"),
    ):
        until(lambda: edge.call(token=edge.token(**claims)).status_code == 403, "it is stopped")  # noqa: B023
        refused = edge.call(token=edge.token(**claims), **lie)
        assert refused.json()["error"]["data"]["reason"] == reason
    # And nobody is made the one who is stopped.
    assert edge.call(token=edge.token(), x_pegboard_sub="mallory").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        tool_call("run_query"),
        json.dumps(tool_call("run_query")).replace("run_query", "run\\u005fquery"),
        json.dumps(tool_call("run_query")).replace('"name": ', '"name"   :\n '),
    ],
)
def test_no_spelling_of_a_tools_name_gets_past_its_stop(edge: Rig, body: Any) -> None:
    stopped = PRESTO.model_copy(update={"stopped_tools": {"run_query": "it leaks"}, "open_tools": ("run_query",)})
    edge.publish(stopped, SCRATCH)
    until(lambda: edge.call(token=edge.token(), body=tool_call("run_query")).status_code == 403, "stopped")
    arrived = edge.arrived()
    assert edge.call(token=edge.token(), body=body).status_code in (400, 403)
    assert edge.arrived() == arrived


def test_the_edge_tells_no_stop_of_a_tool_that_may_be_hidden(edge: Rig) -> None:
    stopped = PRESTO.model_copy(update={"stopped_tools": {"secret": "it leaks"}, "open_tools": ()})
    edge.publish(stopped, SCRATCH)
    until(lambda: edge.call(token=edge.token(), body=tool_call("run_query")).status_code == 200, "resumed")
    answers = [edge.call(token=edge.token(), body=tool_call(name)) for name in ("secret", "no_such")]
    assert {(a.status_code, a.text) for a in answers} == {(200, '{"upstream": "prod/presto"}')}


def test_the_bundle_from_before_the_stop_put_back_does_not_end_it(edge: Rig) -> None:
    edge.publish(PRESTO, SCRATCH)
    until(lambda: edge.call(token=edge.token()).status_code == 200, "nothing is stopped")
    before = edge.home.edge_bundle.read_text()
    edge.publish(PRESTO, SCRATCH, stops=Stops(people={"ana": "it leaks"}))
    until(lambda: edge.call(token=edge.token()).status_code == 403, "it is stopped")
    edge.home.edge_bundle.write_text(before)
    edge.run(edge.agent.refresh())  # type: ignore[union-attr]
    assert edge.call(token=edge.token()).json()["error"]["data"]["reason"] == "person_stopped"


def _message(response: httpx2.Response) -> str:
    return str(response.json()["error"]["data"]["message"])
