"""What security requires is no door for anybody else: no token lifts or loosens it, and no stranger learns of it.

Rules (design, Rules of trust and Contracts): what widens access wants a person who has just proved who they are, and
never a bearer token; deny by default; a server whose kit cannot ask does not run the tool; internals never leave.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from pegboard.core.approval import Requirement, State
from pegboard.core.required import effective_requirement
from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.identity.sessions.model import sessions
from pegboard_hub.requiring.errors import RequiringRefused
from pegboard_hub.requiring.service import MACHINE, Who
from tests.hub.approvals_rig import Asking, decide, seen, states
from tests.hub.company import OPERATOR, PRESTO, URL, Company, Hub, found_company, opened, presto, scratch
from tests.hub.test_registry import own_bundle
from tests.oauth import Browser

pytestmark = pytest.mark.anyio

TOOL = "prod/presto/run_query"
SECRET = "under investigation"
REQUIRED = "/api/v1/approvals/required"

MARKUP = [
    "<script>alert(1)</script>",
    '"}, "admin": {"x": "',
    "{{ frame }} {% include 'base.html' %}",
    "](javascript:alert(1))",
    "\\u0022 \\n \\",
]
"""Reasons that would be more than text somewhere."""

INJECTED = ["one\r\nset-cookie: a=b", "a\nb", "a\x00b", "a\u202eb", "a\u2028b", "x" * 201, " ", "...", ""]
"""Reasons that are none: they would end a line, hide something, or say nothing."""

NOBODY = [
    "",
    " ",
    "Security",
    "SECURITY",
    "security\u200b",
    "se\u0441urity",
    "a,b",
    "../owner",
    "*",
    "caller ",
    "x" * 33,
]
"""Groups that read like another one, or are none."""


@pytest.fixture
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    company = found_company(Path(tmp_path_factory.mktemp("r", numbered=True)))
    company.deploy("prod/presto", presto() | {"can_ask": True})
    company.deploy("dev/scratch", scratch(owner="finance") | {"can_ask": True})
    return company


@pytest.fixture
async def hub(company: Company) -> AsyncIterator[Hub]:
    async with opened(company) as found:
        yield found


async def send(hub: Hub, person: str, method: str, path: str, body: Any = None) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {await hub.token(person)}"}
    return await hub.public.request(method, path, json=body, headers=headers)


def standing(hub: Hub) -> list[tuple[str, str]]:
    """What is required, and of whom."""
    return [(each.name, each.requirement.by) for each in hub.parts.requiring.listed(MACHINE)]


@pytest.mark.parametrize("person", ["ana", "gus", "lea", "fay"])
async def test_nobody_requires_what_is_not_theirs(hub: Hub, person: str) -> None:
    answer = await send(hub, person, "POST", REQUIRED, {"tool": TOOL, "why": "mine"})
    assert answer.status_code == 403, answer.text
    other = await send(hub, person, "POST", REQUIRED, {"tool": "prod/none/at_all", "why": "mine"})
    assert answer.json()["error"]["reason"] == other.json()["error"]["reason"] == "not_yours"
    assert standing(hub) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", REQUIRED),
        ("DELETE", f"{REQUIRED}/{TOOL}"),
        ("POST", f"{REQUIRED}/lift"),
        ("POST", f"{REQUIRED}:lift"),
        ("PUT", REQUIRED),
        ("PATCH", REQUIRED),
        ("POST", "/servers/prod/presto/approvals/lift"),
        ("POST", "/internal/v1/approvals/required/lift"),
    ],
)
async def test_no_bearer_token_lifts_anything_not_even_an_operators(hub: Hub, method: str, path: str) -> None:
    await hub.parts.requiring.require(MACHINE, TOOL, "owner", "it leaks")
    for person in ("pat", "sol"):
        answer = await send(hub, person, method, path, {"tool": TOOL, "by": "caller", "why": "x"})
        assert answer.status_code in (303, 403, 404, 405), answer.text
    assert standing(hub) == [(TOOL, "owner")]


@pytest.mark.parametrize(
    "body",
    [
        {"by": "caller"},
        {"by": "owner", "own": True},
        {"by": "owner", "expires_s": 7 * 24 * 3600},
        {"by": "finance"},
        {"by": "platform"},
    ],
)
async def test_no_bearer_token_puts_somebody_in_place_of_whom_security_named(hub: Hub, body: dict[str, Any]) -> None:
    """An agent with security's own token could name its friends, or the caller that it acts for."""
    await hub.parts.requiring.require(MACHINE, TOOL, "owner", "it leaks")
    for person in ("sol", "pat"):
        answer = await send(hub, person, "POST", REQUIRED, {"tool": TOOL, "why": "x", **body})
        assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "widens"), answer.text
    assert standing(hub) == [(TOOL, "owner")]
    assert hub.parts.requiring.listed(MACHINE)[0].requirement.why == "it leaks"


