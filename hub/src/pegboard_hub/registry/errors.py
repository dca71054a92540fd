"""Why a change of the registry is refused."""

from __future__ import annotations

from collections.abc import Sequence

from pegboard.core.errors import PegboardError
from pegboard_hub.registry.history import Entry
from pegboard_hub.registry.model import RegisteredServer


class UnknownServer(PegboardError):
    """No server of that name is registered."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no server {name} is registered")


class ChangeRefused(PegboardError):
    """A change that cannot be made.

    Attributes:
        field: what is wrong with it.
        mend: what to do.
    """

    def __init__(self, field: str, fault: str, mend: str) -> None:
        super().__init__(f"{field}: {fault}. {mend}")
        self.field = field
        self.fault = fault
        self.mend = mend


class NameTaken(ChangeRefused):
    """A name that a server has. Where that stands is not said: it may be somebody's hidden draft."""

    def __init__(self, name: str) -> None:
        super().__init__("server", f"{name} is taken", "Choose another name.")


class TooManyDrafts(ChangeRefused):
    """A team has as many drafts as it can have."""

    def __init__(self, owner: str, most: int) -> None:
        fault = f"{owner} has {most} drafts, with those given up in the last day, which is as many as a team can have"
        super().__init__("owner", fault, "Finish some, or come back tomorrow.")


class ChangeConflict(PegboardError):
    """Somebody changed the server since the editor saw it; nothing was written.

    Attributes:
        current: the server as it is.
        missed: the changes since, oldest first.
    """

    def __init__(self, current: RegisteredServer, missed: Sequence[Entry]) -> None:
        told = "; ".join(f"{entry.actor} changed {', '.join(entry.fields) or entry.action}" for entry in missed)
        super().__init__(f"{current.name} has changed since: {told or 'it is at another version'}")
        self.current = current
        self.missed = missed
