"""A server that is not built on the kit, and asks before it acts: the standard library, and two requests to the hub.

    PEGBOARD_SOCKET=… PEGBOARD_HUB_SOCKET=… PEGBOARD_CREDENTIALS=… PEGBOARD_SPOOL=… python server.py

It has one tool, `delete_rows`, that runs once a person of the owning team has said yes to exactly these arguments.
What it is given, what it asks and what it must tell is docs/reference/approvals-over-http.md. It speaks as much MCP
as the example needs: `tools/call`, answered with one JSON document.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socketserver
import threading
import time
import uuid
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any, Final

ASK: Final = "/internal/v1/approvals/ask"
OVER: Final = "/internal/v1/approvals/over"
RECORDS: Final = "/internal/v1/records"

REQUIREMENT: Final = {"by": "owner", "expires_s": 3600, "why": "deleted rows do not come back"}
"""Who must say yes: `caller`, `owner`, or a business group. Any change of it makes another request."""

WAIT_S: Final = float(os.environ.get("WAIT_S", "20"))
"""Seconds for which a call waits for people before it answers that it does; 50 at most."""

MOST_BYTES: Final = 1024 * 1024
LARGEST_INTEGER: Final = 2**53 - 1

Json = dict[str, Any]


class Refused(Exception):
    """The hub would not ask anybody; the message is for the caller."""


class Hub:
    """What the hub's internal door offers to a server, over plain HTTP on a Unix socket."""

    def __init__(self, path: str, channel_token: str) -> None:
        self._path, self._token = path, channel_token

    def ask(self, question: Json) -> Json:
        """Find or make the request, and claim it for `call_id` where it is approved.

        It is safe to send again with the same `call_id`: what was claimed stays claimed by this one call.

        Raises:
            Refused: the hub says no, or is away; then nothing may run.
        """
        for pause_s in (0.2, 1.0, None):
            try:
                status, answer = self._post(ASK, question)
            except (OSError, HTTPException, ValueError):
                if pause_s is None:
                    break
                time.sleep(pause_s)
                continue
            if status == 200:
                return answer
            raise Refused(str(answer.get("error", {}).get("message", "Nobody could be asked.")))
        raise Refused("Nobody can be asked now, so it did not run. Try again in a minute.")

    def over(self, processes: list[str]) -> bool:
        """Tell that these processes are over; gives whether the hub has taken it."""
        return self._well(OVER, {"processes": processes})

    def records(self, records: list[Json]) -> bool:
        """Deliver records; gives whether the hub has taken them."""
        return self._well(RECORDS, {"records": records})

    def _well(self, path: str, document: Json) -> bool:
        try:
            return self._post(path, document)[0] in (200, 204)
        except (OSError, HTTPException, ValueError):
            return False

    def _post(self, path: str, document: Json) -> tuple[int, Json]:
        connection = HTTPConnection("hub", timeout=WAIT_S + 10)
        connection.sock = socket(AF_UNIX, SOCK_STREAM)
        connection.sock.settimeout(WAIT_S + 10)
        try:
            connection.sock.connect(self._path)
            headers = {"content-type": "application/json", "authorization": f"Bearer {self._token}"}
            connection.request("POST", path, json.dumps(document), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"{}")
        finally:
            connection.close()


class Spool:
    """Records on disk until the hub has them, and which processes have written there.

    An outcome is what makes a request `done` or `failed`. One that is lost leaves it `unknown`, so it is written
    before it is delivered. The next process delivers what the last one left, and only then says that it is over.
    """

    def __init__(self, folder: Path, hub: Hub) -> None:
        self._records, self._processes, self._hub = folder / "records.jsonl", folder / "processes.json", hub
        self.process = uuid.uuid4().hex
        self._alone = threading.Lock()

    def begin(self) -> None:
        """Settle what earlier processes left, and note this one before it claims anything."""
        known = json.loads(self._processes.read_text()) if self._processes.exists() else []
        if self.deliver() and (not known or self._hub.over(known)):
            known = []
        self._replace(self._processes, json.dumps([*known, self.process]))

    def write(self, record: Json) -> None:
        """Keep a record, and deliver it with those before it if the hub is there."""
        with self._alone, self._records.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.deliver()

    def deliver(self) -> bool:
        """Deliver what is kept; gives whether nothing is left."""
        with self._alone:
            lines = self._records.read_text(encoding="utf-8").splitlines() if self._records.exists() else []
            if lines and not self._hub.records([json.loads(line) for line in lines]):
                return False
            self._records.unlink(missing_ok=True)
            return True

    @staticmethod
    def _replace(path: Path, text: str) -> None:
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(path)


