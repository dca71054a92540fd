"""A whole instance with servers that destroy, and those who attack its approvals."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2

from pegboard.core.refusal import META_KEY
from tests.attacks.vault import Runs, write_vault
from tests.attacks.wire import ACCEPT, LEGACY, MODERN
from tests.folders import new_folder
from tests.hub.webhooks import notify_file
from tests.oauth import forms_of
from tests.system.instance import Instance, running

VAULT, OTHER = "prod/vault", "dev/vault"
EXPECTED = {"hub", "edge", "prober", VAULT, OTHER}
PATIENCE_S = 60
SKEW_S = 6
"""By which clocks may differ, in seconds, and a little more."""

RECORDS = "/internal/v1/records"
STOPS = "/internal/v1/stops"
CANARY = "canary-52c1"
PAGES: dict[str, Any] = {"elicitation": {"url": {}}}
FORMS: dict[str, Any] = {"elicitation": {"form": {}}}
PUT_OFF = {"approval": {"action": "cancel"}}
"""Of a client that does not want to be kept waiting."""

ACCEPTED = {"approval": {"action": "accept", "content": {"confirm": True}}}

_GRANT = '[servers."{name}"]\nsource = "{source}"\ngroups = ["ads-eng", "finance"]\nsurfaces = ["cli", "web"]\n'

_DOOR = """
import httpx2
channel = json.loads(Path(os.environ["PEGBOARD_CREDENTIALS"]).read_text())["channel_token"]
transport = httpx2.AsyncHTTPTransport(uds=os.environ["PEGBOARD_HUB_SOCKET"])
async with httpx2.AsyncClient(transport=transport, base_url="http://hub", timeout=60) as hub:
    headers = {{"authorization": "Bearer " + ({channel!r} or channel), "content-type": "application/json"}}
    answer = await hub.post({path!r}, content={body!r}, headers=headers)
    return [answer.status_code, answer.text]
"""


@dataclass
class Site:
    """The instance, and what attackers do to it.

    Attributes:
        told: what the webhook's receiver got, as it came.
        sources: folders of the servers' projects.
    """

    pegboard: Instance
    sources: dict[str, Path]
    grants: Path
    told: list[str]
    tokens: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.pegboard.public_url

    def token(self, person: str = "ana", server: str = VAULT) -> str:
        if (person, server) not in self.tokens:
            self.tokens[person, server] = self.pegboard.token(person, server)
        return self.tokens[person, server]

    def ran(self, tool: str, server: str = VAULT) -> list[dict[str, Any]]:
        """The arguments with which a tool has run."""
        return Runs(self.pegboard.home, server).of(tool)

    def post(self, body: str, name: str, token: str, server: str = VAULT, **headers: str) -> httpx2.Response:
        sent = {**ACCEPT, "mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": name}
        sent |= {"authorization": f"Bearer {token}", **headers}
        content = body.encode("utf-8", "surrogatepass")
        return httpx2.post(f"{self.url}/mcp/{server}", content=content, headers=sent, timeout=PATIENCE_S)

    def raw(self, tool: str, arguments: str, person: str = "ana") -> dict[str, Any]:
        """A call whose arguments are these very characters."""
        params = f'{{"name":"{tool}","arguments":{arguments},"_meta":{json.dumps(_meta({}))}}}'
        body = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}'
        found: dict[str, Any] = self.post(body, tool, self.token(person)).json()
        return found

    def call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        person: str = "ana",
        server: str = VAULT,
        can: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """A modern call; gives its result, or its error."""
        params = {"name": tool, "arguments": arguments, "_meta": _meta(can or {}), **more}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        answer = self.post(body, tool, self.token(person, server), server).json()
        found: dict[str, Any] = answer.get("result") or answer
        return found

    def legacy(self, tool: str, arguments: Mapping[str, Any], person: str = "ana") -> dict[str, Any]:
        """The same in the older era, in a session of its own."""
        headers = {**ACCEPT, "mcp-protocol-version": LEGACY, "authorization": f"Bearer {self.token(person)}"}
        with httpx2.Client(headers=headers, timeout=PATIENCE_S) as http:
            hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
            opened = http.post(f"{self.url}/mcp/{VAULT}", json=_message("initialize", hello))
            session = {"mcp-session-id": opened.headers["mcp-session-id"]}
            params = {"name": tool, "arguments": arguments}
            answer = http.post(f"{self.url}/mcp/{VAULT}", json=_message("tools/call", params), headers=session)
            http.delete(f"{self.url}/mcp/{VAULT}", headers=session)
        text = answer.text if answer.text.startswith("{") else answer.text.rpartition("data: ")[2]
        found: dict[str, Any] = json.loads(text)["result"]
        return found

    def tell(self, code: str, server: str = VAULT) -> Any:
        """Have the server's own process run this; gives what it returns."""
        result = self.call("tell", {"code": code}, server=server)
        return json.loads(result["content"][0]["text"])

    def knock(self, path: str, body: Any, server: str = VAULT, channel: str = "") -> tuple[int, Any]:
        """What the hub answers a server's process at its internal door; a text is sent as it is."""
        sent = body if isinstance(body, str) else json.dumps(body)
        code = _DOOR.format(path=path, body=sent, channel=channel)
        status, text = self.tell(code, server)
        return status, json.loads(text) if text else None

    def question(self, *arguments: Mapping[str, Any], token: str = "", **changes: Any) -> dict[str, Any]:
        """What a server's process asks for a call of Ana's."""
        return {
            "token": token or self.token(),
            "tool": "wipe",
            "requirement": {"by": "owner"},
            "policy": "granted",
            "policy_version": "1",
            "actions": [{"arguments": each} for each in arguments],
            "call_id": secrets.token_hex(8),
            "process": "made up",
            **changes,
        }

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """What the hub's database has."""
        with closing(sqlite3.connect(self.pegboard.home.database, timeout=30)) as database, database:
            return database.execute(statement, values).fetchall()

    def state(self, id_: str) -> str:
        """How a request stands."""
        [(found,)] = self.rows("SELECT state FROM approval_requests WHERE id = ?", id_)
        return str(found)


