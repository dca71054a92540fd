"""A submitted server against the network: it reaches what it was granted, by whatever it speaks, and nothing else."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pegboard.core.names import ServerName
from pegboard_hub.publishing.orders import DesiredRelease, LogQuestion
from tests.hub.machine_rig import MachineRig, Releases, commands, machine, until
from tests.hub.runtime_suite import ONE, TWO, desired, ready
from tests.hub.runtime_suite import until as observed

pytestmark = pytest.mark.anyio

METADATA = "169.254.169.254"
SPELLED = ("127.1", "2130706433", "0x7f.1", "0177.0.0.1")
"""Names, as far as anybody can see, that lead to this machine: what a resolver could say of a granted name."""

NAMED_INSIDE = "169.254.0.0/16 127.0.0.0/8 10.0.0.0/8"
"""Networks that the operator lets names lead to: of the first two that counts for nothing."""

CLOSED = ("ConnectionResetError", "")


@dataclass
class Stage:
    """Two servers that were granted something each, and what listens on this machine."""

    rig: MachineRig
    releases: dict[str, DesiredRelease]
    granted: int
    beside: int
    echo: int

    async def ask(self, expression: str, server: str = ONE) -> Any:
        """What `expression` gives inside a server."""
        found = ready(await self.rig.runtime.observed(), self.releases[server])
        return await self.rig.ask(found[0].address, expression)

    async def said(self, host: str, port: int) -> Any:
        """What the first server hears of whoever listens at a place, as it sees the network."""
        return await self.ask(f"socket.create_connection(({host!r}, {port}), 5).recv(99).decode()")

    async def inside(self, host: str) -> str:
        """The address that a granted name has in the first server's sandbox."""
        lines = (await self.ask("open('/etc/hosts').read()")).splitlines()
        return next(address for address, name in map(str.split, lines) if name == host)

    async def logged(self, text: str) -> str:
        """The message of the first server's log that has `text`, as its author sees it."""
        question = LogQuestion(server=ONE, q=text)
        while not (page := await self.rig.runtime.logs(question)).lines:
            await asyncio.sleep(0.05)
        return page.lines[-1].text


