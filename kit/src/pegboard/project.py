"""A server project on disk: manifest, policies and the author's `Server`, held to one another."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from traceback import extract_tb
from typing import ParamSpec, TypeVar

from mcp.server.mcpserver.exceptions import InvalidSignature
from mcp_types import ToolAnnotations

from pegboard.core.decide import GovernedTool
from pegboard.core.declared import declaration_problems
from pegboard.core.errors import ConfigurationError, DeclarationError, unreadable
from pegboard.core.manifest import Manifest, read_manifest
from pegboard.core.names import TOOL_PATTERN
from pegboard.core.policy import Policy
from pegboard.core.release import Declaration, ToolDeclaration
from pegboard.declare import facts_of
from pegboard.gates import Gate, declared_approval, gate_of, gate_problems
from pegboard.proxy.server import ProxiedServer
from pegboard.proxy.tools import one_type
from pegboard.server import DeclaredTool, Server

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Project:
    """A checked server project.

    Attributes:
        governed: every tool with its policy, by tool name; what a decision needs.
        declaration: the same as plain data, pinned by a release.
        gates: what is asked before a tool runs, by tool, of those where something is.
    """

    manifest: Manifest
    server: Server
    governed: dict[str, GovernedTool]
    declaration: Declaration
    gates: dict[str, Gate]


def load_project(folder: Path, server: Server | None = None) -> Project:
    """Read and check the project in `folder`. `server` saves importing the manifest's entry.

    Raises:
        ConfigurationError: the manifest or a policy does not fit.
        DeclarationError: the entry cannot be found, or its tools are impossible or say nothing about access.
    """
    found = inspect_project(folder, server)
    if found.project is None:
        raise found.errors[0]
    return found.project


@dataclass(frozen=True)
class Inspected:
    """What was found in a project's folder.

    Attributes:
        project: None where something is wrong with it.
        errors: what is wrong, in the order in which a start would meet it; one that others follow from stands alone.
        server: the author's, where it could be had.
    """

    project: Project | None
    errors: list[ConfigurationError | DeclarationError]
    server: Server | None


def inspect_project(folder: Path, server: Server | None = None) -> Inspected:
    """As `load_project`, going on behind what is wrong as far as one can. It raises nothing of a project's own."""
    look = _Look()
    manifest = look.at(read_manifest, folder)
    paths = sorted((folder / "policies").glob("*.cedar"))
    read = {path.stem: look.at(_policy, path) for path in paths}
    if manifest is None:
        return Inspected(None, look.errors, server)
    server = server or look.at(_server, folder, manifest)
    if server is None:
        return Inspected(None, look.errors, server)
    # A file that is no Cedar is told of once, not again with each tool that names it.
    look.at(_check, server, read.keys())
    tried = [(tool, look.at(_tool_declaration, tool, manifest)) for tool in server.tools]
    tools = [(tool, declared) for tool, declared in tried if declared is not None]
    look.at(_check_gates, tools)
    if look.errors:
        return Inspected(None, look.errors, server)
    policies = {name: policy for name, policy in read.items() if policy is not None}
    declared_tools = tuple(declared for _, declared in tools)
    declaration = _declaration(manifest, declared_tools, policies, server.instructions or "")
    look.at(_check_declaration, declaration)
    look.at(_check_arguments, declaration, policies)
    if manifest.proxy is not None:
        look.at(_check_types, declaration, policies)
    if look.errors:
        return Inspected(None, look.errors, server)
    governed = {
        tool.name: GovernedTool(tool.name, policies[tool.policy], tool.read_only) for tool in declaration.tools
    }
    return Inspected(Project(manifest, server, governed, declaration, _gates(server, manifest)), [], server)


class _Look:
    """Steps of which each may find a fault, and what they found."""

    def __init__(self) -> None:
        self.errors: list[ConfigurationError | DeclarationError] = []

    def at(self, step: Callable[P, T], *given: P.args, **named: P.kwargs) -> T | None:
        """What a step gives; None where it found a fault, which is noted."""
        try:
            return step(*given, **named)
        except (ConfigurationError, DeclarationError) as error:
            self.errors.append(error)
            return None


def _policy(path: Path) -> Policy:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(path), [f"cannot be read: {unreadable(error)}"]) from error
    return Policy(path.stem, text)


def _check_declaration(declaration: Declaration) -> None:
    if problems := declaration_problems(declaration):
        raise DeclarationError(*problems)


def _server(folder: Path, manifest: Manifest) -> Server:
    if manifest.entry is not None:
        return _import_entry(manifest.entry)
    return ProxiedServer.read(folder, manifest)


