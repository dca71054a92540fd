"""`pegboard new`: a server project that passes its own tests."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from urllib.parse import unquote, urlsplit

import typer

from pegboard.cli import render
from pegboard.cli.author import openapi, scaffold
from pegboard.cli.author.scaffold import About, Content, Kit
from pegboard.cli.author.uv import run_uv, told
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.options import Options, with_own_options
from pegboard.cli.text import line
from pegboard.cli.there import somebody_is_here
from pegboard.core.names import NAME_LENGTH, NAME_PATTERN

TEMPLATES = {
    "blank": "one tool to begin with",
    "sql": "SQL over a file of yours: SQLite, or DuckDB over CSV, Parquet or .duckdb",
    "openapi": "a tool for each operation of an HTTP API, from its OpenAPI document",
    "files": "search and read the documents of a folder",
}
INDEX_PATH = "/packages/simple/"
LONGEST_DESCRIPTION = 100
SQLITE = (".sqlite", ".sqlite3", ".db")
DUCKDB = (".csv", ".parquet", ".duckdb")
LARGEST_DATA = 24 * 1024 * 1024
"""Bytes of an author's own files: they are part of each release."""

LOOK_S = 5.0
LARGEST_DOCUMENT = 16 * 1024 * 1024


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
    if not re.fullmatch(NAME_PATTERN, name) or not NAME_LENGTH[0] <= len(name) <= NAME_LENGTH[1]:
        mend = "Use 2 to 32 of a-z, 0-9 and single '-', beginning with a letter, as in office-rooms."
        raise Failure.usage(f"{line(name)!r} is no server's name.", mend)
    folder = into or Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Failure.usage(f"{folder} is there already.", "Choose another place with --into DIR.")
    asking = somebody_is_here() and not options.as_json
    template = _template(template, data, document, asking=asking)
    _fits(template, data=data is not None, document=document is not None or bool(operation) or bool(base_url))
    api = _api(document, base_url) if template == "openapi" else None
    about = _about(name, template, description, owner, support_channel, group, asking=asking, api=api)
    content = _content(template, about, data, api, operation or [])
    source = _kit(kit, options)
    files = scaffold.project(about, content, source)
    for path, contents in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(contents)
    problem = _lock(folder)
    _tell(options, folder, template, sorted(files), problem)
    if source.path and kit is None and not options.as_json:
        render.hint(f"Nothing answers at {options.url}, so the kit comes from {source.path}.")
        render.hint("That is enough for pegboard dev. pegboard submit will say how to take it from an instance.")


def _template(template: str | None, data: Path | None, document: str | None, *, asking: bool) -> str:
    if template is None and document is not None:
        template = "openapi"
    if template is None and data is not None:
        template = "files" if data.is_dir() else "sql"
    if template is None and asking:
        for each, what in TEMPLATES.items():
            render.hint(f"  {each:<9}{what}")
        template = _asked("Template", _one_of, "blank")
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


def _about(
    name: str,
    template: str,
    description: str | None,
    owner: str | None,
    channel: str | None,
    group: list[str] | None,
    *,
    asking: bool,
    api: openapi.Api | None,
) -> About:
    suggested = (api.description if api and len(api.description) <= LONGEST_DESCRIPTION else "") or None
    if asking:
        description = description or _asked("What is it for, in a line", _described, suggested)
        owner = owner or _asked("Your team", _named, None)
        channel = channel or _asked("Where do people ask", _channel, f"#{name}")
        if group is None:
            group = _asked("Which groups may use it", _groups, owner).replace(",", " ").split()
    missing = [
        option for option, given in (("--owner", owner), ("--description", description or suggested)) if not given
    ]
    if missing or owner is None:
        raise Failure.usage(f"Missing: {' and '.join(missing)}.", f"See: pegboard new --help; template {template}.")
    description = _said("--description", _described, description or suggested or "")
    groups = tuple(dict.fromkeys(_said("--group", _named, each) for each in group or [owner]))
    title = name.replace("-", " ").capitalize()
    return About(
        name,
        title,
        description,
        _said("--owner", _named, owner),
        _said("--support-channel", _channel, channel or f"#{name}"),
        groups,
    )


