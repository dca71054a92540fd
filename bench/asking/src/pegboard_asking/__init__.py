"""The same tool several times: it asks nobody, or says that it may ask and does not need to."""

from __future__ import annotations

from pegboard import Server, authorize_tool, confirm, requires_approval

server = Server()


async def large(text: str) -> bool:
    """Whether a text is longer than any that the bench sends."""
    return len(text) > 1_000


def plainly_large(text: str) -> bool:
    """The same, of an author who wrote no `async`."""
    return len(text) > 1_000


@server.tool()
@authorize_tool(policy="granted")
async def echo(text: str) -> str:
    """Give back the text."""
    return text


@server.tool()
@authorize_tool(policy="granted")
@requires_approval(by="caller", when=large)
async def echo_approved(text: str) -> str:
    """Give back the text."""
    return text


@server.tool()
@authorize_tool(policy="granted")
@requires_approval(by="caller", when=plainly_large)
async def echo_approved_plain(text: str) -> str:
    """Give back the text."""
    return text


@server.tool()
@authorize_tool(policy="granted")
@confirm("Give back {text}?", when=large)
async def echo_confirmed(text: str) -> str:
    """Give back the text."""
    return text