def _import_entry(entry: str) -> Server:
    module_name, _, attribute = entry.partition(":")
    try:
        found = getattr(import_module(module_name), attribute, None)
    except ModuleNotFoundError as error:
        raise DeclarationError(
            f"pegboard.toml entry {entry!r}: no module named {error.name!r} is installed"
        ) from error
    except DeclarationError as error:
        raise DeclarationError(f"{_place(error)}: {error}") from error
    except Exception as error:
        raise DeclarationError(f"{_place(error)}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Server):
        raise DeclarationError(f"pegboard.toml entry {entry!r} is not a pegboard.Server")
    return found


def _place(error: Exception) -> str:
    """File and line of the author's code that an import failed at."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    kit = str(Path(__file__).parent)
    frames = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith((kit, "<frozen"))]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else "the server's module"


def _check(server: Server, policies: Collection[str]) -> None:
    problems = [_policy_problem(tool, policies) for tool in server.tools]
    names = [tool.name for tool in server.tools]
    problems += [f"tool {name!r} is declared twice" for name in sorted({n for n in names if names.count(n) > 1})]
    problems += [f"tool name {name!r}: use {TOOL_PATTERN}" for name in names if not re.fullmatch(TOOL_PATTERN, name)]
    if not server.tools:
        problems.append("the server declares no tool: decorate a function with @server.tool()")
    if found := [problem for problem in problems if problem]:
        raise DeclarationError(*found)


def _check_arguments(declaration: Declaration, policies: dict[str, Policy]) -> None:
    """A policy that waits for an argument which no tool has would never decide as it was meant."""
    problems: list[str] = []
    for name in declaration.policies:
        users = [tool for tool in declaration.tools if tool.policy == name]
        known = {argument for tool in users for argument in tool.input_schema.get("properties", {})}
        for argument in policies[name].arguments:
            if argument not in known:
                near = get_close_matches(argument, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"they have {', '.join(sorted(known)) or 'none'}"
                tools = ", ".join(tool.name for tool in users)
                problems.append(f"policies/{name}.cedar declares argument {argument!r}, which {tools} lacks; {hint}")
    if problems:
        raise DeclarationError(*problems)


def _check_types(declaration: Declaration, policies: dict[str, Policy]) -> None:
    """A backend fits what it gets as it likes, `"50"` to 50. So what a policy reads must be of one type, to which the
    proxy holds it: then the policy judges the call that runs.
    """
    problems = [
        f"policies/{tool.policy}.cedar reads argument {name!r} of {tool.name}, whose pinned schema allows several "
        "types: use a policy that does not read it"
        for tool in declaration.tools
        for name in policies[tool.policy].arguments
        if not one_type(tool.input_schema.get("properties", {}).get(name, {"type": "null"}))
    ]
    if problems:
        raise DeclarationError(*problems)


def _check_gates(tools: Sequence[tuple[DeclaredTool, ToolDeclaration]]) -> None:
    """Who is asked before a tool runs must be askable, and what may destroy asks somebody."""
    problems = [
        f"tool {tool.name!r} {problem}"
        for tool, declared in tools
        for problem in gate_problems(
            facts_of(tool.function), tool.function, declared.input_schema, destructive=declared.destructive is True
        )
    ]
    if problems:
        raise DeclarationError(*problems)


def _gates(server: Server, manifest: Manifest) -> dict[str, Gate]:
    found = {
        tool.name: gate_of(facts_of(tool.function), tool.function, manifest.sensitivity) for tool in server.tools
    }
    return {name: gate for name, gate in found.items() if gate is not None}


def _policy_problem(tool: DeclaredTool, policies: Collection[str]) -> str:
    policy = facts_of(tool.function).policy
    if policy is None:
        return f"tool {tool.name!r} says nothing about access: add @authorize_tool(policy=…)"
    if policy not in policies:
        near = get_close_matches(policy, policies, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"tool {tool.name!r} names policy {policy!r}, but there is no policies/{policy}.cedar{hint}"
    return ""


def _declaration(
    manifest: Manifest, tools: tuple[ToolDeclaration, ...], policies: Mapping[str, Policy], instructions: str
) -> Declaration:
    used = sorted({tool.policy for tool in tools})
    texts = {name: policies[name].text for name in used}
    return Declaration(manifest=manifest, tools=tools, policies=texts, can_ask=True, instructions=instructions)


def _tool_declaration(tool: DeclaredTool, manifest: Manifest) -> ToolDeclaration:
    facts = facts_of(tool.function)
    try:
        sdk_tool = tool.sdk_tool()
    except (InvalidSignature, ValueError, TypeError) as error:
        raise DeclarationError(f"tool {tool.name!r}: {error}") from error
    hints = sdk_tool.annotations or ToolAnnotations()
    return ToolDeclaration(
        name=tool.name,
        title=sdk_tool.title,
        description=sdk_tool.description,
        policy=str(facts.policy),
        minutes_saved=facts.minutes_saved,
        read_only=hints.read_only_hint is True,
        destructive=hints.destructive_hint,
        idempotent=hints.idempotent_hint,
        open_world=hints.open_world_hint,
        input_schema=sdk_tool.parameters,
        output_schema=sdk_tool.output_schema,
        approval=declared_approval(facts, manifest.sensitivity),
        confirmation=facts.confirmation.question if facts.confirmation else None,
    )
