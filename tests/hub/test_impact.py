"""Who would gain what: the answer equals what the decide function says before and after, and is for few."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import count
from typing import Any

import httpx2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pegboard.core.caller import Caller
from pegboard.core.decide import decide, decide_tool
from pegboard.core.manifest import Manifest
from pegboard.core.names import PERSON_SURFACES, ServerName
from pegboard.core.release import ToolDeclaration
from pegboard_hub.identity.person import PersonFacts, SignedIn, caller_of
from pegboard_hub.registry.explain import bound_to
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.impact import (
    MOST_NAMED,
    Impact,
    Level,
    People,
    Place,
    Proposal,
    Row,
    impact,
    once_approved,
    proposed,
)
from pegboard_hub.registry.model import Access, Lifecycle, RegisteredServer, Release
from pegboard_hub.web.impact_view import NOT_EXHAUSTIVE, view_of
from pegboard_hub.web.pages.frame import _templates
from tests.hub.company import ADS_ONLY, GRANTED, Company, Hub, presto

pytestmark = pytest.mark.anyio

URL = "http://localhost:8400"
NAME = ServerName("prod", "presto")
MANIFEST = Manifest(name="presto", entry="a:b", description="d", owner="platform", support_channel="#help")

TEXTS = {
    "all": GRANTED,
    "nobody": 'forbid (principal, action, resource);\npermit (principal in Group::"a", action, resource);',
    "group a": 'permit (principal in Group::"a", action, resource);',
    "a and b": 'permit (principal in Group::"a", action, resource) when { principal in Group::"b" };',
    "not b": GRANTED + '\nforbid (principal in Group::"b", action, resource);',
    "all but one": GRANTED + '\nforbid (principal == Person::"p3", action, resource);',
    "one person": 'permit (principal == Person::"p3", action, resource);',
    "list alone": 'permit (principal, action == Action::"list", resource);',
    "call alone": 'permit (principal, action == Action::"call", resource);',
    "arguments": '@arguments("n") permit (principal, action, resource) unless { context has args && context.args.n > 1 };',  # noqa: E501
    "one tool": 'permit (principal, action, resource == Tool::"prod/presto/t1");',
    "from chat": 'permit (principal, action, resource) when { context.surface == "chat" };',
    "in a channel": 'permit (principal, action, resource) when { context has channel && context.channel == "#x" };',
    "a service": 'permit (principal == Service::"spiffe://e.org/s1", action, resource);',
    "errs": 'permit (principal, action, resource) when { context.channel == "#x" };',
}
GROUPS = ("a", "b", "c", "d")
SERVICES = ("spiffe://e.org/s1", "spiffe://e.org/s2")
CHANNELS = ("#x", "#y")


def some(values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), unique=True).map(tuple)


ACCESSES = st.builds(Access, some(GROUPS), some((*PERSON_SURFACES, "service")), some(CHANNELS), some(SERVICES))
PEOPLE = st.lists(some(GROUPS), max_size=8).map(
    lambda sets: tuple(PersonFacts(f"p{number}", f"P{number}", groups) for number, groups in enumerate(sets))
)


def release(policies: tuple[str, ...]) -> Release:
    """Tools t0, t1, … of these policies."""
    tools = tuple(ToolDeclaration(name=f"t{n}", policy=name, read_only=n % 2 == 0) for n, name in enumerate(policies))
    return Release("d", MANIFEST, tools, {name: TEXTS[name] for name in policies})


def server(access: Access, policies: tuple[str, ...], lifecycle: Lifecycle = Lifecycle.LIVE) -> RegisteredServer:
    return RegisteredServer(
        name=NAME,
        source="s",
        granted=access,
        requested=access,
        reason="",
        release=release(policies) if policies else None,
        lifecycle=lifecycle,
        owner="platform",
        support_channel="#help",
        sensitivity="internal",
    )


POLICIES = (
    st.lists(st.sampled_from(sorted(TEXTS)), min_size=1, max_size=3)
    .flatmap(lambda few: st.lists(st.sampled_from(few), max_size=5))
    .map(tuple)
)
"""Of each tool: several tools have one policy."""

SERVERS = st.builds(
    server,
    ACCESSES,
    POLICIES,
    st.sampled_from([Lifecycle.LIVE, Lifecycle.LIVE, Lifecycle.DEPRECATED, Lifecycle.RETIRED, Lifecycle.DRAFT]),
)


def told_by_decide(one: RegisteredServer, caller: Caller) -> dict[str, Level]:
    """What one caller may do, asked tool by tool."""
    if not one.reachable or one.release is None:
        return {}
    found: dict[str, Level] = {}
    bound, access, governed = bound_to(caller, one, URL), one.access(URL), one.release.governed
    if not decide(bound, access, governed, None).allowed:
        return {}
    for tool in governed:
        if decide_tool(bound, access, governed, tool, "list").allowed:
            called = decide(bound, access, governed, tool)
            depends = Level.DEPENDS if called.depends_on else Level.CALL
            found[tool] = depends if called.allowed else Level.LIST
    return found


def told_by_impact(found: Impact, person: PersonFacts, service: str, place: Place) -> dict[str, tuple[Level, Level]]:
    """What the answer says of one caller in one place."""
    relevant = [row for row in found.rows if place in row.places and row.who.service == service]
    mine = [row for row in relevant if service or person.sub in {named.sub for named in row.named}]
    assert len(mine) <= 1
    return {change.tool: (change.before, change.after) for row in mine for change in (*row.gains, *row.loses)}


def everywhere() -> list[Place]:
    return [*(Place(s) for s in PERSON_SURFACES if s != "bot"), *(Place("bot", channel) for channel in CHANNELS)]


FROM_TERMINALS = Access(("a",), ("cli",))


@given(SERVERS, SERVERS, PEOPLE)
@example(server(Access(), ()), server(FROM_TERMINALS, ("one tool",) * 3), (PersonFacts("p0", "P0", ("a",)),))
@settings(max_examples=150, deadline=None)
def test_gained_and_lost_are_the_difference_of_two_decisions(
    before: RegisteredServer, after: RegisteredServer, people: tuple[PersonFacts, ...]
) -> None:
    found = impact(before, after, People(people, exhaustive=True), URL)
    gaining = losing = keeping = 0
    for person in people:
        gains = loses = keeps = False
        for place in everywhere():
            caller = caller_of(person, place.surface, "c", place.channel)
            was, will = told_by_decide(before, caller), told_by_decide(after, caller)
            changed = {
                tool: (was.get(tool, Level.NOTHING), will.get(tool, Level.NOTHING))
                for tool in {**was, **will}
                if was.get(tool) != will.get(tool)
            }
            assert told_by_impact(found, person, "", place) == changed
            gains |= any(one < two for one, two in changed.values())
            loses |= any(one > two for one, two in changed.values())
            keeps |= bool(was.keys() & will.keys())
        gaining, losing, keeping = gaining + gains, losing + loses, keeping + keeps
    assert (found.gaining, found.losing, found.keeping) == (gaining, losing, keeping)
    nobody = PersonFacts("", "")
    for service in SERVICES:
        caller = replace(caller_of(nobody, "service", service), sub=service, sub_type="service")
        was, will = told_by_decide(before, caller), told_by_decide(after, caller)
        changed = {
            tool: (was.get(tool, Level.NOTHING), will.get(tool, Level.NOTHING))
            for tool in {**was, **will}
            if was.get(tool) != will.get(tool)
        }
        assert told_by_impact(found, nobody, service, Place("service")) == changed


@given(SERVERS, PEOPLE)
@settings(max_examples=30, deadline=None)
def test_nothing_proposed_changes_nothing(same: RegisteredServer, people: tuple[PersonFacts, ...]) -> None:
    found = impact(same, same, People(people), URL)
    assert found.rows == ()
    assert view_of(found).summary == "Nobody gains or loses anything."


def only(found: Impact) -> Row:
    assert len(found.rows) == 1, found.rows
    return found.rows[0]


ANA, FAY = PersonFacts("ana", "Ana", ("a",)), PersonFacts("fay", "Fay", ("b", "other"))
OPEN = FROM_TERMINALS


def test_where_a_login_knows_the_members_a_group_is_told_of_as_a_group() -> None:
    before = server(OPEN, ("all",))
    after = proposed(before, Proposal(granted=OPEN._replace(groups=("a", "b"))))
    rows = impact(before, after, People((ANA,)), URL).rows
    assert ("b",) in [row.who.groups for row in rows]
    assert {row.people for row in rows} == {0}
    assert NOT_EXHAUSTIVE in view_of(impact(before, after, People((ANA,)), URL)).notes
    known = impact(before, after, People((ANA, FAY), exhaustive=True), URL)
    assert only(known).named == (FAY,)
    assert view_of(known).notes == ()


def test_a_policy_that_wants_two_groups_is_told_of_without_anybody_signed_in() -> None:
    before = server(Access(("a",), ("cli",)), ("nobody",))
    after = proposed(before, Proposal(policies={"nobody": TEXTS["a and b"]}))
    assert only(impact(before, after, People(), URL)).who.groups == ("a", "b")


def test_a_stop_is_left_out_of_account_and_told() -> None:
    before = replace(server(Access(), ("all",)), stopped="it is wrong", stopped_tools={"t0": "it too"})
    found = impact(before, proposed(before, Proposal(granted=OPEN)), People((ANA,), exhaustive=True), URL)
    assert only(found).gains[0].after is Level.CALL
    assert "It is stopped now: it is wrong." in view_of(found).notes[0]


def test_more_sensitive_data_is_told_although_nobody_gains_a_tool() -> None:
    before = server(OPEN, ("all",))
    after = proposed(before, Proposal(sensitivity="restricted"))
    view = view_of(impact(before, after, People((ANA,), exhaustive=True), URL))
    assert view.summary == "Nobody gains or loses anything."
    assert view.notes == ("1 person who may use it already would be shown restricted data in place of internal.",)


def test_what_waits_is_shown_as_it_would_be_once_approved() -> None:
    waits = replace(server(Access(), ()), waiting=release(("all",)), requested=OPEN, lifecycle=Lifecycle.IN_REVIEW)
    found = impact(waits, once_approved(waits), People((ANA,), exhaustive=True), URL)
    assert [change.tool for change in only(found).gains] == ["t0"]


def test_a_page_shows_names_as_text_and_says_when_nobody_is_concerned() -> None:
    page = _templates().from_string('{% from "impact.html" import impact_table %}{{ impact_table(view) }}')
    eve = PersonFacts("eve", "<script>alert(1)</script>", ("a",))
    before = server(Access(), ("all", "arguments", "list alone"))
    after = proposed(before, Proposal(granted=Access(("a",), ("bot",), ("<b>#x</b>",))))
    shown = page.render(view=view_of(impact(before, after, People((eve,), exhaustive=True), URL)))
    assert "<script>" not in shown
    assert "bot in &lt;b&gt;#x" in shown
    assert "1 person gains tools." in shown
    assert "call, depending on arguments" in shown
    empty = page.render(view=view_of(impact(before, before, People((eve,)), URL)))
    assert "Nobody gains or loses anything." in empty
    assert "<table" not in empty


@pytest.mark.parametrize("number", [100_000])
def test_a_hundred_thousand_people_are_decided_on_by_their_groups(number: int) -> None:
    """What is bounded is how often is decided, and not how long it takes: the figure is `bench/registry.py`'s."""
    teams = [f"team-{n}" for n in range(40)]
    people = tuple(
        PersonFacts(f"p{n}", f"P{n}", ("everybody", teams[n % 40], teams[n * 7 % 40])) for n in range(number)
    )
    named = ", ".join(f'Group::"{team}"' for team in teams[:30])
    before = server(Access(("team-1",), ("cli", "chat", "ide")), ("all", "arguments"))
    before = proposed(
        before,
        Proposal(policies={"arguments": f"permit (principal, action, resource) when {{ principal in [{named}] }};"}),
    )
    after = proposed(before, Proposal(granted=before.granted._replace(groups=("team-1", "team-2", "everybody"))))
    began = time.perf_counter()
    found = impact(before, after, People(people, exhaustive=True), URL)
    print(f"{number} people, {len(found.rows)} rows: {time.perf_counter() - began:.2f} s")
    assert found.gaining == number - sum("team-1" in person.groups for person in people)
    assert all(len(row.named) <= MOST_NAMED for row in found.rows)
    assert len(found.rows) < 300


