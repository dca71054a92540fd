"""A person lets a surface act in a real browser, and the pages of surfaces can be read by everybody."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from pegboard.core.jose import new_private_key, public_jwks
from tests.system.chromium import LOOKS, looked_at
from tests.system.instance import REPOSITORY, Instance
from tests.tools.node import NodeTools, NodeToolsError, provide

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def tools() -> NodeTools:
    try:
        return provide()
    except NodeToolsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def surface(pegboard: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bot with a name that is more than a name, registered at the machine."""
    keys = Path(tmp_path_factory.mktemp("keys")) / "keys.json"
    keys.write_text(json.dumps(public_jwks(new_private_key())))
    said = ["--surface", "bot", "--name", "Helper " + "x" * 60, "--keys", str(keys), "--group", "ads-eng"]
    said += ["--server", "prod/*", "--channel", "#" + "long-" * 20, "--why", "<b>a test</b>"]
    for words in (["register", "looked-at", *said], ["remove", "looked-at", "--why", "the test is over"]):
        command = [sys.executable, "-m", "pegboard.cli", "surfaces", *words, "--home", str(pegboard.home.root)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        if words[0] == "register":
            yield "looked-at"


def signed_in(pegboard: Instance, browser: Browser, person: str, width: int, colours: str) -> Page:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=colours)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{pegboard.public_url}/sign-in")
    page.get_by_role("button", name=person).click()
    page.wait_for_url(f"{pegboard.public_url}/")
    return page


@pytest.mark.parametrize(("width", "colours"), LOOKS)
def test_every_page_can_be_read_by_everybody(
    pegboard: Instance, browser: Browser, tools: NodeTools, surface: str, colours: str, width: int
) -> None:
    axe = (tools.package("axe-core") / "axe.min.js").read_text()
    operator = signed_in(pegboard, browser, "Pat", width, colours)
    for path in ("/surfaces", f"/surfaces?client={surface}", f"/acting?client={surface}"):
        operator.goto(pegboard.public_url + path)
        looked_at(operator, axe)
    operator.context.close()
    ana = signed_in(pegboard, browser, "Ana", width, colours)
    ana.goto(f"{pegboard.public_url}/acting?client={surface}")
    ana.get_by_role("button", name="Allow", exact=True).click()
    ana.get_by_text("From now on it may act for you.").wait_for()
    looked_at(ana, axe)
    ana.goto(f"{pegboard.public_url}/sessions")
    looked_at(ana, axe)
    ana.goto(f"{pegboard.public_url}/acting?client={surface}")
    ana.get_by_role("button", name="Take it back").click()
    ana.get_by_text("It acts for you no more.").wait_for()
    ana.context.close()
