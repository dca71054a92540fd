"""The grants file as the registry has it, and what a grants file would change: for those who keep governance in git.

What is written is good to be saved as the file: taken over, it changes nothing, and no conflict is left. Reasons that
others than the file gave are left out of it: whoever adds to the file would sign with their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Table

from pegboard.core.grants import Grant, GrantsFile
from pegboard_hub.registry.importing import EMPTY, REASON, Entry, entry_of, held, merge
from pegboard_hub.registry.model import Lifecycle, RegisteredServer, Snapshot
from pegboard_hub.registry.reviews.model import Review

ABOUT = "The operator's grants as Pegboard's registry has them."


@dataclass(frozen=True, slots=True)
class Expected:
    """What would come of one server's entry, if the file were saved.

    Attributes:
        what: `new`, `changes`, `retires`, `conflicts`, or `differs`, where nothing would come of it.
        fields: each field that would change, with what it is and what it would be.
        conflicts: each field that would not be taken over, with what the file says and what the registry says.
        differs: each field in which the registry has decided since the file said the same; the registry's holds.
    """

    server: str
    what: str
    fields: Mapping[str, tuple[Any, Any]]
    conflicts: Mapping[str, tuple[Any, Any]]
    differs: Mapping[str, tuple[Any, Any]]


def exported(
    file: GrantsFile, snapshot: Snapshot, reviews: Mapping[str, Iterable[Review]], moved_from: Path | None = None
) -> str:
    """The grants file's text.

    Args:
        file: the one in force; what is the file's alone is taken from it.
        snapshot: of the registry.
        reviews: by server, those that the grants came of.
        moved_from: the folder that sources are relative to, where the text is to lie in another; None: in that one.
    """
    document = tomlkit.document()
    document.add(tomlkit.comment(ABOUT))
    for name, value in file.model_dump(mode="json", exclude={"servers"}, exclude_defaults=True).items():
        document.add(tomlkit.nl())
        document.add(name, tomlkit.item(value))
    servers = tomlkit.table(is_super_table=True)
    left_out = []
    for name, server in snapshot.servers.items():
        if server.source:
            source = server.source if moved_from is None else str((moved_from / server.source).resolve())
            servers.add(name, _entry(file, name, server, source, reviews.get(name, ())))
        else:
            left_out.append(f"{name}: {server.lifecycle}, and nothing says where its code is")
    if servers:
        document.add(tomlkit.nl())
        document.add("servers", servers)
    if left_out:
        document.add(tomlkit.nl())
        document.add(tomlkit.comment("Not in here:"))
        for line in left_out:
            document.add(tomlkit.comment(line))
    return tomlkit.dumps(document)


def expected(file: GrantsFile, imported: Mapping[str, Entry], snapshot: Snapshot, folder: Path) -> list[Expected]:
    """What would come of a file, in order of server; servers of which nothing would are left out.

    Args:
        file: that is thought of.
        imported: what was last taken over of each entry.
        snapshot: of the registry.
        folder: that of the file that is followed; sources are relative to it.
    """
    found = [_expected(name, grant, imported.get(name), snapshot, folder) for name, grant in file.servers.items()]
    for name in imported.keys() - file.servers.keys():
        server = snapshot.servers.get(name)
        if server is not None and server.lifecycle is not Lifecycle.RETIRED:
            ended = {"lifecycle": (server.lifecycle.value, Lifecycle.RETIRED.value)}
            found.append(Expected(name, "retires", ended, {}, {}))
    told = [each for each in found if each.what == "new" or each.fields or each.conflicts or each.differs]
    return sorted(told, key=lambda each: each.server)


def _expected(name: str, grant: Grant, last: Entry | None, snapshot: Snapshot, folder: Path) -> Expected:
    server = snapshot.servers.get(name)
    have = held(server) if server is not None else EMPTY
    merged = merge(last, entry_of(grant), have)
    fields = {field: (have[field], value) for field, value in merged.take.items()}
    source = server.source if server is not None else ""
    if server is not None and not (source and (folder / source).resolve() == (folder / grant.source).resolve()):
        fields["source"] = (source, grant.source)
    what = "conflicts" if merged.conflicts else "new" if server is None else "changes" if fields else "differs"
    return Expected(name, what, fields, merged.conflicts, merged.differs)


def _entry(file: GrantsFile, name: str, server: RegisteredServer, source: str, reviews: Iterable[Review]) -> Table:
    table = tomlkit.table()
    if server.lifecycle is Lifecycle.RETIRED:
        table.add(tomlkit.comment("retired in the registry: nobody can call it until it is brought back there"))
    for review in reviews:
        day = f"{datetime.fromtimestamp((review.decided_at_ms or 0) / 1000, UTC):%Y-%m-%d}"
        table.add(tomlkit.comment(f"{review.kind} review {review.id}: {review.state} by {review.decided_by}, {day}"))
    table.add("source", source)
    said = file.servers.get(name)
    for field, value in held(server).items():
        if field == REASON and (said is None or value != said.reason):
            continue
        if value != EMPTY[field] or (said is not None and field in said.model_fields_set):
            table.add(field, _value(value))
    if said is not None and said.egress:
        table.add("egress", list(said.egress))
    return table


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        inline = tomlkit.inline_table()
        inline.update(value)
        return inline
    return value
