"""Operators see every client through the API, and nobody decides there."""

from __future__ import annotations

import pytest

from tests.hub.company import URL, Hub
from tests.oauth import Browser, StockClient

pytestmark = pytest.mark.anyio


async def test_an_operator_sees_who_uses_which_client(hub: Hub) -> None:
    client = StockClient(URL, hub.public, name="Editor")
    await client.connect(Browser(URL, hub.public), "prod/presto")
    await StockClient(URL, hub.public, name="Never used").register()
    answer = (await hub.api("pat", "clients")).json()
    by_name = {each["name"]: each for each in answer["clients"]}
    assert by_name["Editor"]["users"] == [{"sub": "ana", "name": "Ana", "connections": 1}]
    assert (by_name["Editor"]["standing"], by_name["Editor"]["surface"]) == ("unknown", "cli")
    assert by_name["Editor"]["last_seen_at"]
    assert by_name["Never used"]["last_seen_at"] is None
    assert by_name["pegboard"]["kind"] == "first-party"
    assert answer["never_used"] == 1
    assert "secret" not in str(answer)


@pytest.mark.parametrize("person", ["ana", "gus"])
async def test_nobody_else_sees_them(hub: Hub, person: str) -> None:
    response = await hub.api(person, "clients")
    assert response.status_code == 403
    assert response.json()["error"]["reason"] == "not_an_operator"
    assert "platform" in response.json()["error"]["message"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["clients", "clients:decide", "clients/pegboard-cli"])
async def test_a_token_decides_on_no_client(hub: Hub, method: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {await hub.token('pat')}"}
    json = {"software": "pegboard-cli", "standing": "blocked", "why": "because"}
    response = await hub.public.request(method, f"/api/v1/{path}", json=json, headers=headers)
    assert response.status_code in (404, 405)
