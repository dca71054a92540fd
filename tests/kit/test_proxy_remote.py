"""A remote server: who may vouch for it is who its owner says, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import read_manifest
from pegboard.core.pins import FILE_NAME, Pins
from pegboard.proxy.snapshot import take
from pegboard.testing import InMemoryHub
from tests.foreign.elsewhere import Elsewhere, elsewhere, own_address
from tests.foreign.projects import EVERYBODY
from tests.system.certificates import make_pair

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not own_address(), reason="this machine has no address but loopback"),
]

MANIFEST = """
name = "far"
description = "A desk that somebody else runs elsewhere."
owner = "platform"
support_channel = "#far"
egress = ["{place}"]

[requests]
business_groups = ["ads-eng"]
surfaces = ["cli"]

[proxy]
{said}
policy = "everybody"
start_s = 2
{more}

[proxy.tools.wipe]
serve = false
"""


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    with elsewhere(tmp_path_factory.mktemp("elsewhere")) as running:
        yield running


def project(folder: Path, remote: Elsewhere, more: str = "") -> Path:
    (folder / "policies").mkdir(parents=True, exist_ok=True)
    (folder / "policies" / "everybody.cedar").write_text(EVERYBODY)
    (folder / "pegboard.toml").write_text(MANIFEST.format(place=remote.place, said=remote.said, more=more))
    return folder


def vouches(pem: str) -> str:
    return f'ca = """\n{pem}"""'


async def looked_at(folder: Path) -> Pins:
    return await take(folder, read_manifest(folder))


async def test_a_remote_server_whose_authority_its_owner_names_is_called_through_the_chain(
    tmp_path: Path, remote: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = project(tmp_path / "far", remote, vouches(remote.ca))
    (folder / FILE_NAME).write_text((await looked_at(folder)).text())
    async with InMemoryHub(folder).client("ana", groups=["ads-eng"]) as client:
        result = await client.call_tool("echo", {"text": "from afar"})
    assert [block.text for block in result.content] == ["from afar"]


@pytest.mark.parametrize("other", [False, True])
async def test_a_remote_server_for_which_somebody_else_vouches_is_not_spoken_to(
    tmp_path: Path, remote: Elsewhere, other: bool
) -> None:
    """Neither by what the machine knows, nor by an authority of the same name; and its owner reads what to do."""
    more = vouches(make_pair((remote.address,))[0].decode()) if other else ""
    with pytest.raises(ConfigurationError, match="who may vouch for it says `ca` in") as refused:
        await looked_at(project(tmp_path / "far", remote, more))
    assert "[proxy] url: the remote server does not answer" in str(refused.value)


def test_what_vouches_is_certificates_of_a_remote_server_and_nothing_else(tmp_path: Path, remote: Elsewhere) -> None:
    _, key = make_pair()
    for more, wrong in [
        (vouches(remote.ca + key.decode()), "and nothing else"),
        (vouches("corporate-ca.pem"), "and nothing else"),
        (vouches("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "cannot be read"),
        (f'{vouches(remote.ca)}\ncommand = ["node"]', "must be on loopback"),
    ]:
        with pytest.raises(ConfigurationError, match=wrong):
            read_manifest(project(tmp_path / "far", remote, more))
    here = project(tmp_path / "far", remote, vouches(remote.ca))
    text = (here / "pegboard.toml").read_text().replace(remote.said, 'command = ["node"]')
    (here / "pegboard.toml").write_text(text)
    with pytest.raises(ConfigurationError, match="ca says who may vouch for a remote server"):
        read_manifest(here)
