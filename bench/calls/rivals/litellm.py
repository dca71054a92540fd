"""LiteLLM's MCP gateway, with a master key and no database, before the bare SDK server."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path

import httpx2

from bench.calls import peers, processes
from bench.calls.rival import Target
from bench.calls.rivals.gateway import Gateway

_QUIET = {"LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}


class LiteLlm(Gateway):
    """One worker, as its quick start runs it. It does not speak the modern era."""

    name = "litellm"
    label = "LiteLLM MCP gateway"
    eras: tuple[str, ...] = ("legacy",)
    peer = "litellm"

    def __init__(self) -> None:
        super().__init__()
        self._key = f"sk-{secrets.token_hex(16)}"

    def start(self, folder: Path) -> None:
        """Start the server, then the gateway that names it in its configuration."""
        upstream_url = self._start_server(folder)
        upstream = {"url": upstream_url, "transport": "http", "allow_all_keys": True}
        config = {
            "mcp_servers": {"echo": upstream},
            "general_settings": {"master_key": self._key},
            "litellm_settings": {"telemetry": False},
        }
        (folder / "litellm.yaml").write_text(json.dumps(config), encoding="utf-8")
        command = [str(peers.environment("litellm") / "litellm"), "--config", "litellm.yaml"]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        log = folder / "litellm.log"
        self._process = processes.start(command, log, processes.private(folder, **_QUIET), folder)
        processes.until(self._ready, "LiteLLM answers", log)

    def target(self) -> Target:
        """The gateway's endpoint; it puts the server's name before the tool's."""
        return Target(self._port, tool="echo-echo", headers={"Authorization": f"Bearer {self._key}"})

    def versions(self) -> Mapping[str, str]:
        """LiteLLM's, and the SDK's under it."""
        return peers.pinned("litellm", "litellm", "mcp")

    def _ready(self) -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{self._port}/health/liveliness").is_success
        except httpx2.HTTPError:
            return False
