"""The pages of coarse rules: looking, previewing, applying, and who may."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.hub.company import URL, Hub
from tests.hub.test_rules import ENDS, FEW, NO_CALLS, NO_CHAT, file, machine
from tests.oauth import Browser

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]


TRY, APPLY = "Show what it comes to", "Bring it into force for everybody"


class Pages:
    """A browser that somebody signed in with."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    async def get(self, path: str) -> httpx2.Response:
        return await self.browser.get(f"{URL}{path}")

    async def press(self, page: httpx2.Response, button: str, **fields: str) -> httpx2.Response:
        return await self.browser.press(page, button, **fields)


async def signed_in(hub: Hub, person: str = "pat") -> Pages:
    browser = Browser(URL, hub.public)
    await browser.sign_in(person)
    return Pages(browser)


async def test_the_first_rules_are_previewed_and_applied(hub: Hub) -> None:
    browser = await signed_in(hub)
    page = await browser.get("/rules")
    assert "There are no coarse rules: what is granted is allowed." in page.text
    page = await browser.get("/rules/edit")
    assert "version = 0" in page.text
    page = await browser.press(page, TRY, text=file(NO_CHAT, FEW).replace("\n", "\r\n"))
    assert page.status_code == 200
    for words in ("<ins>[rules.no-chat]</ins>", "<code>everything</code>", "ads-eng", "0 people gain"):
        assert words in page.text
    page = await browser.press(page, APPLY, why="the audit")
    assert page.status_code == 303, page.text
    page = await browser.get(page.headers["location"])
    assert "Version 1 is in force for everybody" in page.text
    assert "the audit" in page.text
    assert (await machine(hub)).json()["rules"][1]["name"] == "no-chat"


async def test_what_is_wrong_is_told_beside_the_file_and_changes_nothing(hub: Hub) -> None:
    browser = await signed_in(hub)
    page = await browser.get("/rules/edit")
    page = await browser.press(page, TRY, text=file(NO_CHAT.replace('"chat"', '"<b>fax"')))
    assert page.status_code == 422
    assert "unknown surface &#39;&lt;b&gt;fax&#39;" in page.text
    assert "surfaces = [&#34;&lt;b&gt;fax&#34;]" in page.text
    assert (await machine(hub)).json()["version"] == 0


async def test_somebody_elses_change_meanwhile_is_shown_and_nothing_is_undone(hub: Hub) -> None:
    browser = await signed_in(hub)
    page = await browser.press(await browser.get("/rules/edit"), TRY, text=file(NO_CHAT))
    await machine(hub, text=file(NO_CALLS), why="first")
    page = await browser.press(page, APPLY, why="second")
    assert page.status_code == 409
    assert "<ins>[rules.no-calls]</ins>" in page.text
    assert (await machine(hub)).json()["version"] == 1


async def test_an_earlier_version_is_brought_back(hub: Hub) -> None:
    await machine(hub, text=file(NO_CHAT), why="one")
    await machine(hub, text=file(NO_CHAT, NO_CALLS, on=1), why="two")
    browser = await signed_in(hub)
    page = await browser.get("/rules?version=2")
    assert "<ins>[rules.no-calls]</ins>" in page.text
    page = await browser.get("/rules/edit?revert_to=1")
    assert "it brings back version 1" in page.text
    page = await browser.press(page, APPLY, why="too much")
    assert page.status_code == 303
    found = (await machine(hub, "rules/history")).json()["versions"][0]
    assert (found["version"], found["by"], found["reverts_to"]) == (3, "pat", 1)


async def test_what_holds_and_one_rule_are_told_with_who_made_it_so(hub: Hub) -> None:
    await machine(hub, text=file(NO_CHAT, NO_CALLS), why="the audit")
    browser = await signed_in(hub)
    page = await browser.get("/rules?server=prod/presto&surface=chat&method=tools/call&groups=finance+ads-eng")
    assert "<strong>Refused</strong>" in page.text
    for name in ("no-chat", "no-calls"):
        assert f'<a href="/rules?rule={name}#rule">rule {name}</a>' in page.text
    page = await browser.get("/rules?rule=no-chat")
    assert "[rules.no-chat]" in page.text
    assert "operator" in page.text
    page = await browser.get("/rules?server=prod/nowhere")
    assert page.status_code == 404
    assert "no-calls" not in (await browser.get("/rules?find=no-chat")).text


@pytest.mark.parametrize("person", ["ana", "fay"])
async def test_the_pages_are_for_those_who_govern(hub: Hub, person: str) -> None:
    browser = await signed_in(hub, person)
    for path in ("/rules", "/rules/edit", "/rules/edit?revert_to=0"):
        assert (await browser.get(path)).status_code == 403
    assert 'href="/rules"' not in (await browser.get("/")).text


async def test_a_form_of_another_page_changes_nothing(hub: Hub) -> None:
    browser = await signed_in(hub)
    fields: dict[str, Any] = {"text": file(NO_CHAT), "why": "x", "on": "0", "form_token": "guessed"}
    assert (await browser.browser._send("POST", f"{URL}/rules/apply", fields)).status_code == 403
    assert (await machine(hub)).json()["version"] == 0


async def test_a_server_that_a_rule_closes_says_so_where_somebody_would_use_it(hub: Hub) -> None:
    closed = f'[rules.no-cli]\neffect = "deny"\nsurfaces = ["cli"]\nservers = ["prod/presto"]\n{ENDS}'
    tried = f'[rules.no-tries]\neffect = "deny"\nsurfaces = ["web"]\nmethods = ["tools/call"]\n{ENDS}'
    await machine(hub, text=file(closed, tried), why="one")
    browser = await signed_in(hub, "ana")
    assert "Rule no-cli refuses this: the audit, SEC-31" in (await browser.get("/?as=ana")).text
    page = await browser.get("/servers/prod/presto/tools?as=ana")
    assert "is refused by rule no-tries, which says: the audit, SEC-31" in page.text
