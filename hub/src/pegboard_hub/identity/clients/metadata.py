"""What a client says of itself, in a registration (RFC 7591 §2) or in a document that its id leads to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pegboard_hub.identity.clients.errors import RedirectRefused, RegistrationRefused
from pegboard_hub.identity.clients.names import cleaned
from pegboard_hub.identity.clients.redirects import check_redirects

LONGEST_URI = 500
"""Characters of a client's home page address that are kept."""


@dataclass(frozen=True, slots=True)
class ClientMetadata:
    """What is kept of a client's words.

    Logos, contacts, terms and key sets are not: nothing here shows or uses them, and a logo would let a stranger
    look like somebody else.
    """

    name: str
    redirect_uris: tuple[str, ...]
    uri: str | None = None


def read_metadata(given: Mapping[str, Any], schemes: Collection[str] = ()) -> ClientMetadata:
    """Read a client's words.

    Args:
        given: its JSON object.
        schemes: private-use redirect schemes that the operator allows.

    Raises:
        RegistrationRefused: they cannot be granted; the description says which and why.
    """
    redirects = given.get("redirect_uris")
    if not isinstance(redirects, list | tuple) or not all(isinstance(uri, str) for uri in redirects):
        raise RegistrationRefused("invalid_redirect_uri", "redirect_uris must be a list of URIs")
    try:
        uris = check_redirects(redirects, schemes)
    except RedirectRefused as error:
        raise RegistrationRefused("invalid_redirect_uri", str(error)) from error
    _check_listed(given, "grant_types", "authorization_code")
    _check_listed(given, "response_types", "code")
    return ClientMetadata(cleaned(given.get("client_name")), uris, _home_page(given.get("client_uri")))


def _check_listed(given: Mapping[str, Any], field: str, needed: str) -> None:
    """Codes are all there is here; a client that asks for more gets codes, and one that asks for none is refused."""
    values = given.get(field)
    if values is None:
        return
    if not isinstance(values, list | tuple) or needed not in values:
        raise RegistrationRefused("invalid_client_metadata", f"{field} must be a list with {needed}")


def _home_page(uri: Any) -> str | None:
    """The client's home page where it is one that may be shown; a client that names another has none."""
    if not isinstance(uri, str) or len(uri) > LONGEST_URI or not uri.isascii() or not uri.isprintable():
        return None
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    return uri if parts.scheme == "https" and parts.hostname and "@" not in parts.netloc else None
