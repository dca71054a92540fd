"""`submit`, `releases` and `promote --to`: what an author is told on the way from a project to a release."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from threading import Thread
from typing import Any

import pytest

from pegboard.cli.app import run
from pegboard.cli.author import following, logs, packing
from pegboard.cli.exit import Failure
from pegboard.cli.options import Options
from pegboard.cli.service import Service
from pegboard.core.archive import unpack
from tests.kit import cli_instance
from tests.kit.cli_instance import HARMLESS, Instance, running

MANIFEST = """
name = "{name}"
entry = "weather:server"
description = "The weather"
owner = "platform"
support_channel = "#weather"
"""


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running(tmp_path_factory.mktemp("desk")) as found:
        yield found


@pytest.fixture(autouse=True)
def _at_the_instance(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEGBOARD_PUBLIC_URL", instance.url)
    for name in (
        "CI_JOB_URL",
        "BUILD_URL",
        "GITHUB_RUN_ID",
        "PEGBOARD_TOKEN",
        "PEGBOARD_TOKEN_FILE",
        "PEGBOARD_SVID",
        "PEGBOARD_DEBUG",
    ):
        monkeypatch.delenv(name, raising=False)
    instance.publishing.found.clear()
    instance.publishing.queries.clear()


def project(folder: Path, name: str = "weather") -> Path:
    (folder / "policies").mkdir(parents=True)
    (folder / "pegboard.toml").write_text(MANIFEST.format(name=name))
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\nversion = "0.1.0"\n')
    (folder / "uv.lock").write_text("version = 1\n")
    (folder / "weather.py").write_text("server = None\n")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_it.py").write_text("")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "secret").write_text("of no release")
    return folder


def words(capsys: pytest.CaptureFixture[str]) -> str:
    found = capsys.readouterr()
    return " ".join((found.out + found.err).split())


def submit(folder: Path, *more: str) -> int:
    return run(["submit", str(folder), "--no-check", "--as", "ana", *more])


def test_dev_goes_live_and_each_step_is_told_with_its_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(project(tmp_path / "p")) == 0
    told = words(capsys)
    assert "[ 0.0 s] submitted received (ana)" in told
    assert "[ 0.4 s] submitted installing: 34 packages" in told
    assert "[ 2.4 s] live live" in told
    assert f"src/server.py:3: warning: PB204 {HARMLESS} x" in told
    assert f"+ tool look_up: {HARMLESS}: a" in told
    assert "dev/weather is live: 1.0.0 (" in told
    assert "pegboard tools dev/weather --as ana" in told


def test_live_is_said_once_the_edge_knows_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_instance, "REGISTERED", {"dev/weather"})
    instance.unknown_yet.add("dev/weather")
    assert submit(project(tmp_path / "p")) == 0
    assert instance.unknown_yet == set(), "it was asked for"
    assert "dev/weather is live" in words(capsys)


def test_prod_waits_for_reviews_with_status_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(project(tmp_path / "p"), "--namespace", "prod", "-m", "what is new") == 4
    told = words(capsys)
    assert "prod/weather waits for reviews: Security. What runs goes on running." in told
    assert "http://127.0.0.1/reviews/r1" in told
    assert "pegboard releases prod/weather show sub-1 --follow --as ana" in told


def test_a_release_that_fails_says_what_happened_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(project(tmp_path / "p", "broken")) == 1
    told = words(capsys)
    assert "dev/broken was not released, at installing: there is no package nosuch." in told
    assert "Take it out of pyproject.toml." in told


@pytest.mark.parametrize(("namespace", "status"), [("dev", 0), ("prod", 4)])
def test_json_is_one_document_and_steps_go_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], namespace: str, status: int
) -> None:
    assert submit(project(tmp_path / "p"), "--namespace", namespace, "--json") == status
    found = capsys.readouterr()
    document = json.loads(found.out)
    assert (document["submission"] if status else document)["server"] == f"{namespace}/weather"
    assert "received" in found.err


def test_who_submits_the_same_again_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], instance: Instance
) -> None:
    folder = project(tmp_path / "p")
    (folder / "once.py").write_text("# of this test alone\n")
    assert submit(folder, "--message", "the first") == 0
    assert "submitted already" not in words(capsys)
    assert submit(folder, "--message", "the second") == 0
    assert "These very files were submitted already, by ana at" in (said := words(capsys))
    assert "as 'the first'" in said


def test_the_same_project_is_the_same_archive_and_without_what_no_release_needs(
    tmp_path: Path, instance: Instance
) -> None:
    first, second = project(tmp_path / "a"), project(tmp_path / "b")
    (second / "weather.py").touch()
    assert packing.packed(first) == packing.packed(second)
    assert sorted(unpack(packing.packed(first))) == ["pegboard.toml", "pyproject.toml", "uv.lock", "weather.py"]
    assert submit(first) == submit(second) == 0
    assert len(instance.publishing.found) == 1


def test_a_project_of_another_instance_is_told_how_it_moves(
    tmp_path: Path, instance: Instance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its lock file names the other one's index, from which this machine may get nothing."""
    folder = project(tmp_path / "p")
    locked = (
        '[[package]]\nname = "pegboard"\nversion = "0.1.0"\nsource = { registry = "http://other/packages/simple/" }\n'
    )
    (folder / "uv.lock").write_text(f"version = 1\n{locked}")
    monkeypatch.setattr("pegboard.cli.author.submit.run_uv", lambda *_: CompletedProcess([], 2, "", "error: no kit"))
    assert run(["submit", str(folder), "--as", "ana"]) == 1
    said = words(capsys)
    assert "It cannot be checked here: error: no kit" in said
    assert "Its kit is locked from http://other/packages/simple/, which is another instance's index." in said
    assert (
        f"{instance.url}/packages/simple/, and run: uv lock. Or leave it to the hub: pegboard submit --no-check"
        in said
    )
    assert submit(folder) == 0


