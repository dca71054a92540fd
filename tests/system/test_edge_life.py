"""The edge over time: grants change under running calls, the hub goes away, Envoy and the agent are restarted."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import mcp
import pytest
from mcp.client.streamable_http import streamable_http_client

from pegboard.core.acknowledgement import Acknowledgement
from pegboard.core.bundle import MAX_AGE_S, STOPS_MAX_AGE_S
from pegboard.core.jose import Jwk, new_private_key
from pegboard.core.refusal import JSONRPC_CODE
from pegboard_hub.common.rotation import KEPT
from pegboard_hub.edge.command import envoy_command, ready
from tests.system.edge_rig import (
    DEADLINE_S,
    GONE,
    PRESTO,
    SCRATCH,
    Rig,
    Upstream,
    bundled,
    running_edge,
    tool_call,
    until,
)

pytestmark = pytest.mark.system


@pytest.fixture
def edge() -> Iterator[Rig]:
    with running_edge() as rig:
        yield rig


class TestGrantsChange:
    def test_a_change_reaches_envoy_without_touching_running_calls(self, edge: Rig) -> None:
        sam = edge.token(sub="sam", groups=["search-eng"])
        assert edge.call(token=sam).status_code == 403
        with _in_flight(edge, "POST") as call, _in_flight(edge, "GET") as stream:
            listener = (edge.home.edge / "lds.json").read_text()
            edge.publish(PRESTO.model_copy(update={"groups": ("search-eng", "brand-new-team")}), SCRATCH, GONE)
            edge.answers(200, sam)
            edge.answers(403)
            assert edge.call(token=edge.token(groups=["brand-new-team"])).status_code == 200
            assert (edge.home.edge / "lds.json").read_text() == listener
            assert not call.ended
            assert not stream.ended
            edge.presto.release.set()
        assert call.text.endswith('{"upstream": "prod/presto"}')
        assert stream.text.endswith('{"upstream": "prod/presto"}')

    def test_a_withdrawn_server_ends_its_running_call_in_peace(self, edge: Rig) -> None:
        with _in_flight(edge, "POST") as call:
            edge.publish(SCRATCH)
            until(lambda: edge.call(token=edge.token()).status_code == 404, "the server is gone")
            until(lambda: "prod/presto" not in (edge.home.edge / "cds.json").read_text(), "so is its cluster")
            assert not call.ended
            edge.presto.release.set()
        assert call.text.endswith('{"upstream": "prod/presto"}')

    def test_a_new_server_never_answers_half_configured(self, edge: Rig) -> None:
        arrived = Upstream("prod/new")
        edge.serve(arrived, edge.socket("prod/new"))
        statuses: list[int] = []
        token = edge.token("prod/new")
        edge.publish(PRESTO, SCRATCH, bundled("prod/new", ("ads-eng",), ("cli",)))

        def answered() -> bool:
            statuses.append(edge.call("/mcp/prod/new", token).status_code)
            return statuses[-1] == 200

        until(answered, "the new server answers")
        assert set(statuses[:-1]) <= {404}, "between unknown and known there was something else"

    def test_a_change_is_live_in_two_seconds(self, edge: Rig) -> None:
        sam = edge.token(sub="sam", groups=["search-eng"])
        took_s = []
        for groups, status in ((("search-eng",), 200), (("ads-eng",), 403), (("search-eng",), 200)):
            edge.publish(PRESTO.model_copy(update={"groups": groups}), SCRATCH)
            began = time.monotonic()
            until(lambda status=status: edge.call(token=sam).status_code == status, f"sam gets a {status}")  # type: ignore[misc]
            took_s.append(time.monotonic() - began)
        assert min(took_s) < 2  # what a busy machine adds to one of them is not the edge's

    def test_a_new_signing_key_needs_no_new_listener(self, edge: Rig) -> None:
        listener = (edge.home.edge / "lds.json").read_text()
        old = edge.token()
        edge.key = new_private_key()
        edge.publish(PRESTO, SCRATCH)
        until(lambda: edge.call(token=edge.token()).status_code == 200, "the new key counts")
        until(lambda: edge.call(token=old).status_code == 401, "the old one does not")
        assert (edge.home.edge / "lds.json").read_text() == listener

    def test_a_rotation_of_keys_ends_no_call_and_a_removed_key_is_not_remembered(self, edge: Rig) -> None:
        before, coming = edge.key, new_private_key()
        old, early = edge.token(), edge.token(key=coming)
        assert edge.call(token=old).status_code == 200
        assert edge.call(token=early).status_code == 401
        with _in_flight(edge, "POST") as call, _in_flight(edge, "GET") as stream:
            edge.others = [coming]
            edge.publish(PRESTO, SCRATCH)
            edge.answers(200, early)
            edge.key, edge.others = coming, [before]
            edge.publish(PRESTO, SCRATCH)
            assert [edge.call(token=each).status_code for each in (old, early)] == [200, 200]
            edge.others = []
            edge.publish(PRESTO, SCRATCH)
            edge.answers(401, old)  # although it had verified
            assert edge.call(token=early).status_code == 200
            assert not call.ended
            assert not stream.ended
            edge.presto.release.set()
        assert call.text.endswith('{"upstream": "prod/presto"}')
        assert stream.text.endswith('{"upstream": "prod/presto"}')


class TestAcknowledgements:
    def test_a_bundle_is_acknowledged_once_envoy_uses_its_keys(self, edge: Rig) -> None:
        coming = new_private_key()
        edge.others = [coming]
        edge.publish(PRESTO, SCRATCH)
        word = until(lambda: _acknowledged(edge, coming), "the next key is acknowledged")
        assert edge.call(token=edge.token(key=coming)).status_code == 200
        assert set(word.token_keys) == {edge.key["kid"], coming["kid"]}
        assert word.bundle_keys == (word.signed_by,)

    def test_without_envoy_and_without_the_hub_nothing_is_acknowledged_until_they_are_back(self, edge: Rig) -> None:
        until(lambda: edge.door.acknowledged, "the first bundle is acknowledged")
        coming = new_private_key()
        edge.stop_envoy(kill=True)
        edge.others = [coming]
        edge.publish(PRESTO, SCRATCH)
        until(lambda: coming["kid"] in (edge.home.edge / "ecds-jwt.json").read_text(), "the files are there")
        assert edge.run(edge.agent._publisher.used()) is False  # type: ignore[union-attr]
        edge.door.status = 503
        edge.start_envoy()
        assert _acknowledged(edge, coming) is None
        edge.door.status = 200
        until(lambda: _acknowledged(edge, coming), "it is acknowledged")
        assert edge.call(token=edge.token(key=coming)).status_code == 200


def _acknowledged(edge: Rig, key: Jwk) -> Acknowledgement | None:
    """The acknowledgement of a bundle with this key."""
    return next((word for word in edge.door.acknowledged if key["kid"] in word.token_keys), None)


class TestTrustInTheBundle:
    def test_a_bundle_by_somebody_else_changes_nothing(self, edge: Rig) -> None:
        good = edge.home.edge_bundle.read_text()
        head, _, signature = good.split(".")
        edge.publish(SCRATCH)
        other_body = edge.home.edge_bundle.read_text().split(".")[1]
        edge.answers(404)
        edge.home.edge_bundle.write_text(f"{head}.{other_body[:-4]}AAAA.{signature}")
        edge.run(edge.agent.refresh())  # type: ignore[union-attr]
        assert edge.call(token=edge.token()).status_code == 404
        assert edge.call("/mcp/dev/scratch", edge.token("dev/scratch")).status_code == 200

    def test_an_older_bundle_is_refused_also_after_a_restart(self, edge: Rig) -> None:
        generous = edge.home.edge_bundle.read_text()
        edge.publish(PRESTO.model_copy(update={"groups": ()}), SCRATCH)
        edge.answers(403)
        edge.stop_agent()
        edge.home.edge_bundle.write_text(generous)
        edge.start_agent()
        edge.run(edge.agent.refresh())  # type: ignore[union-attr]
        assert edge.call(token=edge.token()).status_code == 403

    def test_past_the_bundles_age_everything_is_refused_until_it_is_renewed(self, edge: Rig) -> None:
        edge.stop_agent()
        (edge.home.edge / "accepted.jws").unlink()
        edge.publish(PRESTO, SCRATCH, issued_at=time.time() - MAX_AGE_S - 5)
        edge.start_agent()
        response = until(lambda: (r := edge.call(token=edge.token())).status_code == 503 and r, "the edge is closed")
        refusal = response.json()["error"]["data"]
        assert (refusal["code"], refusal["reason"]) == ("unavailable", "bundle_unusable")
        assert edge.call().status_code == 401
        assert edge.presto.arrivals == []
        edge.publish(PRESTO, SCRATCH)
        until(lambda: edge.call(token=edge.token()).status_code == 200, "the edge is open again")

    def test_five_minutes_without_contact_sensitive_servers_refuse_and_the_rest_go_on(self, edge: Rig) -> None:
        edge.stop_agent()
        (edge.home.edge / "accepted.jws").unlink()
        secret = PRESTO.model_copy(update={"sensitivity": "confidential"})
        plain = SCRATCH.model_copy(update={"sensitivity": "internal"})
        edge.publish(secret, plain, issued_at=time.time() - STOPS_MAX_AGE_S - 5)
        edge.start_agent()
        response = until(lambda: (r := edge.call(token=edge.token())).status_code == 503 and r, "presto is closed")
        refusal = response.json()["error"]["data"]
        assert (refusal["code"], refusal["reason"]) == ("unavailable", "stops_unknown")
        assert refusal["message"].startswith("prod/presto has sensitive data")
        assert edge.call().status_code == 401
        assert edge.presto.arrivals == []
        assert edge.call("/mcp/dev/scratch", edge.token("dev/scratch")).status_code == 200
        edge.publish(secret, plain)
        until(lambda: edge.call(token=edge.token()).status_code == 200, "presto is open again")


class TestStops:
    def test_a_stopped_server_refuses_with_the_reason_while_its_running_call_ends(self, edge: Rig) -> None:
        why = 'grün "100 %" {falsch} %REQ(authorization)% \\ gerechnet'
        stopped = PRESTO.model_copy(update={"stopped": why})
        with _in_flight(edge, "POST") as call:
            edge.publish(stopped, SCRATCH)
            response = until(lambda: (r := edge.call(token=edge.token())).status_code == 403 and r, "it is stopped")
            assert not call.ended
            edge.presto.release.set()
        assert call.text.endswith('{"upstream": "prod/presto"}')
        refusal = response.json()["error"]["data"]
        assert (refusal["code"], refusal["reason"], refusal["layer"]) == ("stopped", "server_stopped", "edge")
        assert refusal["message"].startswith(f"prod/presto is stopped: {why}. Ask platform in #data")
        assert response.headers["x-pegboard-refused"] == "server_stopped"
        assert not any("gerechnet" in value for value in response.headers.values())
        line = edge.logged(response.headers["x-request-id"])
        assert (line["server"], line["sub"], line["reason"]) == ("prod/presto", "ana", "server_stopped")
        edge.publish(PRESTO, SCRATCH)
        until(lambda: edge.call(token=edge.token()).status_code == 200, "it goes on")

    def test_a_stop_opens_nothing_and_tells_nothing_to_whom_another_rule_refuses(self, edge: Rig) -> None:
        edge.publish(PRESTO.model_copy(update={"stopped": "miscounted"}), SCRATCH)
        edge.answers(403)
        edge.presto.arrivals.clear()
        for token, status, reason in (
            ("x", 401, "token_invalid"),
            (edge.token("dev/scratch"), 401, "token_wrong_audience"),
            (edge.token(surface="service"), 403, "surface_not_granted"),
            (edge.token(groups=["search-eng"]), 403, "group_not_granted"),
        ):
            refused = edge.call(token=token)
            assert (refused.status_code, refused.json()["error"]["data"]["reason"]) == (status, reason)
            assert "miscounted" not in refused.text
        assert edge.call("/mcp/dev/scratch", edge.token("dev/scratch")).status_code == 200
        assert edge.presto.arrivals == []


class TestRestarts:
    def test_envoy_starts_again_without_hub_and_agent(self, edge: Rig) -> None:
        edge.stop_agent()
        edge.unserve(edge.home.hub_socket)
        edge.unserve(edge.home.internal_socket)
        edge.stop_envoy(kill=True)
        edge.start_envoy()
        assert edge.call(token=edge.token()).status_code == 200
        assert edge.call(token=edge.token(groups=["search-eng"])).status_code == 403
        with edge.client() as client:
            response = client.get("/")
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "hub_unavailable"

    def test_a_server_that_comes_back_is_used_at_once(self, edge: Rig) -> None:
        path = edge.socket("dev/scratch")
        token = edge.token("dev/scratch")
        edge.unserve(path)
        assert edge.call("/mcp/dev/scratch", token).json()["error"]["data"]["code"] == "server_unavailable"
        edge.serve(edge.scratch, path)
        assert edge.call("/mcp/dev/scratch", token).status_code == 200

    def test_a_server_that_dies_in_a_call_leaves_the_outcome_open(self, edge: Rig) -> None:
        with _dropping(edge.socket("dev/gone")):
            response = edge.call("/mcp/dev/gone", edge.token("dev/gone"))
        refusal = response.json()["error"]["data"]
        assert (response.status_code, refusal["reason"]) == (502, "server_gone")
        assert "may or may not have run" in refusal["message"]

    def test_an_envoy_without_its_port_is_not_ready(self, edge: Rig) -> None:
        with running_edge(port=edge.port, envoy=False) as second:
            envoy = subprocess.Popen(envoy_command(second.home), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                assert envoy.stderr is not None
                assert any(b"Address already in use" in line for line in envoy.stderr)
                assert not second.run(ready(second.home))
            finally:
                envoy.kill()
                envoy.communicate()


class TestRefusalsReachTheLedger:
    def test_a_refusal_is_delivered_with_its_caller_and_words(self, edge: Rig) -> None:
        token, trace = edge.token("dev/scratch", surface="chat"), f"00-{'a' * 32}-{'b' * 16}-01"
        response = edge.call("/mcp/dev/scratch", token, tool_call("echo"), traceparent=trace)
        identifier = response.headers["x-request-id"]
        refusal = until(lambda: edge.door.refusals.get(identifier), "the refusal is delivered")
        assert abs(refusal.pop("at_ms") / 1000 - time.time()) < DEADLINE_S
        assert refusal == {
            "request_id": identifier,
            "server": "dev/scratch",
            "status": 403,
            "code": "access_denied",
            "reason": "surface_not_granted",
            "who": {
                "sub": "ana",
                "sub_type": "person",
                "surface": "chat",
                "channel": None,
                "client_id": "pegboard-cli",
                "act": "pegboard-cli",
            },
            "tool": "echo",
            "method": "tools/call",
            "traceparent": trace,
        }

    def test_an_unverified_claim_names_nobody(self, edge: Rig) -> None:
        forged = edge.token(sub="pat", key={**new_private_key(), "kid": edge.key["kid"]})
        identifier = edge.call(token=forged).headers["x-request-id"]
        refusal = until(lambda: edge.door.refusals.get(identifier), "the refusal is delivered")
        assert (refusal["who"], refusal["reason"], refusal["server"]) == (None, "token_invalid", "prod/presto")

    def test_answers_of_servers_are_not_refusals_of_the_edge(self, edge: Rig) -> None:
        assert edge.call(token=edge.token()).status_code == 200
        last = edge.call().headers["x-request-id"]
        until(lambda: last in edge.door.refusals, "the refusal is delivered")
        assert list(edge.door.refusals) == [last]

    def test_one_that_the_hub_does_not_understand_keeps_no_other_waiting(self, edge: Rig) -> None:
        edge.door.status, edge.door.not_understood = 503, "token_missing"
        before = edge.call(token="x").headers["x-request-id"]
        bad = edge.call().headers["x-request-id"]
        after = edge.call(token="x").headers["x-request-id"]
        edge.logged(after)
        edge.door.status = 200
        until(lambda: {before, after} <= edge.door.refusals.keys(), "the others are delivered")
        assert bad not in edge.door.refusals

    def test_refusals_wait_for_the_hub_and_survive_a_restart_and_a_rotation(self, edge: Rig) -> None:
        edge.door.status = 503
        first = edge.call().headers["x-request-id"]
        edge.logged(first)
        edge.stop_agent()
        second = edge.call().headers["x-request-id"]
        edge.logged(second)
        log = edge.home.edge_access_log
        log.rename(log.with_suffix(".log.1"))
        edge.stop_envoy()
        edge.start_envoy()
        third = edge.call().headers["x-request-id"]
        edge.start_agent()
        edge.door.status = 200
        until(lambda: {first, second, third} <= edge.door.refusals.keys(), "all three are delivered")

    def test_a_large_log_is_rotated_and_every_refusal_still_arrives(self, edge: Rig) -> None:
        edge.stop_agent()
        edge.door.status = 503
        edge.start_agent(largest_log=500)
        log, sent = edge.home.edge_access_log, set()
        kept_until_delivered = log.with_name(f"{log.name}.{KEPT + 1}")

        def piled_up() -> bool:
            # Each by somebody else: of one person's so many a second are told of and no more.
            token = edge.token(sub=f"person-{len(sent)}", groups=["strangers"])
            sent.add(edge.call(token=token).headers["x-request-id"])
            return kept_until_delivered.exists()

        until(piled_up, "more old parts than are kept wait for the hub")
        edge.door.status = 200
        until(lambda: sent <= edge.door.refusals.keys(), "every refusal is delivered, of each part of the log")

        def pruned() -> bool:
            edge.call()
            return not kept_until_delivered.exists()

        until(pruned, "parts that were delivered are deleted")
        assert log.with_name(f"{log.name}.{KEPT}").exists()

    def test_what_was_delivered_is_not_delivered_again(self, edge: Rig) -> None:
        first = edge.call().headers["x-request-id"]
        until(lambda: first in edge.door.refusals, "the refusal is delivered")
        mark = edge.home.edge / "log.offset"
        until(lambda: mark.exists() and json.loads(mark.read_text())["offset"] > 0, "the place is remembered")
        edge.stop_agent()
        edge.door.refusals.clear()
        edge.start_agent()
        second = edge.call().headers["x-request-id"]
        until(lambda: second in edge.door.refusals, "the next refusal is delivered")
        assert list(edge.door.refusals) == [second]


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_understands_a_refusal(mode: str) -> None:
    with running_edge() as edge:
        headers = {"authorization": f"Bearer {edge.token(groups=['search-eng'])}"}
        async with httpx2.AsyncClient(headers=headers, timeout=DEADLINE_S) as http:
            transport = streamable_http_client(f"{edge.public_url}/mcp/prod/presto", http_client=http)
            with pytest.raises(ExceptionGroup) as caught:
                async with mcp.Client(transport, mode=mode) as client:
                    await client.list_tools()
        error = _innermost(caught.value)
        assert isinstance(error, mcp.MCPError)
        assert error.error.code == JSONRPC_CODE
        assert error.error.message.startswith("prod/presto is not granted to any of your groups. Ask platform in")
        assert error.error.data["reason"] == "group_not_granted"
        assert edge.presto.arrivals == []


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    return error


class _InFlight:
    """A request whose answer has begun and not ended."""

    def __init__(self, edge: Rig, method: str) -> None:
        self.ended = False
        self.text = ""
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(edge, method))

    def _run(self, edge: Rig, method: str) -> None:
        headers = {
            "authorization": f"Bearer {edge.token()}",
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
        }
        content = json.dumps(tool_call("hold")) if method == "POST" else None
        with (
            edge.client() as client,
            client.stream(method, "/mcp/prod/presto", headers=headers, content=content) as response,
        ):
            for text in response.iter_text():
                self.text += text
                self._began.set()
        self.ended = True

    def __enter__(self) -> _InFlight:
        self._thread.start()
        assert self._began.wait(DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(DEADLINE_S)
        assert self.ended, "the answer did not end well"


def _in_flight(edge: Rig, method: str) -> _InFlight:
    return _InFlight(edge, method)


@contextmanager
def _dropping(path: Path) -> Iterator[None]:
    """A socket that takes one request and closes without a word."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def drop() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)

        thread = threading.Thread(target=drop)
        thread.start()
        yield
        thread.join(DEADLINE_S)
