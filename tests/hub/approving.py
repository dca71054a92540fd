"""Approvals as servers ask for them and people decide on them, on the pages of a hub: for tests of all kinds."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2

from pegboard.core.approval import Action, Answer, Ask, Kind, Preview, Requirement, State
from pegboard_hub.approvals.model import Reader, Request
from pegboard_hub.ledger.channels import Channel
from pegboard_hub.web.pages.browser import Visitor
from pegboard_hub.web.parts import Parts
from tests.hub.company import PRESTO, URL, Hub, presto
from tests.oauth import Browser

SERVER = "prod/presto"
BY_OWNER = Requirement(by="owner", why="It overwrites a table that others read.")
BY_CALLER = Requirement(by="caller")
SQL_SCHEMA = {
    "type": "object",
    "properties": {
        "table": {"type": "string"},
        "sql": {"type": "string", "contentMediaType": "application/sql"},
        "tables": {"type": "array", "items": {"type": "string"}},
    },
}
OVERWRITE = {"table": "flights_daily", "sql": "SELECT day, count(*)\nFROM flights -- all of them\nGROUP BY 1"}
EVERYTHING = Reader("nobody", (), sees_all=True)


def with_overwriting() -> dict[str, Any]:
    """The declaration of prod/presto with tools that write."""
    declared = presto()
    declared["tools"] += [
        {"name": "overwrite_table", "policy": "granted", "destructive": True, "input_schema": SQL_SCHEMA},
        {"name": "drop_tables", "policy": "granted", "destructive": True, "input_schema": SQL_SCHEMA},
    ]
    return declared


async def ask(
    parts: Parts,
    token: str,
    *actions: Mapping[str, Any],
    tool: str = "overwrite_table",
    requirement: Requirement = BY_OWNER,
    preview: Preview | None = None,
    previews: Sequence[Preview | None] = (),
    kind: Kind = "approval",
    call_id: str = "",
    process: str = "process-1",
) -> Answer:
    """Ask as prod/presto does before a call of whoever has the token."""
    release = parts.registry.current.servers[SERVER].release
    assert release is not None
    shown = previews or [preview] * max(len(actions), 1)
    return await parts.approvals.ask(
        Channel(server=SERVER, release=release.digest),
        Ask(
            token=token,
            tool=tool,
            kind=kind,
            requirement=requirement,
            policy="granted",
            policy_version="1",
            actions=tuple(
                Action(arguments=dict(each), preview=what)
                for each, what in zip(actions or (OVERWRITE,), shown, strict=True)
            ),
            call_id=call_id or secrets.token_hex(8),
            process=process,
        ),
    )


async def asked(hub: Hub, *actions: Mapping[str, Any], person: str = "ana", **how: Any) -> str:
    """Ask as a person's call does; gives the id of the first request."""
    return (await ask(hub.parts, await hub.token(person, resource=PRESTO), *actions, **how)).actions[0].id


async def standing(hub: Hub, id: str) -> Request:
    """A request as it is."""
    found = await hub.parts.approvals.find(EVERYTHING, id)
    assert found is not None
    return found


async def state(hub: Hub, id: str) -> State:
    """How a request stands."""
    return (await standing(hub, id)).state


async def batch(hub: Hub, id: str) -> dict[str, State]:
    """How the requests of a batch stand, by id."""
    first = await standing(hub, id)
    every = [first, *await hub.parts.approvals.beside(EVERYTHING, first)]
    return {each.id: each.state for each in every}


async def look(browser: Browser, id: str, rest: str = "") -> httpx2.Response:
    """A request's page, wherever it leads on to."""
    page = await browser.get(f"{URL}/approvals/{id}{rest}")
    if page.status_code == 303:
        page = await browser.get(f"{URL}{page.headers['location']}")
    return page


def form_of(hub: Hub, browser: Browser, page: httpx2.Response, id: str, **fields: str) -> dict[str, str]:
    """What the page's form would send."""
    token = Visitor(None, browser.cookies[hub.parts.identity.cookie.name]).form_token(f"/approvals/{id}/decide")
    seen = dict(re.findall(r'name="(seen:[\w-]+)" value="(\w+)"', page.text))
    return {"form_token": token, **seen, **fields}


async def decide(
    hub: Hub, browser: Browser, id: str, verdict: str, *, page: httpx2.Response | None = None, **fields: str
) -> httpx2.Response:
    """Decide as the page's form does."""
    page = page or await look(browser, id)
    form = form_of(hub, browser, page, id, verdict=verdict, **fields)
    return await browser._send("POST", f"{URL}/approvals/{id}/decide", form)
