"""A form made of a tool's input schema: its fields, and the arguments that a filled-in one says."""

from __future__ import annotations

from typing import Any

import pytest

from pegboard_hub.web.pages.servers.tool_form import fields_of, read_form
from pegboard_hub.web.pages.servers.tool_result import shown_result

TEXT = {"type": "string"}


def schema(required: tuple[str, ...] = (), /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def said(described: Any, text: str, *, required: bool = False) -> tuple[dict[str, Any], str]:
    """The arguments that one field gives, and what is wrong with it."""
    whole = schema(("x",) if required else (), x=described)
    arguments, fields = read_form(fields_of(whole), whole, {"a0": text})
    return arguments, fields[0].problem


@pytest.mark.parametrize(
    ("described", "kind"),
    [
        (TEXT, "lines"),
        (TEXT | {"maxLength": 20}, "text"),
        (TEXT | {"format": "date"}, "text"),
        ({"type": "integer"}, "integer"),
        ({"type": "number"}, "number"),
        ({"type": "boolean"}, "boolean"),
        ({"enum": ["a", 1, None]}, "choice"),
        ({"type": "array", "items": TEXT}, "json"),
        ({"type": "object"}, "json"),
        ({}, "json"),
        (True, "json"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer"),
        ({"type": ["string", "null"]}, "lines"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "json"),
        ({"$ref": "#/$defs/nothing"}, "json"),
    ],
)
def test_each_type_has_its_field(described: Any, kind: str) -> None:
    assert fields_of(schema(x=described))[0].kind == kind


def test_a_reference_into_the_schema_is_followed() -> None:
    whole = schema(x={"$ref": "#/$defs/word", "description": "a word"}) | {"$defs": {"word": {"enum": ["a", "b"]}}}
    field = fields_of(whole)[0]
    assert (field.kind, field.choices, field.about) == ("choice", ('"a"', '"b"'), "a word")


def test_what_is_taken_where_nothing_is_said_stands_in_the_field() -> None:
    values = {
        "s": TEXT | {"default": "x y"},
        "n": {"type": "integer", "default": 7},
        "b": {"type": "boolean", "default": True},
    }
    assert [field.value for field in fields_of(schema(**values))] == ["x y", "7", "true"]


@pytest.mark.parametrize(
    ("described", "text", "value"),
    [
        (TEXT, " a\r\nb ", " a\nb "),
        (TEXT, "<script>", "<script>"),
        ({"type": "integer"}, " 7 ", 7),
        ({"type": "integer"}, "7.0", 7),
        ({"type": "number"}, "-1.5e3", -1500.0),
        ({"type": "boolean"}, "false", False),
        ({"enum": ["a", 1]}, "1", 1),
        ({"enum": ["a", 1]}, '"a"', "a"),
        ({"type": "array"}, "[1, 2]", [1, 2]),
        ({"type": "object"}, '{"a": {"b": 1}}', {"a": {"b": 1}}),
        ({}, '"text"', "text"),
    ],
)
def test_a_field_says_its_argument(described: Any, text: str, value: Any) -> None:
    assert said(described, text) == ({"x": value}, "")


@pytest.mark.parametrize(
    ("described", "text", "problem"),
    [
        ({"type": "integer"}, "seven", "write a whole number, such as 200"),
        ({"type": "integer"}, "7.5", "a whole number"),
        ({"type": "integer"}, "true", "write a whole number"),
        ({"type": "number"}, "NaN", "write a number, such as 2.5"),
        ({"type": "boolean"}, "yes", "true or false"),
        ({"enum": ["a"]}, '"b"', "choose one"),
        ({"type": "array"}, "{}", "a JSON list"),
        ({"type": "object"}, "[]", "a JSON object"),
        ({"type": "object"}, '{"a": 1, "a": 2}', "a key stands twice"),
        ({"type": "array"}, "[" * 100_000, "not JSON"),
        ({"type": "integer", "minimum": 3}, "2", "less than 3"),
        ({"type": "integer", "maximum": 3}, "4", "more than 3"),
        (TEXT | {"minLength": 3}, "ab", "shorter than 3"),
        (TEXT | {"maxLength": 3}, "abcd", "longer than 3"),
    ],
)
def test_what_cannot_be_names_its_field_and_the_mend(described: Any, text: str, problem: str) -> None:
    arguments, told = said(described, text)
    assert arguments == {}
    assert told.startswith("x: ")
    assert problem in told


def test_an_empty_field_is_left_out_unless_it_is_required() -> None:
    assert said(TEXT, "") == ({}, "")
    assert said(TEXT, "", required=True) == ({}, "x: it is required.")


@pytest.mark.parametrize(
    "whole",
    [
        schema(**{f"p{number}": TEXT for number in range(41)}),
        {"type": "object", "additionalProperties": True},
        schema(**{"": TEXT}),
    ],
)
def test_what_a_form_cannot_say_in_fields_is_written_as_json(whole: dict[str, Any]) -> None:
    fields = fields_of(whole)
    assert [field.label for field in fields] == ["All arguments, as JSON"]
    assert read_form(fields, whole, {"a0": '{"p1": "x", "p2": 2}'})[0] == {"p1": "x", "p2": 2}
    assert "one JSON object" in read_form(fields, whole, {"a0": "[]"})[1][0].problem


@pytest.mark.parametrize("whole", [{}, {"properties": []}, {"properties": {}, "required": "x"}, {"type": "object"}])
def test_a_schema_that_names_nothing_has_no_fields(whole: dict[str, Any]) -> None:
    assert fields_of(whole) == ()


@pytest.mark.parametrize(
    ("structured", "columns", "rows"),
    [
        (
            {"result": [{"a": 1, "b": None}, {"a": 2, "c": [3]}]},
            ("a", "b", "c"),
            (("1", "—", "—"), ("2", "—", "[3]")),
        ),
        ({"columns": ["a", "b"], "rows": [[1, 2], [3]]}, ("a", "b"), (("1", "2"), ("3", ""))),
        ({"columns": [{"name": "a"}], "rows": [["x", "too many"]]}, ("a",), (("x",),)),
        ([{"a": "x" * 400}], ("a",), (("x" * 300 + "…",),)),
    ],
)
def test_rows_of_a_result_become_a_table(structured: Any, columns: tuple[str, ...], rows: Any) -> None:
    [table] = shown_result({"structuredContent": structured}).tables
    assert (table.columns, table.rows) == (columns, rows)


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"content": "text"},
        {"content": [None, 1, {"type": "text"}, {"type": "image", "data": "x"}, {"type": "resource", "resource": 1}]},
        {"content": [{"type": "text", "text": {"a": 1}}], "structuredContent": {"rows": 1, "columns": [1]}},
        {"structuredContent": {"columns": [], "rows": [[]]}},
        {"isError": "yes", "content": [{"type": "resource_link", "uri": None}]},
    ],
)
def test_whatever_a_server_answers_can_be_shown(result: dict[str, Any]) -> None:
    assert shown_result(result).failed is False


def test_a_long_text_is_cut_and_says_so() -> None:
    [text] = shown_result({"content": [{"type": "text", "text": "x" * 30_000}]}).texts
    assert len(text) < 20_100
    assert text.endswith("10,000 characters more")
