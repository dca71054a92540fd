"""Which approval a call needs where a server's code and the registry both ask for one, and what is stricter.

| by     | who says yes                      |           |
|--------|-----------------------------------|-----------|
| caller | the person whose call it is       | weakest   |
| owner  | the team that owns the server     |           |
| GROUP  | somebody of that business group   | strongest |

Of two, the stronger one holds. Of two of one rank, the registry's does: security may name another group than the
author did. Whether anybody may approve their own request, and how long a yes is good, is as the stricter one says.
"""

from __future__ import annotations

from pegboard.core.approval import CALLER, OWNER, Requirement

_RANKS = {CALLER: 0, OWNER: 1}
_GROUP = 2


def effective_requirement(declared: Requirement | None, registered: Requirement | None) -> Requirement | None:
    """The one requirement that a call has to meet; None where it needs no approval.

    Args:
        declared: the code's, of this call: None where the tool declares none, or its condition does not hold.
        registered: the registry's, `ServerAccess.approvals.get(tool)`.
    """
    if declared is None or registered is None:
        return registered or declared
    holds, other = (registered, declared) if _rank(registered) >= _rank(declared) else (declared, registered)
    return holds.model_copy(
        update={
            "own": holds.own and (other.own or other.by == CALLER),
            "expires_s": min(holds.expires_s, other.expires_s),
            "why": holds.why or other.why,
        }
    )


def narrows(before: Requirement | None, after: Requirement | None) -> bool:
    """Whether whoever must say yes to `after` is surely no easier to get than before.

    It errs to the safe side: another team or group than before is none of that, whoever is in it.
    """
    if before is None or after is None:
        return before is None
    if after.by != before.by:
        return before.by == CALLER
    own = before.own or before.by == CALLER or not after.own
    return own and after.expires_s <= before.expires_s


def asked(requirement: Requirement, owner: str) -> str:
    """Who is asked, in words that stand after "approved by".

    Args:
        requirement: that is asked for.
        owner: the team that owns the server.
    """
    if requirement.by == CALLER:
        return "the person whose call it is, in their browser"
    who = f"its owners, {owner}" if requirement.by == OWNER else f"somebody of {requirement.by}"
    return who if requirement.own else f"{who}, and not by whoever asks"


def _rank(requirement: Requirement) -> int:
    return _RANKS.get(requirement.by, _GROUP)
