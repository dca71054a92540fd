"""Who looks after an instance sees what is stopped: in the metrics, in `pegboard status`, in `pegboard doctor`."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pegboard.core.stops import STOP_KINDS
from pegboard_hub.runtime.looking import _remarks, look
from pegboard_hub.stopping.service import MACHINE
from pegboard_hub.upkeep.checks import running
from pegboard_hub.upkeep.doctor import gather
from pegboard_hub.upkeep.finding import Facts, State
from tests.hub.company import Company, Hub
from tests.hub.test_metrics import samples, scraping  # noqa: F401 - a fixture
from tests.hub.test_switch import NAMES, at_the_machine

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]


async def metric(hub: Hub, headers: dict[str, str]) -> dict[str, float]:
    found = samples((await hub.public.get("/metrics", headers=headers)).text)
    return {key[1]: value for key, value in found.items() if key[0] == "pegboard_hub_stopped"}


async def everything(hub: Hub, do: str) -> None:
    for kind in STOP_KINDS:
        if do == "stop":
            await hub.parts.stopping.stop(MACHINE, kind, NAMES[kind], "an incident")
        else:
            await hub.parts.stopping.resume(MACHINE, kind, NAMES[kind])


async def test_metrics_count_what_is_stopped_of_each_kind_and_nothing_once_it_is_resumed(
    hub: Hub,
    scraping: dict[str, str],  # noqa: F811
) -> None:
    none = dict.fromkeys(STOP_KINDS, 0.0)
    assert await metric(hub, scraping) == none
    await everything(hub, "stop")
    assert await metric(hub, scraping) == dict.fromkeys(STOP_KINDS, 1.0)
    await everything(hub, "resume")
    assert await metric(hub, scraping) == none


async def test_status_names_what_is_stopped_also_without_a_hub(hub: Hub, company: Company) -> None:
    def seen() -> set[tuple[str, str]]:
        return {(each["kind"], each["name"]) for each in look(company.home.root, time.time())["stopped"]}

    assert seen() == set()
    await everything(hub, "stop")
    await hub.parts.registry.resign()
    assert seen() >= set(NAMES.items())
    found = look(company.home.root, time.time())
    told = [line for line in _remarks(found) if "stopped" in line]
    assert (
        told[0] == f"stopped for everybody: {found['stopped'][0]['kind']} {found['stopped'][0]['name']} (an incident)"
    )
    assert len(told) == 6
    assert told[-1].endswith("see them with `pegboard stops`")
    await everything(hub, "resume")
    await hub.parts.registry.resign()
    assert seen() == set()


@pytest.fixture
def facts(company: Company) -> Facts:
    found = gather(company.home.root, None, None, offline=True)
    found.status.update(running=True, stale=False, ready=True)
    return found


async def test_doctor_names_what_is_stopped_since_when_by_whom_and_how_it_ends(
    hub: Hub, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    word: dict[str, Any] = {}
    monkeypatch.setattr(running.HubDoor, "ask", lambda *_: word)
    word.update((await at_the_machine(hub)).json())
    assert [(each.state, each.found) for each in running.stops(facts)] == [(State.WELL, "nothing is stopped")]
    await everything(hub, "stop")
    word.update((await at_the_machine(hub)).json())
    found = list(running.stops(facts))
    assert {each.state for each in found} == {State.WARNING}
    assert len(found) == running.MOST_NAMED + 1
    assert "is stopped for 0 s, by operator: an incident" in found[0].found.replace("1 s", "0 s")
    assert found[0].mend.startswith("once its reason is over: pegboard resume ")
    assert found[-1].mend == "see them all: pegboard stops"
