"""MCP Inspector's web page signs in by its own OAuth flow, in a real browser, and calls a tool."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx2
import pytest
from playwright.async_api import Page, expect

from tests.ports import free_port
from tests.system.clients.person import CONSENT, GO_ON, PATIENCE_MS, SIGN_IN, Person, person
from tests.system.instance import Instance
from tests.tools.node import provide

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.xdist_group("instance"), pytest.mark.heavy]

FLIGHTS = "336776"
API_TOKEN = "of-this-test"
START_S = 180


@pytest.fixture
async def inspector(pegboard: Instance, tmp_path: Path) -> AsyncIterator[str]:
    """The address of an Inspector that knows two servers and nobody."""
    servers = {"presto": "prod/presto", "scratch": "dev/scratch"}
    config = tmp_path / "config.json"
    entries = {
        name: {"type": "streamable-http", "url": f"{pegboard.public_url}/mcp/{server}"}
        for name, server in servers.items()
    }
    config.write_text(json.dumps({"mcpServers": entries}))
    tools, port = provide(), free_port()
    environment = tools.environment(tmp_path) | {
        "CLIENT_PORT": str(port),
        "MCP_SANDBOX_PORT": str(free_port()),
        "MCP_AUTO_OPEN_ENABLED": "false",
        "MCP_INSPECTOR_API_TOKEN": API_TOKEN,
        "MCP_INSPECTOR_SECRET_STORE": "memory",
    }
    command = tools.command("mcp-inspector", "--web", "--config", str(config))
    with (tmp_path / "log").open("wb") as log:
        async with await anyio.open_process(command, env=environment, stdout=log, stderr=log) as process:
            await _until_it_answers(f"http://127.0.0.1:{port}/")
            yield f"http://127.0.0.1:{port}/?MCP_INSPECTOR_API_TOKEN={API_TOKEN}"
            process.terminate()


async def _until_it_answers(url: str) -> None:
    async with httpx2.AsyncClient() as http:
        with anyio.fail_after(START_S):
            while True:
                try:
                    await http.get(url)
                    return
                except httpx2.ConnectError:
                    await anyio.sleep(0.1)


async def test_it_signs_in_calls_a_tool_and_connects_the_second_server_with_a_click(
    pegboard: Instance, inspector: str
) -> None:
    async with person(pegboard.public_url) as ana:
        page = await ana.context.new_page()
        await page.goto(inspector)
        assert await _connect(page, ana, "presto", "prod/presto") == [SIGN_IN, CONSENT]
        await page.get_by_text("Tools", exact=True).first.click()
        await page.get_by_role("button", name=re.compile("run_query")).click()
        await page.get_by_label("Sql").first.fill("SELECT count(*) AS flights FROM flights")
        await page.get_by_role("button", name="Execute Tool").click()
        await expect(page.get_by_text(re.compile(FLIGHTS)).first).to_be_visible(timeout=PATIENCE_MS)
        await page.get_by_text("Servers", exact=True).first.click()
        assert await _connect(page, ana, "scratch", "dev/scratch") == [GO_ON]


async def _connect(page: Page, ana: Person, name: str, server: str) -> list[str]:
    """Press the server's switch, and answer what is asked until Inspector shows it; gives which pages asked."""
    # The switch itself is drawn by its label.
    await page.get_by_role("switch", name=f'"{name}"').dispatch_event("click")
    inspector = page.locator('body:has([aria-label="Client settings"])')
    shown = expect(inspector.get_by_text(server, exact=True).first)
    return await ana.answer(page, lambda: shown.to_be_visible(timeout=PATIENCE_MS))