# ── the API ─────────────────────────────────────────────────────────────────────────────────────────────────────

PATH = "/api/v1/servers/prod/presto/impact"


async def ask(hub: Hub, person: str, body: Any, path: str = PATH) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {await hub.token(person)}"}
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return await hub.public.post(path, content=content, headers=headers)


async def test_a_group_more_names_its_people_surfaces_and_tools(hub: Hub) -> None:
    now = hub.parts.registry.current.servers["prod/presto"].granted
    response = await ask(hub, "pat", {"granted": {"groups": [*now.groups, "search-eng"]}})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["gaining"], answer["losing"], answer["exhaustive"]) == (1, 0, True)
    (row,) = answer["rows"]
    assert row["named"] == [{"sub": "sam", "name": "Sam"}]
    assert row["groups"] == ["search-eng"]
    assert [place["surface"] for place in row["places"]] == [s for s in PERSON_SURFACES if s in now.surfaces]
    assert row["gains"] == [{"tool": "run_query", "before": "nothing", "after": "call"}]
    assert row["loses"] == []


async def test_a_policys_text_takes_a_tool_away(hub: Hub) -> None:
    answer = (await ask(hub, "pat", {"policies": {"granted": ADS_ONLY}})).json()
    lost = {tool["tool"] for row in answer["rows"] for tool in row["loses"]}
    assert lost == {"run_query"}
    assert answer["losing"] > 0
    assert "ana" not in {person["sub"] for row in answer["rows"] for person in row["named"]}


