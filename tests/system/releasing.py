"""A submitted server to release again and again, and people who call it all the while and keep book."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from pegboard.cli.author.uv import find_uv
from pegboard.core.names import ServerName
from pegboard_hub.demo.wire import Reply, Wire
from tests.system.instance import REPOSITORY, Instance

PEOPLE = ("ana", "pat", "fay", "sam", "sol", "lea")
GROUPS = ("platform", "ads-eng", "finance", "search-eng", "security", "legal")
OWNER = "pat"
LIMIT_S = 240.0

MANIFEST = """name = "NAME"
entry = "NAME_server.server:server"
description = "Tides by hour."
owner = "platform"
support_channel = "#NAME"
sensitivity = "internal"
MORE
[requests]
business_groups = ["platform", "ads-eng", "finance", "search-eng", "security", "legal"]
surfaces = ["cli"]

[[smoke]]
tool = "release_of"
arguments = {}
expect = "VERSION"
"""

CODE = '''
"""Says which release it is."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated

from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from pegboard import Server, ToolError, authorize_tool, saves

while Path(os.environ.get("PEGBOARD_STATE", ""), "held-VERSION").exists():
    time.sleep(0.05)

server = Server(instructions="Tides.")
READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)


class Release(BaseModel):
    """Which release answered."""

    version: str = Field(description="its version")
    secret: str = Field(description="how its secret ends")


@server.tool(title="Release of", annotations=READS)
@authorize_tool(policy="readers")
@saves(minutes=1)
async def release_of(
    seconds: Annotated[float, Field(description="how long to take, in seconds", ge=0, le=60)] = 0.0,
    gauge: Annotated[bool, Field(description="whether to look at the gauge, which may be broken")] = False,
) -> Release:
    """Say which release this is. Use it to see which one answers you."""
    await asyncio.sleep(seconds)
    if gauge and BROKEN:
        raise ToolError("the tide gauge does not answer")
    return Release(version="VERSION", secret=os.environ.get("TOKEN", "")[-4:])


@server.tool(title="Marks of VERSION", annotations=READS)
@authorize_tool(policy="readers")
@saves(minutes=1)
async def only_in_VERSION() -> Release:
    """Say which release has this tool. Use it to see that the list fits the release."""
    return Release(version="VERSION", secret="")
