"""Hubs of tests share what they compiled (`tests.hub.statements`), and nothing else; a hub that runs has its own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest

from pegboard_hub.storage.database import Database
from tests.folders import new_folder
from tests.hub.company import Company, Hub, call, found_company, opened

pytestmark = pytest.mark.anyio

NOW_MS = 1_700_000_000_000


@pytest.fixture
async def other() -> AsyncIterator[Hub]:
    """Another company's hub, open at the same time."""
    root = new_folder()
    async with opened(found_company(root)) as found:
        yield found
    shutil.rmtree(root)


async def test_two_hubs_share_statements_and_not_what_is_in_them(hub: Hub, other: Hub, company: Company) -> None:
    assert _compiled(hub.parts.database) is _compiled(other.parts.database)
    await hub.deliver(company.open_channel("prod/presto", "r"), *call("one", NOW_MS))
    assert len(await hub.calls("ana")) == 1
    assert await other.calls("ana") == []


async def test_a_hub_that_runs_has_its_own(hub: Hub, company: Company) -> None:
    own = Database.at(company.home.database)
    assert own.engine.sync_engine.dialect is not hub.parts.database.engine.sync_engine.dialect
    assert "compiled_cache" not in own.engine.sync_engine.get_execution_options()
    await own.close()


def _compiled(database: Database) -> object:
    return database.engine.sync_engine.get_execution_options()["compiled_cache"]
