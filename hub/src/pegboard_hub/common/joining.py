"""What a joined edge and the hub share: the file it is joined with, and how the hub's answers are proved to be its.

An edge trusts what the hub's door says of keys as the hub's own edge trusts a file that the hub alone may write. So
every answer to an edge is sealed with that edge's credential and a number that it made for this one question: whoever
else answers, from wherever, can neither invent an answer nor repeat an old one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pegboard.core.bundle import EDGE, EDGE_NAME
from pegboard.core.errors import ConfigurationError
from pegboard.core.spiffe import is_spiffe_id
from pegboard_hub.common.faults import words

PROOF_HEADER = "pegboard-proof"
NONCE_HEADER = "pegboard-nonce"

MOST_FAULTS = 8
LONGEST_FAULT = 300

_LEAST_NONCE, _MOST_NONCE = 16, 128


def is_edge_name(name: str) -> bool:
    """Whether a joined edge may be called that; `edge` is the instance's own."""
    return EDGE_NAME.fullmatch(name) is not None and name != EDGE


def _name(name: str) -> str:
    if not is_edge_name(name):
        raise ValueError("use a to z, 0 to 9 and -, beginning with a letter, 31 at most, and not `edge`")
    return name


def _spiffe_id(text: str) -> str:
    if not is_spiffe_id(text):
        raise ValueError("is no SPIFFE ID, such as spiffe://example.org/pegboard/edge-second")
    return text


SpiffeId = Annotated[str, AfterValidator(_spiffe_id)]


def _origin(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or f"{parts.scheme}://{parts.netloc}" != url:
        raise ValueError("is no origin, such as https://mcp.example.com")
    return url


class GateAddress(BaseModel):
    """Where an instance on another machine is reached.

    Attributes:
        host: name or address of its machine.
        port: TCP port of its gate.
        spiffe_id: who the gate must be.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(min_length=1, max_length=255)
    port: int = Field(ge=1, le=65_535)
    spiffe_id: SpiffeId


class JoinFile(BaseModel):
    """What an edge is joined with. It holds a credential, so only its owner may read it.

    Attributes:
        name: of the edge.
        credential: says at the hub's door who it is.
        public_url: the one origin that all edges answer for.
        instance: the home of the instance, on this machine; hub and servers listen in there.
        hubs: what its hubs are called.
        services_port: the port that services use; 0 where they may not call.
        gate: the way to the instance, where it is on another machine.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    name: Annotated[str, AfterValidator(_name)]
    credential: str = Field(min_length=32, max_length=256, repr=False)
    public_url: Annotated[str, AfterValidator(_origin)]
    instance: Path
    hubs: tuple[str, ...] = ("hub",)
    services_port: int = Field(default=0, ge=0, le=65_535)
    gate: GateAddress | None = None


class EdgeWord(BaseModel):
    """What a joined edge says of itself. It is its own word: it is shown, and nothing is decided by it.

    Attributes:
        state: of its Envoy.
        version: of the bundle that it decides with; 0 for none.
        issued_at: when that was signed, in seconds since the epoch.
        faults: what it was told and does not use, a line each.
        software: the version of Pegboard that it runs.
        started_at: since when it runs, in seconds since the epoch.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    state: Literal["starting", "live", "down", "draining"]
    version: int = Field(default=0, ge=0, lt=1 << 53)
    issued_at: int = Field(default=0, ge=0, lt=1 << 53)
    faults: tuple[Annotated[str, Field(max_length=LONGEST_FAULT)], ...] = Field(default=(), max_length=MOST_FAULTS)
    software: str = Field(default="", max_length=32)
    started_at: int = Field(default=0, ge=0, lt=1 << 53)


def new_credential() -> str:
    """A credential that nobody has."""
    return secrets.token_urlsafe(32)


def digest_of(credential: str) -> str:
    """What the hub keeps of a credential: it tells whose one is, and makes none."""
    return hashlib.sha256(credential.encode()).hexdigest()


def new_nonce() -> str:
    """A number for one question."""
    return secrets.token_urlsafe(24)


def is_nonce(text: str) -> bool:
    """Whether that can be a number for one question."""
    return _LEAST_NONCE <= len(text) <= _MOST_NONCE and text.isascii() and text.isprintable()


def proof(digest: str, nonce: str, status: int, body: bytes) -> str:
    """The seal of an answer.

    Args:
        digest: of the credential that the question came with.
        nonce: the question's number.
        status: of the answer.
        body: of the answer.
    """
    said = b"\n".join((b"pegboard-edge-answer", nonce.encode(), str(status).encode(), body))
    return hmac.new(bytes.fromhex(digest), said, hashlib.sha256).hexdigest()


def is_proved(given: str, digest: str, nonce: str, status: int, body: bytes) -> bool:
    """Whether an answer is the hub's, to this question."""
    return hmac.compare_digest(given.encode(), proof(digest, nonce, status, body).encode())


def read_join_file(path: Path) -> JoinFile:
    """A join file.

    Raises:
        ConfigurationError: it cannot be read, others may read it, or it is none.
    """
    mend = "have the operator make a new one with `pegboard edge add`"
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(str(path), [f"others may read this credential; run: chmod 600 {path}"])
        text = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be read: {error.strerror}", mend]) from error
    try:
        return JoinFile.model_validate_json(text)
    except ValidationError as error:
        # Only the place and the fault are told: what was given may be the credential.
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        problem = f"{place}: {words(fault)}" if place else "is no join file"
        raise ConfigurationError(str(path), [problem, mend]) from error
