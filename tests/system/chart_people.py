"""The people of a chart: its operator adds an edge, an author submits, and somebody outside signs in and calls."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from pegboard.core.archive import File, pack
from pegboard_hub.common.home import Home
from pegboard_hub.packages.wheel import kit_wheel
from pegboard_hub.runtime import preflight
from tests.oauth import Browser, StockClient, query_of
from tests.system.chart_rig import LOGIN, URL, World, aside
from tests.system.kubelet import Pod

Json = dict[str, Any]


async def joined(world: World) -> None:
    """Add the edge that the values name, as Helm's notes say, and keep what it joins with as a Secret."""
    named = [
        "--spiffe-id",
        "spiffe://acme.com/ns/pegboard/sa/pegboard-edge",
        "--gate",
        "pegboard-hub.pegboard.svc:8444",
    ]
    added = ["pegboard", "edge", "add", "a", "--home", "/var/lib/pegboard/home", "--out", "-", *named]
    printed = await aside(lambda: world.pods["pegboard-hub"].exec("hub", *added))
    world.contents["secret", "pegboard-edge-a"] = {"join.json": printed.encode()}


class AtTheEdge(httpx2.AsyncHTTPTransport):
    """The network of somebody outside, who finds the public name at the edge's address."""

    def __init__(self, address: str, chain: bytes) -> None:
        context = ssl.create_default_context(cadata=chain.decode())
        super().__init__(verify=context)
        self._address = address

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert request.url.host == urlsplit(URL).hostname
        at = request.url.copy_with(host=self._address)
        more = {**request.extensions, "sni_hostname": request.url.host}
        sent = httpx2.Request(request.method, at, headers=request.headers, stream=request.stream, extensions=more)
        return await super().handle_async_request(sent)


def outside(world: World, **headers: str) -> httpx2.AsyncClient:
    """A client of somebody outside."""
    chain = world.contents["secret", "pegboard-tls"]["tls.crt"]
    transport = AtTheEdge(world.pods["pegboard-edge-a"].address, chain)
    return httpx2.AsyncClient(transport=transport, base_url=URL, timeout=60, headers=headers)


async def token_of(world: World, person: str, *servers: str) -> list[str]:
    """Tokens of a person who signs in through the company's login, for servers or the API."""
    tokens = []
    async with outside(world) as http:
        browser = Browser(URL, http)
        client = StockClient(URL, http, client_id="pegboard-cli")
        for server in servers:
            answer = await browser.authorize(client.authorization(server))
            if answer.startswith(LOGIN):
                back = httpx2.URL(query_of(answer)["redirect_uri"], params=world.login.authorize(answer, person))
                answer = await browser.authorize(str(back))
            given = await client.exchange(query_of(answer)["code"], resource=client.resource(server))
            assert given.status_code == 200, given.text
            tokens.append(str(given.json()["access_token"]))
    return tokens


async def tool(world: World, token: str, server: str, name: str, **arguments: object) -> Json:
    """The result of a call by an MCP client outside."""
    async with outside(world, authorization=f"Bearer {token}") as http:
        transport = streamable_http_client(f"{URL}/mcp/{server}", http_client=http)
        async with Client(transport) as client:
            result = await client.call_tool(name, arguments)
    assert not result.is_error, result
    return dict(result.structured_content or {})


def project(packages: str, folder: Path) -> bytes:
    """What an author has: `pegboard new`, locked with the company's index and the instance's own for the kit.

    The author has no way to either from here, so it is locked with others, and their addresses are changed.
    """
    wheel, shelf, made, own = kit_wheel(), folder / "kit", folder / "desk", f"{URL}/packages/simple/"
    shelf.mkdir()
    (shelf / wheel.file_name).write_bytes(wheel.content)
    words = ["--owner", "platform", "--description", "Say good day", "--kit", own, "--into", str(made)]
    subprocess.run([sys.executable, "-m", "pegboard.cli", "new", "desk", *words], capture_output=True, check=False)
    said = (made / "pyproject.toml").read_text()
    (made / "pyproject.toml").write_text(said.replace(f'"{own}"', f'"{shelf}"\nformat = "flat"'))
    done = subprocess.run(
        [str(preflight.find_uv()), "lock", "--project", str(made)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (made / "pyproject.toml").write_text(said)
    file = f'url = "{URL}/packages/sha256/{wheel.digest}/{wheel.file_name}", hash = "sha256:{wheel.digest}"'
    changes = {
        f'path = "{shelf / wheel.file_name}"': f"{file}, size = {len(wheel.content)}",
        f"file://{shelf}": own,
        str(shelf): own,
        "https://pypi.org/simple": f"{packages}/simple",
        "https://files.pythonhosted.org/": f"{packages}/files/",
    }
    lock = (made / "uv.lock").read_text()
    for before, now in changes.items():
        assert before in lock
        lock = lock.replace(before, now)
    (made / "uv.lock").write_text(lock)
    paths = [each for each in made.rglob("*") if each.is_file() and ".venv" not in each.parts]
    return pack({each.relative_to(made).as_posix(): File(each.read_bytes()) for each in paths})


def at_the_hub(hub: Pod) -> httpx2.AsyncClient:
    """The way of the operator at the machine."""
    home = Home.at(hub.volumes["home"] / "home")
    way = httpx2.AsyncHTTPTransport(uds=str(home.internal_socket))
    headers = {"authorization": f"Bearer {home.operator_token.read_text().strip()}"}
    return httpx2.AsyncClient(
        transport=way, base_url="http://hub/internal/v1/publishing", headers=headers, timeout=30
    )


async def submitted(client: httpx2.AsyncClient, server: str, archive: bytes) -> str:
    """Submit; gives the submission's id."""
    answer = await client.post(f"/{server}/submissions", content=archive)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def followed(client: httpx2.AsyncClient, id_: str, tell: Callable[[str], None]) -> list[str]:
    """The states until it is live, or will not be."""
    states: list[str] = []
    after = 0
    while not states or states[-1] not in ("live", "failed", "rolled_back"):
        answer = (await client.get(f"/submissions/{id_}/events", params={"after": after, "wait_s": 5})).json()
        after = answer["next"]
        for each in answer["events"]:
            tell(f"{each['state']}: {each['step']} {each['what']}")
            states += [each["state"]] if states[-1:] != [each["state"]] else []
    return states
