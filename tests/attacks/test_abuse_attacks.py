"""Load and abuse at the edge, against a real Envoy: floods, slow ones, large ones, and servers that misbehave."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pegboard.core.jose import new_private_key
from pegboard.core.rates import Limits, RateLimit, ServerLimit
from pegboard.core.stops import NOTHING_STOPPED, Stops
from pegboard_hub.common.home import replace_file
from pegboard_hub.edge import config
from pegboard_hub.edge.config import CLUSTERS
from pegboard_hub.edge.listener import MOST_STREAMS
from pegboard_hub.edge.snapshot import Patience
from pegboard_hub.telemetry.edge_table import EDGE_RATE_LIMITED, EDGE_REFUSALS_THINNED, EDGE_TOKENS
from tests.attacks import misdeeds
from tests.attacks.misdeeds import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_CONCURRENT_STREAMS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    answered,
    connected,
    frame,
    frames,
    head,
    misbehave,
    trickle,
)
from tests.system.edge_rig import DEADLINE_S, GONE, PRESTO, ROBOT, SCRATCH, Rig, running_edge, tool_call, until

MINUTE = 3600
"""Long enough that no token of a test comes back while it runs."""


PATIENCE = Patience(head_s=1, request_s=2, idle_s=3.5, unused_s=1.5)
"""So that a test need not wait for as long as an instance does."""


@pytest.fixture(scope="module")
def edge() -> Iterator[Rig]:
    with running_edge(services=True, patience=PATIENCE) as rig:
        rig.unserve(rig.socket("dev/scratch"))
        rig.serve_raw(misbehave, rig.socket("dev/scratch"))
        yield rig


@pytest.fixture
def limited(edge: Rig) -> Iterator[Any]:
    """Hold the edge to limits; afterwards nothing is limited."""

    def hold(*rates: RateLimit, **servers: Any) -> None:
        publish(edge, Limits(rates=rates, **servers))

    yield hold
    publish(edge, Limits())


def publish(edge: Rig, limits: Limits, stops: Stops = NOTHING_STOPPED) -> None:
    edge.publish(PRESTO, SCRATCH, GONE, limits=limits, stops=stops)
    version = edge.version
    until(lambda: any(word.version == version for word in edge.door.acknowledged), "the limits are in force")


def rate(per: Any, requests: int, **more: Any) -> RateLimit:
    return RateLimit(per=per, requests=requests, **{"seconds": MINUTE, **more})


def refused(response: Any) -> tuple[int, str, str]:
    data = response.json()["error"]["data"] if "jsonrpc" in response.json() else response.json()["error"]
    return response.status_code, data["code"], data["reason"]


def test_a_person_who_asks_too_often_is_told_which_limit_when_to_come_back_and_whom_to_ask(
    edge: Rig, limited: Any
) -> None:
    limited(rate("person", 3))
    token = edge.token()
    assert [edge.call(token=token).status_code for _ in range(3)] == [200] * 3
    before = edge.arrived()
    answer = edge.call(token=token)
    assert refused(answer) == (429, "rate_limited", "person_rate")
    assert 1190 <= int(answer.headers["retry-after"]) <= 1200
    assert answer.headers["content-type"] == "application/json"
    data = answer.json()["error"]["data"]
    assert data["layer"] == "edge"
    assert "platform team" in data["what_to_do"]
    assert edge.arrived() == before
    told = until(lambda: edge.door.refusals.get(answer.headers["x-request-id"]), "the refusal is delivered")
    assert (told["code"], told["reason"], told["who"]["sub"]) == ("rate_limited", "person_rate", "ana")


def test_a_flood_of_refusals_fills_no_ledger_and_is_counted_all_the_same(edge: Rig, limited: Any) -> None:
    limited(rate("person", 1))
    before, token = figures(edge), edge.token(sub="flooding")
    with edge.client() as client:
        headers = {"authorization": f"Bearer {token}"}
        for _ in range(200):
            client.post("/mcp/prod/presto", headers=headers)
    told = lambda: sum(1 for each in edge.door.refusals.values() if (each["who"] or {}).get("sub") == "flooding")  # noqa: E731
    until(lambda: figures(edge)["thinned"] > before["thinned"], "they are thinned")
    until(lambda: figures(edge)["person"] - before["person"] == 199, "Envoy counted them")
    assert 0 < told() < 199


def figures(edge: Rig) -> dict[str, float]:
    assert edge.agent is not None
    samples = edge.run(edge.agent.metrics())
    limited = {s.labels["limit"]: s.value for s in samples if s.metric is EDGE_RATE_LIMITED}
    return limited | {"thinned": next(s.value for s in samples if s.metric is EDGE_REFUSALS_THINNED)}


def test_nobody_uses_up_anothers_allowance(edge: Rig, limited: Any) -> None:
    limited(rate("person", 2))
    for _ in range(4):
        edge.call(token=edge.token(sub="mallory"), x_forwarded_user="ana", x_forwarded_surface="ide")
        edge.call(token=edge.token(sub="mallory", jti="another", sid="another", client_id="another", surface="ide"))
        edge.call(token=edge.token(sub="ana", exp=1))
    assert edge.call(token=edge.token(sub="mallory")).status_code == 429
    assert [edge.call(token=edge.token(sub="ana")).status_code for _ in range(3)] == [200, 200, 429]
    service = edge.token(sub="ana", sub_type="service")
    assert edge.call(token=service).status_code == 403


def test_calls_that_are_refused_use_up_nothing_that_others_share(edge: Rig, limited: Any) -> None:
    limited(rate("server", 2), rate("surface", 2))
    for _ in range(4):
        assert edge.call(token=edge.token(sub="mallory", groups=["strangers"])).status_code == 403
        assert edge.call(token=edge.token(sub="mallory"), body=b"{}").status_code == 400
    assert [edge.call(token=edge.token()).status_code for _ in range(2)] == [200, 200]
    assert refused(edge.call(token=edge.token())) == (429, "rate_limited", "surface_rate")
    assert refused(edge.call(token=edge.token(surface="ide")))[2] == "server_rate"


def test_who_is_stopped_uses_up_nothing_that_others_share(edge: Rig, limited: Any) -> None:
    publish(edge, Limits(rates=(rate("server", 2), rate("surface", 2))), Stops(people={"mallory": "a loop"}))
    for _ in range(4):
        assert refused(edge.call(token=edge.token(sub="mallory"))) == (403, "stopped", "person_stopped")
    assert [edge.call(token=edge.token()).status_code for _ in range(3)] == [200, 200, 429]


def test_a_service_is_held_to_rates_at_its_own_port_and_nobody_uses_them_up_at_the_other(
    edge: Rig, limited: Any
) -> None:
    limited(rate("person", 2))
    before, token = figures(edge).get("person", 0), edge.service_token(ROBOT)
    for _ in range(4):
        assert refused(edge.call(token=token))[2] == "wrong_door"
    headers = {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"}
    with edge.service(edge.authority.mint(ROBOT)) as client:
        answers = [client.post("/mcp/prod/presto", json=tool_call(), headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert refused(answers[2]) == (429, "rate_limited", "person_rate")
    assert answers[2].headers["retry-after"].isdigit()
    until(lambda: figures(edge)["person"] - before == 1, "Envoy counted it")


def test_a_server_that_is_called_too_often_leaves_others_alone(edge: Rig, limited: Any) -> None:
    limited(rate("server", 1))
    assert edge.call(token=edge.token()).status_code == 200
    answer = edge.call(token=edge.token(sub="bob"))
    assert refused(answer) == (429, "rate_limited", "server_rate")
    assert '#data "platform" 100%' in answer.json()["error"]["data"]["what_to_do"]
    assert 3590 <= int(answer.headers["retry-after"]) <= 3600
    assert ask(edge, "echo").status_code == 200


def test_a_narrower_rate_holds_where_it_is_for_and_nowhere_else(edge: Rig, limited: Any) -> None:
    limited(rate("person", 100), rate("person", 1, surfaces=("chat",), servers=("prod/presto",)))
    assert [edge.call(token=edge.token(surface="chat")).status_code for _ in range(2)] == [200, 429]
    assert edge.call(token=edge.token(surface="cli")).status_code == 200
    assert edge.call(token=edge.token(surface="chat", sub="bob")).status_code == 200
    limited(rate("person", 1, namespaces=("dev",)))
    assert [edge.call(token=edge.token()).status_code for _ in range(2)] == [200, 200]
    scratch = edge.token("dev/scratch")
    assert [edge.call("/mcp/dev/scratch", scratch).status_code for _ in range(2)] == [200, 429]


def test_a_flood_without_a_token_is_limited_by_its_address_and_costs_no_account(edge: Rig, limited: Any) -> None:
    limited(rate("address", 3), rate("person", 3))
    assert [edge.call().status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    answer = edge.call(authorization="Basic Zm9v")
    assert refused(answer) == (429, "rate_limited", "address_rate")
    with edge.client() as client:
        assert refused(client.get("/signin")) == (429, "rate_limited", "address_rate")
    assert [edge.call(token=edge.token()).status_code for _ in range(3)] == [200] * 3


FORGERIES: dict[str, Any] = {
    "no token at all": lambda edge: "x",
    "nobody's key": lambda edge: edge.token(key=new_private_key()),
    "our key's name, another's signature": lambda edge: (
        edge.token(jti="other").rpartition(".")[0] + "." + edge.token().rpartition(".")[2]
    ),
    "a good one that is over": lambda edge: edge.token(exp=1),
    "another issuer's": lambda edge: edge.token(iss="https://elsewhere.example"),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_flood_of_bad_tokens_is_limited_by_its_address_and_uses_up_nobodys_allowance(
    edge: Rig, limited: Any, forge: Any
) -> None:
    limited(rate("address", 4, in_all=True), rate("person", 3), rate("server", 3))
    bad = forge(edge)
    assert [edge.call(token=bad).status_code for _ in range(6)] == [401] * 4 + [429] * 2
    answer = edge.call(token=bad)
    assert refused(answer) == (429, "rate_limited", "address_rate")
    assert 890 <= int(answer.headers["retry-after"]) <= 900
    # It is the address that is full; what others share has lost nothing.
    limited(rate("address", 8, in_all=True), rate("person", 3), rate("server", 3))
    assert [edge.call(token=edge.token()).status_code for _ in range(3)] == [200] * 3


def test_what_is_refused_for_its_address_is_not_looked_at(edge: Rig, limited: Any) -> None:
    """So that a signature costs a flood's address more than it costs the edge."""
    limited(rate("address", 1, in_all=True))
    assert edge.call(token=edge.token(exp=1)).status_code == 401
    before = tokens_looked_at(edge)
    assert [edge.call(token=edge.token(jti=str(n))).status_code for n in range(5)] == [429] * 5
    assert tokens_looked_at(edge) == before


