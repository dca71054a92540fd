"""Who decides on a request, and who may know of it.

| approved by | is |
|---|---|
| `caller` | the person themselves |
| `owner` | the team that owns the server now; operators as such are not of it |
| a group | people in it |

Nobody decides on their own request, but for `caller` and where the requirement says `own`. A request is there for its
person, for who may decide such requests, and for operators and security, who only look. For everybody else it is not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from pegboard.core.approval import CALLER, OWNER
from pegboard_hub.approvals.model import Reader, Request
from pegboard_hub.registry.model import Snapshot


class Owned:
    """Which servers each team owns, as the registry says now."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self._known: Snapshot | None = None
        self._by_team: Mapping[str, list[str]] = {}

    def by(self, groups: Collection[str]) -> list[str]:
        """The servers that people in these groups own."""
        current = self._snapshot()
        if current is not self._known:
            self._known, self._by_team = current, _by_team(current)
        return [server for group in dict.fromkeys(groups) for server in self._by_team.get(group, ())]

    def owner(self, server: str) -> str:
        """The team that owns a server; empty where none does."""
        found = self._snapshot().servers.get(server)
        return found.owner if found is not None else ""


def _by_team(snapshot: Snapshot) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, server in snapshot.servers.items():
        if server.owner:
            found[server.owner].append(name)
    return dict(found)


def keys_of(sub: str, groups: Collection[str], owned: Collection[str]) -> list[str]:
    """What `Request.approver` is of the requests that somebody decides on."""
    return [
        f"person:{sub}",
        *(f"group:{group}" for group in dict.fromkeys(groups) if group not in (CALLER, OWNER)),
        *(f"server:{server}" for server in owned),
    ]


def is_approver(sub: str, groups: Collection[str], owner: str, request: Request) -> bool:
    """Whether somebody is of those who decide on it, be it their own or not."""
    match request.requirement.by:
        case str(by) if by == CALLER:
            return sub == request.person
        case str(by) if by == OWNER:
            return bool(owner) and owner in groups
        case by:
            return by in groups


def may_decide(sub: str, groups: Collection[str], owner: str, request: Request) -> bool:
    """Whether somebody may decide on it."""
    return is_approver(sub, groups, owner, request) and (request.own or sub != request.person)


def sees(reader: Reader, owner: str, request: Request) -> bool:
    """Whether the request is there for a reader."""
    return reader.sees_all or reader.sub == request.person or is_approver(reader.sub, reader.groups, owner, request)


def who_decides(request: Request, owner: str, reader: str) -> str:
    """Who is to say yes, in words that follow "Waiting for" and are told to the reader, by their id."""
    match request.requirement.by:
        case str(by) if by == CALLER:
            if reader == request.person:
                return "you, in your own browser"
            return f"{request.person_name or request.person}, in their own browser"
        case str(by) if by == OWNER:
            server = request.server
            return f"somebody of {owner} (which owns {server})" if owner else f"the owners of {server}"
        case by:
            return f"somebody of {by}"
