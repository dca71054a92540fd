"""Fixtures of the attacks on the authorization server."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from tests.attacks.oauth_stage import Stage
from tests.leaks import holding
from tests.oauth import Browser, StockClient
from tests.system.instance import Instance


@pytest.fixture(scope="module")
async def stage(pegboard: Instance) -> AsyncIterator[Stage]:
    url = pegboard.public_url
    async with httpx2.AsyncClient(timeout=60) as http:
        found = Stage(
            pegboard,
            http,
            Browser(url, http),
            StockClient(url, http, name="Attacked editor"),
            StockClient(url, http, name="Attacker's client", redirect="http://127.0.0.1:43210/attack"),
        )
        http.event_hooks = {"response": [found.remember]}
        await found.browser.sign_in("ana")
        await found.other.register()
        for server in ("prod/presto", "dev/scratch"):
            await found.editor.connect(found.browser, server)
        yield found
        # Whatever was given out in these attacks is in no file.
        given = {secret.rpartition(".")[2].encode() for secret in found.secrets if len(secret) > 20}
        assert holding(pegboard.home.root, given) == set()


@pytest.fixture
def listener() -> Any:
    """A door of this machine that nobody must knock at."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        door.setblocking(False)
        yield door