def _content(
    template: str, about: About, data: Path | None, api: openapi.Api | None, operations: list[str]
) -> Content:
    if template == "sql":
        return _sql(data)
    if template == "files":
        return _documents(data)
    if api is not None:
        made = openapi.chosen(api, operations)
        words = openapi.words(api, made, scaffold.identifier(about.name))
        writes = {} if all(each.reads for each in made) else {"policies/writers.cedar": _writers(about)}
        return Content(("openapi",), ("httpx2>=2.16",), writes, words)
    return Content(("blank",))


def _writers(about: About) -> bytes:
    rule = "// Who may change something. It is the owner's own group until you say otherwise.\n"
    return (rule + scaffold.permits((about.owner,)) + "\n").encode()


def _sql(data: Path | None) -> Content:
    if data is None:
        return _with_data("data.sqlite", _sample_database(), "offices", ("sql",))
    suffix = data.suffix.lower()
    if suffix not in (*SQLITE, *DUCKDB):
        raise Failure.usage(f"--data {data}: what it is cannot be told.", f"End it in {', '.join(SQLITE + DUCKDB)}.")
    contents = _contents(data)
    table = re.sub(r"\W+", "_", data.stem.lower(), flags=re.ASCII).strip("_") or "data"
    table = f"t_{table}" if table[0].isdigit() else table
    file = f"data{suffix}"
    if suffix in SQLITE:
        return _with_data(file, contents, _first_table(data), ("sql",))
    # Which tables a database has, DuckDB itself says once it is installed.
    named = table if suffix != ".duckdb" else ""
    return _with_data(file, contents, named, ("sql", "sql-duckdb"), "duckdb>=1.4")


def _with_data(file: str, contents: bytes, table: str, template: tuple[str, ...], *needs: str) -> Content:
    words = {"file": file, "table": table, "table_toml": scaffold.toml(table)}
    return Content(template, needs, {f"src/_module_/{file}": contents}, words)


def _documents(data: Path | None) -> Content:
    if data is None:
        found = {name: scaffold.sample("files", f"sample/{name}") for name in ("onboarding.md", "on-call.md")}
    else:
        if not data.is_dir():
            raise Failure.usage(f"--data {data} is no folder.", "Name the folder that your documents are in.")
        paths = [p for p in sorted(data.rglob("*")) if p.is_file() and not p.is_symlink() and _is_document(p, data)]
        found = {path.relative_to(data).as_posix(): _contents(path) for path in paths}
        if not found:
            raise Failure.usage(f"--data {data}: there is no text in it.", "Put Markdown or other plain text there.")
        if sum(len(each) for each in found.values()) > LARGEST_DATA:
            raise _too_large(data)
    words = {"document_toml": scaffold.toml(sorted(found)[0])}
    return Content(("files",), (), {f"src/_module_/documents/{name}": text for name, text in found.items()}, words)


def _is_document(path: Path, folder: Path) -> bool:
    """Whether it is text, and no hidden file, such as those of git."""
    if any(part.startswith(".") for part in path.relative_to(folder).parts):
        return False
    with path.open("rb") as file:
        return b"\0" not in file.read(4096)


def _api(document: str | None, base_url: str) -> openapi.Api:
    if document is None:
        return openapi.read(scaffold.sample("openapi", "sample.json"), "sample.json", base_url)
    if document.startswith(("http://", "https://")):
        return openapi.read(_fetched(document), document, base_url)
    return openapi.read(_contents(Path(document), "--document"), document, base_url)


