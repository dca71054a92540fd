"""The tools of `dev/scratch`: one that reads, and one that changes something."""

from collections import deque

from mcp_types import ToolAnnotations

from pegboard import Server, authorize_tool, saves

server = Server(instructions="A place to try Pegboard. `echo` gives back the text it was given, `note` keeps it.")

_notes: deque[str] = deque(maxlen=100)


@server.tool(title="Echo", annotations=ToolAnnotations(read_only_hint=True))
@authorize_tool(policy="granted")
@saves(minutes=0)
async def echo(text: str) -> str:
    """Give back the text it was given, unchanged."""
    return text


@server.tool(title="Keep a note", annotations=ToolAnnotations(read_only_hint=False, destructive_hint=False))
@authorize_tool(policy="granted")
@saves(minutes=0)
async def note(text: str) -> str:
    """Keep a note until the server starts again, and say how many there are."""
    _notes.append(text[:1_000])
    return f"{len(_notes)} of at most {_notes.maxlen} notes kept"
