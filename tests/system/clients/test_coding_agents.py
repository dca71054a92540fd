"""Claude Code, Codex and Gemini CLI, configured by `pegboard connect`, sign in by their own OAuth flow.

Nothing here asks a model. The agents take up 900 MB, so these tests are among the heavy ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.system.clients.doorman import Doorman, doorman
from tests.system.clients.person import CONSENT, SIGN_IN, Person, person
from tests.system.clients.terminal import at_terminal
from tests.system.instance import Instance, running
from tests.tools.node import AGENTS, NodeTools, NodeToolsError, provide

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.heavy, pytest.mark.xdist_group("coding agents")]

FLIGHTS = 336_776
PRESTO, SCRATCH = "pegboard-prod-presto", "pegboard-dev-scratch"
"""Our names for the two servers, in the order in which they are connected."""

SIGN_IN_FILE = "[clients]\ndocuments = false\n"
"""Claude Code would be known by a document on its maker's site, which nobody here may fetch. It then registers."""

TIMEOUT_S = 240


@pytest.fixture(scope="module")
def agents() -> NodeTools:
    try:
        return provide(AGENTS)
    except NodeToolsError as error:
        pytest.skip(f"Claude Code, Codex and Gemini CLI are not here: {error}")


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance of these tests' own, in which no client is known."""
    file = tmp_path_factory.mktemp("sign-in") / "sign-in.toml"
    file.write_text(SIGN_IN_FILE)
    with running("--sign-in", str(file)) as found:
        yield found


@pytest.fixture
async def at_home(tmp_path: Path) -> AsyncIterator[Doorman]:
    async with doorman(tmp_path) as found:
        yield found


@pytest.fixture
async def ana(instance: Instance) -> AsyncIterator[Person]:
    async with person(instance.public_url) as found:
        yield found


class Agent:
    """One coding agent: its program, in its surroundings."""

    def __init__(self, program: Sequence[str], at_home: Doorman, node: Path, instance: Instance) -> None:
        self.program = list(program)
        self.home = at_home.home
        self.doorman = at_home
        self.environment = at_home.environment(node)
        self._instance = instance

    def configure(self, client: str) -> None:
        """Have `pegboard connect` write the agent's file."""
        command = [sys.executable, "-m", "pegboard.cli", "connect", client, "--as", "ana", "--yes"]
        environment = {**self.environment, "PEGBOARD_PUBLIC_URL": self._instance.public_url}
        subprocess.run(command, env=environment, check=True, capture_output=True)

    async def run(self, *arguments: str) -> str:
        """Run it once; gives what it printed."""
        command = [*self.program, *arguments]
        done = await anyio.run_process(command, env=self.environment, cwd=self.home, stderr=subprocess.STDOUT)
        return done.stdout.decode()


async def test_claude_code_signs_in_once_and_connects_the_second_server_silently(
    agents: NodeTools, instance: Instance, at_home: Doorman, ana: Person
) -> None:
    wrapper = agents.package("@anthropic-ai/claude-code") / "cli-wrapper.cjs"
    claude = Agent([str(agents.node), str(wrapper)], at_home, agents.node, instance)
    claude.configure("claude-code")
    with anyio.fail_after(TIMEOUT_S):
        assert (await claude.run("mcp", "list")).count("Needs authentication") == 2
        prompts = []
        for server in (PRESTO, SCRATCH):
            command = [*claude.program, "mcp", "login", server]
            async with at_terminal(command, claude.environment, claude.home) as terminal:
                await terminal.until("Waiting for authorization")
                prompts.append(await ana.follow(await at_home.opened()))
                await terminal.until(f'Authenticated with "{server}"')
        listed = await claude.run("mcp", "list")
    assert prompts == [[SIGN_IN, CONSENT], []]
    assert listed.count("✔ Connected") == 2


