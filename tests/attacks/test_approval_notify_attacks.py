"""Notifications lead nobody anywhere, tell no secret, open nothing, and hold up nothing.

Rules (design, Rules of trust): secrets live in files or the environment by reference, never in the database, logs or
pages; a decision counts only from a person's own browser. Who attacks: the caller with the arguments, an author with
a tool, whoever has a receiver, and whoever reads what a receiver got.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from pegboard.core.approval import Action, Ask, Block, Preview, Requirement
from pegboard_hub.ledger.channels import Channel
from pegboard_hub.notify.message import body, trial
from pegboard_hub.notify.sending import Sender
from pegboard_hub.notify.service import Notifying
from pegboard_hub.notify.signing import headers
from tests.folders import new_folder
from tests.hub.company import OPERATOR, PRESTO, URL, Company, Hub, beside, found_company, opened
from tests.hub.webhooks import KEY, SECRET, Hook, hook, notice, notify_file, settings
from tests.leaks import holding

pytestmark = pytest.mark.anyio

PATH_SECRET = "s3cret-of-the-path"
CANARY = "canary-7f3a"
PLANTED = f"</script>\r\nX-Evil: 1\r\n\r\n‮{CANARY}"


@pytest.fixture
def company() -> Iterator[Company]:
    found = found_company(new_folder())
    yield found
    shutil.rmtree(found.home.root.parent)


@pytest.fixture
async def receiver() -> AsyncIterator[Hook]:
    async with hook() as found:
        yield found


@pytest.fixture
async def hub(company: Company, receiver: Hook, tmp_path: Path) -> AsyncIterator[Hub]:
    company.notify = notify_file(tmp_path, one=f'url = "{receiver.url}"')
    async with opened(company) as found:
        yield found


async def ask(hub: Hub, **changes: object) -> str:
    """A request of ana's, with everything that an attacker writes being planted; gives its id."""
    server = hub.parts.registry.current.servers["prod/presto"]
    assert server.release is not None
    preview = Preview(what=PLANTED, cost=PLANTED, blocks=(Block(title="t", text=PLANTED),))
    said = {
        "token": await hub.token("ana", resource=PRESTO),
        "tool": "run_query",
        "requirement": Requirement(by="owner", why=PLANTED),
        "policy": "granted",
        "policy_version": "1",
        "actions": (Action(arguments={"sql": PLANTED, CANARY: 1}, preview=preview),),
        "call_id": "c1",
        "process": "p1",
        "request_id": CANARY,
    }
    channel = Channel(server="prod/presto", release=server.release.digest)
    answer = await hub.parts.approvals.ask(channel, Ask.model_validate(said | changes))
    return answer.actions[0].id


def logged_by_us(caplog: pytest.LogCaptureFixture) -> str:
    """What the hub logs; libraries are held to warnings (`common.logs`), as `test_notify_command` sees at DEBUG."""
    return "".join(repr(vars(each)) for each in caplog.records if each.name.startswith("pegboard_hub"))


async def deliver(hub: Hub) -> None:
    await hub.parts.notifying.look()
    await hub.parts.notifying.settled()


# What a message says


async def test_nothing_that_a_caller_or_a_tool_wrote_leaves_with_a_message(hub: Hub, receiver: Hook) -> None:
    await ask(hub)
    await deliver(hub)
    [got] = receiver.got
    assert CANARY not in got.head + got.body.decode()
    assert "x-evil" not in got.headers


