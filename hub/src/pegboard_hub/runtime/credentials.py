"""What each server process shows to the hub, made by the supervisor for every start of it.

The channel token, not the record, says which server a record is from. The hub knows only its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pegboard.core.errors import ConfigurationError
from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.runtime.permissions import write_secret
from pegboard_hub.runtime.programs import Program
from pegboard_hub.runtime.releases import Release

Channels = dict[str, dict[str, str]]
"""Server, release and what that was made from, by the SHA-256 of their channel's token."""

REPLICA = "replica"
"""Key of a channel under which stands whose it is of several processes of a server."""

SECRET_VARIABLE = "PEGBOARD_SECRET_"  # noqa: S105 - the start of variables' names


def issue(home: Home, isolation: Isolation, releases: Iterable[Release]) -> None:
    """Write new channel tokens, the operator's own credential and the prober's, each readable by those who need it.

    The credential for `/metrics` is made where there is none; of that and the prober's the hub gets the digest.

    Raises:
        OSError: a file cannot be written.
    """
    channels: Channels = {}
    for release in releases:
        channels |= _new_channel(home, isolation, release)
    _write_channels(home, isolation, channels)
    write_secret(home.operator_token, secrets.token_urlsafe(32), "hub", isolation)
    write_secret(home.scrape_digest, _digest(_scrape_token(home)), "hub", isolation)
    prober = secrets.token_urlsafe(32)
    write_secret(home.prober_token, prober, "prober", isolation)
    write_secret(home.prober_digest, _digest(prober), "hub", isolation)


def open_channel(home: Home, isolation: Isolation, release: Release) -> None:
    """Give one server a new channel while the others keep theirs.

    Raises:
        OSError: a file cannot be read or written.
    """
    others = _channels_without(home, release.server)
    _write_channels(home, isolation, others | _new_channel(home, isolation, release))


def close_channel(home: Home, isolation: Isolation, server: ServerName) -> None:
    """Take a server's channel away; its key for digests stays, should it come back.

    Raises:
        OSError: a file cannot be read or written.
    """
    _write_channels(home, isolation, _channels_without(home, server))


def open_replica(home: Home, isolation: Isolation, program: Program, replica: str) -> None:
    """Give one replica of a server a channel of its own. All replicas of a server have its one key for digests.

    Raises:
        OSError: a file cannot be read or written.
    """
    token, server = secrets.token_urlsafe(32), program.server
    own = home.credentials(server)
    if not own.exists():  # the key alone; it is never a process's
        replace_file(own, json.dumps({"digest_key": _digest_key(own)}), mode=0o400)
    content = {"channel_token": token, "digest_key": _digest_key(own)}
    write_secret(home.credentials(server, replica), json.dumps(content), str(server), isolation)
    channel = {"server": str(server), "release": program.release, "source": program.source, REPLICA: replica}
    _write_channels(home, isolation, _replicas_but(home, server, replica) | {_digest(token): channel})


def close_replica(home: Home, isolation: Isolation, server: ServerName, replica: str) -> None:
    """Take a replica's channel away.

    Raises:
        OSError: a file cannot be read or written.
    """
    _write_channels(home, isolation, _replicas_but(home, server, replica))
    home.credentials(server, replica).unlink(missing_ok=True)


def close_replicas(home: Home, isolation: Isolation) -> None:
    """Take every replica's channel away, as before the first is started.

    Raises:
        OSError: a file cannot be read or written.
    """
    known = _known(home)
    kept = {digest: each for digest, each in known.items() if REPLICA not in each}
    if kept != known:
        _write_channels(home, isolation, kept)


def _replicas_but(home: Home, server: ServerName, replica: str) -> Channels:
    """Every channel but that of one replica."""
    known = _known(home)
    ours = {"server": str(server), REPLICA: replica}
    return {digest: each for digest, each in known.items() if {k: each.get(k, "") for k in ours} != ours}


def _new_channel(home: Home, isolation: Isolation, release: Release) -> Channels:
    token = secrets.token_urlsafe(32)
    path = home.credentials(release.server)
    content = {"channel_token": token, "digest_key": _digest_key(path)}
    write_secret(path, json.dumps(content), str(release.server), isolation)
    return {_digest(token): {"server": str(release.server), "release": release.digest, "source": release.source}}


def _channels_without(home: Home, server: ServerName) -> Channels:
    return {fingerprint: each for fingerprint, each in _known(home).items() if each["server"] != str(server)}


def _known(home: Home) -> Channels:
    try:
        known: Channels = json.loads(home.channels.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return known


def _write_channels(home: Home, isolation: Isolation, channels: Channels) -> None:
    write_secret(home.channels, json.dumps(channels), "hub", isolation)


def resolve_secrets(home: Home, server: ServerName, references: dict[str, str]) -> dict[str, str]:
    """The values of a manifest's secrets.

    An author names secrets, and must not reach the operator's others by naming them: `env:NAME` is the variable
    `PEGBOARD_SECRET_<NAMESPACE>__<SERVER>__NAME` (capitals, '-' as '_'), `file:PATH` lies in `secrets/<ns>.<name>/`.

    Raises:
        ConfigurationError: one or more are not there; all are named.
    """
    values, problems = {}, []
    for variable, reference in references.items():
        kind, _, name = reference.partition(":")
        value, place = _from_variable(server, name) if kind == "env" else _from_file(home.secrets(server), name)
        if value is None:
            problems.append(f"secrets.{variable}: put it into {place}")
        else:
            values[variable] = value
    if problems:
        raise ConfigurationError(str(server), problems)
    return values


def _from_variable(server: ServerName, name: str) -> tuple[str | None, str]:
    # Two underscores stand in no name (NAME_PATTERN, Manifest.secrets): no server can spell another's variable.
    prefix = f"{SECRET_VARIABLE}{server.namespace}__{server.name}__".replace("-", "_").upper()
    return os.environ.get(prefix + name), f"the variable {prefix}{name}"


def _from_file(folder: Path, name: str) -> tuple[str | None, str]:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        return None, f"a file in {folder}; {name!r} leads out of it"
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8").strip(), str(path)
    return None, f"the file {path}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _scrape_token(home: Home) -> str:
    """The credential of whoever collects metrics, kept over restarts so that the collector's settings stay true."""
    with suppress(OSError, UnicodeDecodeError):
        if kept := home.scrape_token.read_text(encoding="ascii").strip():
            return kept
    token = secrets.token_urlsafe(32)
    replace_file(home.scrape_token, token, mode=0o600)
    return token


def _digest_key(path: Path) -> str:
    """The server's key for digests, kept over restarts so that equal arguments keep equal digests."""
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads(path.read_text(encoding="utf-8"))["digest_key"])
    return secrets.token_hex(32)
