"""Giving keys up: the steps of `pegboard keys leaked`, each of which may be the last before a crash.

| step                          | what it leaves behind, if it is the last                                         |
|-------------------------------|----------------------------------------------------------------------------------|
| the list of leaked keys       | everything: whoever reads a ring next, hub or command, goes on by itself         |
| new keys                      | the same, one step later                                                         |
| public halves of bundle keys  | the same; what the old key signed is used for 15 s more at most, then nothing is |
| bundles                       | nothing that the old keys sign is believed by whoever runs                       |
| tries                         | nothing: they only look                                                          |

So nothing is undone and nothing needs to be remembered but the list. Run again, it goes on where it was, and gives up
no key that was made meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pegboard.core.bundle import EDGE, Bundle, edge_consumer, open_bundle
from pegboard.core.errors import BundleRefused, ConfigurationError, PegboardError, Unreachable
from pegboard.core.jose import Jwk, Verifier
from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import noted
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.identity.leaks import Given, Leak, Purpose, add_leak, leaked_kids, read_leaks
from pegboard_hub.identity.ring import KeyState, read_ring
from pegboard_hub.upkeep.hub_door import HubDoor, HubRefused
from pegboard_hub.upkeep.leaked.joined import wait_for_joined
from pegboard_hub.upkeep.leaked.trying import BELIEVED, REFUSED, SILENT, Door, Forger, doors

LOOK_S = 0.1

ANSWER_S = 2.0
"""Seconds that the hub may take for one answer."""

HUB_S = 3.0
"""Seconds that a hub which does not answer is given, before the command signs the bundles itself."""

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        leak: as it stands on the list.
        resumed: whether it was begun before.
        signed_by: who signed the bundles: `hub`, `command`, or nobody yet.
        refused_s: seconds from the order until each door refused what the old keys sign.
        joined_s: seconds until each joined edge decided without the old keys, as it says itself.
        joined_waits: joined edges that may still believe an old key, and why: no second order would hasten them.
        waits: what does not yet do without the old keys, and why.
        silent: doors that do not answer, so that nothing could be tried there.
        untried: why nothing was tried; empty where it was.
    """

    leak: Leak
    resumed: bool
    signed_by: str = ""
    refused_s: dict[str, float] = field(default_factory=dict)
    joined_s: dict[str, float] = field(default_factory=dict)
    joined_waits: dict[str, str] = field(default_factory=dict)
    waits: dict[str, str] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    untried: str = ""


def give_up(
    home: Home,
    purposes: tuple[Purpose, ...],
    leak: Callable[[dict[Given, tuple[str, ...]]], Leak],
    say: Say,
    wait_s: float,
) -> Outcome:
    """Make everything that the keys of these purposes ever signed worthless.

    Args:
        home: of the instance, running or not.
        purposes: what the keys sign.
        leak: makes the list's entry of the keys' names.
        say: takes lines of progress.
        wait_s: seconds to wait for whoever runs.

    Raises:
        ConfigurationError: a ring or the list cannot be used.
        OSError: a file cannot be written; where the list has the keys already, running it again goes on.
    """
    began = time.monotonic()
    with as_owner_of(home.keys):
        begun = _begun(home, purposes)
        signers = _signers(home, purposes)
        kids: dict[Given, tuple[str, ...]] = {
            purpose: tuple(key["kid"] for key in signers[purpose]) for purpose in purposes
        }
        told = begun or leak(kids)
        outcome = Outcome(told, begun is not None)
        if begun is None:
            add_leak(home.keys, told)
        count = sum(len(kids) for kids in told.kids.values())
        say(f"{count} keys ({' and '.join(told.kids)}) are on the list of those that nobody believes any more")
        keys = open_keys(home)
        for ring in keys.rings:
            if ring.purpose in purposes:
                say(f"{ring.purpose}: {ring.kid} signs from now on; the private halves of the others are deleted")
    _bundles(home, outcome, say, began, wait_s)
    private = next((key for key in signers.get("tokens", []) if "d" in key), None)
    if "releases" in purposes:
        _releases(home, outcome, say, began, wait_s)
    if "tokens" in purposes:
        _try(home, outcome, private, say, began, wait_s)
    _joined(home, outcome, say, began, wait_s)
    return outcome


def _begun(home: Home, purposes: tuple[Purpose, ...]) -> Leak | None:
    """The order of before that was not carried out: files still have keys that are on the list."""
    leaks = read_leaks(home.keys)
    if not leaks or set(leaks[-1].purposes) != set(purposes):
        return None
    leaked = leaked_kids(home.keys)
    rings = _rings(home)
    held = {kid for purpose in purposes for kid in _kids(json.loads(rings[purpose].read_bytes()))}
    held |= {str(key["kid"]) for key in _published(home)}
    if held & leaked:
        return leaks[-1]
    there = home.edge_bundle.exists()
    signed_anew = there and _opened(_believed(home, leaked), EDGE, home.edge_bundle, leaked) is not None
    return leaks[-1] if there and not signed_anew else None


