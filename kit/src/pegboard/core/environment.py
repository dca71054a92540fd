"""What a server process is given: environment variables and files, and nothing else (design §4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from pegboard.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ServerEnvironment:
    """The launch contract between the runtime and one server process.

    Each field is the variable PEGBOARD_<FIELD IN CAPITALS>.

    Attributes:
        server: `namespace/name`.
        release: digest of the release that is running.
        project: folder with `pegboard.toml` and `policies/`.
        public_url: the edge's origin; issuer of tokens and base of the audience.
        socket: Unix socket to listen on.
        bundle: file with the signed bundle.
        bundle_keys: file with the public JWKS that bundles are verified with.
        spool: folder for call records not yet delivered.
        hub_socket: Unix socket of the hub's internal door.
        credentials: file with this process's channel token and digest key (`Credentials`).
    """

    server: str
    release: str
    project: Path
    public_url: str
    socket: Path
    bundle: Path
    bundle_keys: Path
    spool: Path
    hub_socket: Path
    credentials: Path

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> ServerEnvironment:
        """Read the variables.

        Raises:
            ConfigurationError: one or more are missing; all are named.
        """
        found = {field.name: variables.get(_variable(field.name), "") for field in fields(cls)}
        missing = [f"{_variable(name)} is not set" for name, value in found.items() if not value]
        if missing:
            raise ConfigurationError("environment", [*missing, "a server is started by Pegboard's runtime"])
        kinds = {field.name: str(field.type) for field in fields(cls)}
        return cls(**{n: Path(v) if kinds[n] == "Path" else v for n, v in found.items()})  # type: ignore[arg-type]

    def variables(self) -> dict[str, str]:
        """The variables that `read` reads."""
        return {_variable(field.name): str(getattr(self, field.name)) for field in fields(self)}


def _variable(field: str) -> str:
    return f"PEGBOARD_{field.upper()}"
