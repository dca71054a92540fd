"""`whoami` and `token`: who one is here, and the token for a client of one's own."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pegboard.cli import render
from pegboard.cli.catalogue import server_name
from pegboard.cli.options import Options, with_options
from pegboard.cli.text import line
from pegboard.core.scopes import SCOPE_TOOLS_READ

API = "api"
"""What `--server` calls the hub's own API."""


@with_options
def whoami(options: Options) -> None:
    """Say who you are here: person, groups, surface, and since when and where your login is kept.

    \b
    Example:
      pegboard whoami
      pegboard whoami --as ana
    """
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        answer = hub.get("whoami")
    login = _login(options)
    if options.as_json:
        render.document({**answer, "login": login})
        return
    for label, name in _SHOWN:
        value = answer.get(name)
        if value is not None:
            render.text(f"{label:<9}{_words(value)}")
    if login is not None:
        where = login["file"] if login["kept_in"] == "file" else "the system's keyring"
        render.text(line(f"{'login':<9}since {login['since']}, kept in {where}"))


@with_options
def token(
    options: Options,
    server: Annotated[str, typer.Option("--server", metavar="NS/NAME|api", help="What the token shall be good for.")],
    scope: Annotated[
        str | None, typer.Option("--scope", help=f"{SCOPE_TOOLS_READ} for a token that may only look.")
    ] = None,
) -> None:
    """Print an access token for one server, or for the hub's API.

    The token alone goes to stdout. It is good for that one resource and for 15 minutes at most, and whoever has it
    can act as you there.

    \b
    Example:
      pegboard token --server prod/presto --as ana
      curl -H "Authorization: Bearer $(pegboard token --server api --as ana)" http://localhost:8400/api/v1/whoami
    """
    name = None if server == API else server_name(server)
    from pegboard.cli.client import HubClient

    with HubClient(options) as hub:
        issued = hub.api_token(scope) if name is None else hub.server_token(name, scope)
    claims = issued.claims()
    if options.as_json:
        render.document({**issued.answer, "claims": claims})
    else:
        print(issued.value)
    minutes, seconds = divmod(int(issued.answer.get("expires_in", 0)), 60)
    channel = f" in {claims['channel']}" if claims.get("channel") else ""
    render.hint(
        f"Bound to {claims.get('aud')} for {claims.get('sub')} from {claims.get('surface')}{channel}; "
        f"valid for {minutes} min {seconds} s."
    )


def _login(options: Options) -> dict[str, Any] | None:
    """The login that was used; None with `--as`, which needs none."""
    if options.person is not None:
        return None
    from pegboard.cli.login.commands import describe
    from pegboard.cli.login.store import Store

    found = (store := Store(options.url)).read()
    return None if found is None else describe(found, store)


def _words(value: Any) -> str:
    words = ", ".join(str(each) for each in value) if isinstance(value, list) else str(value)
    return line(words) or "none"


_SHOWN = (
    ("person", "sub"),
    ("email", "email"),
    ("groups", "groups"),
    ("surface", "surface"),
    ("channel", "channel"),
    ("client", "client_id"),
    ("acts", "act"),
)
"""What `whoami` shows a person, and the API's names for it."""
