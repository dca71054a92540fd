"""Approvals while the disk is full, the supervisor dies, a hub hangs, and one of two hubs leads no more."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult

from pegboard.core.approval import State
from pegboard_hub.common.home import Home
from pegboard_hub.demo.wire import MODERN, Reply, Wire
from pegboard_hub.storage.postgresql import LEADER
from tests.ports import free_port
from tests.postgres import rows
from tests.postgres import running as running_postgres
from tests.system.instance import Instance
from tests.system.runtime_kit import short_folder
from tests.system.survival.kills import innermost
from tests.system.survival.orders import Orders, end_all, hold
from tests.system.survival.test_full_disk import Disk, small_disk
from tests.system.survival.test_hangs import hanging
from tests.system.survival.till import (
    NAME,
    PASSING,
    PROCESSES,
    SETTLED_S,
    TILL,
    Said,
    Till,
    audit,
    said,
    sqlite_rows,
    till_running,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.heavy, pytest.mark.xdist_group("survival-approvals")]

GIVEN_UP_S = 60.0
"""Seconds after which a server has given up a hub that hangs, with all its attempts."""


@asynccontextmanager
async def till_of(instance: Instance, url: str = "") -> AsyncIterator[Till]:
    async with httpx2.AsyncClient(timeout=90) as http:
        found = (lambda question: rows(url, question)) if url else sqlite_rows(instance.home)
        yield Till(instance, found, http)


async def approved(till: Till, *refs: str, **more: Any) -> dict[str, str]:
    """Requests that the owner has said yes to, by reference."""
    told = await asyncio.gather(*(till.call(ref, **more) for ref in refs))
    for each in told:
        assert await till.decide(each.id) == 303
    return {ref: each.id for ref, each in zip(refs, told, strict=True)}


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that outlives its instance."""
    folder = short_folder()
    yield folder / "home"
    shutil.rmtree(folder)


async def test_the_supervisor_dies_and_what_expires_meanwhile_never_runs(tmp_path: Path, home: Path) -> None:
    with till_running(tmp_path, home=home, expires_s=60) as instance:
        async with till_of(instance) as till:
            ids = await approved(till, "late", "held", held=True)
            ids["asked"] = (await till.call("asked")).id
            running = asyncio.create_task(till.call("held", held=True))
            await until(lambda: till.runs("held") == 1)
            instance.process.kill()
            assert (await running).code in PASSING
            expires_at = till.rows("SELECT max(expires_at_ms) FROM approval_requests")[0][0] / 1000
    await asyncio.sleep(max(0.0, expires_at - time.time()))  # nobody is there who could be asked whether it expired
    with till_running(tmp_path, home=home, expires_s=60) as instance:
        async with till_of(instance) as till:
            till.go("late")
            # The edge may die before the server, which then has the moment to say that the call was cancelled.
            await till.is_in(ids["held"], State.UNKNOWN, State.FAILED)
            for ref in ("late", "asked"):
                await till.is_in(ids[ref], State.EXPIRED)
            assert (await till.runs_at_last("late", held=True)).code == "approval_pending"
            assert [till.runs(ref) for ref in ("late", "held", "asked")] == [0, 1, 0]
            audit(till)


async def test_a_hub_that_hangs_claims_nothing_for_calls_that_were_given_up(tmp_path: Path) -> None:
    with till_running(tmp_path) as instance:
        async with till_of(instance) as till:
            ids = await approved(till, "given-up", "goes-on")
            with hanging(innermost(instance.home, "hub")):
                assert (await till.call("given-up")).code in PASSING
            await till.answers()
            await till.is_in(ids["given-up"], State.APPROVED, State.FAILED)
            assert till.runs("given-up") == 0
            for ref in ids:
                told = await till.runs_at_last(ref)
                if told.code == "approval_pending":
                    assert await till.decide(told.id) == 303
                    told = await till.runs_at_last(ref)
                assert (told, till.runs(ref)) == (Said(""), 1)
            await end_all(till)
            audit(till)


