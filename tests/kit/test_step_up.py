"""A token that may only look lists everything, calls what is declared read-only, and is told how to get more."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ToolAnnotations

from pegboard import Server, authorize_tool
from pegboard.core.record import Denial
from pegboard.core.refusal import META_KEY
from pegboard.testing import InMemoryHub
from tests.kit.test_gate import LEGACY, MODERN, OPENINGS, legacy_session, rpc

pytestmark = pytest.mark.anyio

METADATA = "http://pegboard.test/.well-known/oauth-protected-resource/mcp/dev/desk"
CHALLENGE = f'Bearer error="insufficient_scope", scope="tools", resource_metadata="{METADATA}"'


@pytest.fixture
def server() -> Server:
    server = Server()

    def tool(name: str, policy: str, annotations: ToolAnnotations | None) -> None:
        @server.tool(name=name, annotations=annotations)
        @authorize_tool(policy=policy)
        async def run(text: str = "") -> str:
            """Do something."""
            return f"{name} ran"

    tool("look", "granted", ToolAnnotations(read_only_hint=True))
    tool("change", "granted", None)
    tool("destroy", "granted", ToolAnnotations(read_only_hint=False))
    tool("unsaid", "granted", ToolAnnotations(title="Says nothing of it"))
    tool("secret", "ads-revenue", None)
    tool("secret_look", "ads-revenue", ToolAnnotations(read_only_hint=True))
    return server


@pytest.fixture
def hub(project: Path, server: Server) -> InMemoryHub:
    return InMemoryHub(project, server)


async def call(hub: InMemoryHub, tool: str, scope: Any, era: dict[str, str], person: str = "fay") -> Any:
    """A call; in the older era, in a session of its own."""
    routing = {"mcp-method": "tools/call", "mcp-name": tool} if era is MODERN else {}
    body = rpc("tools/call", name=tool, arguments={})
    groups = {"fay": ["finance"], "ana": ["ads-eng"]}[person]
    headers = hub.headers(person, groups, scope=scope) | era | routing
    async with hub.http(headers) as http:
        if era is LEGACY:
            del body["params"]["_meta"]
            headers = await legacy_session(http, hub, headers)
        return await http.post(hub.name.path, json=body, headers=headers)


def ran(response: Any, tool: str) -> bool:
    return response.status_code == 200 and f"{tool} ran" in response.text


ERAS = pytest.mark.parametrize("era", [LEGACY, MODERN], ids=["legacy", "modern"])


@ERAS
@pytest.mark.parametrize("tool", ["change", "destroy", "unsaid"])
async def test_a_tool_that_is_not_declared_read_only_asks_for_more_scope(
    hub: InMemoryHub, tool: str, era: dict[str, str]
) -> None:
    response = await call(hub, tool, "tools:read", era)
    assert (response.status_code, response.headers["www-authenticate"]) == (403, CHALLENGE)
    body = response.json()
    assert (body["id"], body["error"]["data"]["layer"]) == (1, "server")
    found = body["error"]["data"]
    assert (found["code"], found["reason"]) == ("insufficient_scope", "insufficient_scope")
    assert found["message"].startswith(f"Your token may only look, and {tool} of dev/desk is not declared read-only.")
    assert found["what_to_do"] == "Sign in again for the scope tools."
    (record,) = hub.records
    assert isinstance(record, Denial)
    assert (record.tool, record.code, record.policy) == (tool, "insufficient_scope", "granted")
    assert ran(await call(hub, tool, "tools", era), tool)


@ERAS
async def test_a_tool_that_is_declared_read_only_runs(hub: InMemoryHub, era: dict[str, str]) -> None:
    assert ran(await call(hub, "look", "tools:read", era), "look")
    assert ran(await call(hub, "secret_look", "tools:read", era, "ana"), "secret_look")


@ERAS
@pytest.mark.parametrize("tool", ["secret", "secret_look"])
async def test_a_hidden_tool_is_answered_as_an_unknown_one(hub: InMemoryHub, tool: str, era: dict[str, str]) -> None:
    unknown, hidden = [await call(hub, name, "tools:read", era) for name in ("no_such_tool", tool)]
    assert hidden.status_code == unknown.status_code == 200
    assert "www-authenticate" not in hidden.headers
    assert hidden.text.replace(tool, "T") == unknown.text.replace("no_such_tool", "T")
    assert '"tool_unavailable"' in hidden.text
    assert (await call(hub, "secret", "tools:read", era, "ana")).status_code == 403


async def test_everything_is_listed(hub: InMemoryHub) -> None:
    listed = []
    for scope in ("tools", "tools:read"):
        headers = hub.headers("ana", ["ads-eng"], scope=scope) | MODERN | {"mcp-method": "tools/list"}
        async with hub.http(headers) as http:
            listed.append((await http.post(hub.name.path, json=rpc("tools/list"))).text)
    assert listed[0] == listed[1]
    assert '"secret"' in listed[0]


SCOPES: dict[str, tuple[Any, int]] = {
    "both": ("tools:read tools", 200),
    "tools twice": ("tools tools", 200),
    "with others beside": ("openid tools offline_access", 200),
    "a word that begins so": ("tools:read tools-x", 403),
    "a word that ends so": ("tools:read xtools", 403),
    "another case": ("tools:read Tools TOOLS", 403),
    "between tabs": ("tools:read\ttools", 403),
    "after a no-break space": ("tools:read\u00a0tools", 403),
    "behind a line end": ("tools:read tools\n", 403),
    "behind a comma": ("tools:read,tools", 403),
    "in quotes": ('tools:read "tools"', 403),
    "more precise": ("tools:read tools:write", 403),
    "a colon behind": ("tools:read tools:", 403),
    "none": ("", 403),
    "a blank": (" ", 403),
    "the API's": ("api", 403),
    "a star": ("*", 403),
    "a list": (["tools"], 401),
    "an object": ({"tools": True}, 401),
    "null": (None, 401),
    "a number": (1, 401),
    "true": (True, 401),
}


@pytest.mark.parametrize("case", SCOPES)
async def test_a_scope_counts_by_whole_names_of_the_right_case(hub: InMemoryHub, case: str) -> None:
    scope, status = SCOPES[case]
    response = await call(hub, "change", scope, MODERN)
    assert response.status_code == status, response.text
    assert ran(response, "change") is (status == 200)


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("scope", ["", "api", "tools-x", "Tools:Read"])
async def test_a_token_without_a_scope_for_servers_reaches_nothing(
    hub: InMemoryHub, opening: str, scope: str
) -> None:
    headers, method, body = OPENINGS[opening]
    async with hub.http(hub.headers("ana", ["ads-eng"], scope=scope)) as http:
        response = await http.request(method, hub.name.path, headers=headers, json=body)
    assert (response.status_code, response.headers["www-authenticate"]) == (403, CHALLENGE)
    assert response.json()["error"]["data"]["reason"] == "insufficient_scope"


async def test_a_token_that_says_nothing_of_scope_reaches_nothing(hub: InMemoryHub) -> None:
    signed = hub._signer.sign
    hub._signer.sign = lambda c, t: signed({k: v for k, v in c.items() if k != "scope"}, t)  # type: ignore[method-assign]
    async with hub.http(hub.headers("ana", ["ads-eng"]) | LEGACY) as http:
        response = await http.post(hub.name.path, json=rpc("tools/list"))
    assert response.status_code == 403


async def test_a_session_that_a_wide_token_opened_gives_a_narrow_one_nothing(hub: InMemoryHub) -> None:
    """What decides is the token of the request, not the one that opened the session."""
    calling = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "change", "arguments": {}}}
    wide, narrow = (hub.headers("ana", ["ads-eng"], scope=scope) | LEGACY for scope in ("tools", "tools:read"))
    async with hub.http() as http:
        session = await legacy_session(http, hub, wide)
        answers = [await http.post(hub.name.path, json=calling, headers=each | session) for each in (wide, narrow)]
    assert [answer.status_code for answer in answers] == [200, 403]


async def test_what_got_past_the_step_up_is_refused_at_the_call(
    hub: InMemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step reads the body by itself; should it ever read it otherwise than the SDK does, the call is judged."""
    monkeypatch.setattr("pegboard.call.chain.called_tool", lambda _body: None)
    application = hub.application()
    monkeypatch.setattr(hub, "application", lambda: application)
    async with application.running():
        monkeypatch.setattr(application, "running", nullcontext)
        # What the server remembers of ana's wide token does not decide on the narrow one.
        assert ran(await call(hub, "change", "tools", MODERN), "change")
        result = (await call(hub, "change", "tools:read", MODERN)).json()["result"]
    assert result["isError"]
    assert result["_meta"][META_KEY]["reason"] == "insufficient_scope"


@pytest.mark.parametrize("body", ["[]", "null", '"tools/call"', '{"method": "tools/call"}', "{", '{"params": 1}'])
async def test_a_body_that_calls_nothing_is_answered_as_with_any_token(hub: InMemoryHub, body: str) -> None:
    answers = []
    for scope in ("tools", "tools:read"):
        headers = hub.headers("ana", ["ads-eng"], scope=scope) | LEGACY | {"content-type": "application/json"}
        async with hub.http(headers) as http:
            response = await http.post(hub.name.path, content=body)
        answers.append((response.status_code, response.text))
    assert answers[0] == answers[1]


async def test_the_stock_client_is_told_too(hub: InMemoryHub) -> None:
    narrow = hub.headers("fay", ["finance"], scope="tools:read")
    for mode in ("legacy", "auto"):
        async with hub.http(narrow) as http:
            transport = streamable_http_client(hub.name.resource_url(hub.public_url), http_client=http)
            async with Client(transport, mode=mode) as client:
                assert not (await client.call_tool("look", {})).is_error
                with pytest.raises(Exception, match=r"may only look|403"):
                    await client.call_tool("change", {})
