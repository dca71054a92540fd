"""`WWW-Authenticate`: how a refusal tells a client where to sign in, and for what (RFC 6750 §3, RFC 9728 §5.1)."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

Error = Literal["", "invalid_token", "insufficient_scope"]

METADATA_PREFIX = "/.well-known/oauth-protected-resource"
"""Before a resource's path, the address of its metadata (RFC 9728 §3.1)."""


def metadata_url(resource: str) -> str:
    """Where the metadata of a protected resource is, for example of `http://localhost:8400/mcp/prod/presto`."""
    path = urlsplit(resource).path
    return f"{resource.removesuffix(path)}{METADATA_PREFIX}{path}"


def challenge(metadata: str, scope: str, error: Error = "") -> str:
    """The header's value.

    Args:
        metadata: URL of the resource's metadata.
        scope: what to ask for, for a token that will do.
        error: what is wrong with the token that came; empty where none came (RFC 6750 §3.1).
    """
    parameters = {"error": error, "scope": scope, "resource_metadata": metadata}
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items() if value)
