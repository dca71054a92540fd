"""Who may touch which folder of a home, when its parts run as users of their own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.removing import remove_tree
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
    """Create the servers' folders and give every folder of the home to whom it belongs. Nothing may run yet.

    Raises:
        OSError: a folder cannot be created or given away.
    """
    if is_root():
        _prepare_home(home, isolation)
    for server in servers:
        prepare_server(home, isolation, server)


def prepare_server(home: Home, isolation: Isolation, server: ServerName) -> None:
    """Create one server's folders, its working folder empty, and give them to it. The server may not run.

    Raises:
        OSError: a folder cannot be created or given away.
    """
    home.add_server(server)
    remove_tree(home.work(server))
    home.work(server).mkdir(parents=True, mode=0o700)
    if is_root():
        for right in _rights_of_server(home, isolation, server):
            give(right)


def prepare_replica(home: Home, isolation: Isolation, server: ServerName, replica: str) -> None:
    """Create one replica's folders, its working folder empty, and give them to its server. It may not run.

    Raises:
        OSError: a folder cannot be created or given away.
    """
    home.add_server(server)
    remove_tree(home.work(server, replica))
    home.work(server, replica).mkdir(parents=True, mode=0o700)
    home.spool(server, replica).mkdir(parents=True, mode=0o700, exist_ok=True)
    if is_root():
        edge_group = isolation.users.edge.gid if isolation.users else ROOT
        uid, gid = ids(isolation, str(server))
        give(Right(home.bundle(server).parent, ids(isolation, "hub")[0], gid, 0o750))
        give(Right(home.state(server), uid, gid, 0o700))
        give(Right(home.spool(server, replica), uid, gid, 0o700))
        give(Right(home.work(server, replica), uid, gid, 0o700))
        # The supervisor binds the sockets here: the server is handed them, and may not put another in their place.
        give(Right(home.socket(server).parent, ROOT, edge_group, 0o750))


def _prepare_home(home: Home, isolation: Isolation) -> None:
    for right in _rights(home, isolation):
        give(right)
    edge = isolation.user("edge")
    if edge is not None:
        home.edge_access_log.touch(mode=0o600)
        os.chown(home.edge_access_log, edge.uid, edge.gid)


def write_secret(path: Path, text: str, role: str, isolation: Isolation) -> None:
    """Replace a secret file that one role alone may read; there is no moment in which that role could not.

    Raises:
        OSError: it cannot be written or given away.
    """
    user = isolation.user(role)
    replace_file(path, text, mode=0o400, owner=(user.uid, user.gid) if user else None)


def _rights(home: Home, isolation: Isolation) -> Iterator[Right]:
    hub = ids(isolation, "hub")
    edge = ids(isolation, "edge")
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
    yield Right(home.prober_beat.parent, *ids(isolation, "prober"), 0o755)


def _rights_of_server(home: Home, isolation: Isolation, server: ServerName) -> Iterator[Right]:
    edge_group = isolation.users.edge.gid if isolation.users else ROOT
    uid, gid = ids(isolation, str(server))
    yield Right(home.bundle(server).parent, ids(isolation, "hub")[0], gid, 0o750)
    yield Right(home.spool(server), uid, gid, 0o700)
    yield Right(home.state(server), uid, gid, 0o700)
    yield Right(home.work(server), uid, gid, 0o700)
    # Only the edge may connect: new files here get its group, and nobody else may enter.
    yield Right(home.socket(server).parent, uid, edge_group, 0o2750)
    for part in (home.environment(server), home.project(server)):
        if part.is_dir():
            yield Right(part, ROOT, gid, 0o750)


def ids(isolation: Isolation, role: str) -> tuple[int, int]:
    """User and group that a role's files belong to."""
    user = isolation.user(role)
    return (user.uid, user.gid) if user else (ROOT, ROOT)


def give(right: Right) -> None:
    """Give a folder to whom it belongs.

    Raises:
        OSError: it cannot be given away.
    """
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
