"""A rotation: who is waited for, when the new key signs, when the old one goes, and what a crash leaves."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from pegboard.core.acknowledgement import Acknowledgement
from pegboard.core.bundle import EDGE, MAX_AGE_S, Bundle, open_bundle
from pegboard.core.errors import BundleRefused
from pegboard.core.jose import Signer, Verifier, kid_of
from pegboard.core.names import ServerName
from pegboard.core.token import CLOCK_SKEW_S, MAX_LIFETIME_S, TOKEN_TYPE
from pegboard_hub.identity.ring import MOST_KEYS
from pegboard_hub.registry import key_rotation
from pegboard_hub.registry.key_rotation import KeyRotation
from tests.hub.company import OPERATOR, Company, Hub, opened
from tests.rings import key_in, keys_in

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

CONSUMERS = (EDGE, "prod/presto", "dev/scratch")
LATER_S = MAX_LIFETIME_S + 3 * CLOCK_SKEW_S


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing starts just now, so nothing needs to settle."""
    monkeypatch.setattr(key_rotation, "SETTLE_S", 0.0)


class Fleet:
    """Edge and servers of a company, as the hub sees them: their words, and the supervisor's on their processes."""

    def __init__(self, company: Company) -> None:
        self.company = company
        self.channels = {name: company.open_channel(name, "r") for name in CONSUMERS if name != EDGE}
        self.states: dict[str, str] = dict.fromkeys(CONSUMERS, "live")
        self.report()

    def report(self, **states: str) -> None:
        """What the supervisor says of the processes."""
        self.states |= {name.replace("__", "/"): state for name, state in states.items()}
        processes = [{"name": name, "state": state} for name, state in self.states.items()]
        # An hour ahead: on a busy machine it must not grow stale within a test.
        self.company.report(at=time.time() + 3600, isolation={"mode": "off"}, processes=processes)

    def bundle(self, consumer: str) -> tuple[str, Bundle, Verifier]:
        """What a consumer would read now."""
        home = self.company.home
        path = home.edge_bundle if consumer == EDGE else home.bundle(ServerName.parse(consumer))
        text, verifier = path.read_text(), Verifier(json.loads(home.bundle_keys.read_text()))
        return text, open_bundle(text, verifier, consumer), verifier

    async def acknowledge(self, hub: Hub, *consumers: str) -> None:
        """These consumers read their bundles and say so, each with its own credential."""
        for consumer in consumers or CONSUMERS:
            word = Acknowledgement.of(*self.bundle(consumer))
            answer = await self.post(hub, consumer, word.model_dump(mode="json"))
            assert answer.status_code == 204

    async def post(self, hub: Hub, consumer: str, body: dict[str, Any]) -> httpx2.Response:
        path = "edge/acknowledgement" if consumer == EDGE else "acknowledgement"
        headers = {"Authorization": f"Bearer {self.channels.get(consumer, OPERATOR)}"}
        return await hub.internal.post(f"/internal/v1/{path}", json=body, headers=headers)


@pytest.fixture
def fleet(company: Company) -> Fleet:
    return Fleet(company)