def _rings(home: Home) -> dict[Purpose, Path]:
    return {"tokens": home.token_ring, "bundles": home.bundle_ring, "releases": home.release_ring}


def _kids(document: dict[str, object]) -> set[str]:
    keys = document.get("keys")
    return {str(key["kid"]) for key in keys} if isinstance(keys, list) else {str(document.get("kid"))}


def _signers(home: Home, purposes: tuple[Purpose, ...]) -> dict[Purpose, list[Jwk]]:
    """Every key of these rings, those that sign first."""
    found: dict[Purpose, list[Jwk]] = {}
    paths = _rings(home)
    for purpose in purposes:
        if not paths[purpose].exists():
            raise ConfigurationError(str(paths[purpose]), ["is not there, so there is nothing to give up"])
        keys = read_ring(paths[purpose], purpose, time.time(), 0)
        found[purpose] = [key.jwk for key in sorted(keys, key=lambda key: key.state is not KeyState.CURRENT)]
    return found


def _published(home: Home) -> list[Jwk]:
    try:
        return list(json.loads(home.bundle_keys.read_bytes())["keys"])
    except (OSError, ValueError, KeyError):
        return []


def _believed(home: Home, leaked: frozenset[str]) -> Verifier:
    """Verifies what is signed with published keys that did not leak."""
    return Verifier({"keys": [key for key in _published(home) if key["kid"] not in leaked]})


def _opened(verifier: Verifier, consumer: str, path: Path, leaked: frozenset[str]) -> Bundle | None:
    """A consumer's bundle, if it verifies and names no key that leaked."""
    try:
        bundle = open_bundle(path.read_text(encoding="utf-8"), verifier, consumer)
    except (OSError, BundleRefused):
        return None
    return None if leaked & {str(key["kid"]) for key in bundle.jwks["keys"]} else bundle


def _bundles(home: Home, outcome: Outcome, say: Say, began: float, wait_s: float) -> None:
    """Wait until the hub has signed every bundle anew, or do it in its place."""
    leaked, silent_since = leaked_kids(home.keys), None
    old = ["edge"]
    while old:
        old = _old(home, leaked)
        if not old:
            outcome.signed_by = outcome.signed_by or "hub"
            break
        if _hub_answers(home):
            silent_since = None
        elif silent_since is None:
            silent_since = time.monotonic()
        running = home.operator_token.exists() and home.internal_socket.exists()
        away = silent_since is not None and (not running or time.monotonic() - silent_since > HUB_S)
        if away and not outcome.signed_by:
            say("the hub does not answer, so the bundles are signed here, from the database")
            if not _sign_here(home, say):
                break
            outcome.signed_by = "command"
            continue
        if time.monotonic() - began > wait_s:
            break
        time.sleep(LOOK_S)
    for consumer in old:
        outcome.waits[consumer] = "its bundle is not signed anew: it refuses everything, 15 s after the order"
    if not old:
        say(f"+{time.monotonic() - began:.1f} s  every bundle is signed anew ({outcome.signed_by})")


def _old(home: Home, leaked: frozenset[str]) -> list[str]:
    """Consumers that run or may, whose bundle is not a new one."""
    if not home.edge_bundle.exists():
        return []
    verifier = _believed(home, leaked)
    edges = _opened(verifier, EDGE, home.edge_bundle, leaked)
    if edges is None:
        return [EDGE]
    names = [ServerName.parse(each.server) for each in edges.servers]
    return [str(name) for name in names if _opened(verifier, str(name), home.bundle(name), leaked) is None]


def _hub_answers(home: Home) -> bool:
    try:
        with HubDoor(home, ANSWER_S) as hub:
            hub.ask("GET", "/internal/v1/keys")
    except (Unreachable, HubRefused):
        return False
    return True


def _releases(home: Home, outcome: Outcome, say: Say, began: float, wait_s: float) -> None:
    """Wait until the hub has signed releases anew. While it is away, what runs goes on and nothing is started."""
    leaked, word = leaked_kids(home.keys), dict[str, Any]()
    silent_since: float | None = None
    # The hub may not have read the list yet.
    while not word or word["signing_releases"] or any(key["kid"] in leaked for key in word["keys"]):
        try:
            with HubDoor(home, ANSWER_S) as hub:
                word = hub.ask("GET", "/internal/v1/keys")
            silent_since = None
        except (Unreachable, HubRefused):
            silent_since = silent_since or time.monotonic()
            running = home.operator_token.exists() and home.internal_socket.exists()
            if not running or time.monotonic() - silent_since > HUB_S:
                say("releases: the hub signs them anew once it runs; what runs goes on, and nothing is started")
                return
        if time.monotonic() - began > wait_s:
            outcome.waits["releases"] = "the hub has not signed them anew: nothing of them is started"
            return
        time.sleep(LOOK_S)
    say(f"+{time.monotonic() - began:.1f} s  every release that is whole is signed anew (hub)")
    for line in word["not_signed"]:
        name, _, fault = line.partition(": ")
        outcome.waits[name] = f"{fault}: it is not signed anew, and ends; submit its source again"


