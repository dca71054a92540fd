"""What the hub says of a grants file that is no fault and yet hardly meant, on the page and at its internal door."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from pegboard_hub.common.settings import ServiceSettings
from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Lifecycle
from pegboard_hub.web.notices import current_notices
from tests.hub.company import OPERATOR, Company, Hub, opened

pytestmark = pytest.mark.anyio

SOURCE = {"prod/presto": "../../../../servers/presto", "dev/scratch": "../../../../servers/scratch"}
UNMEMBERED = {
    "dev/scratch: group 'data-infra' has no member here",
    "prod/presto: group 'data-infra' has no member here",
}
"""The company's grants have a group that its authors here do not ask for and that nobody is in."""


async def word(hub: Hub) -> dict[str, Any]:
    """What the operator's own process is told."""
    await hub.parts.registry.refresh()
    answer = await hub.internal.get("/internal/v1/grants", headers={"authorization": f"Bearer {OPERATOR}"})
    assert answer.status_code == 200
    return dict(answer.json())


async def new_notices(hub: Hub) -> set[str]:
    return {*(await word(hub))["notices"]} - UNMEMBERED


def started(company: Company, servers: dict[str, str]) -> None:
    company.report(at=time.time(), isolation={"mode": "user"}, servers=servers)


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        (
            '["ads-eng", "finance", "data-infra", "platform"]',
            '["finanse"]',
            "group 'finanse' has no member here; did you mean 'finance'?",
        ),
        ('["ads-eng", "finance", "data-infra", "platform"]', '["zoo"]', "group 'zoo' has no member here"),
        ('["cli", "chat", "ide", "web"]', '["cli", "service"]', "surface 'service' has no client here"),
        ('"../../../../servers/presto"', '"elsewhere"', "its source is now 'elsewhere', used from the next start of"),
    ],
)
async def test_what_nobody_has_and_what_is_not_used_yet_is_noticed(
    hub: Hub, company: Company, written: str, instead: str, said: str
) -> None:
    started(company, SOURCE)
    assert await new_notices(hub) == set()
    company.grants.write_text(company.grants.read_text().replace(written, instead))
    (notice,) = await new_notices(hub)
    assert notice.startswith(f"prod/presto: {said}")
    assert notice.replace("'", "&#39;") in await hub.page()


async def test_services_that_have_a_port_of_their_own_are_nothing_to_notice(hub: Hub, company: Company) -> None:
    company.grants.write_text(
        company.grants.read_text().replace('["cli", "chat", "ide", "web"]', '["cli", "service"]')
    )
    assert len(await new_notices(hub)) == 1
    services = ServiceSettings(8443, ("dev.pegboard.local",))
    parts = replace(hub.parts, settings=replace(hub.parts.settings, services=services))
    assert {*current_notices(parts)} == UNMEMBERED


async def test_a_group_that_its_author_asks_for_too_is_no_slip(hub: Hub, company: Company) -> None:
    text = company.grants.read_text()
    company.grants.write_text(text.replace('["ads-eng", "finance", "data-infra", "platform"]', '["sales"]'))
    assert not any("sales" in notice for notice in (await word(hub))["notices"])


async def test_a_server_that_is_just_being_started_is_nothing_to_notice(hub: Hub, company: Company) -> None:
    started(company, SOURCE)
    company.grants.write_text(company.grants.read_text() + '[servers."dev/weather"]\nsource = "weather"\n')
    assert await new_notices(hub) == set()


async def test_a_stop_of_a_tool_that_is_not_there_is_noticed_for_it_stops_nothing(hub: Hub, company: Company) -> None:
    text = company.grants.read_text().replace("# Shown to people", 'stopped_tools = { run_querry = "no" }\n# Shown')
    company.grants.write_text(text)
    (notice,) = await new_notices(hub)
    assert notice == (
        "prod/presto: stopped_tools names 'run_querry', which it does not have; did you mean 'run_query'?"
    )


async def test_a_file_that_names_no_server_is_noticed_with_what_it_withdraws(hub: Hub, company: Company) -> None:
    company.grants.write_text("# none\n")
    assert (await word(hub))["notices"] == ["names no server: dev/scratch and prod/presto are withdrawn"]


async def test_a_file_that_never_named_a_server_is_noticed(company: Company) -> None:
    company.grants.write_text("# none\n")
    async with opened(company) as hub:
        assert (await word(hub))["notices"] == ["names no server"]


async def test_a_fault_is_told_apart_from_notices_and_goes_when_it_is_mended(hub: Hub, company: Company) -> None:
    good = company.grants.read_text()
    company.grants.write_text(good.replace("surfaces", "surfaecs"))
    assert "did you mean 'surfaces'" in (await word(hub))["fault"]
    company.grants.write_text(good)
    assert (await word(hub))["fault"] == ""


async def test_a_declaration_that_cannot_be_used_is_told(hub: Hub, company: Company) -> None:
    company.deploy("prod/presto", "{")
    (line,) = (await word(hub))["unusable"]
    assert line.startswith("prod/presto: its declaration cannot be used")


async def test_a_missing_reason_is_nothing_to_notice(hub: Hub, company: Company) -> None:
    lines = company.grants.read_text().splitlines()
    company.grants.write_text("\n".join(line for line in lines if not line.startswith("reason")))
    assert await new_notices(hub) == set()


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {OPERATOR}"}])
async def test_only_the_operators_own_process_is_told(hub: Hub, headers: dict[str, str]) -> None:
    answer = await hub.internal.get("/internal/v1/grants", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
    assert (await hub.public.get("/internal/v1/grants", headers=headers)).status_code == 404


async def test_the_operator_s_process_is_told_which_servers_run_for_nobody_and_why(hub: Hub) -> None:
    assert (await word(hub))["closed"] == {}
    async with hub.parts.registry.changing() as changing:
        values = {"lifecycle": Lifecycle.RETIRED, "lifecycle_why": "secret why"}
        await changing.apply(Change("prod/presto", Actor("pat"), "retire", "secret why", values=values))
    assert (await word(hub))["closed"] == {"prod/presto": "it is retired: nobody can call it"}
