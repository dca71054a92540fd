"""Where the hub keeps its data: the file in the home, or a PostgreSQL that the operator names.

The URL may hold a password. It comes by the environment or from a file, goes from the supervisor to the hubs alone,
and is shown nowhere; what may be shown of it, `storage.postgresql.address_of` says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pegboard.core.errors import ConfigurationError

VARIABLE = "PEGBOARD_DATABASE_URL"
FILE_VARIABLE = "PEGBOARD_DATABASE_URL_FILE"

EMBEDDED = "sqlite"
"""As the URL: the file in the home, also where the last start of this home used another database."""

SCHEMES = ("postgresql://", "postgres://")

_EXAMPLE = "postgresql://pegboard:…@db.example.com/pegboard"


def read_database_url(variables: Mapping[str, str]) -> str | None:
    """The URL that the environment names: of a PostgreSQL, `EMBEDDED`, or None where it names none.

    Raises:
        ConfigurationError: it is no such URL, or cannot be read; the message does not repeat it.
    """
    direct, file = variables.get(VARIABLE, "").strip(), variables.get(FILE_VARIABLE, "").strip()
    if direct and file:
        raise ConfigurationError(VARIABLE, [f"{FILE_VARIABLE} is set as well: set one of them"])
    url = _read(Path(file)) if file else direct
    if not url:
        return None
    if url != EMBEDDED and not url.startswith(SCHEMES):
        name = FILE_VARIABLE if file else VARIABLE
        raise ConfigurationError(name, [f"is no URL of a PostgreSQL, like {_EXAMPLE}, and not the word {EMBEDDED}"])
    if not url.isprintable():
        raise ConfigurationError(FILE_VARIABLE if file else VARIABLE, ["is not one line of text"])
    return url


def in_use(words: str) -> str:
    """The same words, about the variable that the database is named by here."""
    return words.replace(VARIABLE, FILE_VARIABLE) if os.environ.get(FILE_VARIABLE, "").strip() else words


def anchored(variables: Mapping[str, str]) -> dict[str, str]:
    """The same environment for a process that runs in another folder: the URL's file by its absolute path."""
    file = variables.get(FILE_VARIABLE, "").strip()
    return {**variables, **({FILE_VARIABLE: str(Path(file).absolute())} if file else {})}


def _read(file: Path) -> str:
    try:
        if file.stat().st_mode & 0o007:
            raise ConfigurationError(FILE_VARIABLE, [f"others may read this password; run: chmod o= {file}"])
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(FILE_VARIABLE, [f"{file} cannot be read: {why}"]) from None
    if not text:
        raise ConfigurationError(FILE_VARIABLE, [f"{file} is empty"])
    return text
