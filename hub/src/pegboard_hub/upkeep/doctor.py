"""`pegboard doctor`: a table of checks, and what each found."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from pegboard_hub.common.database_url import EMBEDDED, read_database_url
from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import noted
from pegboard_hub.common.settings import DEMO
from pegboard_hub.runtime.as_before import DEMO_LOGIN, NOBODY_IS_TOLD
from pegboard_hub.runtime.isolation import SETTING
from pegboard_hub.runtime.looking import JsonOption, look
from pegboard_hub.runtime.options import DEFAULT_HOME, HomeOption
from pegboard_hub.runtime.welcome import DEFAULT_PORT
from pegboard_hub.upkeep.checks import artifacts, login, machine, notify, place, records, running, trust
from pegboard_hub.upkeep.finding import Check, Facts, Finding, State, warning

log = logging.getLogger(__name__)

CHECKS: dict[str, Check] = {
    "python": machine.python,
    "programs": machine.programs,
    "watches": machine.watches,
    "clock": machine.clock,
    "home": place.home,
    "disk": place.disk,
    "usage": place.usage,
    "port": running.port,
    "edge": running.edge,
    "edges": running.edges,
    "processes": running.processes,
    "prober": running.prober,
    "isolation": machine.isolation,
    "keys": trust.keys,
    "certificates": trust.certificates,
    "bundles": trust.bundles,
    "grants": records.grants,
    "conflicts": running.conflicts,
    "notices": running.notices,
    "stops": running.stops,
    "required": running.required,
    "approvals": running.approvals,
    "submissions": running.submissions,
    "pipeline": running.pipeline,
    "reach": running.reach,
    "sign-in": login.sign_in,
    "notify": notify.notify,
    "schema": records.schema,
    "database": records.database,
    "artifacts": artifacts.artifacts,
    "undelivered": records.undelivered,
    "package index": machine.index,
}
"""Every check by its name, in the order they are told."""

Findings = list[tuple[str, Finding]]

SOMETHING_TO_MEND = 1


def doctor(
    home: HomeOption = DEFAULT_HOME,
    port: Annotated[
        int | None,
        typer.Option(
            envvar="PEGBOARD_PORT", show_default=False, help="Port of the edge. [default: the instance's, else 8400]"
        ),
    ] = None,
    grants: Annotated[
        Path | None,
        typer.Option(
            envvar="PEGBOARD_GRANTS",
            show_default=False,
            help="The grants file. [default: the instance's]",
        ),
    ] = None,
    sign_in: Annotated[
        Path | None,
        typer.Option(
            envvar="PEGBOARD_SIGN_IN", show_default=False, help="The sign-in file. [default: the instance's]"
        ),
    ] = None,
    notify_file: Annotated[
        Path | None,
        typer.Option(
            "--notify",
            envvar="PEGBOARD_NOTIFY",
            show_default=False,
            help="The notification file. [default: the instance's]",
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask neither the package index nor the login.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look an instance and its machine over, and say how to mend each finding. Changes nothing.

    It works on a running instance, on a stopped one, and before there is one. The exit status is 0 when nothing must
    be mended, and 1 when something must.

    \b
    Example:
      pegboard doctor --home /srv/pegboard
    """
    found = examine(gather(home, port, grants, sign_in, notify_file, offline=offline))
    worst = worst_of(found)
    if as_json:
        rows = [{"check": name, **_row(finding)} for name, finding in found]
        print(json.dumps({"state": worst, "findings": rows}, indent=2))
    else:
        print("\n".join(_lines(found)))
    raise typer.Exit(SOMETHING_TO_MEND if worst is State.MEND else 0)


def gather(
    path: Path,
    port: int | None,
    grants: Path | None,
    sign_in: Path | None = None,
    notify_file: Path | None = None,
    *,
    offline: bool,
) -> Facts:
    """What the checks look at. What is not given is the instance's own, as it was last started."""
    home = Home.at(path)
    instance = noted(home)
    now = time.time()
    status = look(path, now)
    started = int(instance.get("port") or DEFAULT_PORT)
    return Facts(
        home=home,
        exists=home.root.is_dir(),
        # A running instance is looked at where it is, whatever the next one would be started with.
        port=started if status["running"] else port or started,
        public_url=str(instance.get("public_url", "")),
        grants=Path(grants or instance.get("grants") or DEMO / "grants.toml"),
        sign_in=_sign_in(sign_in or Path(instance.get("sign_in") or DEMO_LOGIN)),
        notify=_notify(notify_file or Path(instance.get("notify") or NOBODY_IS_TOLD)),
        status=status,
        offline=offline,
        isolation=os.environ.get(SETTING, "auto"),
        now=now,
        database_url=_server_url(),
    )


def _server_url() -> str:
    """The PostgreSQL that the environment names, as `pegboard up` would take it.

    Raises:
        ConfigurationError: it is no such URL, or cannot be read.
    """
    url = read_database_url(os.environ)
    return "" if url in (None, EMBEDDED) else str(url)


def _sign_in(named: Path) -> Path | None:
    return None if named == DEMO_LOGIN else named.expanduser()


def _notify(named: Path) -> Path | None:
    return None if named == NOBODY_IS_TOLD else named.expanduser()


def examine(facts: Facts, checks: Mapping[str, Check] = CHECKS) -> Findings:
    """Run the checks. One that fails itself is a finding, and stops no other."""
    return [(name, finding) for name, check in checks.items() for finding in _run(check, facts)]


def _run(check: Check, facts: Facts) -> Iterator[Finding]:
    try:
        yield from check(facts)
    except PermissionError as error:
        yield warning(f"{error.filename} cannot be looked at", "run this as the user that runs `pegboard up`")
    except Exception as error:
        log.debug("a check failed", exc_info=error)
        yield warning(f"this could not be checked ({type(error).__name__})", "tell the platform team")


def worst_of(found: Findings) -> State:
    """The worst state of all."""
    order = list(State)
    return max((finding.state for _, finding in found), key=order.index, default=State.WELL)


def _row(finding: Finding) -> dict[str, str]:
    return {"state": finding.state, "found": _plain(finding.found), "mend": _plain(finding.mend)}


def _lines(found: Findings) -> Iterator[str]:
    wide, names = max(len(state) for state in State), max(map(len, CHECKS))
    for name, finding in found:
        yield f"{finding.state:<{wide}}  {name:<{names}}  {_plain(finding.found)}"
        if finding.mend:
            yield f"{'':<{wide}}  {'':<{names}}  -> {_plain(finding.mend)}"
    counts = {state: sum(finding.state is state for _, finding in found) for state in State}
    yield ""
    if counts[State.MEND] or counts[State.WARNING]:
        yield f"{counts[State.MEND]} must be mended, {counts[State.WARNING]} to watch, {counts[State.WELL]} well."
    else:
        yield "All is well."


def _plain(text: str) -> str:
    """One line of text, whatever a log or a server put into it."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
