"""The server's own bundle on disk: read, verified, and re-read when the hub replaces it."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

from pegboard.call.ports import Standing
from pegboard.core.bundle import Bundle, open_bundle
from pegboard.core.errors import BundleRefused
from pegboard.core.jose import Verifier
from pegboard.core.names import ServerName
from pegboard.core.token import TokenVerifier

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 0.25
"""How often the file's change time is looked at, at most; one stat call, in seconds."""


class BundleFile:
    """The standing that follows from a bundle file. A bad replacement leaves the last good one in use."""

    def __init__(self, path: Path, keys: Path, server: ServerName, public_url: str) -> None:
        self._path = path
        self._keys = keys
        self._server = server
        self._public_url = public_url
        self._bundle: Bundle | None = None
        self._standing: Standing | None = None
        self._seen: tuple[int, int] | None = None
        self._look_at = 0.0

    def current(self, now: float) -> Standing:
        """The standing at `now`, in seconds since the epoch.

        Raises:
            BundleRefused: there is none, or the last good one is too old.
        """
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_AGAIN_S
            self._look()
        if self._standing is None or self._bundle is None:
            raise BundleRefused("no bundle has verified yet")
        if self._bundle.too_old(now):
            raise BundleRefused(f"it was last renewed {int(now - self._bundle.issued_at)} s ago")
        return self._standing

    def _look(self) -> None:
        try:
            stat = self._path.stat()
        except OSError as error:
            logger.warning("bundle cannot be read: %s", error.strerror)
            return
        if (seen := (stat.st_mtime_ns, stat.st_ino)) == self._seen:
            return
        self._seen = seen
        try:
            self._take(self._path.read_text(encoding="utf-8"))
        except (OSError, BundleRefused) as error:
            logger.error("a replaced bundle is not used: %s", error)

    def _take(self, text: str) -> None:
        verifier = Verifier(json.loads(self._keys.read_text(encoding="utf-8")))
        at_least = self._bundle.version if self._bundle else 0
        bundle = open_bundle(text, verifier, str(self._server), at_least)
        if bundle.issuer != self._public_url:
            raise BundleRefused(f"it is for {bundle.issuer}, and this server runs at {self._public_url}")
        access = next((s.access(self._public_url) for s in bundle.servers if s.server == str(self._server)), None)
        if access is None:
            raise BundleRefused("it does not name this server")
        if self._standing and self._bundle and self._bundle.version == bundle.version:
            self._bundle = bundle  # renewed only: what was verified with it stays verified
            return
        self._bundle = bundle
        tokens = TokenVerifier(bundle.jwks, bundle.issuer, access.resource_url)
        self._standing = Standing(access, tokens, bundle.version)
