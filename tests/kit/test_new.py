"""`pegboard new`: each template makes a project that passes its own tests and its check, whatever its author says."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pegboard.cli.app import run
from pegboard.cli.author import new, openapi, scaffold
from pegboard.cli.exit import Failure

HOSTILE = 'A "quoted" thing: {braces} \\ backslash, \'\'\' and """ (ends here)'
FAKE_UV = r"""#!/bin/sh
name=$(sed -n 's/^name = "\(.*\)"$/\1/p' pyproject.toml | head -n 1)
printf 'version = 1\nrequires-python = ">=3.11"\n\n[[package]]\nname = "%s"\nversion = "0.1.0"\n' "$name" > uv.lock
printf 'source = { editable = "." }\ndependencies = [{ name = "pegboard" }]\n' >> uv.lock
"""


@pytest.fixture(autouse=True)
def _nothing_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = tmp_path / "uv"
    uv.write_text(FAKE_UV)
    uv.chmod(0o755)
    monkeypatch.setenv("PEGBOARD_UV", str(uv))
    monkeypatch.setenv("PEGBOARD_PUBLIC_URL", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)


def make(name: str, *more: str) -> Path:
    assert run(["new", name, "--owner", "platform", "-d", HOSTILE, *more, "--json"]) == 0
    return Path(name).absolute()


def table(folder: Path) -> Path:
    found = folder / "sales.csv"
    found.write_text("day,amount\n2026-01-01,3.5\n")
    return found


def write_documents(folder: Path) -> None:
    """The APIs that `TEMPLATES` name."""
    keyed = {"security": [{"s": []}], "components": {"securitySchemes": {"s": SCHEMES[0][0]}}}
    sample = json.loads(scaffold.sample("openapi", "sample.json"))
    (folder / "api.json").write_text(json.dumps(document()))
    (folder / "keyed.json").write_text(json.dumps({**sample, **keyed}))


TEMPLATES: dict[str, list[str]] = {
    "a-blank": ["-t", "blank"],
    "a-sql": ["-t", "sql"],
    "a-files": ["-t", "files"],
    "an-api": ["-t", "openapi"],
    "a-writer": ["-t", "openapi", "--operation", "bookRoom", "--operation", "getRoom"],
    "a-keyed": ["--document", "keyed.json"],
    "evil": ["--document", "api.json"],
}
PROVE = """
import contextlib, io, json, sys, pytest
from pegboard.cli.app import run
folders = sys.argv[1:]
options = ["-q", "--import-mode=importlib", "-p", "no:cacheprovider", "-p", "no:kmock"]
options += ["-c", "/dev/null", "--rootdir", "."]
status = pytest.main([*options, *(f"{each}/tests" for each in folders)])
found = []
for folder in folders:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        run(["check", folder, "--json"])
    found += [each for each in json.loads(said.getvalue())["findings"] if each["severity"] == "error"]
# What is locked, uv knows, which was not asked here.
wrong = [each for each in found if each["place"] != "uv.lock"]
sys.exit(f"{status} {wrong}" if status or wrong else 0)
"""
"""One process for all of them: each import of the kit costs more than a project's tests do."""