@pytest.mark.parametrize(
    ("breaks", "told"),
    [
        (lambda folder: (folder / "uv.lock").unlink(), "Make it: uv lock"),
        (lambda folder: (folder / "more.py").symlink_to("/etc/passwd"), "more.py is a link or no file."),
        (lambda folder: (folder / "more").symlink_to("/etc"), "more is a link or no file."),
        (lambda folder: (folder / "pegboard.toml").write_text("name = 1\n"), "pegboard.toml"),
        (lambda folder: (folder / "pegboard.toml").unlink(), "pegboard new NAME"),
    ],
    ids=["no lock file", "a link", "a link to a folder", "a manifest that does not fit", "no manifest"],
)
def test_what_cannot_be_submitted_is_said_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], instance: Instance, breaks: Any, told: str
) -> None:
    folder = project(tmp_path / "p")
    breaks(folder)
    assert submit(folder) == 2
    assert told in words(capsys)
    assert instance.publishing.queries == []


def git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", *author, "-C", str(folder), *arguments], check=True, capture_output=True)


def repository(folder: Path) -> Path:
    project(folder / "servers" / "weather")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    git(folder, "remote", "add", "origin", "https://me:secret@git.example.com/data/weather.git")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    git(folder, "tag", "v1")
    return folder


def test_a_folder_says_its_commit_and_no_credentials(tmp_path: Path, instance: Instance) -> None:
    folder = repository(tmp_path / "r") / "servers" / "weather"
    assert submit(folder) == 0
    (folder / "weather.py").write_text("server = 2\n")
    assert submit(folder) == 0
    clean, dirty = instance.publishing.queries
    assert clean["repository"] == "https://git.example.com/data/weather.git"
    assert len(clean["commit"]) == 40
    assert clean["kind"] == "folder"
    assert "dirty" not in clean
    assert dirty["dirty"] == "true"


