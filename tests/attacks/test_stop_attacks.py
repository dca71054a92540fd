"""A stop is got round by nothing that a caller or somebody at the disk can do.

Rules (design, Contracts and Rules of trust): an older bundle is never gone back to; deny by default. That a stop's
reason breaks out of no header or body is held in `tests/system/test_edge_life.py`, that it tells nothing of a hidden
tool in `tests/kit/test_stops.py`, that ages are never loosened in `tests/hub/test_edge_standing.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.edge_rig import PRESTO, SCRATCH, Rig, running_edge

pytestmark = pytest.mark.system

STOPPED = PRESTO.model_copy(update={"stopped": "it leaks"})


@pytest.fixture(scope="module")
def edge() -> Iterator[Rig]:
    with running_edge() as rig:
        yield rig


@pytest.fixture
def stopped(edge: Rig) -> Rig:
    edge.publish(STOPPED, SCRATCH)
    edge.answers(403)
    return edge


def test_the_bundle_from_before_the_stop_put_back_does_not_end_it(edge: Rig) -> None:
    edge.publish(PRESTO, SCRATCH)
    edge.answers(200)
    before = edge.home.edge_bundle.read_text()
    edge.publish(STOPPED, SCRATCH)
    edge.answers(403)
    for restarted in (False, True):
        edge.home.edge_bundle.write_text(before)
        if restarted:
            edge.stop_agent()
            edge.start_agent()
        edge.run(edge.agent.refresh())  # type: ignore[union-attr]
        assert edge.call(token=edge.token()).json()["error"]["data"]["reason"] == "server_stopped"


@pytest.mark.parametrize(
    "path", ["/mcp/prod/presto", "/mcp//prod/presto", "/mcp/dev/../prod/presto", "/mcp/prod%2Fpresto"]
)
def test_no_spelling_of_its_path_gets_past_a_stop(stopped: Rig, path: str) -> None:
    arrived = stopped.arrived()
    for method in ("POST", "GET", "DELETE"):
        request = f"{method} {path} HTTP/1.1\r\nhost: localhost:{stopped.port}\r\n"
        request += f"authorization: Bearer {stopped.token()}\r\naccept: text/event-stream, application/json\r\n"
        body = '{"jsonrpc":"2.0","id":1,"method":"ping"}' if method == "POST" else ""
        request += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
        answer = stopped.raw(request.encode())
        assert answer.startswith(b"HTTP/1.1 403")
        assert b"server_stopped" in answer
    assert stopped.arrived() == arrived