def tokens_looked_at(edge: Rig) -> float:
    assert edge.agent is not None
    return sum(sample.value for sample in edge.run(edge.agent.metrics()) if sample.metric is EDGE_TOKENS)


def test_at_the_port_for_services_an_address_is_limited_as_well(edge: Rig, limited: Any) -> None:
    limited(rate("address", 2, in_all=True))
    headers = {"authorization": f"Bearer {edge.service_token(ROBOT, exp=1)}"}
    with edge.service(edge.authority.mint(ROBOT)) as client:
        answers = [client.post("/mcp/prod/presto", json=tool_call(), headers=headers) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 429, 429]


# What callers write, in the log

LIE = 'x","status":200,"sub":"root'
"""Begins a field of its own where it is written down as it is."""


@pytest.mark.parametrize(
    "text",
    [LIE, f"{LIE}\n{{", "\\", "\u2028\0\x7f", "%DURATION%", "-", "\ud800".encode("utf-16", "surrogatepass").hex()],
)
def test_what_a_caller_writes_stays_in_its_own_field_of_the_log(edge: Rig, text: str) -> None:
    answer = edge.call(token=edge.token(), body=tool_call(text))
    line = edge.logged(answer.headers["x-request-id"])
    assert (line["tool"], line["sub"], line["status"]) == (text, "ana", 200)


