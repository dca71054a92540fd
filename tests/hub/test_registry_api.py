"""The registry by the API: what each person may know of servers, releases, tools, teams and the history."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Access, Lifecycle
from pegboard_hub.web.api.registry_schema import CataloguePage
from tests.folders import new_folder
from tests.hub.company import PRESTO, URL, Company, Hub, found_company, opened, presto
from tests.hub.reviewing import ask

pytestmark = pytest.mark.anyio

RECORD = {
    "server": "prod/weather",
    "title": "Weather",
    "description": "Forecasts for the places we deliver to",
    "owner": "search-eng",
    "support_channel": "#weather",
    "sensitivity": "internal",
}
DRAFT = {**RECORD, "why": "planning asks for it"}


async def sent(hub: Hub, person: str, method: str, path: str, body: Any = None, **more: Any) -> httpx2.Response:
    """A request to the API as a person, with a body and headers."""
    headers = {"Authorization": f"Bearer {await hub.token(person)}", **more.pop("headers", {})}
    content = body if body is None or isinstance(body, str) else json.dumps(body)
    return await hub.public.request(method, f"/api/v1/{path}", content=content, headers=headers, params=more or None)


@pytest.fixture(scope="module")
async def still() -> AsyncIterator[Hub]:
    """A hub that no test changes anything at."""
    root = new_folder()
    async with opened(found_company(root)) as found:
        yield found
    shutil.rmtree(root)


def names(response: httpx2.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [server["server"] for server in response.json()["servers"]]


def tool_names(response: httpx2.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [tool["name"] for tool in response.json()["tools"]]


@pytest.fixture
async def drafted(hub: Hub) -> Hub:
    response = await sent(hub, "sam", "POST", "servers", DRAFT)
    assert response.status_code == 201, response.text
    return hub


# Lists


async def test_what_one_may_use_is_listed_and_everything_else_on_request(still: Hub) -> None:
    assert names(await still.api("sam", "servers")) == ["dev/scratch"]
    everything = await still.api("sam", "servers", all="true")
    assert names(everything) == ["dev/scratch", "prod/presto"]
    assert [(s["usable"], len(s["tools"])) for s in everything.json()["servers"]] == [(True, 1), (False, 0)]
    assert names(await still.api("ana", "servers", usable_from="chat")) == ["prod/presto"]
    assert names(await still.api("ana", "servers", surface="chat")) == ["prod/presto"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"q": "presto"}, ["prod/presto"]),
        ({"q": "WAREHOUSE"}, ["prod/presto"]),
        ({"q": "run query"}, ["prod/presto"]),
        ({"q": "presto nothing"}, []),
        ({"q": "what heard"}, ["dev/scratch"]),
        ({"owner": "tools-team"}, ["dev/scratch"]),
        ({"namespace": "prod"}, ["prod/presto"]),
        ({"sensitivity": ["confidential", "restricted"]}, ["prod/presto"]),
        ({"lifecycle": "live"}, ["dev/scratch", "prod/presto"]),
        ({"lifecycle": "draft"}, []),
        ({"status": "live"}, []),
        ({"status": "unknown"}, ["dev/scratch", "prod/presto"]),
        ({"tools": "false"}, ["dev/scratch", "prod/presto"]),
    ],
)
async def test_servers_are_searched_and_filtered(still: Hub, query: dict[str, Any], found: list[str]) -> None:
    assert names(await still.api("fay", "servers", **query)) == found


@pytest.mark.parametrize("path", ["servers", "me/servers"])
async def test_a_page_is_written_as_its_model_writes_it_and_for_each_person_with_what_they_may_know(
    still: Hub, path: str
) -> None:
    texts = {}
    for person in ("ana", "sam", "fay", "ana"):
        text = (await still.api(person, path)).text
        assert CataloguePage.model_validate_json(text).model_dump_json() == text
        assert texts.setdefault(person, text) == text
    assert len({*texts.values()}) > 1


async def test_a_name_that_matches_comes_before_a_description_that_does(drafted: Hub) -> None:
    await sent(
        drafted, "sam", "POST", "servers", {**DRAFT, "server": "dev/aaa", "description": "Ends what weather did"}
    )
    found = await drafted.api("sam", "servers", all="true", q="weather")
    assert names(found) == ["prod/weather", "dev/aaa"]


@pytest.mark.parametrize("path", ["servers", "me/servers", "me/tools", "teams"])
async def test_pages_follow_one_another_until_the_end(still: Hub, path: str) -> None:
    key = path.rpartition("/")[2]
    whole = (await still.api("ana", path)).json()
    assert whole["next"] is None
    found, cursor = [], {}
    while True:
        page = (await still.api("ana", path, limit=1, **cursor)).json()
        found += page[key]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == whole[key]
    assert len(found) > 1


async def test_ones_own_tools_are_those_that_the_kit_would_list(still: Hub) -> None:
    def told(response: httpx2.Response) -> list[str]:
        return [f"{tool['server']} {tool['name']}" for tool in response.json()["tools"]]

    both = ["dev/scratch echo", "prod/presto get_revenue_metrics", "prod/presto run_query"]
    assert told(await still.api("ana", "me/tools")) == both
    assert told(await still.api("ana", "me/tools", surface="chat")) == both[1:]
    assert told(await still.api("fay", "me/tools")) == ["dev/scratch echo", "prod/presto run_query"]
    assert told(await still.api("gus", "me/tools")) == []


# One server


async def test_everybody_may_know_a_servers_record_and_what_it_is_granted(still: Hub) -> None:
    told = (await still.api("gus", "servers/prod/presto")).json()
    assert (told["owner"], told["lifecycle"], told["semver"]) == ("platform", "live", "1.0.0")
    assert told["granted"] == {
        "groups": ["ads-eng", "data-infra", "finance", "platform"],
        "surfaces": ["chat", "cli", "ide", "web"],
        "channels": None,
        "services": None,
    }
    assert told["resource_url"] == PRESTO
    assert told["you"] == {"usable": False, "owner": False, "insider": False, "may_edit": False}
    assert told["inside"] is None


async def test_its_team_knows_what_was_asked_for(still: Hub) -> None:
    told = (await still.api("pat", "servers/prod/presto")).json()
    assert told["inside"]["requested"]["groups"] == ["ads-eng", "sales"]
    assert told["granted"]["services"] == []
    assert told["you"]["insider"] is True


async def test_how_reviews_ended_is_for_all_and_their_words_for_those_who_look_after_it(
    company: Company,
) -> None:
    grants = company.grants.read_text().replace('releases = "any"\n', "")
    company.grants.write_text(grants)
    async with opened(company) as hub:
        for_all = (await hub.api("gus", "servers/prod/presto")).json()["reviews"]
        inside = (await hub.api("pat", "servers/prod/presto")).json()["reviews"]
    assert [(each["kind"], each["state"], each["decided_by"]) for each in for_all] == [
        ("privacy", "approved", "grants file"),
        ("security", "approved", "grants file"),
    ]
    assert {each["why"] for each in for_all} == {None}
    assert {each["why"] for each in inside} == {"the demo's security review of prod/presto"}


async def test_tools_are_those_of_the_person_and_all_for_insiders(still: Hub) -> None:
    tools = "servers/prod/presto/tools"
    assert tool_names(await still.api("ana", tools)) == ["run_query", "get_revenue_metrics"]
    assert tool_names(await still.api("fay", tools)) == ["run_query"]
    assert tool_names(await still.api("sam", tools)) == []
    assert tool_names(await still.api("pat", tools)) == ["run_query"]
    assert tool_names(await still.api("pat", tools, all="true")) == ["run_query", "get_revenue_metrics"]
    assert tool_names(await still.api("pat", tools, release="1.0.0")) == ["run_query", "get_revenue_metrics"]
    for query in ({"all": "true"}, {"release": "1.0.0"}):
        refused = await still.api("fay", tools, **query)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_owner")
        assert refused.json()["error"]["message"].startswith(f"{next(iter(query))}: ")


async def test_a_tool_has_its_schema_its_policy_and_its_hints(company: Company) -> None:
    declared = presto()
    declared["tools"][0] |= {"input_schema": {"type": "object"}, "read_only": True}
    company.deploy("prod/presto", declared)
    async with opened(company) as hub:
        tool = (await hub.api("fay", "servers/prod/presto/tools/run_query")).json()
    assert (tool["policy"], tool["minutes_saved"], tool["read_only"]) == ("granted", 6, True)
    assert tool["input_schema"] == {"type": "object"}


async def test_releases_are_listed_and_found_by_digest_and_version(hub: Hub, company: Company) -> None:
    company.deploy("prod/presto", presto(description="Query it all"))
    await hub.parts.registry.refresh()
    found = (await hub.api("gus", "servers/prod/presto/releases")).json()["releases"]
    assert [(each["semver"], each["state"]) for each in found] in (
        [("1.0.1", "deployed"), ("1.0.0", "earlier")],
        [("1.0.0", "earlier"), ("1.0.1", "deployed")],  # seen in the same millisecond
    )
    for named in (found[0]["digest"], found[0]["semver"]):
        one = (await hub.api("gus", f"servers/prod/presto/releases/{named}")).json()
        assert (one["digest"], one["tools"], one["requested"]) == (found[0]["digest"], None, None)
    mine = (await hub.api("pat", "servers/prod/presto/releases/1.0.0")).json()
    assert [tool["name"] for tool in mine["tools"]] == ["run_query", "get_revenue_metrics"]
    pages = await hub.api("gus", "servers/prod/presto/releases", limit=1)
    rest = await hub.api("gus", "servers/prod/presto/releases", cursor=pages.json()["next"])
    assert pages.json()["releases"] + rest.json()["releases"] == found


async def test_a_release_that_waits_is_for_those_who_look_after_the_server(company: Company) -> None:
    waiting = found_company(company.home.root.parent / "waiting", reviewed=True)
    async with opened(waiting) as hub:
        changed = presto()
        changed["tools"][0]["description"] = "Run any SQL."
        digest = waiting.deploy("prod/presto", changed)
        await hub.parts.registry.refresh()
        listed = {p: (await hub.api(p, "servers/prod/presto/releases")).json()["releases"] for p in ("ana", "pat")}
        alone = await hub.api("ana", f"servers/prod/presto/releases/{digest}")
        absent = await hub.api("ana", "servers/prod/presto/releases/9.9.9")
        detail = (await hub.api("pat", "servers/prod/presto")).json()
        tools = await hub.api("ana", "servers/prod/presto/tools")
        mine = await hub.api("ana", "me/servers")
    assert [each["state"] for each in listed["ana"]] == ["earlier"]
    assert {each["state"] for each in listed["pat"]} == {"earlier", "waiting"}
    assert (alone.status_code, absent.status_code) == (404, 404)
    assert alone.json()["error"]["message"] == absent.json()["error"]["message"]
    assert detail["inside"]["waiting"] == digest
    assert detail["lifecycle"] == "in review"
    assert tool_names(tools) == []
    assert names(mine) == ["dev/scratch"]


# Entity tags


@pytest.mark.parametrize(
    "path",
    [
        "servers",
        "servers/prod/presto",
        "servers/prod/presto/tools",
        "servers/prod/presto/tools/run_query",
        "servers/prod/presto/releases",
        "servers/prod/presto/releases/1.0.0",
        "servers/prod/presto/history",
        "history",
        "me/servers",
        "me/tools",
        "teams",
        "teams/platform",
    ],
)
async def test_what_has_not_changed_is_not_sent_again(still: Hub, path: str) -> None:
    first = await still.api("ana", path)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    again = await sent(still, "ana", "GET", path, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = await sent(still, "fay", "GET", path, headers={"If-None-Match": tag})
    assert other.status_code == 200


async def test_a_tag_changes_with_what_it_is_of(hub: Hub, company: Company) -> None:
    before = (await hub.api("ana", "servers/prod/presto")).headers["etag"]
    company.report(
        at=9e12, isolation={"mode": "off"}, processes=[{"name": "prod/presto", "state": "live", "since": 1}]
    )
    assert (await hub.api("ana", "servers/prod/presto")).headers["etag"] != before


# Drafts


async def test_a_draft_is_registered_for_ones_own_team(drafted: Hub) -> None:
    told = (await drafted.api("sam", "servers/prod/weather")).json()
    assert {name: told[name] for name in RECORD} == RECORD
    assert (told["lifecycle"], told["you"]["may_edit"], told["you"]["usable"]) == ("draft", True, False)
    assert told["granted"]["groups"] == []
    assert names(await drafted.api("sam", "servers", all="true")) == ["dev/scratch", "prod/presto", "prod/weather"]
    assert names(await drafted.api("sam", "servers")) == ["dev/scratch"]
    history = (await drafted.api("sam", "servers/prod/weather/history")).json()["entries"]
    assert [(each["actor"], each["action"], each["why"]) for each in history] == [
        ("sam", "register", "planning asks for it")
    ]


async def test_a_draft_is_known_to_its_team_operators_and_reviewers_alone(drafted: Hub) -> None:
    for person, status in (("sam", 200), ("pat", 200), ("ana", 404), ("gus", 404)):
        assert (await drafted.api(person, "servers/prod/weather")).status_code == status
        listed = "prod/weather" in names(await drafted.api(person, "servers", all="true"))
        team = (await drafted.api(person, "teams/search-eng")).status_code
        assert (listed, team) == (status == 200, status)


async def test_a_draft_is_changed_by_who_saw_its_newest_version(drafted: Hub) -> None:
    path, change = "servers/prod/weather", {"description": "Rain", "why": "shorter"}
    tag = (await drafted.api("sam", path)).headers["etag"]
    changed = await sent(drafted, "sam", "PATCH", path, change, headers={"If-Match": tag})
    assert changed.status_code == 200, changed.text
    assert changed.json()["description"] == "Rain"
    assert changed.headers["etag"] != tag
    late = await sent(drafted, "pat", "PATCH", path, {"title": "W", "why": "mine"}, headers={"If-Match": tag})
    error = late.json()
    assert (late.status_code, error["error"]["reason"]) == (412, "changed_since")
    assert "sam changed description" in error["error"]["message"]
    assert [(each["actor"], each["why"], each["fields"]) for each in error["changes"]] == [
        ("sam", "shorter", ["description"])
    ]
    again = await sent(
        drafted, "pat", "PATCH", path, {"title": "W", "why": "m"}, headers={"If-Match": changed.headers["etag"]}
    )
    assert (again.json()["title"], again.json()["description"]) == ("W", "Rain")


async def test_a_change_without_what_it_is_based_on_is_refused(drafted: Hub) -> None:
    path = "servers/prod/weather"
    none = await sent(drafted, "sam", "PATCH", path, {"title": "W", "why": "m"})
    assert (none.status_code, none.json()["error"]["code"]) == (428, "precondition_required")
    assert (await sent(drafted, "sam", "DELETE", path, why="m")).status_code == 428
    for tag in ("*", '"x"', "7", f'"{"0" * 32}"'):
        wrong = await sent(drafted, "sam", "PATCH", path, {"title": "W", "why": "m"}, headers={"If-Match": tag})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (412, "precondition_failed")


@pytest.mark.parametrize(
    ("path", "listed"), [("servers", "servers"), ("me/servers", "servers"), ("me/tools", "tools")]
)
async def test_what_is_deprecated_says_so_with_its_reason_in_each_list(hub: Hub, path: str, listed: str) -> None:
    values = {"lifecycle": Lifecycle.DEPRECATED, "lifecycle_why": "use the lake"}
    async with hub.parts.registry.changing() as changing:
        await changing.apply(Change("prod/presto", Actor("pat"), "deprecate", "use the lake", values=values))
    found = (await hub.api("ana", path)).json()[listed]
    told = {(each["server"], each["lifecycle"], each["lifecycle_why"]) for each in found}
    assert told == {("prod/presto", "deprecated", "use the lake"), ("dev/scratch", "live", "")}


async def test_a_draft_that_is_given_up_stays_among_those_who_knew_it(drafted: Hub) -> None:
    path = "servers/prod/weather"
    tag = (await drafted.api("sam", path)).headers["etag"]
    retired = await sent(drafted, "sam", "DELETE", path, headers={"If-Match": tag}, why="nobody needs it")
    assert (retired.status_code, retired.json()["lifecycle"]) == (200, "retired")
    assert (await drafted.api("ana", path)).status_code == 404
    assert (await drafted.api("sam", path)).json()["lifecycle_why"] == "nobody needs it"
    again = await sent(drafted, "sam", "POST", "servers", DRAFT)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "name_taken")


@pytest.mark.parametrize(
    ("person", "change", "status", "words"),
    [
        ("sam", {"server": "prod/forecast"}, 200, ""),
        ("sam", {}, 409, "server: prod/weather is taken."),
        ("sam", {"server": "prod/presto"}, 409, "server: prod/presto is taken."),
        ("sam", {"server": "prod/presto0"}, 200, ""),
        ("sam", {"server": "prod/forecast", "description": "a\u202eb"}, 422, "description: "),
        ("sam", {"server": "prod/forecast", "owner": "finance"}, 422, "owner: It is none of your groups."),
        ("gus", {"server": "prod/forecast"}, 422, "owner: It is none of your groups."),
        ("ana", {"owner": "ads-eng"}, 200, ""),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_draft_is_checked_as_it_would_be_made_and_hidden_names_stay_hidden(
    drafted: Hub, person: str, change: dict[str, Any], status: int, words: str
) -> None:
    before = drafted.parts.registry.current.servers
    checked = await sent(drafted, person, "POST", "drafts:check", DRAFT | change)
    assert checked.status_code == status, checked.text
    assert words in checked.text
    assert drafted.parts.registry.current.servers == before


OUT_OF_REACH = [
    (Lifecycle.APPROVED, "", "approved, and not deployed yet"),
    (Lifecycle.RETIRED, "nobody eats here", "retired: nobody eats here"),
]


async def test_who_may_know_of_a_server_that_nobody_can_call_is_told_why(drafted: Hub) -> None:
    async def told(person: str) -> str:
        answer = await drafted.api(person, "servers/prod/weather")
        assert (await drafted.api(person, "explain", server="prod/weather")).status_code == 404
        return str(answer.json().get("out_of_reach", answer.status_code))

    assert (await told("sam")).endswith("/servers/prod/weather/access")
    assert (await told("sam")).startswith("a draft: submit it at ")
    assert await told("ana") == "404"
    await ask(drafted, "sam", "prod/weather", Access(("search-eng",), ("cli",)))
    words = "in review: its Security and Legal and privacy reviews have not decided; see "
    assert await told("ana") == f"{words}{URL}/servers/prod/weather/security"
    for lifecycle, why, words in OUT_OF_REACH:
        async with drafted.parts.registry.changing() as changing:
            values = {"lifecycle": lifecycle, "lifecycle_why": why}
            await changing.apply(Change("prod/weather", Actor("sam"), "move", "because", values=values))
        assert await told("sam") == words
    assert (await drafted.api("sam", "servers/prod/presto")).json()["out_of_reach"] == ""


async def test_what_is_no_draft_is_not_edited_here(still: Hub) -> None:
    tag = (await still.api("pat", "servers/prod/presto")).headers["etag"]
    response = await sent(
        still, "pat", "PATCH", "servers/prod/presto", {"title": "W", "why": "m"}, headers={"If-Match": tag}
    )
    assert (response.status_code, response.json()["error"]["code"]) == (409, "not_a_draft")


async def test_an_operator_registers_for_any_team_that_there_is_and_no_other(hub: Hub) -> None:
    for owner, status in (("finance", 201), ("tools-team", 201), ("madeup", 422)):
        body = {**DRAFT, "server": f"dev/for-{owner}", "owner": owner}
        response = await sent(hub, "pat", "POST", "servers", body)
        assert response.status_code == status, response.text
    assert response.json()["error"]["message"] == "owner: Nobody here is in that group."
    assert "finance" in response.json()["error"]["what_to_do"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"owner": "finance"}, "owner"),
        ({"server": "prod/Weather"}, "server"),
        ({"server": "weather"}, "server"),
        ({"description": "x" * 101}, "description"),
        ({"description": "a\u202eb"}, "description"),
        ({"description": " "}, "description"),
        ({"links": {"docs": "http://wiki.example"}}, "links.docs"),
        ({"links": {"docs": 7}}, "links.docs"),
        ({"sensitivity": "secret"}, "sensitivity"),
        ({"title": 7}, "title"),
        ({"why": ""}, "why"),
        ({"why": "a\nb"}, "why"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_draft_names_its_field_and_leaves_nothing(
    still: Hub, change: dict[str, Any], field: str
) -> None:
    response = await sent(still, "sam", "POST", "servers", {**DRAFT, **change})
    assert response.status_code == 422
    assert response.json()["error"]["message"].startswith(f"{field}: "), response.text
    assert names(await still.api("sam", "servers", all="true")) == ["dev/scratch", "prod/presto"]


async def test_a_draft_says_what_a_form_could_say_of_it(hub: Hub) -> None:
    said = {"uses_models": True, "gallery": True}
    made = await sent(hub, "sam", "POST", "servers", {**DRAFT, **said})
    assert (made.status_code, {name: made.json()[name] for name in said}) == (201, said)
    path, headers = f"servers/{DRAFT['server']}", {"if-match": made.headers["etag"]}
    changed = await sent(hub, "sam", "PATCH", path, {"gallery": False, "why": "not yet"}, headers=headers)
    assert (changed.json()["uses_models"], changed.json()["gallery"]) == (True, False)


async def test_who_is_in_no_group_is_told_that_and_no_list_of_none(hub: Hub) -> None:
    refused = (await sent(hub, "gus", "POST", "servers", DRAFT)).json()["error"]
    assert refused["what_to_do"].startswith("You are in no group")


async def test_an_operator_registers_for_any_team(hub: Hub) -> None:
    assert (await sent(hub, "pat", "POST", "servers", DRAFT)).status_code == 201


# History


async def test_the_history_names_tools_for_insiders_alone(hub: Hub) -> None:
    async with hub.parts.registry.changing() as changing:
        stopped = {"get_revenue_metrics": "get_revenue_metrics is wrong"}
        actor = Actor("pat")
        await changing.apply(Change("prod/presto", actor, "stop", "get_revenue_metrics is wrong", stops=stopped))
        values = {"lifecycle": Lifecycle.DEPRECATED, "lifecycle_why": "use the lake"}
        await changing.apply(Change("prod/presto", actor, "deprecate", "use the lake", values=values))
    told = {p: (await hub.api(p, "servers/prod/presto/history")).json() for p in ("ana", "fay", "gus", "pat")}
    assert [each["action"] for each in told["pat"]["entries"]][:2] == ["deprecate", "stop"]
    for person in ("ana", "fay", "gus"):
        newest, before = told[person]["entries"][:2]
        assert (newest["action"], newest["why"], newest["version"]) == ("deprecate", "use the lake", None)
        assert before["action"] != "stop"
        assert "get_revenue_metrics" not in json.dumps(told[person])


async def test_all_of_the_history_is_for_operators_and_the_rest_for_owners(drafted: Hub) -> None:
    async def servers(person: str, **query: str) -> set[str]:
        return {each["server"] for each in (await drafted.api(person, "history", **query)).json()["entries"]}

    assert await servers("pat") == {"dev/scratch", "prod/presto", "prod/weather"}
    assert await servers("pat", actor="sam") == {"prod/weather"}
    assert await servers("sam") == {"prod/weather"}
    assert await servers("ana") == set()


# Teams and validation


async def test_a_team_is_told_with_its_servers(still: Hub) -> None:
    teams = (await still.api("pat", "teams")).json()["teams"]
    assert [(each["team"], each["yours"], each["servers"]) for each in teams] == [
        ("platform", True, 1),
        ("tools-team", False, 1),
    ]
    team = (await still.api("gus", "teams/platform")).json()
    assert [server["server"] for server in team["owned"]] == ["prod/presto"]
    assert team["support_channels"] == ["#data-platform"]


def verdicts(response: httpx2.Response) -> dict[str, bool]:
    assert response.status_code == 200, response.text
    return {each["claim"]: each["holds"] for each in response.json()["verdicts"]}


async def test_a_server_is_what_it_claims_to_be(hub: Hub, company: Company) -> None:
    tools = (await hub.api("fay", "servers/prod/presto/tools")).json()
    listed = [{"name": "run_query", "description": "Run SQL.", "inputSchema": {}}]
    canonical = json.dumps(listed, sort_keys=True, separators=(",", ":"))
    assert tools["tools_digest"] == hashlib.sha256(canonical.encode()).hexdigest()
    claims = {
        "server": "prod/presto",
        "endpoint": PRESTO,
        "release": "1.0.0",
        "tools_digest": tools["tools_digest"],
    }
    right = await sent(hub, "fay", "POST", "servers:validate", claims)
    assert right.json()["valid"] is True
    assert all(verdicts(right).values())
    assert len(right.json()["verdicts"]) == 5
    for field, value in (
        ("endpoint", f"{PRESTO}/"),
        ("endpoint", PRESTO.replace("localhost", "1ocalhost")),
        ("release", "1.0.1"),
        ("tools_digest", "0" * 64),
    ):
        wrong = await sent(hub, "fay", "POST", "servers:validate", {**claims, field: value})
        assert [claim for claim, holds in verdicts(wrong).items() if not holds] == [field]
    company.grants.write_text(company.grants.read_text().replace('groups = ["ads-eng", "f', 'stopped = "no"\n#'))
    await hub.parts.registry.refresh()
    stopped = await sent(hub, "fay", "POST", "servers:validate", {"server": "prod/presto"})
    assert verdicts(stopped) == {"server": True, "approved": False}


async def test_nobody_finds_out_by_validating_whether_a_server_that_is_not_for_them_exists(drafted: Hub) -> None:
    claims = {"endpoint": "x", "release": "1.0.0", "tools_digest": "y"}
    hidden = await sent(drafted, "ana", "POST", "servers:validate", {"server": "prod/weather", **claims})
    absent = await sent(drafted, "ana", "POST", "servers:validate", {"server": "prod/nothing", **claims})
    assert hidden.text.replace("prod/weather", "S") == absent.text.replace("prod/nothing", "S")
    assert not any(verdicts(hidden).values())
    mine = await sent(drafted, "sam", "POST", "servers:validate", {"server": "prod/weather"})
    assert verdicts(mine) == {"server": True, "approved": False}


async def test_one_refusal_of_a_body_names_every_field_that_is_wrong(drafted: Hub) -> None:
    body = {"server": 7, "owner": "search-eng", "colour": "red"}
    answer = await sent(drafted, "sam", "POST", "servers", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")
    message = answer.json()["error"]["message"]
    for told in ("server: Write text.", "description: It is needed.", "colour: Nothing here has that name."):
        assert told in message
    many = await sent(drafted, "sam", "POST", "servers", {f"field-{number}": 1 for number in range(900)})
    assert many.json()["error"]["message"].endswith(" more.")
    assert len(many.text) < 3000
    again = await sent(drafted, "sam", "POST", "servers/prod/weather/impact", {"lifecycle": "x", "colour": 1})
    assert "lifecycle: " in again.json()["error"]["message"]
    assert "colour: " in again.json()["error"]["message"]
    asked = (await drafted.api("sam", "servers", **{f"a{number}": "1" for number in range(8)})).json()
    assert all(f"a{number}: " in asked["error"]["message"] for number in range(8))


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("servers", {"limit": "0"}, "limit"),
        ("servers", {"limit": "201"}, "limit"),
        ("servers", {"colour": "red"}, "colour"),
        ("servers", {"lifecycle": "alive"}, "lifecycle"),
        ("servers", {"usable_from": "tv"}, "usable_from"),
        ("servers", {"usable_from": "cli", "surface": "ide"}, "surface"),
        ("servers", {"q": "x" * 201}, "q"),
        ("me/tools", {"surface": "service"}, "surface"),
        ("me/tools", {"cursor": "x" * 2049}, "cursor"),
        ("history", {"actor": "\x00"}, "actor"),
    ],
)
async def test_a_wrong_question_names_its_field(still: Hub, path: str, query: dict[str, str], field: str) -> None:
    response = await still.api("ana", path, **query)
    assert response.status_code == 422
    assert field in response.json()["error"]["message"]
