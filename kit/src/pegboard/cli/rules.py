"""`rules`: what security refuses of that which was granted; a file of it is checked, previewed and applied."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import urlencode

import typer

from pegboard.cli import render
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import clean, line
from pegboard.cli.there import HomeOption, NoBrowserOption, door, go_on
from pegboard.core.coarse import read_rules, version_line
from pegboard.core.errors import ConfigurationError, unreadable

rules = typer.Typer(
    name="rules",
    help="Coarse rules: look at them, check a file, preview, apply and revert a change. For operators and security.",
    rich_markup_mode=None,
)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A file of rules: the whole set, in TOML.")]
OnOption = Annotated[
    int | None,
    typer.Option("--on", metavar="VERSION", min=0, help="The version that it was made on, where the file says none."),
]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, in one line, for the history.")]


@rules.command("show")
@with_options
def show(
    options: Options,
    rule: Annotated[str | None, typer.Argument(metavar="[RULE]", help="One rule; else all.")] = None,
    file: Annotated[bool, typer.Option("--file", help="As the file that is edited and applied.")] = False,
    version: Annotated[int | None, typer.Option("--version", min=0, help="With --file: an earlier one.")] = None,
    home: HomeOption = None,
) -> None:
    """Show the rules in force, or one of them, or the file to edit.

    \b
    Examples:
      pegboard rules show --as pat
      pegboard rules show no-chat --json
      pegboard rules show --file > rules.toml
    """
    if file:
        answer = _get(options, home, "rules/file", version=version)
        render.document(answer) if options.as_json else render.text(clean(answer.get("text", "")).rstrip("\n"))
        return
    answer = _every(options, home)
    found = [each for each in answer["rules"] if rule in (None, each.get("name"))]
    if rule is not None and not found:
        raise Failure.usage(f"No rule is called {line(rule)}: look with `pegboard rules show`.")
    if options.as_json:
        render.document({**answer, "rules": found})
        return
    if not found:
        render.hint("There are no coarse rules: what is granted is allowed.")
        return
    heads = ("rule", "effect", "about", "why", "ask", "since")
    render.table(heads, [_row(each) for each in found])
    render.hint(f"Version {answer.get('version')}, {_made(answer.get('made'))}")


@rules.command("check")
@with_options
def check(options: Options, file: FileArgument) -> None:
    """Check a file of rules; no hub is asked.

    \b
    Example:
      pegboard rules check rules.toml
    """
    text = _read(file)
    try:
        found = read_rules(version_line(text, str(file))[0], str(file))
    except ConfigurationError as error:
        mend = "Mend what is named."
        message = "\n".join(error.problems)
        if not options.as_json:  # a fault a line, for a person
            for problem in error.problems:
                render.hint(line(problem))
            message = f"{file} has {len(error.problems)} {'fault' if len(error.problems) == 1 else 'faults'}."
        raise Failure.here(ExitStatus.FAILED, "invalid_rules", message, mend) from error
    if options.as_json:
        render.document({"rules": len(found.rules)})
        return
    render.text(f"{len(found.rules)} {'rule' if len(found.rules) == 1 else 'rules'}, and nothing is wrong with them")


@rules.command("preview")
@with_options
def preview(options: Options, file: FileArgument, on: OnOption = None, home: HomeOption = None) -> None:
    """Show what a file would change, and who would gain what and who would lose what. Nothing changes.

    \b
    Example:
      pegboard rules preview rules.toml
    """
    _show_preview(options, _post(options, home, "rules:preview", _change(file, on)))


@rules.command("apply")
@with_options
def apply(
    options: Options,
    file: FileArgument,
    why: WhyOption,
    on: OnOption = None,
    home: HomeOption = None,
    no_browser: NoBrowserOption = False,
) -> None:
    """Bring a file of rules into force for everybody, in under two seconds.

    What lets anybody do more wants a person in a browser, on the page /rules, or somebody at the machine with
    --home: the exit status is 4 where it waits for that. A file with a fault changes nothing.

    \b
    Examples:
      pegboard rules apply rules.toml --why "the audit, SEC-31"
      pegboard rules apply rules.toml --why "the audit is over" --home /srv/pegboard
    """
    body = {**_change(file, on), "why": why}
    _applied(options, _apply(options, home, body, no_browser))


@rules.command("history")
@with_options
def history(options: Options, home: HomeOption = None) -> None:
    """List who changed the rules, when and why, newest first. Times are UTC.

    \b
    Example:
      pegboard rules history --as pat
    """
    answer = _get(options, home, "rules/history")
    if options.as_json:
        render.document(answer)
        return
    found = answer.get("versions", [])
    if not found:
        render.hint("There never were any rules.")
        return
    render.table(("version", "when", "by", "why", "brings back"), [_version_row(each) for each in found])


@rules.command("diff")
@with_options
def diff(
    options: Options,
    old: Annotated[
        int | None, typer.Argument(metavar="[OLD]", min=0, help="A version; else the one before NEW.")
    ] = None,
    new: Annotated[int | None, typer.Argument(metavar="[NEW]", min=0, help="A version; else the newest.")] = None,
    home: HomeOption = None,
) -> None:
    """Show what changed between two versions; else what the newest one changed.

    \b
    Examples:
      pegboard rules diff
      pegboard rules diff 3 7 --home /srv/pegboard
    """
    answer = _get(options, home, "rules/difference", old=old, new=new)
    if options.as_json:
        render.document(answer)
        return
    lines = answer.get("lines", [])
    for each in lines:
        render.text(line(each))
    if not lines:
        render.hint("Nothing differs.")


@rules.command("revert")
@with_options
def revert(
    options: Options,
    version: Annotated[
        int | None,
        typer.Argument(metavar="[VERSION]", min=0, help="What should hold again; else the version before."),
    ] = None,
    why: WhyOption = "reverted",
    home: HomeOption = None,
    no_browser: NoBrowserOption = False,
) -> None:
    """Bring an earlier version back into force, as a new one.

    \b
    Examples:
      pegboard rules revert --home /srv/pegboard
      pegboard rules revert 3 --why "the last change closed too much"
    """
    now = int(_get(options, home, "rules", limit=1).get("version", 0))
    body = {"revert_to": max(0, now - 1) if version is None else version, "on": now, "why": why}
    _applied(options, _apply(options, home, body, no_browser))


def _apply(options: Options, home: Path | None, body: Mapping[str, Any], no_browser: bool) -> dict[str, Any]:
    try:
        return _post(options, home, "rules", body)
    except Failure as failure:
        if failure.error["code"] == "widens":
            _there(options, body, no_browser)
        raise


def _there(options: Options, body: Mapping[str, Any], no_browser: bool) -> NoReturn:
    back = {"revert_to": body["revert_to"]} if "revert_to" in body else {}
    page = f"{options.url}/rules/edit" + (f"?{urlencode(back)}" if back else "")
    message = "It lets somebody do more, so a person applies it in a browser, or on the machine with --home."
    go_on(page, "applied_in_a_browser", message, no_browser)


def _get(options: Options, home: Path | None, path: str, **query: Any) -> dict[str, Any]:
    asked = {name: str(value) for name, value in query.items() if value is not None}
    if home is not None:
        found = door()(home, "GET", f"/internal/v1/{path}?{urlencode(asked)}", None)
        return dict(found)
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        return hub.get(path, **asked)


def _post(options: Options, home: Path | None, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    if home is not None:
        return dict(door()(home, "POST", f"/internal/v1/{path}", body))
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        return hub.post(path, body)


def _every(options: Options, home: Path | None) -> dict[str, Any]:
    """All rules, page after page; what changes meanwhile begins anew."""
    answer = _get(options, home, "rules")
    while after := answer.get("next"):
        page = _get(options, home, "rules", after=after)
        if page.get("version") != answer.get("version"):
            return _every(options, home)
        answer = {**page, "rules": [*answer["rules"], *page["rules"]]}
    return answer


def _change(file: Path, on: int | None) -> dict[str, Any]:
    return {"text": _read(file), **({} if on is None else {"on": on})}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure.usage(f"{file} cannot be read: {unreadable(error)}.") from error


def _applied(options: Options, made: Mapping[str, Any]) -> None:
    if options.as_json:
        render.document(made)
        return
    render.text(f"Version {made.get('version')} of the rules is in force for everybody")
    render.hint(f"The next change begins with version = {made.get('version')}: pegboard rules show --file")


def _show_preview(options: Options, found: Mapping[str, Any]) -> None:
    if options.as_json:
        render.document(found)
        return
    for each in found.get("difference", []):
        render.text(line(each))
    rows = found.get("rows", [])
    if rows:
        render.text("")
        render.table(("who", "known", "from", "servers", "gains", "loses"), [_preview_row(each) for each in rows])
    if not found.get("changes"):
        render.hint("It changes no rule.")
    elif not rows and not found.get("notes"):
        render.hint("Nobody gains or loses anything.")
    for note in (*([f"{found['more']} more rows"] if found.get("more") else ()), *found.get("notes", [])):
        render.hint(line(note))
    if found.get("widens"):
        render.hint(
            f"It lets callers do more, so it is applied on the page /rules or with --home: {_names(found, 'widens')}"
        )


def _preview_row(row: Mapping[str, Any]) -> list[str]:
    rest = int(row.get("of_servers", 0)) - len(row.get("servers", []))
    servers = _names(row, "servers") + (f" and {rest} more" if rest > 0 else "")
    known = f"{row.get('known', 0)}: {_names(row, 'people')}" if row.get("people") else "0"
    return [
        line(row.get("who", "")),
        known,
        _names(row, "surfaces"),
        servers,
        _names(row, "gains"),
        _names(row, "loses"),
    ]


def _row(rule: Mapping[str, Any]) -> list[str]:
    texts = [line(rule.get(name, "")) for name in ("name", "effect")]
    return [*texts, about(rule), line(rule.get("why", "")), line(rule.get("ask", "")), f"version {rule.get('since')}"]


def about(rule: Mapping[str, Any]) -> str:
    """What a rule is about, in one line."""
    parts = [f"{words} {_names(rule, name)}" for name, words in _ABOUT.items() if rule.get(name)]
    if rule.get("effect") == "limit":
        seconds = rule.get("seconds") or 60
        parts.append(f"{rule.get('requests')} in {seconds} s for each {rule.get('per') or 'person'}")
    return "; ".join(parts) or "everything"


_ABOUT = {
    "surfaces": "from",
    "namespaces": "in",
    "servers": "to",
    "methods": "methods",
    "groups": "groups",
    "except_groups": "but not",
}


def _names(found: Mapping[str, Any], name: str) -> str:
    return ", ".join(line(each) for each in found.get(name) or [])


def _made(made: Any) -> str:
    if not isinstance(made, Mapping):
        return "which nobody made"
    return f"by {line(made.get('by', ''))} at {_moment(made.get('at'))} UTC: {line(made.get('why', ''))}"


def _version_row(made: Mapping[str, Any]) -> list[str]:
    back = made.get("reverts_to")
    told = [line(made.get(name, "")) for name in ("by", "why")]
    return [str(made.get("version")), _moment(made.get("at")), *told, "" if back is None else f"version {back}"]


def _moment(at_ms: Any) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}" if isinstance(at_ms, int) else ""
