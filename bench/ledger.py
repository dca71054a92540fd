"""What a large ledger costs: taking calls in, the home page, and searches, with a million calls in the database.

    python bench/ledger.py [CALLS]

The hub's own applications answer, in this process and on SQLite, so a figure holds the hub's whole work without a
socket. Times are milliseconds; each question is asked `ROUNDS` times.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from pegboard.core.token import TOKEN_TYPE
from pegboard_hub.identity.keys import Keys, open_keys
from pegboard_hub.ledger.channels import Channel
from tests.hub.company import API, URL, Hub, call, denial, found_company, opened, presto

SERVERS, TOOLS, PEOPLE, DAYS = 200, 5, 2_000, 90
BATCH = 500
ROUNDS = 30
STATUSES = ("ok",) * 94 + ("tool_error",) * 4 + ("crashed", "cancelled")


async def main(total: int) -> None:
    """Fill a ledger, then ask it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        company = found_company(Path(folder))
        async with opened(company) as hub:
            channels = _channels(company.deploy("prod/presto", presto()))
            spent = await _fill(hub, channels, total)
            size = company.home.database.stat().st_size / 2**20
            print(f"{total:,} calls taken in at {spent / total * 1e6:.0f} µs each; the database has {size:,.0f} MiB")
            print(f"{'question':44}{'p50':>8}{'p99':>8}")
            for name, question in _questions(hub, open_keys(company.home)).items():
                await _measure(name, question)


def _channels(release: str) -> list[Channel]:
    names = ["prod/presto", *(f"prod/made-{number}" for number in range(1, SERVERS))]
    return [Channel(server=name, release=release) for name in names]


async def _fill(hub: Hub, channels: list[Channel], total: int) -> float:
    chance = random.Random(7)  # figures, not secrets
    records = _records(chance, total)
    spent = 0.0
    batch: list[dict[str, Any]] = []
    for number, made in enumerate(records, 1):
        batch += made
        if number % BATCH == 0 or number == total:
            channel = channels[min(int(chance.expovariate(8) * SERVERS), SERVERS - 1)]
            began = time.perf_counter()
            await hub.parts.ledger.take_records(channel, batch)
            spent += time.perf_counter() - began
            batch = []
    return spent


def _records(chance: random.Random, total: int) -> Iterator[list[dict[str, Any]]]:
    now = int(time.time() * 1000)
    for number in range(total):
        at = now - int((1 - number / total) * DAYS * 86_400_000)
        person = f"person-{min(int(chance.expovariate(4) * PEOPLE), PEOPLE - 1)}"
        tool = ("run_query", "get_revenue_metrics", "a", "b", "c")[chance.randrange(TOOLS)]
        if chance.random() < 0.02:
            yield [denial(f"d{number:032}", at, person)]
        else:
            yield call(f"c{number:032}", at, person, tool, chance.choice(STATUSES))


def _questions(hub: Hub, keys: Keys) -> dict[str, Callable[[], Awaitable[Any]]]:
    def calls(who: str, **query: str) -> Callable[[], Awaitable[Any]]:
        async def ask() -> None:
            headers = {"Authorization": f"Bearer {_token(keys, hub, who)}"}
            answer = await hub.public.get("/api/v1/calls", params=query, headers=headers)
            assert answer.status_code == 200, answer.text

        return ask

    middle = f"request-c{1_000:032}"
    return {
        "home page, nobody chosen": lambda: hub.page(),
        "home page, as an owner": lambda: hub.page(**{"as": "pat"}),
        "security: everything, newest": calls("security"),
        "security: one server": calls("security", server="prod/made-3"),
        "security: one person": calls("security", person="person-7"),
        "security: crashed": calls("security", status="crashed"),
        "security: refused on a server, 40 days": calls(
            "security", decision="denied", server="prod/made-3", since=_day(40)
        ),
        "security: without an outcome (none)": calls("security", status="unknown"),
        "security: surface bot (none)": calls("security", surface="bot"),
        "security: one request": calls("security", request_id=middle),
        "owner: everything of mine": calls("pat"),
        "owner: a tool, refused": calls("pat", tool="get_revenue_metrics", decision="denied"),
        "person: own calls (none)": calls("ana"),
    }


def _token(keys: Keys, hub: Hub, person: str) -> str:
    """A token for the API; `security` is somebody of that group, whom the demo directory does not have."""
    caller = hub.parts.sign_in.caller("ana" if person == "security" else person, "cli", None)
    now = int(time.time())
    claims = {"iss": URL, "sub": person, "sub_type": "person", "client_id": caller.client_id, "surface": "cli"}
    times = {"aud": API, "scope": "api", "iat": now, "exp": now + 300, "jti": "bench"}
    groups = ["security"] if person == "security" else list(caller.groups)
    return keys.tokens.sign({**claims, **times, "groups": groups}, TOKEN_TYPE)


def _day(ago: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() - ago * 86_400))


async def _measure(name: str, question: Callable[[], Awaitable[Any]]) -> None:
    await question()
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await question()
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    print(f"{name:44}{took[len(took) // 2]:8.1f}{took[-1]:8.1f}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
