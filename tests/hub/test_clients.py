"""Clients make themselves known, are used, forgotten, decided on and consented to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from pegboard.core.client_configs import CLIENTS, ClientConfig
from pegboard_hub.identity.clients import service
from pegboard_hub.identity.clients.errors import DecisionRefused, RegistrationRefused
from pegboard_hub.identity.clients.metadata import ClientMetadata
from pegboard_hub.identity.clients.model import Client, ClientKind, Standing, clients, software_of
from pegboard_hub.identity.clients.rules import ClientRules, RegisteredClient
from pegboard_hub.identity.clients.service import Clients
from pegboard_hub.identity.connections.model import connections, refresh_tokens
from pegboard_hub.identity.revocations import Revocations
from pegboard_hub.identity.sessions.model import sessions
from pegboard_hub.storage.database import Database
from tests.hub.company import begin_with_the_newest_schema

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

EDITOR = {"client_name": "Editor", "redirect_uris": ["cursor://anysphere.cursor-mcp/oauth/callback"]}
TERMINAL = {"client_name": "Terminal", "redirect_uris": ["http://127.0.0.1:4321/callback"]}
DOCUMENT = "https://app.example.com/client.json"
BOT = RegisteredClient("Ads bot", ("https://bot.example.com/cb",), "ide", "s3cret")


class FakeDocuments:
    """Documents as another site would serve them."""

    def __init__(self) -> None:
        self.there: dict[str, ClientMetadata] = {DOCUMENT: ClientMetadata("App", ("https://app.example.com/cb",))}

    def covers(self, client_id: str) -> bool:
        return client_id.startswith("https://")

    async def get(self, url: str) -> ClientMetadata | None:
        return self.there.get(url)


@dataclass
class Desk:
    """Clients on a database of their own, with a clock that stands until it is moved."""

    database: Database
    rules: ClientRules = field(default_factory=lambda: ClientRules(registered={"ads-bot": BOT}))
    documents: FakeDocuments = field(default_factory=FakeDocuments)
    now: float = 1_800_000_000.0
    ended: list[tuple[list[str], str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.revocations = Revocations(self.database, self.clock)
        self.clients = self.opened(self.rules)

    def clock(self) -> float:
        return self.now

    def opened(self, rules: ClientRules) -> Clients:
        return Clients(self.database, rules, self.revocations, self.documents, self.end, self.clock)

    async def end(self, client_ids: list[str], why: str) -> None:
        self.ended.append((client_ids, why))

    async def connect(self, client_id: str, sub: str = "alice", name: str = "Alice") -> None:
        """Let a person connect a client, as sign-in does."""
        now = int(self.now * 1000)
        sid = f"sid-{sub}-{client_id}"[:32]
        nothing: dict[str, Any] = dict.fromkeys((column.name for column in sessions.c if not column.nullable), "") | {
            "groups": []
        }
        times = dict.fromkeys(("opened_at_ms", "authenticated_at_ms", "facts_at_ms", "seen_at_ms"), now)
        row = nothing | times | {"sid": sid, "secret_digest": sid, "sub": sub, "name": name}
        connection = {
            "connection": sid,
            "sid": sid,
            "sub": sub,
            "client_id": client_id,
            "resource": "",
            "scope": "tools",
        }
        async with self.database.write() as db:
            await db.execute(insert(sessions).values(row | {"expires_at_ms": now + 3_600_000}))
            await db.execute(insert(connections).values(connection | {"opened_at_ms": now, "seen_at_ms": now}))
            token = {"digest": sid, "connection": sid, "jti": sid, "issued_at_ms": now, "expires_at_ms": now}
            await db.execute(insert(refresh_tokens).values(token))
        await self.clients.used(client_id)

    async def standing(self, client_id: str) -> Standing:
        found = await self.clients.get(client_id)
        assert found is not None
        return found.standing

    async def ids(self) -> set[str]:
        async with self.database.read() as db:
            return set((await db.execute(select(clients.c.client_id))).scalars())


@pytest.fixture
async def desk(tmp_path: Path, database_url: str) -> AsyncIterator[Desk]:
    if not database_url:
        await begin_with_the_newest_schema(tmp_path / "hub.db")
    database = Database(database_url) if database_url else Database.at(tmp_path / "hub.db")
    yield Desk(database)
    await database.close()


async def test_a_client_that_registers_is_public_and_asks(desk: Desk) -> None:
    client = await desk.clients.register(EDITOR | {"token_endpoint_auth_method": "client_secret_post"})
    assert client == await desk.clients.get(client.client_id)
    assert (client.kind, client.secret, client.any_resource) == (ClientKind.DYNAMIC, None, False)
    assert client.asks
    assert not client.client_id.startswith("https:")


async def test_registering_again_gives_the_same_client_whatever_the_port(desk: Desk) -> None:
    first = await desk.clients.register(TERMINAL)
    other_port = TERMINAL | {"redirect_uris": ["http://127.0.0.1:9999/callback"]}
    assert (await desk.clients.register(other_port)).client_id == first.client_id
    assert len(await desk.ids()) == 1
    other_name = await desk.clients.register(TERMINAL | {"client_name": "Another"})
    assert other_name.software != first.software


async def test_the_surface_follows_from_where_answers_go(desk: Desk) -> None:
    assert (await desk.clients.register(EDITOR)).surface == "ide"
    assert (await desk.clients.register(TERMINAL)).surface == "cli"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"redirect_uris": None}, "invalid_redirect_uri"),
        ({"redirect_uris": "https://app.example.com"}, "invalid_redirect_uri"),
        ({"redirect_uris": [7]}, "invalid_redirect_uri"),
        ({"grant_types": ["client_credentials"]}, "invalid_client_metadata"),
        ({"grant_types": "authorization_code"}, "invalid_client_metadata"),
        ({"response_types": ["token"]}, "invalid_client_metadata"),
    ],
)
async def test_a_registration_that_cannot_be_granted_says_why(desk: Desk, changed: dict[str, Any], code: str) -> None:
    with pytest.raises(RegistrationRefused) as refused:
        await desk.clients.register(EDITOR | changed)
    assert refused.value.code == code
    assert refused.value.status == 400
    assert not await desk.ids()


async def test_registration_can_be_switched_off_and_leaves_those_that_are_there(desk: Desk) -> None:
    known = await desk.clients.register(EDITOR)
    closed = desk.opened(ClientRules(dynamic_registration=False))
    with pytest.raises(RegistrationRefused, match="ask the operator") as refused:
        await closed.register(EDITOR)
    assert (refused.value.status, refused.value.code) == (403, "access_denied")
    assert await closed.get(known.client_id)


async def test_a_flood_keeps_out_only_clients_that_were_unknown(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    known = await desk.clients.register(EDITOR)
    for number in range(service.NEW_PER_MINUTE - 1):
        await desk.clients.register(TERMINAL | {"client_name": f"Flood {number}"})
    with pytest.raises(RegistrationRefused) as refused:
        await desk.clients.register(TERMINAL | {"client_name": "One more"})
    assert (refused.value.status, refused.value.code) == (429, "temporarily_unavailable")
    assert refused.value.retry_after_s
    assert (await desk.clients.register(EDITOR)).client_id == known.client_id
    desk.now += refused.value.retry_after_s
    assert await desk.clients.register(TERMINAL | {"client_name": "One more"})


async def test_past_the_most_the_oldest_unused_makes_room(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_UNUSED", 2)
    kept = await desk.clients.register(TERMINAL | {"client_name": "Used"})
    await desk.clients.used(kept.client_id)
    made = []
    for name in ("One", "Two", "Three"):
        desk.now += 1
        made.append((await desk.clients.register(TERMINAL | {"client_name": name})).client_id)
    assert await desk.ids() == {kept.client_id, *made[1:]}


async def test_unused_clients_are_forgotten_after_a_day_and_used_ones_are_kept(desk: Desk) -> None:
    used, unused = await desk.clients.register(EDITOR), await desk.clients.register(TERMINAL)
    await desk.clients.used(used.client_id)
    desk.now += 24 * 3600 - 1
    await desk.clients.tidy()
    assert await desk.ids() == {used.client_id, unused.client_id}
    desk.now += 2
    await desk.clients.tidy()
    assert await desk.ids() == {used.client_id}
    assert await desk.clients.get(unused.client_id) is None
    assert (await desk.clients.register(TERMINAL)).client_id == unused.client_id


async def test_use_is_noted_once_a_minute(desk: Desk) -> None:
    client = await desk.clients.register(EDITOR)
    seen = []
    for seconds in (0, 30, 31):
        desk.now += seconds
        await desk.clients.used(client.client_id)
        async with desk.database.read() as db:
            seen.append(await db.scalar(select(clients.c.seen_at_ms)))
    assert seen[0] == seen[1] < seen[2] == int(desk.now * 1000)


async def test_the_operators_own_clients_are_as_the_settings_say(desk: Desk) -> None:
    bot, cli = await desk.clients.get("ads-bot"), await desk.clients.get(service.COMMAND.client_id)
    assert bot is not None
    assert cli is not None
    assert (bot.kind, bot.surface, bot.secret) == (ClientKind.REGISTERED, "ide", "s3cret")
    assert "s3cret" not in repr(desk.rules)
    assert not bot.asks
    assert (cli.kind, cli.any_resource, cli.asks) == (ClientKind.FIRST_PARTY, True, False)


@pytest.mark.parametrize("client_id", ["", "nobody", "x" * 513, "dyn-", "https://unknown.example.com/x"])
async def test_there_is_no_other_client(desk: Desk, client_id: str) -> None:
    assert await desk.clients.get(client_id) is None


async def test_a_client_of_a_document_follows_it(desk: Desk) -> None:
    found = await desk.clients.get(DOCUMENT)
    assert found is not None
    assert (found.kind, found.name, found.software) == (ClientKind.DOCUMENT, "App", DOCUMENT)
    desk.documents.there[DOCUMENT] = ClientMetadata("App 2", ("http://127.0.0.1/cb",))
    changed = await desk.clients.get(DOCUMENT)
    assert changed is not None
    assert (changed.name, changed.surface) == ("App 2", "cli")
    del desk.documents.there[DOCUMENT]
    assert await desk.clients.get(DOCUMENT) is None


async def test_an_approved_client_does_not_ask_and_has_the_surface_decided(desk: Desk) -> None:
    client = await desk.clients.register(EDITOR)
    await desk.clients.decide(client.software, Standing.APPROVED, "ide", "olga", "the company's editor")
    found = await desk.clients.get(client.client_id)
    assert found is not None
    assert (found.asks, found.surface) == (False, "ide")
    listed = {one.software: one for one in (await desk.clients.listed()).software}
    decided = listed[client.software].decided
    assert decided is not None
    assert (decided.by, decided.why) == ("olga", "the company's editor")
    await desk.clients.decide(client.software, Standing.UNKNOWN, None, "olga", "by mistake")
    assert (await desk.clients.register(EDITOR)).asks


async def test_a_block_voids_what_the_client_has_and_bars_it(desk: Desk) -> None:
    client = await desk.clients.register(EDITOR)
    await desk.connect(client.client_id)
    await desk.clients.decide(client.software, Standing.BLOCKED, None, "olga", "leaks prompts")
    assert await desk.standing(client.client_id) is Standing.BLOCKED
    assert desk.revocations.current.clients == {client.client_id}
    assert desk.ended == [([client.client_id], "client blocked")]
    with pytest.raises(RegistrationRefused, match="blocked"):
        await desk.clients.register(EDITOR)


async def test_after_a_block_is_lifted_the_client_works_at_once(desk: Desk) -> None:
    client = await desk.clients.register(EDITOR)
    await desk.connect(client.client_id)
    await desk.clients.decide(client.software, Standing.BLOCKED, None, "olga", "leaks prompts")
    await desk.clients.decide(client.software, Standing.UNKNOWN, None, "olga", "mended")
    assert not desk.revocations.current.clients
    assert await desk.standing(client.client_id) is Standing.UNKNOWN


async def test_what_a_block_did_not_come_to_end_is_ended_when_it_is_lifted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await desk.clients.register(EDITOR)
    await desk.connect(client.client_id)
    monkeypatch.setattr(desk.clients, "_end_connections", None)
    await desk.clients.decide(client.software, Standing.BLOCKED, None, "olga", "then the hub dies")
    await desk.opened(desk.rules).decide(client.software, Standing.UNKNOWN, None, "olga", "by mistake")
    assert desk.ended == [([client.client_id], "client blocked")]


async def test_a_document_can_be_decided_on_before_it_comes(desk: Desk) -> None:
    await desk.clients.decide(DOCUMENT, Standing.BLOCKED, None, "olga", "not in this company")
    assert await desk.standing(DOCUMENT) is Standing.BLOCKED


@pytest.mark.parametrize("client_id", ["ads-bot", service.COMMAND.client_id])
async def test_the_operators_own_clients_can_be_blocked_too(desk: Desk, client_id: str) -> None:
    await desk.connect(client_id)
    await desk.clients.decide(client_id, Standing.BLOCKED, None, "olga", "its secret leaked")
    assert await desk.standing(client_id) is Standing.BLOCKED
    assert desk.revocations.current.clients == {client_id}


@pytest.mark.parametrize(
    ("software", "surface", "why", "words"),
    [
        ("dynamic:nobody", None, "why not", "no client is known"),
        ("ads-bot", "cli", "why not", "registered it with"),
        (DOCUMENT, "bot", "why not", "none of cli, ide"),
        (DOCUMENT, "chat", "why not", "none of cli, ide"),
        (DOCUMENT, "service", "why not", "none of cli, ide"),
        (DOCUMENT, None, " \n", "say why"),
        (DOCUMENT, None, "x" * 501, "500 is the most"),
    ],
)
async def test_a_decision_that_cannot_be_made_changes_nothing(
    desk: Desk, software: str, surface: str | None, why: str, words: str
) -> None:
    with pytest.raises(DecisionRefused, match=words):
        await desk.clients.decide(software, Standing.APPROVED, surface, "olga", why)
    assert not any(one.decided for one in (await desk.clients.listed()).software)


async def test_the_list_tells_who_uses_what(desk: Desk) -> None:
    client, unused = await desk.clients.register(EDITOR), await desk.clients.register(TERMINAL)
    await desk.connect(client.client_id, "alice", "Alice")
    desk.now += 5
    await desk.connect(client.client_id, "bob", "Bob")
    listed = await desk.clients.listed()
    by_software = {one.software: one for one in listed.software}
    found = by_software[client.software]
    assert found.users == (("bob", "Bob", 1), ("alice", "Alice", 1))
    assert (found.connections, found.last_seen_at_ms) == (2, int(desk.now * 1000))
    assert by_software[unused.software].last_seen_at_ms is None
    assert listed.unused == 1
    assert {"ads-bot", service.COMMAND.client_id} <= set(by_software)


@pytest.mark.parametrize("config", [each for each in CLIENTS if each.redirects], ids=lambda each: each.id)
async def test_a_client_we_tell_people_of_counts_as_we_tell_them(desk: Desk, config: ClientConfig) -> None:
    client = await desk.clients.register({"client_name": config.title, "redirect_uris": list(config.redirects)})
    assert (client.surface,) == config.surfaces


def test_a_name_with_line_ends_is_no_other_software() -> None:
    places = ["https://one.example/cb", "https://two.example/cb"]
    assert software_of("Editor", places) != software_of(f"Editor\n{places[0]}", places[1:])


async def test_consent_is_for_a_person_a_software_and_a_scope(desk: Desk) -> None:
    client: Client = await desk.clients.register(EDITOR)
    await desk.clients.consent("alice", client.software, "tools:read")
    assert await desk.clients.consented("alice", client.software, "tools:read")
    assert not await desk.clients.consented("alice", client.software, "tools tools:read")
    assert not await desk.clients.consented("bob", client.software, "tools:read")
    assert not await desk.clients.consented("alice", "dynamic:other", "tools:read")
    await desk.clients.consent("alice", client.software, "tools tools:read")
    assert await desk.clients.consented("alice", client.software, "tools")
    await desk.clients.withdraw("alice", client.software)
    assert not await desk.clients.consented("alice", client.software, "tools")