async def test_on_a_full_disk_nobody_is_told_of_a_yes_that_is_not_kept_and_room_ends_what_ran(
    tmp_path: Path,
) -> None:
    with small_disk() as disk, till_running(tmp_path, home=disk.folder / "home") as instance:
        async with till_of(instance) as till:
            ids = await approved(till, "waits", "held", held=True)
            ids["asked"] = (await till.call("asked")).id
            running = asyncio.create_task(till.call("held", held=True))
            await until(lambda: till.runs("held") == 1)
            (till.home.state(TILL) / "runs").open("ab").close()
            decided = await _refused_on_a_full_disk(till, disk, ids["asked"])
            (till.home.state(TILL) / "go-held").symlink_to("runs")  # takes no block
            disk.fill()
            told = await running
            before = till.runs("waits")
            assert (await till.call("waits", held=True)).code in {*PASSING, "approval_pending"}
            disk.make_room()
            await till.answers()
            assert before == till.runs("waits") == 0
            await till.is_in(ids["held"], State.DONE, State.FAILED)
            assert told.code in {"", *PASSING}
            assert till.state(ids["asked"]) is (State.APPROVED if decided else State.REQUESTED)
            await end_all(till)
            audit(till)


async def _refused_on_a_full_disk(till: Till, disk: Disk, id: str) -> bool:
    """Decide until the disk is so full that the hub takes no decision; gives whether one was taken before."""
    deadline = time.monotonic() + GIVEN_UP_S
    while time.monotonic() < deadline:
        disk.fill()
        if await till.decide(id) == 303:
            return True
        if till.state(id) is State.REQUESTED:
            return False
    raise AssertionError


FILLERS = 12
"""Calls whose records fill what is left of the open segment's last block."""


@contextmanager
def small_spool(home: Path, disk: Disk) -> Iterator[None]:
    """The till's spool on a disk of its own."""
    spool = Home.open(home).spool(TILL)
    spool.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", str(disk.folder), str(spool)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(spool)], check=True)


async def test_a_spool_without_room_runs_nothing_and_ends_what_was_claimed_once_there_is_some(
    tmp_path: Path, home: Path
) -> None:
    with small_disk() as disk, small_spool(home, disk), till_running(tmp_path, home=home) as instance:
        async with till_of(instance) as till:
            ids = await approved(till, "waits", "held")
            ids |= await approved(till, "runs", held=True)
            running = asyncio.create_task(till.call("runs", held=True))
            await until(lambda: till.runs("runs") == 1)
            disk.fill()
            for number in range(FILLERS):
                assert (await till.call(f"filler-{number}")).code == "approval_pending"
            till.go("runs")
            assert (await running).code in PASSING
            assert (await till.call("waits")).code in PASSING
            assert till.runs("waits") == 0
            disk.make_room()
            await till.is_in(ids["runs"], State.DONE)
            await till.is_in(ids["waits"], State.FAILED)
            assert await till.runs_at_last("held") == Said("")
            again = await till.runs_at_last("waits")
            assert again.code == "approval_pending"
            await end_all(till)
            audit(till)


CAPABLE: Mapping[str, Any] = {"elicitation": {"url": {}, "form": {}}}


async def round_of(till: Till, ref: str, state: str = "", inputs: Mapping[str, Any] | None = None) -> Reply:
    """A round of a call by a client that opens pages (MCP 2026-07-28)."""
    params: dict[str, Any] = {"name": "pay", "arguments": {"ref": ref}}
    if state:
        params |= {"requestState": state, "inputResponses": dict(inputs or {})}
    params["_meta"] = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": dict(CAPABLE),
        "io.modelcontextprotocol/clientInfo": {"name": "agent", "version": "1"},
    }
    headers = [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "pay")]
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    wire = Wire(till.http, till.instance.public_url)
    return await wire.post(TILL.path, json.dumps(message), await till.token(), headers)


def opened(reply: Reply) -> tuple[str, dict[str, Any]]:
    """The state to bring back, and the answer of a person who opened the page."""
    result = reply.result
    asked = result["inputRequests"]
    return result["requestState"], {key: {"action": "accept"} for key in asked}


async def test_a_wait_goes_on_in_the_next_process_of_server_hub_and_edge(tmp_path: Path) -> None:
    with till_running(tmp_path) as instance:
        async with till_of(instance) as till:
            state, inputs = opened(await round_of(till, "waits"))
            id = till.rows("SELECT id FROM approval_requests")[0][0]
            for name in (NAME, "hub", "edge"):
                waiting = asyncio.create_task(round_of(till, "waits", state, inputs))
                await _is_held(till, waiting)
                killed = till.kill(name)
                [answer] = await asyncio.gather(waiting, return_exceptions=True)
                await till.back(killed)
                assert not isinstance(answer, Reply) or said(answer).code in {*PASSING, "input_required"}
            waiting = asyncio.create_task(round_of(till, "waits", state, inputs))
            await _is_held(till, waiting)
            assert await till.decide(id) == 303
            assert said(await waiting) == Said("")
            await till.is_in(id, State.DONE)
            # What a client brought back once opens nothing a second time, in this process or the next.
            await till.back(till.kill(NAME))
            assert said(await round_of(till, "waits", state, inputs)) == Said("input_required")
            assert till.runs("waits") == 1
            audit(till)


