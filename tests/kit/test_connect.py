"""`pegboard connect` writes a client's configuration, loses nothing in it, and undoes only what it wrote."""

from __future__ import annotations

import io
import json
import stat
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pegboard.cli.app import run
from pegboard.cli.connect import jsonc
from pegboard.cli.connect.job import Job
from pegboard.cli.connect.place import user_file
from pegboard.cli.exit import Failure
from pegboard.core.client_configs import BY_ID, CLIENTS, entry_name
from pegboard.core.names import ServerName
from pegboard.core.redirects import surface_of
from tests.kit.cli_instance import Instance, running

PRESTO, SCRATCH, DESK = "prod/presto", "dev/scratch", "dev/desk"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running(tmp_path_factory.mktemp("desk")) as found:
        yield found


@pytest.fixture
def home(instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a person who may use two servers, from everywhere."""
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "PEGBOARD_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PEGBOARD_PUBLIC_URL", instance.url)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    open_to(instance, PRESTO, SCRATCH)
    return tmp_path


def open_to(instance: Instance, *servers: str, on: tuple[str, ...] = ("", "cli", "ide")) -> None:
    instance.listed = {surface: [{"server": each} for each in servers] for surface in on}


def connect(client: str, *options: str, expected: int = 0) -> None:
    assert run(["connect", client, "--as", "ana", *options]) == expected


def url(instance: Instance, server: str) -> str:
    return f"{instance.url}/mcp/{server}"


def entries(home: Path, client: str) -> dict[str, Any]:
    """The entries of the client's own file, as another parser than ours reads it."""
    text = file_of(home, client).read_text()
    parsed = tomllib.loads(text) if BY_ID[client].syntax == "toml" else json.loads(text)
    found: dict[str, Any] = parsed[BY_ID[client].entries]
    return found


def file_of(home: Path, client: str) -> Path:
    return user_file(BY_ID[client], {"HOME": str(home)}, "linux")


SHAPES = {
    "vscode": (".config/Code/User/mcp.json", {"type": "http", "url": "URL"}),
    "cursor": (".cursor/mcp.json", {"url": "URL"}),
    "claude-code": (".claude.json", {"type": "http", "url": "URL"}),
    "codex": (".codex/config.toml", {"url": "URL"}),
    "gemini-cli": (".gemini/settings.json", {"type": "http", "url": "URL"}),
    "windsurf": (".codeium/windsurf/mcp_config.json", {"serverUrl": "URL"}),
    "zed": (".config/zed/settings.json", {"url": "URL"}),
}
"""Each client's own file, and what it wants of a server."""


@pytest.mark.parametrize("client", BY_ID)
def test_every_server_one_may_use_gets_an_entry_in_the_clients_own_shape(
    home: Path, instance: Instance, client: str
) -> None:
    connect(client, "--yes")
    path, shape = SHAPES[client]
    assert file_of(home, client) == home / path
    assert entries(home, client) == {
        f"pegboard-{server.replace('/', '-')}": {
            key: url(instance, server) if value == "URL" else value for key, value in shape.items()
        }
        for server in (SCRATCH, PRESTO)
    }
    assert stat.S_IMODE((home / path).stat().st_mode) == 0o600


@pytest.mark.parametrize("client", BY_ID)
def test_a_second_run_changes_nothing_and_removing_takes_away_what_was_made(home: Path, client: str) -> None:
    connect(client, "--yes")
    path = file_of(home, client)
    first = path.read_bytes(), path.stat().st_mtime_ns
    connect(client)  # with nothing to write, nobody has to be asked
    assert (path.read_bytes(), path.stat().st_mtime_ns) == first
    connect(client, "--remove", "--yes")
    assert not path.exists()


WRITTEN_BY_PEOPLE = {
    "codex": [
        '# mine\nmodel = "x" # why\n',
        '[mcp_servers.own]\ncommand = "own" # e\n\n[mcp_servers.own.env]\nX = "1"\n\n# z\n[other]\ny = [\n  1,\n]\n',
        "[profile]\r\nb = 1\r\n",
        'mcp_servers.own.url = "http://elsewhere"\n',
    ],
    "vscode": [
        '{\n\t// my servers\n\t"servers": {\n\t\t"own": {"url": "http://a//b"}, // "}\n\t},\n\t"inputs": [],\n}\n',
        '{\n    "inputs": [1, 2,],\n    /* none */ "servers": {}\n}',
        '{"servers": {"own": {"type": "stdio", "command": "x"}}, "z": 1e400}\n'.replace("1e400", "1e40"),
        '\ufeff{\r\n  "servers": {\r\n    "own": {"url": "\\u00e4\\"//"}\r\n  }\r\n}\r\n',
        '{\n  "a": 1 // no comma here\n}\n',
        "{}",
    ],
    "zed": ['// Zed settings\n//\n{\n  "theme": "One Dark",\n  "context_servers": {\n    // soon\n  },\n}\n'],
}


@pytest.mark.parametrize(
    ("client", "before"),
    [(client, text) for client, texts in WRITTEN_BY_PEOPLE.items() for text in texts],
    ids=[f"{client}-{place}" for client, texts in WRITTEN_BY_PEOPLE.items() for place in range(len(texts))],
)
@pytest.mark.parametrize("server_first", [PRESTO, SCRATCH])
def test_what_people_wrote_stays_to_the_byte_and_removing_brings_back_the_file_as_it_was(
    home: Path, client: str, before: str, server_first: str
) -> None:
    path = file_of(home, client)
    path.parent.mkdir(parents=True)
    path.write_bytes(before.encode())
    connect(client, "--yes")
    after = path.read_bytes().decode()
    rest = iter(after)
    assert all(character in rest for character in before)  # in the order it was in
    connect(client, "--remove", "--yes", "--server", server_first)
    connect(client, "--remove", "--yes")
    assert path.read_bytes().decode() == before


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
blanks = st.sampled_from([" ", "\n", "\n\t", ' // a "b" }\n', "/* , { */", "\r\n", ""])


@given(
    st.dictionaries(st.text(max_size=6).filter(lambda name: name != "servers"), values, max_size=4),
    st.dictionaries(st.sampled_from(["a", "b", "//", '"']), values, max_size=3) | st.none(),
    st.sampled_from([None, 2, "\t"]),
    st.lists(blanks, min_size=1),
    st.booleans(),
)
def test_any_json_is_changed_in_place_and_changed_back(
    others: dict[str, Any], servers: dict[str, Any] | None, indent: Any, gaps: list[str], trailing: bool
) -> None:
    document = others if servers is None else {**others, "servers": servers}
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    for place, gap in enumerate(gaps):  # comments and blanks between the members of the outermost object
        text = text[:1] + gap + text[1:] if place % 2 else text[:-1] + gap + text[-1:]
    if trailing and document:
        text = text[:-1] + ",}"
    assert jsonc.read(text) == document
    after = jsonc.with_member(text, ["servers"], "new", {"url": "u"})
    assert jsonc.read(after) == {**document, "servers": {**(servers or {}), "new": {"url": "u"}}}
    assert jsonc.with_member(after, ["servers"], "new", {"url": "u"}) == after
    back = jsonc.without_member(after, ["servers"], "new")
    back = back if servers is not None else jsonc.without_member(back, [], "servers")
    assert jsonc.read(back) == document
    if servers and document:
        assert back == text


@pytest.mark.parametrize("client", BY_ID)
@pytest.mark.parametrize("blank", ["", "\n"])
def test_of_a_file_that_said_nothing_before_nothing_is_left_but_the_file(home: Path, client: str, blank: str) -> None:
    path = file_of(home, client)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(blank)
    connect(client, "--yes")
    connect(client, "--remove", "--yes")
    assert path.read_text() == ""


def test_what_people_write_into_a_file_that_was_made_here_stays_and_so_does_the_file(home: Path) -> None:
    path = file_of(home, "vscode")
    connect("vscode", "--yes")
    path.write_text("// my servers\n" + path.read_text())
    connect("vscode", "--remove", "--yes")
    assert path.read_text() == "// my servers\n{}\n"
    path.unlink()
    connect("vscode", "--yes")
    connect("vscode", "--remove", "--yes")
    assert not path.exists()
    path.write_text("{}")  # this one is theirs
    connect("vscode", "--yes")
    connect("vscode", "--remove", "--yes")
    assert path.read_text() == "{}"


def test_what_comes_next_is_told_with_the_names_of_the_entries(
    home: Path, instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    open_to(instance, PRESTO)
    connect("codex", "--yes")
    assert "Next: Sign in: codex mcp login pegboard-prod-presto.\n" in capsys.readouterr().err
    open_to(instance, PRESTO, SCRATCH)
    connect("gemini-cli", "--yes")
    said = capsys.readouterr().err
    assert "/mcp auth pegboard-dev-scratch. So with pegboard-prod-presto." in said


def test_a_server_that_one_may_not_use_any_more_goes_at_the_next_run(home: Path, instance: Instance) -> None:
    path = file_of(home, "cursor")
    path.parent.mkdir(parents=True)
    own = {"own": {"command": "x"}, "elsewhere": {"url": "https://else.example/mcp/prod/presto"}}
    path.write_text(json.dumps({"mcpServers": own}))
    connect("cursor", "--yes")
    open_to(instance, SCRATCH)
    connect("cursor", "--yes")
    assert entries(home, "cursor") == own | {"pegboard-dev-scratch": {"url": url(instance, SCRATCH)}}
    open_to(instance)
    connect("cursor", "--yes")
    assert entries(home, "cursor") == own


def test_what_people_add_to_our_entry_stays_while_it_is_there(home: Path, instance: Instance) -> None:
    connect("cursor", "--yes")
    path = file_of(home, "cursor")
    path.write_text(path.read_text().replace('"url"', '"disabled": true, "url"', 1))
    open_to(instance, PRESTO, SCRATCH, DESK)
    connect("cursor", "--yes")
    assert entries(home, "cursor")["pegboard-dev-scratch"] == {"disabled": True, "url": url(instance, SCRATCH)}
    assert "pegboard-dev-desk" in entries(home, "cursor")


def test_a_server_is_listed_for_the_surfaces_that_the_client_may_be_taken_for(home: Path, instance: Instance) -> None:
    instance.listed = {"cli": [{"server": PRESTO}], "ide": [{"server": SCRATCH}], "": [{"server": DESK}]}
    expected = {"claude-code": {PRESTO}, "vscode": {SCRATCH}, "zed": {PRESTO}, "windsurf": {PRESTO, SCRATCH}}
    for client, servers in expected.items():
        connect(client, "--yes")
        assert entries(home, client).keys() == {f"pegboard-{each.replace('/', '-')}" for each in servers}
    connect("codex", "--yes", "--surface", "chat")
    assert entries(home, "codex").keys() == {"pegboard-dev-desk"}


SURFACES = dict.fromkeys(("claude-code", "codex", "gemini-cli", "zed"), "cli") | {"vscode": "ide", "cursor": "ide"}


def test_a_client_is_told_of_the_surface_that_the_hub_takes_its_redirects_for() -> None:
    assert {each.id: surface_of(each.redirects) for each in CLIENTS if each.redirects} == SURFACES
    assert all(each.surfaces == (surface_of(each.redirects),) for each in CLIENTS if each.redirects)
    assert BY_ID["windsurf"].surfaces == ("cli", "ide")


def test_what_is_left_out_is_said_with_whom_to_ask(
    home: Path, instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"server": PRESTO, "owner": "ads", "support_channel": "#ads"}
    instance.listed = {"ide": [{"server": SCRATCH}], "": [known, {"server": SCRATCH}]}
    connect("cursor", "--yes")
    assert "prod/presto: left out, not open to you from ide; ask ads in #ads." in capsys.readouterr().err
    assert entries(home, "cursor").keys() == {"pegboard-dev-scratch"}
    connect("cursor", "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out)["left_out"] == [PRESTO]


def test_where_nothing_is_open_that_is_said_and_nothing_written(
    home: Path, instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    instance.listed = {"ide": [], "": [{"server": PRESTO, "owner": "ads", "support_channel": "#ads"}]}
    connect("cursor", "--yes", expected=3)
    words = capsys.readouterr().err
    assert "No server is open to you from ide." in words
    assert "prod/presto: left out, not open to you from ide; ask ads in #ads." in words
    assert not file_of(home, "cursor").exists()
    instance.listed["ide"] = [{"server": PRESTO}]
    connect("cursor", "--yes")
    instance.listed["ide"] = []
    connect("cursor", "--yes")  # what may be used no more is taken out all the same
    assert not file_of(home, "cursor").exists()


def test_a_chosen_server_that_is_not_open_from_the_client_says_so_and_whom_to_ask(
    home: Path, instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    open_to(instance, "dev/desk", on=("", "cli"))
    connect("vscode", "--yes", "--server", "dev/desk", expected=3)
    assert "dev/desk is not open to you from ide; ask platform in #desk." in capsys.readouterr().err
    connect("vscode", "--yes", "--server", "dev/gone", expected=3)
    assert "dev/gone is retired: " in capsys.readouterr().err
    assert run(["connect", "vscode", "--as", "gus"]) == 3
    assert "See what you may use: pegboard servers --as gus --surface ide" in capsys.readouterr().err
    assert not file_of(home, "vscode").exists()


def test_chosen_servers_alone_get_an_entry(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    connect("claude-code", "--yes", "--server", PRESTO)
    assert entries(home, "claude-code").keys() == {"pegboard-prod-presto"}
    connect("claude-code", "--yes", "--server", SCRATCH)
    assert len(entries(home, "claude-code")) == 2
    connect("claude-code", "--yes", "--server", "prod/prsto", expected=3)
    assert "There is no server prod/prsto here.\nDid you mean prod/presto?" in capsys.readouterr().err
    connect("claude-code", "--yes", "--remove", "--server", PRESTO)
    assert entries(home, "claude-code").keys() == {"pegboard-dev-scratch"}


def test_two_instances_stand_side_by_side_and_each_undoes_only_its_own(home: Path) -> None:
    with running(home / "second") as second:
        open_to(second, PRESTO)
        there = ("--url", second.url)
        connect("vscode", "--yes")
        connect("vscode", "--yes", *there)
        names, others = {"pegboard-dev-scratch", "pegboard-prod-presto"}, {f"{label(second)}-prod-presto"}
        assert entries(home, "vscode").keys() == names | others
        connect("vscode", "--remove", "--yes")
        assert entries(home, "vscode").keys() == others
        connect("vscode", *there)  # there is nothing to write: a name stays as it is
        connect("vscode", "--remove", "--yes", *there)
    assert not file_of(home, "vscode").exists()


def test_an_entry_of_ones_own_for_the_same_server_is_left_and_not_doubled(
    home: Path, instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(home, "gemini-cli")
    path.parent.mkdir(parents=True)
    own = {"warehouse": {"httpUrl": url(instance, PRESTO)}, "pegboard-dev-scratch": {"command": "mine"}}
    path.write_text(json.dumps({"mcpServers": own}))
    connect("gemini-cli", "--yes")
    found = entries(home, "gemini-cli")
    assert found == own | {
        entry_name(ServerName.parse(SCRATCH), label(instance)): {"type": "http", "url": url(instance, SCRATCH)}
    }
    assert "prod/presto: left warehouse: you wrote it yourself." in capsys.readouterr().err
    connect("gemini-cli", "--yes", "--remove")
    assert entries(home, "gemini-cli") == own


def label(instance: Instance) -> str:
    return "pegboard-" + instance.url.removeprefix("http://").replace(".", "-").replace(":", "-")


def test_the_difference_is_shown_and_nothing_is_written_before_somebody_agrees(
    home: Path, instance: Instance, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect("cursor", "--dry-run")
    shown = capsys.readouterr()
    assert f'+      "url": "{url(instance, PRESTO)}"' in shown.out
    connect("cursor", expected=2)
    assert "Add --yes to write, or --dry-run to look." in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", at_a_terminal("n\n"))
    connect("cursor")
    assert not file_of(home, "cursor").exists()
    monkeypatch.setattr("sys.stdin", at_a_terminal("y\n"))
    connect("cursor")
    assert len(entries(home, "cursor")) == 2


def at_a_terminal(typed: str) -> io.StringIO:
    stream = io.StringIO(typed)
    stream.isatty = lambda: True  # type: ignore[method-assign]
    return stream


BROKEN: list[tuple[str, str, str]] = [
    ("vscode", '{\n  "servers": {\n    "a" 1\n  }\n}', "Expecting ':' delimiter (line 3, column 9)"),
    ("vscode", "[]", "it is not a JSON object (line 1, column 1)"),
    ("vscode", '{"servers": [1]}', "servers holds no entries by name"),
    ("vscode", '{"servers": {}} trailing', "Extra data (line 1, column 17)"),
    ("vscode", '{"a": /* open', "(line 1, column 7)"),
    ("vscode", "[" * 100_000, "it is nested too deeply"),
    ("codex", 'a = 1\nb = "x\n', "line 2"),
    ("codex", 'mcp_servers = {own = {command = "x"}}\n', "mcp_servers is written in a way that cannot be changed"),
    ("codex", "mcp_servers = 1\n", "mcp_servers holds no entries by name"),
]


@pytest.mark.parametrize(("client", "text", "said"), BROKEN, ids=range(len(BROKEN)))
def test_a_file_that_cannot_be_read_is_left_and_its_place_is_named(
    home: Path, capsys: pytest.CaptureFixture[str], client: str, text: str, said: str
) -> None:
    path = file_of(home, client)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    connect(client, "--yes", expected=1)
    error = capsys.readouterr().err
    assert said in error
    assert str(path) in error
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("prepare", "said"),
    ids=["not UTF-8", "a folder", "a loop"],
    argvalues=[
        (lambda path: path.write_bytes(b'{\n"a": "\xff"}'), "it is not UTF-8 (line 2)"),
        (lambda path: path.mkdir(), "it is not a file"),
        (lambda path: path.symlink_to(path), "cannot be used"),
    ],
)
def test_what_is_no_text_file_is_left(
    home: Path, capsys: pytest.CaptureFixture[str], prepare: Callable[[Path], object], said: str
) -> None:
    prepare(home / ".claude.json")
    connect("claude-code", "--yes", expected=1)
    assert said in capsys.readouterr().err


def test_mode_and_links_stay_and_the_old_text_is_kept_for_its_owner_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = home / "dotfiles" / "cursor.json"
    real.parent.mkdir()
    real.write_text('{"mcpServers": {"own": {"headers": {"Authorization": "secret"}}}}')
    real.chmod(0o640)
    link = file_of(home, "cursor")
    link.parent.mkdir()
    link.symlink_to(real)
    connect("cursor", "--yes", "--json")
    document = json.loads(capsys.readouterr().out)
    assert link.is_symlink()
    assert len(entries(home, "cursor")) == 3
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    backup = Path(document["backup"])
    assert '"own"' in backup.read_text()
    assert "pegboard" not in backup.read_text()
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert stat.S_IMODE(backup.parent.stat().st_mode) == 0o700
    assert document["written"] is True
    assert {each["action"] for each in document["changes"]} == {"add"}
    assert list(real.parent.iterdir()) == [real]


def test_a_file_that_somebody_changes_meanwhile_is_left_to_them(home: Path, instance: Instance) -> None:
    path = home / "mcp.json"
    path.write_text("{}")
    job = Job.prepare(BY_ID["cursor"], instance.url, path, shared=False)
    servers = [ServerName.parse(PRESTO)]
    plan = job.connecting(servers, frozenset(servers))
    path.write_text('{"theirs": 1}')
    with pytest.raises(Failure, match="changed by somebody else"):
        job.write(plan)
    assert path.read_text() == '{"theirs": 1}'


def test_a_file_that_we_made_and_somebody_changes_meanwhile_is_not_taken_away(home: Path, instance: Instance) -> None:
    connect("cursor", "--yes")
    path = home / ".cursor" / "mcp.json"
    job = Job.prepare(BY_ID["cursor"], instance.url, path, shared=False)
    plan = job.removing(None)
    path.write_text('{"mcpServers": {"mine": {"url": "https://x.example"}}}')
    with pytest.raises(Failure, match="changed by somebody else"):
        job.write(plan)
    assert "x.example" in path.read_text()


PROJECTS = {
    "vscode": ".vscode/mcp.json",
    "cursor": ".cursor/mcp.json",
    "claude-code": ".mcp.json",
    "codex": ".codex/config.toml",
    "gemini-cli": ".gemini/settings.json",
}


@pytest.mark.parametrize("client", BY_ID)
def test_a_projects_file_is_written_where_the_client_reads_one(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    folder = home / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    connect(client, "--project", "--yes", expected=0 if client in PROJECTS else 2)
    if client in PROJECTS:
        assert "prod/presto" in (folder / PROJECTS[client]).read_text()
    else:
        assert "reads no file of a project" in capsys.readouterr().err


def test_another_file_may_be_named(home: Path) -> None:
    connect("zed", "--yes", "--path", "mine.json")
    assert "context_servers" in json.loads((home / "mine.json").read_text())
    connect("zed", "--yes", "--path", "mine.json", "--project", expected=2)


WHERE: list[tuple[str, str, dict[str, str], str]] = [
    ("vscode", "linux", {"HOME": "/h", "XDG_CONFIG_HOME": "/c"}, "/c/Code/User/mcp.json"),
    ("vscode", "linux", {"HOME": "/h", "XDG_CONFIG_HOME": "relative"}, "/h/.config/Code/User/mcp.json"),
    ("vscode", "darwin", {"HOME": "/h"}, "/h/Library/Application Support/Code/User/mcp.json"),
    ("vscode", "win32", {"USERPROFILE": "/u", "APPDATA": "/u/Roam"}, "/u/Roam/Code/User/mcp.json"),
    ("zed", "darwin", {"HOME": "/h", "XDG_CONFIG_HOME": "/c"}, "/h/.config/zed/settings.json"),
    ("zed", "win32", {"USERPROFILE": "/u"}, "/u/AppData/Roaming/Zed/settings.json"),
    ("claude-code", "linux", {"HOME": "/h", "CLAUDE_CONFIG_DIR": "/k"}, "/k/.claude.json"),
    ("codex", "linux", {"HOME": "/h", "CODEX_HOME": "/x"}, "/x/config.toml"),
    ("windsurf", "win32", {"USERPROFILE": "/u"}, "/u/.codeium/windsurf/mcp_config.json"),
]


@pytest.mark.parametrize(("client", "platform", "variables", "expected"), WHERE)
def test_the_clients_own_file_is_looked_for_where_the_client_does(
    client: str, platform: str, variables: dict[str, str], expected: str
) -> None:
    assert user_file(BY_ID[client], variables, platform) == Path(expected)


def test_an_unknown_client_is_told_which_there_are(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    connect("vs-code", expected=2)
    assert "Did you mean vscode?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["prod/presto/../x", 'prod/"x', "prod/x\ny", "", "prod"])
def test_an_answer_with_what_is_no_server_s_name_writes_nothing(home: Path, instance: Instance, name: str) -> None:
    open_to(instance, name)
    connect("cursor", "--yes", expected=5)
    assert not file_of(home, "cursor").exists()


def test_two_servers_never_share_a_name() -> None:
    pairs = [("a-b", "cd"), ("ab", "b-cd"), ("aa", "b-cd"), ("aa-b", "cd")]
    assert len({entry_name(ServerName(*each)) for each in pairs}) == len(pairs)
