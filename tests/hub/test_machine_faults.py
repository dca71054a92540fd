"""What goes wrong with a release on this machine is its own, is named, and loses no call that can wait."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pegboard.core.names import ServerName
from pegboard_hub.publishing.orders import DesiredRelease, LogQuestion, Observed, Replica, Role, Scale
from pegboard_hub.runtime.gathering import Gathering
from pegboard_hub.runtime.machine import replica as replica_module
from pegboard_hub.runtime.machine import run
from pegboard_hub.runtime.machine.room import Room
from pegboard_hub.telemetry.exposition import Sample
from pegboard_hub.telemetry.supervisor_table import ANSWERS
from tests.hub.machine_rig import TIMING, MachineRig, Releases, commands, machine, until
from tests.hub.runtime_suite import ONE, desired, of, ready
from tests.hub.runtime_suite import until as observed
from tests.system.runtime_kit import alive

pytestmark = [pytest.mark.anyio, pytest.mark.heavy]

IMPATIENT = replace(TIMING, start_limit=1.0, silence_limit=1.0)


@pytest.fixture(scope="module")
def releases() -> Iterator[Releases]:
    made = Releases()
    yield made
    made.close()


@pytest.fixture
async def rig(releases: Releases) -> AsyncIterator[MachineRig]:
    async with machine(releases) as found:
        yield found


async def release(
    rig: MachineRig, before: str = "", more: str = "", mark: str = "", **scale: float
) -> DesiredRelease:
    """A release whose processes run `before` at their start; another `mark` makes another release."""
    if before:
        state = rig.home.state(ServerName.parse(ONE))
        state.mkdir(parents=True, exist_ok=True)
        (state / "first.py").write_text(before)
    made = await rig.releases.made(ONE, rig.releases.archive(ONE, before=f"# {mark}", more=more))
    return rig.releases.signed(ONE, made, scale=Scale.model_validate({"min": 1, "max": 1, **scale}))


async def up(rig: MachineRig, wanted: DesiredRelease, count: int = 1) -> Replica:
    """Bring it about, and wait until it takes calls; its first replica."""
    await rig.runtime.bring_about(desired((ONE, wanted)))
    return ready(await observed(rig, lambda seen: len(ready(seen, wanted)) == count), wanted)[0]


async def failed(rig: MachineRig, wanted: DesiredRelease) -> Replica:
    """Wait until the release is told not to come up; its first replica."""
    await rig.runtime.bring_about(desired((ONE, wanted)))
    seen = await observed(rig, lambda seen: (found := of(seen, wanted)) is not None and found.trouble is not None)
    found = of(seen, wanted)
    assert found is not None
    assert found.trouble is not None
    assert found.trouble.mend
    assert found.step == "starting"
    return found.replicas[0]


async def restarted(rig: MachineRig, wanted: DesiredRelease, told: str) -> None:
    """Wait until its replica is ready again after an end that is told in these words."""

    def again(seen: Observed) -> bool:
        return any(each.restarts and told in each.last_failure for each in ready(seen, wanted))

    await observed(rig, again)


async def test_a_release_that_hangs_at_its_start_is_told_so(releases: Releases) -> None:
    async with machine(releases, timing=IMPATIENT) as rig:
        replica = await failed(rig, await release(rig, "time.sleep(600)"))
        assert "was not ready" in replica.last_failure


@pytest.mark.heavy
async def test_a_release_that_listens_nowhere_is_told_so(releases: Releases) -> None:
    async with machine(releases, timing=IMPATIENT) as rig:
        replica = await failed(
            rig, await release(rig, "socketserver.BaseServer.serve_forever = lambda _: time.sleep(9)")
        )
        assert "was not ready" in replica.last_failure


async def test_a_release_that_ends_at_once_is_told_with_its_last_words(rig: MachineRig) -> None:
    replica = await failed(rig, await release(rig, "raise SystemExit('the licence has run out')"))
    assert "the licence has run out" in replica.last_failure


async def test_a_release_whose_code_is_not_what_was_pinned_is_told_so(rig: MachineRig) -> None:
    line = json.dumps({"level": "error", "message": "tool 'x' differs in description"})
    wanted = await release(rig, f"print({line!r}); sys.exit(3)")
    replica = await failed(rig, wanted)
    assert "tool 'x' differs in description" in replica.last_failure


async def test_one_that_crashes_later_comes_back_and_says_why(rig: MachineRig) -> None:
    wanted = await release(rig)
    replica = await up(rig, wanted)
    await rig.ask(replica.address, "threading.Timer(0.1, lambda: os._exit(7)).start()")
    await restarted(rig, wanted, "ended with status 7")


@pytest.mark.heavy
async def test_one_that_answers_no_more_is_started_again(releases: Releases) -> None:
    async with machine(releases, timing=IMPATIENT) as rig:
        wanted = await release(rig)
        replica = await up(rig, wanted)
        stop = "threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGSTOP)).start()"
        await rig.ask(replica.address, stop)
        await restarted(rig, wanted, "did not answer")


@pytest.mark.parametrize(
    ("leak", "told"),
    [
        ("globals().update(kept=[b'x' * 1000000 for _ in range(300)]) or 1", "MiB of memory; its limit is 128"),
        (
            "[threading.Thread(target=time.sleep, args=(60,)).start() for _ in range(120)] and 1",
            "processes and threads",
        ),
        pytest.param("os.dup", "resources.open_files", marks=pytest.mark.heavy),
    ],
)
async def test_one_that_breaks_a_limit_is_named_and_started_again(rig: MachineRig, leak: str, told: str) -> None:
    wanted = await release(rig)
    replica = await up(rig, wanted)
    if leak == "os.dup":
        leak = "globals().setdefault('kept', []).append(0) or 1"
        fill = "exec('''\\ntry:\\n  while True: kept.append(os.dup(0))\\nexcept OSError: pass\\n''', globals()) or 1"
        await rig.ask(replica.address, leak)
        await rig.ask(replica.address, f"threading.Timer(0.1, lambda: {fill}).start() or 1")
    else:
        with suppress(httpx2.HTTPError):
            await rig.ask(replica.address, leak)
    await restarted(rig, wanted, told)


@pytest.mark.heavy
async def test_one_that_fills_its_disk_is_named_started_again_and_told_in_its_log(rig: MachineRig) -> None:
    wanted = await release(rig)
    replica = await up(rig, wanted)
    code = "\ndef fill():\n  for n in range(90): open(str(n), 'wb').write(os.urandom(2**20))\n"
    await rig.ask(replica.address, f"exec({code!r}, globals()) or 1")
    await rig.ask(replica.address, "threading.Thread(target=fill).start() or 1")
    await restarted(rig, wanted, "its limit is 64 (resources.disk_mb)")
    page = await rig.runtime.logs(LogQuestion(server=ONE, q="resources.disk_mb"))
    assert "To mend it: remove what it does not need any more" in page.lines[-1].text
    # It starts with nothing of that, and so comes back for good.
    assert await rig.ask(replica.address, "os.listdir('.')") == []
    assert await rig.ask(replica.address, "open('whole', 'wb').truncate(2**27)") == "OSError"


@pytest.mark.heavy
async def test_one_that_forks_without_end_reaches_nobody_else(rig: MachineRig) -> None:
    code = "\ndef bomb():\n  while True:\n    try: os.fork()\n    except OSError: pass\n"
    bomb = f"exec({code!r}, globals()) or 1"
    wanted = await release(rig)
    replica = await up(rig, wanted)
    await rig.ask(replica.address, bomb)
    await rig.ask(replica.address, "threading.Timer(0.1, bomb).start() or 1")
    await restarted(rig, wanted, "resources.")  # processes or memory, whichever is seen first
    assert len(rig.pids(ONE)) == 1


async def test_one_that_writes_outside_its_folders_cannot(rig: MachineRig) -> None:
    replica = await up(rig, await release(rig))
    for place in (rig.home.root / "x", rig.home.keys / "x", rig.home.made(ServerName.parse(ONE), "") / "x", "/usr/x"):
        told = await rig.ask(replica.address, f"open({str(place)!r}, 'w')")
        assert told in ("FileNotFoundError", "PermissionError", "OSError")
    assert await rig.ask(replica.address, "open(os.environ['PEGBOARD_STATE'] + '/mine', 'w').write('x')") == 1


async def test_replicas_share_their_servers_state_and_have_all_else_of_their_own(rig: MachineRig) -> None:
    wanted = await release(rig, min=2, max=2)
    await up(rig, wanted, 2)
    one, two = ready(await rig.runtime.observed(), wanted)
    assert await rig.ask(one.address, "open(os.environ['PEGBOARD_STATE'] + '/ours', 'w').write('x')") == 1
    assert await rig.ask(two.address, "open(os.environ['PEGBOARD_STATE'] + '/ours').read()") == "x"
    for variable in ("PEGBOARD_SPOOL", "PEGBOARD_CREDENTIALS", "HOME", "PEGBOARD_REPLICA"):
        said = [await rig.ask(each.address, f"os.environ[{variable!r}]") for each in (one, two)]
        assert said[0] != said[1]
        other = said[1]
        if variable != "PEGBOARD_REPLICA":
            assert await rig.ask(one.address, f"os.path.exists({other!r})") is False
    secrets = [
        await rig.ask(each.address, "json.load(open(os.environ['PEGBOARD_CREDENTIALS']))") for each in (one, two)
    ]
    assert secrets[0]["digest_key"] == secrets[1]["digest_key"]
    assert secrets[0]["channel_token"] != secrets[1]["channel_token"]
    channels = json.loads(rig.home.channels.read_text()).values()
    assert {(each["server"], each["release"]) for each in channels} == {(ONE, wanted.release)}
    assert len(channels) == 2


async def test_a_call_that_comes_while_its_replica_starts_again_waits_and_is_answered(rig: MachineRig) -> None:
    wanted = await release(rig)
    replica = await up(rig, wanted)
    calls: list[asyncio.Task[object]] = []
    for _ in range(3):
        os.kill(rig.pids(ONE)[0], signal.SIGKILL)
        await until(lambda: not rig.pids(ONE))
        calls += [asyncio.create_task(rig.ask(replica.address, "1 + 1")) for _ in range(5)]
        await observed(rig, lambda seen: bool(ready(seen, wanted)) and bool(rig.pids(ONE)))
    assert await asyncio.gather(*calls) == [2] * 15


async def test_a_cold_call_wakes_a_server_and_waits_for_it(rig: MachineRig) -> None:
    wanted = await release(rig, "time.sleep(0.5)", min=0, max=1, idle_s=0.05)  # it takes longer than it may be idle
    await rig.runtime.bring_about(desired((ONE, wanted)))
    seen = await observed(rig, lambda seen: (found := of(seen, wanted)) is not None and found.step == "running")
    found = of(seen, wanted)
    assert found is not None
    asleep = found.replicas[0]
    assert (asleep.state, rig.running(ONE)) == ("asleep", 0)
    for _ in range(2):
        began = time.monotonic()
        assert await rig.ask(asleep.address, "2 + 2") == 4
        assert time.monotonic() - began < 20
        assert await rig.ask(asleep.address, "2 + 3") == 5
        await until(lambda: rig.running(ONE) == 0)
    seen = await observed(rig, lambda seen: of(seen, wanted).replicas[0].state == "asleep")  # type: ignore[union-attr]
    assert of(seen, wanted).replicas[0].restarts == 0  # type: ignore[union-attr]


@pytest.mark.heavy
async def test_calls_under_way_bring_more_replicas_up_to_the_most_and_calm_takes_them_away(
    rig: MachineRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pegboard_hub.runtime.machine.scaling.CALM_S", 0.5)
    wanted = await release(rig, min=1, max=3, in_flight=2)
    replica = await up(rig, wanted)
    over = rig.home.state(ServerName.parse(ONE)) / "over"
    waits = f"[time.sleep(0.02) for _ in iter(lambda: os.path.exists({str(over)!r}), True)] and 1"
    busy = [asyncio.create_task(rig.ask(replica.address, waits)) for _ in range(9)]

    def wide(seen: Observed) -> bool:
        found = ready(seen, wanted)
        return len(found) == 3 and sum(each.in_flight for each in found) == 9

    await observed(rig, wide)
    over.touch()
    assert await asyncio.gather(*busy) == [1] * 9
    await observed(rig, lambda seen: len(ready(seen, wanted)) == 1 == rig.running(ONE))


async def test_calls_under_way_at_a_release_that_ends_finish_first(rig: MachineRig) -> None:
    old, new = await release(rig), await release(rig, mark="# new")
    replica = await up(rig, old)
    rig.sent.add(replica.address)
    call = asyncio.create_task(rig.ask(replica.address, "time.sleep(1.5) or 'done'"))
    await observed(rig, lambda seen: any(each.in_flight for each in ready(seen, old)))
    await rig.runtime.bring_about(desired((ONE, new), version="2"))
    seen = await observed(rig, lambda seen: bool(ready(seen, new)))
    ending = of(seen, old)
    assert ending is not None
    assert [each.state for each in ending.replicas] == ["stopping"]
    assert await rig.ask(replica.address, "'the edge still sends some'") == "the edge still sends some"
    rig.sent.clear()
    assert await call == "done"
    await observed(rig, lambda seen: of(seen, old) is None and rig.running(ONE) == 1)


@pytest.mark.heavy
async def test_what_is_wanted_again_while_it_ends_comes_back(rig: MachineRig) -> None:
    wanted = await release(rig)
    await up(rig, wanted)
    await rig.runtime.bring_about(desired(version="2"))
    await rig.runtime.bring_about(desired((ONE, wanted), version="3"))
    await observed(rig, lambda seen: len(ready(seen, wanted)) == 1 == rig.running(ONE))


async def test_a_poisoned_file_is_not_installed(rig: MachineRig) -> None:
    wanted = await release(rig, mark="# poisoned")
    file = wanted.artifact.files[0]
    rig.home.artifact_file(file.sha256).write_bytes(b"poison")
    await rig.runtime.bring_about(desired((ONE, wanted)))
    seen = await observed(rig, lambda seen: (found := of(seen, wanted)) is not None and found.trouble is not None)
    found = of(seen, wanted)
    assert found is not None
    assert found.trouble is not None
    assert "is not what it was" in found.trouble.what
    assert rig.running(ONE) == 0
    assert list((rig.home.root / "builds").iterdir()) == []


@pytest.mark.heavy
async def test_a_hub_that_is_away_while_it_is_fetched_only_delays(
    rig: MachineRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "AGAIN_S", 0.1)
    wanted = await release(rig, mark="# fetched late")
    kept, rig.releases.bytes = rig.releases.bytes, {}
    await rig.runtime.bring_about(desired((ONE, wanted)))
    await observed(rig, lambda seen: (found := of(seen, wanted)) is not None and found.trouble is not None)
    rig.releases.bytes = kept
    await observed(rig, lambda seen: bool(ready(seen, wanted)))


@pytest.mark.heavy
async def test_an_install_that_was_killed_halfway_is_done_again(rig: MachineRig) -> None:
    wanted = await release(rig)
    half = rig.home.made(ServerName.parse(ONE), wanted.artifact.digest)
    (half / "env" / "bin").mkdir(parents=True)
    (half / "env" / "bin" / "python").write_text("half")
    await up(rig, wanted)


@pytest.mark.heavy
async def test_a_missing_secret_is_named_and_mends_itself_when_it_is_there(
    rig: MachineRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "AGAIN_S", 0.1)
    wanted = await release(rig, more='\n[secrets]\nTOKEN = "file:token"\n')
    await rig.runtime.bring_about(desired((ONE, wanted)))
    seen = await observed(rig, lambda seen: (found := of(seen, wanted)) is not None and found.trouble is not None)
    assert "secrets.TOKEN" in of(seen, wanted).trouble.what  # type: ignore[union-attr]
    folder = rig.home.secrets(ServerName.parse(ONE))
    folder.mkdir(parents=True)
    (folder / "token").write_text("s3cret")
    seen = await observed(rig, lambda seen: bool(ready(seen, wanted)))
    assert await rig.ask(ready(seen, wanted)[0].address, "os.environ['TOKEN']") == "s3cret"


async def test_a_candidate_whose_smoke_calls_fail_is_not_ready_and_one_that_is_live_stays(rig: MachineRig) -> None:
    smoke = (
        "status = {'status': 'smoke_failed', 'smoke': {'greet': 'answered without x', 'other': 'ok'}}\n"
        "OLD = http.server.BaseHTTPRequestHandler.parse_request\n"
        "def parse(self):\n"
        "    good = OLD(self)\n"
        "    if self.path == '/readyz': self.answer(status); return False\n"
        "    return good\n"
        "http.server.BaseHTTPRequestHandler.parse_request = parse"
    )
    wanted = await release(rig, smoke, more='\n[[smoke]]\ntool = "greet"\n')
    candidate = wanted.model_copy(update={"role": Role.CANDIDATE})
    replica = await failed(rig, candidate)
    assert replica.state == "failing"
    assert replica.smoke == {"greet": "answered without x"}
    assert "smoke call of greet: answered without x" in replica.last_failure
    await rig.runtime.bring_about(desired((ONE, wanted), version="2"))
    seen = await observed(rig, lambda seen: bool(ready(seen, wanted)))
    assert ready(seen, wanted)[0].smoke == {"greet": "answered without x"}
    assert of(seen, wanted).trouble is None  # type: ignore[union-attr]


async def test_records_that_a_replica_left_are_taken_over_by_the_next_release(rig: MachineRig) -> None:
    name = ServerName.parse(ONE)
    old, new = await release(rig), await release(rig, mark="# takes over")
    replica = await up(rig, old)
    write = "open(os.environ['PEGBOARD_SPOOL'] + '/1-1-1.jsonl', 'w').write('{}')"
    assert await rig.ask(replica.address, write) == 2
    await rig.runtime.bring_about(desired(version="2"))
    await observed(rig, lambda seen: of(seen, old) is None)
    assert (rig.home.spool(name, replica.id) / "1-1-1.jsonl").exists()
    replica = await up(rig, new)
    read = "open(os.environ['PEGBOARD_SPOOL'] + '/1-1-1.jsonl').read()"
    assert await rig.ask(replica.address, read) == "{}"
    assert len(list(rig.home.spool(name).parent.glob("prod.one~*"))) == 1


async def test_no_channel_of_a_replica_outlives_it(rig: MachineRig) -> None:
    wanted = await release(rig, min=2, max=2)
    await up(rig, wanted, 2)
    assert len(json.loads(rig.home.channels.read_text())) == 2
    await rig.runtime.bring_about(desired(version="2"))
    await observed(rig, lambda seen: of(seen, wanted) is None)
    assert json.loads(rig.home.channels.read_text()) == {}
    assert [path.name for path in (rig.home.root / "credentials").glob("*~*")] == []
    assert list((rig.home.run / "s").glob("*/*.sock")) == []


async def test_lines_of_a_servers_logs_are_found_by_release_replica_text_and_request(rig: MachineRig) -> None:
    one, two = await release(rig), await release(rig, mark="# logs too")
    for wanted in (one, two):
        replica = await up(rig, wanted)
        line = {"at": "2026-11-26T10:00:00+00:00", "level": "info", "message": "Hello there", "request_id": "r-1"}
        said = json.dumps({**line, "release": wanted.release[:12]})
        assert await rig.ask(replica.address, f"print({said!r}, flush=True) or print('plain', flush=True) or 1") == 1
    found = await rig.runtime.logs(LogQuestion(server=ONE, q="hello"))
    assert [(each.text, each.request_id) for each in found.lines] == [("Hello there", "r-1")] * 2
    found = await rig.runtime.logs(LogQuestion(server=ONE, release=two.release, q="hello"))
    assert [each.release for each in found.lines] == [two.release[:12]]
    found = await rig.runtime.logs(LogQuestion(server=ONE, replica=f"{one.release[:8]}-0", q="plain"))
    assert [(each.text, each.at) for each in found.lines] == [("plain", line["at"])]
    assert (await rig.runtime.logs(LogQuestion(server=ONE, request_id="r-2"))).lines == ()
    assert (await rig.runtime.logs(LogQuestion(server=ONE, since="2026-11-26T11:00:00Z", q="hello"))).lines == ()
    page = await rig.runtime.logs(LogQuestion(server=ONE, limit=1))
    assert len(page.lines) == 1
    assert page.more
    with pytest.raises(ValueError, match="time zone"):
        await rig.runtime.logs(LogQuestion(server=ONE, since="2026-11-26T11:00:00"))


@pytest.mark.heavy
@pytest.mark.parametrize("mode", ["user", "off"])
async def test_replicas_run_in_every_mode_and_none_is_swept_with_another(releases: Releases, mode: str) -> None:
    if mode == "user" and os.geteuid() != 0:
        pytest.skip("own users need root")
    async with machine(releases, mode) as rig:
        wanted = await release(rig, min=2, max=2)
        await up(rig, wanted, 2)
        one, two = sorted(ready(await rig.runtime.observed(), wanted), key=lambda each: each.id)
        hidden = (
            "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True).pid"
        )
        stray = await rig.ask(one.address, hidden)
        pid = await rig.ask(two.address, "os.getpid()")
        await rig.ask(one.address, "threading.Timer(0.1, lambda: os._exit(7)).start()")
        await restarted(rig, wanted, "ended with status 7")
        assert await rig.ask(two.address, "os.getpid()") == pid
        assert not alive(stray) or (mode == "off" and not rig.groups.folders)
        assert await rig.ask(one.address, "'back'") == "back"
    assert not commands("pegboard.serve", str(rig.home.root))


async def test_figures_of_replicas_are_gathered_by_release_and_number(rig: MachineRig) -> None:
    old, new = await release(rig, min=2, max=2), await release(rig, mark="# figures too")
    await up(rig, old, 2)
    await rig.runtime.bring_about(desired((ONE, old), (ONE, new), version="2"))
    await observed(rig, lambda seen: bool(ready(seen, new)))

    async def no_edge() -> list[Sample]:
        return []

    gathering = Gathering(rig.home, rig.isolation.now, lambda: rig.supervisor.processes, lambda: 0, no_edge)
    await gathering.gather()
    page = rig.home.gathered.read_text()
    families = {family.name: family.samples for family in text_string_to_metric_families(page)}
    told = {(s.labels["server"], s.labels["release"], s.labels["replica"]) for s in families[ANSWERS.name]}
    assert told == {(ONE, old.release[:12], "0"), (ONE, old.release[:12], "1"), (ONE, new.release[:12], "0")}
    assert {sample.value for sample in families[ANSWERS.name]} == {1.0}


async def test_releases_whose_digests_begin_alike_share_no_replica(
    rig: MachineRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "DIGITS", 0)
    one, two = await release(rig), await release(rig, mark="# alike")
    first = await up(rig, one)
    await rig.runtime.bring_about(desired((ONE, one), (ONE, two), version="2"))
    seen = await observed(rig, lambda seen: bool(ready(seen, two)))
    second = ready(seen, two)[0]
    assert first.id != second.id
    for address, wanted in ((first.address, one), (second.address, two)):
        assert await rig.ask(address, "os.environ['PEGBOARD_RELEASE']") == wanted.release
    await rig.runtime.bring_about(desired((ONE, two), version="3"))
    await observed(rig, lambda seen: of(seen, one) is None)
    assert await rig.ask(second.address, "'here'") == "here"


async def test_replicas_for_which_there_is_no_memory_wait_and_end_nobody(rig: MachineRig) -> None:
    rig.runtime._site = replace(rig.runtime._site, room=Room(2 * 128))
    one, two = await release(rig, min=3, max=3), await release(rig, mark="# waits for memory", min=1, max=1)
    await rig.runtime.bring_about(desired((ONE, one)))
    seen = await observed(rig, lambda seen: len(ready(seen, one)) == 2 and bool(of(seen, one).notes))  # type: ignore[union-attr]
    found = of(seen, one)
    assert found is not None
    assert "1 replica waits for memory: each may take 128 MiB (resources.memory_mb)" in found.notes[0]
    assert found.trouble is None
    # A first one starts all the same, twice over; beyond that it waits, and says so.
    await rig.runtime.bring_about(desired((ONE, one), (ONE, two), version="2"))
    await observed(rig, lambda seen: bool(ready(seen, two)) and len(ready(seen, one)) == 2)