def test_each_template_passes_its_own_tests_and_its_check(tmp_path: Path) -> None:
    write_documents(tmp_path)
    folders = [make(name, *more, "--group", "finance", "--group", "platform") for name, more in TEMPLATES.items()]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder / "src") for folder in folders)}
    command = [sys.executable, "-c", PROVE, *(folder.name for folder in folders)]
    done = subprocess.run(command, env=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for folder in folders:
        manifest = tomllib.loads((folder / "pegboard.toml").read_text())
        assert (manifest["description"], manifest["owner"]) == (HOSTILE, "platform")
        assert manifest["requests"]["business_groups"] == ["finance", "platform"]


def test_what_is_made_is_told_to_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    make("weather")
    document = json.loads(capsys.readouterr().out)
    assert {"pegboard.toml", "policies/readers.cedar", "uv.lock", "tests/test_tools.py"} <= set(document["files"])
    assert document["next"][-1] == "pegboard submit"
    assert not [name for name in document["files"] if "docker" in name.lower() or name.endswith((".yaml", ".yml"))]


def test_a_csv_file_becomes_a_table_of_duckdb(tmp_path: Path) -> None:
    folder = make("sales", "--data", str(table(tmp_path)))
    assert (folder / "src" / "sales_server" / "data.csv").read_bytes() == table(tmp_path).read_bytes()
    assert 'to_table("sales")' in (folder / "src" / "sales_server" / "data.py").read_text()
    assert "duckdb" in (folder / "pyproject.toml").read_text()


def test_documents_are_taken_over_but_nothing_hidden_no_link_and_nothing_binary(tmp_path: Path) -> None:
    own = tmp_path / "docs"
    (own / "deep").mkdir(parents=True)
    (own / "deep" / "a.md").write_text("# A")
    (own / ".env").write_text("SECRET=1")
    (own / ".git").mkdir()
    (own / ".git" / "config").write_text("x")
    (own / "b.bin").write_bytes(b"\0\1")
    (own / "passwd.md").symlink_to("/etc/passwd")
    folder = make("handbook", "--data", str(own))
    kept = folder / "src" / "handbook_server" / "documents"
    assert [path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()] == ["deep/a.md"]


REFUSED: list[tuple[list[str], str]] = [
    (["Weather"], "is no server's name"),
    (["w"], "is no server's name"),
    (["../weather"], "is no server's name"),
    (["weather", "-t", "nosuch"], "choose one of blank, sql, openapi, files"),
    (["weather", "--owner", "Platform Team"], "--owner Platform Team: a group is 2 to 32 of a-z"),
    (["weather", "-d", "x" * 101], "1 to 100 characters"),
    (["weather", "-d", "two\nlines"], "1 to 100 characters"),
    (["weather", "-t", "blank", "--data", "x.csv"], "--data belongs to"),
    (["weather", "-t", "sql", "--document", "x.json"], "--document, --operation and --base-url belong to"),
    (["weather", "--data", "x.xlsx"], "what it is cannot be told"),
    (["weather", "--data", "nosuch.csv"], "cannot be read"),
    (["weather", "--document", "nosuch.json"], "cannot be read"),
    (["weather", "-t", "openapi", "--operation", "nosuch"], "It has listRooms, getRoom, bookRoom"),
    (["weather", "--kit", "nosuch"], "is neither an index's address nor the kit's folder"),
]


@pytest.mark.parametrize(("line", "told"), REFUSED, ids=[" ".join(line)[:40] for line, _ in REFUSED])
def test_what_does_not_fit_is_said_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: list[str], told: str
) -> None:
    given = ["--owner", "platform"] * ("--owner" not in line) + ["-d", "The weather"] * ("-d" not in line)
    assert run(["new", *line, *given]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["uv"]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "weather").mkdir()
    (tmp_path / "weather" / "mine.txt").write_text("mine")
    assert run(["new", "weather", "--owner", "platform", "-d", "x"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "weather").iterdir()] == ["mine.txt"]


def test_what_cannot_be_locked_stays_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "uv").write_text("#!/bin/sh\necho 'error: no such index' >&2\nexit 2\n")
    assert run(["new", "weather", "--owner", "platform", "-d", "x"]) == 1
    told = capsys.readouterr().err
    assert "no such index" in told
    assert "cd weather && uv lock" in told
    assert (tmp_path / "weather" / "pegboard.toml").exists()


def test_at_a_terminal_what_is_missing_is_asked_for_until_it_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ["nosuch", "blank", "", "The weather", "Platform", "platform", "#weather", "platform, finance"]
    answer(monkeypatch, said)
    assert run(["new", "weather"]) == 0
    assert said == []
    manifest = tomllib.loads(Path("weather/pegboard.toml").read_text())
    assert manifest["requests"]["business_groups"] == ["platform", "finance"]


def answer(monkeypatch: pytest.MonkeyPatch, answers: list[str]) -> None:
    monkeypatch.setattr(new, "somebody_is_here", lambda: True)
    monkeypatch.setattr("pegboard.cli.author.answers.typer.prompt", lambda *_, **__: answers.pop(0))


