"""An MCP server without any framework: JSON-RPC on standard input and output, of the revision 2025-06-18."""

import json
import sys

NOTES: list[str] = []

TOOLS = [
    {
        "name": "remember",
        "description": "Keep a note until the server starts again. Use it for what should be found later today.",
        "inputSchema": {
            "type": "object",
            "properties": {"text": {"type": "string", "description": "The note", "maxLength": 1000}},
            "required": ["text"],
        },
        "annotations": {"title": "Remember", "readOnlyHint": False, "destructiveHint": False},
    },
    {
        "name": "recall",
        "description": "Give back all notes, the newest last. Use it before asking a person again.",
        "inputSchema": {"type": "object", "properties": {}},
        "annotations": {"title": "Recall", "readOnlyHint": True},
    },
]


def call(name: str, arguments: dict[str, str]) -> str:
    """What a tool answers."""
    if name == "remember":
        NOTES.append(arguments["text"])
        return f"{len(NOTES)} kept"
    return "\n".join(NOTES) or "nothing kept yet"


def answer(method: str, params: dict) -> dict:
    """The result of a request."""
    match method:
        case "initialize":
            info = {"name": "notes", "version": "1"}
            return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            return {"tools": TOOLS}
        case "tools/call":
            text = call(params["name"], params.get("arguments", {}))
            return {"content": [{"type": "text", "text": text}]}
        case "ping":
            return {}
    raise LookupError(method)


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    reply = {"jsonrpc": "2.0", "id": request["id"]}
    try:
        reply["result"] = answer(request["method"], request.get("params", {}))
    except LookupError as error:
        reply["error"] = {"code": -32601, "message": f"no method {error}"}
    print(json.dumps(reply), flush=True)
