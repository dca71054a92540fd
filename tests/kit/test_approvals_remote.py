"""Asking the hub over its internal socket: again where an answer was lost, and never as if somebody had said yes."""

from __future__ import annotations

import fcntl
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from pegboard.core.approval import ASK, OVER, Action, Answer, Ask, Requirement, State, Told
from pegboard.core.errors import ApprovalImpossible, ApprovalsAway
from pegboard.core.record import Outcome
from pegboard.remote import approvals as approvals_module
from pegboard.remote.approvals import HubApprovals
from pegboard.remote.delivery import Delivery
from pegboard.remote.process import OthersOver, OwnProcess
from pegboard.remote.spool import Spool, SpoolReader
from tests.sockets import listening, socket_path

pytestmark = pytest.mark.anyio

CLAIMED = Answer(
    actions=(Told(id="a1", state=State.CLAIMED),), claimed=True, page="p", asks="you", yours=True, expires_at_ms=1
)


class Door:
    """A hub's internal door that answers what it is told to, in turn; the last again and again."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.open = 0
        self.most_open = 0
        self.holds: anyio.Event | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        document = json.loads(body)
        self.asked.append((scope["path"], document, headers["authorization"]))
        status, answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if self.holds is not None and document.get("wait_s"):
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            await self.holds.wait()
            self.open -= 1
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": text})


@pytest.fixture
def socket() -> Iterator[Path]:
    with socket_path() as path:
        yield path


@pytest.fixture
async def approvals(socket: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HubApprovals]:
    monkeypatch.setattr(approvals_module, "PAUSES_S", (0, 0))
    found = HubApprovals(socket, "channel")
    yield found
    await found.close()


def ask(**changes: Any) -> Ask:
    usual: dict[str, Any] = {
        "token": "secret-token",
        "tool": "drop",
        "requirement": Requirement(by="owner"),
        "policy": "granted",
        "policy_version": "1",
        "actions": (Action(arguments={"n": 1, "text": "\u00e9"}),),
        "call_id": "c1",
        "process": "p1",
    }
    return Ask(**(usual | changes))


async def test_a_question_reaches_the_hub_as_it_is_and_is_answered(approvals: HubApprovals, socket: Path) -> None:
    door = Door((200, CLAIMED.model_dump(mode="json")))
    async with listening(door, socket):
        assert await approvals.ask(ask()) == CLAIMED
    path, document, authorization = door.asked[0]
    assert (path, authorization) == (ASK, "Bearer channel")
    assert Ask.model_validate(document) == ask()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_hub_that_is_not_ready_is_asked_again_for_the_same_call(
    approvals: HubApprovals, socket: Path, status: int
) -> None:
    door = Door((status, {}), (status, b"<html>"), (200, CLAIMED.model_dump(mode="json")))
    async with listening(door, socket):
        assert (await approvals.ask(ask())).claimed
    assert [document["call_id"] for _, document, _ in door.asked] == ["c1"] * 3


async def test_a_hub_that_is_asked_again_is_asked_to_wait_for_no_longer_than_is_left(
    approvals: HubApprovals, socket: Path
) -> None:
    door = Door((503, {}), (200, CLAIMED.model_dump(mode="json")))
    async with listening(door, socket):
        await approvals.ask(ask(wait_s=30))
    first, again = (document["wait_s"] for _, document, _ in door.asked)
    assert 0 < again < first == 30


NO_ANSWERS: list[tuple[int, Any]] = [
    (200, b""),
    (200, b"{}"),
    (200, {"actions": [], "claimed": "yes"}),
    (200, {**CLAIMED.model_dump(mode="json"), "actions": [{"id": "a1", "state": "allowed"}]}),
    (204, b""),
    (302, b""),
    (401, {"error": {"code": "unauthenticated", "message": "no channel"}}),
    (403, b"<html>forbidden"),
    (404, {"detail": "Not Found"}),
    (409, {"error": {"code": "call_id_used", "message": "used"}}),
    (500, b"Internal Server Error"),
    (503, {}),
]


@pytest.mark.parametrize(("status", "answer"), NO_ANSWERS)
async def test_what_is_no_answer_is_no_yes(approvals: HubApprovals, socket: Path, status: int, answer: Any) -> None:
    async with listening(Door((status, answer)), socket):
        with pytest.raises(ApprovalsAway) as told:
            await approvals.ask(ask())
    assert "secret-token" not in str(told.value)


@pytest.mark.parametrize("status", [403, 413, 422, 429])
async def test_a_hub_that_asks_nobody_says_why_and_is_not_asked_again(
    approvals: HubApprovals, socket: Path, status: int
) -> None:
    error = {"code": "too_many", "message": "Too many wait.", "what_to_do": "Withdraw some."}
    door = Door((status, {"error": error}))
    async with listening(door, socket):
        with pytest.raises(ApprovalImpossible, match=r"Too many wait\. Withdraw some\."):
            await approvals.ask(ask())
    assert len(door.asked) == 1


async def test_a_hub_that_is_not_there_is_no_yes(approvals: HubApprovals) -> None:
    with pytest.raises(ApprovalsAway, match="does not answer"):
        await approvals.ask(ask())


async def test_calls_that_are_held_open_leave_room_for_others(
    approvals: HubApprovals, socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals_module, "MOST_WAITING", 3)
    door = Door((200, CLAIMED.model_dump(mode="json")))
    door.holds = anyio.Event()
    async with listening(door, socket), anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(approvals.ask, ask(call_id=f"c{number}", wait_s=30))
        with anyio.fail_after(20):
            while door.open < 3 or len(door.asked) < 10:
                await anyio.sleep(0.01)
        assert (await approvals.ask(ask(call_id="now"))).claimed
        door.holds.set()
    assert door.most_open == 3


def outcome(number: int) -> Outcome:
    return Outcome(id=str(number), at_ms=number, status="ok", duration_ms=1)


def noted(spool: Path) -> list[str]:
    """Processes that are noted beside the spool."""
    return [path.stem for path in spool.glob("*.process")]


class Hub(Door):
    """Takes records, and what is told of processes."""

    def __init__(self) -> None:
        super().__init__((200, {"accepted": 1}))
        self.away = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.answers = [(503, {})] if self.away else [(200, {"accepted": 1})]
        await super().__call__(scope, receive, send)

    @property
    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]


async def test_a_process_that_is_over_is_told_once_all_that_it_wrote_is_there(tmp_path: Path, socket: Path) -> None:
    dead, spool = OwnProcess(tmp_path), Spool(tmp_path, b"k")
    for number in range(1200):
        spool.write(outcome(number))
    spool.close()
    dead.close()
    hub, own = Hub(), OwnProcess(tmp_path)
    delivery = Delivery(SpoolReader(tmp_path), socket, "channel")
    others = OthersOver(tmp_path, own, delivery.whole, socket, "channel")
    async with listening(hub, socket), anyio.create_task_group() as group:
        group.start_soon(others.tell)
        await anyio.wait_all_tasks_blocked()
        hub.away = True
        assert not await delivery.deliver()
        assert OVER not in hub.paths
        hub.away = False
        assert await delivery.deliver()
    assert hub.paths[-1] == OVER
    assert hub.asked[-1][1] == {"processes": [dead.id]}
    assert sum(len(document["records"]) for path, document, _ in hub.asked if path != OVER) >= 1200
    assert noted(tmp_path) == [own.id]
    for each in (others, delivery):
        await each.close()
    own.close()


async def test_a_process_that_lives_is_not_told_to_be_over(tmp_path: Path, socket: Path) -> None:
    lives, own, hub = OwnProcess(tmp_path), OwnProcess(tmp_path), Hub()
    delivery = Delivery(SpoolReader(tmp_path), socket, "channel")
    others = OthersOver(tmp_path, own, delivery.whole, socket, "channel")
    async with listening(hub, socket):
        await others.tell()
        assert hub.asked == []
        lives.close()
        async with anyio.create_task_group() as group:
            group.start_soon(others.tell)
            await anyio.wait_all_tasks_blocked()
            await delivery.deliver()
    assert hub.asked[-1][1] == {"processes": [lives.id]}
    for each in (others, delivery):
        await each.close()
    own.close()


async def test_what_the_hub_did_not_take_is_told_again(tmp_path: Path, socket: Path) -> None:
    OwnProcess(tmp_path).close()
    hub, own = Hub(), OwnProcess(tmp_path)

    async def delivered() -> None:
        return

    others = OthersOver(tmp_path, own, delivered, socket, "channel")
    async with listening(hub, socket):
        hub.away = True
        with pytest.raises(Exception, match="503"):
            await others.tell()
        hub.away = False
        await others.tell()
        await others.tell()
    assert hub.paths == [OVER, OVER]
    await others.close()
    own.close()


def test_a_process_that_starts_counts_for_none_that_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, seen = fcntl.flock, []

    def looked(file: int, operation: int) -> None:
        seen.append(noted(tmp_path))
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", looked)
    own = OwnProcess(tmp_path)
    assert seen == [[]], "before it is locked, others would take it for one that is over"
    assert noted(tmp_path) == [own.id]
    own.close()


def test_a_disk_that_takes_no_note_keeps_no_server_from_starting(tmp_path: Path) -> None:
    own = OwnProcess(tmp_path / "gone")
    assert own.id
    own.close()
