"""Signing in from the terminal keeps its promises: what is asked, what is kept where, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pegboard.cli.app import run
from pegboard.cli.login import device
from pegboard.cli.login.browser import has_browser
from pegboard.cli.login.store import Store
from tests.kit.browsing import browser
from tests.kit.cli_instance import Instance, running
from tests.kit.sign_in import AuthorizationServer


@pytest.fixture(scope="module")
def running_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running(tmp_path_factory.mktemp("desk")) as found:
        yield found


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.html"


@pytest.fixture
def instance(running_instance: Instance, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    """The instance, with nobody signed in, a browser, and no keyring."""
    found = running_instance
    found.sign_in = AuthorizationServer(found.url, found._access)
    found.refused.clear()
    monkeypatch.setenv("PEGBOARD_PUBLIC_URL", found.url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("BROWSER", browser(page))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    monkeypatch.delenv("PEGBOARD_DEBUG", raising=False)
    monkeypatch.setattr(device, "time", _Clock())
    return found


class _Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return " ".join((out + err).split())


def age(store: Store, seconds: float) -> None:
    """Let the access tokens in hand be that much older."""
    document = json.loads(store.path.read_text())
    for each in document["login"]["access"].values():
        each["expires_at"] -= seconds
    store.path.write_text(json.dumps(document))


def test_one_sign_in_is_good_for_the_api_and_every_server(
    instance: Instance, page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["login"]) == 0
    words = said(capsys)
    assert f"Signed in to {instance.url} as ana (ana@example.com)." in words
    assert f"{instance.url}/oauth/authorize?response_type=code&client_id=pegboard-cli" in words
    assert "You are signed in as ana (ana@example.com)" in _written(page)
    for line in (["servers"], ["tools", "dev/desk"], ["call", "dev/desk", "echo", "--arg", "text=hello"]):
        assert run(line) == 0
    assert "hello" in said(capsys)
    assert run(["token", "--server", "dev/desk", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["claims"]["aud"] == f"{instance.url}/mcp/dev/desk"
    assert set(document) == {"access_token", "token_type", "expires_in", "scope", "claims"}


def _written(page: Path) -> str:
    deadline = time.monotonic() + 20
    while not page.exists() or not page.read_text():
        assert time.monotonic() < deadline, "the browser got no page"
        time.sleep(0.01)
    return page.read_text()


def test_a_login_says_where_it_is_kept_and_whoami_since_when(
    instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["login"])
    path = Store(instance.url).path
    assert f"Warning: the login is kept in the file {path}, unencrypted" in said(capsys)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert run(["whoami"]) == 0
    words = said(capsys)
    assert "person ana" in words
    assert f"kept in {path}" in words
    run(["whoami", "--json"])
    login = json.loads(capsys.readouterr().out)["login"]
    assert (login["sub"], login["session"], login["kept_in"]) == ("ana", "5e55" * 8, "file")


def test_login_as_json_is_one_document_without_a_secret(
    instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["login", "--json"]) == 0
    out, _ = capsys.readouterr()
    document = json.loads(out)
    assert set(document) == {"url", "sub", "session", "since", "kept_in", "file"}
    kept = Store(instance.url).read()
    assert kept is not None
    assert kept.refresh_token not in out


def test_a_new_login_gives_the_old_one_back(instance: Instance) -> None:
    run(["login"])
    first = Store(instance.url).read()
    run(["login"])
    second = Store(instance.url).read()
    assert first is not None
    assert second is not None
    assert instance.sign_in.revoked == [first.refresh_token]
    assert run(["servers"]) == 0


def test_logout_gives_the_refresh_token_back_and_forgets_it(
    instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["login"])
    kept = Store(instance.url).read()
    said(capsys)
    assert run(["logout", "--everywhere"]) == 0
    words = said(capsys)
    assert f"Signed out of {instance.url}; ana (ana@example.com) was signed in here." in words
    assert f"{instance.url}/sessions" in words
    assert kept is not None
    assert instance.sign_in.revoked == [kept.refresh_token]
    assert run(["servers"]) == 5
    assert "You are not signed in. Sign in: pegboard login (or use --as PERSON: the demo directory has ana," in said(
        capsys
    )
    assert run(["logout"]) == 0
    assert "Nobody was signed in" in said(capsys)


def test_a_token_in_hand_is_used_until_shortly_before_its_end_and_then_renewed(instance: Instance) -> None:
    run(["login"])
    store = Store(instance.url)
    age(store, 899 - 40)
    run(["servers"])
    assert instance.sign_in.renewals == 0
    age(store, 20)
    run(["servers"])
    run(["servers"])
    assert instance.sign_in.renewals == 1
    kept = store.read()
    assert kept is not None
    assert set(kept.access) == {f"{instance.url}/api"}


def test_tokens_that_ended_are_not_kept(instance: Instance) -> None:
    run(["login"])
    run(["tools", "dev/desk"])
    age(Store(instance.url), 900)
    run(["servers"])
    kept = Store(instance.url).read()
    assert kept is not None
    assert set(kept.access) == {f"{instance.url}/api"}


def test_a_login_that_has_ended_is_forgotten_and_said(instance: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    run(["login"])
    age(Store(instance.url), 900)
    instance.sign_in.end_everything()
    said(capsys)
    assert run(["servers"]) == 5
    assert f"Your login to {instance.url} has ended. Sign in again: pegboard login" in said(capsys)
    assert Store(instance.url).read() is None


def test_a_login_outlives_a_hub_that_cannot_renew_it_now(
    instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["login"])
    age(Store(instance.url), 900)
    instance.sign_in.away = True
    said(capsys)
    assert run(["servers"]) == 5
    assert "the login does not answer" in said(capsys)
    instance.sign_in.away = False
    assert run(["servers"]) == 0


def test_an_unknown_server_costs_no_login(instance: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    run(["login"])
    said(capsys)
    assert run(["tools", "dev/nowhere"]) == 3
    assert "There is no server dev/nowhere here" in said(capsys)
    assert run(["servers"]) == 0


def test_a_token_that_is_refused_is_renewed(instance: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    run(["login"])
    kept = Store(instance.url).read()
    assert kept is not None
    instance.refused.add(kept.access[f"{instance.url}/api"].value)
    assert run(["servers"]) == 0
    assert instance.sign_in.renewals == 1
    said(capsys)
    assert run(["tools", "dev/expired"]) == 5
    assert "The token is renewed: run it again." in said(capsys)
    assert instance.sign_in.renewals == 3


def test_a_refused_token_of_an_ended_login_says_that_it_ended(
    instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["login"])
    run(["tools", "dev/expired"])
    instance.sign_in.end_everything()
    said(capsys)
    assert run(["tools", "dev/expired"]) == 5
    assert "has ended. Sign in again" in said(capsys)


def test_ten_commands_at_once_renew_an_ended_token_once(instance: Instance) -> None:
    run(["login"])
    age(Store(instance.url), 900)
    line = [sys.executable, "-m", "pegboard.cli", "servers"]
    commands = [subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(10)]
    answers = [each.communicate(timeout=120)[0].decode() for each in commands]
    assert [each.returncode for each in commands] == [0] * 10, answers
    assert (instance.sign_in.renewals, instance.sign_in.replayed) == (1, 0)


def test_commands_for_different_servers_at_once_never_present_a_used_token(instance: Instance) -> None:
    run(["login"])
    age(Store(instance.url), 900)
    lines = [
        ["servers"],
        ["tools", "dev/desk"],
        ["token", "--server", "dev/plain"],
        ["token", "--server", "dev/down"],
    ]
    commands = [
        subprocess.Popen([sys.executable, "-m", "pegboard.cli", *line], stdout=subprocess.DEVNULL)
        for line in lines * 2
    ]
    assert [each.wait(120) for each in commands] == [0] * 8
    assert (instance.sign_in.renewals, instance.sign_in.replayed) == (4, 0)


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupting_a_renewal_costs_no_login(instance: Instance, which: signal.Signals) -> None:
    run(["login"])
    age(Store(instance.url), 900)
    line = [sys.executable, "-m", "pegboard.cli", "servers"]
    # Under nohup a command inherits that SIGHUP is ignored.
    ignored = signal.signal(which, signal.SIG_DFL) if signal.getsignal(which) is signal.SIG_IGN else None
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as command:
        if ignored is not None:
            signal.signal(which, ignored)
        instance.sign_in.meanwhile = lambda: os.kill(command.pid, which)
        _, err = command.communicate(timeout=60)
    instance.sign_in.meanwhile = lambda: None
    assert command.returncode == (130 if which is signal.SIGINT else -which)
    assert err == ""
    age(Store(instance.url), 900)
    assert run(["servers"]) == 0
    assert (instance.sign_in.renewals, instance.sign_in.replayed) == (2, 0)


def test_a_code_is_shown_where_there_is_no_browser(
    instance: Instance, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BROWSER")
    monkeypatch.setenv("SSH_CONNECTION", "1")
    monkeypatch.setenv("DISPLAY", ":0")
    instance.sign_in.device = ["authorization_pending", "slow_down", "authorization_pending"]
    assert run(["login"]) == 0
    words = said(capsys)
    assert f"On any device with a browser open {instance.url}/device and type the code BCDF-GHJK" in words
    assert "Signed in to" in words
    assert run(["servers"]) == 0


ENDS = [
    (["access_denied"], 3, "You said no."),
    (["expired_token"], 5, "The code is no longer good"),
    (["invalid_grant"], 3, "Not signed in: invalid_grant, as the test wants it"),
    (["authorization_pending"] * 1000, 5, "The code is no longer good"),
]


@pytest.mark.parametrize(("polls", "status", "words"), ENDS, ids=[each[2] for each in ENDS])
def test_a_code_ends_without_a_login_when_it_is_denied_or_forgotten(
    instance: Instance, capsys: pytest.CaptureFixture[str], polls: list[str], status: int, words: str
) -> None:
    instance.sign_in.device = polls
    assert run(["login", "--device"]) == status
    assert words in said(capsys)
    assert Store(instance.url).read() is None


LIES: list[tuple[dict[str, Any], str]] = [
    ({"issuer": "http://evil.example"}, "calls itself http://evil.example"),
    ({"issuer": None}, "is not a working Pegboard"),
    (
        {"authorization_endpoint": "http://evil.example/authorize"},
        "names a authorization_endpoint that is not its own",
    ),
    ({"token_endpoint": "{url}.evil.example/token"}, "names a token_endpoint that is not its own"),
    ({"token_endpoint": "{url}@evil.example/token"}, "names a token_endpoint that is not its own"),
    ({"token_endpoint": None}, "names a token_endpoint that is not its own"),
    ({"revocation_endpoint": "http://evil.example/"}, "names a revocation_endpoint that is not its own"),
    ({"device_authorization_endpoint": "http://evil.example/"}, "device_authorization_endpoint that is not its own"),
    ({"device_authorization_endpoint": None}, "offers no sign-in by code"),
    ({"verification_uri": "http://evil.example/device"}, "sends you to a page that is not its own"),
]


@pytest.mark.parametrize(("lies", "words"), LIES, ids=lambda value: str(value)[:60])
def test_an_instance_that_sends_elsewhere_gets_nothing(
    instance: Instance, capsys: pytest.CaptureFixture[str], lies: dict[str, Any], words: str
) -> None:
    instance.sign_in.lies = {name: value and value.replace("{url}", instance.url) for name, value in lies.items()}
    assert run(["login", "--device"]) == 5
    assert words in said(capsys)


@pytest.mark.parametrize("command", ["login", "logout"])
def test_help_offers_no_option_that_is_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    offered = capsys.readouterr().out
    assert "--url" in offered
    for refused in ("--as", "--surface", "--channel"):
        assert f"{refused} " not in offered


USAGE = [
    ["login", "--as", "ana"],
    ["logout", "--as", "ana"],
    ["login", "--url", "http://pegboard.example.com"],
    ["login", "--surface", "chat"],
    ["servers", "--surface", "chat"],
]


@pytest.mark.parametrize("line", USAGE, ids=" ".join)
def test_signing_in_is_for_oneself_and_encrypted(
    instance: Instance, capsys: pytest.CaptureFixture[str], line: list[str]
) -> None:
    assert run(line) == 2
    assert said(capsys)


def test_hints_repeat_the_instance_that_the_command_line_named(
    instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["servers", "--url", instance.url])
    assert f"pegboard login --url {instance.url}" in said(capsys)


def test_acting_as_somebody_of_the_demo_where_people_sign_in_says_how_they_do(
    instance: Instance, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance, "demo", False)
    assert run(["servers", "--as", "ana"]) == 2
    words = said(capsys)
    assert "--as works with the demo directory alone" in words
    assert "Leave --as out, and sign in: pegboard login" in words
    assert "grant_type" not in words
    run(["call", "dev/desk", "echo", "--as", "ana", "--json"])
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "no_demo_directory"


BROWSERS = [
    ({"DISPLAY": ":0"}, "linux", True),
    ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
    ({}, "linux", False),
    ({"DISPLAY": ":10", "SSH_CONNECTION": "1"}, "linux", False),
    ({}, "darwin", True),
    ({"SSH_TTY": "/dev/pts/1"}, "darwin", False),
    ({"SSH_TTY": "/dev/pts/1", "BROWSER": "open-at-home"}, "linux", True),
]


@pytest.mark.parametrize(("variables", "platform", "there"), BROWSERS)
def test_a_browser_is_opened_where_somebody_would_see_it(
    variables: dict[str, str], platform: str, there: bool
) -> None:
    assert has_browser(variables, platform) is there


def test_interrupting_a_sign_in_ends_it_without_a_trace(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "true %s")
    line = [sys.executable, "-m", "pegboard.cli", "login"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            shown = ""
            while "/oauth/authorize" not in shown:
                shown = process.stderr.readline()
                assert shown, "it ended"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err.strip()) == (130, "", "")
    assert Store(instance.url).read() is None


def test_help_needs_neither_keyring_nor_http() -> None:
    asked = "import sys; from pegboard.cli.app import run; run(['--help']); " + (
        "sys.exit(any(name in sys.modules for name in ('keyring', 'httpx2', 'http.server')))"
    )
    assert subprocess.run([sys.executable, "-c", asked], stdout=subprocess.DEVNULL, check=False).returncode == 0
