"""The API answers as its own document says, whatever it is sent."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator

import httpx2
import pytest

from tests.conformance.openapi import hold
from tests.folders import new_folder
from tests.hub.company import found_company
from tests.hub.official import LOCAL, description
from tests.hub.serving import Served, served

KNOWN = {
    "/api/v1/servers/": {"namespace": "prod", "name": "presto", "tool": "run_query", "release": "1.0.0"},
    "/api/v1/teams/": {"group": "platform"},
}
MET = {
    "GET /api/v1/servers 200",
    "GET /api/v1/servers 422",
    "GET /api/v1/servers/{namespace}/{name} 200",
    "GET /api/v1/servers/{namespace}/{name} 404",
    "GET /api/v1/servers/{namespace}/{name}/tools/{tool} 200",
    "GET /api/v1/servers/{namespace}/{name}/releases/{release} 200",
    "GET /api/v1/me/tools 200",
    "POST /api/v1/servers:validate 200",
    "POST /api/v1/servers:validate 422",
    "POST /api/v1/servers 422",
    "POST /api/v1/drafts:check 422",
    "GET /api/v1/history 200",
    "GET /api/v1/teams/{group} 200",
}
"""Cases that all end at the same door hold nothing."""


@pytest.fixture(scope="module")
def hub() -> Iterator[Served]:
    root = new_folder()
    try:
        with served(found_company(root)) as found:
            yield found
    finally:
        shutil.rmtree(root)


def held(hub: Served, examples: int) -> Counter[str]:
    headers = {"Authorization": f"Bearer {hub.token('pat')}"}
    document = httpx2.get(f"{hub.url}/api/v1/openapi.json", headers=headers, timeout=60).json()
    return hold(document, hub.url, headers, examples, KNOWN)


def test_the_api_is_as_its_document_says(hub: Served) -> None:
    assert held(hub, 6).keys() >= MET


def test_the_official_api_is_as_we_describe_it(hub: Served) -> None:
    known = {"/v0.1/servers/": {"name": "localhost.pegboard/presto", "version": "latest"}}
    seen = hold(description(hub.app), hub.url, LOCAL, 20, known)
    versions = "/v0.1/servers/{name}/versions"
    assert seen.keys() >= {
        "GET /v0.1/servers 200",
        "GET /v0.1/servers 400",
        f"GET {versions} 200",
        f"GET {versions} 404",
        f"GET {versions}/{{version}} 200",
        f"GET {versions}/{{version}} 404",
    }


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_the_api_is_as_its_document_says_in_many_cases(hub: Served) -> None:
    assert held(hub, 100).keys() >= MET
