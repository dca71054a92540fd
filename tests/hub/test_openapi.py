"""The API's document is complete: every status, an example of everything, ids that stay."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pegboard_hub.web.api.examples import EXAMPLES
from pegboard_hub.web.api.openapi import EVERYWHERE, PREFIX, operations
from tests.hub.company import Hub

pytestmark = pytest.mark.anyio

IDS = {
    "askImpact",
    "getApproval",
    "getApprovalHistory",
    "listApprovals",
    "withdrawApproval",
    "getHealth",
    "getReview",
    "listReviews",
    "changeDraft",
    "checkAccess",
    "createDraft",
    "explainCall",
    "getAccess",
    "getCall",
    "getHistory",
    "getRelease",
    "getServer",
    "getServerHistory",
    "getTeam",
    "getTool",
    "listCalls",
    "listClients",
    "listMyServers",
    "listMyTools",
    "listReleases",
    "listServers",
    "listTeams",
    "listTools",
    "retireDraft",
    "validateServer",
    "whoAmI",
}
"""Generated clients have functions of these names: one may come, none may go."""


@pytest.fixture
async def document(hub: Hub) -> dict[str, Any]:
    found: dict[str, Any] = (await hub.api("ana", "openapi.json")).json()
    return found


def checked(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)


async def test_no_operation_loses_its_id(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(document)]
    assert set(ids) >= IDS
    assert len(ids) == len(set(ids))


async def test_the_document_has_the_api_and_nothing_else(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert all(path.startswith(f"{PREFIX}/") for path in document["paths"])
    assert "HTTPValidationError" not in json.dumps(document)
    assert document["security"] == [{"token": []}]


async def test_every_operation_says_what_it_is_and_how_it_refuses(document: dict[str, Any]) -> None:
    known = {tag["name"] for tag in document["tags"]}
    for operation in operations(document):
        assert operation["summary"], operation["operationId"]
        assert set(operation["tags"]) <= known
        assert {str(status) for status in EVERYWHERE} <= operation["responses"].keys()
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                [content] = response["content"].values()
                assert content["schema"] == {"$ref": "#/components/schemas/Refusal"}


async def test_every_schema_and_every_answer_has_an_example_that_is_one(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("examples"), f"{name} has no example: give it one in web/api/examples.py"
        for example in schema["examples"]:
            checked(document, schema, example)
    for operation in operations(document):
        for status, response in operation["responses"].items():
            for content in response.get("content", {}).values():
                examples = content.get("examples", {})
                assert examples, (operation["operationId"], status)
                for example in examples.values():
                    checked(document, content["schema"], example["value"])
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert content["examples"], operation["operationId"]
            for example in content["examples"].values():
                checked(document, content["schema"], example["value"])


async def test_no_example_is_left_of_a_shape_that_is_gone(document: dict[str, Any]) -> None:
    inputs = {"AccessQuestion"}
    names = {name.partition(" ")[0] for name in EXAMPLES} - inputs
    assert names <= document["components"]["schemas"].keys()


async def test_the_document_is_for_those_who_are_signed_in(hub: Hub) -> None:
    assert (await hub.public.get("/api/v1/openapi.json")).status_code == 401
