"""A server project on disk: manifest, policies and the author's `Server`, held to one another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from traceback import extract_tb

from mcp.server.mcpserver.exceptions import InvalidSignature
from mcp.server.mcpserver.tools import Tool
from mcp_types import ToolAnnotations

from pegboard.core.decide import GovernedTool
from pegboard.core.declared import declaration_problems
from pegboard.core.errors import DeclarationError
from pegboard.core.manifest import Manifest, read_manifest
from pegboard.core.names import TOOL_PATTERN
from pegboard.core.policy import Policy, read_policies
from pegboard.core.release import Declaration, ToolDeclaration
from pegboard.declare import facts_of
from pegboard.server import DeclaredTool, Server


@dataclass(frozen=True)
class Project:
    """A checked server project.

    Attributes:
        governed: every tool with its policy, by tool name; what a decision needs.
        declaration: the same as plain data, pinned by a release.
    """

    manifest: Manifest
    server: Server
    governed: dict[str, GovernedTool]
    declaration: Declaration


def load_project(folder: Path, server: Server | None = None) -> Project:
    """Read and check the project in `folder`. `server` saves importing the manifest's entry.

    Raises:
        ConfigurationError: the manifest or a policy does not fit.
        DeclarationError: the entry cannot be found, or its tools are impossible or say nothing about access.
    """
    manifest = read_manifest(folder)
    policies = read_policies(folder / "policies")
    server = server or _import_entry(manifest.entry)
    _check(server, policies)
    declaration = _declaration(manifest, server, policies)
    if problems := declaration_problems(declaration):
        raise DeclarationError("; ".join(problems))
    governed = {
        tool.name: GovernedTool(tool.name, policies[tool.policy], tool.read_only) for tool in declaration.tools
    }
    _check_arguments(declaration, policies)
    return Project(manifest, server, governed, declaration)


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


def _check(server: Server, policies: dict[str, Policy]) -> None:
    problems = [_policy_problem(tool, policies) for tool in server.tools]
    names = [tool.name for tool in server.tools]
    problems += [f"tool {name!r} is declared twice" for name in sorted({n for n in names if names.count(n) > 1})]
    problems += [f"tool name {name!r}: use {TOOL_PATTERN}" for name in names if not re.fullmatch(TOOL_PATTERN, name)]
    if not server.tools:
        problems.append("the server declares no tool: decorate a function with @server.tool()")
    if found := [problem for problem in problems if problem]:
        raise DeclarationError("; ".join(found))


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
        raise DeclarationError("; ".join(problems))


def _policy_problem(tool: DeclaredTool, policies: dict[str, Policy]) -> str:
    policy = facts_of(tool.function).policy
    if policy is None:
        return f"tool {tool.name!r} says nothing about access: add @authorize_tool(policy=…)"
    if policy not in policies:
        near = get_close_matches(policy, policies, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"tool {tool.name!r} names policy {policy!r}, but there is no policies/{policy}.cedar{hint}"
    return ""


def _declaration(manifest: Manifest, server: Server, policies: dict[str, Policy]) -> Declaration:
    used = sorted({str(facts_of(tool.function).policy) for tool in server.tools})
    return Declaration(
        manifest=manifest,
        tools=tuple(_tool_declaration(tool) for tool in server.tools),
        policies={name: policies[name].text for name in used},
    )


def _tool_declaration(tool: DeclaredTool) -> ToolDeclaration:
    facts = facts_of(tool.function)
    try:
        sdk_tool = Tool.from_function(tool.function, **tool.options)
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
    )
