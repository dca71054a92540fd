"""Requirements as they are listed, and the history of them, which is the registry's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pegboard.core.approval import CALLER, OWNER, Requirement
from pegboard_hub.registry.history import LIFT, Actor, Entry
from pegboard_hub.registry.model import RegisteredServer, Required

FIELD = "approvals"
"""What the registry's history calls them."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A requirement in force.

    Attributes:
        server: of the tool.
        tool: that needs an approval.
        required: what is required, by whom and since when.
    """

    server: RegisteredServer
    tool: str
    required: Required

    @property
    def name(self) -> str:
        """The tool as `namespace/name/tool`."""
        return f"{self.server.name}/{self.tool}"

    @property
    def requirement(self) -> Requirement:
        """Who must say yes."""
        return self.required.requirement

    @property
    def approvers(self) -> str:
        """The group whose people say yes; empty where it is the caller."""
        by = self.requirement.by
        return "" if by == CALLER else self.server.owner if by == OWNER else by

    @property
    def has_tool(self) -> bool:
        """Whether the deployed release has the tool, or, before there is one, the release that waits."""
        release = self.server.release or self.server.waiting
        return release is not None and any(tool.name == self.tool for tool in release.tools)

    @property
    def stopped_instead(self) -> bool:
        """Whether the release cannot ask, so that the tool is stopped."""
        return self.server.release is not None and not self.server.release.can_ask and self.has_tool


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the history. `at_ms` is in milliseconds since the epoch.

    Attributes:
        before: what was required of the tool; None where nothing was.
        after: what is required since.
    """

    seq: int
    at_ms: int
    server: str
    tool: str
    action: Literal["require", "lift"]
    before: Requirement | None
    after: Requirement | None
    why: str
    by: Actor


def events_of(entry: Entry) -> Iterator[Event]:
    """What an entry of the registry's history says of requirements: one event for each tool."""
    before, after = (side or {} for side in entry.fields.get(FIELD, ({}, {})))
    for tool in sorted(before.keys() | after.keys()):
        if before.get(tool) != after.get(tool):
            yield Event(
                seq=entry.seq,
                at_ms=entry.at_ms,
                server=entry.server,
                tool=tool,
                action="lift" if entry.action == LIFT else "require",
                before=_read(before.get(tool)),
                after=_read(after.get(tool)),
                why=entry.why,
                by=Actor(entry.actor, entry.actor_kind),
            )


def _read(said: dict[str, Any] | None) -> Requirement | None:
    fields = Requirement.model_fields
    return (
        Requirement(**{key: each for key, each in said.items() if key in fields}, source="registry") if said else None
    )