@pytest.mark.parametrize("ref", ["", "@v1"])
def test_a_repository_is_submitted_as_it_is_committed(tmp_path: Path, instance: Instance, ref: str) -> None:
    root = repository(tmp_path / "r")
    (root / "servers" / "weather" / "weather.py").write_text("server = 'not committed'\n")
    assert run(["submit", "--git", f"file://{root}{ref}", "servers/weather", "--as", "ana"]) == 0
    [query] = instance.publishing.queries
    assert (query["kind"], len(query["commit"])) == ("git", 40)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("ext::sh -c touch% /tmp/x", "cannot be had"),
        ("--upload-pack=touch /tmp/x", "is no repository's address"),
        ("file:///nowhere/at/all", "cannot be had"),
        ("http://git.example.com/sales", "over http, whoever is on the way can change what you submit"),
        ("git://127.0.0.1/sales", "over git, whoever is on the way can change what you submit"),
        ("http://localhost.example.com/sales", "whoever is on the way"),
        ("http://127.0.0.1@git.example.com/sales", "whoever is on the way"),
    ],
)
def test_an_address_that_is_none_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str, told: str
) -> None:
    assert run(["submit", "--git", address, "--as", "ana"]) != 0
    assert told in words(capsys)


def test_a_repository_that_this_machine_serves_is_fetched_over_http(tmp_path: Path, instance: Instance) -> None:
    root = repository(tmp_path / "r")
    subprocess.run(["git", "-C", str(root), "update-server-info"], check=True)
    handler = partial(SimpleHTTPRequestHandler, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/.git@v1"
        assert run(["submit", "--git", address, "servers/weather", "--as", "ana"]) == 0
        server.shutdown()
    [query] = instance.publishing.queries
    assert (query["kind"], query["repository"]) == ("git", address.removesuffix("@v1"))


@pytest.mark.parametrize("inside", ["..", "/etc", "nowhere"])
def test_only_folders_of_the_repository_are_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], inside: str
) -> None:
    root = repository(tmp_path / "r")
    assert run(["submit", "--git", f"file://{root}", inside, "--as", "ana"]) == 2
    assert "is no folder of that repository" in words(capsys)


REFS = [
    ("https://git.example.com/a/b", ("https://git.example.com/a/b", "")),
    ("https://git.example.com/a/b@v1.2", ("https://git.example.com/a/b", "v1.2")),
    ("https://me:pw@git.example.com/a/b", ("https://me:pw@git.example.com/a/b", "")),
    ("https://me:pw@git.example.com/a/b@feature/x", ("https://me:pw@git.example.com/a/b", "feature/x")),
    ("git@git.example.com:a/b.git", ("git@git.example.com:a/b.git", "")),
    ("git@git.example.com:a/b.git@main", ("git@git.example.com:a/b.git", "main")),
]


@pytest.mark.parametrize(("address", "parts"), REFS)
def test_url_and_ref_are_told_apart(address: str, parts: tuple[str, str]) -> None:
    assert packing.split_ref(address) == parts
    assert "pw" not in packing.without_credentials(parts[0])


def test_a_ci_job_submits_with_its_own_token_and_says_which_job_it_is(
    tmp_path: Path, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = instance.hub.token("ana", ["ads-eng"], "service", aud=f"{instance.url}/api")
    place = tmp_path / "token"
    place.write_text(f"{token}\n")
    monkeypatch.setenv("PEGBOARD_TOKEN_FILE", str(place))
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "data/weather")
    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    assert run(["submit", str(project(tmp_path / "p")), "--no-check"]) == 0
    [query] = instance.publishing.queries
    assert query["kind"] == "ci"
    assert query["job"] == "https://github.example.com/data/weather/actions/runs/7"


