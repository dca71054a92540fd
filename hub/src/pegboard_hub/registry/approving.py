"""Which approval a call would wait for. It refuses nobody: explain and access check tell it beside the decision."""

from __future__ import annotations

from typing import NamedTuple

from pegboard.core.approval import Requirement
from pegboard.core.release import DeclaredApproval
from pegboard.core.required import asked, effective_requirement
from pegboard_hub.registry.model import RegisteredServer, Release

APPROVAL = "tool:approval"
"""The step of a call that waits, by the name that explain gives it."""


class Needed(NamedTuple):
    """An approval that a call waits for.

    Attributes:
        requirement: who must say yes.
        always: whether every call waits; else the tool's code looks at the arguments.
        owner: the team that owns the server.
    """

    requirement: Requirement
    always: bool
    owner: str

    @property
    def asked(self) -> str:
        """Who is asked, in words that follow "approved by"."""
        return asked(self.requirement, self.owner)

    @property
    def told(self) -> str:
        """What a call meets, in a sentence without its full stop."""
        calls = "every call waits" if self.always else "by its arguments a call can have to wait"
        why = f": {self.requirement.why}" if self.requirement.why else ""
        return f"{calls} until it is approved by {self.asked}{why}"

    @property
    def source(self) -> str:
        """Who requires it."""
        return "the registry" if self.requirement.source == "registry" else "the code of the release"


def needed(server: RegisteredServer, tool: str) -> tuple[Needed, ...]:
    """What a call of a tool waits for: nothing, one approval, or another one where the arguments ask for it."""
    release = server.release
    if release is None:
        return ()
    required = server.approvals.get(tool) if release.can_ask else None
    registered = required.requirement if required else None
    code, always = code_approval(release, tool)
    every = effective_requirement(code if always else None, registered)
    some = effective_requirement(code, registered)
    found = ((every, True), (some if some != every else None, False))
    return tuple(Needed(each, kind, server.owner) for each, kind in found if each is not None)


def _requirement(declared: DeclaredApproval) -> Requirement:
    return Requirement(**declared.model_dump(include={"by", "own", "expires_s", "why"}), source="server")


def code_approval(release: Release | None, tool: str) -> tuple[Requirement | None, bool]:
    """What a tool's code asks for, and whether of every call."""
    declared = next((each.approval for each in release.tools if each.name == tool), None) if release else None
    return (_requirement(declared), declared.always) if declared else (None, False)
