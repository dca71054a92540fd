"""Coarse rules in a whole instance: in force at both layers in under two seconds, and on pages that all can read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from pegboard.core.names import ServerName
from pegboard_hub.upkeep.hub_door import ask_at
from tests.attacks.wire import ACCEPT, META, MODERN
from tests.system.chromium import LOOKS, looked_at
from tests.system.edge_rig import until
from tests.system.instance import Instance
from tests.tools.node import NodeTools, provide

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

IN_FORCE_S = 20.0
"""It is two seconds, which `bench/change.py` measures; what must not be is that something older has to end first."""

SERVER = ServerName("dev", "scratch")
ENDS = 'why = "figures before they are published, SEC-31"\nask = "security in #sec-help"\n'
RULE = f'[rules.no-web]\neffect = "deny"\nsurfaces = ["chat"]\nservers = ["{SERVER}"]\n{ENDS}'
METHOD = (
    f'[rules.no-lists]\neffect = "deny"\nsurfaces = ["chat"]\nnamespaces = ["dev"]\nmethods = ["tools/list"]\n{ENDS}'
)


def rules(instance: Instance) -> int:
    return int(ask_at(instance.home.root, "GET", "/internal/v1/rules")["version"])


def put(instance: Instance, text: str) -> None:
    body = {"text": text, "on": rules(instance), "why": "a test"}
    ask_at(instance.home.root, "POST", "/internal/v1/rules", body)


@pytest.fixture
def ruled(pegboard: Instance) -> Iterator[Instance]:
    """An instance whose rules are a test's own."""
    put(pegboard, RULE.replace("chat", "bot"))
    yield pegboard
    if ask_at(pegboard.home.root, "GET", "/internal/v1/rules")["total"]:
        put(pegboard, "# none\n")


@pytest.mark.parametrize("text", [RULE, METHOD], ids=["of a server", "of a method"])
def test_a_rule_reaches_both_layers_in_under_two_seconds_and_its_end_does(ruled: Instance, text: str) -> None:
    token = ruled.token("ana", str(SERVER), "cli")
    text = text.replace("chat", "cli")
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
    headers = {
        **ACCEPT,
        "authorization": f"Bearer {token}",
        "mcp-protocol-version": MODERN,
        "mcp-method": "tools/list",
    }
    told = {"x-forwarded-user": "ana", "x-forwarded-groups": '["ads-eng"]', "x-forwarded-surface": "cli"}
    socket = httpx2.HTTPTransport(uds=str(ruled.home.socket(SERVER)))
    with (
        httpx2.Client(base_url=ruled.public_url, timeout=60) as edge,
        httpx2.Client(transport=socket, base_url=ruled.public_url, timeout=60) as server,
    ):

        def answers() -> list[Any]:
            found = [
                edge.post(SERVER.path, json=body, headers=headers),
                server.post(SERVER.path, json=body, headers={**headers, **told}),
            ]
            return [each.json().get("error", {}).get("data", {}) for each in found]

        def reasons() -> list[Any]:
            return [(each.get("reason"), each.get("layer")) for each in answers()]

        allowed, refused = [(None, None)] * 2, [("rule_denied", "edge"), ("rule_denied", "server")]
        assert reasons() == allowed
        for rule, wanted in ((text, refused), ("# none\n", allowed)):
            put(ruled, rule)
            began = time.monotonic()
            until(lambda wanted=wanted: reasons() == wanted, "both layers follow")  # type: ignore[misc]
            assert time.monotonic() - began < IN_FORCE_S
            at_edge, alone = answers()
            assert at_edge.get("message") == alone.get("message")


@pytest.fixture(scope="module")
def tools() -> NodeTools:
    return provide()


@pytest.mark.parametrize(("width", "colours"), LOOKS)
def test_everybody_can_read_the_pages(
    ruled: Instance, browser: Browser, tools: NodeTools, width: int, colours: Any
) -> None:
    axe = (tools.package("axe-core") / "axe.min.js").read_text()
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=colours)
    page: Page = context.new_page()
    url = ruled.public_url
    page.goto(f"{url}/sign-in")
    page.get_by_role("button", name="Pat").click()
    page.wait_for_url(f"{url}/")
    for path in (
        "/rules",
        "/rules?rule=no-web",
        "/rules?version=1",
        f"/rules?server={SERVER}&surface=bot&groups=ads-eng",
    ):
        page.goto(url + path)
        looked_at(page, axe)
    page.goto(f"{url}/rules/edit")
    looked_at(page, axe)
    field = page.get_by_label("Every rule; what you take out holds no more")
    field.fill(f"version = {rules(ruled)}\n{METHOD}")
    page.get_by_role("button", name="Show what it comes to").click()
    expect(page.get_by_role("heading", name="What it comes to")).to_be_visible()
    looked_at(page, axe)
    field.fill("version = 0\n[rules.x]\n")
    page.get_by_role("button", name="Show what it comes to").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was changed")
    looked_at(page, axe)
    context.close()