@pytest.mark.parametrize("variable", ["PEGBOARD_TOKEN_FILE", "PEGBOARD_SVID"])
def test_what_a_job_is_known_by_is_no_part_of_what_it_submits(
    tmp_path: Path,
    instance: Instance,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    place = project(tmp_path / "p") / "secret"
    place.write_text("a token, or a folder with a key")
    monkeypatch.setenv(variable, str(place))
    assert run(["submit", str(place.parent), "--no-check"]) == 2
    assert "lies in the project's folder, and would be submitted with it." in words(capsys)
    assert instance.publishing.queries == []


def test_a_job_is_told_where_there_is_no_port_for_services(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEGBOARD_SVID", str(tmp_path / "svid"))
    assert run(["submit", str(project(tmp_path / "p")), "--no-check"]) == 2
    assert "has no port for services, so PEGBOARD_SVID gets no token there." in words(capsys)


def test_a_job_without_its_certificate_is_told_what_should_be_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEGBOARD_SVID", str(tmp_path / "svid"))
    monkeypatch.setattr(Service, "_endpoint", lambda _: "https://127.0.0.1:9/oauth/token")
    assert run(["submit", str(project(tmp_path / "p")), "--no-check"]) == 2
    assert "There must be svid.pem, svid_key.pem and bundle.pem" in words(capsys)


def test_a_token_file_that_is_not_there_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEGBOARD_TOKEN_FILE", str(tmp_path / "nowhere"))
    assert run(["submit", str(project(tmp_path / "p")), "--no-check"]) == 2
    assert "PEGBOARD_TOKEN_FILE" in words(capsys)


def test_who_leaves_is_told_how_to_look_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, instance: Instance
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(following, "_row", interrupted)
    assert submit(project(tmp_path / "p")) == 130
    told = words(capsys)
    assert "It goes on without you." in told
    assert "pegboard releases dev/weather show sub-1 --follow --as ana" in told
    monkeypatch.undo()
    monkeypatch.setenv("PEGBOARD_PUBLIC_URL", instance.url)
    assert run(["releases", "dev/weather", "show", "sub-1", "--follow", "--as", "ana"]) == 0
    assert "dev/weather is live" in words(capsys)


def test_a_hub_that_is_away_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    from pegboard.cli.exit import ExitStatus

    answers: list[Any] = [
        {"events": [{"seq": 1, "at_ms": 1, "state": "submitted", "step": "received"}], "state": "submitted"},
        Failure.here(ExitStatus.UNREACHABLE, "unreachable", "Nothing answers."),
        # As the edge says it while a hub that was killed comes back (`pegboard_hub/edge/refusals.py`).
        Failure.here(ExitStatus.UNREACHABLE, "hub_unavailable", "The hub does not answer."),
        {"events": [{"seq": 2, "at_ms": 9001, "state": "live", "step": "live"}], "state": "live"},
    ]
    slept: list[float] = []

    def get(path: str, **query: str) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Failure):
            raise answer
        return answer

    options = Options(None, None, None, as_json=False, url="http://localhost:1")
    following.follow(following.Submission("dev/weather", "sub-1"), get, options, slept.append)
    told = words(capsys)
    assert told.count("Still waiting.") == 1
    assert "[ 9.0 s] live live" in told
    assert len(slept) == 2


def test_a_log_that_is_followed_tells_each_line_once_and_that_some_are_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pegboard.cli.exit import ExitStatus

    def lines(*texts: str, more: bool = False) -> dict[str, Any]:
        return {"lines": [{"at": text[0], "text": text} for text in texts], "more": more}

    answers: list[Any] = [
        lines("1 first", "2 second"),
        Failure.here(ExitStatus.UNREACHABLE, "hub_unavailable", "The hub does not answer."),
        lines("5 fifth", more=True),
        KeyboardInterrupt(),
    ]
    asked: list[str | None] = []

    class Hub:
        def get(self, _path: str, **query: str | None) -> Any:
            asked.append(query["since"])
            answer = answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer

    monkeypatch.setattr(logs, "EVERY_S", 0)
    options = Options(None, None, None, as_json=False, url="http://localhost:1")
    with pytest.raises(KeyboardInterrupt):
        logs._follow(Hub(), "logs", {"since": None}, lines("1 first")["lines"], options)  # type: ignore[arg-type]
    out, err = capsys.readouterr()
    assert [row.rpartition(" ")[2] for row in out.splitlines()] == ["second", "fifth"]
    assert err.count("Still waiting.") == 1
    assert err.count("are left out here") == 1
    assert asked == ["1", "2", "2", "5"]


def test_releases_are_listed_found_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = project(tmp_path / "p")
    submit(folder, "-m", "first")
    (folder / "weather.py").write_text("server = 2\n")
    submit(folder, "-m", "second")
    capsys.readouterr()
    assert run(["releases", "dev/weather", "--as", "ana"]) == 0
    told = words(capsys)
    assert told.index("second") < told.index("first")
    assert run(["releases", "dev/weather", "show", "sub-1", "--as", "ana"]) == 0
    assert "what is new first" in words(capsys)
    assert run(["releases", "dev/weather", "diff", "--as", "ana"]) == 0
    assert f"+ tool look_up: {HARMLESS}: a" in words(capsys)
    assert run(["releases", "dev/weather", "show", "1.0.0", "--as", "ana"]) == 2
    assert "1.0.0 could be 2 releases." in words(capsys)


@pytest.mark.parametrize("named", ["prod/weather", "sub-1"])
def test_what_waits_is_withdrawn_with_a_reason(
    tmp_path: Path, instance: Instance, capsys: pytest.CaptureFixture[str], named: str
) -> None:
    submit(project(tmp_path / "p"), "--namespace", "prod")
    assert run(["withdraw", named, "--why", "the wrong branch", "--as", "ana"]) == 0
    assert "sub-1 of prod/weather, 1.0.0 (" in words(capsys)
    assert instance.publishing.done[-1] == ("prod/weather", "withdraw", {"why": "the wrong branch"})


def test_what_takes_calls_is_not_withdrawn_and_its_author_reads_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(project(tmp_path / "p"))
    assert run(["withdraw", "dev/weather", "--why", "the wrong branch", "--as", "ana"]) == 3
    assert "It is live." in (told := words(capsys))
    assert "Go back." in told
    assert run(["withdraw", "dev/weather", "--why", " ", "--as", "ana"]) == 2


def test_what_is_live_in_dev_is_submitted_to_prod_without_an_upload(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], instance: Instance
) -> None:
    submit(project(tmp_path / "p"))
    assert run(["promote", "dev/weather", "--to", "prod", "-m", "for all", "--as", "ana"]) == 4
    assert len(instance.publishing.queries) == 1
    assert instance.publishing.found["sub-2"]["server"] == "prod/weather"
    assert instance.publishing.found["sub-2"]["message"] == "for all"