async def test_a_whole_release_that_does_not_exist_yet_is_judged(hub: Hub) -> None:
    said = presto()
    said["tools"] = [{"name": "drop_table", "policy": "granted"}]
    answer = (await ask(hub, "pat", {"declaration": said})).json()
    assert {tool["tool"] for row in answer["rows"] for tool in row["gains"]} == {"drop_table"}
    assert {tool["tool"] for row in answer["rows"] for tool in row["loses"]} == {"run_query", "get_revenue_metrics"}


async def test_the_release_that_waits_is_judged_by_its_name(company: Company, hub: Hub) -> None:
    assert (await ask(hub, "pat", {"release": "waiting"})).status_code == 422
    assert (await ask(hub, "pat", {"lifecycle": "retired"})).json()["gaining"] == 0


async def test_a_company_logins_people_are_those_who_are_signed_in(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions, ticks = hub.parts.identity.sessions, count(int(time.time()))
    monkeypatch.setattr(sessions, "_clock", lambda: next(ticks))
    for groups in (("old",), ("a",)):
        await sessions.open(SignedIn(PersonFacts("ana", "Ana", groups), subject="ana"), "a browser")
    await sessions.open(SignedIn(FAY, subject="fay"), "a browser")
    gus, _ = await sessions.open(SignedIn(PersonFacts("gus", "Gus"), subject="gus"), "a browser")
    await sessions.end(gus.sid, "signed_out")
    assert {person.sub: person.groups for person in await sessions.everybody()} == {"ana": ("a",), "fay": FAY.groups}


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ("{", 400, "JSON"),
        ("[]", 422, "body"),
        ('{"granted": {}, "granted": {}}', 400, "twice"),
        ({"grant": {}}, 422, "grant"),
        ({"granted": {"groups": ["A!"]}}, 422, "granted.groups.0"),
        ({"granted": {"groups": "ads-eng"}}, 422, "granted.groups"),
        ({"granted": {"surfaces": ["telepathy"]}}, 422, "granted.surfaces"),
        ({"granted": {"services": ["https://x"]}}, 422, "granted.services.0"),
        ({"granted": {"groups": ["ab"] * 201}}, 422, "granted.groups"),
        ({"sensitivity": "secret"}, 422, "sensitivity"),
        ({"lifecycle": "dead"}, 422, "lifecycle"),
        ({"policies": {"none": "x"}}, 422, "policies.none"),
        ({"policies": {"granted": "permit ("}}, 422, "policies/granted.cedar"),
        ({"policies": {"granted": "(" * 10_000}}, 422, "policies/granted.cedar"),
        ({"declaration": {"tools": []}}, 422, "declaration.manifest"),
        ({"declaration": presto(title="a\u202eb")}, 422, "declaration: title"),
        ({"declaration": presto() | {"policies": {}}}, 422, "declaration.policies"),
        ({"declaration": presto(), "release": "waiting"}, 422, "release"),
        (b" " * 5_000_000, 413, "longer"),
    ],
)
async def test_a_change_that_cannot_be_is_refused_with_its_field(
    asked: Hub, body: Any, status: int, named: str
) -> None:
    response = await ask(asked, "pat", body)
    assert response.status_code == status, response.text
    assert named in response.json()["error"]["message"]


