"""Those that are compared, a file each kind."""

from __future__ import annotations

from bench.calls.rival import Rival
from bench.calls.rivals.contextforge import ContextForge
from bench.calls.rivals.envoy import GuardedEnvoy, PlainEnvoy
from bench.calls.rivals.fastmcp import FastMcpProxy, FastMcpServer
from bench.calls.rivals.litellm import LiteLlm
from bench.calls.rivals.pegboard import Pegboard
from bench.calls.rivals.sdk import SdkServer


def all_rivals() -> list[Rival]:
    """Every rival, not started."""
    return [
        SdkServer(),
        SdkServer(fast=True),
        PlainEnvoy(),
        GuardedEnvoy(),
        Pegboard(),
        FastMcpServer(),
        FastMcpProxy(),
        LiteLlm(),
        ContextForge(),
    ]
