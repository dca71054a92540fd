"""What dev/scratch promises."""

import pytest

from pegboard.core.record import Outcome
from pegboard.testing import InMemoryHub

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_echo_gives_back_the_text_unchanged(hub: InMemoryHub, era: str) -> None:
    text = "grüße, 世界\n\t<b>&amp;</b>"
    async with hub.client("sam", groups=["search-eng"], surface="cli", era=era) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["echo", "note"]
        result = await client.call_tool("echo", {"text": text})
    assert not result.is_error
    assert result.structured_content == {"result": text}


async def test_a_call_is_recorded_with_its_outcome(hub: InMemoryHub) -> None:
    async with hub.client("ana", groups=["ads-eng"], surface="cli") as client:
        await client.call_tool("echo", {"text": "hello"})
    assert [record.kind for record in hub.records] == ["intent", "outcome"]
    outcome = hub.records[-1]
    assert isinstance(outcome, Outcome)
    assert outcome.status == "ok"


@pytest.mark.parametrize(
    ("groups", "surface"),
    [pytest.param([], "cli", id="no group"), pytest.param(["ads-eng"], "chat", id="chat surface")],
)
@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_others_are_refused_before_anything_is_listed(
    hub: InMemoryHub, groups: list[str], surface: str, era: str
) -> None:
    with pytest.raises(Exception, match=r"."):
        async with hub.client("gus", groups=groups, surface=surface, era=era) as client:
            await client.list_tools()
    assert [record.kind for record in hub.records] == ["denial"] * len(hub.records)
    assert hub.records


async def test_a_note_is_kept_and_counted(hub: InMemoryHub) -> None:
    async with hub.client("sam", groups=["search-eng"], surface="cli") as client:
        first, second = [(await client.call_tool("note", {"text": text})).structured_content for text in ("a", "b")]
    assert first is not None
    assert second is not None
    assert int(second["result"].split()[0]) == int(first["result"].split()[0]) + 1
