"""Rotation of keys under attack: forged and replayed bundles, words for others, keys that do not sign yet.

Rules (design, Rules of trust): fail closed; private halves are the hub's alone; a credential, not a word, says who
speaks. Headers that bring a key along (`jwk`, `jku`) in tokens are in `test_token_attacks.py`; a token of a removed
key, at every layer of a running instance, in `tests/system/survival/test_key_rotation.py`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from pegboard.core.bundle import BUNDLE_TYPE, EDGE, Bundle
from pegboard.core.jose import Jwk, Signer, Verifier, new_private_key, public_jwks
from pegboard.core.names import ServerName
from pegboard.core.token import TOKEN_TYPE
from pegboard.remote.bundle import BundleFile
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.edge.standing import EdgeStanding
from pegboard_hub.registry import key_rotation
from pegboard_hub.upkeep.backup import back_up
from tests.folders import new_folder
from tests.hub.company import OPERATOR, PRESTO, URL, Company, Hub, found_company, opened
from tests.hub.test_key_rotation import CONSUMERS, Fleet, asked, awaited, states
from tests.leaks import holding
from tests.rings import key_in

pytestmark = pytest.mark.anyio

SERVER = ServerName("prod", "presto")
EVERYBODY = {"groups": ("everyone",), "surfaces": ("cli",)}


@pytest.fixture
def company() -> Iterator[Company]:
    root = new_folder()
    yield found_company(root)
    shutil.rmtree(root)


@pytest.fixture
async def hub(company: Company, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    monkeypatch.setattr(key_rotation, "SETTLE_S", 0.0)
    async with opened(company) as found:
        yield found


@pytest.fixture
def fleet(company: Company) -> Fleet:
    return Fleet(company)


async def rotated(hub: Hub, fleet: Fleet, *purposes: str) -> None:
    """A whole rotation, with its old bundle key removed."""
    await asked(hub, *purposes)
    for _ in range(2):
        await hub.parts.rotation.step()
        await fleet.acknowledge(hub)
    await hub.parts.rotation.step()
    assert states(fleet.company)[1] == ["current"]


class Consumers:
    """The edge and a server as they decide: with the bundle that they take from the hub's file."""

    def __init__(self, home: Home, folder: Path) -> None:
        self.home = home
        self.edge = EdgeStanding(home, URL, ("127.0.0.1",), 8400)
        accepted = folder / "accepted.jws"
        self.server = BundleFile(home.bundle(SERVER), home.bundle_keys, SERVER, URL, accepted)
        self.server.look()

    def opened_by(self, forge: Callable[[Bundle], str]) -> bool:
        """Put forged bundles where both look; whether either takes it into use."""
        for consumer, path in ((EDGE, self.home.edge_bundle), (str(SERVER), self.home.bundle(SERVER))):
            good = path.read_text()
            verifier = Verifier(json.loads(self.home.bundle_keys.read_text()))
            bundle = Bundle.model_validate(verifier.verify(good, BUNDLE_TYPE))
            servers = tuple(each.model_copy(update=EVERYBODY) for each in bundle.servers)
            forged = bundle.model_copy(update={"version": bundle.version + 1, "servers": servers})
            replace_file(path, forge(forged))
            self.edge.look()
            self.server.look()
            replace_file(path, good)
            assert consumer == bundle.consumer
        snapshot = self.edge.snapshot(time.time())
        assert snapshot is not None
        groups = [each.access.groups for each in snapshot.servers]
        groups.append(self.server._standing.access.groups)  # type: ignore[union-attr]
        return any("everyone" in each for each in groups)


def under(key: Jwk, **header: Any) -> Callable[[Bundle], str]:
    """Sign with a key, under any header."""

    def forge(bundle: Bundle) -> str:
        whole = {"alg": "ES256", "typ": BUNDLE_TYPE, "kid": key["kid"], **header}
        registry = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
        return jws.serialize_compact(
            whole, bundle.model_dump_json().encode(), ECKey.import_key(key), registry=registry
        )

    return forge


async def test_a_stolen_bundle_key_opens_nothing_once_it_is_removed(hub: Hub, fleet: Fleet, tmp_path: Path) -> None:
    consumers = Consumers(fleet.company.home, tmp_path)
    stolen = key_in(fleet.company.home.bundle_ring)
    await rotated(hub, fleet, "bundles")
    consumers.server.look()
    assert not consumers.opened_by(under(stolen))
    assert not consumers.opened_by(under(stolen, kid=key_in(fleet.company.home.bundle_ring)["kid"]))
    assert not Consumers(fleet.company.home, tmp_path / "none").opened_by(under(stolen)), "nor in one that forgot"
    assert consumers.opened_by(under(key_in(fleet.company.home.bundle_ring))), "the same forgery by the right key"


