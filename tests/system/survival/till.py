"""A server whose every call waits for its owner and that keeps a log of its runs, and the people around it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx2

from pegboard.core.approval import NEXT, State
from pegboard.core.names import ServerName
from pegboard.core.refusal import META_KEY
from pegboard_hub.approvals.keeping import NOT_RUN
from pegboard_hub.common.home import Home
from pegboard_hub.demo.wire import Reply, Wire
from tests.oauth import Browser
from tests.system.instance import REPOSITORY, Instance, running
from tests.system.survival.kills import Kill, kill, live_again, process

TILL = ServerName("prod", "till")
NAME = str(TILL)
PROCESSES = {"hub", "edge", "prober", NAME}
SETTLED_S = 120.0
"""Seconds after which what must come to be has not: not how long it may take."""

RENEW_S = 60.0

GRANTS = """
[servers."prod/till"]
source = "servers/till"
groups = ["ads-eng"]
surfaces = ["cli"]
releases = "any"
"""

MANIFEST = """
name = "till"
entry = "pegboard_scratch.server:server"
description = "Pays, once its owner said yes"
owner = "platform"
support_channel = "#till"
sensitivity = "internal"

[requests]
business_groups = ["ads-eng"]
surfaces = ["cli"]
"""

CODE = '''
"""A till: every payment waits for the owner, and is written down when it runs and when it is through."""

import asyncio
import json
import os
from pathlib import Path

from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations

from pegboard import Server, authorize_tool, confirm, requires_approval, saves

server = Server()


def _write(word: str, ref: str, context: Context) -> None:
    request = context.request_context.request
    told = request.headers.get("x-request-id", "") if request is not None else ""
    file = os.open(Path(os.environ["PEGBOARD_STATE"]) / "runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, (json.dumps([word, ref, told]) + "\\n").encode())
    os.close(file)


async def _pay(refs: list[str], held: bool, seconds: float, context: Context) -> str:
    for ref in refs:
        _write("run", ref, context)
    await asyncio.sleep(seconds)
    while held and not (Path(os.environ["PEGBOARD_STATE"]) / f"go-{refs[0]}").exists():
        await asyncio.sleep(0.02)
    for ref in refs:
        _write("through", ref, context)
    return "paid"


@server.tool(annotations=ToolAnnotations(destructive_hint=True))
@authorize_tool(policy="granted")
@requires_approval(by="owner", expires=EXPIRES)
@saves(minutes=0)
async def pay(ref: str, context: Context, held: bool = False, seconds: float = 0) -> str:
    """Pay."""
    return await _pay([ref], held, seconds, context)


@server.tool(annotations=ToolAnnotations(destructive_hint=True))
@authorize_tool(policy="granted")
@requires_approval(by="owner", each="refs")
@saves(minutes=0)
async def pay_all(refs: list[str], context: Context, held: bool = False, seconds: float = 0) -> str:
    """Pay several, each of which the owner says yes to by itself."""
    return await _pay(refs, held, seconds, context)


@server.tool(annotations=ToolAnnotations(destructive_hint=True))
@authorize_tool(policy="granted")
@confirm("Tip {ref}?")
@saves(minutes=0)
async def tip(ref: str, context: Context) -> str:
    """Give a tip, once its caller confirmed it."""
    return await _pay([ref], False, 0, context)
'''


def write_project(folder: Path, expires_s: int = 3600) -> Path:
    """The till's project and the grants over it; gives the grants' file."""
    folder.chmod(0o755)
    no_environment = shutil.ignore_patterns(".venv", "__pycache__", "tests")
    till = folder / "servers" / "till"
    shutil.copytree(REPOSITORY / "servers" / "scratch", till, ignore=no_environment)
    (till / "pegboard.toml").write_text(MANIFEST)
    (till / "src" / "pegboard_scratch" / "server.py").write_text(CODE.replace("EXPIRES", str(expires_s)))
    grants = folder / "grants.toml"
    grants.write_text(GRANTS)
    return grants


@dataclass(frozen=True, slots=True)
class Said:
    """What a caller was told.

    Attributes:
        code: of the refusal; empty where the tool ran, `gone` where nobody can tell, `input_required` where the
            client is to go on with the call.
        ids: of the requests that it is about.
        request_id: the edge's, of the call.
    """

    code: str
    ids: tuple[str, ...] = ()
    request_id: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        """Of the one request."""
        return self.ids[0] if self.ids else ""


Rows = Callable[[str], Sequence[Sequence[Any]]]


@dataclass
class Till:
    """A running instance with the till.

    Attributes:
        rows: the database's own rows, by a question in SQL.
    """

    instance: Instance
    rows: Rows
    http: httpx2.AsyncClient
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    _browsers: dict[str, Browser] = field(default_factory=dict)

    @property
    def home(self) -> Home:
        return self.instance.home

    @property
    def log(self) -> list[list[str]]:
        """What the till has written: `run` or `through`, the reference, and the edge's id of the request."""
        file = self.home.state(TILL) / "runs"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def runs(self, ref: str) -> int:
        return sum(line[:2] == ["run", ref] for line in self.log)

    def go(self, ref: str) -> None:
        """Let a payment that is held go through."""
        (self.home.state(TILL) / f"go-{ref}").touch(mode=0o644)

    async def token(self, person: str = "ana") -> str:
        """Somebody's token; while none is to be had, the one that they have."""
        token, at = self._tokens.get(person, ("", 0.0))
        if not token or time.monotonic() - at > RENEW_S:
            try:
                token = await Wire(self.http, self.instance.public_url).token(person, NAME)
                self._tokens[person] = (token, time.monotonic())
            except httpx2.HTTPError:
                if not token:
                    raise
        return token

    async def call(self, ref: str, **more: Any) -> Said:
        """Pay as ana's agent does."""
        return await self.send("pay", {"ref": ref, **more})

    async def send(self, tool: str, arguments: dict[str, Any]) -> Said:
        token = await self.token()
        try:
            reply = await Wire(self.http, self.instance.public_url).call(token, tool, arguments, NAME)
        except httpx2.HTTPError:
            return Said("gone")
        return said(reply)

    async def browser(self, person: str) -> Browser:
        """Somebody's browser, in which they are signed in."""
        if person not in self._browsers:
            found = Browser(self.instance.public_url, self.http)
            await found.sign_in(person)
            self._browsers[person] = found
        return self._browsers[person]

    async def decide(self, id: str, button: str = "Approve", why: str = "as agreed", person: str = "pat") -> int:
        """Decide as a person does in their browser; gives the status of the answer.

        It is 0 where there is no answer, or the page has no such button (any more).
        """
        try:
            browser = await self.browser(person)
            page = await browser.get(f"{browser.url}/approvals/{id}?alone=1")
            if page.status_code != httpx2.codes.OK or button not in page.text:
                return 0
            return (await browser.press(page, button, why=why)).status_code
        except httpx2.HTTPError:
            return 0

    async def press(self, id: str, what: str, person: str = "ana") -> str:
        """Withdraw or ask again on one's page; gives the request where that leads."""
        browser = await self.browser(person)
        page = await browser.get(f"{browser.url}/approvals/{id}/{what}")
        answer = await browser.press(page, "one")
        assert answer.status_code == httpx2.codes.SEE_OTHER, answer.text[-2000:]
        return answer.headers["location"].removeprefix("/approvals/").partition("?")[0].partition("/")[0]

    async def withdraws(self, id: str, person: str = "ana") -> bool:
        """Take one's request back by the API, as `pegboard approvals withdraw` does; false where that is not told."""
        try:
            api = await Wire(self.http, self.instance.public_url).token(person, "api")
            url = f"{self.instance.public_url}/api/v1/approvals/{id}/withdraw"
            headers = {"authorization": f"Bearer {api}"}
            return (await self.http.post(url, json={}, headers=headers)).status_code == httpx2.codes.OK
        except httpx2.HTTPError:
            return False

    async def page(self, id: str, person: str) -> str:
        """What somebody sees of a request."""
        browser = await self.browser(person)
        page = await browser.get(f"{browser.url}/approvals/{id}/live")
        assert page.status_code == httpx2.codes.OK, page.text[-2000:]
        return page.text

    def state(self, id: str) -> State:
        """How a request stands in the database."""
        return State(self.rows(f"SELECT state FROM approval_requests WHERE id = '{id}'")[0][0])  # noqa: S608

    async def is_in(self, id: str, *states: State) -> None:
        """Wait until a request is in one of these states."""
        await until(lambda: self.state(id) in states, lambda: f"{id} is {self.state(id)}, and not {states}")

    async def runs_at_last(self, ref: str, **more: Any) -> Said:
        """Repeat a call until it is told something that is no failure of the moment."""
        deadline = time.monotonic() + SETTLED_S
        while (told := await self.call(ref, **more)).code in PASSING:
            assert time.monotonic() < deadline, told
            await asyncio.sleep(0.1)
        return told

    def starts(self, *names: str) -> dict[str, int]:
        return {name: process(self.home, name)["restarts"] for name in names}

    def kill(self, *names: str) -> dict[str, tuple[Kill, int]]:
        """`kill -9`, and what to wait with until they are back."""
        starts = self.starts(*names)
        return {name: (kill(self.home, name), starts[name]) for name in names}

    async def back(self, killed: Mapping[str, tuple[Kill, int]]) -> None:
        """Wait until what was killed lives, and a call comes through all of it."""
        for since, starts in killed.values():
            await live_again(self.home, since, starts)
        await self.answers()

    async def answers(self) -> None:
        """Wait until hub, edge and till answer somebody who may not call it."""

        async def through() -> bool:
            try:
                wire = Wire(self.http, self.instance.public_url)
                token = await wire.token("ana", NAME)
                return (await wire.modern(token, "tools/list", server=NAME)).status == httpx2.codes.OK
            except httpx2.HTTPError:
                return False

        deadline = time.monotonic() + SETTLED_S
        while not await through():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


