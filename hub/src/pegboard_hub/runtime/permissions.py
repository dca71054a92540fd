"""Who may touch which folder of a home, when its parts run as users of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home
from pegboard_hub.runtime.isolation import Isolation
from pegboard_hub.runtime.users import is_root

ROOT = 0


@dataclass(frozen=True, slots=True)
class Right:
    """One folder's owner, group and mode."""

    folder: Path
    owner: int
    group: int
    mode: int


def prepare(home: Home, isolation: Isolation, servers: Iterable[ServerName]) -> None:
    """Create the servers' folders and give every folder of the home to whom it belongs.

    Raises:
        OSError: a folder cannot be created or given away.
    """
    servers = list(servers)
    for server in servers:
        home.add_server(server)
        shutil.rmtree(home.work(server), ignore_errors=True)
        home.work(server).mkdir(parents=True, mode=0o700)
    if not is_root():
        return
    for right in _rights(home, isolation, servers):
        _give(right)
    edge = isolation.user("edge")
    if edge is not None:
        home.edge_access_log.touch(mode=0o600)
        os.chown(home.edge_access_log, edge.uid, edge.gid)


def give_file(path: Path, role: str, isolation: Isolation) -> None:
    """Make a secret file readable by one role alone.

    Raises:
        OSError: it cannot be given away.
    """
    user = isolation.user(role)
    path.chmod(0o400)
    if user is not None:
        os.chown(path, user.uid, user.gid)


def _rights(home: Home, isolation: Isolation, servers: list[ServerName]) -> Iterator[Right]:
    hub = _ids(isolation, "hub")
    edge = _ids(isolation, "edge")
    edge_group = isolation.users.edge.gid if isolation.users else ROOT
    yield Right(home.root, ROOT, ROOT, 0o711)
    yield Right(home.data, *hub, 0o700)
    yield Right(home.keys, *hub, 0o700)
    yield Right(home.bundle_keys.parent, *hub, 0o755)
    yield Right(home.edge_bundle.parent, *hub, 0o700)
    yield Right(home.edge, ROOT, edge_group, 0o750)
    yield Right(home.log("hub").parent, ROOT, ROOT, 0o711)
    yield Right(home.run, ROOT, ROOT, 0o711)
    yield Right(home.hub_socket.parent, hub[0], edge_group, 0o2750)
    yield Right(home.internal_socket.parent, *hub, 0o755)
    yield Right(home.edge_admin_socket.parent, *edge, 0o700)
    for server in servers:
        uid, gid = _ids(isolation, str(server))
        yield Right(home.bundle(server).parent, hub[0], gid, 0o750)
        yield Right(home.spool(server), uid, gid, 0o700)
        yield Right(home.work(server), uid, gid, 0o700)
        # Only the edge may connect: new files here get its group, and nobody else may enter.
        yield Right(home.socket(server).parent, uid, edge_group, 0o2750)
        for part in (home.environment(server), home.project(server)):
            if part.is_dir():
                yield Right(part, ROOT, gid, 0o750)


def _ids(isolation: Isolation, role: str) -> tuple[int, int]:
    user = isolation.user(role)
    return (user.uid, user.gid) if user else (ROOT, ROOT)


def _give(right: Right) -> None:
    before = right.folder.lstat()
    if before.st_uid != right.owner:
        # Only a folder that changes hands is walked: in one that its owner could write, links may wait for us.
        for path in right.folder.rglob("*"):
            with suppress(FileNotFoundError):
                found = path.lstat()
                if found.st_uid == before.st_uid and (found.st_nlink == 1 or path.is_dir()):
                    os.chown(path, right.owner, right.group, follow_symlinks=False)
    os.chown(right.folder, right.owner, right.group)
    right.folder.chmod(right.mode)  # after chown(2), which clears the set-group-id bit
