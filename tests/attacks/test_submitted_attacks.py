"""A submitted server, or who builds it, against the machine that runs it: what lies in reach is no way further."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pegboard.core.address import parse
from pegboard.core.jose import Signer, new_private_key
from pegboard.core.names import ServerName
from pegboard.core.publishing import RELEASE_TYPE
from pegboard_hub.common.home import Home
from pegboard_hub.publishing.orders import DesiredRelease, LogQuestion, Replica
from tests.hub.machine_rig import MachineRig, Releases, machine
from tests.hub.runtime_suite import ONE, desired, of, ready, until

pytestmark = pytest.mark.anyio

NAME = ServerName.parse(ONE)


@pytest.fixture(scope="module")
def releases() -> Iterator[Releases]:
    made = Releases()
    yield made
    made.close()


@pytest.fixture
async def rig(releases: Releases) -> AsyncIterator[MachineRig]:
    async with machine(releases) as found:
        if found.isolation.now.mode == "off":
            pytest.skip("nothing keeps a server apart here: no bubblewrap, no root")
        yield found


async def release(rig: MachineRig, mark: str = "") -> DesiredRelease:
    return rig.releases.signed(ONE, await rig.releases.made(ONE, rig.releases.archive(ONE, before=f"# {mark}")))


async def up(rig: MachineRig, wanted: DesiredRelease, version: str = "1") -> Replica:
    await rig.runtime.bring_about(desired((ONE, wanted), version=version))
    return ready(await until(rig, lambda seen: bool(ready(seen, wanted))), wanted)[0]


async def test_a_link_in_its_spool_does_not_copy_the_operators_file_to_the_next_replica(rig: MachineRig) -> None:
    secret = rig.home.keys / "token-signing.jwk.json"
    secret.write_text("a private key")
    replica = await up(rig, await release(rig))
    for name in ("accepted.jws", "1-1-1.jsonl"):
        link = f"os.symlink({str(secret)!r}, os.environ['PEGBOARD_SPOOL'] + '/{name}') or 1"
        assert await rig.ask(replica.address, link) == 1
    new = await up(rig, await release(rig, "next"), "2")
    read = "[path.read_text() for path in pathlib.Path(os.environ['PEGBOARD_SPOOL']).iterdir() if path.exists()]"
    assert "a private key" not in str(await rig.ask(new.address, read))


async def test_a_server_cannot_take_its_socket_away_or_listen_in_anothers_place(rig: MachineRig) -> None:
    replica = await up(rig, await release(rig))
    folder = rig.home.socket(NAME, replica.id).parent
    for told in (
        f"os.unlink({str(folder / f'{replica.id}.sock')!r})",
        f"socket.socket(socket.AF_UNIX).bind({str(folder / 'mine.sock')!r})",
    ):
        assert await rig.ask(replica.address, told) in ("FileNotFoundError", "PermissionError")
    assert await rig.ask(replica.address, "'here'") == "here"


def test_no_server_is_named_so_as_to_share_the_folder_of_anothers_sockets(tmp_path: Path) -> None:
    """A long name is cut short for the kernel; who could be called as what is left would bind in its place."""
    home, victim = Home.open(tmp_path), ServerName("prod", "customer-analytics-warehouse")
    folder = home.socket(victim, "abababab-0").parent.name
    with pytest.raises(ValueError, match=r"is not a name|names no namespace"):
        ServerName.parse(folder.replace(".", "/", 1))
    assert parse(f"unix:s/{folder}/abababab-0.sock").path  # an address all the same
    assert len(folder.rpartition("_")[2]) * 4 >= 80, "short enough to look for another name with the same digits"


async def test_a_server_cannot_change_what_it_was_pinned_to_or_its_code(rig: MachineRig) -> None:
    replica = await up(rig, await release(rig))
    for path in ("os.environ['PEGBOARD_PINNED']", "os.environ['PEGBOARD_PROJECT'] + '/pegboard.toml'", "__file__"):
        assert await rig.ask(replica.address, f"open({path}, 'a')") in ("PermissionError", "OSError")


async def test_no_other_ring_signs_a_release(rig: MachineRig) -> None:
    good = await release(rig)
    signed = {"server": ONE, "release": good.release, "artifact": good.artifact.digest}
    payload = {**signed, "source": good.artifact.source}
    payload |= {"sbom": "ab" * 32, "submitted_by": "x", "at": 1}  # type: ignore[dict-item]
    for signature in (
        Signer(new_private_key()).sign(payload, RELEASE_TYPE),  # a key of nobody's
        Signer(rig.releases.key).sign(payload, "pegboard-bundle+jws"),  # the ring's key, over something else
        Signer(rig.releases.key).sign({**payload, "server": "dev/two"}, RELEASE_TYPE),
        Signer(rig.releases.key).sign({**payload, "more": 1}, RELEASE_TYPE),
        json.dumps(payload),
    ):
        bad = good.model_copy(update={"signature": signature})
        await rig.runtime.bring_about(desired((ONE, bad), version=signature[-9:]))
        seen = await until(rig, lambda seen: bool(seen.releases) and seen.releases[0].step == "failed")
        assert of(seen, bad) is not None
        assert rig.running(ONE) == 0


@pytest.mark.parametrize("field", ["server", "replica", "release"])
async def test_no_question_about_logs_reads_another_file(rig: MachineRig, field: str) -> None:
    (rig.home.log("hub")).write_text("the hub's own\n")
    asked = {"server": ONE, field: "../../log/hub" if field != "server" else "prod/../../log/hub"}
    try:
        page = await rig.runtime.logs(LogQuestion.model_validate(asked))
    except ValueError:
        return
    assert page.lines == ()


async def test_a_link_in_the_place_of_a_log_is_not_read(rig: MachineRig) -> None:
    secret = rig.home.keys / "token-signing.jwk.json"
    secret.write_text("a private key")
    rig.home.log(NAME, "abababab-0").symlink_to(secret)
    assert (await rig.runtime.logs(LogQuestion(server=ONE))).lines == ()


async def test_what_builds_cannot_reach_what_runs_of_the_same_server(rig: MachineRig) -> None:
    replica = await up(rig, await release(rig))
    assert await rig.ask(replica.address, "open(os.environ['PEGBOARD_STATE'] + '/mine', 'w').write('x')") == 1
    state = rig.home.state(NAME) / "mine"
    describe = f"print(open({str(state)!r}).read())"
    archive = rig.releases.archive(ONE, before="# builds")
    told = await _trouble(rig, archive, describe)
    assert "FileNotFoundError" in told or "PermissionError" in told


async def _trouble(rig: MachineRig, archive: bytes, describe: str) -> str:
    from pegboard.core.archive import File, pack, unpack
    from pegboard_hub.runtime.confined import ReleaseFailed

    files = {**unpack(archive), "src/pegboard/describe.py": File(describe.encode())}
    with pytest.raises(ReleaseFailed) as failed:
        await rig.releases.builder(rig.home).build("attack", ONE, pack(files), _say_nothing)
    return str(failed.value)


async def _say_nothing(_step: str, _what: str) -> None:
    return None
