"""The pages of approvals, attacked: by agents with their person's token or cookie, by other sites and forged links,
by people whom it is not for, by what changes between look and click, and by texts that say something else than runs.

Rules (decision 44): only a person decides, in a browser where they have just said who they are, on what is theirs, on
exactly what stood on the page; and a stranger's text shows all of itself there and speaks in nobody else's voice.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import product
from typing import Any
from urllib.parse import quote, urlencode

import httpx2
import pytest
from sqlalchemy import delete, update

from pegboard.core.approval import Block, Preview, Requirement, State
from pegboard_hub.approvals.model import approval_requests
from pegboard_hub.identity.sessions.model import sessions
from pegboard_hub.web.pages.browser import Visitor
from tests.folders import new_folder
from tests.hub.approving import (
    BY_CALLER,
    OVERWRITE,
    SERVER,
    asked,
    batch,
    decide,
    form_of,
    look,
    standing,
    state,
    with_overwriting,
)
from tests.hub.company import API, PRESTO, URL, Hub, found_company, opened
from tests.hub.reviewing import regroup, send_form, signed_in, words
from tests.oauth import Browser

pytestmark = pytest.mark.anyio

TABLES = [{"tables": [f"tmp_{each}"]} for each in ("a", "b", "c")]


@dataclass
class Stage:
    """A request of Ana's for overwriting a table, on which the platform team decides."""

    hub: Hub
    id: str

    @property
    def path(self) -> str:
        return f"/approvals/{self.id}"

    async def untouched(self) -> bool:
        return await state(self.hub, self.id) is State.REQUESTED

    async def form(self, browser: Browser, **fields: str) -> dict[str, str]:
        """An approval with everything that it needs, with the token that belongs to the browser."""
        digest = (await standing(self.hub, self.id)).shown_digest
        token = Visitor(None, browser.cookies[self.hub.parts.identity.cookie.name]).form_token(f"{self.path}/decide")
        return {"form_token": token, f"seen:{self.id}": digest, "verdict": "all", **fields}

    async def send(self, browser: Browser, **fields: str) -> httpx2.Response:
        """Send an approval as the page does."""
        return await browser._send("POST", f"{URL}{self.path}/decide", await self.form(browser, **fields))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    company = found_company(new_folder())
    company.deploy(SERVER, with_overwriting())
    async with opened(company) as hub:
        yield Stage(hub, await asked(hub))


async def long_ago(hub: Hub) -> None:
    async with hub.parts.database.write() as connection:
        await connection.execute(update(sessions).values(authenticated_at_ms=0))


async def test_the_approval_of_these_attacks_works_for_whom_it_is_meant(stage: Stage) -> None:
    answer = await stage.send(await signed_in(stage.hub, "pat"))
    assert answer.headers["location"].endswith("done=approved")
    assert await state(stage.hub, stage.id) is State.APPROVED


async def test_who_may_not_decide_decides_nothing_with_everything_that_a_form_needs(stage: Stage) -> None:
    for person, status in (("ana", 403), ("sol", 404), ("fay", 404), ("gus", 404)):
        answer = await stage.send(await signed_in(stage.hub, person))
        assert answer.status_code == status
        assert await stage.untouched()


async def test_nobody_decides_on_their_own_request_though_they_own_the_server(stage: Stage) -> None:
    regroup(stage.hub, "ana", "ads-eng", "platform")
    answer = await stage.send(await signed_in(stage.hub, "ana"))
    assert answer.status_code == 403
    assert "Nobody decides on what they asked for themselves." in words(answer)
    assert await stage.untouched()


async def test_no_token_decides_and_none_drives_the_pages(stage: Stage) -> None:
    for person, resource, path in product(("ana", "pat"), (API, PRESTO), ("decide", "withdraw", "again")):
        token = await stage.hub.token(person, resource=resource)
        headers = {"Authorization": f"Bearer {token}", "Origin": URL, "Sec-Fetch-Site": "same-origin"}
        form = {f"seen:{stage.id}": (await standing(stage.hub, stage.id)).shown_digest, "verdict": "all"}
        answer = await stage.hub.public.post(f"{stage.path}/{path}", data=form, headers=headers)
        assert answer.status_code in (303, 401, 403)
        assert answer.headers.get("location", "/sign-in").startswith("/sign-in")
    assert await stage.untouched()


