"""`pegboard backup` and `pegboard restore`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import server_of
from pegboard_hub.common.settings import DEMO
from pegboard_hub.runtime.looking import JsonOption
from pegboard_hub.runtime.options import DEFAULT_HOME, HomeOption
from pegboard_hub.upkeep.backup import Backup, back_up, default_name
from pegboard_hub.upkeep.members import GRANTS, Part
from pegboard_hub.upkeep.restore import Restored
from pegboard_hub.upkeep.restore import restore as bring_back

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but problems.")]


def backup(
    file: Annotated[
        Path | None,
        typer.Argument(
            show_default=False, help="The backup, a new file. [default: pegboard-backup-TIME.tar.gz here]"
        ),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    keys: Annotated[
        bool, typer.Option("--with-keys/--without-keys", help="With private keys, but for those that sign.")
    ] = True,
    secrets: Annotated[
        bool, typer.Option("--with-secrets", help="With the servers' secrets, in plain text.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Back up an instance, running or not: what cannot be made again, in one file.

    Everything acknowledged before the start is in it: database, undelivered records, grants file, and keys. Those
    that sign tokens and bundles are not: whoever steals a backup cannot sign, and none brings a key back that was
    given up. The file is readable by you alone. A PostgreSQL is not in it: back that up with its own tools.

    \b
    Example:
      pegboard backup /var/backups/pegboard.tar.gz --home /srv/pegboard
    """
    target = (file or Path(default_name())).absolute()
    made = back_up(Home.at(home), target, _sayer(quiet), keys=keys, secrets=secrets)
    elsewhere = "" if made.manifest.db_schema else server_of(Home.at(home))
    if as_json:
        print(json.dumps(_backup_json(made, elsewhere)))
    elif not quiet:
        print("\n".join(_backup_lines(made, elsewhere)))


def restore(
    file: Annotated[Path, typer.Argument(help="A backup.")],
    home: Annotated[
        Path, typer.Option(envvar="PEGBOARD_HOME", help="Folder for the instance: not there yet, or empty.")
    ] = DEFAULT_HOME,
    replace: Annotated[
        bool, typer.Option("--replace", help="Move a stopped instance that is there aside; it is never deleted.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Bring an instance back from a backup, into a new home: all of it, or nothing.

    Restore only what you trust as you trust your keys: a backup decides who may sign.

    \b
    Example:
      pegboard restore pegboard.tar.gz --home /srv/pegboard-restored
    """
    restored = bring_back(file, home, _sayer(quiet), replace=replace)
    if as_json:
        print(json.dumps(_restored_json(restored)))
    elif not quiet:
        print("\n".join(_restored_lines(restored)))


def _sayer(quiet: bool) -> Callable[[str], None]:
    def say(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr, flush=True)

    return say


def _backup_json(made: Backup, elsewhere: str) -> dict[str, object]:
    return {
        "file": str(made.file),
        "bytes": made.size,
        "sha256": made.sha256,
        "made_at": made.manifest.made_at,
        "schema": made.manifest.db_schema,
        "holds": [part.name.lower() for part in made.parts],
        "database_not_in_it": elsewhere or None,
    }


def _backup_lines(made: Backup, elsewhere: str) -> list[str]:
    absent = [part for part in (Part.KEYS, Part.SECRETS) if part not in made.parts]
    lines = [f"{made.file}: {made.size:,} bytes, readable by you alone", f"SHA-256 {made.sha256}", "It holds:"]
    lines += [f"  {part.value}" for part in made.parts]
    lines += [f"It does not hold:  {part.value}" for part in absent]
    if elsewhere:
        lines.append(f"It does not hold the database, which is in {elsewhere}: registry, people's sign-ins, ledger.")
        lines.append("Back that up too, now, with your own tools: pg_dump --format=custom.")
    if Part.KEYS in made.parts:
        lines.append("Keep it as you keep the keys.")
    return [*lines, f"Bring it back: pegboard restore {shlex.quote(str(made.file))} --home NEW"]


def _restored_json(restored: Restored) -> dict[str, object]:
    return {
        "home": str(restored.home),
        "made_at": restored.manifest.made_at,
        "schema": restored.manifest.db_schema,
        "holds": [part.name.lower() for part in restored.parts],
        "moved": str(restored.moved) if restored.moved else None,
        "start": _start(restored),
    }


def _restored_lines(restored: Restored) -> list[str]:
    manifest = restored.manifest
    lines = [f"{restored.home} is the instance as it was at {manifest.made_at}."]
    if restored.moved:
        lines.append(f"What was there before is in {restored.moved}; delete it when you no longer need it.")
    if not manifest.db_schema:
        lines.append(
            f"Its database is not in the backup: it is in {server_of(Home.at(restored.home))}, as that is now. To "
            "bring that back too, use pg_restore before the start, and set PEGBOARD_DATABASE_URL for it."
        )
    lines.append("What came after that time is not in it: calls, refusals, changes of grants and releases.")
    lines.append("The start makes new signing keys: programs renew the tokens that they have by themselves.")
    if Part.KEYS not in restored.parts:
        lines.append("It holds no other keys either: people sign in again.")
    if Part.SECRETS not in restored.parts:
        lines.append(
            f"It holds no secrets of servers: where they need files, put them into {restored.home / 'secrets'}."
        )
    if note := _grants(restored)[1]:
        lines.append(note)
    return [*lines, "Start it:", f"  {_start(restored)}"]


def _start(restored: Restored) -> str:
    """The command that makes it answer where it did, which is where its tokens are bound to."""
    return f"pegboard up --home {shlex.quote(str(restored.home))}{_url(restored)}{_grants(restored)[0]}"


def _grants(restored: Restored) -> tuple[str, str]:
    """The option that names the grants file, and what to know of it."""
    before, kept = Path(restored.manifest.grants), restored.home / GRANTS
    if not restored.manifest.grants or before == DEMO / "grants.toml":
        return "", ""
    if before.is_file() and kept.is_file() and before.read_bytes() == kept.read_bytes():
        return f" --grants {shlex.quote(str(before))}", ""
    state = "says something else now" if before.is_file() else "is not there any more"
    note = (
        f"The grants file {before} {state}; as it was, it is {kept}. Sources in it are relative to its first place."
    )
    return f" --grants {shlex.quote(str(before))}", note


def _url(restored: Restored) -> str:
    instance = json.loads(text) if (text := _read(restored.home / "instance.json")) else {}
    port, url = instance.get("port"), restored.manifest.public_url
    options = f" --port {port}" if port else ""
    return options + (f" --public-url {shlex.quote(url)}" if url and url != f"http://localhost:{port}" else "")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