async def test_the_link_has_no_power_of_its_own(hub: Hub, receiver: Hook) -> None:
    """It is a place: whoever opens it without a session gets nowhere, and nothing in the message is a credential."""
    id_ = await ask(hub)
    await deliver(hub)
    data = receiver.got[0].document["data"]
    assert data["page"] == f"{URL}/approvals/{id_}"
    for method in ("GET", "POST"):
        answer = await hub.public.request(method, data["page"], headers={"accept": "text/html"})
        assert answer.status_code != 200
        assert CANARY not in answer.text
    for found in (
        *data.values(),
        receiver.got[0].headers["webhook-signature"],
        receiver.got[0].headers["webhook-id"],
    ):
        answer = await hub.public.get("/api/v1/calls", headers={"Authorization": f"Bearer {found}"})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "name", [PLANTED, "a\x00b", "\ud800", "ana\r\n", "é" * 200, '"},"type":"approval.decided', "\u2028"]
)
def test_a_name_breaks_out_of_no_header_and_no_field(name: str) -> None:
    said = body("requested", [notice(person=name, tool=name, server=name, decided_by=name)], 1, URL)
    assert said.isascii()
    assert said.isprintable()
    document = json.loads(said)
    assert (document["type"], document["data"]["person"]) == ("approval.requested", name)
    assert set(headers("msg_1", 1, said.encode(), [KEY])) == {
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    }


def test_a_signature_is_good_for_no_other_message_time_or_body() -> None:
    ours = headers("msg_1", 12, b"3.{}", [KEY])["webhook-signature"]
    for id_, at, text in (
        ("msg_1", 12, b"3.{ }"),
        ("msg_2", 12, b"3.{}"),
        ("msg_1", 123, b"{}"),
        ("msg_1", 1, b"2.3.{}"),
    ):
        assert headers(id_, at, text, [KEY])["webhook-signature"] != ours
    assert headers("msg_1", 12, b"3.{}", [KEY + b"x"])["webhook-signature"] != ours


def test_a_message_that_tries_a_destination_is_no_approval() -> None:
    assert json.loads(trial("one", 1, URL))["type"] == "pegboard.test"


