"""Where a replica of a server answers, as one text: `unix:PATH`, or `SPIFFE-ID@HOST:PORT`.

| form                         | what it is                                                                       |
|------------------------------|----------------------------------------------------------------------------------|
| `unix:s/prod.presto/a-1.sock`| a socket of this machine; the path goes on from the instance's run folder        |
| `spiffe://acme/…@10.2.3.4:80`| a port, perhaps of another machine, and who must answer there (TLS, both ways)   |

No `@` can stand in a SPIFFE ID. A port without one is no address: nothing is sent to somebody who did not prove who
they are.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pegboard.core.spiffe import is_spiffe_id

UNIX = "unix:"

_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_PATH = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
_PLACE = re.compile(rf"(?P<host>{_NAME}|\[[0-9A-Fa-f:.]{{2,45}}\]):(?P<port>[1-9][0-9]{{0,4}})")

MOST_PORT = 65_535


class Address(NamedTuple):
    """Where something answers: at `path`, or at `host` and `port`.

    Attributes:
        host: name or address of a machine, an IPv6 address without brackets; empty for a socket.
        port: TCP port; 0 for a socket.
        spiffe_id: who must answer there; empty for a socket, which only its own server may open.
        path: of a Unix socket, from the run folder on; empty for a port.
    """

    host: str = ""
    port: int = 0
    spiffe_id: str = ""
    path: str = ""


def parse(text: str) -> Address:
    """Read an address.

    A path stays below where it begins: none of its parts begins with a dot.

    Raises:
        ValueError: it is none, and why.
    """
    if text.startswith(UNIX):
        path = text.removeprefix(UNIX)
        if not _PATH.fullmatch(path):
            raise ValueError(f"{text!r} is no path below the run folder, as unix:s/prod.presto/1.sock is")
        return Address(path=path)
    spiffe_id, at, place = text.rpartition("@")
    if not at:
        raise ValueError(f"{text!r} does not say who must answer there, as spiffe://acme.com/presto@host:8443 does")
    if not is_spiffe_id(spiffe_id):
        raise ValueError(f"{spiffe_id!r} is no SPIFFE ID")
    found = _PLACE.fullmatch(place)
    if found is None or int(found["port"]) > MOST_PORT:
        raise ValueError(f"{place!r} is no host and port")
    return Address(found["host"].strip("[]"), int(found["port"]), spiffe_id)