async def test_an_answer_is_for_those_who_look_after_the_server(hub: Hub) -> None:
    for person in ("ana", "fay", "gus"):
        refused = await ask(hub, person, {"granted": {"groups": []}})
        assert refused.status_code == 403
        assert "Ask platform in #data-platform" in refused.json()["error"]["message"]
        assert "run_query" not in refused.text
    assert (await ask(hub, "pat", {})).status_code == 200
    assert (await ask(hub, "pat", {}, "/api/v1/servers/prod/none/impact")).status_code == 404
    assert (await ask(hub, "pat", {}, "/api/v1/servers/PROD/none/impact")).status_code == 404
    assert (await hub.public.post(PATH, content="{}")).status_code == 401


async def test_a_draft_is_asked_about_by_its_team_and_operators_and_is_unknown_to_others(hub: Hub) -> None:
    record = {"title": "Atlas", "description": "d", "owner": "ads-eng", "support_channel": "#ads"}
    async with hub.parts.registry.changing() as changing:
        await changing.register("prod/atlas", record, Actor("ana"), "an idea")
    path = "/api/v1/servers/prod/atlas/impact"
    for person in ("ana", "pat"):
        answer = await ask(hub, person, {"granted": {"groups": ["finance"]}}, path)
        assert (answer.status_code, answer.json()["rows"]) == (200, [])
    hidden, unknown = await ask(hub, "sam", {}, path), await ask(hub, "sam", {}, path.replace("atlas", "nothing"))
    assert (hidden.status_code, unknown.status_code) == (404, 404)
    told = [each.json()["error"]["message"].replace("nothing", "atlas") for each in (hidden, unknown)]
    assert told[0] == told[1]


async def test_openapi_says_what_a_change_may_hold_and_every_reference_in_it_leads_somewhere(hub: Hub) -> None:
    document = (await hub.api("ana", "openapi.json")).json()
    body = document["paths"]["/api/v1/servers/{namespace}/{name}/impact"]["post"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert "$ref" not in json.dumps(schema)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate({"granted": {"groups": ["ads-eng"]}, "declaration": presto()})
    assert not Draft202012Validator(schema).is_valid({"granted": {"group": []}})
