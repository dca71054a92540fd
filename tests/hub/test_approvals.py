"""Approvals: found by what they are bound to, decided by who may, claimed once, and told to nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.approval import Ask, State
from pegboard_hub.approvals import asking
from pegboard_hub.approvals.asking import Question, Standing
from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.approvals.model import Verdict, Which
from pegboard_hub.approvals.service import Approvals
from pegboard_hub.ledger.channels import Channel
from tests.hub.approvals_rig import Asking, decide, decider, reader, seen, states
from tests.hub.company import Company, Hub, denial, outcome

WAITED_S = 30.0
"""Seconds that are less than what an ask is held open for."""

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]


@pytest.fixture
async def presto(hub: Hub, company: Company) -> Asking:
    return Asking.of(hub, company)


async def test_what_nobody_approved_is_not_claimed_and_asking_again_finds_the_same(presto: Asking) -> None:
    first = await presto.ask("ana", {"sql": "drop"})
    again = await presto.ask("ana", {"sql": "drop"})
    assert (states(first), first.claimed) == ([State.REQUESTED], False)
    assert again.actions == first.actions
    assert first.page == f"http://localhost:8400/approvals/{first.actions[0].id}"
    assert first.asks == "somebody of security"
    assert not first.yours


async def test_what_was_approved_is_claimed_by_one_call_and_then_is_another_request(presto: Asking) -> None:
    asked = await presto.ask("ana", {"sql": "drop"})
    await decide(presto.hub.parts.approvals, "sol", asked.actions[0].id)
    claimed = await presto.ask("ana", {"sql": "drop"}, call_id="runs")
    assert (states(claimed), claimed.claimed) == ([State.CLAIMED], True)
    other = await presto.ask("ana", {"sql": "drop"}, call_id="replays")
    assert (states(other), other.claimed) == ([State.CLAIMED], False)
    await presto.hub.deliver(presto.channel, outcome("runs", 1))
    assert (await seen(presto.hub.parts.approvals, asked.actions[0].id)).state is State.DONE
    late = await presto.ask("ana", {"sql": "drop"})
    assert states(late) == [State.REQUESTED]
    assert late.actions[0].id != asked.actions[0].id


async def test_the_same_call_is_answered_the_same_claim_again(presto: Asking) -> None:
    asked = await presto.ask("ana")
    await decide(presto.hub.parts.approvals, "sol", asked.actions[0].id)
    answers = [await presto.ask("ana", call_id="one") for _ in range(3)]
    assert all(answer.claimed for answer in answers)
    assert len((await seen(presto.hub.parts.approvals, asked.actions[0].id)).events) == 3


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("wait_s", [0, 30])
async def test_a_claim_is_on_the_disk_before_it_is_answered(
    presto: Asking, monkeypatch: pytest.MonkeyPatch, wait_s: float
) -> None:
    """A loss of power would otherwise give the yes back, and the action may have run."""
    levels: list[int | None] = []
    note = asking._claim

    async def noted(db: AsyncConnection, question: Question, standing: Standing, now_ms: int) -> None:
        await note(db, question, standing, now_ms)
        levels.append(await db.scalar(text("PRAGMA synchronous")) if standing.claimed else None)

    monkeypatch.setattr(asking, "_claim", noted)
    approvals = presto.hub.parts.approvals
    asked = await presto.ask("ana")
    if wait_s:
        waits = asyncio.create_task(presto.ask("ana", wait_s=wait_s))
        async with asyncio.timeout(20):
            while not approvals.held:
                await asyncio.sleep(0.01)
        await decide(approvals, "sol", asked.actions[0].id)
        assert (await waits).claimed
    else:
        await decide(approvals, "sol", asked.actions[0].id)
        assert (await presto.ask("ana")).claimed
    assert levels[-1] == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"tool": "get_revenue_metrics"},
        {"policy": "other"},
        {"policy_version": "abd"},
        {"requirement": {"expires_s": 61}},
        {"requirement": {"why": "said"}},
        {"kind": "confirm", "by": "caller"},
        {"actions": [{"arguments": {"sql": "select 1", "more": None}}]},
        {"actions": [{"arguments": {"sql": "select 2"}}]},
    ],
)
async def test_any_difference_is_another_request(presto: Asking, changes: dict[str, Any]) -> None:
    asked = await presto.ask("ana")
    await decide(presto.hub.parts.approvals, "sol", asked.actions[0].id)
    other = await presto.ask("ana", **changes)
    assert not other.claimed
    assert other.actions[0].id != asked.actions[0].id


async def test_another_person_and_another_release_need_a_yes_of_their_own(presto: Asking, company: Company) -> None:
    asked = await presto.ask("ana")
    await decide(presto.hub.parts.approvals, "sol", asked.actions[0].id)
    assert not (await presto.ask("fay")).claimed
    newer = Asking.of(presto.hub, company, release="f" * 64)
    assert not (await newer.ask("ana")).claimed


async def test_a_batch_is_claimed_once_everything_is_decided_and_without_what_was_rejected(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    tables = [{"tables": [f"t{number}"]} for number in range(8)]
    asked = await presto.ask("ana", *tables)
    ids = [each.id for each in asked.actions]
    shown = {id_: (await seen(approvals, id_)).shown_digest for id_ in ids}
    assert len({(await seen(approvals, id_)).batch for id_ in ids}) == 1
    await decide(approvals, "sol", *ids[:2])
    assert not (await presto.ask("ana", *tables)).claimed
    verdicts = [Verdict(id_, shown[id_], approve=place < 3) for place, id_ in enumerate(ids[2:])]
    await approvals.decide(decider("sol"), verdicts, "the last three are in use")
    answer = await presto.ask("ana", *tables)
    assert answer.claimed
    assert states(answer) == [State.CLAIMED] * 5 + [State.REJECTED] * 3
    assert answer.actions[7].reason == "the last three are in use"
    assert answer.actions[7].decided_by == "Sol"


async def test_a_batch_of_which_another_call_has_one_claims_nothing(presto: Asking) -> None:
    """The server runs whatever is `claimed` in an answer that says so: it must all be this call's."""
    approvals = presto.hub.parts.approvals
    one = await presto.ask("ana", {"table": "a"})
    await decide(approvals, "sol", one.actions[0].id)
    assert (await presto.ask("ana", {"table": "a"})).claimed
    both = await presto.ask("ana", {"table": "a"}, {"table": "b"})
    await decide(approvals, "sol", both.actions[1].id)
    answer = await presto.ask("ana", {"table": "a"}, {"table": "b"})
    assert (answer.claimed, states(answer)) == (False, [State.CLAIMED, State.APPROVED])


