"""The official registry API page by page: cursors, and questions that cannot be answered."""

from __future__ import annotations

import pytest

from tests.hub.company import Company, Hub, opened
from tests.hub.official import LOCAL, check
from tests.hub.official_registry import PREFIX, PRESTO, ask, grant, listed, many, names

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("limit", [1, 2, 5, 7, 100, 999_999])
async def test_pages_of_any_size_have_every_entry_once(company: Company, limit: int) -> None:
    async with many(company, 4, versions=3) as hub:
        whole = await listed(hub, limit=100)
        assert len(whole) == 12
        assert await listed(hub, limit=limit) == whole


async def test_the_longest_page_is_bounded(company: Company) -> None:
    async with many(company, 60, versions=2) as hub:
        page = (await ask(hub, limit=999_999)).json()
        assert page["metadata"]["count"] == 100
        assert len(await listed(hub, limit=999_999)) == 120


async def test_entries_that_come_and_go_between_pages_disturb_none_that_stay(company: Company) -> None:
    async with many(company, 6) as hub:
        first = (await ask(hub, limit=3)).json()
        grant(company, *(f"prod/s0{number}" for number in (0, 3, 4, 5)))
        await hub.parts.registry.refresh()
        second = (await ask(hub, limit=3, cursor=first["metadata"]["nextCursor"])).json()
        assert names(second["servers"]) == [f"{PREFIX}/s0{number}" for number in (3, 4, 5)]


async def test_a_cursor_that_anybody_touched_is_refused(company: Company) -> None:
    async with many(company, 3) as hub:
        cursor = (await ask(hub, limit=1)).json()["metadata"]["nextCursor"]
        assert cursor == (await ask(hub, limit=1)).json()["metadata"]["nextCursor"]
        forged = {
            "AAAA",
            "null",
            "é",
            "A" * 5000,
            "%",
            f"{cursor}=",
            f"{cursor}A",
            f" {cursor}",
            cursor[:-1],
            cursor[1:],
        }
        for place, letter in enumerate(cursor):
            forged.add(cursor[:place] + ("A" if letter != "A" else "B") + cursor[place + 1 :])
        for each in forged:
            answer = await ask(hub, limit=1, cursor=each)
            assert answer.status_code == 400, each
            assert answer.json()["error"].startswith("cursor: ")


async def test_a_cursor_of_another_instance_is_refused(company: Company) -> None:
    async with many(company, 3) as hub:
        cursor = (await ask(hub, limit=1)).json()["metadata"]["nextCursor"]
    company.home.sealing_key.unlink()
    async with opened(company) as hub:
        assert (await ask(hub, cursor=cursor)).status_code == 400


@pytest.mark.parametrize(
    "other",
    [{"search": "x"}, {"version": "1.0.0"}, {"include_deleted": "true"}, {"updated_since": "2026-01-01T00:00:00Z"}],
)
async def test_a_cursor_is_of_one_question(company: Company, other: dict[str, str]) -> None:
    async with many(company, 3) as hub:
        cursor = (await ask(hub, limit=1, version="latest", search="s")).json()["metadata"]["nextCursor"]
        answer = await ask(hub, cursor=cursor, **other)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(next(iter(other)))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.5", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=1&limit=2", "limit"),
        ("include_deleted=yes", "include_deleted"),
        ("include_deleted=", "include_deleted"),
        ("updated_since=yesterday", "updated_since"),
        ("updated_since=2026-01-01", "updated_since"),
        ("updated_since=2026-01-01T00:00:00", "updated_since"),
        ("updated_since=2026-13-01T00:00:00Z", "updated_since"),
        ("updated_since=9999-12-31T23:59:60Z", "updated_since"),
        (f"search={'a' * 256}", "search"),
        (f"version={'1' * 256}", "version"),
        ("search=a&search=b", "search"),
    ],
)
async def test_a_question_that_cannot_be_answered_says_which_part(hub: Hub, query: str, field: str) -> None:
    answer = await hub.public.get(f"/v0.1/servers?{query}", headers=LOCAL)
    assert answer.status_code == 400
    assert check(answer)["error"].startswith(f"{field}: ")


async def test_what_later_clients_may_ask_beside_is_left_alone(hub: Hub) -> None:
    assert names(await listed(hub, sort="name", cursor="", search="", version="")) == [PRESTO]
