"""`pegboard keys leaked`: one command for the worst day."""

from __future__ import annotations

import getpass
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from pegboard_hub.common.home import Home
from pegboard_hub.identity.leaks import LONGEST_WHY, Given, Leak, Purpose, add_leak
from pegboard_hub.runtime.launching import leave_no_core
from pegboard_hub.runtime.options import DEFAULT_HOME, HomeOption, JsonOption
from pegboard_hub.upkeep.hub_door import HubDoor
from pegboard_hub.upkeep.leaked.giving_up import Outcome, as_owner_of, give_up
from pegboard_hub.upkeep.leaked.others import replace_authority, replace_sealing_key, restart_hubs

DOOR = "/internal/v1/keys"
FOUND = 1
"""Exit status when there are calls with forged tokens."""

STILL_WAITING = 4
"""Exit status when something may still believe the old keys: a person has to look."""

PURPOSES: dict[str, tuple[Purpose, ...]] = {
    "tokens": ("tokens",),
    "bundles": ("bundles",),
    "releases": ("releases",),
    "all": ("tokens", "bundles", "releases"),
    "sealing": (),
    # Who could be any service has tokens that the hub issued for it.
    "authority": ("tokens",),
}
"""Which signing keys go with each word."""

_UNITS = {"m": 60, "h": 3600, "d": 86_400}


