"""Keys that sign no tokens and no bundles: the one that seals what is kept of sign-ins, and the development CA's."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
from contextlib import suppress
from pathlib import Path

from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.home import Home, locked, replace_file
from pegboard_hub.common.noted import noted
from pegboard_hub.identity.sealing import KEY_BYTES, read_sealing_key
from pegboard_hub.services.authority import TRUST_DOMAIN, Authority


def replace_sealing_key(home: Home) -> str:
    """Put another sealing key in the place of the one that leaked; gives the old one's digest.

    What the old one sealed cannot be opened any more, so people sign in again where the login must be asked.

    Raises:
        ConfigurationError: there is none, or it cannot be used.
        OSError: it cannot be written; the old one is in use still.
    """
    if not home.sealing_key.exists():
        raise ConfigurationError(str(home.sealing_key), ["is not there, so there is nothing to give up"])
    with locked(home.keys):
        old = read_sealing_key(home.sealing_key)
        replace_file(home.sealing_key, secrets.token_hex(KEY_BYTES) + "\n", mode=0o600, sync=True)
    return hashlib.sha256(old).hexdigest()[:32]


def restart_hubs(home: Home) -> list[str]:
    """Have every hub that runs end, so that the supervisor starts it with the new key; gives their names."""
    found = []
    with suppress(OSError, ValueError, KeyError):
        for process in json.loads(home.status.read_text(encoding="utf-8"))["processes"]:
            if process["name"].split("-")[0] == "hub" and process.get("pid") and _is_hub(int(process["pid"]), home):
                os.kill(int(process["pid"]), signal.SIGTERM)
                found.append(str(process["name"]))
    return found


def _is_hub(pid: int, home: Home) -> bool:
    """A status file may be of a run that ended, and its numbers may be others' by now."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"pegboard_hub.main" in words and os.fsencode(home.root) in words


def replace_authority(home: Home) -> tuple[str, ...]:
    """Put another development CA in the place of the one that leaked; gives the old ones' names.

    Raises:
        ConfigurationError: this instance has none.
        OSError: it cannot be written.
    """
    if not any(home.services.glob("*.pem")):
        mend = "an operator's SPIRE has its own: see its documentation on rotating or tainting an authority"
        raise ConfigurationError(str(home.services), ["has no development CA", mend])
    services = noted(home).get("services")
    domains = services.get("trust_domains") if isinstance(services, dict) else None
    return Authority(home.services, domains[0] if domains else TRUST_DOMAIN).give_up()
