"""Bodies of the API's requests: bounded, read after the sign-in, and held strictly to their model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from pegboard.core.text import sentence
from pegboard_hub.common.faults import every
from pegboard_hub.common.requests import Refused, read_body, refuse
from pegboard_hub.registry.errors import ChangeRefused
from pegboard_hub.web.questions import strict_json

MEND = "Mend what is named; /api/v1/openapi.json says what there is."
BODY_LIMIT = 64 * 1024
"""Bytes of a body, where a route says nothing else."""

MOST_DEEP = 32
"""Objects and lists within one another: no body of ours needs as many."""

M = TypeVar("M", bound=BaseModel)


async def read_model(request: Request, model: type[M], limit: int = BODY_LIMIT) -> M:
    """The request's body.

    Raises:
        Refused: 413, it is longer than `limit` bytes; 400, it is no JSON object, names a key twice or nests too
            deeply; 422, it does not fit the model: the message names every field that is wrong.
    """
    return checked(model, await read_object(request, limit))


async def read_object(request: Request, limit: int = BODY_LIMIT) -> dict[str, Any]:
    """The request's body as a JSON object.

    Raises:
        Refused: as `read_model`.
    """
    try:
        value = strict_json(await read_body(request, limit))
        if _deeper(value, MOST_DEEP):
            raise ValueError("it nests too deeply")
    except ValueError as error:
        raise refuse(400, "invalid_request", f"The body is not JSON: {error}.", "Send one JSON object.") from error
    if not isinstance(value, dict):
        raise invalid("body", "It is not an object.")
    return value


def checked(model: type[M], value: Any, place: str = "") -> M:
    """A value as a model has it, with nothing converted and nothing unknown.

    Raises:
        Refused: 422; the message names every field that is wrong, after `place`.
    """
    try:
        return model.model_validate(value, strict=True)
    except ValidationError as error:
        told = every(error.errors(include_url=False, include_input=False), place)
        raise refuse(422, "invalid_request", told, MEND) from error


def invalid(field: str, message: str, mend: str = MEND) -> Refused:
    """The refusal of a field."""
    return refuse(422, "invalid_request", f"{field}: {message}", mend)


def not_so(error: ChangeRefused) -> Refused:
    """The refusal of a change that the registry does not make."""
    return invalid(error.field, sentence(error.fault), error.mend or MEND)


def body_of(model: type[BaseModel], examples: Mapping[str, Any] | Sequence[Any] = ()) -> dict[str, Any]:
    """A route's `openapi_extra` for a body that is read here, which FastAPI's own reading of bodies is not.

    A model that holds others would leave their definitions within its own; ours are flat.
    """
    named = examples if isinstance(examples, Mapping) else {f"{n}": each for n, each in enumerate(examples, 1)}
    content: dict[str, Any] = {"schema": deepcopy(_flat_schema(model))}
    if named:
        content["examples"] = {name: {"value": value} for name, value in named.items()}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


@cache
def _flat_schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return schema


def _deeper(value: Any, most: int) -> bool:
    """Whether a value nests deeper; without recursion, which an attacker would choose the depth of."""
    level = [value]
    for _ in range(most):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return any(isinstance(each, dict | list) for each in level)
