"""The switch, rehearsed under load on a whole instance: each kind is stopped at both layers, within two seconds."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.system.stop_load import CALLERS, EFFECT_S, WHY, loaded, machine, resume, stop, write_grants

pytestmark = [pytest.mark.anyio, pytest.mark.system, pytest.mark.heavy]

BY_THE_SERVER_ALONE = {"hidden tool"}
"""What the edge cannot stop without telling of it: it goes on to the server, which refuses."""


async def test_no_call_succeeds_later_than_two_seconds_after_a_stop_and_nobody_elses_ever_fails(
    tmp_path: Path,
) -> None:
    with loaded(write_grants(tmp_path)) as (instance, load):
        async with load.running(), machine(instance) as door:
            for name, caller in CALLERS.items():
                if not caller.stop[0]:
                    continue
                asked = time.monotonic()
                await stop(door, caller)
                answered = time.monotonic()
                for layer in ("edge", "server"):
                    refused = await load.first(layer, name, asked, ok=False)
                    assert refused.sent - answered < EFFECT_S, (layer, name)
                    assert refused.reason == f"{caller.stop[0]}_stopped", (layer, name, refused)
                    assert WHY in refused.words
                await asyncio.sleep(EFFECT_S + 0.5 - (time.monotonic() - answered))
                ended = time.monotonic()
                assert [load.late(layer, name, answered, ended) for layer in ("edge", "server")] == [[], []], name
                await resume(door, caller)
                for layer in ("edge", "server"):
                    await load.first(layer, name, ended, ok=True)
                # Whoever was not stopped was served all the while.
                for (layer, other), samples in load.samples.items():
                    mine = other == name or (name == "server" and CALLERS[other].server == "dev/scratch")
                    failed = [s for s in samples if not s.ok and s.sent >= asked]
                    assert mine or failed == [], (name, layer, other)
        assert all(s.ok for layer in ("edge", "server") for s in load.samples[layer, "others"])
