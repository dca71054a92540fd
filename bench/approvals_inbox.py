"""What 100,000 requests that wait for people cost whoever looks at their own, decides, or asks for one more.

    .venv/bin/python bench/approvals_inbox.py [--requests 100000] [--seconds 3] [--postgresql] [--save]

In process: what the service itself takes, database included, and then whole pages as the hub answers them, without a
network; one question after the other and by 8 people at once. CPU is that of this process. Half of what waits is for
one team, the worst inbox there can be; the rest is for owners and callers. On SQLite, or on a PostgreSQL as tests
have it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from sqlalchemy import insert, text

from bench import keeping
from pegboard.core.approval import Action, Ask, Preview, Requirement, State
from pegboard_hub.approvals.asking import new_ids
from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.approvals.model import Decider, Verdict, approval_requests, approver_of
from pegboard_hub.approvals.service import Approvals
from pegboard_hub.ledger.channels import Channel
from pegboard_hub.storage.database import Database
from tests.hub.approvals_rig import Asking
from tests.hub.company import URL, Company, Hub, found_company, opened
from tests.hub.reviewing import signed_in
from tests.oauth import Browser
from tests.postgres import running as running_postgres

AT_ONCE = 8
PEOPLE = 1000
BY = ("security", "security", "owner", "caller")
REQUIREMENT = {by: Requirement(by=by, expires_s=7 * 24 * 3600) for by in BY}
PREVIEW = Preview(what="Overwrites 1,204 rows of orders", cost="about 3 GiB").model_dump_json()

Question = Callable[[], Awaitable[object]]


async def fill(database: Database, count: int) -> None:
    """Put requests there that wait, of many people, asked for within the last hour."""
    now_ms = int(time.time() * 1000)
    for start in range(0, count, 5000):
        rows = [_row(number, now_ms - 3_600_000 * (count - number) // count) for number in range(start, start + 5000)]
        async with database.write() as db:
            await db.execute(insert(approval_requests), rows)
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("ANALYZE"))


def _row(number: int, at_ms: int) -> dict[str, Any]:
    by, person, server = (
        BY[number % len(BY)],
        f"person-{number // len(BY) % PEOPLE}",
        ("prod/presto", "dev/scratch")[number % 2],
    )
    expires = at_ms + REQUIREMENT[by].expires_s * 1000 + number % 997
    binding = secrets.token_hex(32)
    [id_] = new_ids(1, at_ms)
    return {
        "id": id_, "batch": id_, "kind": "approval", "state": State.REQUESTED, "binding": binding, "held": binding,
        "person": person, "person_name": f"{person}@example.com", "server": server, "release": "r" * 64,
        "tool": "overwrite_table", "policy": "write", "policy_version": "abc",
        "arguments": json.dumps({"table": f"orders_{number}", "sql": "SELECT * FROM new_orders"}),
        "arguments_digest": binding, "preview": PREVIEW, "requirement": REQUIREMENT[by].model_dump_json(),
        "approver": approver_of(by, person, server), "own": by == "caller", "shown_digest": binding,
        "shown_at_ms": at_ms, "surface": "ide", "client": "editor", "act": "", "request_id": "",
        "requested_at_ms": at_ms, "expires_at_ms": expires, "remind_at_ms": expires, "decided_by": "",
        "decided_by_name": "", "why": "", "call_id": "", "process": "",
    }  # fmt: skip


async def questions(approvals: Approvals, presto: Asking) -> dict[str, Question]:
    """What is asked, by what it is called."""
    team, owner = approvals.reader("sue", ["security-team", "security"]), approvals.reader("pat", ["platform"])
    person, security = approvals.reader("person-7", ["ads-eng"]), approvals.reader("sol", ["security"])
    channel = Channel(server=presto.server, release=presto.release)
    known = Ask.model_validate(await presto.question("ana", {"n": 0}))
    await approvals.ask(channel, known)
    callers = ("ana", "fay", "pat", "sol", "lea")  # each within what one person's calls may ask for
    asks = [Ask.model_validate(await presto.question(each, {"n": 1})) for each in callers]
    asked_by = {ask.token: each for ask, each in zip(asks, callers, strict=True)}
    sue, dice = Decider("sue", ("security",), "Sue"), random.Random(1)
    first = await approvals.inbox(team)
    assert first.after is not None
    after, one = first.after, first.requests[0].id

    async def decide() -> None:
        waiting = (await approvals.inbox(team, 1)).requests[0]
        with suppress(ApprovalRefused):  # where another was first
            await approvals.decide(sue, [Verdict(waiting.id, waiting.shown_digest, True)])

    async def new() -> None:
        ask = dice.choice(asks)
        action = Action(arguments={"n": secrets.token_hex(8)})
        answer = await approvals.ask(channel, ask.model_copy(update={"actions": (action,)}))
        await approvals.withdraw(asked_by[ask.token], [told.id for told in answer.actions])

    async def due() -> None:
        async with presto.hub.parts.database.read() as db:
            await due.anything_due(db, int(time.time() * 1000), 1_200_000)

    return {
        "inbox of the team that half of it waits for": lambda: approvals.inbox(team),
        "its next page": lambda: approvals.inbox(team, 50, after),
        "its badge": lambda: approvals.waiting(team),
        "inbox of the owners": lambda: approvals.inbox(owner),
        "inbox of a caller": lambda: approvals.inbox(person),
        "a caller's badge": lambda: approvals.waiting(person),
        "what a caller asked for": lambda: approvals.mine(person),
        "history of a caller": lambda: approvals.history(person),
        "history of the team": lambda: approvals.history(team),
        "history, all of it": lambda: approvals.history(security),
        "one request with its history": lambda: approvals.find(team, one),
        "a server asks for what waits already": lambda: approvals.ask(channel, known),
        "a server asks for more, and it is withdrawn": new,
        "the next of an inbox, approved": decide,
        "whether anything is due, each second": due,
    }


async def pages(hub: Hub) -> dict[str, Question]:
    """Whole pages, each as the browser of somebody who is signed in gets it."""
    found: dict[str, Question] = {}
    for person, whose in (("sol", "the team"), ("pat", "the owners"), ("ana", "a caller")):
        browser = await signed_in(hub, person)

        async def look(path: str, browser: Browser = browser) -> None:
            answer = await browser.http.get(f"{URL}{path}", headers={"Cookie": cookies_of(browser)})
            assert answer.status_code == 200, answer.status_code

        async def again(browser: Browser = browser) -> None:
            headers = {"Cookie": cookies_of(browser), "HX-Request-Type": "partial"}
            answer = await browser.http.get(f"{URL}/approvals", headers=headers)
            assert answer.status_code == 200, answer.status_code

        found[f"page: inbox of {whose}"] = partial(look, "/approvals")
        found[f"page: what follows in the inbox of {whose}"] = again
        found[f"page: history of {whose}"] = partial(look, "/approvals/history")
    return found


def cookies_of(browser: Browser) -> str:
    """As its next request has them."""
    return "; ".join(f"{name}={value}" for name, value in browser.cookies.items())


async def timed(question: Question, seconds: float, at_once: int) -> list[float]:
    """Milliseconds of each, for so many seconds."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def one() -> None:
        while (began := time.perf_counter()) < until:
            await question()
            took.append((time.perf_counter() - began) * 1000)

    await question()
    await asyncio.gather(*(one() for _ in range(at_once)))
    return took