async def test_no_bearer_token_puts_a_group_in_place_of_the_one_that_the_code_names(
    hub: Hub, company: Company
) -> None:
    """Of two groups the registry's holds: an agent with security's token could name one that its friends are in."""
    declared = presto() | {"can_ask": True}
    for always in (True, False):
        terms = {"by": "data-protection", "own": False, "expires_s": 900, "always": always}
        declared["tools"][0] = {**declared["tools"][0], "approval": terms}
        company.deploy("prod/presto", declared)
        await hub.parts.registry.refresh()
        answer = await send(hub, "sol", "POST", REQUIRED, {"tool": TOOL, "by": "finance", "why": "x"})
        assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "widens"), answer.text
    assert standing(hub) == []
    assert (await send(hub, "sol", "POST", REQUIRED, {"tool": TOOL, "by": "owner", "why": "x"})).status_code == 201


async def test_an_owner_ends_and_weakens_nothing_that_security_required(hub: Hub) -> None:
    await hub.parts.requiring.require(MACHINE, "dev/scratch/echo", "security", "it leaks")
    owner = Who.person("fay", ["finance"], proved=True)
    for by in ("caller", "owner"):
        with pytest.raises(RequiringRefused, match="Security or the operators require it"):
            await hub.parts.requiring.require(owner, "dev/scratch/echo", by, "mine")
    with pytest.raises(RequiringRefused, match="Security or the operators require it"):
        await hub.parts.requiring.lift(owner, "dev/scratch/echo")
    assert standing(hub) == [("dev/scratch/echo", "security")]


async def test_an_owner_puts_no_group_in_place_of_the_one_that_reviews_have_seen(hub: Hub) -> None:
    owner = Who.person("fay", ["finance"], proved=True)
    with pytest.raises(RequiringRefused, match="a group is for security and operators"):
        await hub.parts.requiring.require(owner, "dev/scratch/echo", "finance", "mine")
    reviewed = Requirement(by="data-protection")
    for by in ("caller", "owner"):
        held = effective_requirement(reviewed, Requirement(by=by, own=True, source="registry"))
        assert held is not None
        assert (held.by, held.own) == ("data-protection", False)


@pytest.mark.parametrize("by", NOBODY)
async def test_a_group_that_only_looks_like_one_is_none(hub: Hub, by: str) -> None:
    answer = await send(hub, "sol", "POST", REQUIRED, {"tool": TOOL, "why": "x", "by": by})
    assert answer.status_code == 422, answer.text
    assert standing(hub) == []


@pytest.mark.parametrize("why", INJECTED)
async def test_a_reason_that_hides_something_is_none(hub: Hub, why: str) -> None:
    answer = await send(hub, "sol", "POST", REQUIRED, {"tool": TOOL, "why": why})
    assert answer.status_code == 422, answer.text
    assert standing(hub) == []


@pytest.mark.parametrize("why", MARKUP)
async def test_a_reason_is_text_wherever_it_is_read(hub: Hub, company: Company, why: str) -> None:
    assert (await send(hub, "sol", "POST", REQUIRED, {"tool": TOOL, "why": why})).status_code == 201
    assert own_bundle(company, "prod/presto").servers[0].approvals["run_query"].why == why
    assert (await send(hub, "pat", "GET", REQUIRED)).json()["required"][0]["why"] == why
    asked = {"server": "prod/presto", "tool": "run_query", "as": "sol"}
    pages = [
        await hub.public.get("/servers/prod/presto/security", params={"as": "sol"}),
        await hub.public.get("/explain", params=asked),
    ]
    for page in pages:
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        if "<" in why or '"' in why:
            assert why not in page.text


