"""What a client's redirects say of it: where it runs, and so which surface its calls count as.

The hub decides by it, and the table of clients (`client_configs`) tells by it what the hub will decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LOOPBACK = re.compile(
    r"http://(?P<host>127\.0\.0\.1|localhost|\[::1\])(?::(?P<port>[1-9][0-9]{0,4}))?(?P<rest>[/?].*)?"
)
"""A redirect to a program that listens on the person's own machine (RFC 8252 §7.3, §8.3)."""


def is_loopback_redirect(uri: str) -> bool:
    """Whether the answer goes to a program that listens on the person's own machine."""
    return LOOPBACK.fullmatch(uri) is not None


def surface_of(redirect_uris: Iterable[str]) -> str:
    """The surface class of a client that nobody registered: `cli` where all its answers go to a program that listens
    on the person's machine, `ide` otherwise."""
    return "cli" if all(is_loopback_redirect(uri) for uri in redirect_uris) else "ide"
