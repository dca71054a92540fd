"""Signing in where there is no browser: a code to type into one that is elsewhere (RFC 8628)."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from pegboard.cli import render
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.http import not_pegboard
from pegboard.cli.login import server
from pegboard.cli.login.browser import denied
from pegboard.cli.login.store import Login
from pegboard.core.names import api_audience

DEFAULT_INTERVAL_S = 5
SLOW_DOWN_S = 5
"""RFC 8628 §3.2 and §3.5."""

LONGEST_INTERVAL_S = 60
LONGEST_S = 1800


def sign_in(instance: server.AuthorizationServer, metadata: server.Metadata) -> Login:
    """Show a code, and ask until somebody has typed it and said yes.

    Raises:
        Failure: denied, or nobody did in time.
    """
    if not metadata.device:
        said = f"{metadata.issuer} offers no sign-in by code."
        raise Failure.here(ExitStatus.UNREACHABLE, "no_device_sign_in", said, "Sign in where there is a browser.")
    resource = api_audience(metadata.issuer)
    try:
        asked = instance.post(metadata.device, {"resource": resource})
    except server.OAuthError as error:
        raise denied(error.code, error.description) from error
    code, shown, page, lifetime = _read(asked, metadata)
    render.hint(f"On any device with a browser open\n\n  {page}\n\nand type the code\n\n  {shown}\n")
    return _poll(instance, metadata, code, lifetime, _seconds(asked.get("interval"), DEFAULT_INTERVAL_S))


def _poll(
    instance: server.AuthorizationServer,
    metadata: server.Metadata,
    code: str,
    lifetime_s: int,
    interval_s: int,
) -> Login:
    form = {"grant_type": server.DEVICE_GRANT, "device_code": code, "resource": api_audience(metadata.issuer)}
    until = time.monotonic() + lifetime_s
    with _Progress(until) as progress:
        while time.monotonic() < until:
            progress.wait(interval_s)
            asked_at = server.now()
            try:
                return instance.login(metadata, asked_at, instance.post(metadata.token, form))
            except server.OAuthError as error:
                if error.code == "slow_down":
                    interval_s += SLOW_DOWN_S
                elif error.code == "expired_token":
                    break
                elif error.code != "authorization_pending":
                    raise denied(error.code, error.description) from error
            except Failure as failure:
                if failure.status is not ExitStatus.UNREACHABLE or failure.error["code"] == "not_pegboard":
                    raise
                # §3.5: a connection that broke is tried again, less often.
                interval_s = min(interval_s * 2, LONGEST_INTERVAL_S)
    said = "The code is no longer good: nobody typed it and said yes in time."
    raise Failure.here(ExitStatus.UNREACHABLE, "not_signed_in", said, "Get a new one: pegboard login --device")


def _read(asked: Mapping[str, Any], metadata: server.Metadata) -> tuple[str, str, str, int]:
    """Device code, user code, page and lifetime, of a device authorization response (§3.2)."""
    code, shown, page = (asked.get(name) for name in ("device_code", "user_code", "verification_uri"))
    if not all(isinstance(text, str) and text for text in (code, shown, page)):
        raise not_pegboard(metadata.issuer)
    if not str(page).startswith(f"{metadata.issuer}/"):
        said = f"{metadata.issuer} sends you to a page that is not its own."
        raise Failure.here(ExitStatus.UNREACHABLE, "wrong_endpoint", said, "Tell the platform team.")
    return str(code), str(shown), str(page), min(_seconds(asked.get("expires_in"), LONGEST_S), LONGEST_S)


def _seconds(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default


class _Progress:
    """How long the code is still good, on one line of a terminal; nothing where there is none."""

    def __init__(self, until: float) -> None:
        self._until = until
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass, counting down."""
        for part in [1.0] * int(seconds) + [seconds % 1]:
            if self._shown:
                left = max(0, int(self._until - time.monotonic()))
                sys.stderr.write(f"\r\x1b[KWaiting for you; the code is good for {left // 60}:{left % 60:02d}.")
                sys.stderr.flush()
            time.sleep(part)
