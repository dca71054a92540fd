"""The registry's pages, attacked: forms that nobody meant, texts that mean harm, tools that nobody may learn of.

Rules (decisions 22 and 32): a form counts only from our own page in the same browser; a stranger's text is text; what
a page hides its parts hide too; a try goes to the edge alone, and of a tool that is not listed nowhere.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.hub.company import URL, Company, Hub, found_company, opened, presto
from tests.hub.trying import Edge, answered, tried_in
from tests.oauth import Browser, forms_of

pytestmark = pytest.mark.anyio

TRY = "/servers/prod/presto/try"
PART = {"HX-Request": "true", "HX-Request-Type": "partial", "Accept": "text/html"}
TABS = ("", "/tools", "/connect", "/security", "/releases", "/history")

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% include 'who.html' %}",
    *(
        pytest.param(text, marks=pytest.mark.heavy)
        for text in (
            "' onmouseover='alert(1)",
            "</textarea><script>alert(1)</script>",
            "<div hx-get='/sign-out' hx-trigger='load'>x</div>",
            "javascript:alert(1)",
            "&lt;b&gt;",
        )
    ),
]


@pytest.fixture
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    root = Path(tmp_path_factory.mktemp("p", numbered=True))
    return found_company(root)


@pytest.fixture
async def hub(company: Company) -> AsyncIterator[Hub]:
    async with opened(company) as found:
        yield found


class _Lively(HTMLParser):
    """What of a page could run, load or lead astray, and is not ours."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        for name, value in given.items():
            if name.startswith("on") or name == "style":
                self.found.append(f"{tag} {name}")
            if name.startswith("hx-") and given.get("id") != "search":
                self.found.append(f"{tag} {name}")
            if name in ("href", "src", "action") and not re.match(r"/|#|https?://|vscode:|cursor:", value):
                self.found.append(f"{tag} {name}={value}")
        if tag in ("script", "img", "link") and not given.get("src", given.get("href", "")).startswith("/static/"):
            self.found.append(tag)
        if tag in ("iframe", "object", "style", "base"):
            self.found.append(tag)


def lively(page: str) -> list[str]:
    """What of a hostile text became markup, an attribute or an address."""
    parser = _Lively()
    parser.feed(page)
    return parser.found + (["49"] if "{{" not in page and ">49<" in page else [])


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_an_author_writes_is_text_on_every_page(company: Company, text: str) -> None:
    named = {"type": "object", "properties": {text: {"type": "string", "description": text, "default": text}}}
    schema: dict[str, Any] = named | {"required": [text], "title": text}
    declared = presto(title=text, description=text[:100], support_channel=text[:90])
    declared["tools"][0] |= {"title": text, "description": text, "input_schema": schema, "read_only": True}
    edge = Edge(
        lambda _: answered({"content": [{"type": "text", "text": text}], "structuredContent": [{text: text}]})
    )
    async with tried_in(company, edge, declared) as (hub, browser):
        pages = [await browser.get(f"{URL}/servers/prod/presto{tab}") for tab in TABS]
        pages += [
            await browser.get(f"{URL}{path}") for path in ("/", "/servers", "/teams/platform", "/history?as=pat")
        ]
        form = await browser.get(f"{URL}{TRY}?tool=run_query")
        pages += [form, await browser.press(form, "Call it", a0=text), await browser.press(form, "Call it", a0="")]
        pages.append(await hub.public.get("/servers", params={"as": "ana", "q": text[:60]}, headers=PART))
    for page in pages:
        assert page.status_code < 500, page.url
        assert lively(page.text) == [], page.url


async def test_characters_that_hide_or_turn_text_are_written_out(company: Company) -> None:
    hiding = "safe\u202eevil\u2066x\u200b"
    async with tried_in(company, Edge(lambda _: answered({"content": [{"type": "text", "text": hiding}]}))) as (_, b):
        form = await b.get(f"{URL}{TRY}?tool=run_query")
        page = (await b.press(form, "Call it", a0="x")).text
    assert "safe‹U+202E›evil‹U+2066›x‹U+200B›" in page
    assert "\u202e" not in page


