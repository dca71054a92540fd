"""What a release declares: its tools and policies, read once in a sandbox and pinned from then on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pegboard.core.manifest import Manifest


class ToolDeclaration(BaseModel):
    """One tool as its author declared it. Titles, descriptions and schemas are untrusted text (`declared`).

    A hint is None where the author said nothing: MCP's default for that is a client's guess, and not a declaration.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str | None = None
    description: str = ""
    policy: str = Field(description="name of the Cedar policy that decides list and call")
    minutes_saved: float = Field(
        default=0, ge=0, allow_inf_nan=False, description="minutes one call saves a person, as the owner declares"
    )
    read_only: bool = Field(
        default=False, description="it changes nothing, as its author declares (MCP's readOnlyHint)"
    )
    destructive: bool | None = Field(
        default=None, description="it may overwrite or delete, as its author declares (MCP's destructiveHint)"
    )
    idempotent: bool | None = Field(
        default=None, description="calling it again changes nothing more, as its author declares (idempotentHint)"
    )
    open_world: bool | None = Field(
        default=None, description="it deals with what is outside the company, as its author declares (openWorldHint)"
    )
    input_schema: dict[str, Any] = {}
    output_schema: dict[str, Any] | None = Field(default=None, description="of its structured answer; None without")


class Declaration(BaseModel):
    """Everything the hub knows of a release without running its code again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    manifest: Manifest
    tools: tuple[ToolDeclaration, ...]
    policies: dict[str, str] = Field(description="policy name to Cedar text")

    @property
    def digest(self) -> str:
        """Content address: SHA-256 over the canonical JSON of the declaration, in hex."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
