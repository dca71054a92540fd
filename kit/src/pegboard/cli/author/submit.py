"""`pegboard submit`: from a project to a release that is live, in review, or told why not."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from pegboard.cli import render
from pegboard.cli.author.arriving import arrive
from pegboard.cli.author.following import Submission, end, follow
from pegboard.cli.author.new import INDEX_PATH
from pegboard.cli.author.packing import Origin, cloned, how_to_move, origin, packed
from pegboard.cli.author.uv import run_uv, told
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import line, moment
from pegboard.cli.whence import submitter_of
from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import FILE_NAME, read_manifest
from pegboard.core.names import ServerName
from pegboard.core.publishing import SOURCE_TYPE, sha256

LONGEST_MESSAGE = 2000


@with_options
def submit(
    options: Options,
    project: Annotated[
        Path, typer.Argument(metavar="DIR", help="The project's folder; with --git, in the repository.")
    ] = Path(),
    git: Annotated[
        str | None,
        typer.Option("--git", metavar="URL[@REF]", help="Submit what is committed there; nothing of it runs here."),
    ] = None,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="dev goes live at once; prod once it is reviewed.")
    ] = "dev",
    message: Annotated[
        str, typer.Option("--message", "-m", help="What is new, for those who review it and for its history.")
    ] = "",
    checks: Annotated[bool, typer.Option("--check/--no-check", help="Check it here first, as the hub will.")] = True,
    waits: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Stay until it is live, in review or failed.")
    ] = True,
) -> None:
    """Submit a project: it is checked, built, checked again in isolation, and released.

    In dev it goes live at once. In prod it waits for what reviews ask, and the exit status is 4. It goes on when you
    press Ctrl-C, and you are told how to look again. A CI job that the owner named as publisher submits with its own
    certificate, in the folder PEGBOARD_SVID, or with a token in PEGBOARD_TOKEN or PEGBOARD_TOKEN_FILE.

    \b
    Examples:
      pegboard submit
      pegboard submit --namespace prod -m "Revenue by region, for finance"
      pegboard submit --git https://git.example.com/data/presto@v1.4.0 servers/presto
      pegboard submit --no-wait --json
    """
    if len(message) > LONGEST_MESSAGE:
        raise Failure.usage(f"--message has {len(message)} characters, and {LONGEST_MESSAGE} is the most.")
    with TemporaryDirectory(prefix="pegboard-") if git else nullcontext("") as checkout:
        folder, whence = _source(project, git, Path(checkout))
        server = _server(folder, namespace, f"{line(project)} of that repository" if git else "")
        _check_secrets(folder)
        said = _check(folder, namespace, options) if checks and git is None else []
        archive = packed(folder)
    say = render.hint if options.as_json else render.text
    size = f"{len(archive) / 1024:,.0f} KiB"
    say(f"Submitting {server} to {options.url}: {size}, source {sha256(archive)[:12]}{_committed(whence)}")
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        query = {**whence.query(), "message": message}
        answer, new = hub.upload(f"servers/{server}/submissions", archive, SOURCE_TYPE, query)
        submission = Submission(str(server), str(answer.get("id", "")))
        if not new:
            render.hint(_was_there(answer))
        if not waits:
            _left(submission, answer, options)
            return
        follow(submission, hub.get, options)
        found = hub.get(submission.path)
        arrive(hub, submission.server, found)
        end(submission, found, options, said)


def _source(project: Path, git: str | None, checkout: Path) -> tuple[Path, Origin]:
    if git is None:
        folder = project.resolve()
        return folder, origin(folder, os.environ)
    whence = cloned(git, checkout)
    folder = (checkout / project).resolve()
    if not folder.is_relative_to(checkout.resolve()) or not folder.is_dir():
        raise Failure.usage(f"{line(project)} is no folder of that repository.")
    return folder, whence


def _server(folder: Path, namespace: str, elsewhere: str) -> ServerName:
    try:
        if elsewhere and not (folder / FILE_NAME).is_file():
            mend = "Name the project's folder in it: pegboard submit --git URL@REF FOLDER"
            raise Failure.usage(f"There is no {FILE_NAME} in {elsewhere}.", mend)
        return ServerName(namespace, read_manifest(folder).name)
    except ConfigurationError as error:
        mend = "Make a project: pegboard new NAME. Or name its folder: pegboard submit DIR"
        raise Failure.usage(line(error), mend if "cannot be read" in str(error) else "") from error
    except ValueError as error:
        raise Failure.usage(f"--namespace {line(namespace)}: {error}.") from error


def _check_secrets(folder: Path) -> None:
    """See that a job's token and key are no part of what it submits.

    Raises:
        Failure: they lie in the project's folder.
    """
    from pegboard.cli.client import TOKEN_FILE_VARIABLE
    from pegboard.cli.service import SVID_VARIABLE

    for variable in (TOKEN_FILE_VARIABLE, SVID_VARIABLE):
        place = os.environ.get(variable)
        if place and Path(place).resolve().is_relative_to(folder):
            message = f"{variable}={line(place)} lies in the project's folder, and would be submitted with it."
            raise Failure.usage(message, "Keep it elsewhere, as in the job's own temporary folder.")


def _check(folder: Path, namespace: str, options: Options) -> list[str]:
    """Run `pegboard check` in the project's own environment; gives the warnings that it printed.

    Raises:
        Failure: it found what keeps the project from being released, or cannot run.
    """
    done = run_uv(["run", "--frozen", "--quiet", "pegboard", "check", "--json", "--namespace", namespace], folder)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        report = None
    if not isinstance(report, dict):
        message = f"It cannot be checked here: {line(told(done))}"
        mend = how_to_move(folder, f"{options.url}{INDEX_PATH}") or "Mend that (uv lock makes the lock file anew)"
        mend = f"{mend.removesuffix('.')}. Or leave it to the hub: pegboard submit --no-check"
        raise Failure.here(ExitStatus.FAILED, "not_checked", message, mend)
    problems, warnings = _findings(report, "error"), _findings(report, "warning")
    for each in (*problems, *warnings):
        render.hint(each)
    if problems or done.returncode == ExitStatus.FAILED:
        count = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
        failure = Failure.here(
            ExitStatus.FAILED,
            "check_failed",
            f"{count}: nothing was submitted.",
            "See them again: uv run pegboard check",
        )
        failure.details = {"check": report}
        raise failure
    if not options.as_json:
        render.hint("Checked here: nothing keeps it from being released.")
    return warnings


def _findings(report: Mapping[str, Any], severity: str) -> list[str]:
    """A line for each finding of one severity, in either form that a kit reports in."""
    rows = []
    for each in report.get("findings") or ():
        if isinstance(each, Mapping) and each.get("severity") == severity:
            words = f"{each.get('code', '')} {each.get('what', '')} {each.get('fix', '')}".strip()
            rows.append(f"{line(each.get('place', ''))}: {'warning: ' if severity == 'warning' else ''}{line(words)}")
    older = {"error": "problems", "warning": "warnings"}[severity]
    for each in report.get(older) or () if "findings" not in report else ():
        rows.append(f"{line(each.get('place', ''))}: {line(each.get('what', ''))}")
    return rows


def _committed(whence: Origin) -> str:
    if not whence.commit:
        return ""
    return f", commit {whence.commit[:10]}{' with changes in no commit' if whence.dirty else ''}"


def _was_there(answer: Mapping[str, Any]) -> str:
    """That the same source was submitted before, and is what is followed now: what is said of it anew is not kept."""
    who, when = line(submitter_of(answer)), moment(answer.get("at"))
    said = f", as {line(answer['message'])!r}" if answer.get("message") else ""
    return f"These very files were submitted already, by {who} at {when} UTC{said}. This is what became of them:"


def _left(submission: Submission, answer: Mapping[str, Any], options: Options) -> None:
    if options.as_json:
        render.document(answer)
        return
    render.text(f"{submission.server} is submitted: {submission.id}")
    render.hint(f"Watch it: {submission.look(options)}")
