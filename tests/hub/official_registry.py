"""A company whose official registry API is asked as clients ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tests.hub.company import Company, Hub, opened, presto
from tests.hub.official import LOCAL, check

OFFICIAL = "io.modelcontextprotocol.registry/official"
PREFIX = "localhost.pegboard"
PRESTO = f"{PREFIX}/presto"


def grant(company: Company, *servers: str, registry: str = "") -> None:
    """Write a grants file with these servers."""
    tables = "".join(f'[servers."{name}"]\nsource = "x"\ngroups = ["ads-eng"]\n' for name in servers)
    company.grants.write_text(f"{registry}\n{tables}")


def declared(name: str, **changes: Any) -> dict[str, Any]:
    return presto(**{"name": name, **changes})


@asynccontextmanager
async def many(company: Company, count: int, versions: int = 1) -> AsyncIterator[Hub]:
    """A hub with servers s00, s01, … of so many versions each, and dev/scratch."""
    names = [f"s{number:02}" for number in range(count)]
    grant(company, *(f"prod/{name}" for name in names), "dev/scratch")
    for name in names:
        company.deploy(f"prod/{name}", declared(name, description="version 0"))
    async with opened(company) as hub:
        for version in range(1, versions):
            for name in names:
                company.deploy(f"prod/{name}", declared(name, description=f"version {version}"))
            await hub.parts.registry.refresh()
        yield hub


async def ask(hub: Hub, path: str = "/v0.1/servers", /, **query: Any) -> httpx2.Response:
    """Ask as somebody on this machine, and hold the answer to the contract."""
    answer = await hub.public.get(path, params=query or None, headers=LOCAL)
    check(answer)
    return answer


async def listed(hub: Hub, **query: Any) -> list[dict[str, Any]]:
    """Every entry, page after page."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = (await ask(hub, **query, **cursor)).json()
        assert answer["metadata"]["count"] == len(answer["servers"])
        found += answer["servers"]
        if "nextCursor" not in answer["metadata"]:
            return found
        assert answer["servers"], "a page that has a next one has entries"
        cursor = {"cursor": answer["metadata"]["nextCursor"]}


def names(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["server"]["name"] for entry in entries]


def numbers(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["server"]["version"] for entry in entries]
