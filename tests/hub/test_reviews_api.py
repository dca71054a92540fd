"""The API tells of reviews, to each what they may know, and decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import GRANTS_FILE
from pegboard_hub.registry.model import Access, Lifecycle
from pegboard_hub.registry.reviews.model import Kind
from pegboard_hub.registry.reviews.store import open_reviews
from tests.hub.company import API, URL, Company, Hub, opened
from tests.hub.reviewing import PRESTO, changed, decide, open_ones, release, signed_in, words

pytestmark = [pytest.mark.anyio, pytest.mark.reviewed]


@pytest.fixture
async def hub(company: Company) -> AsyncIterator[Hub]:
    async with opened(company) as found:
        await release(found, company, changed(sensitivity="public"))
        yield found


async def test_reviews_are_found_by_server_kind_and_state_and_by_what_waits(hub: Hub) -> None:
    async def found(person: str, **asked: str) -> list[tuple[str, str]]:
        listed = (await hub.api(person, "reviews", **asked)).json()["reviews"]
        return sorted((each["kind"], each["state"]) for each in listed)

    both = [("privacy", "open"), ("security", "open")]
    assert await found("ana", state="open") == both
    assert await found("ana", server=PRESTO, state="approved") == [("privacy", "approved"), ("security", "approved")]
    assert await found("ana", kind="security", state="open") == [("security", "open")]
    assert await found("sol", waiting="true") == [("security", "open")]
    assert await found("lea", waiting="true") == [("privacy", "open")]
    assert await found("pat", waiting="true") == []


@pytest.mark.heavy
async def test_what_waits_longest_is_told_however_much_waits_beside_it_and_no_more_once_it_is_decided(
    hub: Hub,
) -> None:
    [first] = (await hub.api("sol", "reviews", waiting="true")).json()["reviews"]
    review = (await open_ones(hub))[Kind.SECURITY]
    async with hub.parts.registry.changing() as changing:
        for number in range(1100):
            name = f"prod/many-{number}"
            await changing.register(name, {}, GRANTS_FILE, "many")
            values = {"lifecycle": Lifecycle.IN_REVIEW}
            await changing.apply(Change(name, GRANTS_FILE, "submit", "many", values=values))
            now_ms = changing.now_ms + number
            opened = {Kind.SECURITY: ()}
            await open_reviews(changing.connection, name, opened, "", Access(), GRANTS_FILE.sub, "", now_ms)

    async def waiting() -> list[str]:
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await hub.api("sol", "reviews", waiting="true", limit=200, **cursor)).json()
            seen += [each["id"] for each in page["reviews"]]
            if page["next"] is None:
                return seen
            cursor = {"cursor": page["next"]}

    before = await waiting()
    assert (before[0], len(before), len(set(before))) == (first["id"], 1101, 1101)
    page = await (await signed_in(hub, "sol")).get(f"{URL}/reviews")
    assert "901 more wait for you" in words(page)
    assert f"/reviews/{first['id']}" in page.text
    await decide(hub, "sol", review)
    assert await waiting() == before[1:]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"server": "foo"}, "server: 'foo' names no namespace"),
        ({"state": "closed"}, "state: choose one of 'open'"),
        ({"whose": "mine"}, "whose: nothing here has that name"),
        ({"limit": "201"}, "limit: it is more than 200"),
    ],
)
async def test_what_cannot_be_asked_is_said_in_words(hub: Hub, asked: dict[str, str], words: str) -> None:
    refused = await hub.api("ana", "reviews", **asked)
    assert refused.status_code == 422
    assert words in refused.json()["error"]["message"]


async def test_a_list_goes_on_where_its_page_ended(hub: Hub) -> None:
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await hub.api("ana", "reviews", limit=1, **cursor)).json()
        seen += [each["id"] for each in page["reviews"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert len(seen) == len(set(seen)) == 4
    refused = await hub.api("ana", "reviews", cursor="1.x")
    assert (refused.status_code, refused.json()["error"]["reason"]) == (400, "invalid_cursor")


async def test_what_differs_is_for_those_who_are_involved(hub: Hub) -> None:
    review = (await open_ones(hub))[Kind.SECURITY]
    whole = (await hub.api("pat", f"reviews/{review.id}")).json()
    assert "run_query" in str(whole["changes"])
    assert whole["checklist"]
    outside = await hub.api("fay", f"reviews/{review.id}")
    assert "run_query" not in outside.text
    assert outside.json()["changes"] is None
    assert whole["requested"]["groups"]
    assert outside.json()["requested"] is None
    assert (await hub.api("fay", "reviews/none")).status_code == 404


async def test_the_outcome_is_told_with_who_and_on_which_conditions(hub: Hub) -> None:
    found = await open_ones(hub)
    for (kind, review), person in zip(sorted(found.items()), ("lea", "sol"), strict=True):
        await decide(hub, person, review, conditions=f"{kind} says so")
    for person, conditions in (("pat", "security says so"), ("ana", "")):
        told = (await hub.api(person, f"reviews/{review.id}")).json()
        assert (told["state"], told["decided_by"], told["conditions"]) == ("approved", "sol", conditions)
    assert "ads-eng" in told["granted"]["groups"]


async def test_what_has_not_changed_is_not_sent_again(hub: Hub) -> None:
    review = next(iter((await open_ones(hub)).values()))
    headers = {"Authorization": f"Bearer {await hub.token('sol', resource=API)}"}
    for path in ("/api/v1/reviews", f"/api/v1/reviews/{review.id}"):
        first = await hub.public.get(URL + path, headers=headers)
        again = await hub.public.get(URL + path, headers={**headers, "If-None-Match": first.headers["etag"]})
        assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    await hub.parts.reviewing.comment(PersonFacts("pat", "Pat", ("platform",)), review.id, "Look again")
    changed_since = await hub.public.get(URL + path, headers={**headers, "If-None-Match": first.headers["etag"]})
    assert changed_since.status_code == 200
