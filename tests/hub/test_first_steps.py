"""The commands a newcomer is shown: about what is there, as people who may."""

from __future__ import annotations

import pytest

from pegboard.core.checks import load_toml
from pegboard.core.names import ServerName
from pegboard_hub.common.settings import DEMO
from pegboard_hub.identity.directory import DemoDirectory
from pegboard_hub.registry.first_steps import first_commands
from pegboard_hub.registry.model import Access
from tests.hub.company import Company, opened

PEOPLE = load_toml(DemoDirectory, (DEMO / "directory.toml").read_text(), "directory.toml")
ONE, TWO = ServerName("prod", "one"), ServerName("dev", "two")


@pytest.mark.parametrize(
    ("servers", "shown"),
    [
        (
            {TWO: Access(("ads-eng",), ("cli",)), ONE: Access(("search-eng",), ("chat", "cli"))},
            ("servers --as sam", "tools prod/one --as sam", "explain --server prod/one --as gus"),
        ),
        (
            {ONE: Access(("finance",), ("chat",))},
            (
                "servers --as fay --surface chat",
                "tools prod/one --as fay --surface chat",
                "explain --server prod/one --as gus --surface chat",
            ),
        ),
        (
            {ONE: Access(("platform",), ("bot",), ("#data-help",))},
            (
                "servers --as pat --surface bot --channel '#data-help'",
                "tools prod/one --as pat --surface bot --channel '#data-help'",
                "explain --server prod/one --as gus --surface bot --channel '#data-help'",
            ),
        ),
        (
            {ONE: Access(("nobody-is-in",), ("cli",)), TWO: Access(("ads-eng",), ("cli",))},
            ("servers --as ana", "tools dev/two --as ana", "explain --server dev/two --as gus"),
        ),
        (
            {ONE: Access(("nobody-is-in",), ("cli",))},
            ("whoami --as ana", "servers --as ana", "explain --server prod/one --as ana"),
        ),
        ({}, ("whoami --as ana", "servers --as ana")),
    ],
)
def test_the_first_server_that_somebody_may_use_is_shown(
    servers: dict[ServerName, Access], shown: tuple[str, ...]
) -> None:
    assert first_commands(servers, PEOPLE) == shown


@pytest.mark.anyio
async def test_the_home_page_shows_no_server_that_does_not_exist(company: Company) -> None:
    text = company.grants.read_text()
    company.grants.write_text(text[text.index('[servers."dev/scratch"]') :])
    async with opened(company) as hub:
        page = await hub.page()
    assert "pegboard tools dev/scratch --as ana" in page
    assert "presto" not in page