@pytest.mark.parametrize("text", [LIE, "\\", "%DURATION%", "-"])
def test_headers_and_paths_stay_in_their_own_fields_as_well(edge: Rig, text: str) -> None:
    answer = edge.call(token=edge.token(sub=text), traceparent=text)
    line = edge.logged(answer.headers["x-request-id"])
    assert (line["traceparent"], line["sub"], line["surface"]) == (text, text, "cli")
    nobody = edge.call("/mcp/prod/presto" + text.replace('"', "%22").replace("\\", "%5c"))
    line = edge.logged(nobody.headers["x-request-id"])
    assert (line["status"], line["sub"], line["surface"], line["tool"]) == (nobody.status_code, "", "", "")


# Slow and large callers


def test_who_trickles_the_head_of_a_request_is_cut_off_and_holds_up_nobody(edge: Rig) -> None:
    with connected(edge) as slow:
        assert b" 408 " in trickle(slow, head(edge, 2))[:20]
        assert edge.call(token=edge.token()).status_code == 200


def test_who_trickles_a_body_is_told_so_and_nothing_arrives(edge: Rig) -> None:
    before = edge.arrived()
    with connected(edge) as slow:
        slow.sendall(head(edge, 5000))
        answer = trickle(slow, b" " * 5000)
    assert b" 408 " in answer[:20]
    assert b'"reason":"request_too_slow"' in answer
    assert edge.arrived() == before


