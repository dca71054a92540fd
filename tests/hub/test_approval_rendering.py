"""How a stranger's text is shown to who approves it: nothing hides in it, and all of it is there."""

from __future__ import annotations

import time

import pytest

from pegboard.core.approval import Block
from pegboard_hub.web.pages.approvals.strange import ODD, OPEN_CHARACTERS, OPEN_LINES, Strange, one_line, strange
from pegboard_hub.web.pages.approvals.values import MOST_VALUES, Values


def read(found: Strange) -> str:
    """What one reads, line by line; a line that was cut in two is one again."""
    texts: dict[int, str] = {}
    for line in (*found.open, *found.folded):
        texts[line.number] = texts.get(line.number, "") + line.text
    return "\n".join(texts.values())


def odd(found: Strange) -> list[str]:
    """What is marked."""
    return [piece.text for line in (*found.open, *found.folded) for piece in line.pieces if piece.style == ODD]


@pytest.mark.parametrize(
    "kind_and_text",
    [
        ("sql", "SELECT a, 'it''s' -- why\nFROM t /* b */ WHERE n > 1.5;\n"),
        ("sql", "'never ends"),
        ("json", '{"a": [1, 2.5, null], "b": "\\u0041"}'),
        ("json", "{not json"),
        ("diff", "--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n same"),
        ("text", "line\n\n\nline\n"),
        ("sql", "SELECT 1;\n" * 5000),
        ("text", "x" * 100_000),
    ],
)
def test_all_of_a_plain_text_is_there_character_by_character(kind_and_text: tuple[str, str]) -> None:
    kind, text = kind_and_text
    found = strange(text, kind)  # type: ignore[arg-type]
    assert read(found) == text
    assert not odd(found)
    assert not found.notes
    assert found.characters == len(text)


@pytest.mark.parametrize(
    "hidden",
    [
        "\u202e",
        "\u2066",
        "\u200b",
        "\u200d",
        "\ufeff",
        "\u00ad",
        "\x00",
        "\x1b",
        "\r",
        "\x0b",
        "\u2028",
        "\u3164",
        "\u00a0",
        "\ue000",
        "\U000e0041",
        "\ud800",
        "\u115f",
        "\ufe0f",
        "\ufe01",
        "\U000e0101",
        "\u034f",
        "\u17b4",
        "\u180b",
        "\U0001d159",
    ],
)
@pytest.mark.parametrize("kind", ["text", "sql", "json", "diff"])
def test_what_nobody_sees_is_written_by_its_code_point(hidden: str, kind: str) -> None:
    found = strange(f"SELECT '{hidden}x'", kind)  # type: ignore[arg-type]
    assert odd(found) == [f"‹U+{ord(hidden):04X}›"]
    assert found.notes == ("1 invisible character in it is written by code point.",)


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("drop t\u0430ble", ["\u0430‹U+0430›"]),
        ("\u0441\u043e\u0440\u0443", ["\u0441‹U+0441›\u043e‹U+043E›\u0440‹U+0440›\u0443‹U+0443›"]),
        ("привет \u0441\u043e\u0440\u0443", ["\u0441‹U+0441›\u043e‹U+043E›\u0440‹U+0440›\u0443‹U+0443›"]),
        ("\uff24ROP", ["\uff24‹U+FF24›"]),
        ("\U0001d41aa", ["\U0001d41a‹U+1D41A›"]),
        ("a\u0436b", ["\u0436‹U+0436›"]),
        ("Привет, мир и все, все, все", []),
        ("naïve café Müller Łódź", []),
        ("日本語とカタカナ", []),
        ("καλημέρα", []),
    ],
)
def test_letters_that_pass_for_others_are_marked_and_words_of_one_alphabet_are_not(
    text: str, marked: list[str]
) -> None:
    found = strange(text)
    assert odd(found) == marked
    assert bool(found.notes) == bool(marked)


def test_runs_of_blanks_and_of_empty_lines_are_written_as_their_number() -> None:
    found = strange("SELECT 1;" + " " * 5000 + "DROP TABLE t\n" + "\n" * 400 + " " * 300 + "x", "sql")
    assert odd(found) == ["‹5,000 blanks›", "‹400 empty lines›", "‹300 blanks›"]
    assert "DROP TABLE t" in read(found)
    assert [line.number for line in found.open] == [1, 2, 402]


def test_indentation_as_people_write_it_stays() -> None:
    text = "SELECT a\n" + " " * 20 + "FROM t"
    assert read(strange(text, "sql")) == text


def test_a_heart_is_drawn_as_its_author_wrote_it() -> None:
    assert odd(strange("I \u2764\ufe0f SQL")) == []


def test_what_is_long_is_folded_and_how_much_is_known() -> None:
    found = strange("x\n" * 1000 + "DROP")
    assert len(found.open) == OPEN_LINES
    assert found.folded_lines == 1001 - OPEN_LINES
    assert "DROP" in found.folded[-1].text
    wide = strange("y" * 100_000)
    assert len(wide.open[0].text) == OPEN_CHARACTERS
    assert wide.folded[0].number == 1


def test_what_stands_for_a_character_is_never_cut_in_two() -> None:
    found = strange("x" * (OPEN_CHARACTERS - 2) + "\u202e" + "y")
    assert found.open[0].text == "x" * (OPEN_CHARACTERS - 2)
    assert found.folded[0].text == "‹U+202E›y"


