"""IBM ContextForge on SQLite with a token and without its rate limit, before the bare SDK server."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2

from bench.calls import peers, processes
from bench.calls.rival import Target
from bench.calls.rivals.gateway import Gateway

_ADMIN = "admin@example.com"
_TOKEN_MINUTES = 120


class ContextForge(Gateway):
    """One worker. The server is registered as a gateway and offered through a virtual server of its own."""

    name = "contextforge"
    label = "IBM ContextForge, rate limit off"
    eras: tuple[str, ...] = ("legacy",)
    peer = "contextforge"

    def __init__(self) -> None:
        super().__init__()
        self._path = ""
        self._token = ""
        self._settings: dict[str, str] = {}

    def start(self, folder: Path) -> None:
        """Start the server and the gateway, and register the one with the other."""
        upstream_url = self._start_server(folder)
        binaries = peers.environment("contextforge")
        self._settings = processes.private(folder, **settings(folder))
        command = [str(binaries / "mcpgateway"), "--host", "127.0.0.1", "--port", str(self._port)]
        log = folder / "contextforge.log"
        self._process = processes.start(command, log, self._settings, folder)
        processes.until(self._ready, "ContextForge answers", log)
        self._token = self._new_token(binaries, folder)
        self._path = self._register(upstream_url)

    def target(self) -> Target:
        """The virtual server's endpoint; the gateway's name stands before the tool's."""
        return Target(self._port, self._path, "echo-echo", {"Authorization": f"Bearer {self._token}"})

    def versions(self) -> Mapping[str, str]:
        """ContextForge's, and the SDK's under it."""
        return peers.pinned("contextforge", "mcp-contextforge-gateway", "mcp")

    def _ready(self) -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{self._port}/health").is_success
        except httpx2.HTTPError:
            return False

    def _new_token(self, binaries: Path, folder: Path) -> str:
        command = [str(binaries / "python"), "-m", "mcpgateway.utils.create_jwt_token", "--username", _ADMIN]
        command += ["--exp", str(_TOKEN_MINUTES), "--secret", self._settings["JWT_SECRET_KEY"]]
        said = subprocess.run(command, env=self._settings, cwd=folder, check=True, capture_output=True, text=True)
        return said.stdout.split()[-1]

    def _register(self, upstream: str) -> str:
        self._api("/gateways", {"name": "echo", "url": upstream, "transport": "STREAMABLEHTTP"})
        tool = self._api("/tools")[0]["id"]
        server = self._api("/servers", {"server": {"name": "echo", "associated_tools": [tool]}})
        return f"/servers/{server['id']}/mcp"

    def _api(self, path: str, document: object = None) -> Any:
        headers = {"authorization": f"Bearer {self._token}"}
        method, url = "GET" if document is None else "POST", f"http://127.0.0.1:{self._port}{path}"
        answer = httpx2.request(method, url, json=document, headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()


def settings(folder: Path) -> dict[str, str]:
    """What it must be told, and what a bench wants."""
    password = f"Aa1!{secrets.token_hex(16)}"
    return {
        "DATABASE_URL": f"sqlite:///{folder}/mcp.db",
        "CACHE_TYPE": "memory",
        "JWT_SECRET_KEY": secrets.token_hex(32),
        "AUTH_ENCRYPTION_SECRET": secrets.token_hex(32),
        "PLATFORM_ADMIN_EMAIL": _ADMIN,
        "PLATFORM_ADMIN_PASSWORD": password,
        "BASIC_AUTH_PASSWORD": password,
        "RATE_LIMITING_ENABLED": "false",
        "SSRF_ALLOW_LOCALHOST": "true",  # the server behind it is on this machine
    }
