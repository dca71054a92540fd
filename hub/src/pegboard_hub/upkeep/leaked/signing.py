"""Signing every bundle anew without a hub: what it would write at its start, from the registry as it is."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pegboard.core.bundle import MAX_AGE_S, STOPS_MAX_AGE_S, Ages
from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.database_url import EMBEDDED, read_database_url
from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import read_instance, server_of
from pegboard_hub.common.settings import DEMO
from pegboard_hub.edges.service import Edges
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.identity.revocations import Revocations
from pegboard_hub.registry import store
from pegboard_hub.registry.bundles import BundleWriter
from pegboard_hub.registry.history import newest_seq
from pegboard_hub.registry.model import Snapshot
from pegboard_hub.registry.sources import Sources
from pegboard_hub.ruling.current import CoarseRules
from pegboard_hub.stopping.callers import CallerStops
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.schema import schema_of


async def sign_bundles(home: Home, public_url: str = "") -> None:
    """Write the bundles of edges and servers, signed by the keys of now.

    What is granted, revoked, stopped and refused by rules is what the tables say, and so is which edges joined: the
    grants file is the hub's to take over.

    Args:
        home: of the instance.
        public_url: issuer of the tokens; by default as the last start noted it.

    Raises:
        ConfigurationError: nothing was ever started there, the environment does not name the PostgreSQL it uses, or
            the coarse rules cannot be read.
        StorageUnavailable: the database takes no writes.
        OSError: a bundle cannot be written.
    """
    instance = read_instance(home)
    issuer = str(public_url or instance.get("public_url") or "")
    if not issuer:
        raise ConfigurationError(str(home.instance_file), ["says no public URL", "start the instance: it signs anew"])
    database = _database(home)
    try:
        revocations, stops, rules = Revocations(database), CallerStops(database), CoarseRules(database)
        edges = Edges(database, home)
        for table in (revocations, stops, rules, edges):
            await table.reload()
        sources = Sources(home, _grants(instance))
        await sources.follow()  # for the limits alone
        ages = Ages(instance.get("grants_max_age_s", MAX_AGE_S), instance.get("stops_max_age_s", STOPS_MAX_AGE_S))
        writer = BundleWriter(
            home,
            database,
            open_keys(home),
            issuer,
            ages,
            revoked=lambda: revocations.current,
            stops=lambda: stops.current,
            limits=lambda: sources.limits,
            rules=lambda: rules.current,
            edges=lambda: edges.names,
        )
        async with database.read() as connection:
            servers = await store.load(connection, {})
            snapshot = Snapshot({str(each.name): each for each in servers}, seq=await newest_seq(connection))
        await writer.write(snapshot, time.time(), refresh=True)
    finally:
        await database.close()


def _grants(instance: dict[str, object]) -> Path:
    return Path(str(instance.get("grants") or DEMO / "grants.toml"))


def _database(home: Home) -> Database:
    url = read_database_url(os.environ)
    if url not in (None, EMBEDDED):
        return Database(str(url))
    if server_of(home):
        words = ["is not set, and this instance keeps its data in a PostgreSQL", "set it as `pegboard up` has it"]
        raise ConfigurationError("PEGBOARD_DATABASE_URL", words)
    schema_of(home.database).check()
    return Database.at(home.database)
