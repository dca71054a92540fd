"""`login` and `logout`."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pegboard.cli import render
from pegboard.cli.exit import Failure
from pegboard.cli.options import Options, with_own_options
from pegboard.cli.text import line

if TYPE_CHECKING:
    from pegboard.cli.login.store import Login, Store


@with_own_options
def login(
    options: Options,
    device: Annotated[
        bool,
        typer.Option(
            "--device",
            "--no-browser",
            help="Show a code to type into a browser elsewhere. So it is anyway over SSH or without a display.",
        ),
    ] = False,
) -> None:
    """Sign in with your company account, once for every server.

    Opens your browser, or shows a code to type into one. The login is kept in the system's keyring where there is
    one, else in a file that only you can read, and renewed as it is used.

    \b
    Example:
      pegboard login
      pegboard login --url https://pegboard.example.com
      pegboard login --device
    """
    _refuse_as(options, "login")
    from pegboard.cli.login import browser, server
    from pegboard.cli.login import device as code
    from pegboard.cli.login.store import Store, system_keyring

    store = Store(options.url)
    with server.connection(options.url) as http:
        instance = server.AuthorizationServer(options.url, http)
        metadata = instance.discover()
        with store.alone():
            pass  # whether a login can be kept at all is known before somebody signs in for nothing
        if device or not browser.has_browser(os.environ):
            signed_in = code.sign_in(instance, metadata)
        else:
            signed_in = browser.sign_in(instance, metadata)
        with store.alone():
            before = _kept(store)
            trouble = store.write(signed_in, system_keyring())
        if before is not None:
            # It is of no use any more; on the page of sessions it would stand beside the new one.
            with suppress(Failure):
                instance.revoke(before.revocation_endpoint, before.refresh_token)
    if options.as_json:
        render.document(describe(signed_in, store))
    else:
        render.text(line(f"Signed in to {signed_in.url} as {signed_in.person}."))
    _say_where(store, trouble)


@with_own_options
def logout(
    options: Options,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Say as well how to sign out of your other devices and programs.")
    ] = False,
) -> None:
    """Sign this command out: what it was given is given back, and forgotten here.

    \b
    Example:
      pegboard logout
    """
    _refuse_as(options, "logout")
    from pegboard.cli.login import server
    from pegboard.cli.login.store import Store

    store, given_back, trouble = Store(options.url), False, ""
    before = store.read()
    if before is not None:
        with store.alone():
            before = store.read() or before
            try:
                with server.connection(options.url) as http:
                    instance = server.AuthorizationServer(options.url, http)
                    instance.revoke(before.revocation_endpoint, before.refresh_token)
                given_back = True
            except Failure as error:
                trouble = line(error)
            store.forget()
    sessions = f"{options.url}/sessions"
    if options.as_json:
        document = {"url": options.url, "signed_out": before is not None, "revoked": given_back, "sessions": sessions}
        render.document(document)
    elif before is None:
        render.text(f"Nobody was signed in to {options.url} here.")
    else:
        render.text(line(f"Signed out of {options.url}; {before.person} was signed in here."))
    if trouble:
        render.hint(f"It is forgotten here, but was not given back: {trouble}\nEnd it there: {sessions}")
    elif everywhere:
        render.hint(f"Your browser, your other devices and programs: {sessions} shows each, and ends it.")


def describe(signed_in: Login, store: Store) -> dict[str, Any]:
    """A login for programs; no secret is in it."""
    return {
        "url": signed_in.url,
        "sub": signed_in.sub,
        "session": signed_in.sid,
        "since": moment(signed_in.since),
        "kept_in": store.kept_in,
        "file": str(store.path),
    }


def moment(seconds: float) -> str:
    """A time in seconds since the epoch, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _kept(store: Store) -> Login | None:
    """The login before, where there is one that can be used to end it."""
    try:
        found = store.read()
    except Failure:
        return None
    return found if found is not None and found.revocation_endpoint else None


def _say_where(store: Store, trouble: str) -> None:
    if store.kept_in == "keyring":
        render.hint("The login is kept in the system's keyring.")
        return
    if trouble:
        render.hint(trouble)
    render.hint(
        f"Warning: the login is kept in the file {store.path}, unencrypted, because no keyring of the system "
        "can be used. Only you can read it; whoever can has what you have. pegboard logout ends it."
    )


def _refuse_as(options: Options, command: str) -> None:
    if options.person is not None:
        raise Failure.usage(f"--as means nothing to {command}.", "Leave it out: the person who signs in is you.")
