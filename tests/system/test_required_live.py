"""An approval that security requires, in a whole instance: in force in under two seconds, without a release."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from pegboard.cli.app import run
from pegboard.core.names import ServerName
from pegboard.core.refusal import META_KEY
from pegboard_hub.upkeep.doctor import CHECKS, examine, gather
from pegboard_hub.upkeep.hub_door import ask_at
from tests.attacks.wire import ACCEPT, META, MODERN
from tests.system.chromium import LOOKS, looked_at
from tests.system.edge_rig import until
from tests.system.instance import Instance
from tests.tools.node import NodeTools, provide

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

IN_FORCE_S = 2.0
SERVER = ServerName("dev", "scratch")
TOOL = f"{SERVER}/echo"
WHY = "a bot echoed what it should not, SEC-32"


def at_the_machine(instance: Instance, path: str = "", **body: Any) -> Any:
    """Ask as `pegboard approvals … --home` does."""
    method = "POST" if body else "GET"
    return ask_at(instance.home.root, method, f"/internal/v1/approvals/required{path}", body or None)


class Caller:
    """Ana, who calls the tool with something else each time."""

    def __init__(self, client: httpx2.Client, token: str) -> None:
        self._client = client
        self._headers = {
            **ACCEPT,
            "authorization": f"Bearer {token}",
            "mcp-protocol-version": MODERN,
            "mcp-method": "tools/call",
            "mcp-name": "echo",
        }
        self._count = 0

    def calls(self) -> str:
        """The code of the refusal; empty where the tool ran."""
        self._count += 1
        params = {"name": "echo", "arguments": {"text": f"word {self._count}"}, "_meta": META}
        body = {"jsonrpc": "2.0", "id": self._count, "method": "tools/call", "params": params}
        answer = self._client.post(SERVER.path, json=body, headers=self._headers)
        assert answer.status_code == 200, answer.text
        result = answer.json()["result"]
        return str(result.get("_meta", {}).get(META_KEY, {}).get("code", "")) if result.get("isError") else ""


def test_it_holds_in_under_two_seconds_and_so_does_its_end(pegboard: Instance) -> None:
    release = pegboard.home.declaration(SERVER).read_bytes()
    token = pegboard.token("ana", str(SERVER), "cli")
    with httpx2.Client(base_url=pegboard.public_url, timeout=60) as client:
        caller = Caller(client, token)
        assert caller.calls() == ""
        slowest = {"require": 0.0, "lift": 0.0}
        for by in ("owner", "caller", "data-protection"):
            at_the_machine(pegboard, tool=TOOL, by=by, why=WHY)
            began = time.monotonic()
            until(lambda: caller.calls() == "approval_pending", "calls wait")
            slowest["require"] = max(slowest["require"], time.monotonic() - began)
            at_the_machine(pegboard, "/lift", tool=TOOL)
            began = time.monotonic()
            until(lambda: caller.calls() == "", "calls run")
            slowest["lift"] = max(slowest["lift"], time.monotonic() - began)
        assert max(slowest.values()) < IN_FORCE_S, slowest
    assert pegboard.home.declaration(SERVER).read_bytes() == release


def test_security_requires_it_at_the_terminal_and_goes_on_in_the_browser_to_lift_it(
    pegboard: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str, person: str = "sol") -> tuple[int, str, str]:
        status = run([*words, "--as", person, "--url", pegboard.public_url])
        return status, *capsys.readouterr()

    asked = ("approvals", "require", TOOL, "--by", "data-protection", "--why", WHY)
    assert said(*asked, person="ana")[0] == 3
    status, out, hints = said(*asked)
    told = f"Needs an approval from now on: {TOOL}, by somebody of data-protection, and not by whoever asks\n"
    assert (status, out) == (0, told)
    assert "Nobody is in data-protection" in hints
    assert WHY in said("approvals", "required")[1]
    assert said("approvals", "required", person="ana")[1] == ""
    status, out, _ = said(*asked, "--by", "finance", "--no-browser", "--json")
    assert (status, json.loads(out)["error"]["code"]) == (4, "required_in_a_browser")
    explained = said("explain", "--server", str(SERVER), "--tool", "echo", person="ana")
    assert "Allowed, once it is approved: every call waits until" in explained[1]
    assert said("approvals", "lift", TOOL, "--no-browser")[0] == 4
    (found,) = examine(gather(pegboard.home.root, None, None, offline=True), {"required": CHECKS["required"]})
    nobody = "Nobody is in data-protection, so every call waits until it expires"
    assert found[1].found == f"{TOOL} always needs an approval. {nobody}"
    at_the_machine(pegboard, "/lift", tool=TOOL)
    assert said("approvals", "required", "--history")[1].count(TOOL) >= 2


@pytest.fixture(scope="module")
def tools() -> NodeTools:
    return provide()


@pytest.mark.parametrize(("width", "colours"), LOOKS)
def test_security_requires_and_lifts_on_a_page_that_everybody_can_read(
    pegboard: Instance, browser: Browser, tools: NodeTools, width: int, colours: Any
) -> None:
    axe = (tools.package("axe-core") / "axe.min.js").read_text()
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=colours)
    page: Page = context.new_page()
    page.goto(f"{pegboard.public_url}/sign-in?continue=/servers/{SERVER}/security")
    page.get_by_role("button", name="Sol").click()
    page.get_by_text("Require an approval now").click()
    page.get_by_label("Why, for callers and approvers").fill(WHY)
    page.get_by_label("Approved by").select_option("group")
    page.get_by_label("Group, as the company’s login has it").fill("data-protection")
    looked_at(page, axe)
    page.get_by_role("button", name="Require it for everybody").click()
    expect(page.get_by_role("status").filter(has_text="Required.")).to_be_visible()
    expect(page.get_by_text("Nobody is in data-protection")).to_be_visible()
    page.get_by_text("What was required and lifted").click()
    looked_at(page, axe)
    page.get_by_role("button", name="Lift echo").click()
    expect(page.get_by_role("status").filter(has_text="Lifted.")).to_be_visible()
    assert at_the_machine(pegboard)["required"] == []
    context.close()
