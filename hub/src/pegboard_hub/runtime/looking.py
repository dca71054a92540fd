"""`pegboard status` and `pegboard down`: an instance seen, and ended, from another terminal."""

from __future__ import annotations

import json
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from pegboard.core.bundle import BUNDLE_TYPE, MAX_AGE_S, STOPS_MAX_AGE_S, Ages
from pegboard.core.jose import Verifier
from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import noted
from pegboard_hub.runtime import detached, procfs
from pegboard_hub.runtime.options import DEFAULT_HOME, HomeOption
from pegboard_hub.runtime.options import JsonOption as JsonOption

ALL_LIVE, SOMETHING_IS_NOT, NOTHING_RUNS = 0, 1, 5

LEAST_FREE = 64 * 1024 * 1024
"""Bytes of free room below which a disk counts as full."""

MOST_STOPS = 5
"""Stops that are told one by one."""

STALE_S = 10.0
"""Age in seconds from which the supervisor's word is no longer believed; it renews it every second."""

COLUMNS = ("process", "state", "for", "restarts", "pid", "MiB", "version")
_RIGHT = frozenset({"for", "restarts", "pid", "MiB"})


def status(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show every process of an instance: since when, restarts, version, last error.

    It works without the hub and without the edge. The exit status is 0 when everything is live, 1 when something is
    not, and 5 when nothing runs.

    \b
    Example:
      pegboard status --home /srv/pegboard
    """
    found = look(home, time.time())
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(_lines(found)))
    raise typer.Exit(_exit_status(found))


def down(home: HomeOption = DEFAULT_HOME) -> None:
    """Stop an instance in order, and wait until nothing of it runs. Harmless where nothing does.

    \b
    Example:
      pegboard down --home /srv/pegboard
    """
    if not home.is_dir():
        print(f"Nothing runs: there is no home {home}.")
        return
    print(
        "stopping: the edge first, so that no new call arrives; the hub last, so that every record does", flush=True
    )
    try:
        ran = detached.stop(Home.at(home))
    except PermissionError:
        print(f"error: the instance of {home} belongs to another user: run this as that user, or as root.")
        raise typer.Exit(1) from None
    except TimeoutError as error:
        print(
            f"error: {error}. It is still asked to end; `kill -9` ends it at once and loses no acknowledged record."
        )
        raise typer.Exit(1) from None
    if ran is None:
        print(f"Nothing ran on {home}.")
    else:
        print(f"stopped {', '.join(ran) or 'the keeper; nothing else ran'}; nothing is left running")


def look(path: Path, now: float) -> dict[str, Any]:
    """Everything that can be known of an instance from its home. Nothing is created or changed.

    Args:
        path: the home.
        now: seconds since the epoch.
    """
    if not path.is_dir():
        return {"home": str(path.absolute()), "running": False, "why": "there is no such folder"}
    home = Home.at(path)
    pid = procfs.flock_holder(home.lock)
    keeper_pid = procfs.flock_holder(home.keeper_lock)
    told = detached.read_status(home) if pid is not None else {}
    if told.get("supervisor", {}).get("pid") != pid:
        told = {"at": now}  # at most the word of one that ended: this one has said nothing yet
    return {
        "home": str(home.root),
        "running": pid is not None,
        "why": _why_not(home, keeper_pid) if pid is None else "",
        "ready": bool(told.get("started")),
        "stale": pid is not None and now - float(told.get("at", 0)) > STALE_S,
        "version": told.get("version", ""),
        "public_url": noted(home).get("public_url", ""),
        "database": noted(home).get("database") or str(home.database),
        "hubs": int(noted(home).get("hubs") or 1),
        "edge": noted(home).get("edge", ""),
        "supervisor": {"pid": pid, "since": told.get("supervisor", {}).get("since")},
        "keeper": {"pid": keeper_pid, **_keeper(home)} if home.detached.exists() or keeper_pid else None,
        "isolation": told.get("isolation", {}),
        "processes": told.get("processes", []),
        "not_started": _not_started(told),
        "faults": told.get("faults", {}),
        "closed": told.get("closed", {}),
        "deploying": told.get("deploying", {}),
        "edge_faults": told.get("edge_faults", []),
        "joined_edges": told.get("joined_edges", []),
        "notify": told.get("notify", []),
        "edge_bundle_age_s": _age(home.edge_bundle, now),
        "edge_bundle_ages_s": _ages(home)._asdict(),
        "stopped": _stopped(home),
        "disk_free_bytes": shutil.disk_usage(home.root).free,
        "disk_read_only": procfs.is_read_only(home.root),
        "logs": str(home.log("hub").parent),
        "at": now,
    }


def _why_not(home: Home, keeper_pid: int | None) -> str:
    if keeper_pid is not None:
        return f"the supervisor ended, and the keeper is starting it again; see {home.log('up')}"
    if home.detached.exists():
        return "it ran detached, and supervisor and keeper both ended, as by a restart of the machine"
    return "it is stopped" if home.instance_file.exists() else "no instance was ever started there"


def _not_started(told: dict[str, Any]) -> list[str]:
    """The servers that are granted and did not start, once that can be said."""
    started = {each["name"] for each in told.get("processes", [])}
    return sorted(set(told.get("servers") or {}) - started) if told.get("started") else []


def _ages(home: Home) -> Ages:
    """How old a bundle may grow here, as the operator set it."""
    instance = noted(home)
    return Ages(instance.get("grants_max_age_s", MAX_AGE_S), instance.get("stops_max_age_s", STOPS_MAX_AGE_S))


def _stopped(home: Home) -> list[dict[str, str]]:
    """What the edge was told to refuse to everybody, by its bundle; it needs no hub to be read."""
    try:
        verifier = Verifier(json.loads(home.bundle_keys.read_bytes()))
        bundle = verifier.verify(home.edge_bundle.read_text(encoding="utf-8").strip(), BUNDLE_TYPE)
        found = [(kind, name, why) for kind, of in _STOPS.items() for name, why in bundle["stops"][of].items()]
        for server in bundle["servers"]:
            found += [("server", server["server"], server["stopped"])] if server["stopped"] else []
            found += [("tool", f"{server['server']}/{tool}", why) for tool, why in server["stopped_tools"].items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [{"kind": kind, "name": name, "why": why} for kind, name, why in found]


_STOPS = {"surface": "surfaces", "person": "people", "client": "clients", "service": "services"}
"""Kinds of callers, and where a bundle names those that are stopped."""


def _keeper(home: Home) -> dict[str, Any]:
    """How often the keeper brought the supervisor back, and when last."""
    try:
        found = json.loads(home.keeper.read_text(encoding="utf-8"))
        return {"restarts": found["restarts"], "last_restart": found["last_restart"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {"restarts": 0, "last_restart": None}


def _age(path: Path, now: float) -> float | None:
    try:
        return round(now - path.stat().st_mtime, 1)
    except OSError:
        return None


def _exit_status(found: dict[str, Any]) -> int:
    if not found["running"]:
        return NOTHING_RUNS
    live = all(process["state"] == "live" for process in found["processes"])
    well = found["ready"] and live and not found["stale"] and not found["not_started"] and not found["faults"]
    return ALL_LIVE if well else SOMETHING_IS_NOT


def _lines(found: dict[str, Any]) -> list[str]:
    if not found["running"]:
        start = "Start it with `pegboard up` (--detach)."
        return [f"Nothing runs on {found['home']}: {found['why']}.", *(_disk(found) or [start])]
    rows = _rows(found)
    return [
        f"Pegboard {found['version']} at {found['public_url']}, home {found['home']}",
        "",
        *_table(rows),
        *[f"  {line}" if line else "" for line in _remarks(found)],
    ]


def _rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    now, supervisor, keeper = found["at"], found["supervisor"], found["keeper"]
    restarts = str(keeper["restarts"]) if keeper else "0"
    state = "silent" if found["stale"] else "live" if found["ready"] else "starting"
    rows: list[tuple[str, ...]] = [
        ("supervisor", state, _span(supervisor["since"], now), restarts, str(supervisor["pid"]), "", "")
    ]
    if keeper:
        rows.append(("keeper", "live" if keeper["pid"] else "down", "", "", str(keeper["pid"] or "-"), "", ""))
    for process in found["processes"]:
        rows.append(
            (
                process["name"],
                "unknown" if found["stale"] else process["state"],
                _span(process["since"], now),
                str(process["restarts"]),
                str(process["pid"] or "-"),
                str(process.get("memory_mb") or "-"),
                process.get("version", ""),
            )
        )
    return rows


def _remarks(found: dict[str, Any]) -> list[str]:
    lines = [""]
    for process in found["processes"]:
        if failure := process.get("last_failure"):
            lines.append(f"{process['name']}: {failure['what']}, {_moment(failure['at'])}")
    lines += [f"{name} {fault}" for name, fault in sorted(found["faults"].items())]
    lines += [f"edge: {fault}" for fault in found.get("edge_faults", [])]
    lines += [line for edge in found.get("joined_edges", []) for line in _joined(edge, found["at"])]
    lines += [_plain(line) for line in found.get("notify", [])]
    live = {process["name"] for process in found["processes"] if process["state"] == "live"}
    lines += [f"{name} runs; {why}" for name, why in sorted(found["closed"].items()) if name in live]
    lines += [_plain(f"{name} {what}") for name, what in sorted(found.get("deploying", {}).items())]
    preparing = [name for name in found["not_started"] if name not in found["faults"]]
    lines += [f"{name} is being prepared; see {found['logs']}" for name in preparing]
    disk = _disk(found)
    if found["stale"]:
        after = "the keeper starts everything anew" if found["keeper"] else "then start it again"
        hangs = f"it hangs. `kill -9 {found['supervisor']['pid']}` ends it and all that it started, and {after}"
        why = "it cannot write" if disk else hangs
        lines.append(f"The supervisor has not reported for more than {STALE_S:.0f} s: {why}.")
    lines += disk
    if found["keeper"] and found["keeper"]["last_restart"]:
        lines.append(f"The supervisor was last brought back {_moment(found['keeper']['last_restart'])}")
    hubs = f", by {found['hubs']} hubs" if found["hubs"] > 1 else ""
    if joined := found.get("edge"):
        lines.append(f"it is the edge {joined}; `pegboard edge list` at its hub shows all of them")
    else:
        lines.append(f"data is kept in {found['database']}{hubs}")
    isolation = found["isolation"]
    if isolation:
        lines.append(f"isolation is {isolation['mode']}: {isolation['why']}")
    if (age := found["edge_bundle_age_s"]) is not None:
        meaning = _if_old(age, Ages(**found["edge_bundle_ages_s"]))
        lines.append(f"the edge's grants were signed {_seconds(age)} ago{meaning}")
    lines += _stops(found["stopped"])
    lines.append(f"logs are in {found['logs']}")
    return lines


def _stops(stopped: list[dict[str, str]]) -> list[str]:
    """What is stopped for everybody; nothing where nothing is."""
    lines = [
        f"stopped for everybody: {stop['kind']} {_plain(stop['name'])} ({_plain(stop['why'])})" for stop in stopped
    ]
    more = [f"and {len(lines) - MOST_STOPS} more are stopped; see them with `pegboard stops`"]
    return [*lines[:MOST_STOPS], *(more if len(lines) > MOST_STOPS else [])]


def _plain(text: str) -> str:
    """One line of text, whatever stands in it."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:200])


def _joined(edge: dict[str, Any], now: float) -> list[str]:
    """How a joined edge is, as the hub last said."""
    heard = f", heard of {_seconds(max(now - edge['heard_at'] / 1000, 0))} ago" if edge["heard_at"] else ""
    state = {"never": "has not come yet", "unready": "takes no calls"}.get(edge["standing"], f"is {edge['standing']}")
    version = f", with version {edge['version']}" if edge["version"] else ""
    name = edge["name"]
    return [f"edge {name} {state}{heard}{version}", *(f"edge {name}: {fault}" for fault in edge["faults"])]


def _if_old(age_s: float, ages: Ages) -> str:
    """What it means that the hub does not sign the edge's grants anew, as it does well within either age."""
    if age_s > ages.grants_s:
        return ": every call is refused until the hub signs them anew"
    if age_s > ages.stops_s:
        every = f"{_seconds(ages.grants_s)} after it every call is refused"
        return f"; the hub does not sign them anew: servers with sensitive data refuse calls, and {every}"
    return ""


def _disk(found: dict[str, Any]) -> list[str]:
    """That the disk takes no writes, and what follows from it; empty when it does."""
    home, free = found["home"], found.get("disk_free_bytes", LEAST_FREE)
    if found.get("disk_read_only"):
        return [
            f"The disk of {home} takes no writes, and calls that cannot be recorded are refused: `pegboard down`, "
            "mend the disk (dmesg and fsck tell), mount it again, `pegboard up`."
        ]
    if free < LEAST_FREE:
        return [
            f"The disk is full, or nearly: {free // 2**20} MiB free at {home}. Make room: until then calls "
            "that cannot be recorded are refused, and afterwards everything goes on by itself."
        ]
    return []


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[place]) for row in (COLUMNS, *rows)) for place in range(len(COLUMNS))]
    places = range(len(COLUMNS))
    return ["  ".join(_cell(row[i], widths[i], COLUMNS[i]) for i in places).rstrip() for row in (COLUMNS, *rows)]


def _cell(text: str, width: int, column: str) -> str:
    return text.rjust(width) if column in _RIGHT else text.ljust(width)


def _span(since: float | None, now: float) -> str:
    return "" if since is None else _seconds(max(now - since, 0))


def _seconds(seconds: float) -> str:
    """A time span for people, in its largest unit that says something."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _moment(at: float) -> str:
    return f"at {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
