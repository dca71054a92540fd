"""What is revoked reaches every bundle at once, is refused by the API, and leaves when it has no effect any more."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest
from sqlalchemy import update

from pegboard.core.jose import Verifier
from pegboard.core.revoked import Revoked
from pegboard.core.token import TOKEN_TYPE
from pegboard_hub.identity.clients.model import Standing
from pegboard_hub.identity.connections.model import connections
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.identity.revocations import KEPT_MS, Kind, Revocations
from tests.hub.company import GRANTED, PRESTO, URL, Company, Hub, beside, opened, presto
from tests.hub.test_registry import edge_bundle, own_bundle
from tests.oauth import Browser, StockClient, claims_of

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

KINDS: dict[Kind, str] = {"session": "sid", "token": "jti", "client": "client_id"}
READ_ONLY = {"name": "run_query", "policy": "granted", "read_only": True}


async def revoke(hub: Hub, kind: Kind, *values: str) -> None:
    """Revoke as whoever ends a session does."""
    revocations = hub.parts.identity.revocations
    async with hub.parts.database.write() as connection:
        await revocations.add(connection, kind, values)
    await revocations.reload()


def watching(hub: Hub) -> AbstractAsyncContextManager[None]:
    """The hub with the task that tells edge and servers."""
    return beside(hub.parts.registry.watch_revoked())


async def claims(company: Company, token: str) -> dict[str, Any]:
    return Verifier(open_keys(company.home).token_jwks).verify(token, TOKEN_TYPE)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_api_refuses_what_was_revoked_at_once_and_nobody_else(
    hub: Hub, company: Company, kind: Kind
) -> None:
    token, other = await hub.token("ana"), await hub.token("fay", "chat")
    await revoke(hub, kind, str((await claims(company, token))[KINDS[kind]]))
    answers = [
        await hub.public.get("/api/v1/whoami", headers={"Authorization": f"Bearer {each}"}) for each in (token, other)
    ]
    assert [answer.status_code for answer in answers] == [401, 200]
    assert answers[0].json()["error"]["reason"] == "token_revoked"
    assert 'error="invalid_token"' in answers[0].headers["www-authenticate"]


async def test_what_is_revoked_reaches_every_bundle_with_a_new_version(hub: Hub, company: Company) -> None:
    before = edge_bundle(company), own_bundle(company, "prod/presto"), own_bundle(company, "dev/scratch")
    async with watching(hub):
        await revoke(hub, "session", "one", "two")
        with anyio.fail_after(60):
            while own_bundle(company, "dev/scratch").revoked == Revoked():
                await asyncio.sleep(0.01)
    after = edge_bundle(company), own_bundle(company, "prod/presto"), own_bundle(company, "dev/scratch")
    for old, new in zip(before, after, strict=True):
        assert new.revoked == Revoked(sessions=frozenset({"one", "two"}))
        assert new.version > old.version
        assert (new.servers, new.jwks) == (old.servers, old.jwks)


async def test_what_is_revoked_while_bundles_are_written_goes_into_one_more_writing(
    hub: Hub, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    writings, write, all_said = [], hub.parts.registry._bundles.write_first, asyncio.Event()

    async def counted(*given: Any, **more: Any) -> Any:
        writings.append(hub.parts.identity.revocations.current.sessions)
        await all_said.wait()
        return await write(*given, **more)

    monkeypatch.setattr(hub.parts.registry._bundles, "write_first", counted)
    async with watching(hub):
        for number in range(20):
            await revoke(hub, "session", f"session-{number}")
        all_said.set()
        with anyio.fail_after(60):
            while len(edge_bundle(company).revoked.sessions) < 20:
                await asyncio.sleep(0.01)
    assert 1 <= len(writings) <= 2


async def test_a_writing_that_fails_is_tried_again(
    hub: Hub, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pegboard_hub.registry.service.RETRY_S", 0.01)
    faults, write = [OSError("no room")] * 2, hub.parts.registry._bundles.write_first

    async def fails_twice(*given: Any, **more: Any) -> Any:
        if faults:
            raise faults.pop()
        return await write(*given, **more)

    monkeypatch.setattr(hub.parts.registry._bundles, "write_first", fails_twice)
    async with watching(hub):
        await revoke(hub, "token", "t")
        with anyio.fail_after(60):
            while edge_bundle(company).revoked.tokens != {"t"}:
                await asyncio.sleep(0.01)


async def test_what_is_revoked_outlives_a_restart(company: Company) -> None:
    async with opened(company) as hub:
        await revoke(hub, "client", "https://client.example/metadata.json")
    async with opened(company):
        assert edge_bundle(company).revoked.clients == {"https://client.example/metadata.json"}


async def test_an_entry_leaves_with_the_next_signing_once_its_last_token_has_expired(
    hub: Hub, company: Company
) -> None:
    now, told = [time.time()], list[str]()
    revocations = hub.parts.identity.revocations
    revocations._clock = lambda: now[0]
    await revoke(hub, "session", "s")
    await hub.parts.registry.resign()
    assert edge_bundle(company).revoked.sessions == {"s"}
    revocations.on_change(lambda: told.append("told"))
    now[0] += KEPT_MS / 1000
    await revocations.tidy()
    assert (revocations.current, told) == (Revoked(), [])
    assert edge_bundle(company).revoked.sessions == {"s"}
    await hub.parts.registry.resign()
    assert edge_bundle(company).revoked == Revoked()


async def test_a_client_that_is_let_in_again_is_let_in_at_once(hub: Hub, company: Company) -> None:
    """What it gets from now on would be refused until the next signing."""
    client, decide = StockClient(URL, hub.public), hub.parts.identity.clients.decide
    await client.connect(Browser(URL, hub.public), "prod/presto")
    found = await hub.parts.identity.clients.last_known(client.client_id)
    assert found is not None
    revocations = hub.parts.identity.revocations
    async with watching(hub):
        for standing, refused in ((Standing.BLOCKED, {client.client_id}), (Standing.APPROVED, set())):
            await decide(found.software, standing, None, "bob", "as the test wants")
            assert revocations.current.clients == refused
            with anyio.fail_after(60):
                while edge_bundle(company).revoked != revocations.current:
                    await asyncio.sleep(0.01)
                while own_bundle(company, "prod/presto").revoked != revocations.current:
                    await asyncio.sleep(0.01)


async def test_a_sign_in_that_no_token_came_of_lately_is_not_in_the_way_of_every_call(hub: Hub) -> None:
    """With another login a hundred thousand of them end at once, and the list goes to every edge and server."""
    identity, used, long_ago = hub.parts.identity, StockClient(URL, hub.public), StockClient(URL, hub.public)
    tokens = await used.connect(Browser(URL, hub.public), "prod/presto")
    old = claims_of((await long_ago.connect(Browser(URL, hub.public), "prod/presto"))["access_token"])["sid"]
    await Browser(URL, hub.public).sign_in("ana")
    async with hub.parts.database.write() as db:
        aged = int(time.time() * 1000) - KEPT_MS - 1
        await db.execute(update(connections).where(connections.c.sid == old).values(seen_at_ms=aged))
    await identity.sessions.end_all_of("ana", "signed out everywhere")
    assert await identity.sessions.of("ana") == []
    assert identity.revocations.current.sessions == {claims_of(tokens["access_token"])["sid"]}


async def test_what_is_revoked_again_counts_from_then(hub: Hub) -> None:
    """A client that was let in again in between has tokens that are younger than the first revocation."""
    now = [time.time()]
    revocations = Revocations(hub.parts.database, lambda: now[0])
    for _ in range(2):
        async with hub.parts.database.write() as connection:
            await revocations.add(connection, "client", ["c"])
        now[0] += KEPT_MS / 1000 * 0.75
    await revocations.tidy()
    assert revocations.current.clients == {"c"}


# Scopes


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ("tools:read", "tools:read"),
        ("tools", "tools"),
        ("tools:read tools", "tools tools:read"),
        ("openid tools:read", "tools:read"),
        ("", "tools"),
    ],
)
async def test_a_demo_token_has_the_scope_that_was_asked_of_what_there_is(
    hub: Hub, company: Company, asked: str, granted: str
) -> None:
    token = await hub.token("ana", resource=PRESTO, scope=asked)
    assert (await claims(company, token))["scope"] == granted


@pytest.mark.parametrize("asked", ["tools-x", "Tools", "api", "tools:read2", "*"])
async def test_a_scope_that_a_server_does_not_have_is_refused(hub: Hub, asked: str) -> None:
    form = {"grant_type": "urn:pegboard:params:oauth:grant-type:demo-person", "person": "ana", "surface": "cli"}
    answer = await hub.public.post("/oauth/token", data={**form, "resource": PRESTO, "scope": asked})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


async def test_explain_and_the_access_check_know_of_a_token_that_may_only_look(company: Company) -> None:
    tools = [READ_ONLY, {"name": "drop_table", "policy": "granted"}]
    company.deploy("prod/presto", {**presto(), "tools": tools, "policies": {"granted": GRANTED}})
    async with opened(company) as hub:

        async def asked(tool: str | None, scope: str | None) -> tuple[bool, str | None, str | None]:
            question = {"server": "prod/presto", "tool": tool, "scope": scope}
            verdict = (await hub.check("ana", question)).json()
            given = {name: value for name, value in question.items() if value is not None}
            explained = (await hub.api("ana", "explain", **given)).json()
            failing = [step["rule"] for step in explained["steps"] if step["outcome"] == "fails"]
            assert (explained["allowed"], failing) == (
                verdict["allowed"],
                [verdict["rule"]] if verdict["rule"] else [],
            )
            return verdict["allowed"], verdict["rule"], verdict["layer"]

        assert await asked("run_query", "tools:read") == (True, None, None)
        assert await asked("drop_table", "tools:read") == (False, "tool:scope", "server")
        assert await asked("drop_table", None) == (True, None, None)
        assert await asked("drop_table", "tools:read tools") == (True, None, None)
        assert await asked("no_such_tool", "tools:read") == (False, "tool", "server")
        assert await asked(None, "openid") == (False, "scope", "edge")
        assert await asked(None, "") == (False, "scope", "edge")
        broken = await hub.check("ana", {"server": "prod/presto", "scope": "tools\n"})
        assert (broken.status_code, broken.json()["error"]["message"][:6]) == (422, "scope:")


# Metadata of what is protected


async def test_metadata_is_the_same_whether_or_not_there_is_such_a_server(hub: Hub) -> None:
    texts = []
    for name in ("prod/presto", "prod/nothing"):
        response = await hub.public.get(
            f"/.well-known/oauth-protected-resource/mcp/{name}", headers={"Origin": "https://inspector.example"}
        )
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == "*"
        texts.append(response.text.replace(name, "NAME"))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", ["prod/pre_sto", "PROD/presto", "prod/p", "prod/presto/x", "prod", "prod/%22x"])
async def test_a_name_that_no_server_can_have_has_no_metadata(hub: Hub, name: str) -> None:
    assert (await hub.public.get(f"/.well-known/oauth-protected-resource/mcp/{name}")).status_code == 404


async def test_the_api_has_metadata_too(hub: Hub) -> None:
    response = await hub.public.get("/.well-known/oauth-protected-resource/api")
    assert response.json() == {
        "resource": "http://localhost:8400/api",
        "authorization_servers": ["http://localhost:8400"],
        "scopes_supported": ["api"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Pegboard's API",
    }
