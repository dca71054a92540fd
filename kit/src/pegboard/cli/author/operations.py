"""The Python of an API's tools, from the operations that were chosen, in lines as a formatter would have them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pegboard.cli.author.openapi import Api, Operation, Parameter
from pegboard.cli.author.scaffold import python

WIDTH = 118
"""Characters of a line in a generated project."""


def words(api: Api, operations: Sequence[Operation], stem: str) -> dict[str, str]:
    """The template's words that follow from the document."""
    names = _names(operations, stem)
    writes = any(not each.reads for each in operations)
    kit = ("Server", "authorize_tool", *(("confirm",) if writes else ()), "saves")
    typing_more = ", Literal" if any("Literal[" in p.type for each in operations for p in each.parameters) else ""
    first = next((each for each in operations if each.reads), operations[0])
    header, before = api.secret or ("", "")
    value = f"f\"{before} {{os.environ['API_TOKEN']}}\"" if before else 'os.environ["API_TOKEN"]'
    return {
        "base_url": api.base_url,
        "typing_more": typing_more,
        "kit_names": ", ".join(kit),
        "write_hints": WRITE_HINTS if writes else "",
        "tools": "".join(_tool(each, name) for each, name in zip(operations, names, strict=True)).rstrip("\n"),
        "call": _call(first, names[operations.index(first)]),
        "import_os": "import os\n" if api.secret else "",
        "headers": f'    headers = {{"{python(header)}": {value}}}\n' if api.secret else "",
        "credentials": ", headers=headers" if api.secret else "",
        "secret_for_tests": KEY_FOR_TESTS if api.secret else "",
        "secret_readme": WANTS_KEY if api.secret else "",
        "manifest_top": _manifest(api),
    }


WRITE_HINTS = (
    "WRITES = ToolAnnotations("
    "read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True)\n"
)
KEY_FOR_TESTS = '    monkeypatch.setenv("API_TOKEN", "of-these-tests")\n'
WANTS_KEY = """
The API wants a secret, `API_TOKEN`. Its value is nowhere in this project: `secrets` in `pegboard.toml` says where.
"""


def _manifest(api: Api) -> str:
    said = f'egress = ["{api.egress}"]\n'
    return said + ('secrets = { API_TOKEN = "file:api-token" }\n' if api.secret else "")


def _tool(operation: Operation, name: str) -> str:
    given = sorted(operation.parameters, key=lambda each: not each.required)
    rows = "".join(f"    {_argument(each)},\n" for each in given)
    described = _docstring(operation)
    hints, policy, more = ("READS", "readers", "") if operation.reads else ("WRITES", "writers", _confirm(operation))
    asked = ["_client(ctx)", f'"{operation.method.upper()}"', f'"{python(operation.path)}"']
    asked += [_mapping_of(operation, place) for place in ("path", "query")]
    asked += [_mapping_of(operation, "body")] * any(each.place == "body" for each in given)
    return f'''

@server.tool(title="{python(_title(operation))}", annotations={hints})
@authorize_tool(policy="{policy}")
{more}@saves(minutes=2)
async def {name}(
    ctx: Ctx,
{rows}) -> Answer:
    {described}
{_wrapped("    return await api.ask", asked)}
'''


def _wrapped(call: str, arguments: Sequence[str]) -> str:
    """A call in one line, in two more, or in one for each argument: the first that is narrow enough."""
    indent = " " * (len(call) - len(call.lstrip()))
    one = f"{call}({', '.join(arguments)})"
    within = f"{indent}    {', '.join(arguments)}"
    if len(one) <= WIDTH:
        return one
    if len(within) <= WIDTH:
        return f"{call}(\n{within}\n{indent})"
    return f"{call}(\n" + "".join(f"{indent}    {each},\n" for each in arguments) + f"{indent})"


def _confirm(operation: Operation) -> str:
    question = f"{_title(operation)}: go on?"
    return f'@confirm("{python(question)}")\n'


def _argument(parameter: Parameter) -> str:
    kind = parameter.type if parameter.required else f"{parameter.type} | None"
    about = f'Field(description="{python(parameter.description)}")'
    return f"{parameter.python}: Annotated[{kind}, {about}]" + ("" if parameter.required else " = None")


def _mapping_of(operation: Operation, place: str) -> str:
    pairs = (f'"{python(each.name)}": {each.python}' for each in operation.parameters if each.place == place)
    return "{" + ", ".join(pairs) + "}"


def _docstring(operation: Operation) -> str:
    text = operation.summary or _title(operation)
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    safe = text.replace("\\", "\\\\").replace('"""', "'''").rstrip('"')
    return f'"""{safe}"""'


def _title(operation: Operation) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_./{}-]+", " ", operation.id).split()
    return " ".join(spaced).capitalize()[:60]


def _names(operations: Sequence[Operation], stem: str) -> list[str]:
    """Names of tools: the server's, then the operation's in snake case, no two alike."""
    found: list[str] = []
    for each in operations:
        plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", each.id)
        base = re.sub(r"[^a-z0-9]+", "_", f"{stem}_{plain}".lower()).strip("_")[:60]
        name, more = base, 2
        while name in found:
            name, more = f"{base}_{more}", more + 1
        found.append(name)
    return found


def _call(operation: Operation, name: str) -> str:
    """A call for the test: of the required arguments, each with a value of its type."""
    arguments = {each.python: _value(each.type) for each in operation.parameters if each.required}
    path = operation.path
    for each in operation.parameters:
        if each.place == "path":
            path = path.replace("{" + each.name + "}", str(_value(each.type)))
    path = path.partition("{")[0]
    return f'("{name}", {_literal(arguments)}, "{python(path)}")'


def _literal(value: Any) -> str:
    """A value as Python, its texts in double quotes."""
    if isinstance(value, str):
        return f'"{python(value)}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return repr(value)


def _value(kind: str) -> Any:
    if kind.startswith("Literal["):
        return json.loads(f"[{kind[8:-1]}]")[0]
    if kind.startswith("list["):
        return [_value(kind[5:-1])]
    return {"int": 1, "float": 1.5, "bool": True, "dict[str, object]": {}}.get(kind, "a")
