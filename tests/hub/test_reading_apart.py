"""What strangers wrote is read apart from the hub: whatever it does to its reader, its submission is told, and the
hub goes on."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from pegboard.core.publishing import State
from pegboard_hub.publishing import reading
from pegboard_hub.publishing.errors import PublishingRefused
from pegboard_hub.publishing.reading import Apart
from tests.hub.company import Hub
from tests.hub.publishing_rig import FROM_FOLDER, Builder, Project, found, released, submit, submitter, work

pytestmark = pytest.mark.anyio

WIKI = Project()

LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 2)); print('ready', flush=True); "

DOES = {
    "hangs": ("import time; print('ready', flush=True); time.sleep(600)", "took too long"),
    "counts for ever": (LIMITED + "[None for _ in iter(int, 1)]", "30 s of a processor"),
    "takes all memory": (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30,) * 2); print('ready', flush=True);"
        'import os\ntry: bytearray(1 << 31)\nexcept MemoryError: os.write(1, b\'{"broke": "memory"}\\n\')',
        "MiB of memory",
    ),
    "crashes": ("import os, signal; print('ready', flush=True); os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    "aborts": ("import os; print('ready', flush=True); os.abort()", "MiB of memory"),
    "fails": ('print(\'ready\\n{"broke": "RecursionError"}\', flush=True)', "RecursionError"),
    "ends early": ("print('ready', flush=True); raise SystemExit(3)", "status 3"),
    "says too much": ("print('ready\\n' + 'x' * (9 << 20))", "status 0"),
}


def reader(does: str, deadline_s: float = 5.0) -> Apart:
    return Apart(deadline_s, [sys.executable, "-I", "-S", "-c", does])


@pytest.fixture
async def hub(hub: Hub) -> Hub:
    hub.parts.publishing.reading = Apart()
    return hub


@pytest.mark.parametrize("does", DOES)
async def test_what_is_too_much_for_its_reader_fails_alone_and_its_author_is_told_in_what(
    hub: Hub, does: str
) -> None:
    code, words = DOES[does]
    bad = (await submit(hub, "sam", "dev/wiki", WIKI)).json()["id"]
    await Builder(hub).build(WIKI)
    hub.parts.publishing.reading = reader(code, 1.0 if does == "hangs" else 20.0)
    await work(hub)
    failed = await found(hub, bad)
    assert (failed.state, failed.step) == (State.FAILED, "check")
    assert failed.trouble is not None
    assert words in failed.trouble.what
    assert "pegboard check" in failed.trouble.mend
    refused = await submit(hub, "sam", "dev/other", Project("other"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid_archive")
    assert words in refused.json()["error"]["message"]
    hub.parts.publishing.reading = Apart()
    good = await released(hub, "sam", "dev/other", Project("other"))
    assert (await found(hub, good)).state is State.APPROVED


async def test_a_machine_that_cannot_read_is_no_fault_of_what_is_submitted(hub: Hub) -> None:
    id_ = (await submit(hub, "sam", "dev/wiki", WIKI)).json()["id"]
    await Builder(hub).build(WIKI)
    hub.parts.publishing.reading = reader("raise SystemExit(1)")
    answer = await submit(hub, "sam", "dev/other", Project("other"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy")
    assert "Nothing was submitted" in answer.json()["error"]["what_to_do"]
    await work(hub)
    assert (await found(hub, id_)).state is State.BUILT, "it is tried again"


async def test_nothing_that_a_reader_says_is_believed_further_than_its_form(hub: Hub) -> None:
    hub.parts.publishing.reading = reader('print(\'ready\\n{"manifest": {"name": "wiki"}}\')')
    with pytest.raises(PublishingRefused) as refused:
        await hub.parts.publishing.submit(submitter("sam"), "dev/wiki", WIKI.archive, FROM_FOLDER)
    assert refused.value.code == "busy"


async def test_what_hangs_is_ended_with_all_that_it_started() -> None:
    deaf = "import os, time; os.fork(); print('ready', flush=True); time.sleep(600)"
    with pytest.raises(PublishingRefused):
        await reader(deaf, 0.5).project(WIKI.archive)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed: apt-get install bubblewrap")
async def test_a_reader_has_no_network_no_files_of_the_machine_and_no_right_to_write(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    command = reading._kept_apart()
    assert command[0].endswith("bwrap")
    looks = (
        "import socket\n"
        "for what in (lambda: socket.create_connection(('192.0.2.1', 80), 1),"
        f" lambda: open({str(tmp_path / 'key')!r}), lambda: open('/etc/passwd'), lambda: open('/usr/x', 'w')):\n"
        "    try: what()\n    except OSError as e: print(type(e).__name__, e.errno)\n    else: print('could')\n"
    )
    inside = [*command[: command.index("--") + 1], sys.executable, "-I", "-c", looks]
    process = await asyncio.create_subprocess_exec(*inside, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert b"could" not in out
    assert len(out.splitlines()) == 4
