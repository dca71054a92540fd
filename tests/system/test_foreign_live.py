"""Servers that somebody else wrote, on a whole instance: FastMCP, one from npm, one without any framework, and one
that looks for what is not its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from pegboard.core.manifest import read_manifest
from pegboard.core.names import ServerName
from pegboard.core.pins import FILE_NAME
from pegboard.core.refusal import META_KEY
from pegboard.proxy.snapshot import take
from tests.system.instance import REPOSITORY, Instance, running
from tests.system.runtime_kit import short_folder

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.heavy]

EXAMPLES = REPOSITORY / "examples" / "foreign"
SERVERS = ("shop", "notes", "files", "looker")
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
GRANT = """
[servers."dev/{name}"]
source = "{source}"
groups = ["ads-eng", "finance", "platform"]
surfaces = ["cli", "web"]
reason = "a test"
"""


@pytest.fixture(scope="module")
def pegboard() -> Iterator[Instance]:
    folder = short_folder()
    home = folder / "home"
    looker = _looker(folder / "looker", home)
    grants = folder / "grants.toml"
    sources = {name: EXAMPLES / name for name in SERVERS} | {"looker": looker}
    grants.write_text("".join(GRANT.format(name=name, source=source) for name, source in sources.items()))
    expected = {"hub", "edge", "prober", *(f"dev/{name}" for name in SERVERS)}
    try:
        with running("--grants", str(grants), expected=expected, home=home) as instance:
            yield instance
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _looker(folder: Path, home: Path) -> Path:
    """The example without packages, with a backend that looks around in the instance's home."""
    shutil.copytree(EXAMPLES / "notes", folder, ignore=shutil.ignore_patterns(".venv", "__pycache__"))
    for name in ("pyproject.toml", "uv.lock"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("../../../kit", str(REPOSITORY / "kit")))
    shutil.copyfile(REPOSITORY / "tests" / "foreign" / "hostile_backend.py", folder / "backend" / "hostile.py")
    targets = [str(home / path) for path in ("spool/dev.looker", "credentials", "bundles", "run", "state", "keys")]
    targets += [str(home / "run" / "s" / "dev.looker" / "mcp.sock"), str(home / "run" / "internal" / "hub.sock")]
    text = (folder / "pegboard.toml").read_text()
    text = text.replace('name = "notes"', 'name = "looker"').replace('tool = "recall"', 'tool = "echo"')
    text = text.replace(
        '"notes.py"]', f'"hostile.py", "looks around"]\nenvironment = {{ TARGETS = \'{json.dumps(targets)}\' }}'
    )
    (folder / "pegboard.toml").write_text(text.replace("[proxy.tools.recall]", "[proxy.tools.echo]"))
    (folder / FILE_NAME).write_text(anyio.run(take, folder, read_manifest(folder)).text())
    return folder


async def call(
    pegboard: Instance, server: str, tool: str, person: str = "ana", **arguments: object
) -> tuple[str, dict]:
    """What a person is answered, and the refusal where it is one."""
    headers = {"authorization": f"Bearer {pegboard.token(person, f'dev/{server}')}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"{pegboard.public_url}/mcp/dev/{server}", http_client=http)
        async with Client(transport) as client:
            result = await client.call_tool(tool, arguments)
    text = "\n".join(block.text for block in result.content)  # type: ignore[union-attr]
    return text, (result.meta or {}).get(META_KEY, {})


async def test_a_fastmcp_server_in_an_environment_of_its_own_has_policies_and_approvals(pegboard: Instance) -> None:
    assert await call(pegboard, "shop", "price", item="lamp") == ("40", {})
    _, refusal = await call(pegboard, "shop", "order", item="lamp", count=50)
    assert refusal["code"] == "call_not_permitted"
    _, waiting = await call(pegboard, "shop", "order", item="lamp", count=2)
    assert waiting["code"] == "approval_pending"


async def test_a_typescript_server_from_npm_serves_what_its_owner_lets_through(pegboard: Instance) -> None:
    text, _ = await call(pegboard, "files", "read_text_file", path="welcome.md")
    assert "Coffee is on the second floor" in text
    text, refusal = await call(pegboard, "files", "write_file", path="welcome.md", content="x")
    assert refusal["code"] == "tool_unavailable"
    text, _ = await call(pegboard, "files", "read_text_file", path="/etc/hostname")
    assert "its words" in text or "What follows are its words" in text


async def test_a_server_that_speaks_over_standard_streams_alone_is_reached_over_the_edge(pegboard: Instance) -> None:
    assert await call(pegboard, "notes", "remember", text="it works") == ("1 kept", {})
    assert await call(pegboard, "notes", "recall") == ("it works", {})
    stranger = {"authorization": f"Bearer {pegboard.token('gus', 'dev/notes')}"}
    answer = httpx2.post(f"{pegboard.public_url}/mcp/dev/notes", headers=stranger, json=PING)
    assert answer.status_code == httpx2.codes.FORBIDDEN


async def test_a_backend_reaches_nothing_of_the_proxy_that_stands_beside_it(pegboard: Instance) -> None:
    """Credentials, spool, bundle, sockets: in the same sandbox, of the same user."""
    if "isolation is bubblewrap" not in pegboard.said:
        pytest.skip("this machine has no bubblewrap")
    home = pegboard.home
    assert home.credentials(ServerName("dev", "looker")).exists()
    text, _ = await call(pegboard, "looker", "strike")
    found = json.loads(text)
    assert set(found["files"].values()) == {"no: No such file or directory"}
    assert found["sockets"] == []
    assert not [name for name in found["environment"] if name.startswith("PEGBOARD")]
    others = {pid: seen for pid, seen in found["processes"].items() if "hostile" not in seen["command"]}
    assert not [pid for pid, seen in others.items() if "mem" in seen or "environ" in seen], others
    assert not found.get("may signal")
