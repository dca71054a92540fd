"""A project's folder, as it is submitted: its files, and where they come from."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.text import line
from pegboard.core.archive import SKIPPED, ArchiveRefused, File, pack
from pegboard.core.manifest import FILE_NAME

LOCK = "uv.lock"
NEEDED = ("pyproject.toml", FILE_NAME, LOCK)
GIT_S = 300.0
_WAYS = "https:ssh:file"
"""Ways that git may fetch by: `ext::`, for one, would run a program that an address names, and over `http:` or `git:`
whoever is on the way could change what is submitted."""

_WAYS_HERE = "http"
_HERE = ("-c", "http.proxy=", "-c", "http.followRedirects=false")
"""From this machine itself, where nobody is on the way: and git may be led to no other."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a project comes from, as the API is told (`core.publishing.Provenance`)."""

    kind: str = "folder"
    repository: str = ""
    commit: str = ""
    dirty: bool = False
    job: str = ""

    def query(self) -> dict[str, str]:
        """The parameters of a submission; what is not known is left out."""
        words = {"kind": self.kind, "repository": self.repository, "commit": self.commit, "job": self.job}
        return {name: value for name, value in words.items() if value} | ({"dirty": "true"} if self.dirty else {})


def packed(folder: Path) -> bytes:
    """The archive of the project in a folder.

    Raises:
        Failure: it is no project, a file is a link, or there is too much.
    """
    for name in NEEDED:
        if not (folder / name).is_file():
            mend = (
                "Make it: uv lock" if name == LOCK else "Make a project: pegboard new NAME. Or name its folder: DIR."
            )
            raise Failure.usage(f"{folder / name} is not there.", mend)
    _check_kit(folder)
    try:
        return pack(dict(_files(folder)))
    except ArchiveRefused as error:
        raise Failure.usage(f"{folder} cannot be packed: {error}.") from error
    except OSError as error:
        raise Failure.usage(f"{error.filename} cannot be read: {error.strerror}.") from error


def _check_kit(folder: Path) -> None:
    """See that the kit comes from an index: a folder of this machine is nowhere else.

    Raises:
        Failure: it comes from a folder; or the lock file cannot be read.
    """
    try:
        lock = tomllib.loads((folder / LOCK).read_text(encoding="utf-8"))
        kits = [each for each in lock.get("package", ()) if each.get("name") == "pegboard"]
        local = [place for each in kits if (place := _place(each.get("source", {})))]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise Failure.usage(f"{folder / LOCK} cannot be read: {error}.", "Make it again: uv lock") from error
    if local:
        raise Failure.usage(
            f"The project takes the kit from {local[0]}, which is on this machine alone.",
            'In pyproject.toml write [tool.uv.sources] pegboard = { index = "pegboard" } and [[tool.uv.index]] '
            'name = "pegboard", url = "…/packages/simple/" of your instance, explicit = true; then: uv lock',
        )


def how_to_move(folder: Path, index: str) -> str:
    """What to do where a project's lock file has the kit from another instance's index; empty where it has not.

    Args:
        folder: the project's.
        index: of the instance that it goes to.
    """
    try:
        packages = tomllib.loads((folder / LOCK).read_text(encoding="utf-8"))["package"]
        found = next(each["source"]["registry"] for each in packages if each["name"] == "pegboard")
    except (OSError, ValueError, LookupError, TypeError, StopIteration):
        return ""
    if found.rstrip("/") == index.rstrip("/"):
        return ""
    return (
        f"Its kit is locked from {line(found)}, which is another instance's index. Name this one's as url under "
        f"[[tool.uv.index]] in pyproject.toml, {line(index)}, and run: uv lock"
    )


def _place(source: Mapping[str, str]) -> str:
    """The folder that a locked package is of; empty where it is of an index."""
    return source.get("editable") or source.get("directory") or ""


def _files(folder: Path) -> Iterator[tuple[str, File]]:
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in SKIPPED and name not in links)
        for name in sorted((*names, *links)):
            if name in SKIPPED or name.endswith(".pyc"):
                continue
            path = Path(parent) / name
            where = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode):
                raise Failure.usage(f"{where} is a link or no file.", "Put the file itself there, or take it away.")
            yield where, File(path.read_bytes(), bool(mode & stat.S_IXUSR))


