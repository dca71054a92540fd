"""Taking what a backup holds out of a home that may be in use, in an order in which nothing falls between.

A record goes from a spool to the database, never back. Spools and the access log are therefore read before the
database: what was delivered in between is in both, and the hub counts it once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import noted, server_of
from pegboard_hub.edge.accesslog import AccessLog
from pegboard_hub.storage.copies import copy_database
from pegboard_hub.upkeep.files import read_own
from pegboard_hub.upkeep.members import ACCESS_LOG, DATABASE, DIRECTORY, GRANTS, INSTANCE, SIGNING_KEYS, kind_of

Say = Callable[[str], None]


def collect(home: Home, into: Path, say: Say, *, keys: bool, secrets: bool) -> list[str]:
    """Copy everything a backup holds below the folder `into`; gives the names of its members.

    Args:
        home: of an instance, running or not.
        into: an empty folder that only this user can enter.
        say: takes lines of progress, and of what had to be left out.
        keys: with private keys, but for those that sign.
        secrets: with the servers' secrets.

    Raises:
        OSError: something cannot be read or written.
        DatabaseUnreadable: the database cannot be read.
    """
    names = [*_spools(home, into, say), *_states(home, into, say), *_access_log(home, into)]
    if not server_of(home):
        _database(home, into, say)
        names.append(DATABASE)
    if keys:
        names += _folder(home.root, home.keys, into, say, without=SIGNING_KEYS)
        names += _digest_keys(home, into)
    if secrets:
        names += _folder(home.root, home.root / "secrets", into, say)
    names += _folder(home.root, home.packages, into, say)
    return [*names, *_settings(home, into)]


def _spools(home: Home, into: Path, say: Say) -> Iterator[str]:
    """A cursor is older than the segments beside it: at worst, something is delivered twice."""
    for folder in _folders(home.root / "spool"):
        found = (path.name for path in folder.iterdir())
        names = sorted(found, key=lambda name: (name != "cursor.json", name))
        for name in names:
            content = read_own(folder / name, folder.lstat().st_uid)
            member = f"spool/{folder.name}/{name}"
            if content is None or kind_of(member) is None:
                if name != "accepted.jws" and not name.endswith(".new"):  # a bundle, and what is being written
                    say(f"left out, since it is no file of a spool: {member[:200]!r}")
                continue
            # A line that is still being written belongs to a call that is still under way.
            whole = content if name == "cursor.json" else content[: content.rfind(b"\n") + 1]
            if whole:
                _write(into / member, whole)
                yield member


def _states(home: Home, into: Path, say: Say) -> Iterator[str]:
    """The files that lie in a server's own folder, each as it is found: a server replaces its files as a whole."""
    for folder in _folders(home.root / "state"):
        for path in sorted(folder.iterdir()):
            member = f"state/{folder.name}/{path.name}"
            content = read_own(path, folder.lstat().st_uid)
            if content is None or kind_of(member) is None:
                if path.exists():
                    say(f"left out, since it is no plain file, or too large: {member[:200]!r}")
                continue
            _write(into / member, content)
            yield member


def _access_log(home: Home, into: Path) -> Iterator[str]:
    """The lines the hub has not had. Their place is a file of its own here, so the agent's own is not moved."""
    mark = into / "log.offset"
    with suppress(FileNotFoundError):
        mark.write_bytes((home.edge / "log.offset").read_bytes())
    if home.edge_access_log.exists():
        log = AccessLog(home.edge_access_log, mark)
        target = into / ACCESS_LOG
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w", encoding="utf-8") as file:
            while True:
                lines, place = log.read()
                if not lines and place == log.place:
                    break
                file.writelines(json.dumps(line) + "\n" for line in lines)
                log.done(place)
        yield ACCESS_LOG
    mark.unlink(missing_ok=True)


def _database(home: Home, into: Path, say: Say) -> None:
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if total and (tenth := done * 10 // total) > told:
            told = tenth
            say(f"database: {tenth * 10} %")

    (into / DATABASE).parent.mkdir(parents=True)
    copy_database(home.database, into / DATABASE, tell)


def _digest_keys(home: Home, into: Path) -> Iterator[str]:
    """Of a server's credentials, its digest key alone: its channel to the hub is opened anew at every start."""
    for path in sorted((home.root / "credentials").glob("*.json")):
        member = f"credentials/{path.name}"
        with suppress(ValueError, KeyError, TypeError):
            key = str(json.loads(path.read_text(encoding="utf-8"))["digest_key"])
            _write(into / member, json.dumps({"digest_key": key}).encode())
            yield member


def _settings(home: Home, into: Path) -> Iterator[str]:
    instance = noted(home)
    if instance:
        _write(into / INSTANCE, home.instance_file.read_bytes())
        yield INSTANCE
    for member, path in ((GRANTS, instance.get("grants")), (DIRECTORY, instance.get("directory"))):
        if path and Path(path).is_file():
            _write(into / member, Path(path).read_bytes())
            yield member


def _folder(root: Path, folder: Path, into: Path, say: Say, without: tuple[str, ...] = ()) -> Iterator[str]:
    """Every plain file below a folder of the operator's, but for members of these names."""
    for path in sorted(folder.rglob("*")):
        member = path.relative_to(root).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if path.name.startswith(".") or member in without:
            continue  # a file that is being replaced, or one that no backup holds
        content = read_own(path, path.lstat().st_uid)
        if content is None or kind_of(member) is None:
            say(f"left out, since it is no plain file: {member[:200]!r}")
            continue
        _write(into / member, content)
        yield member


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.glob("*") if path.is_dir() and not path.is_symlink())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
