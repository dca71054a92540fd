"""The official registry API as VS Code, Copilot CLI and browsers really ask it."""

from __future__ import annotations

import pytest

from tests.hub.company import URL, Company, Hub
from tests.hub.official import LOCAL, check
from tests.hub.official_registry import PREFIX, ask, declared, many, names

pytestmark = pytest.mark.anyio


async def test_vs_code_pages_through_a_search(company: Company) -> None:
    """As microsoft/vscode's mcpGalleryService.ts asks: a cursor as it is, and no search on further pages."""
    async with many(company, 60) as hub:
        probe = (await hub.public.get("/v0.1/servers?limit=1", headers=LOCAL)).json()
        assert probe["metadata"]["count"] == 1
        address, found = "/v0.1/servers?limit=50&version=latest&search=s", list[str]()
        while address:
            answer = await hub.public.get(address, headers=LOCAL)
            document = check(answer)
            for entry in document["servers"]:
                # What it leaves an entry out for.
                assert all(isinstance(entry["server"][name], str) for name in ("name", "description", "version"))
                assert entry["server"]["remotes"]
            found += names(document["servers"])
            cursor = document["metadata"].get("nextCursor")
            address = f"/v0.1/servers?limit=50&version=latest&cursor={cursor}" if cursor else ""
        assert found == [f"{PREFIX}/s{number:02}" for number in range(60)]


async def test_a_search_goes_on_with_its_cursor_alone(company: Company) -> None:
    async with many(company, 12) as hub:
        first = (await ask(hub, limit=1, search="s1", version="latest")).json()
        second = (await ask(hub, limit=9, version="latest", cursor=first["metadata"]["nextCursor"])).json()
        assert names([*first["servers"], *second["servers"]]) == [f"{PREFIX}/s10", f"{PREFIX}/s11"]


async def test_copilot_cli_verifies_a_server_by_its_name(hub: Hub) -> None:
    """As github/copilot-cli asks (its issues 3772, 4949): 200 is verified, 404 is not in this registry."""
    headers = {**LOCAL, "accept": "application/json"}
    found = await hub.public.get("/v0.1/servers/localhost.pegboard%2Fpresto/versions/latest", headers=headers)
    assert check(found)["server"]["remotes"][0]["url"] == f"{URL}/mcp/prod/presto"
    other = await hub.public.get("/v0.1/servers/io.github.x%2Fy/versions/latest", headers=headers)
    assert other.status_code == 404
    check(other)
    assert check(await hub.public.get("/v0.1/servers?limit=30", headers=headers))["metadata"] == {"count": 1}


@pytest.mark.parametrize("path", ["servers", "servers/a%2Fb/versions", "servers/a%2Fb/versions/latest", "nothing"])
async def test_a_browser_may_ask_from_any_page(asked: Hub, path: str) -> None:
    headers = {"origin": "https://vscode.dev", "access-control-request-method": "GET"}
    answer = await asked.public.options(f"/v0.1/{path}", headers=headers)
    assert answer.status_code == 204
    check(answer)
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["servers", "publish", "servers/localhost.pegboard%2Fpresto/versions/1.0.0"])
async def test_nothing_can_be_changed_here(asked: Hub, method: str, path: str) -> None:
    answer = await asked.public.request(method, f"/v0.1/{path}", headers=LOCAL, json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, OPTIONS")
    check(answer)


async def test_what_a_client_has_is_not_sent_again_until_it_changes(company: Company) -> None:
    async with many(company, 3) as hub:
        first = await ask(hub, limit=2)
        assert "nextCursor" in first.json()["metadata"]
        tag = first.headers["etag"]
        for known in (tag, f'"other", W/{tag}', "*"):
            again = await hub.public.get("/v0.1/servers?limit=2", headers={**LOCAL, "if-none-match": known})
            assert (again.status_code, again.headers["etag"]) == (304, tag)
            check(again)
        assert first.headers["cache-control"] == "private, no-cache"
        company.deploy("prod/s00", declared("s00", description="changed"))
        await hub.parts.registry.refresh()
        later = await hub.public.get("/v0.1/servers?limit=2", headers={**LOCAL, "if-none-match": tag})
        assert later.status_code == 200
        assert later.headers["etag"] != tag
