"""What runs: the port, and every process under the supervisor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx2

from pegboard.core.errors import ConfigurationError, Unreachable
from pegboard_hub.runtime import preflight, procfs
from pegboard_hub.upkeep.finding import Facts, Finding, must_mend, plural, span, warning, well
from pegboard_hub.upkeep.hub_door import HubDoor, HubRefused

ANSWER_S = 3.0
MOST_NAMED = 5
LATELY_S = 3600.0
"""Seconds for which a restart is told of."""


def port(facts: Facts) -> Iterator[Finding]:
    """Free for the edge, or held by this instance's own."""
    if not facts.running:
        try:
            preflight.check_port(facts.port)
        except ConfigurationError as error:
            yield must_mend(f"port {facts.port} {error.problems[0]}", error.problems[-1])
        else:
            yield well(f"port {facts.port} is free")
        return
    holder = procfs.holder_of_port(facts.port)
    own = {f"process {pid} " for pid in procfs.tree(facts.status["supervisor"]["pid"])}
    if not holder:
        yield must_mend(
            f"nobody that can be seen listens on port {facts.port}: callers reach nothing",
            f"the edge is started again by itself; see {facts.home.log('envoy')}",
        )
    elif not any(holder.startswith(each) for each in own):
        yield must_mend(
            f"port {facts.port} is held by {holder}, and not by this instance's edge",
            f"see {facts.home.log('envoy')}; stop what holds the port, or start this one with another --port",
        )
    elif fault := _edge_fault(facts):
        logs = f"{facts.home.log('hub')} and {facts.home.log('envoy')}"
        yield must_mend(f"{facts.public_url} does not answer as it should: {fault}", f"see {logs}")
    else:
        yield well(f"port {facts.port} is held by this instance's edge, and {facts.public_url} answers")


def _edge_fault(facts: Facts) -> str:
    """Why the hub is not reached through the edge, or is not ready; empty when all is well."""
    try:
        answer = httpx2.get(f"http://localhost:{facts.port}/readyz", headers=_host(facts), timeout=ANSWER_S)
    except httpx2.HTTPError as error:
        return type(error).__name__
    if answer.status_code == httpx2.codes.OK:
        return ""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def _host(facts: Facts) -> dict[str, str]:
    return {"host": facts.public_url.partition("://")[2]} if facts.public_url else {}


def processes(facts: Facts) -> Iterator[Finding]:
    """Every process, as the supervisor says, and whether the supervisor still says anything."""
    status = facts.status
    if not facts.running:
        if facts.home.status.exists():
            yield warning(
                "nothing runs, and the last run was not ended in order", "start it: `pegboard up` clears up after it"
            )
        else:
            yield well(f"nothing runs: {status['why']}")
        return
    if status["stale"]:
        yield must_mend(
            f"the supervisor (process {status['supervisor']['pid']}) does not report any more",
            "see what `disk` says; if that is well, stop it (pegboard down) and start it again",
        )
        return
    faults = [finding for process in status["processes"] for finding in _process(facts, process)]
    faults += [
        warning(f"{name} {fault}", "mend that: it is tried again when its source or the grants change")
        for name, fault in status["faults"].items()
    ]
    faults += [
        warning(f"{name} is being prepared", f"see what `pegboard up` said, and {facts.home.log('up')}")
        for name in status["not_started"]
        if name not in status["faults"]
    ]
    yield from faults
    if not faults:
        yield well(f"all are live: {', '.join(process['name'] for process in status['processes'])}")
    for name in {process["name"] for process in status["processes"]} & status["closed"].keys():
        yield well(f"{name} runs; {status['closed'][name]}")


def prober(facts: Facts) -> Iterator[Finding]:
    """Whether the hub hears of the prober: without it nobody is told how a server is doing."""
    if not facts.running:
        yield well("nothing runs, so there is nothing to look at")
        return
    if facts.status["stale"] or not facts.status["ready"]:
        return  # `processes` says so
    try:
        with HubDoor(facts.home) as hub:
            word = hub.ask("GET", "/internal/v1/prober")
    except (Unreachable, HubRefused) as error:
        yield warning(f"whether the prober reports cannot be asked: {error}", "see what `processes` says")
        return
    if word["standing"] == "silent":
        yield must_mend(
            f"the prober has not reported for {span(facts.now - word['heard_at'] / 1000)}: the state of every server "
            "is unknown, and calls go on",
            f"see {facts.home.log('prober')} and {facts.home.log('hub')}; a prober that hangs is started again by "
            "itself within a minute",
        )
    else:
        yield well(f"the prober reports, on {plural(word['servers'], 'server')}")


