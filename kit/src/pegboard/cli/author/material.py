"""What a template is made with: the author's data, documents or OpenAPI document, or samples until there are some."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from pegboard.cli.author import openapi, operations, scaffold
from pegboard.cli.author.scaffold import About, Content
from pegboard.cli.exit import Failure
from pegboard.cli.text import line

SQLITE = (".sqlite", ".sqlite3", ".db")
DUCKDB = (".csv", ".parquet", ".duckdb")
LARGEST_DATA = 24 * 1024 * 1024
"""Bytes of an author's own files: they are part of each release."""

LARGEST_DOCUMENT = 16 * 1024 * 1024

Make = Callable[[About], Content]
"""From what a server is to what its template brings: read already, so that nobody answers questions for nothing."""


def blank() -> Make:
    """One tool to begin with."""
    return lambda _: Content(("blank",))


def sql(data: Path | None) -> Make:
    """SQL over a file.

    Raises:
        Failure: it cannot be read, is too large, or of no kind that is known.
    """
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
    return _with_data(file, contents, named, ("sql", "sql-duckdb"), "duckdb>=1.4", opens=_OPENS[suffix].format(table))


_OPENS = {
    ".csv": 'duckdb.connect(":memory:")\n    connection.read_csv(str(FILE)).to_table("{}")',
    ".parquet": 'duckdb.connect(":memory:")\n    connection.read_parquet(str(FILE)).to_table("{}")',
    ".duckdb": "duckdb.connect(str(FILE), read_only=True)",
}
"""How DuckDB comes by each kind of file."""


def documents(data: Path | None) -> Make:
    """The documents of a folder.

    Raises:
        Failure: it is none, holds no text, or too much.
    """
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
    files = {f"src/_module_/documents/{name}": text for name, text in found.items()}
    return lambda _: Content(("files",), (), files, words)


def api(document: str | None, base_url: str, wanted: Sequence[str]) -> tuple[Make, str]:
    """Tools for the operations of an HTTP API, and what its document says of it in a line.

    Raises:
        Failure: the document is none, is not to be had, or lacks an operation that is wanted.
    """
    described = _api(document, base_url)
    made = openapi.chosen(described, wanted)

    def content(about: About) -> Content:
        words = operations.words(described, made, scaffold.identifier(about.name))
        writes = {} if all(each.reads for each in made) else {"policies/writers.cedar": _writers(about)}
        return Content(("openapi",), ("httpx2>=2.16",), writes, words)

    return content, described.description if document else ""


def _writers(about: About) -> bytes:
    rule = "// Who may change something. It is the owner's own group until you say otherwise.\n"
    return (rule + scaffold.permits((about.owner,)) + "\n").encode()


def _with_data(
    file: str, contents: bytes, table: str, template: tuple[str, ...], *needs: str, opens: str = ""
) -> Make:
    words = {"file": file, "table": table, "table_toml": scaffold.toml(table), "opens": opens}
    return lambda _: Content(template, needs, {f"src/_module_/{file}": contents}, words)


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
            raise Failure.usage(f"{line(address)} answers {got.status_code}.", mend)
        for part in got.iter_bytes():
            body += part
            if len(body) > LARGEST_DOCUMENT:
                raise Failure.usage(f"{line(address)} is larger than {LARGEST_DOCUMENT // 2**20} MiB.")
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
