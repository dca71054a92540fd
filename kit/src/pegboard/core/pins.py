"""`tools.pins.json`: what the tools of a server that somebody else wrote were when its owner looked.

A proxy shows callers the pinned words alone, never the backend's of today, and lets through only tools that are what
they were. A description that changes after people have approved it is how a tool's words become an instruction to
whoever's model reads them next; so a change needs a snapshot, a release, and the eyes that go with it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pegboard.core.errors import ConfigurationError

FILE_NAME: Final = "tools.pins.json"

SNAPSHOT: Final = "make it with `pegboard snapshot`"

LARGEST: Final = 4 * 1024 * 1024
"""Bytes of the file."""

_DIALECTS: Final = frozenset(
    {
        "http://json-schema.org/draft-07/schema",
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
    }
)
"""Named by generators whatever they use of it. Without it a schema is read as 2020-12 (MCP, Tool.inputSchema); what
means something else there is a fault (`schemas`)."""


class PinnedTool(BaseModel):
    """One tool as the backend described it. A hint is None where it said nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str | None = None
    description: str = ""
    input_schema: dict[str, Any] = {}
    output_schema: dict[str, Any] | None = None
    read_only: bool | None = None
    destructive: bool | None = None
    idempotent: bool | None = None
    open_world: bool | None = None

    @classmethod
    def of(cls, tool: Mapping[str, Any]) -> PinnedTool:
        """The pin of a tool as MCP writes it (`tools/list`). Icons and `_meta` are not taken: nobody is shown them.

        Raises:
            ValidationError: it is no tool.
        """
        hints = tool.get("annotations") or {}
        return cls(
            name=tool["name"],
            title=tool.get("title") or hints.get("title"),
            description=tool.get("description") or "",
            input_schema=_plain(tool.get("inputSchema") or {}),
            output_schema=_plain(tool["outputSchema"]) if tool.get("outputSchema") else None,
            read_only=hints.get("readOnlyHint"),
            destructive=hints.get("destructiveHint"),
            idempotent=hints.get("idempotentHint"),
            open_world=hints.get("openWorldHint"),
        )

    def changed(self, found: PinnedTool) -> tuple[str, ...]:
        """What is otherwise with the tool that was found under this name, in words; empty where nothing is."""
        return tuple(
            words for field, words in _COMPARED.items() if _form(getattr(self, field)) != _form(getattr(found, field))
        )


_COMPARED: Final[Mapping[str, str]] = {
    "title": "title",
    "description": "description",
    "input_schema": "input schema",
    "output_schema": "output schema",
    "read_only": "read-only hint",
    "destructive": "destructive hint",
    "idempotent": "idempotent hint",
    "open_world": "open-world hint",
}

TWICE: Final = "listing, which has it twice"
"""In the place of what changed: one name for two tools is for whoever chooses between them."""


class Pins(BaseModel):
    """Everything that was pinned of a backend.

    Attributes:
        backend: what it called itself, for people.
        instructions: what it tells a model before its tools.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    backend: str = ""
    instructions: str | None = None
    tools: tuple[PinnedTool, ...]

    @property
    def by_name(self) -> dict[str, PinnedTool]:
        """The tools by name."""
        return {tool.name: tool for tool in self.tools}

    def text(self) -> str:
        """The file: sorted, so that two snapshots of one server are one text."""
        document = self.model_dump(mode="json", exclude_none=True)
        document["tools"] = sorted(document["tools"], key=lambda tool: str(tool["name"]))
        return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class Difference:
    """How what a backend lists differs from what was pinned.

    Attributes:
        changed: what is otherwise, by tool.
        new: names that are not pinned, at most `MOST_NEW`.
        gone: pinned names that it does not list.
    """

    changed: Mapping[str, tuple[str, ...]]
    new: tuple[str, ...]
    gone: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.new or self.gone)

    @property
    def blocked(self) -> dict[str, str]:
        """Why each pinned tool that differs is not called, in words that follow its name."""
        said = {name: f"changed its {_enumerated(what)} since it was pinned" for name, what in self.changed.items()}
        return said | dict.fromkeys(self.gone, "is not offered any more by the server behind it")


MOST_NEW: Final = 50


def compare(pins: Pins, found: Iterable[PinnedTool]) -> Difference:
    """How `found`, which is all that a backend lists now, differs from what was pinned."""
    listed = list(found)
    counts = Counter(tool.name for tool in listed)
    by_name, pinned = {tool.name: tool for tool in listed}, pins.by_name
    changed = {}
    for name, tool in pinned.items():
        if name in by_name and (what := (TWICE,) if counts[name] > 1 else tool.changed(by_name[name])):
            changed[name] = what
    new = sorted(by_name.keys() - pinned.keys())[:MOST_NEW]
    return Difference(changed, tuple(new), tuple(sorted(pinned.keys() - by_name.keys())))


def read_pins(project: Path) -> Pins:
    """Read the pins of the project in folder `project`.

    Raises:
        ConfigurationError: there are none, or the file does not fit.
    """
    path = project / FILE_NAME
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be read: {error.strerror}; {SNAPSHOT}"]) from error
    if len(content) > LARGEST:
        raise ConfigurationError(str(path), [f"is larger than {LARGEST // 2**20} MiB: serve fewer tools"])
    try:
        return Pins.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise ConfigurationError(str(path), [f"{where}: {fault['msg']}; {SNAPSHOT}"]) from error


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    dialect = schema.get("$schema")
    named = isinstance(dialect, str) and dialect in _DIALECTS
    return {key: value for key, value in schema.items() if not (named and key == "$schema")}


def _form(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _enumerated(words: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
