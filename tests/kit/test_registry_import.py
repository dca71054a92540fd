"""`pegboard registry import-drafts`: what becomes a draft, what does not, and that nothing is lost unsaid."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pegboard.cli.app import run
from tests.kit.cli_instance import Instance, running

OFFICIAL = "io.modelcontextprotocol.registry/official"
WHO = ["--owner", "ads-eng", "--support-channel", "#ads", "--as", "ana"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running(tmp_path_factory.mktemp("desk")) as found:
        yield found


@pytest.fixture(autouse=True)
def _at_the_instance(here: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEGBOARD_PUBLIC_URL", here.url)
    here.drafts.clear()


class Elsewhere(ThreadingHTTPServer):
    """Another registry, of two entries a page.

    Attributes:
        entries: what it lists.
        asked: paths and queries, as they came.
        raw: what it answers instead, as status, headers and body; None for its list.
    """

    entries: list[dict[str, Any]]
    asked: list[tuple[str, dict[str, str]]]
    raw: tuple[int, dict[str, str], bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, query: dict[str, str]) -> bytes:
        begin = int(query.get("cursor", "0"))
        metadata: dict[str, Any] = {"count": len(self.entries[begin : begin + 2])}
        if begin + 2 < len(self.entries):
            metadata["nextCursor"] = str(begin + 2)
        return json.dumps({"servers": self.entries[begin : begin + 2], "metadata": metadata}).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Elsewhere

    def do_GET(self) -> None:
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        self.server.asked.append((urlsplit(self.path).path, query))
        status, headers, body = self.server.raw or (200, {}, self.server.answer(query))
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def elsewhere(*entries: dict[str, Any]) -> Iterator[Elsewhere]:
    with Elsewhere(("127.0.0.1", 0), _Handler) as found:
        found.entries, found.asked = list(entries), []
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield found
        finally:
            found.shutdown()
            thread.join(10)


def server(name: str, **changes: Any) -> dict[str, Any]:
    whole = {"name": name, "description": "Does something", "version": "1.2.3"}
    return {key: value for key, value in {**whole, **changes}.items() if value is not None}


def entry(name: str, status: str = "active", latest: bool = True, **changes: Any) -> dict[str, Any]:
    return {"server": server(name, **changes), "_meta": {OFFICIAL: {"status": status, "isLatest": latest}}}


def told(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, Any]:
    """What the command says as JSON."""
    assert run(["registry", "import-drafts", *WHO, *words, "--json"]) == status
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def why(document: dict[str, Any]) -> dict[str, str]:
    return {each["from"]: each["why"] for each in document["left_out"]}


def written(folder: Path, document: Any) -> str:
    path = folder / "server.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


WHOLE = server(
    "io.github.acme/Weather_API.v2",
    title="Weather",
    repository={"url": "https://github.com/acme/weather", "source": "github", "subfolder": "src/weather"},
    websiteUrl="https://acme.example/weather",
    remotes=[
        {"type": "streamable-http", "url": "https://mcp.acme.example/weather", "headers": [{"name": "X-Key"}]},
        {"type": "sse", "url": "https://{tenant}.acme.example/sse"},
    ],
    packages=[{"registryType": "npm", "identifier": "@acme/weather", "version": "1.2.3"}],
    icons=[{"src": "https://acme.example/icon.png"}],
    _meta={"io.modelcontextprotocol.registry/publisher-provided": {"tool": "x"}},
)


def test_a_server_json_becomes_a_draft_and_what_has_no_place_is_named(
    here: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, WHOLE)
    [draft] = told(capsys, path)["drafts"]
    assert here.drafts == {
        "prod/weather-api-v2": {
            "server": "prod/weather-api-v2",
            "title": "Weather",
            "description": "Does something",
            "owner": "ads-eng",
            "support_channel": "#ads",
            "links": {
                "repository": "https://github.com/acme/weather",
                "website": "https://acme.example/weather",
                "endpoint": "https://mcp.acme.example/weather",
            },
            "sensitivity": "restricted",
            "why": "imported: io.github.acme/Weather_API.v2 1.2.3 from server.json",
        }
    }
    assert draft["not_taken_over"] == [
        "endpoint-2 (not a plain https address)",
        "the repository's subfolder (src/weather)",
        "package (npm @acme/weather 1.2.3)",
        "headers of the endpoint",
        "icons",
        "the publisher's own metadata",
    ]


def test_a_person_is_told_the_same(here: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = entry("com.acme/broken", description="a\x1b[31m")
    assert run(["registry", "import-drafts", written(tmp_path, {"servers": [{"server": WHOLE}, broken]}), *WHO]) == 0
    out, err = capsys.readouterr()
    assert "prod/weather-api-v2" in out
    assert "npm @acme/weather 1.2.3" in out
    assert "com.acme/broken" in out
    assert "\x1b" not in out
    made, onward = err.splitlines()
    assert made == "1 draft made, 1 server left out."
    assert onward == f"Next, its owners submit it for review: {here.url}/servers/prod/weather-api-v2/access"


@pytest.mark.parametrize("text", ["{}", '{"name": 7}', '{"server": {}}', "[]", "<html>"])
def test_a_file_that_is_no_server_json_is_wrong_usage(
    here: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    error = told(capsys, written(tmp_path, text), status=2)["error"]
    assert "is not a server.json" in error["message"]
    assert here.drafts == {}


def test_where_the_file_lies_is_nobody_s_business(here: Instance, tmp_path: Path) -> None:
    assert run(["registry", "import-drafts", written(tmp_path, WHOLE), *WHO]) == 0
    [draft] = here.drafts.values()
    assert draft["why"].endswith("from server.json")


def test_another_registry_is_read_to_its_end(here: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    with elsewhere(*(entry(f"com.acme/s{number}") for number in range(5))) as other:
        for address in (other.url, f"{other.url}/", f"{other.url}/v0.1", f"{other.url}/v0.1/servers"):
            other.asked.clear()
            here.drafts.clear()
            document = told(capsys, address, "--search", "s")
            assert [draft["server"] for draft in document["drafts"]] == [f"prod/s{number}" for number in range(5)]
            assert [path for path, _ in other.asked] == ["/v0.1/servers"] * 3
            assert other.asked[2][1] == {"limit": "100", "version": "latest", "search": "s", "cursor": "4"}
    assert len(here.drafts) == 5


def test_a_dry_run_makes_nothing_and_needs_no_sign_in(here: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--owner", "ads-eng", "--support-channel", "#ads", "--dry-run"]
    with elsewhere(*(entry(f"com.acme/s{number:03}") for number in range(60))) as other:
        assert run(["registry", "import-drafts", *words, other.url]) == 0
    shown = capsys.readouterr()
    assert "60 drafts would be made" in shown.out + shown.err
    assert "would take them was not looked up: You are not signed in." in shown.out + shown.err
    assert here.drafts == {}


def test_a_dry_run_leaves_out_what_the_real_run_would(here: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--namespace", "dev"]
    with elsewhere(entry("com.acme/desk"), entry("com.acme/fresh")) as other:
        dry = told(capsys, other.url, *words, "--dry-run", status=3)
        assert here.drafts == {}
        real = told(capsys, other.url, *words, status=3)
    assert [each["server"] for each in dry["drafts"]] == [each["server"] for each in real["drafts"]] == ["dev/fresh"]
    assert why(dry) == why(real)
    assert why(real).keys() == {"com.acme/desk"}
    others = ["--owner", "finance", "--name", "com.acme/fresh"]
    with elsewhere(entry("com.acme/fresh")) as other:
        dry, real = (told(capsys, other.url, *others, *more, status=3) for more in (["--dry-run"], []))
    assert why(dry) == why(real)
    assert dry["drafts"] == []


def test_many_are_not_made_unasked(here: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    with elsewhere(*(entry(f"com.acme/s{number:03}") for number in range(51))) as other:
        assert "51 drafts" in told(capsys, other.url, status=2)["error"]["message"]
        assert here.drafts == {}
        told(capsys, other.url, "--yes")
    assert len(here.drafts) == 51


def test_only_servers_of_a_pattern_are_taken(here: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    with elsewhere(entry("com.acme/a1"), entry("com.acme/b1"), entry("org.other/a2")) as other:
        document = told(capsys, other.url, "--name", "com.acme/a*", "--name", "*/b?", "--namespace", "dev")
        assert run(["registry", "import-drafts", *WHO, other.url, "--name", "zzz"]) == 0
        assert f"{other.url} tells of no server that fits zzz." in capsys.readouterr().err
    assert sorted(here.drafts) == ["dev/a1", "dev/b1"]
    assert document["left_out"] == []


def test_one_server_may_be_called_otherwise(here: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    with elsewhere(entry("com.acme/7"), entry("com.acme/other")) as other:
        assert "several" in told(capsys, other.url, "--server", "prod/seven", status=2)["error"]["message"]
        told(capsys, other.url, "--name", "com.acme/7", "--server", "prod/seven")
    assert sorted(here.drafts) == ["prod/seven"]


LEFT_OUT: dict[str, tuple[dict[str, Any], str]] = {
    "deleted there": (entry("com.acme/xx", "deleted"), "deleted"),
    "deprecated there": (entry("com.acme/xx", "deprecated"), "deprecated"),
    "of a status nobody knows": (entry("com.acme/xx", "odd"), "unknown"),
    "an older version": (entry("com.acme/xx", latest=False), "not the latest"),
    "without a name": (entry("x"), "no name of the form"),
    "with two slashes": (entry("com.acme/x/y"), "no name of the form"),
    "with a name that is none here": (entry("com.acme/42"), "--server NS/NAME"),
    "with a long name": (entry(f"com.acme/{'x' * 33}"), "--server NS/NAME"),
    "without a description": (entry("com.acme/xx", description=None), "description is missing"),
    "with an empty one": (entry("com.acme/xx", description=" "), "description is missing"),
    "with a long one": (entry("com.acme/xx", description="a" * 101), "101 characters, and 100 is the most"),
    "with a hidden turn": (entry("com.acme/xx", description="a\u202eb"), "cannot be seen"),
    "with a list for a text": (entry("com.acme/xx", description=["a"]), "description is missing"),
    "with nothing in it": ({}, "no name of the form"),
    "that is no object": ({"server": 7}, "no name of the form"),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_server_is_left_out_with_the_reason_and_the_others_are_not(
    here: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    odd, reason = LEFT_OUT[case]
    document = told(capsys, written(tmp_path, {"servers": [odd, entry("com.acme/fine")]}))
    [given] = why(document).values()
    assert reason in given
    assert sorted(here.drafts) == ["prod/fine"]


def test_two_that_would_have_one_name_are_told_apart(
    here: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twins = [entry("com.acme/a-b"), entry("org.other/A_B"), entry("com.acme/a-b", version="2.0.0")]
    document = told(capsys, written(tmp_path, {"servers": twins}))
    assert here.drafts["prod/a-b"]["why"].startswith("imported: com.acme/a-b 1.2.3")
    assert "--name and --server" in document["left_out"][0]["why"]
    assert "another version" in document["left_out"][1]["why"]


LINKS = [
    "http://acme.example/",
    "javascript:alert(1)",
    "https://ana:secret@acme.example/",
    "https://acme.example/ x",
    "https://acmé.example/",
    "https://acme.example/\u202e",
    "https://{host}/",
    f"https://acme.example/{'x' * 500}",
    "https://",
    "https://[acme",
    7,
    None,
]


@pytest.mark.parametrize("url", LINKS)
def test_a_link_that_leads_nowhere_safe_is_not_kept_and_named(
    here: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str], url: Any
) -> None:
    odd = server("com.acme/xx", remotes=[{"type": "streamable-http", "url": url}], title="a" * 101)
    [draft] = told(capsys, written(tmp_path, odd))["drafts"]
    assert here.drafts["prod/xx"]["links"] == {}
    assert draft["not_taken_over"] == [
        "title (has 101 characters, and 100 is the most)",
        "endpoint (not a plain https address)",
    ]


def test_what_the_hub_refuses_is_told_and_the_others_are_made(
    here: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, {"servers": [entry("a.b/desk"), entry("a.b/two")]})
    document = told(capsys, path, "--namespace", "dev", status=3)
    assert sorted(here.drafts) == ["dev/two"]
    assert list(why(document)) == ["a.b/desk"]


def test_a_team_that_is_not_one_s_own_gets_nothing(
    here: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = told(capsys, written(tmp_path, server("a.b/two")), "--owner", "finance", status=3)
    assert document["drafts"] == []
    assert here.drafts == {}


UNUSABLE: dict[str, tuple[int, dict[str, str], bytes]] = {
    "not a registry": (200, {}, b"<html>"),
    "a list": (200, {}, b"[]"),
    "a list of texts": (200, {}, b'{"servers": ["x"]}'),
    "deep": (200, {}, b"[" * 100_000),
    "not there": (404, {}, b"{}"),
    "elsewhere": (302, {"location": "http://127.0.0.1:1/"}, b""),
    "for ever": (200, {}, b'{"servers": [], "metadata": {"nextCursor": "again"}}'),
    "with a cursor that is none": (200, {}, b'{"servers": [], "metadata": {"nextCursor": 7}}'),
    "too long": (200, {}, b'{"servers": [' + b" " * (17 * 2**20) + b"]}"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_is_no_registry_ends_it_before_anything_is_made(
    here: Instance, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    with elsewhere() as other:
        other.raw = UNUSABLE[case]
        error = told(capsys, other.url, status=1)["error"]
    assert error["code"] == "unusable_source"
    assert other.url in error["message"]
    assert here.drafts == {}


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("nowhere.json", 2),
        ("http://", 2),
        ("https://ana:secret@acme.example", 2),
        ("https://acme.example/?x=1", 2),
        ("http://127.0.0.1:1", 5),
    ],
)
def test_a_source_that_cannot_be_read_is_named(capsys: pytest.CaptureFixture[str], source: str, status: int) -> None:
    error = told(capsys, source, status=status)["error"]
    assert "make up" not in error["what_to_do"], "that starts Pegboard, and no other registry"


@pytest.mark.parametrize("words", [["--sensitivity", "secret"], ["--namespace", "Prod"], ["--server", "x"]])
def test_an_option_that_means_nothing_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    told(capsys, written(tmp_path, WHOLE), *words, status=2)
