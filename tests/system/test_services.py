"""Services through a real Envoy: identities are renewed under load, and what is served follows."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from cryptography import x509

from pegboard_hub.services.authority import Authority
from tests.system.certificates import forged
from tests.system.edge_rig import ROBOT, Rig, running_edge, tool_call, until

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def edge() -> Iterator[Rig]:
    with running_edge(services=True) as rig:
        yield rig


def call(rig: Rig, client: httpx2.Client) -> httpx2.Response:
    headers = {"authorization": f"Bearer {rig.service_token(ROBOT)}", "accept": "application/json, text/event-stream"}
    return client.post("/mcp/prod/presto", json=tool_call(), headers=headers)


class Load:
    """Callers that open a connection anew now and then, each time with what is newest."""

    def __init__(self, rig: Rig, callers: int) -> None:
        self._rig = rig
        self._ended = threading.Event()
        self._rounds = [0] * callers
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(callers)]
        self.failed: list[str] = []
        self.calls = 0
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def anew(self) -> None:
        """Wait until every caller has taken what is newest since: each has begun a connection after this."""
        before = list(self._rounds)
        until(lambda: all(now > was + 1 for now, was in zip(self._rounds, before, strict=True)), "calls go on")

    def _call(self, number: int) -> None:
        while not self._ended.is_set():
            self._rounds[number] += 1
            try:
                with self._rig.service(self._rig.authority.mint(ROBOT, 60)) as client:
                    for _ in range(5):
                        answer = call(self._rig, client)
                        self.calls += 1
                        if answer.status_code != 200:
                            self.failed.append(answer.text)
            except Exception as error:
                self.failed.append(f"{error!r} with {self._rig.authority.signer.name}")


def shown(rig: Rig) -> str:
    """Which certificate the edge shows."""
    with rig.service(rig.authority.mint(ROBOT, 60)) as client, client.stream("GET", "/") as response:
        stream = response.extensions["network_stream"]
        return hashlib.sha256(stream.get_extra_info("ssl_object").getpeercert(True)).hexdigest()


def test_identities_and_authorities_are_renewed_under_load_without_a_failed_call(edge: Rig) -> None:
    folder, domain = edge.home.services, edge.trust_domain
    seen = {shown(edge)}
    load = Load(edge, 4)
    first = edge.authority.signer
    try:
        until(lambda: load.calls > 20, "calls are under way")
        for _ in range(2):
            told, signs = (Authority(folder, domain, settle_s=settle_s) for settle_s in (3600, 0))
            edge.authority = told
            told.rotate()
            edge.start_identity()
            until(lambda signs=signs: served(edge, signs), "the new authority counts")  # type: ignore[misc]
            load.anew()
            edge.authority = signs
            edge.start_identity()
            until(lambda: shown(edge) not in seen, "the edge shows another certificate")
            seen.add(shown(edge))
            load.anew()
    finally:
        load.end()
    assert load.failed == []
    assert len(seen) == 3
    assert not first.with_suffix(".key").exists()


def served(edge: Rig, authority: Authority) -> bool:
    """Whether a service is let in by what this authority signs."""
    try:
        # Not `mint`, which takes away the key of the authority that others still sign with.
        with edge.service(forged(authority, [x509.UniformResourceIdentifier(ROBOT)])) as client:
            return call(edge, client).status_code == 200
    except httpx2.TransportError:
        return False


def test_an_authority_that_is_gone_lets_nobody_in_any_more(edge: Rig, tmp_path: Path) -> None:
    """A file that is replaced counts without a restart, also when it takes something away."""
    other = Authority(tmp_path / "other", edge.trust_domain)
    other.open()
    material = edge.identity.look()
    both = {edge.trust_domain: edge.authority.bundle + other.bundle}
    files = edge.keeper._files

    assert not served(edge, other)
    files.write(type(material)(material.svid, both))
    until(lambda: served(edge, other), "the other authority counts")
    files.write(material)
    until(lambda: not served(edge, other), "it counts no more")
    with edge.service(edge.authority.mint(ROBOT)) as client:
        assert call(edge, client).status_code == 200


def test_the_log_names_the_certificate_and_the_public_listener_has_none(edge: Rig) -> None:
    with edge.service(edge.authority.mint(ROBOT)) as client:
        served = call(edge, client)
    refused = edge.call(token=edge.service_token(ROBOT))
    assert edge.logged(served.headers["x-request-id"])["certificate"] == ROBOT
    line = edge.logged(refused.headers["x-request-id"])
    assert (line["sub"], line["sub_type"], line["reason"]) == (ROBOT, "service", "wrong_door")
    assert "certificate" not in line
    assert json.loads(refused.text)["error"]["data"]["reason"] == "wrong_door"
