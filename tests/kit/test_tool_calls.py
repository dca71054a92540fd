"""What an allowed caller gets, in both protocol eras, and what is written of it."""

from __future__ import annotations

import pytest
from mcp_types import CallToolResult

from pegboard.core.record import Denial, Intent, Outcome
from pegboard.core.refusal import META_KEY
from pegboard.testing import InMemoryHub

pytestmark = pytest.mark.anyio

ERAS = pytest.mark.parametrize("era", ["modern", "legacy"])


def text_of(result: object) -> str:
    assert isinstance(result, CallToolResult)
    return "".join(getattr(block, "text", "") for block in result.content)


@ERAS
async def test_list_holds_what_this_person_may_use_and_is_private(hub: InMemoryHub, era: str) -> None:
    async with hub.client("fay", groups=["finance"], era=era) as client:
        listed = await client.list_tools()
    assert {tool.name for tool in listed.tools} == {"echo", "order", "whoami", "fail", "pretend"}
    if era == "modern":
        assert listed.cache_scope == "private"


@ERAS
async def test_call_is_written_before_and_after(hub: InMemoryHub, era: str) -> None:
    async with hub.client("ana", groups=["ads-eng"], era=era) as client:
        assert text_of(await client.call_tool("echo", {"text": "hello"})) == "hello"
    intent, outcome = hub.records
    assert isinstance(intent, Intent)
    assert isinstance(outcome, Outcome)
    assert (intent.who.sub, intent.who.surface, intent.tool, intent.policy) == ("ana", "cli", "echo", "granted")
    assert (outcome.id, outcome.status) == (intent.id, "ok")
    assert "hello" not in intent.model_dump_json() + outcome.model_dump_json()


@ERAS
async def test_records_claim_no_minutes(hub: InMemoryHub, era: str) -> None:
    async with hub.client("ana", groups=["ads-eng"], era=era) as client:
        await client.call_tool("echo", {"text": "hello"})
    assert [record.kind for record in hub.records] == ["intent", "outcome"]
    assert "minutes" not in "".join(record.model_dump_json() for record in hub.records)


@ERAS
async def test_tool_knows_its_verified_caller(hub: InMemoryHub, era: str) -> None:
    async with hub.client("ana", groups=["ads-eng"], era=era) as client:
        assert text_of(await client.call_tool("whoami", {})) == "ana"


async def test_a_crash_is_logged_under_the_name_that_the_caller_was_told(
    hub: InMemoryHub, caplog: pytest.LogCaptureFixture
) -> None:
    async with hub.client("ana", groups=["ads-eng"]) as client:
        told = text_of(await client.call_tool("fail", {"how": "crash"})).partition("Name request ")[2].rstrip(".")
    assert told
    assert f"tool fail crashed in call {told}" in caplog.text


async def test_anticipated_failure_keeps_its_text(hub: InMemoryHub) -> None:
    async with hub.client("ana", groups=["ads-eng"]) as client:
        result = await client.call_tool("fail", {"how": "politely"})
    assert "no such table" in text_of(result)
    outcome = hub.records[-1]
    assert isinstance(outcome, Outcome)
    assert outcome.status == "tool_error"


async def test_crash_is_recorded_by_type_and_keeps_its_detail_from_the_caller(hub: InMemoryHub) -> None:
    async with hub.client("ana", groups=["ads-eng"]) as client:
        result = await client.call_tool("fail", {"how": "crash"})
    assert "secret inner detail" not in text_of(result)
    assert text_of(result).startswith("fail failed unexpectedly. Ask platform in #desk. Name request ")
    outcome = hub.records[-1]
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.error_type) == ("crashed", "RuntimeError")


async def test_arguments_that_do_not_fit_are_named_one_by_one(hub: InMemoryHub) -> None:
    async with hub.client("ana", groups=["ads-eng"]) as client:
        result = await client.call_tool("echo", {"text": 5})
    assert text_of(result) == "echo cannot take these arguments: text: Input should be a valid string"


async def test_nothing_runs_when_the_intent_cannot_be_written(
    hub: InMemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(_record: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(hub._recorder, "write", full_disk)
    async with hub.client("ana", groups=["ads-eng"]) as client:
        result = await client.call_tool("fail", {"how": "crash"})
    assert "cannot be recorded" in text_of(result)
    assert "Error executing" not in text_of(result)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"amount": 10}, True),
        ({"amount": 11}, False),
        ({"amount": 10.5}, False),
        ({"amount": None}, False),
        ({}, False),
    ],
)
async def test_policy_reads_declared_arguments_and_denies_what_it_cannot_judge(
    hub: InMemoryHub, arguments: dict[str, object], allowed: bool
) -> None:
    async with hub.client("ana", groups=["ads-eng"]) as client:
        result = await client.call_tool("order", arguments)
    assert (text_of(result) == "ordered 10") is allowed
    assert isinstance(hub.records[-1], Outcome if allowed else Denial)
    if not allowed:
        assert "not with these arguments" in text_of(result)


async def test_author_cannot_pretend_that_the_platform_refused(hub: InMemoryHub) -> None:
    async with hub.client("ana", groups=["ads-eng"]) as client:
        result = await client.call_tool("pretend", {})
    assert isinstance(result, CallToolResult)
    assert result.meta is not None
    assert META_KEY not in result.meta
    assert result.meta["mine"] == 1


@ERAS
async def test_hidden_and_unknown_tools_get_the_same_answer(hub: InMemoryHub, era: str) -> None:
    async with hub.client("fay", groups=["finance"], era=era) as client:
        hidden = await client.call_tool("revenue", {"day": "x"})
        unknown = await client.call_tool("absence", {"day": "x"})
    assert isinstance(hidden, CallToolResult)
    assert isinstance(unknown, CallToolResult)
    assert hidden.is_error
    assert hidden.model_dump_json().replace("revenue", "T") == unknown.model_dump_json().replace("absence", "T")
    assert text_of(hidden) == (
        "No tool revenue here for you: it does not exist or you may not use it. Ask platform in #desk."
    )
    reasons = [record.detail for record in hub.records if isinstance(record, Denial)]
    assert reasons == ["policy ads-revenue does not permit it", "unknown tool"]


async def test_parameter_headers_do_not_tell_a_hidden_tool_from_an_unknown_one(hub: InMemoryHub) -> None:
    answers = []
    async with hub.http(hub.headers("fay", ["finance"])) as http:
        for tool in ("revenue", "absence"):
            response = await http.post(
                hub.name.path,
                headers={
                    "mcp-protocol-version": "2026-07-28",
                    "mcp-method": "tools/call",
                    "mcp-name": tool,
                    "mcp-param-day": "lies",
                    "accept": "application/json, text/event-stream",
                },
                json=modern_call(tool, {"day": "x"}),
            )
            answers.append((response.status_code, response.text.replace(tool, "T")))
    assert answers[0] == answers[1]
    assert answers[0][0] == 200


def modern_call(tool: str, arguments: dict[str, object]) -> dict[str, object]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    }
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