@pytest.mark.parametrize("port", ["port", "mtls_port"])
def test_a_connection_that_says_nothing_is_closed(edge: Rig, port: str) -> None:
    with connected(edge, getattr(edge, port)) as silent:
        assert answered(silent) == b""  # a socket that stays open fails by its own time


def test_who_opens_all_connections_to_keep_others_out_has_them_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "MOST_CONNECTIONS", 20)
    with running_edge() as edge, ExitStack() as opened:  # with an instance's own patience, of minutes
        headers = {"authorization": f"Bearer {edge.token()}"}
        client = opened.enter_context(edge.client())
        stream = opened.enter_context(client.stream("GET", "/mcp/prod/presto", headers=headers))
        parts = stream.iter_raw()
        assert next(parts).startswith(b": open")
        held = [opened.enter_context(connected(edge)) for _ in range(25)]
        assert answered(held[-1]) == b""  # for which there is none left
        until(lambda: called(edge) == 200, "others are let in again")
        assert [answered(each) for each in held] == [b""] * 25
        edge.presto.release.set()
        assert b"upstream" in b"".join(parts)


def called(edge: Rig) -> int:
    try:
        return edge.call(token=edge.token()).status_code
    except httpx2.TransportError:
        return 0


def test_who_does_not_read_the_answer_holds_up_nobody(edge: Rig) -> None:
    before = edge.arrived()
    with ExitStack() as opened:
        for _ in range(20):
            lazy = opened.enter_context(connected(edge))
            content = json.dumps(tool_call("large", padding="x" * 100_000)).encode()
            lazy.sendall(head(edge, len(content)) + content)
        assert edge.call(token=edge.token()).status_code == 200
        until(lambda: edge.arrived() >= before + 21, "every call arrived, so that none is taken for another test's")


@pytest.mark.parametrize(
    "more",
    [[f"x-long: {'x' * 40_000}"], [f"x-{number}: y" for number in range(150)]],
    ids=["too large", "too many"],
)
def test_a_head_that_is_too_large_is_refused(edge: Rig, more: list[str]) -> None:
    before = edge.arrived()
    answer = edge.raw(head(edge, 2, *more) + b"{}")
    assert b" 431 " in answer[:20]
    assert b'"headers_too_large"' in answer
    assert edge.arrived() == before


def test_a_body_that_is_too_large_is_refused_and_nothing_arrives(edge: Rig) -> None:
    answer = edge.call(token=edge.token(), body=b'{"jsonrpc":"2.0","id":1,"too_large":"' + b"x" * 5_000_000 + b'"}')
    assert refused(answer) == (413, "request_too_large", "request_too_large")
    assert not any(b"too_large" in arrival.body for arrival in edge.presto.arrivals)


def test_a_stream_outlives_the_time_for_a_request(edge: Rig) -> None:
    edge.presto.release.clear()
    token = edge.token()
    with (
        edge.client() as client,
        client.stream("GET", "/mcp/prod/presto", headers={"authorization": f"Bearer {token}"}) as stream,
    ):
        parts = stream.iter_raw()
        assert next(parts).startswith(b": open")
        time.sleep(PATIENCE.request_s + 0.3)  # what is held here is that nothing happens meanwhile
        edge.presto.release.set()
        assert b"upstream" in b"".join(parts)
    edge.presto.release.clear()


# Servers that misbehave


def ask(edge: Rig, tool: str) -> Any:
    return edge.call("/mcp/dev/scratch", edge.token("dev/scratch"), tool_call(tool))


