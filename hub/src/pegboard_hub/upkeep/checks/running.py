"""What runs: the port, and every process under the supervisor."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

from pegboard.core.errors import ConfigurationError, Unreachable
from pegboard_hub.common.certificates import noted_files, trusting
from pegboard_hub.common.noted import noted
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
        answer = _ask_edge(facts)
    except (httpx2.HTTPError, OSError) as error:
        return type(error).__name__
    if answer.status_code == httpx2.codes.OK:
        return ""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def _ask_edge(facts: Facts) -> httpx2.Response:
    if noted_files(noted(facts.home)) is None:
        return httpx2.get(f"http://localhost:{facts.port}/readyz", headers=_host(facts), timeout=ANSWER_S)
    name = {"sni_hostname": httpx2.URL(facts.public_url).host}
    with httpx2.Client(verify=trusting(facts.home.edge_certificate), timeout=ANSWER_S) as client:
        url = f"https://localhost:{facts.port}/readyz"
        return client.send(client.build_request("GET", url, headers=_host(facts), extensions=name))


def _host(facts: Facts) -> dict[str, str]:
    return {"host": facts.public_url.partition("://")[2]} if facts.public_url else {}


def edge(facts: Facts) -> Iterator[Finding]:
    """Whether Envoy uses what it was told last."""
    if not facts.running:
        yield well("nothing runs, so nothing is served")
        return
    faults = facts.status.get("edge_faults", [])
    for fault in faults:
        yield must_mend(f"the edge: {fault}", f"see {facts.home.log('envoy')}; what it had before is in force")
    if not faults:
        yield well("the edge uses the configuration and the certificate that it was given last")


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


def edges(facts: Facts) -> Iterator[Finding]:
    """Whether every joined edge is there, and uses what it was told."""
    yield from told(facts, "edges", "how joined edges are", _edges)


def _edges(word: dict[str, Any]) -> Iterator[Finding]:
    there = [each for each in word["edges"] if each["joined"] and not each["removed_at"]]
    for each in there:
        name = each["name"]
        if each["standing"] in ("away", "unready"):
            what = "is away" if each["standing"] == "away" else "is there and takes no calls"
            mend = "`pegboard status --home` of its home says why; if it is not to come back: pegboard edge remove"
            yield must_mend(f"the edge {name} {what}", f"on its machine {mend} {name}")
        elif each["standing"] == "never":
            yield warning(f"the edge {name} was added and has not come yet", "start it, or remove it: pegboard edge")
        for fault in each["faults"]:
            yield must_mend(f"the edge {name}: {fault}", "its log says why; what it had before is in force there")
    if all(each["standing"] in ("live", "awaited") and not each["faults"] for each in there):
        names = _shown([each["name"] for each in there])
        yield well(f"{plural(len(there), 'joined edge')} live: {names}" if there else "no other edge has joined")


def conflicts(facts: Facts) -> Iterator[Finding]:
    """Whether the grants file and the registry agree, on everything that the file says."""
    yield from _asked(facts, "conflicts", "whether file and registry agree", _conflicts)


def notices(facts: Facts) -> Iterator[Finding]:
    """What the home page says of the grants file and of declarations; `grants` and `conflicts` tell of the rest."""
    yield from told(facts, "grants", "what is hardly meant in the grants file", _notices)


def stops(facts: Facts) -> Iterator[Finding]:
    """What is stopped for everybody: a stop is for a while, and its reason may be over."""
    yield from told(facts, "stops", "what is stopped", lambda word: _stops(word, facts.now))


def _stops(word: dict[str, Any], now: float) -> Iterator[Finding]:
    stopped = word["stops"]
    if not stopped:
        yield well("nothing is stopped")
    for stop in stopped[:MOST_NAMED]:
        since = f" for {span(max(now - stop['since'] / 1000, 0))}" if stop["since"] else ""
        until = "; it ends by itself" if stop["until"] else ""
        words = f"{stop['kind']} {stop['name']} is stopped{since}, by {stop['by']}: {stop['why']}{until}"
        yield warning(words, f"once its reason is over: pegboard resume {stop['kind']} {shlex.quote(stop['name'])}")
    if len(stopped) > MOST_NAMED:
        yield warning(f"{len(stopped) - MOST_NAMED} more are stopped", "see them all: pegboard stops")


def required(facts: Facts) -> Iterator[Finding]:
    """Tools that need an approval as the registry says, where that cannot be what is meant."""
    yield from told(facts, "approvals/required", "which tools always need an approval", _required)


def _required(word: dict[str, Any]) -> Iterator[Finding]:
    noted_of = [(each["tool"], note.rstrip(".")) for each in word["required"] for note in each["notes"]]
    for tool, note in noted_of[:MOST_NAMED]:
        yield warning(f"{tool} always needs an approval. {note}", "see: pegboard approvals required")
    if len(noted_of) > MOST_NAMED:
        yield warning(f"{len(noted_of) - MOST_NAMED} more are to be looked at", "see: pegboard approvals required")
    if not noted_of:
        yield well(f"the registry requires an approval of {plural(len(word['required']), 'tool')}")


def approvals(facts: Facts) -> Iterator[Finding]:
    """What waits for people, and what ended without anybody knowing how."""
    yield from told(facts, "approvals", "what waits for people", lambda word: _approvals(word, facts.now))


def _approvals(word: dict[str, Any], now: float) -> Iterator[Finding]:
    if word["ahead_ms"]:
        yield must_mend(
            f"the history of approvals is {span(word['ahead_ms'] / 1000)} ahead of the clock, which was set back: "
            "what was asked for until then cannot be decided any more",
            "set the clock right (see `clock`); the calls are made again",
        )
    if word["unknown"]:
        yield warning(
            f"of {plural(word['unknown'], 'approved action')} nobody knows how it ended, within a day: their servers "
            "were killed, or never told",
            "the people they were for see them at /approvals, and check before they ask again",
        )
    if word["waiting"]:
        since = f", the oldest for {span(max(now - word['oldest'] / 1000, 0))}" if word["oldest"] else ""
        yield well(f"waiting for people: {plural(word['waiting'], 'request')}{since}")
    elif not word["unknown"] and not word["ahead_ms"]:
        yield well("nothing waits for people")


BUILT_S = 180.0
"""Seconds after which somebody should long have begun to build what was submitted."""


def submissions(facts: Facts) -> Iterator[Finding]:
    """Whether what is submitted is built."""
    yield from told(facts, "publishing/queue", "what waits to be built", lambda word: _submissions(word, facts.now))


def _submissions(word: dict[str, Any], now: float) -> Iterator[Finding]:
    waited = max(now - word["since_ms"] / 1000, 0) if word["since_ms"] else 0.0
    if waited > BUILT_S:
        yield warning(
            f"{plural(word['waiting'], 'submission')} not built, the oldest for {span(waited)}, and nobody begins",
            "the supervisor builds on this machine: its log says why it does not; submitting again does not help",
        )
    else:
        yield well(f"submissions: {word['waiting']} wait to be built, {word['building']} are being built")


def pipeline(facts: Facts) -> Iterator[Finding]:
    """Whether what is submitted goes on and answers, and what runtimes note of it."""
    yield from told(facts, "publishing/overview", "how releases are doing", lambda word: _pipeline(word, facts.now))


def _pipeline(word: dict[str, Any], now: float) -> Iterator[Finding]:
    found = [*_still(word["still"], now), *_unwell(word["unwell"]), *_noted(word["notes"])]
    yield from found[:MOST_NAMED]
    if len(found) > MOST_NAMED:
        yield warning(f"{len(found) - MOST_NAMED} more of the pipeline are to be looked at", "see the servers’ pages")
    if not found:
        yield well("submissions go on, and submitted servers answer")


def _still(found: list[dict[str, Any]], now: float) -> Iterator[Finding]:
    for each in found:
        since = span(max(now - each["since_ms"] / 1000, 0))
        yield warning(
            f"{each['server']}: submission {each['id'][:12]} is {each['state']} for {since}, and does not go on",
            "the hub’s log says why; it is tried again by itself, and submitting again does not help",
        )


def _unwell(found: dict[str, str]) -> Iterator[Finding]:
    for server, why in found.items():
        yield warning(
            f"{server} does not answer: {why}",
            f"see: pegboard deployment {server}; its owners go back with: pegboard rollback {server}",
        )


def _noted(found: dict[str, list[str]]) -> Iterator[Finding]:
    for server, notes in found.items():
        for note in notes:
            yield warning(f"{server}: {note}", f"see: pegboard deployment {server}")


def reach(facts: Facts) -> Iterator[Finding]:
    """Whether somebody gets into every server that is approved."""
    yield from _asked(facts, "unreached", "whether somebody gets into every server", _reach)


def _asked(facts: Facts, path: str, what: str, tell: Callable[[dict[str, Any]], Finding]) -> Iterator[Finding]:
    """What the registry of the running hub says at a path of its own, told."""
    yield from told(facts, f"registry/{path}", what, lambda word: iter((tell(word),)))


def told(
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
