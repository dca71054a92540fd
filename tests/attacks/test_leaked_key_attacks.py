"""A signing key leaked and was given up: whoever has it, or old files of the instance, opens nothing with it.

Rules (docs/decisions/0038): the list of leaked keys is believed before any ring, and by whoever reads one; a bundle
whose key was withdrawn keeps no other out, and is not used for long; no backup holds a key that signs. The same on a
running instance under load is `tests/system/survival/test_leaked_key.py`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from pegboard.call.ports import Standing
from pegboard.core.bundle import EDGE, Bundle
from pegboard.core.errors import BundleRefused, ConfigurationError
from pegboard.core.jose import Jwk, Signer
from pegboard.core.names import ServerName
from pegboard.core.token import TOKEN_TYPE
from pegboard.remote import bundle as servers_bundle
from pegboard.remote.bundle import BundleFile
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.requests import SPIFFE_ISSUER_HEADER
from pegboard_hub.edge import standing as edge_standing
from pegboard_hub.edge.standing import EdgeStanding
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.identity.leaks import Leak, Purpose, add_leak, leaks_file, read_leaks
from pegboard_hub.registry import key_rotation
from pegboard_hub.registry.history import Actor
from pegboard_hub.services.authority import Authority
from pegboard_hub.stopping.service import MACHINE
from pegboard_hub.upkeep.leaked.signing import sign_bundles
from tests.folders import new_folder
from tests.hub.company import URL, Company, Hub, found_company, opened
from tests.hub.test_key_rotation import asked
from tests.hub.test_services import SCRATCH, told
from tests.hub.test_services import hub as serving  # noqa: F401 - a fixture
from tests.leaks import holding
from tests.oauth import claims_of
from tests.rings import key_in, keys_in

pytestmark = pytest.mark.anyio

SERVER = ServerName("prod", "presto")
BOTH: tuple[Purpose, ...] = ("tokens", "bundles")


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


def given_up(home: Home, *purposes: Purpose) -> None:
    """The one thing that the command must write."""
    rings = {"tokens": home.token_ring, "bundles": home.bundle_ring}
    kids: dict[Purpose, tuple[str, ...]] = {
        purpose: tuple(str(key["kid"]) for key in keys_in(rings[purpose])) for purpose in purposes or BOTH
    }
    add_leak(home.keys, Leak(at=time.time(), by="test", why="", kids=kids))


class Consumers:
    """Edge and server as they decide, with what they have taken from the hub's files."""

    def __init__(self, home: Home, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.home = home
        self.edge = EdgeStanding(home, URL, ("127.0.0.1",), 8400)
        self.server = BundleFile(home.bundle(SERVER), home.bundle_keys, SERVER, URL, folder / "accepted.jws")
        self.look()

    def look(self) -> None:
        self.edge.look()
        self.server.look()

    @property
    def versions(self) -> tuple[int, int]:
        assert self.edge.bundle is not None
        return self.edge.bundle.version, self.server.facts().version

    @property
    def standing(self) -> Standing:
        return self.server.current(time.time())

    @property
    def expired(self) -> bool:
        snapshot = self.edge.snapshot(time.time())
        assert snapshot is not None
        return snapshot.expired

    def groups(self) -> set[str]:
        """Everybody who is granted something, by either."""
        snapshot = self.edge.snapshot(time.time())
        assert snapshot is not None
        return set(self.standing.access.groups).union(*(each.access.groups for each in snapshot.servers))


def forged(home: Home, key: Jwk, version: int) -> None:
    """Bundles for everybody, signed with a key, where edge and server look."""
    for consumer, path in ((EDGE, home.edge_bundle), (str(SERVER), home.bundle(SERVER))):
        found = bundle_in(path)
        everybody = tuple(each.model_copy(update={"groups": ("everyone",)}) for each in found.servers)
        changes = {"version": version, "servers": everybody, "consumer": consumer, "issued_at": int(time.time())}
        replace_file(path, found.model_copy(update=changes).sign(Signer(key)))


def bundle_in(path: Path) -> Bundle:
    return Bundle.model_validate(claims_of(path.read_text()))


# --- whoever has the key


async def test_a_token_of_a_key_that_was_given_up_opens_nothing_though_it_has_not_ended(
    hub: Hub, company: Company, tmp_path: Path
) -> None:
    consumers, stolen = Consumers(company.home, tmp_path / "a"), key_in(company.home.token_ring)
    real = await hub.token("ana")
    for_server = await hub.token("ana", resource=f"{URL}{SERVER.path}")
    forged_one = Signer(stolen).sign(claims_of(real) | {"jti": "forged"}, TOKEN_TYPE)
    admitted = consumers.standing.tokens.verify(for_server, time.time())
    given_up(company.home, "tokens")
    await hub.parts.rotation.step()
    consumers.look()
    for token in (real, forged_one):
        answer = await hub.public.get("/api/v1/whoami", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
    snapshot = consumers.edge.snapshot(time.time())
    assert snapshot is not None
    assert stolen["kid"] not in {key["kid"] for key in snapshot.jwks["keys"]}
    tokens = consumers.standing.tokens
    with pytest.raises(Exception, match="token_invalid"):
        tokens.verify(for_server, time.time())
    assert not tokens.believes(admitted), "what was opened with it does not stay open"
    fresh = {"Authorization": f"Bearer {await hub.token('ana')}"}
    assert (await hub.public.get("/api/v1/whoami", headers=fresh)).status_code == 200


@pytest.mark.parametrize("version", [10**12, 2**53], ids=str)
async def test_a_forged_bundle_in_use_keeps_the_hubs_own_out_no_longer(
    hub: Hub, company: Company, tmp_path: Path, version: int
) -> None:
    consumers, stolen = Consumers(company.home, tmp_path / "a"), key_in(company.home.bundle_ring)
    forged(company.home, stolen, version)
    consumers.look()
    assert consumers.versions == (version, version)
    assert "everyone" in consumers.groups(), "so it is worth something until it is given up"
    given_up(company.home, "bundles")
    await hub.parts.rotation.step()
    consumers.look()
    assert "everyone" not in consumers.groups()
    assert version not in consumers.versions
    again = Consumers(company.home, tmp_path / "a")
    assert "everyone" not in again.groups(), "nor after a restart, with the copy that was kept"
    forged(company.home, stolen, version)
    consumers.look()
    again.look()
    assert "everyone" not in consumers.groups() | again.groups()


async def test_a_bundle_whose_key_was_withdrawn_is_refused_when_the_hub_does_not_sign_anew(
    hub: Hub, company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumers, stolen = Consumers(company.home, tmp_path / "a"), key_in(company.home.bundle_ring)
    forged(company.home, stolen, 10**12)
    consumers.look()
    given_up(company.home, "bundles")
    open_keys(company.home)  # as the command, while no hub runs
    consumers.look()
    assert not consumers.expired
    for module in (servers_bundle, edge_standing):
        monkeypatch.setattr(module, "WITHDRAWN_S", -1.0)
    assert consumers.expired
    with pytest.raises(BundleRefused, match="withdrawn"):
        _ = consumers.standing


async def test_a_forged_rotation_back_to_the_leaked_key_is_not_believed(hub: Hub, company: Company) -> None:
    """Whoever puts the old ring back (a file of yesterday, a snapshot of one folder) brings no key back."""
    old = {path: path.read_text() for path in (company.home.token_ring, company.home.bundle_ring)}
    given_up(company.home)
    await hub.parts.rotation.step()
    for path, text in old.items():
        replace_file(path, text, mode=0o600)
    await hub.parts.rotation.step()
    held = {str(key["kid"]) for path in old for key in keys_in(path)}
    assert not held & {kid for leak in read_leaks(company.home.keys) for kids in leak.kids.values() for kid in kids}
    stolen = json.loads(old[company.home.token_ring])["keys"][0]["jwk"]
    token = Signer(stolen).sign(claims_of(await hub.token("ana")), TOKEN_TYPE)
    answer = await hub.public.get("/api/v1/whoami", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


async def test_keys_of_every_state_are_given_up_together(hub: Hub, company: Company) -> None:
    """Whoever read the file has the next key too, and may have read it when the retired one signed."""
    await asked(hub, "tokens", "bundles")
    before = {str(key["kid"]) for path in rings(company.home) for key in keys_in(path)}
    assert len(before) == 4
    given_up(company.home)
    await hub.parts.rotation.step()
    assert not before & {str(key["kid"]) for path in rings(company.home) for key in keys_in(path)}
    assert [[key["state"] for key in keys_in(path)] for path in rings(company.home)] == [["current"], ["current"]]


def rings(home: Home) -> tuple[Path, Path]:
    return home.token_ring, home.bundle_ring


# --- whoever has files of the instance


async def test_the_private_half_is_nowhere_afterwards(hub: Hub, company: Company) -> None:
    secrets = [str(key_in(path)["d"]).encode() for path in rings(company.home)]
    assert holding(company.home.root, secrets) == {
        path.relative_to(company.home.root) for path in rings(company.home)
    }
    given_up(company.home)
    await hub.parts.rotation.step()
    assert holding(company.home.root, secrets) == set()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text("[]"),
        lambda path: path.write_text(""),
        lambda path: path.write_text('{"format": 2, "leaks": []}'),
        lambda path: path.write_text(path.read_text()[:-20]),
    ],
    ids=["another document", "empty", "of a later version", "torn"],
)
async def test_a_list_that_cannot_be_read_stops_the_hub_and_is_no_empty_list(
    company: Company, spoil: Callable[[Path], object]
) -> None:
    async with opened(company):
        pass
    given_up(company.home)
    spoil(leaks_file(company.home.keys))
    with pytest.raises(ConfigurationError, match="no list of leaked keys"):
        open_keys(company.home)


async def test_the_list_is_only_added_to(hub: Hub, company: Company) -> None:
    given_up(company.home, "tokens")
    await hub.parts.rotation.step()
    given_up(company.home)
    found = read_leaks(company.home.keys)
    assert [leak.purposes for leak in found] == [("tokens",), ("tokens", "bundles")]
    assert leaks_file(company.home.keys).stat().st_mode & 0o777 == 0o600


async def test_a_connection_from_before_a_development_ca_was_given_up_gets_no_token(
    serving: Hub,  # noqa: F811 - a fixture
    company: Company,
) -> None:
    """TLS looks at a certificate once, so who opened a connection with a forged one would have it for ten minutes."""
    authority = Authority(company.home.services)
    authority.open()
    form = {"grant_type": "client_credentials", "resource": SCRATCH}

    async def status(issuer: str | None) -> int:
        headers = told() | ({} if issuer is None else {SPIFFE_ISSUER_HEADER: issuer})
        return (await serving.public.post("/oauth/token", data=form, headers=headers)).status_code

    (old,) = before = authority.give_up()
    assert await status(f"CN={old}") == 200, "nothing is known of a leak yet"
    add_leak(company.home.keys, Leak(at=time.time(), by="test", why="", kids={"authority": before}))
    (new,) = authority.give_up()
    assert old != new
    assert [await status(issuer) for issuer in (f"CN={old}", old, None, "")] == [401, 401, 401, 401]
    assert await status(f"CN={new}") == 200


RULES = """
[rules.no-cli]
effect = "deny"
servers = ["prod/presto"]
surfaces = ["cli"]
why = "SEC-31"
ask = "security"

[rules.no-chat]
effect = "deny"
surfaces = ["chat"]
why = "SEC-32"
ask = "security"

[rules.slow]
effect = "limit"
requests = 7
why = "SEC-33"
ask = "security"
"""


async def test_what_is_signed_without_a_hub_refuses_all_that_the_hubs_bundles_did(company: Company) -> None:
    """Whoever can end the hub before keys are given up must not so be rid of rules and stops."""
    home = company.home
    async with opened(company) as hub:
        await hub.parts.edges.add("second", "operator")
        await hub.parts.stopping.stop(MACHINE, "person", "sam", "rehearsed")
        ruling = hub.parts.ruling
        await ruling.apply(await ruling.propose(RULES, 0), Actor("operator"), "the test", widening=False)
        await hub.parts.registry.resign()
    paths = (home.edge_bundle, home.bundle(SERVER), home.joined_edge_bundle("second"))
    before = [bundle_in(path) for path in paths]
    assert [rule.name for rule in before[1].rules + before[1].servers[0].rules] == ["no-chat", "no-cli"]
    given_up(home)
    await sign_bundles(home, URL)
    for old, new in zip(before, map(bundle_in, paths), strict=True):
        assert new.jwks != old.jwks
        same = {"version": 0, "issued_at": 0, "jwks": old.jwks}
        assert new.model_copy(update=same) == old.model_copy(update=same)
