"""What was revoked, or may only look, gets nothing more by anything that a caller can do.

Rules (design, Rules of trust): deny by default; each layer refuses by itself. Hub, edge and servers are the real ones
(`tests/system/one_answer/town`): the hub revokes as it does when somebody signs out, and every case is tried through
the edge, again at the server's own socket as behind an edge that forgot its rules, and at the API.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest

from pegboard.call.authenticate import GROUPS_HEADER, SURFACE_HEADER, USER_HEADER
from pegboard.core.revoked import NOTHING, Revoked
from pegboard_hub.common.home import replace_file
from pegboard_hub.demo.forgery import claims_of
from pegboard_hub.edge.revoked import CLAIM_HEADERS
from pegboard_hub.identity.revocations import Kind
from tests.attacks.wire import ACCEPT, LEGACY
from tests.hub.company import beside
from tests.system.edge_rig import PRESTO, SCRATCH, Rig, running_edge, tool_call, until
from tests.system.one_answer.policies import OPEN, PolicyFile
from tests.system.one_answer.town import Town, headers_of, message, running_town
from tests.system.one_answer.worlds import SERVERS, TOOLS, Grant, World

pytestmark = pytest.mark.system

SERVER = "prod/atlas"
IDENTITY = {USER_HEADER: "ana", GROUPS_HEADER: '["finance"]', SURFACE_HEADER: "cli"}
OPEN_TO_ALL = Grant(("finance",), ("cli", "chat"), (), (), "", (), "live", "internal")
EVERYBODY = World(
    {"ana": ("finance",), "fay": ("finance",)},
    dict.fromkeys(SERVERS, OPEN_TO_ALL),
    {server: {tool: PolicyFile((OPEN,)) for tool in TOOLS} for server in SERVERS},
    (),
)
KINDS: dict[Kind, str] = {"session": "sid", "token": "jti", "client": "client_id"}


class Place:
    """A town in which ana may use everything, and what an attacker with her token tries."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self._watching = beside(town.parts.registry.watch_revoked())

    def begin(self) -> None:
        """Let the hub tell edge and servers, as in its own process."""
        self.town.become(EVERYBODY)
        self.town.run(self._watching.__aenter__())

    def end(self) -> None:
        self.town.run(self._watching.__aexit__(None, None, None))

    def token(self, resource: str = "", **claims: Any) -> str:
        """A token of ana's as the hub signs it; a claim of None is left out."""
        resource = resource or self.town.at(SERVER)
        usual = {**claims_of(self.town.person_pass("ana", "cli", None, resource)), **claims}
        return self.town.signed({name: value for name, value in usual.items() if value is not None})

    def revoke(self, kind: Kind, value: str) -> None:
        self.town.run(self._revoked(kind, value))

    async def _revoked(self, kind: Kind, value: str) -> None:
        revocations = self.town.parts.identity.revocations
        async with self.town.parts.database.write() as connection:
            await revocations.add(connection, kind, [value])
        await revocations.reload()

    def through(self, token: str, method: str = "tools/list", **params: Any) -> httpx2.Response:
        return self._post(self.town.edge, token, method, {}, params)

    def behind(self, token: str, method: str = "tools/list", **params: Any) -> httpx2.Response:
        """As if the edge had let it pass."""
        return self._post(self.town.behind[SERVER], token, method, IDENTITY, params)

    def api(self, token: str) -> httpx2.Response:
        return self.town.edge.get("/api/v1/whoami", headers={"authorization": f"Bearer {token}"})

    def _post(
        self, client: httpx2.Client, token: str, method: str, more: dict[str, str], params: dict[str, Any]
    ) -> httpx2.Response:
        headers = {**headers_of(token, method, params.get("name", "")), **more}
        return client.post(f"/mcp/{SERVER}", headers=headers, content=message(method, **params))


