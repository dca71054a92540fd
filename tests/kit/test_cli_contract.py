"""The command keeps its contracts: exit statuses, one JSON document, no escape sequence of a server's."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pegboard.cli.app import run
from pegboard.cli.exit import REFUSAL_FIELDS
from tests.kit.cli_instance import HARMLESS, Instance, running

DESK = ["call", "dev/desk"]


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running(tmp_path_factory.mktemp("desk")) as found:
        yield found


@pytest.fixture(autouse=True)
def _at_the_instance(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEGBOARD_PUBLIC_URL", instance.url)
    monkeypatch.delenv("PEGBOARD_DEBUG", raising=False)


STATUSES: list[tuple[int, str, list[str]]] = [
    (0, "live 1.0.0 (abababababab), 75 % of the callers, 2 of 2", ["deployment", "prod/weather", "--as", "ana"]),
    (
        0,
        f"submitted by spiffe://example.org/ci/weather, a service, commit 0123abcd of https://git.example.org/{HARMLESS}",
        ["deployment", "prod/weather", "--as", "ana"],
    ),
    (0, f"stepping, paused: {HARMLESS}", ["deployment", "prod/weather", "--as", "ana"]),
    (0, "2 to 4 (pegboard.toml says 1 to 1)", ["deployment", "prod/weather", "--as", "ana"]),
    (0, "40 calls, 2.5 % failed, median 12 ms", ["deployment", "prod/weather", "--as", "ana"]),
    (0, f"abab-1 abababababab ready 3 1 80 {HARMLESS}", ["promote", "prod/weather", "--as", "ana"]),
    (0, "Done in", ["rollback", "prod/weather", "--why", "wrong", "--as", "ana"]),
    (0, "Done in", ["pause", "prod/weather", "--as", "ana"]),
    (0, "Done in", ["pause", "prod/weather", "--end", "--as", "ana"]),
    (0, "Done in", ["scale", "prod/weather", "--min", "2", "--as", "ana"]),
    (0, "Done in", ["scale", "prod/weather", "--manifest", "--as", "ana"]),
    (0, f"abab-1 error {HARMLESS} [req-9]", ["logs", "dev/weather", "--as", "ana"]),
    (0, "No line fits.", ["logs", "dev/weather", "--grep", "nothing", "--as", "ana"]),
    (0, "it closes on 2027-03-31", ["deprecate", "dev/weather", "--why", "x", "--on", "2027-03-31", "--as", "ana"]),
    (0, "dev/weather is retired.", ["retire", "dev/weather", "--why", "x", "--yes", "--as", "ana"]),
    (0, "Nothing of dev/nothing was submitted yet.", ["releases", "dev/nothing", "--as", "ana"]),
    (2, "Say how many: --min, --max or both; or --manifest.", ["scale", "prod/weather", "--as", "ana"]),
    (2, "exclude each other", ["promote", "dev/weather", "--to", "prod", "--release", "1", "--as", "ana"]),
    (2, "Missing option '--why'", ["rollback", "prod/weather", "--as", "ana"]),
    (2, "--on soon is no day", ["deprecate", "dev/weather", "--why", "x", "--on", "soon", "--as", "ana"]),
    (2, "--since soon is no time", ["logs", "dev/weather", "--since", "soon", "--as", "ana"]),
    (2, "look is none of list, show, diff.", ["releases", "dev/weather", "look", "--as", "ana"]),
    (2, "pegboard.toml: cannot be read", ["submit", "/nowhere", "--as", "ana"]),
    (2, "'Weather' is no server's name.", ["new", "Weather"]),
    (2, "--template sqll: unknown; choose one of blank, sql, openapi, files.", ["new", "weather", "-t", "sqll"]),
    (2, "Missing: --owner and --description.", ["new", "weather", "--into", "/nowhere/weather"]),
    (3, "dev/nothing has no release 1.0", ["releases", "dev/nothing", "show", "1.0", "--as", "ana"]),
    (3, "There is no server", ["deployment", "dev/nowhere", "--as", "ana"]),
    (0, "ana", ["whoami", "--as", "ana"]),
    (0, "dev/desk", ["servers", "--as", "ana"]),
    (0, "stopped: moved", ["servers", "--as", "ana"]),
    (0, "echo (stopped)", ["servers", "--as", "ana"]),
    (0, "dev/desk", ["servers", "--as", "ana", "--search", "desk"]),
    (0, f"deprecated: use {HARMLESS}", ["servers", "--as", "ana"]),
    (0, f"dev/desk is deprecated: use {HARMLESS}.", ["tools", "--all", "--as", "ana"]),
    (0, '"lifecycle": "deprecated"', ["tools", "--all", "--as", "ana", "--json"]),
    (0, '"lifecycle": "deprecated"', ["tools", "dev/desk", "--as", "ana", "--json"]),
    (
        0,
        f"dev/desk is deprecated: use {HARMLESS}; closes on 2027-01-15; use dev/plain{HARMLESS} instead.",
        ["tools", "dev/desk", "--as", "ana"],
    ),
    (0, '"lifecycle": "deprecated"', ["servers", "--as", "ana", "--json"]),
    (0, f"for you not open from here: it is retired: {HARMLESS}", ["servers", "dev/gone", "--as", "ana"]),
    (0, "No server that you may know of fits", ["servers", "--as", "gus", "--search", "desk"]),
    (0, f"lifecycle deprecated: use {HARMLESS}", ["servers", "dev/desk", "--as", "ana"]),
    (0, "release 1.0.3 (0123)", ["servers", "dev/desk", "--as", "ana"]),
    (0, "owner platform, #desk", ["servers", "dev/desk", "--as", "ana"]),
    (0, "Security approved", ["servers", "dev/desk", "--as", "ana"]),
    (0, "This is what everybody may read", ["history", "dev/desk", "--as", "ana"]),
    (0, f"pat edit Description: a → {HARMLESS}bbbb", ["history", "dev/desk", "--as", "ana"]),
    (0, "Takes every release: no → yes", ["history", "dev/desk", "--as", "ana"]),
    (0, "Granted surfaces: none → ide", ["history", "dev/desk", "--as", "ana"]),
    (0, "No review that you may see fits.", ["reviews", "list", "--state", "rejected", "--as", "ana"]),
    (0, "dev/desk echo2 (stopped)", ["tools", "--all", "--as", "ana"]),
    (0, "No tool is open to gus from cli", ["tools", "--all", "--as", "gus"]),
    (0, "echo: Echo", ["tools", "dev/desk", "--as", "ana"]),
    (0, "hello", [*DESK, "echo", "--as", "ana", "--arg", "text=hello"]),
    (0, "Allowed", ["explain", "--server", "dev/desk", "--as", "ana"]),
    (0, f"Editor {HARMLESS}", ["clients", "--as", "ana"]),
    (0, "Ana, Fay, Sam and 1 more", ["clients", "--as", "ana"]),
    (0, f"lost {HARMLESS}", ["stops", "--as", "ana"]),
    (0, "Nothing that you may know of is stopped.", ["stops", "--as", "gus"]),
    (0, "Stopped for everybody: tool dev/desk/echo", ["stop", "tool", "dev/desk/echo", "--why", "x", "--as", "ana"]),
    (3, "not_yours", ["stop", "person", "ana", "--why", "x", "--as", "gus", "--json"]),
    (4, "resumed by a person in a browser", ["resume", "person", "ana", "--no-browser", "--as", "ana"]),
    (0, "no-chat deny from chat; to prod/presto; but not finance", ["rules", "show", "--as", "ana"]),
    (0, f"leaks {HARMLESS}", ["rules", "show", "no-chat", "--as", "ana"]),
    (0, f"# {HARMLESS}", ["rules", "show", "--file", "--as", "ana"]),
    (0, f"lost {HARMLESS}", ["rules", "history", "--as", "ana"]),
    (0, f"+ {HARMLESS}", ["rules", "diff", "--as", "ana"]),
    (0, f"ads-eng {HARMLESS}", ["rules", "preview", "/dev/null", "--as", "ana"]),
    (0, "prod/presto and 2 more", ["rules", "preview", "/dev/null", "--as", "ana"]),
    (0, "Version 7 of the rules", ["rules", "apply", "/dev/null", "--on", "6", "--why", "x", "--as", "ana"]),
    (4, "/rules/edit", ["rules", "apply", "/dev/null", "--why", "x", "--no-browser", "--as", "ana"]),
    (0, "Version 7 of the rules", ["rules", "revert", "--as", "ana"]),
    (3, "not_an_operator", ["rules", "show", "--as", "gus", "--json"]),
    (2, "No rule is called no-such", ["rules", "show", "no-such", "--as", "ana"]),
    (0, "7 more registered and were never used", ["clients", "--as", "ana"]),
    (0, "open (for you) pegboard", ["reviews", "list", "--as", "ana"]),
    (0, "Nothing waits for you.", ["reviews", "list", "--waiting", "--as", "ana"]),
    (0, f"tool {HARMLESS}", ["reviews", "show", "4bf92f3577b34da6", "--as", "ana"]),
    (0, "groups ads-eng sales; surfaces cli", ["reviews", "show", "4bf92f3577b34da6", "--as", "ana"]),
    (
        0,
        "spiffe://example.org/ci/presto, a service on 2027-01-15 08:00:00",
        ["reviews", "show", "4bf92f3577b34da6", "--as", "ana"],
    ),
    (
        0,
        "0123abcd of https://git.example.org/presto, with changes in no commit",
        ["reviews", "show", "4bf92f3577b34da6", "--as", "ana"],
    ),
    (0, f"CI job https://ci.example.org/{HARMLESS}", ["reviews", "show", "4bf92f3577b34da6", "--as", "ana"]),
    (0, "package six: not there → 1.17.0", ["reviews", "show", "4bf92f3577b34da6", "--as", "ana"]),
    (0, f"PB301 uv.lock: {HARMLESS}", ["reviews", "show", "4bf92f3577b34da6", "--as", "ana"]),
    (0, f"sol on 2027-01-15 08:00:00: {HARMLESS}", ["reviews", "show", "4bf92f3577b34da6", "--as", "ana"]),
    (0, "Exit status: 0 done", []),
    (1, "the tool failed: no such table", [*DESK, "fail", "--as", "ana"]),
    (1, "The server answered an error: " + HARMLESS, ["tools", "dev/broken", "--as", "ana"]),
    (2, "No such command 'caal'", ["caal"]),
    (2, "Missing argument 'NS/NAME'", ["tools", "--as", "ana"]),
    (2, "exclude each other", ["tools", "dev/desk", "--all", "--as", "ana"]),
    (2, "exclude each other", ["servers", "dev/desk", "--search", "x", "--as", "ana"]),
    (2, "'desk' names no namespace", ["history", "desk", "--as", "ana"]),
    (3, "There is no server dev/dsk here. Did you mean dev/desk?", ["servers", "dev/dsk", "--as", "ana"]),
    (3, "There is no server dev/dsk here. Did you mean dev/desk?", ["history", "dev/dsk", "--as", "ana"]),
    (2, "No such option: --arrg", [*DESK, "echo", "--arrg", "x=1", "--as", "ana"]),
    (2, "'desk' names no namespace", ["call", "desk", "echo", "--as", "ana"]),
    (2, "--surface means nothing without --as", ["servers", "--surface", "chat"]),
    (2, "--channel means nothing without --as", ["servers", "--channel", "#x"]),
    (2, "--channel belongs to bots", ["servers", "--channel", "#x", "--as", "ana"]),
    (2, "--surface tv: unknown; choose one of cli, chat, bot, ide", ["servers", "--as", "ana", "--surface", "tv"]),
    (2, "is not the URL of an instance", ["servers", "--as", "ana", "--url", "localhost:8400"]),
    (2, "is not the URL of an instance", ["servers", "--as", "ana", "--url", "http://localhost:8400/mcp/dev/desk"]),
    (2, "unknown person 'bob'; the demo directory has ana, fay, sam, gus", ["whoami", "--as", "bob"]),
    (2, "--era old: unknown", ["tools", "dev/desk", "--as", "ana", "--era", "old"]),
    (2, "Did you mean text?", [*DESK, "echo", "--as", "ana", "--arg", "txt=hello"]),
    (2, "Missing: --arg text=…", [*DESK, "echo", "--as", "ana"]),
    (2, "--arg times=two: not integer", [*DESK, "echo", "--as", "ana", "--arg", "text=x", "--arg", "times=two"]),
    (2, "exclude each other", [*DESK, "echo", "--as", "ana", "--arg", "text=x", "--json-args", "{}"]),
    (2, "--json-args is not a JSON object", [*DESK, "echo", "--as", "ana", "--json-args", "[1]"]),
    (3, "Ask platform", ["clients", "--as", "fay"]),
    (3, "refused by the edge: Not for you", [*DESK, "echo", "--as", "ana", "--surface", "ide", "--arg", "text=x"]),
    (3, "refused by the server: dev/desk is not granted", [*DESK, "echo", "--as", "sam", "--arg", "text=x"]),
    (3, "No tool revenue here for you", [*DESK, "revenue", "--as", "fay"]),
    (3, "No tool nonsense here for you", [*DESK, "nonsense", "--as", "fay", "--arg", "a=1"]),
    (3, "You may use order, but not with these arguments", [*DESK, "order", "--as", "ana", "--arg", "amount=11"]),
    (3, "Denied by the edge: Not for you", ["explain", "--server", "dev/desk", "--as", "sam"]),
    (3, "group_not_granted", ["tools", "dev/plain", "--as", "ana"]),
    (3, "unknown_server", ["tools", "dev/unknown", "--as", "ana"]),
    (3, "There is no server dev/unknown here, or it is", ["explain", "--server", "dev/unknown", "--as", "ana"]),
    (3, "There is no server dev/nowhere here, or it is", ["token", "--server", "dev/nowhere", "--as", "ana"]),
    (3, "pegboard servers --as gus", ["token", "--server", "prod/nowhere", "--as", "gus"]),
    (3, "There is no server dev/dsk here. Did you mean dev/desk?", ["call", "dev/dsk", "echo", "--as", "ana"]),
    (3, "There is no server prod/desk here. Did you mean dev/desk?", ["tools", "prod/desk", "--as", "ana"]),
    (3, "Did you mean dev/desk?", ["explain", "--server", "dev/dsek", "--as", "ana"]),
    (3, "There is no review nothing here for you.", ["reviews", "show", "nothing", "--as", "ana"]),
    (3, f"dev/gone is retired: {HARMLESS}.", ["explain", "--server", "dev/gone", "--as", "ana"]),
    (3, f"dev/gone is retired: {HARMLESS}.", ["call", "dev/gone", "echo", "--as", "ana"]),
    (3, f"dev/gone is retired: {HARMLESS}.", ["tools", "dev/gone", "--as", "ana"]),
    (3, "There is no server dev/gone here", ["tools", "dev/gone", "--as", "fay"]),
    (3, "edge: sam would read: Not for you", ["explain", "--server", "dev/desk", "--person", "sam", "--as", "ana"]),
    (1, "It is approved already", ["reviews", "approve", "decided", "--as", "ana"]),
    (4, "never by a command", ["reviews", "approve", "4bf92f3577b34da6", "--no-browser", "--as", "ana"]),
    (4, "/reviews/4bf92f3577b34da6", ["reviews", "reject", "4bf92f3577b34da6", "--no-browser", "--as", "ana"]),
    (5, "the demo directory has ana, fay, sam, gus", ["servers"]),
    (5, "the demo directory has ana, fay, sam, gus", [*DESK, "echo", "--arg", "text=x"]),
    (5, "token_expired", ["tools", "dev/expired", "--as", "ana"]),
    (5, "server_unavailable", ["tools", "dev/down", "--as", "ana"]),
    (5, "does not answer", ["tools", "dev/gateway", "--as", "ana"]),
    (
        5,
        "Start it with: make up. Is it on another port? Name it with PEGBOARD_PORT or --url.",
        ["servers", "--as", "ana", "--url", "http://127.0.0.1:9"],
    ),
]


@pytest.mark.parametrize(("status", "words", "line"), STATUSES, ids=lambda value: str(value)[:60])
def test_exit_status_and_words(capsys: pytest.CaptureFixture[str], status: int, words: str, line: list[str]) -> None:
    assert run(line) == status
    out, err = capsys.readouterr()
    assert words in " ".join((out + err).split()), out + err
    assert "Traceback" not in out + err


@pytest.mark.parametrize("line", [line for _, _, line in STATUSES if line], ids=lambda value: str(value)[:60])
def test_json_is_one_document_on_stdout_also_for_failures(
    capsys: pytest.CaptureFixture[str], line: list[str]
) -> None:
    plain = run(line)
    capsys.readouterr()
    status = run([*line, "--json"])
    out, _ = capsys.readouterr()
    document = json.loads(out)
    assert status == plain
    assert isinstance(document, dict)
    assert out.isascii()
    if "error" in document:
        assert tuple(document["error"]) == REFUSAL_FIELDS
        assert status != 0


@pytest.mark.parametrize("era", ["auto", "modern", "legacy"])
@pytest.mark.parametrize(
    ("who", "tool", "layer", "reason"),
    [
        (["--as", "ana", "--surface", "ide"], "echo", "edge", "surface_not_granted"),
        (["--as", "sam"], "echo", "server", "group_not_granted"),
        (["--as", "fay"], "revenue", "server", "tool_unavailable"),
        (["--as", "fay"], "nonsense", "server", "tool_unavailable"),
    ],
)
def test_refusals_are_told_in_both_eras(
    capsys: pytest.CaptureFixture[str], era: str, who: list[str], tool: str, layer: str, reason: str
) -> None:
    for arguments in (["--arg", "text=x"], ["--json-args", '{"text": "x"}']):
        assert run([*DESK, tool, *who, *arguments, "--era", era, "--json"]) == 3
        out, err = capsys.readouterr()
        error = json.loads(out)["error"]
        assert (error["layer"], error["reason"]) == (layer, reason)
        explain = f"pegboard explain --server dev/desk --tool {tool} {' '.join(who)}"
        assert f"{explain} {shlex.join(arguments)}\n" in err
        assert error["request_id"] in err
        assert error["request_id"] in ("req-1", "req-7")


@pytest.mark.parametrize("server", ["dev/desk", "dev/plain"])
def test_a_refusal_of_the_edge_is_asked_for_once(instance: Instance, server: str) -> None:
    instance.called.clear()
    assert run(["tools", server, "--as", "ana", "--surface", "ide"]) == 3
    assert instance.called == [f"/mcp/{server}"]


@pytest.mark.parametrize("era", ["auto", "modern", "legacy"])
def test_every_era_answers(capsys: pytest.CaptureFixture[str], era: str) -> None:
    assert run([*DESK, "echo", "--as", "ana", "--arg", "text=hi", "--arg", "times=2", "--era", era]) == 0
    assert capsys.readouterr().out == "hi hi\n"


ARGUMENTS = [
    (["text=a=b"], "a=b"),
    (["text=12"], "12"),
    (["text=null"], "null"),
    (["text=é", "times=3"], "é é é"),
    (["text=x", "loud=True"], "X"),
    (["text=x", 'tags=["y", "z"]'], "x y z"),
    (["text="], ""),
]


@pytest.mark.parametrize(("pairs", "answer"), ARGUMENTS)
def test_arguments_are_read_by_the_schema(capsys: pytest.CaptureFixture[str], pairs: list[str], answer: str) -> None:
    assert run([*DESK, "echo", "--as", "ana", *(word for pair in pairs for word in ("--arg", pair))]) == 0
    assert capsys.readouterr().out == answer + "\n"


def test_json_arguments_come_from_stdin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = tmp_path / "arguments.json"
    given.write_text('{"text": "from stdin"}')
    with given.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert run([*DESK, "echo", "--as", "ana", "--json-args", "-"]) == 0
    assert capsys.readouterr().out == "from stdin\n"


def _is_harmless(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


@pytest.mark.parametrize(
    "line",
    [
        [*DESK, "hostile", "--as", "ana"],
        [*DESK, "rows", "--as", "ana"],
        [*DESK, "fail", "--as", "ana"],
        ["tools", "dev/desk", "--as", "ana"],
        ["tools", "dev/broken", "--as", "ana"],
        ["servers", "--as", "ana"],
        ["explain", "--server", "dev/desk", "--as", "sam"],
    ],
)
def test_text_of_others_reaches_the_terminal_without_escapes(
    capsys: pytest.CaptureFixture[str], line: list[str]
) -> None:
    run(line)
    out, err = capsys.readouterr()
    assert out + err
    assert _is_harmless(out + err), ascii(out + err)


def test_words_of_others_stay_readable(capsys: pytest.CaptureFixture[str]) -> None:
    run([*DESK, "hostile", "--as", "ana"])
    assert capsys.readouterr().out.strip() == HARMLESS


def test_a_tabular_result_is_a_table_with_its_notice_beneath(capsys: pytest.CaptureFixture[str]) -> None:
    run([*DESK, "rows", "--as", "ana"])
    heading, _, first, second, _, count, notice = capsys.readouterr().out.splitlines()
    assert heading.split() == ["carrier", "delay"]
    assert first.split() == ["UA", "12.1"]
    assert second.split() == ["[bold]AA", "NULL"]
    assert (count, notice) == ("2 rows", "notice: showing 2 of 3 rows")


def test_other_structured_results_are_json_and_pictures_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    run([*DESK, "revenue", "--as", "ana", "--arg", "day=monday"])
    assert json.loads(capsys.readouterr().out) == {"day": "monday", "nested": {"usd": 12.5}}
    run([*DESK, "picture", "--as", "ana"])
    assert capsys.readouterr().out == "[image image/png, 1,000 bytes]\n"


def test_a_result_as_json_is_the_wire_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    run([*DESK, "revenue", "--as", "ana", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (document["server"], document["tool"]) == ("dev/desk", "revenue")
    assert document["result"]["structuredContent"]["day"] == "today"


def test_tools_shows_arguments_with_the_required_ones_marked(capsys: pytest.CaptureFixture[str]) -> None:
    run(["tools", "dev/desk", "--as", "fay"])
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "--arg text= string required" in lines
    assert "--arg times= integer default 1" in lines
    assert "--arg tags= array of string optional" in lines
    assert "revenue" not in out, "a tool fay may not use"


def test_whoami_names_person_groups_and_surface(capsys: pytest.CaptureFixture[str]) -> None:
    run(["whoami", "--as", "ana"])
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (shown["person"], shown["groups"], shown["surface"]) == ("ana", "ads-eng", "cli")
    run(["whoami", "--as", "gus", "--surface", "ide"])
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (shown["person"], shown["groups"], shown["surface"]) == ("gus", "none", "ide")


def test_servers_has_a_helpful_empty_state(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["servers", "--as", "gus"]) == 0
    out, err = capsys.readouterr()
    assert out == "No server is open to gus from cli.\n"
    assert "pegboard explain --server NAMESPACE/NAME --as gus" in err


def test_explain_shows_every_rule_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    run(["explain", "--server", "dev/desk", "--tool", "echo", "--as", "ana", "--person", "sam"])
    out = capsys.readouterr().out
    assert "sam from cli → dev/desk echo" in out
    assert "✗ fails" in out
    assert "sam is in" in out
    assert "grants" in out
    assert "Ask platform in #desk." in out


def test_explain_asks_for_the_surface_named(instance: Instance) -> None:
    run(["explain", "--server", "dev/desk", "--as", "ana", "--surface", "bot", "--channel", "#x"])
    _, query = instance.asked[-1]
    assert query == {"server": "dev/desk", "surface": "bot", "channel": "#x"}


def test_token_prints_the_token_alone_and_says_beside_it_what_it_is(
    capsys: pytest.CaptureFixture[str], instance: Instance
) -> None:
    assert run(["token", "--server", "api", "--as", "ana"]) == 0
    out, err = capsys.readouterr()
    assert out.count(".") == 2
    assert out.strip().isprintable()
    assert f"Bound to {instance.url}/api for ana from cli; valid for 14 min 59 s." in err
    run(["token", "--server", "api", "--as", "ana", "--json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["claims"]["aud"] == f"{instance.url}/api"
    assert document["expires_in"] == 899


def test_an_unexpected_error_is_one_line_and_a_way_to_the_trace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def burst(*_: object) -> None:
        raise RuntimeError("burst \x1b[31mpipe")

    monkeypatch.setattr("pegboard.cli.client.HubClient.get", burst)
    assert run(["whoami", "--as", "ana"]) == 1
    err = capsys.readouterr().err
    assert "Unexpected: RuntimeError: burst pipe" in err
    assert "PEGBOARD_DEBUG=1" in err
    assert "Traceback" not in err
    monkeypatch.setenv("PEGBOARD_DEBUG", "1")
    run(["whoami", "--as", "ana"])
    assert "Traceback" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_told_without_urls_and_oauth(capsys: pytest.CaptureFixture[str]) -> None:
    for server in ("dev/dsk", "dev/nowhere"):
        run(["call", server, "echo", "--as", "ana"])
        err = capsys.readouterr().err
        assert "http" not in err
        assert "target" not in err
        assert "explain" not in err, "there is nothing to be explained"


def test_a_refused_call_is_explained_with_the_arguments_it_had(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*DESK, "order", "--as", "ana", "--arg", "amount=5000"]) == 3
    [hint] = [line for line in capsys.readouterr().err.splitlines() if "pegboard explain" in line]
    assert hint.endswith("--tool order --as ana --arg amount=5000")


def test_a_rule_that_reads_arguments_is_neither_held_nor_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "--server", "dev/desk", "--tool", "order", "--as", "ana"]) == 0
    out = capsys.readouterr().out
    assert "? depends" in out
    assert "Allowed, if the call's arguments are" in out
    assert "no rule refuses it" not in out


def test_interrupting_a_call_ends_it_without_a_trace(instance: Instance) -> None:
    instance.started.clear()
    line = [sys.executable, "-m", "pegboard.cli", *DESK, "linger", "--as", "ana"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert instance.started.wait(60), "the tool was not called"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert (out, err) == ("", "")


def test_a_closed_pipe_is_no_error_worth_a_trace(instance: Instance) -> None:
    read, write = os.pipe()
    os.close(read)
    line = [sys.executable, "-m", "pegboard.cli", "tools", "dev/desk", "--as", "ana"]
    done = subprocess.run(line, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
