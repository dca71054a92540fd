"""Cursors, entity tags and bodies: what every route of the API shares."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pegboard.core.caller import Caller
from pegboard_hub.common.cursors import Cursors
from pegboard_hub.common.requests import Refused
from pegboard_hub.web.api.etag import Version, tag_of
from pegboard_hub.web.paging import AskedPage, cursor_of, page_of, place_of

ANA = Caller(
    sub="ana",
    sub_type="person",
    groups=("ads-eng",),
    surface="cli",
    client_id="pegboard-cli",
    audience="",
    expires_at=0,
    token_id="",
)
CURSORS = Cursors(b"k" * 32)


class Asked(AskedPage):
    q: str = ""


def walked(names: list[str], limit: int) -> list[str]:
    found: list[str] = []
    asked = AskedPage(limit=limit)
    while True:
        page = page_of(names, lambda name: name, CURSORS, ANA, "names", asked)
        assert len(page.items) <= limit
        found += page.items
        if page.next is None:
            return found
        asked = AskedPage(limit=limit, cursor=page.next)


@given(st.sets(st.text(), max_size=20), st.integers(1, 7))
def test_all_pages_together_are_the_whole_list(names: set[str], limit: int) -> None:
    assert walked(sorted(names), limit) == sorted(names)


def test_an_entry_that_leaves_between_two_pages_moves_no_other() -> None:
    first = page_of(list("abcdef"), str, CURSORS, ANA, "names", AskedPage(limit=2))
    rest = page_of(list("acdef"), str, CURSORS, ANA, "names", AskedPage(limit=9, cursor=first.next))
    assert (first.items, rest.items) == (["a", "b"], ["c", "d", "e", "f"])


GIVEN = cursor_of(CURSORS, "b", ANA, "names", Asked(q="x"))
OTHERS = {
    "somebody else": (GIVEN, replace(ANA, sub="fay"), "names", Asked(q="x")),
    "a service of that name": (GIVEN, replace(ANA, sub_type="service"), "names", Asked(q="x")),
    "another surface": (GIVEN, replace(ANA, surface="chat"), "names", Asked(q="x")),
    "another list": (GIVEN, ANA, "tools", Asked(q="x")),
    "another question": (GIVEN, ANA, "names", Asked(q="y")),
    "no question": (GIVEN, ANA, "names", None),
    "nothing": ("", ANA, "names", Asked(q="x")),
    "half of it": (GIVEN[: len(GIVEN) // 2], ANA, "names", Asked(q="x")),
    "more behind it": (GIVEN + "AAAA", ANA, "names", Asked(q="x")),
    "padding": (GIVEN + "==", ANA, "names", Asked(q="x")),
    "a line break": (GIVEN + "\n", ANA, "names", Asked(q="x")),
    "no base64": ("%%%", ANA, "names", Asked(q="x")),
    "other letters": ("ü" * 20, ANA, "names", Asked(q="x")),
    "another instance": (cursor_of(Cursors(b"l" * 32), "b", ANA, "names", Asked(q="x")), ANA, "names", Asked(q="x")),
    "no key": (base64.urlsafe_b64encode(b'"b"').decode(), ANA, "names", Asked(q="x")),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_cursor_of_anything_else_is_refused_by_its_name(case: str) -> None:
    with pytest.raises(Refused) as refused:
        place_of(CURSORS, *OTHERS[case])
    assert (refused.value.status, refused.value.refusal.reason) == (400, "invalid_cursor")
    assert refused.value.refusal.message.startswith("cursor: ")


@given(st.integers(0, len(GIVEN) - 1), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"))
def test_a_cursor_with_one_letter_changed_is_refused(at: int, letter: str) -> None:
    changed = GIVEN[:at] + letter + GIVEN[at + 1 :]
    if changed == GIVEN:
        assert place_of(CURSORS, changed, ANA, "names", Asked(q="x")) == "b"
        return
    with pytest.raises(Refused, match="cursor"):
        place_of(CURSORS, changed, ANA, "names", Asked(q="x"))


def test_a_page_may_be_shorter_than_the_one_before() -> None:
    asked = Asked(q="x", limit=7)
    assert place_of(CURSORS, GIVEN, ANA, "names", asked) == "b"


def test_a_tag_differs_by_who_asks_and_by_version() -> None:
    tags = {
        tag_of(b"{}", ANA),
        tag_of(b"{}", replace(ANA, sub="fay")),
        tag_of(b"{}", ANA, Version("prod/presto", 3)),
        tag_of(b"{ }", ANA, Version("prod/presto", 3)),
        tag_of(b"{}", ANA, Version("dev/scratch", 3)),
    }
    assert len(tags) == 5
    assert all(tag[0] == tag[-1] == '"' for tag in tags)
