"""Which tools a caller would find listed, remembered by what the policies can see of the caller.

Cedar takes some 60 µs to judge one tool for one caller, and a registry of thousands of servers is asked by thousands
of people. But a policy tells two people apart only by the groups or the people that it names, and by where they call
from (`Policy.mentions`): so one answer holds for all who look alike to it, and for every server that uses its text.
"""

from __future__ import annotations

from pegboard.core.caller import Caller
from pegboard.core.decide import decide_tool
from pegboard.core.policy import Policy
from pegboard_hub.registry.explain import bound_to
from pegboard_hub.registry.model import RegisteredServer, Release

MOST_ANSWERS = 200_000
"""Answers kept; the oldest go first. Each takes some 300 bytes."""

Entities = frozenset[tuple[str, str]]
"""Entities of Cedar, as (type, id)."""


class Asker:
    """A caller, and what a policy could know them by.

    Attributes:
        principals: the person or service, and their groups.
    """

    __slots__ = ("caller", "principal", "principals")

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.principal = ("Person" if caller.sub_type == "person" else "Service", caller.sub)
        self.principals: Entities = frozenset({self.principal, *(("Group", group) for group in caller.groups)})


class Listings:
    """Answers of the core's decide function to `list`, kept. None is ever stale: all that decides is in its key."""

    def __init__(self, public_url: str, most: int = MOST_ANSWERS) -> None:
        self._public_url = public_url
        self._most = most
        self._answers: dict[tuple[object, ...], bool] = {}

    def mask(self, asker: Asker, server: RegisteredServer) -> int:
        """The tools of a deployed server that are listed for a caller whom the coarse rules let through.

        Returns:
            A bit for each tool in the author's order, the first one lowest.

        Raises:
            ConfigurationError: a policy of the release is not Cedar.
        """
        release, found = _release(server), 0
        alike: dict[str, bool] = {}
        for number, tool in enumerate(release.tools):
            allowed = alike.get(tool.policy)
            if allowed is None:
                policy = release.governed[tool.name].policy
                allowed = self._listed(asker, server, policy, tool.name)
                if not _names_resources(policy):
                    alike[tool.policy] = allowed
            found |= allowed << number
        return found

    def _listed(self, asker: Asker, server: RegisteredServer, policy: Policy, tool: str) -> bool:
        key = _key(asker, server, policy, tool)
        answer = self._answers.get(key)
        if answer is None:
            bound = bound_to(asker.caller, server, self._public_url)
            access = server.access(self._public_url)
            answer = decide_tool(bound, access, _release(server).governed, tool, "list").allowed
            if len(self._answers) >= self._most:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = answer
        return answer


def people_named(release: Release) -> Entities:
    """The people and services that the policies of a release name: what these are listed is nobody else's answer."""
    policies = {tool.policy.text: tool.policy for tool in release.governed.values()}
    return frozenset(
        entity for policy in policies.values() for entity in policy.mentions if entity[0] in ("Person", "Service")
    )


def _key(asker: Asker, server: RegisteredServer, policy: Policy, tool: str) -> tuple[object, ...]:
    """All that the policy can see: of the caller and the tool what its text names, and the context."""
    mentions = policy.mentions
    place = {("Tool", f"{server.name}/{tool}"), ("Server", str(server.name))} & mentions
    return (
        policy.text,
        asker.principal[0],
        asker.principals & mentions,
        asker.caller.surface,
        asker.caller.channel,
        server.name.namespace,
        frozenset(place),
    )


def _names_resources(policy: Policy) -> bool:
    return any(kind in ("Tool", "Server") for kind, _ in policy.mentions)


def _release(server: RegisteredServer) -> Release:
    if server.release is None:
        raise ValueError(f"{server.name} is not deployed")
    return server.release