async def asked(hub: Hub, *purposes: str) -> dict[str, Any]:
    """Order a rotation of these, or look when none is named."""
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    if not purposes:
        return dict((await hub.internal.get("/internal/v1/keys", headers=headers)).json())
    body = {"purposes": list(purposes)}
    answer = await hub.internal.post("/internal/v1/keys/rotate", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def awaited(found: dict[str, Any]) -> dict[str, set[str]]:
    """For whom each rotation waits."""
    return {
        each["purpose"]: {consumer["consumer"] for consumer in each["consumers"] if consumer["awaited"]}
        for each in found["rotations"]
    }


def states(company: Company) -> tuple[list[str], list[str]]:
    home = company.home
    return tuple([key["state"] for key in keys_in(path)] for path in (home.token_ring, home.bundle_ring))  # type: ignore[return-value]


def later(hub: Hub, seconds: float) -> KeyRotation:
    """The same rotation, so many seconds from now."""
    now = hub.parts.rotation
    found = KeyRotation(now.keys, hub.parts.registry, hub.parts.status, lambda: time.time() + seconds)
    found._told = now._told
    return found


async def test_a_new_token_key_signs_once_every_live_consumer_has_acknowledged_it(hub: Hub, fleet: Fleet) -> None:
    rotation, before = hub.parts.rotation, hub.parts.rotation.keys.tokens.kid
    await fleet.acknowledge(hub)
    assert awaited(await asked(hub, "tokens")) == {"tokens": set(CONSUMERS)}
    for consumer in CONSUMERS:
        await rotation.step()
        assert kid_of(await hub.token("ana")) == before
        assert awaited(await asked(hub)) == {"tokens": set(CONSUMERS[CONSUMERS.index(consumer) :])}
        await fleet.acknowledge(hub, consumer)
    old = await hub.token("ana")
    await rotation.step()
    new = await hub.token("ana")
    assert kid_of(old) == before != kid_of(new)
    assert states(fleet.company) == (["retired", "current"], ["current"])
    for consumer in CONSUMERS:
        _, bundle, _ = fleet.bundle(consumer)
        assert {Verifier(bundle.jwks).verify(token, TOKEN_TYPE)["sub"] for token in (old, new)} == {"ana"}
    for token in (old, new):
        headers = {"Authorization": f"Bearer {token}"}
        assert (await hub.public.get("/api/v1/whoami", headers=headers)).status_code == 200


async def test_the_old_token_key_leaves_every_bundle_and_the_api_when_its_last_token_has_ended(
    hub: Hub, fleet: Fleet
) -> None:
    old = await hub.token("ana")
    await asked(hub, "tokens")
    await hub.parts.rotation.step()
    await fleet.acknowledge(hub)
    await hub.parts.rotation.step()
    version = fleet.bundle(EDGE)[1].version
    await later(hub, MAX_LIFETIME_S).step()
    assert states(fleet.company)[0] == ["retired", "current"], "a token of the last moment is still good"
    await later(hub, LATER_S).step()
    assert states(fleet.company)[0] == ["current"]
    for consumer in CONSUMERS:
        assert [key["kid"] for key in fleet.bundle(consumer)[1].jwks["keys"]] == [key_in_use(fleet)]
    assert fleet.bundle(EDGE)[1].version > version
    headers = {"Authorization": f"Bearer {old}"}
    assert (await hub.public.get("/api/v1/whoami", headers=headers)).status_code == 401


def key_in_use(fleet: Fleet) -> str:
    return str(key_in(fleet.company.home.token_ring)["kid"])


async def test_a_bundle_key_signs_once_all_know_it_and_the_old_one_goes_once_no_kept_copy_needs_it(
    hub: Hub, fleet: Fleet
) -> None:
    home, rotation = fleet.company.home, hub.parts.rotation
    before, kept = rotation.keys.bundles.kid, {name: fleet.bundle(name)[0] for name in CONSUMERS}
    await asked(hub, "bundles")
    await rotation.step()
    assert {kid_of(fleet.bundle(name)[0]) for name in CONSUMERS} == {before}
    assert len(json.loads(home.bundle_keys.read_text())["keys"]) == 2
    await fleet.acknowledge(hub)
    await rotation.step()
    assert before not in {kid_of(fleet.bundle(name)[0]) for name in CONSUMERS}
    for number, consumer in enumerate(CONSUMERS):
        await rotation.step()
        verifier = Verifier(json.loads(home.bundle_keys.read_text()))
        for name in CONSUMERS[number:]:
            assert open_bundle(kept[name], verifier, name), "its kept copy verifies over a restart"
        await fleet.acknowledge(hub, consumer)
    await rotation.step()
    verifier = Verifier(json.loads(home.bundle_keys.read_text()))
    for name in CONSUMERS:
        with pytest.raises(BundleRefused):
            open_bundle(kept[name], verifier, name)
    assert states(fleet.company)[1] == ["current"]


async def test_a_bundle_key_that_a_silent_consumer_may_need_goes_when_its_bundles_are_too_old_to_be_used(
    hub: Hub, fleet: Fleet
) -> None:
    fleet.report(dev__scratch="down")
    await asked(hub, "bundles")
    await hub.parts.rotation.step()
    await fleet.acknowledge(hub, EDGE, "prod/presto")
    await hub.parts.rotation.step()
    await fleet.acknowledge(hub, EDGE, "prod/presto")
    await hub.parts.rotation.step()
    assert states(fleet.company)[1] == ["retired", "current"]
    await later(hub, MAX_AGE_S + 3 * CLOCK_SKEW_S).step()
    assert states(fleet.company)[1] == ["current"]


async def test_a_process_that_is_down_is_not_waited_for_and_one_that_starts_is(hub: Hub, fleet: Fleet) -> None:
    fleet.report(dev__scratch="down")
    await asked(hub, "tokens")
    await hub.parts.rotation.step()
    await fleet.acknowledge(hub, EDGE, "prod/presto")
    assert awaited(await asked(hub)) == {"tokens": set()}
    fleet.report(dev__scratch="starting")
    await hub.parts.rotation.step()
    assert awaited(await asked(hub)) == {"tokens": {"dev/scratch"}}
    fleet.report(dev__scratch="down")
    await hub.parts.rotation.step()
    assert states(fleet.company)[0] == ["retired", "current"]


async def test_while_the_supervisor_says_nothing_everybody_is_waited_for(hub: Hub, fleet: Fleet) -> None:
    fleet.company.home.status.unlink()
    await asked(hub, "tokens")
    await hub.parts.rotation.step()
    await fleet.acknowledge(hub, EDGE, "prod/presto")
    await hub.parts.rotation.step()
    assert awaited(await asked(hub)) == {"tokens": {"dev/scratch"}}


async def test_a_server_that_is_withdrawn_holds_up_nobody(hub: Hub, fleet: Fleet) -> None:
    await asked(hub, "tokens")
    await hub.parts.rotation.step()
    await fleet.acknowledge(hub, EDGE, "prod/presto")
    grants = fleet.company.grants.read_text()
    fleet.company.grants.write_text(grants[: grants.index('[servers."dev/scratch"]')])
    assert await hub.parts.registry.refresh()
    await hub.parts.rotation.step()
    assert states(fleet.company)[0] == ["retired", "current"]


async def test_what_was_just_published_does_not_sign_before_it_has_settled(
    hub: Hub, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_rotation, "SETTLE_S", 3600.0)
    for state in ("live", "down"):
        fleet.report(**dict.fromkeys((EDGE, "prod__presto", "dev__scratch"), state))
        await asked(hub, "tokens", "bundles")
        await hub.parts.rotation.step()
        await fleet.acknowledge(hub)
        await hub.parts.rotation.step()
        assert states(fleet.company) == (["current", "next"], ["current", "next"])
    monkeypatch.setattr(key_rotation, "SETTLE_S", 0.0)
    await hub.parts.rotation.step()
    assert states(fleet.company) == (["retired", "current"], ["retired", "current"]), "both in one step"


async def test_a_second_order_joins_the_rotation_that_is_under_way(hub: Hub) -> None:
    first = await asked(hub, "tokens")
    second = await asked(hub, "tokens", "bundles")
    assert (first["joined"], second["joined"]) == ([], ["tokens"])
    assert second["rotations"][0]["kid"] == first["rotations"][0]["kid"]
    assert [each["purpose"] for each in second["rotations"]] == ["tokens", "bundles"]


async def test_rotations_one_after_another_keep_every_key_whose_tokens_live(hub: Hub, fleet: Fleet) -> None:
    tokens = []
    for _ in range(4):
        tokens.append(await hub.token("ana"))
        await asked(hub, "tokens")
        await hub.parts.rotation.step()
        await fleet.acknowledge(hub)
        await hub.parts.rotation.step()
    assert len({kid_of(token) for token in tokens}) == 4
    _, bundle, _ = fleet.bundle("prod/presto")
    assert {Verifier(bundle.jwks).verify(token, TOKEN_TYPE)["sub"] for token in tokens} == {"ana"}


async def test_a_ring_that_is_rotated_without_end_is_full_until_its_oldest_key_goes(hub: Hub, fleet: Fleet) -> None:
    ring = hub.parts.rotation.keys.tokens
    for _ in range(MOST_KEYS - 1):
        ring.add_next(time.time())
        ring.promote(time.time())
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    answer = await hub.internal.post("/internal/v1/keys/rotate", json={"purposes": ["tokens"]}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "too_many_keys")
    assert "16 keys for tokens are verified with" in answer.json()["error"]["message"]
    await hub.parts.rotation.step()
    await fleet.acknowledge(hub)
    await later(hub, LATER_S).step()
    assert (await asked(hub, "tokens"))["joined"] == []


Step = Callable[[Hub, Fleet], Any]


async def _order(hub: Hub, fleet: Fleet) -> None:
    await asked(hub, "tokens", "bundles")


async def _step(hub: Hub, fleet: Fleet) -> None:
    await hub.parts.rotation.step()


async def _acknowledge(hub: Hub, fleet: Fleet) -> None:
    await fleet.acknowledge(hub)


async def _promote_in_memory_of_the_disk_alone(hub: Hub, fleet: Fleet) -> None:
    for ring in hub.parts.rotation.keys.rings:
        ring.promote(time.time())


LIFE: tuple[Step, ...] = (_order, _step, _acknowledge, _step, _acknowledge, _step)


@pytest.mark.parametrize("crash", range(1, len(LIFE) + 1))
async def test_a_hub_that_dies_at_any_step_goes_on_after_its_restart(
    company: Company, fleet: Fleet, crash: int
) -> None:
    async with opened(company) as hub:
        token = await hub.token("ana")
        for step in LIFE[:crash]:
            await step(hub, fleet)
    await goes_on(company, fleet, token)


async def test_a_hub_that_dies_between_the_ring_and_the_bundles_goes_on_after_its_restart(
    company: Company, fleet: Fleet
) -> None:
    for steps in ((_order,), (_order, _step, _acknowledge, _promote_in_memory_of_the_disk_alone)):
        async with opened(company) as hub:
            token = await hub.token("ana")
            for step in steps:
                await step(hub, fleet)
        await goes_on(company, fleet, token)


async def goes_on(company: Company, fleet: Fleet, token: str) -> None:
    """After a restart a token from before is good all along, and the rotation ends."""
    async with opened(company) as hub:
        for step in (_acknowledge, _step, _acknowledge, _step, _acknowledge, _step):
            _, bundle, _ = fleet.bundle("prod/presto")
            for each in (token, await hub.token("ana")):
                assert Verifier(bundle.jwks).verify(each, TOKEN_TYPE)["sub"] == "ana"
            await step(hub, fleet)
        assert (await asked(hub))["rotations"] == []
        assert states(company)[1] == ["current"]
        assert [state for state in states(company)[0] if state != "retired"] == ["current"]


@asynccontextmanager
async def full_disk(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> AsyncIterator[None]:
    async def no_space(*_arguments: Any, **_options: Any) -> list[str]:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(hub.parts.registry._bundles, "write", no_space)
        yield


async def test_bundles_that_cannot_be_written_hold_the_new_key_back_and_are_tried_again(
    hub: Hub, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asked(hub, "tokens")
    async with full_disk(monkeypatch, hub):
        with pytest.raises(OSError, match="No space"):
            await hub.parts.rotation.step()
        await fleet.acknowledge(hub)
        with pytest.raises(OSError, match="No space"):
            await hub.parts.rotation.step()
    assert states(fleet.company)[0] == ["current", "next"]
    await hub.parts.rotation.step()
    await fleet.acknowledge(hub)
    await hub.parts.rotation.step()
    assert states(fleet.company)[0] == ["retired", "current"]


async def test_every_step_is_a_line_in_the_log_with_its_key_and_no_secret(
    hub: Hub, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for step in LIFE:
        await step(hub, fleet)
    lines = [record for record in caplog.records if record.getMessage() == "key rotation"]
    told = {(record.__dict__["purpose"], record.__dict__["step"]) for record in lines}
    assert told == {(p, s) for p in ("tokens", "bundles") for s in ("begun", "signs")} | {("bundles", "removed")}
    secrets = [key_in(path)["d"] for path in (fleet.company.home.token_ring, fleet.company.home.bundle_ring)]
    assert not [secret for secret in secrets if secret in str([record.__dict__ for record in caplog.records])]


async def test_a_bundle_that_was_signed_with_the_next_key_too_early_would_verify_nowhere(
    hub: Hub, fleet: Fleet
) -> None:
    """Why consumers are asked: what is not published yet is refused, whoever made it."""
    verifier = fleet.bundle(EDGE)[2]
    hub.parts.rotation.begin("bundles")
    early = fleet.bundle(EDGE)[1].sign(Signer(key_in(fleet.company.home.bundle_ring, "next")))
    with pytest.raises(BundleRefused):
        open_bundle(early, verifier, EDGE)