@dataclass
class Person:
    """Somebody in their own browser, or whoever has its cookie."""

    site: Site
    http: httpx2.Client

    def form(self, id_: str, button: str, **fields: str) -> tuple[str, dict[str, str]]:
        """Where the form of a request's page is sent with this button, and what with it."""
        page = self.http.get(f"{self.site.url}/approvals/{id_}?alone=1", follow_redirects=True)
        for form in forms_of(page):
            for text, given in form["buttons"]:
                if text == button:
                    pressed = {given["name"]: given.get("value") or ""} if given.get("name") else {}
                    return f"{self.site.url}{form['action']}", {**form["fields"], **pressed, **fields}
        raise AssertionError(f"no button {button!r}: {re.sub('<[^>]+>', ' ', page.text)[:2000]}")

    def send(self, to: str, fields: Mapping[str, str]) -> httpx2.Response:
        return self.http.post(to, data=dict(fields), headers=self._same_origin())

    def decides(self, id_: str, button: str = "Approve", **fields: str) -> httpx2.Response:
        """Decide as the page's form does."""
        return self.send(*self.form(id_, button, **fields))

    def approves(self, *ids: str) -> None:
        for id_ in ids:
            answer = self.decides(id_)
            assert "done=approved" in answer.headers.get("location", ""), answer.text[:2000]

    def _same_origin(self) -> dict[str, str]:
        return {"origin": self.site.url, "sec-fetch-site": "same-origin"}


def _meta(can: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": can,
        "io.modelcontextprotocol/clientInfo": {"name": "attacker", "version": "1"},
    }


def _message(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def code(result: Mapping[str, Any]) -> str:
    """Why a call did not run; empty where it did."""
    if "error" in result:
        return str(result["error"].get("data", {}).get("code", result["error"]["code"]))
    refused = result.get("_meta", {}).get(META_KEY, {}).get("code", "")
    return str(refused or ("input_required" if "requestState" in result else ""))


def id_of(result: Mapping[str, Any]) -> str:
    """Of the request that a call waits for, be it told in a result or as a page to open."""
    found = re.search(r"/approvals/([0-9a-f]{32})", json.dumps(result))
    assert found, result
    return found[1]


@contextmanager
def standing() -> Iterator[Site]:
    """The instance, while the block runs."""
    folder, told = new_folder(), list[str]()
    folder.chmod(0o755)
    sources = {name: write_vault(folder / name.partition("/")[0], "vault") for name in (VAULT, OTHER)}
    grants = folder / "grants.toml"
    grants.write_text("".join(_GRANT.format(name=name, source=source) for name, source in sources.items()))

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(302)
            self.send_header("location", "/approvals")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, daemon=True)
        thread.start()
        notify = notify_file(folder, evil=f'url = "http://localhost:{receiver.server_address[1]}/"')
        notify.chmod(0o644)
        with running("--grants", str(grants), "--notify", str(notify), expected=EXPECTED) as instance:
            yield Site(instance, sources, grants, told)
        receiver.shutdown()
        thread.join()
    shutil.rmtree(folder)


@contextmanager
def signed_in(site: Site, person: str) -> Iterator[Person]:
    """Somebody in a browser of their own."""
    with httpx2.Client(timeout=PATIENCE_S, headers={"accept": "text/html"}) as http:
        found = Person(site, http)
        page = http.get(f"{site.url}/sign-in")
        form = next(form for form in forms_of(page) if any(person in given.values() for _, given in form["buttons"]))
        answer = found.send(f"{site.url}{form['action']}", {**form["fields"], "person": person})
        assert answer.status_code == 303, answer.text
        yield found


def at_once(count: int, *jobs: Callable[[], Any]) -> list[Any]:
    """Do each job so many times, all of them at once."""
    with ThreadPoolExecutor(count * len(jobs)) as threads:
        return [done.result() for done in [threads.submit(job) for job in jobs * count]]