async def test_a_token_is_no_operators_credential_at_the_internal_door(hub: Hub) -> None:
    await hub.parts.requiring.require(MACHINE, TOOL, "owner", "it leaks")
    token = await hub.token("pat")
    for credential in (f"Bearer {token}", "", "Bearer ", f"Basic {OPERATOR}"):
        headers = {"Authorization": credential} if credential else {}
        for path, body in (("", {"tool": TOOL, "by": "caller", "why": "x"}), ("/lift", {"tool": TOOL})):
            at = f"/internal/v1/approvals/required{path}"
            assert (await hub.internal.post(at, json=body, headers=headers)).status_code == 401
        for path in ("", "/history"):
            at = f"/internal/v1/approvals/required{path}"
            assert (await hub.internal.get(at, headers=headers)).status_code == 401
    assert standing(hub) == [(TOOL, "owner")]


async def test_a_token_for_a_server_requires_nothing(hub: Hub) -> None:
    headers = {"Authorization": f"Bearer {await hub.token('sol', resource=PRESTO)}"}
    answer = await hub.public.post(REQUIRED, json={"tool": TOOL, "why": "x"}, headers=headers)
    assert answer.status_code == 401, answer.text
    assert standing(hub) == []


async def test_a_cookie_without_a_recent_sign_in_or_a_form_of_elsewhere_lifts_nothing(hub: Hub) -> None:
    browser = Browser(URL, hub.public)
    await browser.sign_in("sol")
    await hub.parts.requiring.require(MACHINE, TOOL, "owner", "it leaks")
    path = "/servers/prod/presto/approvals/lift"
    page = (await hub.public.get("/servers/prod/presto/security")).text
    token = re.search(r'name="form_token" value="([^"]+)"', page.partition(f'action="{path}"')[2])
    assert token
    form = {"form_token": token[1], "tool": "run_query"}
    for headers in ({"Origin": "https://evil.example"}, {}):
        assert (await hub.public.post(path, data=form, headers=headers)).status_code == 403
    forged = {"form_token": "0" * len(token[1]), "tool": "run_query"}
    assert (await hub.public.post(path, data=forged, headers={"Origin": URL})).status_code == 403
    assert (await hub.public.get(path, params=form)).headers["location"] == "/servers/prod/presto/security"
    async with hub.parts.database.write() as db:
        await db.execute(update(sessions).values(authenticated_at_ms=sessions.c.authenticated_at_ms - 3_600_000))
    answer = await hub.public.post(path, data=form, headers={"Origin": URL})
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in")
    assert standing(hub) == [(TOOL, "owner")]


async def test_a_form_of_one_server_lifts_nothing_of_another(hub: Hub) -> None:
    """An owner's own page, sent to the address of somebody else's server."""
    await hub.parts.requiring.require(MACHINE, TOOL, "owner", "it leaks")
    browser = Browser(URL, hub.public)
    await browser.sign_in("fay")
    page = (await hub.public.get("/servers/dev/scratch/security")).text
    token = re.search(r'name="form_token" value="([^"]+)"', page.partition("/approvals/require")[2])
    assert token
    for path in ("/servers/prod/presto/approvals/lift", "/servers/prod/presto/approvals/require"):
        form = {"form_token": token[1], "tool": "run_query", "by": "caller", "why": "x", "expires_s": "3600"}
        assert (await hub.public.post(path, data=form, headers={"Origin": URL})).status_code == 403
    for tool in ("../presto/run_query", "echo/../../../prod/presto/run_query"):
        form = {"form_token": token[1], "tool": tool, "by": "caller", "why": "x", "expires_s": "3600"}
        answer = await hub.public.post("/servers/dev/scratch/approvals/require", data=form, headers={"Origin": URL})
        assert answer.status_code in (403, 422), answer.text
    assert standing(hub) == [(TOOL, "owner")]


@pytest.mark.parametrize("person", ["ana", "gus", "fay", "lea"])
async def test_strangers_learn_neither_reason_nor_tool(hub: Hub, person: str) -> None:
    """Of `get_revenue_metrics`, which is hidden from all but ana, whose call would tell them."""
    await hub.parts.requiring.require(MACHINE, "prod/presto/get_revenue_metrics", "owner", SECRET)
    assert (await send(hub, person, "GET", REQUIRED)).json() == {"required": []}
    assert (await send(hub, person, "GET", f"{REQUIRED}/history")).json() == {"events": []}
    asked = {"server": "prod/presto", "tool": "get_revenue_metrics"}
    hidden = (await hub.api(person, "explain", **asked)).text
    assert (SECRET in hidden) == (person == "ana")
    if person != "lea":  # a reviewer, who may know what was changed
        for path in ("servers/prod/presto/history", "servers/prod/presto"):
            assert SECRET not in (await hub.api(person, path)).text
        page = await hub.public.get("/servers/prod/presto/security", params={"as": person})
        assert SECRET not in page.text


