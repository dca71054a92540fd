"""Approvals that the registry requires, at the hub's doors: who may, what each says, and what servers are told."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from pegboard.core.approval import Requirement
from pegboard_hub.identity.sessions.model import sessions
from pegboard_hub.registry import history
from pegboard_hub.registry.model import CANNOT_ASK
from pegboard_hub.registry.tables import approval_requirements
from pegboard_hub.requiring.service import MACHINE
from tests.hub.company import OPERATOR, URL, Company, Hub, found_company, opened, plain, presto, scratch
from tests.hub.test_registry import edge_bundle, own_bundle, rows
from tests.oauth import Browser

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

TOOL = "prod/presto/run_query"
WHY = 'it counts <b>"twice"</b>, 100 %'
ASKED = "its owners, platform, and not by whoever asks"


@pytest.fixture
def company(company: Company) -> Company:
    """The company, its releases built with a kit that can ask."""
    company.deploy("prod/presto", presto() | {"can_ask": True})
    company.deploy("dev/scratch", scratch() | {"can_ask": True})
    return company


async def require(hub: Hub, person: str = "sol", tool: str = TOOL, why: str = WHY, **more: Any) -> httpx2.Response:
    """Require an approval by the API, as a person."""
    headers = {"Authorization": f"Bearer {await hub.token(person)}"}
    return await hub.public.post(
        "/api/v1/approvals/required", json={"tool": tool, "why": why, **more}, headers=headers
    )


async def at_the_machine(hub: Hub, path: str = "", /, **body: Any) -> httpx2.Response:
    """Ask at the internal door, as `pegboard approvals … --home` does."""
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    at = f"/internal/v1/approvals/required{path}"
    return await (
        hub.internal.post(at, json=body, headers=headers) if body else hub.internal.get(at, headers=headers)
    )


async def test_what_is_required_stands_in_the_servers_bundle_at_once_and_not_in_the_edges(
    hub: Hub, company: Company
) -> None:
    edge, before = edge_bundle(company), own_bundle(company, "prod/presto")
    others = own_bundle(company, "dev/scratch")
    answer = await require(hub)
    assert answer.status_code == 201, answer.text
    own = own_bundle(company, "prod/presto")
    assert own.version > before.version
    assert own.servers[0].approvals == {"run_query": Requirement(by="owner", source="registry", why=WHY)}
    assert own.servers[0].stopped_tools == {}
    # The edge asks nobody, and one of an older version would refuse a bundle with a key that it does not know.
    assert edge_bundle(company) == edge
    assert own_bundle(company, "dev/scratch") == others
    lifted = await at_the_machine(hub, "/lift", tool=TOOL, why="mended")
    assert lifted.status_code == 200, lifted.text
    assert own_bundle(company, "prod/presto").servers == before.servers
    assert await rows(hub, approval_requirements) == []


async def test_a_release_that_cannot_ask_has_the_tool_stopped_at_both_layers(hub: Hub, company: Company) -> None:
    company.deploy("prod/presto", presto())
    await hub.parts.registry.refresh()
    told = (await require(hub)).json()
    assert told["notes"][-1] == f"The tool is stopped meanwhile: {CANNOT_ASK}."
    for bundle in (edge_bundle(company), own_bundle(company, "prod/presto")):
        server = next(each for each in bundle.servers if each.server == "prod/presto")
        assert server.stopped_tools == {"run_query": CANNOT_ASK}
        assert server.open_tools == ("run_query",)
        assert "approvals" not in server.model_dump(mode="json")
    explained = (await hub.api("ana", "explain", server="prod/presto", tool="run_query")).json()
    assert (explained["allowed"], explained["refusal"]["reason"]) == (False, "tool_stopped")
    company.deploy("prod/presto", presto() | {"can_ask": True})
    await hub.parts.registry.refresh()
    server = own_bundle(company, "prod/presto").servers[0]
    assert (server.stopped_tools, list(server.approvals)) == ({}, ["run_query"])


async def test_a_release_built_anew_with_a_kit_that_asks_waits_for_no_review_and_one_that_asks_for_less_does(
    tmp_path: Path,
) -> None:
    company = found_company(tmp_path, reviewed=True)
    async with opened(company) as hub:

        async def deployed(declaration: dict[str, Any]) -> bool:
            digest = company.deploy("prod/presto", declaration)
            await hub.parts.registry.refresh()
            found = hub.parts.registry.current.servers["prod/presto"]
            return found.release is not None and found.release.digest == digest and found.waiting is None

        assert await deployed(presto() | {"can_ask": True})
        assert not await deployed(asking())
    company = found_company(tmp_path / "asking", reviewed=True)
    company.deploy("prod/presto", asking())
    async with opened(company) as hub:
        assert await deployed(asking())
        assert not await deployed(asking(always=False))


async def test_what_is_required_outlives_a_restart_of_the_hub(company: Company) -> None:
    async with opened(company) as hub:
        await require(hub, by="security", own=True, expires_s=900)
    async with opened(company) as hub:
        found = hub.parts.registry.current.servers["prod/presto"].approvals["run_query"]
        assert found.requirement == Requirement(by="security", own=True, expires_s=900, source="registry", why=WHY)
        assert (found.actor, found.actor_kind, found.role) == ("sol", "person", "operator")


async def test_the_history_says_who_required_and_lifted_what_and_why(hub: Hub) -> None:
    await require(hub)
    await require(hub, why="another reason", expires_s=60)
    await at_the_machine(hub, "/lift", tool=TOOL, why="mended")
    events = (await at_the_machine(hub, "/history")).json()["events"]
    assert [(each["action"], each["by"], each["why"]) for each in events] == [
        ("lift", "operator", "mended"),
        ("require", "sol", "another reason"),
        ("require", "sol", WHY),
    ]
    terms = {"by": "owner", "own": False, "expires_s": 60, "why": "another reason"}
    assert (events[0]["before"], events[0]["after"]) == (terms, None)
    assert events[1]["before"]["expires_s"] == 3600
    assert (await hub.api("pat", "approvals/required/history")).json()["events"] == events
    async with hub.parts.database.read() as db:
        newest = (await history.entries(db, "prod/presto", limit=1))[0]
    assert (newest.action, newest.actor_kind, list(newest.fields)) == ("lift approval", "operator", ["approvals"])
    told = plain((await hub.public.get(f"/history/{newest.seq}", params={"as": "sol"})).text)
    assert "Tools that need an approval" in told
    assert "run_query: by owner, own false, expires s 60, why another reason, role operator" in told
    assert "another reason" not in (await hub.public.get(f"/history/{newest.seq}", params={"as": "ana"})).text


async def test_to_require_the_same_again_changes_nothing(hub: Hub, company: Company) -> None:
    await require(hub)
    before = own_bundle(company, "prod/presto")
    again = await require(hub)
    assert again.status_code == 201
    assert own_bundle(company, "prod/presto") == before
    assert len((await at_the_machine(hub, "/history")).json()["events"]) == 1


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"tool": "prod/presto/no_such"}, 404, "unknown"),
        ({"tool": "prod/none/run_query"}, 403, "not_yours"),
        ({"tool": "prod/presto"}, 422, "invalid"),
        ({"by": "Nobody at all"}, 422, "invalid"),
        ({"why": "two\nlines"}, 422, "invalid"),
        ({"why": " . "}, 422, "invalid"),
        ({"expires_s": 59}, 422, "invalid_request"),
        ({"own": "maybe"}, 422, "invalid_request"),
        ({"for": "ever"}, 422, "invalid_request"),
    ],
)
async def test_what_cannot_be_required_is_refused_with_the_field(
    hub: Hub, body: dict[str, Any], status: int, reason: str
) -> None:
    answer = await require(hub, **body)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (status, reason)
    assert hub.parts.requiring.listed(MACHINE) == []


async def test_operators_security_and_owners_see_what_is_required_and_nobody_else(hub: Hub) -> None:
    await require(hub)
    for person, there in (("sol", 1), ("pat", 1), ("ana", 0), ("fay", 0), ("lea", 0)):
        found = (await hub.api(person, "approvals/required")).json()["required"]
        assert len(found) == there, person
        events = (await hub.api(person, "approvals/required/history", server="prod/presto")).json()["events"]
        assert len(events) == there, person
    entry = (await hub.api("pat", "approvals/required", server="prod/presto")).json()["required"][0]
    assert entry.pop("since") > time.time() * 1000 - 60_000
    assert entry == {
        "tool": TOOL,
        "by": "owner",
        "own": False,
        "expires_s": 3600,
        "why": WHY,
        "asked": ASKED,
        "required_by": "sol",
        "notes": ["pat alone is in platform, and cannot approve what they ask for themselves."],
    }
    assert (await hub.api("pat", "approvals/required", server="dev/scratch")).json() == {"required": []}


@pytest.mark.parametrize(
    ("by", "note"),
    [
        ("data-protection", "Nobody is in data-protection, so every call waits until it expires."),
        ("owner", "Nobody is in tools-team, so every call waits until it expires."),
        ("caller", ""),
    ],
)
async def test_a_requirement_that_nobody_can_meet_says_so(hub: Hub, by: str, note: str) -> None:
    told = (await require(hub, tool="dev/scratch/echo", by=by)).json()
    assert told["notes"] == ([note] if note else [])


async def test_a_tool_that_a_later_release_lacks_is_still_required_and_that_is_said(
    hub: Hub, company: Company
) -> None:
    await require(hub, by="caller", tool="prod/presto/get_revenue_metrics")
    declared = presto() | {"can_ask": True}
    company.deploy("prod/presto", declared | {"tools": declared["tools"][:1]})
    await hub.parts.registry.refresh()
    entry = (await at_the_machine(hub)).json()["required"][0]
    lacks = "prod/presto has no tool get_revenue_metrics now: it holds for the next release that has one."
    assert entry["notes"] == [lacks]


async def test_explain_and_access_check_say_that_a_call_waits_and_for_whom(hub: Hub) -> None:
    quiet = (await hub.api("ana", "explain", server="prod/presto", tool="run_query")).json()
    assert (quiet["approvals"], quiet["steps"][-1]["outcome"]) == ([], "holds")
    await require(hub)
    answer = (await hub.api("ana", "explain", server="prod/presto", tool="run_query")).json()
    assert answer["allowed"] is True
    last = answer["steps"][-1]
    assert (last["rule"], last["layer"], last["outcome"]) == ("tool:approval", "server", "depends")
    assert last["fact"] == f"every call waits until it is approved by {ASKED}: {WHY}"
    assert last["source"] == "the registry"
    (needed,) = answer["approvals"]
    assert (needed["by"], needed["always"], needed["source"], needed["asked"]) == ("owner", True, "registry", ASKED)
    checked = (await hub.check("ana", {"server": "prod/presto", "tool": "run_query"})).json()
    assert (checked["allowed"], checked["approvals"]) == (True, [needed])
    # Who may not call it at all is told nothing of what is behind the refusal.
    hidden = await hub.api("lea", "explain", server="prod/presto", tool="run_query")
    assert hidden.json()["approvals"] == []
    assert WHY not in hidden.text


async def test_the_page_that_explains_says_that_a_call_waits(hub: Hub) -> None:
    await require(hub)
    page = (await hub.public.get("/explain", params={"server": "prod/presto", "tool": "run_query", "as": "ana"})).text
    assert "Allowed, once it is approved." in page
    assert f"Every call waits until it is approved by {ASKED}: {WHY}." in plain(page)


def asking(**approval: Any) -> dict[str, Any]:
    """prod/presto, of which the code of `run_query` asks for an approval."""
    declared = presto() | {"can_ask": True}
    terms = {"by": "data-protection", "own": False, "expires_s": 900, "why": "it is expensive"} | approval
    declared["tools"][0] = {**declared["tools"][0], "approval": terms, "confirmation": "Run {sql}?"}
    return declared


async def test_what_the_code_asks_for_is_kept_and_told_beside_what_the_registry_requires(
    hub: Hub, company: Company
) -> None:
    company.deploy("prod/presto", asking(always=False))
    await hub.parts.registry.refresh()
    async with opened(company) as again:
        (tool, _) = again.parts.registry.current.servers["prod/presto"].release.tools
        assert (tool.approval.by, tool.approval.always, tool.confirmation) == ("data-protection", False, "Run {sql}?")
        maybe = (await again.api("ana", "explain", server="prod/presto", tool="run_query")).json()
        assert [(each["by"], each["always"]) for each in maybe["approvals"]] == [("data-protection", False)]
        assert maybe["steps"][-1]["fact"].startswith(
            "by its arguments a call can have to wait until it is approved by"
        )
        page = await again.public.get("/servers/prod/presto/tools", params={"as": "ana"})
        assert "may need an approval" in page.text
        assert "may ask the caller to confirm" in page.text
    await require(hub)
    both = (await hub.api("ana", "explain", server="prod/presto", tool="run_query")).json()["approvals"]
    assert [(each["by"], each["always"], each["source"], each["expires_s"]) for each in both] == [
        ("owner", True, "registry", 3600),
        ("data-protection", False, "server", 900),
    ]
    page = await hub.public.get("/servers/prod/presto/tools", params={"as": "ana"})
    assert "needs an approval" in page.text


async def test_a_service_is_told_that_it_cannot_wait(hub: Hub, company: Company) -> None:
    service = "spiffe://example.org/reporting"
    declared = scratch(owner="finance", sensitivity="public") | {"can_ask": True}
    declared["tools"][0]["read_only"] = True
    company.deploy("dev/scratch", declared)
    granted = f'surfaces = ["cli", "service"]\nservices = ["{service}"]'
    company.grants.write_text(company.grants.read_text().replace('surfaces = ["cli", "web"]', granted))
    await hub.parts.registry.refresh()
    question = {"server": "dev/scratch", "tool": "echo", "service": service}
    assert (await hub.check("sol", question)).json()["allowed"] is True
    await require(hub, tool="dev/scratch/echo")
    verdict = (await hub.check("sol", question)).json()
    assert (verdict["allowed"], verdict["layer"], verdict["rule"], verdict["reason"]) == (
        False,
        "server",
        "tool:approval",
        "approval_impossible",
    )
    walked = await hub.api("sol", "explain", server="dev/scratch", tool="echo", service=service)
    assert walked.json()["steps"][-1]["outcome"] == "fails"


class Pages:
    """A person at a server's page on security."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.browser = Browser(URL, hub.public)

    async def look(self, server: str = "prod/presto") -> str:
        """The page."""
        answer = await self.hub.public.get(f"/servers/{server}/security")
        assert answer.status_code == 200, answer.text
        return answer.text

    async def send(self, action: str, server: str = "prod/presto", **fields: str) -> httpx2.Response:
        """Send one of its forms."""
        path = f"/servers/{server}/approvals/{action}"
        found = re.search(r'name="form_token" value="([^"]+)"', (await self.look()).partition(f'action="{path}"')[2])
        token = found[1] if found else "none"
        return await self.hub.public.post(path, data={"form_token": token, **fields}, headers={"Origin": URL})


