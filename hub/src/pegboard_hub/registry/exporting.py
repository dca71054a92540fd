"""The grants file as the registry has it, and what a grants file would change: for those who keep governance in git.

What is written is good to be saved as the file: taken over, it changes nothing, and no conflict is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import tomlkit
from tomlkit.items import Table

from pegboard.core.grants import GrantsFile
from pegboard_hub.registry.importing import EMPTY, Entry, entry_of, held, merge
from pegboard_hub.registry.model import Lifecycle, RegisteredServer, Snapshot
from pegboard_hub.registry.reviews.model import Review

ABOUT = "The operator's grants as Pegboard's registry has them."


@dataclass(frozen=True, slots=True)
class Expected:
    """What would come of one server's entry, if the file were saved.

    Attributes:
        what: `new`, `changes`, `retires` or `conflicts`.
        fields: each field that would change, with what it is and what it would be.
        conflicts: each field that would not be taken over, with what the file says and what the registry says.
    """

    server: str
    what: str
    fields: Mapping[str, tuple[Any, Any]]
    conflicts: Mapping[str, tuple[Any, Any]]


def exported(file: GrantsFile, snapshot: Snapshot, reviews: Mapping[str, Iterable[Review]]) -> str:
    """The grants file's text.

    Args:
        file: the one in force; what is the file's alone is taken from it.
        snapshot: of the registry.
        reviews: by server, those that the grants came of.
    """
    document = tomlkit.document()
    document.add(tomlkit.comment(ABOUT))
    for name, value in file.model_dump(mode="json", exclude={"servers"}, exclude_defaults=True).items():
        document.add(tomlkit.nl())
        document.add(name, tomlkit.item(value))
    servers = tomlkit.table(is_super_table=True)
    left_out = []
    for name, server in snapshot.servers.items():
        if server.source and server.lifecycle is not Lifecycle.RETIRED:
            servers.add(name, _entry(file, name, server, reviews.get(name, ())))
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


def expected(
    file: GrantsFile, imported: Mapping[str, Entry], snapshot: Snapshot, retired: frozenset[Lifecycle]
) -> list[Expected]:
    """What would come of a file, in order of server; servers of which nothing would are left out.

    Args:
        file: that is thought of.
        imported: what was last taken over of each entry.
        snapshot: of the registry.
        retired: lifecycles in which nothing more is retired.
    """
    found = [_expected(name, entry_of(grant), imported.get(name), snapshot) for name, grant in file.servers.items()]
    for name in imported.keys() - file.servers.keys():
        server = snapshot.servers.get(name)
        if server is not None and server.lifecycle not in retired:
            ended = {"lifecycle": (server.lifecycle.value, Lifecycle.RETIRED.value)}
            found.append(Expected(name, "retires", ended, {}))
    told = [each for each in found if each.what == "new" or each.fields or each.conflicts]
    return sorted(told, key=lambda each: each.server)


def _expected(name: str, entry: dict[str, Any], last: Entry | None, snapshot: Snapshot) -> Expected:
    server = snapshot.servers.get(name)
    have = held(server) if server is not None else EMPTY
    merged = merge(last, entry, have)
    fields = {field: (have[field], value) for field, value in merged.take.items()}
    what = "conflicts" if merged.conflicts else "new" if server is None else "changes"
    return Expected(name, what, fields, merged.conflicts)


def _entry(file: GrantsFile, name: str, server: RegisteredServer, reviews: Iterable[Review]) -> Table:
    table = tomlkit.table()
    for review in reviews:
        day = f"{datetime.fromtimestamp((review.decided_at_ms or 0) / 1000, UTC):%Y-%m-%d}"
        table.add(tomlkit.comment(f"{review.kind} review {review.id}: {review.state} by {review.decided_by}, {day}"))
    table.add("source", server.source)
    said = file.servers.get(name)
    for field, value in held(server).items():
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
