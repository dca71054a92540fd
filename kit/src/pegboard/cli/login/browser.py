"""Signing in through a browser on this machine: authorization code with PKCE (RFC 6749 §4.1, 7636, 8252, 9207)."""

from __future__ import annotations

import base64
import secrets
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from urllib.parse import urlencode

from pegboard.cli import render
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.login import server
from pegboard.cli.login.listener import Listener, Page
from pegboard.cli.login.store import Login
from pegboard.cli.text import line
from pegboard.core.names import api_audience

PATIENCE_S = 300.0
"""How long a person may take in the browser."""

CLOSE = "You may close this page and go back to your terminal."
FAILED = Page("Not signed in", f"Your terminal says why. {CLOSE}", 400)


def has_browser(variables: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a browser that is opened here would be seen by whoever sits at this terminal."""
    if variables.get("BROWSER"):
        return True
    if variables.get("SSH_CONNECTION") or variables.get("SSH_TTY"):
        return False
    return platform in ("darwin", "win32") or bool(variables.get("DISPLAY") or variables.get("WAYLAND_DISPLAY"))


def sign_in(instance: server.AuthorizationServer, metadata: server.Metadata, patience_s: float = PATIENCE_S) -> Login:
    """Open the browser, wait for its answer, and exchange the code in it.

    Raises:
        Failure: no answer in time, denied, or an answer of somebody else's.
    """
    verifier = secrets.token_urlsafe(48)
    with _listener() as listener:
        url = _request(metadata, listener, verifier)
        render.hint(f"Sign in with your browser. If it does not open, open this yourself:\n\n  {url}\n")
        open_page(url)
        answer = listener.wait(patience_s)
        if answer is None:
            said = f"Nobody signed in within {patience_s / 60:.0f} minutes."
            mend = "Run it again; where the browser is elsewhere: pegboard login --device"
            raise Failure.here(ExitStatus.UNREACHABLE, "not_signed_in", said, mend)
        try:
            login = _exchange(instance, metadata, answer.parameters, listener.redirect_uri, verifier)
        except BaseException:
            answer.reply(FAILED)
            raise
        answer.reply(
            Page(f"You are signed in as {login.person}", f"{login.url} is connected to your terminal. {CLOSE}")
        )
        return login


def _listener() -> Listener:
    try:
        return Listener()
    except OSError as error:
        said = f"No port can be had on this machine for the browser's answer: {error.strerror}."
        raise Failure.here(ExitStatus.FAILED, "no_port", said, "Sign in by code: pegboard login --device") from error


def _request(metadata: server.Metadata, listener: Listener, verifier: str) -> str:
    challenge = base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": server.CLIENT_ID,
        "redirect_uri": listener.redirect_uri,
        "resource": api_audience(metadata.issuer),
        "state": listener.state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    return f"{metadata.authorization}?{urlencode(query)}"


def _exchange(
    instance: server.AuthorizationServer,
    metadata: server.Metadata,
    answer: Mapping[str, str],
    redirect_uri: str,
    verifier: str,
) -> Login:
    """The login that the browser's answer stands for."""
    if answer.get("iss") != metadata.issuer:  # RFC 9207 §2.4: else another server's code could come in between
        said = f"The browser's answer is not from {metadata.issuer}, so nobody is signed in."
        raise Failure.here(ExitStatus.DENIED, "wrong_issuer", said, "Tell the platform team.")
    if "error" in answer:
        raise denied(answer["error"], answer.get("error_description", ""))
    if not answer.get("code"):
        raise denied("no_code", "the browser's answer has no code")
    form = {
        "grant_type": "authorization_code",
        "code": answer["code"],
        "redirect_uri": redirect_uri,
        "code_verifier": verifier,
        "resource": api_audience(metadata.issuer),
    }
    asked_at = server.now()
    try:
        return instance.login(metadata, asked_at, instance.post(metadata.token, form))
    except server.OAuthError as error:
        raise denied(error.code, error.description) from error


def denied(code: str, description: str) -> Failure:
    """The failure for an error that signing in ended with."""
    said = line(description)[:300] or f"the instance answered {line(code)[:60]}"
    message = "You said no." if code == "access_denied" else f"Not signed in: {said}"
    return Failure.here(ExitStatus.DENIED, line(code)[:60], message, "Try again: pegboard login")


def open_page(url: str) -> threading.Thread:
    """Open the browser, in a process of its own: some write to the terminal, and some stay until they are closed.

    Gives the thread that waits for it, for a command that would otherwise end before it has begun.
    """
    command = [sys.executable, "-m", "webbrowser", url]

    def run() -> None:
        with suppress(OSError):
            subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True, check=False
            )

    opening = threading.Thread(target=run, daemon=True)
    opening.start()
    return opening
