"""`pegboard keys leaked` on an instance whose hub runs, is away, or dies; and itself killed at each of its steps."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pegboard.core.bundle import EDGE, Bundle, edge_consumer, open_bundle
from pegboard.core.errors import BundleRefused
from pegboard.core.jose import Verifier
from pegboard.core.names import ServerName
from pegboard_hub.common.asking import at_socket
from pegboard_hub.common.home import Home
from pegboard_hub.common.joining import EdgeWord, JoinFile
from pegboard_hub.edge.link import Link
from pegboard_hub.edge.standing import EdgeStanding
from pegboard_hub.identity.leaks import leaked_kids, read_leaks
from pegboard_hub.identity.sealing import Sealer, read_sealing_key
from pegboard_hub.services.authority import Authority
from pegboard_hub.stopping.service import MACHINE
from pegboard_hub.upkeep.checks import trust
from pegboard_hub.upkeep.doctor import gather
from pegboard_hub.upkeep.finding import State
from pegboard_hub.upkeep.hub_door import HubDoor
from pegboard_hub.upkeep.leaked import joined
from tests.hub.company import URL, Company, opened
from tests.hub.hub_process import Process, arguments
from tests.hub.joined import join
from tests.hub.test_rules import NO_CALLS, NO_CHAT, file, machine
from tests.rings import keys_in

SERVERS = (ServerName("prod", "presto"), ServerName("dev", "scratch"))
LIMIT_S = 120


@pytest.fixture
def stopped(company: Company) -> Company:
    """An instance that ran, and whose hub is down."""

    async def run() -> None:
        async with opened(company):
            pass

    asyncio.run(run())
    noted = {"port": 1, "public_url": company.settings.public_url, "grants": str(company.grants)}
    company.home.instance_file.write_text(json.dumps(noted))
    return company


@pytest.fixture
def running(stopped: Company) -> Iterator[Process]:
    process = Process(stopped)
    process.start(*arguments(stopped))
    process.ready()
    yield process
    process.end()


def command(home: Home, *words: str) -> list[str]:
    return [sys.executable, "-m", "pegboard.cli", "keys", "leaked", *words, "--home", str(home.root), "--json"]


def leaked(home: Home, *words: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, document and progress."""
    ended = subprocess.run(command(home, *words), capture_output=True, text=True, timeout=LIMIT_S)
    return ended.returncode, json.loads(ended.stdout) if ended.stdout else {}, ended.stderr


def rings(home: Home) -> dict[str, Path]:
    return {"tokens": home.token_ring, "bundles": home.bundle_ring, "releases": home.release_ring}


def kids(home: Home, *purposes: str) -> set[str]:
    """The keys that there are."""
    return {str(key["kid"]) for purpose in purposes or rings(home) for key in keys_in(rings(home)[purpose])}


def nothing_believes(home: Home, gone: set[str]) -> None:
    """No file of the instance has anybody verify with one of these keys."""
    assert not gone & kids(home)
    published = json.loads(home.bundle_keys.read_text())
    assert not gone & {key["kid"] for key in published["keys"]}
    assert not gone & {key["kid"] for key in json.loads(home.release_keys.read_text())["keys"]}
    verifier = Verifier(published)
    paths = {EDGE: home.edge_bundle, **{str(name): home.bundle(name) for name in SERVERS}}
    for consumer, path in paths.items():
        bundle = open_bundle(path.read_text(), verifier, consumer)
        assert not gone & {key["kid"] for key in bundle.jwks["keys"]}, consumer
        assert {key["kid"] for key in bundle.jwks["keys"]} == kids(home, "tokens")


def test_a_running_hub_signs_everything_anew_and_nobody_else_is_asked(running: Process, stopped: Company) -> None:
    home, before = stopped.home, kids(stopped.home)
    status, found, err = leaked(home, "--why", "a laptop", "--since", "2d")
    assert status == 0, err
    assert found["signed_by"] == "hub"
    assert not found["resumed"]
    assert "every release that is whole is signed anew (hub)" in err
    assert "hub's API" in found["refused_s"], "tried at the hub's own door"
    assert set(found["silent"]) == {"edge", *map(str, SERVERS)}
    nothing_believes(home, before)
    (leak,) = read_leaks(home.keys)
    assert (leak.why, {kid for each in leak.kids.values() for kid in each}) == ("a laptop", before)
    listed = subprocess.run(
        [sys.executable, "-m", "pegboard.cli", "keys", "list", "--home", str(home.root)],
        capture_output=True,
        text=True,
    )
    assert f": bundles, tokens, releases; {leak.by}: a laptop" in listed.stdout.replace(
        "tokens, bundles", "bundles, tokens"
    )
    assert leak.since is not None
    assert 2 * 86_400 - 5 < leak.at - leak.since < 2 * 86_400 + 5