async def test_a_bundle_that_brings_its_key_along_is_not_believed(hub: Hub, company: Company, tmp_path: Path) -> None:
    attacker = new_private_key()
    consumers = Consumers(company.home, tmp_path)
    brought: dict[str, Any] = {
        "jwk": public_jwks(attacker)["keys"][0],
        "jku": "http://localhost:1/keys.json",
        "x5u": "http://localhost:1/x.pem",
        "x5c": ["MIIB"],
    }
    for kid in (key_in(company.home.bundle_ring)["kid"], attacker["kid"], ""):
        for name, value in brought.items():
            assert not consumers.opened_by(under(attacker, kid=kid, **{name: value})), (kid, name)
    assert consumers.opened_by(under(key_in(company.home.bundle_ring))), "the same forgery by the right key"


async def test_no_server_acknowledges_for_another_or_for_the_edge(hub: Hub, fleet: Fleet) -> None:
    await asked(hub, "tokens", "bundles")
    await hub.parts.rotation.step()
    word = {
        "version": 10**12,
        "issued_at": int(time.time()),
        "signed_by": "x",
        "token_keys": [key["kid"] for key in hub.parts.rotation.keys.token_jwks["keys"]],
        "bundle_keys": [key["kid"] for key in hub.parts.rotation.keys.bundle_jwks["keys"]],
    }
    claims = [{"consumer": name, "server": name, "sub": name} for name in CONSUMERS]
    for claim in claims:
        assert (await fleet.post(hub, "dev/scratch", word | claim)).status_code == 204
    left = {EDGE, "prod/presto"}
    assert awaited(await asked(hub)) == {"tokens": left, "bundles": left}
    await hub.parts.rotation.step()
    assert states(fleet.company) == (["current", "next"], ["current", "next"])


@pytest.mark.parametrize("path", ["acknowledgement", "edge/acknowledgement", "keys/rotate", "keys"])
async def test_the_doors_open_to_their_own_credential_alone(hub: Hub, fleet: Fleet, path: str) -> None:
    person = await hub.token("sam")
    wrong = [None, "", person, "x" * 10_000, OPERATOR if path == "acknowledgement" else fleet.channels["dev/scratch"]]
    for token in wrong:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        method = "GET" if path == "keys" else "POST"
        answer = await hub.internal.request(method, f"/internal/v1/{path}", json={}, headers=headers)
        assert answer.status_code == 401, token
        assert "kid" not in answer.text
    outside = await hub.public.post(f"/internal/v1/{path}", json={}, headers={"Authorization": f"Bearer {OPERATOR}"})
    assert outside.status_code in (404, 405), "the edge leads to no such door"


@pytest.mark.parametrize(
    "change",
    [
        {"version": "many"},
        {"version": None},
        {"token_keys": ["k"] * 65},
        {"token_keys": "k"},
        {"bundle_keys": [{"kid": "k"}]},
        {"signed_by": "k" * 129},
        {"padding": "k" * 70_000},
    ],
    ids=lambda each: ascii(each)[:60],
)
async def test_a_malformed_word_is_refused_and_kept_nowhere(hub: Hub, fleet: Fleet, change: dict[str, Any]) -> None:
    word = {"version": 1, "issued_at": 1, "signed_by": "k", "token_keys": ["k"], "bundle_keys": ["k"]}
    assert (await fleet.post(hub, "dev/scratch", word | change)).status_code in (413, 422)
    assert hub.parts.rotation._told == {}


async def test_a_key_that_does_not_sign_yet_is_verified_with_and_could_only_be_used_by_the_hub(
    hub: Hub, fleet: Fleet
) -> None:
    """Consumers must know it before it signs. So whoever had it could sign already, and nobody but the hub has it."""
    home = fleet.company.home
    await asked(hub, "tokens", "bundles")
    await hub.parts.rotation.step()
    coming = key_in(home.token_ring, "next")
    claims = {"sub": "ana"}
    _, bundle, _ = fleet.bundle(str(SERVER))
    assert Verifier(bundle.jwks).verify(Signer(coming).sign(claims, TOKEN_TYPE), TOKEN_TYPE) == claims
    secrets = [key_in(path, "next")["d"].encode() for path in (home.token_ring, home.bundle_ring)]
    rings = (home.token_ring, home.bundle_ring)
    assert holding(home.root, secrets) == {ring.relative_to(home.root) for ring in rings}
    assert {path.stat().st_mode & 0o777 for path in rings} == {0o600}
    told = json.dumps(await asked(hub)).encode()
    assert b'"d"' not in told
    assert not [secret for secret in secrets if secret in told]
    without = back_up(home, home.root.parent / "backup.tar.gz", lambda _line: None, keys=False)
    assert not [member.name for member in without.manifest.members if member.name.startswith("keys/")]


async def test_what_is_signed_for_bundles_verifies_as_no_token_and_the_other_way_round(
    hub: Hub, fleet: Fleet
) -> None:
    await rotated(hub, fleet, "tokens", "bundles")
    home = fleet.company.home
    tokens, bundles = (Verifier(each.jwks) for each in hub.parts.rotation.keys.rings)
    assert not set(tokens.kids) & set(bundles.kids)
    forged = Signer({**key_in(home.bundle_ring), "kid": key_in(home.token_ring)["kid"]}).sign(
        {"aud": PRESTO}, TOKEN_TYPE
    )
    with pytest.raises(ValueError, match="does not verify"):
        tokens.verify(forged, TOKEN_TYPE)
