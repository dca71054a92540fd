"""Carries what one server is granted to reach out of its sandbox, and nothing else.

Run as `python -I -S relay.py SETTINGS`, outside the sandbox; needs the standard library alone, and imports nothing of
Pegboard. The server has a network of its own with nothing in it but listeners, one for each `host:port` that it was
granted. `launch.py` makes them inside before the author's code runs, and hands them over to this process, which
accepts here what is connected to there. So there is no word that the server could say: which listener it connects to
is all that is asked. Names are looked up here, and where they lead is looked at, at each connection.

| descriptor | is                                                                |
|------------|-------------------------------------------------------------------|
| 3          | a socket that the listeners come by, in the order of the settings |
| 4          | the sandbox's process (pidfd_open(2)): it ends, and so does this  |
"""

import asyncio
import ctypes
import ipaddress
import json
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

HANDED = 3
SANDBOX = 4

HAND_OVER_S = 60.0
"""Until when the sandbox has handed its listeners over, in seconds."""

CONNECT_S = 10.0
AT_ONCE = 256
"""Connections of one server."""

PIECE = 64 * 1024
OPEN_FILES = 2 * AT_ONCE + 256
MEMORY = 512 * 1024 * 1024
SAID_S = 60.0
"""Seconds for which the same trouble is not said again."""

PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NEVER = [ipaddress.ip_network(each) for each in ("127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10")]
"""This machine, and where clouds keep its credentials: no name leads there."""

_EMBEDDED = ipaddress.ip_network("64:ff9b::/96")


class Place(NamedTuple):
    """A `host:port` that is granted."""

    host: str
    port: int

    @property
    def literal(self) -> Address | None:
        """The address, where it is granted as one and not by a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def may_lead(place: Place, address: Address, networks: list[Network]) -> bool:
    """Whether a connection to `place` may go to `address`.

    What is written as an address leads there and nowhere else. A name leads to what is public, and to `networks`;
    `localhost` to this machine, which it says. Ways of writing an address of version 4 in one of version 6 count as
    that address.
    """
    if place.literal is not None:
        return address == place.literal
    address = _plain(address)
    if place.host == "localhost":
        return address.is_loopback
    if address.is_unspecified or address.is_multicast or any(address in each for each in _NEVER):
        return False
    return address.is_global or any(address in each for each in networks)


def _plain(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address):
        if address in _EMBEDDED:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


class Relay:
    """Every connection of one server to what it was granted.

    Args:
        networks: of addresses inside that names may lead to.
        whose: fields of every line that is logged.
    """

    def __init__(self, networks: list[Network], whose: dict[str, str]) -> None:
        self._networks = networks
        self._whose = whose
        self._open = 0
        self._said: dict[str, float] = {}

    async def carry(self, place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end, and what is said both ways."""
        if self._open >= AT_ONCE:
            self._say(f"egress: {AT_ONCE} connections are open at once, and no more are made: close those not needed")
            writer.transport.abort()
            return
        self._open += 1
        try:
            out = await self._connected(place)
            if out is None:
                return
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(reader, out[1]))
                    both.create_task(_pump(out[0], writer))
            finally:
                out[1].transport.abort()
        except* (OSError, asyncio.IncompleteReadError):
            pass  # one side is gone, which the other is told below
        finally:
            self._open -= 1
            writer.transport.abort()

    async def _connected(self, place: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection to where the place leads now; None where there is none, which is logged with what to do."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                found = await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError) as error:
            self._say(f"egress to {place} fails: the name cannot be looked up ({_words(error)})")
            return None
        addresses = list(dict.fromkeys(_addresses(found)))
        allowed = [each for each in addresses if may_lead(place, each, self._networks)]
        if not allowed:
            self._say(
                f"egress to {place} is refused: the name leads to {', '.join(map(str, addresses[:4]))}, an address "
                "inside. Write the address itself under egress in pegboard.toml and have that granted, or ask the "
                "platform team to name its network in PEGBOARD_EGRESS_NETWORKS"
            )
            return None
        last: Exception | None = None
        for address in allowed[:4]:
            try:
                async with asyncio.timeout(CONNECT_S):
                    return await asyncio.open_connection(str(address), place.port)
            except (OSError, TimeoutError) as error:
                last = error
        self._say(f"egress to {place} fails: cannot connect to {allowed[0]} ({_words(last)})")
        return None

    def _say(self, message: str) -> None:
        """Log a line as the kit does, into the server's own log; the same not again for a while."""
        now = time.monotonic()
        if now - self._said.get(message, -SAID_S) < SAID_S:
            return
        self._said = {text: at for text, at in self._said.items() if now - at < SAID_S} | {message: now}
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": "warning", "logger": "pegboard.egress", "message": message, **self._whose}
        with suppress(OSError):
            os.write(2, json.dumps(line).encode() + b"\n")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(PIECE):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _addresses(found: list[Any]) -> Iterator[Address]:
    for *_, place in found:
        with suppress(ValueError):
            yield ipaddress.ip_address(str(place[0]).partition("%")[0])


def _words(error: Exception | None) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:.0f} s"
    return str(getattr(error, "strerror", None) or error)


def _received(count: int) -> list[socket.socket]:
    """The listeners, once the sandbox has handed them over; none where it ended before."""
    handed, found = socket.socket(fileno=HANDED), []
    for _ in range(count):
        there, _, _ = select.select([HANDED, SANDBOX], [], [], HAND_OVER_S)
        if HANDED not in there:
            return []
        _, descriptors, _, _ = socket.recv_fds(handed, 1, 1)
        if not descriptors:
            return []
        found.append(socket.socket(fileno=descriptors[0]))
    handed.close()
    return found


def _give_up(uid: int | None, gid: int | None) -> None:
    """Keep no right that carrying does not need."""
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    if uid is not None and gid is not None:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot give up rights")


async def _run(settings: dict[str, Any], listeners: list[socket.socket]) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(SANDBOX, ended.set)
    relay = Relay([ipaddress.ip_network(each) for each in settings["networks"]], settings["whose"])
    for (host, port), listener in zip(settings["places"], listeners, strict=True):
        await asyncio.start_server(partial(relay.carry, Place(host, port)), sock=listener, limit=PIECE)
    await ended.wait()


async def _know_how() -> None:
    """Load what looking names up needs while it can be read: the user that carries may not see Python's files."""
    with suppress(OSError):
        await asyncio.get_running_loop().getaddrinfo("localhost", 1)


def main() -> None:
    """Carry until the sandbox ends."""
    settings = json.loads(sys.argv[1])
    asyncio.run(_know_how())
    _give_up(settings["uid"], settings["gid"])
    listeners = _received(len(settings["places"]))
    if len(listeners) == len(settings["places"]):
        asyncio.run(_run(settings, listeners))


if __name__ == "__main__":
    main()
