"""Call a tool as a service, with an X.509 SVID: no person, no secret that is kept.

    python call.py SVID-FOLDER https://localhost:8443 http://localhost:8400/mcp/dev/scratch echo text=hello

The folder has `svid.pem`, `svid_key.pem` and `bundle.pem`, as `pegboard svid --keep` or SPIRE's spiffe-helper renews
them. Certificate and token are short-lived: the files are read anew for each token, and a token is asked for when the
last one is old.
"""

from __future__ import annotations

import ssl
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

VERSION = "2026-07-28"
EARLY_S = 30
"""Seconds before its end at which a token is replaced."""


class Service:
    """One service that calls one server.

    Args:
        folder: of the SVID.
        edge: the edge's address for services.
        resource: the server's URL, by which tokens are bound to it.
    """

    def __init__(self, folder: Path, edge: str, resource: str) -> None:
        self._folder, self._edge, self._resource = folder, edge, resource
        self._client: httpx2.Client | None = None
        self._until = 0.0

    def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool; the result of `tools/call`, or the refusal under `error`."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "reporting", "version": "1"},
        }
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments, "_meta": meta},
        }
        headers = {"mcp-protocol-version": VERSION, "mcp-method": "tools/call", "mcp-name": tool}
        answer = self._connected().post(urlsplit(self._resource).path, json=message, headers=headers)
        return dict(answer.json())

    def _connected(self) -> httpx2.Client:
        """A client with a token that lives a while yet."""
        if self._client is not None and time.time() < self._until - EARLY_S:
            return self._client
        context = ssl.create_default_context(cafile=str(self._folder / "bundle.pem"))
        context.load_cert_chain(self._folder / "svid.pem", self._folder / "svid_key.pem")
        client = httpx2.Client(base_url=self._edge, verify=context)
        form = {"grant_type": "client_credentials", "resource": self._resource}
        answer = client.post("/oauth/token", data=form)
        told = answer.json()
        if answer.status_code != 200:
            raise SystemExit(f"no token: {told['error']}: {told['error_description']}")
        client.headers["authorization"] = f"Bearer {told['access_token']}"
        client.headers["accept"] = "application/json, text/event-stream"
        if self._client is not None:
            self._client.close()
        self._client, self._until = client, time.time() + told["expires_in"]
        return client


if __name__ == "__main__":
    where, edge, resource, tool, *given = sys.argv[1:]
    answer = Service(Path(where), edge, resource).call(tool, dict(pair.split("=", 1) for pair in given))
    if "error" in answer:
        raise SystemExit(answer["error"]["message"])
    print(*(part["text"] for part in answer["result"]["content"]), sep="\n")
