"""`clients`: the programs that people have connected, for those who look after them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pegboard.cli import render
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import line

MOST_NAMES = 3
"""People that are named of one client; the others are counted."""


@with_options
def clients(options: Options) -> None:
    """List the programs that people connect with, and who uses them; for operators.

    A program says itself what it is called; the operator alone says what it counts as. To approve or block one, open
    the page /clients: that wants a person at a browser.

    \b
    Example:
      pegboard clients
      pegboard clients --as pat --json
    """
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        answer = hub.get("clients")
    if options.as_json:
        render.document(answer)
        return
    columns = ("calls itself", "kind", "answers go to", "surface", "standing", "used by", "last seen")
    render.table(columns, [_row(each) for each in answer.get("clients", ())])
    render.hint(f"{answer.get('never_used', 0)} more registered and were never used. Decide on {options.url}/clients")


def _row(client: Mapping[str, Any]) -> list[str]:
    users = client.get("users", ())
    names = ", ".join(line(user["name"]) for user in users[:MOST_NAMES])
    more = f" and {len(users) - MOST_NAMES} more" if len(users) > MOST_NAMES else ""
    seen = client.get("last_seen_at")
    return [
        line(client["name"]),
        line(client["kind"]),
        ", ".join(line(uri) for uri in client["redirect_uris"][:2]),
        line(client["surface"]),
        line(client["standing"]),
        names + more if users else "nobody",
        datetime.fromtimestamp(seen / 1000, UTC).strftime("%Y-%m-%d %H:%M") if seen else "never",
    ]
