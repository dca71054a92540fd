"""The one tool of `dev/scratch`."""

from pegboard import Server, authorize_tool, saves

server = Server(instructions="A place to try Pegboard. `echo` gives back the text it was given.")


@server.tool(title="Echo")
@authorize_tool(policy="granted")
@saves(minutes=0)
async def echo(text: str) -> str:
    """Give back the text it was given, unchanged."""
    return text
