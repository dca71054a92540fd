"""Notifications: told at least once, in order of no one's, whatever fails, and with nothing in them to act with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pegboard_hub.notify import service
from pegboard_hub.notify.sending import Sender
from pegboard_hub.notify.service import Notifying, UnknownDestination
from pegboard_hub.notify.settings import Event, NotifySettings, open_notify
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.migrate import migrate
from pegboard_hub.telemetry.meter import HubMeter
from tests.hub.company import URL, beside
from tests.hub.sites import authority
from tests.hub.webhooks import KEY, OTHER_KEY, OTHER_SECRET, Hook, hook, notice, notify_file, settings
from tests.ports import free_port

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def database(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    found = Database(database_url) if database_url else Database.at(tmp_path / "hub.db")
    await migrate(found)
    yield found
    await found.close()


class Office:
    """The service on a clock of the test, with a receiver or two."""

    def __init__(self, database: Database, told: NotifySettings, clock: Clock, whole_s: float = 5.0) -> None:
        self.database, self.clock, self.meter = database, clock, HubMeter()
        self.sender = Sender(whole_s, clock)
        self.notifying = Notifying(database, told, URL, self.meter, sender=self.sender, clock=clock, monotonic=clock)

    async def tell(self, event: Event, *ids: str, **changes: Any) -> None:
        async with self.database.write() as connection:
            await self.notifying.note(connection, event, [notice(id_, **changes) for id_ in ids])

    async def look(self, after_s: float = 0.0) -> None:
        """Let time pass, look, and wait until everybody is served."""
        self.clock.now += after_s
        await self.notifying.look()
        await self.notifying.settled()

    @property
    def metrics(self) -> str:
        return self.meter.page().decode()


@pytest.fixture
async def receiver() -> AsyncIterator[Hook]:
    async with hook() as found:
        yield found


@pytest.fixture
async def office(database: Database, receiver: Hook, tmp_path: Path) -> AsyncIterator[Office]:
    found = Office(database, settings(tmp_path, one=receiver), Clock())
    yield found
    await found.notifying.close()


@pytest.mark.both_databases
async def test_what_happened_is_told_once_signed_and_as_the_page_says(office: Office, receiver: Hook) -> None:
    await office.tell("requested", "apr1")
    await office.look()
    await office.look(after_s=3600)
    [got] = receiver.got
    assert got.is_signed_with(KEY)
    assert got.document == {
        "type": "approval.requested",
        "timestamp": "2027-01-15T08:00:00.000Z",
        "data": {
            "count": 1,
            "requests": ["apr1"],
            "state": "requested",
            "server": "prod/presto",
            "tool": "drop_tables",
            "person": "ana",
            "person_name": "ana",
            "asks": "platform",
            "requested_at": "2027-01-15T08:00:00.000Z",
            "expires_at": "2027-01-15T09:00:00.000Z",
            "page": f"{URL}/approvals/apr1",
        },
    }
    assert got.headers["webhook-timestamp"] == str(int(NOW))
    assert got.headers["content-type"] == "application/json"
    [standing] = await office.notifying.standing()
    assert (standing.queue.waiting, standing.trouble) == (0, "")
    assert 'pegboard_hub_notifications_total{destination="one",outcome="delivered"} 1.0' in office.metrics


async def test_what_was_rolled_back_is_not_told(office: Office, receiver: Hook) -> None:
    async def fail() -> None:
        async with office.database.write() as connection:
            await office.notifying.note(connection, "requested", [notice()])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    await office.look()
    assert receiver.got == []


async def test_a_list_of_actions_is_told_as_one(office: Office, receiver: Hook) -> None:
    await office.tell("requested", *(f"apr{number}" for number in range(120)))
    await office.look()
    [got] = receiver.got
    assert got.document["data"]["count"] == 120
    assert len(got.document["data"]["requests"]) == 100


async def test_what_was_decided_alike_is_told_together_and_the_rest_apart(office: Office, receiver: Hook) -> None:
    async with office.database.write() as connection:
        decided = [
            notice("apr1", state="approved", decided_by="oli"),
            notice("apr2", state="rejected", decided_by="oli"),
            notice("apr3", state="approved", decided_by="oli"),
        ]
        await office.notifying.note(connection, "decided", decided)
    await office.look()
    said = {got.document["data"]["state"]: got.document["data"] for got in receiver.got}
    assert said["approved"]["requests"] == ["apr1", "apr3"]
    assert (said["rejected"]["requests"], said["rejected"]["decided_by"]) == (["apr2"], "oli")


async def test_each_destination_is_told_of_what_it_asked_for(database: Database, tmp_path: Path) -> None:
    async with hook() as everything, hook() as ads:
        told = settings(tmp_path, all=everything, ads=(ads, 'groups = ["ads-eng"]\nevents = ["requested"]'))
        office = Office(database, told, Clock())
        await office.tell("requested", "apr1", by="ads-eng", group="ads-eng")
        await office.tell("decided", "apr1", by="ads-eng", group="ads-eng", state="approved")
        await office.tell("requested", "apr2")
        await office.tell("requested", "apr3", by="caller", group="")
        await office.look()
        await office.notifying.close()
    assert len(everything.got) == 4
    assert [got.document["data"]["requests"] for got in ads.got] == [["apr1"]]
    assert {got.document["data"]["asks"] for got in everything.got} == {"ads-eng", "platform", "caller"}


@pytest.mark.both_databases
@pytest.mark.parametrize("answer", ["500 Oops", "429 Slow", "503 Busy", "302 Found", "404 Not Found", "400 Bad"])
async def test_what_is_not_taken_is_sent_again_with_the_same_id(office: Office, receiver: Hook, answer: str) -> None:
    receiver.answers = [f"HTTP/1.1 {answer}", "HTTP/1.1 200 OK"]
    await office.tell("requested", "apr1")
    await office.look()
    [standing] = await office.notifying.standing()
    assert standing.queue.waiting == 1
    assert answer[:3] in standing.trouble
    await office.look(after_s=1)
    assert len(receiver.got) == 1, "it is left alone for a while"
    await office.look(after_s=6)
    first, second = receiver.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert int(second.headers["webhook-timestamp"]) == int(first.headers["webhook-timestamp"]) + 7
    assert [got.is_signed_with(KEY) for got in receiver.got] == [True, True]
    assert (await office.notifying.standing())[0].trouble == ""


async def test_what_a_hub_that_died_had_not_sent_is_sent_by_the_next(office: Office, receiver: Hook) -> None:
    await office.tell("requested", "apr1")
    after = Notifying(office.database, NotifySettings(office.notifying._receivers), URL, clock=office.clock)
    await after.look()
    await after.settled()
    await after.close()
    assert len(receiver.got) == 1


async def test_what_was_taken_and_not_noted_is_sent_again_with_its_id(
    office: Office, receiver: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.tell("requested", "apr1")

    async def die(*_: object) -> None:
        raise RuntimeError("killed here")

    with monkeypatch.context() as patched:
        patched.setattr(service.store, "tried", die)
        await office.look()
    await office.look(after_s=301)
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 1
    assert len(receiver.got) == 2


async def test_how_long_it_wants_to_be_left_alone_is_heeded(office: Office, receiver: Hook) -> None:
    receiver.answers = ["HTTP/1.1 503 Busy\r\nretry-after: 600", "HTTP/1.1 200 OK"]
    await office.tell("requested", "apr1")
    await office.look()
    await office.look(after_s=599)
    assert len(receiver.got) == 1
    await office.look(after_s=2)
    assert len(receiver.got) == 2


@pytest.mark.parametrize("said", ["99999999999999999999", "-5", "Wed, 21 Oct 2099 07:28:00 GMT", "1e9", "²"])
async def test_it_cannot_keep_a_message_away_for_ever(office: Office, receiver: Hook, said: str) -> None:
    receiver.answers = [f"HTTP/1.1 503 Busy\r\nretry-after: {said}", "HTTP/1.1 200 OK"]
    await office.tell("requested", "apr1")
    await office.look()
    await office.look(after_s=3601)
    assert len(receiver.got) == 2


async def test_one_message_that_is_never_taken_holds_up_no_other(office: Office, receiver: Hook) -> None:
    receiver.answers = ["HTTP/1.1 400 Bad", "HTTP/1.1 200 OK"]
    await office.tell("requested", "apr1")
    await office.tell("requested", "apr2")
    await office.look()
    assert len(receiver.got) == 2
    assert (await office.notifying.standing())[0].queue.waiting == 1


async def test_a_destination_that_is_away_is_tried_with_one_message(office: Office, receiver: Hook) -> None:
    receiver.answers = ["HTTP/1.1 500 Oops"]
    for number in range(10):
        await office.tell("requested", f"apr{number}")
    await office.look()
    assert len(receiver.got) == 1
    await office.look(after_s=4)
    assert len(receiver.got) == 1
    await office.look(after_s=2)
    assert len(receiver.got) == 2
    receiver.answers = ["HTTP/1.1 200 OK"]
    await office.look(after_s=301)
    assert (await office.notifying.standing())[0].queue.waiting == 0
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 10


async def test_what_nobody_took_for_a_day_is_given_up_and_told(office: Office, receiver: Hook) -> None:
    receiver.answers = ["HTTP/1.1 500 Oops"]
    await office.tell("requested", "apr1")
    for _ in range(40):
        await office.look(after_s=3600)
    await office.notifying.tidy()
    [standing] = await office.notifying.standing()
    assert (standing.queue.waiting, standing.queue.given_up) == (0, 1)
    assert standing.trouble == "1 were given up in the last week"
    tries = len(receiver.got)
    assert 8 < tries < 30
    office.clock.now += 8 * 24 * 3600
    await office.notifying.tidy()
    assert (await office.notifying.standing())[0].trouble == ""
    assert 'outcome="given_up"} 1.0' in office.metrics


async def test_one_that_wants_nothing_more_gets_that_message_no_more(office: Office, receiver: Hook) -> None:
    receiver.answers = ["HTTP/1.1 410 Gone"]
    await office.tell("requested", "apr1")
    await office.look()
    assert (await office.notifying.standing())[0].queue.given_up == 1


@pytest.mark.both_databases
async def test_what_waits_for_a_destination_that_is_no_more_is_given_up(
    office: Office, receiver: Hook, tmp_path: Path
) -> None:
    await office.tell("requested", "apr1")
    after = Notifying(office.database, settings(tmp_path, other=receiver), URL, clock=office.clock)
    await after.tidy()
    await after.look()
    await after.settled()
    await after.close()
    assert receiver.got == []
    assert [each.queue.waiting for each in await after.standing()] == [0]


@pytest.mark.both_databases
async def test_of_too_many_the_oldest_are_given_up(
    office: Office, receiver: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_WAITING", 3)
    for number in range(5):
        office.clock.now += 1
        await office.tell("requested", f"apr{number}")
    await office.notifying.tidy()
    await office.look()
    assert {got.document["data"]["requests"][0] for got in receiver.got} == {"apr2", "apr3", "apr4"}


async def test_a_hub_that_does_not_lead_sends_nothing(database: Database, receiver: Hook, tmp_path: Path) -> None:
    leads, clock = [False], Clock()
    told = settings(tmp_path, one=receiver)
    notifying = Notifying(database, told, URL, leads=lambda: leads[0], clock=clock)
    async with database.write() as connection:
        await notifying.note(connection, "requested", [notice()])
    async with beside(notifying.run()):
        for _ in range(5):
            await notifying.settled()
        assert receiver.got == []
    leads[0] = True
    async with beside(notifying.run()):
        while not receiver.got:
            await asyncio.sleep(0.01)
    await notifying.close()


async def test_both_keys_sign_while_a_receiver_changes_over(database: Database, tmp_path: Path) -> None:
    (tmp_path / "old").write_text(OTHER_SECRET)
    (tmp_path / "old").chmod(0o600)
    async with hook() as receiver:
        office = Office(database, settings(tmp_path, one=(receiver, 'old_secret = { file = "old" }')), Clock())
        await office.tell("requested", "apr1")
        await office.look()
        await office.notifying.close()
    [got] = receiver.got
    assert [got.is_signed_with(key) for key in (KEY, OTHER_KEY, b"neither")] == [True, True, False]


@pytest.mark.parametrize(("trusts", "said"), [(False, "its certificate is not believed"), (True, "")])
async def test_https_is_spoken_with_whoever_has_a_certificate_that_is_believed(
    database: Database, tmp_path: Path, trusts: bool, said: str
) -> None:
    site, _ = authority(tmp_path, "localhost")
    async with hook(site) as receiver:
        trusted = 'certificates = "chain.pem"' if trusts else ""
        office = Office(database, settings(tmp_path, one=(receiver, trusted)), Clock())
        _, attempt = await office.notifying.test("one")
        await office.notifying.close()
    assert said in attempt.trouble
    assert len(receiver.got) == (0 if said else 1)


async def test_a_test_message_is_sent_now_and_kept_nowhere(office: Office, receiver: Hook) -> None:
    told, attempt = await office.notifying.test("one")
    assert (told.origin, attempt.trouble) == (f"http://localhost:{receiver.port}", "")
    [got] = receiver.got
    assert got.document["type"] == "pegboard.test"
    assert got.is_signed_with(KEY)
    await office.look(after_s=10)
    assert len(receiver.got) == 1
    with pytest.raises(UnknownDestination, match="there are one"):
        await office.notifying.test("two")


async def test_nobody_there_is_said_so(database: Database, tmp_path: Path) -> None:
    nobody = Hook(port=free_port())
    office = Office(database, settings(tmp_path, one=nobody), Clock())
    _, attempt = await office.notifying.test("one")
    assert attempt.trouble.startswith("it cannot be reached")
    await office.notifying.close()


@pytest.mark.parametrize("host", ["a..example", f"{'a' * 64}.example", "xn--.example"])
async def test_a_host_that_can_be_no_name_is_trouble_and_no_fault(
    database: Database, tmp_path: Path, host: str
) -> None:
    told = open_notify(notify_file(tmp_path, one=f'url = "https://{host}/s3cret"'), {})
    office = Office(database, told, Clock())
    _, attempt = await office.notifying.test("one")
    await office.notifying.close()
    assert attempt.trouble
    assert "s3cret" not in attempt.trouble


async def test_a_hub_that_leads_no_more_says_no_figures_of_what_waits(
    database: Database, receiver: Hook, tmp_path: Path
) -> None:
    leads, meter, clock = [True], HubMeter(), Clock()
    notifying = Notifying(database, settings(tmp_path, one=receiver), URL, meter, leads=lambda: leads[0], clock=clock)
    waiting = 'pegboard_hub_notifications_waiting{destination="one"}'
    async with beside(notifying.run()):
        async with asyncio.timeout(60):
            while waiting not in meter.page().decode():
                await asyncio.sleep(0.01)
            leads[0] = False
            while waiting in meter.page().decode():
                await asyncio.sleep(0.01)
    await notifying.close()
