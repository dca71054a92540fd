"""Keys rotate under load of both eras, and through a killed hub: no call fails, and an old key ends everywhere."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from pegboard.core.jose import Jwk, Signer, kid_of
from pegboard.core.names import ServerName
from pegboard.core.token import TOKEN_TYPE
from tests.attacks.wire import ACCEPT, META, MODERN, PRESTO
from tests.rings import key_in, keys_in
from tests.system.instance import Instance, running
from tests.system.survival.kills import kill, live_again, process
from tests.system.survival.load import Fate
from tests.system.survival.trial import under_load

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.heavy, pytest.mark.xdist_group("survival")]

RENEW_S = 0.5
"""Callers renew their tokens this often, so that tokens of every key are in use during every rotation."""

LIMIT_S = 60.0


async def test_keys_rotate_again_and_again_and_through_a_killed_hub_without_a_failed_call(victim: Instance) -> None:
    home, first = victim.home, victim.token("ana")
    async with under_load(victim, RENEW_S) as trial:
        began = time.monotonic()
        for which in ("all", "tokens"):
            await _rotated(victim, which)
        async with _rotating(victim, "all"):
            await _until(lambda: [key["state"] for key in keys_in(home.token_ring)][-1] == "next")
            restarts = process(home, "hub")["restarts"]
            trial.kills.append(killed := kill(home, "hub"))
            await live_again(home, killed, restarts)
        await trial.every_server_answers(time.monotonic() + RENEW_S)
        assert [each for each in trial.since(began) if each.fate is not Fate.ACKNOWLEDGED] == []
    states = [key["state"] for key in keys_in(home.token_ring)]
    assert states == ["retired", "retired", "retired", "current"], "the first one's tokens are still good"
    await _until(lambda: [key["state"] for key in keys_in(home.bundle_ring)] == ["current"])
    assert kid_of(first) == keys_in(home.token_ring)[0]["kid"]
    assert (_through(victim, first), _behind(victim, first), _api(victim, victim.token("ana", "api"))) == (200,) * 3


@pytest.mark.heavy
async def test_a_token_of_a_removed_key_is_refused_by_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens live five seconds here, so that a key is out of use a quarter of a minute after it signed last."""
    monkeypatch.setenv("PEGBOARD_TOKEN_LIFETIME", "5")
    with running() as instance:
        ring = instance.home.token_ring
        stolen, claims = key_in(ring), _claims(instance.token("ana"))
        for_api = _claims(instance.token("ana", "api"))
        await _rotated(instance, "tokens")
        assert [_tried(instance, stolen, claims, for_api), stolen["kid"] == key_in(ring)["kid"]] == [
            (200,) * 3,
            False,
        ]
        await _until(lambda: [key["state"] for key in keys_in(ring)] == ["current"])
        await _until(lambda: _tried(instance, stolen, claims, for_api) == (401,) * 3)
        assert _tried(instance, key_in(ring), claims, for_api) == (200,) * 3


def _tried(instance: Instance, key: Jwk, claims: dict[str, Any], for_api: dict[str, Any]) -> tuple[int, int, int]:
    """Fresh tokens of one key at the edge, at the server behind it, and at the hub's API."""
    now = int(time.time())
    fresh = {"iat": now, "exp": now + 5, "jti": f"fresh-{time.time_ns()}"}
    token, api = (Signer(key).sign({**each, **fresh}, TOKEN_TYPE) for each in (claims, for_api))
    return _through(instance, token), _behind(instance, token), _api(instance, api)


def _claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


LISTING = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}


def _headers(token: str) -> dict[str, str]:
    routing = {"mcp-protocol-version": MODERN, "mcp-method": "tools/list"}
    return {**ACCEPT, **routing, "authorization": f"Bearer {token}"}


def _through(instance: Instance, token: str) -> int:
    return httpx2.post(f"{instance.public_url}{PRESTO}", json=LISTING, headers=_headers(token)).status_code


def _behind(instance: Instance, token: str) -> int:
    """At the server's own socket, with the identity headers that the edge would set."""
    claims = _claims(token)
    identity = {"x-forwarded-user": "ana", "x-forwarded-surface": "cli"}
    identity["x-forwarded-groups"] = json.dumps(claims["groups"])
    transport = httpx2.HTTPTransport(uds=str(instance.home.socket(ServerName("prod", "presto"))))
    with httpx2.Client(transport=transport, base_url="http://server") as client:
        return client.post(PRESTO, json=LISTING, headers={**_headers(token), **identity}).status_code


def _api(instance: Instance, token: str) -> int:
    headers = {"authorization": f"Bearer {token}"}
    return httpx2.get(f"{instance.public_url}/api/v1/whoami", headers=headers).status_code


async def _rotated(instance: Instance, which: str) -> None:
    async with _rotating(instance, which):
        pass


@asynccontextmanager
async def _rotating(instance: Instance, which: str) -> AsyncIterator[None]:
    """`pegboard keys rotate` beside the block; afterwards it has ended well, and the new keys sign."""
    command = [sys.executable, "-m", "pegboard.cli", "keys", "rotate", which, "--home", str(instance.home.root)]
    paths = {"tokens": [instance.home.token_ring], "bundles": [instance.home.bundle_ring]}.get(which)
    paths = paths or [instance.home.token_ring, instance.home.bundle_ring]
    before = {path: key_in(path)["kid"] for path in paths}
    running_ = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        yield
        _, told = await asyncio.wait_for(running_.communicate(), LIMIT_S)
    finally:
        if running_.returncode is None:
            running_.kill()
            await running_.wait()
    assert running_.returncode == 0, told.decode()
    assert [path for path in paths if key_in(path)["kid"] == before[path]] == []


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.05)
