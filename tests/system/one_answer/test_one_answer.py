"""Explain, access check, edge and server give one answer, whatever people, grants, policies and calls there are.

Each generated world runs on real parts (see `town`). Every call of it is asked about, and then made through Envoy and
at the server's own socket, as behind an edge that forgot its rules. All must agree: what is allowed runs, with the
arguments that were judged; what the edge refuses reaches no server; what is refused is refused in the words that were
foretold; and a hidden tool is answered as one that does not exist. The answer itself must be the one that the design
gives, as `World.answer` has it in plain Python: a fault that all share would make them agree.

That it can fail was tried: each of these changes to the product was made alone, and the short test caught it.

- core/access: bots pass in any channel; services pass without a grant; the rules are asked the other way round.
- core/decide: `call` is asked before `list`; `list` is not asked; an unknown tool has words of its own.
- core/policy: `forbid` is ignored; an error is no denial; the channel is left out of the context.
- edge: no channel rule; no surface rule; no services; refusals told by the wrong rule, or in other words for a bot in
  no channel.
- call: the gate of layer 2 is open; a server forgets its policy's `forbid`; unknown tools have words of their own; a
  decision is remembered without its surface, without its channel, or without the arguments that it was made on.
- transport: `tools/list` shows all; a tool gets arguments that its policy did not judge.
- rules: a layer forgets those of a method, of a server, or of all; an exception is ignored; bundles lack them.
- registry: bundles forget channels; explain rounds a float, or tells outsiders of hidden tools.
- registry: what is a draft, retired, in review or waiting can be called, or is listed.
- web: a question is answered for the asker instead of the person asked about, without its channel, or its arguments.

What it cannot see, because no such token can be had here, `test_edge_refusals` holds: a service that has groups, and
a person who has the name of a service.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings

from pegboard.call.authenticate import GROUPS_HEADER, SURFACE_HEADER, USER_HEADER
from pegboard.core.refusal import META_KEY
from tests.system.one_answer.policies import PARAMETERS
from tests.system.one_answer.town import Town, headers_of, message, running_town
from tests.system.one_answer.worlds import NO_TOOL, SECURITY, Call, World, worlds

pytestmark = pytest.mark.system

CALLS = 40
"""Calls in a world: a world costs half a second to set up, a call some 20 ms."""

WORDS = ("code", "message", "reason", "what_to_do")
"""What of a refusal is the same wherever it is met. The layer is told apart, and the request's id is its own."""

EVERYTHING = {
    "allowed",
    "unknown_server",
    "insufficient_scope",
    "surface_not_granted",
    "channel_not_granted",
    "group_not_granted",
    "sensitive_server",
    "rule_denied",
    "server_stopped",
    "tool_unavailable",
    "tool_stopped",
    "policy_denied",
}
"""Each must have been met: worlds in which nobody gets anywhere prove nothing."""

