"""The grants file is an import: what it changes is taken over, and what was changed in the registry is never lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import Actor, entries
from pegboard_hub.registry.importing import BY_FILE, EMPTY, merge
from pegboard_hub.registry.model import Access, Lifecycle
from tests.hub.company import Company, Hub, opened

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

PAT = Actor("pat")
GROUPS = st.lists(st.sampled_from(["ads", "fin", "ops"]), unique=True).map(sorted)
ENTRIES = st.fixed_dictionaries(
    {}, optional={"groups": GROUPS, "surfaces": GROUPS, "reason": st.sampled_from(["a", "b"])}
)
HELD = st.fixed_dictionaries({"groups": GROUPS, "surfaces": GROUPS, "reason": st.sampled_from(["", "a", "b"])})


@given(last=st.none() | ENTRIES, now=ENTRIES, held=HELD)
def test_a_field_is_taken_over_kept_or_told_of_as_a_conflict(last: Any, now: Any, held: Any) -> None:
    have = EMPTY | held
    found = merge(last, now, have)
    for name, empty in EMPTY.items():
        if name == "reason":
            continue  # it comes with an access, as below
        before = have[name] if last is None else last.get(name, empty)
        wanted = now.get(name, before if last is None else empty)
        ended = [each for each in have[name] if each in before and each not in wanted] if empty == [] else []
        after = found.take.get(name, have[name])
        assert not ended or wanted == before or not set(ended) & set(after)
        if name in found.conflicts:
            assert have[name] not in (before, wanted)
            assert after == ([each for each in have[name] if each not in ended] if ended else have[name])
            assert found.conflicts[name] == (wanted, after)
        elif name in found.take:
            assert have[name] == before or ended
            assert found.take[name] == wanted != before
        else:
            assert wanted in (before, have[name])


@given(last=st.none() | ENTRIES, now=ENTRIES, held=HELD)
def test_taking_over_what_was_taken_over_changes_nothing(last: Any, now: Any, held: Any) -> None:
    have = EMPTY | held
    found = merge(last, now, have)
    adds = any({*found.take.get(name, ())} - {*have[name]} for name in Access._fields)
    if found.grants:
        assert (have | found.take)["reason"] == (now.get("reason") or (BY_FILE if adds else have["reason"]))
    again = merge(found.accepted, now, have | found.take)
    assert not again.take
    assert again.conflicts.keys() == found.conflicts.keys()


async def grant(hub: Hub, *groups: str, why: str = "asked for") -> None:
    async with hub.parts.registry.changing() as changing:
        server = changing.server("prod/presto")
        granted = Access(groups, *server.granted[1:])
        await changing.apply(Change("prod/presto", PAT, "grant", why, server.version, granted=granted))


def say(company: Company, before: str, after: str) -> None:
    text = company.grants.read_text()
    assert before in text
    company.grants.write_text(text.replace(before, after))


GRANTED = 'groups = ["ads-eng", "finance", "data-infra", "platform"]\n# Where'
FEWER = 'groups = ["ads-eng"]\n# Where'


async def test_what_the_registry_changed_stays_though_the_file_says_what_it_always_said(company: Company) -> None:
    async with opened(company) as hub:
        await grant(hub, "sales")
        await hub.parts.registry.refresh()
        say(company, "# The operator's grants:", "# Our grants:")
        await hub.parts.registry.refresh()
        assert hub.parts.registry.current.servers["prod/presto"].granted.groups == ("sales",)
    async with opened(company) as hub:
        assert hub.parts.registry.current.servers["prod/presto"].granted.groups == ("sales",)


async def test_what_both_changed_is_a_conflict_that_loses_neither_and_ends_when_they_agree(
    hub: Hub, company: Company
) -> None:
    await grant(hub, "ads-eng", "sales")
    say(company, GRANTED, FEWER)
    await hub.parts.registry.refresh()
    current = hub.parts.registry.current
    assert current.servers["prod/presto"].granted.groups == ("ads-eng", "sales")
    assert [problem.partition(". ")[0] for problem in current.problems] == [
        'prod/presto: the grants file now says groups = ["ads-eng"], and the registry, changed since, '
        '["ads-eng", "sales"]'
    ]
    await grant(hub, "ads-eng")
    await hub.parts.registry.refresh()
    assert not hub.parts.registry.current.problems


async def test_one_conflict_does_not_hold_up_what_else_the_file_changes(hub: Hub, company: Company) -> None:
    await grant(hub, "sales")
    say(company, GRANTED, FEWER)
    say(company, 'surfaces = ["cli", "chat", "ide", "web"]', 'surfaces = ["cli"]')
    await hub.parts.registry.refresh()
    granted = hub.parts.registry.current.servers["prod/presto"].granted
    assert (granted.groups, granted.surfaces) == (("sales",), ("cli",))


async def test_what_the_file_leaves_out_is_the_registrys_alone(company: Company) -> None:
    company.grants.write_text('[servers."prod/presto"]\nsource = "x"\n')
    async with opened(company) as hub:
        server = hub.parts.registry.current.servers["prod/presto"]
        assert server.lifecycle is Lifecycle.IN_REVIEW
        assert not server.reachable
        await grant(hub, "sales")
        say(company, '"x"', '"y"')
        await hub.parts.registry.refresh()
        server = hub.parts.registry.current.servers["prod/presto"]
        assert (server.source, server.granted.groups) == ("y", ("sales",))


async def test_a_server_that_the_file_names_no_more_is_retired_and_comes_back_with_it(
    hub: Hub, company: Company
) -> None:
    text = company.grants.read_text()
    company.grants.write_text("# none\n")
    await hub.parts.registry.refresh()
    server = hub.parts.registry.current.servers["prod/presto"]
    assert (server.lifecycle, server.reachable) == (Lifecycle.RETIRED, False)
    company.grants.write_text(text)
    await hub.parts.registry.refresh()
    server = hub.parts.registry.current.servers["prod/presto"]
    assert (server.lifecycle, server.reachable) == (Lifecycle.LIVE, True)
    async with hub.parts.database.read() as connection:
        told = [entry.action for entry in await entries(connection, "prod/presto")]
    assert told[:2] == ["import", "retire"]


async def test_a_file_with_nothing_in_it_withdraws_nobody(hub: Hub, company: Company) -> None:
    company.grants.write_text("")
    await hub.parts.registry.refresh()
    current = hub.parts.registry.current
    assert "has nothing in it" in current.fault
    assert current.deployed("prod/presto")


async def test_a_server_that_comes_back_brings_no_conflict_to_an_end_by_itself(hub: Hub, company: Company) -> None:
    text = company.grants.read_text()
    await grant(hub, "sales")
    company.grants.write_text("# none\n")
    await hub.parts.registry.refresh()
    company.grants.write_text(text)
    await hub.parts.registry.refresh()
    server = hub.parts.registry.current.servers["prod/presto"]
    assert (server.reachable, server.granted.groups) == (True, ("sales",))


async def test_the_history_tells_why_the_file_stopped_something_and_not_why_it_grants(
    hub: Hub, company: Company
) -> None:
    text = company.grants.read_text()
    for stop in ('stopped = "it is ill"\n', 'stopped_tools = { run_query = "it is ill" }\n', ""):
        company.grants.write_text(text.replace("# Shown to people who ask why", f"{stop}# Shown to", 1))
        await hub.parts.registry.refresh()
    async with hub.parts.database.read() as connection:
        told = [entry.why for entry in await entries(connection, "prod/presto", limit=3)]
    go_on = "the grants file lets go on what it stopped"
    assert told == [go_on, f"it is ill; {go_on}", "it is ill"]


async def test_whoever_asks_why_is_told_of_the_files_reason_once_the_file_has_granted(
    hub: Hub, company: Company
) -> None:
    async with hub.parts.registry.changing() as changing:
        await changing.apply(Change("prod/presto", PAT, "grant", "x", values={"reason": "security review by sol"}))
    say(company, GRANTED, FEWER)
    await hub.parts.registry.refresh()
    assert hub.parts.registry.current.servers["prod/presto"].reason == "the demo's security review of prod/presto"