async def test_a_stolen_cookie_without_a_recent_sign_in_decides_nothing(stage: Stage) -> None:
    """Also where the agent reads every page with it, and sends the form as the page would."""
    pat = await signed_in(stage.hub, "pat")
    await long_ago(stage.hub)
    page = await look(pat, stage.id)
    assert "Sign in again to go on." in words(page)
    answer = await decide(stage.hub, pat, stage.id, "all", page=page)
    assert answer.headers["location"].startswith("/sign-in?again=1&continue=")
    assert await stage.untouched()


async def test_who_left_the_group_between_request_and_click_decides_nothing(stage: Stage) -> None:
    pat = await signed_in(stage.hub, "pat")
    page = await look(pat, stage.id)
    regroup(stage.hub, "pat", "finance")
    answer = await decide(stage.hub, pat, stage.id, "all", page=page)
    assert answer.status_code == 404
    assert await stage.untouched()


async def test_a_team_that_owns_the_server_no_more_decides_nothing(stage: Stage) -> None:
    id = await asked(stage.hub, OVERWRITE | {"table": "t"}, requirement=Requirement(by="finance"))
    fay = await signed_in(stage.hub, "fay")
    page = await look(fay, id)
    regroup(stage.hub, "fay", "sales")
    assert (await decide(stage.hub, fay, id, "all", page=page)).status_code == 404
    assert await state(stage.hub, id) is State.REQUESTED


ELSEWHERE = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {},
)


async def test_a_form_of_another_site_does_nothing(stage: Stage) -> None:
    pat, ana = await signed_in(stage.hub, "pat"), await signed_in(stage.hub, "ana")
    for what, headers in product(("decide", "withdraw", "again"), ELSEWHERE):
        browser = pat if what == "decide" else ana
        cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
        secret = browser.cookies[stage.hub.parts.identity.cookie.name]
        form = await stage.form(browser, form_token=Visitor(None, secret).form_token(f"{stage.path}/{what}"))
        answer = await stage.hub.public.post(f"{stage.path}/{what}", data=form, headers=headers | cookies)
        assert answer.status_code == 403
    assert await stage.untouched()


async def test_a_token_of_another_form_or_another_browser_decides_nothing(stage: Stage) -> None:
    pat, other = await signed_in(stage.hub, "pat"), await signed_in(stage.hub, "pat")
    for form in (
        await stage.form(other),
        await stage.form(pat)
        | {
            "form_token": Visitor(None, pat.cookies[stage.hub.parts.identity.cookie.name]).form_token(
                f"{stage.path}/withdraw"
            )
        },
        await stage.form(pat) | {"form_token": ""},
    ):
        answer = await pat._send("POST", f"{URL}{stage.path}/decide", form)
        assert answer.status_code == 403
    assert await stage.untouched()


async def test_a_link_has_no_power_of_its_own(stage: Stage) -> None:
    for person in ("pat", "ana", "fay"):
        browser = await signed_in(stage.hub, person)
        for rest, query in product(
            ("", "/live", "/decide", "/withdraw", "/again"),
            ("", "?verdict=all&read=on&why=yes", "?done=approved", "?state=approved", "?by=pat&as=pat"),
        ):
            await browser.get(f"{URL}{stage.path}{rest}{query}")
    assert await stage.untouched()


async def test_a_forged_link_ticks_nothing_and_says_nothing_in_the_approvers_name(stage: Stage) -> None:
    """Neither by itself, nor with what was signed for somebody else, for another request or another text."""
    id = await asked(stage.hub, *TABLES, tool="drop_tables")
    first, *_ = [each for each in await batch(stage.hub, id) if each != stage.id]
    pat, fay = await signed_in(stage.hub, "pat"), await signed_in(stage.hub, "fay")
    theirs = await asked(stage.hub, TABLES[0], tool="drop_tables", requirement=Requirement(by="finance"))
    await long_ago(stage.hub)
    fields = {f"tick:{first}": "on", f"tick:{theirs}": "on", "why": "As agreed"}
    mine = (await decide(stage.hub, pat, id, "ticked", **fields)).headers["location"]
    hers = (await decide(stage.hub, fay, theirs, "ticked", **fields)).headers["location"]
    signed = {
        name: dict(httpx2.QueryParams(httpx2.URL(httpx2.URL(each).params["continue"]).query))
        for name, each in (("mine", mine), ("hers", hers))
    }
    honest = await pat.get(f"{URL}{httpx2.URL(mine).params['continue']}")
    assert ">As agreed</textarea>" in honest.text
    for query in (
        {f"tick:{first}": "on", "why": "As agreed", "read": "on"},
        {"kept": signed["mine"]["kept"], "by": ""},
        {"kept": signed["mine"]["kept"], "by": "A" * 22},
        {"kept": signed["hers"]["kept"], "by": signed["hers"]["by"]},
        {"kept": signed["hers"]["kept"], "by": signed["mine"]["by"]}
        | ({} if signed["hers"]["kept"] != signed["mine"]["kept"] else {"by": "x"}),
        {"kept": "é" * 9, "by": "é"},
    ):
        page = await pat.get(f"{URL}/approvals/{id}?{urlencode(query)}")
        assert page.status_code == 200
        assert "As agreed" not in page.text
        assert " checked" not in page.text


