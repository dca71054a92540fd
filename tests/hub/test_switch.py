"""Stop and resume at the hub's doors: page, API, command's door; who may; what each door says to who is stopped."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx2
import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import SQLAlchemyError

from pegboard.core.stops import STOP_KINDS
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.registry import history
from pegboard_hub.stopping.model import stop_history, stop_orders
from pegboard_hub.stopping.service import MACHINE, Who
from tests.hub.company import OPERATOR, PRESTO, URL, Company, Hub, opened
from tests.hub.test_registry import edge_bundle, own_bundle
from tests.oauth import Browser, StockClient

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

WHY = 'it counts <b>"twice"</b>, 100 %'
SERVICE = "spiffe://example.org/reporting"

NAMES = {
    "tool": "prod/presto/run_query",
    "server": "prod/presto",
    "surface": "chat",
    "person": "ana",
    "client": "pegboard-cli",
    "service": SERVICE,
}
FIELDS = {"surface": "surfaces", "person": "people", "client": "clients", "service": "services"}


async def stop(
    hub: Hub, kind: str, name: str = "", person: str = "pat", why: str = WHY, **more: Any
) -> httpx2.Response:
    """Stop something by the API, as a person."""
    headers = {"Authorization": f"Bearer {await hub.token(person, 'ide' if kind == 'surface' else 'cli')}"}
    body = {"kind": kind, "name": name or NAMES[kind], "why": why, **more}
    return await hub.public.post("/api/v1/stops", json=body, headers=headers)


async def at_the_machine(hub: Hub, path: str = "", /, **body: str) -> httpx2.Response:
    """Ask at the internal door, as `pegboard stop --home` does."""
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    if not body:
        return await hub.internal.get("/internal/v1/stops", headers=headers)
    return await hub.internal.post(f"/internal/v1/stops{path}", json=body, headers=headers)


@pytest.mark.parametrize("kind", STOP_KINDS)
async def test_a_stop_and_its_end_stand_in_every_bundle(hub: Hub, company: Company, kind: str) -> None:
    answer = await stop(hub, kind)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert (told["kind"], told["name"], told["why"], told["by"]) == (kind, NAMES[kind], WHY, "pat")
    await hub.parts.registry.refresh()
    await hub.parts.registry._bundles.write(hub.parts.registry.current, time.time(), refresh=False)
    for bundle in (edge_bundle(company), own_bundle(company, "prod/presto")):
        server = next(each for each in bundle.servers if each.server == "prod/presto")
        found = {
            "tool": server.stopped_tools,
            "server": {server.server: server.stopped},
        }.get(kind) or getattr(bundle.stops, FIELDS.get(kind, "people"))
        assert WHY in found.values()
        assert server.open_tools == (("run_query",) if kind == "tool" else ())
    assert [each["kind"] for each in (await at_the_machine(hub)).json()["stops"]] == [kind]
    resumed = await at_the_machine(hub, "/resume", kind=kind, name=NAMES[kind], why="mended")
    assert resumed.status_code == 200, resumed.text
    await hub.parts.registry._bundles.write(hub.parts.registry.current, time.time(), refresh=False)
    bundle = own_bundle(company, "prod/presto")
    assert (bundle.servers[0].stopped, bundle.servers[0].stopped_tools) == ("", {})
    assert not any(bundle.stops.as_json().values())
    events = await hub.parts.stopping.history(MACHINE)
    assert [(each.action, each.by.sub, each.why) for each in events] == [
        ("resume", "operator", "mended"),
        ("stop", "pat", WHY),
    ]


async def test_the_history_of_stops_is_append_only(hub: Hub) -> None:
    await stop(hub, "person")
    for statement in (update(stop_history).values(why="another"), delete(stop_history)):
        with pytest.raises(SQLAlchemyError):
            async with hub.parts.database.write() as db:
                await db.execute(statement)
    await stop(hub, "server")
    async with hub.parts.database.read() as db:
        newest = (await history.entries(db, "prod/presto", limit=1))[0]
    assert (newest.action, newest.actor, newest.why, newest.fields["stopped"]) == ("stop", "pat", WHY, ("", WHY))


@pytest.mark.parametrize(("kind", "name"), [("person", "ana"), ("surface", "cli"), ("client", "pegboard-cli")])
async def test_api_and_token_endpoint_refuse_who_is_stopped_with_the_reason(hub: Hub, kind: str, name: str) -> None:
    before = await hub.token("ana")
    others = await hub.token("fay", "ide")
    await at_the_machine(hub, kind=kind, name=name, why=WHY)
    refused = await hub.public.get("/api/v1/whoami", headers={"Authorization": f"Bearer {before}"})
    assert (refused.status_code, refused.json()["error"]["reason"]) == (403, f"{kind}_stopped")
    assert WHY in refused.json()["error"]["message"]
    form = {
        "grant_type": "urn:pegboard:params:oauth:grant-type:demo-person",
        "person": "ana",
        "surface": "cli",
        "resource": PRESTO,
    }
    issued = await hub.public.post("/oauth/token", data=form)
    assert (issued.status_code, issued.json()["error"]) == (400, "access_denied")
    assert WHY in issued.json()["error_description"]
    assert (await hub.public.get("/api/v1/whoami", headers={"Authorization": f"Bearer {others}"})).status_code == 200
    await at_the_machine(hub, "/resume", kind=kind, name=name)
    assert (await hub.public.get("/api/v1/whoami", headers={"Authorization": f"Bearer {before}"})).status_code == 200
    assert (await hub.public.post("/oauth/token", data=form)).status_code == 200


async def test_a_stopped_person_finds_every_page_closed_and_the_reason_as_text(hub: Hub) -> None:
    browser = Browser("http://localhost:8400", hub.public)
    await browser.sign_in("ana")
    assert (await hub.public.get("/sessions")).status_code == 200
    await at_the_machine(hub, kind="person", name="ana", why=WHY)
    for path in ("/", "/servers", "/sessions", "/explain", "/stops", "/consent"):
        page = await hub.public.get(path, headers={"Accept": "text/html"})
        assert page.status_code == 403, path
        assert "it counts &lt;b&gt;" in page.text
        assert WHY not in page.text
    await at_the_machine(hub, "/resume", kind="person", name="ana")
    assert (await hub.public.get("/sessions")).status_code == 200


async def test_explain_and_access_check_say_that_and_why_a_caller_is_stopped(hub: Hub) -> None:
    await stop(hub, "person", "fay", person="pat")
    await stop(hub, "surface", "chat", person="pat")
    # sol, of security, may know why; ana, an owner of nothing, may not even ask.
    for asker, why in (("sol", WHY), ("pat", WHY)):
        answer = (await hub.api(asker, "explain", server="prod/presto", person="fay")).json()
        assert (answer["refusal"]["code"], answer["refusal"]["reason"]) == ("stopped", "person_stopped")
        step = next(each for each in answer["steps"] if each["rule"] == "person-stop")
        assert (step["outcome"], step["fact"]) == ("fails", f"stopped: {why}")
    told = await hub.api("ana", "explain", on="cli", server="prod/presto", surface="chat")
    assert told.json()["refusal"]["reason"] in ("surface_not_granted", "surface_stopped")


async def test_owners_stop_and_resume_their_own_and_not_what_operators_stopped(hub: Hub) -> None:
    stopping = hub.parts.stopping
    server = hub.parts.registry.current.servers["dev/scratch"]
    owner = Who.person("tess", (server.owner,))
    await stopping.stop(owner, "server", "dev/scratch", "a mistake")
    assert [each.name for each in await stopping.listed(owner)] == ["dev/scratch"]
    await stopping.stop(Who.person("pat", ("platform",)), "person", "ana", WHY)
    assert [each.name for each in await stopping.listed(owner)] == ["dev/scratch"]
    assert await stopping.history(owner) == []
    await stopping.resume(owner, "server", "dev/scratch")
    await stopping.stop(Who.person("sol", ("security",)), "tool", "dev/scratch/echo", "it leaks")
    for attempt in (
        stopping.resume(owner, "tool", "dev/scratch/echo"),
        stopping.stop(owner, "tool", "dev/scratch/echo", "mine"),
    ):
        with pytest.raises(Exception, match="The operators stopped it: it leaks"):
            await attempt
    assert hub.parts.registry.current.servers["dev/scratch"].stopped_tools == {"echo": "it leaks"}


async def test_a_file_that_says_nothing_of_it_does_not_undo_a_stop_and_its_own_stop_is_listed(
    hub: Hub, company: Company
) -> None:
    await stop(hub, "server")
    company.grants.write_text(company.grants.read_text() + "# saved again\n")
    await hub.parts.registry.refresh()
    assert hub.parts.registry.current.servers["prod/presto"].stopped == WHY
    text = company.grants.read_text().replace('[servers."dev/scratch"]', '[servers."dev/scratch"]\nstopped = "old"')
    company.grants.write_text(text)
    await hub.parts.registry.refresh()
    found = {each["name"]: each for each in (await at_the_machine(hub)).json()["stops"]}
    assert (found["dev/scratch"]["by"], found["dev/scratch"]["why"]) == ("grants file", "old")
    assert found["prod/presto"]["by"] == "pat"
    company.grants.write_text(text.replace('stopped = "old"\n', ""))
    await hub.parts.registry.refresh()
    assert [each["name"] for each in (await at_the_machine(hub)).json()["stops"]] == ["prod/presto"]


async def test_stops_outlive_a_restart_and_end_by_themselves_when_they_said_so(company: Company) -> None:
    soon = int(time.time() * 1000) + 3_600_000
    async with opened(company) as hub:
        for kind in STOP_KINDS:
            await hub.parts.stopping.stop(MACHINE, kind, NAMES[kind], WHY, soon)
    async with opened(company) as hub:
        assert hub.parts.stops.current.people == {"ana": WHY}
        await hub.parts.stopping.end_due()
        assert len((await at_the_machine(hub)).json()["stops"]) == len(STOP_KINDS)
        hub.parts.stopping._clock = lambda: time.time() + 3601
        await hub.parts.stopping.end_due()
        assert (await at_the_machine(hub)).json()["stops"] == []
        assert hub.parts.registry.current.servers["prod/presto"].stopped == ""
        events = await hub.parts.stopping.history(MACHINE)
        assert {each.by.sub for each in events if each.action == "resume"} == {"pegboard"}
        async with hub.parts.database.read() as db:
            assert (await db.execute(select(stop_orders))).all() == []


async def test_what_cannot_be_stopped_is_refused_with_the_field_that_is_to_blame(hub: Hub) -> None:
    for kind, name, more, status in (
        ("surface", "moon", {}, 422),
        ("service", "reporting", {}, 422),
        ("server", "presto", {}, 422),
        ("server", "prod/nowhere", {}, 403),
        ("tool", "prod/presto/no_such_tool", {}, 404),
        ("person", "ana", {"why": "two\nlines"}, 422),
        ("person", "ana", {"why": " . "}, 422),
        ("person", "ana", {"until": 1}, 422),
        ("person", SERVICE, {}, 422),
    ):
        answer = await stop(hub, kind, name, **more)
        assert answer.status_code == status, (kind, name, answer.text)
    assert (await at_the_machine(hub)).json() == {"stops": []}
    assert (await at_the_machine(hub, "/resume", kind="person", name="ana")).status_code == 404


async def test_an_operator_stops_on_the_page_and_resumes_only_shortly_after_signing_in(hub: Hub) -> None:
    browser = Browser("http://localhost:8400", hub.public)
    await browser.sign_in("pat")
    page = (await hub.public.get("/stops")).text
    assert "Nothing is stopped." in page

    async def send(page: str, action: str, **fields: str) -> httpx2.Response:
        form = page.partition(f'action="{action}"')[2]
        token = re.search(r'name="form_token" value="([^"]+)"', form)
        assert token, action
        headers = {"Origin": "http://localhost:8400"}
        return await hub.public.post(action, data={"form_token": token[1], **fields}, headers=headers)

    stopped = await send(page, "/stops/stop", kind="person", name="ana", why=WHY, ends="4")
    assert stopped.headers["location"] == "/stops?done=stopped"
    page = (await hub.public.get("/stops?done=stopped")).text
    assert "it counts &lt;b&gt;" in page
    wrong = await send(page, "/stops/stop", kind="surface", name="moon", why=WHY)
    assert wrong.status_code == 422
    assert "Unknown surface" in wrong.text
    resumed = await send(page, "/stops/resume", kind="person", name="ana")
    assert resumed.headers["location"] == "/stops?done=resumed"
    assert hub.parts.stops.current.people == {}


async def test_a_stop_uses_up_nothing_so_that_a_client_goes_on_after_the_resume(hub: Hub, company: Company) -> None:
    browser, client = Browser(URL, hub.public), StockClient(URL, hub.public)
    tokens = await client.connect(browser, "prod/presto", "ana")
    await at_the_machine(hub, kind="client", name=client.client_id, why=WHY)
    await hub.parts.registry._bundles.write(hub.parts.registry.current, time.time(), refresh=False)
    assert edge_bundle(company).stops.clients[client.client_id] == WHY
    for _ in range(2):
        refused = await client.refresh(tokens["refresh_token"])
        assert (refused.status_code, refused.json()["error"]) == (400, "access_denied")
        assert WHY in refused.json()["error_description"]
    assert (await at_the_machine(hub, "/resume", kind="client", name=client.client_id)).status_code == 200
    assert (await client.refresh(tokens["refresh_token"])).status_code == 200


@pytest.mark.parametrize("kind", ["person", "client"])
async def test_nobody_who_is_stopped_gets_a_code(hub: Hub, kind: str) -> None:
    browser, client = Browser(URL, hub.public), StockClient(URL, hub.public)
    await client.connect(browser, "prod/presto", "ana")
    await at_the_machine(hub, kind=kind, name="ana" if kind == "person" else client.client_id, why=WHY)
    answer = await browser.authorize(client.authorization("prod/presto"))
    assert "code=" not in answer
    assert "error=access_denied" in answer
    assert "twice" in answer


async def test_the_surface_web_closes_trying_tools_and_no_page(hub: Hub) -> None:
    await Browser(URL, hub.public).sign_in("pat")
    await at_the_machine(hub, kind="surface", name="web", why=WHY)
    page = await hub.public.get("/stops")
    assert page.status_code == 200
    (session,) = await hub.parts.identity.sessions.of("pat")
    with pytest.raises(OAuthRefused, match="Calls from here are stopped"):
        await hub.parts.identity.connections.token_of_ours(session, "pegboard-pages", "web", PRESTO, "tools:read")
