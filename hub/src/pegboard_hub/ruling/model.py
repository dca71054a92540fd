"""What is kept of coarse rules: every version of the whole set, with who made it, when and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import JSON, BigInteger, Column, Integer, String, Table, Text

from pegboard.core.coarse import NO_RULE_SET, RuleSet
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.tables import ACTOR_LENGTH
from pegboard_hub.storage.metadata import metadata

rule_versions = Table(
    "rule_versions",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("action", String(8), nullable=False, comment="apply or revert"),
    Column("reverts_to", Integer, comment="of a revert: the version whose rules it brings back"),
    Column("why", Text, nullable=False),
    Column("actor", String(ACTOR_LENGTH), nullable=False),
    Column("actor_kind", String(8), nullable=False, comment="person or operator"),
    Column("text", Text, nullable=False, comment="the file as it was written"),
    Column("rules", JSON, nullable=False, comment="the whole set, each rule as core.coarse has it"),
    Column("since", JSON, nullable=False, comment="by rule: the version that made it what it is"),
)
"""Append-only: the database itself refuses to change or remove a row."""

Action = Literal["apply", "revert"]


@dataclass(frozen=True, slots=True)
class Version:
    """One version, without its rules. `at_ms` is in milliseconds since the epoch."""

    version: int
    at_ms: int
    action: Action
    reverts_to: int | None
    why: str
    by: Actor


@dataclass(frozen=True, slots=True)
class Kept:
    """One version with its rules.

    Attributes:
        made: who made it; None of version 0, which nobody made and which has no rules.
        text: the file, without the line that says of which version it is.
        since: by rule, the version that made it what it is.
    """

    rules: RuleSet = NO_RULE_SET
    made: Version | None = None
    text: str = ""
    since: Mapping[str, int] = field(default_factory=dict)

    @property
    def version(self) -> int:
        """Its number."""
        return self.rules.version


NOTHING_KEPT = Kept()