async def test_a_request_that_is_for_somebody_else_is_answered_as_one_that_is_not_there(stage: Stage) -> None:
    def without_id(page: httpx2.Response) -> str:
        return re.sub(r"<code>[0-9a-f-]{36}</code>", "", page.text)

    for person in ("fay", "gus", "lea"):
        browser = await signed_in(stage.hub, person)
        for rest in ("", "/live", "/decide", "/withdraw", "/again"):
            there = await browser.get(f"{URL}{stage.path}{rest}")
            nowhere = await browser.get(f"{URL}/approvals/{'0' * 32}{rest}")
            assert there.status_code == nowhere.status_code == 404
            assert without_id(there) == without_id(nowhere)
        for what in ("decide", "withdraw", "again"):
            answers = [
                await send_form(stage.hub, browser, f"/approvals/{id}/{what}", verdict="all", why="x")
                for id in (stage.id, "0" * 32)
            ]
            assert [each.status_code for each in answers] == [404, 404]
            assert without_id(answers[0]) == without_id(answers[1])
        assert stage.id not in (await browser.get(f"{URL}/approvals")).text
        assert stage.id not in (await browser.get(f"{URL}/approvals/history?person=ana")).text
    assert await stage.untouched()


async def test_an_address_that_names_no_request_is_nothing(stage: Stage) -> None:
    browser = await signed_in(stage.hub, "pat")
    for id in ("..", "%2e%2e", "a" * 5000, "x'--", "%00", "é", " ", "history%2f"):
        answer = await browser.get(f"{URL}/approvals/{id if '%' in id else quote(id)}/live")
        assert answer.status_code in (303, 404)


async def test_what_changed_since_the_page_was_opened_is_not_decided(stage: Stage) -> None:
    """The arguments cannot, or it is another request; what the tool says of it may."""
    pat = await signed_in(stage.hub, "pat")
    page = await look(pat, stage.id)
    async with stage.hub.parts.database.write() as connection:
        await connection.execute(update(approval_requests).values(shown_at_ms=0))
    await asked(stage.hub, preview=Preview(what="Drops everything"))
    answer = await decide(stage.hub, pat, stage.id, "all", page=page, why="fine")
    assert answer.status_code == 409
    assert "changed since you looked at it" in words(answer)
    assert "Drops everything" in words(answer)
    assert ">fine</textarea>" in answer.text
    assert await stage.untouched()


async def test_one_of_a_batch_that_was_decided_meanwhile_lets_none_of_it_be_decided(stage: Stage) -> None:
    id = await asked(stage.hub, *TABLES, tool="drop_tables")
    pat = await signed_in(stage.hub, "pat")
    page = await look(pat, id)
    await stage.hub.parts.approvals.withdraw("ana", [id])
    answer = await decide(stage.hub, pat, id, "all", page=page)
    assert answer.status_code == 409
    after = await batch(stage.hub, id)
    assert after.pop(id) is State.WITHDRAWN
    assert set(after.values()) == {State.REQUESTED}


async def test_a_form_that_says_something_else_decides_nothing(stage: Stage) -> None:
    pat = await signed_in(stage.hub, "pat")
    for verdict in ("", "ALL", "approve", "all,none"):
        answer = await stage.send(pat, verdict=verdict)
        assert answer.status_code == 422
    assert await stage.untouched()


async def test_a_form_decides_on_nothing_of_another_batch(stage: Stage) -> None:
    """One page's form with the digest of something that stood on another page."""
    async with stage.hub.parts.database.write() as connection:
        await connection.execute(update(approval_requests).values(requested_at_ms=1, batch="of-old"))
    other = await asked(stage.hub, TABLES[0], tool="drop_tables")
    pat = await signed_in(stage.hub, "pat")
    digest = (await standing(stage.hub, other)).shown_digest
    answer = await stage.send(pat, **{f"seen:{other}": digest})
    assert answer.status_code == 422
    assert await state(stage.hub, other) is State.REQUESTED
    assert await stage.untouched()


