"""Registering a server and editing a draft: what is kept, what is refused, and that two at once lose nothing."""

from __future__ import annotations

import pytest

from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Lifecycle
from tests.hub.company import URL, Hub, plain
from tests.oauth import Browser

pytestmark = pytest.mark.anyio

EDIT = f"{URL}/servers/dev/planned/edit"
RECORD = {
    "title": "Planned",
    "description": "What is planned",
    "owner": "ads-eng",
    "support_channel": "#ads",
    "sensitivity": "confidential",
    "links": "docs https://wiki.example/planned\nthe run book https://wiki.example/run",
    "uses_models": "yes",
    "gallery": "",
    "why": "to begin with",
}
NEW = {"namespace": "dev", "name": "planned"} | RECORD


async def signed_in(hub: Hub, person: str = "ana") -> Browser:
    browser = Browser(URL, hub.public)
    await browser.sign_in(person)
    return browser


async def registered(hub: Hub) -> Browser:
    browser = await signed_in(hub)
    answer = await browser.press(await browser.get(f"{URL}/servers/new"), "Register the draft", **NEW)
    assert (answer.status_code, answer.headers["location"]) == (303, "/servers/dev/planned"), answer.text
    return browser


async def test_a_draft_is_registered_and_nobody_can_call_it(hub: Hub) -> None:
    await registered(hub)
    draft = hub.parts.registry.current.servers["dev/planned"]
    assert (draft.lifecycle, draft.reachable, draft.owner) == (Lifecycle.DRAFT, False, "ads-eng")
    assert dict(draft.links) == {"docs": "https://wiki.example/planned", "the run book": "https://wiki.example/run"}
    assert (draft.uses_models, draft.gallery, draft.sensitivity) == (True, False, "confidential")


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"name": "Planned"}, "name", "in each of the two fields"),
        ({"name": "presto", "namespace": "prod"}, "name", "prod/presto is taken."),
        ({"description": ""}, "description", "empty"),
        ({"description": "x" * 101}, "description", "101 characters"),
        ({"description": "a\u202eb"}, "description", "U+202E"),
        ({"owner": "platform"}, "owner", "no team of yours"),
        ({"links": "docs http://plain.example"}, "links", "must be an https:// address"),
        ({"links": "https://nameless.example"}, "links", "no name and an address"),
        ({"sensitivity": "secret"}, "sensitivity", "no such sensitivity"),
        ({"why": ""}, "why", "Say why, in a sentence."),
        ({"name": "", "description": "", "why": ""}, "why", "Description: It is empty."),
    ],
)
async def test_what_cannot_be_is_refused_by_its_field_and_nothing_typed_is_lost(
    hub: Hub, changes: dict[str, str], field: str, words: str
) -> None:
    browser, before = await signed_in(hub), dict(hub.parts.registry.current.servers)
    page = await browser.get(f"{URL}/servers/new")
    answer = await browser.press(page, "Register the draft", **NEW | changes)
    assert answer.status_code == 422
    assert words in plain(answer.text)
    assert f'href="#{field}"' in answer.text
    assert "to begin with" in answer.text or field == "why"
    assert "https://wiki.example/run" in answer.text or field == "links"
    assert dict(hub.parts.registry.current.servers) == before


async def test_two_who_edit_at_once_see_each_others_change_and_lose_none(hub: Hub) -> None:
    browser = await registered(hub)
    page = await browser.get(EDIT)
    async with hub.parts.registry.changing() as changing:
        values = {"description": "What Fay plans"}
        await changing.apply(Change("dev/planned", Actor("fay"), "edit", "better words", values=values))
    answer = await browser.press(page, "Save", **RECORD | {"description": "What Ana plans", "title": "Plans"})
    assert answer.status_code == 409
    words = plain(answer.text)
    assert "fay changed this draft after you opened it" in words
    assert words.index("Theirs, as it is now") < words.index("What Fay plans") < words.index("What Ana plans")
    assert hub.parts.registry.current.servers["dev/planned"].description == "What Fay plans"
    saved = await browser.press(answer, "Save", **RECORD | {"description": "What both plan", "title": "Plans"})
    assert saved.status_code == 303
    draft = hub.parts.registry.current.servers["dev/planned"]
    assert (draft.description, draft.title) == ("What both plan", "Plans")


async def test_saving_what_did_not_change_leaves_nothing_behind(hub: Hub) -> None:
    browser = await registered(hub)
    version = hub.parts.registry.current.servers["dev/planned"].version
    answer = await browser.press(await browser.get(EDIT), "Save", **RECORD)
    assert answer.status_code == 303
    assert hub.parts.registry.current.servers["dev/planned"].version == version


@pytest.mark.parametrize(("person", "status"), [("ana", 200), ("pat", 200), ("fay", 404), ("gus", 404)])
async def test_a_draft_is_edited_by_its_owners_and_those_who_oversee(hub: Hub, person: str, status: int) -> None:
    await registered(hub)
    other = await signed_in(hub, person)
    assert (await other.get(EDIT)).status_code == status


@pytest.mark.parametrize(("person", "status"), [("ana", 403), ("pat", 409)])
async def test_a_server_that_is_no_draft_is_not_edited_here(hub: Hub, person: str, status: int) -> None:
    browser = await signed_in(hub, person)
    assert (await browser.get(f"{URL}/servers/prod/presto/edit")).status_code == status


async def test_who_is_in_no_team_is_told_so(hub: Hub) -> None:
    browser = await signed_in(hub, "gus")
    page = await browser.get(f"{URL}/servers/new")
    assert "You are in no team" in page.text
    assert "Register the draft" not in page.text


async def test_nobody_registers_without_signing_in(hub: Hub) -> None:
    response = await hub.public.get("/servers/new", headers={"Accept": "text/html"})
    assert (response.status_code, response.headers["location"]) == (303, "/sign-in?continue=/servers/new")


@pytest.mark.parametrize(("person", "links"), [("ana", True), ("pat", True), ("sol", False)])
async def test_a_draft_leads_its_owners_to_its_submission(hub: Hub, person: str, links: bool) -> None:
    await registered(hub)
    page = await (await signed_in(hub, person)).get(f"{URL}/servers/dev/planned")
    assert page.status_code == 200
    assert (">Submit it</a>" in page.text) == links
    assert ('href="/servers/dev/planned/access"' in page.text) == links


async def test_an_approved_draft_says_how_its_code_comes(hub: Hub) -> None:
    browser = await registered(hub)
    async with hub.parts.registry.changing() as changing:
        values = {"lifecycle": Lifecycle.APPROVED}
        await changing.apply(Change("dev/planned", Actor("pat"), "approve", "it may be", values=values))
    page = plain((await browser.get(f"{URL}/servers/dev/planned")).text)
    assert "Next, its owners submit its code: pegboard submit --namespace dev." in page
    assert "Submit it" not in page
