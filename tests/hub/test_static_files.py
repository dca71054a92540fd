"""What browsers are given of others: the very file of its package, with its licence and version beside it."""

from __future__ import annotations

import json

import pytest

from pegboard_hub.web.pages.frame import HERE
from tests.tools.node import NodeTools, NodeToolsError, provide

STATIC = HERE / "static"


@pytest.fixture(scope="module")
def tools() -> NodeTools:
    try:
        return provide()
    except NodeToolsError as error:
        pytest.skip(str(error))


def test_htmx_is_the_file_of_its_package(tools: NodeTools) -> None:
    package = tools.package("htmx.org")
    assert (STATIC / "htmx.min.js").read_bytes() == (package / "dist" / "htmx.min.js").read_bytes()
    assert (STATIC / "htmx.LICENSE.txt").read_bytes() == (package / "LICENSE").read_bytes()
    version = json.loads((package / "package.json").read_text())["version"]
    assert f"htmx {version}, " in (STATIC / "htmx.VERSION.txt").read_text()
