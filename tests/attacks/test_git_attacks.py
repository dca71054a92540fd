"""A repository that is submitted by its address: what of it could run, or lead elsewhere, at the submitter's machine.

Promise (SECURITY.md): an author's project reaches and names nothing but itself. `pegboard submit --git` runs nothing
of what it fetches. Addresses that are no repository's are in `tests/kit/test_submit.py`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pegboard.cli.author.packing import cloned, origin, packed
from pegboard.cli.exit import Failure
from pegboard.core.archive import unpack

MANIFEST = 'name = "one"\n'
LOCK = "version = 1\n"


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet")
    for name, text in (("pegboard.toml", MANIFEST), ("uv.lock", LOCK), ("pyproject.toml", ""), ("a.py", "x = 1\n")):
        (root / name).write_text(text)
    return root


def committed(root: Path) -> str:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "x")
    return f"file://{root}"


def test_nothing_that_a_repository_says_of_its_files_runs(repository: Path, tmp_path: Path) -> None:
    """Filters are the reader's to set up; what a repository names that is not set up does nothing."""
    (repository / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n*.py filter=lfs\n")
    (repository / ".gitconfig").write_text(f'[filter "evil"]\nsmudge = touch {tmp_path}/ran\n')
    (repository / ".lfsconfig").write_text(f"[lfs]\nurl = file://{tmp_path}/elsewhere\n")
    cloned(committed(repository), tmp_path / "clone")
    assert not (tmp_path / "ran").exists()
    assert (tmp_path / "clone" / "a.py").read_text() == "x = 1\n"


def test_no_other_repository_is_fetched_with_it(repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    (other / "secret").write_text("of another repository")
    address = committed(other)
    git(repository, "submodule", "--quiet", "add", address, "inner")
    cloned(committed(repository), tmp_path / "clone")
    files = unpack(packed(tmp_path / "clone"))
    assert not any(b"of another repository" in file.content for file in files.values())


@pytest.mark.parametrize("name", ["a.py", "pegboard.toml", "policies", "src/deep/link"])
def test_no_link_of_it_brings_in_a_file_of_the_submitters(repository: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text(MANIFEST)
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).unlink(missing_ok=True)
    (repository / name).symlink_to(secret)
    cloned(committed(repository), tmp_path / "clone")
    with pytest.raises(Failure, match="is a link"):
        packed(tmp_path / "clone")


def test_hooks_of_a_folder_are_not_run_to_say_where_it_comes_from(repository: Path, tmp_path: Path) -> None:
    committed(repository)
    watch = repository / "watch.sh"
    watch.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    watch.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(watch))
    git(repository, "config", "core.hooksPath", str(repository))
    assert origin(repository, {}).dirty
    assert not (tmp_path / "ran").exists()
