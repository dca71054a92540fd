"""Filling a database: 10,000 servers with ten releases of twenty tools each.

The deployed release goes the registry's own way, through `Changing` and the stores. The nine before it are its
copies under other digests, which the database makes by itself.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from sqlalchemy import Insert, Table, func, insert, literal, select

from pegboard.core.release import Declaration
from pegboard_hub.common.home import Home
from pegboard_hub.registry import store
from pegboard_hub.registry.changes import Change, Changing
from pegboard_hub.registry.history import PEGBOARD
from pegboard_hub.registry.model import Access, Lifecycle, Release, Snapshot
from pegboard_hub.registry.tables import policies, releases, tools
from pegboard_hub.registry.tables import servers as servers_
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.migrate import migrate

RELEASES = 10
TOOLS = 20
TEAMS = 500
IN_ONE_TRANSACTION = 100

VERBS = (
    "get",
    "list",
    "create",
    "update",
    "delete",
    "search",
    "describe",
    "export",
    "import",
    "run",
    "check",
    "find",
)
NOUNS = (
    *("revenue", "campaign", "invoice", "user", "order", "ticket", "dataset", "table", "query", "report", "metric"),
    *("alert", "deployment", "incident", "payroll", "budget", "contract", "account", "segment", "model", "feature"),
    *("experiment", "cluster", "job", "log", "trace", "dashboard", "page", "note", "message"),
)
PLACES = (
    "warehouse",
    "billing",
    "search",
    "feed",
    "ads",
    "growth",
    "core",
    "infra",
    "mobile",
    "web",
    "trust",
    "data",
)
SENSITIVITIES = ("public", "internal", "internal", "internal", "confidential", "restricted")
SURFACES = (("cli", "ide"), ("cli", "chat", "ide"), ("chat",), ("cli", "chat", "bot", "ide"))


def team(number: int) -> str:
    """A team's group."""
    return f"team-{number % TEAMS}"


def name_of(number: int) -> str:
    """A server's name; three of four are in `prod`."""
    noun = NOUNS[number % len(NOUNS)]
    return f"{'prod' if number % 4 else 'dev'}/{noun}-{PLACES[number % len(PLACES)]}-{number}"


def owners_of(number: int) -> tuple[str, ...]:
    """The groups that a server is granted to; one in a hundred is for everybody."""
    return (
        ("everyone",) if number % 100 == 0 else tuple(sorted({team(number), team(number * 7 + 1), team(number * 13)}))
    )


def declaration(number: int) -> Declaration:
    """What the deployed release of one server declares. One of its policies is its own."""
    dice = random.Random(number)
    owner, (noun, place) = team(number), (dice.choice(NOUNS), dice.choice(PLACES))
    policies = {
        "open": "permit (principal, action, resource);",
        "owners": f'permit (principal in Group::"{owner}", action, resource);',
        "terminal": 'permit (principal, action, resource) when { context.surface == "cli" };',
    }
    tools = [
        {
            "name": f"{VERBS[(number + tool) % len(VERBS)]}_{dice.choice(NOUNS)}_{tool}",
            "title": f"{dice.choice(VERBS).title()} the {dice.choice(NOUNS)}",
            "description": f"{dice.choice(VERBS).title()} the {noun} of {place}.",
            "policy": dice.choice(("open", "open", "owners", "terminal")),
            "minutes_saved": dice.randrange(20),
            "input_schema": {
                "type": "object",
                "properties": {
                    "query": {"type": "string", "description": f"Which {noun}"},
                    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
                },
                "required": ["query"],
            },
        }
        for tool in range(TOOLS)
    ]
    manifest = {
        "name": name_of(number).partition("/")[2],
        "entry": "server:server",
        "title": f"{noun.title()} of {place}",
        "description": f"{dice.choice(VERBS).title()} the {noun} of {place} for {owner}",
        "owner": owner,
        "support_channel": f"#{owner}",
        "sensitivity": dice.choice(SENSITIVITIES),
        "requests": {"business_groups": list(owners_of(number)), "surfaces": list(SURFACES[number % len(SURFACES)])},
    }
    return Declaration.model_validate({"manifest": manifest, "tools": tools, "policies": policies})


async def fill(home: Home, servers: int) -> float:
    """Fill the home's database; seconds that it took."""
    began, database = time.monotonic(), Database.at(home.database)
    await migrate(database)
    snapshot = Snapshot()
    for numbers in _parts(servers):
        async with database.write() as connection:
            changing = Changing(connection, snapshot, int(time.time() * 1000))
            for number in numbers:
                await _register(changing, number)
            snapshot = Snapshot({}, seq=changing.seq)
        print(f"\r{numbers[-1] + 1:,} servers, {time.monotonic() - began:.0f} s", end="", flush=True)
    print()
    for release in range(1, RELEASES):
        async with database.write() as connection:
            for table in (releases, policies, tools):
                await connection.execute(_copies(table, release))
        print(f"\r{release} older releases of each, {time.monotonic() - began:.0f} s", end="", flush=True)
    print()
    await database.close()
    return time.monotonic() - began


def _copies(table: Table, release: int) -> Insert:
    """The rows of every deployed release once more, under another digest."""
    digest = "digest" if table is releases else "release"
    deployed = select(servers_.c.name, servers_.c.release).where(servers_.c.release.is_not(None)).subquery()
    other = literal(f"x{release}").concat(func.substr(table.c[digest], 3))
    values = {column.name: other if column.name == digest else column for column in table.columns}
    if table is releases:
        values["semver"] = literal(f"0.{release}.0")
    which = (table.c.server == deployed.c.name) & (table.c[digest] == deployed.c.release)
    return insert(table).from_select(list(values), select(*values.values()).where(which))


async def _register(changing: Changing, number: int) -> None:
    name = name_of(number)
    await changing.register(name, {}, PEGBOARD, "bench")
    declared = Release.of(declaration(number))
    await store.add_release(changing.connection, name, declared, changing.now_ms)
    await store.approve_release(changing.connection, name, declared.digest, changing.now_ms)
    access = Access(owners_of(number), SURFACES[number % len(SURFACES)], ("ads",) if number % 4 == 3 else (), ())
    values: dict[str, Any] = {"lifecycle": Lifecycle.APPROVED}
    change = Change(
        name, PEGBOARD, "deploy", "bench", values=values, requested=access, granted=access, release=declared
    )
    await changing.apply(change)


def _parts(servers: int) -> Iterator[range]:
    for start in range(0, servers, IN_ONE_TRANSACTION):
        yield range(start, min(servers, start + IN_ONE_TRANSACTION))


if __name__ == "__main__":
    import asyncio

    asyncio.run(fill(Home.open(Path(sys.argv[1])), int(sys.argv[2])))
