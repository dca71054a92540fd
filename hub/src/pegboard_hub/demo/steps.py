"""The steps of the story, in the order in which they are told. Each shows what it claims, or says that it failed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from pegboard.core.token import CLOCK_SKEW_S
from pegboard_hub.demo.alone import each_layer_alone
from pegboard_hub.demo.forgery import claims_of, forgeries
from pegboard_hub.demo.stage import AMBIGUOUS_BODIES, Shown, Stage, Step, allowed, refused
from pegboard_hub.demo.visiting import Visitor

PRESTO = "/mcp/prod/presto"
DELAY_PER_CARRIER = (
    "SELECT carrier, round(avg(dep_delay), 2) AS average_delay, count(dep_delay) AS flights "
    "FROM flights GROUP BY carrier ORDER BY average_delay DESC"
)
MUCH = " UNION ALL ".join(f"SELECT * FROM flights WHERE distance > {miles}" for miles in range(12))  # noqa: S608
"""Reads more than one may without being asked."""

SHORT_LIFE_S = 1


async def rows_for_ana(stage: Stage) -> AsyncIterator[Shown]:
    """ana asks the average departure delay per carrier"""
    token = await stage.wire.token("ana")
    reply = await stage.wire.call(token, "run_query", {"sql": DELAY_PER_CARRIER})
    rows = (reply.result.get("structuredContent") or {}).get("rows") or []
    detail = f"{len(rows)} carriers; worst {rows[0][0]} with {rows[0][1]} minutes" if rows else ""
    yield allowed("ana runs a query on prod/presto from cli", reply, detail, right=len(rows) == 16)


async def revenue_is_ads_only(stage: Stage) -> AsyncIterator[Shown]:
    """Only Ads engineering sees revenue; to anyone else the tool does not exist"""
    wire = stage.wire
    ana, fay = await asyncio.gather(wire.token("ana"), wire.token("fay"))
    yield allowed(
        "ana calls get_revenue_metrics", await wire.call(ana, "get_revenue_metrics", {}), "figures came back"
    )
    listed = await wire.modern(fay, "tools/list")
    names = sorted(tool["name"] for tool in listed.result.get("tools", []))
    hides = bool(names) and "get_revenue_metrics" not in names
    yield allowed("fay lists tools", listed, ", ".join(names), right=hides)
    hidden = await wire.call(fay, "get_revenue_metrics", {})
    yield stage.note("fay", refused("fay calls get_revenue_metrics by name", hidden, "server", "tool_unavailable"))
    unknown = await wire.call(fay, "get_unicorn_metrics", {})
    same = _without(hidden.message, "get_revenue_metrics") == _without(unknown.message, "get_unicorn_metrics")
    yield refused("fay calls a tool that does not exist", unknown, "server", "tool_unavailable")
    yield Shown("both answers are the same but for the name", "same" if same else "different", "", "", same)


async def strangers_see_nothing(stage: Stage) -> AsyncIterator[Shown]:
    """gus and sam are refused before anything is listed, in both eras"""
    wire = stage.wire
    for person in ("gus", "sam"):
        token = await wire.token(person)
        for what, reply in (
            ("opens a legacy session", await wire.initialize(token)),
            ("discovers the server (modern)", await wire.modern(token, "server/discover")),
            ("lists tools (modern)", await wire.modern(token, "tools/list")),
        ):
            yield stage.note(person, refused(f"{person} {what}", reply, "edge", "group_not_granted"))


async def chat_may_not_reach_dev(stage: Stage) -> AsyncIterator[Shown]:
    """ana's chat asks for dev/scratch, which is open to the command line alone"""
    wire = stage.wire
    cli = await wire.call(await wire.token("ana", "dev/scratch"), "echo", {"text": "hello"}, "dev/scratch")
    yield allowed("ana echoes on dev/scratch from cli", cli)
    chat = await wire.token("ana", "dev/scratch", "chat")
    reply = await wire.call(chat, "echo", {"text": "hello from chat"}, "dev/scratch")
    yield stage.note("ana", refused("ana echoes on dev/scratch from chat", reply, "edge", "surface_not_granted"))
    recorded = [await _recorders(stage, request_id) for request_id in (reply.request_id, cli.request_id)]
    proof = recorded == [{"edge"}, {"server"}]
    said = "the first by the server, the second by the edge alone" if proof else f"recorded by {recorded}"
    yield Shown("who recorded the two calls", said, "", "", proof)