def leaked(
    what: Annotated[
        str, typer.Option("--what", help="tokens, bundles, releases, all (of these), sealing, or authority.")
    ] = "all",
    why: Annotated[str, typer.Option("--why", help="One line for the list of leaked keys.")] = "",
    since: Annotated[
        str,
        typer.Option("--since", help="From when on they may have been in other hands: 3d, 12h, or 2026-11-20T08:00."),
    ] = "",
    home: HomeOption = DEFAULT_HOME,
    patience: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for whoever runs.")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """A signing key leaked: make all that it ever signed worthless, everywhere, at once.

    Nobody is waited for before the old keys go, so tokens of now end too: clients renew them by themselves, and calls
    of that moment may have to be repeated. It works while the hub is down, goes on after a crash, and no backup
    brings a key back. The exit status is 4 where something may still believe an old key.

    \b
    Example:
      pegboard keys leaked --why "laptop of an operator stolen" --since 2d
      pegboard keys leaked --what tokens --home /srv/pegboard
    """
    if what not in PURPOSES:
        raise typer.BadParameter(f"{what[:20]!r} is none of {', '.join(PURPOSES)}.", param_hint="--what")
    if len(why) > LONGEST_WHY or not why.isprintable():
        raise typer.BadParameter(f"it is not one line of {LONGEST_WHY} characters at most.", param_hint="--why")
    leave_no_core()  # the old key is held until it was tried everywhere
    now = time.time()
    began = _moment(since, now)

    def entry(kids: dict[Given, tuple[str, ...]]) -> Leak:
        return Leak(at=now, by=_who(), why=why, since=began, kids=kids)

    own = Home.at(home)
    others = _others(own, what, entry)
    outcome = give_up(own, PURPOSES[what], entry, _say, patience) if PURPOSES[what] else Outcome(others, False)
    if as_json:
        print(json.dumps(_document(outcome, what), indent=2))
    else:
        print("\n".join(_lines(outcome, what)))
    raise typer.Exit(STILL_WAITING if outcome.waits or outcome.joined_waits else 0)


def _others(home: Home, what: str, entry: Callable[[dict[Given, tuple[str, ...]]], Leak]) -> Leak:
    """Give up a key that signs neither tokens nor bundles, where it is one; gives the list's entry of it."""
    if what == "sealing":
        with as_owner_of(home.keys):
            found = entry({"sealing": (replace_sealing_key(home),)})
            add_leak(home.keys, found)
        _say("the sealing key is another one: what the old one sealed cannot be opened any more")
        if hubs := restart_hubs(home):
            _say(f"{', '.join(hubs)} is started again with it; edge and servers go on meanwhile")
        return found
    if what == "authority":
        names = replace_authority(home)
        found = entry({"authority": names})
        with as_owner_of(home.keys):
            add_leak(home.keys, found)
        _say("another development CA signs from now on, and nothing that the others signed counts")
        return found
    return entry({})


def forged(
    since: Annotated[
        str, typer.Option("--since", help="From when on: 3d, 12h, or 2026-11-20T08:00.", show_default="31 days ago")
    ] = "31d",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Find calls with tokens that the hub never issued: what was done with a signing key that leaked.

    Servers record which token each call came with, and the hub each token that it issues, for 31 days. The exit
    status is 1 where there are such calls.

    \b
    Example:
      pegboard keys forged --since 2d
    """
    asked = _moment(since, time.time()) or 0.0
    with HubDoor(Home.at(home)) as hub:
        found = hub.ask("GET", f"{DOOR}/forged?since_ms={int(asked * 1000)}")
    print(json.dumps(found, indent=2) if as_json else "\n".join(_report(found, time.time() * 1000)))
    raise typer.Exit(FOUND if found["found"] else 0)


def _report(found: Any, now_ms: float) -> Iterator[str]:
    if found["since_ms"] is None:
        yield "The hub has not issued a token since it keeps a record of them: nothing can be compared."
        return
    if found["since_ms"] > now_ms:
        yield "Nothing can be compared yet: tokens from before the record of them began may still be good."
        yield f"Ask again after {_at(found['since_ms'])} UTC."
        return
    compared = f"{found['looked_at']:,} tokens of calls since {_at(found['since_ms'])} UTC"
    yield f"{compared} were compared with those that were issued."
    if found["since_ms"] > found["asked_ms"]:
        yield "What was issued before is not known any more, so earlier calls cannot be told apart."
    if found["unnamed"]:
        yield f"{found['unnamed']:,} calls name no token: their servers were built with an older kit."
    for each in found["found"]:
        who = f"{_cell(each['sub'])} by {_cell(each['client_id'])} on {_cell(each['surface'])}"
        did = f"{each['allowed']} calls ran, {each['refused']} were refused"
        yield f"FORGED  {_at(each['first_ms'])} to {_at(each['last_ms'])}  {each['server']}  as {who}: {did}"
        tools = ", ".join(map(_cell, each["tools"])) or "none"
        yield f"        {each['fault']}: {_cell(each['token_id'])}; tools: {tools}"
    if found["more"]:
        yield f"and {found['more']:,} more; --json has {len(found['found']):,}"
    if not found["found"]:
        yield "Every one of them was issued, to whom it says."


def _at(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _cell(text: str) -> str:
    """One line of text, whatever a forger wrote."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:80])


def _document(outcome: Outcome, what: str) -> dict[str, Any]:
    return {
        "leak": outcome.leak.model_dump(mode="json"),
        "resumed": outcome.resumed,
        "signed_by": outcome.signed_by,
        "refused_s": outcome.refused_s,
        "joined_s": outcome.joined_s,
        "waits": outcome.waits | outcome.joined_waits,
        "silent": outcome.silent,
        "untried": outcome.untried,
        "left_to_people": _left_to_people(what),
    }


OF_ALL = (
    "find out how it got away, and close that: the new key lies in the same place",
    "copies of the whole home (snapshots of a disk) hold the old key: delete them, and run this again after putting "
    "one back",
)
OF_EDGES = (
    "joined edges hear of it from the hub, and believe the old key until then: pegboard edge list shows who has an "
    "older version; end those meanwhile"
)
OF_EACH: dict[Given, tuple[str, ...]] = {
    "tokens": (
        OF_EDGES,
        "see what was done with it: pegboard keys forged",
        "what was changed by the hub's API meanwhile is in the histories of servers, reviews and stops, under the "
        "name that the token bore: ask those people",
        "nobody has to sign in again; programs that do not renew their tokens by themselves want a new one",
    ),
    "bundles": (
        OF_EDGES,
        "see whether anybody wrote into HOME/bundles: only who could do that had a use for the key",
    ),
    "sealing": (
        "end Pegboard's sessions at the company's login: what that gave for renewing them was sealed with this key",
        "people sign in again, as soon as the login must be asked; backups from before hold the old key: after "
        "restoring one, run this again",
    ),
    "authority": (
        "services get new certificates: `pegboard svid --keep` does by itself, others run pegboard svid again",
        "connections of services from before end by themselves within minutes, and get no token any more",
    ),
}
"""What no command does, for each kind of key."""


def _lines(outcome: Outcome, what: str) -> list[str]:
    lines = []
    if outcome.resumed:
        lines.append("This went on with what was begun before; keys made since are kept.")
    if not {"tokens", "bundles"} & outcome.leak.kids.keys():
        lines.append("The old key is worthless here.")
    elif outcome.refused_s:
        slowest = max(outcome.refused_s.values())
        lines.append(
            f"The old keys are worthless: refused by {len(outcome.refused_s)} doors, the last after {slowest} s."
        )
    elif outcome.untried:
        lines.append(f"The old keys are on no list of those that are believed; nothing was tried: {outcome.untried}.")
    else:
        lines.append("The old keys are on no list of those that are believed.")
    if outcome.silent:
        lines.append(f"Not running, and so reading the new keys when they start: {', '.join(outcome.silent)}.")
    lines += [f"WAITS  {name}: {why}" for name, why in (outcome.waits | outcome.joined_waits).items()]
    if outcome.waits:
        lines.append("Run it again: it goes on where it was.")
    elif outcome.joined_waits:
        lines.append("No second order is needed: `pegboard edge list` shows when it is heard of again.")
    return [*lines, "", "Left to people:", *(f"- {line}" for line in _left_to_people(what))]


def _left_to_people(what: str) -> list[str]:
    of = {"all": ("tokens", "bundles"), "authority": ("authority", "tokens")}.get(what, (what,))
    return [*OF_ALL, *dict.fromkeys(line for given, lines in OF_EACH.items() if given in of for line in lines)]


def _moment(text: str, now: float) -> float | None:
    """A time that somebody named: so long ago, or a date, which is UTC where it does not say."""
    if not text:
        return None
    if found := re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text):
        return now - int(found[1]) * _UNITS[found[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text[:40]!r} is neither like 12h nor like 2026-11-20.", param_hint="--since"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _who() -> str:
    try:
        return f"operator ({getpass.getuser()})"
    except (OSError, KeyError):
        return "operator"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
