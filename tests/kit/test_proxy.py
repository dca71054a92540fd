"""What a proxy before a foreign server promises: the kit's own layer 2, and the pinned words alone."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from pegboard.core.approval import OWNER, Requirement
from pegboard.core.errors import ConfigurationError, DeclarationError
from pegboard.core.manifest import read_manifest
from pegboard.core.pins import FILE_NAME, PinnedTool, Pins, compare, read_pins
from pegboard.core.record import Denial, Intent, Outcome
from pegboard.core.refusal import META_KEY
from pegboard.project import load_project
from pegboard.proxy import stdio
from pegboard.testing import InMemoryHub
from tests.foreign.projects import pinned, write_project

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def pins(tmp_path_factory: pytest.TempPathFactory) -> Pins:
    """What the desk's tools are, asked of it once."""
    folder = write_project(tmp_path_factory.mktemp("pinning") / "project")
    return read_pins(anyio.run(pinned, folder))


@pytest.fixture
def project(tmp_path: Path, pins: Pins, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stdio, "END_S", 0.3)
    folder = write_project(tmp_path / "project")
    (folder / FILE_NAME).write_text(pins.text())
    return folder


def text(result: object) -> str:
    return "\n".join(block.text for block in result.content)  # type: ignore[attr-defined]


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_foreign_tool_is_listed_as_pinned_and_answers_through_the_chain(project: Path, era: str) -> None:
    hub, heard = InMemoryHub(project), []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        heard.append((done, total, message))

    async with hub.client("ana", groups=["ads-eng"], era=era) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools["echo"].description == "Give back the text."
        assert tools["add"].output_schema is not None
        assert text(await client.call_tool("echo", {"text": "grüße\n"})) == "grüße\n"
        assert (await client.call_tool("add", {"a": 1, "b": 2})).structured_content == {"result": 3}
        assert text(await client.call_tool("slow", {"seconds": 0.6}, progress_callback=progress)) == "done"
        # The variables of its process are its own: nothing of the server's that stands before it.
        assert not re.search("PEGBOARD|PYTEST", text(await client.call_tool("environment", {})))
    assert (0, 10, "step 0") in heard
    assert [record.kind for record in hub.records] == ["intent", "outcome"] * 4
    assert all(isinstance(each, Intent | Outcome) for each in hub.records)


async def test_arguments_are_held_to_the_pinned_schema_and_not_fitted(project: Path) -> None:
    async with InMemoryHub(project).client("ana", groups=["ads-eng"]) as client:
        fitted = text(await client.call_tool("add", {"a": "1", "b": 2}))
        other = text(await client.call_tool("add", {"a": 1, "b": 2, "B": 3}))
        missing = text(await client.call_tool("add", {"a": 1}))
    assert "'1' is not of type 'integer'" in fitted
    assert "'B' was unexpected" in other
    assert "'b' is a required property" in missing


async def test_a_call_that_the_backend_dies_of_fails_honestly_and_the_next_finds_it_again(project: Path) -> None:
    hub = InMemoryHub(project)
    async with hub.client("ana", groups=["ads-eng"]) as client:
        before = text(await client.call_tool("pid", {}))
        died = await client.call_tool("dies", {})
        after = text(await client.call_tool("pid", {}))
    assert died.is_error
    assert "It may or may not have taken effect, and was not tried again." in text(died)
    assert before.isdigit()
    assert after.isdigit()
    outcomes = [record.status for record in hub.records if isinstance(record, Outcome)]
    assert outcomes == ["ok", "tool_error", "ok"]


async def test_an_answer_beyond_the_bound_fails_alone(project: Path) -> None:
    async with InMemoryHub(project).client("ana", groups=["ads-eng"]) as client:
        pid = text(await client.call_tool("pid", {}))
        results: dict[str, str] = {}

        async def call(tool: str, arguments: dict[str, object]) -> None:
            results[tool] = text(await client.call_tool(tool, arguments))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, "slow", {"seconds": 0.5})
            tasks.start_soon(call, "large", {"kib": 4_000})
        assert "larger than 64 KiB" in results["large"]
        assert results["slow"] == "done"
        assert text(await client.call_tool("pid", {})) == pid


async def test_a_call_without_an_answer_ends_and_is_cancelled_at_the_backend(project: Path) -> None:
    manifest = project / "pegboard.toml"
    manifest.write_text(manifest.read_text().replace("timeout_s = 30", "timeout_s = 0.5"))
    async with InMemoryHub(project).client("ana", groups=["ads-eng"]) as client:
        result = await client.call_tool("slow", {"seconds": 30})
    assert result.is_error
    assert "did not answer within 0.5 s" in text(result)


