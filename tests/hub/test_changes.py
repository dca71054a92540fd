"""Changes of the registry: none is lost, each is in the history, and what is not approved is not reachable."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError

from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.errors import ChangeConflict, ChangeRefused, UnknownServer
from pegboard_hub.registry.history import Actor, entries
from pegboard_hub.registry.model import Access, Lifecycle
from pegboard_hub.registry.reviews.model import reviews
from tests.folders import new_folder
from tests.hub.company import ADS_ONLY, Company, Hub, found_company, opened, presto

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

ANA, PAT = Actor("ana"), Actor("pat")
RECORD = {
    "description": "Look things up",
    "owner": "ads-eng",
    "support_channel": "#ads",
    "sensitivity": "internal",
    "links": {"docs": "https://wiki.example/lookup"},
}


@pytest.fixture
async def reviewed() -> AsyncIterator[tuple[Hub, Company]]:
    root = new_folder()
    company = found_company(root, reviewed=True)
    async with opened(company) as hub:
        yield hub, company
    shutil.rmtree(root)


async def register(hub: Hub, name: str = "prod/lookup", **changes: Any) -> None:
    async with hub.parts.registry.changing() as changing:
        await changing.register(name, RECORD | changes, ANA, "we need it")


async def edit(hub: Hub, expected: int | None, actor: Actor = ANA, name: str = "prod/lookup", **values: Any) -> None:
    async with hub.parts.registry.changing() as changing:
        await changing.apply(Change(name, actor, "edit", "better words", expected, values=values))


async def test_a_draft_is_in_the_registry_and_nobody_can_call_it(hub: Hub) -> None:
    await register(hub)
    server = hub.parts.registry.current.servers["prod/lookup"]
    assert (server.lifecycle, server.owner, server.version) == (Lifecycle.DRAFT, "ads-eng", 1)
    assert hub.parts.registry.current.deployed("prod/lookup") is None


async def test_of_two_who_edit_at_once_the_second_is_told_what_the_first_changed(hub: Hub) -> None:
    await register(hub)
    await edit(hub, 1, PAT, description="Look ads up")
    with pytest.raises(ChangeConflict, match="pat changed description"):
        await edit(hub, 1, ANA, title="Lookup")
    server = hub.parts.registry.current.servers["prod/lookup"]
    assert (server.description, server.title, server.version) == ("Look ads up", None, 2)


async def test_of_many_at_the_same_moment_exactly_one_gets_its_change_in(hub: Hub) -> None:
    await register(hub)
    done = await asyncio.gather(*(edit(hub, 1, title=f"Title {n}") for n in range(8)), return_exceptions=True)
    assert [type(each) for each in done].count(ChangeConflict) == 7
    assert hub.parts.registry.current.servers["prod/lookup"].version == 2


async def test_every_change_is_told_with_who_what_and_why(hub: Hub) -> None:
    await register(hub)
    await edit(hub, 1, PAT, description="Look ads up")
    async with hub.parts.database.read() as connection:
        told = await entries(connection, "prod/lookup")
    assert [(each.actor, each.action, each.why, each.version) for each in told] == [
        ("pat", "edit", "better words", 2),
        ("ana", "register", "we need it", 1),
    ]
    assert told[0].fields == {"description": ("Look things up", "Look ads up")}


@pytest.mark.parametrize("statement", ["UPDATE history SET why = 'x'", "DELETE FROM history"])
async def test_the_history_cannot_be_rewritten(hub: Hub, statement: str) -> None:
    await register(hub)
    with pytest.raises(DatabaseError, match="append-only"):
        async with hub.parts.database.write() as connection:
            await connection.execute(text(statement))


async def test_a_change_that_changes_nothing_leaves_nothing_behind(hub: Hub) -> None:
    await register(hub)
    await edit(hub, 1, description=RECORD["description"])
    assert hub.parts.registry.current.servers["prod/lookup"].version == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", "x" * 101),
        ("description", "  "),
        ("description", "a\u202eb"),
        ("title", "a\x00b"),
        ("owner", "Ads Eng"),
        ("sensitivity", "secret"),
        ("links", {"docs": "http://wiki.example"}),
        ("links", {"docs": "javascript:alert(1)"}),
        ("gallery", "yes"),
        ("lifecycle", "live"),
        ("nonsense", 1),
    ],
)
async def test_what_cannot_stand_in_a_record_is_refused_by_its_field(asked: Hub, field: str, value: Any) -> None:
    with pytest.raises(ChangeRefused) as refused:
        await register(asked, **{field: value})
    assert refused.value.field.startswith(field)
    assert "prod/lookup" not in asked.parts.registry.current.servers


@pytest.mark.parametrize("name", ["prod/presto", "Prod/lookup", "lookup", "prod/look up", "prod/a/b"])
async def test_a_name_that_is_taken_or_is_none_is_refused(asked: Hub, name: str) -> None:
    with pytest.raises(ChangeRefused, match=r"^server: "):
        await register(asked, name)


async def test_nothing_of_a_transaction_that_fails_is_kept(hub: Hub) -> None:
    await register(hub)

    async def half() -> None:
        async with hub.parts.registry.changing() as changing:
            await changing.apply(Change("prod/lookup", ANA, "edit", "x", values={"title": "Half"}))
            changing.server("prod/nothing")

    with pytest.raises(UnknownServer):
        await half()
    assert hub.parts.registry.current.servers["prod/lookup"].title is None
    async with hub.parts.database.read() as connection:
        assert len(await entries(connection, "prod/lookup")) == 1


async def test_what_a_release_says_is_not_edited_beside_it(hub: Hub) -> None:
    with pytest.raises(ChangeRefused, match=r"pegboard\.toml"):
        await edit(hub, None, name="prod/presto", description="Something else")


CHANGED = presto()
CHANGED["tools"][0]["description"] = "Do something else"
WIDER = presto(requests={"business_groups": ["ads-eng", "sales", "search-eng"], "surfaces": ["cli", "bot"]})
MORE_SENSITIVE = presto(sensitivity="restricted")
TO_A_MODEL = presto(uses_models=True)
POLICY = presto()
POLICY["policies"] = dict.fromkeys(POLICY["policies"], ADS_ONLY)
WORDS = presto(description="Query our warehouse", support_channel="#data")


@pytest.mark.parametrize(
    ("declared", "kinds"),
    [
        (CHANGED, {"security"}),
        (POLICY, {"security"}),
        (WIDER, {"security", "privacy"}),
        (MORE_SENSITIVE, {"security", "privacy"}),
        (TO_A_MODEL, {"security", "privacy", "genai"}),
    ],
    ids=["tool", "policy", "requested access", "sensitivity", "model"],
)
async def test_a_release_that_differs_reopens_just_the_reviews_it_concerns_and_is_not_reachable(
    reviewed: tuple[Hub, Company], declared: dict[str, Any], kinds: set[str]
) -> None:
    hub, company = reviewed
    assert hub.parts.registry.current.deployed("prod/presto")
    digest = company.deploy("prod/presto", declared)
    await hub.parts.registry.refresh()
    server = hub.parts.registry.current.servers["prod/presto"]
    assert (server.reachable, server.lifecycle) == (False, Lifecycle.IN_REVIEW)
    assert server.waiting is not None
    assert server.waiting.digest == digest
    async with hub.parts.database.read() as connection:
        found = (await connection.execute(select(reviews).where(reviews.c.state == "open"))).all()
    assert {row.kind for row in found} == kinds
    assert all(row.changes and row.release == digest for row in found)
    assert [each["server"] for each in (await hub.api("ana", "servers")).json()["servers"]] == ["dev/scratch"]


async def test_a_release_that_changes_nothing_that_is_reviewed_is_taken(reviewed: tuple[Hub, Company]) -> None:
    hub, company = reviewed
    digest = company.deploy("prod/presto", WORDS)
    await hub.parts.registry.refresh()
    server = hub.parts.registry.current.deployed("prod/presto")
    assert server is not None
    assert server.release is not None
    assert (server.release.digest, server.semver, server.support_channel) == (digest, "1.0.1", "#data")


async def test_going_back_to_an_approved_release_needs_no_review(reviewed: tuple[Hub, Company]) -> None:
    hub, company = reviewed
    company.deploy("prod/presto", CHANGED)
    await hub.parts.registry.refresh()
    company.deploy("prod/presto", presto())
    await hub.parts.registry.refresh()
    server = hub.parts.registry.current.deployed("prod/presto")
    assert server is not None
    assert (server.waiting, server.semver) == (None, "1.0.0")
    async with hub.parts.database.read() as connection:
        assert not (await connection.execute(select(reviews).where(reviews.c.state == "open"))).all()


async def test_a_release_that_waits_still_waits_after_a_restart(company: Company) -> None:
    company.grants.write_text(company.grants.read_text().replace('releases = "any"\n', ""))
    async with opened(company):
        pass
    company.deploy("prod/presto", CHANGED)
    async with opened(company) as hub:
        assert not hub.parts.registry.current.servers["prod/presto"].reachable
    async with opened(company) as hub:
        server = hub.parts.registry.current.servers["prod/presto"]
        assert server.waiting is not None
        assert not server.reachable


async def test_a_granted_group_holds_for_edge_and_server_as_soon_as_it_is_kept(hub: Hub) -> None:
    async with hub.parts.registry.changing() as changing:
        server = changing.server("prod/presto")
        granted = Access((*server.granted.groups, "search-eng"), *server.granted[1:])
        await changing.apply(Change("prod/presto", PAT, "grant", "they need it", granted=granted))
    assert [each["server"] for each in (await hub.api("sam", "servers")).json()["servers"]] == [
        "dev/scratch",
        "prod/presto",
    ]
