"""A blocked client is out at every layer: its access token too, within seconds and before that token would expire."""

from __future__ import annotations

import time
from urllib.parse import urlencode

import httpx2
import pytest

from tests.oauth import Browser, StockClient
from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance"), pytest.mark.anyio]

PATIENCE_S = 60
DISCOVER = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


async def test_an_access_token_of_a_blocked_client_opens_no_server_any_more(pegboard: Instance) -> None:
    url = pegboard.public_url
    async with httpx2.AsyncClient(timeout=60) as http:
        client = StockClient(url, http, name="Blocked soon", redirect="https://blocked.example.com/cb")
        token = (await client.connect(Browser(url, http), "prod/presto"))["access_token"]

        async def status() -> int:
            headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
            return (await http.post(f"{url}/mcp/prod/presto", json=DISCOVER, headers=headers)).status_code

        assert await status() not in (401, 403)
        operator = Browser(url, http)
        await operator.sign_in("pat")
        api = {"Authorization": f"Bearer {pegboard.token('pat', 'api')}"}
        listed = (await http.get(f"{url}/api/v1/clients", headers=api)).json()["clients"]
        software = next(each["software"] for each in listed if each["name"] == client.name)
        page = await operator.get(f"{url}/clients?{urlencode({'software': software})}")
        await operator.press(page, "Decide", standing="blocked", why="as the test wants")
        began = time.monotonic()
        while await status() != 401:
            assert time.monotonic() - began < PATIENCE_S, "the edge goes on letting it in"
