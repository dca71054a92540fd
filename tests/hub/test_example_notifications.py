"""`examples/notifications/receive.py` takes what Pegboard sends, once, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from examples.notifications.receive import text, verify
from pegboard_hub.notify.message import body, trial
from pegboard_hub.notify.sending import Sender
from pegboard_hub.notify.settings import open_notify
from pegboard_hub.notify.signing import headers
from tests.hub.company import URL
from tests.hub.webhooks import KEY, OTHER_KEY, OTHER_SECRET, SECRET, notice, notify_file
from tests.ports import free_port

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "notifications" / "receive.py"
NOW = 1_800_000_000


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The example as a process: its port, and what it prints."""
    port, said = free_port(), tmp_path / "said"
    with said.open("wb") as out:
        command = [sys.executable, "-I", str(EXAMPLE), str(port)]
        process = subprocess.Popen(command, env={**os.environ, "WEBHOOK_SECRET": SECRET}, stdout=out, stderr=out)
    yield port, said
    process.kill()
    process.wait(60)


async def test_it_prints_what_came_and_a_repeat_once(receiver: tuple[int, Path], tmp_path: Path) -> None:
    port, said = receiver
    told = open_notify(notify_file(tmp_path, chat=f'url = "http://localhost:{port}/"'), {}).receivers["chat"]
    sender = Sender()
    async with asyncio.timeout(60):
        while (await sender.send(told, "msg_1", trial("chat", NOW * 1000, URL))).trouble:
            await asyncio.sleep(0.05)
    several = body("requested", [notice("apr1"), notice("apr2")], NOW * 1000, URL)
    for id_, message in (("msg_1", trial("chat", NOW * 1000, URL)), ("msg_2", several), ("msg_2", several)):
        assert (await sender.send(told, id_, message)).trouble == ""
    await sender.close()
    async with asyncio.timeout(60):
        while len(said.read_text().splitlines()) < 2:
            await asyncio.sleep(0.05)
    assert said.read_text().splitlines() == [
        f"a test for chat: {URL}/approvals",
        f"ana asks for a yes of platform: drop_tables of prod/presto (2 actions): {URL}/approvals/apr1",
    ]
    async with httpx2.AsyncClient() as client:
        for content, status in ((b"{}", 401), (b"x" * 70_000, 413)):
            answer = await client.post(f"http://localhost:{port}/", content=content)
            assert answer.status_code == status


def test_it_believes_neither_another_key_nor_another_body_nor_an_old_message() -> None:
    signed = headers("msg_1", NOW, b"{}", [KEY])
    assert verify(signed, b"{}", SECRET, NOW)
    assert verify(headers("msg_1", NOW, b"{}", [OTHER_KEY, KEY]), b"{}", SECRET, NOW + 299)
    assert not verify(signed, b"{}", OTHER_SECRET, NOW)
    assert not verify(signed, b"{ }", SECRET, NOW)
    assert not verify(signed, b"{}", SECRET, NOW + 301)
    assert not verify(signed, b"{}", SECRET, NOW - 301)
    assert not verify(signed | {"webhook-id": "msg_2"}, b"{}", SECRET, NOW)
    assert not verify({}, b"{}", SECRET, NOW)


@pytest.mark.parametrize("event", ["requested", "expiring", "decided", "unknown"])
def test_it_has_words_for_everything_that_is_told(event: str) -> None:
    said = body(event, [notice(decided_by="oli", tool="a\u202eb")], NOW * 1000, URL)  # type: ignore[arg-type]
    shown = text(json.loads(said))
    assert "approval." not in shown
    assert shown.isprintable()
    assert shown.endswith(f"{URL}/approvals/apr1")