def _fetched(address: str) -> bytes:
    import httpx2

    from pegboard.cli.http import API_S, CONNECT_S, reaching, trusts_proxies

    timeout = httpx2.Timeout(API_S, connect=CONNECT_S)
    body = bytearray()
    mend = "Is that its address? A file can be named as well."
    with (
        reaching(address, mend),
        httpx2.Client(timeout=timeout, trust_env=trusts_proxies(address), follow_redirects=True) as client,
        client.stream("GET", address) as got,
    ):
        if not got.is_success:
            raise Failure.usage(f"{address} answers {got.status_code}.", mend)
        for part in got.iter_bytes():
            body += part
            if len(body) > LARGEST_DOCUMENT:
                raise Failure.usage(f"{address} is larger than {LARGEST_DOCUMENT // 2**20} MiB.")
    return bytes(body)


def _contents(path: Path, option: str = "--data") -> bytes:
    try:
        if path.stat().st_size > LARGEST_DATA:
            raise _too_large(path)
        return path.read_bytes()
    except OSError as error:
        raise Failure.usage(f"{option} {path} cannot be read: {error.strerror}.") from error


def _too_large(path: Path) -> Failure:
    most = f"{LARGEST_DATA // 2**20} MiB"
    mend = "Leave it where it is, and have a tool ask for it over the network (egress in pegboard.toml)."
    return Failure.usage(f"{path} is larger than {most}, and each release would hold it.", mend)


def _sample_database() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "data.sqlite"
        with closing(sqlite3.connect(path)) as database:
            database.executescript(scaffold.sample("sql", "sample/sample.sql").decode())
        return path.read_bytes()


def _first_table(path: Path) -> str:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
            row = database.execute(query).fetchone()
    except sqlite3.Error as error:
        raise Failure.usage(f"--data {path} is no SQLite database: {error}.") from error
    if row is None:
        raise Failure.usage(f"--data {path} has no table.")
    return str(row[0])


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
    except Failure as failure:
        return f"{failure.error['message']} {failure.error['what_to_do']}"
    return "" if done.returncode == 0 else told(done)


def _tell(options: Options, folder: Path, template: str, files: list[str], problem: str) -> None:
    steps = [f"cd {folder}", "uv run pytest -q", "pegboard dev", "pegboard submit"]
    if problem:
        message = f"{folder} is made, but its packages are not locked: {line(problem)}"
        failure = Failure.here(ExitStatus.FAILED, "not_locked", message, f"Then: cd {folder} && uv lock")
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


def _asked(question: str, check: Callable[[str], str], default: str | None) -> str:
    """What the person types, asked again until it fits."""
    while True:
        answer: str = typer.prompt(question, default=default, err=True)
        try:
            return check(answer)
        except ValueError as error:
            render.hint(f"  {error}")


def _said(option: str, check: Callable[[str], str], value: str) -> str:
    try:
        return check(value)
    except ValueError as error:
        raise Failure.usage(f"{option} {line(value)}: {error}.") from error


def _one_of(text: str) -> str:
    if text.strip() not in TEMPLATES:
        raise ValueError(f"choose one of {', '.join(TEMPLATES)}")
    return text.strip()


def _described(text: str) -> str:
    text = text.strip()
    if not text or not text.isprintable() or len(text) > LONGEST_DESCRIPTION:
        raise ValueError(f"it must be one line of 1 to {LONGEST_DESCRIPTION} characters")
    return text


def _named(text: str) -> str:
    text = text.strip()
    if not re.fullmatch(NAME_PATTERN, text) or not NAME_LENGTH[0] <= len(text) <= NAME_LENGTH[1]:
        raise ValueError("a group is 2 to 32 of a-z, 0-9 and single '-', beginning with a letter")
    return text


def _groups(text: str) -> str:
    names = [_named(each) for each in text.replace(",", " ").split()]
    if not names:
        raise ValueError("name one at least")
    return " ".join(names)


def _channel(text: str) -> str:
    text = text.strip()
    if len(text) < 2 or not text.isprintable():
        raise ValueError("two characters at least, for example #data-platform")
    return text
