"""A hub in a process of its own in which requests live whole lives, each step told on standard output once it is
acknowledged: `python -m tests.hub.approvals_life HOME GRANTS DATABASE_URL FIRST`. It is there to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pegboard_hub.common.home import Home
from tests.hub.approvals_rig import Asking, decide
from tests.hub.company import Company, opened, outcome


async def live(company: Company, first: int) -> None:
    """Ask, be decided on, claim and end, again and again; some are rejected, withdrawn or lost with their process."""
    async with opened(company) as hub:
        presto, approvals = Asking.of(hub, company), hub.parts.approvals
        for number in range(first, first + 10_000):
            # What the process before did already is done again, as a server does that got no answer.
            call = {"call_id": f"run-{number}", "process": f"process-{number}"}
            asked = await presto.ask("ana", {"n": number}, **call)
            id_, waits = asked.actions[0].id, asked.actions[0].state == "requested"
            tell(number, "requested", id_)
            if waits and number % 4 == 1:
                await decide(approvals, "sol", id_, approve=False)
                tell(number, "rejected", id_)
            elif waits and number % 4 == 2:
                await approvals.withdraw("ana", [id_])
                tell(number, "withdrawn", id_)
            elif waits:
                await decide(approvals, "sol", id_)
                tell(number, "approved", id_)
                asked = await presto.ask("ana", {"n": number}, **call)
            if asked.claimed:
                tell(number, "claimed", id_)
                if number % 4 == 3:
                    await presto.over(f"process-{number}")
                    tell(number, "unknown", id_)
                await hub.deliver(presto.channel, outcome(f"run-{number}", 1))
                tell(number, "done", id_)


def tell(number: int, state: str, id_: str) -> None:
    """Say that a step was acknowledged."""
    print(number, state, id_, flush=True)


if __name__ == "__main__":
    home, grants, database_url, start = sys.argv[1:]
    asyncio.run(live(Company(Home.open(Path(home)), Path(grants), database_url=database_url), int(start)))
