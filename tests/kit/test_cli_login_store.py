"""Where a login is kept: for its owner alone, whole or not at all, and in the system's keyring where there is one."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pegboard.cli.exit import Failure
from pegboard.cli.login.store import Access, Login, Store, state_folder, system_keyring

URL = "https://pegboard.example.com"
API = f"{URL}/api"
LOGIN = Login(
    url=URL,
    client_id="pegboard-cli",
    refresh_token="the-refresh-token",
    sub="ana",
    email="ana@example.com",
    sid="5e55" * 8,
    since=1_764_000_000,
    token_endpoint=f"{URL}/oauth/token",
    revocation_endpoint=f"{URL}/oauth/revoke",
    access={API: Access("the-access-token", 1_764_000_899.5, "api")},
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("TEST_KEYRING", str(tmp_path / "keyring.json"))
    use_keyring(monkeypatch, "keyring.backends.fail.Keyring")
    return Store(URL, tmp_path / "pegboard")


def use_keyring(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    import keyring.core

    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", backend)
    monkeypatch.setattr(keyring.core, "_keyring_backend", None)


def refusal(store: Store) -> str:
    with pytest.raises(Failure) as failure:
        store.read()
    assert failure.value.status == 5
    assert "the-refresh-token" not in str(failure.value.error)
    return failure.value.error["message"]


def test_what_is_kept_is_read_again(store: Store) -> None:
    assert store.read() is None
    assert store.write(LOGIN, None) == ""
    assert store.read() == LOGIN
    assert store.kept_in == "file"
    store.forget()
    assert store.read() is None
    store.forget()


def test_a_secret_is_in_no_representation() -> None:
    assert "the-" not in repr(LOGIN)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_file_is_its_owner_s_whatever_the_umask(store: Store, umask: int) -> None:
    before = os.umask(umask)
    try:
        store.write(LOGIN, None)
        store.write(LOGIN, None)
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


def test_nothing_is_left_beside_it(store: Store) -> None:
    with store.alone():
        store.write(LOGIN, None)
        store.write(LOGIN, None)
    assert {each.name for each in store.path.parent.iterdir()} == {store.path.name, f"{store.path.stem}.lock"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_file_that_others_may_read_is_not_used(store: Store, mode: int) -> None:
    store.write(LOGIN, None)
    store.path.chmod(mode)
    assert f"Others may read {store.path} (mode {mode:04o})" in refusal(store)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_s_file_is_not_used(store: Store) -> None:
    store.write(LOGIN, None)
    os.chown(store.path, 65534, 65534)
    assert "belongs to another user" in refusal(store)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_nothing_is_kept_in_a_folder_that_others_may_write_in(store: Store, mode: int) -> None:
    store.path.parent.mkdir(mode=0o700)
    store.path.parent.chmod(mode)
    with pytest.raises(Failure, match="Others may write"):
        store.write(LOGIN, None)
    assert list(store.path.parent.iterdir()) == []


def _link(path: Path) -> None:
    target = path.with_suffix(".elsewhere")
    target.write_text(path.read_text())
    target.chmod(0o600)
    path.unlink()
    path.symlink_to(target)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


SPOILT: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_text(""),
    "half": lambda path: path.write_text(path.read_text()[:100]),
    "binary": lambda path: path.write_bytes(b"\x00\xff" * 100),
    "another kind of JSON": lambda path: path.write_text("[1]"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "huge": lambda path: path.write_text(" " * 2_000_000),
    "of another instance": lambda path: path.write_text(path.read_text().replace(f'"url": "{URL}"', '"url": "x"')),
    "of a later version": lambda path: path.write_text(path.read_text().replace('"version": 1', '"version": 2')),
    "without its refresh token": lambda path: path.write_text(path.read_text().replace("the-refresh-token", "")),
    "with a number for a token": lambda path: path.write_text(path.read_text().replace('"the-access-token"', "1")),
    "with a text for a time": lambda path: path.write_text(path.read_text().replace("1764000899.5", '"x"')),
    "with something more": lambda path: path.write_text(path.read_text().replace('"sub"', '"more": 1, "sub"')),
    "kept nowhere": lambda path: path.write_text(path.read_text().replace('"kept": "file"', '"kept": "elsewhere"')),
    "a link": _link,
    "a pipe": _pipe,
    "a folder": _folder,
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_file_is_told_of_and_signing_in_again_mends_it(store: Store, how: str) -> None:
    store.write(LOGIN, None)
    SPOILT[how](store.path)
    assert refusal(store)
    if how == "a folder":
        store.path.rmdir()
    assert store.write(LOGIN, None) == ""
    assert store.read() == LOGIN


def test_a_writer_that_is_killed_leaves_the_login_before(store: Store) -> None:
    store.write(LOGIN, None)
    code = (
        "import os, sys; from pathlib import Path; from dataclasses import replace\n"
        "from tests.kit.test_cli_login_store import LOGIN, URL; from pegboard.cli.login import store\n"
        "store.os.fsync = lambda _: os._exit(9)\n"
        "store.Store(URL, Path(sys.argv[1])).write(replace(LOGIN, refresh_token='next'), None)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store.path.parent)], check=False, timeout=60)
    assert done.returncode == 9
    assert store.read() == LOGIN


def test_the_lock_of_a_killed_command_is_free(store: Store) -> None:
    code = (
        "import os, sys; from pathlib import Path; from pegboard.cli.login.store import Store\n"
        f"lock = Store({URL!r}, Path(sys.argv[1])).alone(); lock.__enter__(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(store.path.parent)], check=False, timeout=60)
    with store.alone():
        store.write(LOGIN, None)


def test_changes_of_many_processes_are_none_of_them_lost(store: Store) -> None:
    store.write(replace(LOGIN, since=0), None)
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from pegboard.cli.login.store import Store\n"
        f"store = Store({URL!r}, Path(sys.argv[1]))\n"
        "for _ in range(25):\n"
        "    with store.alone():\n"
        "        login = store.read()\n"
        "        store.write(replace(login, since=login.since + 1), None)"
    )
    command = [sys.executable, "-c", code, str(store.path.parent)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [each.wait(60) for each in processes] == [0] * 4
    found = store.read()
    assert found is not None
    assert found.since == 100


def test_a_lock_that_is_held_for_good_is_told_of(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pegboard.cli.login.store.LOCK_PATIENCE_S", 0.05)
    with (
        store.alone(),
        pytest.raises(Failure, match="Another pegboard command"),
        Store(URL, store.path.parent).alone(),
    ):
        pass


def test_a_keyring_keeps_the_whole_login_and_the_file_no_secret(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_keyring(monkeypatch, "tests.kit.keyrings.Working")
    assert store.write(LOGIN, system_keyring()) == ""
    assert store.kept_in == "keyring"
    assert "the-" not in store.path.read_text()
    assert store.read() == LOGIN
    assert store.rewrite(replace(LOGIN, refresh_token="the-next")) == ""
    assert "the-" not in store.path.read_text()
    found = store.read()
    assert found is not None
    assert found.refresh_token == "the-next"
    store.forget()
    assert store.read() is None
    assert json.loads(Path(os.environ["TEST_KEYRING"]).read_text()) == {}


@pytest.mark.parametrize("backend", ["Broken", "Plain"])
def test_what_is_no_keyring_or_protects_nothing_is_not_used(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    use_keyring(monkeypatch, f"tests.kit.keyrings.{backend}")
    assert system_keyring() is None


def test_without_the_package_there_is_no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert system_keyring() is None


@pytest.mark.parametrize("backend", ["Locked", "Forgetful"])
def test_a_keyring_that_fails_gives_way_to_the_file(
    store: Store, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    use_keyring(monkeypatch, f"tests.kit.keyrings.{backend}")
    trouble = store.write(LOGIN, system_keyring())
    assert "took no login" in trouble
    assert "the-" not in trouble
    assert store.kept_in == "file"
    assert store.read() == LOGIN


def test_a_keyring_that_was_locked_since_is_told_of(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    use_keyring(monkeypatch, "tests.kit.keyrings.Working")
    store.write(LOGIN, system_keyring())
    use_keyring(monkeypatch, "tests.kit.keyrings.Locked")
    assert "does not give it: KeyringLocked" in refusal(store)
    use_keyring(monkeypatch, "keyring.backends.fail.Keyring")
    assert "cannot be reached" in refusal(store)
    use_keyring(monkeypatch, "tests.kit.keyrings.Working")
    Path(os.environ["TEST_KEYRING"]).write_text("{}")
    assert "no longer in" in refusal(store)


def test_instances_have_logins_of_their_own(store: Store) -> None:
    other = Store("http://localhost:8400", store.path.parent)
    store.write(LOGIN, None)
    assert other.read() is None
    store.path.rename(other.path)
    assert "cannot be read" in refusal(other)


FOLDERS = [
    ({"XDG_STATE_HOME": "/state", "HOME": "/h"}, "/state/pegboard"),
    ({"XDG_STATE_HOME": "", "HOME": "/h"}, "/h/.local/state/pegboard"),
    ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/pegboard"),
]


@pytest.mark.parametrize(("variables", "folder"), FOLDERS)
def test_the_folder_is_where_state_belongs(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], folder: str
) -> None:
    monkeypatch.setenv("HOME", variables["HOME"])
    assert state_folder(variables) == Path(folder)
