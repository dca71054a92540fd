"""The API answers as its own document says, whatever it is sent."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import httpx2
import pytest

from pegboard.core.publishing import Trouble
from tests.folders import new_folder
from tests.hub.asked import ids
from tests.hub.company import Company, found_company, opened
from tests.hub.official import LOCAL, description
from tests.hub.publishing_rig import Builder, Project, submit
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
    "GET /api/v1/approvals 200",
    "GET /api/v1/approvals/history 200",
    "GET /api/v1/approvals/{id} 200",
    "GET /api/v1/approvals/{id} 404",
    "POST /api/v1/approvals/{id}/withdraw 200",
    "POST /api/v1/approvals/{id}/withdraw 409",
    "GET /api/v1/submissions/{submission} 200",
    "GET /api/v1/submissions/{submission} 404",
    "GET /api/v1/submissions/{submission}/events 200",
    "DELETE /api/v1/submissions/{submission} 409",
    "POST /api/v1/submissions/{submission}/again 422",
    "POST /api/v1/servers/{namespace}/{name}/submissions 422",
    "GET /api/v1/servers/{namespace}/{name}/publishers 200",
}
"""Cases that all end at the same door hold nothing."""


@pytest.fixture(scope="module")
def company() -> Iterator[Company]:
    root = new_folder()
    try:
        yield found_company(root)
    finally:
        shutil.rmtree(root)


@pytest.fixture(scope="module")
def approval(company: Company) -> str:
    """A request that waits."""

    async def made() -> str:
        async with opened(company) as hub:
            return (await ids(hub, "pat", by="security"))[0]

    return asyncio.run(made())


@pytest.fixture(scope="module")
def submission(company: Company) -> str:
    """One that is over, so that nobody is kept waiting for its events."""

    async def made() -> str:
        async with opened(company) as hub:
            project = Project(said={"owner": '"platform"'})
            id_ = str((await submit(hub, "pat", "dev/wiki", project)).json()["id"])
            await Builder(hub).fail(Trouble(step="installing", what="no such package"))
            return id_

    return asyncio.run(made())


@pytest.fixture(scope="module")
def hub(company: Company, approval: str, submission: str) -> Iterator[Served]:
    with served(company) as found:
        yield found


class Lately(Mapping[str, str]):
    """Whose token a request brings: a token lives for fifteen minutes, and many cases take longer.

    Args:
        token: gets a new one.
    """

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token
        self._ends, self._value = 0.0, ""

    def __getitem__(self, name: str) -> str:
        if time.monotonic() >= self._ends:
            self._ends, self._value = time.monotonic() + 300, f"Bearer {self._token()}"
        return {"Authorization": self._value}[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("Authorization",))

    def __len__(self) -> int:
        return 1


def held(hub: Served, approval: str, submission: str, examples: int) -> Counter[str]:
    from tests.conformance.openapi import hold  # Schemathesis: most of a second, in each worker that collects this

    headers = Lately(lambda: hub.token("pat"))
    document = httpx2.get(f"{hub.url}/api/v1/openapi.json", headers=dict(headers), timeout=60).json()
    known = KNOWN | {"/api/v1/approvals/": {"id": approval}, "/api/v1/submissions/": {"submission": submission}}
    return hold(document, hub.url, headers, examples, known)


def test_the_api_is_as_its_document_says(hub: Served, approval: str, submission: str) -> None:
    assert held(hub, approval, submission, 3).keys() >= MET


def test_the_official_api_is_as_we_describe_it(hub: Served) -> None:
    from tests.conformance.openapi import hold  # Schemathesis: most of a second, in each worker that collects this

    known = {"/v0.1/servers/": {"name": "localhost.pegboard/presto", "version": "latest"}}
    seen = hold(description(hub.app), hub.url, LOCAL, 10, known)
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
def test_the_api_is_as_its_document_says_in_many_cases(hub: Served, approval: str, submission: str) -> None:
    assert held(hub, approval, submission, 100).keys() >= MET
