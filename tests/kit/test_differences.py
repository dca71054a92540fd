"""The difference of two declarations is complete, readable, and says what opens something."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from pegboard.core.differences import Change, compared, differences
from pegboard.core.release import Declaration

TOOL: dict[str, Any] = {
    "name": "add",
    "description": "Add two numbers.",
    "policy": "team",
    "minutes_saved": 1,
    "read_only": False,
    "destructive": True,
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer", "description": "the first one"}}},
    "approval": {"by": "owner", "own": False, "expires_s": 3600},
    "confirmation": "Add {a}?",
}


def declared(
    *tools: dict[str, Any], team: str = "permit (principal, action, resource);\n", **said: Any
) -> Declaration:
    manifest = {
        "name": "sums",
        "entry": "sums:server",
        "description": "Sums.",
        "owner": "platform",
        "support_channel": "#sums",
    }
    return Declaration.model_validate(
        {"manifest": manifest | said, "tools": tools or (TOOL,), "policies": {"team": team}}
    )


def changes(before: Declaration, after: Declaration) -> list[tuple[str, str, str, bool]]:
    return [(each.subject, each.field, each.kind, each.opens) for each in differences(before, after)]


def test_nothing_differs_from_itself() -> None:
    assert differences(declared(), declared()) == ()


@pytest.mark.parametrize(
    ("said", "field", "kind", "opens"),
    [
        ({"title": "Add"}, "title", "added", True),
        ({"description": "Add three numbers."}, "description", "changed", True),
        ({"policy": "all"}, "policy", "changed", True),
        ({"minutes_saved": 3}, "minutes_saved", "changed", False),
        ({"read_only": True}, "read_only", "changed", True),
        ({"destructive": False}, "destructive", "changed", True),
        ({"destructive": None}, "destructive", "removed", False),
        ({"idempotent": True}, "idempotent", "added", False),
        ({"open_world": True}, "open_world", "added", False),
        ({"confirmation": None}, "confirmation", "removed", True),
        ({"confirmation": "Really add {a}?"}, "confirmation", "changed", False),
        ({"approval": TOOL["approval"] | {"by": "caller"}}, "approval/by", "changed", True),
        ({"input_schema": {"type": "object"}}, "input_schema/properties/a/type", "removed", True),
        ({"output_schema": {"type": "string"}}, "output_schema/type", "added", False),
    ],
)
def test_every_field_of_a_tool(said: dict[str, Any], field: str, kind: str, opens: bool) -> None:
    found = changes(declared(), declared(TOOL | said))
    assert ("tool add", field, kind, opens) in found
    assert {subject for subject, *_ in found} == {"tool add"}


def test_no_field_of_a_tool_is_forgotten() -> None:
    other = {
        "title": "T",
        "description": "D",
        "policy": "p",
        "minutes_saved": 2,
        "read_only": True,
        "destructive": False,
        "idempotent": True,
        "open_world": True,
        "confirmation": "C?",
        "input_schema": {"type": "object", "title": "I"},
        "output_schema": {"type": "string"},
        "approval": {"by": "caller", "own": True, "expires_s": 60},
    }
    assert {"name", *other} == set(type(declared().tools[0]).model_fields)
    for name, value in other.items():
        assert changes(declared(), declared(TOOL | {name: value})), name


def test_tools_and_policies_come_and_go() -> None:
    other = TOOL | {"name": "take", "approval": None, "confirmation": None}
    assert changes(declared(), declared(TOOL, other)) == [("tool take", "", "added", True)]
    assert changes(declared(TOOL, other), declared()) == [("tool take", "", "removed", False)]
    [change] = differences(declared(), declared(team="permit (principal, action, resource);\nforbid (…);\n"))
    assert (change.subject, change.unit, change.opens) == ("policy team", "line", True)
    assert [(part.op, part.text) for part in change.parts] == [
        ("same", "permit (principal, action, resource);\n"),
        ("new", "forbid (…);\n"),
    ]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"egress": ["a.example:443"]}, ("manifest", "egress", "added", True)),
        ({"secrets": {"API_TOKEN": "env:TOKEN"}}, ("manifest", "secrets.API_TOKEN", "added", True)),
        ({"requests": {"surfaces": ["chat"]}}, ("manifest", "requests.surfaces", "added", True)),
        ({"requests": {"business_groups": ["all"]}}, ("manifest", "requests.business_groups", "added", True)),
        ({"sensitivity": "public"}, ("manifest", "sensitivity", "changed", True)),
        ({"uses_models": True}, ("manifest", "uses_models", "changed", True)),
        ({"owner": "finance"}, ("manifest", "owner", "changed", False)),
        ({"links": {"docs": "https://wiki.example/"}}, ("manifest", "links.docs", "added", False)),
        ({"resources": {"memory_mb": 1024}}, ("manifest", "resources.memory_mb", "changed", False)),
        ({"smoke": [{"tool": "add"}]}, ("manifest", "smoke", "added", False)),
    ],
)
def test_the_manifest(said: dict[str, Any], expected: tuple[str, str, str, bool]) -> None:
    assert changes(declared(), declared(**said)) == [expected]
    [(subject, field, kind, opens)] = changes(declared(**said), declared())
    assert (subject, field) == expected[:2]
    assert kind == {"added": "removed"}.get(expected[2], "changed")
    assert opens == (expected[3] and kind == "changed")


def test_how_a_server_of_somebody_elses_is_started_and_what_it_is_told_opens_something() -> None:
    def proxied(**said: Any) -> Declaration:
        return declared(entry=None, proxy={"command": ["python", "a.py"], **said})

    assert changes(proxied(), proxied(tell_caller=True)) == [("manifest", "proxy.tell_caller", "changed", True)]
    assert ("manifest", "proxy.command", "added", True) in changes(proxied(), proxied(command=["python", "b.py"]))


def test_what_models_are_told_at_first() -> None:
    told = declared().model_copy(update={"instructions": "Ask first."})
    assert changes(declared(), told) == [("instructions", "", "added", True)]
    assert changes(told, declared()) == [("instructions", "", "removed", True)]


def test_everything_is_new_where_there_was_nothing() -> None:
    found = differences(None, declared(egress=["a.example:443"]))
    assert {each.kind for each in found} == {"added"}
    assert {each.subject for each in found} == {"tool add", "policy team", "manifest"}


def test_a_text_is_told_word_by_word() -> None:
    [change] = differences(declared(), declared(TOOL | {"description": "Add three numbers, and say so."}))
    assert change.lines() == ["~ tool add, description", "    Add [-two -]{+three +}numbers{+, and say so+}."]


def test_the_pieces_give_both_texts_again() -> None:
    drawn = random.Random(11)  # noqa: S311 - the same test each time
    words = ["a", "b", "c.", "d,", "é", "\n", "日本"]
    for _ in range(200):
        one, two = (" ".join(drawn.choices(words, k=drawn.randrange(12))) for _ in "12")
        for unit in ("word", "line"):
            parts = compared(one, two, unit)  # type: ignore[arg-type]
            assert "".join(part.text for part in parts if part.op != "new") == one
            assert "".join(part.text for part in parts if part.op != "gone") == two


def test_texts_that_are_made_to_be_slow_are_told_as_a_whole() -> None:
    drawn = random.Random(3)  # noqa: S311 - the same test each time
    one, two = (" ".join(drawn.choices("ab", k=4_000)) for _ in "12")
    begun = time.process_time()
    assert len(compared(one, two, "word")) == 2
    assert time.process_time() - begun < 1


def test_a_change_can_be_kept_and_read_again() -> None:
    [change] = differences(declared(), declared(owner="finance"))
    assert Change.model_validate_json(change.model_dump_json()) == change


def test_a_first_release_tells_what_its_author_wrote_and_no_default() -> None:
    found = differences(None, declared(resources={"memory_mb": 1024}))
    written = {"name", "entry", "description", "owner", "support_channel", "sensitivity", "resources.memory_mb"}
    assert {each.field for each in found if each.subject == "manifest"} == written
