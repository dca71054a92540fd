"""The hub's own doors, and tokens in every place where somebody could write them down."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tests.attacks.catalogue.attack import (
    BATCH,
    BOTH,
    CLOSED,
    LOOK,
    OPEN,
    REPORTING,
    VICTIM,
    Attack,
    Request,
    Seen,
    Token,
    mark,
)
from tests.leaks import holding

if TYPE_CHECKING:
    from tests.attacks.catalogue.stand import Door, Stand


def _form(
    id_: str,
    sends: str,
    path: str = "/oauth/token",
    answer: tuple[int, ...] = (400, 401),
    certificate: str = "",
    lines: Iterable[str] = (),
    promise: str = "sign-in",
    **fields: Any,
) -> Attack:
    body = urlencode(fields, doseq=True).encode()
    form = ("Content-Type: application/x-www-form-urlencoded", *lines)
    gone = ("content-type", "mcp-method", "mcp-name", "mcp-protocol-version")

    def play(stand: Stand, door: Door) -> Seen:
        told = body.replace(b"%7Burl%7D", stand.public_url.encode())
        seen = stand.send(
            door, Request(None, path=path, body=told, lines=form, without=gone, certificate=certificate)
        )
        given = re.findall(r'"(?:access|refresh)_token"', seen.text)
        return Seen(seen.status, seen.text, tuple(f"came out: {each}" for each in dict.fromkeys(given)))

    return Attack(
        f"sign-in-{id_}", promise, sends, play, answer, BOTH, hopeless="the hub decides, whichever layer is open"
    )


def _authorize(id_: str, sends: str, **query: str) -> Attack:
    usual = {
        "response_type": "code",
        "client_id": "pegboard-cli",
        "redirect_uri": "http://127.0.0.1:1/callback",
        "code_challenge": "x" * 43,
        "code_challenge_method": "S256",
        "resource": "{url}/mcp/prod/ledger",
        "state": "s",
    }
    asked = {name: value for name, value in {**usual, **query}.items() if value}

    def play(stand: Stand, door: Door) -> Seen:
        target = urlencode({name: value.replace("{url}", stand.public_url) for name, value in asked.items()})
        seen = stand.send(door, Request(None, path=f"/oauth/authorize?{target}", verb="GET"))
        found = re.findall(
            r"(?i)location: [^\r]*(?:evil\.example|javascript:|[?&#]code=|access_token=)[^\r]*", seen.text
        )
        return Seen(seen.status, seen.text, tuple(f"sent on: {each}" for each in found))

    return Attack(
        f"sign-in-{id_}",
        "sign-in",
        sends,
        play,
        (302, 303, 400, 404),
        BOTH,
        hopeless="the hub decides, whichever layer is open",
    )


_ATTACKERS_JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbmEifQ."

HUB = (
    _form(
        "code-made-up",
        "exchanges a code that it made up",
        grant_type="authorization_code",
        code="x" * 43,
        client_id="pegboard-cli",
        redirect_uri="http://127.0.0.1:1/callback",
        code_verifier="x" * 43,
    ),
    _form(
        "refresh-made-up",
        "exchanges a refresh token that it made up",
        grant_type="refresh_token",
        refresh_token="x" * 43,
        client_id="pegboard-cli",
    ),
    _form("password", "signs in by name and password", grant_type="password", username="ana", password="ana"),
    _form(
        "credentials-public",
        "asks for a service's token at the public port",
        grant_type="client_credentials",
        resource="{url}/mcp/prod/ledger",
        client_id=REPORTING,
    ),
    _form(
        "credentials-header",
        "does so, with the header that names a service",
        grant_type="client_credentials",
        resource="{url}/mcp/prod/ledger",
        lines=(f"X-Pegboard-Spiffe-Id: {REPORTING}", "X-Pegboard-Spiffe-Ends: 2099-01-01T00:00:00Z"),
        promise="services",
    ),
    _form(
        "jwt-bearer",
        "brings a token of its own (RFC 7523)",
        promise="sign-in",
        grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer",
        assertion=_ATTACKERS_JWT,
    ),
    _form(
        "exchange",
        "exchanges a token of its own (RFC 8693)",
        grant_type="urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token=_ATTACKERS_JWT,
        subject_token_type="urn:ietf:params:oauth:token-type:jwt",
        resource="{url}/mcp/prod/ledger",
    ),
    _form(
        "device-guessed",
        "guesses a device's code",
        grant_type="urn:ietf:params:oauth:grant-type:device_code",
        device_code="x" * 43,
        client_id="pegboard-cli",
    ),
    _form(
        "grant-twice",
        "asks for two grants",
        grant_type=["authorization_code", "client_credentials"],
        code="x",
        client_id="pegboard-cli",
    ),
    _form(
        "service-not-granted",
        "a service asks for a token for a server that is not granted to it",
        grant_type="client_credentials",
        resource="{url}/mcp/prod/ledger",
        certificate=BATCH,
        promise="services",
        answer=(400, 401, 403),
    ),
    _form(
        "service-sensitive",
        "a service asks for a token for a sensitive server",
        grant_type="client_credentials",
        resource="{url}/mcp/prod/atlas",
        certificate=REPORTING,
        promise="services",
        answer=(400, 401, 403),
    ),
    _form(
        "service-api",
        "a service asks for a token for the API",
        grant_type="client_credentials",
        resource="{url}/api",
        certificate=REPORTING,
        promise="services",
        answer=(400, 401, 403),
    ),
    _form(
        "service-two",
        "a service asks for one token for two servers",
        grant_type="client_credentials",
        resource=["{url}/mcp/prod/ledger", "{url}/mcp/prod/atlas"],
        certificate=REPORTING,
        promise="services",
        answer=(400, 401, 403),
    ),
    _authorize("redirect-foreign", "has the code sent to the attacker", redirect_uri="https://evil.example/callback"),
    _authorize("redirect-script", "has the code sent to a script", redirect_uri="javascript:alert(1)"),
    _authorize(
        "redirect-userinfo",
        "has the code sent to a host behind a name",
        redirect_uri="http://127.0.0.1:1@evil.example/callback",
    ),
    _authorize("no-pkce", "asks without a challenge", code_challenge="", code_challenge_method=""),
    _authorize("plain-pkce", "asks with a challenge that is its own answer", code_challenge_method="plain"),
    _authorize("implicit", "asks for a token in the address", response_type="token"),
    _authorize("silent", "asks for no question to be asked", prompt="none"),
    _authorize("other-client", "asks as a client that is not registered", client_id="https://evil.example/client"),
    Attack(
        "api-servers-token",
        "bound",
        "asks the API with the victim's token for a server",
        Request(Token(VICTIM, OPEN), path="/api/v1/servers", verb="GET", body=b"", framed=False),
        (401,),
        BOTH,
        hopeless="the hub decides, whichever layer is open",
    ),
    Attack(
        "api-forged",
        "closed",
        "asks the API with a forged token",
        Request(Token(VICTIM, "api", key="own"), path="/api/v1/servers", verb="GET", body=b"", framed=False),
        (401,),
        BOTH,
        hopeless="the hub decides, whichever layer is open",
    ),
    Attack(
        "api-headers",
        "identity",
        "asks the API with the victim's identity headers",
        Request(
            None,
            path="/api/v1/servers",
            verb="GET",
            body=b"",
            framed=False,
            lines=("X-Forwarded-User: ana", 'X-Forwarded-Groups: ["security"]'),
        ),
        (401,),
        BOTH,
        hopeless="the hub decides, whichever layer is open",
    ),
)


def _told_everywhere(stand: Stand, door: Door) -> Seen:
    """The victim's token in every place that somebody could write down."""
    token = stand.token(Token(VICTIM, OPEN)) or ""
    places = (
        Request(None, path=f"/mcp/prod/ledger?access_token={token}"),
        Request(None, path=f"/mcp/prod/{token}"),
        Request(None, lines=(f"X-Token: {token}", f"User-Agent: {token}", f"Referer: http://x/?{token}")),
        Request(token, tool=token),
        Request(token, message={"method": token}),
        Request(token + "x", lines=(f"Traceparent: {token}", f"X-Request-Id: {token}")),
        Request(token, CLOSED),
    )
    for request in places:
        seen = stand.send(door, request)
    if door.by == "edge":
        stand.logged(re.search(r"x-request-id: (\S+)", seen.text)[1])  # type: ignore[index]
    signature = token.rpartition(".")[2].encode()
    found = holding(stand.home.root, {signature})
    return Seen(seen.status, "", tuple(f"written down in {path}" for path in found))


SECRETS = (
    Attack(
        "secret-told-everywhere",
        "secrets",
        "puts the victim's token into paths, queries, headers, names and traces",
        _told_everywhere,
        (401, 400),
        BOTH,
        frozenset(mark(OPEN, what, VICTIM) for what in (LOOK, "POST of nothing"))
        | {mark(OPEN, LOOK, "None"), mark(OPEN, "POST of nothing", "None"), mark(CLOSED, LOOK, VICTIM)},
        hopeless="a server that keeps what it is sent is its author's",
    ),
)

TABLE = (*SECRETS, *HUB)
