"""What a release declares: its tools and policies, read once in a sandbox and pinned from then on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from pegboard.core.manifest import Manifest


class DeclaredApproval(BaseModel):
    """The approval that a tool's code asks for. Whether a call needs it may depend on its arguments.

    Attributes:
        by, own, expires_s, why: as in `core.approval.Requirement`.
        always: whether every call needs it; else the code looks at the arguments.
        each: the list whose elements are approved one by one; empty without.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: str
    own: bool
    expires_s: int
    why: str = ""
    always: bool = True
    each: str = ""


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
    approval: DeclaredApproval | None = Field(default=None, description="who must approve a call; None: nobody")
    confirmation: str | None = Field(
        default=None, description="what callers confirm, with arguments in braces; None: nothing"
    )

    @model_serializer(mode="wrap")
    def _as_pinned_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what a tool does not ask for: a release that was pinned before there was any keeps its digest."""
        written: dict[str, Any] = write(self)
        return {name: value for name, value in written.items() if value is not None or name not in _LATER}


_LATER = ("approval", "confirmation")
"""Fields of a tool that came after releases had been pinned without them."""


_LATER_DECLARED = ("can_ask", "artifact", "instructions")
"""Fields of a declaration that came after releases had been pinned without them."""


class Declaration(BaseModel):
    """Everything the hub knows of a release without running its code again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    manifest: Manifest
    tools: tuple[ToolDeclaration, ...]
    policies: dict[str, str] = Field(description="policy name to Cedar text")
    can_ask: bool = Field(
        default=False,
        description="the kit it is built with asks for an approval where the registry requires one; an older one "
        "says nothing of it, and its tools are stopped instead",
    )
    artifact: str = Field(
        default="",
        pattern="^([0-9a-f]{64})?$",
        description="digest of what it was built into (`core.publishing.Artifact`); empty where it is followed from "
        "a folder",
    )

    instructions: str = Field(
        default="", description="what a client's model is told before it uses the tools (MCP's `instructions`)"
    )

    @property
    def pinned(self) -> Declaration:
        """What the code itself declares: the same wherever, and into whatever, it was built."""
        return self.model_copy(update={"artifact": ""})

    @property
    def digest(self) -> str:
        """Content address: SHA-256 over the canonical JSON of the declaration, in hex."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    @property
    def canonical(self) -> str:
        """The declaration as JSON, for its digest and for the kit that it was built with, which may be an older one.

        Without what it does not say and older kits did not know: so it was pinned, and that is all that they read.
        """
        unsaid = {name for name in _LATER_DECLARED if not getattr(self, name)}
        said = self.model_dump(mode="json", exclude=unsaid) | {"manifest": self.manifest.as_pinned()}
        return json.dumps(said, sort_keys=True, separators=(",", ":"))
