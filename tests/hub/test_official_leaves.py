"""What may leave by the official registry API, whatever authors write and clients ask."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from pegboard_hub.registry.tables import releases
from pegboard_hub.web.app import public_app
from tests.hub.company import Company, Hub, opened, presto
from tests.hub.official import LOCAL, check, description
from tests.hub.official_registry import PREFIX, ask

pytestmark = pytest.mark.anyio

SECRETS = {
    "owner": "secret-team",
    "support_channel": "#secret-channel",
    "sensitivity": "restricted",
    "entry": "secret_module:secret_server",
    "requests": {
        "business_groups": ["secret-group"],
        "surfaces": ["bot"],
        "channels": ["secret-bot-channel"],
        "services": ["spiffe://secret/service"],
    },
    "egress": ["secret.internal:5432"],
    "secrets": {"SECRET_TOKEN": "env:SECRET_VARIABLE"},
}


async def test_nothing_else_of_a_manifest_or_a_grant_leaves(company: Company) -> None:
    company.grants.write_text(
        '[registry]\npublic = true\n[servers."prod/presto"]\nsource = "/srv/secret/source"\n'
        'groups = ["secret-group"]\nsurfaces = ["bot"]\nchannels = ["secret-bot-channel"]\n'
        'reason = "secret review"\nstopped = "secret incident"\nstopped_tools = { secret_tool = "secret why" }\n'
    )
    declaration = presto(**SECRETS)
    declaration["tools"][0]["name"] = "secret_tool"
    declaration["tools"][0]["description"] = "secret tool"
    digest = company.deploy("prod/presto", declaration)
    async with opened(company) as hub:
        paths = ["", f"/{PREFIX}%2Fpresto/versions", f"/{PREFIX}%2Fpresto/versions/latest"]
        for address in (f"/v0.1/servers{path}" for path in paths):
            answer = await hub.public.get(address)
            text = check(answer) and answer.text.lower()
            assert "presto" in text
            for word in ("secret", "restricted", digest, "ads-revenue"):
                assert word not in text


TRICKS = [
    "\u202egnp.exe",
    "<script>x</script>",
    "\x00",
    "\u200b",
    "a" * 101,
    "\n\n",
    " ",
    "\x1b[31mred",
    "\ud7ff\ue000",
]
TEXT = st.text(max_size=150) | st.sampled_from(TRICKS)
DESCRIPTION = TEXT.filter(lambda text: 1 <= len(text.strip()) <= 100)  # as a manifest's is checked
PARAMETERS = ["cursor", "limit", "search", "version", "updated_since", "include_deleted", "x"]

on_one_hub = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
"""The hub of an example is that of all: none changes what it leaves."""


@on_one_hub
@given(title=TEXT, description=DESCRIPTION)
async def test_whatever_authors_write_every_answer_keeps_the_contract(hub: Hub, title: str, description: str) -> None:
    """`check` holds each answer to the contract, and so no author can spoil a client's page for the others."""
    database = hub.parts.database
    async with database.write() as connection:
        pinned = await connection.scalar(select(releases.c.manifest).where(releases.c.server == "prod/presto"))
        changed = {**pinned, "title": title, "description": description}
        await connection.execute(update(releases).where(releases.c.server == "prod/presto").values(manifest=changed))
    [entry] = (await ask(hub)).json()["servers"]
    for text in (entry["server"]["description"], entry["server"].get("title", "x")):
        assert text.isprintable()
        assert text == " ".join(text.split())
    assert (await ask(hub, f"/v0.1/servers/{PREFIX}%2Fpresto/versions")).status_code == 200


@on_one_hub
@given(path=st.text(max_size=60), query=st.dictionaries(st.sampled_from(PARAMETERS), st.text(max_size=40)))
async def test_whatever_is_asked_is_answered_as_documented(hub: Hub, path: str, query: dict[str, str]) -> None:
    for address in ("/v0.1/servers", f"/v0.1/servers/{quote(path, safe='')}/versions", f"/v0.1/{quote(path)}"):
        answer = await hub.public.get(address, params=query, headers=LOCAL)
        assert answer.status_code in (200, 400, 404)
        if address.startswith("/v0.1/"):
            check(answer)


async def test_our_own_description_of_the_api_tells_of_every_route_and_status(hub: Hub) -> None:
    document = description(public_app(hub.parts))
    paths = document["paths"]
    assert set(paths) == {
        "/v0.1/servers",
        "/v0.1/servers/{name}/versions",
        "/v0.1/servers/{name}/versions/{version}",
    }
    for operations in paths.values():
        assert set(operations) == {"get"}
        assert set(operations["get"]["responses"]) == {"200", "304", "400", "404", "503"}
    asked = [each["name"] for each in paths["/v0.1/servers"]["get"]["parameters"]]
    assert asked == ["cursor", "limit", "search", "updated_since", "version", "include_deleted"]
    assert json.dumps(document)
