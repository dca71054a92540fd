"""Step 5: may this caller use this tool? Policies decide; decisions that no argument can change are remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from pegboard.core.access import ServerAccess
from pegboard.core.caller import Caller
from pegboard.core.decide import Decision, GovernedTool, decide_tool
from pegboard.core.policy import Action
from pegboard.core.scopes import may_call

_Key = tuple[Any, ...]


class Authorizer:
    """Decides on the tools of one server, with a bounded memory.

    A remembered decision is keyed by everything that decides (caller, surface, channel, scope, tool, action) and by
    the standing's version; policies themselves cannot change within a process. Decisions on policies that read
    arguments are not remembered.
    """

    def __init__(self, tools: Mapping[str, GovernedTool], memory: int = 8192) -> None:
        self._tools = tools
        self._memory: OrderedDict[_Key, Decision] = OrderedDict()
        self._limit = memory

    def visible(self, caller: Caller, access: ServerAccess, version: int) -> set[str]:
        """Names of the tools this caller may see."""
        return {name for name in self._tools if self._decide(caller, access, version, name, "list", None).allowed}

    def decide(
        self, caller: Caller, access: ServerAccess, version: int, tool: str, arguments: Mapping[str, Any]
    ) -> Decision:
        """Whether this caller may make this call. Unknown and hidden tools get the same answer."""
        return self._decide(caller, access, version, tool, "call", arguments)

    def too_narrow(self, caller: Caller, access: ServerAccess, version: int, tool: str) -> bool:
        """Whether this caller would need a token with more scope to call a tool that they see and nobody stopped."""
        found = self._tools.get(tool)
        if found is None or tool in access.stopped_tools or may_call(caller.scope, found.read_only):
            return False
        return self._decide(caller, access, version, tool, "list", None).allowed

    def tool(self, name: str) -> GovernedTool | None:
        """The tool of that name, if there is one."""
        return self._tools.get(name)

    def _decide(
        self,
        caller: Caller,
        access: ServerAccess,
        version: int,
        tool: str,
        action: Action,
        arguments: Mapping[str, Any] | None,
    ) -> Decision:
        found = self._tools.get(tool)
        if found is None or (action == "call" and found.policy.arguments):
            return decide_tool(caller, access, self._tools, tool, action, arguments)
        who = (caller.sub_type, caller.sub, caller.groups, caller.surface, caller.channel, caller.scope)
        key = (*who, tool, action, version)
        decision = self._memory.get(key)
        if decision is None:
            decision = decide_tool(caller, access, self._tools, tool, action, arguments)
            self._memory[key] = decision
            if len(self._memory) > self._limit:
                self._memory.popitem(last=False)
        return decision
