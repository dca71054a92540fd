"""What may leave by the official registry API, in our own words, and the official schema of what a server is.

The models are closed on every level: a field that is not here is one that nobody decided to publish. The official
server.json schema is the file itself, out of a package that has an exact copy of it. The official OpenAPI document
comes in no package, so a copy of it lies beside the other schemas (`docs/decisions/0027`).
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx2
import jsonschema
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

LOCAL = {"x-pegboard-peer": "127.0.0.1"}
"""What the edge adds to a request from this machine."""

SERVER_SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
_SERVER_SCHEMA_SHA256 = "3fba09590c99f61735d234822279f4223fab9e300c0a81e81c91ab62a4114de0"
"""Of the file at that address, as published on 2025-12-12 (modelcontextprotocol/static at a9ba437)."""

OPENAPI = Path(__file__).parent / "schemas" / "registry-openapi-2025-12-01.json"
"""docs/reference/api/openapi.yaml of modelcontextprotocol/registry at its version 1.6.0, as JSON; MIT, as it says."""

Moment = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")]
Web = Annotated[str, StringConstraints(pattern=r"^https?://[^\s{}]+$")]


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Remote(Closed):
    type: Literal["streamable-http"]
    url: Web


class Server(Closed):
    schema_: Literal["https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"] = Field(
        alias="$schema"
    )
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$", min_length=3, max_length=200)]
    title: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    description: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
    websiteUrl: Web | None = None  # noqa: N815 - the wire's name
    remotes: Annotated[list[Remote], Field(min_length=1, max_length=1)] | None = None


class Official(Closed):
    status: Literal["active", "deprecated", "deleted"]
    statusMessage: Annotated[str, StringConstraints(max_length=500)] | None = None  # noqa: N815
    statusChangedAt: Moment | None = None  # noqa: N815
    publishedAt: Moment  # noqa: N815
    updatedAt: Moment  # noqa: N815
    isLatest: bool  # noqa: N815


class Meta(Closed):
    official: Official = Field(alias="io.modelcontextprotocol.registry/official")


class ServerResponse(Closed):
    server: Server
    meta: Meta = Field(alias="_meta")


class Metadata(Closed):
    count: Annotated[int, Field(ge=0)]
    nextCursor: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")] | None = None  # noqa: N815


class ServerList(Closed):
    servers: list[ServerResponse]
    metadata: Metadata


class Refusal(Closed):
    error: Annotated[str, StringConstraints(min_length=1)]
    code: str
    what_to_do: str
    request_id: str


def description(app: FastAPI) -> dict[str, Any]:
    """Our own description of this API. It is served nowhere, as clients have the official one."""
    made: dict[str, Any] = get_openapi(title="Official registry API", version="0.1", routes=app.routes)
    made["paths"] = {path: item for path, item in made["paths"].items() if path.startswith("/v0.1/")}
    for operation in (operation for path in made["paths"].values() for operation in path.values()):
        # FastAPI adds it for each path parameter; no text is a wrong one here.
        operation["responses"].pop("422", None)
    return made


CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, OPTIONS",
    "access-control-allow-headers": "Authorization, Content-Type",
}


def check(answer: httpx2.Response) -> Any:
    """The answer's document, after it was held to everything that every answer of this API must be."""
    assert {name: answer.headers.get(name) for name in CORS} == CORS
    assert "set-cookie" not in answer.headers
    if answer.status_code in (204, 304):
        assert answer.content == b""
        return None
    assert answer.headers["content-type"] == "application/json"
    document = json.loads(answer.content)
    if answer.status_code == 200:
        check_document(document)
    else:
        assert answer.status_code in (400, 404, 405, 503)
        Refusal.model_validate(document)
        _check_openapi("error", document)
    return document


def check_document(document: Any) -> None:
    """A list or a single entry, by our words and by the official ones."""
    listed = "servers" in document
    (ServerList if listed else ServerResponse).model_validate(document)
    assert "null" not in re.findall(r"\bnull\b", json.dumps(document)), "what is not there is left out"
    _check_openapi("ServerList" if listed else "ServerResponse", _without_status_changes(document))
    for entry in document["servers"] if listed else [document]:
        server_validator().validate(entry["server"])


@cache
def server_validator() -> jsonschema.Draft7Validator:
    """The official schema of a `server.json`, which is checked to be the file that was published."""
    place = "skillsaw/schemas/mcp_registry/v2025_12_11/server.schema.json"
    published = Path(str(distribution("skillsaw").locate_file(place))).read_bytes()
    assert hashlib.sha256(published).hexdigest() == _SERVER_SCHEMA_SHA256, "the copy is not the official file"
    schema = json.loads(published)
    assert schema["$id"] == SERVER_SCHEMA
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def _without_status_changes(document: Any) -> Any:
    """The document without `statusChangedAt`.

    The official registry sends it, and its CHANGELOG says so; its OpenAPI document closes that object and forgot it.
    """
    if isinstance(document, dict):
        return {name: _without_status_changes(each) for name, each in document.items() if name != "statusChangedAt"}
    return [_without_status_changes(each) for each in document] if isinstance(document, list) else document


def _check_openapi(name: str, document: Any) -> None:
    _openapi_validator(name).validate(document)


@cache
def _openapi_validator(name: str) -> jsonschema.Draft202012Validator:
    """What the official document says of one of its schemas, or of an `error`, which has no name in it."""
    api = json.loads(OPENAPI.read_text(encoding="utf-8"))
    if name != "error":
        return jsonschema.Draft202012Validator(
            {"$ref": f"#/components/schemas/{name}", "components": api["components"]}
        )
    unknown = api["paths"]["/v0.1/servers/{serverName}/versions"]["get"]["responses"]["404"]
    return jsonschema.Draft202012Validator(unknown["content"]["application/json"]["schema"])
