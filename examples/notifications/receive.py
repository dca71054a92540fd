"""Take Pegboard's webhooks: know that each is Pegboard's, take each once, and print what a chat would be told.

    WEBHOOK_SECRET=whsec_… python receive.py 8800

Messages are signed as Standard Webhooks 1.0.0 says; its site has libraries for most languages:
https://www.standardwebhooks.com
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

TOLERANCE_S: Final = 300
"""How far a message's time may be from ours: an older one is somebody's who kept it."""

MOST_BYTES: Final = 64 * 1024
REMEMBERED: Final = 10_000

WORDS: Final = {
    "approval.requested": "{person_name} asks for a yes of {asks}: {tool} of {server}",
    "approval.expiring": "still waits for a yes of {asks}: {tool} of {server}, asked by {person_name}",
    "approval.decided": "{state} by {decided_by_name}: {tool} of {server}, asked by {person_name}",
    "approval.unknown": "nobody knows how it ended: {tool} of {server}, asked by {person_name}",
    "pegboard.test": "a test for {destination}",
}


def verify(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> bool:
    """Whether a message is Pegboard's, and of now.

    Args:
        headers: by their names in lower case.
        body: as it came, before anybody parsed it.
        secret: `whsec_…`, as Pegboard has it.
        now: seconds since the epoch.
    """
    id_, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not id_ or not (at.isascii() and at.isdigit()) or abs(now - int(at)) > TOLERANCE_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    wanted = base64.b64encode(hmac.digest(key, f"{id_}.{at}.".encode() + body, "sha256"))
    signatures = (each.partition(",") for each in headers.get("webhook-signature", "").split(" "))
    # In constant time; while a secret is changed there are two.
    return any(version == "v1" and hmac.compare_digest(wanted, said.encode()) for version, _, said in signatures)


def text(message: dict[str, Any]) -> str:
    """What people are told. Names are others' words: show them as text, never as markup."""
    data = message["data"]
    what = WORDS.get(message["type"], message["type"]).format_map(data)
    many = f" ({data['count']} actions)" if data.get("count", 1) > 1 else ""
    return "".join(sign if sign.isprintable() else " " for sign in f"{what}{many}: {data['page']}")


class Receiver(ThreadingHTTPServer):
    """Takes messages; `seen` are the ids of those that came already, for they come at least once."""

    def __init__(self, port: int, secret: str) -> None:
        self.secret = secret
        self.seen: OrderedDict[str, None] = OrderedDict()
        super().__init__(("127.0.0.1", port), Handler)

    def is_new(self, id_: str) -> bool:
        """Whether it comes for the first time."""
        new = id_ not in self.seen
        self.seen[id_] = None
        if len(self.seen) > REMEMBERED:
            self.seen.popitem(last=False)
        return new


class Handler(BaseHTTPRequestHandler):
    """One message."""

    server: Receiver

    def do_POST(self) -> None:
        """Answer first, and within some seconds; whoever has much to do does it afterwards."""
        length = self.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MOST_BYTES:
            self.send_error(413)
            return
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not verify(headers, body, self.server.secret, time.time()):
            self.send_error(401)
            return
        self.send_response(204)
        self.end_headers()
        if self.server.is_new(headers["webhook-id"]):
            print(text(json.loads(body)), flush=True)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing of a request."""


if __name__ == "__main__":
    Receiver(int(sys.argv[1]), os.environ["WEBHOOK_SECRET"]).serve_forever()
