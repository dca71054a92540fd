"""A company goes on being served by a newer version: servers whose authors changed nothing wait for no review."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import Connection

from pegboard.core.names import ServerName
from pegboard.core.release import Declaration
from pegboard_hub.registry.reviews.model import State
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.migrate import upgrade
from tests.folders import new_folder
from tests.hub.company import Company, Hub, found_company, opened, presto, scratch
from tests.hub.conftest import SERVER
from tests.hub.filling import AT_MS, reflected
from tests.postgres import Postgres

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

Declared = dict[str, Any]

NEW_IN_TOOLS = {"0004": ("destructive", "idempotent", "open_world", "output_schema")}
NEW_IN_TOOLS["0003"] = (*NEW_IN_TOOLS["0004"], "read_only")
"""What a declaration did not say of a tool yet, by the schema of the version that pinned it."""

NEW_IN_MANIFESTS = ("links", "uses_models")
NEW_IN_DECLARATIONS = ("can_ask", "artifact", "instructions")


def declared(**hints: Any) -> Declared:
    """What prod/presto declares today, with hints of its first tool."""
    found = presto()
    found["tools"][0] |= {
        "destructive": False,
        "idempotent": True,
        "open_world": True,
        "output_schema": {"type": "object", "properties": {"rows": {"type": "array"}}},
    } | hints
    return found


def as_then(declaration: Declared, revision: str) -> tuple[str, Declared]:
    """What a version of then pinned of it: digest and declaration."""
    said = Declaration.model_validate(declaration)
    found = said.model_dump(mode="json", exclude=set(NEW_IN_DECLARATIONS))
    found["manifest"] = said.manifest.as_pinned()
    for name in NEW_IN_MANIFESTS:
        del found["manifest"][name]
    for tool in found["tools"]:
        for name in NEW_IN_TOOLS[revision]:
            del tool[name]
    text = json.dumps(found, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest(), found


def pin(connection: Connection, revision: str, servers: dict[str, list[Declared]]) -> None:
    """Write servers as a version of then did, each with its releases; the first is deployed."""
    tables = {table.name: table for table in reflected(connection)}

    def write(table: str, **row: Any) -> None:
        connection.execute(tables[table].insert().values(**row))

    for name, declarations in servers.items():
        pinned = [as_then(declaration, revision) for declaration in declarations]
        write("servers", name=name, source="somewhere", registered=True, reason="then", release=pinned[0][0])
        write("grants", server=name, kind="group", value="ads-eng", requested=True, granted=True)
        for number, (digest, found) in enumerate(pinned):
            write("releases", server=name, digest=digest, manifest=found["manifest"], seen_at_ms=AT_MS + number)
            for policy, text in found["policies"].items():
                write("policies", server=name, release=digest, name=policy, text=text)
            for position, tool in enumerate(found["tools"]):
                write("tools", server=name, release=digest, position=position, **tool)


Pin = Callable[..., Awaitable[Company]]


@pytest.fixture
def pinned(database_kind: str, request: pytest.FixtureRequest) -> Iterator[Pin]:
    """A company whose prod/presto is reviewed, and whose database is as an older version left it.

    Called with that version's schema, and what prod/presto declared then, the release that is deployed first.
    """
    root = new_folder()
    with ExitStack() as until_closed:

        async def make(revision: str, *declarations: Declared) -> Company:
            company = found_company(root, reviewed=True)
            if database_kind == SERVER:
                postgres: Postgres = request.getfixturevalue("postgres")
                company.database_url = until_closed.enter_context(postgres.database(empty=True))
            database = Database(company.database_url) if company.database_url else Database.at(company.home.database)
            async with database.migration() as connection:
                await connection.run_sync(upgrade, revision)
                await connection.run_sync(pin, revision, {"prod/presto": [*declarations], "dev/scratch": [scratch()]})
            await database.close()
            return company

        yield make
    shutil.rmtree(root)


async def is_usable(hub: Hub) -> bool:
    """Whether Ana may call a tool of prod/presto: as edge and server decide."""
    answer = (await hub.check("ana", {"server": "prod/presto", "tool": "run_query"})).json()
    return bool(answer.get("allowed"))


def changed(declaration: Declared, **tool: Any) -> Declared:
    """The same with something else said of its first tool."""
    return declaration | {"tools": [declaration["tools"][0] | tool, *declaration["tools"][1:]]}


@pytest.mark.parametrize(("revision", "read_only"), [("0003", True), ("0004", False)])
async def test_a_server_whose_author_changed_nothing_goes_on_after_an_upgrade(
    pinned: Pin, revision: str, read_only: bool
) -> None:
    now = declared(read_only=read_only)
    company = await pinned(revision, now)
    before, _ = as_then(now, revision)
    digest = company.deploy("prod/presto", now)
    assert digest != before
    async with opened(company) as hub:
        assert await is_usable(hub)
        told = (await hub.api("ana", "servers/prod/presto")).json()
        assert (told["lifecycle"], told["release"], told["semver"]) == ("live", digest, "1.0.1")
        assert await hub.parts.reviewing.listed(states=[State.OPEN]) == []
        # From here on everything is recorded, and a hint that changes is looked at.
        company.deploy("prod/presto", changed(now, destructive=True))
        await hub.parts.registry.refresh()
        assert not await is_usable(hub)


@pytest.mark.parametrize(
    ("revision", "what"),
    [
        ("0004", {"description": "Run SQL.\nAlso deletes."}),
        ("0004", {"policy": "ads-revenue"}),
        ("0004", {"read_only": True}),
        ("0004", {"input_schema": {"type": "object"}}),
        ("0003", {"description": "Run SQL.\nAlso deletes.", "read_only": True}),
        ("0004", {"name": "run_any_query"}),
    ],
)
async def test_what_an_author_changed_with_the_upgrade_waits_for_its_review(
    pinned: Pin, revision: str, what: Declared
) -> None:
    company = await pinned(revision, declared())
    company.deploy("prod/presto", changed(declared(), **what))
    async with opened(company) as hub:
        assert not await is_usable(hub)
        [review] = await hub.parts.reviewing.listed(states=[State.OPEN])
        shown = [each for each in review.changes if each.after is not None]
        # Whoever reviews it sees the hints too, which nobody has looked at yet.
        assert all(each.after["idempotent"] is True for each in shown)
        assert {each.what for each in shown} == {f"tool {what.get('name', 'run_query')}"}


@pytest.mark.parametrize("what", [{"uses_models": True}, {"sensitivity": "internal"}, {"owner": "finance"}])
async def test_what_an_author_changed_in_the_manifest_waits_for_its_review(pinned: Pin, what: Declared) -> None:
    company = await pinned("0004", declared())
    company.deploy("prod/presto", declared() | {"manifest": presto(**what)["manifest"]})
    async with opened(company) as hub:
        assert not await is_usable(hub)


async def test_a_server_that_went_back_to_an_earlier_release_goes_on_after_an_upgrade(pinned: Pin) -> None:
    company = await pinned("0004", declared(), changed(declared(), description="It was taken back."))
    company.home.declaration(ServerName("prod", "presto")).unlink()  # while it is described anew
    async with opened(company) as hub:
        assert not await is_usable(hub)
        company.deploy("prod/presto", declared())
        await hub.parts.registry.refresh()
        assert await is_usable(hub)