async def _is_held(till: Till, waiting: asyncio.Task[Any]) -> None:
    done, _ = await asyncio.wait({waiting}, timeout=2)
    assert not done, waiting.result()


async def test_a_form_in_the_legacy_era_that_dies_with_its_session_is_asked_again_and_confirms_once(
    tmp_path: Path,
) -> None:
    with till_running(tmp_path) as instance:
        async with till_of(instance) as till:
            shown = asyncio.Event()

            async def never(_context: Any, _params: ElicitRequestParams) -> ElicitResult:
                shown.set()
                await asyncio.Event().wait()
                raise AssertionError

            async def yes(_context: Any, _params: ElicitRequestParams) -> ElicitResult:
                return ElicitResult(action="accept", content={"confirmed": True, "confirm": True})

            for name in (NAME, "edge"):
                shown.clear()
                calling = asyncio.create_task(tips(till, never))
                async with asyncio.timeout(SETTLED_S):
                    await shown.wait()
                killed = till.kill(name)
                calling.cancel()
                await asyncio.wait({calling})
                await till.back(killed)
            [[id, state]] = till.rows("SELECT id, state FROM approval_requests")
            assert (state, till.runs("tip")) == (State.REQUESTED, 0)
            assert not (await tips(till, yes)).is_error
            await till.is_in(id, State.DONE)
            assert till.runs("tip") == 1


async def tips(
    till: Till, elicit: Callable[[Any, ElicitRequestParams], Coroutine[Any, Any, ElicitResult]]
) -> CallToolResult:
    """Give a tip, by a client of the legacy era."""
    headers = {"authorization": f"Bearer {await till.token()}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"{till.instance.public_url}{TILL.path}", http_client=http)
        async with Client(transport, mode="legacy", elicitation_callback=elicit) as to:
            return await to.call_tool("tip", {"ref": "tip"})


HUBS = {"hub", "hub-2"}


async def test_with_two_hubs_the_leader_dies_while_calls_wait_and_people_decide(tmp_path: Path) -> None:
    seed = int(os.environ.get("PEGBOARD_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    chance = random.Random(seed)  # noqa: S311
    with running_postgres() as postgres:
        postgres.listen(free_port(), "not-to-be-shown-77")
        with (
            postgres.database(empty=True) as url,
            till_running(
                tmp_path, "--hubs", "2", expected=PROCESSES | HUBS, variables={"PEGBOARD_DATABASE_URL": url}
            ) as instance,
        ):
            async with till_of(instance, url) as till:
                state, inputs = opened(await round_of(till, "waits"))
                id = till.rows("SELECT id FROM approval_requests")[0][0]
                waiting = asyncio.create_task(round_of(till, "waits", state, inputs))
                await _is_held(till, waiting)
                leader = _leader(url)
                killed = till.kill(leader)
                while await till.decide(id) != 303:
                    await asyncio.sleep(0.1)
                first = (await asyncio.gather(waiting, return_exceptions=True))[0]
                if not isinstance(first, Reply) or said(first) != Said(""):
                    assert await till.runs_at_last("waits") == Said("")
                assert till.runs("waits") == 1
                await till.back(killed)
                orders = Orders(till, seed)
                making = asyncio.create_task(orders.make(60, 10))
                while not making.done():
                    await asyncio.wait({making}, timeout=chance.uniform(0.2, 2.0))
                    await till.back(till.kill(*chance.choice(((_leader(url),), ("hub-2",), ("hub", NAME), (NAME,)))))
                    if chance.random() < 0.3:
                        await asyncio.to_thread(postgres.restart)
                        await till.answers()
                making.result()
                await end_all(till)
                counts = audit(till)
                hold(till, orders.book)
                assert counts["done"] > 10, (seed, counts)
                print(f"seed {seed}: {dict(counts)}, agents were told {dict(orders.book.told)}")


def _leader(url: str) -> str:
    found = rows(url, LEADER)
    return str(found[0][0]).removeprefix("pegboard ") if found else "hub"
