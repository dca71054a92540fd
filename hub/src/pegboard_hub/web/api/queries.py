"""Queries of the API's busiest routes, held to their model by the model alone.

FastAPI's own reading looks at the annotation of each field at each request, which takes longer than the rest of many
answers. What is refused, and in which words, is the same.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any, TypeVar, get_origin

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)


def read_query(request: Request, model: type[M]) -> M:
    """The request's query. A field that is no list has the last of several values.

    Raises:
        RequestValidationError: it does not fit the model.
    """
    given, lists = request.query_params, _lists(model)
    try:
        return model.model_validate({name: given.getlist(name) if name in lists else given[name] for name in given})
    except ValidationError as error:
        faults = [{**fault, "loc": ("query", *fault["loc"])} for fault in error.errors(include_url=False)]
        raise RequestValidationError(faults) from error


def query_of(model: type[BaseModel]) -> dict[str, Any]:
    """A route's `openapi_extra` for a query that is read here, as FastAPI describes one that it reads itself."""
    schema = deepcopy(_schema(model))
    needed = schema.get("required", ())
    return {
        "parameters": [_parameter(name, each, needed=name in needed) for name, each in schema["properties"].items()]
    }


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


@cache
def _lists(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for name, field in model.model_fields.items() if get_origin(field.annotation) is list)


def _parameter(name: str, schema: dict[str, Any], *, needed: bool) -> dict[str, Any]:
    told = {key: value for key, value in schema.items() if (key, value) != ("default", None)}
    described = {"description": schema["description"]} if "description" in schema else {}
    return {"name": name, "in": "query", "required": needed, "schema": told, **described}
