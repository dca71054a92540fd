"""`pegboard check [DIR]`: everything that would keep a project from starting or from being released, with its place.

It runs the author's code, as reading a project's tools does, and so belongs into the project's own environment. What
it says of the project is `core.check`'s, the same code that the hub checks a release with.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Final

import typer

from pegboard.advisories import read_advisories
from pegboard.cli import render
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.text import line
from pegboard.core.archive import SKIPPED as _SKIPPED
from pegboard.core.check import RULES, Report, Subject, check_files, sarif
from pegboard.core.check import check as check_release
from pegboard.core.check.dependencies import LOCK, NPM_LOCK
from pegboard.core.check.facts import Known
from pegboard.core.errors import ConfigurationError, DeclarationError
from pegboard.core.manifest import FILE_NAME
from pegboard.core.publishing import Finding, Severity
from pegboard.lookup import look_up
from pegboard.project import Inspected, inspect_project
from pegboard.server import Server

NOT_INSTALLED = "no module named"
OWN_ENVIRONMENT = "Run it in the project's own environment, as with: uv run pegboard check"

LookUp = Callable[[bytes], Known]

LARGEST_FILE: Final = 32 * 1024 * 1024
MOST_FILES: Final = 5_000


def check(
    project: Annotated[
        Path, typer.Argument(metavar="DIR", help=f"The project's folder, with {FILE_NAME}. Default: this one.")
    ] = Path(),
    namespace: Annotated[
        str, typer.Option("--namespace", help="Where it is going to; a policy may look at it.")
    ] = "dev",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
    as_sarif: Annotated[
        bool, typer.Option("--sarif", help="Print a SARIF 2.1.0 log on stdout, for code scanning and editors.")
    ] = False,
    online: Annotated[
        bool,
        typer.Option("--look-up", help="Ask the lock file's package indexes about its packages, as the hub does."),
    ] = False,
    advisories: Annotated[
        Path | None,
        typer.Option(
            metavar="PLACE", help="A folder or zip archive of OSV advisories, for --look-up; osv.dev has one."
        ),
    ] = None,
    notes: Annotated[bool, typer.Option("--notes", help="Print notes too, which keep nobody from anything.")] = False,
) -> None:
    """Check a server project as a start and the hub would, and print what is wrong with it.

    Each finding has a code, a place and a fix; docs/reference/checks.md says why each rule is there. The exit status
    is 1 where there is an error: it would not start, or not be released.

    \b
    Example:
      pegboard check
      uv run pegboard check servers/presto --json
      uv run pegboard check --sarif > check.sarif
    """
    if as_json and as_sarif:
        raise Failure.usage("--json and --sarif: print one of them.")
    folder = project.resolve()
    if advisories is not None and not online:
        raise Failure.usage("--advisories: goes with --look-up.")
    report, tools = look_at(folder, namespace, look_up=_looking_up(advisories) if online else None)
    if as_sarif:
        print(json.dumps(sarif(report, _version()), indent=2))
    elif as_json:
        said = report.model_dump(mode="json")
        tokens = {"total": report.total_tokens, "by_tool": said["tokens"]}
        render.document({"project": str(folder), "ok": report.ok, "tools": tools, **said, "tokens": tokens})
    else:
        _print(report, notes)
        unsaid = report.count(Severity.NOTE) and not notes
        render.hint(summary(report, tools) + (" See notes: --notes" if unsaid else ""))
    if not report.ok:
        raise typer.Exit(ExitStatus.FAILED)


def _looking_up(place: Path | None) -> LookUp:
    try:
        advisories = read_advisories(place)
    except (OSError, zipfile.BadZipFile) as error:
        raise Failure.usage(f"--advisories {place}: cannot be read: {error}.") from error
    return partial(look_up, advisories=advisories)


def look_at(folder: Path, namespace: str = "dev", look_up: LookUp | None = None) -> tuple[Report, int]:
    """What the check says of the project in a folder, and how many tools it has.

    Args:
        folder: the project's.
        namespace: where it is going to.
        look_up: finds out what is known of a lock file's packages; without it nobody is asked.
    """
    files = read_files(folder)
    known = _known(files, look_up) if look_up is not None and LOCK in files else None
    problems, inspected = _problems(folder)
    tools = len(inspected.server.tools) if inspected and inspected.server else 0
    if inspected is None or inspected.project is None:
        return check_files(files, problems, known), tools
    subject = Subject(inspected.project.declaration, namespace=namespace, files=files, packages=known)
    return check_release(subject), tools


def _known(files: Mapping[str, bytes], look_up: LookUp) -> Known:
    """What is known of the packages of each lock file: the project's, and those of a backend in its own folder."""
    found = Known()
    for name, content in files.items():
        if name == LOCK or (name.count("/") == 1 and name.endswith((f"/{LOCK}", f"/{NPM_LOCK}"))):
            found |= look_up(content)
    return found