STEADY = settings(
    deadline=None,
    derandomize=True,
    database=None,
    # A failing world is told in part, as far as it matters, so it need not be made smaller over minutes.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

Words = dict[str, str] | None


class Met(NamedTuple):
    """What a call met.

    Attributes:
        refusal: None where nothing refused.
        ran: the tools that ran, with their arguments.
        arrived: how many requests reached the server.
        text: the whole answer.
    """

    refusal: dict[str, str] | None
    ran: list[tuple[str, dict[str, Any]]]
    arrived: int
    text: str


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with running_town() as found:
        yield found


def test_everyone_who_decides_or_explains_gives_the_same_answer(town: Town) -> None:
    assert held(town, 8).keys() >= EVERYTHING


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_everyone_gives_the_same_answer_in_many_worlds(town: Town) -> None:
    assert held(town, 200).keys() >= EVERYTHING


def held(town: Town, examples: int) -> Counter[str]:
    """Hold so many worlds to one answer; how often each answer was given."""
    seen: Counter[str] = Counter()

    @settings(STEADY, max_examples=examples)
    @given(world=worlds(CALLS))
    def holds(world: World) -> None:
        town.become(world)
        security = town.person_pass(SECURITY, "cli", None, town.api)
        there = [call for call in world.calls if world.grants[call.server].reachable]
        for call in world.calls:
            if call not in there:
                note(world.around(call))
                seen[world.answer(call)] += 1
                nothing_is_there(town, call, security)
        if not there:
            return
        questions = [asked(call) for call in there]
        foretold = town.ask(security, "access:check", {"questions": questions})["answers"]
        unsaid = [{**question, "arguments": None} for question in questions]
        opened = town.ask(security, "access:check", {"questions": unsaid})["answers"]
        for call, verdict, before in zip(there, foretold, opened, strict=True):
            note(world.around(call))
            assert (verdict["reason"] or "allowed") == world.answer(call)
            seen[world.answer(call)] += 1
            same_is_said(town, call, verdict, security)
            little_is_promised(before, verdict)
            same_is_met(town, call, verdict, world.reads_arguments(call))
            same_is_listed(town, call, verdict, ruled=world.rules_out(call, "tools/list"))
            nothing_is_revealed(town, call, verdict)

    holds()
    return seen


def nothing_is_there(town: Town, call: Call, security: str) -> None:
    """A server that is a draft, in review, waiting, approved but not deployed, or retired: nobody gets to it."""
    own = town.pass_for(call, town.api)
    for token in (security, own):
        answer = town.answer(token, "access:check", {"server": call.server, "tool": call.tool})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_server")
        batch = town.answer(token, "access:check", {"questions": [{"server": call.server}]})
        assert (batch.status_code, batch.json()["error"]["code"]) == (404, "unknown_server")
        explained = town.answer(token, "explain", server=call.server, tool=call.tool)
        assert (explained.status_code, explained.json()["error"]["code"]) == (404, "unknown_server")
        validated = town.ask(token, "servers:validate", {"server": call.server})
        assert not validated["valid"]
        assert call.server not in {server["server"] for server in town.ask(token, "servers")["servers"]}
        assert call.server not in {tool["server"] for tool in town.ask(token, "me/tools")["tools"]}
        tools = town.answer(token, f"servers/{call.server}/tools")
        assert tools.status_code == 404 or tools.json()["tools"] == []
    through, alone = at_the_edge(town, call, "unknown_server"), at_the_server(town, call)
    assert (through.refusal or {})["code"] == "unknown_server"
    assert through.arrived == 0
    assert alone.refusal is not None
    assert through.ran == alone.ran == []


def same_is_said(town: Town, call: Call, verdict: dict[str, Any], security: str) -> None:
    """Explain and the access check agree, asked by the caller and by somebody who may know everything."""
    own = town.pass_for(call, town.api)
    question = {name: value for name, value in asked(call).items() if value is not None}
    whose = {name: question.pop(name) for name in ("person", "service", "surface", "channel") if name in question}
    query = {**question, "arguments": json.dumps(question["arguments"])}
    answers = [
        town.ask(own, "access:check", question),
        town.ask(own, "explain", **query),
        town.ask(security, "explain", **query, **whose),
    ]
    for answer in answers:
        assert (answer["allowed"], words(answer["refusal"])) == (verdict["allowed"], words(verdict["refusal"]))
        assert (answer["refusal"] or {}).get("layer") == verdict["layer"]
    for explained in answers[1:]:
        failing = [step for step in explained["steps"] if step["outcome"] == "fails" and step["rule"] != "server"]
        assert [step["layer"] for step in failing] == ([] if verdict["allowed"] else [verdict["layer"]])
        assert all(step["fact"] and step["source"] and step["ask"] for step in failing)


def little_is_promised(before: dict[str, Any], verdict: dict[str, Any]) -> None:
    """What is said without the arguments holds with them, but where it says that it depends on them."""
    if not before["depends_on"]:
        assert (before["allowed"], before["refusal"] and words(before["refusal"])) == (
            verdict["allowed"],
            words(verdict["refusal"]),
        )
    assert before["allowed"] or not before["depends_on"]


def same_is_met(town: Town, call: Call, verdict: dict[str, Any], judged: bool) -> None:
    """Both layers do what was foretold, the second also by itself."""
    foretold = (verdict["refusal"] or {}).get("code")
    through, alone = at_the_edge(town, call, foretold), at_the_server(town, call)
    assert words(through.refusal) == words(alone.refusal) == words(verdict["refusal"])
    assert (through.refusal or {}).get("layer") == verdict["layer"]
    assert through.arrived == (0 if verdict["layer"] == "edge" else 1)
    sent = {name: call.arguments.get(name) for name in PARAMETERS}
    for met in (through, alone):
        if not verdict["allowed"]:
            assert met.ran == []
        elif "cannot take these arguments" not in met.text:
            assert [tool for tool, _ in met.ran] == [call.tool]
            assert not judged or met.ran[0][1] == sent


def same_is_listed(town: Town, call: Call, verdict: dict[str, Any], *, ruled: bool) -> None:
    """The registry's list, the server's list, and what may be called are of one mind.

    The registry knows of no token; a server lists for one that may only look what it lists for any other.
    """
    if verdict["rule"] == "scope":
        return
    servers = town.ask(town.pass_for(call, town.api), "servers")["servers"]
    registered = {server["server"]: {tool["name"] for tool in server["tools"]} for server in servers}
    # A server that is stopped stays in the list of those who may use it otherwise, and says there that it is.
    # So does one that a rule closes.
    stopped = verdict["reason"] in ("server_stopped", "rule_denied")
    reaches = verdict["layer"] != "edge" or verdict["reason"] == "tool_stopped"
    assert (call.server in registered) == (reaches or stopped)
    if call.server in registered and not stopped and ruled:
        answer = posted(town.way_in(call), call.server, town.pass_for(call, town.at(call.server)), "tools/list")
        assert answer.json()["error"]["data"]["reason"] == "rule_denied"
    if call.server in registered and not stopped and not ruled:
        answer = posted(town.way_in(call), call.server, town.pass_for(call, town.at(call.server)), "tools/list")
        listed = answer.json()["result"]["tools"]
        assert {tool["name"] for tool in listed} == registered[call.server]
        own = town.pass_for(call, town.api)
        mine = town.ask(own, "me/tools")["tools"]
        assert {tool["name"] for tool in mine if tool["server"] == call.server} == registered[call.server]
        one_by_one(town, call, own, listed)
        assert (call.tool in registered[call.server]) == (verdict["reason"] != "tool_unavailable")


def one_by_one(town: Town, call: Call, own: str, listed: list[dict[str, Any]]) -> None:
    """What the server lists is what was pinned, as the API tells it for each tool and for all of them."""
    for tool in listed:
        told = town.ask(own, f"servers/{call.server}/tools/{tool['name']}")
        assert (told["description"], told["input_schema"]) == (tool.get("description", ""), tool["inputSchema"])
    told = [{name: tool.get(name, "") for name in ("name", "description", "inputSchema")} for tool in listed]
    told.sort(key=lambda tool: str(tool["name"]))
    canonical = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    claims = {"server": call.server, "tools_digest": hashlib.sha256(canonical.encode()).hexdigest()}
    assert town.ask(own, "servers:validate", claims)["valid"] is bool(listed)


def nothing_is_revealed(town: Town, call: Call, verdict: dict[str, Any]) -> None:
    """A tool that is there and hidden gives the bytes of one that is not, in the call and in its explanation."""
    if verdict["reason"] != "tool_unavailable" or call.tool == NO_TOOL:
        return
    absent = call.to(NO_TOOL)
    here, gone = (at_the_edge(town, each, verdict["reason"]) for each in (call, absent))
    assert bare(here.text, call) == bare(gone.text, absent)
    own = town.pass_for(call, town.api)
    told = [town.ask(own, "explain", server=call.server, tool=one.tool) for one in (call, absent)]
    assert bare(json.dumps(told[0]), call) == bare(json.dumps(told[1]), absent)


def bare(text: str, call: Call) -> str:
    """An answer without the called name and the id of its request."""
    request_id = text.partition('"request_id":')[2].partition('"')[2].partition('"')[0]
    return text.replace(call.tool, "TOOL").replace(request_id or "no request id", "ID")


def words(refusal: dict[str, str] | None) -> Words:
    return {name: refusal[name] for name in WORDS} if refusal else None


def asked(call: Call) -> dict[str, Any]:
    """The question about a call."""
    where = {"server": call.server, "tool": call.tool, "surface": call.surface, "channel": call.channel}
    who = {"person": call.person, "service": call.service, "scope": call.scope}
    return {**where, **who, "arguments": dict(call.arguments)}


def at_the_edge(town: Town, call: Call, foretold: str | None) -> Met:
    """What a call meets there.

    Envoy's workers take a new world over one after the other: until it must be in force, what meets another refusal
    than was foretold (None: no refusal) is sent again.
    """
    met = _made(town, call, town.way_in(call), {})
    while (met.refusal or {}).get("code") != foretold and time.monotonic() < town.in_force_at:
        met = _made(town, call, town.way_in(call), {})
    return met


def at_the_server(town: Town, call: Call) -> Met:
    groups = town.groups(call.person) if call.person else []
    identity = {USER_HEADER: call.sub, SURFACE_HEADER: call.surface, GROUPS_HEADER: json.dumps(groups)}
    return _made(town, call, town.behind[call.server], identity)


def _made(town: Town, call: Call, client: httpx2.Client, more: dict[str, str]) -> Met:
    desk = town.desks[call.server]
    arrived, ran = desk.arrivals, len(desk.ran)
    token = town.pass_for(call, town.at(call.server))
    params = {"name": call.tool, "arguments": dict(call.arguments)}
    response = posted(client, call.server, token, "tools/call", more, **params)
    answer = response.json()
    refusal = answer["error"].get("data", answer["error"]) if "error" in answer else _of_result(answer["result"])
    return Met(refusal, desk.ran[ran:], desk.arrivals - arrived, response.text)


def _of_result(result: dict[str, Any]) -> dict[str, str] | None:
    refusal: dict[str, str] | None = result.get("_meta", {}).get(META_KEY)
    return refusal


def posted(
    client: httpx2.Client, server: str, token: str, method: str, more: dict[str, str] | None = None, **params: Any
) -> httpx2.Response:
    headers = {**headers_of(token, method, params.get("name", "")), **(more or {})}
    return client.post(f"/mcp/{server}", headers=headers, content=message(method, **params))