async def test_a_page_shown_as_somebody_else_has_no_forms_of_theirs(hub: Hub) -> None:
    """`as=` shows a page; what is done on it is done as who is signed in."""
    browser = Browser(URL, hub.public)
    await browser.sign_in("ana")
    await hub.parts.requiring.require(MACHINE, TOOL, "owner", "it leaks")
    page = await hub.public.get("/servers/prod/presto/security", params={"as": "sol"})
    assert "Tools that always need an approval" in page.text
    assert "/approvals/lift" not in page.text
    answer = await hub.public.post(
        "/servers/prod/presto/approvals/lift?as=sol", data={"tool": "run_query"}, headers={"Origin": URL}
    )
    assert answer.status_code in (303, 403)
    assert standing(hub) == [(TOOL, "owner")]


async def test_a_release_of_an_older_kit_brings_no_requirement_to_an_end(hub: Hub, company: Company) -> None:
    """An author who builds with an older kit would have the tool run without asking."""
    await hub.parts.requiring.require(MACHINE, TOOL, "owner", "it leaks")
    company.deploy("prod/presto", presto())
    await hub.parts.registry.refresh()
    server = own_bundle(company, "prod/presto").servers[0]
    assert "run_query" in server.stopped_tools
    assert standing(hub) == [(TOOL, "owner")]


async def test_a_server_that_asks_for_less_than_security_requires_gets_no_less(hub: Hub, company: Company) -> None:
    """One whose bundle is a moment old, or that would rather have the caller say yes."""
    presto_asks = Asking.of(hub, company)
    await hub.parts.requiring.require(MACHINE, TOOL, "security", "it leaks")
    for less in (
        {"by": "caller"},
        {"by": "owner", "requirement": {"own": True}},
        {"by": "caller", "kind": "confirm"},
    ):
        answer = await presto_asks.ask("ana", {"sql": f"select {len(less)}"}, **less)
        assert (answer.claimed, answer.yours, answer.asks) == (False, False, "somebody of security")
        request = await seen(hub.parts.approvals, answer.actions[0].id)
        assert (request.kind, request.requirement.by, request.requirement.source) == (
            "approval",
            "security",
            "registry",
        )
        with pytest.raises(ApprovalRefused):
            await decide(hub.parts.approvals, "ana", request.id)


async def test_a_yes_from_before_is_none_for_what_security_requires_since(hub: Hub, company: Company) -> None:
    """The caller's own yes was good a moment ago, and is kept in hand until security asks for more."""
    presto_asks = Asking.of(hub, company)
    waiting = await presto_asks.ask("ana", by="caller")
    await decide(hub.parts.approvals, "ana", waiting.actions[0].id)
    await hub.parts.requiring.require(MACHINE, TOOL, "security", "it leaks")
    answer = await presto_asks.ask("ana", by="caller")
    assert answer.claimed is False
    assert answer.actions[0].id != waiting.actions[0].id
    assert states(answer) == [State.REQUESTED]
    # Lifting it brings no yes back for what was asked meanwhile, and none that was given is lost.
    await hub.parts.requiring.lift(MACHINE, TOOL)
    assert (await presto_asks.ask("ana", by="caller")).actions[0].id == waiting.actions[0].id
    assert (await seen(hub.parts.approvals, answer.actions[0].id)).state is State.REQUESTED


async def test_a_yes_in_security_s_terms_is_none_in_other_terms(hub: Hub, company: Company) -> None:
    """Whatever of the terms is another: who, whose own, for how long, or why."""
    presto_asks = Asking.of(hub, company)
    ids: set[str] = set()
    for changes in ({}, {"own": True}, {"expires_s": 60}, {"why": "another reason"}, {"by": "owner"}):
        terms = {"by": "security", "why": "it leaks"} | changes
        by, why = str(terms.pop("by")), str(terms.pop("why"))
        await hub.parts.requiring.require(MACHINE, TOOL, by, why, **terms)  # type: ignore[arg-type]
        answer = await presto_asks.ask("fay", by="caller")
        assert states(answer) == [State.REQUESTED]
        ids.add(answer.actions[0].id)
    assert len(ids) == 5
