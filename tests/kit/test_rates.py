"""What an operator writes about limits."""

from __future__ import annotations

import pytest

from pegboard.core.errors import ConfigurationError
from pegboard.core.grants import read_grants
from pegboard.core.rates import NO_SERVER_LIMIT, Limits, RateLimit


def limits(text: str) -> Limits:
    return read_grants(text, "grants.toml").limits.compiled()


def test_a_file_that_says_nothing_still_limits_people_addresses_and_servers() -> None:
    assert {(rate.per, rate.requests, rate.seconds) for rate in limits("").rates} == {
        ("address", 6_000, 60),
        ("address", 120_000, 60),
        ("person", 3_000, 60),
        ("server", 6_000, 60),
    }


def test_zero_is_no_limit_and_further_rates_hold_beside() -> None:
    found = limits(
        "[limits]\naddress = 0\naddress_in_all = 0\nperson = 0\nserver = 0\n"
        'rates = [{ per = "surface", requests = 5 }]'
    )
    assert found.rates == (RateLimit(per="surface", requests=5),)


def test_a_server_is_given_a_time_and_a_number_of_calls() -> None:
    found = limits('[limits.servers."prod/presto"]\ntimeout_s = 30\ncalls = 8')
    assert (found.of("prod/presto").timeout_s, found.of("prod/presto").calls) == (30, 8)
    assert found.of("dev/scratch") == NO_SERVER_LIMIT


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("person = -1", "limits.person"),
        ("persons = 5", "person"),
        ('rates = [{ per = "team", requests = 5 }]', "limits.rates.0.per"),
        ('rates = [{ per = "person", requests = 0 }]', "limits.rates.0.requests"),
        ('rates = [{ per = "person", requests = 5, surfaces = ["fax"] }]', "fax"),
        ('rates = [{ per = "person", requests = 5, servers = ["presto"] }]', "presto"),
        ('rates = [{ per = "address", requests = 5, surfaces = ["cli"] }]', "without a token"),
        ('rates = [{ per = "person", requests = 5, in_all = true }]', "in_all"),
        ('servers = { "prod/presto" = { timeout_s = 0 } }', "timeout_s"),
    ],
)
def test_a_limit_that_cannot_be_is_named(text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        limits(f"[limits]\n{text}")


@pytest.mark.parametrize(("requests", "seconds", "wait"), [(1_200, 60, 1), (1, 60, 60), (7, 60, 9)])
def test_when_to_come_back_is_when_a_token_comes_back(requests: int, seconds: int, wait: int) -> None:
    assert RateLimit(per="person", requests=requests, seconds=seconds).retry_after_s == wait
