"""Several edges behind one name, attacked: a stolen credential, a lying edge, old files, and whoever plays the hub.

Promises: an edge's credential opens its own bundle and its own word, and nothing else; what an edge says decides
nothing but what it is waited for; an edge takes nothing that the hub did not answer it now; no bundle of another, and
no older one, is ever used.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pegboard.core.bundle import EDGE, MAX_AGE_S, STOPS_MAX_AGE_S, Bundle
from pegboard.core.errors import ConfigurationError
from pegboard.core.jose import Signer, new_private_key, public_jwks
from pegboard_hub.common.asking import NotTheHub
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.joining import NONCE_HEADER, PROOF_HEADER, digest_of, proof
from pegboard_hub.edge.link import DOOR, Link, Removed
from pegboard_hub.edge.standing import EdgeStanding
from pegboard_hub.registry import key_rotation
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.joined import JoinedEdge, JoinedSettings
from pegboard_hub.stopping.service import MACHINE
from pegboard_hub.web.internal import edges as door
from tests.folders import new_folder
from tests.hub.company import OPERATOR, Company, Hub, found_company, opened
from tests.hub.joined import Edge, at, join, listed, operator
from tests.hub.test_key_rotation import CONSUMERS, Fleet, asked, awaited, states
from tests.leaks import holding
from tests.rings import key_in

pytestmark = pytest.mark.anyio


@pytest.fixture
def company() -> Iterator[Company]:
    root = new_folder()
    yield found_company(root)
    shutil.rmtree(root)


@pytest.fixture
async def hub(company: Company, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    monkeypatch.setattr(key_rotation, "SETTLE_S", 0.0)
    monkeypatch.setattr(door, "HOLD_S", 0.05)
    async with opened(company) as found:
        yield found


@pytest.fixture
async def edge(hub: Hub, tmp_path: Path) -> Edge:
    """A joined edge whose credential somebody has stolen, with its bundle taken."""
    found = await join(hub, tmp_path)
    await found.link.ask()
    assert found.version
    return found


# A stolen credential

NOT_FOR_EDGES = [
    *[("GET", path) for path in ("grants", "prober", "keys", "edges", "stops", "registry/export", "sessions")],
    *[
        ("POST", path)
        for path in ("keys/rotate", "edges", "edges/remove", "stops", "stops/resume", "registry/import")
    ],
    *[("POST", path) for path in ("records", "health", "acknowledgement", "edge/acknowledgement", "edge/refusals")],
]


@pytest.mark.parametrize(("method", "path"), NOT_FOR_EDGES)
async def test_a_stolen_credential_opens_nothing_else_at_the_internal_door(
    hub: Hub, edge: Edge, method: str, path: str
) -> None:
    headers = {"Authorization": f"Bearer {edge.join.credential}"}
    body: Any = {"name": "other", "why": "x", "kind": "person", "purposes": ["tokens"], "records": [], "refusals": []}
    answer = await hub.internal.request(
        method, f"/internal/v1/{path}", json=body if method == "POST" else None, headers=headers
    )
    assert answer.status_code in (401, 404, 405), (path, answer.text)
    assert (await listed(hub)).keys() == {"edge", "second"}


@pytest.mark.parametrize("path", ["/api/v1/whoami", "/api/v1/edges", "/metrics", "/v0.1/servers"])
async def test_a_stolen_credential_is_no_token_at_the_public_door(hub: Hub, edge: Edge, path: str) -> None:
    answer = await hub.public.get(path, headers={"Authorization": f"Bearer {edge.join.credential}"})
    assert answer.status_code in (401, 404)


async def test_a_stolen_credential_gets_its_own_bundle_and_no_other_whatever_it_asks(
    hub: Hub, edge: Edge, tmp_path: Path
) -> None:
    await join(hub, tmp_path, "third")
    headers = {"Authorization": f"Bearer {edge.join.credential}", NONCE_HEADER: "n" * 32}
    for query in ("name=third", "edge=third", "consumer=edge:third", "tag=../third", "tag=%00", "name=../../keys"):
        answer = await hub.internal.get(f"{DOOR}/bundle?{query}", headers=headers)
        bundle = answer.json()["bundle"]
        assert _payload(bundle)["consumer"] == "edge:second"
    for path in ("third", "bundle/third", "../edges", "bundle/../../keys"):
        assert (await hub.internal.get(f"{DOOR}/{path}", headers=headers)).status_code in (401, 404, 405)


async def test_what_a_thief_reads_holds_no_secret(hub: Hub, edge: Edge, company: Company) -> None:
    headers = {"Authorization": f"Bearer {edge.join.credential}", NONCE_HEADER: "n" * 32}
    text = (await hub.internal.get(f"{DOOR}/bundle", headers=headers)).text
    secrets = [key_in(path)["d"] for path in (company.home.token_ring, company.home.bundle_ring)]
    assert [each for each in (*secrets, OPERATOR, edge.join.credential) if each in text] == []
    assert all("d" not in key for key in _payload(json.loads(text)["bundle"])["jwks"]["keys"])


async def test_refusals_that_a_thief_makes_up_bear_the_name_of_the_edge(hub: Hub, edge: Edge) -> None:
    who = {"sub": "fay", "sub_type": "person", "surface": "cli", "client_id": "pegboard-cli"}
    refusal = {"request_id": "r", "at_ms": int(time.time() * 1000), "status": 403, "code": "x", "who": who}
    await edge.post("refusals", {"refusals": [refusal | {"server": "prod/presto"}]})
    [call] = await hub.calls("pat")
    assert call["detail"].endswith("told by the edge second")


async def test_questions_that_a_thief_holds_open_are_few(
    hub: Hub, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(door, "HOLD_S", 2.0)
    tag = edge.link._tag
    headers = {"Authorization": f"Bearer {edge.join.credential}", NONCE_HEADER: "n" * 32}
    answers = await asyncio.gather(
        *(hub.internal.get(f"{DOOR}/bundle", params={"tag": tag}, headers=headers) for _ in range(20))
    )
    assert sorted({answer.status_code for answer in answers}) == [200, 429]
    assert sum(answer.status_code == 200 for answer in answers) == door.MOST_HELD


async def test_whole_bundles_come_to_a_thief_at_a_pace(hub: Hub, edge: Edge) -> None:
    headers = {"Authorization": f"Bearer {edge.join.credential}", NONCE_HEADER: "n" * 32}
    began = time.monotonic()
    for _ in range(4):
        answer = await hub.internal.get(f"{DOOR}/bundle", headers=headers)
        assert answer.json()["bundle"]
    assert time.monotonic() - began >= 3 * door.PACE_S


BAD_WORDS: list[tuple[dict[str, Any], int]] = [
    ({"state": "the best"}, 422),
    ({"state": "live", "faults": ["x"] * 100}, 422),
    ({"state": "live", "faults": ["x" * 10_000]}, 422),
    ({"state": "live", "version": 1 << 60}, 422),
    ({"state": "live", "version": -1}, 422),
    ({"state": "live", "software": "x" * 1000}, 422),
    ({"state": "live", "extra": "x" * 100_000}, 413),
]


@pytest.mark.parametrize(("word", "status"), BAD_WORDS)
async def test_what_an_edge_says_of_itself_is_bounded(
    hub: Hub, edge: Edge, word: dict[str, Any], status: int
) -> None:
    assert (await edge.post("word", word)).status_code == status


# Who is no edge


@pytest.mark.parametrize("path", ["bundle", "word", "acknowledgement", "refusals"])
@pytest.mark.parametrize("who", ["nobody", "the operator", "a server", "a person", "a name", "a digest", "removed"])
async def test_nobody_else_is_an_edge(hub: Hub, edge: Edge, company: Company, who: str, path: str) -> None:
    credential = {
        "nobody": "",
        "the operator": OPERATOR,
        "a server": company.open_channel("prod/presto", "r"),
        "a person": await hub.token("pat"),
        "a name": "second",
        "a digest": digest_of(edge.join.credential),
        "removed": edge.join.credential,
    }[who]
    if who == "removed":
        await operator(hub, "POST", "/remove", {"name": "second", "why": "x"})
        await operator(hub, "POST", body={"name": "second"})  # the same name anew is another edge
    headers = {"Authorization": f"Bearer {credential or 'x'}", NONCE_HEADER: "n" * 32}
    method = "GET" if path == "bundle" else "POST"
    answer = await hub.internal.request(method, f"{DOOR}/{path}", json={"state": "live"}, headers=headers)
    assert answer.status_code in (401, 410)
    assert "bundle" not in answer.text or answer.status_code == 401


async def test_edges_are_added_and_removed_at_the_machine_alone(hub: Hub) -> None:
    for headers in ({}, {"Authorization": f"Bearer {await hub.token('pat')}"}):
        for client in (hub.internal, hub.public):
            for path in ("/internal/v1/edges", "/internal/v1/edges/remove", "/api/v1/edges"):
                answer = await client.post(path, json={"name": "mine", "why": "x"}, headers=headers)
                assert answer.status_code in (401, 403, 404, 405), path
    assert (await listed(hub)).keys() == {"edge"}


# An edge that lies


async def test_an_edge_that_says_it_has_a_key_speaks_for_itself_alone(hub: Hub, edge: Edge, company: Company) -> None:
    fleet = Fleet(company)
    await edge.link.tell(edge.word())
    coming = (await asked(hub, "tokens"))["rotations"][0]["kid"]
    await hub.parts.rotation.step()
    lie = {"version": 1 << 40, "issued_at": 1 << 40, "signed_by": coming, "token_keys": [coming], "bundle_keys": []}
    for consumer in (*CONSUMERS, "edge", "edge:second"):
        assert (
            await edge.post("acknowledgement", lie | {"consumer": consumer, "server": consumer})
        ).status_code == 204
    await hub.parts.rotation.step()
    assert awaited(await asked(hub)) == {"tokens": set(CONSUMERS)}
    assert states(company)[0] == ["current", "next"]
    await fleet.acknowledge(hub)
    await hub.parts.rotation.step()
    assert states(company)[0] == ["retired", "current"]
    # What it lied about it lacks: it decides with its old bundle, and refuses what the new key signed.
    assert edge.standing.bundle is not None
    assert coming not in [key["kid"] for key in edge.standing.bundle.jwks["keys"]]


async def test_an_edge_that_says_nothing_is_named_and_its_removal_ends_the_wait(
    hub: Hub, edge: Edge, company: Company
) -> None:
    fleet = Fleet(company)
    await edge.link.tell(edge.word())
    await asked(hub, "tokens")
    await hub.parts.rotation.step()
    await fleet.acknowledge(hub)
    for _ in range(3):
        await edge.link.ask()
        await hub.parts.rotation.step()
    assert awaited(await asked(hub)) == {"tokens": {"edge:second"}}
    await operator(hub, "POST", "/remove", {"name": "second", "why": "it hangs"})
    await hub.parts.rotation.step()
    assert states(company)[0] == ["retired", "current"]


async def test_an_edge_that_claims_a_newer_version_than_there_is_changes_nothing_for_others(
    hub: Hub, edge: Edge, tmp_path: Path
) -> None:
    third = await join(hub, tmp_path, "third")
    await edge.post("word", {"state": "live", "version": (1 << 53) - 1})
    await hub.parts.registry.resign()
    assert await third.link.ask()
    assert third.version < 1 << 40


# Whoever plays the hub


Answering = Callable[[httpx2.Request, httpx2.Response], httpx2.Response]


class Between(httpx2.AsyncBaseTransport):
    """Whoever is between an edge and the hub, and does with the answers as they please."""

    def __init__(self, hub: Hub, answering: Answering) -> None:
        self._hub = hub.internal._transport
        self._answering = answering

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = await self._hub.handle_async_request(request)
        body = await answer.aread()
        return self._answering(request, httpx2.Response(answer.status_code, headers=answer.headers, content=body))


def sealed(digest: str, nonce: str, status: int, body: bytes) -> httpx2.Response:
    return httpx2.Response(status, headers={PROOF_HEADER: proof(digest, nonce, status, body)}, content=body)


FORGED = json.dumps({"tag": "x", "bundle": "forged", "keys": json.dumps(public_jwks(new_private_key()))}).encode()
GONE = json.dumps({"error": {"code": "edge_removed", "message": "go away"}}).encode()

ATTACKERS: dict[str, Answering] = {
    "an answer without a proof": lambda _, __: httpx2.Response(200, content=FORGED),
    "an empty proof": lambda _, __: httpx2.Response(200, headers={PROOF_HEADER: ""}, content=FORGED),
    "a proof that is no text": lambda _, __: httpx2.Response(
        200, headers=[(PROOF_HEADER.encode(), b"\xfc" * 64)], content=FORGED
    ),
    "the hub's proof for another body": lambda _, a: httpx2.Response(200, headers=a.headers, content=FORGED),
    "the hub's proof for another status": lambda _, a: httpx2.Response(410, headers=a.headers, content=a.content),
    "a removal that the hub did not say": lambda _, __: httpx2.Response(410, content=GONE),
    "another edge's proof": lambda r, _: sealed(digest_of("other"), r.headers[NONCE_HEADER], 200, FORGED),
    "a proof with the number of another question": lambda _, a: sealed(digest_of("x"), "n" * 32, 200, FORGED),
    "a redirect": lambda _, __: httpx2.Response(302, headers={"location": "http://evil.example/"}),
}


@pytest.mark.parametrize("how", ATTACKERS)
async def test_an_edge_takes_nothing_that_the_hub_did_not_answer(hub: Hub, edge: Edge, how: str) -> None:
    before = _files(edge.home)
    await hub.parts.registry.resign()
    link = Link(edge.home, edge.join, Between(hub, ATTACKERS[how]), edge.word)
    with pytest.raises(NotTheHub):
        await link.ask()
    assert _files(edge.home) == before


async def test_an_answer_of_before_is_none_to_a_question_of_now(hub: Hub, edge: Edge) -> None:
    kept: list[httpx2.Response] = []

    def repeat(_: httpx2.Request, answer: httpx2.Response) -> httpx2.Response:
        kept.append(answer)
        return kept[0]

    link = Link(edge.home, edge.join, Between(hub, repeat), edge.word)
    assert await link.ask()
    await hub.parts.stopping.stop(MACHINE, "person", "fay", "left", None)
    await hub.parts.registry.resign()
    with pytest.raises(NotTheHub):
        await link.ask()


@pytest.mark.parametrize("nonce", ["", "short", "n" * 500, "nonce with \t tab " * 3])
async def test_a_question_without_a_number_of_its_own_is_not_answered(hub: Hub, edge: Edge, nonce: str) -> None:
    headers = {"Authorization": f"Bearer {edge.join.credential}", NONCE_HEADER: nonce}
    assert (await hub.internal.get(f"{DOOR}/bundle", headers=headers)).status_code == 422


# Bundles of others, old files, downgrades


@pytest.mark.parametrize(
    "whose", ["another edge's", "the instance's own edge's", "a server's", "a stranger's", "cut"]
)
async def test_a_bundle_that_is_not_its_own_is_not_used_and_said(
    hub: Hub, edge: Edge, company: Company, tmp_path: Path, whose: str
) -> None:
    third = await join(hub, tmp_path, "third")
    await third.link.ask()
    before = edge.version
    own = edge.home.edge_bundle.read_text()
    stranger = Bundle.model_validate(_payload(own) | {"version": before + 1}).sign(Signer(new_private_key()))
    text = {
        "another edge's": third.home.edge_bundle.read_text(),
        "the instance's own edge's": company.home.edge_bundle.read_text(),
        "a server's": company.home.bundle(hub.parts.registry.current.servers["prod/presto"].name).read_text(),
        "a stranger's": stranger,
        "cut": own[:-9],
    }[whose]
    replace_file(edge.home.edge_bundle, text)
    assert edge.version == before
    assert "the last good one stays" in edge.standing.refused


async def test_a_joined_edges_bundle_is_none_for_the_instances_own_edge(
    hub: Hub, edge: Edge, company: Company
) -> None:
    own = EdgeStanding(company.home, company.settings.public_url, ("127.0.0.1",), 8400)
    own.look()
    assert own.bundle is not None
    replace_file(company.home.edge_bundle, edge.home.edge_bundle.read_text())
    own.look()
    assert own.bundle.consumer == EDGE
    assert "it was made for edge:second" in own.refused


async def test_an_older_bundle_of_its_own_is_not_used_whoever_puts_it_there(hub: Hub, edge: Edge) -> None:
    old = edge.home.edge_bundle.read_text()
    await hub.parts.stopping.stop(MACHINE, "person", "fay", "left", None)
    await hub.parts.registry.resign()
    await edge.link.ask()
    newest = edge.version
    replace_file(edge.home.edge_bundle, old)
    assert edge.version == newest
    # Nor after a restart: what was accepted last is kept.
    again = at(hub, edge.join, edge.home.root)
    assert again.version == newest
    assert "is older than" in again.standing.refused


async def test_an_edge_brought_back_with_old_files_asks_first_and_has_what_was_stopped_meanwhile(
    hub: Hub, edge: Edge, tmp_path: Path
) -> None:
    shutil.copytree(edge.home.root, tmp_path / "backup", symlinks=True)
    await hub.parts.stopping.stop(MACHINE, "person", "fay", "left", None)
    await hub.parts.registry.resign()
    back = at(hub, edge.join, tmp_path / "backup")
    await back.link.ask()  # `runtime.joined` does before Envoy is started
    back.standing.look()
    assert back.standing.bundle is not None
    assert back.standing.bundle.stops.people == {"fay": "left"}


@pytest.mark.parametrize(
    ("age_s", "expired", "stops_unknown"),
    [(STOPS_MAX_AGE_S - 5, False, False), (STOPS_MAX_AGE_S + 5, False, True), (MAX_AGE_S + 5, True, True)],
)
async def test_old_files_without_a_hub_serve_no_longer_than_their_age_allows(
    hub: Hub, edge: Edge, age_s: int, expired: bool, stops_unknown: bool
) -> None:
    snapshot = edge.standing.snapshot(time.time() + age_s)
    assert snapshot is not None
    assert (snapshot.expired, snapshot.stops_unknown) == (expired, stops_unknown)


async def test_a_removed_edges_backup_serves_nobody_once_it_asks(hub: Hub, edge: Edge, tmp_path: Path) -> None:
    shutil.copytree(edge.home.root, tmp_path / "backup", symlinks=True)
    await operator(hub, "POST", "/remove", {"name": "second", "why": "stolen"})
    back = at(hub, edge.join, tmp_path / "backup")
    with pytest.raises(Removed):
        await back.link.ask()
    assert back.version == 0


# Files and processes


class Quiet:
    def step(self, line: str) -> None: ...

    def problem(self, line: str) -> None: ...


@pytest.mark.parametrize("name", ["join.json", "gate"])
async def test_an_instance_does_not_start_in_the_home_of_an_edge_or_a_gate(tmp_path: Path, name: str) -> None:
    home = Home.open(tmp_path / "home")
    replace_file(home.instance_file, json.dumps({"gate": "/srv/pegboard"} if name == "gate" else {"edge": "second"}))
    with pytest.raises(ConfigurationError, match="is the home of"):
        preflight.check_kind(home.root)


@pytest.mark.parametrize("fault", ["others may read it", "another edge's home", "the instance's home", "no file"])
async def test_a_joined_edge_starts_only_with_a_file_of_its_own_in_a_home_of_its_own(
    edge: Edge, company: Company, tmp_path: Path, fault: str
) -> None:
    file = tmp_path / "join"
    replace_file(file, edge.join.model_dump_json(), mode=0o644 if fault == "others may read it" else 0o600)
    home = {"another edge's home": tmp_path / "other", "the instance's home": company.home.root}.get(fault)
    if fault == "another edge's home":
        other = edge.join.model_copy(update={"name": "other"})
        replace_file(Home.open(tmp_path / "other").join_file, other.model_dump_json(), mode=0o600)
    settings = JoinedSettings(home or tmp_path / "new", 27999, None if fault == "no file" else file)
    with pytest.raises(ConfigurationError) as refused:
        JoinedEdge(settings, Quiet())
    assert edge.join.credential not in str(refused.value)
    assert not (tmp_path / "new" / "edge").exists()


async def test_the_instance_keeps_no_credential_of_an_edge_and_tells_none(
    hub: Hub, edge: Edge, company: Company, caplog: pytest.LogCaptureFixture
) -> None:
    await edge.link.ask()
    await edge.link.tell(edge.word())
    await edge.post("word", {"state": edge.join.credential})
    told = json.dumps(await listed(hub)) + caplog.text + (await hub.api("pat", "edges")).text
    told += hub.parts.page.own().decode()
    assert edge.join.credential not in told
    assert holding(company.home.root, {edge.join.credential.encode()}) == set()


def test_a_file_that_is_there_is_not_overwritten_with_a_credential(tmp_path: Path) -> None:
    file = tmp_path / "there"
    file.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    for out in (file, link):
        command = [
            sys.executable,
            "-m",
            "pegboard.cli",
            "edge",
            "add",
            "x",
            "--out",
            str(out),
            "--home",
            str(tmp_path),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
        assert done.returncode != 0
    assert file.read_text() == "mine"
    assert not (tmp_path / "target").exists()


def _payload(text: str) -> dict[str, Any]:

    part = text.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def _files(home: Home) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(home.root.rglob("*")) if path.is_file()}


async def test_an_edge_whose_credential_was_stolen_and_replaced_has_a_bundle_at_once(
    hub: Hub, company: Company
) -> None:
    """So that nobody leaves a stolen one in force because the edge would be without a bundle for a minute."""
    registry, edges, path = hub.parts.registry, hub.parts.edges, company.home.joined_edge_bundle("far")
    found = []
    for remove in (False, True, False):
        await (edges.remove("far", "operator", "stolen") if remove else edges.add("far", "operator"))
        await registry._bundles.write_first(registry.current, time.time(), refresh=False)
        found.append(path.exists())
    assert found == [True, False, True]