def reason(response: httpx2.Response) -> str:
    error = response.json().get("error", {})
    return str(error.get("data", error).get("reason", ""))


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with running_town() as town:
        place = Place(town)
        place.begin()
        yield place
        place.end()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_revoked_is_refused_by_each_layer_and_the_api_within_a_second(place: Place, kind: Kind) -> None:
    claims = {claim: f"{kind}-{claim}" for claim in KINDS.values()}
    token, for_api = place.token(**claims), place.token(place.town.api, **claims)
    other = place.token(**{**claims, KINDS[kind]: "another"})
    for each in (token, other):
        assert [place.through(each).status_code, place.behind(each).status_code] == [200, 200]
    assert place.api(for_api).status_code == 200
    place.revoke(kind, claims[KINDS[kind]])
    assert (place.api(for_api).status_code, reason(place.api(for_api))) == (401, "token_revoked")
    through = until(lambda: _refused_by(place.through, token, "edge"), "the edge refuses")
    behind = until(lambda: _refused_by(place.behind, token, "server"), "the server refuses")
    for response in (through, behind):
        assert (response.status_code, reason(response)) == (401, "token_revoked")
        assert 'error="invalid_token", scope="tools", resource_metadata="' in response.headers["www-authenticate"]
    assert (place.through(other).status_code, place.behind(other).status_code) == (200, 200)


def _refused_by(send: Callable[[str], httpx2.Response], token: str, layer: str) -> httpx2.Response | None:
    response = send(token)
    return response if response.json().get("error", {}).get("data", {}).get("layer") == layer else None


def test_a_legacy_session_that_a_revoked_sign_in_opened_answers_it_no_more(place: Place) -> None:
    token, fresh = (place.token(sid=f"legacy-{which}") for which in ("old", "new"))
    client = {"name": "attacker", "version": "1"}
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client}
    opening = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    for door, more in ((place.town.edge, {}), (place.town.behind[SERVER], IDENTITY)):
        headers = {**ACCEPT, **more, "mcp-protocol-version": LEGACY}

        def ask(bearer: str, body: dict[str, Any] | None, verb: str = "POST", h: Any = headers, d: Any = door) -> Any:
            return d.request(verb, f"/mcp/{SERVER}", json=body, headers={**h, "authorization": f"Bearer {bearer}"})

        place_token = token if door is place.town.edge else place.token(sid="legacy-behind")
        headers["mcp-session-id"] = ask(place_token, opening).headers["mcp-session-id"]
        calling = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "look", "arguments": {}}}
        assert ask(place_token, calling).status_code == 200
        place.revoke("session", claims_of(place_token)["sid"])
        until(lambda: ask(place_token, calling).status_code == 401, "the session is closed to it")  # noqa: B023
        for verb, body in (("POST", opening), ("POST", calling), ("GET", None), ("DELETE", None)):
            assert reason(ask(place_token, body, verb)) == "token_revoked"
        # The session is the person's: signed in again they go on with it.
        assert ask(fresh, calling).status_code == 200


@pytest.mark.parametrize("door", ["edge", "server"])
def test_a_stream_ends_with_the_sign_in_that_opened_it(place: Place, door: str) -> None:
    token = place.token(sid=f"stream-{door}")
    client = {"edge": place.town.edge, "server": place.town.behind[SERVER]}[door]
    more = {} if door == "edge" else IDENTITY
    headers = {**headers_of(token, "subscriptions/listen"), **more}
    body = message("subscriptions/listen", notifications={"toolsListChanged": True})
    with client.stream("POST", f"/mcp/{SERVER}", headers=headers, content=body) as stream:
        assert stream.status_code == 200
        place.revoke("session", f"stream-{door}")
        with suppress(httpx2.RemoteProtocolError):  # it breaks off; unrevoked, it would outlast the client's patience
            stream.read()


