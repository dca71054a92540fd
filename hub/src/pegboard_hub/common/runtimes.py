"""What a runtime of its own and the hub share: the file it is started with, and what its servers show to the hub.

A server's channel is not registered anywhere: its token says whose it is, sealed with the SHA-256 of the runtime's
credential, which is what the hub keeps. So a runtime can only speak for servers that the hub lets it run, whatever
dies in between there is nothing to tell anew, and taking the runtime away takes all its servers' channels.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pegboard.core.errors import ConfigurationError
from pegboard.core.names import ServerName
from pegboard_hub.common.faults import words
from pegboard_hub.common.joining import SpiffeId

MACHINE = "machine"
"""The runtime inside an instance's own supervisor: it shows the operator's credential."""

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,30}$"
_PREFIX = "rt"


class RuntimeFile(BaseModel):
    """What a runtime shows at the hub. It holds a credential, so only its owner may read it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    credential: str = Field(min_length=32, max_length=256, repr=False, pattern=r"^[\w-]+$")


class KnownRuntime(BaseModel):
    """What the hub keeps of a runtime.

    Attributes:
        name: what it is called; `machine` is the instance's own.
        digest: SHA-256 of its credential, in hex.
        spiffe_id: who it is at the gate; empty where it comes to the socket.
        servers: SPIFFE IDs of its servers begin so, at the gate; empty for none.
        namespaces: of Pegboard; whose submitted servers it runs.
        builds: it builds what is submitted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME_PATTERN)
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    spiffe_id: SpiffeId | Literal[""] = ""
    namespaces: tuple[str, ...] = ()
    builds: bool = False

    @field_validator("name")
    @classmethod
    def _another(cls, name: str) -> str:
        if name == MACHINE:
            raise ValueError("is the instance's own runtime; name it otherwise")
        return name

    @model_validator(mode="after")
    def _is_one_thing(self) -> KnownRuntime:
        # Who runs servers holds their channels, and who builds reads strangers' code: one credential is not for both.
        if self.builds == bool(self.namespaces):
            raise ValueError("it either runs servers of some namespaces, or builds")
        return self


class RuntimeChannel(NamedTuple):
    """What a channel's token says, once its seal was found good."""

    runtime: str
    server: ServerName
    release: str


def new_runtime(name: str) -> RuntimeFile:
    """A runtime with a credential that nobody has.

    Raises:
        pydantic.ValidationError: the name cannot be one.
    """
    return RuntimeFile(name=name, credential=secrets.token_urlsafe(32))


def digest_of(credential: str) -> str:
    """What the hub keeps of a credential."""
    return hashlib.sha256(credential.encode()).hexdigest()


def channel_token(runtime: str, digest: str, server: ServerName, release: str) -> str:
    """What a server's process shows at the hub.

    Args:
        runtime: the name of the one that runs it.
        digest: of that one's credential.
        server: the server.
        release: digest of its release.
    """
    said = f"{_PREFIX}.{runtime}.{server.namespace}.{server.name}.{release}"
    return f"{said}.{_seal(digest, said)}"


def runtime_in(token: str) -> str:
    """The runtime that a token says it is of; empty where it is no such token. Nothing is proved by it."""
    parts = token.split(".")
    return parts[1] if len(parts) == 6 and parts[0] == _PREFIX else ""


def open_channel_token(token: str, digest: str) -> RuntimeChannel | None:
    """What a token says, where it is sealed with this digest; None where it is not.

    Args:
        token: as it came.
        digest: of the credential of the runtime that it says it is of.
    """
    said, _, seal = token.rpartition(".")
    if not hmac.compare_digest(seal.encode(), _seal(digest, said).encode()):
        return None
    parts = said.split(".")
    if len(parts) != 5 or parts[0] != _PREFIX:
        return None
    try:
        return RuntimeChannel(parts[1], ServerName(parts[2], parts[3]), parts[4])
    except ValueError:
        return None


def digest_key(credential: str, server: ServerName) -> str:
    """A server's key for digests, in hex: the same for all its pods, and kept nowhere. The hub cannot make it."""
    said = f"pegboard/digest-key/v1\n{server}".encode()
    return hmac.new(credential.encode(), said, hashlib.sha256).hexdigest()


def read_runtime_file(path: Path) -> RuntimeFile:
    """The file that a runtime is started with.

    Raises:
        ConfigurationError: it cannot be read, or is none.
    """
    mend = "have the operator make one with `pegboard runtime add`"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be read: {error.strerror}", mend]) from error
    try:
        return RuntimeFile.model_validate_json(text)
    except ValidationError as error:
        # Only the place and the fault are told: what was given may be the credential.
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise ConfigurationError(str(path), [f"{place or 'file'}: {words(fault)}", mend]) from error


def known_runtimes(folder: Path) -> dict[str, KnownRuntime]:
    """The runtimes that the hub knows, by name; what cannot be read is none.

    Raises:
        OSError: the folder cannot be read.
    """
    found: dict[str, KnownRuntime] = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            known = KnownRuntime.model_validate(json.loads(path.read_bytes()))
        except (OSError, ValueError):
            continue
        if known.name == path.stem:
            found[known.name] = known
    return found


def runtime_of(known: Mapping[str, KnownRuntime], namespace: str) -> str:
    """The runtime for servers of a namespace: the instance's own has what no other is named for.

    Of two that are named for it the first by name is: nothing runs twice.
    """
    return next((name for name in sorted(known) if namespace in known[name].namespaces), MACHINE)


def runs(known: Mapping[str, KnownRuntime], runtime: str, namespace: str) -> bool:
    """Whether a runtime is the one for servers of a namespace."""
    return runtime_of(known, namespace) == runtime


def _seal(digest: str, said: str) -> str:
    return hmac.new(bytes.fromhex(digest), f"pegboard-channel\n{said}".encode(), hashlib.sha256).hexdigest()