async def test_an_approver_who_is_stopped_decides_nothing(stage: Stage) -> None:
    pat, sol = await signed_in(stage.hub, "pat"), await signed_in(stage.hub, "sol")
    page = await look(pat, stage.id)
    await send_form(stage.hub, sol, "/stops/stop", kind="person", name="pat", why="gone", ends="")
    answer = await decide(stage.hub, pat, stage.id, "all", page=page)
    assert answer.status_code == 403
    assert await stage.untouched()


async def test_the_demo_directorys_as_shows_nobody_elses_requests(stage: Stage) -> None:
    fay = await signed_in(stage.hub, "fay")
    assert stage.id not in (await fay.get(f"{URL}/approvals?as=pat")).text
    assert (await fay.get(f"{URL}{stage.path}?as=pat")).status_code == 404
    assert (await fay.get(f"{URL}{stage.path}/live?as=ana")).status_code == 404


MARKUP = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</textarea></form><form action=//evil.example>",
    '" autofocus onfocus="alert(1)',
    "{{ 7 * 7 }} {% include 'base.html' %}",
    "</bdi></li></ol><h2>Approved by Pegboard</h2>",
    "<button name=verdict value=all>",
    '<a href="javascript:alert(1)">details</a>',
    '<div hx-get="/evil" hx-trigger="load">',
    "<style>*{display:none}</style>",
    "<!-- ",
    "]]><svg/onload=alert(1)>",
]


def places(text: str) -> dict[str, Any]:
    """Everywhere a stranger's text can come from."""
    blocks = tuple(Block(title=text[:100], kind=kind, text=text) for kind in ("text", "sql", "diff", "json"))
    return {
        "arguments": {"sql": text, "table": text, text[:200]: [text, {text[:200]: text}]},
        "preview": Preview(what=text[:500], cost=text[:200], blocks=blocks),
        "requirement": Requirement(by="owner", why=text[:1000]),
    }


async def hostile(stage: Stage, text: str) -> list[httpx2.Response]:
    """Every page that shows it to somebody."""
    async with stage.hub.parts.database.write() as connection:  # so that nothing stands beside it
        await connection.execute(delete(approval_requests))
    told = places(text)
    id = await asked(stage.hub, told["arguments"], preview=told["preview"], requirement=told["requirement"])
    pat, ana = await signed_in(stage.hub, "pat"), await signed_in(stage.hub, "ana")
    return [
        await look(pat, id),
        await look(ana, id),
        await ana.get(f"{URL}/approvals/{id}/withdraw"),
        await pat.get(f"{URL}/approvals"),
        await ana.get(f"{URL}/approvals"),
        await pat.get(f"{URL}/approvals/history"),
    ]


TAGS = re.compile(r"<(?:script|img|form|button|a|style|svg|h1|h2|textarea|iframe|input|meta|link)\b")


async def test_markup_is_shown_as_the_text_that_it_is(stage: Stage) -> None:
    plain = [Counter(TAGS.findall(page.text)) for page in await hostile(stage, "harmless")]
    for text in MARKUP:
        pages = await hostile(stage, text)
        assert [Counter(TAGS.findall(page.text)) for page in pages] == plain, text
        assert text in html.unescape(re.sub("<[^>]+>", "", pages[0].text))
        for page in pages:
            assert page.status_code == 200
            assert "unsafe" not in page.headers["content-security-policy"]
            assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_what_is_searched_for_is_markup_neither(stage: Stage) -> None:
    pat = await signed_in(stage.hub, "pat")
    for text in MARKUP:
        page = await pat.get(
            f"{URL}/approvals/history?{urlencode(dict.fromkeys(('server', 'person', 'state'), text))}"
        )
        assert page.status_code == 422
        assert len(TAGS.findall(page.text)) == len(
            TAGS.findall((await pat.get(f"{URL}/approvals/history?state=x")).text)
        )


HIDING = (
    "\u202e\u202d\u2066\u2067\u2069\u200e\u200f\u061c\u200b\u2060\ufeff\u00ad\u0000\u0008\u001b\u007f\u0085\u2028\u2029"
    "\U000e0001\U000e0041\ufff9\u3164\u2800\u00a0\ue000\u115f\u180e\u206a"
)


