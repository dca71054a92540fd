"""Webhooks of a whole instance: a call that waits is told, with a link and no arguments, whatever is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from examples.notifications.receive import verify
from pegboard.core.names import ServerName
from pegboard_hub.upkeep.hub_door import ask_at
from tests.attacks.wire import ACCEPT, META, MODERN
from tests.folders import new_folder
from tests.hub.webhooks import SECRET, notify_file
from tests.leaks import holding
from tests.system.edge_rig import until
from tests.system.instance import Instance, running, statuses

pytestmark = [pytest.mark.system, pytest.mark.heavy]

SERVER = ServerName("dev", "scratch")
CANARY = "word-7f3a"
REQUIREMENT = {"tool": f"{SERVER}/echo", "by": "owner", "why": "a bot echoed what it should not", "expires_s": 3600}


class Receiver(ThreadingHTTPServer):
    """Takes messages that are Pegboard's, while it is well."""

    def __init__(self) -> None:
        self.well = True
        self.tries = 0
        self.got: list[tuple[str, dict[str, Any]]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_address[1]}/hooks/s3cret-of-the-path"

    @property
    def ids(self) -> set[str]:
        return {id_ for id_, document in self.got if document["type"] == "approval.requested"}


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.tries += 1
        well = self.server.well and verify(headers, body, SECRET, time.time())
        if well:
            self.server.got.append((headers["webhook-id"], json.loads(body)))
        self.send_response(204 if well else 500)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def call(instance: Instance, word: str) -> dict[str, Any]:
    """Ana calls the tool."""
    headers = {
        **ACCEPT,
        "authorization": f"Bearer {instance.token('ana', str(SERVER))}",
        "mcp-protocol-version": MODERN,
        "mcp-method": "tools/call",
        "mcp-name": "echo",
    }
    params = {"name": "echo", "arguments": {"text": word}, "_meta": META}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    answer = httpx2.post(instance.public_url + SERVER.path, json=body, headers=headers, timeout=60)
    found: dict[str, Any] = answer.json()["result"]
    return found


def pending(instance: Instance, word: str) -> bool:
    return "approval_pending" in json.dumps(call(instance, word))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the hub's own user may look."""
    found = new_folder()
    found.chmod(0o755)
    yield found
    shutil.rmtree(found)


def test_a_call_that_waits_is_told_also_after_the_hub_was_killed(receiver: Receiver, folder: Path) -> None:
    file = notify_file(folder, chat=f'url = "{receiver.url}"', others=f'url = "{receiver.url}"\ngroups = ["sales"]')
    file.chmod(0o644)
    with running("--notify", str(file)) as instance:
        home = instance.home
        assert ask_at(home.root, "POST", "/internal/v1/notifications/test", {"destination": "chat"})["delivered"]
        ask_at(home.root, "POST", "/internal/v1/approvals/required", REQUIREMENT)
        until(lambda: pending(instance, f"{CANARY} 1"), "calls wait")
        until(lambda: bool(receiver.ids), "it is told")
        [told] = [document["data"] for _, document in receiver.got if document["type"] == "approval.requested"]
        assert (told["person"], told["tool"], told["server"]) == ("ana", "echo", str(SERVER))
        assert told["page"] == f"{instance.public_url}/approvals/{told['requests'][0]}"
        assert CANARY not in json.dumps(receiver.got)
        page = httpx2.get(told["page"], headers={"accept": "text/html"})
        assert page.status_code != 200
        assert CANARY not in page.text

        receiver.well = False
        tries = receiver.tries
        assert pending(instance, f"{CANARY} 2")
        until(lambda: receiver.tries > tries, "it is tried")
        status = json.loads(home.status.read_text())
        hub = next(each for each in status["processes"] if each["name"] == "hub")
        os.kill(hub["pid"], signal.SIGKILL)
        receiver.well = True
        until(lambda: len(receiver.ids) == 2, "the second is told")
        until(lambda: statuses(home).get("hub") == "live", "the hub is back")
        assert holding(home.root, [b"s3cret-of-the-path", SECRET.encode()]) == set()
