"""`pegboard new`: a server project that passes its own tests."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer

from pegboard.cli import render
from pegboard.cli.author import material, scaffold
from pegboard.cli.author.answers import Given, about, asked, server_name
from pegboard.cli.author.material import Make
from pegboard.cli.author.scaffold import Kit
from pegboard.cli.author.uv import run_uv, told
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options, with_own_options
from pegboard.cli.text import line
from pegboard.cli.there import somebody_is_here

TEMPLATES = {
    "blank": "one tool to begin with",
    "sql": "SQL over a file of yours: SQLite, or DuckDB over CSV, Parquet or .duckdb",
    "openapi": "a tool for each operation of an HTTP API, from its OpenAPI document",
    "files": "search and read the documents of a folder",
}
SAMPLES = {
    "sql": "It holds sample data of offices until you name your own file: --data FILE",
    "openapi": "It is of a sample API that does not answer until you name your own: --document FILE",
    "files": "It holds two sample documents until you name your own folder: --data DIR",
}
INDEX_PATH = "/packages/simple/"
LOOK_S = 5.0


@with_own_options
def new(
    options: Options,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The server's name, and its folder's: a-z, 0-9, '-'.")],
    template: Annotated[
        str | None, typer.Option("--template", "-t", help=f"One of {', '.join(TEMPLATES)}. Default: blank.")
    ] = None,
    description: Annotated[
        str | None, typer.Option("--description", "-d", help="What it is for, in at most 100 characters.")
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="Your team: the group that owns it.")] = None,
    support_channel: Annotated[
        str | None, typer.Option("--support-channel", help="Where people ask. Default: #NAME.", metavar="CHANNEL")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="GROUP", help="May use it; repeat it for others. Default: the owner."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="sql: your data's file. files: your documents' folder.")
    ] = None,
    document: Annotated[
        str | None, typer.Option("--document", help="openapi: the OpenAPI document, a file or an address.")
    ] = None,
    operation: Annotated[
        list[str] | None,
        typer.Option("--operation", metavar="ID", help="openapi: make a tool of it; default: of those that read."),
    ] = None,
    base_url: Annotated[
        str, typer.Option("--base-url", help="openapi: where the API is, if the document does not say.")
    ] = "",
    kit: Annotated[
        str | None,
        typer.Option("--kit", help="Where the kit comes from: a package index, or a folder. Default: the instance."),
    ] = None,
    into: Annotated[Path | None, typer.Option("--into", metavar="DIR", help="Default: ./NAME.")] = None,
) -> None:
    """Make a server project: tools, a policy, tests, and nothing about deployment.

    It passes its own tests as it is. What is not said is asked for, where this is a terminal; elsewhere --owner and
    --description must be there.

    \b
    Examples:
      pegboard new weather
      pegboard new sales --template sql --data sales.csv --owner finance --description "Sales by day and office."
      pegboard new rooms -t openapi --document https://rooms.example.com/openapi.json --owner workplace -d "Rooms."
      pegboard new handbook -t files --data docs/handbook --owner people --group platform -d "The handbook."
    """
    folder = into or Path(name)
    try:
        server_name(name)
    except ValueError as error:
        raise Failure.usage(f"{line(name)!r} is no server's name.", f"{error}.") from error
    _free(folder)
    asking = somebody_is_here() and not options.as_json
    template = _template(template, data, document, asking=asking)
    _fits(template, data=data is not None, document=document is not None or bool(operation) or bool(base_url))
    if asking:
        data, document = _own(template, data, document)
    make, suggested = _material(template, data, document, base_url, operation or [])
    given = Given(description, owner, support_channel, tuple(group or ()))
    described = about(name, given, suggested, asking=asking)
    source = _kit(kit, options)
    files = scaffold.project(described, make(described), source)
    _write(folder, files)
    problem = _lock(folder)
    _tell(options, folder, template, sorted(files), problem)
    if options.as_json:
        return
    if template in SAMPLES and data is None and document is None:
        render.hint(SAMPLES[template])
    if source.path and kit is None:
        render.hint(f"Nothing answers at {options.url}, so the kit comes from {source.path}.")
        render.hint("That is enough for pegboard dev. pegboard submit will say how to take it from an instance.")


def _free(folder: Path) -> None:
    """See that nothing of anybody's is overwritten.

    Raises:
        Failure: something is in the folder's place.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if (folder / "pegboard.toml").is_file():
        mend = f"Go on with it (cd {quote(str(folder))}), or choose another place with --into DIR."
        raise Failure.usage(f"{folder} is there already, with a project in it.", mend)
    raise Failure.usage(f"{folder} is there already.", "Choose another place with --into DIR.")


def _template(template: str | None, data: Path | None, document: str | None, *, asking: bool) -> str:
    if template is None and document is not None:
        template = "openapi"
    if template is None and data is not None:
        template = "files" if data.is_dir() else "sql"
    if template is None and asking:
        for each, what in TEMPLATES.items():
            render.hint(f"  {each:<9}{what}")
        template = asked("Template", _one_of, "blank")
    template = template or "blank"
    if template not in TEMPLATES:
        raise Failure.usage(f"--template {line(template)}: unknown; choose one of {', '.join(TEMPLATES)}.")
    return template


