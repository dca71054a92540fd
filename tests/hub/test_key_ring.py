"""The ring of keys on the disk: what is kept, what is taken over, and what is refused."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from pegboard.core.errors import ConfigurationError
from pegboard.core.jose import Verifier, new_private_key
from pegboard.core.token import CLOCK_SKEW_S, MAX_LIFETIME_S
from pegboard_hub.common import home as home_module
from pegboard_hub.common.home import Home
from pegboard_hub.identity.keys import open_keys
from pegboard_hub.identity.ring import KeyState, Ring
from tests.hub.company import Company
from tests.rings import keys_in

NOW = 1_800_000_000.0
BEFORE = 1_700_000_000.0


def ring(home: Home, now: float = NOW, good_for_s: float = MAX_LIFETIME_S) -> Ring:
    return Ring(home.token_ring, "tokens", good_for_s, now)


def states(found: Ring) -> list[str]:
    return [key.state.value for key in found.keys]


def test_a_key_goes_from_next_to_current_to_retired_to_gone(company: Company) -> None:
    found = ring(company.home)
    first = found.kid
    coming = found.add_next(NOW + 1)
    assert found.add_next(NOW + 2).kid == coming.kid, "a second order joins the first"
    assert (states(found), found.kid) == (["current", "next"], first)
    signed = found.sign({"x": 1}, "t")
    found.promote(NOW + 3)
    assert (states(found), found.kid) == (["retired", "current"], coming.kid)
    assert Verifier(found.jwks).verify(signed, "t") == {"x": 1}
    assert found.retired[0].until == NOW + 3 + MAX_LIFETIME_S + 2 * CLOCK_SKEW_S
    assert found.over(NOW + 3 + MAX_LIFETIME_S) == ()
    (over,) = found.over(NOW + 3 + MAX_LIFETIME_S + 2 * CLOCK_SKEW_S)
    found.drop(over.kid)
    assert states(found) == ["current"]
    with pytest.raises(ValueError, match="does not verify"):
        Verifier(found.jwks).verify(signed, "t")


def test_every_step_is_on_the_disk_before_it_counts(company: Company) -> None:
    found = ring(company.home)
    first = found.kid
    for step in (found.add_next, found.promote, found.add_next, found.promote, lambda _now: found.drop(first)):
        step(NOW)
        again = ring(company.home)
        assert (again.keys, again.kid, again.jwks) == (found.keys, found.kid, found.jwks)


@pytest.mark.parametrize("step", ["add_next", "promote"])
def test_a_step_that_cannot_be_written_is_not_taken(
    company: Company, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    found = ring(company.home)
    if step == "promote":
        found.add_next(NOW)
    before, text = (found.keys, found.kid), company.home.token_ring.read_text()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(home_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        getattr(found, step)(NOW)
    assert (found.keys, found.kid) == before
    assert company.home.token_ring.read_text() == text
    assert [path.name for path in company.home.keys.iterdir()] == ["token-signing.jwk.json"]


def test_private_halves_are_there_only_while_a_key_signs_or_will(company: Company) -> None:
    found = ring(company.home)
    secret = keys_in(company.home.token_ring)[0]["jwk"]["d"]
    found.add_next(NOW)
    found.promote(NOW)
    assert secret not in company.home.token_ring.read_text()
    assert ["d" in key["jwk"] for key in keys_in(company.home.token_ring)] == [False, True]
    assert all("d" not in key for key in found.jwks["keys"])
    assert secret not in repr(found.keys)
    assert stat.S_IMODE(company.home.token_ring.stat().st_mode) == 0o600


def test_what_a_killed_hub_left_half_written_is_removed(company: Company) -> None:
    ring(company.home)
    left = company.home.keys / ".token-signing.jwk.json.abcdef"
    left.write_text('{"d": "a private half"}')
    ring(company.home)
    assert not left.exists()


def test_the_single_keys_of_an_older_version_are_taken_over_as_they_are(company: Company) -> None:
    home = company.home
    single = {home.token_ring: new_private_key(), home.bundle_ring: new_private_key()}
    for path, key in single.items():
        path.write_text(json.dumps(key))
        path.chmod(0o600)
        os.utime(path, (BEFORE, BEFORE))
    for _ in range(2):
        keys = open_keys(home)
        assert {keys.tokens.kid, keys.bundles.kid} == {key["kid"] for key in single.values()}
        assert [key.made_at for each in keys.rings for key in each.keys] == [BEFORE, BEFORE]
        assert [states(each) for each in keys.rings] == [["current"], ["current"]]
        assert [key["jwk"] for key in keys_in(home.token_ring)] == [single[home.token_ring]]


def broken(company: Company, change: object) -> Path:
    found = ring(company.home)
    found.add_next(NOW)
    document = json.loads(company.home.token_ring.read_text())
    company.home.token_ring.write_text(json.dumps(change(document)))  # type: ignore[operator]
    return company.home.token_ring


@pytest.mark.parametrize("number", [2, "1", None])
def test_a_ring_of_a_newer_version_is_refused_and_left_alone(company: Company, number: object) -> None:
    path = broken(company, lambda document: document | {"format": number})
    text = path.read_text()
    with pytest.raises(ConfigurationError, match=r"this version of Pegboard knows 1.*run the version that wrote it"):
        ring(company.home)
    assert path.read_text() == text


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d | {"purpose": "bundles"},
        lambda d: d | {"keys": []},
        lambda d: d | {"keys": d["keys"][1:]},
        lambda d: d | {"keys": [*d["keys"], d["keys"][0]]},
        lambda d: d | {"keys": [d["keys"][0] | {"state": "retired"}, d["keys"][1] | {"state": "current"}]},
        lambda d: d | {"keys": [d["keys"][0] | {"kid": "another"}]},
        lambda d: d | {"keys": [d["keys"][0] | {"jwk": {**d["keys"][0]["jwk"], "d": "AA"}}]},
        lambda d: d | {"keys": [d["keys"][0] | {"later": 1}]},
    ],
    ids=["purpose", "none", "only next", "two current", "private retired", "kid", "half a key", "unknown field"],
)
def test_a_ring_that_says_what_cannot_be_is_refused(company: Company, change: object) -> None:
    broken(company, change)
    with pytest.raises(ConfigurationError, match="holds no private key"):
        ring(company.home)


def test_a_key_outlives_the_longest_lifetime_it_ever_signed_with(company: Company) -> None:
    ring(company.home, good_for_s=600)
    shorter = ring(company.home, good_for_s=30)
    shorter.add_next(NOW)
    shorter.promote(NOW)
    assert shorter.retired[0].until == NOW + 600 + 2 * CLOCK_SKEW_S
    shorter.add_next(NOW)
    longer = ring(company.home, good_for_s=900)
    longer.promote(NOW)
    assert longer.retired[-1].until == NOW + 900 + 2 * CLOCK_SKEW_S
    assert longer.current.good_for_s == 900


def test_a_retired_key_whose_time_is_over_is_gone_at_the_next_start(company: Company) -> None:
    found = ring(company.home)
    found.add_next(NOW)
    found.promote(NOW)
    assert [key.state for key in ring(company.home, NOW + 60).keys] == [KeyState.RETIRED, KeyState.CURRENT]
    assert [key.state for key in ring(company.home, NOW + 1000).keys] == [KeyState.CURRENT]
