"""Grants, stops and servers change under load of both eras: whom it does not concern notices nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from pegboard_hub.demo.wire import LEGACY, Wire
from tests.system.instance import REPOSITORY, Instance, running
from tests.system.runtime_kit import short_folder
from tests.system.survival.audit import rows
from tests.system.survival.kills import innermost
from tests.system.survival.load import Book, Caller, Entry, Fate, Load
from tests.system.survival.test_hangs import hanging
from tests.system.survival.trial import settled

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.heavy, pytest.mark.xdist_group("changes")]

PRESTO, SCRATCH, NEW = "prod/presto", "dev/scratch", "prod/scratch"
SOURCES = {PRESTO: "servers/presto", SCRATCH: "servers/scratch", NEW: "servers/scratch"}
CALLERS = tuple(
    Caller(server, legacy, person)
    for server, person in ((PRESTO, "ana"), (SCRATCH, "ana"), (SCRATCH, "fay"))
    for legacy in (False, True)
)
EFFECT_S = 20.0
"""A change must be seen within this time; how long it takes is measured by bench/change.py, on a machine at rest."""

BUILT_S = 120.0
"""A new server's environment is installed first."""


class Operator:
    """Edits the grants file, one server's part at a time."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lines: dict[str, str] = {}
        self.change(**{PRESTO: "", SCRATCH: ""})

    def change(self, **lines: str | None) -> None:
        """What is granted to these servers beside the usual: another line, or None for not to be there at all."""
        for server, line in lines.items():
            self._lines.pop(server, None)
            if line is not None:
                self._lines[server] = line
        text = "".join(self._server(server, line) for server, line in self._lines.items())
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def _server(self, server: str, line: str) -> str:
        groups = "" if line.startswith("groups") else 'groups = ["ads-eng", "finance"]\n'
        source = REPOSITORY / SOURCES[server]
        return f'[servers."{server}"]\nsource = "{source}"\n{groups}surfaces = ["cli"]\n{line}\n'


@pytest.fixture
def operator() -> Iterator[Operator]:
    folder = short_folder()
    yield Operator(folder / "grants.toml")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


async def seen(book: Book, holds: Callable[[Entry], bool], limit: float = EFFECT_S) -> Entry:
    """The first call from now on that is so.

    Raises:
        TimeoutError: none is within `limit` seconds.
    """
    began = time.monotonic()
    async with asyncio.timeout(limit):
        while True:
            for entry in book.entries[::-1]:
                if entry.began >= began and holds(entry):
                    return entry
            await asyncio.sleep(0.02)


def refused(server: str, why: str, person: str = "ana") -> Callable[[Entry], bool]:
    return lambda each: (each.server, each.person, each.fate, each.why) == (server, person, Fate.REFUSED, why)


def answered(server: str, person: str = "ana") -> Callable[[Entry], bool]:
    return lambda each: (each.server, each.person, each.fate) == (server, person, Fate.ACKNOWLEDGED)


@asynccontextmanager
async def stream(instance: Instance, server: str) -> AsyncIterator[asyncio.Task[None]]:
    """A legacy stream through the edge; the task ends when the stream does."""
    async with httpx2.AsyncClient(timeout=None) as http:
        wire = Wire(http, instance.public_url)
        token = await wire.token("ana", server)
        session = (await wire.initialize(token, server)).headers["mcp-session-id"]
        headers = {
            "authorization": f"Bearer {token}",
            "accept": "text/event-stream",
            "mcp-protocol-version": LEGACY,
            "mcp-session-id": session,
        }
        opened = asyncio.Event()

        async def listen() -> None:
            url = f"{instance.public_url}/mcp/{server}"
            try:
                async with http.stream("GET", url, headers=headers) as response:
                    assert response.status_code == 200
                    opened.set()
                    async for _ in response.aiter_raw():
                        pass
            except httpx2.RemoteProtocolError:
                pass  # cut off, as nothing ends it in its own protocol

        listening = asyncio.create_task(listen())
        await asyncio.wait_for(opened.wait(), EFFECT_S)
        try:
            yield listening
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def test_changes_under_load_reach_those_they_concern_and_drop_no_call_of_anybody_else(
    operator: Operator,
) -> None:
    with running("--grants", str(operator.file)) as instance:
        others = rows(instance.home)
        load, newcomers = Load(instance.public_url, rate=8), Load(instance.public_url, rate=8)
        async with stream(instance, SCRATCH) as untouched, stream(instance, PRESTO) as of_presto:
            async with load.running(CALLERS) as book:
                for caller in CALLERS:
                    await seen(book, answered(caller.server, caller.person))
                await grant_taken_and_given(operator, book)
                assert not of_presto.done()
                await stopped_and_resumed(operator, book, of_presto)
                await added_and_withdrawn(operator, instance, book, newcomers)
            assert not untouched.done(), "the stream of a server that nothing concerned is open"
        told = f"{book.summary()} {newcomers.book.summary()}"
        assert unexpected(book, newcomers.book) == Counter(), told
        everything = Book([*book.entries, *newcomers.book.entries])
        found = await settled(instance.home, everything, others)
        assert (found.missing, found.twice, found.never_sent, found.not_ok) == ([], [], [], []), told


async def grant_taken_and_given(operator: Operator, book: Book) -> None:
    operator.change(**{SCRATCH: 'groups = ["ads-eng"]'})
    await seen(book, refused(SCRATCH, "403 group_not_granted", "fay"))
    operator.change(**{SCRATCH: ""})
    await seen(book, answered(SCRATCH, "fay"))


async def stopped_and_resumed(operator: Operator, book: Book, of_presto: asyncio.Task[None]) -> None:
    operator.change(**{PRESTO: 'stopped_tools = { run_query = "the warehouse moves" }'})
    await seen(book, refused(PRESTO, "403 tool_stopped"))
    operator.change(**{PRESTO: 'stopped = "the warehouse burns"'})
    await seen(book, refused(PRESTO, "403 server_stopped"))
    await asyncio.wait({of_presto}, timeout=EFFECT_S)
    assert of_presto.done(), "the stream of a server that is stopped ends"
    operator.change(**{PRESTO: ""})
    await seen(book, answered(PRESTO))


async def added_and_withdrawn(operator: Operator, instance: Instance, book: Book, newcomers: Load) -> None:
    operator.change(**{NEW: ""})
    async with asyncio.timeout(BUILT_S):
        while f"{NEW} is live" not in instance.said:
            await asyncio.sleep(0.1)
    async with newcomers.running((Caller(NEW, False), Caller(NEW, True))) as new:
        await seen(new, answered(NEW))
        began = time.monotonic()
        operator.change(**{NEW: None})
        await seen(new, lambda each: each.fate is Fate.REFUSED)
        async with asyncio.timeout(EFFECT_S):
            while f"{NEW} is withdrawn and has ended" not in instance.said:
                await asyncio.sleep(0.1)
    assert any(each.began > began for each in book.entries), "the others went on meanwhile"


CONCERNED = {
    (SCRATCH, "fay"): {"403 group_not_granted"},
    (PRESTO, "ana"): {"200 tool_stopped", "403 tool_stopped", "403 server_stopped"},
    (NEW, "ana"): {"403 surface_not_granted", "404 unknown_server", "404 session", "503 server_unreachable"},
}
"""Who was refused at some time, and as what. Of a server that comes or goes no call may be lost either."""


def unexpected(*books: Book) -> Counter[tuple[str, str, str, str]]:
    """Every call that was neither answered nor refused as it should be."""
    return Counter(
        (each.server, each.person, str(each.fate), each.why)
        for book in books
        for each in book.entries
        if each.fate is not Fate.ACKNOWLEDGED
        and not (each.fate is Fate.REFUSED and each.why in CONCERNED.get((each.server, each.person), ()))
    )


@pytest.mark.heavy
async def test_without_the_hub_sensitive_servers_refuse_first_and_the_rest_later_and_all_go_on_with_it() -> None:
    callers = (Caller(PRESTO, False), Caller(SCRATCH, False))
    with running("--stops-max-age", "5", "--grants-max-age", "12") as instance:
        async with Load(instance.public_url, rate=8).running(callers) as book:
            for server in (PRESTO, SCRATCH):
                await seen(book, answered(server))
            with hanging(innermost(instance.home, "hub")):  # one that is killed is back within a second
                stale = await seen(book, refused(PRESTO, "503 stops_unknown"))
                await seen(book, answered(SCRATCH))
                for server in (PRESTO, SCRATCH):
                    await seen(book, refused(server, "503 bundle_unusable"))
            for server in (PRESTO, SCRATCH):
                await seen(book, answered(server))
    for entry in book.of(SCRATCH):
        assert entry.fate is Fate.ACKNOWLEDGED or entry.why == "503 bundle_unusable", entry
    assert stale.fate is Fate.REFUSED