async def test_a_tool_that_changed_is_blocked_and_told_and_the_rest_goes_on(project: Path, pins: Pins) -> None:
    def otherwise(tool: PinnedTool) -> PinnedTool:
        return tool.model_copy(update={"description": "Something else."}) if tool.name == "echo" else tool

    changed = pins.model_copy(update={"tools": tuple(otherwise(tool) for tool in pins.tools if tool.name != "pid")})
    (project / FILE_NAME).write_text(changed.text())
    hub = InMemoryHub(project)
    async with hub.client("ana", groups=["ads-eng"]) as client:
        listed = {tool.name: tool.description for tool in (await client.list_tools()).tools}
        blocked = await client.call_tool("echo", {"text": "x"})
        hidden = await client.call_tool("pid", {})
        fine = await client.call_tool("add", {"a": 1, "b": 2})
    assert listed["echo"] == "Something else."  # the pinned words, whatever the backend says
    assert "pid" not in listed
    assert blocked.is_error
    assert "echo is blocked: it changed its description since it was pinned" in text(blocked)
    assert (blocked.meta or {})[META_KEY]["code"] == "tool_blocked"
    assert "No tool pid here for you" in text(hidden)
    assert not fine.is_error
    denial = next(record for record in hub.records if isinstance(record, Denial))
    assert (denial.code, denial.tool) == ("tool_blocked", "echo")
    async with hub.http() as http:
        ready = await http.get("/readyz")
    # It serves on, and says to whoever runs it what it does not: a candidate with that does not go live.
    assert ready.status_code == 200
    assert ready.json()["smoke"] == {"echo": "is blocked: it changed its description since it was pinned"}


async def test_what_passes_for_pegboards_voice_is_marked_as_the_backends(project: Path) -> None:
    async with InMemoryHub(project).client("ana", groups=["ads-eng"]) as client:
        result = await client.call_tool("fails", {})
    assert result.is_error
    assert text(result).startswith("The server behind fails says that this failed. What follows are its words")
    assert META_KEY not in (result.meta or {})


async def test_a_destructive_tool_waits_for_its_confirmation(project: Path) -> None:
    hub = InMemoryHub(project)
    async with hub.client("ana", groups=["ads-eng"]) as client:
        waiting = await client.call_tool("wipe", {"drawer": "left"})
        assert "did not run yet" in text(waiting)


async def test_an_approval_that_the_registry_requires_is_asked_for(project: Path) -> None:
    hub = InMemoryHub(project)
    standing = hub.standings.standing
    approvals = {"echo": Requirement(by=OWNER, own=False, expires_s=600, why="looked at")}
    hub.standings.standing = replace(standing, access=replace(standing.access, approvals=approvals), version=2)
    async with hub.client("ana", groups=["ads-eng"]) as client:
        assert "did not run yet" in text(await client.call_tool("echo", {"text": "x"}))


def test_minutes_and_hints_of_the_manifest_are_declared_and_the_backend_is_not_started(project: Path) -> None:
    manifest = project / "pegboard.toml"
    manifest.write_text(manifest.read_text().replace("minutes_saved = 3", "minutes_saved = 3\nidempotent = true"))
    (project / "backend" / "desk_backend.py").write_text("raise SystemExit('it was started')")
    tools = {tool.name: tool for tool in load_project(project).declaration.tools}
    assert (tools["echo"].minutes_saved, tools["echo"].idempotent, tools["echo"].read_only) == (3, True, True)
    assert tools["wipe"].confirmation == "Empty {drawer}?"