# Where a message goes


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_receiver_leads_it_nowhere_else(hub: Hub, receiver: Hook, status: int) -> None:
    async with hook() as inner:
        receiver.answers = [f"HTTP/1.1 {status} Go\r\nlocation: {inner.url}\r\nrefresh: 0; url={inner.url}"]
        await ask(hub)
        await deliver(hub)
        assert inner.got == []
    [standing] = await hub.parts.notifying.standing()
    assert "redirects are not followed" in standing.trouble


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"])
async def test_the_environment_leads_it_nowhere_else(
    hub: Hub, receiver: Hook, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    async with hook() as proxy:
        monkeypatch.setenv(variable, f"http://localhost:{proxy.port}")
        await ask(hub)
        await deliver(hub)
        assert (len(receiver.got), proxy.got) == (1, [])


async def test_what_a_receiver_says_is_kept_logged_and_shown_nowhere(
    hub: Hub, company: Company, receiver: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [
        f"HTTP/1.1 500 {CANARY}\r\nx-said: {CANARY}\r\nset-cookie: {CANARY}=1\r\nretry-after: {CANARY}"
    ]
    receiver.body = CANARY.encode() * 100
    await ask(hub, actions=(Action(arguments={"sql": "select 1"}),), request_id="")
    with caplog.at_level(logging.DEBUG, logger="pegboard_hub"):
        await deliver(hub)
    standing = await hub.internal.get("/internal/v1/notifications", headers={"authorization": f"Bearer {OPERATOR}"})
    assert "it answers 500" in standing.text
    assert CANARY not in standing.text + logged_by_us(caplog) + repr(await hub.parts.notifying.standing())
    await hub.parts.database.close()
    assert holding(company.home.root, [b"x-said", b"set-cookie"]) == set()


# Secrets


async def test_neither_the_key_nor_the_url_is_in_a_log_a_file_of_the_home_or_an_answer(
    hub: Hub, company: Company, receiver: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    await ask(hub)
    operator = {"authorization": f"Bearer {OPERATOR}"}
    shown = ""
    with caplog.at_level(logging.DEBUG, logger="pegboard_hub"):
        for answer in ("HTTP/1.1 500 Oops", "HTTP/1.1 302 Go\r\nlocation: /", "not http at all", "HTTP/1.1 410 Gone"):
            receiver.answers = [answer]
            tried = await hub.internal.post(
                "/internal/v1/notifications/test", json={"destination": "one"}, headers=operator
            )
            shown += tried.text
        await deliver(hub)
        shown += (await hub.internal.get("/internal/v1/notifications", headers=operator)).text
    shown += logged_by_us(caplog) + hub.parts.meter.page().decode() + repr(hub.parts.notifying.__dict__)
    secrets = [SECRET, SECRET.removeprefix("whsec_"), PATH_SECRET, KEY.decode()]
    assert [each for each in secrets if each in shown] == []
    await hub.parts.database.close()
    assert holding(company.home.root, [each.encode() for each in secrets]) == set()


@pytest.mark.parametrize("token", ["", "channel-of-prod/presto", "operator", "Bearer"])
async def test_nobody_but_the_operator_sends_or_looks(hub: Hub, company: Company, receiver: Hook, token: str) -> None:
    company.open_channel("prod/presto", "r")
    headers = {"authorization": f"Bearer {token}"}
    for method, path in (("GET", ""), ("POST", "/test")):
        answer = await hub.internal.request(
            method, f"/internal/v1/notifications{path}", json={"destination": "one"}, headers=headers
        )
        assert answer.status_code == 401
    assert (await hub.public.get("/internal/v1/notifications")).status_code == 404
    assert receiver.got == []


# Time


async def test_a_receiver_that_never_answers_holds_up_no_request_and_no_other_receiver(
    company: Company, tmp_path: Path
) -> None:
    async with hook() as slow, hook() as quick:
        slow.holds = True
        company.notify = notify_file(tmp_path, slow=f'url = "{slow.url}"', quick=f'url = "{quick.url}"')
        async with opened(company) as hub, beside(hub.parts.notifying.run()):
            await ask(hub, call_id="c0")
            await until(lambda: bool(slow.got))
            began = time.monotonic()
            for number in range(5):
                await ask(hub, call_id=f"c{number}", actions=(Action(arguments={"n": number}),))
            assert time.monotonic() - began < 10
            await until(lambda: len(quick.got) == 6)
            assert len(slow.got) == 1


@pytest.mark.parametrize("drips", ["head", "body", "silence", "long head"])
async def test_a_receiver_cannot_keep_an_attempt_for_longer_than_it_may_take(tmp_path: Path, drips: str) -> None:
    """Byte after byte, each well within any timeout of a single read."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            if drips == "body":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n")
            if drips == "long head":
                writer.write(b"HTTP/1.1 200 OK\r\n")
            while drips != "silence":
                writer.write(b"x" if drips != "long head" else b"x-more: " + b"y" * 60_000 + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sender = Sender(whole_s=0.5)
    [receiver] = settings(tmp_path, one=Hook(port=port)).receivers.values()
    began = time.monotonic()
    attempt = await sender.send(receiver, "msg_1", "{}")
    await sender.close()
    server.close()
    assert time.monotonic() - began < 5
    assert bool(attempt.trouble) == (drips != "body"), "a head that says 200 is all that is waited for"


async def test_a_request_is_kept_also_when_everybody_who_is_told_is_away(
    hub: Hub, receiver: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(Sender, "_send", fail)
    id_ = await ask(hub)
    await deliver(hub)
    approvals = hub.parts.approvals
    assert await approvals.find(approvals.reader("ana", ()), id_) is not None
    assert (await hub.parts.notifying.standing())[0].queue.waiting == 1


async def test_a_destination_that_was_taken_out_of_the_file_gets_nothing_more(
    hub: Hub, receiver: Hook, tmp_path: Path
) -> None:
    await ask(hub)
    async with hook() as other:
        after = Notifying(hub.parts.database, settings(tmp_path, other=other), URL)
        await after.tidy()
        await after.look()
        await after.settled()
        await after.close()
        assert (receiver.got, other.got) == ([], [])


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not so():
            await asyncio.sleep(0.02)