@pytest.fixture
def pages(hub: Hub) -> Pages:
    return Pages(hub)


FORM = {"tool": "run_query", "by": "owner", "why": WHY, "expires_s": "3600"}


async def test_security_requires_and_lifts_on_the_servers_page(pages: Pages, hub: Hub, company: Company) -> None:
    await pages.browser.sign_in("sol")
    assert "Tools that always need an approval" in plain(await pages.look())
    sent = await pages.send("require", **FORM | {"by": "group", "group": "security", "own": "on"})
    assert (sent.status_code, sent.headers["location"]) == (
        303,
        "/servers/prod/presto/security?done=required#approvals",
    )
    assert own_bundle(company, "prod/presto").servers[0].approvals == {
        "run_query": Requirement(by="security", own=True, source="registry", why=WHY)
    }
    page = await pages.look()
    assert "somebody of security" in plain(page).partition("Whatever their code says")[2]
    assert WHY in plain(page)
    assert "<b>&#34;" not in page
    lifted = await pages.send("lift", tool="run_query")
    assert lifted.headers["location"] == "/servers/prod/presto/security?done=lifted#approvals"
    assert own_bundle(company, "prod/presto").servers[0].approvals == {}
    assert "liftedbefore: somebody of security" in plain(await pages.look())


async def test_what_the_form_cannot_mean_is_shown_with_what_was_filled_in(pages: Pages, hub: Hub) -> None:
    await pages.browser.sign_in("sol")
    answer = await pages.send("require", **FORM | {"by": "group", "group": "No Group", "why": "a <reason>"})
    assert answer.status_code == 422
    said = plain(answer.text)
    assert "Nothing was required. It is nobody who could be asked." in said
    assert 'value="a &lt;reason&gt;"' in answer.text
    assert 'value="No Group"' in answer.text
    assert hub.parts.requiring.listed(MACHINE) == []