SCOPES: dict[str, Any] = {
    "a word that begins so": "tools:read tools-x",
    "a word that ends so": "tools:read xtools",
    "another case": "tools:read TOOLS",
    "doubled": "tools:read tools:read",
    "behind a tab": "tools:read\ttools",
    "behind a no-break space": "tools:read\u00a0tools",
    "behind a line end": "tools:read\ntools",
    "behind a comma": "tools:read,tools",
    "in quotes": 'tools:read "tools"',
    "finer": "tools:read tools:write",
    "an expression": "tools:read .*",
    "a null byte": "tools:read\u0000tools",
    "only the API's": "api",
    "an empty one": "",
    "a list": ["tools"],
    "a list in a list": [["tools"]],
    "an object": {"tools": "tools"},
    "a number": 1,
    "missing": None,
}


@pytest.mark.parametrize("case", SCOPES)
def test_no_spelling_of_a_scope_calls_what_is_not_declared_read_only(place: Place, case: str) -> None:
    desk = place.town.desks[SERVER]
    token, ran = place.token(scope=SCOPES[case]), len(desk.ran)
    for response in (
        place.through(token, "tools/call", name="erase", arguments={}),
        place.behind(token, "tools/call", name="erase", arguments={}),
    ):
        assert response.status_code in (401, 403), response.text
        assert reason(response) in ("insufficient_scope", "token_bad_claims"), response.text
        assert "www-authenticate" in response.headers
    assert len(desk.ran) == ran


@pytest.mark.parametrize("scope", ["", "tools", "api ", "API", "tools:read", None, ["api"]], ids=str)
def test_the_api_takes_no_other_scope(place: Place, scope: Any) -> None:
    response = place.api(place.token(place.town.api, scope=scope))
    assert response.status_code in ((200,) if scope == "api " else (401, 403))


NARROW = "tools:read"
BODIES: dict[str, str] = {
    "the name by an escape": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"er\\u0061se"}}',
    "the method by an escape": '{"jsonrpc":"2.0","id":1,"method":"tools\\u002fcall","params":{"name":"erase"}}',
    "a name twice": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"nothing","name":"erase"}}',
    "params twice": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{},"params":{"name":"erase"}}',
    "a notification": '{"jsonrpc":"2.0","method":"tools/call","params":{"name":"erase","arguments":{}}}',
    "a batch": '[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"erase"}}]',
    "a byte order mark": '\ufeff{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"erase"}}',
    "an id that is true": '{"jsonrpc":"2.0","id":true,"method":"tools/call","params":{"name":"erase"}}',
    "an id that is an object": '{"jsonrpc":"2.0","id":{},"method":"tools/call","params":{"name":"erase"}}',
    "blanks before": '\n\t {"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"erase"}}',
    "a blank behind the name": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"erase "}}',
}


@pytest.mark.parametrize("case", BODIES)
def test_no_spelling_of_a_call_gets_past_the_step_up(place: Place, case: str) -> None:
    desk, token = place.town.desks[SERVER], place.token(scope=NARROW)
    ran = len(desk.ran)
    for door, more in ((place.town.edge, {}), (place.town.behind[SERVER], IDENTITY)):
        for version in ({"mcp-protocol-version": LEGACY}, {"mcp-protocol-version": "2026-07-28"}, {}):
            headers = {**ACCEPT, "authorization": f"Bearer {token}", **version, **more}
            response = door.post(f"/mcp/{SERVER}", headers=headers, content=BODIES[case].encode())
            assert '"done"' not in response.text
    assert len(desk.ran) == ran


def test_the_story_holds_for_the_token_that_may_do_it(place: Place) -> None:
    """The cases above fail for what they change, not for how they are sent."""
    for send in (place.through, place.behind):
        assert "done" in send(place.token(), "tools/call", name="erase", arguments={}).text
        assert send(place.token(scope=NARROW)).status_code == 200


# The edge alone: what a caller can do about the headers in which claims pass between its filters


@pytest.fixture(scope="module")
def edge() -> Iterator[Rig]:
    with running_edge() as rig:
        yield rig


