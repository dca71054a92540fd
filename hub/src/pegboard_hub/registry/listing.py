"""Which tools a caller would find listed, remembered by what the policies can see of the caller.

Cedar takes some 60 µs to judge one tool for one caller, and a registry of thousands of servers is asked by thousands
of people. But a policy tells two people apart only by the groups or the people that it names, and by where they call
from (`Policy.names`): so one answer holds for all who look alike to it, and for every server that uses its text.
"""

from __future__ import annotations

from pegboard.core.caller import Caller
from pegboard.core.decide import decide_tool
from pegboard.core.policy import Policy
from pegboard.core.release import ToolDeclaration
from pegboard_hub.registry.model import RegisteredServer, Release

MOST_ANSWERS = 200_000
"""Answers of policies kept; the oldest go first. Each takes some 300 bytes."""

MOST_ALIKE = 64
"""Kinds of callers whose tools of one server are kept."""

MOST_SERVERS = 50_000
"""Servers whose answers are kept."""

Entities = frozenset[tuple[str, str]]
"""Entities of Cedar, as (type, id)."""


class Asker:
    """A caller, and what a policy could know them by.

    Attributes:
        principals: the person or service, and their groups.
        place: where the call comes from, with what kind of principal it is.
    """

    __slots__ = ("caller", "place", "principals")

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        principal = "Person" if caller.sub_type == "person" else "Service"
        self.principals: Entities = frozenset(
            {(principal, caller.sub), *(("Group", group) for group in caller.groups)}
        )
        self.place = (principal, caller.surface, caller.channel)


class _Deployed:
    """One server's release, arranged for the question.

    Attributes:
        policies: its policies, each with the tools that name it, as bits in the author's order.
        mentions: all that the policies name.
        read_only: the tools that are declared so, as bits: services find no others.
        masks: answers, by what the policies can see of a caller.
    """

    __slots__ = ("masks", "mentions", "policies", "read_only", "release")

    def __init__(self, release: Release) -> None:
        self.release = release
        tools: dict[str, int] = {}
        for number, tool in enumerate(release.tools):
            tools[tool.policy] = tools.get(tool.policy, 0) | 1 << number
        self.read_only = sum(1 << number for number, tool in enumerate(release.tools) if tool.read_only)
        governed = {tool.policy: release.governed[tool.name].policy for tool in release.tools}
        self.policies = tuple((governed[name], bits) for name, bits in tools.items())
        self.mentions: Entities = frozenset[tuple[str, str]]().union(*(one.names for one in governed.values()))
        self.masks: dict[tuple[object, ...], int] = {}


class Listings:
    """Answers of the core's decide function to `list`, kept. None is ever stale: all that decides is in its key."""

    def __init__(self, most: int = MOST_ANSWERS) -> None:
        self._most = most
        self._answers: dict[tuple[object, ...], bool] = {}
        self._deployed: dict[str, _Deployed] = {}

    def mask(self, asker: Asker, server: RegisteredServer) -> int:
        """The tools of a deployed server that are listed for a caller whom the coarse rules let through.

        Returns:
            A bit for each tool in the author's order, the first one lowest.

        Raises:
            ConfigurationError: a policy of the release is not Cedar.
            ValueError: the server is not deployed.
        """
        deployed = self._of(server)
        key = (asker.principals & deployed.mentions, asker.place)
        mask = deployed.masks.get(key)
        if mask is None:
            if len(deployed.masks) >= MOST_ALIKE:
                deployed.masks.clear()
            mask = deployed.masks[key] = self._mask(asker, server, deployed)
        return mask

    def named(self, server: RegisteredServer) -> Entities:
        """All that the policies of a deployed server name; raises as `mask`."""
        return self._of(server).mentions

    def _of(self, server: RegisteredServer) -> _Deployed:
        name = str(server.name)
        deployed = self._deployed.get(name)
        if deployed is None or deployed.release is not server.release:
            if server.release is None:
                raise ValueError(f"{name} is not deployed")
            if deployed is None and len(self._deployed) >= MOST_SERVERS:
                del self._deployed[next(iter(self._deployed))]
            deployed = self._deployed[name] = _Deployed(server.release)
        return deployed

    def tools(self, asker: Asker, server: RegisteredServer) -> list[ToolDeclaration]:
        """The tools themselves; as `mask`."""
        if server.release is None:
            return []
        mask = self.mask(asker, server)
        return [tool for number, tool in enumerate(server.release.tools) if mask >> number & 1]

    def _mask(self, asker: Asker, server: RegisteredServer, deployed: _Deployed) -> int:
        found = 0
        for policy, named in deployed.policies:
            tools = named & deployed.read_only if asker.caller.sub_type == "service" else named
            if not tools:
                continue
            if not any(kind in ("Tool", "Server") for kind, _ in policy.names):
                first = deployed.release.tools[(tools & -tools).bit_length() - 1].name
                found |= tools if self._listed(asker, server, policy, first) else 0
                continue
            for number, tool in enumerate(deployed.release.tools):
                if tools >> number & 1 and self._listed(asker, server, policy, tool.name):
                    found |= 1 << number
        return found

    def _listed(self, asker: Asker, server: RegisteredServer, policy: Policy, tool: str) -> bool:
        key = _key(asker, server, policy, tool)
        answer = self._answers.get(key)
        if answer is None:
            # Whom the token is bound to is the coarse rules' to look at, so any URL of the edge does here.
            access, release = server.access(""), server.release
            answer = release is not None and decide_tool(asker.caller, access, release.governed, tool, "list").allowed
            if len(self._answers) >= self._most:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = answer
        return answer


LISTINGS = Listings()
"""This process's."""


def _key(asker: Asker, server: RegisteredServer, policy: Policy, tool: str) -> tuple[object, ...]:
    """All that the policy can see: of the caller and the tool what its text names, and the context."""
    mentions = policy.names
    named = {("Tool", f"{server.name}/{tool}"), ("Server", str(server.name))} & mentions
    return (policy.text, asker.principals & mentions, asker.place, server.name.namespace, frozenset(named))