SENT = {"tool": "run_query", "a0": "SELECT 1", "sure": "yes"}
NEW = {
    "namespace": "dev",
    "name": "planted",
    "description": "x",
    "owner": "ads-eng",
    "support_channel": "#x",
    "sensitivity": "public",
    "why": "because",
}
FROM_ELSEWHERE: dict[str, dict[str, str]] = {
    "another site": {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
    "a sibling": {"origin": "http://localhost:9999", "sec-fetch-site": "same-site"},
    "nowhere": {},
    "null": {"origin": "null"},
    "htmx of another site": {"origin": "https://evil.example", "HX-Request": "true"},
}


@pytest.mark.parametrize(
    ("path", "fields", "page"), [(TRY, SENT, f"{TRY}?tool=run_query"), ("/servers/new", NEW, "")]
)
@pytest.mark.parametrize("where", [*FROM_ELSEWHERE, "our own page, without the token", "with another form's token"])
async def test_a_form_that_nobody_meant_does_nothing(
    company: Company, where: str, path: str, fields: dict[str, str], page: str
) -> None:
    edge = Edge()
    async with tried_in(company, edge) as (hub, browser):
        shown = await browser.get(f"{URL}{page or path}")
        token = next(
            each["fields"]["form_token"] for each in forms_of(shown) if each["action"].partition("?")[0] == path
        )
        other = next(
            each["fields"]["form_token"]
            for each in forms_of(await browser.get(f"{URL}/sign-out"))
            if "form_token" in each["fields"]
        )
        ours = {"origin": URL, "sec-fetch-site": "same-origin"}
        tokens = {"our own page, without the token": "", "with another form's token": other}
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        headers = {"cookie": cookies, "accept": "text/html", **FROM_ELSEWHERE.get(where, ours)}
        sent = fields | {"form_token": tokens.get(where, token)}
        answer = await hub.public.post(path, data=sent, headers=headers)
        assert "dev/planted" not in hub.parts.registry.current.servers
    assert answer.status_code == 403
    assert edge.asked == []


async def posted(hub: Hub, browser: Browser, path: str, form: httpx2.Response, **fields: str) -> httpx2.Response:
    """The fields of the try form, with others beside them, sent to an address that it does not name."""
    kept = next(each["fields"] for each in forms_of(form) if each["action"].partition("?")[0] == TRY)
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    headers = {"cookie": cookies, "accept": "text/html", "origin": URL, "sec-fetch-site": "same-origin"}
    return await hub.public.post(path, data={**kept, **fields}, headers=headers)


@pytest.mark.parametrize("tool", ["get_revenue_metrics", "no_such_tool", "run_query/../x", "", "\u202e", "a" * 5000])
async def test_a_hidden_tool_is_tried_as_one_that_does_not_exist(company: Company, tool: str) -> None:
    edge = Edge()
    async with tried_in(company, edge, person="fay") as (hub, browser):
        form = await browser.get(f"{URL}{TRY}?tool=run_query")
        blank = await browser.get(f"{URL}{TRY}?tool={'no_such' if not tool.isalpha() else tool}")
        answer = await posted(hub, browser, f"{TRY}?tool={quote(tool)}", form, a0="x", sure="yes", tool=tool)
    assert answer.status_code == blank.status_code == 404
    words = "No such tool of prod/presto is here for you to try: it does not exist, or it is not open to you here."
    assert words in answer.text
    assert words in blank.text
    assert "get_revenue" not in answer.text
    assert edge.asked == []


@pytest.mark.parametrize(
    "path",
    [
        "/servers/prod%2F..%2F..%2Fx/presto/try",
        "/servers/prod/presto@evil.example/try",
        "/servers/127.0.0.1:80/x/try",
        "/servers/prod/http:%2F%2F169.254.169.254/try",
        "/servers/prod/presto%23/try",
        "/servers/prod/presto%0d%0aHost:%20evil/try",
    ],
)
async def test_a_try_leads_nowhere_but_to_a_registered_server(company: Company, path: str) -> None:
    edge = Edge()
    async with tried_in(company, edge) as (hub, browser):
        form = await browser.get(f"{URL}{TRY}?tool=run_query")
        answer = await posted(hub, browser, path, form, a0="x")
    assert answer.status_code in (403, 404, 405)
    assert edge.asked == []


async def test_what_a_field_says_cannot_become_a_header_or_another_argument(company: Company) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "x-mcp-header": "Zone"}}}
    declared = presto()
    declared["tools"][0] |= {"input_schema": schema, "read_only": True}
    edge = Edge()
    async with tried_in(company, edge, declared) as (_, browser):
        form = await browser.get(f"{URL}{TRY}?tool=run_query")
        await browser.press(form, "Call it", a0="a\r\nAuthorization: Bearer x", a1="more", arguments="{}")
    [asked] = edge.asked
    assert asked.headers.get_list("authorization")[0].startswith("Bearer ey")
    assert len(asked.headers.get_list("authorization")) == 1
    assert asked.headers["mcp-param-zone"].startswith("=?base64?")


@pytest.mark.parametrize("person", ["fay", "gus", ""])
async def test_a_hidden_tool_is_in_no_page_and_in_no_part_of_one(hub: Hub, person: str) -> None:
    paths = [f"/servers/prod/presto{tab}" for tab in TABS]
    paths += ["/", "/servers", "/servers?q=revenue", "/servers?sort=usage&q=get", "/teams/platform", "/history"]
    for path in paths:
        for headers in ({"Accept": "text/html"}, PART):
            page = await hub.public.get(path, params={"as": person}, headers=headers)
            assert "get_revenue" not in page.text, path
            assert "Revenue." not in page.text, path


