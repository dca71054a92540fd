"""The official registry API through a real Envoy: names as clients escape them, and who the edge says that calls."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from pegboard_hub.common.settings import HubSettings
from pegboard_hub.opening import open_hub
from pegboard_hub.web.app import public_app
from tests.hub.company import found_company, presto
from tests.hub.official import check
from tests.system.edge_rig import DEADLINE_S, Rig, running_edge

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("official")]

GRANTS = """
[registry]
prefix = "com.acme"
networks = ["127.0.0.1/32"]

[servers."prod/presto"]
source = "x"
groups = ["ads-eng"]
"""
INSIDE, OUTSIDE = "127.0.0.1", "127.0.0.2"
"""Where callers connect from: in the operator's network, and not. The whole of 127.0.0.0/8 is this machine."""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with running_edge() as rig, hub_behind(rig, tmp_path_factory.mktemp("hub")):
        yield rig


@contextmanager
def hub_behind(rig: Rig, folder: Path, more: Sequence[str] = ()) -> Iterator[None]:
    """A real hub where the rig has its stand-in, with prod/presto and more servers of prod."""
    company, stack = found_company(folder), AsyncExitStack()
    tables = (f'[servers."prod/{name}"]\nsource = "x"\ngroups = ["ads-eng"]\n' for name in more)
    company.grants.write_text(GRANTS + "\n" + "".join(tables))
    for name in more:
        company.deploy(f"prod/{name}", presto(name=name))
    settings = HubSettings(public_url=rig.public_url, grants=company.grants)
    app = public_app(rig.run(stack.enter_async_context(open_hub(company.home, settings))))
    rig.unserve(rig.home.hub_socket)
    rig.serve(app, rig.home.hub_socket)
    try:
        yield
    finally:
        rig.unserve(rig.home.hub_socket)
        rig.run(stack.aclose())


def ask(rig: Rig, path: str, caller: str = INSIDE, **headers: str) -> httpx2.Response:
    with httpx2.Client(
        base_url=rig.public_url.replace("localhost", "127.0.0.1"),
        transport=httpx2.HTTPTransport(local_address=caller),
        headers={"host": rig.public_url.removeprefix("http://")},
    ) as client:
        return client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("name", ["com.acme%2Fpresto", "com.acme%2fpresto", "com.acme/presto"])
def test_a_name_with_its_slash_escaped_or_not_is_found(edge: Rig, name: str) -> None:
    for rest in ("versions", "versions/latest", "versions/1.0.0"):
        answer = ask(edge, f"/v0.1/servers/{name}/{rest}")
        assert answer.status_code == 200
        entry = check(answer)
        remote = (entry["servers"][0] if rest == "versions" else entry)["server"]["remotes"][0]
        assert remote["url"] == f"{edge.public_url}/mcp/prod/presto"


def test_the_address_that_is_told_of_is_one_that_the_edge_answers(edge: Rig) -> None:
    [entry] = check(ask(edge, "/v0.1/servers?limit=50&version=latest"))["servers"]
    assert edge.call(entry["server"]["remotes"][0]["url"]).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "servers/com.acme%252Fpresto/versions/latest",
        "servers/com.acme/presto/../presto/versions/x",
        "servers/com.acme%2F..%2F..%2F..%2Fmcp%2Fprod%2Fpresto",
        "../mcp/prod/presto/versions",
        "health",
    ],
)
def test_no_other_spelling_leads_anywhere(edge: Rig, path: str) -> None:
    arrived = edge.arrived()
    assert ask(edge, f"/v0.1/{path}").status_code in (400, 401, 404)
    assert edge.arrived() == arrived


CLAIMS = {
    "nothing": {},
    "what the edge would say": {"x_pegboard_peer": INSIDE},
    "an address in the network": {"x_forwarded_for": INSIDE},
    "several": {"x_forwarded_for": f"{INSIDE}, {INSIDE}"},
    "one at the end": {"x_forwarded_for": f"203.0.113.9,{INSIDE}"},
    "the edge's own header": {"x_envoy_external_address": INSIDE},
    "another proxy's": {"x_real_ip": INSIDE, "forwarded": f"for={INSIDE}", "true_client_ip": INSIDE},
    "that it is internal": {"x_envoy_internal": "true", "x_forwarded_for": INSIDE},
    "a client of the cluster": {"x_cluster_client_ip": INSIDE, "x_client_ip": INSIDE, "via": "1.1 edge"},
}


@pytest.mark.parametrize("case", CLAIMS)
def test_whatever_a_caller_claims_of_its_address_the_edge_knows_better(edge: Rig, case: str) -> None:
    refused = ask(edge, "/v0.1/servers", OUTSIDE, **CLAIMS[case])
    assert refused.status_code == 404
    check(refused)
    assert ask(edge, "/v0.1/servers", INSIDE, **CLAIMS[case]).status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Pegboard-Peer", "x-pegboard-peer "])
def test_a_claim_made_twice_is_no_better(edge: Rig, header: str) -> None:
    host, claim = edge.public_url.removeprefix("http://"), f"{header}: {INSIDE}\r\n"
    request = f"GET /v0.1/servers HTTP/1.1\r\nHost: {host}\r\n{claim}{claim}Connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", edge.port), DEADLINE_S, (OUTSIDE, 0)) as connection:
        connection.sendall(request.encode())
        assert connection.recv(12) in (b"HTTP/1.1 404", b"HTTP/1.1 400")


def test_a_page_of_another_site_may_ask_but_not_with_a_cookie(edge: Rig) -> None:
    answer = ask(edge, "/v0.1/servers", origin="https://vscode.dev", cookie="pegboard=x")
    check(answer)
    assert answer.status_code == 200
    assert "access-control-allow-credentials" not in answer.headers
