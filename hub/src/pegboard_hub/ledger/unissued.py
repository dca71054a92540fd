"""Calls with tokens that the hub never issued: what somebody did who had a signing key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.names import ServerName
from pegboard.core.token import CLOCK_SKEW_S, MAX_LIFETIME_S
from pegboard_hub.identity.issued import issued_since, known_since, mark_of
from pegboard_hub.identity.leaks import NOBODY, TRYING
from pegboard_hub.ledger.model import calls

MOST = 1000
"""Tokens that are told one by one."""

LATE_S = 300
"""Seconds after a token's end in which a call with it may still be recorded: one whose body was slow, or waited."""

Fault = Literal["never issued", "issued to somebody else", "used after it ended"]


@dataclass(frozen=True, slots=True)
class Unissued:
    """One token that a server verified and the hub did not issue. Times are milliseconds since the epoch.

    Attributes:
        token_id: its `jti`; not a secret, and `?` where it was not one of ours at all.
        fault: whether nobody, or somebody else, was issued a token of this id, or the one that was had ended.
        allowed: calls that ran.
        refused: calls that a server refused.
        tools: that were named.
    """

    token_id: str
    fault: Fault
    sub: str
    client_id: str
    surface: str
    server: str
    first_ms: int
    last_ms: int
    allowed: int
    refused: int
    tools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. Times are milliseconds since the epoch.

    Attributes:
        since_ms: from when on was looked: not before everything that was issued is known.
        asked_ms: from when on was to be looked.
        looked_at: different tokens of calls that were compared.
        unnamed: calls whose record names no token: of servers with an older kit.
        found: the tokens, the first used first.
        more: tokens that are left out.
    """

    since_ms: int | None
    asked_ms: int
    looked_at: int
    unnamed: int
    found: tuple[Unissued, ...]
    more: int


async def unissued(connection: AsyncConnection, folder: Path, public_url: str, asked_ms: int) -> Report:
    """Compare the calls since a time with what was issued.

    Args:
        connection: reads the ledger.
        folder: of what was issued.
        public_url: of the instance, for the audience of each server.
        asked_ms: since when, in milliseconds since the epoch.

    Raises:
        OSError: what was issued cannot be read.
    """
    begun = known_since(folder)
    if begun is None:
        return Report(None, asked_ms, 0, 0, (), 0)
    # A token of before may still have been good.
    since_ms = max(asked_ms, int((begun + MAX_LIFETIME_S + 2 * CLOCK_SKEW_S) * 1000))
    c = calls.c
    # What `pegboard keys leaked` tried itself is refused, because nobody is granted anything; what ran is told.
    own = (c.kind == "denial") & (c.sub == NOBODY) & (c.client_id == TRYING)
    by_server = c.kind.in_(("intent", "denial")) & (c.at_ms >= since_ms) & ~own
    key = (c.token_id, c.sub, c.client_id, c.surface, c.server, c.channel, c.kind)
    query = select(*key, func.min(c.at_ms).label("first"), func.max(c.at_ms).label("last"), func.count().label("n"))
    rows = (await connection.execute(query.where(by_server, c.token_id != "").group_by(*key))).all()
    unnamed = await connection.scalar(select(func.count()).select_from(calls).where(by_server, c.token_id == ""))
    used: dict[str, dict[str, int]] = {row.token_id: {} for row in rows}
    looked_at = len(used)
    for token_id, mark, ends in issued_since(folder, since_ms / 1000 - MAX_LIFETIME_S - 2 * CLOCK_SKEW_S):
        if token_id in used:
            used[token_id][mark] = ends
    found: dict[tuple[str, ...], Unissued] = {}
    for row in rows:
        marks = used[row.token_id]
        audience = ServerName.parse(row.server).resource_url(public_url)
        fault = _fault(mark_of(row.sub, row.client_id, row.surface, audience, row.channel), marks, row.last)
        if fault is None:
            continue
        place = (row.token_id, row.sub, row.client_id, row.surface, row.server)
        before = found.get(place)
        allowed, refused = (row.n, 0) if row.kind == "intent" else (0, row.n)
        found[place] = Unissued(
            *place[:1],
            before.fault if before else fault,
            *place[1:],
            min(row.first, before.first_ms) if before else row.first,
            max(row.last, before.last_ms) if before else row.last,
            allowed + (before.allowed if before else 0),
            refused + (before.refused if before else 0),
            (),
        )
    told = sorted(found.values(), key=lambda each: (each.first_ms, each.token_id))
    with_tools = [await _with_tools(connection, each, since_ms) for each in told[:MOST]]
    return Report(since_ms, asked_ms, looked_at, int(unnamed or 0), tuple(with_tools), len(told) - len(with_tools))


def _fault(mark: str, marks: Mapping[str, int], last_ms: int) -> Fault | None:
    """What is wrong with a token of this mark that was last used then."""
    if mark not in marks:
        return "issued to somebody else" if marks else "never issued"
    ends = marks[mark]
    return "used after it ended" if ends and last_ms / 1000 > ends + LATE_S else None


async def _with_tools(connection: AsyncConnection, found: Unissued, since_ms: int) -> Unissued:
    same = (calls.c.server == found.server, calls.c.token_id == found.token_id, calls.c.sub == found.sub)
    query = select(calls.c.tool).where(*same, calls.c.at_ms >= since_ms).distinct().order_by(calls.c.tool).limit(20)
    tools = tuple((await connection.execute(query)).scalars())
    values = {name: getattr(found, name) for name in Unissued.__slots__}
    return Unissued(**{**values, "tools": tuple(tool for tool in tools if tool)})