def _sign_here(home: Home, say: Say) -> bool:
    from pegboard_hub.upkeep.leaked.signing import sign_bundles  # the database's parts, which are slow to load

    try:
        with given_to_owner_of(home.keys, home.data, home.bundle_keys.parent, home.edge_bundle.parent.parent):
            asyncio.run(sign_bundles(home))
    except (PegboardError, OSError) as error:
        say(f"they could not be signed here: {error}")
        return False
    return True


def _try(home: Home, outcome: Outcome, key: Jwk | None, say: Say, began: float, wait_s: float) -> None:
    """Forge with the old key until every door that answers refuses."""
    public_url = str(noted(home).get("public_url") or "")
    leaked = leaked_kids(home.keys)
    edges = _opened(_believed(home, leaked), EDGE, home.edge_bundle, leaked)
    if key is None or not public_url or edges is None:
        outcome.untried = "the private half of the old key is gone already" if key is None else "nothing was started"
        return
    with as_owner_of(home.keys):
        (now,) = (each.jwk for each in read_ring(home.token_ring, "tokens", time.time(), 0) if each.signs)
    # A door that refuses everything would prove nothing: the new key must be believed where the old one is not.
    old, new = Forger(home, public_url, key), Forger(home, public_url, now)
    left = list(doors(home, public_url, [each.server for each in edges.servers]))
    last: dict[str, str] = {}
    while left:
        for door in list(left):
            last[door.name] = old.tried(door)
            if last[door.name] == REFUSED and new.tried(door) == BELIEVED:
                outcome.refused_s[door.name] = round(time.monotonic() - began, 2)
                say(f"+{outcome.refused_s[door.name]:.1f} s  {door.name} refuses what the old key signs")
                left.remove(door)
        if not any(last[door.name] != SILENT for door in left) and _quiet(home, left, began, wait_s):
            break
        if time.monotonic() - began > wait_s:
            break
        time.sleep(LOOK_S)
    outcome.silent = [door.name for door in left if last[door.name] == SILENT]
    for door in left:
        if last[door.name] == BELIEVED:
            outcome.waits[door.name] = "it still believes the old key"
        elif last[door.name] == REFUSED:
            outcome.waits[door.name] = "it refuses the old key, and the new one too"


def _joined(home: Home, outcome: Outcome, say: Say, began: float, wait_s: float) -> None:
    """Wait until joined edges that live decide with the bundles that were signed anew."""
    leaked = leaked_kids(home.keys)
    verifier = _believed(home, leaked)

    def renewed(name: str) -> Bundle | None:
        return _opened(verifier, edge_consumer(name), home.joined_edge_bundle(name), leaked)

    found = wait_for_joined(home, renewed, say, began, began + wait_s)
    outcome.joined_s = found.without_s
    outcome.joined_waits = {f"edge {name}": why for name, why in found.waits.items()}


def _quiet(home: Home, left: list[Door], began: float, wait_s: float) -> bool:
    """Whether nobody is to be waited for: those that do not answer do not run, or had their time."""
    return not left or not home.status.exists() or time.monotonic() - began > min(wait_s, HUB_S)


@contextmanager
def as_owner_of(folder: Path) -> Iterator[None]:
    """Work as the user whose folder it is, where root does: what is written is then the hub's to read."""
    found = folder.stat()
    if os.geteuid() != 0 or found.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(found.st_gid)
    os.seteuid(found.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


@contextmanager
def given_to_owner_of(owned: Path, *folders: Path) -> Iterator[None]:
    """Work as root, and leave what was written to the user whose the folder `owned` is.

    For work that may have to load more of Python, which another user might not be allowed to read.
    """
    try:
        yield
    finally:
        found = owned.stat()
        if os.geteuid() == 0 and found.st_uid != 0:
            for path in (path for folder in folders for path in folder.rglob("*")):
                _give(path, found.st_uid, found.st_gid)


def _give(path: Path, user: int, group: int) -> None:
    """Give a plain file of root's away; whoever owns the folder may have put another one there, or a link to one."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == 0:
                os.fchown(descriptor, user, group)
        finally:
            os.close(descriptor)