async def test_calls_within_a_minute_are_one_batch(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    ids = [(await presto.ask("ana", {"n": number})).actions[0].id for number in range(3)]
    found = await seen(approvals, ids[0])
    assert [each.id for each in await approvals.beside(reader(approvals, "sol"), found)] == ids[1:]
    other = await presto.ask("fay", {"n": 0})
    assert (await seen(approvals, other.actions[0].id)).batch != found.batch


async def test_what_was_rejected_is_answered_with_the_reason(presto: Asking) -> None:
    asked = await presto.ask("ana")
    await decide(presto.hub.parts.approvals, "sol", asked.actions[0].id, approve=False, why="too expensive")
    answer = await presto.ask("ana")
    assert (answer.actions[0].state, answer.actions[0].reason) == (State.REJECTED, "too expensive")
    assert (answer.claimed, answer.actions[0].id) == (False, asked.actions[0].id)


WHO: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("caller", {}, {"ana": "", "fay": "unknown", "pat": "unknown", "sol": "unknown"}),
    ("owner", {}, {"ana": "own_request", "fay": "unknown", "pat": "", "sol": "unknown"}),
    ("finance", {}, {"ana": "own_request", "fay": "", "pat": "unknown", "sol": "unknown"}),
    ("ads-eng", {}, {"ana": "own_request", "fay": "unknown"}),
    ("ads-eng", {"own": True}, {"ana": ""}),
]
"""Why somebody does not decide on a request of Ana's; empty where they do. Pat is of the owners and operates, Sol is
of security: that lets both look, and is no reason to let them decide."""


@pytest.mark.parametrize(("by", "more", "people"), WHO)
async def test_who_decides_and_for_whom_it_is_there(
    presto: Asking, by: str, more: dict[str, Any], people: dict[str, str]
) -> None:
    approvals = presto.hub.parts.approvals
    for person, refused in people.items():
        id_ = (await presto.ask("ana", {"for": person}, by=by, requirement=more)).actions[0].id
        who, request = reader(approvals, person), await seen(approvals, id_)
        inbox = [each.id for each in (await approvals.inbox(who)).requests]
        history = [each.id for each in (await approvals.history(who)).requests]
        assert (id_ in inbox, await approvals.waiting(who)) == (not refused, len(inbox)), person
        assert approvals.may_decide(who, request) is not bool(refused)
        there = await approvals.find(who, id_) is not None
        assert there is (id_ in history) is (person in ("pat", "sol") or refused != "unknown"), person
        assert await _decided(approvals, person, request.id, request.shown_digest) == refused, person


