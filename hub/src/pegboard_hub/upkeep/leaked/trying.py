"""Trying a leaked key where it must open nothing: a token that it signs, of nobody, for each door.

Nobody is granted anything, so a door that still believes the key refuses for that reason (403), and one that does not
refuses the token (401): which of the two is all that is asked. The tokens live for a minute.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from pegboard.core.jose import Signer
from pegboard.core.names import ServerName, api_audience
from pegboard.core.scopes import SCOPE_API, SERVER_SCOPES
from pegboard.core.token import TOKEN_TYPE
from pegboard_hub.common.certificates import noted_files, trusting
from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import noted
from pegboard_hub.identity.leaks import NOBODY, TRYING
from pegboard_hub.identity.secrets import new_id

LIFETIME_S = 60
ANSWER_S = 5.0
MOST_SERVERS = 20
"""Servers that are tried; all read their bundles alike."""

EDGE, HUB_API = "edge", "hub's API"
BELIEVED, REFUSED, SILENT = "believed", "refused", "silent"


@dataclass(frozen=True, slots=True)
class Door:
    """One place where tokens are verified.

    Attributes:
        name: as an operator reads it.
        audience: what a token for it names.
        uds: the socket that it is reached by; empty: through the edge.
        path: of the request.
    """

    name: str
    audience: str
    path: str
    uds: str = ""


def doors(home: Home, public_url: str, servers: list[str]) -> Iterator[Door]:
    """The edge, the hub's API behind it, and the servers' own sockets, past the edge."""
    named = [ServerName.parse(name) for name in sorted(servers)[:MOST_SERVERS]]
    for first in named[:1]:
        yield Door(EDGE, first.resource_url(public_url), first.path)
    yield Door(HUB_API, api_audience(public_url), "/api/v1/whoami", str(home.hub_socket))
    for name in named:
        yield Door(str(name), name.resource_url(public_url), name.path, str(home.socket(name)))


class Forger:
    """Signs as who has the key would."""

    def __init__(self, home: Home, public_url: str, key: Mapping[str, Any]) -> None:
        self._home = home
        self._public_url = public_url
        self._signer = Signer(dict(key))

    def token(self, audience: str) -> str:
        """A token of nobody, which verifies for whoever believes the key."""
        now = int(time.time())
        api = audience == api_audience(self._public_url)
        claims = {
            "iss": self._public_url,
            "sub": NOBODY,
            "sub_type": "person",
            "email": NOBODY,
            "groups": [],
            "client_id": TRYING,
            "surface": "cli",
            "scope": SCOPE_API if api else SERVER_SCOPES[0],
            "sid": new_id(),
            "aud": audience,
            "iat": now,
            "exp": now + LIFETIME_S,
            "jti": new_id(),
        }
        return self._signer.sign(claims, TOKEN_TYPE)

    def tried(self, door: Door) -> str:
        """What a door makes of the key: `BELIEVED`, `REFUSED`, or `SILENT` where it does not answer."""
        headers = {
            "authorization": f"Bearer {self.token(door.audience)}",
            "accept": "application/json, text/event-stream",
            "host": self._public_url.partition("://")[2],
            "x-forwarded-user": NOBODY,
            "x-forwarded-groups": "[]",
            "x-forwarded-surface": "cli",
        }
        extensions = {} if door.uds else {"sni_hostname": httpx2.URL(self._public_url).host}
        try:
            with self._client(door) as client:
                if door.name == HUB_API:
                    asked = client.build_request("GET", door.path, headers=headers)
                else:
                    content = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
                    asked = client.build_request(
                        "POST", door.path, json=content, headers=headers, extensions=extensions
                    )
                status = client.send(asked).status_code
        except (httpx2.HTTPError, OSError):
            return SILENT
        if status >= 500 or status == httpx2.codes.TOO_MANY_REQUESTS:
            return SILENT
        return REFUSED if status == httpx2.codes.UNAUTHORIZED else BELIEVED

    def _client(self, door: Door) -> httpx2.Client:
        if door.uds:
            return httpx2.Client(
                transport=httpx2.HTTPTransport(uds=door.uds), base_url="http://server", timeout=ANSWER_S
            )
        instance = noted(self._home)
        host = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with
        bind = str(instance.get("bind") or "")
        name = host.get(bind, bind)
        address = f"[{name}]" if ":" in name else name
        port = int(instance.get("port") or 8400)
        if noted_files(instance) is None:
            return httpx2.Client(base_url=f"http://{address}:{port}", timeout=ANSWER_S)
        context = trusting(self._home.edge_certificate)
        return httpx2.Client(verify=context, base_url=f"https://{address}:{port}", timeout=ANSWER_S)
