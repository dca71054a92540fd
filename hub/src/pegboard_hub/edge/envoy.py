"""Small words of Envoy's configuration language (v3 API), so that the rest reads as intent."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]

JWT_METADATA = "envoy.filters.http.jwt_authn"
"""Namespace in which the JWT filter leaves what it verified; the claims are under `CLAIMS`."""

CLAIMS = "claims"
MCP_METADATA = "envoy.filters.http.mcp"
"""Namespace in which the MCP filter leaves what it read in a body."""

CERTIFICATE = "%DOWNSTREAM_PEER_URI_SAN%"
"""Envoy's placeholder for the SPIFFE ID of the certificate a connection was opened with; all of them, with commas, of
one that has more than one, which so is nobody's."""

CERTIFICATE_ENDS = "%DOWNSTREAM_PEER_CERT_V_END(%s)%"
"""Envoy's placeholder for when it ends, in seconds since the epoch."""

CERTIFICATE_ISSUER = "%DOWNSTREAM_PEER_ISSUER%"
"""Envoy's placeholder for the name of the authority that signed it."""

ROUTE_METADATA = "pegboard"
"""Namespace of the facts a server's route carries."""


REASON_HEADER = "x-pegboard-refused"
"""Response header with a refusal's reason; believed only where Envoy itself answered."""


def typed(message: str, **fields: Any) -> Json:
    """A message with its type, as `Any` in proto3 JSON. `message` is the name after `type.googleapis.com/`."""
    return {"@type": f"type.googleapis.com/{message}", **fields}


def extension(name: str, message: str, **fields: Any) -> Json:
    """A named, typed extension."""
    return {"name": name, "typed_config": typed(message, **fields)}


def watched(path: Path) -> Json:
    """A configuration source that is a file, read again whenever another is renamed over it."""
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def discovery(*resources: Json) -> Json:
    """A file of resources. Its version is the content's digest, so that an acknowledgement names the content."""
    text = json.dumps(resources, separators=(",", ":"))
    return {"version_info": hashlib.sha256(text.encode()).hexdigest()[:16], "resources": list(resources)}


def metadata_value(namespace: str, *path: str, **value: Any) -> Json:
    """A MetadataMatcher: does the value at `path` in `namespace` match `value` (a ValueMatcher's fields)?"""
    return {"filter": namespace, "path": [{"key": key} for key in path], "value": value}


def header_input(name: str) -> Json:
    """The value of a request header as the input of a matcher."""
    return extension(name.strip(":"), "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=name)


def skip() -> Json:
    """The action that has a request pass a filter by."""
    return extension("skip", "envoy.extensions.filters.common.matcher.action.v3.SkipFilter")


def exactly(text: str) -> Json:
    """ValueMatcher fields for a string."""
    return {"string_match": {"exact": text}}


def contains(text: str) -> Json:
    """ValueMatcher fields for a list that holds a string."""
    return {"list_match": {"one_of": exactly(text)}}


def metadata(namespace: str, *path: str) -> str:
    """Envoy's placeholder for what a filter left of a request."""
    return f"%DYNAMIC_METADATA({':'.join((namespace, *path))})%"


def claim(*path: str) -> str:
    """Envoy's placeholder for a verified claim; a list prints as JSON."""
    return metadata(JWT_METADATA, CLAIMS, *path)


def route_fact(key: str) -> str:
    """Envoy's placeholder for a fact of the route."""
    return f"%METADATA(ROUTE:{ROUTE_METADATA}:{key})%"


def literal(text: str) -> str:
    """`text` for use in a format string, where a percent sign starts a placeholder."""
    return text.replace("%", "%%")