async def test_what_is_decided_is_what_was_shown_and_all_of_an_act_or_nothing(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    asked = await presto.ask("ana", {"n": 1}, {"n": 2})
    first, second = [await seen(approvals, each.id) for each in asked.actions]
    assert first.shown_digest != second.shown_digest
    verdicts = [Verdict(first.id, first.shown_digest, True), Verdict(second.id, first.shown_digest, True)]
    with pytest.raises(ApprovalRefused) as refused:
        await approvals.decide(decider("sol"), verdicts, "")
    assert refused.value.code == "changed"
    assert (await seen(approvals, first.id)).state is State.REQUESTED


async def test_nothing_is_decided_twice(presto: Asking) -> None:
    asked = await presto.ask("ana")
    request = await seen(presto.hub.parts.approvals, asked.actions[0].id)
    approvals = presto.hub.parts.approvals
    assert await _decided(approvals, "sol", request.id, request.shown_digest) == ""
    assert await _decided(approvals, "sol", request.id, request.shown_digest) == "already_decided"


async def test_a_rejection_needs_a_reason_and_no_reason_hides_anything(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    id_ = (await presto.ask("ana")).actions[0].id
    for why in ("", "  ", "x" * 1001, "fine\u202eton"):
        with pytest.raises(ApprovalRefused) as refused:
            await decide(approvals, "sol", id_, approve=False, why=why)
        assert (refused.value.code, refused.value.field) == ("invalid", "why")


async def test_what_is_withdrawn_runs_no_more_and_only_ones_own_is(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    asked = await presto.ask("ana", {"n": 1}, {"n": 2})
    ids = [each.id for each in asked.actions]
    await decide(approvals, "sol", *ids)
    for sub, which in (("fay", ids), ("ana", [ids[0], "f" * 32]), ("ana", ["\0"])):
        with pytest.raises(ApprovalRefused) as refused:
            await approvals.withdraw(sub, which)
        assert refused.value.code == "unknown"
    assert {each.state for each in await approvals.withdraw("ana", ids, "not needed")} == {State.WITHDRAWN}
    assert not (await presto.ask("ana", {"n": 1}, {"n": 2})).claimed
    with pytest.raises(ApprovalRefused) as refused:
        await approvals.withdraw("ana", ids)
    assert refused.value.code == "already_decided"


async def test_how_a_call_ends_is_how_the_request_ends(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    ends = {
        "ok": State.DONE,
        "tool_error": State.FAILED,
        "crashed": State.FAILED,
        "cancelled": State.FAILED,
        "input_required": State.FAILED,
        "denial": State.FAILED,
    }
    for said, state in ends.items():
        id_ = await _claimed(presto, said)
        record = denial(said, 1, "ana") if said == "denial" else outcome(said, 1, said)
        for _ in range(2):
            assert (await presto.hub.deliver(presto.channel, record)).status_code == 200
        request = await seen(approvals, id_)
        assert (request.state, request.events[-1].door) == (state, "ledger")
        assert ("may be done in part" in request.why) == (said == "cancelled"), (
            "what people are told before they repeat it"
        )


@pytest.mark.parametrize("record", [denial("gone", 1, "ana"), outcome("gone", 1, "cancelled")])
async def test_a_call_whose_end_was_told_claims_nothing_any_more(presto: Asking, record: dict[str, Any]) -> None:
    """As of a server that gave up waiting, and whose question is answered all the same."""
    asked = await presto.ask("ana")
    await decide(presto.hub.parts.approvals, "sol", asked.actions[0].id)
    await presto.hub.deliver(presto.channel, record)
    answer = await presto.ask("ana", call_id="gone")
    assert (answer.claimed, states(answer)) == (False, [State.APPROVED])
    assert (await presto.ask("ana")).claimed


async def test_what_its_caller_was_not_shown_is_not_waited_for(presto: Asking) -> None:
    """As where the request that a client brings back is over: whose call it is must see the new one first."""
    old = (await presto.ask("ana")).actions[0].id
    await presto.hub.parts.approvals.withdraw("ana", [old])
    async with asyncio.timeout(WAITED_S):
        fresh = await presto.ask("ana", wait_s=50, about=(old,))
        assert states(fresh) == [State.REQUESTED]
    waiting = asyncio.create_task(presto.ask("ana", wait_s=50, about=(fresh.actions[0].id,)))
    async with asyncio.timeout(WAITED_S):
        while not presto.hub.parts.approvals.held:
            await asyncio.sleep(0.01)
    await decide(presto.hub.parts.approvals, "sol", fresh.actions[0].id)
    assert (await waiting).claimed


async def test_a_server_that_is_gone_when_its_question_is_read_claims_nothing(presto: Asking) -> None:
    """As of one that died, and of whose end the next process has told already."""

    async def gone() -> bool:
        return False

    approvals = presto.hub.parts.approvals
    asked = await presto.ask("ana")
    await decide(approvals, "sol", asked.actions[0].id)
    await presto.over(presto.process)
    question = Ask.model_validate(await presto.question("ana"))
    answer = await approvals.ask(Channel(server=presto.server, release=presto.release), question, gone)
    assert (answer.claimed, states(answer)) == (False, [State.APPROVED])
    assert (await presto.ask("ana")).claimed


async def test_what_another_server_says_of_a_call_ends_nothing(presto: Asking, company: Company) -> None:
    id_ = await _claimed(presto, "mine")
    scratch = Asking.of(presto.hub, company, "dev/scratch")
    await presto.hub.deliver(scratch.channel, outcome("mine", 1))
    await scratch.over("process-1")
    assert (await seen(presto.hub.parts.approvals, id_)).state is State.CLAIMED


async def test_a_process_that_is_over_leaves_an_unknown_end_and_a_late_word_is_the_truth(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    id_, other = await _claimed(presto, "one"), await _claimed(presto, "two", process="process-2")
    assert (await presto.over("process-1")).status_code == 204
    assert (await seen(approvals, id_)).state is State.UNKNOWN
    assert (await seen(approvals, other)).state is State.CLAIMED
    assert not (await presto.ask("ana", {"for": "one"}, call_id="one")).claimed
    await presto.hub.deliver(presto.channel, outcome("one", 1))
    assert (await seen(approvals, id_)).state is State.DONE


async def test_what_came_to_nothing_is_asked_for_again_and_needs_a_new_yes(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    id_ = await _claimed(presto, "one")
    with pytest.raises(ApprovalRefused) as refused:
        await approvals.again("ana", id_)
    assert refused.value.code == "not_ended"
    await presto.over("process-1")
    with pytest.raises(ApprovalRefused) as refused:
        await approvals.again("fay", id_)
    assert refused.value.code == "unknown"
    fresh = await approvals.again("ana", id_)
    assert (await approvals.again("ana", id_)).id == fresh.id != id_
    assert not (await presto.ask("ana", {"for": "one"})).claimed
    await decide(approvals, "sol", fresh.id)
    assert (await presto.ask("ana", {"for": "one"})).claimed


async def test_what_was_rejected_may_be_asked_for_again_by_the_person(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    id_ = (await presto.ask("ana")).actions[0].id
    await decide(approvals, "sol", id_, approve=False)
    fresh = await approvals.again("ana", id_)
    assert (await presto.ask("ana")).actions[0].id == fresh.id


async def test_another_release_is_not_asked_for_again(presto: Asking, company: Company) -> None:
    older = Asking.of(presto.hub, company, release="0" * 64)
    id_ = (await older.ask("ana")).actions[0].id
    await decide(presto.hub.parts.approvals, "sol", id_, approve=False)
    with pytest.raises(ApprovalRefused) as refused:
        await presto.hub.parts.approvals.again("ana", id_)
    assert refused.value.code == "server_changed"


CONFIRM: dict[str, Any] = {"kind": "confirm", "by": "caller"}


async def test_a_confirmation_is_given_in_the_callers_form_or_on_their_page(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    asked = await presto.ask("ana", {"n": 1}, **CONFIRM)
    id_ = asked.actions[0].id
    answer = await presto.ask("ana", {"n": 1}, **CONFIRM, answered="yes", about=[id_])
    assert answer.claimed
    assert [each.door for each in (await seen(approvals, id_)).events] == ["server", "form", "server"]
    asked = await presto.ask("ana", {"n": 3}, **CONFIRM)
    assert asked.yours
    await decide(approvals, "ana", asked.actions[0].id)
    assert (await presto.ask("ana", {"n": 3}, **CONFIRM)).claimed


async def test_an_answer_of_the_form_counts_once_and_for_what_it_was_about(presto: Asking) -> None:
    """Of three replays of one answer the first claims, the second finds nothing and makes anew, the third too."""
    asked = await presto.ask("ana", {"n": 1}, **CONFIRM)
    about = [asked.actions[0].id]
    others = (await presto.ask("ana", {"n": 1}, **CONFIRM, answered="yes", about=[])).claimed
    assert not others
    answers = [await presto.ask("ana", {"n": 1}, **CONFIRM, answered="yes", about=about, call_id="first")]
    await presto.hub.deliver(presto.channel, outcome("first", 1))
    answers += [await presto.ask("ana", {"n": 1}, **CONFIRM, answered="yes", about=about) for _ in range(3)]
    assert [answer.claimed for answer in answers] == [True, False, False, False]
    assert states(answers[3]) == [State.REQUESTED]


async def test_declining_withdraws_what_it_was_about_also_what_was_approved(presto: Asking) -> None:
    asked = await presto.ask("ana", {"n": 1}, {"n": 2})
    await decide(presto.hub.parts.approvals, "sol", asked.actions[0].id)
    about = [each.id for each in asked.actions]
    answer = await presto.ask("ana", {"n": 1}, {"n": 2}, answered="no", about=about[:1])
    assert (answer.claimed, states(answer)) == (False, [State.WITHDRAWN, State.REQUESTED])
    answer = await presto.ask("ana", {"n": 1}, {"n": 2}, answered="no", about=about)
    assert (answer.claimed, states(answer)) == (False, [State.WITHDRAWN] * 2)
    never = await presto.ask("ana", {"n": 3}, answered="no", about=about)
    assert (never.actions[0].id, states(never)) == ("", [State.WITHDRAWN])
    assert len((await presto.hub.parts.approvals.mine(reader(presto.hub.parts.approvals, "ana"))).requests) == 2


async def test_a_server_that_waits_is_answered_once_people_have_decided(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    asked = await presto.ask("ana", {"n": 1}, {"n": 2})
    waiting = asyncio.create_task(presto.ask("ana", {"n": 1}, {"n": 2}, wait_s=50))
    await decide(approvals, "sol", asked.actions[0].id)
    await decide(approvals, "sol", asked.actions[1].id, approve=False)
    answer = await waiting
    assert (answer.claimed, states(answer)) == (True, [State.CLAIMED, State.REJECTED])


async def test_what_is_withdrawn_while_a_server_waits_is_not_made_anew(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    asked = await presto.ask("ana")
    waiting = asyncio.create_task(presto.ask("ana", wait_s=50))
    while not approvals.held:
        await asyncio.sleep(0)
    await approvals.withdraw("ana", [asked.actions[0].id])
    assert states(await waiting) == [State.WITHDRAWN]
    assert len((await approvals.mine(reader(approvals, "ana"))).requests) == 1


async def test_a_wait_ends_without_an_answer_and_with_the_hub(presto: Asking) -> None:
    assert states(await presto.ask("ana", wait_s=0.05)) == [State.REQUESTED]
    waiting = asyncio.create_task(presto.ask("ana", wait_s=50))
    while not presto.hub.parts.approvals.held:
        await asyncio.sleep(0)
    presto.hub.parts.approvals.release()
    assert states(await waiting) == [State.REQUESTED]


async def test_lists_go_on_where_they_ended(presto: Asking) -> None:
    approvals = presto.hub.parts.approvals
    ids = [(await presto.ask("ana", {"n": number}, requirement={"expires_s": 600 - number})) for number in range(5)]
    expected = [answer.actions[0].id for answer in ids]
    who = reader(approvals, "sol")
    for listed, order in ((approvals.inbox, expected[::-1]), (approvals.history, expected[::-1])):
        found: list[str] = []
        after = None
        while True:
            page = await listed(who, 2, after)
            found += [request.id for request in page.requests]
            after = page.after
            if after is None:
                break
        assert found == order
    only = await approvals.history(who, which=Which(state=State.APPROVED))
    assert only.requests == []
    assert (await approvals.history(who, which=Which(server="\0"))).requests == []
    assert len((await approvals.mine(reader(approvals, "ana"), which=Which(server="prod/presto"))).requests) == 5


async def _claimed(presto: Asking, call_id: str, process: str = "process-1") -> str:
    """A request of Ana's that a call has claimed; gives its id."""
    asked = await presto.ask("ana", {"for": call_id})
    await decide(presto.hub.parts.approvals, "sol", asked.actions[0].id)
    answer = await presto.ask("ana", {"for": call_id}, call_id=call_id, process=process)
    assert answer.claimed
    return answer.actions[0].id


async def _decided(approvals: Approvals, person: str, id_: str, shown: str) -> str:
    """Why somebody could not decide; empty where they could."""
    try:
        await approvals.decide(decider(person), [Verdict(id_, shown, approve=True)], "")
    except ApprovalRefused as error:
        return error.code
    return ""