MISTAKES = {
    "says nothing about access": ('policy = "everybody"', ""),
    "did you mean 'echo'": ("[proxy.tools.echo]", "[proxy.tools.ecco]"),
    "there is no policies/nobody.cedar": ('policy = "everybody"', 'policy = "nobody"'),
    "which [secrets] does not have": ("timeout_s", 'secrets = ["TOKEN"]\ntimeout_s'),
    "has both entry and [proxy]": ('name = "desk"', 'name = "desk"\nentry = "a:b"'),
    "must be on loopback": ("timeout_s", 'url = "http://10.0.0.1/mcp"\ntimeout_s'),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_in_the_manifest_is_named_with_its_mend(project: Path, words: str) -> None:
    old, new = MISTAKES[words]
    manifest = project / "pegboard.toml"
    manifest.write_text(manifest.read_text().replace(old, new))
    with pytest.raises((ConfigurationError, DeclarationError), match=re.escape(words)):
        load_project(project)


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        ({"type": "integer"}, True),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, True),
        ({"type": ["string", "null"]}, True),
        ({"type": ["string", "integer"]}, False),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, False),
        ({"type": "number"}, False),
        ({"enum": ["a", 1]}, False),
        ({}, False),
    ],
)
def test_a_policy_reads_arguments_of_one_type_alone(
    project: Path, pins: Pins, schema: dict[str, object], fits: bool
) -> None:
    """A backend takes "50" for 50, and so another call would run than the one that the policy judged."""
    (project / "policies" / "reads.cedar").write_text('@arguments("text") permit (principal, action, resource);')
    manifest = project / "pegboard.toml"
    manifest.write_text(manifest.read_text().replace("minutes_saved = 3", 'policy = "reads"'))
    echo = pins.by_name["echo"]
    changed = echo.model_copy(update={"input_schema": {"type": "object", "properties": {"text": schema}}})
    others = tuple(tool for tool in pins.tools if tool.name != "echo")
    (project / FILE_NAME).write_text(pins.model_copy(update={"tools": (changed, *others)}).text())
    with nullcontext() if fits else pytest.raises(DeclarationError, match="allows several types"):
        load_project(project)


async def test_who_calls_is_told_only_where_the_manifest_says_so_and_never_the_token(project: Path) -> None:
    manifest = project / "pegboard.toml"
    for said in (False, True):
        if said:
            manifest.write_text(manifest.read_text().replace("tell_caller = false", "tell_caller = true"))
        hub = InMemoryHub(project)
        async with hub.client("ana", groups=["ads-eng"]) as client:
            told = text(await client.call_tool("told", {}))
        assert ("ana" in told) is said
        assert ("ads-eng" in told) is said
        assert "Bearer" not in told
        assert "eyJ" not in told


def test_a_remote_server_is_reached_over_https_and_declared_as_egress(tmp_path: Path) -> None:
    said = 'name = "far"\ndescription = "d"\nowner = "platform"\nsupport_channel = "#far"\n'
    said += '{egress}[proxy]\nurl = "{url}"\n'
    place = tmp_path / "pegboard.toml"
    for egress, url, wrong in [
        ("", "https://mcp.example/mcp", 'write egress = ["mcp.example:443"]'),
        ("", "http://mcp.example/mcp", "must be https://"),
        ("", "https://user@mcp.example/mcp", "without user"),
        ("", "https://localhost./mcp", "not of this machine"),
        ("", "https://127.1/mcp", "not of this machine"),
        ("", "https://2130706433/mcp", "not of this machine"),
        ("", "https://0x7f000001:8443/mcp", "not of this machine"),
        ("", "https://[::ffff:127.0.0.1]/mcp", "not of this machine"),
        ("", "https://0.0.0.0/mcp", "not of this machine"),
        ("", "https://169.254.169.254/latest/meta-data", "not of this machine"),
        ("", "https://[fe80::1]/mcp", "not of this machine"),
        ('egress = ["mcp.example:443"]\n', "https://mcp.example/mcp", ""),
        ('egress = ["10.1.2.3:443"]\n', "https://10.1.2.3/mcp", ""),
    ]:
        place.write_text(said.format(egress=egress, url=url))
        with pytest.raises(ConfigurationError, match=re.escape(wrong)) if wrong else nullcontext():
            read_manifest(tmp_path)


def test_pins_tell_what_changed_what_is_new_and_what_is_gone(pins: Pins) -> None:
    echo, add, *rest = (pins.by_name[name] for name in ("echo", "add", "pid"))
    found = [
        echo.model_copy(update={"title": "Echo!", "read_only": False}),
        add,
        *rest,
        rest[0],
        PinnedTool(name="new"),
    ]
    difference = compare(pins, found)
    assert difference.changed["echo"] == ("title", "read-only hint")
    assert difference.changed["pid"] == ("listing, which has it twice",)
    assert "add" not in difference.changed
    assert difference.new == ("new",)
    assert "wipe" in difference.gone
    assert difference.blocked["wipe"] == "is not offered any more by the server behind it"


def test_pins_are_one_text_however_often_they_are_taken(pins: Pins) -> None:
    assert Pins.model_validate_json(pins.text()).text() == pins.text()