def read_files(folder: Path) -> dict[str, bytes]:
    """The files that a release would be made of, by name from the project's folder on. Links are not followed."""
    found: dict[str, bytes] = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        for name in sorted(names):
            path = Path(parent) / name
            if name in _SKIPPED or name.endswith(".pyc") or path.is_symlink() or not path.is_file():
                continue
            if len(found) < MOST_FILES and path.stat().st_size <= LARGEST_FILE:
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def _version() -> str:
    try:
        return version("pegboard")
    except PackageNotFoundError:
        return "0.0.0"


def _print(report: Report, notes: bool) -> None:
    for each in report.findings:
        if notes or each.severity is not Severity.NOTE:
            render.text(f"{line(each.place)}: {each.severity.value} {each.code}: {line(each.what)}")
            if each.fix:
                render.text(f"    {line(each.fix)}")


def summary(report: Report, tools: int) -> str:
    """One line: whether it would start, and what stands beside that."""
    errors = report.count(Severity.ERROR)
    others = [
        _count(number, word)
        for word, number in (("warning", report.count(Severity.WARNING)), ("note", report.count(Severity.NOTE)))
        if number
    ]
    if errors:
        return f"{', '.join([_count(errors, 'error'), *others])}: it would not be released."
    tokens = f" of about {report.total_tokens:,} tokens" if tools else ""
    also = f"; {', '.join(others)}" if others else ""
    return f"It would start, with {_count(tools, 'tool')}{tokens}{also}."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _problems(folder: Path) -> tuple[list[Finding], Inspected | None]:
    try:
        # The answer alone may reach stdout, whatever the author's module prints.
        with redirect_stdout(sys.stderr):
            inspected = inspect_project(folder)
    except SystemExit as error:
        what = f"the server's module ends the process as it is imported (exit {error.code})"
        return [RULES["PB102"].at(FILE_NAME, what, "Import must only declare.")], None
    return [each for error in inspected.errors for each in _findings(error, inspected.server, folder)], inspected


def _findings(error: ConfigurationError | DeclarationError, server: Server | None, folder: Path) -> Iterator[Finding]:
    for problem in error.problems:
        if isinstance(error, ConfigurationError):
            place = _beside(Path(error.where), folder)
            code = "PB301" if place.endswith(".cedar") else "PB101"
            yield RULES[code].at(place, problem)
        elif in_code := re.match(r"(?P<file>.+), line (?P<line>\d+): (?P<what>.*)", problem, re.DOTALL):
            place = f"{_beside(Path(in_code['file']), folder)}:{in_code['line']}"
            yield RULES["PB102"].at(place, in_code["what"])
        elif in_file := re.match(rf"(?P<file>{re.escape(FILE_NAME)}|policies/\S+\.cedar) (?P<what>.*)", problem):
            code = "PB302" if in_file["file"].endswith(".cedar") else "PB102"
            fix = OWN_ENVIRONMENT if NOT_INSTALLED in problem else None
            yield RULES[code].at(in_file["file"], in_file["what"], fix)
        else:
            code, fix = next((code, fix) for words, code, fix in _CODES if words in problem)
            yield RULES[code].at(_place_of(problem, server, folder), problem, fix)


_CODES: Final = (
    ("says nothing about access", "PB201", None),
    ("names policy", "PB201", "Write that file, or name a policy that is there."),
    ("declares no tool", "PB102", None),
    ("declared twice", "PB103", None),
    ("tool name ", "PB103", None),
    ("invisible character", "PB602", None),
    ("is destructive", "PB224", None),
    ("tool '", "PB224", None),
    ("", "PB103", None),
)
"""What a start says, by the rule that it breaks: the first whose words stand in it. None: the rule's own fix."""


def _place_of(problem: str, server: Server | None, folder: Path) -> str:
    """Where the tool that a problem names is declared; the manifest where it names none."""
    named = re.search(r"\btool (?:name )?'([^']+)'", problem)
    tools = server.tools if server is not None and named else ()
    for tool in tools:
        if named and tool.name == named[1]:
            code = getattr(inspect.unwrap(tool.function), "__code__", None)
            if code is not None:
                return f"{_beside(Path(code.co_filename), folder)}:{code.co_firstlineno}"
    return FILE_NAME


def _beside(path: Path, folder: Path) -> str:
    """A path from the project's folder on, where it lies in it."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
