"""A project's Python as text: where its tools stand, what it imports, and which texts are in it. Nothing is run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

LARGEST_FILE = 512 * 1024
"""Bytes of a Python file that is read; a larger one is data."""

MOST_JOINED = 10_000
"""Characters of a text that is put together from parts."""


@dataclass(frozen=True, slots=True)
class ToolCode:
    """Where one tool's function stands.

    Attributes:
        decorators: the names of what is noted on it, without their arguments.
    """

    place: str
    decorators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A text in the code: a literal, or several that are put together there."""

    place: str
    text: str
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """What a project's Python says.

    Attributes:
        tools: by the name that they are declared with.
        imports: modules by their full name, with the place of the first import.
        calls: dotted names of what is called, with the place of the first call.
        texts: docstrings among them.
        unread: files that do not parse, with the reason.
    """

    tools: dict[str, ToolCode] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    texts: list[Text] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)


def read_code(files: Mapping[str, bytes]) -> Code:
    """Read every Python file of a project but its tests. What does not parse is noted, and raises nothing."""
    code = Code()
    for name in sorted(files):
        if not name.endswith(".py") or name.startswith("tests/"):
            continue
        if len(files[name]) > LARGEST_FILE:
            code.unread[name] = f"is larger than {LARGEST_FILE // 1024} KiB"
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(files[name])
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            code.unread[name] = f"does not parse: {type(error).__name__}"
            continue
        _read(tree, name, code)
    return code


def _read(tree: ast.Module, name: str, code: Code) -> None:
    inner: set[int] = set()
    for node in ast.walk(tree):
        place = f"{name}:{getattr(node, 'lineno', 1)}"
        match node:
            case ast.Import():
                for alias in node.names:
                    code.imports.setdefault(alias.name, place)
            case ast.ImportFrom() if node.level == 0 and node.module:
                code.imports.setdefault(node.module, place)
                for alias in node.names:
                    code.imports.setdefault(f"{node.module}.{alias.name}", place)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                _read_function(node, name, code)
            case ast.Call():
                if called := _dotted(node.func):
                    code.calls.setdefault(called, place)
        if id(node) in inner:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            code.texts.append(Text(place, node.value))
        elif isinstance(node, ast.BinOp | ast.JoinedStr | ast.Call) and (joined := _joined(node)) is not None:
            code.texts.append(Text(place, joined, joined=True))
            inner.update(id(each) for each in ast.walk(node))


def _read_function(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str, code: Code) -> None:
    called = [(_dotted(each.func if isinstance(each, ast.Call) else each), each) for each in node.decorator_list]
    names = tuple(said.rpartition(".")[2] for said, _ in called)
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    for said, each in called:
        if said.endswith(".tool"):
            declared = _given_name(each) or node.name
            code.tools.setdefault(declared, ToolCode(f"{name}:{first}", names))


def _given_name(decorator: ast.expr) -> str:
    if not isinstance(decorator, ast.Call):
        return ""
    given = [each.value for each in decorator.keywords if each.arg == "name"] or decorator.args[:1]
    return next((each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)), "")


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join((node.id, *reversed(parts)))


def _joined(node: ast.expr) -> str | None:
    """The text that literals are put together to by `+`, `"".join([…])` or an f-string of literals; None without."""
    parts: list[str] = []
    for part in _parts(node):
        if part is None or sum(map(len, parts)) > MOST_JOINED:
            return None
        parts.append(part)
    return "".join(parts) if len(parts) > 1 else None


def _parts(node: ast.expr) -> Iterator[str | None]:
    """Literals in their order; None for what is none. Without recursion: how deep a sum nests is its author's."""
    waiting: list[ast.expr] = [node]
    while waiting:
        match waiting.pop():
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                waiting += [right, left]
            case ast.Constant(value=str() as text):
                yield text
            case ast.Constant(value=bytes() as raw):
                yield raw.decode("latin-1")
            case ast.JoinedStr(values=values):
                waiting += reversed(values)
            case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
                waiting.append(value)
            case ast.Call(
                func=ast.Attribute(value=ast.Constant(value=str() as between), attr="join"),
                args=[ast.List(elts=elements) | ast.Tuple(elts=elements)],
                keywords=[],
            ):
                for number, element in enumerate(reversed(elements)):
                    waiting += [element] if number == 0 else [ast.Constant(value=between), element]
            case ast.Call(
                func=ast.Attribute(value=inner, attr="strip" | "lower" | "encode" | "decode"), args=[], keywords=[]
            ):
                waiting.append(inner)
            case _:
                yield None
