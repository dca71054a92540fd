"""What a backup holds: everything of a home that cannot be made again, as a table.

A member of the archive is named as its file in the home. Environments, releases, logs, sockets and bundles are not in
it: `pegboard up` makes them again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pegboard.core.names import NAME_PATTERN

DATABASE = "data/pegboard.db"
INSTANCE = "instance.json"
ACCESS_LOG = "log/edge-access.log"
GRANTS = "from-backup/grants.toml"
DIRECTORY = "from-backup/directory.toml"
MANIFEST = "manifest.json"
SIGNING_KEYS = (
    "keys/token-signing.jwk.json",
    "keys/bundle-signing.jwk.json",
    "keys/release-signing.jwk.json",
)
"""What no backup holds, and no restore brings back where one of an older version does.

A key that was given up must not return, and a stolen backup must not be a key that leaked (docs/decisions/0038).
"""

_SERVER = rf"{NAME_PATTERN}\.{NAME_PATTERN}"
_FILE = r"(?!\.{1,2}(?:/|$))[^/\x00-\x1f\x7f]{1,255}"


class Part(StrEnum):
    """Which part of an instance a member belongs to; the value is what an operator reads."""

    DATABASE = "the database: registry, ledger, versions of bundles"
    KEYS = "private keys: who has them can read what is kept of sign-ins, and recognise arguments by their digests"
    SECRETS = "the servers' secrets, as they are"
    SPOOLS = "call records that the hub does not have yet"
    STATE = "what servers keep of their own"
    ACCESS_LOG = "refusals of the edge that the hub does not have yet"
    KITS = "the kits that releases were made with"
    SETTINGS = "port, public URL, grants file"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of member.

    Attributes:
        part: what it belongs to.
        name: the whole name of such a member.
        mode: the file's mode in a home.
    """

    part: Part
    name: re.Pattern[str]
    mode: int = 0o600


KINDS = (
    Kind(Part.DATABASE, re.compile(re.escape(DATABASE))),
    Kind(Part.KEYS, re.compile(r"keys/[A-Za-z0-9][A-Za-z0-9._-]{0,127}")),
    Kind(Part.KEYS, re.compile(rf"credentials/{_SERVER}\.json"), 0o400),
    Kind(Part.SECRETS, re.compile(rf"secrets/{_SERVER}/{_FILE}(?:/{_FILE}){{0,7}}")),
    Kind(
        Part.SPOOLS, re.compile(rf"spool/{_SERVER}/(?:cursor\.json|[0-9]{{1,32}}-[0-9]{{1,16}}-[0-9]{{1,16}}\.jsonl)")
    ),
    Kind(Part.STATE, re.compile(rf"state/{_SERVER}/{_FILE}")),
    Kind(Part.ACCESS_LOG, re.compile(re.escape(ACCESS_LOG))),
    Kind(
        Part.KITS,
        re.compile(r"packages/(?:newest\.json|[0-9a-f]{64}/pegboard-[A-Za-z0-9.+!]{1,64}-py3-none-any\.whl)"),
        0o644,
    ),
    Kind(Part.SETTINGS, re.compile("|".join(map(re.escape, (INSTANCE, GRANTS, DIRECTORY)))), 0o644),
)


def kind_of(name: str) -> Kind | None:
    """The kind of member that `name` is; None when no backup has such a member."""
    return next((kind for kind in KINDS if kind.name.fullmatch(name)), None)


class Member(BaseModel):
    """One file of a backup: its name, its size in bytes, and the SHA-256 of its content in hex."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """The first member of a backup: what it is, and what else is in it.

    Attributes:
        format: of the archive; a later one that older versions would misread has another number.
        pegboard: version that made it.
        db_schema: revision of the database's schema; empty where the database is at a server, and so not in it.
        made_at: RFC 3339, UTC; everything acknowledged before is in it.
        public_url: issuer of the tokens that its keys signed.
        grants: where the operator's grants file was.
        members: every other member.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    pegboard: str
    db_schema: str
    made_at: str
    public_url: str
    grants: str
    members: tuple[Member, ...]

    def parts(self) -> list[Part]:
        """The parts that are in it, in the order of the table."""
        return parts_of(member.name for member in self.members)


def parts_of(names: Iterable[str]) -> list[Part]:
    """The parts that members of these names belong to, in the order of the table."""
    found = {kind.part for name in names if (kind := kind_of(name))}
    return [part for part in Part if part in found]