@pytest.mark.parametrize(
    ("tool", "status", "reason"),
    [
        ("never", 504, "server_timeout"),
        ("drip_head", 504, "server_timeout"),
        ("large_head", 502, "server_gone"),
        ("many_headers", 502, "server_gone"),
        ("no_http", 502, "server_gone"),
        ("reset", 502, "server_gone"),
    ],
)
def test_a_server_that_misbehaves_ends_its_own_call_and_no_other(
    edge: Rig, tool: str, status: int, reason: str
) -> None:
    assert refused(ask(edge, tool))[::2] == (status, reason)
    assert ask(edge, "echo").status_code == 200
    assert edge.call(token=edge.token()).status_code == 200


def test_a_call_may_take_no_longer_than_its_server_is_given(edge: Rig, limited: Any) -> None:
    limited(servers={"dev/scratch": ServerLimit(timeout_s=0.5)})
    answer = ask(edge, "never")
    assert refused(answer) == (504, "server_timeout", "server_too_slow")
    began = time.monotonic()
    with pytest.raises(httpx2.HTTPError):
        ask(edge, "drip")
    assert time.monotonic() - began < DEADLINE_S  # it would drip for minutes
    with pytest.raises(httpx2.HTTPError):
        ask(edge, "torn")


def test_a_server_gets_no_more_calls_at_once_than_it_is_given(edge: Rig, limited: Any) -> None:
    limited(servers={"dev/scratch": ServerLimit(calls=2)})
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(ask, edge, "never") for _ in range(2)]
        until(lambda: misdeeds.waiting == 2, "both are under way")
        answer = ask(edge, "echo")
        assert refused(answer) == (503, "server_unavailable", "server_busy")
        assert answer.headers["retry-after"] == "2"
        assert edge.call(token=edge.token()).status_code == 200
        assert {each.result().status_code for each in held} == {504}
    assert ask(edge, "echo").status_code == 200


def test_a_server_that_is_just_starting_is_tried_again_and_one_that_is_away_says_when(edge: Rig) -> None:
    answer = edge.call("/mcp/dev/gone", edge.token("dev/gone"))
    assert refused(answer) == (503, "server_unavailable", "server_unreachable")
    assert answer.headers["retry-after"] == "2"


def test_nothing_that_was_sent_is_sent_again(edge: Rig) -> None:
    before = misdeeds.resets
    assert ask(edge, "reset").status_code == 502
    assert misdeeds.resets == before + 1


@pytest.mark.parametrize("tool", ["reset", "no_http", "fails"])
def test_who_makes_a_server_fail_for_themselves_closes_it_for_nobody(edge: Rig, tool: str) -> None:
    """A server is one process. Who is spared a server that fails has no other, and anybody can make a call fail."""
    mallory = edge.token("dev/scratch", sub="mallory")
    for _ in range(20):
        assert edge.call("/mcp/dev/scratch", mallory, tool_call(tool)).status_code in (500, 502)
        assert ask(edge, "echo").status_code == 200


def test_to_eject_a_server_that_fails_would_close_it_for_everybody(edge: Rig) -> None:
    """What outlier detection would do here, and why it stands between hubs and not before servers (decision 41)."""
    path = edge.home.edge / CLUSTERS
    good = json.loads(path.read_text())
    ejecting = {"consecutive_5xx": 3, "base_ejection_time": "5s", "max_ejection_percent": 100, "interval": "1s"}
    mallory = edge.token("dev/scratch", sub="mallory")
    bad = json.loads(path.read_text()) | {"version_info": "ejecting"}
    [scratch] = [each for each in bad["resources"] if each["name"] == "mcp/dev/scratch"]
    scratch |= {"outlier_detection": ejecting, "common_lb_config": {"healthy_panic_threshold": {"value": 0}}}
    replace_file(path, json.dumps(bad))
    try:
        until(lambda: edge.call("/mcp/dev/scratch", mallory, tool_call("fails")).status_code == 503, "it is ejected")
        assert refused(ask(edge, "echo"))[2] == "server_unreachable"
    finally:
        replace_file(path, json.dumps(good | {"version_info": "restored"}))
    until(lambda: ask(edge, "echo").status_code == 200, "nobody is ejected any more")


# Envoy's administration


