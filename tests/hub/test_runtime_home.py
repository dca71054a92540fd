"""One instance's folder: private, reachable by short socket paths, and never shared by mistake."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pegboard.core.errors import ConfigurationError
from pegboard.core.names import ServerName
from pegboard_hub.common.home import SOCKET_PATH_LIMIT, Home, replace_file
from pegboard_hub.runtime.users import Users
from tests.system.runtime_kit import short_folder

LONG = ServerName("n" * 32, "s" * 32)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / ("d" * 60) / "home"
    yield home
    if (home / "run").is_symlink():
        shutil.rmtree((home / "run").readlink(), ignore_errors=True)


def test_a_socket_path_fits_the_kernel_however_deep_the_home(deep: Path) -> None:
    home = Home.open(deep)
    home.add_server(LONG)
    for socket in (home.socket(LONG), home.hub_socket, home.internal_socket, home.edge_admin_socket):
        assert len(os.fsencode(socket)) <= SOCKET_PATH_LIMIT
        assert socket.parent.is_dir()


def test_a_short_home_keeps_its_sockets_inside() -> None:
    root = short_folder()
    try:
        assert Home.open(root).run == root / "run"
    finally:
        shutil.rmtree(root)


def test_every_process_finds_the_same_sockets_whatever_its_environment(
    deep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Home.open(deep)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    assert Home.open(deep) == first


def test_private_folders_are_closed_from_the_first_moment(deep: Path) -> None:
    home = Home.open(deep)
    for folder in (home.root, home.keys, home.data, home.run):
        assert folder.stat().st_mode & 0o077 == 0, folder


def test_a_run_folder_that_others_may_change_is_refused(deep: Path) -> None:
    run = Home.open(deep).run
    run.chmod(0o777)
    with pytest.raises(ConfigurationError, match="no socket goes there"):
        Home.open(deep)


def test_a_link_in_place_of_the_run_folder_is_refused(deep: Path, tmp_path: Path) -> None:
    run = Home.open(deep).run
    shutil.rmtree(run)
    run.symlink_to(tmp_path)
    try:
        with pytest.raises(ConfigurationError, match="no socket goes there"):
            Home.open(deep)
    finally:
        run.unlink()


def test_a_home_that_cannot_be_written_names_the_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="PEGBOARD_HOME=… or --home"):
        Home.open(tmp_path / "file" / "home")


def test_two_instances_share_no_user_and_neither_do_two_servers() -> None:
    servers = ["prod/presto", "dev/scratch"]
    numbers = [
        user.uid
        for instance in ("one", "other")
        for user in Users.of(instance, servers, "0 0 4294967295").by_role.values()
    ]
    assert len(set(numbers)) == len(numbers) == 12


def test_users_fit_a_container_with_few_ids_and_never_collide() -> None:
    servers = [f"prod/s{n:02}" for n in range(200)]
    users = Users.of("one", servers, "0 100000 20500\n")
    numbers = [user.uid for user in users.by_role.values()]
    assert len(set(numbers)) == 204
    assert all(20_000 <= number < 20_500 for number in numbers)


def test_a_replaced_file_is_whole_and_has_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    replace_file(path, "old")
    with path.open() as reader:
        replace_file(path, "new", mode=0o400)
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o400
    assert [each.name for each in path.parent.iterdir()] == ["file"]