async def test_codex_signs_in_once_connects_the_second_server_silently_and_calls_a_tool(
    agents: NodeTools, instance: Instance, at_home: Doorman, ana: Person
) -> None:
    codex = Agent(agents.command("codex"), at_home, agents.node, instance)
    codex.configure("codex")
    with anyio.fail_after(TIMEOUT_S):
        prompts = []
        for server in (PRESTO, SCRATCH):
            async with await anyio.open_process(
                [*codex.program, "mcp", "login", server], env=codex.environment, cwd=codex.home
            ) as process:
                prompts.append(await ana.follow(await at_home.opened()))
                assert await process.wait() == 0
        async with AppServer(codex) as server_of_codex:
            status = await server_of_codex.ask("mcpServerStatus/list", {})
            thread = (await server_of_codex.ask("thread/start", {}))["thread"]["id"]
            called = await server_of_codex.ask(
                "mcpServer/tool/call",
                {
                    "threadId": thread,
                    "server": PRESTO,
                    "tool": "run_query",
                    "arguments": {"sql": "SELECT count(*) AS flights FROM flights"},
                },
            )
    assert prompts == [[SIGN_IN, CONSENT], []]
    tools = {each["name"]: set(each["tools"]) for each in status["data"]}
    assert tools[PRESTO] >= {"run_query", "list_tables"}
    assert tools[SCRATCH] == {"echo", "note"}
    assert called["structuredContent"]["rows"] == [[FLIGHTS]]


class AppServer:
    """Codex's own server, which its editors' extensions talk to: JSON-RPC in lines."""

    def __init__(self, codex: Agent) -> None:
        self._codex = codex
        self._rest = b""
        self._last = 0

    async def __aenter__(self) -> AppServer:
        self._process = await anyio.open_process(
            [*self._codex.program, "app-server"], env=self._codex.environment, cwd=self._codex.home
        )
        await self.ask("initialize", {"clientInfo": {"name": "pegboard-tests", "title": "", "version": "1"}})
        await self._say({"method": "initialized"})
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await self._process.aclose()

    async def ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._last += 1
        await self._say({"id": self._last, "method": method, "params": parameters})
        while (message := await self._hear()).get("id") != self._last:
            pass  # what it says unasked
        assert "result" in message, message
        result: dict[str, Any] = message["result"]
        return result

    async def _say(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send(json.dumps(message).encode() + b"\n")

    async def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            self._rest += await self._process.stdout.receive()
        line, self._rest = self._rest.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message


GEMINI_SETTINGS = {
    "security": {"folderTrust": {"enabled": False}, "auth": {"selectedType": "gemini-api-key"}},
    "general": {"enableAutoUpdate": False},
    "privacy": {"usageStatisticsEnabled": False},
}
"""What somebody who uses Gemini CLI has settled before: the folder is trusted, a key is there."""


async def test_gemini_cli_signs_in_once_and_connects_the_second_server_silently(
    agents: NodeTools, instance: Instance, at_home: Doorman, ana: Person
) -> None:
    gemini = Agent(agents.command("gemini"), at_home, agents.node, instance)
    settings = at_home.home / ".gemini" / "settings.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps(GEMINI_SETTINGS))
    gemini.configure("gemini-cli")
    with anyio.fail_after(TIMEOUT_S):
        prompts = []
        async with at_terminal(gemini.program, gemini.environment, gemini.home) as terminal:
            await terminal.until("2 MCP servers")
            await terminal.still()  # by then it knows its commands
            for server in (PRESTO, SCRATCH):
                await terminal.type(f"/mcp auth {server}")
                await terminal.until(f"Authentication required for MCP Server: '{server}")
                await terminal.press("\r")
                prompts.append(await ana.follow(await at_home.opened()))
                await terminal.until(f"Successfully authenticated and reloaded tools for '{server}'")
        listed = await gemini.run("mcp", "list")
    assert prompts == [[SIGN_IN, CONSENT], []]
    assert listed.count("Connected") == 2
    assert "Disconnected" not in listed
