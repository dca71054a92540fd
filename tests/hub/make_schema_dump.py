"""Write a dump of a database of this version's schema, with something in every table: `tests/hub/schemas/NNNN.sql`.

Run once for a schema that is released, from the clone: `python tests/hub/make_schema_dump.py`. A dump is never
changed afterwards: it is what instances have on their disks.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from pegboard_hub.storage.schema import schema_of
from tests.hub.company import call, denial, edge_refusal, found_company, intent, opened

AT_MS = 1_790_000_000_000
HEAD = "-- A database with something in every table, as this revision left it. Never changed.\n"


async def main() -> None:
    """Make the company's database by use, and write it down."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        company = found_company(Path(folder))
        channel = company.open_channel("prod/presto", "r" * 64)
        records = [record for number in range(3) for record in call(f"call-{number}", AT_MS + number)]
        records += [
            intent("unfinished", AT_MS + 9),
            denial("denied", AT_MS + 10),
            denial("nameless", AT_MS + 11, None),
        ]
        async with opened(company) as hub:
            await hub.deliver(channel, *records, {"kind": "outcome", "id": 5})
            await hub.deliver_edge(edge_refusal("edge-1", AT_MS + 12), edge_refusal("edge-2", AT_MS + 13, None))
        file = company.home.database
        dump = Path(__file__).parent / "schemas" / f"{schema_of(file).found}.sql"
        with contextlib.closing(sqlite3.connect(file)) as connection, dump.open("x", encoding="utf-8") as text:
            text.write(HEAD)
            text.writelines(f"{line}\n" for line in connection.iterdump())
    print(dump)


if __name__ == "__main__":
    asyncio.run(main())
