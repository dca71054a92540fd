"""The files of a new project, from a template and what its author says; only templates are read from a disk.

A template is a folder of `pegboard/templates/`; what all share is in `common`. Files end in `.in`; `{{word}}` stands
for an answer, and a word that nothing answers is an error. `_module_` in a path is the package's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable

PARTS = ("manifest", "readme")
"""Files of a template that are put into those that all templates share."""

_WORD = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True, slots=True)
class Kit:
    """Where a project gets the kit from.

    Attributes:
        index: address of a package index, the instance's own; empty where there is none yet.
        path: a folder with the kit's source; empty without.
    """

    index: str = ""
    path: str = ""

    def toml(self) -> str:
        """The part of pyproject.toml that says so."""
        if self.index:
            return (
                '\n[tool.uv.sources]\npegboard = { index = "pegboard" }\n\n[[tool.uv.index]]\n'
                f'name = "pegboard"\nurl = {_toml(self.index)}\nexplicit = true\n'
            )
        return f"\n[tool.uv.sources]\npegboard = {{ path = {_toml(self.path)}, editable = true }}\n"


@dataclass(frozen=True, slots=True)
class About:
    """What an author says of a new server.

    Attributes:
        name: the server's.
        title: what people read.
        description: one line, at most 100 characters.
        owner: the owning team.
        channel: where people ask.
        groups: that may use it.
        surfaces: that it is called from.
    """

    name: str
    title: str
    description: str
    owner: str
    channel: str
    groups: tuple[str, ...]
    surfaces: tuple[str, ...] = ("cli", "ide", "chat", "web")

    @property
    def module(self) -> str:
        """The Python package."""
        return f"{identifier(self.name)}_server"


@dataclass(frozen=True, slots=True)
class Content:
    """What a template brings beside its own files.

    Attributes:
        template: folders of the template, the later ones take the place of what the earlier have.
        dependencies: requirements beside the kit.
        files: further files, by path.
        words: further answers.
    """

    template: tuple[str, ...]
    dependencies: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


def project(about: About, content: Content, kit: Kit) -> dict[str, bytes]:
    """The files of the project, by their path in its folder.

    Raises:
        KeyError: a template has a word that nothing answers.
    """
    texts: dict[str, str] = {}
    for folder in ("common", *content.template):
        texts |= dict(_texts(files("pegboard") / "templates" / folder))
    words = {**_words(about, content, kit), **content.words}
    for part in PARTS:
        text = _filled(texts.pop(part, ""), words).strip("\n")
        words[part] = f"\n{text}\n" if text else ""
    found = {_path(path, about): _filled(text, words).encode() for path, text in texts.items()}
    return {**found, **{_path(path, about): data for path, data in content.files.items()}}


def identifier(name: str) -> str:
    """A server's name as the beginning of a name in Python. More follows it, so that it is no keyword."""
    return name.replace("-", "_")


def sample(template: str, name: str) -> bytes:
    """A file that stands for the author's own, until there is one."""
    return (files("pegboard") / "templates" / template / name).read_bytes()


def toml(text: str) -> str:
    """A text for between the quotes of a TOML string."""
    return _toml(text)[1:-1]


def python(text: str) -> str:
    """A text for between the double quotes of a Python string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _words(about: About, content: Content, kit: Kit) -> dict[str, str]:
    described = about.description
    return {
        "name": about.name,
        "dist": f"{about.name}-server",
        "module": about.module,
        "stem": identifier(about.name),
        "title_toml": toml(about.title),
        "title_text": _one_line(about.title),
        "description_toml": toml(described),
        "description_text": described,
        "description_py": python(described),
        "description_fstring": python(described).replace("{", "{{").replace("}", "}}"),
        "owner": about.owner,
        "channel_toml": toml(about.channel),
        "channel_text": about.channel,
        "groups": ", ".join(_toml(group) for group in about.groups),
        "group": about.groups[0],
        "surfaces": ", ".join(_toml(surface) for surface in about.surfaces),
        "permits": permits(about.groups),
        "dependencies": ", ".join(_toml(each) for each in ("pegboard", *content.dependencies)),
        "kit_source": kit.toml(),
        "manifest_top": "",
    }


def permits(groups: tuple[str, ...]) -> str:
    """Cedar that lets these groups list and call."""
    rule = 'permit (principal in Group::"{}", action in [Action::"list", Action::"call"], resource);'
    return "\n".join(rule.format(group) for group in groups)


def _one_line(text: str) -> str:
    """A text for a docstring and a heading."""
    return " ".join(text.replace("\\", "/").replace('"', "'").split())


def _toml(text: str) -> str:
    """A TOML basic string: JSON's escapes are among TOML's, where DEL is none that may stand as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _texts(folder: Traversable, before: str = "") -> Iterator[tuple[str, str]]:
    for each in folder.iterdir():
        if each.is_dir() and each.name != "sample":
            yield from _texts(each, f"{before}{each.name}/")
        elif each.name.endswith(".in"):
            yield before + each.name.removesuffix(".in"), each.read_text(encoding="utf-8")


def _path(path: str, about: About) -> str:
    return path.replace("_module_", about.module).replace("gitignore", ".gitignore")


def _filled(text: str, words: Mapping[str, str]) -> str:
    return _WORD.sub(lambda found: words[found[1]], text)
