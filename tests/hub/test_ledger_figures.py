"""The figures that pages show are those of the records, whatever came, in whatever order, however often."""

from __future__ import annotations

import random
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from pegboard.cli.app import run
from pegboard_hub.ledger.model import usage_days
from pegboard_hub.ledger.verify import CannotVerify, verify, verify_server
from pegboard_hub.storage import schema
from tests.hub.company import Company, Hub, call, denial, edge_refusal, intent, opened, outcome, presto, scratch
from tests.hub.test_migrations import SCHEMAS, load

pytestmark = pytest.mark.anyio

NOW = int(time.time() * 1000)
DAY = 86_400_000
STATUSES = ("ok", "ok", "ok", "tool_error", "crashed", "cancelled", "input_required")
PEOPLE = ("ana", "fay", "sam", "pat")


def dearer() -> dict[str, Any]:
    """presto with another saving: another release."""
    declared = presto()
    declared["tools"][0]["minutes_saved"] = 0.1
    return declared


class Mass:
    """A generated mass of records of several servers and releases, and a plain count of what it must come to."""

    def __init__(self, chance: random.Random, minutes: dict[str, dict[str, float]]) -> None:
        self.batches: list[tuple[str, list[dict[str, Any]]]] = []
        self.calls: Counter[str] = Counter()
        self.callers: dict[str, set[str]] = {}
        self.minutes: Counter[str] = Counter()
        self._chance = chance
        self._minutes = minutes
        self._outcomes: dict[str, dict[str, str]] = {}

    def add(self, channel: str, server: str, count: int) -> None:
        """Records of one channel, shuffled, some of them twice and some without their other half."""
        records: list[dict[str, Any]] = []
        for number in range(count):
            id_, at = f"{channel}-{number}", NOW - self._chance.randrange(40 * DAY)
            sub, tool = self._chance.choice(PEOPLE), self._chance.choice(["run_query", "echo", "no such tool"])
            kind = self._chance.random()
            if kind < 0.1:
                records.append(denial(id_, at, sub, tool=tool))
            elif kind < 0.15:
                records.append(intent(id_, at, sub, tool))
            else:
                status = self._chance.choice(STATUSES)
                records += call(id_, at, sub, tool, status)
                self._count(channel, server, sub, tool, status)
        records += self._chance.sample(records, len(records) // 5)
        self._chance.shuffle(records)
        size = self._chance.randrange(1, 40)
        self.batches += [(channel, records[at : at + size]) for at in range(0, len(records), size)]

    def _count(self, channel: str, server: str, sub: str, tool: str, status: str) -> None:
        if status == "ok":
            self.calls[server] += 1
            self.callers.setdefault(server, set()).add(sub)
            self.minutes[server] += self._minutes[channel].get(tool, 0)


async def deliver(hub: Hub, batches: Iterable[tuple[str, list[dict[str, Any]]]]) -> None:
    for channel, records in batches:
        assert (await hub.deliver(channel, *records)).status_code == 200


async def page_figures(hub: Hub) -> tuple[dict[str, tuple[int, int]], tuple[int, int, float]]:
    """Calls and callers of each server, and calls, callers and hours of all, as pages say."""
    servers = {}
    for name in ("prod/presto", "dev/scratch"):
        answer = await hub.public.get(f"/servers/{name}", params={"as": "pat"})
        found, people, _ = told(answer.text)
        servers[name] = (int(found), int(people))
    calls, callers, hours = told(await hub.page())
    return servers, (int(calls), int(callers), hours)


def told(page: str) -> list[float]:
    """Calls, callers and hours, as one page has them."""
    figures = re.findall(r"<dt>(?:Calls|Callers|Hours saved)</dt>\s*<dd>([\d,.]+)</dd>", page)
    assert len(figures) == 3
    return [float(figure.replace(",", "")) for figure in figures]


@pytest.mark.both_databases(heavy=True)
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.heavy) for seed in (2, 3))])
async def test_a_mass_of_records_comes_to_what_a_plain_count_says(company: Company, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a mass of records, no secret
    first = company.open_channel("prod/presto", company.deploy("prod/presto", presto()))
    other = company.open_channel("dev/scratch", company.deploy("dev/scratch", scratch()))
    async with opened(company) as hub:
        mass = Mass(chance, {first: {"run_query": 6}, other: {}})
        mass.add(first, "prod/presto", 300)
        mass.add(other, "dev/scratch", 200)
        chance.shuffle(mass.batches)
        await deliver(hub, mass.batches)
        await hub.deliver_edge(*(edge_refusal(f"e{n}", NOW - n * DAY, server="dev/gone") for n in range(9)))
        servers, (calls, callers, hours) = await page_figures(hub)
        assert servers == {name: (mass.calls[name], len(mass.callers[name])) for name in mass.calls}
        assert (calls, callers) == (mass.calls.total(), len(set().union(*mass.callers.values())))
        assert hours == pytest.approx(mass.minutes.total() / 60, abs=0.06)
        verdict = verify_server(company.database_url) if company.database_url else verify(company.home.database)
    assert verdict.findings == []
    assert verdict.calls["ok"] == mass.calls.total()


async def test_a_call_counts_on_the_utc_day_on_which_it_began(company: Company) -> None:
    channel = company.open_channel("prod/presto", company.deploy("prod/presto", presto()))
    midnight = NOW - NOW % DAY
    async with opened(company) as hub:
        await hub.deliver(channel, intent("late", midnight - 1), *call("early", midnight))
        await hub.deliver(channel, outcome("late", midnight + 1))
        async with hub.parts.database.read() as connection:
            days = select(usage_days.c.day_ms, usage_days.c.calls).where(usage_days.c.status == "ok")
            assert sorted(map(tuple, await connection.execute(days))) == [(midnight - DAY, 1), (midnight, 1)]
        assert verify(company.home.database).findings == []


async def test_a_later_release_saves_what_it_declares_and_the_earlier_what_it_declared(company: Company) -> None:
    before = company.open_channel("prod/presto", company.deploy("prod/presto", presto()))
    async with opened(company) as hub:
        await hub.deliver(before, *(record for n in range(10) for record in call(f"a{n}", NOW)))
        after = company.open_channel("prod/presto", company.deploy("prod/presto", dearer()))
        await hub.parts.registry.refresh()
        await hub.deliver(after, *(record for n in range(10) for record in call(f"b{n}", NOW)))
        assert (await hub.parts.ledger.figures())[0].minutes_saved == 61
        assert verify(company.home.database).findings == []


async def test_what_comes_before_its_release_is_known_is_priced_once_it_is(company: Company) -> None:
    async with opened(company) as hub:
        release = company.deploy("prod/presto", dearer())
        early = company.open_channel("prod/presto", release)
        await hub.deliver(early, *call("1", NOW), *call("2", NOW, tool="no such tool"), intent("3", NOW))
        await hub.deliver(early, denial("4", NOW), *call("5", NOW, status="crashed"))
        assert (await hub.parts.ledger.figures())[0].minutes_saved == 0
        assert verify(company.home.database).findings == []
        await hub.parts.registry.refresh()
        await hub.parts.ledger.tidy()
        total, each = await hub.parts.ledger.figures()
        assert (total.calls, total.callers, total.minutes_saved) == (2, 1, 0.1)
        assert each["prod/presto"] == total
        assert verify(company.home.database).findings == []
        await hub.deliver(early, outcome("3", NOW))
        assert (await hub.parts.ledger.figures())[0].minutes_saved == 0.2


@pytest.mark.both_databases(heavy=True)
async def test_a_saving_beyond_all_measure_counts_as_a_week(company: Company) -> None:
    declared = presto()
    declared["tools"][0]["minutes_saved"] = 1e300
    channel = company.open_channel("prod/presto", company.deploy("prod/presto", declared))
    async with opened(company) as hub:
        await hub.deliver(channel, *call("1", NOW))
        assert (await hub.parts.ledger.figures())[0].minutes_saved == 7 * 24 * 60
        assert [found["minutes_saved"] for found in await hub.calls("ana")] == [7 * 24 * 60]


@pytest.mark.parametrize("dump", sorted(SCHEMAS.glob("*.sql")), ids=lambda path: path.stem)
async def test_an_older_ledger_is_counted_when_it_is_migrated(company: Company, dump: Path) -> None:
    load(company.home.database, dump)
    async with opened(company) as hub:
        calls = (await hub.parts.ledger.figures())[0].calls
        verdict = verify(company.home.database)
    assert verdict.findings == []
    assert verdict.calls["ok"] == calls > 0


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        ("UPDATE usage_days SET calls = calls + 1 WHERE status = 'ok'", "days add up"),
        ("UPDATE usage_days SET saved_ms = 1 WHERE status = 'ok'", "days add up"),
        ("UPDATE usage_totals SET calls = 0 WHERE server = '*'", "totals add up"),
        ("UPDATE usage_totals SET callers = 9 WHERE status = 'ok'", "totals add up"),
        ("DELETE FROM usage_callers WHERE server = '*'", "every caller is known"),
        ("DELETE FROM calls WHERE id = '1'", "an outcome belongs to an intent"),
        ("UPDATE calls SET status = 'crashed' WHERE id = '1'", "a call's kept status is its outcome's"),
        ("DELETE FROM outcomes WHERE id = '1'", "a call's kept status is its outcome's"),
        ("UPDATE calls SET id = '1' WHERE kind = 'denial'", "no id twice"),
        ("UPDATE calls SET request_id = 'request-1' WHERE kind = 'edge'", "what the edge refused did not run"),
        ("UPDATE usage_days SET calls = 2 WHERE status = 'edge'", "days add up"),
    ],
)
async def test_verify_names_what_does_not_hold(
    company: Company, spoil: str, promise: str, capsys: pytest.CaptureFixture[str]
) -> None:
    channel = company.open_channel("prod/presto", company.deploy("prod/presto", presto()))
    async with opened(company) as hub:
        await hub.deliver(channel, *call("1", NOW), intent("2", NOW), denial("3", NOW))
        await hub.deliver_edge(edge_refusal("e", NOW))
    line = ["ledger", "verify", "--home", str(company.home.root)]
    assert run(line) == 0
    told = capsys.readouterr().out
    assert "✓ every promise holds" in told
    assert "prod/presto: 1 without an outcome" in told
    with closing(sqlite3.connect(company.home.database)) as connection, connection:
        connection.execute(spoil)
    assert promise in {finding.promise for finding in verify(company.home.database).findings}
    assert run(line) == 1
    assert f"✗ {promise}" in capsys.readouterr().out


def test_verify_of_no_ledger_says_so_and_makes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CannotVerify, match="there is no ledger yet"):
        verify(tmp_path / "pegboard.db")
    assert run(["ledger", "verify", "--home", str(tmp_path / "home")]) == 1
    assert "there is no ledger yet" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert schema.revisions()[-1] >= "0002"
