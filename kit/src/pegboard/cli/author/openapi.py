"""Tools from an OpenAPI document: which operations there are, and the Python that asks for each.

What a document says is a stranger's text: it becomes names, string literals and comments of nothing else.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from pegboard.cli.author.scaffold import python
from pegboard.cli.exit import Failure
from pegboard.cli.text import line

METHODS = ("get", "head", "put", "post", "patch", "delete")
READING = ("get", "head")
MOST_AT_ONCE = 20
"""Tools that are made where nobody chooses: more make a list that no model reads well."""

LONGEST = 400
"""Characters of a description that are taken over."""

_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument of a tool.

    Attributes:
        name: as the API has it.
        python: as the tool has it.
        place: path, query or body.
    """

    name: str
    python: str
    place: str
    type: str
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the document.

    Attributes:
        id: its `operationId`, or one made of method and path.
        unfit: why no tool can be made of it; empty where one can.
    """

    id: str
    method: str
    path: str
    summary: str
    parameters: tuple[Parameter, ...]
    unfit: str = ""

    @property
    def reads(self) -> bool:
        """Whether it only reads (RFC 9110 §9.2.1)."""
        return self.method in READING


@dataclass(frozen=True, slots=True)
class Api:
    """What a document says.

    Attributes:
        base_url: without a slash at its end.
        secret: how a secret is sent: the header's name and what stands before it; None without one.
    """

    title: str
    description: str
    base_url: str
    operations: tuple[Operation, ...]
    secret: tuple[str, str] | None

    @property
    def egress(self) -> str:
        """host:port."""
        parts = urlsplit(self.base_url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def read(text: bytes, where: str, base_url: str = "") -> Api:
    """What a document says.

    Args:
        text: JSON; YAML where PyYAML is installed.
        where: it came from, for messages, and for an address that is relative to it.
        base_url: of the API, in place of the document's.

    Raises:
        Failure: it is no OpenAPI 3 document, or says nothing of where the API is.
    """
    document = _document(text, where)
    if not str(document.get("openapi", "")).startswith("3."):
        raise Failure.usage(f"{where} is no OpenAPI 3 document.", "Its `openapi` must begin with 3.")
    info = _mapping(document.get("info"))
    look_up = _Lookup(document)
    found = tuple(_operations(document, look_up))
    return Api(
        line(info.get("title") or "")[:100],
        line(info.get("description") or info.get("summary") or ""),
        _base_url(document, where, base_url),
        found,
        _secret(document, look_up),
    )


def chosen(api: Api, wanted: Sequence[str]) -> list[Operation]:
    """The operations that become tools: those that are named, else those that read.

    Raises:
        Failure: one that is named is not there or cannot be made a tool, or there is none.
    """
    known = {each.id: each for each in api.operations}
    if not wanted:
        found = [each for each in api.operations if each.reads and not each.unfit]
        if not found:
            raise Failure.usage(
                "No operation of the document only reads.", f"Name some with --operation: {_some(known)}"
            )
        if len(found) > MOST_AT_ONCE:
            raise Failure.usage(
                f"{len(found)} operations only read, and a model chooses badly among more than {MOST_AT_ONCE} tools.",
                f"Name those that people need with --operation: {_some({each.id: each for each in found})}",
            )
        return found
    for name in wanted:
        if name not in known:
            raise Failure.usage(f"--operation {line(name)}: the document has none.", f"It has {_some(known)}")
        if known[name].unfit:
            raise Failure.usage(f"--operation {line(name)}: {known[name].unfit}.")
    return [known[name] for name in dict.fromkeys(wanted)]


class _Lookup:
    """Follows `$ref` inside the document, not in circles and not out of it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def __call__(self, value: Any) -> Mapping[str, Any]:
        for _ in range(20):
            found = _mapping(value)
            reference = found.get("$ref")
            if not isinstance(reference, str):
                return found
            if not reference.startswith("#/"):
                return {}
            value = self._document
            for part in reference[2:].split("/"):
                value = _mapping(value).get(part.replace("~1", "/").replace("~0", "~"))
        return {}


def _operations(document: Mapping[str, Any], look_up: _Lookup) -> Iterator[Operation]:
    for path, raw in _mapping(document.get("paths")).items():
        item = look_up(raw)
        for method in METHODS:
            if isinstance(item.get(method), Mapping) and re.fullmatch(r"/[!-~]*", str(path)):
                yield _operation(str(path), method, item, look_up)


