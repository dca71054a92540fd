"""A server reaches what is its own, and nothing else, in every mode that promises so."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import fields

import pytest

from pegboard.core.environment import ServerEnvironment
from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.home import Home
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.isolation import choose
from tests.system.runtime_kit import ONE, TWO, Site, short_folder, site

pytestmark = [pytest.mark.anyio, pytest.mark.system]

CLOSED = {"PermissionError", "FileNotFoundError"}
ROOT = os.geteuid() == 0

MODES = [
    pytest.param(
        "bubblewrap",
        marks=pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
    ),
    pytest.param("user", marks=pytest.mark.skipif(not ROOT, reason="own users need root")),
]


@pytest.fixture(scope="module", params=MODES)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with site(request.param) as found:
        (found.home.keys / "token-signing.jwk.json").write_text("a private key")
        (found.home.data / "pegboard.db").write_text("everybody's calls")
        yield found


async def test_what_is_its_own_is_there(place: Site) -> None:
    assert "channel_token" in await place.ask(ONE, f"open({str(place.home.credentials(ONE))!r}).read()")
    assert await place.ask(ONE, f"open({str(place.home.spool(ONE) / 'x')!r}, 'w').write('abc')") == 3
    assert await place.ask(ONE, "open(os.environ['PEGBOARD_STATE'] + '/x', 'w').write('abc')") == 3
    assert await place.ask(ONE, "open('scratch', 'w').write('abc')") == 3


@pytest.mark.parametrize(
    "what",
    [
        "keys/token-signing.jwk.json",
        "data/pegboard.db",
        "credentials/dev.two.json",
        "run/operator.token",
        "run/channels.json",
        "bundles/dev.two/bundle.jws",
        "releases/dev.two/project/pegboard.toml",
    ],
)
async def test_secrets_and_other_servers_files_are_closed(place: Site, what: str) -> None:
    (place.home.bundle(TWO)).write_text("two's bundle")
    assert (place.home.root / what).exists()
    assert await place.ask(ONE, f"open({str(place.home.root / what)!r}).read()") in CLOSED


@pytest.mark.parametrize(
    "folder", ["spool/dev.two", "state/dev.two", "work/dev.two", "keys", "log", "data", "bundles/edge", "run/s"]
)
async def test_other_folders_cannot_be_listed(place: Site, folder: str) -> None:
    listed = await place.ask(ONE, f"os.listdir({str(place.home.root / folder)!r})")
    # In a sandbox the way to its own socket folder is there, with nothing else beside it.
    assert listed in (*CLOSED, ["prod.one"])


async def test_only_the_edge_may_connect_to_a_server(place: Site) -> None:
    connect = f"socket.socket(socket.AF_UNIX).connect({str(place.home.socket(TWO))!r})"
    assert await place.ask(ONE, connect) in CLOSED
    assert await place.ask(TWO, connect) is None


async def test_the_hubs_public_door_is_closed_to_servers_and_the_internal_one_open(place: Site) -> None:
    home = place.home
    with socket.socket(socket.AF_UNIX) as public, socket.socket(socket.AF_UNIX) as internal:
        for listener, path in ((public, home.hub_socket), (internal, home.internal_socket)):
            listener.bind(str(path))
            path.chmod(0o666)
            listener.listen()
        assert await place.ask(ONE, f"socket.socket(socket.AF_UNIX).connect({str(home.hub_socket)!r})") in CLOSED
        assert await place.ask(ONE, f"socket.socket(socket.AF_UNIX).connect({str(home.internal_socket)!r})") is None
    home.hub_socket.unlink()
    home.internal_socket.unlink()


async def test_envoys_administration_and_the_edges_files_are_closed_to_servers(place: Site) -> None:
    home = place.home
    (home.edge / "sds.json").write_text("the certificate's private key")
    (home.edge / "sds.json").chmod(0o644)  # its folder alone must do
    with socket.socket(socket.AF_UNIX) as admin:
        admin.bind(str(home.edge_admin_socket))
        home.edge_admin_socket.chmod(0o666)
        admin.listen()
        for server in (ONE, TWO):
            connect = f"socket.socket(socket.AF_UNIX).connect({str(home.edge_admin_socket)!r})"
            assert await place.ask(server, connect) in CLOSED
            assert await place.ask(server, f"open({str(home.edge / 'sds.json')!r}).read()") in CLOSED
            assert await place.ask(server, f"os.listdir({str(home.edge)!r})") in CLOSED
    home.edge_admin_socket.unlink()


async def test_a_release_cannot_be_changed_by_its_server(place: Site) -> None:
    target = place.home.project(ONE) / "pegboard.toml"
    assert await place.ask(ONE, f"open({str(target)!r}, 'a').write('x')") in {"PermissionError", "OSError"}


async def test_the_environment_has_the_launch_contract_and_its_own_secrets_alone(place: Site) -> None:
    variables = set(await place.ask(ONE, "list(os.environ)"))
    # What is not said is not set: this server was bound by nobody else, and is no replica of a submitted release.
    unsaid = {"PEGBOARD_LISTEN_FD", "PEGBOARD_REPLICA", "PEGBOARD_SMOKE"}
    contract = {f"PEGBOARD_{field.name.upper()}" for field in fields(ServerEnvironment)} - unsaid
    assert variables - {"PWD", "LC_CTYPE"} == {*contract, "PATH", "LANG", "HOME", "TMPDIR", "API_KEY"}
    assert await place.ask(ONE, "os.environ['API_KEY']") == "one's own"
    assert await place.ask(ONE, f"open('/proc/{os.getpid()}/environ').read()") in CLOSED


async def test_without_egress_there_is_no_network(place: Site) -> None:
    assert place.isolation.network_closed
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        told = await place.ask(ONE, f"socket.create_connection({listener.getsockname()!r}, 2)")
    assert told in {"OSError", "ConnectionRefusedError"}


async def test_it_has_no_privileges_and_its_limits(place: Site) -> None:
    status = await place.ask(ONE, "open('/proc/self/status').read()")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["NoNewPrivs"] == "1"
    assert int(fields["CapEff"], 16) == 0
    limits = await place.ask(ONE, "open('/proc/self/limits').read()")
    assert next(line for line in limits.splitlines() if line.startswith("Max open files")).split()[3:5] == [
        "128",
        "128",
    ]
    assert next(line for line in limits.splitlines() if line.startswith("Max core")).split()[4] == "0"


@pytest.mark.skipif(not ROOT, reason="own users need root")
async def test_every_server_has_its_own_user_and_no_groups(place: Site) -> None:
    users = {await place.ask(server, "os.getuid()") for server in (ONE, TWO)}
    assert len(users) == 2
    assert 0 not in users
    assert await place.ask(ONE, "os.getgroups()") == []


async def test_a_mode_that_does_not_work_here_is_an_error_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = short_folder()
    monkeypatch.setenv("PATH", "/nowhere")
    try:
        with pytest.raises(ConfigurationError, match="bubblewrap is not installed: install bubblewrap"):
            choose("bubblewrap", Home.open(folder / "home"), [], preflight.find_envoy())
        with pytest.raises(ConfigurationError, match="'chroot' is unknown: use auto"):
            choose("chroot", Home.open(folder / "home"), [], preflight.find_envoy())
    finally:
        shutil.rmtree(folder)


async def test_where_isolation_is_off_the_status_says_so_and_why() -> None:
    folder = short_folder()
    try:
        found = choose("off", Home.open(folder / "home"), [], preflight.find_envoy())
        assert found.mode == "off"
        assert "servers can read and change everything" in found.why
        assert "PEGBOARD_ISOLATION=off" in found.why
    finally:
        shutil.rmtree(folder)
