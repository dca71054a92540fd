"""Looking locked packages up from an author's machine: the one door of `pegboard check` to package indexes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions
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
    npm_facts,
    wanted,
    with_licences,
)
from pegboard.core.check.model import PackageFacts

ANSWER_S: Final = 10.0
AT_ONCE: Final = 8


def look_up(lock: bytes, advisories: Advisories, client: httpx2.Client | None = None) -> Known:
    """What the indexes of a lock file, the advisories, and the packages installed here say. Never raises for what an
    index does: what does not come is not known."""
    known: Known = npm_facts(lock, advisories)
    with (
        client or httpx2.Client(timeout=ANSWER_S, follow_redirects=False) as asked,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        for package, facts in pool.map(lambda each: (each, _one(each, advisories, asked)), wanted(lock)):
            if facts is not None:
                known[package.name, package.version] = facts
    return with_licences(known, _installed())


def _installed() -> Iterator[bytes]:
    for each in distributions():
        if text := each.read_text("METADATA"):
            yield text.encode("utf-8", "replace")


def _one(package: Wanted, advisories: Advisories, client: httpx2.Client) -> PackageFacts | None:
    steps, answer = asking(package, advisories), None
    while True:
        try:
            answer = _fetch(client, steps.send(answer))
        except StopIteration as end:
            facts: PackageFacts | None = end.value
            return facts


def _fetch(client: httpx2.Client, ask: Ask) -> Answer | None:
    try:
        with client.stream("GET", ask.url, headers={"Accept": ask.accept}) as response:
            if response.status_code != 200:
                return None
            content = bytearray()
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > LARGEST_ANSWER:
                    return None
            return Answer(response.headers.get("content-type", ""), bytes(content))
    except (httpx2.HTTPError, httpx2.InvalidURL):
        return None
