"""Hostile projects and hostile servers: an author's files and code reach nothing outside their isolation.

Rules (design, Rules of trust): the process that holds signing keys runs no author's code; secrets stay where they
are; deny by default. What a confined server may see is in `tests/system/test_runtime_isolation.py`.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import Manifest
from pegboard.core.names import ServerName
from pegboard.core.policy import Policy
from pegboard.core.release import Declaration, ToolDeclaration
from pegboard_hub.common.home import Home
from pegboard_hub.registry.sources import Declarations
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.isolation import choose
from pegboard_hub.runtime.permissions import prepare
from pegboard_hub.runtime.progress import Progress
from pegboard_hub.runtime.releases import ReleaseMaker
from tests.system.runtime_kit import ONE, TWO, short_folder, site, write_project

pytestmark = [pytest.mark.anyio, pytest.mark.system]

SECRET = "the hub's private key"


@pytest.fixture
def folder() -> Iterator[Path]:
    found = short_folder()
    yield found
    shutil.rmtree(found)


class Hostile:
    """A project under attack: its folder, the hub's key next door, and a file that code outside would leave."""

    def __init__(self, folder: Path) -> None:
        self.home = Home.open(folder / "home")
        self.project = write_project(folder / "one", "one")
        self.key = self.home.keys / "token-signing.jwk.json"
        self.key.write_text(SECRET)
        self.key.chmod(0o600)
        self.marks = folder / "outside"
        self.marks.mkdir(mode=0o700)
        self.code = f"import os\ntry: open({str(self.marks / 'ran')!r}, 'w')\nexcept OSError: pass\n"

    def pyproject(self, old: str, new: str) -> None:
        path = self.project / "pyproject.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    async def make(self) -> None:
        isolation = choose("auto", self.home, [str(ONE), str(TWO)], preflight.find_envoy())
        if isolation.mode == "off":
            pytest.skip("isolation is off here: bubblewrap is not installed and this is not root")
        prepare(self.home, isolation, [ONE, TWO])
        await ReleaseMaker(self.home, isolation, preflight.find_uv()).make(ONE, self.project, lambda _: None)

    def leaked(self) -> list[str]:
        """Files below the release that hold the secret."""
        files = (path for path in self.home.release(ONE).rglob("*") if path.is_file())
        found = [str(path) for path in files if SECRET.encode() in path.read_bytes()]
        for wheel in self.home.release(ONE).rglob("*.whl"):
            with zipfile.ZipFile(wheel) as opened:
                found += [name for name in opened.namelist() if SECRET.encode() in opened.read(name)]
        return found


def a_start_hook_in_the_environment(hostile: Hostile) -> None:
    hostile.pyproject("[build-system]", '[tool.uv.build-backend]\ndata = { purelib = "hooks" }\n\n[build-system]')
    (hostile.project / "hooks").mkdir()
    (hostile.project / "hooks" / "zz.pth").write_text(f"import os; exec({hostile.code!r})\n")


