"""Reading what a client sends: a form or a query with no parameter twice (RFC 6749 §3.1, §3.2)."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote, urlencode

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message

from pegboard_hub.common.requests import read_body
from pegboard_hub.identity.errors import OAuthRefused

FORM = "application/x-www-form-urlencoded"
FORM_LIMIT = 16 * 1024
"""Bytes of a token request; a real one has some 500."""

MOST_FIELDS = 50


class Form(dict[str, str]):
    """A request's parameters: each once, those without a value left out."""

    def needed(self, name: str) -> str:
        """One parameter.

        Raises:
            OAuthRefused: it is missing.
        """
        if not self.get(name):
            raise OAuthRefused("invalid_request", f"{name} is missing")
        return self[name]


def single(pairs: Iterable[tuple[str, str]]) -> Form:
    """The parameters by their names.

    Raises:
        OAuthRefused: one came more than once.
    """
    form, names = Form(), list[str]()
    for name, value in pairs:
        names.append(name)
        if value:
            form[name] = value
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            raise OAuthRefused("invalid_request", f"{name} came {names.count(name)} times; send it once")
    return form


async def read_form(request: Request) -> tuple[Form, Request]:
    """The request's form, and a request that can be read once more.

    A client that authenticates by a header need not name itself in the form (RFC 6749 §2.3.1), but the SDK looks for
    it there: it is put in.

    Raises:
        OAuthRefused: it is no form in UTF-8, names a parameter twice, or brings two secrets.
        Refused: it is too long.
    """
    if Headers(scope=request.scope).get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise OAuthRefused("invalid_request", f"send the parameters as {FORM} (RFC 6749 §4)")
    body = await read_body(request, FORM_LIMIT)
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MOST_FIELDS
        )
    except ValueError as error:
        raise OAuthRefused("invalid_request", "the parameters cannot be read as a form in UTF-8") from error
    form = single(pairs)
    if basic(request):
        if "client_secret" in form:
            raise OAuthRefused("invalid_request", "authenticate by the header or in the form, not both")
        form.setdefault("client_id", _basic_client(request))
    return form, again(request, urlencode(form).encode())


def basic(request: Request) -> bool:
    """Whether the client authenticates by a header."""
    return request.headers.get("authorization", "").lower().startswith("basic ")


def _basic_client(request: Request) -> str:
    """Whom the header names; nobody where it cannot be read, which is then refused like a wrong secret."""
    try:
        decoded = b64decode(request.headers["authorization"][6:], validate=True).decode()
    except ValueError:
        return ""
    return unquote(decoded.partition(":")[0])


def again(request: Request, body: bytes) -> Request:
    """The same request with its body still to be read."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)
