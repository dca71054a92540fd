"""The API answers as its own document says through the edge too, which answers some requests itself."""

from __future__ import annotations

import httpx2
import pytest

from pegboard_hub.identity.demo import DEMO_GRANT
from tests.hub.test_api_conformance import KNOWN
from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance"), pytest.mark.heavy]

AT_THE_EDGE = {
    # Envoy refuses methods and paths by itself, before there is an API: in our shape, and for every path alike.
    "unsupported_method",
    "status_code_conformance",
}


def test_the_api_is_as_its_document_says_through_the_edge(pegboard: Instance) -> None:
    from tests.conformance.openapi import hold  # Schemathesis: most of a second, in each worker that collects this

    api = f"{pegboard.public_url}/api"
    form = {"grant_type": DEMO_GRANT, "person": "fay", "surface": "cli", "resource": api}
    token = httpx2.post(f"{pegboard.public_url}/oauth/token", data=form, timeout=60).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    document = httpx2.get(f"{api}/v1/openapi.json", headers=headers, timeout=60).json()
    seen = hold(document, pegboard.public_url, headers, 1, KNOWN)
    assert seen["GET /api/v1/whoami 200"]