def origin(folder: Path, variables: Mapping[str, str], kind: str = "folder") -> Origin:
    """What git and a CI job's variables say of a folder; nothing of it is believed, all of it is shown."""
    job = _job(variables)
    inside = _git(["rev-parse", "--is-inside-work-tree"], folder) == "true"
    return Origin(
        kind="ci" if job and kind == "folder" else kind,
        repository=without_credentials(_git(["remote", "get-url", "origin"], folder)) if inside else "",
        commit=_git(["rev-parse", "HEAD"], folder) if inside else "",
        dirty=inside and bool(_git(["status", "--porcelain", "--", "."], folder)),
        job=job,
    )


def _job(variables: Mapping[str, str]) -> str:
    """The address of the CI job that this runs in: GitLab's, Jenkins', or GitHub's; empty elsewhere."""
    if found := variables.get("CI_JOB_URL") or variables.get("BUILD_URL"):
        return found[:500]
    server, repository, run = (variables.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    return f"{server}/{repository}/actions/runs/{run}"[:500] if server and repository and run else ""


def cloned(address: str, into: Path) -> Origin:
    """Bring what `URL` or `URL@REF` names into a folder, and nothing of it is run.

    Raises:
        Failure: git is not there, may not fetch in that way, or does not get it.
    """
    url, ref = split_ref(address)
    if url.startswith("-") or ref.startswith("-"):
        raise Failure.usage(f"--git {address} is no repository's address.")
    here = _is_here(url)
    ways = _WAYS_HERE if here else _WAYS
    fetch = (*(_HERE if here else ()), "-C", str(into), "fetch", "--quiet")
    for step in (
        ["init", "--quiet", "--", str(into)],
        [*fetch, "--depth", "1", "--", url, ref or "HEAD"],
        ["-C", str(into), "-c", "core.symlinks=true", "checkout", "--quiet", "FETCH_HEAD"],
    ):
        done = _run(step, Path.cwd(), ways)
        if done is not None and "does not support shallow" in done.stderr:  # it only serves files
            done = _run([*fetch, "--", url, ref or "HEAD"], Path.cwd(), ways)
        if done is None:
            raise Failure.usage("git is not installed.", "Install git, or submit a folder.")
        if done.returncode:
            said = " ".join((done.stderr or "").split())[-300:]
            message = f"{without_credentials(url)} at {ref or 'HEAD'} cannot be had: {said}"
            raise Failure.here(ExitStatus.FAILED, "not_cloned", message, "Is it there, and may you read it?")
    return Origin("git", without_credentials(url), _git(["rev-parse", "HEAD"], into))


def _is_here(url: str) -> bool:
    """Whether an address is one of this machine over HTTP.

    Raises:
        Failure: it would be fetched in a way in which others may change it.
    """
    from pegboard.cli.http import trusts_proxies

    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme not in ("http", "git"):
        return False
    if scheme == "http" and not trusts_proxies(url):
        return True
    message = f"--git {without_credentials(url)}: over {scheme}, whoever is on the way can change what you submit."
    raise Failure.usage(message, "Name it by https://, ssh:// or file://.")


def split_ref(address: str) -> tuple[str, str]:
    """`URL@REF` in its parts. The `@` of a user, before the host, is none of these."""
    scheme = address.find("://")
    begins = address.find("/", scheme + 3) if scheme >= 0 else address.find(":")
    at = address.rfind("@")
    return (address[:at], address[at + 1 :]) if 0 <= begins < at else (address, "")


def without_credentials(url: str) -> str:
    """An address without what stands before its host."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.scheme and parts.netloc:
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))[:500]
    return re.sub(r"^[^@/]*:[^@/]*@", "", url)[:500]


def _git(arguments: Sequence[str], folder: Path) -> str:
    done = _run(["-C", str(folder), *arguments], folder)
    return done.stdout.strip() if done is not None and done.returncode == 0 else ""


def _run(arguments: Sequence[str], folder: Path, ways: str = _WAYS) -> subprocess.CompletedProcess[str] | None:
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": ways, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", *arguments]
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **quiet},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_S,
            check=False,
        )
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired as error:
        message = f"git did not end within {GIT_S:.0f} s."
        raise Failure.here(ExitStatus.FAILED, "not_cloned", message) from error
