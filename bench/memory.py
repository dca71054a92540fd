"""What a running instance keeps in memory: at rest, after many calls, and after sessions that nobody ends.

    .venv/bin/python bench/memory.py [--calls 100000] [--sessions 10000] [--save]

The demo's instance. Calls are the echo tool of `dev/scratch` in the modern era; sessions are opened at it in the
older era and left alone, by four people in turn. Figures are MiB: private pages and the share of shared ones (PSS),
of each process and what it started.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx2

from bench import keeping
from bench.calls.load import Load
from bench.calls.processes import members, memory_mib
from bench.calls.rival import Target
from bench.instances import Instance, detached
from pegboard_hub.demo.wire import Wire

SERVER = "dev/scratch"
PEOPLE = ("ana", "fay", "sam", "pat")
SAMPLES = 10
QUERIES = 200
SETTLE_S = 5.0


def main() -> None:
    """Print a row at each stage, and keep them if asked to."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--calls", type=int, default=100_000)
    arguments.add_argument("--sessions", type=int, default=10_000)
    arguments.add_argument("--save", action="store_true", help="keep the results in bench/results/memory.json")
    options = arguments.parse_args()
    before = keeping.load_average()
    rows: list[dict[str, object]] = []
    with detached() as instance:

        def note(stage: str) -> None:
            time.sleep(SETTLE_S)
            memory = {role: round(memory_mib(pids), 1) for role, pids in _members(instance).items()}
            rows.append({"stage": stage, "mib": memory})
            print(f"{stage:28}", *(f"{role} {mib:.0f}" for role, mib in memory.items()), flush=True)

        note("at rest")
        for step in range(1, SAMPLES + 1):
            asyncio.run(_call(instance, options.calls // SAMPLES))
            note(f"after {options.calls * step // SAMPLES:,} calls")
        asyncio.run(_abandon(instance, options.sessions))
        note(f"after {options.sessions:,} sessions")
        asyncio.run(_query(instance))
        note(f"after {QUERIES:,} queries")
    if options.save:
        print(keeping.save("memory", [before, keeping.load_average()], rows=rows))


def _members(instance: Instance) -> dict[str, list[int]]:
    return members({name: [pid] for name, pid in instance.processes().items()})


async def _call(instance: Instance, calls: int) -> None:
    """Call until so many were answered."""
    headers = {"Authorization": f"Bearer {instance.token('ana', SERVER)}"}
    load = Load(Target(instance.port, f"/mcp/{SERVER}", headers=headers), "modern", concurrency=16)
    callers = await load.start()
    answered = 0
    while answered < calls:
        await asyncio.sleep(0.05)
        seen = load.take()
        assert not seen.faults, seen.faults
        answered += len(seen.latencies)
    await load.stop(callers)


async def _abandon(instance: Instance, sessions: int) -> None:
    """Open sessions as legacy clients do, and never end one."""
    async with httpx2.AsyncClient() as http:
        wire = Wire(http, instance.url)
        for number in range(sessions):
            if number % 1000 == 0:
                tokens = [instance.token(person, SERVER) for person in PEOPLE]
            token = tokens[number % len(PEOPLE)]
            opened = await wire.initialize(token, SERVER)
            session = opened.headers["mcp-session-id"]
            await wire.legacy(token, "notifications/initialized", {}, SERVER, session)


async def _query(instance: Instance) -> None:
    """What `prod/presto` is for: it makes its engine when it is first asked."""
    async with httpx2.AsyncClient(timeout=30) as http:
        wire = Wire(http, instance.url)
        token = instance.token("ana", "prod/presto")
        for number in range(QUERIES):
            where = f"flight <> {number}"  # no two are alike
            sql = f"SELECT carrier, avg(dep_delay) FROM flights WHERE {where} GROUP BY carrier"  # noqa: S608
            reply = await wire.call(token, "run_query", {"sql": sql})
            assert not reply.result.get("isError"), reply.text


if __name__ == "__main__":
    main()