@pytest.mark.parametrize(
    ("what", "purposes"), [("tokens", ("tokens",)), ("bundles", ("bundles",)), ("releases", ("releases",))]
)
def test_one_kind_of_key_is_given_up_and_the_other_goes_on(
    stopped: Company, what: str, purposes: tuple[str, ...]
) -> None:
    home = stopped.home
    gone, kept = kids(home, *purposes), kids(home) - kids(home, *purposes)
    status, found, err = leaked(home, "--what", what)
    assert status == 0, err
    assert kept < kids(home)
    nothing_believes(home, gone)
    assert set(found["leak"]["kids"]) == set(purposes)


def test_it_works_while_the_hub_is_down_and_the_hub_goes_on_from_there(stopped: Company) -> None:
    home, before = stopped.home, kids(stopped.home)
    versions = bundle_versions(home)
    status, found, err = leaked(home)
    assert status == 0, err
    assert found["signed_by"] == "command"
    nothing_believes(home, before)
    after = kids(home)
    assert all(version >= versions[name] for name, version in bundle_versions(home).items())

    async def again() -> None:
        async with opened(stopped):
            pass

    asyncio.run(again())
    assert kids(home) == after, "the hub starts with the keys that the command made"
    nothing_believes(home, before)


RULES = """
[rules.no-chat]
effect = "deny"
surfaces = ["chat"]
why = "the bot was misled"
ask = "security in #sec-help"

[rules.no-calls-of-presto]
effect = "deny"
servers = ["prod/presto"]
methods = ["tools/call"]
why = "the audit"
ask = "security in #sec-help"

[rules.slowly]
effect = "limit"
requests = 7
why = "enough for anybody"
ask = "security in #sec-help"
"""


def test_without_a_hub_what_rules_and_stops_close_stays_closed_at_every_edge(stopped: Company) -> None:
    async def run() -> None:
        async with opened(stopped) as hub:
            ruling = hub.parts.ruling
            await ruling.apply(await ruling.propose(RULES, None), MACHINE.actor, "the audit", widening=False)
            await hub.parts.stopping.stop(MACHINE, "surface", "ide", "a worm")
            await hub.parts.edges.add("second", "operator")

    asyncio.run(run())
    home = stopped.home
    status, found, err = leaked(home)
    assert (status, found["signed_by"]) == (4, "command"), err
    verifier = Verifier(json.loads(home.bundle_keys.read_text()))
    edges = {EDGE: home.edge_bundle, edge_consumer("second"): home.joined_edge_bundle("second")}
    for consumer, path in edges.items():
        bundle = open_bundle(path.read_text(), verifier, consumer)
        assert [rule.name for rule in bundle.rules] == ["no-chat"]
        assert 7 in [rate.requests for rate in bundle.limits.rates]
        assert bundle.stops.surfaces == {"ide": "a worm"}
        named = {server.server: [rule.name for rule in server.rules] for server in bundle.servers}
        assert named["prod/presto"] == ["no-calls-of-presto"]
    own = open_bundle(home.bundle(SERVERS[0]).read_text(), verifier, str(SERVERS[0]))
    assert [rule.name for rule in (*own.rules, *own.servers[0].rules)] == ["no-chat", "no-calls-of-presto"]


def test_what_the_command_signs_refuses_what_rules_refuse_and_is_for_joined_edges_too(
    company: Company, tmp_path: Path
) -> None:
    home = company.home

    async def run() -> None:
        async with opened(company) as hub:
            assert (await machine(hub, text=file(NO_CHAT, NO_CALLS), why="the audit")).is_success
            await join(hub, tmp_path)

    asyncio.run(run())
    noted = {"port": 1, "public_url": company.settings.public_url, "grants": str(company.grants)}
    home.instance_file.write_text(json.dumps(noted))
    assert ruled(home) == ["no-calls", "no-chat"]
    gone = kids(home)
    status, found, err = leaked(home)
    assert (status, found["signed_by"]) == (4, "command"), err
    assert "nobody knows how it is" in found["waits"]["edge second"]
    nothing_believes(home, gone)
    assert ruled(home) == ["no-calls", "no-chat"]


