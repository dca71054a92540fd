"""Client id metadata documents: which ids lead to one, and what one must say.

Pure; draft-ietf-oauth-client-id-metadata-document-01 §3, §4.1, and MCP 2026-07-28, Client Registration.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from pegboard.core.errors import PegboardError
from pegboard_hub.identity.clients.errors import RegistrationRefused
from pegboard_hub.identity.clients.metadata import ClientMetadata, read_metadata
from pegboard_hub.identity.clients.redirects import host_fault

LONGEST_URL = 400
"""Characters of a document's URL."""

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[::1\]|[a-z0-9.-]+)(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<target>/(?=.)(?:[A-Za-z0-9\-._~:/@!$&'()*+,;=]|%[0-9A-F]{2})*)"
)
"""In the one form there is of it (RFC 3986 §6.2): no user, no query, no fragment. The draft says that a query should
not be there, and with one a single document would answer for any number of clients."""

_DOTS = re.compile(r"/\.{1,2}(?:/|$)")
_HIDDEN = re.compile(r"%(?:2E|2F|5C|[01][0-9A-F]|7F)")
_JSON_TYPE = re.compile(r"application/(?:[a-z0-9.!#$&^_-]+\+)?json")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class DocumentTrouble(PegboardError):
    """There is no document to go by. The message says why, for the operator.

    Attributes:
        told: what anybody may know of it. Who sends the hub for a document must not learn which names and services
            there are where the hub is and they are not.
    """

    def __init__(self, why: str, told: str = "") -> None:
        self.told = told or why
        super().__init__(why)


class DocumentRefused(DocumentTrouble):
    """A document that is not believed, or whose owner does not serve it any more."""


class DocumentUnavailable(DocumentTrouble):
    """A document could not be had this time."""


@dataclass(frozen=True, slots=True)
class DocumentUrl:
    """Where a document is fetched from."""

    text: str
    scheme: str
    host: str
    port: int
    target: str

    @property
    def is_loopback(self) -> bool:
        """Whether a program on this machine serves it."""
        return self.scheme == "http"


def looks_like_document(client_id: str) -> bool:
    """Whether a client id is a URL. Every other kind of client has an id of another form."""
    return client_id.startswith(("https://", "http://"))


def read_url(client_id: str, *, loopback: bool = False) -> DocumentUrl:
    """The URL that a client id is.

    Args:
        client_id: as it came.
        loopback: whether http to a program on this machine is taken too.

    Raises:
        DocumentRefused: it is none that documents are fetched from.
    """
    if len(client_id) > LONGEST_URL:
        raise DocumentRefused(f"the URL has {len(client_id)} characters; {LONGEST_URL} is the most")
    parts = _URL.fullmatch(client_id)
    if parts is None:
        raise DocumentRefused("the URL must be https, with a path, and without user, query and fragment")
    scheme, host, target = parts.group("scheme", "host", "target")
    port = int(parts["port"] or (443 if scheme == "https" else 80))
    if _DOTS.search(target) or _HIDDEN.search(target):
        raise DocumentRefused("the URL's path has dots for a segment, or hides something behind a percent sign")
    if scheme == "http" and not (loopback and host in _LOOPBACK):
        raise DocumentRefused("the URL must be https")
    if scheme == "https":
        _check_host(host, port)
    return DocumentUrl(client_id, scheme, host, port, target)


def _check_host(host: str, port: int) -> None:
    fault = host_fault(host) or ("" if "." in host else "its host has no domain")
    if fault:
        raise DocumentRefused(f"the URL cannot be used: {fault}")
    if not (port == 443 or 1024 <= port <= 65535):
        raise DocumentRefused(f"documents are not fetched from port {port}")


def check_headers(status: int, content_type: str, content_encoding: str) -> None:
    """Let the head of an answer pass.

    Raises:
        DocumentRefused: no document comes with it.
    """
    if status != 200:
        raise DocumentRefused(f"its address answers {status}, not 200; redirects are not followed")
    if not _JSON_TYPE.fullmatch(content_type.partition(";")[0].strip().lower()):
        raise DocumentRefused("its address does not answer with JSON")
    if content_encoding.strip().lower() not in ("", "identity"):
        raise DocumentRefused("its address answers in a compressed form, which was not asked for")


def read_document(body: bytes, url: str, schemes: Collection[str] = ()) -> ClientMetadata:
    """What a document says of its client.

    Args:
        body: as it was served.
        url: where it was served, which is the client's id.
        schemes: private-use redirect schemes that the operator allows.

    Raises:
        DocumentRefused: it is not about that client, or asks for what cannot be granted.
    """
    said = _object(body)
    if said.get("client_id") != url:
        raise DocumentRefused("its client_id is not the URL that it was fetched from")
    if not isinstance(said.get("client_name"), str) or not said["client_name"].strip():
        raise DocumentRefused("it has no client_name")
    if "client_secret" in said or "client_secret_expires_at" in said:
        raise DocumentRefused("it has a client secret, which everybody can read")
    method = said.get("token_endpoint_auth_method", "none")
    if method != "none":
        raise DocumentRefused('its token_endpoint_auth_method must be "none": clients of documents are public here')
    try:
        return read_metadata(said, schemes)
    except RegistrationRefused as error:
        raise DocumentRefused(error.description) from error


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(body.decode("utf-8"), object_pairs_hook=_each_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DocumentRefused("it is not JSON in UTF-8 with every member once") from error
    if not isinstance(said, dict):
        raise DocumentRefused("it is no JSON object")
    return said


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