def a_build_by_somebody_elses_program(hostile: Hostile) -> None:
    wheel = hostile.project / "backend-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as opened:
        opened.writestr("uv_build/__init__.py", hostile.code)
        opened.writestr("backend-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: backend\nVersion: 1\n")
        opened.writestr("backend-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        opened.writestr("backend-1.dist-info/RECORD", "")
    hostile.pyproject('"uv_build>=0.13,<0.14"', f'"backend @ file://{wheel}"')


def a_readme_that_is_the_key(hostile: Hostile) -> None:
    path = os.path.relpath(hostile.key, hostile.project)
    hostile.pyproject('version = "0"', f'version = "0"\nreadme = {{ file = "{path}", content-type = "text/plain" }}')


def a_link_to_the_key(hostile: Hostile) -> None:
    (hostile.project / "src" / "pegboard" / "data.json").symlink_to(hostile.key)


def a_link_to_the_folder_of_keys(hostile: Hostile) -> None:
    (hostile.project / "src" / "pegboard" / "data").symlink_to(hostile.home.keys)


def a_policy_that_is_a_link(hostile: Hostile) -> None:
    (hostile.project / "policies").mkdir()
    (hostile.project / "policies" / "open.cedar").symlink_to(hostile.key)


def policies_that_are_a_link(hostile: Hostile) -> None:
    (hostile.project / "policies").symlink_to(hostile.home.keys)


def a_pipe_that_never_ends(hostile: Hostile) -> None:
    os.mkfifo(hostile.project / "src" / "pegboard" / "pipe")


def a_manifest_that_is_no_text(hostile: Hostile) -> None:
    (hostile.project / "pegboard.toml").write_bytes(b'name = "\xff\xfe"')


def a_manifest_without_end(hostile: Hostile) -> None:
    (hostile.project / "pegboard.toml").write_text("a = " + "[" * 100_000)


def a_lock_file_of_another_shape(hostile: Hostile) -> None:
    (hostile.project / "uv.lock").write_text('version = 1\npackage = "x"\n')


def a_lock_file_with_a_strange_source(hostile: Hostile) -> None:
    (hostile.project / "uv.lock").write_text('version = 1\n[[package]]\nname = "x"\nsource = 3\n')


PROJECTS: list[tuple[Callable[[Hostile], None], str | None]] = [
    (a_start_hook_in_the_environment, None),
    (a_build_by_somebody_elses_program, "does not build"),
    (a_readme_that_is_the_key, "does not build"),
    (a_link_to_the_key, "is a link"),
    (a_link_to_the_folder_of_keys, "is a link"),
    (a_policy_that_is_a_link, "is a link"),
    (policies_that_are_a_link, "is a link"),
    (a_pipe_that_never_ends, "no file"),
    (a_manifest_that_is_no_text, "cannot be read"),
    (a_manifest_without_end, "nests too deeply"),
    (a_lock_file_of_another_shape, "cannot be read"),
    (a_lock_file_with_a_strange_source, "cannot be read"),
]


@pytest.mark.parametrize(("arm", "told"), PROJECTS, ids=lambda value: getattr(value, "__name__", ""))
async def test_a_hostile_project_runs_nothing_outside_and_takes_nothing_in(
    folder: Path, arm: Callable[[Hostile], None], told: str | None
) -> None:
    """`told`: what the operator reads; None where the project is made into a release, which may itself fail."""
    hostile = Hostile(folder)
    arm(hostile)
    if told is None:
        try:
            await hostile.make()
            await hostile.make()
        except ReleaseFailed:
            pass
    else:
        with pytest.raises(ReleaseFailed, match=told) as refused:
            await hostile.make()
        assert SECRET not in str(refused.value)
    assert list(hostile.marks.iterdir()) == []
    assert hostile.leaked() == []


BOMBS = {
    "brackets": "(" * 1_000 + "true" + ")" * 1_000,
    "negated brackets": "!(" * 1_000 + "true" + ")" * 1_000,
    "lists": "[" * 1_000 + "1" + "]" * 1_000 + " == 1",
    "records": "{a:" * 1_000 + "1" + "}" * 1_000 + " == 1",
    "nested calls": "[1].contains(" * 1_000 + "1" + ")" * 1_000,
    "a long and": "true" + " && true" * 20_000,
    "a long sum": "1" + " + 1" * 20_000 + " == 1",
    "a chain of ifs": "if true then " * 5_000 + "true" + " else false" * 5_000,
    "a long path": "context" + ".a" * 20_000,
    "a long has": "context has a" + ".a" * 4_000,
    "a middling and": "true" + " && true" * 1_500,
    "brackets behind an odd line end": "true //\r && " + "(" * 1_000 + "true" + ")" * 1_000,
    "brackets behind an open string": "(" * 1_000 + '"',
    "size": "true // " + "x" * 1_000_000 + "\n",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_policy_cannot_end_the_process_that_reads_it(folder: Path, bomb: str) -> None:
    text = f"permit (principal, action, resource) when {{ {BOMBS[bomb]} }};"
    with pytest.raises(ConfigurationError, match=r"policies/open\.cedar"):
        Policy("open", text)
    # The same text in a declaration that the author's own code printed, as the hub reads it.
    home = Home.open(folder / "home")
    home.release(ONE).mkdir(parents=True)
    manifest = Manifest(name="one", entry="a:b", description="d", owner="platform", support_channel="#help")
    tool = ToolDeclaration(name="t", policy="open")
    declaration = Declaration(manifest=manifest, tools=(tool,), policies={"open": text})
    home.declaration(ONE).write_text(declaration.model_dump_json())
    found = Declarations(home).read(str(ONE))
    assert found.release is None
    assert found.problem


def test_a_policy_of_a_usual_size_is_read() -> None:
    groups = ", ".join(f'Group::"team-{number}"' for number in range(300))
    Policy("big", f"permit (principal, action, resource) when {{ principal in [{groups}] }};")


REACHES: list[tuple[str, str]] = [
    ("kill(1)", "[os.kill(int(p), 0) for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()]"),
    ("write to its environment", "open(os.path.join(sys.prefix, 'x'), 'w')"),
    ("write to the system", "open('/usr/x', 'w')"),
    ("mount", "__import__('ctypes').CDLL(None, use_errno=True).mount(b'x', b'/tmp', b'tmpfs', 0, None) and 1 / 0"),
    ("chroot", "os.chroot('/tmp')"),
    ("become root", "os.setuid(0)"),
    ("device", "os.mknod('node', 0o020666, os.makedev(1, 1))"),
    ("raw socket", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
    ("give a file away", "os.chown('/proc/self/fd/0', 0, 0)"),
]


async def test_a_server_reaches_nothing_and_its_links_lead_the_supervisor_nowhere(folder: Path) -> None:
    victim = folder / "victim"
    victim.mkdir()
    (victim / "file").write_text("untouched")
    before = (victim.stat().st_uid, (victim / "file").stat().st_uid)
    async with site("auto") as place:
        if place.isolation.mode == "off":
            pytest.skip("isolation is off here: bubblewrap is not installed and this is not root")
        for name, expression in REACHES:
            answer = await place.ask(ONE, f"[{expression}][:0] or 'reached'")
            if name == "kill(1)" and place.isolation.mode == "bubblewrap":
                continue  # its own process namespace: what it sees there is its own
            assert answer != "reached", name
        own = (place.home.spool(ONE), place.home.state(ONE), place.home.work(ONE), place.home.socket(ONE).parent)
        for number, mine in enumerate(own):
            await place.ask(ONE, f"os.symlink({str(victim)!r}, {str(mine / f'link{number}')!r})")
            await place.ask(ONE, f"os.symlink({str(victim / 'file')!r}, {str(mine / 'file')!r})")
        # What every start does, as root, over what the server left.
        prepare(place.home, place.isolation, [ONE, TWO])
        Home.open(place.home.root).add_server(ServerName("prod", "one"))
    assert (victim / "file").read_text() == "untouched"
    assert (victim.stat().st_uid, (victim / "file").stat().st_uid) == before


def test_what_an_author_says_is_one_harmless_line_on_the_operators_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = "prod/one is NOT deployed: \x1b]0;owned\x07\x9b2J\u202e\r\nhub is live" + "x" * 100_000
    for show in (Progress(quiet=False).step, Progress(quiet=True).problem, Progress(quiet=False).say):
        show(said)
        printed = capsys.readouterr().out
        assert printed.count("\n") == 1
        assert printed.strip().isprintable()
        assert len(printed) < 3_000