async def bad_tokens(stage: Stage) -> AsyncIterator[Shown]:
    """Tokens that do not verify, or are bound elsewhere"""
    wire = stage.wire
    good, elsewhere, short = await asyncio.gather(
        wire.token("ana"), wire.token("ana", "dev/scratch"), wire.token("ana", lifetime_s=SHORT_LIFE_S)
    )
    for what, (token, reason) in forgeries(good, stage.public_key(), elsewhere).items():
        reply = await wire.modern(token, "tools/list")
        # Envoy looks at the issuer before the signature.
        shown = refused(what, reply, "edge", reason, *(("token_wrong_issuer",) if "issuer" in what else ()))
        yield _with_metadata(shown, reply.status, reply.headers.get("www-authenticate", ""))
    await asyncio.sleep(max(0.0, float(claims_of(short)["exp"]) + CLOCK_SKEW_S + 1 - stage.now()))
    stage.expired = short
    yield refused("an expired token", await wire.modern(short, "tools/list"), "edge", "token_expired")


async def tricks(stage: Stage) -> AsyncIterator[Shown]:
    """Spoofed identity headers change nothing; requests with two readings get nowhere"""
    wire = stage.wire
    fay = await wire.token("fay")
    session = (await wire.initialize(fay)).headers.get("mcp-session-id", "")
    spoof = [("X-Forwarded-User", "ana"), ("x-FORWARDED-groups", '["ads-eng"]'), ("X-Forwarded-User", "pat")]
    params = {"name": "get_revenue_metrics", "arguments": {}}
    reply = await wire.legacy(fay, "tools/call", params, session=session, headers=spoof)
    yield refused("fay says in headers that she is ana", reply, "server", "tool_unavailable")
    reply = await wire.legacy(fay, "tools/call", params, session=session, headers=[("X_Forwarded_User", "ana")])
    yield _nowhere("an identity header with underscores", reply.status, (400,))
    lying = await wire.modern(fay, "tools/call", params, headers=[("mcp-name", "list_tables")])
    yield _nowhere("Mcp-Name names another tool than the body", lying.status, (400,))
    for what, body in AMBIGUOUS_BODIES.items():
        reply = await wire.post(
            PRESTO, body, fay, [("mcp-protocol-version", "2025-11-25"), ("mcp-session-id", session)]
        )
        yield _nowhere(what, reply.status, (400,))
    listing = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
    for path in ("/mcp/dev/scratch/../../prod/presto", "/mcp/prod%2fpresto", "/mcp/prod/presto/..%2f", "//mcp//x"):
        gus = await wire.token("gus")
        reply = await wire.post(path, listing, gus, [("mcp-protocol-version", "2025-11-25")])
        yield _nowhere(f"gus asks for {path}", reply.status, (400, 401, 403, 404, 405))


async def a_person_says_yes(stage: Stage) -> AsyncIterator[Shown]:
    """A query that reads much waits for ana herself: her agent has her token, and cannot say yes with it"""
    wire = stage.wire
    ana = await wire.token("ana")
    cheap = await wire.call(ana, "run_expensive_query", {"sql": DELAY_PER_CARRIER})
    yield allowed("ana's agent asks a query that reads little", cheap, "it runs at once")
    dear = {"sql": MUCH, "max_rows": 1}
    held = await wire.call(ana, "run_expensive_query", dear)
    yield stage.note("ana", refused("it asks one that reads much", held, "server", "approval_pending"))
    page = str(held.result["structuredContent"]["approval"]["page"])
    sent = await wire.http.post(f"{page}/decide", data={"verdict": "all"}, headers={"authorization": f"Bearer {ana}"})
    again = await wire.call(ana, "run_expensive_query", dear)
    yield _nowhere("it says yes itself, with ana's token", sent.status_code, (303, 401, 403))
    yield stage.note("ana", refused("it asks the same again", again, "server", "approval_pending"))
    browser = Visitor(wire.http, wire.public_url)
    shown = await browser.press(await browser.open(page), "person", "ana")
    told = await browser.press(shown, "verdict", "all")
    yield Shown("ana signs in on the page that it gave her, and approves", *_said(told.text, "Approved."))
    ran = await wire.call(ana, "run_expensive_query", dear)
    rows = (ran.result.get("structuredContent") or {}).get("rows") or []
    yield allowed("it asks the same once more", ran, "rows came back", right=len(rows) == 1)