async def test_a_part_of_a_page_is_guarded_as_the_page_is(company: Company) -> None:
    """Whoever is signed in nowhere gets neither; with the company's login `as` is refused for both."""
    async with tried_in(company, Edge()) as (hub, _):
        hub.public.cookies.clear()
        for path in ("/servers/new", f"{TRY}?tool=run_query", "/servers/dev/x/edit"):
            page = await hub.public.get(path, headers={"Accept": "text/html"})
            part = await hub.public.get(path, headers=PART)
            assert page.status_code == 303
            assert part.status_code == 401
            assert part.headers["hx-refresh"] == "true"
            assert part.text == ""


SCRIPTED = {
    "/servers": "script-src 'self'; connect-src 'self'",
    "/servers/prod/presto/connect": "script-src 'self'",
}


@pytest.mark.parametrize(
    "path",
    [
        *SCRIPTED,
        *(f"/servers/prod/presto{tab}" for tab in TABS),
        "/",
        "/teams",
        "/history",
        "/servers/new",
        TRY,
        "/sign-in",
    ],
)
async def test_scripts_run_on_the_two_pages_that_need_them_and_nowhere_else(hub: Hub, path: str) -> None:
    policy = (await hub.public.get(path, params={"as": "ana"}, headers={"Accept": "text/html"})).headers[
        "content-security-policy"
    ]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert ("script-src" in policy) is (path in SCRIPTED)
    assert SCRIPTED.get(path, "frame-ancestors 'none'") in policy


async def test_no_page_has_a_style_or_a_handler_of_its_own(company: Company) -> None:
    async with tried_in(company, Edge()) as (_, browser):
        paths = [f"/servers/prod/presto{tab}" for tab in TABS]
        for path in [*paths, "/", "/servers", "/teams", "/history", "/servers/new", f"{TRY}?tool=run_query"]:
            assert lively((await browser.get(URL + path)).text) == [], path


@pytest.mark.parametrize("name", ["a" * 32, "x1-" * 10 + "y"])
async def test_long_names_and_two_hundred_tools_are_shown_whole(company: Company, name: str) -> None:
    declared = presto(name=name, description="d" * 100, support_channel="#" + "c" * 60)
    tools = [{"name": f"tool_{n:03}_" + "x" * 55, "description": "y" * 3000, "policy": "granted"} for n in range(200)]
    company.deploy(
        f"prod/{name}", declared | {"tools": tools, "policies": {"granted": "permit(principal,action,resource);"}}
    )
    entry = f'[servers."prod/{name}"]\nsource = "x"\ngroups = ["ads-eng"]\nsurfaces = ["cli"]\nreleases = "any"\n'
    company.grants.write_text(company.grants.read_text() + entry)
    async with opened(company) as hub:
        page = await hub.public.get(f"/servers/prod/{name}/tools", params={"as": "ana"})
        browse = await hub.public.get("/servers", params={"as": "ana", "q": "tool_1"})
    assert page.text.count('class="card tool"') == 200
    assert len(page.text) < 2_000_000
    assert "and 94 more" in browse.text or "and 194 more" in browse.text


async def test_a_planted_session_cookie_tries_nothing(company: Company) -> None:
    edge = Edge()
    async with tried_in(company, edge) as (hub, browser):
        [name] = [name for name in browser.cookies if not name.endswith("_form")]
        form = await browser.get(f"{URL}{TRY}?tool=run_query")
        fields = next(each["fields"] for each in forms_of(form) if each["action"].partition("?")[0] == TRY)
        planted = Browser(URL, hub.public, {name: "planted"})
        answer = await planted.press(form, "Call it", **fields)
    assert answer.status_code in (303, 403)
    assert edge.asked == []


async def test_why_a_release_cannot_be_started_is_told_to_those_who_look_after_the_server(
    hub: Hub, company: Company
) -> None:
    """It is the machine's own word, and can name a tool that is hidden, or a file."""
    fault = "is NOT started: tool get_revenue_metrics: see /srv/pegboard/logs/presto.log"
    servers = {"prod/presto": "presto"}
    told = {"at": time.time(), "isolation": {"mode": "user"}, "servers": servers, "faults": {"prod/presto": fault}}
    company.report(**told)
    for person, knows in (("pat", True), ("fay", False), ("gus", False)):
        for path in ("/", "/servers/prod/presto", "/servers/prod/presto/tools", "/servers", "/teams/platform"):
            page = (await hub.public.get(path, params={"as": person})).text
            assert ("/srv/pegboard" in page) is (knows and path not in ("/servers", "/teams/platform")), path
            assert "failed" in page
