"""Secrets of the operator's files: named there, read from a file or the environment, kept by nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

PASSED_ON = "PEGBOARD_"
KEPT_BACK = "PEGBOARD_SECRET_"

MOST_SECRET_BYTES = 4096

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretReference(BaseModel):
    """Where a secret is; never the secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path | None = Field(
        default=None, description="file that holds it alone; relative to the file that names it"
    )
    env: str | None = Field(default=None, description="variable of `pegboard up` that holds it")

    @model_validator(mode="after")
    def _names_one_place(self) -> SecretReference:
        if (self.file is None) == (self.env is None):
            raise ValueError('say where it is, as { file = "/path" } or as { env = "NAME" }')
        if self.env is not None and not _VARIABLE.fullmatch(self.env):
            raise ValueError(f"{self.env[:40]!r} is no name of a variable")
        if self.env is not None and self.env.startswith(PASSED_ON) and not self.env.startswith(KEPT_BACK):
            raise ValueError(f"a variable {PASSED_ON}… is passed on to every process: begin it with {KEPT_BACK}")
        return self

    def __str__(self) -> str:
        return f"file:{self.file}" if self.file is not None else f"env:{self.env}"

    def read(self, folder: Path, variables: Mapping[str, str]) -> str:
        """The secret, read now.

        Args:
            folder: of the file that names it.
            variables: the environment.

        Raises:
            ValueError: it is not there, is open to others, or cannot be a secret; the message does not repeat it.
        """
        text = self._file(folder) if self.file is not None else variables.get(str(self.env), "")
        secret = text.strip()
        if not secret:
            raise ValueError(f"{self._named(folder)} is {'empty' if self.file is not None else 'not set'}")
        if len(secret) > MOST_SECRET_BYTES or not (secret.isascii() and secret.isprintable()):
            raise ValueError(f"{self._named(folder)} does not hold one line of ASCII text")
        return secret

    def _file(self, folder: Path) -> str:
        path = folder / str(self.file)
        try:
            if path.stat().st_mode & 0o007:
                raise ValueError(f"others may read {path}; run: chmod o= {path}")
            with path.open("rb") as file:
                return file.read(MOST_SECRET_BYTES + 2).decode("ascii", "replace")
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None

    def _named(self, folder: Path) -> str:
        return str(folder / str(self.file)) if self.file is not None else f"the variable {self.env}"


References = Iterable[tuple[str, SecretReference]]
"""Every reference of a file, with the key it stands at."""


def read_secrets(
    references: References, folder: Path, variables: Mapping[str, str], handed_in: str
) -> tuple[dict[str, str], list[str]]:
    """The secrets of a file by their reference, as `str(reference)` has it, and what is wrong with the others.

    Args:
        references: of the file.
        folder: where it lies.
        variables: the environment.
        handed_in: variable in which the supervisor hands the hub what it has read: the hub's user may not read it.
    """
    handed: dict[str, str] | None = json.loads(variables.get(handed_in) or "null")
    secrets, problems = {}, []
    for place, reference in references:
        try:
            secrets[str(reference)] = reference.read(folder, variables) if handed is None else handed[str(reference)]
        except ValueError as error:
            problems.append(f"{place}: {error}")
        except KeyError:
            problems.append(f"{place}: {reference} is new since Pegboard was started: start it again")
    return secrets, problems