async def ledger_has_it(stage: Stage) -> AsyncIterator[Shown]:
    """Every refusal of a person is in the ledger, and explain says why"""
    wire = stage.wire
    pat = await wire.token("pat", "api")
    missing = [shown.what for person, shown in stage.refused if not await _recorded(stage, pat, person, shown)]
    said = "all there" if not missing else "missing: " + "; ".join(missing)
    yield Shown(f"{len(stage.refused)} refusals, by person, layer and reason", said, "", "", not missing)
    answer = await wire.api(
        pat, "explain", server="prod/presto", tool="get_revenue_metrics", person="fay", surface="cli"
    )
    checks = ", ".join(f"{check['rule']} {'holds' if check['holds'] else 'fails'}" for check in answer["checks"])
    yield Shown("pat asks why fay has no revenue", "explained", "hub", checks, not answer["allowed"])


STEPS: tuple[Step, ...] = (
    rows_for_ana,
    revenue_is_ads_only,
    strangers_see_nothing,
    chat_may_not_reach_dev,
    bad_tokens,
    tricks,
    each_layer_alone,
    a_person_says_yes,
    ledger_has_it,
)

LEDGER_WAIT_S = 30.0
"""How long the story waits for the last records to be delivered, in seconds."""


async def _recorded(stage: Stage, token: str, person: str, shown: Shown) -> bool:
    """Whether the ledger has this refusal."""
    wanted = (person, shown.layer, shown.reason)
    calls = await _calls(stage, token, shown.request_id)
    return wanted in {(call["person"], call["layer"], call["reason"]) for call in calls}


async def _recorders(stage: Stage, request_id: str) -> set[str]:
    """The layers that recorded a call of ana's: a server records whatever reaches it."""
    calls = await _calls(stage, await stage.wire.token("ana", "api"), request_id)
    return {str(call["layer"]) for call in calls}


async def _calls(stage: Stage, token: str, request_id: str) -> list[dict[str, Any]]:
    """What the ledger has of a request; delivery takes a moment, so it is asked again for a while."""
    until = stage.now() + LEDGER_WAIT_S
    while True:
        calls: list[dict[str, Any]] = (await stage.wire.api(token, "calls", request_id=request_id))["calls"]
        if calls or stage.now() > until:
            return calls
        await asyncio.sleep(0.2)


def _said(page: str, words: str) -> tuple[str, str, str, bool]:
    """What was decided, by whom, why, and whether it was, by what a page says."""
    return ("approved" if words in page else "not approved", "hub", "of her own, at a browser", words in page)


def _nowhere(what: str, status: int, expected: tuple[int, ...]) -> Shown:
    return Shown(what, f"got {status}", "", "nothing ran", status in expected)


def _with_metadata(shown: Shown, status: int, challenge: str) -> Shown:
    """A 401 must name the resource metadata, so that a client knows where to sign in (RFC 9728 §5.1)."""
    named = status != 401 or f"/.well-known/oauth-protected-resource{PRESTO}" in challenge
    reason = f"{shown.reason} ({status}{', names the resource metadata' if status == 401 and named else ''})"
    return Shown(shown.what, shown.decided, shown.layer, reason, shown.right and named, shown.request_id)


def _without(message: dict[str, object], name: str) -> str:
    """A message's text without the tool's name and the ids that differ from request to request."""
    text = json.dumps(message, sort_keys=True).replace(name, "TOOL")
    refusal = message.get("result", {})
    request_id = json.dumps(refusal).partition('"request_id": "')[2].partition('"')[0]
    return text.replace(request_id, "ID") if request_id else text
