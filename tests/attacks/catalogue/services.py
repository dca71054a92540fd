"""Services that would be people, people who would be services, and services that are not granted what they call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.attacks.catalogue.attack import (
    BATCH,
    BOTH,
    CLOSED,
    EDGE,
    HIDDEN,
    OPEN,
    REPORTING,
    SERVER,
    VICTIM,
    WRITE,
    Attack,
    Held,
    Request,
    Token,
)

if TYPE_CHECKING:
    pass


def _service(
    id_: str,
    sends: str,
    token: Token,
    held: Held = BOTH,
    answer: tuple[int, ...] = (403,),
    certificate: str = REPORTING,
    **more: Any,
) -> Attack:
    server = token.server if token.server != "api" else OPEN
    request = Request(token, more.pop("server", server), certificate=certificate, **more)
    return Attack(f"service-{id_}", "services", sends, request, answer, held)


TABLE = (
    _service("person", "a service calls with a person's token", Token(VICTIM, OPEN), EDGE),
    _service(
        "person-closed", "a service calls a sensitive server with a person's token", Token(VICTIM, CLOSED), EDGE
    ),
    _service(
        "public-port", "calls at the public port with a service's token", Token(REPORTING, OPEN), EDGE, certificate=""
    ),
    _service(
        "other-certificate", "calls with another service's token", Token(REPORTING, OPEN), EDGE, certificate=BATCH
    ),
    _service(
        "other-certificate-header",
        "does so, and says whose token it is",
        Token(REPORTING, OPEN),
        EDGE,
        certificate=BATCH,
        lines=(f"X-Forwarded-User: {REPORTING}", f"X-Forwarded-Client-Cert: URI={REPORTING}"),
    ),
    _service(
        "not-granted",
        "a service that is not granted calls with a token of its own",
        Token(BATCH, OPEN),
        certificate=BATCH,
    ),
    _service("sensitive", "a service calls a sensitive server that it is granted", Token(REPORTING, CLOSED)),
    _service(
        "write", "a service calls what changes something", Token(REPORTING, OPEN), SERVER, (200, 403), tool=WRITE
    ),
    _service(
        "write-scope",
        "does so with a token of the whole scope",
        Token(REPORTING, OPEN, {"scope": "tools"}),
        SERVER,
        (200, 403),
        tool=WRITE,
    ),
    _service(
        "hidden", "a service calls a tool that is for people", Token(REPORTING, OPEN), SERVER, (200, 403), tool=HIDDEN
    ),
    _service(
        "groups",
        "a service's token has a person's groups",
        Token(BATCH, OPEN, {"groups": ["ads-eng"]}),
        certificate=BATCH,
        answer=(403, 401),
    ),
    _service(
        "session",
        "a service's token has a person's session",
        Token(BATCH, OPEN, {"sid": "x"}),
        certificate=BATCH,
        answer=(403, 401),
    ),
    _service(
        "surface",
        "a service's token is from a person's surface",
        Token(REPORTING, OPEN, {"surface": "cli"}),
        answer=(403, 401),
    ),
    _service(
        "person-by-name",
        "a person has a service's name",
        Token(REPORTING, OPEN, {"sub_type": "person", "surface": "cli", "scope": "tools"}),
        certificate="",
    ),
    _service(
        "person-by-name-and-surface",
        "a person has a service's name and surface",
        Token(REPORTING, OPEN, {"sub_type": "person"}),
        certificate="",
    ),
    _service(
        "not-spiffe",
        "a service has a person's name",
        Token(
            VICTIM,
            OPEN,
            {
                "sub_type": "service",
                "groups": [],
                "sid": None,
                "email": None,
                "surface": "service",
                "scope": "tools:read",
            },
        ),
        answer=(403, 401),
    ),
    _service(
        "other-domain",
        "a service has a name of another trust domain",
        Token("spiffe://evil.example/reporting", OPEN),
        answer=(403, 401),
    ),
    _service(
        "name-with-more",
        "a service has a name that goes on behind one that is granted",
        Token(f"{REPORTING}/x", OPEN),
        answer=(403, 401),
    ),
    _service(
        "replay",
        "a service replays its token at another server",
        Token(REPORTING, OPEN),
        answer=(401,),
        server=CLOSED,
    ),
)
