"""An author reads which place their server looked for and had not declared."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest

from pegboard.remote.undeclared import MOST_SAID, Undeclared


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_place_that_egress_does_not_name_is_said_once_with_what_to_write(caplog: pytest.LogCaptureFixture) -> None:
    watching = Undeclared(["api.example.com:443"])
    for _ in range(2):
        watching.note("Other.example.com", 443)
    assert len(said(caplog)) == 1
    assert 'add "other.example.com:443" to egress' in said(caplog)[0]


@pytest.mark.parametrize(
    ("host", "port"),
    [("api.example.com", 443), (b"API.example.com.", 443), ("api.example.com", None), ("localhost", 1), ("::1", 1),
     ("127.0.0.1", 80), (None, 80), ("", 80), (7, 80)],
)  # fmt: skip
def test_nothing_is_said_of_what_is_declared_or_its_own(
    host: object, port: object, caplog: pytest.LogCaptureFixture
) -> None:
    Undeclared(["api.example.com:443"]).note(host, port)
    assert said(caplog) == []


def test_another_port_of_a_declared_host_is_said(caplog: pytest.LogCaptureFixture) -> None:
    Undeclared(["api.example.com:443"]).note("api.example.com", 80)
    assert 'add "api.example.com:80" to egress' in said(caplog)[0]


def test_code_that_looks_for_ever_more_places_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    watching = Undeclared([])
    for number in range(MOST_SAID + 10):
        watching.note(f"host-{number}.example", 1)
    assert len(said(caplog)) == MOST_SAID


def test_what_a_client_looks_up_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    watching = Undeclared([])
    watching.watch()
    with suppress(OSError):
        socket.getaddrinfo("203.0.113.7", 443)
    assert any("203.0.113.7:443" in text for text in said(caplog))
    watching._said.update(map(str, range(MOST_SAID)))  # a hook cannot be taken away: it is quiet from now on
