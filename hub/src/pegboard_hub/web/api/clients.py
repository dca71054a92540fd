"""The API's route to clients: who is connected with what. It only tells.

Deciding on a client wants a person at a browser: an agent holds its person's token, and could otherwise approve the
program that it is.
"""

from __future__ import annotations

from fastapi import APIRouter

from pegboard_hub.identity.clients.listing import Software
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.api.schema import ClientsAnswer, ClientSummary, ClientUser
from pegboard_hub.web.knowing import not_an_operator
from pegboard_hub.web.parts import Parts


def add_client_routes(router: APIRouter, parts: Parts) -> None:
    """Add the route; the router sees to the sign-in."""
    clients = parts.identity.clients

    @router.get("/clients", summary="Every client and who uses it; for operators only", responses=refusals())
    async def list_clients(caller: SignedIn) -> ClientsAnswer:
        if not clients.may_look_after(caller.groups):
            raise not_an_operator(parts)
        found = await clients.listed()
        return ClientsAnswer(clients=[_summary(each) for each in found.software], never_used=found.unused)


def _summary(found: Software) -> ClientSummary:
    decided = found.decided
    return ClientSummary(
        software=found.software,
        kind=found.kind.value,
        name=found.name,
        redirect_uris=list(found.redirect_uris),
        uri=found.uri,
        surface=found.surface,
        standing=found.standing.value,
        decided_by=decided.by if decided else None,
        decided_at=decided.at_ms if decided else None,
        why=decided.why if decided else None,
        users=[ClientUser(sub=sub, name=name, connections=count) for sub, name, count in found.users],
        connections=found.connections,
        last_seen_at=found.last_seen_at_ms,
    )
