"""What a server process is given: environment variables and files, and nothing else (design §4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from pegboard.core.errors import ConfigurationError

DOES_NOT_FIT = 2
"""Exit status of a server process: its project or its environment is wrong, and starting it again mends nothing."""

SMOKE_YES = "yes"

DECLARES_OTHERWISE = 3
"""Exit status of a server process whose code declares something else than what was pinned."""


@dataclass(frozen=True, slots=True)
class ServerEnvironment:
    """The launch contract between the runtime and one server process.

    Each field is the variable PEGBOARD_<FIELD IN CAPITALS>. Those with a default may be left out: a runtime that is
    older than this kit knows none of them.

    Attributes:
        server: `namespace/name`.
        release: digest of the release that is running.
        project: folder with `pegboard.toml` and `policies/`.
        public_url: the edge's origin; issuer of tokens and base of the audience.
        socket: Unix socket to listen on.
        bundle: file with the signed bundle.
        bundle_keys: file with the public JWKS that bundles are verified with.
        spool: folder for call records not yet delivered.
        state: folder for what the server itself keeps over restarts and releases; nobody else writes it.
        hub_socket: Unix socket of the hub's internal door.
        credentials: file with this process's channel token and digest key (`Credentials`).
        listen_fd: number of an inherited descriptor that `socket` is bound to already; empty: the process binds it.
        pinned: file with what was declared when the release was made (`core.release.Declaration`); a process whose
            code declares anything else does not come up.
        replica: which of several processes of this server it is.
        smoke: `yes`: it makes the manifest's smoke calls before it says that it is ready.
    """

    server: str
    release: str
    project: Path
    public_url: str
    socket: Path
    bundle: Path
    bundle_keys: Path
    spool: Path
    state: Path
    hub_socket: Path
    credentials: Path
    listen_fd: str = ""
    pinned: str = ""
    replica: str = ""
    smoke: str = ""

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> ServerEnvironment:
        """Read the variables.

        Raises:
            ConfigurationError: one or more are missing; all are named.
        """
        found = {field.name: variables.get(_variable(field.name), "") for field in fields(cls)}
        must = {field.name for field in fields(cls) if field.default is MISSING}
        missing = [f"{_variable(name)} is not set" for name, value in found.items() if name in must and not value]
        if missing:
            raise ConfigurationError("environment", [*missing, "a server is started by Pegboard's runtime"])
        kinds = {field.name: str(field.type) for field in fields(cls)}
        return cls(**{n: Path(v) if kinds[n] == "Path" else v for n, v in found.items()})  # type: ignore[arg-type]

    def variables(self) -> dict[str, str]:
        """The variables that `read` reads."""
        said = {field.name: str(getattr(self, field.name)) for field in fields(self)}
        return {_variable(name): value for name, value in said.items() if value}


def _variable(field: str) -> str:
    return f"PEGBOARD_{field.upper()}"