class LivingEdge:
    """A joined edge without an Envoy, at the door of a hub that is another process.

    Attributes:
        deaf: whether it says how it is and uses no news.
        came: set once it has a bundle.
    """

    def __init__(self, home: Home, folder: Path) -> None:
        with HubDoor(home) as hub:
            self.join = JoinFile.model_validate(hub.ask("POST", joined.DOOR, {"name": "second"}))
        self.home, self.deaf, self.came = Home.open(folder), False, threading.Event()
        self._standing = EdgeStanding(self.home, URL, ("127.0.0.1",), 8401, consumer=edge_consumer(self.join.name))
        self.link = Link(self.home, self.join, at_socket(home.internal_socket), self.word)

    @property
    def bundle(self) -> Bundle | None:
        return self._standing.bundle

    def word(self) -> EdgeWord:
        if not self.deaf:
            self._standing.look()
        if self.bundle is None:
            return EdgeWord(state="starting")
        self.came.set()
        return EdgeWord(state="live", version=self.bundle.version, issued_at=self.bundle.issued_at)


@contextmanager
def living(home: Home, folder: Path) -> Iterator[LivingEdge]:
    """An edge that asks for news and says how it is, beside the test."""
    edge = LivingEdge(home, folder)
    loop = asyncio.new_event_loop()
    work = loop.create_task(edge.link.run())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert edge.came.wait(LIMIT_S), "it has a bundle"
        yield edge
    finally:
        loop.call_soon_threadsafe(work.cancel)
        loop.call_soon_threadsafe(lambda: work.add_done_callback(lambda _: loop.stop()))
        thread.join()
        loop.close()


@pytest.mark.parametrize("what", [pytest.param("tokens", marks=pytest.mark.heavy), "bundles"])
def test_every_joined_edge_that_lives_is_waited_for_and_named(
    running: Process, stopped: Company, tmp_path: Path, what: str
) -> None:
    home, before = stopped.home, kids(stopped.home, what)
    with living(home, tmp_path / "second") as edge:
        status, found, err = leaked(home, "--what", what)
        assert (status, list(found["joined_s"]), found["waits"]) == (0, ["second"], {}), err
        assert "edge second decides without the old keys" in err
        assert edge.bundle is not None
        known = {key["kid"] for key in edge.bundle.jwks["keys"]}
        known |= {key["kid"] for key in json.loads(edge.home.bundle_keys.read_text())["keys"]}
        assert not known & before


@pytest.mark.heavy
def test_an_edge_that_lives_and_goes_on_with_its_old_keys_is_named(
    running: Process, stopped: Company, tmp_path: Path
) -> None:
    with living(stopped.home, tmp_path / "second") as edge:
        edge.deaf = True
        status, found, err = leaked(stopped.home, "--wait", "2")
    assert (status, found["joined_s"], list(found["waits"])) == (4, {}, ["edge second"]), err
    assert "does not say yet" in found["waits"]["edge second"]


WORDS = {
    "the bundle that was signed anew": ({}, True),
    "a later one": ({"version": 8, "newest": 8}, True),
    "an older one": ({"version": 6}, False),
    "the same version, as the old key signed it": ({"signed_at": 999_000}, False),
    "a version that the hub never wrote": ({"version": 2**40}, False),
    "none": ({"version": None, "signed_at": None}, False),
    "one that Envoy refused": ({"faults": ["Envoy refused rds.json"]}, False),
}


@pytest.mark.parametrize(("changes", "counts"), WORDS.values(), ids=WORDS)
def test_a_joined_edge_counts_once_it_says_that_it_decides_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], counts: bool
) -> None:
    home = Home.open(tmp_path)
    home.edge_bundle.parent.mkdir(parents=True, exist_ok=True)
    home.joined_edge_bundle("a").write_text("")
    word = {"standing": "live", "version": 7, "newest": 7, "signed_at": 1_000_000, "faults": []}
    monkeypatch.setattr(joined, "_asked", lambda _: {"a": word | changes})
    found = joined.wait_for_joined(home, lambda _: RENEWED, print, 0.0, 0.0)
    assert (list(found.without_s), list(found.waits)) == ((["a"], []) if counts else ([], ["a"]))


RENEWED = Bundle(consumer="edge:a", version=7, issued_at=1000, issuer=URL, jwks={"keys": []}, servers=())


@pytest.mark.parametrize(("standing", "said"), [("away", ["a"]), ("never", []), ("removed", []), (None, [])])
def test_a_joined_edge_that_is_away_is_named_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, standing: str | None, said: list[str]
) -> None:
    home = Home.open(tmp_path)
    home.edge_bundle.parent.mkdir(parents=True, exist_ok=True)
    home.joined_edge_bundle("a").write_text("")
    told = (
        {}
        if standing is None
        else {"a": {"name": "a", "standing": standing, "version": 1, "newest": 7, "signed_at": 1, "faults": []}}
    )
    monkeypatch.setattr(joined, "_asked", lambda _: told)
    found = joined.wait_for_joined(home, lambda _: RENEWED, print, 0.0, float("inf"))
    assert (list(found.waits), found.without_s) == (said, {})
    assert all("pegboard edge remove a" in why for why in found.waits.values())


