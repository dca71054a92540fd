"""What stock clients rely on when they sign in, as the official suite tests them for it: offered, or said why not."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx2
import pytest

from tests.conformance.suite import PACKAGE
from tests.oauth import Browser, StockClient, claims_of, query_of
from tests.ports import free_port
from tests.system.instance import REPOSITORY, Instance
from tests.tools.node import NodeTools, provide

pytestmark = pytest.mark.anyio

PAGE = REPOSITORY / "docs" / "reference" / "sign-in-conformance.md"
ROW = re.compile(r"^\| `([a-z0-9/-]+)` \|(.*)\|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")

whole = pytest.mark.xdist_group("instance")


@pytest.fixture(scope="session")
def tools() -> NodeTools:
    return provide()


def listed(tools: NodeTools, tmp_path: Path) -> set[str]:
    """Every scenario of the suite's about signing in, for clients and for authorization servers."""
    command = tools.command("conformance", "list")
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=tools.environment(tmp_path))
    clients, _, servers = done.stdout.partition("Authorization server scenarios")
    return {
        *re.findall(r"^  - (auth/[\w/.-]+) \[", clients, re.MULTILINE),
        *re.findall(r"^  - ([\w/.-]+) \[", servers, re.MULTILINE),
    }


def test_the_page_names_every_scenario_of_the_installed_suite_once(tools: NodeTools, tmp_path: Path) -> None:
    named = [name for name, _ in ROW.findall(PAGE.read_text(encoding="utf-8"))]
    assert sorted(named) == sorted(listed(tools, tmp_path))
    package = json.loads((tools.package(PACKAGE) / "package.json").read_text(encoding="utf-8"))
    assert f"`{PACKAGE}` {package['version']}" in PAGE.read_text(encoding="utf-8")


def test_each_scenario_is_held_by_tests_that_are_there() -> None:
    for scenario, cells in ROW.findall(PAGE.read_text(encoding="utf-8")):
        held = TEST.findall(cells)
        assert held, scenario
        for path, name in held:
            assert re.search(
                rf"^(async )?def {name}\(", (REPOSITORY / path).read_text(encoding="utf-8"), re.MULTILINE
            )


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=60) as client:
        yield client


@whole
@pytest.mark.system
async def test_the_suites_own_scenarios_for_authorization_servers_pass(
    pegboard: Instance, http: httpx2.AsyncClient, tools: NodeTools, tmp_path: Path
) -> None:
    """Its client asks; the driver is the browser that a person would open the printed address in."""
    url, port = pegboard.public_url, free_port()
    client = StockClient(url, http, name="Conformance suite", redirect=f"http://127.0.0.1:{port}/callback")
    options = {
        "--url": url,
        "--client-id": await client.register(),
        "--resource": client.resource("prod/presto"),
        "--port": str(port),
        "-o": str(tmp_path / "out"),
    }
    words = [word for option in options.items() for word in option]
    with anyio.fail_after(180):
        process = await asyncio.create_subprocess_exec(
            *tools.command("conformance", "authorization", *words),
            stdout=asyncio.subprocess.PIPE,
            env=tools.environment(tmp_path),
        )
        assert process.stdout is not None
        asked = ""
        async for line in process.stdout:
            text = line.decode().strip()
            asked = text if text.startswith(f"{url}/oauth/authorize?") else asked
            if text.startswith("Callback server started"):
                await http.get(await Browser(url, http).authorize(asked))
        assert await process.wait() == 0
    found = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/checks.json")]
    checks = [check for scenario in found for check in scenario]
    assert len(found) == 2
    assert {check["status"] for check in checks} == {"SUCCESS"}, checks


