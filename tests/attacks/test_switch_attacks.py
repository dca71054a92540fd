"""The switch is not a weapon, not a way back in, and not a list of who is in trouble.

Rules (design, Rules of trust and Contracts): deny by default; what widens access wants a person who has just proved
who they are, never a bearer token; a hidden tool answers as one that does not exist; internals never leave.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from pegboard.core.caller import Caller
from pegboard.core.stops import STOP_KINDS
from pegboard_hub.identity.sessions.model import sessions
from pegboard_hub.stopping.service import MACHINE
from pegboard_hub.web.questions import Question
from pegboard_hub.web.questions import answer as answered
from tests.hub.company import OPERATOR, PRESTO, URL, Company, Hub, found_company, opened
from tests.oauth import Browser

pytestmark = pytest.mark.anyio

SERVICE = "spiffe://example.org/reporting"
NAMES = {
    "tool": "prod/presto/run_query",
    "server": "prod/presto",
    "surface": "chat",
    "person": "fay",
    "client": "pegboard-ide",
    "service": SERVICE,
}
SECRET = "under investigation"

MARKUP = [
    "<script>alert(1)</script>",
    '"}, "admin": {"x": "',
    "%REQ(authorization)% %DYNAMIC_METADATA(envoy.filters.http.jwt_authn:claims)%",
    "{{ frame }} {% include 'base.html' %}",
    "\\u0022 \\n \\",
    "~going",
]
"""Reasons that would be more than text somewhere."""

INJECTED = ["one\r\nset-cookie: a=b", "a\nb", "a\x00b", "a\u202eb", "a\u2028b", "x" * 201, " ", "...", ""]
"""Reasons that are none: they would end a header or a line, hide something, or say nothing."""


@pytest.fixture
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    return found_company(Path(tmp_path_factory.mktemp("s", numbered=True)))


@pytest.fixture
async def hub(company: Company) -> AsyncIterator[Hub]:
    async with opened(company) as found:
        yield found


async def send(hub: Hub, person: str, method: str, path: str, body: Any = None) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {await hub.token(person)}"}
    return await hub.public.request(method, path, json=body, headers=headers)


@pytest.mark.parametrize("person", ["ana", "gus", "lea"])
async def test_nobody_stops_what_is_not_theirs(hub: Hub, person: str) -> None:
    for kind in STOP_KINDS:
        answer = await send(hub, person, "POST", "/api/v1/stops", {"kind": kind, "name": NAMES[kind], "why": "mine"})
        assert answer.status_code == 403, answer.text
    assert await hub.parts.stopping.listed(MACHINE) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/v1/stops"),
        ("DELETE", "/api/v1/stops/{kind}/{name}"),
        ("POST", "/api/v1/stops/resume"),
        ("POST", "/api/v1/stops:resume"),
        ("PUT", "/api/v1/stops"),
        ("PATCH", "/api/v1/stops"),
        ("POST", "/stops/resume"),
        ("POST", "/internal/v1/stops/resume"),
    ],
)
async def test_no_bearer_token_resumes_anything_not_even_an_operators(hub: Hub, method: str, path: str) -> None:
    for kind in STOP_KINDS:
        await hub.parts.stopping.stop(MACHINE, kind, NAMES[kind], "it leaks")
        body = {"kind": kind, "name": NAMES[kind]}
        answer = await send(hub, "pat", method, path.format(**body), body)
        assert answer.status_code in (303, 403, 404, 405), answer.text
    assert {stop.kind for stop in await hub.parts.stopping.listed(MACHINE)} == set(STOP_KINDS)


async def test_a_token_is_no_operators_credential_at_the_internal_door(hub: Hub) -> None:
    token = await hub.token("pat")
    for credential in (f"Bearer {token}", "", "Bearer ", f"Basic {OPERATOR}"):
        for path in ("", "/resume"):
            body = {"kind": "person", "name": "ana", "why": "x"}
            headers = {"Authorization": credential} if credential else {}
            answer = await hub.internal.post(f"/internal/v1/stops{path}", json=body, headers=headers)
            assert answer.status_code == 401


async def test_a_sign_in_of_long_ago_stops_and_does_not_resume(hub: Hub) -> None:
    browser = Browser(URL, hub.public)
    await browser.sign_in("pat")
    await hub.parts.stopping.stop(MACHINE, "person", "fay", "it leaks")
    page = (await hub.public.get("/stops")).text
    token = re.search(r'name="form_token" value="([^"]+)"', page.partition('action="/stops/resume"')[2])
    assert token
    form = {"form_token": token[1], "kind": "person", "name": "fay"}
    for headers in ({"Origin": "https://evil.example"}, {}):
        assert (await hub.public.post("/stops/resume", data=form, headers=headers)).status_code == 403
    async with hub.parts.database.write() as db:
        await db.execute(update(sessions).values(authenticated_at_ms=sessions.c.authenticated_at_ms - 3_600_000))
    answer = await hub.public.post("/stops/resume", data=form, headers={"Origin": URL})
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in")
    assert hub.parts.stops.current.people == {"fay": "it leaks"}


@pytest.mark.parametrize("person", ["ana", "gus", "lea", "fay"])
async def test_strangers_learn_nobodys_name_and_no_reason(hub: Hub, person: str) -> None:
    for kind in STOP_KINDS:
        if NAMES[kind] != person:
            await hub.parts.stopping.stop(MACHINE, kind, "sam" if kind == "person" else NAMES[kind], SECRET)
    answer = await send(hub, person, "GET", "/api/v1/stops")
    assert answer.json() == {"stops": []}
    browser = Browser(URL, hub.public)
    await browser.sign_in(person)
    page = await hub.public.get("/stops", headers={"accept": "text/html"})
    assert page.status_code == 403
    assert SECRET not in page.text
    assert "sam" not in page.text


async def test_an_owner_who_asks_about_somebody_learns_that_they_are_stopped_and_not_why(hub: Hub) -> None:
    server = hub.parts.registry.current.servers["dev/scratch"]
    await hub.parts.stopping.stop(MACHINE, "person", "sam", SECRET)
    owner = Caller("tess", "person", (server.owner,), "cli", "pegboard-cli", "", 0, "t")
    found = await answered(hub.parts, owner, Question("dev/scratch", person="sam"))
    assert found.decision.refusal is not None
    assert found.decision.refusal.reason == "person_stopped"
    assert SECRET not in repr(found.decision)


@pytest.mark.parametrize("why", INJECTED)
async def test_a_reason_is_one_line_of_text_or_none(hub: Hub, why: str) -> None:
    for kind in STOP_KINDS:
        answer = await send(hub, "pat", "POST", "/api/v1/stops", {"kind": kind, "name": NAMES[kind], "why": why})
        assert answer.status_code == 422, answer.text
    assert await hub.parts.stopping.listed(MACHINE) == []


@pytest.mark.parametrize("why", MARKUP)
async def test_a_reason_is_text_on_every_page(hub: Hub, why: str) -> None:
    await hub.parts.stopping.stop(MACHINE, "person", "fay", why)
    browser = Browser(URL, hub.public)
    await browser.sign_in("pat")
    page = (await hub.public.get("/stops")).text
    assert "<script>alert" not in page
    await browser.sign_in("fay")
    assert "<script>alert" not in (await hub.public.get("/", headers={"accept": "text/html"})).text


async def test_a_person_whose_e_mail_address_is_anothers_id_is_not_stopped_in_their_place(hub: Hub) -> None:
    browser = Browser(URL, hub.public)
    await browser.sign_in("fay")
    async with hub.parts.database.write() as db:
        await db.execute(update(sessions).values(email="ana"))
    await browser.sign_in("ana")
    stop = await hub.parts.stopping.stop(MACHINE, "person", "ana", "it leaks")
    assert stop.name == "ana"
    assert set(hub.parts.stops.current.people) == {"ana"}


async def test_who_stopped_themselves_out_is_resumed_at_the_machine_and_by_no_one_they_became(hub: Hub) -> None:
    await hub.parts.stopping.stop(MACHINE, "person", "pat", "a mistake")
    for surface in ("cli", "chat", "ide"):
        form = {
            "grant_type": "urn:pegboard:params:oauth:grant-type:demo-person",
            "person": "pat",
            "surface": surface,
            "resource": PRESTO,
        }
        assert (await hub.public.post("/oauth/token", data=form)).json()["error"] == "access_denied"
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    body = {"kind": "person", "name": "pat"}
    assert (await hub.internal.post("/internal/v1/stops/resume", json=body, headers=headers)).status_code == 200
    assert (await hub.public.post("/oauth/token", data=form)).status_code == 200
