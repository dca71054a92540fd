"""The tools of `dev/scratch`: one that reads, and one that changes something."""

from collections import deque
from typing import Annotated

from mcp_types import ToolAnnotations
from pydantic import Field

from pegboard import Server, authorize_tool, saves

server = Server(instructions="A place to try Pegboard. `echo` gives back the text it was given, `note` keeps it.")

_notes: deque[str] = deque(maxlen=100)


@server.tool(title="Echo", annotations=ToolAnnotations(read_only_hint=True))
@authorize_tool(policy="granted")
@saves(minutes=0)
async def echo(text: Annotated[str, Field(description="what to give back")]) -> str:
    """Give back the text it was given, unchanged. Use it to see whether a call gets through."""
    return text


@server.tool(title="Keep a note", annotations=ToolAnnotations(read_only_hint=False, destructive_hint=False))
@authorize_tool(policy="granted")
@saves(minutes=0)
async def note(
    text: Annotated[str, Field(description="the note, of which the first 1,000 characters are kept")],
) -> str:
    """Keep a note until the server starts again. Use it to try a call that changes something."""
    _notes.append(text[:1_000])
    return f"{len(_notes)} of at most {_notes.maxlen} notes kept"
