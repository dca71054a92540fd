"""The trace id of a request, for the access log: `core.trace` in Envoy's expression language.

A test holds the two to each other. Without a trace of the caller's it is the request id without its dashes.
"""

from __future__ import annotations

from pegboard_hub.edge.envoy import Json, extension

_HEADER = "request.headers['traceparent']"
_PARTS = f"{_HEADER}.split('-')"
_CALLERS = " && ".join(
    (
        "'traceparent' in request.headers",
        # A pattern with counted repetitions would be larger than Envoy lets a regular expression be.
        f"{_HEADER}.matches('^[0-9a-f]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f][0-9a-f](-.*)?$')",
        f"{_PARTS}[0].size() == 2 && {_PARTS}[0] != 'ff'",
        f"{_PARTS}[1].size() == 32 && {_PARTS}[1] != '{'0' * 32}'",
        f"{_PARTS}[2].size() == 16 && {_PARTS}[2] != '{'0' * 16}'",
    )
)

TRACE_ID = f"%CEL({_CALLERS} ? {_PARTS}[1] : request.id.replace('-', ''))%"
"""Envoy's placeholder for the trace id."""


def trace_formatter() -> Json:
    """What the placeholder needs: expressions in a log's format, with functions on text."""
    name = "envoy.formatter.cel"
    return extension(name, "envoy.extensions.formatter.cel.v3.Cel", cel_config={"enable_string_functions": True})
