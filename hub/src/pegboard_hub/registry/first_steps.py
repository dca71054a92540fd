"""Commands for somebody who is new here: about servers that exist, as people of the directory who may use them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pegboard.core.access import ServerAccess, may_reach
from pegboard.core.caller import Caller
from pegboard.core.names import ServerName
from pegboard.core.scopes import SCOPE_TOOLS
from pegboard_hub.identity.directory import DemoDirectory
from pegboard_hub.registry.model import Access


class _Seat(NamedTuple):
    """Where a person can sit: on a surface, and for a bot in a channel."""

    client_id: str
    surface: str
    channel: str | None

    @property
    def options(self) -> str:
        """The command's options that choose it; none for the command line itself."""
        if self.surface == "cli":
            return ""
        return f" --surface {self.surface}" + (f" --channel {shlex.quote(self.channel)}" if self.channel else "")


def first_commands(servers: Mapping[ServerName, Access], directory: DemoDirectory) -> tuple[str, ...]:
    """Three commands (two where no server is there), without the program's name before them.

    Args:
        servers: those that can be called, with what was granted; servers of `prod` are shown first.
        directory: the people.
    """
    ordered = sorted(servers, key=lambda name: (name.namespace != "prod", name))
    if not directory.people:
        return ()
    somebody = next(iter(directory.people))
    for server in ordered:
        for seat in _seats(directory):
            inside, outside = _sorted_out(server, servers[server], seat, directory)
            if inside:
                return (
                    f"servers --as {inside[0]}{seat.options}",
                    f"tools {server} --as {inside[0]}{seat.options}",
                    f"explain --server {server} --as {(outside or inside)[-1]}{seat.options}",
                )
    about = f"explain --server {ordered[0]} --as {somebody}" if ordered else ""
    return tuple(filter(None, (f"whoami --as {somebody}", f"servers --as {somebody}", about)))


def _seats(directory: DemoDirectory) -> Iterator[_Seat]:
    for client_id, client in directory.clients.items():
        channels: Iterable[str | None] = client.channels or (None,)
        for channel in channels:
            yield _Seat(client_id, client.surface, channel)


def _sorted_out(
    server: ServerName, granted: Access, seat: _Seat, directory: DemoDirectory
) -> tuple[list[str], list[str]]:
    """Who may reach the server from this seat, and who may not."""
    access = ServerAccess(
        server=server,
        owner="",
        support_channel="",
        resource_url=str(server),
        groups=frozenset(granted.groups),
        surfaces=frozenset(granted.surfaces),
        channels=frozenset(granted.channels),
    )
    inside: list[str] = []
    outside: list[str] = []
    for sub, person in directory.people.items():
        caller = Caller(
            sub=sub,
            sub_type="person",
            groups=person.groups,
            surface=seat.surface,
            client_id=seat.client_id,
            audience=access.resource_url,
            expires_at=0,
            token_id="",
            scope=SCOPE_TOOLS,
            channel=seat.channel,
        )
        (inside if may_reach(caller, access) else outside).append(sub)
    return inside, outside