def ruled(home: Home) -> list[str]:
    """The rules for prod/presto, which its own bundle, the first edge's and the joined one's have alike."""
    verifier = Verifier(json.loads(home.bundle_keys.read_text()))
    name = str(SERVERS[0])
    paths = {
        EDGE: home.edge_bundle,
        edge_consumer("second"): home.joined_edge_bundle("second"),
        name: home.bundle(SERVERS[0]),
    }
    found = set()
    for consumer, path in paths.items():
        bundle = open_bundle(path.read_text(), verifier, consumer)
        (own,) = (server for server in bundle.servers if server.server == name)
        found.add(tuple(sorted(rule.name for rule in (*bundle.rules, *own.rules))))
    (rules,) = found
    return list(rules)


def bundle_versions(home: Home) -> dict[str, int]:
    verifier = Verifier(json.loads(home.bundle_keys.read_text()))
    paths = {EDGE: home.edge_bundle, **{str(name): home.bundle(name) for name in SERVERS}}
    return {name: open_bundle(path.read_text(), verifier, name).version for name, path in paths.items()}


STEPS = (
    ("pegboard_hub.upkeep.leaked.giving_up", "open_keys", "the list is written, and nothing else"),
    ("pegboard_hub.identity.keys", "replace_file", "the rings are replaced, and nothing is published"),
    ("pegboard_hub.upkeep.leaked.giving_up", "_bundles", "the public halves are published"),
    ("pegboard_hub.registry.bundles", "replace_file", "no bundle is signed anew"),
    ("pegboard_hub.registry.bundles", "save_bundle_versions", "bundles are written, and their versions are not kept"),
    ("pegboard_hub.upkeep.leaked.giving_up", "_try", "everything is signed anew"),
)
"""Where it is killed: as it is about to call this."""

KILLED = """
import importlib, os, signal, sys
from pegboard.cli.app import run
module = importlib.import_module(sys.argv[1])
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, sys.argv[2], die)
run(sys.argv[3:])
"""


def killed_at(home: Home, module: str, name: str) -> None:
    words = ["keys", "leaked", "--home", str(home.root)]
    ended = subprocess.run([sys.executable, "-c", KILLED, module, name, *words], capture_output=True, timeout=LIMIT_S)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


OFTEN = (3,)
"""Steps at which it is killed in every run of the tests; at the others in the long ones."""

AT = [
    pytest.param(*step[:2], id=step[2], marks=() if place in OFTEN else pytest.mark.heavy)
    for place, step in enumerate(STEPS)
]


@pytest.mark.parametrize(("module", "name"), AT)
def test_killed_at_any_step_it_goes_on_when_it_is_run_again(stopped: Company, module: str, name: str) -> None:
    home, before = stopped.home, kids(stopped.home)
    killed_at(home, module, name)
    assert before <= leaked_kids(home.keys), "what was begun is on the list"
    status, found, err = leaked(home)
    assert status == 0, err
    nothing_believes(home, before)
    begun = name not in ("_try", "save_bundle_versions")
    assert found["resumed"] is begun
    assert len(read_leaks(home.keys)) == (1 if begun else 2)


@pytest.mark.parametrize(("module", "name"), AT[:3])
def test_killed_at_any_step_a_hub_that_starts_goes_on(stopped: Company, module: str, name: str) -> None:
    home, before = stopped.home, kids(stopped.home)
    killed_at(home, module, name)

    async def start() -> None:
        async with opened(stopped):
            pass

    asyncio.run(start())
    nothing_believes(home, before)


@pytest.mark.heavy
def test_a_hub_that_runs_goes_on_for_a_command_that_was_killed(running: Process, stopped: Company) -> None:
    home, before = stopped.home, kids(stopped.home)
    killed_at(home, *STEPS[0][:2])
    for _ in range(LIMIT_S * 20):
        try:
            nothing_believes(home, before)
            break
        except (AssertionError, BundleRefused):
            os.sched_yield()
            asyncio.run(asyncio.sleep(0.05))
    nothing_believes(home, before)


