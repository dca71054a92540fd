"""Loopback ports for processes that must be told theirs before they start."""

from __future__ import annotations

import itertools
import os
import socket

FIRST, LAST = 10_240, 32_767
"""Below those that kernels choose themselves: nothing that starts meanwhile is given one that is promised already."""

_next = itertools.count(os.getpid() * 251)
"""No port twice, and each test worker's are far from the next one's."""


def free_port() -> int:
    """A port that nobody holds, and that nobody else gets while the process that is told it comes up."""
    return next(port for number in _next if _is_free(port := FIRST + number % (LAST - FIRST)))


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
