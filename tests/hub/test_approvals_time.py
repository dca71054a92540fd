"""Approvals and time: what expires, what a clock set back cannot prolong, what is kept, and how much there may be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pegboard.core.approval import Ask, Requirement, State
from pegboard_hub.approvals import asking, keeping
from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.approvals.service import Approvals
from pegboard_hub.ledger.channels import Channel
from pegboard_hub.telemetry.meter import HubMeter
from pegboard_hub.upkeep.checks.running import _approvals
from pegboard_hub.web.parts import Parts
from tests.hub.approvals_rig import Asking, Time, Told, decide, reader, seen, states, timed
from tests.hub.company import OPERATOR, Company, opened, outcome

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]


@dataclass
class Stage:
    time: Time
    told: Told
    presto: Asking
    required: dict[str, Requirement]
    meter: HubMeter

    @property
    def approvals(self) -> Approvals:
        return self.presto.hub.parts.approvals

    def restarted(self) -> Approvals:
        """Another hub, or this one after a restart: it knows only what the clock and the database say."""
        return timed(self.presto.hub.parts, self.time, self.told, self.required, self.meter)


@pytest.fixture
async def stage(company: Company) -> AsyncIterator[Stage]:
    time, told, meter = Time(), Told(), HubMeter()
    required: dict[str, Requirement] = {}

    def changed(parts: Parts) -> Parts:
        return replace(parts, approvals=timed(parts, time, told, required, meter))

    async with opened(company, changed) as hub:
        yield Stage(time, told, Asking.of(hub, company), required, meter)


async def test_what_nobody_decides_in_time_expires_and_is_asked_for_anew(stage: Stage) -> None:
    asked = await stage.presto.ask("ana")
    stage.time.go_on(3599)
    await stage.approvals.look_after()
    assert (await seen(stage.approvals, asked.actions[0].id)).state is State.REQUESTED
    stage.time.go_on(1)
    await stage.approvals.look_after()
    expired = await seen(stage.approvals, asked.actions[0].id)
    assert (expired.state, expired.events[-1].door, expired.events[-1].who) == (State.EXPIRED, "clock", "")
    assert (await stage.presto.ask("ana")).actions[0].id != expired.id


async def test_a_yes_is_good_for_as_long_as_the_request_also_before_anybody_looks(stage: Stage) -> None:
    asked = await stage.presto.ask("ana")
    await decide(stage.approvals, "sol", asked.actions[0].id)
    stage.time.go_on(3600)
    late = await stage.presto.ask("ana")
    assert (late.claimed, states(late)) == (False, [State.REQUESTED])
    assert (await seen(stage.approvals, asked.actions[0].id)).state is State.EXPIRED


async def test_nothing_is_decided_after_its_time_nor_waits_in_the_inbox(stage: Stage) -> None:
    asked = await stage.presto.ask("ana")
    stage.time.go_on(3600)
    with pytest.raises(ApprovalRefused) as refused:
        await decide(stage.approvals, "sol", asked.actions[0].id)
    assert refused.value.code == "expired"
    assert (await stage.approvals.inbox(reader(stage.approvals, "sol"))).requests == []
    assert await stage.approvals.waiting(reader(stage.approvals, "sol")) == 0


async def test_a_rejection_answers_until_its_time_is_over(stage: Stage) -> None:
    asked = await stage.presto.ask("ana")
    await decide(stage.approvals, "sol", asked.actions[0].id, approve=False)
    stage.time.go_on(3599)
    assert states(await stage.presto.ask("ana")) == [State.REJECTED]
    stage.time.go_on(1)
    assert states(await stage.presto.ask("ana")) == [State.REQUESTED]
    assert (await seen(stage.approvals, asked.actions[0].id)).state is State.REJECTED


async def test_a_clock_that_is_set_back_prolongs_nothing_while_the_hub_runs(stage: Stage) -> None:
    asked = await stage.presto.ask("ana")
    await decide(stage.approvals, "sol", asked.actions[0].id)
    stage.time.go_on(1800)
    stage.time.wall -= 24 * 3600
    stage.time.count += 1800
    assert not (await stage.presto.ask("ana")).claimed


async def test_what_comes_from_the_future_after_a_restart_is_not_believed(stage: Stage) -> None:
    asked = await stage.presto.ask("ana")
    await decide(stage.approvals, "sol", asked.actions[0].id)
    other = await stage.presto.ask("ana", {"n": 2})
    stage.time.wall -= 120
    approvals = stage.restarted()
    with pytest.raises(ApprovalRefused) as refused:
        await decide(approvals, "sol", other.actions[0].id)
    assert refused.value.code == "expired"
    question = Ask.model_validate(await stage.presto.question("ana"))
    answer = await approvals.ask(Channel(server=stage.presto.server, release=stage.presto.release), question)
    assert not answer.claimed
    assert (await seen(approvals, asked.actions[0].id)).why == asking.CLOCK_WENT_BACK


async def test_what_waits_from_the_future_is_ended_by_itself_and_stands_in_no_inbox(stage: Stage) -> None:
    asked = (await stage.presto.ask("ana")).actions[0].id
    stage.time.wall -= 24 * 3600
    approvals = stage.restarted()
    await approvals.look_after()
    ended = await seen(approvals, asked)
    assert (ended.state, ended.why) == (State.EXPIRED, asking.CLOCK_WENT_BACK)
    assert await approvals.waiting(reader(approvals, "sol")) == 0


async def test_what_was_claimed_in_the_future_becomes_unknown_as_late_as_anything_else(stage: Stage) -> None:
    asked = (await stage.presto.ask("ana")).actions[0].id
    await decide(stage.approvals, "sol", asked)
    assert (await stage.presto.ask("ana", call_id="lost")).claimed
    stage.time.wall -= 24 * 3600
    approvals = stage.restarted()
    for seconds, state in ((0, State.CLAIMED), (20 * 60, State.CLAIMED), (1, State.UNKNOWN)):
        stage.time.go_on(seconds)
        await approvals.look_after()
        assert (await seen(approvals, asked)).state is state


async def test_a_clock_that_is_set_forward_and_back_again_ends_what_waits_and_what_runs_is_told_late(
    stage: Stage,
) -> None:
    asked = [(await stage.presto.ask("ana", {"n": n})).actions[0].id for n in range(3)]
    await decide(stage.approvals, "sol", *asked[:2])
    assert (await stage.presto.ask("ana", {"n": 0}, call_id="runs")).claimed
    stage.time.wall += 24 * 3600
    await stage.approvals.look_after()
    stage.time.wall -= 24 * 3600
    await stage.approvals.look_after()
    found = [(await seen(stage.approvals, each)).state for each in asked]
    assert found == [State.UNKNOWN, State.EXPIRED, State.EXPIRED]
    assert states(await stage.presto.ask("ana", {"n": 1})) == [State.REQUESTED]
    await stage.presto.hub.deliver(stage.presto.channel, outcome("runs", 1))
    assert (await seen(stage.approvals, asked[0])).state is State.DONE


async def test_clocks_that_are_a_little_apart_spoil_nothing(stage: Stage) -> None:
    asked = await stage.presto.ask("ana")
    stage.time.wall -= 30
    await decide(stage.restarted(), "sol", asked.actions[0].id)


async def test_what_was_claimed_and_never_told_of_becomes_unknown(stage: Stage) -> None:
    asked = await stage.presto.ask("ana")
    await decide(stage.approvals, "sol", asked.actions[0].id)
    assert (await stage.presto.ask("ana", call_id="lost")).claimed
    stage.time.go_on(20 * 60)
    await stage.approvals.look_after()
    assert (await seen(stage.approvals, asked.actions[0].id)).state is State.CLAIMED
    stage.time.go_on(1)
    await stage.approvals.look_after()
    assert (await seen(stage.approvals, asked.actions[0].id)).state is State.UNKNOWN
    assert stage.told.of("unknown") == [[asked.actions[0].id]]
    await stage.presto.hub.deliver(stage.presto.channel, outcome("lost", 1, "crashed"))
    assert (await seen(stage.approvals, asked.actions[0].id)).state is State.FAILED


async def test_people_are_told_once_of_what_is_new_decided_and_about_to_expire(stage: Stage) -> None:
    asked = await stage.presto.ask("ana", {"n": 1}, {"n": 2})
    ids = [each.id for each in asked.actions]
    await stage.presto.ask("ana", {"n": 1}, {"n": 2})
    await decide(stage.approvals, "sol", ids[0])
    stage.time.go_on(3600 * 3 // 4 - 1)
    await stage.approvals.look_after()
    assert stage.told.of("expiring") == []
    stage.time.go_on(1)
    for _ in range(2):
        await stage.approvals.look_after()
    assert stage.told.acts == [("requested", ids), ("decided", [ids[0]]), ("expiring", [ids[1]])]


async def test_what_is_shown_changes_at_most_once_a_minute_and_unsees_what_was_seen(stage: Stage) -> None:
    def shows(what: str) -> dict[str, object]:
        return {"actions": [{"arguments": {"n": 1}, "preview": {"what": what}}]}

    asked = await stage.presto.ask("ana", **shows("drops 3 rows"))
    first = await seen(stage.approvals, asked.actions[0].id)
    stage.time.go_on(59)
    await stage.presto.ask("ana", **shows("drops 4 rows"))
    assert (await seen(stage.approvals, first.id)).preview == first.preview
    stage.time.go_on(1)
    await stage.presto.ask("ana", **shows("drops 5 rows"))
    now = await seen(stage.approvals, first.id)
    assert now.preview is not None
    assert now.preview.what == "drops 5 rows"
    assert [event.shown for event in now.events] == [first.shown_digest, now.shown_digest]
    await decide(stage.approvals, "sol", first.id)
    stage.time.go_on(120)
    claimed = await stage.presto.ask("ana", **shows("drops 6 rows"))
    assert claimed.claimed
    assert (await seen(stage.approvals, first.id)).shown_digest == now.shown_digest


async def test_nobody_floods_those_who_decide(stage: Stage) -> None:
    for start in range(0, asking.MOST_OPEN_ON_SERVER, 100):
        await stage.presto.ask("ana", *({"n": start + number} for number in range(100)))
    assert await stage.presto.refused("ana", {"n": "one more"}) == (429, "too_many")
    assert states(await stage.presto.ask("ana", {"n": 1})) == [State.REQUESTED]
    assert states(await stage.presto.ask("fay", {"n": "one more"})) == [State.REQUESTED]


async def test_nobody_floods_them_by_withdrawing_either(stage: Stage) -> None:
    for start in range(0, asking.MOST_AN_HOUR_ON_SERVER, 100):
        asked = await stage.presto.ask("ana", *({"n": start + number} for number in range(100)))
        await stage.approvals.withdraw("ana", [each.id for each in asked.actions])
    assert await stage.presto.refused("ana", {"n": "one more"}) == (429, "too_many")
    stage.time.go_on(3601)
    assert states(await stage.presto.ask("ana", {"n": "one more"})) == [State.REQUESTED]


async def test_contents_are_forgotten_after_ninety_days_and_who_decided_never(stage: Stage) -> None:
    asked = await stage.presto.ask("ana", {"sql": "secret"})
    open_ = await stage.presto.ask("ana", {"n": 2}, requirement={"expires_s": 7 * 24 * 3600})
    await decide(stage.approvals, "sol", asked.actions[0].id, approve=False, why="no")
    stage.time.go_on(keeping.KEPT_MS / 1000 + 1)
    await stage.approvals.tidy()
    old = await seen(stage.approvals, asked.actions[0].id)
    assert (old.arguments, old.why, old.decided_by, len(old.events)) == (None, "no", "sol", 2)
    assert (await seen(stage.approvals, open_.actions[0].id)).arguments == {"n": 2}


@pytest.mark.parametrize("statement", ["UPDATE approval_events SET why = 'x'", "DELETE FROM approval_events"])
async def test_the_history_is_append_only(stage: Stage, statement: str) -> None:
    await stage.presto.ask("ana")
    with pytest.raises(DBAPIError, match="append-only"):
        async with stage.presto.hub.parts.database.write() as db:
            await db.execute(text(statement))


async def test_what_the_registry_requires_holds_whatever_the_server_asks_for(stage: Stage) -> None:
    mild = await stage.presto.ask("ana", by="caller")
    await decide(stage.approvals, "ana", mild.actions[0].id)
    stage.required["prod/presto/run_query"] = Requirement(by="security", source="registry")
    for changes in ({}, {"kind": "confirm", "answered": "yes"}):
        asked = await stage.presto.ask("ana", by="caller", **changes)
        assert (asked.claimed, states(asked), asked.yours) == (False, [State.REQUESTED], False)
    await decide(stage.approvals, "sol", asked.actions[0].id)
    assert (await stage.presto.ask("ana", by="caller")).claimed


async def test_metrics_tell_how_approvals_stand_and_what_became_of_them(stage: Stage) -> None:
    approvals = stage.approvals
    await approvals.tidy()
    asked = await stage.presto.ask("ana", {"n": 1}, {"n": 2}, {"n": 3})
    stage.time.go_on(60)
    await decide(approvals, "sol", asked.actions[0].id)
    await decide(approvals, "sol", asked.actions[1].id, approve=False)
    assert await stage.presto.refused("ana", token="x") == (403, "token_refused")
    await approvals.tidy()
    page = stage.meter.page().decode()
    for line in (
        'pegboard_hub_approvals_open{state="requested"} 1.0',
        'pegboard_hub_approvals_open{state="approved"} 1.0',
        "pegboard_hub_approvals_oldest_seconds 60.0",
        'pegboard_hub_approvals_total{state="requested"} 3.0',
        'pegboard_hub_approvals_total{state="rejected"} 1.0',
        'pegboard_hub_approvals_total{state="unknown"} 0.0',
        "pegboard_hub_approval_wait_seconds_sum 120.0",
        'pegboard_hub_approvals_refused_total{code="token_refused"} 1.0',
    ):
        assert line in page


async def test_the_operator_is_told_what_waits_and_what_ended_unknown(company: Company) -> None:
    async with opened(company) as hub:
        presto = Asking.of(hub, company)
        asked = await presto.ask("ana", {"n": 1}, {"n": 2})
        await decide(hub.parts.approvals, "sol", asked.actions[0].id)
        assert (await presto.ask("ana", {"n": 1})).claimed
        await presto.over("process-1")
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        word = (await hub.internal.get("/internal/v1/approvals", headers=headers)).json()
        assert (await hub.internal.get("/internal/v1/approvals")).status_code == 401
        oldest = (await seen(hub.parts.approvals, asked.actions[1].id)).requested_at_ms
        assert word == {"waiting": 1, "running": 0, "oldest": oldest, "unknown": 1, "ahead_ms": 0}
        told = [finding.found for finding in _approvals(word, oldest / 1000 + 90)]
        assert told[1] == "waiting for people: 1 request, the oldest for 90 s", told
        assert "nobody knows how it ended" in told[0]


async def test_what_others_decide_by_now_is_not_asked_for_again_as_it_was(stage: Stage) -> None:
    asked = await stage.presto.ask("ana", by="caller")
    await decide(stage.approvals, "ana", asked.actions[0].id, approve=False)
    stage.required["prod/presto/run_query"] = Requirement(by="security", source="registry")
    with pytest.raises(ApprovalRefused) as refused:
        await stage.approvals.again("ana", asked.actions[0].id)
    assert refused.value.code == "server_changed"
