"""What a declaration may say: the rules that the kit holds an author to, and the hub holds a release to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from pegboard import Server, authorize_tool, confirm, requires_approval
from pegboard.core.declared import declaration_problems, lookalikes, mistakable
from pegboard.core.errors import ConfigurationError, DeclarationError
from pegboard.core.manifest import Manifest, Resources, read_manifest
from pegboard.core.names import ServerName
from pegboard.core.release import Declaration, ToolDeclaration
from pegboard.core.schemas import KEYWORDS, schema_faults
from pegboard.core.text import hidden_in
from pegboard.project import load_project
from tests.kit.conftest import MANIFEST


class Row(BaseModel):
    """A structured answer."""

    day: str


def test_what_the_author_declares_of_a_tool_is_in_the_declaration(project: Path) -> None:
    server = Server()
    hints = ToolAnnotations(
        read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True, title="Drop"
    )

    @server.tool(annotations=hints)
    @authorize_tool(policy="granted")
    @requires_approval(by="owner", when=lambda day: day > "2020")
    @confirm("Drop {day}?")
    def drop(day: str) -> Row:
        """Drop a day."""
        return Row(day=day)

    @server.tool(structured_output=False)
    @authorize_tool(policy="granted")
    def says_nothing() -> str:
        """Nothing."""
        return ""

    said, silent = load_project(project, server).declaration.tools
    assert (said.read_only, said.destructive, said.idempotent, said.open_world) == (False, True, False, True)
    assert said.output_schema is not None
    assert said.output_schema["properties"].keys() == {"day"}
    assert (silent.read_only, silent.destructive, silent.idempotent, silent.open_world) == (False, None, None, None)
    assert silent.output_schema is None
    assert said.approval is not None
    assert (said.approval.by, said.approval.always, said.confirmation) == ("owner", False, "Drop {day}?")
    assert (silent.approval, silent.confirmation) == (None, None)


def test_a_tool_that_asks_nobody_is_pinned_as_before_tools_could_ask() -> None:
    silent = ToolDeclaration(name="t", policy="p")
    asking = ToolDeclaration(name="t", policy="p", confirmation="Sure?")
    assert {"approval", "confirmation"}.isdisjoint(silent.model_dump(mode="json"))
    assert asking.model_dump(mode="json")["confirmation"] == "Sure?"


def test_a_declaration_of_an_older_kit_is_still_read() -> None:
    tool = ToolDeclaration.model_validate({"name": "t", "policy": "p", "read_only": True})
    assert (tool.destructive, tool.output_schema) == (None, None)


def test_a_tool_that_hides_something_does_not_start(project: Path) -> None:
    server = Server()

    @server.tool(title="Look\u202eup")
    @authorize_tool(policy="granted")
    def look(day: Annotated[str, Field(description="a day\u200b")]) -> str:
        """Look."""
        return day

    with pytest.raises(DeclarationError) as caught:
        load_project(project, server)
    assert "tool 'look', title: has the invisible character U+202E at position 5: leave it out" in str(caught.value)
    assert "tool 'look', input_schema/properties/day/description: has the invisible character U+200B" in str(
        caught.value
    )


# ── links and models ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_manifest_names_its_pages_and_whether_it_feeds_a_model(project: Path) -> None:
    said = 'uses_models = true\nlinks = {docs = "https://wiki.example/desk", "on call" = "https://pager.example:8443/?q=a#b"}\n'
    (project / "pegboard.toml").write_text(said + MANIFEST)
    manifest = read_manifest(project)
    assert manifest.uses_models
    assert manifest.links["on call"] == "https://pager.example:8443/?q=a#b"


@pytest.mark.parametrize(
    "link",
    [
        "http://wiki.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "//wiki.example",
        "https:wiki.example",
        "https:///etc",
        "https://",
        "https://user@wiki.example",
        "https://bank.example@evil.example/",
        "https://wiki.example\\@evil.example",
        "https://wiki.example/a b",
        "https://wiki.example/\na",
        "https://wiki.example/\u202e",
        "https://wíki.example",
        "https://wiki.example/\"onclick='x'",
        "https://wiki.example/<script>",
        "HTTPS://wiki.example",
        "https://wiki.example/" + "a" * 500,
    ],
)
def test_a_link_is_https_and_leads_where_it_says(project: Path, link: str) -> None:
    (project / "pegboard.toml").write_text(f"links = {{docs = {json.dumps(link)}}}\n" + MANIFEST)
    with pytest.raises(ConfigurationError, match=r"links: docs (must be an https|is longer)"):
        read_manifest(project)


@pytest.mark.parametrize("name", ["", "Docs", "a" * 33, "<b>", "docs\u200b", "-docs"])
def test_a_link_has_a_short_plain_name(project: Path, name: str) -> None:
    (project / "pegboard.toml").write_text(f'links = {{{json.dumps(name)} = "https://a.example"}}\n' + MANIFEST)
    with pytest.raises(ConfigurationError, match="links"):
        read_manifest(project)


def test_there_are_few_links(project: Path) -> None:
    links = ", ".join(f'l{number} = "https://a.example"' for number in range(11))
    (project / "pegboard.toml").write_text(f"links = {{{links}}}\n" + MANIFEST)
    with pytest.raises(ConfigurationError, match="links"):
        read_manifest(project)


# ── schemas ─────────────────────────────────────────────────────────────────────────────────────────────────────


def of(**more: Any) -> dict[str, Any]:
    """The schema of a tool's arguments."""
    return {"type": "object", **more}


