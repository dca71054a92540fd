"""Keeping Envoy's access log small, without losing a line that the ledger has not seen."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pegboard_hub.common.rotation import KEPT, make_room, prune
from pegboard_hub.edge.accesslog import AccessLog
from pegboard_hub.edge.admin import EnvoyAdmin

LARGEST_BYTES = 32 * 1024 * 1024
"""The access log is rotated when it is larger."""


class AccessLogRotation:
    """Moves a log that became large aside, and has Envoy begin another.

    Old parts are deleted once they are more than are kept *and* were dealt with: while the hub is away they pile up.

    Args:
        path: the access log.
        log: its reader, which knows what was dealt with.
        admin: of the Envoy that writes it.
        largest: bytes, `LARGEST_BYTES` unless told.
        kept: how many old parts stay.
    """

    def __init__(
        self, path: Path, log: AccessLog, admin: EnvoyAdmin, largest: int = LARGEST_BYTES, kept: int = KEPT
    ) -> None:
        self._path = path
        self._log = log
        self._admin = admin
        self._largest = largest
        self._kept = kept
        self._to_reopen = False

    async def look(self) -> None:
        """Rotate once if it is time.

        Raises:
            OSError: a file cannot be made, moved or deleted.
        """
        if not self._to_reopen and self._path.exists() and self._path.stat().st_size > self._largest:
            self._begin_another()
            self._to_reopen = True
        if self._to_reopen:
            # Asked until it says yes: an Envoy that is just starting may have opened the old file.
            self._to_reopen = not await self._admin.reopen_logs()
            prune(self._path, self._kept, self._log.needed())

    def _begin_another(self) -> None:
        """The new file is made first: Envoy's own user may not create one, and a full disk must change nothing."""
        before = self._path.stat()
        handle, name = tempfile.mkstemp(prefix=".new-access-log.", dir=self._path.parent)
        try:
            os.fchmod(handle, before.st_mode & 0o777)
            os.fchown(handle, before.st_uid, before.st_gid)
            self._path.rename(make_room(self._path))
            Path(name).rename(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
