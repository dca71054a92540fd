"""Who is signed in, and how."""

from __future__ import annotations

from dataclasses import dataclass

from pegboard_hub.identity.clients.documents import open_documents
from pegboard_hub.identity.clients.rules import client_rules
from pegboard_hub.identity.clients.service import COMMAND, Clients
from pegboard_hub.identity.connections.devices import Devices
from pegboard_hub.identity.connections.service import Connections
from pegboard_hub.identity.demo import DemoSignIn
from pegboard_hub.identity.issue import TokenIssuer
from pegboard_hub.identity.issued import IssuedTokens
from pegboard_hub.identity.oauth.server import AuthorizationServer
from pegboard_hub.identity.provider.login import ProviderLogin
from pegboard_hub.identity.revocations import Revocations
from pegboard_hub.identity.sealing import Sealer, open_sealing_key
from pegboard_hub.identity.sessions.cookie import Cookie
from pegboard_hub.identity.sessions.service import Sessions
from pegboard_hub.identity.surfaces.exchange import Acting
from pegboard_hub.identity.surfaces.service import Surfaces
from pegboard_hub.opening.ground import Ground
from pegboard_hub.opening.standing import Standing
from pegboard_hub.registry.service import Registry
from pegboard_hub.telemetry.table import EXCHANGES_REFUSED
from pegboard_hub.web.edge_call import EdgeCalls


@dataclass(frozen=True, slots=True)
class People:
    """Who is signed in, and the calls that pages make for them."""

    demo: DemoSignIn
    identity: AuthorizationServer
    edge_calls: EdgeCalls


async def open_people(ground: Ground, standing: Standing, registry: Registry) -> People:
    """Open the sign-in, and what calls tools for whoever is signed in."""
    home, settings = ground.home, ground.settings
    tokens = IssuedTokens(home.issued, settings.name)
    ground.ended.callback(tokens.close)
    issuer = TokenIssuer(
        ground.keys.tokens,
        settings.public_url,
        lambda name: registry.current.deployed(name) is not None,
        settings.token_lifetime_s,
        issued=ground.meter.token_issued,
        noted=tokens.note,
        stops=lambda: standing.stops.current,
    )
    demo = DemoSignIn(ground.directory, issuer)
    edge_calls = EdgeCalls(
        settings.edge or settings.public_url, settings.public_url, certificate=home.edge_certificate
    )
    ground.ended.push_async_callback(edge_calls.close)
    identity = await _open_identity(ground, issuer, ground.login or demo, standing.revocations)
    return People(demo, identity, edge_calls)


async def _open_identity(
    ground: Ground, issuer: TokenIssuer, login: DemoSignIn | ProviderLogin, revocations: Revocations
) -> AuthorizationServer:
    home, settings, database, meter = ground.home, ground.settings, ground.database, ground.meter
    sealer, asked = Sealer(open_sealing_key(home), "session renewal"), ground.sign_in.file.sessions
    # A token ends a lifetime after its facts were told, so these must be younger than it is to live.
    renew_after_s = min(asked.renew_after_s, settings.token_lifetime_s / 2)
    alone = ground.locks.held
    sessions = Sessions(database, login, sealer, revocations, asked.lifetime_s, renew_after_s, alone=alone)
    await sessions.end_others()
    connections = Connections(database, sessions, issuer, revocations)
    rules = client_rules(ground.sign_in)

    def taken(client_id: str) -> bool:
        return client_id == COMMAND.client_id or client_id in rules.registered

    surfaces = Surfaces(database, revocations, connections.end_of_client, taken)
    await surfaces.reload()
    clients = Clients(
        database,
        rules,
        revocations,
        open_documents(rules, settings.public_url),
        connections.end_of_client,
        login=login.issuer,
        surfaces=lambda: [each.client for each in surfaces.current.values()],
    )
    acting = Acting(
        database,
        sessions,
        issuer,
        ground.keys,
        revocations,
        refused=lambda error: meter.count(EXCHANGES_REFUSED, error),
    )
    return AuthorizationServer(
        public_url=settings.public_url,
        cookie=Cookie.of(home.instance, settings.public_url),
        keys=ground.keys,
        issuer=issuer,
        clients=clients,
        sessions=sessions,
        connections=connections,
        devices=Devices(database, connections),
        revocations=revocations,
        surfaces=surfaces,
        acting=acting,
        demo=login if isinstance(login, DemoSignIn) else None,
        registers=rules.dynamic_registration,
        documents=rules.documents,
        services=settings.services,
    )
