"""The server's own bundle on disk: read, verified, and re-read when the hub replaces it."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pegboard.call.ports import Standing
from pegboard.core.access import ServerAccess
from pegboard.core.acknowledgement import Acknowledgement
from pegboard.core.bundle import WITHDRAWN_S, Bundle, open_bundle
from pegboard.core.errors import BundleRefused, StopsUnknown
from pegboard.core.jose import Verifier
from pegboard.core.names import ServerName
from pegboard.core.token import TokenVerifier

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 0.25
"""How often the file's change time is looked at, at most; one stat call, in seconds."""


class BundleFacts(NamedTuple):
    """Version, time of signature in seconds since the epoch, and the age in seconds that it may reach."""

    version: int
    issued_at: int
    max_age_s: int


class BundleFile:
    """The standing that follows from a bundle file. A bad replacement leaves the last good one in use.

    A copy of the one in use is kept where only this server writes. It makes versions monotonic over restarts: an old
    bundle put back while the server was down is refused, as the edge refuses it (`edge/standing.py`).
    """

    def __init__(self, path: Path, keys: Path, server: ServerName, public_url: str, accepted: Path) -> None:
        """Look at nothing yet.

        Args:
            path: what the hub writes.
            keys: the public JWKS that bundles verify with.
            server: whose bundle it is.
            public_url: the edge's origin; a bundle of another issuer is refused.
            accepted: where the copy is kept; in a folder that this process may write.
        """
        self._path = path
        self._accepted = accepted
        self._resumed = False
        self._keys = keys
        self._server = server
        self._public_url = public_url
        self._bundle: Bundle | None = None
        self._standing: Standing | None = None
        self._used: Acknowledgement | None = None
        self._seen: tuple[int, int] | None = None
        self._keys_seen: tuple[int, int] | None = None
        self._withdrawn_at: float | None = None
        self._look_at = 0.0
        self._missing = False

    def facts(self) -> BundleFacts:
        """What of the bundle in use an operator watches; zeros before the first. Nobody need have called for it."""
        self._look_when_due()
        bundle = self._bundle
        return BundleFacts(bundle.version, bundle.issued_at, bundle.max_age_s) if bundle else BundleFacts(0, 0, 0)

    def current(self, now: float) -> Standing:
        """The standing at `now`, in seconds since the epoch.

        Raises:
            BundleRefused: there is none, or the last good one is too old.
            StopsUnknown: it is only too old to rule out a stop, and this server is sensitive.
        """
        self._look_when_due()
        if self._standing is None or self._bundle is None:
            raise BundleRefused("no bundle has verified yet")
        if self._withdrawn_at is not None and time.monotonic() - self._withdrawn_at > WITHDRAWN_S:
            raise BundleRefused("the key that signed it was withdrawn, and the hub has not signed it anew")
        age = f"it was last renewed {int(now - self._bundle.issued_at)} s ago"
        if self._bundle.too_old(now):
            raise BundleRefused(age)
        if self._standing.access.sensitive and self._bundle.stops_too_old(now):
            raise StopsUnknown(f"{age}, and a stop may have been missed since")
        return self._standing

    def look(self) -> Acknowledgement | None:
        """Look at the file, as a call does, and say what is in use then; None before the first good bundle."""
        self._look()
        return self._used

    def _look_when_due(self) -> None:
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_AGAIN_S
            self._look()

    def _look(self) -> None:
        self._look_at_keys()
        self._resume()
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            if not self._missing:  # as before the hub has written a new server's first one
                logger.info("there is no bundle yet; every call is refused until the hub has written one")
            self._missing = True
            return
        except OSError as error:
            logger.warning("bundle cannot be read: %s", error.strerror)
            return
        self._missing = False
        if (seen := (stat.st_mtime_ns, stat.st_ino)) == self._seen:
            return
        self._seen = seen
        try:
            self._take(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError, BundleRefused) as error:
            logger.error("a replaced bundle is not used: %s", error)

    def _look_at_keys(self) -> None:
        """Note whether the key that signed the bundle in use is published still, whenever the keys were replaced."""
        try:
            stat = self._keys.stat()
            if (seen := (stat.st_mtime_ns, stat.st_ino)) == self._keys_seen:
                return
            kids = Verifier(json.loads(self._keys.read_text(encoding="utf-8"))).kids
        except (OSError, ValueError, KeyError, TypeError):
            return  # a bundle that is replaced meanwhile is not taken either
        self._keys_seen = seen
        self._seen = None  # what these keys have signed may be there already
        if self._used is None or self._used.signed_by in kids:
            self._withdrawn_at = None
        elif self._withdrawn_at is None:
            self._withdrawn_at = time.monotonic()

    def _resume(self) -> None:
        """Begin with the bundle that was in use when this server last ran."""
        if self._resumed or not self._accepted.exists():
            return
        try:
            self._take(self._accepted.read_text(encoding="utf-8"))
        except BundleRefused as error:
            # Keys or public URL are others now, or it is torn: the hub's file must verify by itself.
            logger.warning("the bundle kept from the last run is not used: %s", error)
        except (OSError, ValueError) as error:
            logger.warning("the bundle kept from the last run cannot be read yet: %s", type(error).__name__)
            return
        self._resumed = True

    def _take(self, text: str) -> None:
        verifier = Verifier(json.loads(self._keys.read_text(encoding="utf-8")))
        # Who has a key that leaked could sign any version, and must not keep the hub's own out by it.
        known = self._bundle if self._used and self._used.signed_by in verifier.kids else None
        at_least = known.version if known else 0
        bundle = open_bundle(text, verifier, str(self._server), at_least)
        if bundle.issuer != self._public_url:
            raise BundleRefused(f"it is for {bundle.issuer}, and this server runs at {self._public_url}")
        if known and bundle.version == at_least and bundle.issued_at < known.issued_at:
            raise BundleRefused("it was signed before the one in use")
        own = next((each for each in bundle.servers if each.server == str(self._server)), None)
        if own is None:
            raise BundleRefused("it does not name this server")
        access = own.access(self._public_url, bundle.stops, bundle.rules)
        current, self._bundle = known, bundle
        self._withdrawn_at = None
        self._used = Acknowledgement.of(text, bundle, verifier)
        self._keep(text)
        if self._standing and current and current.version == bundle.version:
            return  # renewed only: what was verified with it stays verified
        standing = _standing_of(bundle, access, self._standing, current)
        self._standing = replace(standing, notice=own.notice)

    def _keep(self, text: str) -> None:
        """Keep the copy. Without it this run goes on: only the next start could be shown an old bundle."""
        temporary = self._accepted.with_suffix(".new")
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self._accepted)
        except OSError as error:
            logger.error("the bundle in use cannot be kept for the next start: %s", error.strerror)


def _standing_of(bundle: Bundle, access: ServerAccess, before: Standing | None, last: Bundle | None) -> Standing:
    """What follows from a bundle. What the change does not touch stays: verified tokens, remembered decisions.

    A sign-out anywhere in the company makes a new bundle, and must not cost every server its memory.
    """
    if before is None or last is None:
        tokens = TokenVerifier(bundle.jwks, bundle.issuer, access.resource_url)
        return Standing(access, tokens, bundle.version, bundle.revoked)
    same_keys = bundle.jwks == last.jwks
    tokens = before.tokens if same_keys else TokenVerifier(bundle.jwks, bundle.issuer, access.resource_url)
    version = before.version if access == before.access else bundle.version
    return Standing(access, tokens, version, bundle.revoked)
