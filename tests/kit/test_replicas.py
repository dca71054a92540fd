"""Replicas of a server: where one may be, who is sent to which release, and what a session is called outside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import CallToolResult
from pydantic import ValidationError

from pegboard.core.address import Address, parse
from pegboard.core.bundle import BundledServer, Endpoint
from pegboard.core.notice import NOTICE_KEY
from pegboard.core.replicas import BUCKETS, mark_of, shares, without_mark
from pegboard.testing import InMemoryHub
from tests.kit.test_sessions import HELLO, Legacy

WHO = "spiffe://example.org/ns/servers/sa/presto"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:s/prod.presto/0f3a-1.sock", Address(path="s/prod.presto/0f3a-1.sock")),
        (f"{WHO}@10.2.3.4:8443", Address("10.2.3.4", 8443, WHO)),
        (f"{WHO}@presto-1.servers.svc:80", Address("presto-1.servers.svc", 80, WHO)),
        (f"{WHO}@[fd00::1]:8443", Address("fd00::1", 8443, WHO)),
    ],
)
def test_an_address_is_a_socket_or_a_port_and_who_must_be_there(text: str, address: Address) -> None:
    assert parse(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "unix:/run/hub.sock",
        "unix:../internal/internal.sock",
        "unix:s/../internal/internal.sock",
        "unix:s//x.sock",
        "unix:s/./x.sock",
        "unix:s/.hidden/x.sock",
        "unix:@abstract",
        "unix:s/x.sock\x00",
        "unix:s/x.sock\n",
        "10.2.3.4:8443",
        "spiffe://example.org@10.2.3.4:8443",
        f"{WHO}@10.2.3.4",
        f"{WHO}@10.2.3.4:0",
        f"{WHO}@10.2.3.4:65536",
        f"{WHO}@{WHO}@10.2.3.4:1",
        f"{WHO}@host name:1",
        f"{WHO}@%41:1",
        f"{WHO}@-host:1",
    ],
)
def test_what_is_no_address_stands_in_no_bundle(text: str) -> None:
    with pytest.raises(ValidationError):
        Endpoint(address=text, release="r")


@pytest.mark.parametrize(
    ("endpoints", "words"),
    [
        ([("unix:s/a/1", "r", 100), (f"{WHO}@a:1", "r", 100)], "on this machine or all behind ports"),
        ([("unix:s/a/1", "r", 100), ("unix:s/a/2", "r", 0)], "one percent"),
        ([("unix:s/a/1", "r", 50), ("unix:s/a/1", "q", 50)], "an address each"),
    ],
)
def test_replicas_of_a_server_agree(endpoints: list[tuple[str, str, int]], words: str) -> None:
    found = tuple(Endpoint(address=a, release=r, percent=p) for a, r, p in endpoints)
    with pytest.raises(ValidationError, match=words):
        BundledServer(server="prod/a", owner="o", support_channel="#o", release="r", endpoints=found)


@pytest.mark.parametrize(
    ("percents", "live", "expected"),
    [
        ({"a": 100}, "a", [("a", 100)]),
        ({"a": 90, "b": 10}, "a", [("b", 10), ("a", 100)]),
        ({"a": 0, "b": 100}, "b", [("b", 100)]),
        ({"a": 0, "b": 0}, "a", []),
        ({"b": 10}, "a", [("b", 100)]),
        ({"a": 0, "b": 10}, "a", [("b", 100)]),
        ({"a": 100, "b": 100}, "a", [("b", 100)]),
        ({"a": 80, "b": 10, "c": 10}, "a", [("b", 10), ("c", 20), ("a", 100)]),
        ({}, "a", []),
    ],
)
def test_buckets_of_releases(percents: dict[str, int], live: str, expected: list[tuple[str, int]]) -> None:
    assert list(shares(percents, live)) == expected


def _of(bucket: int, percents: dict[str, int], live: str) -> str:
    return next(share.release for share in shares(percents, live) if bucket < share.end)


@given(st.lists(st.integers(0, 100)), st.integers(0, BUCKETS - 1))
def test_while_the_percent_rises_nobody_moves_back(percents: list[int], bucket: int) -> None:
    at = [_of(bucket, {"live": 100 - percent, "next": percent}, "live") for percent in sorted(percents)]
    at.append(_of(bucket, {"live": 0, "next": 100}, "next"))
    assert at == sorted(at)


@given(st.dictionaries(st.text("abcd", min_size=1, max_size=2), st.integers(0, 100)), st.text("abcd", max_size=2))
def test_whatever_stands_in_a_bundle_each_bucket_is_somewhere_or_none_is(percents: dict[str, int], live: str) -> None:
    found = shares(percents, live)
    ends = [share.end for share in found]
    assert ends == sorted(set(ends))
    assert (ends[-1:] == [BUCKETS]) == any(percents.values())
    assert all(percents[share.release] > 0 for share in found)


def test_a_mark_is_taken_away_once_and_nothing_else_is() -> None:
    mark = mark_of("unix:s/prod.presto/1.sock")
    assert without_mark(f"{mark}.abc") == "abc"
    assert without_mark(f"{mark}.{mark}.abc") == f"{mark}.abc"
    for other in ("abc", "a.b", f"{mark[:-1]}.abc", f"{mark.upper()[:-1]}G.abc", f"x{mark}.abc", ""):
        assert without_mark(other) == other


@pytest.mark.anyio
async def test_a_session_is_found_by_its_own_id_whatever_replica_it_is_marked_with(hub: InMemoryHub) -> None:
    async with hub.http() as http:
        legacy = Legacy(hub, http)
        session = await legacy.open("ana")
        assert await legacy.lives("ana", f"{'0' * 12}.{session}")
        assert not await legacy.lives("fay", f"{'0' * 12}.{session}"), "it is another's still"
        assert not await legacy.lives("ana", f"nothing.{session}")
        opened = await legacy.send("ana", "initialize", f"{'0' * 12}.{'1' * 32}", **HELLO)
        assert opened.status_code == 404


def _meta(found: Any) -> dict[str, Any]:
    return found.meta or {}


@pytest.mark.anyio
@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_what_callers_are_told_is_beside_every_result_and_in_none(hub: InMemoryHub, era: str) -> None:
    told = "It ends on 1 May. Use prod/next."
    async with hub.client("ana", groups=["ads-eng"], era=era) as client:
        assert NOTICE_KEY not in _meta(await client.call_tool("echo", {"text": "hi"}))
        hub.standings.standing = replace(hub.standings.standing, notice=told)
        answers = [
            await client.list_tools(),
            await client.call_tool("echo", {"text": "hi"}),
            await client.call_tool("fail", {}),
            await client.call_tool("nothing", {}),
        ]
    assert [_meta(each).get(NOTICE_KEY) for each in answers] == [told] * 4
    results = [each for each in answers if isinstance(each, CallToolResult)]
    assert not any(told in block.text for each in results for block in each.content if block.type == "text")
