"""One run of `connect` on one file: what is there, what is planned, and carrying it out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pegboard.cli.connect.errors import Unreadable
from pegboard.cli.connect.memory import Memory
from pegboard.cli.connect.place import PRIVATE, SHARED, ConfigFile, unusable
from pegboard.cli.connect.plan import FILE, ConfigText, Plan
from pegboard.core.client_configs import ClientConfig
from pegboard.core.names import ServerName


@dataclass(frozen=True, slots=True)
class Job:
    """A client's configuration file, read, and what is remembered of it."""

    file: ConfigFile
    text: ConfigText
    memory: Memory
    made: frozenset[str]

    @classmethod
    def prepare(cls, client: ClientConfig, public_url: str, path: Path, shared: bool) -> Job:
        """Read the file.

        Raises:
            Failure: it is there and cannot be used; the message names the place.
        """
        file = ConfigFile.find(path, SHARED & ~_umask() if shared else PRIVATE)
        memory = Memory(file.target, os.environ)
        made = memory.made() if file.content is not None else frozenset({FILE})
        with _naming(path):
            return cls(file, ConfigText(client, file.text, public_url), memory, made)

    @property
    def path(self) -> Path:
        """The file, as it was named."""
        return self.file.path

    @property
    def before(self) -> str:
        """What the file has now."""
        return self.file.text

    def connecting(self, usable: Sequence[ServerName], wanted: Set[ServerName]) -> Plan:
        """What it takes to have an entry for each of `wanted`, and none for what is not `usable`."""
        with _naming(self.path):
            return self.text.connecting(usable, wanted, self.made)

    def removing(self, chosen: Set[ServerName] | None) -> Plan:
        """What it takes to have none of our entries, or none of those `chosen`."""
        with _naming(self.path):
            return self.text.removing(chosen, self.made)

    def write(self, plan: Plan) -> Path | None:
        """Carry `plan` out; gives where the file's old content is kept, None where there was none."""
        backup = self.memory.back_up(self.file.content) if self.file.content is not None else None
        if FILE in self.made and plan.empty:
            self.file.delete()
            self.memory.remember(frozenset())
        else:
            self.memory.remember(plan.made)
            self.file.replace(plan.text)
        return backup


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn a text that is left as it is into the failure that names the file."""
    try:
        yield
    except Unreadable as error:
        raise unusable(path, f"{error}") from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