class Server:
    """The server's one tool, with what is around it."""

    def __init__(self, variables: dict[str, str]) -> None:
        credentials = json.loads(Path(variables["PEGBOARD_CREDENTIALS"]).read_text(encoding="utf-8"))
        self._digest_key = bytes.fromhex(credentials["digest_key"])
        self._release = variables["PEGBOARD_RELEASE"]
        self._hub = Hub(variables["PEGBOARD_HUB_SOCKET"], credentials["channel_token"])
        self._spool = Spool(Path(variables["PEGBOARD_SPOOL"]), self._hub)
        self._table = Path(variables["PEGBOARD_SPOOL"]) / "deleted.txt"
        self._spool.begin()

    def call(self, token: str, arguments: Json, request_id: str) -> Json:
        """The result of one `tools/call` of `delete_rows`."""
        if fault := _fault(arguments):
            return _text(fault, failed=True)
        call_id = uuid.uuid4().hex
        question = {
            "token": token,
            "tool": "delete_rows",
            "requirement": REQUIREMENT,
            "policy": "granted",
            "policy_version": "1",
            "actions": [{"arguments": arguments, "preview": {"what": f"Delete rows of {arguments['table']}"}}],
            "call_id": call_id,
            "process": self._spool.process,
            "wait_s": WAIT_S,
            "request_id": request_id,
        }
        try:
            answer = self._hub.ask(question)
        except Refused as error:
            return _text(str(error), failed=True)
        if not answer["claimed"]:
            return _not_run(answer)
        # From here on the approval is spent: it must end with an outcome, whatever happens.
        self._spool.write(self._intent(call_id, token, arguments, request_id))
        began, status = time.monotonic(), "crashed"
        try:
            result = self._delete(arguments)
            status = "ok"
        finally:
            took_ms = (time.monotonic() - began) * 1000
            self._spool.write(
                {"kind": "outcome", "id": call_id, "at_ms": _now_ms(), "status": status, "duration_ms": took_ms}
            )
        return result

    def _delete(self, arguments: Json) -> Json:
        """What the tool is for. It runs with what was shown to the person who said yes, and with nothing else."""
        with self._table.open("a", encoding="utf-8") as file:
            file.write(json.dumps(arguments) + "\n")
        return _text(f"Deleted the rows of {arguments['table']} where {arguments['where']}.")

    def _intent(self, call_id: str, token: str, arguments: Json, request_id: str) -> Json:
        document = json.dumps(arguments, sort_keys=True, separators=(",", ":")).encode()
        return {
            "kind": "intent",
            "id": call_id,
            "at_ms": _now_ms(),
            "release": self._release,
            "who": _who(token),
            "tool": "delete_rows",
            "policy": "granted",
            "policy_version": "1",
            "arguments_digest": hashlib.blake2b(document, key=self._digest_key, digest_size=16).hexdigest(),
            "arguments_bytes": len(document),
            "request_id": request_id,
        }


def _who(token: str) -> Json:
    """Who calls. The hub has just verified this token for this server: nothing here is believed before it has."""
    middle = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    who = {name: claims[name] for name in ("sub", "sub_type", "surface", "client_id")} | {"token_id": claims["jti"]}
    who |= {"channel": claims["channel"]} if claims.get("channel") else {}
    return who | ({"act": claims["act"]["sub"]} if claims.get("act") else {})


def _fault(arguments: Json) -> str:
    """What is wrong with arguments; nobody is asked to approve what cannot run."""
    if set(arguments) != {"table", "where", "most"}:
        return "Say `table`, `where`, and `most`: how many rows at most."
    if not all(isinstance(arguments[name], str) and arguments[name] for name in ("table", "where")):
        return "`table` and `where` are texts."
    if type(arguments["most"]) is not int or not 0 < arguments["most"] <= LARGEST_INTEGER:
        return "`most` is a whole number of rows."
    return ""


def _not_run(answer: Json) -> Json:
    """What the model is told while people make up their minds, or when they have said no."""
    action = answer["actions"][0]
    told = {
        "id": action["id"],
        "state": action["state"],
        "page": answer["page"],
        "asks": answer["asks"],
        "expires_at_ms": answer["expires_at_ms"],
    }
    if action["state"] == "requested":
        text = (
            f"It has not run: it waits for {answer['asks']}. Give them this page: {answer['page']} . Once they have "
            "said yes there, call this tool again with exactly the same arguments."
        )
        return _text(text, failed=True, approval=told, code="approval_pending")
    return _text(f"It has not run: the request is {action['state']}.", failed=True, approval=told, code="approval")


def _text(text: str, *, failed: bool = False, approval: Json | None = None, code: str = "") -> Json:
    result: Json = {"content": [{"type": "text", "text": text}], "isError": failed}
    if approval is not None:
        result["structuredContent"] = {"code": code, "approval": approval}
    return result


def _now_ms() -> int:
    return int(time.time() * 1000)


class Handler(BaseHTTPRequestHandler):
    """One connection of the edge's."""

    server: Listener
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer `tools/call`."""
        try:
            length = int(self.headers.get("content-length") or 0)
            if not 0 < length <= MOST_BYTES:
                raise ValueError("no body, or too long a one")
            message = json.loads(self.rfile.read(length))
            parameters = message["params"]
            if message["method"] != "tools/call" or parameters["name"] != "delete_rows":
                raise ValueError("there is one tool, delete_rows")
            arguments = dict(parameters["arguments"])
        except (ValueError, KeyError, TypeError) as error:
            self._answer(400, {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": str(error)}})
            return
        scheme, _, token = (self.headers.get("authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or token.count(".") != 2:
            self._answer(401, {"jsonrpc": "2.0", "id": None, "error": {"code": -32001, "message": "no token"}})
            return
        result = self.server.tool.call(token, arguments, self.headers.get("x-request-id") or "")
        self._answer(200, {"jsonrpc": "2.0", "id": message.get("id"), "result": result})

    def address_string(self) -> str:
        """A Unix socket has none."""
        return "edge"

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing of a request: it has a token."""

    def _answer(self, status: int, document: Json) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Listener(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens where only the edge can reach it."""

    daemon_threads = True

    def __init__(self, path: str, tool: Server) -> None:
        self.tool = tool
        Path(path).unlink(missing_ok=True)
        super().__init__(path, Handler)


if __name__ == "__main__":
    with Listener(os.environ["PEGBOARD_SOCKET"], Server(dict(os.environ))) as listener:
        listener.serve_forever()
