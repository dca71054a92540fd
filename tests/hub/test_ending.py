"""A server that goes says so to its callers, closes at its date, and leaves its record."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.ending import Closing
from pegboard_hub.registry.model import Lifecycle
from tests.hub.company import URL, Company, plain
from tests.hub.rolling import SERVER, Rig, declared, payload_of, rig_of
from tests.oauth import Browser

pytestmark = pytest.mark.anyio

DAY_MS = 86_400_000


@pytest.fixture
async def rig(company: Company) -> AsyncIterator[Rig]:
    async with rig_of(company) as found:
        yield found


def told(rig: Rig) -> dict[str, Any]:
    """What edges are told of the server."""
    bundle = json.loads(payload_of(rig.hub.parts.rotation.keys.home.edge_bundle.read_text()))
    return next((each for each in bundle["servers"] if each["server"] == SERVER), {})


async def test_callers_are_told_why_until_when_and_what_to_use_instead(rig: Rig) -> None:
    await rig.live(1)
    assert "notice" not in told(rig)
    at = int(rig.clock() * 1000) + 30 * DAY_MS
    answer = await rig.post("pat", "deprecate", why="presto has it", ends_at=at, successor="prod/presto")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["ends_at"], answer.json()["successor"]) == (at, "prod/presto")
    notice = told(rig)["notice"]
    assert notice.startswith(f"{SERVER} is deprecated: presto has it. It closes on 20")
    assert notice.endswith("(UTC). Use prod/presto instead.")
    page = await rig.hub.public.get(f"/servers/{SERVER}", params={"as": "ana"})
    assert "Use prod/presto instead." in page.text
    assert '<a href="/servers/prod/presto">Look at prod/presto</a>' in page.text
    listed = await rig.hub.public.get("/servers", params={"as": "ana", "q": SERVER})
    assert "(UTC). Use prod/presto instead." in listed.text


async def test_it_closes_by_itself_at_its_date_and_its_replicas_end(rig: Rig) -> None:
    await rig.live(1)
    closing = Closing(rig.hub.parts.registry, clock=rig.clock)
    at = int(rig.clock() * 1000) + DAY_MS
    assert (await rig.post("pat", "deprecate", why="it is old", ends_at=at)).status_code == 200
    await closing.close_due()
    assert rig.hub.parts.registry.current.servers[SERVER].reachable
    rig.clock.pass_s(86_401)
    await closing.close_due()
    await rig.look()
    await rig.machine.turn()
    server = rig.hub.parts.registry.current.servers[SERVER]
    assert (server.lifecycle, server.lifecycle_why) == (Lifecycle.RETIRED, "its end has come")
    assert rig.machine.told is not None
    assert rig.machine.told.servers == ()
    assert told(rig) == {}
    # Its record is there, and who may come back to it finds the release as it was.
    detail = (await rig.hub.api("pat", f"servers/{SERVER}")).json()
    assert detail["release"] == declared(1).digest
    assert (await rig.hub.api("pat", f"servers/{SERVER}/deployment")).json()["live"]["version"] == "1.0.0"


WRONG_ENDS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"ends_at": 1}, "ends_at"),
    ({"ends_at": 4_000_000_000_000}, "ends_at"),
    ({"successor": SERVER}, "successor"),
    ({"successor": "prod/nothing"}, "successor"),
    ({"why": ""}, "why"),
)


async def test_an_end_that_cannot_be_is_refused_by_name(rig: Rig) -> None:
    await rig.live(1)
    for body, field in WRONG_ENDS:
        answer = await rig.post("pat", "deprecate", **{"why": "it is old", **body})
        assert answer.status_code == 422, answer.text
        assert answer.json()["error"]["message"].startswith(f"{field}:")


async def test_a_retired_server_is_not_deprecated_and_one_brought_back_has_no_end(rig: Rig) -> None:
    await rig.live(1)
    at = int(rig.clock() * 1000) + DAY_MS
    assert (await rig.post("pat", "deprecate", why="it is old", ends_at=at)).status_code == 200
    assert (await rig.post("pat", "retire", why="it is old")).status_code == 200
    assert (await rig.post("pat", "deprecate", why="it is old")).status_code == 409
    parts = rig.hub.parts
    pat = PersonFacts("pat", "Pat", ("platform",))
    moved = await parts.reviewing.move(pat, SERVER, "bring back", "it is used", None)
    assert (moved.lifecycle, moved.ends_at_ms) == (Lifecycle.LIVE, None)


async def test_what_is_retired_says_what_to_use_and_has_nothing_to_decide_but_to_bring_it_back(rig: Rig) -> None:
    await rig.live(1)
    ending = {"ends_at": int(rig.clock() * 1000) + DAY_MS, "successor": "prod/presto"}
    assert (await rig.post("pat", "deprecate", why="it is old", **ending)).status_code == 200
    assert (await rig.post("pat", "retire", why="it is older now")).status_code == 200
    pat = Browser(URL, rig.hub.public)
    await pat.sign_in("pat")
    page = plain((await pat.get(f"{URL}/servers/{SERVER}/deployment")).text)
    assert "It is retired: nothing of it runs" in page
    assert "Use prod/presto instead. Look at prod/presto" in page
    assert "Bring it back" in page
    assert "Go back" not in page
    assert "takes all calls" not in page
    assert "100 percent" not in page
    for action in ("rollback", "promote", "pause", "resume", "scale", "restart"):
        answer = await rig.post("pat", f"deployment/{action}", why="try it")
        assert (answer.status_code, answer.json()["error"]["message"]) == (
            409,
            f"{SERVER} is retired: nothing of it runs.",
        )
    detail = (await rig.hub.api("pat", f"servers/{SERVER}")).json()
    assert detail["out_of_reach"] == "retired: it is older now; use prod/presto instead"
    assert "Lifecycle, Why so, Closes on, Successor" in plain((await pat.get(f"{URL}/servers/{SERVER}/history")).text)