def test_envoy_listens_for_callers_and_on_its_administrations_socket_alone(edge: Rig) -> None:
    assert edge.envoy is not None
    ours = {str(link.readlink()) for link in Path(f"/proc/{edge.envoy.pid}/fd").iterdir() if link.is_symlink()}
    ports, paths = set(), set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{edge.envoy.pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *more = line.split()
            if f"socket:[{more[5]}]" in ours and (state == LISTENS or table.startswith("udp")):
                ports.add(int(local.rpartition(":")[2], 16))
    for line in Path(f"/proc/{edge.envoy.pid}/net/unix").read_text().splitlines()[1:]:
        _, _, _, flags, _, _, inode, *path = line.split()
        if f"socket:[{inode}]" in ours and int(flags, 16) & ACCEPTS:
            paths.add(path[0] if path else "")
    assert ports == {edge.port, edge.mtls_port}
    assert paths == {str(edge.home.edge_admin_socket)}


LISTENS = "0A"
"""TCP_LISTEN in /proc/net/tcp."""

ACCEPTS = 0x10000
"""__SO_ACCEPTCON in /proc/net/unix."""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_of_the_machine_does_not_reach_envoys_administration(edge: Rig) -> None:
    path = edge.home.edge_admin_socket
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    inside = (each for each in path.parents if each.is_relative_to(edge.home.root))
    folders = {each: each.stat().st_mode for each in inside}
    for each in folders:  # so that the socket's own rights are what is left
        each.chmod(folders[each] | 0o011)
    try:
        with ThreadPoolExecutor(1) as root, ThreadPoolExecutor(1, initializer=become, initargs=(65534,)) as nobody:
            root.submit(connect, path).result()
            with pytest.raises(PermissionError):
                nobody.submit(connect, path).result()
    finally:
        for each, mode in folders.items():
            each.chmod(stat.S_IMODE(mode))


def become(user: int) -> None:
    """Have this thread reach files and sockets as another user does, and no other thread (setfsuid(2))."""
    libc = ctypes.CDLL(None)
    libc.setfsgid(user)
    libc.setfsuid(user)


def connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))


# HTTP/2


def h2_request(edge: Rig) -> bytes:
    """GET / by HPACK's static table (RFC 7541, appendix A), and the authority as it is."""
    authority = f"localhost:{edge.port}".encode()
    return b"\x82\x86\x84\x41" + bytes([len(authority)]) + authority


def test_a_connection_has_no_more_streams_than_it_is_told(edge: Rig) -> None:
    with connected(edge) as client:
        client.sendall(PREFACE + frame(SETTINGS, 0, 0))
        told = next(payload for kind, payload in frames(client) if kind == SETTINGS)
    settings = {int.from_bytes(told[at : at + 2], "big"): told[at + 2 : at + 6] for at in range(0, len(told), 6)}
    assert int.from_bytes(settings[MAX_CONCURRENT_STREAMS], "big") == MOST_STREAMS


def test_who_opens_streams_to_end_them_at_once_loses_the_connection(edge: Rig) -> None:
    """CVE-2023-44487: each costs the edge a request, and the limit of streams is never met."""
    request, sent = h2_request(edge), 5_000
    with connected(edge) as client:
        client.sendall(PREFACE + frame(SETTINGS, 0, 0))
        with suppress(ConnectionError):
            for stream in range(1, 2 * sent, 2):
                cancel = frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big"))
                client.sendall(frame(HEADERS, END_STREAM | END_HEADERS, stream, request) + cancel)
        list(frames(client))
    last = edge.call(token=edge.token())
    assert last.status_code == 200
    edge.logged(last.headers["x-request-id"])
    assert 0 < sum(line["path"] == "/" for line in edge.log_lines()) < sent / 2


def test_a_head_without_end_loses_the_connection(edge: Rig) -> None:
    """CONTINUATION frames for ever (CVE-2024-30255)."""
    with connected(edge) as client:
        client.sendall(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_STREAM, 1, h2_request(edge)))
        header = b"\x00\x03x-a\x7f\xa1\x1e" + b"y" * 4_000  # a literal of 4,000 bytes
        with pytest.raises(ConnectionError):  # noqa: PT012 - the edge decides at which frame
            for _ in range(2_000):
                client.sendall(frame(CONTINUATION, 0, 1, header))
            for _ in frames(client):
                pass
            raise ConnectionError("it was closed in order")
    assert edge.call(token=edge.token()).status_code == 200