def test_whoever_chooses_a_template_is_asked_for_their_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, ["sql", "nosuch.csv", str(table(tmp_path)), "Sales by day", "finance", "#sales", "finance"])
    assert run(["new", "sales"]) == 0
    assert Path("sales/src/sales_server/data.csv").read_bytes() == table(tmp_path).read_bytes()


@pytest.mark.parametrize("template", ["sql", "openapi", "files"])
def test_a_sample_is_called_one(capsys: pytest.CaptureFixture[str], template: str) -> None:
    assert run(["new", "weather", "-t", template, "--owner", "platform", "-d", "The weather"]) == 0
    assert "until you name your own" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", ["import", "class", "pass-on", "x2"])
def test_any_name_of_a_server_makes_a_package_that_its_build_finds(name: str) -> None:
    module = f"{name.replace('-', '_')}_server"
    assert (make(name) / "src" / module / "server.py").is_file()
    assert tomllib.loads(Path(name, "pyproject.toml").read_text())["project"]["name"] == f"{name}-server"


def test_whoever_leaves_while_it_locks_has_a_project_and_is_told_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaves(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(new, "run_uv", leaves)
    assert run(["new", "weather", "--owner", "platform", "-d", "x"]) == 130
    assert "Go on: cd weather && uv lock" in capsys.readouterr().err
    assert (tmp_path / "weather" / "pegboard.toml").is_file()


def test_what_the_disk_does_not_take_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, _: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert run(["new", "weather", "--owner", "platform", "-d", "x"]) == 1
    assert "weather cannot be made: No space left on device" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["uv"]


def test_an_empty_folder_that_somebody_stands_in_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weather").mkdir()
    monkeypatch.chdir(tmp_path / "weather")
    assert run(["new", "weather", "--owner", "platform", "-d", "x", "--into", "."]) == 0
    assert Path("pegboard.toml").is_file()


def test_what_is_made_reads_as_a_linter_and_a_formatter_want_it(tmp_path: Path) -> None:
    write_documents(tmp_path)
    (tmp_path / "sales.csv").write_text("day,amount\n2026-01-01,3.5\n")
    (tmp_path / "sales.parquet").write_bytes(b"PAR1")
    made = {**TEMPLATES, "csv": ["--data", "sales.csv"], "parquet": ["--data", "sales.parquet"]}
    del made["evil"]
    for name, more in made.items():
        assert run(["new", name, "--owner", "platform", "-d", "A plain line.", *more]) == 0
    ruff = [str(Path(sys.executable).with_name("ruff"))]
    own = f"src = {[f'{name}/src' for name in made]}"
    rules = ["--select", "E,F,W,I,B,C4,UP,SIM,RUF,N,PT", "--line-length", "118", "--config", own]
    for command in (["check", "--isolated", *rules], ["format", "--isolated", "--diff", "--line-length", "118"]):
        done = subprocess.run([*ruff, *command, *made], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_kit_comes_from_the_index_that_is_named() -> None:
    folder = make("weather", "--kit", "https://pegboard.example.com/packages/simple/")
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["tool"]["uv"]["sources"] == {"pegboard": {"index": "pegboard"}}
    [index] = project["tool"]["uv"]["index"]
    assert index == {"name": "pegboard", "url": "https://pegboard.example.com/packages/simple/", "explicit": True}


# An API's document is a stranger's text.

EVIL = 'x"""\nimport os\n"""\\"; {0} \'\'\' #'


def document(**more: Any) -> dict[str, Any]:
    operation = {
        "operationId": EVIL,
        "summary": EVIL,
        "parameters": [
            {"name": "class", "in": "query", "description": EVIL, "schema": {"type": "string", "enum": [EVIL, "b"]}},
            {"name": EVIL, "in": "query", "schema": {"type": ["integer", "null"]}},
            {
                "name": "ctx",
                "in": "query",
                "required": True,
                "schema": {"type": "array", "items": {"type": "number"}},
            },
            {"name": "id", "in": "path", "required": True, "schema": {"$ref": "#/components/schemas/Id"}},
        ],
    }
    schemas = {"Id": {"type": "string"}, "Loop": {"$ref": "#/components/schemas/Loop"}}
    return {
        "openapi": "3.0.3",
        "info": {"title": EVIL, "description": EVIL},
        "servers": [{"url": "https://api.example.com/v2/"}],
        "components": {"schemas": schemas},
        "paths": {"/things/{id}": {"get": operation}},
        **more,
    }


def test_a_document_s_text_becomes_no_code(tmp_path: Path) -> None:
    (tmp_path / "api.json").write_text(json.dumps(document()))
    folder = make("evil", "--document", "api.json")
    source = (folder / "src" / "evil_server" / "server.py").read_text()
    tree = ast.parse(source)
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert imported == {"httpx2"}


def read(value: Any, **more: Any) -> openapi.Api:
    return openapi.read(json.dumps(value).encode(), "api.json", **more)


@pytest.mark.parametrize(
    "servers",
    [
        [],
        [{"url": "/v1"}],
        [{"url": "ftp://x/"}],
        [{"url": 'https://x/"; import os #'}],
        [{"url": "https://me:pw@x/"}],
    ],
)
def test_where_an_api_is_must_be_an_address(servers: list[dict[str, str]]) -> None:
    with pytest.raises(Failure, match="does not say where the API is"):
        read(document(servers=servers))
    assert read(document(servers=servers), base_url="http://localhost:9/x").egress == "localhost:9"


def test_only_what_reads_becomes_a_tool_unless_it_is_named() -> None:
    api = openapi.read(scaffold.sample("openapi", "sample.json"), "sample.json")
    assert [each.id for each in openapi.chosen(api, [])] == ["listRooms", "getRoom"]
    assert [each.id for each in openapi.chosen(api, ["bookRoom"])] == ["bookRoom"]
    assert api.egress == "rooms.example.com:443"


def test_more_than_a_model_reads_well_must_be_chosen_from() -> None:
    get = {"get": {"responses": {}}}
    api = read(document(paths={f"/a{n}": get for n in range(30)}))
    with pytest.raises(Failure, match="30 operations only read"):
        openapi.chosen(api, [])
    assert len(openapi.chosen(api, ["get_/a1", "get_/a2"])) == 2


SCHEMES = [
    ({"type": "http", "scheme": "bearer"}, ("Authorization", "Bearer")),
    ({"type": "apiKey", "in": "header", "name": "X-Key"}, ("X-Key", "")),
    ({"type": "apiKey", "in": "header", "name": 'X"; import os'}, None),
    ({"type": "apiKey", "in": "query", "name": "key"}, None),
]


@pytest.mark.parametrize(("scheme", "secret"), SCHEMES)
def test_a_secret_is_named_and_never_written_down(
    tmp_path: Path, scheme: dict[str, str], secret: tuple[str, str] | None
) -> None:
    given = document(security=[{"s": []}], components={"securitySchemes": {"s": scheme}})
    assert read(given).secret == secret
    if secret is None:
        return
    (tmp_path / "api.json").write_text(json.dumps(given))
    folder = make("keyed", "--document", "api.json")
    manifest = tomllib.loads((folder / "pegboard.toml").read_text())
    assert manifest["secrets"] == {"API_TOKEN": "file:api-token"}
    assert manifest["egress"] == ["api.example.com:443"]
    assert "os.environ" in (folder / "src" / "keyed_server" / "api.py").read_text()


def test_references_that_go_round_end() -> None:
    loop = {"name": "a", "in": "query", "schema": {"$ref": "#/components/schemas/Loop"}}
    api = read(document(paths={"/x": {"get": {"parameters": [loop, {"$ref": "#/nowhere"}]}}}))
    assert [each.name for each in api.operations[0].parameters] == ["a"]


def test_a_kit_from_a_folder_is_said_to_be_no_kit_for_a_release(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", "wiki", "--owner", "platform", "-d", "What the team knows."]) == 0
    told = capsys.readouterr().err
    assert "Nothing answers at http://127.0.0.1:9, so the kit comes from /" in told
    assert "pegboard submit will say how to take it from an instance." in told