async def test_owners_require_and_lift_their_own_and_name_no_group(hub: Hub, company: Company) -> None:
    company.deploy("dev/scratch", scratch(owner="finance") | {"can_ask": True})
    await hub.parts.registry.refresh()
    refused = await require(hub, "fay", "dev/scratch/echo", by="finance")
    assert (refused.status_code, refused.json()["error"]["reason"]) == (403, "not_yours")
    assert (await require(hub, "fay", "dev/scratch/echo")).status_code == 201
    pages = Pages(hub)
    await pages.browser.sign_in("fay")
    page = await hub.public.get("/servers/dev/scratch/security")
    assert "a group, named below" not in page.text
    token = re.search(r'name="form_token" value="([^"]+)"', page.text.partition("/approvals/lift")[2])
    assert token
    sent = await hub.public.post(
        "/servers/dev/scratch/approvals/lift",
        data={"form_token": token[1], "tool": "echo"},
        headers={"Origin": URL},
    )
    assert sent.status_code == 303
    assert hub.parts.requiring.listed(MACHINE) == []


async def test_reviewers_see_the_section_without_its_forms_and_strangers_see_none(pages: Pages, hub: Hub) -> None:
    await require(hub)
    await pages.browser.sign_in("lea")
    page = await pages.look()
    assert "Tools that always need an approval" in page
    assert "/approvals/lift" not in page
    assert "/approvals/require" not in page
    other = (await hub.public.get("/servers/prod/presto/security", params={"as": "ana"})).text
    assert "Tools that always need an approval" not in other


async def test_after_a_sign_in_of_long_ago_a_person_requires_and_does_not_lift(pages: Pages, hub: Hub) -> None:
    await pages.browser.sign_in("sol")
    async with hub.parts.database.write() as db:
        await db.execute(update(sessions).values(authenticated_at_ms=sessions.c.authenticated_at_ms - 3_600_000))
    assert (await pages.send("require", **FORM)).status_code == 303
    assert "prove who you are once more" in await pages.look()
    lifted = await pages.send("lift", tool="run_query")
    assert (lifted.status_code, lifted.headers["location"].partition("?")[0]) == (303, "/sign-in")
    other = await pages.send("require", **FORM | {"by": "group", "group": "finance"})
    assert other.status_code == 403
    assert "Somebody else could say yes by it" in plain(other.text)
    assert [each.requirement.by for each in hub.parts.requiring.listed(MACHINE)] == ["owner"]