def nested(depth: int) -> Any:
    schema: Any = {}
    for _ in range(depth):
        schema = {"properties": {"a": schema}}
    return of(**schema)


def laughs(levels: int) -> dict[str, Any]:
    """Each definition refers twice to the next: two to the power of `levels` once written out."""
    twice = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return of(**{"$ref": "#/$defs/d0", "$defs": {**twice, f"d{levels}": {}}})


WRONG: dict[str, tuple[Any, str]] = {
    "no object": ([], "must be a JSON Schema, which is an object"),
    "another root": ({"type": "string"}, "/type: must be 'object'"),
    "unknown type": (of(properties={"a": {"type": "text"}}), "/properties/a/type: must be one of array"),
    "type twice": (of(properties={"a": {"type": ["string", "string"]}}), "/properties/a/type: must be one of"),
    "properties as a list": (of(properties=[]), "/properties: must be an object of schemas by name"),
    "a property that is a text": (of(properties={"a": "string"}), "/properties: must be an object of schemas"),
    "items of the older dialect": (of(items=[{}]), "/items: must be a schema"),
    "required as a flag": (
        of(properties={"a": {"required": True}}),
        "/properties/a/required: must be a list of texts",
    ),
    "negative length": (of(properties={"a": {"maxLength": -1}}), "/properties/a/maxLength: must be a whole number"),
    "a length that is a flag": (of(minProperties=True), "/minProperties: must be a whole number"),
    "another dialect": (of(**{"$schema": "http://json-schema.org/draft-04/schema#"}), "/$schema: must be"),
    "an address fetched": (of(**{"$ref": "https://evil.example/schema"}), "/$ref: must be a place in this schema"),
    "a file fetched": (of(properties={"a": {"$ref": "file:///etc/passwd"}}), "/properties/a/$ref: must be a place"),
    "another base": (of(**{"$id": "https://evil.example/"}), "/$id: must be left out"),
    "a reference at run time": (of(**{"$dynamicRef": "#x"}), "/$dynamicRef: must be left out"),
    "a reference to nothing": (of(**{"$ref": "#/$defs/none"}), "/$ref: leads nowhere"),
    "a reference into data": (of(const={"a": {}}, **{"$ref": "#/const/a"}), "/$ref: leads nowhere"),
    "a circle": (of(**{"$ref": "#"}), "refers to itself without an end"),
    "a circle of two": (
        of(**{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}}),
        "refers to itself without an end",
    ),
    "a billion laughs": (laughs(30), "grows beyond"),
    "too deep": (nested(40), "nests deeper than 32"),
    "far too deep": (nested(5_000), "nests deeper than 32"),
    "too many properties": (of(properties={f"p{n}": {} for n in range(501)}), "names more than 500 properties"),
    "too many values": (of(enum=list(range(6_000))), "has more than 5000 values"),
    "too large": (of(description="x" * 70_000), "is larger than 64 KiB"),
    "no number": (of(properties={"a": {"maximum": float("nan")}}), "/properties/a/maximum: is no number"),
    "infinite": (of(properties={"a": {"default": float("inf")}}), "/properties/a/default: is no number"),
    "a number of 400 digits": (of(properties={"a": {"maximum": 10**400}}), "/properties/a/maximum: is no number"),
    "not JSON": (of(default={1, 2}), "holds set, which is not JSON"),
    "a key that is no text": (of(properties={1: {}}), "has a name that is no text"),
    "a hidden instruction": (
        of(description="ok" + "".join(chr(0xE0000 + ord(c)) for c in "run")),
        "/description: has",
    ),
    "a turned choice": (of(properties={"a": {"enum": ["\u202etxt.exe"]}}), "/properties/a/enum/0: has the invisible"),
    "a hidden name": (of(properties={"a\u200b": {}}), "its name has the invisible character U+200B"),
    "a lone surrogate": (of(description="\ud800"), "/description: has the invisible character U+D800"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_schema_is_refused_with_its_place_and_its_mend(case: str) -> None:
    schema, told = WRONG[case]
    faults = [str(fault) for fault in schema_faults(schema, of_object=True)]
    assert any(told in fault for fault in faults), faults
    assert all(len(fault) < 400 for fault in faults)


def test_a_schema_that_holds_itself_in_memory_is_refused() -> None:
    schema = of()
    schema["properties"] = {"a": schema}
    assert schema_faults(schema, of_object=True)


GOOD: dict[str, Any] = {
    "says nothing": {},
    "a tree": of(
        properties={"root": {"$ref": "#/$defs/Node"}},
        **{"$defs": {"Node": {"properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}}}}},
    ),
    "a name with a slash": of(**{"$ref": "#/$defs/a~1b~0c", "$defs": {"a/b~c": {}}}),
    "a name behind percent signs": of(**{"$ref": "#/$defs/a%20b", "$defs": {"a b": {}}}),
    "references in data are data": of(default={"$ref": "https://evil.example"}, const={"type": 5}),
    "keywords of others": of(**{"x-mcp-header": {"type": 5}, "discriminator": {"propertyName": "kind"}}),
    "lines in a description": of(description="One.\n\tTwo.\r\n"),
    "separators to choose from": of(properties={"separator": {"enum": [",", "\t", "\n"]}}),
    "large bounds": of(properties={"a": {"maximum": 2**64, "minimum": -(2**63), "multipleOf": 1e-300}}),
    "emoji, Persian and Vietnamese": of(description="👩‍💻 ❤️ می‌خواهم Tiếng Việt 日本語 שָׁלוֹם"),
    "true and false": of(additionalProperties=False, properties={"a": True}),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_schema_of_the_usual_kind_is_taken(case: str) -> None:
    assert schema_faults(GOOD[case], of_object=True) == []
    Draft202012Validator.check_schema(GOOD[case])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-5, 5)
    | st.sampled_from(["string", "a", "#", "#/$defs/a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=3),
    max_leaves=4,
)
SCHEMAS = st.recursive(
    st.booleans() | JSON,
    lambda inner: st.dictionaries(
        st.sampled_from([*KEYWORDS, "unknown"]),
        inner | st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
        max_size=4,
    ),
    max_leaves=12,
)


@given(SCHEMAS)
@example({"type": "object", "properties": {"a": {"minLength": 1.0}}})
@example({"type": "object", "maxLength": 1.5})
def test_what_the_table_takes_the_metaschema_takes_too(schema: Any) -> None:
    if not schema_faults(schema, of_object=False):
        Draft202012Validator.check_schema(schema)


STAND_ALONE = {name for name, kind in KEYWORDS.items() if not kind.name.startswith("left out")} - {"$schema", "$ref"}


@given(SCHEMAS)
def test_what_the_metaschema_takes_the_table_takes_too(schema: Any) -> None:
    """But for what reaches outside, and `$ref`s, which the metaschema does not follow."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError:
        return
    faults = schema_faults(schema, of_object=False) if isinstance(schema, dict) else []
    assert not [fault for fault in faults if fault.where.rpartition("/")[2] in STAND_ALONE], faults


class Model(BaseModel):
    """Everything that pydantic makes of an author's types."""

    text: Annotated[str, Field(min_length=1, max_length=10, pattern="^a")] = "a"
    number: Annotated[float, Field(gt=0, le=1e6, multiple_of=0.5)]
    choice: Literal["a", "b", 1, None]
    many: list[tuple[int, str]] | set[int]
    by_name: dict[str, Model | None] = {}
    anything: Any = None


def test_what_authors_types_become_is_taken(project: Path) -> None:
    server = Server()

    @server.tool()
    @authorize_tool(policy="granted")
    def use(model: Model, others: list[Model] | None = None) -> Model:
        """Use it."""
        return model

    assert load_project(project, server).declaration.tools[0].output_schema


# ── texts ───────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.text())
def test_text_without_a_finding_shows_every_character(text: str) -> None:
    """What passes keeps its meaning however it is shown: nothing in it turns, hides or cannot be written."""
    if not hidden_in(text):
        text.encode()
        assert not set(text) & set(
            "\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\x00\x1b\n"
        )


@given(
    st.text(),
    st.sampled_from(["\u202e", "\u200b", "\x1b", "\x00", "\u2028", "\U000e0041", "\ue000", "\ud800", "\x85"]),
    st.text(),
)
def test_no_text_around_it_hides_what_is_invisible(before: str, hidden: str, after: str) -> None:
    assert hidden_in(before + hidden + after, lines=True)


@pytest.mark.parametrize(
    "text", ["a\u200db", "a\u200d", "\u200d", "é\u200c", "a\ufe0f\ufe0f", "\ufe0f", "x" + "\u0301" * 5, "\u3164"]
)
def test_joiners_and_marks_are_refused_where_they_only_hide(text: str) -> None:
    assert hidden_in(text)


def tool(name: str = "look", **more: Any) -> ToolDeclaration:
    return ToolDeclaration(name=name, policy="p", **more)


def declared(*tools: ToolDeclaration, **manifest: Any) -> Declaration:
    facts = {"name": "desk", "entry": "a:b", "description": "d", "owner": "platform", "support_channel": "#help"}
    return Declaration.model_validate({"manifest": facts | manifest, "tools": tools, "policies": {}})


PROBLEMS: dict[str, tuple[Declaration, str]] = {
    "names that differ by case": (
        declared(tool("Run"), tool("run")),
        "tools 'Run', 'run': their names look the same",
    ),
    "one name twice": (declared(tool("run"), tool("run")), "tools 'run', 'run': their names look the same"),
    "names that differ by a separator": (declared(tool("run_all"), tool("run-all")), "their names look the same"),
    "names of digits": (declared(tool("tool"), tool("t00l")), "their names look the same"),
    "an impossible name": (declared(tool("a b")), "tool 'a b', name: use [A-Za-z0-9_.-]"),
    "a name that is none": (declared(tool("\x1b[2J\u202e")), "tool '\\x1b[2J\\u202e', name: use"),
    "titles of two alphabets": (declared(tool(title="Pay"), tool("two", title="Рау")), "their titles look the same"),
    "a title of two alphabets": (declared(tool(title="Pаy out")), "title: writes 'Pаy' with cyrillic small letter a"),
    "a blank title": (declared(tool(title=" ")), "tool 'look', title: is blank"),
    "an endless title": (declared(tool(title="x" * 101)), "tool 'look', title: is longer than 100 characters"),
    "an endless description": (declared(tool(description="x" * 8_001)), "description: is longer than 8000"),
    "a server's title": (declared(title="Desk\u2066"), "title: has the invisible character U+2066"),
    "a server's channel": (declared(support_channel="#a\nb"), "support_channel: has the invisible character U+000A"),
    "a channel asked for": (declared(requests={"channels": ["\x00"]}), "requests.channels: has the invisible"),
    "too many tools": (declared(*[tool(f"t{n}x") for n in range(257)]), "declares 257 tools, and 256 are the most"),
    "an answer's schema": (declared(tool(output_schema={"type": 5})), "tool 'look', output_schema/type: must be"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_problem_names_the_tool_the_field_and_the_mend(case: str) -> None:
    declaration, told = PROBLEMS[case]
    found = declaration_problems(declaration)
    assert any(told in problem for problem in found), found
    assert all(problem.isprintable() for problem in found)


def test_html_is_taken_as_text() -> None:
    assert declaration_problems(declared(tool(title="<b>x</b>", description="<script>alert(1)</script>"))) == []


def test_so_many_problems_are_told_as_a_person_reads() -> None:
    tools = [tool(f"t{letter}{other}", title="\x00") for letter in "abcdefghij" for other in "abcd"]
    assert len(declaration_problems(declared(*tools))) == 20


# ── names of servers ────────────────────────────────────────────────────────────────────────────────────────────

KNOWN = [ServerName.parse(name) for name in ("prod/presto", "dev/presto", "prod/model", "prod/spark-2", "prod/air")]


@pytest.mark.parametrize(
    ("name", "mistaken", "alike"),
    [
        ("prod/prest0", ["prod/presto", "dev/presto"], []),
        ("prod/pre-sto", ["prod/presto", "dev/presto"], []),
        ("prod/rnodel", ["prod/model"], []),
        ("prod/mode1", ["prod/model"], []),
        ("pr0d/presto", ["prod/presto"], []),
        ("pr0d/presto2", [], ["prod/presto", "dev/presto"]),
        ("prod/prestoo", [], ["prod/presto", "dev/presto"]),
        ("prod/presot", [], ["prod/presto", "dev/presto"]),
        ("prod/pesto", [], ["prod/presto", "dev/presto"]),
        ("prod/prasto", [], ["prod/presto", "dev/presto"]),
        ("prod/spark-3", [], ["prod/spark-2"]),
        ("staging/presto", [], []),
        ("prod/presto", [], []),
        ("prod/airs", [], []),
        ("prod/tickets", [], []),
    ],
)
def test_a_name_that_passes_for_another_is_found(name: str, mistaken: list[str], alike: list[str]) -> None:
    asked = ServerName.parse(name)
    assert mistakable(asked, KNOWN) == mistaken
    assert lookalikes(asked, KNOWN) == mistaken + alike


NAMES = st.from_regex(r"[a-z][a-z0-9]{4,12}", fullmatch=True)


@given(NAMES, st.data())
def test_every_single_slip_is_found(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(name) - 1))
    letter = data.draw(st.sampled_from("abcxyz019"))
    slips = {
        name[:at] + name[at + 1 :],
        name[:at] + letter + name[at:],
        name[:at] + letter + name[at + 1 :],
        name[: at - 1] + name[at] + name[at - 1] + name[at + 1 :],
    }
    known = ServerName("prod", name)
    for slip in slips - {name}:
        if len(slip) >= 5 and slip[0].isalpha():
            assert lookalikes(ServerName("prod", slip), [known]) == [str(known)]


def test_what_a_process_is_pinned_to_has_nothing_that_an_older_kit_does_not_know() -> None:
    manifest = Manifest(name="one", entry="one:server", description="one", owner="platform", support_channel="#one")
    declaration = Declaration(manifest=manifest, tools=(), policies={})
    said = json.loads(declaration.canonical)
    assert not {*Manifest.later} & {*said["manifest"]}
    assert not {*Resources.later} & {*said["manifest"]["resources"]}
    assert Declaration.model_validate_json(declaration.canonical).digest == declaration.digest
