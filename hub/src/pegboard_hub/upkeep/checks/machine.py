"""The machine: Python, the programs that Pegboard runs, the clock, isolation, and the package index."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.home import Home
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.isolation import Mode, choose
from pegboard_hub.upkeep.finding import Facts, Finding, must_mend, span, warning, well

PYTHON = (3, 11)
SQLITE = (3, 35)
"""The first SQLite with RETURNING."""

PROGRAM_S = 10
INDEX_S = 15
SKEW_S = 5.0
"""Seconds by which two clocks of one machine's files may differ."""

ENVOY_WATCHES = 12
"""Inotify instances of one Envoy, measured with two workers."""

WATCHES = Path("/proc/sys/fs/inotify/max_user_instances")
"""How many each user may have; 128 unless the machine says otherwise."""

PROBE_PACKAGE = "uv-build"
"""What every server is built with."""

_TIME_ERROR = 5
_CREDENTIALS = re.compile(r"//[^/@\s]*@")


def python(_facts: Facts) -> Iterator[Finding]:
    """The interpreter, its SQLite, and which Pegboard this is."""
    here = f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, Pegboard {version('pegboard-hub')}"
    if sys.version_info < PYTHON or sqlite3.sqlite_version_info < SQLITE:
        wanted = f"Python {PYTHON[0]}.{PYTHON[1]} with SQLite {SQLITE[0]}.{SQLITE[1]}, or later"
        yield must_mend(here, f"install {wanted}, and Pegboard with it")
    else:
        yield well(here)


def programs(_facts: Facts) -> Iterator[Finding]:
    """Envoy and uv: there, and they run."""
    for name, find in (("Envoy", preflight.find_envoy), ("uv", preflight.find_uv)):
        try:
            program = find()
        except ConfigurationError as error:
            yield must_mend(f"{name}: {error.problems[0]}", error.problems[-1])
            continue
        done = _run([str(program), "--version"], PROGRAM_S)
        said = " ".join(done.replace(f"{program} ", "").split())[:120]
        if done.startswith("!"):
            yield must_mend(f"{name} at {program} does not run: {said[1:]}", "install it again: make clean install")
        else:
            yield well(f"{name}: {said}")


def watches(_facts: Facts) -> Iterator[Finding]:
    """Room for Envoy to watch its files: without it Envoy ends as it starts, and does not say why."""
    if not WATCHES.exists():
        return
    allowed = int(WATCHES.read_text(encoding="ascii"))
    used = sum(_inotify_instances(process) for process in Path("/proc").glob("[0-9]*"))
    said = f"inotify: {used} of this user's {allowed} instances are in use; an edge wants {ENVOY_WATCHES}"
    if allowed - used < ENVOY_WATCHES:
        yield warning(said, f"raise it: sysctl -w fs.inotify.max_user_instances={max(1024, 2 * allowed)}")
    else:
        yield well(said)


def _inotify_instances(process: Path) -> int:
    """How many a process of this user has; none where it may not be looked at, or has ended."""
    try:
        if process.stat().st_uid != os.getuid():
            return 0
        return sum(str(entry.readlink()) == "anon_inode:inotify" for entry in (process / "fd").iterdir())
    except OSError:
        return 0


def clock(facts: Facts) -> Iterator[Finding]:
    """Tokens and bundles are dated: a clock that went back makes good ones look as if they came from the future."""
    stamps = [(path, path.stat().st_mtime) for path in _stamped(facts.home) if path.exists()]
    ahead = [(path, at - facts.now) for path, at in stamps if at - facts.now > SKEW_S]
    if ahead:
        path, seconds = max(ahead, key=lambda item: item[1])
        yield must_mend(
            f"the clock went back: {path} was written {span(seconds)} from now",
            "set the clock right (NTP), and start Pegboard again; what it signed in between expires by itself",
        )
        return
    synchronised = ctypes.CDLL(None).ntp_adjtime(ctypes.create_string_buffer(512)) != _TIME_ERROR
    how = "the kernel says it is synchronised" if synchronised else "nobody tells the kernel that it is synchronised"
    yield well(f"nothing here is from the future; {how}")


def _stamped(home: Home) -> list[Path]:
    return [home.database, home.edge_bundle, home.status, home.instance_file, home.edge_access_log, home.log("hub")]


def isolation(facts: Facts) -> Iterator[Finding]:
    """How far servers are kept from what is not their own."""
    found = facts.status.get("isolation")
    if found:
        mode, why = found["mode"], found["why"]
    else:
        try:
            mode, why = _try_isolation(facts)
        except ConfigurationError as error:
            yield must_mend(str(error), "take PEGBOARD_ISOLATION away, or make the machine able to do it")
            return
    if mode == Mode.OFF:
        wanted = "" if facts.isolation != Mode.OFF else "take PEGBOARD_ISOLATION away, and "
        yield warning(
            f"isolation is off: {why}", f"{wanted}install bubblewrap (apt-get install bubblewrap), or run as root"
        )
    else:
        yield well(f"isolation is {mode}: {why}")


def _try_isolation(facts: Facts) -> tuple[str, str]:
    """What this machine can do, tried in a home that is thrown away: a trial opens a home to the servers' users."""
    folder = Path(tempfile.mkdtemp(prefix="pgb"))
    try:
        folder.chmod(0o711)
        found = choose(facts.isolation, Home.open(folder / "home"), ["prod/trial"], preflight.find_envoy())
        return found.mode, found.why.replace(str(folder / "home"), "the home")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def index(facts: Facts) -> Iterator[Finding]:
    """Where the tool that builds servers gets packages from. Only what it is set up with is contacted."""
    place = _hidden(next((os.environ[name] for name in _INDEX_VARIABLES if os.environ.get(name)), "PyPI"))
    if facts.offline:
        yield well(f"not asked (--offline): {place}")
        return
    try:
        uv = preflight.find_uv()
    except ConfigurationError:
        return  # `programs` says so
    command = ["pip", "compile", "--no-cache", "--no-deps", "--no-build", "--no-header", "--quiet", "-"]
    told = _run([str(uv), *command, "--python", sys.executable], INDEX_S, PROBE_PACKAGE, _uv_environment())
    if told.startswith("!"):
        yield warning(
            f"uv cannot get {PROBE_PACKAGE} from {place}: {_hidden(told[1:])}",
            "servers that are built already start all the same. Set UV_DEFAULT_INDEX to an index that this machine "
            "reaches, or the proxy (HTTPS_PROXY); --offline leaves this out",
        )
    else:
        yield well(f"uv reaches {place}")


_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX")


def _uv_environment() -> dict[str, str]:
    """As releases are made with, but impatient."""
    own = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return {**own, "UV_NO_CONFIG": "1", "UV_NO_PROGRESS": "1", "UV_HTTP_TIMEOUT": "5", "UV_HTTP_RETRIES": "0"}


def _hidden(text: str) -> str:
    return _CREDENTIALS.sub("//***@", " ".join(text.split()))[:400]


def _run(command: list[str], limit: float, given: str = "", environment: dict[str, str] | None = None) -> str:
    """What a program says; after an exclamation mark, why it did not do it."""
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=limit, env=environment, cwd="/", check=False
        )
    except subprocess.TimeoutExpired:
        return f"!no answer within {limit:.0f} s"
    except OSError as error:
        return f"!{error.strerror}"
    return done.stdout if done.returncode == 0 else f"!{done.stderr.strip() or f'status {done.returncode}'}"