@whole
@pytest.mark.system
@pytest.mark.parametrize("server", ["prod/presto", "dev/scratch"])
async def test_a_client_finds_its_way_from_the_401(pegboard: Instance, http: httpx2.AsyncClient, server: str) -> None:
    resource = f"{pegboard.public_url}/mcp/{server}"
    refused = await http.post(resource, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert refused.status_code == 401
    challenge = dict(re.findall(r'(\w+)="([^"]*)"', refused.headers["www-authenticate"]))
    assert challenge["scope"] == "tools"
    assert challenge["resource_metadata"] == resource.replace("/mcp/", "/.well-known/oauth-protected-resource/mcp/")
    metadata = (await http.get(challenge["resource_metadata"])).json()
    assert metadata["resource"] == resource
    assert metadata["scopes_supported"] == ["tools", "tools:read"]
    assert metadata["bearer_methods_supported"] == ["header"]
    [issuer] = metadata["authorization_servers"]
    found = (await http.get(f"{issuer}/.well-known/oauth-authorization-server")).json()
    assert found["issuer"] == issuer == pegboard.public_url


SCOPES = {
    "all of scopes_supported": ("tools tools:read", "tools"),
    "what the 401 named": ("tools", "tools"),
    "less": ("tools:read", "tools:read"),
    "what it had, and what a 403 named": ("tools:read tools", "tools"),
    "nothing": (None, "tools"),
    "offline_access besides": ("tools offline_access", "tools"),
}
"""What is asked for, and what must be in the token; `tools` is all that there is."""


@whole
@pytest.mark.system
@pytest.mark.parametrize("case", SCOPES)
async def test_any_choice_of_scopes_that_a_client_makes_leads_to_a_token(
    pegboard: Instance, http: httpx2.AsyncClient, case: str
) -> None:
    asked, granted = SCOPES[case]
    client = StockClient(pegboard.public_url, http, name=f"Asks for {case}")
    tokens = await client.connect(Browser(pegboard.public_url, http), "prod/presto", "ana", scope=asked)
    assert tokens["scope"] == claims_of(tokens["access_token"])["scope"]
    assert granted in tokens["scope"].split(" ")
    assert ("tools" in tokens["scope"].split(" ")) == (granted == "tools")
    assert (await client.refresh(tokens["refresh_token"])).json()["scope"] == tokens["scope"]


@whole
@pytest.mark.system
async def test_a_client_that_was_asked_for_more_gets_it_beside_what_it_had(
    pegboard: Instance, http: httpx2.AsyncClient
) -> None:
    """A step-up: the person said yes to less, so they are asked once more, and then not again."""
    client = StockClient(pegboard.public_url, http, name="Steps up")
    browser = Browser(pegboard.public_url, http)
    await client.connect(browser, "prod/presto", scope="tools:read")
    assert (
        "/consent"
        in (await browser.get(client.authorization("prod/presto", scope="tools:read tools"))).headers["location"]
    )
    answer = query_of(await browser.authorize(client.authorization("prod/presto", scope="tools:read tools")))
    assert "tools" in (await client.exchange(answer["code"])).json()["scope"].split(" ")


@whole
@pytest.mark.system
async def test_what_no_token_would_mend_is_not_called_a_missing_scope(
    pegboard: Instance, http: httpx2.AsyncClient
) -> None:
    token = pegboard.token("ana", "dev/scratch", surface="chat")
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    headers = {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"}
    refused = await http.post(f"{pegboard.public_url}/mcp/dev/scratch", json=body, headers=headers)
    assert refused.status_code == 403, refused.text
    assert "insufficient_scope" not in refused.headers.get("www-authenticate", "")


NOT_ANNOUNCED = [
    "client_credentials",
    "jwt-bearer",
    "client_secret_jwt",
    "dpop",
    "id-jag",
    "jwks_uri",
    "offline_access",
    "openid",
    "implicit",
    "password",
    '"plain"',
]

NOWHERE = [
    "/.well-known/openid-configuration",
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/mcp",
    "/.well-known/oauth-authorization-server/mcp/prod/presto",
    "/mcp/prod/presto/.well-known/oauth-authorization-server",
    "/authorize",
    "/token",
    "/register",
]


@whole
@pytest.mark.system
async def test_what_is_not_offered_is_not_announced(pegboard: Instance, http: httpx2.AsyncClient) -> None:
    metadata = await http.get(f"{pegboard.public_url}/.well-known/oauth-authorization-server")
    assert [word for word in NOT_ANNOUNCED if word in metadata.text.lower()] == []
    for path in NOWHERE:
        assert (await http.get(f"{pegboard.public_url}{path}")).status_code in (401, 404), path
    for grant in ("client_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer"):
        form = {"grant_type": grant, "client_id": "pegboard-cli", "assertion": "x"}
        refused = await http.post(f"{pegboard.public_url}/oauth/token", data=form)
        assert (refused.status_code, refused.json()["error"]) == (400, "unsupported_grant_type")