VERBS = [
    (["promote", "prod/weather", "--why", "w"], "promote", {"why": "w"}),
    (["promote", "prod/weather", "--release", "1.0.0"], "promote", {"why": "", "release": "1.0.0"}),
    (["rollback", "prod/weather", "--why", "w"], "rollback", {"why": "w"}),
    (["rollback", "prod/weather", "--why", "w", "--to", "ab"], "rollback", {"why": "w", "release": "ab"}),
    (["pause", "prod/weather", "--why", "w"], "pause", {"why": "w"}),
    (["pause", "prod/weather", "--end"], "resume", {"why": ""}),
    (["scale", "prod/weather", "--min", "0", "--max", "3"], "scale", {"why": "", "min": 0, "max": 3}),
    (["scale", "prod/weather", "--manifest"], "scale", {"why": ""}),
    (["retire", "prod/weather", "--why", "w", "--yes"], "retire", {"why": "w"}),
    (
        ["deprecate", "prod/weather", "--why", "w", "--on", "2027-03-31", "--successor", "prod/presto"],
        "deprecate",
        {"why": "w", "ends_at": 1806451200000, "successor": "prod/presto"},
    ),
]


@pytest.mark.parametrize(("line", "verb", "body"), VERBS, ids=[" ".join(line) for line, *_ in VERBS])
def test_what_an_owner_says_is_what_the_hub_is_asked(
    instance: Instance, line: list[str], verb: str, body: dict[str, Any]
) -> None:
    instance.publishing.done.clear()
    assert run([*line, "--as", "ana"]) == 0
    assert instance.publishing.done == [("prod/weather", verb, body)]


@pytest.mark.parametrize("verb", [["rollback", "--why", "w"], ["promote", "--release", "1.0.0"]], ids=" ".join)
def test_what_is_only_being_started_is_not_called_done(
    instance: Instance, capsys: pytest.CaptureFixture[str], verb: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance.publishing, "stage", "starting")
    assert run([verb[0], "prod/weather", *verb[1:], "--as", "ana"]) == 0
    told = words(capsys)
    assert "On its way: the release is being started" in told
    assert "Done" not in told