@asynccontextmanager
async def listening(said: bytes) -> AsyncIterator[int]:
    """A port of loopback at which something says `said`, and then what it hears."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said or await reader.read())  # to the end of what is sent: each side ends for itself
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    releases = Releases()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEGBOARD_EGRESS_NETWORKS", NAMED_INSIDE)
        async with AsyncExitStack() as stack:
            stack.callback(releases.close)
            rig = await stack.enter_async_context(machine(releases))
            if rig.isolation.now.mode != "bubblewrap":
                pytest.skip("hosts are told apart by bubblewrap alone")
            ports = [await stack.enter_async_context(listening(said)) for said in (b"granted", b"beside", b"")]
            granted, _, echo = ports
            one = [f"127.0.0.1:{granted}", f"localhost:{granted}", f"127.0.0.1:{echo}", "10.9.8.7:5432"]
            one += [f"{host}:{granted}" for host in SPELLED] + ["169.254.43518:80"]
            made = {ONE: await _signed(releases, ONE, one), TWO: await _signed(releases, TWO, ["localhost:1"])}
            await rig.runtime.bring_about(desired(*made.items()))
            await observed(rig, lambda seen: all(ready(seen, each) for each in made.values()))
            yield Stage(rig, made, *ports)


async def _signed(releases: Releases, server: str, egress: list[str]) -> DesiredRelease:
    archive = releases.archive(server, egress=tuple(egress))
    signed = releases.signed(server, await releases.made(server, archive))
    return signed.model_copy(update={"egress": tuple(egress)})


async def test_what_is_granted_is_reached_and_the_port_beside_it_is_not(stage: Stage) -> None:
    for host in ("127.0.0.1", "localhost"):
        assert await stage.said(host, stage.granted) == "granted"
        assert await stage.said(host, stage.beside) == "ConnectionRefusedError"


async def test_what_another_server_was_granted_is_not_reached(stage: Stage) -> None:
    connect = f"socket.create_connection(('127.0.0.1', {stage.granted}), 5)"
    assert await stage.ask(connect, TWO) == "ConnectionRefusedError"


async def test_a_protocol_that_speaks_no_http_goes_both_ways_whole(stage: Stage) -> None:
    talk = (
        f"\ndef talk():\n  c = socket.create_connection(('127.0.0.1', {stage.echo}), 20)\n"
        "  sent = os.urandom(2000000)\n  threading.Thread(target=lambda: (c.sendall(sent), c.shutdown(1))).start()\n"
        "  return sent == b''.join(iter(lambda: c.recv(65536), b''))\n"
    )
    assert await stage.ask(f"exec({talk!r}, globals()) or talk()") is True


@pytest.mark.parametrize("host", [METADATA, "1.1.1.1", "10.0.0.1", "10.9.8.8"])
async def test_no_address_beside_is_reached(stage: Stage, host: str) -> None:
    assert await stage.ask(f"socket.create_connection(({host!r}, 80), 5)") == "OSError"
    told = await stage.ask(f"socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ({host!r}, 53))")
    assert told == "OSError"


async def test_no_name_beside_is_looked_up(stage: Stage) -> None:
    for name in ("example.com", "localhost.example.com", "metadata.google.internal"):
        assert await stage.ask(f"socket.getaddrinfo({name!r}, 443)") == "gaierror"


@pytest.mark.parametrize("host", SPELLED)
async def test_a_granted_name_that_leads_to_this_machine_leads_nowhere_and_its_author_reads_why(
    stage: Stage, host: str
) -> None:
    assert await stage.said(await stage.inside(host), stage.granted) in CLOSED
    told = await stage.logged(f"egress to {host}:")
    assert "is refused: the name leads to 127.0.0.1, an address inside" in told
    assert "Write the address itself under egress in pegboard.toml" in told


async def test_a_granted_name_that_leads_to_a_clouds_credentials_leads_nowhere(stage: Stage) -> None:
    assert await stage.said(await stage.inside("169.254.43518"), 80) in CLOSED
    assert METADATA in await stage.logged("egress to 169.254.43518:80")


async def test_doors_of_the_machine_stay_closed_to_one_that_reaches_something(stage: Stage) -> None:
    home = stage.rig.home
    two = home.socket(ServerName.parse(TWO)).parent
    doors = [
        str(home.edge_admin_socket),
        str(home.hub_socket),
        str(home.runtime_socket),
        *map(str, two.glob("*.sock")),
    ]
    with socket.socket(socket.AF_UNIX) as hidden:
        hidden.bind(f"\0pegboard-{home.instance}")  # without a file, so that only a network of one's own closes it
        hidden.listen()
        for door in (*doors, f"\0pegboard-{home.instance}"):
            told = await stage.ask(f"socket.socket(socket.AF_UNIX).connect({door!r})")
            assert told in ("FileNotFoundError", "PermissionError", "ConnectionRefusedError")


async def test_nothing_of_what_opens_its_ways_is_left_in_its_hands(stage: Stage) -> None:
    status = await stage.ask("open('/proc/self/status').read()")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert [int(fields[each], 16) for each in ("CapEff", "CapPrm", "CapAmb")] == [0, 0, 0]
    assert "LAUNCH_HANDS_OVER" not in await stage.ask("list(os.environ)")
    held = await stage.ask("[n for n in range(3, 64) if os.path.exists(f'/proc/self/fd/{n}')]")
    assert len(held) <= 3  # its socket, and the connection that asks


async def test_what_carries_ends_with_its_server(stage: Stage) -> None:
    def carrying() -> int:
        return len(commands("relay.py", json.dumps(TWO)))

    assert carrying() == 1
    await stage.rig.end_one(TWO)
    await until(lambda: len(stage.rig.pids(TWO)) == 1 == carrying())
    await stage.rig.runtime.bring_about(desired((ONE, stage.releases[ONE]), version="without two"))
    await until(lambda: not carrying())