def _operation(path: str, method: str, item: Mapping[str, Any], look_up: _Lookup) -> Operation:
    operation = _mapping(item[method])
    both = [look_up(each) for each in (*_list(item.get("parameters")), *_list(operation.get("parameters")))]
    # One of the operation takes the place of one of the path (OpenAPI 3.1 §4.8.10).
    unique = {(each.get("in"), each.get("name")): each for each in both}
    found: list[Parameter] = []
    unfit = ""
    for (place, name), each in unique.items():
        if place in ("path", "query") and isinstance(name, str):
            found.append(_parameter(name, place, each, look_up(each.get("schema")), bool(each.get("required"))))
        elif each.get("required") and str(name).lower() not in ("authorization", "accept", "content-type"):
            unfit = f"it needs {line(name)} in a {line(place)}"
    body = look_up(operation.get("requestBody"))
    if body:
        schema = look_up(_mapping(_mapping(body.get("content")).get("application/json")).get("schema"))
        fields = _mapping(schema.get("properties"))
        if not fields and body.get("required"):
            unfit = "its body is no JSON object with named fields"
        needed = _list(schema.get("required"))
        found += [_parameter(name, "body", look_up(f), look_up(f), name in needed) for name, f in fields.items()]
    given = operation.get("operationId")
    named = given if isinstance(given, str) and re.search(r"[A-Za-z0-9]", given) else f"{method}_{path}"
    summary = line(operation.get("description") or operation.get("summary") or item.get("summary") or "")
    return Operation(line(named), method, path, summary[:LONGEST], _distinct(found), unfit)


def _parameter(
    name: str, place: str, about: Mapping[str, Any], schema: Mapping[str, Any], required: bool
) -> Parameter:
    described = line(about.get("description") or schema.get("description") or name)[:LONGEST]
    return Parameter(name, name, place, _type(schema), required or place == "path", described)


def _distinct(parameters: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """With names that Python can have, no two alike."""
    taken = {"ctx", "api", "server"}
    found: list[Parameter] = []
    for each in parameters:
        base = re.sub(r"\W", "_", each.name, flags=re.ASCII).strip("_").lower() or "value"
        base = f"{base}_" if keyword.iskeyword(base) or keyword.issoftkeyword(base) or base[0].isdigit() else base
        base = f"p_{base}" if base[0].isdigit() else base
        name, more = base, 2
        while name in taken:
            name, more = f"{base}_{more}", more + 1
        taken.add(name)
        found.append(Parameter(each.name, name, each.place, each.type, each.required, each.description))
    return tuple(found)


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), None)
    choices = schema.get("enum")
    if isinstance(choices, list) and 0 < len(choices) <= 30 and all(isinstance(each, str) for each in choices):
        return "Literal[" + ", ".join(f'"{python(each)}"' for each in choices) + "]"
    if kind == "array":
        return f"list[{_PLAIN.get(str(_mapping(schema.get('items')).get('type')), 'str')}]"
    if kind == "object":
        return "dict[str, object]"
    return _PLAIN.get(str(kind), "str")


def _secret(document: Mapping[str, Any], look_up: _Lookup) -> tuple[str, str] | None:
    """How the first scheme of the document that is a header sends its secret."""
    if not document.get("security") and '"security"' not in json.dumps(document.get("paths", {}), default=str):
        return None
    for raw in _mapping(_mapping(document.get("components")).get("securitySchemes")).values():
        scheme = look_up(raw)
        if scheme.get("type") == "apiKey" and scheme.get("in") == "header":
            name = str(scheme.get("name", ""))
            return (name, "") if re.fullmatch(r"[A-Za-z0-9-]{1,64}", name) else None
        if scheme.get("type") in ("oauth2", "openIdConnect") or str(scheme.get("scheme", "")).lower() == "bearer":
            return "Authorization", "Bearer"
    return None


def _base_url(document: Mapping[str, Any], where: str, given: str) -> str:
    servers = _list(document.get("servers"))
    said = given or str(_mapping(servers[0] if servers else {}).get("url") or "")
    for name, each in _mapping(_mapping(servers[0] if servers else {}).get("variables")).items():
        said = said.replace("{" + str(name) + "}", str(_mapping(each).get("default", "")))
    if where.startswith(("http://", "https://")):
        said = urljoin(where, said)
    try:
        parts = urlsplit(said)
        bad = parts.scheme not in ("http", "https") or not parts.hostname or bool(parts.username or parts.query)
        bad = bad or parts.port == 0 or not re.fullmatch(r"[A-Za-z0-9._~:/\[\]%-]+", said)
    except ValueError:
        bad = True
    if bad:
        raise Failure.usage(
            f"{where} does not say where the API is ({line(said) or 'no servers'}).",
            "Say it with --base-url https://…",
        )
    return said.rstrip("/")


def _document(text: bytes, where: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _yaml(text, where)
    if not isinstance(value, dict):
        raise Failure.usage(f"{where} is no OpenAPI document.", "It must be one JSON object.")
    return value


def _yaml(text: bytes, where: str) -> Any:
    try:
        import yaml  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise Failure.usage(
            f"{where} is not JSON, and what reads YAML is not installed beside this command.",
            "Give it as JSON, or install PyYAML there: uv tool install 'pegboard[cli]' --with pyyaml",
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Failure.usage(f"{where} is neither JSON nor YAML: {line(error)}.") from error


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _some(operations: Mapping[str, Operation]) -> str:
    names = [line(name) for name, each in operations.items() if not each.unfit]
    return ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
