"""What is known of a lock file's packages, fetched: the runtime's one door to package indexes, besides uv's own.

Which indexes may be asked is the operator's to say: an address in a lock file is its author's, and is fetched of no
other. Nothing of an answer runs, and what does not come in time is not known, which the check says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import httpx2

from pegboard.core.check.facts import (
    LARGEST_ANSWER,
    Advisories,
    Answer,
    Ask,
    Known,
    Wanted,
    asking,
    wanted,
    with_licences,
)

WHOLE_S: Final = 30.0
"""Seconds for all packages of a lock file together."""

ANSWER_S: Final = 10.0
AT_ONCE: Final = 8


async def look_up(
    lock: bytes,
    indexes: Iterable[str],
    advisories: Advisories,
    environment: Path | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> Known:
    """What is known of the packages of a lock file. Never raises for what an index does: it is not known then.

    Args:
        lock: the file.
        indexes: the package indexes that may be asked.
        advisories: what is known to be wrong with packages.
        environment: where they are installed, for licences that an index does not give.
        transport: another way to the indexes, for tests.
    """
    known: Known = {}
    at_once = asyncio.Semaphore(AT_ONCE)
    async with httpx2.AsyncClient(timeout=ANSWER_S, follow_redirects=False, transport=transport) as client:

        async def one(package: Wanted) -> None:
            async with at_once:
                steps, answer = asking(package, advisories), None
                while True:
                    try:
                        answer = await _fetch(client, steps.send(answer))
                    except StopIteration as end:
                        if end.value is not None:
                            known[package.name, package.version] = end.value
                        return

        tasks = [asyncio.create_task(one(package)) for package in wanted(lock, indexes)]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=WHOLE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return with_licences(known, metadata_in(environment)) if environment is not None else known


def metadata_in(environment: Path) -> Iterator[bytes]:
    """The metadata of the packages that are installed there."""
    for path in sorted(environment.rglob("*.dist-info/METADATA")):
        if not path.is_symlink() and path.stat().st_size <= LARGEST_ANSWER:
            yield path.read_bytes()


async def _fetch(client: httpx2.AsyncClient, ask: Ask) -> Answer | None:
    try:
        async with client.stream("GET", ask.url, headers={"Accept": ask.accept}) as response:
            if response.status_code != 200:
                return None
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > LARGEST_ANSWER:
                    return None
            return Answer(response.headers.get("content-type", ""), bytes(content))
    except (httpx2.HTTPError, httpx2.InvalidURL):
        return None