def revoked_at(edge: Rig, revoked: Revoked) -> None:
    """Let the edge have this list, which has ana's token or is empty, and none that an earlier test left."""
    for each in dict.fromkeys((NOTHING, revoked)):
        edge.publish(PRESTO, SCRATCH, revoked=each)
        edge.answers(200 if each == NOTHING else 401)


FORGED: dict[str, Callable[[str, str], list[tuple[str, str]]]] = {
    "another value": lambda name, _: [(name, "innocent")],
    "an empty value": lambda name, _: [(name, "")],
    "twice": lambda name, _: [(name, "innocent"), (name, "harmless")],
    "in capitals": lambda name, _: [(name.upper(), "innocent")],
    "named to be dropped": lambda name, _: [("connection", name), (name, "innocent")],
    "joined": lambda name, value: [(name, f"innocent,{value}")],
}


@pytest.mark.parametrize("case", FORGED)
@pytest.mark.parametrize("claim", ["sid", "jti", "client_id"])
def test_no_header_of_a_callers_hides_what_is_revoked(edge: Rig, claim: str, case: str) -> None:
    value = {"sid": "session", "jti": "token", "client_id": "pegboard-cli"}[claim]
    revoked_at(edge, Revoked(**{_KIND[claim]: frozenset({value})}))
    headers = [
        ("authorization", f"Bearer {edge.token()}"),
        *ACCEPT.items(),
        *FORGED[case](CLAIM_HEADERS[claim], value),
    ]
    before = edge.arrived()
    with edge.client() as client:
        response = client.post("/mcp/prod/presto", headers=headers, content=json.dumps(tool_call()))
    assert (response.status_code, reason(response)) == (401, "token_revoked")
    assert edge.logged(response.headers["x-request-id"])["reason"] == "token_revoked"
    assert edge.arrived() == before


_KIND = {"sid": "sessions", "jti": "tokens", "client_id": "clients"}


@pytest.mark.parametrize("case", ["another value", "twice", "joined"])
def test_no_header_of_a_callers_makes_somebody_else_revoked_or_reaches_a_server(edge: Rig, case: str) -> None:
    revoked_at(edge, NOTHING)
    edge.publish(PRESTO, SCRATCH, revoked=Revoked(sessions=frozenset({"innocent"})))
    edge.answers(401, edge.token(sid="innocent"))
    forged = [pair for name in CLAIM_HEADERS.values() for pair in FORGED[case](name, "innocent")]
    headers = [("authorization", f"Bearer {edge.token()}"), *ACCEPT.items(), *forged]
    with edge.client() as client:
        response = client.post("/mcp/prod/presto", headers=headers, content=json.dumps(tool_call()))
    assert response.status_code == 200
    names = {name.lower() for name, _ in edge.presto.arrivals[-1].headers}
    assert not names & set(CLAIM_HEADERS.values())


def test_the_list_from_before_put_back_lets_nobody_in_again(edge: Rig) -> None:
    revoked_at(edge, NOTHING)
    before = edge.home.edge_bundle.read_text()
    revoked_at(edge, Revoked(frozenset({"session"})))
    for restarted in (False, True):
        replace_file(edge.home.edge_bundle, before)
        if restarted:
            edge.stop_agent()
            edge.start_agent()
        edge.run(edge.agent.refresh())  # type: ignore[union-attr]
        assert reason(edge.call(token=edge.token())) == "token_revoked"


@pytest.mark.parametrize("path", ["/mcp/prod/presto", "/mcp//prod/presto", "/mcp/prod%2Fpresto", "/mcp/prod/nothing"])
def test_no_address_is_open_to_what_is_revoked(edge: Rig, path: str) -> None:
    revoked_at(edge, Revoked(clients=frozenset({"pegboard-cli"})))
    for verb in ("POST", "GET", "DELETE"):
        with edge.client() as client:
            headers = {**ACCEPT, "authorization": f"Bearer {edge.token()}"}
            response = client.request(verb, path, headers=headers, content=json.dumps(tool_call()))
        assert (response.status_code, reason(response)) == (401, "token_revoked")
