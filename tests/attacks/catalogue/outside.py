"""The attacks that need nothing but an address and a token, on an instance that is somebody's own.

There are no canaries: an attack got through when it is answered with a result. The tool that is called does not
exist, so that nothing runs even then. What needs the hub's key, a second person or a service is left out.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from pegboard.core.jose import Jwk, new_private_key
from tests.attacks.catalogue.attack import ABSENT, ATTACKER, CLOSED, LOOK, OPEN, Attack, Request, Seen, Token
from tests.attacks.catalogue.stand import WHOLE, Door, Stand, unverified

ELSEWHERE = "prod/pegboard-attacks"
"""A server that hopefully nobody has."""


class Outside(Stand):
    """Somebody's own instance, as a caller sees it.

    Args:
        url: its origin.
        server: one that the token is for.
        token: of the caller, for this server.
    """

    def __init__(self, url: str, server: str, token: str) -> None:
        self.public_url, self._server, self._own = url.rstrip("/"), server, token
        found = urlsplit(self.public_url)
        self.host, self._secure = found.hostname or "", found.scheme == "https"
        self.port = found.port or (443 if self._secure else 80)
        self._claims = unverified(f"Bearer {token}")
        self.own_key: Jwk = new_private_key()
        kid = json.loads(_decoded(token.split(".")[0])).get("kid")
        self._keys = {"hub": {"kid": kid}, "own": self.own_key}

    def fits(self, attack: Attack) -> bool:
        """Whether it can be tried from outside."""
        how = attack.how
        if (
            not isinstance(how, Request)
            or attack.may
            or 200 in attack.answer
            or how.certificate
            or how.era == "legacy"
        ):
            return False
        token = how.token
        if attack.promise == "stop":  # who or what is stopped there, nobody knows here
            return False
        own = token in (Token(ATTACKER, OPEN), None) or isinstance(token, str)
        forged = isinstance(token, Token) and token.key == "own" and token.made is None
        return (own or forged) and how.session == ""

    def attempt(self, attack: Attack) -> tuple[Seen, tuple[str, ...]]:
        """Try an attack; what was seen, and what got through, in words."""
        assert isinstance(attack.how, Request)
        seen = self.send(WHOLE, self._placed(attack.how))
        result = '"result"' in seen.text and '"jsonrpc"' in seen.text
        return seen, (f"answered with {seen.status} and a result",) if result else ()

    def usual(self, _who: str, _server: str) -> dict[str, Any]:
        return self._claims

    def token(self, token: Token | str | None) -> str | None:
        return self._own if token == Token(ATTACKER, OPEN) else super().token(token)

    def _placed(self, how: Request) -> Request:
        """The request, with this instance's names in the place of the stand's."""

        def named(text: str) -> str:
            return text.replace(OPEN, self._server).replace(CLOSED, ELSEWHERE).replace("localhost", self.host)

        body = how.body and named(how.body.decode("latin-1")).encode("latin-1").replace(
            f'"{LOOK}"'.encode(), f'"{ABSENT}"'.encode()
        )
        names = {"path": named(how.path), "line": named(how.line), "lines": tuple(map(named, how.lines))}
        tool = ABSENT if how.tool == LOOK else how.tool
        return replace(how, **names, body=body, tool=tool, server=named(how.server))

    @contextmanager
    def connected(self, _door: Door, request: Request) -> Iterator[socket.socket]:
        with socket.create_connection((self.host, self.port), 10) as plain:
            if not self._secure:
                yield plain
                return
            context = ssl.create_default_context()
            context.set_alpn_protocols(["h2" if request.version == "HTTP/2" else "http/1.1"])
            with context.wrap_socket(plain, server_hostname=self.host) as secure:
                yield secure


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