@pytest.mark.heavy
def test_a_hub_that_hangs_is_not_waited_for_long(running: Process, stopped: Company) -> None:
    home, before = stopped.home, kids(stopped.home)
    assert running.process is not None
    running.process.send_signal(signal.SIGSTOP)
    try:
        status, found, err = leaked(home, "--wait", "40")
        assert found["signed_by"] == "command", err
        nothing_believes(home, before)
    finally:
        running.process.send_signal(signal.SIGCONT)
    assert status in (0, 4)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--what", "passwords"), "--what"),
        (("--since", "yesterday"), "--since"),
        (("--why", "x" * 301), "--why"),
        (("--why", "two\nlines"), "--why"),
    ],
    ids=str,
)
def test_a_wrong_word_changes_nothing_and_is_named(stopped: Company, words: tuple[str, ...], named: str) -> None:
    home, before = stopped.home, kids(stopped.home)
    status, _, err = leaked(home, *words)
    assert (status, named in err) == (2, True), err
    assert (kids(home), read_leaks(home.keys)) == (before, ())


def test_where_there_are_no_keys_nothing_is_given_up(company: Company) -> None:
    status, _, err = leaked(company.home)
    assert status == 1, err
    assert "nothing to give up" in err


def test_a_sealing_key_is_replaced_and_opens_nothing_any_more(stopped: Company) -> None:
    home, before = stopped.home, kids(stopped.home)
    old = read_sealing_key(home.sealing_key)
    sealed = Sealer(old, "session renewal").seal("the login's refresh token")
    status, found, err = leaked(home, "--what", "sealing")
    assert status == 0, err
    assert kids(home) == before, "what signs is as it was"
    assert list(found["leak"]["kids"]) == ["sealing"]
    assert any("company's login" in line for line in found["left_to_people"])
    with pytest.raises(ValueError, match="not sealed with this key"):
        Sealer(read_sealing_key(home.sealing_key), "session renewal").unseal(sealed)
    assert old.hex() not in json.dumps(found) + err


def test_a_development_ca_is_replaced_and_what_it_signed_counts_no_more(stopped: Company) -> None:
    home, before = stopped.home, kids(stopped.home, "tokens")
    authority = Authority(home.services)
    authority.open()
    authority.rotate()
    old = authority.bundle
    keys = {path.read_text() for path in home.services.glob("*.key")}
    status, found, err = leaked(home, "--what", "authority")
    assert status == 0, err
    after = Authority(home.services)
    after.open()
    assert not set(certificates(old)) & set(certificates(after.bundle))
    assert len(certificates(after.bundle)) == 1
    assert not keys & {path.read_text() for path in home.services.glob("*.key")}
    assert after.mint("spiffe://dev.pegboard.local/reporting").spiffe_id, "it signs at once"
    nothing_believes(home, before)
    assert [leak.purposes for leak in read_leaks(home.keys)] == [("authority",), ("tokens",)]
    assert any("svid" in line for line in found["left_to_people"])


def certificates(bundle: str) -> list[str]:
    return [part for part in bundle.split("-----END CERTIFICATE-----") if part.strip()]


def test_where_there_is_no_development_ca_its_owner_is_named(stopped: Company) -> None:
    status, _, err = leaked(stopped.home, "--what", "authority")
    assert (status, "SPIRE" in err) == (1, True), err


def test_doctor_tells_of_keys_that_were_given_up_and_finds_one_that_came_back(stopped: Company) -> None:
    home = stopped.home
    before = home.token_ring.read_text()
    assert leaked(home, "--what", "tokens", "--why", "the drill")[0] == 0
    facts = gather(home.root, None, None, offline=True)
    assert any("1 time keys were given up, last" in each.found for each in trust.keys(facts))
    assert {each.state for each in trust.keys(facts)} == {State.WELL}
    home.token_ring.write_text(before)
    (found,) = [each for each in trust.keys(facts) if each.state is State.MEND]
    assert "1 key that leaked came back" in found.found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_what_root_writes_is_the_hubs_where_the_hub_has_a_user_of_its_own(stopped: Company) -> None:
    home, before = stopped.home, kids(stopped.home)
    folders = (home.keys, home.data, home.bundle_keys.parent, home.root / "bundles")
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, OTHER_USER, OTHER_USER)
    for folder in (*home.root.parents[:-1], home.root):
        folder.chmod(folder.stat().st_mode | 0o011)
    status, _, err = leaked(home)
    assert status == 0, err
    nothing_believes(home, before)
    written = [path for folder in folders for path in folder.rglob("*")]
    assert {path: path.stat().st_uid for path in written if path.stat().st_uid != OTHER_USER} == {}


OTHER_USER = 23456