@asynccontextmanager
async def stage(stack: ExitStack, *, postgresql: bool) -> AsyncIterator[tuple[Company, Hub]]:
    """A hub on a database of its own."""
    company = found_company(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgb", dir="/tmp"))))
    if postgresql:
        server = stack.enter_context(running_postgres())
        company.database_url = stack.enter_context(server.database())
    async with opened(company) as hub:
        yield company, hub


async def inbox(count: int = 100_000, seconds: float = 3.0, *, postgresql: bool = False) -> list[dict[str, Any]]:
    """Print a row for each question, and give them."""
    rows = []
    with ExitStack() as stack:
        async with stage(stack, postgresql=postgresql) as (company, hub):
            began = time.monotonic()
            await fill(hub.parts.database, count)
            print(f"{count:,} requests in {time.monotonic() - began:.0f} s")
            print(f"{'':46}{'p50 ms':>8}{'p99 ms':>8}{'8: p50':>8}{'8: p99':>8}{'CPU ms':>8}")
            asked = await questions(hub.parts.approvals, Asking.of(hub, company)) | await pages(hub)
            for what, question in asked.items():
                row: dict[str, Any] = {"what": what}
                for name, at_once in (("one", 1), ("eight", AT_ONCE)):
                    cpu_s = time.process_time()
                    took = await timed(question, seconds, at_once)
                    cpu_ms = (time.process_time() - cpu_s) * 1000 / len(took)
                    figures = {"p50_ms": median(took), "p99_ms": _late(took), "cpu_ms": cpu_ms}
                    row[name] = {figure: round(value, 1) for figure, value in figures.items()}
                one, eight = row["one"], row["eight"]
                told = (one["p50_ms"], one["p99_ms"], eight["p50_ms"], eight["p99_ms"], one["cpu_ms"])
                print(f"{what:46}{''.join(f'{figure:8}' for figure in told)}", flush=True)
                rows.append(row)
    return rows


def _late(took: list[float]) -> float:
    return quantiles(took, n=100)[98] if len(took) > 1 else took[0]


def main() -> None:
    """Measure, and keep it if asked to."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--requests", type=int, default=100_000)
    arguments.add_argument("--seconds", type=float, default=3.0, help="of each question")
    arguments.add_argument("--postgresql", action="store_true")
    arguments.add_argument(
        "--save", action="store_true", help="keep the results in bench/results/approvals_inbox.json"
    )
    options = arguments.parse_args()
    before = keeping.load_average()
    rows = asyncio.run(inbox(options.requests, options.seconds, postgresql=options.postgresql))
    if options.save:
        about = {"requests": options.requests, "database": "PostgreSQL" if options.postgresql else "SQLite"}
        print(keeping.save("approvals_inbox", [before, keeping.load_average()], **about, rows=rows))


if __name__ == "__main__":
    main()
