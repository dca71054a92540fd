"""Names: of the server beside other servers', of its tools beside theirs."""

from __future__ import annotations

from collections.abc import Iterator

from pegboard.core.check.model import OtherServer, Subject
from pegboard.core.check.rules import RULES
from pegboard.core.declared import lookalikes, mistakable
from pegboard.core.manifest import FILE_NAME
from pegboard.core.names import ServerName
from pegboard.core.publishing import Finding
from pegboard.core.text import skeleton

ANOTHER = "another server"
"""What is said in place of one that whoever reads the findings may not know."""


def findings(subject: Subject) -> Iterator[Finding]:
    """Names that are taken for others."""
    yield from _of_server(subject)
    yield from _of_tools(subject)


def _of_server(subject: Subject) -> Iterator[Finding]:
    try:
        own = ServerName.parse(subject.server)
        known = [ServerName.parse(each.name) for each in subject.others]
    except ValueError:
        return
    untold = {each.name for each in subject.others if not each.told}
    same = mistakable(own, known)
    for name in same:
        yield RULES["PB104"].at(FILE_NAME, f"{own} is taken for {ANOTHER if name in untold else name}")
    for name in lookalikes(own, known):
        if name not in same:
            yield RULES["PB105"].at(FILE_NAME, f"{own} is one slip from {ANOTHER if name in untold else name}")


def _of_tools(subject: Subject) -> Iterator[Finding]:
    """A server of the same name in another namespace is the same server, tried before it is published."""
    own_name = subject.declaration.manifest.name
    taken: dict[str, tuple[OtherServer, str]] = {}
    for server in sorted(subject.others, key=lambda each: not each.told):
        if server.name.rpartition("/")[2] != own_name:
            for tool in server.tools:
                taken.setdefault(skeleton(tool), (server, tool))
    for own in subject.declaration.tools:
        if (found := taken.get(skeleton(own.name))) is None:
            continue
        place, (server, other) = subject.place_of(own.name), found
        if other != own.name:
            whose = f"{other!r} of {server.name}" if server.told else f"that of {ANOTHER}"
            yield RULES["PB210"].at(place, f"tool {own.name!r} is taken for {whose}")
        elif server.told:
            yield RULES["PB211"].at(place, f"tool {own.name!r}: {server.name} has one of this name")