def conflicts(facts: Facts) -> Iterator[Finding]:
    """Whether the grants file and the registry agree, on everything that the file says."""
    yield from _asked(facts, "conflicts", "whether file and registry agree", _conflicts)


def notices(facts: Facts) -> Iterator[Finding]:
    """What the home page says of the grants file and of declarations; `grants` and `conflicts` tell of the rest."""
    yield from _told(facts, "grants", "what is hardly meant in the grants file", _notices)


def reach(facts: Facts) -> Iterator[Finding]:
    """Whether somebody gets into every server that is approved."""
    yield from _asked(facts, "unreached", "whether somebody gets into every server", _reach)


def _asked(facts: Facts, path: str, what: str, tell: Callable[[dict[str, Any]], Finding]) -> Iterator[Finding]:
    """What the registry of the running hub says at a path of its own, told."""
    yield from _told(facts, f"registry/{path}", what, lambda word: iter((tell(word),)))


def _told(
    facts: Facts, path: str, what: str, tell: Callable[[dict[str, Any]], Iterator[Finding]]
) -> Iterator[Finding]:
    """What the running hub says at a path of its internal door, told."""
    if not facts.running:
        yield well("nothing runs, so there is nothing to ask")
        return
    if facts.status["stale"] or not facts.status["ready"]:
        return  # `processes` says so
    try:
        with HubDoor(facts.home) as hub:
            word = hub.ask("GET", f"/internal/v1/{path}")
    except (Unreachable, HubRefused) as error:
        yield warning(f"{what} cannot be asked: {error}", "see what `processes` says")
        return
    yield from tell(word)


def _conflicts(word: dict[str, Any]) -> Finding:
    if not word["servers"]:
        return well(_agreeing(word))
    return warning(
        f"{plural(len(word['servers']), 'conflict')} of the grants file with the registry: {_shown(word['servers'])}",
        f"`pegboard registry import --dry-run {word['grants']}` shows both sides; make them agree",
    )


def _agreeing(word: dict[str, Any]) -> str:
    if not word["differing"]:
        return "the grants file and the registry agree"
    return (
        "nothing of the grants file conflicts with the registry, which has decided otherwise since and holds, on "
        f"{_shown(word['differing'])}: `pegboard registry import --dry-run {word['grants']}` shows both sides"
    )


def _notices(word: dict[str, Any]) -> Iterator[Finding]:
    for line in word["unusable"]:
        if line not in word["conflicts"]:
            yield warning(line, "mend it where the server's code is, and start again")
    for line in word["notices"]:
        yield warning(line, "see whether the grants file means that")
    if not word["notices"] and word["unusable"] == word["conflicts"]:
        yield well("all that the grants file names is there")


def _reach(word: dict[str, Any]) -> Finding:
    closed = word["servers"]
    if not closed:
        return well("somebody gets into every server that is approved")
    first = next(iter(closed))
    return warning(
        f"nobody gets into {plural(len(closed), 'server')}: {_shown([*closed])}", f"{first}: {closed[first]}"
    )


def _shown(names: list[str]) -> str:
    return f"{', '.join(names[:MOST_NAMED])}{' …' if len(names) > MOST_NAMED else ''}"


def _process(facts: Facts, process: dict[str, object]) -> Iterator[Finding]:
    name, failure = process["name"], process.get("last_failure")
    log = facts.home.log("hub").parent
    if process["state"] != "live":
        why = f": it {process['last_error']}" if process.get("last_error") else ""
        yield must_mend(f"{name} is {process['state']}{why}", f"it is started again by itself; see its log in {log}")
    elif isinstance(failure, dict) and facts.now - float(failure["at"]) < LATELY_S:
        yield warning(
            f"{name} was started again {span(facts.now - float(failure['at']))} ago: it {failure['what']}",
            f"see its log in {log}",
        )