def _fits(template: str, *, data: bool, document: bool) -> None:
    if data and template not in ("sql", "files"):
        raise Failure.usage("--data belongs to the templates sql and files.", f"Leave it out for {template}.")
    if document and template != "openapi":
        raise Failure.usage(
            "--document, --operation and --base-url belong to the template openapi.",
            f"Leave them out for {template}.",
        )


def _own(template: str, data: Path | None, document: str | None) -> tuple[Path | None, str | None]:
    """Ask for what the template is made with; nothing is typed where a sample will do."""
    if template == "openapi" and document is None:
        return None, asked("The OpenAPI document, a file or an address (Enter: a sample)", str.strip, "") or None
    if template in ("sql", "files") and data is None:
        what = {"sql": "Your data's file", "files": "Your documents' folder"}[template]
        said = asked(f"{what} (Enter: a sample)", _there, "")
        return Path(said).expanduser() if said else None, None
    return data, document


def _there(text: str) -> str:
    if text.strip() and not Path(text.strip()).expanduser().exists():
        raise ValueError("there is nothing of that name")
    return text.strip()


def _one_of(text: str) -> str:
    if text.strip() not in TEMPLATES:
        raise ValueError(f"choose one of {', '.join(TEMPLATES)}")
    return text.strip()


def _material(
    template: str, data: Path | None, document: str | None, base_url: str, wanted: list[str]
) -> tuple[Make, str]:
    """What the template is made with, read, and what it says of the server in a line."""
    if template == "openapi":
        return material.api(document, base_url, wanted)
    if template == "blank":
        return material.blank(), ""
    return (material.sql(data) if template == "sql" else material.documents(data)), ""


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Put all of them there, or none: they take the folder's place at once.

    Raises:
        Failure: the disk does not take them.
    """
    place = folder.absolute()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".pegboard-new-", dir=place.parent) as beside:
            made = Path(beside) / "project"
            for path, contents in files.items():
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                (made / path).write_bytes(contents)
            if not place.exists():
                made.replace(place)
                return
            # Somebody may be standing in a folder that is there: it stays the one that it is.
            for each in made.iterdir():
                each.replace(place / each.name)
    except OSError as error:
        mend = "Nothing was made. Choose another place with --into DIR."
        raise Failure.here(
            ExitStatus.FAILED, "not_made", f"{folder} cannot be made: {error.strerror}.", mend
        ) from error


def _kit(given: str | None, options: Options) -> Kit:
    """Where the kit comes from: what is said, the instance where it answers, or where this command runs from."""
    index = f"{options.url}{INDEX_PATH}"
    if given is not None and given.startswith(("http://", "https://")):
        return Kit(index=given)
    if given is not None:
        if not (Path(given) / "pyproject.toml").is_file():
            raise Failure.usage(f"--kit {line(given)} is neither an index's address nor the kit's folder.")
        return Kit(path=str(Path(given).resolve()))
    source = _own_source()
    return Kit(path=source) if source and not _answers(f"{index}pegboard/") else Kit(index=index)


def _answers(address: str) -> bool:
    import httpx2

    from pegboard.cli.http import trusts_proxies

    try:
        return httpx2.get(address, timeout=LOOK_S, trust_env=trusts_proxies(address)).is_success
    except httpx2.HTTPError:
        return False


def _own_source() -> str:
    """The folder that this kit was installed from as editable; empty where it came from an index (PEP 610)."""
    try:
        said = json.loads(distribution("pegboard").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return ""
    editable = said.get("dir_info", {}).get("editable") is True
    parts = urlsplit(str(said.get("url", "")))
    return unquote(parts.path) if editable and parts.scheme == "file" else ""


def _lock(folder: Path) -> str:
    """Make uv.lock; empty where that went well, else why not."""
    try:
        done = run_uv(["lock"], folder)
    except KeyboardInterrupt:
        render.hint(f"{folder} is made, but its packages are not locked. Go on: cd {quote(str(folder))} && uv lock")
        raise
    except Failure as failure:
        return f"{failure.error['message']} {failure.error['what_to_do']}"
    return "" if done.returncode == 0 else told(done)


def _tell(options: Options, folder: Path, template: str, files: list[str], problem: str) -> None:
    steps = [f"cd {quote(str(folder))}", "uv run pytest -q", "pegboard dev", "pegboard submit"]
    if problem:
        message = f"{folder} is made, but its packages are not locked: {line(problem)}"
        failure = Failure.here(ExitStatus.FAILED, "not_locked", message, f"Then: cd {quote(str(folder))} && uv lock")
        failure.details = {"folder": str(folder), "template": template, "files": files}
        raise failure
    if options.as_json:
        made = {"folder": str(folder), "template": template, "files": [*files, "uv.lock"], "next": steps}
        render.document(made)
        return
    render.text(f"Made {folder}: {TEMPLATES[template]}.")
    shown = [each for each in files if each.endswith(("server.py", ".cedar", "pegboard.toml", "test_tools.py"))]
    render.table(("file", "what it is"), [(each, _what(each)) for each in shown])
    render.hint("Next:")
    for step in steps:
        render.hint(f"  {step}")


def _what(path: str) -> str:
    table = {"server.py": "the tools", ".cedar": "who may use them", ".toml": "what the server is, and asks for"}
    return next((what for end, what in table.items() if path.endswith(end)), "that it holds what it promises")
