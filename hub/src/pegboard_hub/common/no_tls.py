"""Asking at sockets of this machine, where nothing speaks TLS."""

from __future__ import annotations

import ssl

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A client's `verify` for a Unix socket: it believes nobody's certificate.

The default reads all of the system's authorities each time, which takes ten times as long as a probe's whole answer.
"""
