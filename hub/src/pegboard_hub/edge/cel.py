"""Parsed CEL expressions (google.api.expr.v1alpha1.Expr): Envoy's RBAC takes a condition only in this form."""

from __future__ import annotations

from itertools import count

from pegboard_hub.edge.envoy import Json


def equal(left: Json, right: Json) -> Json:
    """`left == right`."""
    return _call("_==_", left, right)


def both(left: Json, right: Json) -> Json:
    """`left && right`."""
    return _call("_&&_", left, right)


def value(attribute: str, *keys: str) -> Json:
    """`root.field.field["key"]["key"]…`; a key that is absent is an error, which makes the condition false."""
    root, *fields = attribute.split(".")
    found: Json = {"ident_expr": {"name": root}}
    for field in fields:
        found = {"select_expr": {"operand": found, "field": field}}
    for key in keys:
        found = _call("_[_]", found, {"const_expr": {"string_value": key}})
    return found


def _call(function: str, *arguments: Json) -> Json:
    return {"call_expr": {"function": function, "args": list(arguments)}}


def numbered(expression: Json) -> Json:
    """The finished expression: the evaluator wants a number at every node."""
    return _numbered(expression, count(1))


def _numbered(node: Json, ids: count[int]) -> Json:
    numbered: Json = {"id": next(ids)}
    for kind, body in node.items():
        inner = dict(body)
        if "operand" in inner:
            inner["operand"] = _numbered(inner["operand"], ids)
        if "args" in inner:
            inner["args"] = [_numbered(argument, ids) for argument in inner["args"]]
        numbered[kind] = inner
    return numbered