PASSING = frozenset({"gone", "unavailable", "approvals_unavailable"})
"""What a caller is told while something is down, and repeats its call after."""


def said(reply: Reply) -> Said:
    """What an answer tells."""
    result = reply.result
    if not result:
        return Said("unavailable" if reply.refusal else "gone")
    if "requestState" in result:
        return Said("input_required")
    code = str((result.get("_meta") or {}).get(META_KEY, {}).get("code", ""))
    if not code and result.get("isError"):
        return Said("gone")
    found = (result.get("structuredContent") or {}).get("approval") or {}
    return Said(code, tuple(found.get("ids", ())), reply.request_id)


async def until(holds: Callable[[], bool], told: Callable[[], str] = str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + SETTLED_S
    while not holds():
        assert time.monotonic() < deadline, told()
        await asyncio.sleep(0.05)


@contextmanager
def till_running(
    folder: Path, *options: str, expires_s: int = 3600, home: Path | None = None, **how: Any
) -> Iterator[Instance]:
    """An instance with the till alone."""
    grants = folder / "grants.toml" if (folder / "grants.toml").exists() else write_project(folder, expires_s)
    how = {"expected": PROCESSES} | how
    with running("--grants", str(grants), *options, home=home, **how) as instance:
        yield instance


def sqlite_rows(home: Home) -> Rows:
    def ask(question: str) -> Sequence[Sequence[Any]]:
        with closing(sqlite3.connect(f"file:{home.database}?mode=ro", uri=True, timeout=30)) as database:
            return database.execute(question).fetchall()

    return ask


_REQUESTS = "SELECT id, state, call_id, arguments, why FROM approval_requests WHERE server = 'prod/till'"
_EVENTS = """SELECT e.request, e."before", e."after", e.who FROM approval_events AS e ORDER BY e.seq"""
_CALLS = "SELECT id, request_id, approval FROM calls WHERE kind = 'intent' AND server = 'prod/till'"

RAN: Mapping[State, tuple[int, int]] = MappingProxyType(
    {State.DONE: (1, 1), State.FAILED: (0, 1), State.UNKNOWN: (0, 1), State.CLAIMED: (0, 1)}
)
"""How often, at least and at most, what a request in this state was claimed for has run; others never."""


def audit(till: Till, *, ended: bool = True) -> Counter[str]:
    """Hold the till's own log against approvals and ledger; gives how many requests are in each state.

    Args:
        till: after everything has come to rest.
        ended: whether no request may be running any more.
    """
    requests = {row[0]: (State(row[1]), row[2], json.loads(row[3])) for row in till.rows(_REQUESTS)}
    calls = {row[0]: (row[1], _ids(row[2])) for row in till.rows(_CALLS)}
    _audit_events(till, {id: state for id, (state, _, _) in requests.items()})
    assert not ended or State.CLAIMED not in {state for state, _, _ in requests.values()}
    by_request = {request_id: call for call, (request_id, _) in calls.items()}
    idle = {row[0] for row in till.rows(_REQUESTS) if row[4] == NOT_RUN}
    ran: defaultdict[tuple[str, str], int] = defaultdict(int)
    for word, ref, request_id in till.log:
        if word == "run":
            assert request_id in by_request, f"{ref} ran for {request_id}, of which the ledger knows no intent"
            ran[by_request[request_id], ref] += 1
    claimed = {(call, ref): id for id, (_, call, arguments) in requests.items() if call for ref in _refs(arguments)}
    assert ran.keys() <= claimed.keys(), "nothing runs that nobody approved"
    for (call, ref), id in claimed.items():
        least, most = (0, 0) if id in idle else RAN.get(requests[id][0], (0, 0))
        assert least <= ran[call, ref] <= most, f"{ref} ran {ran[call, ref]} times, and {id} is {requests[id][0]}"
    for call, (_, ids) in calls.items():
        assert ids, f"{call} was allowed without an approval"
        assert {requests[id][1] for id in ids} == {call}, "an intent names what its own call has claimed"
    return Counter(str(state) for state, _, _ in requests.values())


def _audit_events(till: Till, states: Mapping[str, State]) -> None:
    paths: defaultdict[str, list[State]] = defaultdict(list)
    who: defaultdict[tuple[str, State], set[str]] = defaultdict(set)
    for id, before, after, by in till.rows(_EVENTS):
        path = paths[id]
        assert (path[-1] if path else "") == before, f"{id} is not {before}"
        assert not path or path[-1] == after or State(after) in NEXT[path[-1]]
        path.append(State(after))
        who[id, State(after)].add(by)
    assert {id: path[-1] for id, path in paths.items()} == states
    for id, path in paths.items():
        assert path.count(State.CLAIMED) <= 1
        if State.CLAIMED in path:
            assert State.APPROVED in path
            assert who[id, State.APPROVED] == {"pat"}, "the owner has said yes"


def _ids(told: Any) -> list[str]:
    return list(json.loads(told) if isinstance(told, str) else told or ())


def _refs(arguments: Mapping[str, Any]) -> list[str]:
    return [arguments["ref"]] if "ref" in arguments else list(arguments["refs"])