def test_a_server_that_is_followed_from_a_folder_is_not_shown_as_one_without_releases(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["deployment", "prod/presto", "--as", "ana"]) == 0
    assert "One that comes from the operator's folder has no rollout." in words(capsys)


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["text", "json"])
def test_nothing_is_closed_for_good_unasked(
    instance: Instance, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    instance.publishing.done.clear()
    assert run(["retire", "prod/weather", "--why", "w", "--as", "ana", *more]) == 2
    assert "--yes" in words(capsys)
    assert instance.publishing.done == []


@pytest.mark.parametrize("action", ["add", "remove"])
def test_a_publisher_is_named_and_taken_away_with_a_reason(capsys: pytest.CaptureFixture[str], action: str) -> None:
    assert run(["publishers", "prod/presto", action, "spiffe://example.org/ci/presto", "--as", "ana"]) == 2
    assert f"{action} needs the reason." in words(capsys)


ENDS = [
    ("superseded", "superseded", "gave way to a newer release"),
    ("superseded", "taken back", "was taken back"),
    ("rolled back", "rolled back", "was rolled back"),
]


@pytest.mark.parametrize(("state", "step", "told"), ENDS, ids=[step for _, step, _ in ENDS])
def test_how_it_ended_is_said_as_it_was(state: str, step: str, told: str) -> None:
    options = Options(None, None, None, as_json=False, url="http://localhost:1")
    with pytest.raises(Failure, match=f"^dev/weather {told}\\.$"):
        following.end(following.Submission("dev/weather", "sub-1"), {"state": state, "step": step}, options)


def test_what_was_never_built_differs_from_nothing_that_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(project(tmp_path / "p", "broken"))
    capsys.readouterr()
    assert run(["releases", "dev/broken", "diff", "--as", "ana"]) == 0
    assert "Its state is failed: it was not built, and nothing can be compared." in words(capsys)


def test_what_is_too_long_to_be_told_says_where_all_of_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    changes = [{"what": f"tool t{n}", "before": "", "after": "new"} for n in range(14)]
    following.tell({"changes": changes}, "pegboard releases dev/weather diff 1")
    assert "… and 2 lines more: pegboard releases dev/weather diff 1" in capsys.readouterr().out


def test_of_a_text_of_many_lines_those_that_changed_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    changes = [{"what": "policy a", "before": "one\ntwo\nthree", "after": "one\n2\nthree"}]
    following.tell({"changes": changes}, "pegboard releases dev/weather diff 1")
    assert words(capsys) == "~ policy a - two + 2"


def test_a_check_that_fails_keeps_it_from_being_submitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, instance: Instance
) -> None:
    uv = tmp_path / "uv"
    finding = {"code": "PB101", "severity": "error", "place": "pegboard.toml", "what": "no tool", "fix": "Add one."}
    uv.write_text(f"#!/bin/sh\necho '{json.dumps({'ok': False, 'findings': [finding]})}'\nexit 1\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PEGBOARD_UV", str(uv))
    assert run(["submit", str(project(tmp_path / "p")), "--as", "ana"]) == 1
    told = words(capsys)
    assert "pegboard.toml: PB101 no tool Add one." in told
    assert "1 problem: nothing was submitted." in told
    assert instance.publishing.queries == []


def test_a_warning_is_told_once_and_the_check_knows_where_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, instance: Instance
) -> None:
    uv, report, asked = (tmp_path / name for name in ("uv", "report", "asked"))
    finding = {"code": "PB204", "severity": "warning", "place": "src/server.py:3", "fix": "x"}
    report.write_text(json.dumps({"ok": True, "findings": [finding | {"what": instance.publishing.hostile}]}))
    uv.write_text(f'#!/bin/sh\necho "$@" > {asked}\ncat {report}\n')
    uv.chmod(0o755)
    monkeypatch.setenv("PEGBOARD_UV", str(uv))
    assert run(["submit", str(project(tmp_path / "p")), "--namespace", "prod", "--as", "ana"]) == 4
    assert words(capsys).count("PB204") == 1
    assert "--namespace prod" in asked.read_text()