'''

POLICY = "".join(
    f'permit (principal in Group::"{group}", action in [Action::"list", Action::"call"], resource);\n'
    for group in GROUPS
)


class Project:
    """An author's project, made once by `pegboard new`, whose versions differ in a tool and in what is asked for."""

    def __init__(self, instance: Instance, folder: Path, name: str = "tide") -> None:
        self.name = name
        self.folder = folder / name
        self.instance = instance
        self.run("new", name, "--template", "blank", "--owner", "platform", "-d", "Tides by hour.", folder=folder)

    def version(self, version: str, more: str = "", *, broken: bool = False) -> None:
        """Write another version; `more` comes into its manifest."""
        named = {"NAME": self.name, "VERSION": version, "BROKEN": str(broken), "MORE": more}
        self._write("pegboard.toml", MANIFEST, named)
        self._write(f"src/{self.name}_server/server.py", CODE, named)
        self._write("policies/readers.cedar", POLICY, {})
        self._write("tests/test_tools.py", '"""Nothing to try."""\n', {})

    @contextmanager
    def held(self, version: str, server: str) -> Iterator[None]:
        """Whatever starts of a version does not get beyond its start meanwhile."""
        file = self.instance.home.state(ServerName.parse(server)) / f"held-{version}"
        file.touch()
        try:
            yield
        finally:
            file.unlink()

    def submit(self, namespace: str, message: str = "", *, status: int = 0) -> str:
        """Submit it as its owner, and follow it; gives what was printed."""
        return self.run(
            "submit", "--as", OWNER, "-n", namespace, "-m", message or "more", "--no-check", status=status
        )

    def pegboard(self, *words: str, person: str = OWNER, status: int = 0) -> str:
        """What the command prints for somebody."""
        return self.run(*words, "--as", person, status=status)

    def run(self, *words: str, folder: Path | None = None, status: int = 0) -> str:
        """What the command prints, where it ends with that status."""
        path = os.pathsep.join([str(Path(sys.executable).parent), str(find_uv().parent), os.environ["PATH"]])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PEGBOARD_")}
        environment = {**kept, "PATH": path, "PEGBOARD_PUBLIC_URL": self.instance.public_url}
        environment.pop("VIRTUAL_ENV", None)
        done = subprocess.run(
            [sys.executable, "-m", "pegboard.cli", *words],
            cwd=folder or self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == status, f"{words} ended with {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def _write(self, path: str, text: str, named: Mapping[str, str]) -> None:
        for name, value in named.items():
            text = text.replace(name, value)
        (self.folder / path).write_text(text, encoding="utf-8")


@dataclass
class Book:
    """What callers met. Times are of the monotonic clock.

    Attributes:
        met: of each caller, who answered, one after the other, with when.
        failed: what was no answer, in words.
        mixed: lists of tools that are of no one release.
        longest: seconds that a list and a call took together.
        tool_errors: calls that the tool itself let fail.
        anew: sessions that were begun again.
    """

    met: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    longest: float = 0.0
    tool_errors: int = 0
    anew: int = 0

    def since(self, moment: float) -> Counter[str]:
        """Who answered how many calls that ended since then."""
        return Counter(version for calls in self.met.values() for at, version in calls if at >= moment)

    def order(self, caller: str) -> list[str]:
        """The releases that one caller met, in order, each once in a row."""
        versions = [version for _, version in self.met.get(caller, [])]
        return [each for number, each in enumerate(versions) if number == 0 or versions[number - 1] != each]

    def first(self, version: str, since: float, era: str = "") -> float | None:
        """When a release first answered after a moment; None: it has not."""
        found = [calls for name, calls in self.met.items() if era in name]
        return min((at for calls in found for at, each in calls if each == version and at >= since), default=None)

    async def until(self, version: str, since: float | None = None, limit_s: float = LIMIT_S, era: str = "") -> float:
        """Wait until a release answers, in any era or in one; gives when it did."""
        since = time.monotonic() if since is None else since
        async with asyncio.timeout(limit_s):
            while (found := self.first(version, since, era)) is None:
                await asyncio.sleep(0.02)
        return found


@asynccontextmanager
async def calling(
    instance: Instance,
    server: str,
    people: Sequence[str] = PEOPLE,
    *,
    legacy: Sequence[bool] = (False, True),
    rate: float = 3.0,
    arguments: Mapping[str, Any] | None = None,
) -> AsyncIterator[Book]:
    """People list and call all the while, in both eras; the book has what they met."""
    book, over = Book(), asyncio.Event()
    tasks = [
        asyncio.create_task(_Caller(instance, server, person, old, book, dict(arguments or {})).run(over, rate))
        for person in people
        for old in legacy
    ]
    try:
        yield book
    finally:
        over.set()
        await asyncio.gather(*tasks)


class _Caller:
    def __init__(
        self, instance: Instance, server: str, person: str, legacy: bool, book: Book, arguments: dict[str, Any]
    ) -> None:
        self.instance, self.server, self.person, self.legacy = instance, server, person, legacy
        self.book, self.arguments = book, arguments
        self.name = f"{person} {'legacy' if legacy else 'modern'}"
        self.session = ""

    async def run(self, over: asyncio.Event, rate: float) -> None:
        async with httpx2.AsyncClient(timeout=60) as http:
            self.wire = Wire(http, self.instance.public_url)
            self.token, renewed = await self.wire.token(self.person, self.server), time.monotonic()
            while not over.is_set():
                began = time.monotonic()
                try:
                    if began - renewed > 120:
                        self.token, renewed = await self.wire.token(self.person, self.server), began
                    await self._turn()
                except httpx2.HTTPError as error:
                    self.book.failed.append(f"{self.name} {type(error).__name__}: {error}")
                took = time.monotonic() - began
                self.book.longest = max(self.book.longest, took)
                await asyncio.sleep(max(0.0, 1 / rate - took))

    async def _turn(self) -> None:
        listed = await self._ask("tools/list", {})
        if listed is None:
            return
        names = [each["name"] for each in listed.result.get("tools", [])]
        marks = [name.removeprefix("only_in_") for name in names if name.startswith("only_in_")]
        if not names:
            self._fault("list", listed)
            return
        if len(marks) != 1 or len(names) != 2:
            self.book.mixed.append(f"{self.name}: {names}")
        answer = await self._ask("tools/call", {"name": "release_of", "arguments": self.arguments})
        if answer is None:
            return
        version = (answer.result.get("structuredContent") or {}).get("version")
        if version is not None:
            self.book.met.setdefault(self.name, []).append((time.monotonic(), str(version)))
        elif "gauge" in answer.text:
            self.book.tool_errors += 1
        else:
            self._fault("call", answer)

    async def _ask(self, method: str, params: dict[str, Any]) -> Reply | None:
        """The answer; None where a session is over, and is begun anew by the next turn, as clients do."""
        if not self.legacy:
            return await self.wire.modern(self.token, method, params, self.server)
        if not self.session:
            opened = await self.wire.initialize(self.token, self.server)
            self.session = opened.headers.get("mcp-session-id", "")
            if not self.session:
                self._fault("initialize", opened)
                return None
            await self.wire.legacy(self.token, "notifications/initialized", {}, self.server, self.session)
        answer = await self.wire.legacy(self.token, method, params, self.server, self.session)
        if answer.status == 404:
            self.session = ""
            self.book.anew += 1
            return None
        return answer

    def _fault(self, what: str, answer: Reply) -> None:
        self.book.failed.append(
            f"{time.strftime('%X')} {self.name} {what} {answer.status} {str(answer.message)[:200]}"
        )


def grants(folder: Path) -> Path:
    """A grants file in which nothing is followed from a folder, and dev is not reviewed."""
    path = folder / "grants.toml"
    path.write_text('[reviews]\nunreviewed = ["dev"]\n', encoding="utf-8")
    return path


__all__ = ["GROUPS", "OWNER", "PEOPLE", "REPOSITORY", "Book", "Project", "calling", "grants"]