def test_a_line_end_in_a_name_is_written_out() -> None:
    assert "".join(piece.text for piece in one_line("a\nb")) == "a‹U+000A›b"


def test_a_text_that_writes_a_mark_itself_is_not_marked() -> None:
    assert odd(strange("‹U+202E› ‹5,000 blanks›")) == []


@pytest.mark.parametrize(
    "text",
    [
        "\u0301" * 100_000,
        "раурал " * 30_000,
        " " * 250_000,
        "\n" * 250_000,
        "'" * 250_001,
        "/*" * 125_000,
        "x " * 125_000,
    ],
    ids=["marks", "alike", "blanks", "lines", "quotes", "comments", "words"],
)
def test_the_longest_text_is_shown_within_a_second_or_two(text: str) -> None:
    began = time.process_time()
    strange(text, "sql")
    assert time.process_time() - began < 5


SCHEMA = {
    "type": "object",
    "$defs": {
        "Step": {"type": "object", "properties": {"sql": {"type": "string", "contentMediaType": "application/sql"}}}
    },
    "properties": {
        "sql": {"type": "string", "contentMediaType": "application/sql"},
        "patch": {"anyOf": [{"type": "string", "contentMediaType": "text/x-diff; charset=utf-8"}, {"type": "null"}]},
        "steps": {"type": "array", "items": {"$ref": "#/$defs/Step"}},
        "loop": {"$ref": "#/properties/loop"},
        "rows": {"type": "integer"},
    },
}


def labels(arguments: dict[str, object]) -> dict[str, tuple[str, str]]:
    found = Values().arguments(arguments, SCHEMA)
    return {"".join(piece.text for piece in each.label): (each.type, read(each.shown)) for each in found}


def test_each_argument_is_shown_as_what_the_pinned_declaration_says_it_is() -> None:
    assert labels(
        {"sql": "SELECT 1", "patch": "+a", "steps": [{"sql": "SELECT 2", "n": 1}], "rows": 5, "note": "hi"}
    ) == {
        "sql": ("SQL", "SELECT 1"),
        "patch": ("diff", "+a"),
        "steps[0].sql": ("SQL", "SELECT 2"),
        "steps[0].n": ("number", "1"),
        "rows": ("number", "5"),
        "note": ("text", "hi"),
    }


def test_what_a_tool_does_not_declare_is_said_to_be_so_and_what_was_not_sent_is_there() -> None:
    schema = {
        "properties": {"table": {"type": "string"}, "mode": {"default": "overwrite"}, "rows": {"default": None}}
    }
    told = {
        "".join(piece.text for piece in each.label): (read(each.shown), bool(each.notes))
        for each in Values().arguments({"table": "t", "dry_run": True, "x" * 200: 1}, schema)
    }
    assert told == {
        "table": ("t", False),
        "dry_run": ("true", True),
        "an argument with a long name": (f'{{\n  "{"x" * 200}": 1\n}}', True),
        "not sent, so as the tool has it": ('{"mode": "overwrite", "rows": null}', False),
    }
    assert not any(each.notes for each in Values().arguments({"any": 1}, schema | {"additionalProperties": True}))
    assert not any(each.notes for each in Values().arguments({"any": 1}, {}))


def test_a_text_and_a_number_that_look_alike_are_told_apart() -> None:
    assert labels({"rows": "1"}) == {"rows": ("text", "1")}
    assert labels({"rows": 1}) == {"rows": ("number", "1")}
    assert labels({"rows": None, "sql": True}) == {"rows": ("null", "null"), "sql": ("true or false", "true")}


def test_what_is_no_text_of_a_declared_kind_is_whole_json() -> None:
    assert labels({"x": {"a": [1, "\u202e"]}}) == {"x": ("object of 1", '{"a": [1, "‹U+202E›"]}')}
    assert labels({"loop": [1], "steps": []}) == {"loop": ("list of 1", "[1]"), "steps": ("list of 0", "[]")}


def test_a_name_hides_nothing_either_and_reads_as_no_path_of_ours() -> None:
    assert list(labels({"sq\u200bl": "x"})) == ['"sq‹U+200B›l"']
    assert list(labels({"steps[0].sql": "x"})) == ['"steps[0].sql"']
    [found] = Values().arguments({"t\u0430ble": 1}, SCHEMA)
    assert found.notes


def test_a_name_that_is_long_and_arguments_that_are_many_are_json_that_is_folded() -> None:
    [found] = Values().arguments({"x" * 5000: 1}, SCHEMA)
    assert "an argument with a long name" in "".join(piece.text for piece in found.label)
    assert found.folded
    many = Values().arguments({f"a{n}": n for n in range(5000)}, SCHEMA)
    assert len(many) == MOST_VALUES + 1
    assert '"a4999": 4999' in read(many[-1].shown)


def test_of_many_long_values_little_stands_unfolded() -> None:
    found = Values().arguments({f"a{n}": "line\n" * 400 for n in range(30)}, SCHEMA)
    assert sum(len(each.shown.open) for each in found) < 200
    assert all(each.folded for each in found)


def test_blocks_are_shown_as_what_they_are() -> None:
    sql, diff = Values().blocks(
        [Block(title="Plan", kind="sql", text="SELECT 1"), Block(title="Rows", kind="diff", text="-a\n+b")]
    )
    assert [sql.type, diff.type] == ["SQL", "diff"]
    assert [line.mark for line in diff.shown.open] == ["del", "ins"]
