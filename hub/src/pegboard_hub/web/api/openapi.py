"""The API's own description, complete: every status, examples, and one shape of refusals (OpenAPI 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from pegboard_hub.web.api.examples import EXAMPLES
from pegboard_hub.web.api.registry_schema import MissedChange
from pegboard_hub.web.api.schema import RefusalBody

PREFIX = "/api/v1"
VERSION = "1.0"

ABOUT = """\
What exists, who owns it, how to connect, what is approved, who may use it, and how it is doing.

Every request needs a token for the audience `…/api`. Answers are what *this caller* may know: tools are those that
the server would list for them. Lists have a `limit` and an opaque `cursor`; answers an `ETag`. Every refusal has one
shape.
"""


class Refusal(BaseModel):
    """Why a request is refused: the one shape of every error."""

    error: RefusalBody
    changes: list[MissedChange] | None = Field(default=None, description="with 412: what has changed since")


STATUSES: Mapping[int, str] = {
    304: "Not changed since the ETag that you sent as `If-None-Match`",
    400: "Not JSON, or a cursor that was not given for this list",
    401: "No token, or one that does not count",
    403: "Not for you, or the token's scope is too narrow",
    404: "It does not exist, or it is not for you; nobody is told which",
    409: "It cannot be done to what is there",
    412: "Somebody changed it since you got it; `changes` says what",
    413: "The body is too long",
    422: "A field is missing, unknown, or cannot have that value; the message names it",
    428: "A change without `If-Match`",
    500: "Something went wrong in the hub; its log has it under the request id",
    503: "The hub's database takes no writes now",
}

EVERYWHERE = (401, 403, 422, 500, 503)
"""What any route can answer."""

TAGS = (
    ("Servers", "What exists: search, records, releases and tools"),
    ("Drafts", "Registering a server; a draft has no power"),
    ("Deployments", "What runs of a server, and how a release takes over from another"),
    ("Releases", "Submitting a project, and what becomes of it"),
    ("History", "Who changed what, and why"),
    ("Reviews", "Who looks at a server before production, and who would gain what; they tell, and decide nothing"),
    ("Me", "What you may use"),
    ("Teams", "Who owns what"),
    ("Access", "May they use it, and why not"),
    ("Calls", "The ledger"),
    ("Clients", "Programs that people are connected with"),
    ("Stops", "What is closed for everybody, and why"),
    ("Rules", "What security refuses of that which was granted"),
    ("Approvals", "What waits for a person's yes, and which tools always do; nothing here says yes"),
    ("Edges", "What stands behind the one name"),
)

Responses = dict[int | str, dict[str, Any]]


def refusals(*statuses: int) -> Responses:
    """A route's `responses`: these statuses beside those of every route."""
    return {
        status: {"description": STATUSES[status]} | ({} if status == HTTPStatus.NOT_MODIFIED else {"model": Refusal})
        for status in sorted({*statuses, *EVERYWHERE})
    }


def operation_id(route: APIRoute) -> str:
    """A stable id: the function's name, as other languages write it."""
    first, *rest = route.name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def document(app: FastAPI, public_url: str) -> dict[str, Any]:
    """The document of all routes of the API, whoever added them."""
    made: dict[str, Any] = get_openapi(
        title="Pegboard",
        version=VERSION,
        description=ABOUT,
        routes=app.routes,
        servers=[{"url": public_url}],
        tags=[{"name": name, "description": told} for name, told in TAGS],
        separate_input_output_schemas=False,
    )
    made["paths"] = {path: item for path, item in made["paths"].items() if path.startswith(f"{PREFIX}/")}
    known = made["components"]["schemas"]
    for operation in operations(made):
        _complete(operation, known)
    schemas = _used(made["components"]["schemas"], made["paths"])
    for name, schema in schemas.items():
        if not schema.get("examples"):
            schema["examples"] = [EXAMPLES[name] if name in EXAMPLES else example_of(schema, schemas)]
    made["components"] = {"schemas": schemas, "securitySchemes": {"token": _TOKEN}}
    made["security"] = [{"token": []}]
    return made


_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "A token for the audience …/api, of at most 15 minutes",
}


def _used(schemas: Mapping[str, Any], told: Any) -> dict[str, Any]:
    """The schemas that something refers to, in order of name."""
    found: set[str] = set()
    new = _named_in(told)
    while new:
        found |= new
        new = set().union(*(_named_in(schemas[name]) for name in new)) - found
    return {name: schemas[name] for name in sorted(found)}


def _named_in(value: Any) -> set[str]:
    """Names of the schemas that a part of the document refers to."""
    if isinstance(value, list):
        return set().union(*map(_named_in, value))
    if not isinstance(value, dict):
        return set()
    inner = set().union(*map(_named_in, value.values()))
    reference = value.get("$ref")
    return inner | {reference.rpartition("/")[2]} if isinstance(reference, str) else inner


def operations(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every operation of a document."""
    for path in document["paths"].values():
        for method, operation in path.items():
            if method in ("get", "put", "post", "patch", "delete"):
                yield operation


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """A plain example of a shape for which nobody wrote a better one."""
    if schema.get("examples"):
        return schema["examples"][0]
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return EXAMPLES[name] if name in EXAMPLES else example_of(schemas[name], schemas)
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return example_of(schema[choice][0], schemas)
    if "const" in schema or "enum" in schema or "default" in schema:
        return schema.get("const", schema.get("enum", [schema.get("default")])[0])
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {name: example_of(field, schemas) for name, field in fields.items()}
        case "array":
            items = schema.get("prefixItems") or [schema.get("items", {})]
            return [example_of(each, schemas) for each in items]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null" | None:
            return None
    return "text"


_ETAG = {
    "description": "send it back as If-None-Match, or to change what was answered as If-Match",
    "schema": {"type": "string"},
}


def _complete(operation: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    """Give an operation what all have: refusals in the one shape, and an example of each answer."""
    responses = operation["responses"]
    for status in EVERYWHERE:
        told = responses.setdefault(str(status), {"description": STATUSES[status]})
        told["description"] = STATUSES[status]
        told["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    for status, response in responses.items():
        for content in response.get("content", {}).values():
            name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            example = EXAMPLES.get(f"{name} {status}") or example_of(content.get("schema", {}), schemas)
            content.setdefault("examples", {"example": {"value": example}})
        if "304" in responses and status == "200":
            response["headers"] = {"ETag": _ETAG}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        content.setdefault("examples", {"example": {"value": example_of(content["schema"], schemas)}})
    operation["responses"] = dict(sorted(responses.items()))
    for parameter in operation.get("parameters", ()):
        if example := PARAMETERS.get(parameter["name"]):
            parameter.setdefault("examples", {"example": {"value": example}})


PARAMETERS = {
    "namespace": "prod",
    "name": "presto",
    "tool": "run_query",
    "server": "prod/presto",
    "q": "revenue",
    "owner": ["platform"],
    "usable_from": "chat",
    "surface": "cli",
    "group": "platform",
    "release": "1.0.3",
    "why": "it is not needed any more",
    "kind": "server",
    "If-Match": '"3.2c26b46b.0f1e2d3c4b5a69788796a5b4c3d2e1f0"',
}
"""An example of each parameter whose meaning is not plain from its type."""
