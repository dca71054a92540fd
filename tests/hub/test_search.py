"""Search and browse: what is found, in which order, page by page, and how the index follows the registry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pegboard.core.caller import Caller
from pegboard.core.decide import decide_tool
from pegboard.core.names import SURFACES
from pegboard.core.release import ToolDeclaration
from pegboard_hub.registry import indexing
from pegboard_hub.registry.explain import bound_to, reaches, visible_tools
from pegboard_hub.registry.folding import folded
from pegboard_hub.registry.listing import Listings
from pegboard_hub.registry.model import Lifecycle, RegisteredServer, Snapshot
from pegboard_hub.registry.query import Query, QueryRefused
from pegboard_hub.registry.search import Catalogue
from pegboard_hub.registry.visibility import insider
from tests.hub.catalogues import URL, caller, catalogue, every_page, names, policy_of, server, snapshot

RANKED = (
    server("prod/revenue"),
    server("prod/revenue-old"),
    server("prod/ads-revenue"),
    server("prod/prerevenues"),
    server("prod/aa", title="Revenue"),
    server("prod/ab", title="Revenue of ads"),
    server("prod/ac", title="The revenue"),
    server("prod/ad", title="Nonrevenue"),
    server("prod/ba", tools=["revenue"]),
    server("prod/bb", tools=["revenue_of_ads"]),
    server("prod/bc", tools=["get_revenue"]),
    server("prod/bd", tools=["getrevenue"]),
    server("prod/ca", description="Revenue"),
    server("prod/cb", description="Revenue of ads"),
    server("prod/cc", description="All revenue"),
    server("prod/cd", description="Nonrevenue"),
)
"""One server for each rank of the word `revenue`, best first."""


def test_name_comes_before_title_before_tools_before_description_and_each_exact_before_prefix_word_inside() -> None:
    found = catalogue(*RANKED[::-1]).find(caller(), Query("revenue"))
    assert names(found) == [str(each.name) for each in RANKED]
    assert found.next is None


def test_equal_ranks_are_in_order_of_name_and_so_is_everything_without_a_query() -> None:
    servers = [server(f"prod/{name}", description="One of many") for name in ("zed", "abe", "mid", "mid-a")]
    for text in ("many", "", "   "):
        assert names(catalogue(*servers).find(caller(), Query(text))) == [
            "prod/abe",
            "prod/mid",
            "prod/mid-a",
            "prod/zed",
        ]


def test_every_word_must_match_somewhere_and_the_sum_of_their_ranks_decides() -> None:
    found = catalogue(
        server("prod/ads", description="The revenue"),
        server("prod/revenue", tools=["ads"]),
        server("prod/other", description="ads revenue"),
        server("prod/half", description="ads alone"),
    ).find(caller(), Query("ads revenue"))
    assert names(found) == ["prod/revenue", "prod/ads", "prod/other"]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("CAFE", "Café au lait"),
        ("café", "CAFÉ"),
        ("strasse", "Große Straße"),
        ("ﬁnance", "Finance"),
        ("１２", "Plan 12"),
        ("ad_sales", "Ad-Sales"),
        ("İstanbul", "istanbul"),
        ("東京", "東京の天気"),
        ("prod/xy", "found by its whole name"),
    ],
)
def test_case_accents_compatibility_forms_and_signs_do_not_count(text: str, title: str) -> None:
    found = catalogue(server("prod/xy", title=title)).find(caller(), Query(text))
    assert names(found) == ["prod/xy"]


@pytest.mark.parametrize("text", ["---", "nothing-like-it", "xy zebra", "\u202e", "\x00"])
def test_what_matches_nothing_finds_nothing(text: str) -> None:
    found = catalogue(server("prod/xy")).find(caller(), Query(text))
    assert (found.items, found.next, found.counts.matched, found.counts.known) == ((), None, 0, 1)


def test_a_hit_names_the_tools_that_matched_and_says_whether_the_caller_reaches_the_server() -> None:
    of = catalogue(
        server("prod/one", tools=["get_revenue", "list_ads", "set_revenue"]),
        server("prod/two", description="Revenue", tools=["get_revenue"], groups=("others",)),
    )
    one, two = of.find(caller(), Query("revenue")).items
    assert (one.tools, one.reachable) == (("get_revenue", "set_revenue"), True)
    assert (two.tools, two.reachable) == ((), False)


FILTERED = (
    server("prod/ads", owner="ads-eng", sensitivity="restricted"),
    server("prod/fin", owner="finance", sensitivity="restricted", groups=("finance",)),
    server("dev/ads", owner="ads-eng", surfaces=("ide",)),
    server("dev/fin", owner="finance", surfaces=("bot",), channels=("money",)),
)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"owner": ("ads-eng",)}, ["dev/ads", "prod/ads"]),
        ({"owner": ("ads-eng", "finance"), "namespace": ("prod",)}, ["prod/ads", "prod/fin"]),
        ({"sensitivity": ("internal",)}, ["dev/ads", "dev/fin"]),
        ({"owner": ("nobody",)}, []),
        ({"usable_from": "cli"}, ["prod/ads"]),
        ({"usable_from": "ide"}, ["dev/ads"]),
        ({"usable_from": "bot"}, []),
        ({"status": ("down",)}, ["prod/ads"]),
        ({"status": ("unknown", "down"), "text": "fin"}, ["dev/fin", "prod/fin"]),
    ],
)
def test_filters_narrow_what_is_found(filters: dict[str, Any], expected: list[str]) -> None:
    of = catalogue(*FILTERED, states=lambda: {"prod/ads": "down"})
    assert names(of.find(caller(), Query(**filters))) == expected


def test_facets_count_what_each_value_of_a_filter_would_give() -> None:
    found = catalogue(*FILTERED).find(caller(), Query(owner=("ads-eng",)))
    assert (found.counts.matched, found.counts.known) == (2, 4)
    assert found.facets["owner"] == {"ads-eng": 2, "finance": 2}
    assert found.facets["namespace"] == {"dev": 1, "prod": 1}
    assert found.facets["sensitivity"] == {"internal": 1, "restricted": 1}
    assert found.facets["status"] == {"unknown": 2}


def test_a_new_status_counts_at_once() -> None:
    states = {"prod/ads": "live"}
    of = catalogue(*FILTERED, states=lambda: states)
    assert names(of.find(caller(), Query(status=("live",)))) == ["prod/ads"]
    states = {"prod/fin": "live"}
    assert names(of.find(caller(), Query(status=("live",)))) == ["prod/fin"]


def test_a_service_knows_of_what_it_may_reach_alone() -> None:
    robot = "spiffe://example.org/report"
    of = catalogue(*FILTERED, server("prod/api", groups=(), services=(robot,), surfaces=("service",)))
    found = of.find(caller(robot, service=True), Query())
    assert (names(found), found.counts.known, found.facets["owner"]) == (["prod/api"], 1, {"platform": 1})


def test_a_draft_is_for_its_owners_reviewers_and_operators_and_no_count_tells_others_of_it() -> None:
    draft = server("prod/new", owner="ads-eng", lifecycle=Lifecycle.DRAFT, description="Unheard of")
    of = catalogue(server("prod/old"), draft, overseers=lambda: frozenset({"operators", "legal", "security"}))
    for groups in (("ads-eng",), ("legal",), ("operators", "sales")):
        assert names(of.find(caller("fay", *groups), Query("unheard"))) == ["prod/new"]
        assert of.find(caller("fay", *groups), Query()).facets["lifecycle"] == {"draft": 1, "live": 1}
    for text in ("unheard", "new", ""):
        found = of.find(caller("fay", "sales"), Query(text))
        assert "prod/new" not in names(found)
        assert (found.counts.known, found.facets["lifecycle"].get("draft")) == (1, None)


@pytest.mark.parametrize("lifecycle", [Lifecycle.RETIRED, Lifecycle.IN_REVIEW, Lifecycle.APPROVED])
def test_a_server_that_is_not_reachable_is_found_but_not_by_its_tools(lifecycle: Lifecycle) -> None:
    of = catalogue(server("prod/old", ["echo"], lifecycle=lifecycle))
    assert names(of.find(caller(), Query("old"))) == ["prod/old"]
    assert names(of.find(caller(), Query("echo"))) == names(of.find(caller(), Query(usable_from="cli"))) == []
    assert names(of.find(caller(), Query(lifecycle=(lifecycle,)))) == ["prod/old"]


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("text", ["", "revenue", "re ads"])
def test_pages_one_after_the_other_are_the_whole_in_its_order(text: str, limit: int) -> None:
    of = catalogue(*RANKED)
    whole = names(of.find(caller(), Query(text)))
    pages = every_page(of, caller(), Query(text, limit=limit))
    assert [name for page in pages for name in names(page)] == whole
    assert all(len(page.items) == limit for page in pages[:-1])


def test_a_cursor_goes_on_where_it_was_although_its_server_has_gone() -> None:
    servers = {f"prod/s{number}": server(f"prod/s{number}") for number in range(6)}
    of = Catalogue(lambda: Snapshot(servers=dict(servers)))
    first = of.find(caller(), Query(limit=3))
    del servers["prod/s2"]
    servers["prod/s1a"] = server("prod/s1a")
    assert names(of.find(caller(), Query(limit=3, cursor=first.next))) == ["prod/s3", "prod/s4", "prod/s5"]


@pytest.mark.parametrize(
    "query",
    [
        Query("x" * 201),
        Query("a b c d e f g h i"),
        Query(limit=0),
        Query(limit=201),
        Query(cursor=""),
        Query(cursor="%"),
        Query(cursor="é"),
        Query(cursor="W10"),
        Query(cursor="WyIiLDAsMF0"),
        Query(cursor="W1tbW1tb" * 100),
    ],
)
def test_a_bad_query_is_refused_naming_the_field(query: Query) -> None:
    with pytest.raises(QueryRefused) as refused:
        catalogue(*RANKED).find(caller(), query)
    assert getattr(query, refused.value.field) != getattr(Query(), refused.value.field)
    assert refused.value.mend


def test_in_one_request_so_many_servers_tools_are_worked_out_and_the_next_page_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = names(catalogue(*RANKED).find(caller(), Query("revenue")))
    monkeypatch.setattr("pegboard_hub.registry.search.SERVERS_PER_REQUEST", 5)
    pages = every_page(catalogue(*RANKED), caller(), Query("revenue"))
    assert [names(page) for page in pages] == [whole[:8], [], [], whole[8:]]
    again = catalogue(*RANKED)
    every_page(again, caller(), Query("revenue"))
    assert names(again.find(caller(), Query("revenue"))) == whole


def test_what_was_worked_out_for_one_stranger_serves_the_next_but_whom_a_policy_names_and_from_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = server("prod/finance", {"revenue": "some"}, {"some": policy_of("finance")})
    whole = names(catalogue(*RANKED, closed).find(caller(), Query("revenue")))
    monkeypatch.setattr("pegboard_hub.registry.search.SERVERS_PER_REQUEST", 5)
    now = dict(snapshot(*RANKED, closed).servers)
    of = Catalogue(lambda: Snapshot(servers=now))

    def pages(who: Caller) -> int:
        return len(every_page(of, who, Query("revenue")))

    assert [pages(caller()), pages(caller("fay", "sales")), pages(caller("kim", "finance"))] == [4, 1, 1]
    assert names(of.find(caller("fay", "sales"), Query("revenue"))) == whole
    assert "prod/finance" in names(of.find(caller("kim", "finance"), Query("revenue")))
    assert pages(caller("fay", "sales", surface="chat")) == 4
    now = now | {f"prod/b{letter}": server(f"prod/b{letter}", ["revenue"]) for letter in "abcd"}
    assert "prod/bc" in names(of.find(caller("pat", "hr"), Query("revenue")))


def test_a_cursor_is_of_one_query_alone() -> None:
    of = catalogue(*RANKED)
    cursor = of.find(caller(), Query("revenue", limit=2)).next
    with pytest.raises(QueryRefused):
        of.find(caller(), Query("ads", cursor=cursor))
    with pytest.raises(QueryRefused):
        of.find(caller(), Query("revenue", owner=("platform",), cursor=cursor))
    assert of.find(caller(), Query("revenue", limit=9, cursor=cursor)).items


# The same as the core says, for any registry.

GROUPS = ("everyone", "ads", "fin", "platform", "security")
POLICIES = {
    "ads": policy_of("ads"),
    "either": policy_of("ads", "fin"),
    "person": 'permit (principal == Person::"ana", action, resource);',
    "but": 'permit (principal, action, resource) unless { principal == Person::"fay" };',
    "cli": 'permit (principal, action, resource) when { context.surface == "cli" };',
    "dev": 'permit (principal, action, resource in Namespace::"dev");',
    "tool": 'permit (principal, action, resource == Tool::"dev/s1/get_ads");',
    "server": 'permit (principal, action, resource in Server::"prod/s2");',
    "channel": 'permit (principal, action, resource) when { context has channel && context.channel == "ads" };',
    "service": "permit (principal is Service, action, resource);",
    "nobody": "forbid (principal, action, resource);",
    "call": 'permit (principal, action == Action::"call", resource);',
    "late": '@arguments("n")\npermit (principal in Group::"fin", action, resource) when { context has args };',
}
TOOLS = ("get_ads", "list_ads", "ads", "revenue", "get-revenue", "zebra")
TEXTS = ("ads", "get ads", "revenue", "s1", "prod", "z", "e", "does", "get_ads", "ads ads", "something s")


def _subset(values: tuple[str, ...], most: int = 3) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=most, unique=True).map(tuple)


servers_ = st.builds(
    lambda name, tools, **more: server(name, tools, POLICIES, **more),
    st.sampled_from([f"{space}/s{number}" for space in ("dev", "prod") for number in range(4)]),
    st.dictionaries(st.sampled_from(TOOLS), st.sampled_from(("open", *POLICIES)), max_size=4),
    groups=_subset(GROUPS),
    surfaces=_subset(SURFACES, 5),
    channels=_subset(("ads", "fin")),
    services=_subset(("spiffe://x.org/a",)),
    owner=st.sampled_from(("platform", "ads")),
    sensitivity=st.sampled_from(("internal", "public", "confidential")),
    title=st.sampled_from((None, "Ads", "Get the revenue")),
    lifecycle=st.sampled_from((Lifecycle.LIVE, *Lifecycle)),
)
registries = st.lists(servers_, max_size=6, unique_by=lambda one: str(one.name))
callers = st.one_of(
    st.builds(
        lambda sub, groups, surface, channel: caller(sub, *groups, surface=surface, channel=channel),
        st.sampled_from(("ana", "fay")),
        _subset(GROUPS[1:]),
        st.sampled_from(SURFACES),
        st.sampled_from((None, "ads")),
    ),
    st.just(caller("spiffe://x.org/a", service=True)),
)


@settings(max_examples=150, deadline=None)
@given(registries, st.lists(callers, min_size=1, max_size=4))
def test_reach_and_listed_tools_are_what_the_core_decides(
    servers: list[RegisteredServer], people: list[Caller]
) -> None:
    of = catalogue(*servers)
    for who in people:
        reachable = {str(each.name) for each in of.reachable(who)}
        assert reachable == {str(each.name) for each in servers if reaches(who, each, URL)}
        for each in servers:
            assert visible_tools(who, each, URL) == _listed(who, each)


def _listed(who: Caller, each: RegisteredServer) -> list[ToolDeclaration]:
    """Every tool asked about anew."""
    if each.release is None or not reaches(who, each, URL):
        return []
    bound, access, governed = bound_to(who, each, URL), each.access(URL), each.release.governed
    return [tool for tool in each.release.tools if decide_tool(bound, access, governed, tool.name, "list").allowed]


@settings(max_examples=150, deadline=None)
@given(registries, st.lists(callers, min_size=1, max_size=3), st.sampled_from(TEXTS))
def test_what_is_found_is_what_looking_at_every_server_finds(
    servers: list[RegisteredServer], people: list[Caller], text: str
) -> None:
    of = catalogue(*servers)
    for who in people:
        expected = sorted((rank, str(each.name)) for each in servers if (rank := _rank(who, each, text)) is not None)
        assert names(of.find(who, Query(text))) == [name for _, name in expected]


def _rank(who: Caller, each: RegisteredServer, text: str) -> int | None:
    """The rank of a server, found the slow way."""
    if who.sub_type == "service" and not reaches(who, each, URL):
        return None
    if each.lifecycle is Lifecycle.DRAFT and {each.owner, "security"}.isdisjoint(who.groups):
        return None
    assert each.release is not None
    listed = each.release.tools if insider(who, each) else _listed(who, each)
    manifest = each.release.manifest
    fields = (
        [each.name.name, str(each.name)],
        [manifest.title or ""],
        [tool.name for tool in listed],
        [manifest.description],
    )
    total = 0
    for word in set(text.split()):
        ranks = [
            4 * number + kind
            for number, values in enumerate(fields)
            for value in values
            if (kind := _kind(folded(value), folded(word))) is not None
        ]
        if not ranks:
            return None
        total += min(ranks)
    return total


def _kind(value: str, word: str) -> int | None:
    if value == word:
        return 0
    if value.startswith(word):
        return 1
    if f" {word}" in value:
        return 2
    return 3 if word in value and len(word) > 1 else None


@settings(max_examples=60, deadline=None)
@given(st.lists(registries, min_size=2, max_size=6), callers, st.sampled_from(TEXTS))
def test_an_index_that_follows_finds_what_a_new_one_does(
    steps: list[list[RegisteredServer]], who: Caller, text: str
) -> None:
    now: dict[str, RegisteredServer] = {}
    of = Catalogue(lambda: Snapshot(servers=now))
    for servers in steps:
        # Most steps change a few servers, as people do; some replace all, as an import does.
        now = (
            {str(each.name): each for each in servers}
            if len(servers) > 4
            else now | {str(each.name): each for each in servers}
        )
        fresh = catalogue(*now.values())
        for query in (Query(text), Query()):
            found, expected = of.find(who, query), fresh.find(who, query)
            assert found.items == expected.items
            assert (found.counts, found.facets) == (expected.counts, expected.facets)


def test_one_changed_server_is_looked_at_again_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {f"prod/s{number}": server(f"prod/s{number}", ["echo"]) for number in range(50)}
    of = Catalogue(lambda: Snapshot(servers=now))
    of.find(caller(), Query("echo"))
    looked: list[str] = []
    texts = indexing._texts

    def noted(one: RegisteredServer) -> tuple[str, str, str, str]:
        looked.append(str(one.name))
        return texts(one)

    monkeypatch.setattr(indexing, "_texts", noted)
    now = now | {"prod/s7": replace(now["prod/s7"], granted=now["prod/s7"].granted._replace(groups=("other",)))}
    assert "prod/s7" not in names(of.find(caller(), Query("echo")))
    now = now | {"prod/new": server("prod/new", ["echo"])}
    assert "prod/new" in names(of.find(caller(), Query("echo")))
    assert looked == ["prod/s7", "prod/new"]


def test_what_is_kept_of_words_people_and_changes_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pegboard_hub.registry.search.MOST_VIEWS", 6)
    monkeypatch.setattr("pegboard_hub.registry.listing.MOST_ALIKE", 2)
    monkeypatch.setattr("pegboard_hub.registry.indexing.MOST_WORDS_KEPT", 5)
    now = {f"prod/s{number}": server(f"prod/s{number}", ["echo"]) for number in range(10)}
    of = Catalogue(lambda: Snapshot(servers=now))
    of._listings = Listings(most=3)
    for number in range(200):
        who = caller("ana", f"team-{number}")
        found = of.find(who, Query(f"echo s{number % 10}"))
        assert names(found) == [f"prod/s{number % 10}"]
        changed = f"prod/s{number % 7}"
        now = now | {changed: replace(now[changed], reason=str(number))}
    assert len(of._views) <= 6
    assert len(of._listings._answers) <= 3
    assert all(len(deployed.masks) <= 2 for deployed in of._listings._deployed.values())
    assert len(of._index._words) <= 5
    assert len(of._index._log) <= indexing.MOST_CHANGES_KEPT
