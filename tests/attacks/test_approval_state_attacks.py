"""Attacks on the states that agents bring back while a call waits: repeated, taken elsewhere, forged, outlived.

Whatever an agent brings, the tool has not run unless a person said yes to exactly that call, and then it has run
once.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from pegboard.core.approval import LONGEST_S, Requirement, State
from pegboard.core.policy import Policy
from tests.attacks.approval_bank import OPENED, YES, Bank, agent, opened, refused

pytestmark = pytest.mark.anyio


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return opened(tmp_path)


async def test_a_state_brings_nothing_that_nobody_approved(bank: Bank) -> None:
    async with agent(bank) as ana:
        asked = await ana.call("pay", {"amount": 1})
        assert asked["resultType"] == "input_required"
        again = await ana.call("pay", {"amount": 1}, requestState=asked["requestState"], inputResponses=YES)
        assert again["resultType"] == "input_required"
        assert "inputRequests" not in again
    assert bank.ran == []


@pytest.mark.parametrize("count", [2, 20])
async def test_an_approved_call_runs_once_however_many_bring_its_state_at_once(bank: Bank, count: int) -> None:
    async with agent(bank) as ana:
        asked = await ana.call("pay", {"amount": 1})
        bank.hub.approvals.approve()
        answers: list[dict[str, Any]] = []

        async def replay() -> None:
            sent = {"requestState": asked["requestState"], "inputResponses": OPENED}
            answers.append(await ana.call("pay", {"amount": 1}, **sent))

        async with anyio.create_task_group() as racing:
            for _ in range(count):
                racing.start_soon(replay)
    assert bank.ran == [1]
    assert sum(not answer.get("isError") and answer["resultType"] == "complete" for answer in answers) == 1


@pytest.mark.parametrize("count", [2, 20])
async def test_a_confirmation_counts_once_however_many_bring_its_answer_at_once(bank: Bank, count: int) -> None:
    async with agent(bank) as ana:
        asked = await ana.call("wipe", {"table": "t"})

        async def replay() -> None:
            await ana.call("wipe", {"table": "t"}, requestState=asked["requestState"], inputResponses=YES)

        async with anyio.create_task_group() as racing:
            for _ in range(count):
                racing.start_soon(replay)
    assert bank.ran == ["t"]


async def test_a_confirmation_that_was_used_confirms_nothing_later(bank: Bank) -> None:
    async with agent(bank) as ana:
        asked = await ana.call("wipe", {"table": "t"})
        for _ in range(4):
            last = await ana.call("wipe", {"table": "t"}, requestState=asked["requestState"], inputResponses=YES)
        assert last["resultType"] == "input_required"
    assert bank.ran == ["t"]


STRANGERS: list[tuple[str, dict[str, Any]]] = [
    ("another person", {"person": "bo"}),
    ("another surface", {"surface": "ide"}),
    ("another client", {"client_id": "pegboard-other"}),
]


@pytest.mark.parametrize(("who", "stranger"), STRANGERS, ids=[who for who, _ in STRANGERS])
@pytest.mark.parametrize(("tool", "arguments"), [("pay", {"amount": 1}), ("wipe", {"table": "t"})])
async def test_a_state_is_good_for_nobody_else(
    bank: Bank, who: str, stranger: dict[str, Any], tool: str, arguments: dict[str, Any]
) -> None:
    async with agent(bank) as ana:
        asked = await ana.call(tool, arguments)
    bank.hub.approvals.approve()
    async with agent(bank, **stranger) as other:
        assert refused(await other.call(tool, arguments, requestState=asked["requestState"], inputResponses=YES))
    assert bank.ran == []


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("pay", {"amount": 2}), ("pay", {"amount": 1, "note": ""}), ("pay", {"amount": "1"}), ("wipe", {"table": "1"})],
)
async def test_a_state_is_good_for_no_other_call(bank: Bank, tool: str, arguments: dict[str, Any]) -> None:
    async with agent(bank) as ana:
        asked = await ana.call("pay", {"amount": 1})
        bank.hub.approvals.approve()
        assert refused(await ana.call(tool, arguments, requestState=asked["requestState"], inputResponses=YES))
    assert bank.ran == []


FORGED = ['pegboard.approval:[[],"",0]', "v1.AAAA", "", "v1." + "A" * 4000]


@pytest.mark.parametrize("state", FORGED)
async def test_a_forged_state_is_refused(bank: Bank, state: str) -> None:
    async with agent(bank) as ana:
        assert refused(await ana.call("wipe", {"table": "t"}, requestState=state, inputResponses=YES))
    assert bank.ran == []


async def test_a_state_of_another_instance_is_refused(bank: Bank, tmp_path_factory: pytest.TempPathFactory) -> None:
    async with agent(bank) as ana:
        asked = await ana.call("wipe", {"table": "t"})
    bank.hub._state_key = b"another instance's key, 32 bytes"
    async with agent(bank) as ana:
        assert refused(await ana.call("wipe", {"table": "t"}, requestState=asked["requestState"], inputResponses=YES))


async def test_a_state_outlives_the_process_and_still_brings_no_second_run(bank: Bank) -> None:
    async with agent(bank) as ana:
        asked = await ana.call("pay", {"amount": 1})
    bank.hub.approvals.approve()
    for _ in range(2):
        async with agent(bank) as ana:  # each is a process of its own
            await ana.call("pay", {"amount": 1}, requestState=asked["requestState"], inputResponses=OPENED)
    assert bank.ran == [1]


async def test_a_state_is_refused_once_no_request_can_be_as_old(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    async with agent(bank) as ana:
        asked = await ana.call("wipe", {"table": "t"})
        later = SimpleNamespace(time=lambda: time.time() + LONGEST_S + 61)
        monkeypatch.setattr("mcp.server.request_state.time", later)
        sent = {"requestState": asked["requestState"], "inputResponses": YES}
        assert refused(await ana.call("wipe", {"table": "t"}, **sent))
    assert bank.ran == []


async def test_what_expired_does_not_run_with_its_state(bank: Bank) -> None:
    async with agent(bank) as ana:
        asked = await ana.call("pay", {"amount": 1})
        bank.hub.approvals.approve()
        bank.hub.approvals.expire(bank.hub.approvals.requests[0])
        again = await ana.call("pay", {"amount": 1}, requestState=asked["requestState"], inputResponses=OPENED)
        assert again["resultType"] == "input_required"
    assert [request.state for request in bank.hub.approvals.requests] == [State.EXPIRED, State.REQUESTED]
    assert bank.ran == []


@pytest.mark.parametrize("change", ["release", "policy", "requirement"])
async def test_a_yes_to_another_release_policy_or_requirement_is_none(bank: Bank, change: str) -> None:
    async with agent(bank) as ana:
        asked = await ana.call("pay", {"amount": 1})
    bank.hub.approvals.approve()
    if change == "release":
        bank.hub.approvals._release = "f" * 64
    elif change == "policy":
        pay = bank.hub.project.governed["pay"]
        bank.hub.project.governed["pay"] = replace(pay, policy=_versioned(pay.policy))
    else:
        standing = bank.hub.standings.standing
        asks = {"pay": Requirement(by="security", source="registry")}
        bank.hub.standings.standing = replace(standing, access=replace(standing.access, approvals=asks), version=2)
    async with agent(bank) as ana:
        await ana.call("pay", {"amount": 1}, requestState=asked["requestState"], inputResponses=OPENED)
    assert bank.ran == []


def _versioned(policy: Policy) -> Policy:
    return Policy(policy.name, f"{policy.text}\n// looked at again\n")
