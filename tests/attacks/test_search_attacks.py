"""Searching for what one may not know.

Rule (design, Refusals and Rules of trust): nobody learns of a tool they may not list, not by a hit, not by a count,
not by the order, not by a cursor or by how long a page is. So two registries that differ in hidden tools alone must
answer every question of this caller alike, to the last character.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import pytest

from pegboard.core.caller import Caller
from pegboard_hub.registry.explain import visible_tools
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.query import Query, QueryRefused
from pegboard_hub.registry.search import Catalogue
from tests.hub.catalogues import URL, caller, catalogue, every_page, names, policy_of, server

SECRET = "delete_payroll"
HIDDEN = {"ads-only": policy_of("ads"), "ana-only": 'permit (principal == Person::"ana", action, resource);'}


def registry(hidden: Mapping[str, str]) -> list[RegisteredServer]:
    """Servers that everybody reaches, some of which have tools that are hidden from Fay."""
    return [
        server("prod/payroll", ["show", "print"]),
        server("prod/hr", {"show": "open", **hidden}, HIDDEN, title="About payroll"),
        server("prod/people", {**hidden, "show": "open"}, HIDDEN, description="Not of the payroll"),
        *(
            server(f"prod/many-{number:02}", {**hidden, "echo": "open"}, HIDDEN, description="Delete nothing")
            for number in range(12)
        ),
        server("prod/shut", hidden, HIDDEN, groups=("ads",)),
    ]


PLAIN = registry({})
TEXTS = (
    SECRET,
    "delete",
    "payroll",
    "delete payroll",
    "payroll delete_payroll",
    "del",
    "roll",
    "e",
    "show delete",
    "echo delete_payroll",
    "many payroll",
)
FAY = caller("fay")
ASKERS: tuple[Caller, ...] = (FAY, caller("fay", surface="ide"), caller("fay", "sales"), caller("fay", surface="bot"))


@pytest.mark.parametrize("at_once", [1, 3, 500], ids=lambda number: f"{number} servers worked out a request")
@pytest.mark.parametrize("limit", [1, 2, 50])
@pytest.mark.parametrize("policy", HIDDEN)
def test_hidden_tools_change_no_hit_count_order_cursor_or_length_of_a_page(
    policy: str, limit: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pegboard_hub.registry.search.SERVERS_PER_REQUEST", at_once)
    for who in ASKERS:
        for text in TEXTS:
            query = Query(text, limit=limit)
            assert answers(catalogue(*registry({SECRET: policy})), who, query) == answers(
                catalogue(*PLAIN), who, query
            ), (who, text)


@pytest.mark.parametrize("text", TEXTS)
def test_whoever_may_list_them_asked_before_makes_no_difference(text: str) -> None:
    warm = catalogue(*registry({SECRET: "ads-only"}))
    ana = caller("ana", "ads")
    assert "prod/many-00" in names(warm.find(ana, Query(SECRET)))
    assert answers(warm, FAY, Query(text)) == answers(catalogue(*PLAIN), FAY, Query(text))


def test_a_person_named_by_a_policy_lends_nothing_to_others_of_the_same_groups() -> None:
    servers = registry({SECRET: "ana-only"})
    of = catalogue(*servers)
    for _ in range(2):
        assert "prod/hr" in names(of.find(caller("ana"), Query(SECRET)))
        assert names(of.find(FAY, Query(SECRET))) == []
        assert [tool.name for tool in visible_tools(FAY, servers[1], URL)] == ["show"]


def test_a_forged_cursor_brings_nothing_that_was_not_to_be_found() -> None:
    of = catalogue(*registry({SECRET: "ads-only"}))
    first = of.find(FAY, Query("delete", limit=1))
    assert first.next is not None
    padded = first.next + "=" * (-len(first.next) % 4)
    digest, *_ = json.loads(base64.urlsafe_b64decode(padded))
    for rank in (-1, 0, 7, 8, 9, 11, 12, 127, 10**30):
        forged = base64.urlsafe_b64encode(json.dumps([digest, rank, ""]).encode()).decode()
        found = of.find(FAY, Query("delete", cursor=forged))
        assert not any(SECRET in hit.tools for hit in found.items)
        assert set(names(found)) <= {f"prod/many-{number:02}" for number in range(12)}


def test_acting_from_another_surface_shows_only_what_is_listed_there() -> None:
    of = catalogue(server("prod/hr", {SECRET: "chat"}, {"chat": WHEN_CHAT}), server("prod/other"))
    assert names(of.find(FAY, Query(SECRET))) == []
    assert names(of.find(FAY, Query(SECRET, usable_from="chat"))) == ["prod/hr"]
    assert names(of.find(FAY, Query(SECRET, usable_from="ide"))) == []


WHEN_CHAT = 'permit (principal, action, resource) when { context.surface == "chat" };'


def test_owners_and_security_see_every_tool() -> None:
    of = catalogue(*registry({SECRET: "ads-only"}))
    assert len(names(of.find(caller("sam", "security"), Query(SECRET)))) == 15
    assert len(names(of.find(caller("pat", "platform"), Query(SECRET)))) == 15


def test_a_service_that_is_called_like_an_owning_group_is_no_insider() -> None:
    of = catalogue(*registry({SECRET: "ads-only"}))
    robot = caller("spiffe://example.org/a", service=True)
    posing = Caller(**{name: getattr(robot, name) for name in robot.__slots__} | {"groups": ("security", "platform")})
    assert names(of.find(posing, Query(SECRET))) == []


def answers(of: Catalogue, who: Caller, query: Query) -> list[object]:
    """All that a caller is told, page by page."""
    try:
        pages = every_page(of, who, query)
    except QueryRefused as refused:
        return [str(refused)]
    return [
        (
            [(str(hit.server.name), hit.tools, hit.reachable) for hit in page.items],
            page.next,
            page.counts,
            page.facets,
        )
        for page in pages
    ]
