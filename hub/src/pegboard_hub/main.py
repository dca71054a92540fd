"""The hub's process: `python -m pegboard_hub.main --home DIR`. Puts the parts together and opens the two doors."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from pegboard.core.bundle import MAX_AGE_S, STOPS_MAX_AGE_S, Ages
from pegboard.core.errors import ConfigurationError, PegboardError
from pegboard.core.names import api_audience
from pegboard.core.token import MAX_LIFETIME_S
from pegboard_hub.approvals.rights import Owned
from pegboard_hub.approvals.service import Approvals
from pegboard_hub.common.cursors import Cursors
from pegboard_hub.common.database_url import EMBEDDED, read_database_url
from pegboard_hub.common.home import Home, hub_names, read_instance
from pegboard_hub.common.logs import configure_logging
from pegboard_hub.common.settings import DEMO, HubSettings, ServiceSettings
from pegboard_hub.edges.service import Edges
from pegboard_hub.health.service import HealthBoard
from pegboard_hub.identity.clients.documents import open_documents
from pegboard_hub.identity.clients.rules import client_rules
from pegboard_hub.identity.clients.service import COMMAND, Clients
from pegboard_hub.identity.connections.devices import Devices
from pegboard_hub.identity.connections.service import Connections
from pegboard_hub.identity.demo import DemoSignIn
from pegboard_hub.identity.directory import NOBODY, open_directory
from pegboard_hub.identity.issue import TokenIssuer
from pegboard_hub.identity.issued import IssuedTokens
from pegboard_hub.identity.keys import Keys, RingVerifier, open_keys
from pegboard_hub.identity.oauth.server import AuthorizationServer
from pegboard_hub.identity.provider.login import ProviderLogin, open_company_login
from pegboard_hub.identity.revocations import Revocations
from pegboard_hub.identity.sealing import Sealer, open_sealing_key
from pegboard_hub.identity.sessions.cookie import Cookie
from pegboard_hub.identity.sessions.service import Sessions
from pegboard_hub.identity.settings import SignInSettings, open_sign_in
from pegboard_hub.identity.surfaces.exchange import Acting
from pegboard_hub.identity.surfaces.service import Surfaces
from pegboard_hub.ledger.channels import Channels
from pegboard_hub.ledger.service import Ledger
from pegboard_hub.notify.announcing import Announcing
from pegboard_hub.notify.service import Notifying
from pegboard_hub.notify.settings import notify_or_fault
from pegboard_hub.packages.shelf import Shelf
from pegboard_hub.publishing.deployments import Deployments
from pegboard_hub.publishing.logs import Logs
from pegboard_hub.publishing.service import Publishing
from pegboard_hub.publishing.serving import reaching_by, serving_by
from pegboard_hub.publishing.signing import Signing
from pegboard_hub.publishing.steering import Steering
from pegboard_hub.registry.bundles import BundleWriter
from pegboard_hub.registry.ending import Closing
from pegboard_hub.registry.key_rotation import KeyRotation
from pegboard_hub.registry.reviews.service import Reviewing
from pegboard_hub.registry.search import Catalogue
from pegboard_hub.registry.service import Registry
from pegboard_hub.registry.sources import Sources
from pegboard_hub.registry.status import States, StatusReader
from pegboard_hub.requiring.service import Requiring
from pegboard_hub.ruling.current import CoarseRules
from pegboard_hub.ruling.service import Ruling
from pegboard_hub.stopping.callers import CallerStops
from pegboard_hub.stopping.service import Stopping
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.locks import Locks
from pegboard_hub.storage.migrate import migrate
from pegboard_hub.storage.schema import schema_of
from pegboard_hub.telemetry.meter import HubMeter
from pegboard_hub.telemetry.table import EXCHANGES_REFUSED
from pegboard_hub.web.app import internal_app, public_app
from pegboard_hub.web.doors import Door, FarDoor, LeadersDoor, listen
from pegboard_hub.web.edge_call import EdgeCalls
from pegboard_hub.web.metrics import MetricsPage, show_edges, show_states, watch_hub
from pegboard_hub.web.parts import Parts

log = logging.getLogger(__name__)

TIDY_EVERY_S = 60


@asynccontextmanager
async def open_hub(home: Home, settings: HubSettings) -> AsyncIterator[Parts]:
    """The hub's parts, ready to serve: keys there, schema newest, registry loaded, bundles written.

    Raises:
        PegboardError: something the operator must mend; the message says what.
    """
    opened, told = open_sign_in(settings.sign_in), notify_or_fault(settings.notify)
    directory = open_directory(settings.directory, settings.public_url) if opened.demo else NOBODY
    keys = open_keys(home, settings.token_lifetime_s)
    meter = HubMeter()
    async with AsyncExitStack() as ended:
        database = _database(home, settings, meter)
        ended.push_async_callback(database.close)
        company = open_company_login(opened, settings.public_url, open_sealing_key(home))
        if company is not None:
            ended.push_async_callback(company.close)
        await migrate(database)
        locks = Locks(database)
        ended.push_async_callback(locks.close)
        await locks.look()
        revocations = Revocations(database)
        await revocations.reload()
        stops = CallerStops(database)
        await stops.reload()
        rules = CoarseRules(database)
        await rules.reload()
        edges = Edges(database, home, leads=lambda: locks.leads)
        await edges.reload()
        registry = _registry(home, settings, keys, database, revocations, stops, rules, locks, edges)
        await registry.start()
        health = HealthBoard(
            database, lambda: _deployed(registry), lambda: registry.current.servers, home.instance, meter
        )
        await health.start()
        watch_hub(meter, database, registry, stops)
        tokens = IssuedTokens(home.issued, settings.name)
        ended.callback(tokens.close)
        issuer = TokenIssuer(
            keys.tokens,
            settings.public_url,
            lambda name: registry.current.deployed(name) is not None,
            settings.token_lifetime_s,
            issued=meter.token_issued,
            noted=tokens.note,
            stops=lambda: stops.current,
        )
        sign_in = DemoSignIn(directory, issuer)
        edge_calls = EdgeCalls(
            settings.edge or settings.public_url, settings.public_url, certificate=home.edge_certificate
        )
        ended.push_async_callback(edge_calls.close)
        identity = await _identity(
            home, settings, keys, database, issuer, company or sign_in, opened, revocations, locks, meter
        )
        reviewing = Reviewing(registry, database, opened.file.operators)
        stopping = Stopping(
            database,
            registry,
            stops,
            identity.clients,
            identity.sessions,
            lambda: reviewing.rights.roles,
            leads=lambda: locks.leads,
        )
        notifying = Notifying(database, told, settings.public_url, meter, leads=lambda: locks.leads)
        ended.push_async_callback(notifying.close)
        requiring = Requiring(database, registry, lambda: reviewing.rights.roles)
        approvals = Approvals(
            database,
            registry,
            keys,
            settings.public_url,
            lambda: reviewing.rights.roles,
            revoked=lambda: revocations.current,
            stops=lambda: stops.current,
            announcer=Announcing(notifying, Owned(lambda: registry.current).owner),
            leads=lambda: locks.leads,
            meter=meter,
            registered=requiring.effective,
        )

        publishing = Publishing(
            database,
            registry,
            Signing(keys.releases),
            lambda: reviewing.rights.roles,
            f"{settings.public_url}/packages/simple",
            leads=lambda: locks.leads,
        )
        deployments = Deployments(
            database,
            registry,
            leads=lambda: locks.leads,
            serve=serving_by(lambda: registry.grants_file),
            egress=reaching_by(lambda: registry.grants_file),
            moved=publishing.tell,
            meter=meter,
        )
        await deployments.start()
        status = StatusReader(
            home.status, settings.status_stale_s, prober=health.word, submitted=lambda: deployments.healths
        )
        publishing.on_approved(deployments.wake)
        publishing.on_renewed(deployments.forget)
        logs = Logs(home.runtime_socket)
        ended.push_async_callback(logs.close)

        def show() -> None:
            show_states(meter, registry, status)
            show_edges(meter, edges)

        yield Parts(
            settings=settings,
            database=database,
            registry=registry,
            reviewing=reviewing,
            sign_in=sign_in,
            identity=identity,
            api_tokens=RingVerifier(keys.tokens, settings.public_url, api_audience(settings.public_url)),
            ledger=Ledger(
                database, lambda name: name in registry.current.servers, meter=meter, settle=approvals.settle
            ),
            channels=Channels(home),
            status=status,
            health=health,
            rotation=KeyRotation(keys, registry, status, leads=lambda: locks.leads, edges=edges.consumers),
            meter=meter,
            page=MetricsPage(home, meter, show, settings.hubs, settings.name),
            cursors=Cursors(open_sealing_key(home)),
            shelf=Shelf(home),
            locks=locks,
            edge_calls=edge_calls,
            catalogue=Catalogue(
                lambda: registry.current,
                States(status, lambda: registry.current.servers),
                lambda: reviewing.rights.roles.overseers,
            ),
            stops=stops,
            stopping=stopping,
            rules=rules,
            ruling=Ruling(database, rules),
            edges=edges,
            requiring=requiring,
            approvals=approvals,
            notifying=notifying,
            publishing=publishing,
            deployments=deployments,
            logs=logs,
            closing=Closing(registry, leads=lambda: locks.leads),
            steering=Steering(database, registry, deployments, lambda: reviewing.rights.roles),
        )


def _deployed(registry: Registry) -> list[str]:
    """Servers that the prober looks at: whoever connects to a replica of a submitted one may wake it."""
    return [str(server.name) for server in registry.current.all_deployed if not server.submitted]


def _database(home: Home, settings: HubSettings, meter: HubMeter) -> Database:
    if settings.database_url:
        return Database(settings.database_url, meter, f"pegboard {settings.name}")
    return Database.at(home.database, meter)


async def _identity(
    home: Home,
    settings: HubSettings,
    keys: Keys,
    database: Database,
    issuer: TokenIssuer,
    login: DemoSignIn | ProviderLogin,
    opened: SignInSettings,
    revocations: Revocations,
    locks: Locks,
    meter: HubMeter,
) -> AuthorizationServer:
    sealer, asked = Sealer(open_sealing_key(home), "session renewal"), opened.file.sessions
    # A token ends a lifetime after its facts were told, so these must be younger than it is to live.
    renew_after_s = min(asked.renew_after_s, settings.token_lifetime_s / 2)
    sessions = Sessions(database, login, sealer, revocations, asked.lifetime_s, renew_after_s, alone=locks.held)
    await sessions.end_others()
    connections = Connections(database, sessions, issuer, revocations)
    rules = client_rules(opened)

    def taken(client_id: str) -> bool:
        return client_id == COMMAND.client_id or client_id in rules.registered

    surfaces = Surfaces(database, revocations, connections.end_of_client, taken)
    await surfaces.reload()
    documents = open_documents(rules, settings.public_url)
    return AuthorizationServer(
        public_url=settings.public_url,
        cookie=Cookie.of(home.instance, settings.public_url),
        keys=keys,
        issuer=issuer,
        clients=Clients(
            database,
            rules,
            revocations,
            documents,
            connections.end_of_client,
            login=login.issuer,
            surfaces=lambda: [each.client for each in surfaces.current.values()],
        ),
        sessions=sessions,
        connections=connections,
        devices=Devices(database, connections),
        revocations=revocations,
        surfaces=surfaces,
        acting=Acting(
            database,
            sessions,
            issuer,
            keys,
            revocations,
            refused=lambda error: meter.count(EXCHANGES_REFUSED, error),
        ),
        demo=login if isinstance(login, DemoSignIn) else None,
        registers=rules.dynamic_registration,
        documents=rules.documents,
        services=settings.services,
    )


def _registry(
    home: Home,
    settings: HubSettings,
    keys: Keys,
    database: Database,
    revocations: Revocations,
    stops: CallerStops,
    rules: CoarseRules,
    locks: Locks,
    edges: Edges,
) -> Registry:
    ages = Ages(settings.grants_max_age_s, settings.stops_max_age_s)
    sources = Sources(home, settings.grants)
    writer = BundleWriter(
        home,
        database,
        keys,
        settings.public_url,
        ages,
        revoked=lambda: revocations.current,
        stops=lambda: stops.current,
        limits=lambda: sources.limits,
        rules=lambda: rules.current,
        edges=lambda: edges.names,
    )
    registry = Registry(database, sources, writer, leads=lambda: locks.leads)
    revocations.on_change(registry.revoked)
    stops.on_change(registry.revoked)
    rules.on_change(registry.revoked)
    edges.on_change(registry.revoked)
    return registry


async def serve(home: Home, settings: HubSettings) -> None:
    """Serve both doors until SIGTERM or SIGINT, finishing the requests that are under way.

    Raises:
        PegboardError: as `open_hub`.
        OSError: a socket cannot be opened.
    """
    if not settings.database_url:
        schema_of(home.database).check()
    async with open_hub(home, settings) as parts:
        parts.catalogue.follow()
        _spare_what_stays()
        app = public_app(parts)
        public, far = Door(app), Door(FarDoor(app))
        internal = LeadersDoor(lambda: Door(internal_app(parts)), home.internal_socket, lambda: parts.locks.leads)
        with listen(home.hub_door(settings.name)) as listener, listen(home.far_hub_door(settings.name)) as outer:
            _on_signals([public, far])
            internal.look()
            keepers = [
                asyncio.create_task(internal.run()),
                asyncio.create_task(parts.registry.watch(settings.poll_s, settings.resign_s)),
                asyncio.create_task(parts.registry.watch_revoked()),
                asyncio.create_task(_tidy(parts)),
                asyncio.create_task(parts.rotation.run()),
                asyncio.create_task(parts.status.keep()),
                asyncio.create_task(parts.health.follow()),
                asyncio.create_task(parts.stopping.keep()),
                asyncio.create_task(parts.edges.keep()),
                asyncio.create_task(parts.approvals.keep()),
                asyncio.create_task(parts.notifying.run()),
                asyncio.create_task(parts.deployments.keep()),
                asyncio.create_task(parts.closing.keep()),
                asyncio.create_task(parts.publishing.run()),
            ]
            if not parts.database.embedded:
                keepers += [asyncio.create_task(each) for each in _between_hubs(parts)]
            facts = {"public_url": settings.public_url, "home": str(home.root), "database": parts.database.shown}
            log.info("hub ready", extra=facts)
            await asyncio.gather(public.serve(sockets=[listener]), far.serve(sockets=[outer]))
            parts.approvals.release()
            parts.publishing.release()
            await internal.close()
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
    log.info("hub ended")


def _spare_what_stays() -> None:
    """Leave out of later garbage collections what was loaded.

    It is some million objects for thousands of servers, and looking through them would hold everybody up for a second
    now and then. What is replaced is freed all the same: by its count of references.
    """
    gc.collect()
    gc.freeze()


def _on_signals(doors: list[Door]) -> None:
    def end() -> None:
        for door in doors:
            door.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)


def _between_hubs(parts: Parts) -> tuple[Coroutine[Any, Any, None], ...]:
    """What a hub does because there may be others."""
    return (
        parts.locks.run(),
        parts.identity.revocations.follow(),
        parts.stops.follow(),
        parts.rules.follow(),
        parts.identity.surfaces.follow(),
        parts.approvals.follow(),
    )


async def _tidy(parts: Parts) -> None:
    identity = parts.identity
    kept = (
        parts.ledger,
        parts.health,
        parts.approvals,
        parts.notifying,
        parts.publishing,
        identity.clients,
        identity.connections,
        identity.devices,
        identity.sessions,
        identity.surfaces,
        identity.revocations,
    )
    while True:
        for each in kept if parts.locks.leads else ():
            try:
                await each.tidy()
            except Exception:
                log.exception("what has expired could not be tidied away", extra={"of": type(each).__name__})
        await asyncio.sleep(TIDY_EVERY_S)


def read_settings(arguments: list[str]) -> tuple[Home, HubSettings]:
    """The home and settings that a command line names; what it leaves out comes from `instance.json`.

    Raises:
        ConfigurationError: the home cannot be used, or nothing says the public URL.
    """
    parser = argparse.ArgumentParser(prog="python -m pegboard_hub.main", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="folder of this instance")
    parser.add_argument("--public-url", help="the edge's origin, for example http://localhost:8400")
    parser.add_argument("--grants", type=Path, help="the operator's grants file (default: the demo's)")
    parser.add_argument("--sign-in", type=Path, help="the sign-in file (default: none, so the demo directory)")
    parser.add_argument("--notify", type=Path, help="the notification file (default: none)")
    parser.add_argument("--directory", type=Path, help="the demo directory's file (default: the demo's)")
    parser.add_argument(
        "--token-lifetime",
        type=_lifetime,
        default=os.environ.get("PEGBOARD_TOKEN_LIFETIME") or str(MAX_LIFETIME_S),
        help=f"seconds that a token lives, {MAX_LIFETIME_S} at most (default: that, or PEGBOARD_TOKEN_LIFETIME)",
    )
    parser.add_argument("--name", default="hub", help="of this process among the hubs of the home (default: hub)")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    options = parser.parse_args(arguments)
    home = Home.open(options.home)
    instance = read_instance(home)
    public_url = options.public_url or instance.get("public_url")
    if not public_url:
        raise ConfigurationError("public URL", [f"neither --public-url nor {home.instance_file} says it"])
    sign_in = options.sign_in or instance.get("sign_in")
    notify = options.notify or instance.get("notify")
    settings = HubSettings(
        public_url=str(public_url).rstrip("/"),
        grants=Path(options.grants or instance.get("grants") or DEMO / "grants.toml").absolute(),
        directory=Path(options.directory or DEMO / "directory.toml").absolute(),
        sign_in=Path(sign_in).absolute() if sign_in else None,
        notify=Path(notify).absolute() if notify else None,
        edge=_edge(instance),
        token_lifetime_s=options.token_lifetime,
        grants_max_age_s=_age(instance, "grants_max_age_s", MAX_AGE_S),
        stops_max_age_s=_age(instance, "stops_max_age_s", STOPS_MAX_AGE_S),
        database_url=_server_url(),
        name=options.name,
        hubs=hub_names(count) if (count := int(instance.get("hubs") or 1)) > 1 else (),
        log_level=options.log_level,
        services=_services(instance),
    )
    return home, settings


def _server_url() -> str:
    """The URL of a PostgreSQL, if the environment names one."""
    url = read_database_url(os.environ)
    return "" if url in (None, EMBEDDED) else str(url)


def _edge(instance: dict[str, Any]) -> str:
    """The edge's own address, as the last start noted it: the public URL may only be good outside."""
    port, bind = instance.get("port"), str(instance.get("bind") or "")
    if not isinstance(port, int):
        return ""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104 - compared with
    scheme = "https" if instance.get("tls_cert") else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _services(instance: dict[str, Any]) -> ServiceSettings | None:
    """How services call, as the last start noted it."""
    noted = instance.get("services")
    if not isinstance(noted, dict):
        return None
    return ServiceSettings(int(noted["port"]), tuple(noted["trust_domains"]), str(noted.get("workload_api") or ""))


def _lifetime(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIFETIME_S):
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a number of seconds from 1 to {MAX_LIFETIME_S}")
    return int(text)


def _age(instance: dict[str, Any], name: str, most: int) -> int:
    """An age that the operator may have tightened; `pegboard up` has checked it, and it is never loosened."""
    value = instance.get(name, most)
    if not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigurationError(name, [f"{value!r} is not a number of seconds from 1 to {most}"])
    return value


def main() -> int:
    """Run the hub; the exit status is 1 when it cannot start."""
    configure_logging()
    os.umask(0o022)
    try:
        home, settings = read_settings(sys.argv[1:])
        configure_logging(settings.log_level)
        uvloop.run(serve(home, settings))
    except (PegboardError, OSError) as error:
        log.error("the hub cannot start: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