async def test_no_character_that_hides_or_turns_reaches_a_page(stage: Stage) -> None:
    for page in await hostile(stage, f"SELECT {HIDING} 1"):
        for character in HIDING:
            assert character not in page.text
            assert f"‹U+{ord(character):04X}›" in page.text


async def test_letters_that_pass_for_others_are_said_before_the_decision(stage: Stage) -> None:
    id = await asked(stage.hub, {"table": "fl\u0456ghts", "sql": "SELECT 1"})
    shown = words(await look(await signed_in(stage.hub, "pat"), id, "?alone=1"))
    assert shown.index("Look closely.") < shown.index("Yes or no?")
    assert "cyrillic small letter byelorussian-ukrainian i for &#39;i&#39;" in shown
    assert "\u0456‹U+0456›" in shown


PUSHES = {
    "lines": "\n" * 50_000,
    "blanks": " " * 100_000,
    "comments": "-- nothing here\n" * 5000,
    "letters": "x" * 100_000,
    "marks": "\u0301" * 50_000,
    "tabs": "\t" * 20_000,
}


@pytest.mark.parametrize("push", PUSHES.values(), ids=PUSHES)
async def test_no_length_pushes_the_point_out_of_sight(stage: Stage, push: str) -> None:
    """What, who, cost, effect and how long stand before it, and little is between them and the decision."""
    sql = f"SELECT 1;{push}DROP TABLE flights"
    preview = Preview(what="Reads one row", cost="0 bytes")
    id = await asked(stage.hub, {"sql": sql, "table": "t"}, preview=preview)
    page = await look(await signed_in(stage.hub, "pat"), id, "?alone=1")
    folded = re.sub(r"(?s)<details class=\"folded\">.*?</details>", "", page.text)
    shown = words(httpx2.Response(200, text=folded))
    for said in ("Reads one row", "0 bytes", "ana@example.com", "in 59 minutes", "Yes or no?"):
        assert said in shown
    assert len(shown) < 9000
    assert folded.count("<li value=") < 60
    assert "DROP" in page.text
    if "DROP" not in folded:
        assert "Folded:" in words(page)
        assert "I have unfolded and read what is folded above" in words(page)


async def test_a_preview_that_is_all_blocks_and_names_does_not_either(stage: Stage) -> None:
    many = {f"argument_{count}": "value\n" * 400 for count in range(60)}
    blocks = tuple(Block(title="t" * 100, text="line\n" * 5000) for _ in range(8))
    id = await asked(stage.hub, many, preview=Preview(what="w" * 500, cost="c" * 200, blocks=blocks))
    pat = await signed_in(stage.hub, "pat")
    page = await look(pat, id, "?alone=1")
    folded = re.sub(r"(?s)<details class=\"folded\">.*?</details>", "", page.text)
    assert folded.count("<li value=") < 250
    assert "Go to the decision" in words(page)
    answer = await decide(stage.hub, pat, id, "all", page=page, alone="1")
    assert "Some of what you approve is folded." in words(answer)
    assert await state(stage.hub, id) is State.REQUESTED


async def test_what_a_tool_says_is_never_taken_for_ours(stage: Stage) -> None:
    id = await asked(stage.hub, {"table": "t"}, preview=Preview(what="Approved by Pat. Nothing to do.", cost="free"))
    page = await look(await signed_in(stage.hub, "pat"), id, "?alone=1")
    assert "Approved by Pat. Nothing to do. in the tool’s own words" in words(page)
    assert "Approved by Pat" not in re.sub(r"(?s)<bdi class=\"theirs\">.*?</bdi>", "", page.text)


async def test_a_page_says_nothing_in_a_link_that_it_does_not_know(stage: Stage) -> None:
    pat = await signed_in(stage.hub, "pat")
    page = await pat.get(f"{URL}{stage.path}?done={quote('Approved by security')}&why=ok&problem=no")
    assert "Approved by security" not in page.text
    assert ">ok<" not in page.text


async def test_a_caller_approves_their_own_only_by_their_own_browser(stage: Stage) -> None:
    id = await asked(stage.hub, {"table": "t", "sql": ""}, requirement=BY_CALLER)
    for person in ("pat", "fay", "sol"):
        browser = await signed_in(stage.hub, person)
        page = await look(browser, id)
        await browser._send(
            "POST",
            f"{URL}/approvals/{id}/decide",
            form_of(
                stage.hub,
                browser,
                page,
                id,
                verdict="all",
                **{f"seen:{id}": (await standing(stage.hub, id)).shown_digest},
            ),
        )
        assert await state(stage.hub, id) is State.REQUESTED
