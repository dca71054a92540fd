"""Which bundle the edge decides with."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator

import pytest

from pegboard.core.bundle import EDGE, Bundle, BundledServer, Endpoint
from pegboard.core.jose import Jwk, Signer, new_private_key, public_jwks
from pegboard.core.names import ServerName
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.edge.standing import EdgeStanding

URL = "http://localhost:8400"


class Hub:
    """Signs bundles as the hub does."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.key: Jwk = new_private_key()
        replace_file(home.bundle_keys, json.dumps(public_jwks(self.key)))

    def write(self, version: int, servers: int = 1, *named: BundledServer, **changed: object) -> None:
        names = [f"prod/server-{number}" for number in range(servers)]
        granted = ("ads-eng", "finance", "data-infra", "platform")
        document = {
            "consumer": EDGE,
            "version": version,
            "issued_at": int(time.time()),
            "issuer": URL,
            "jwks": public_jwks(self.key),
            "servers": tuple(
                BundledServer(server=n, owner="platform", support_channel="#d", release="r" * 64, groups=granted)
                for n in names
            )
            + named,
        }
        bundle = Bundle.model_validate({**document, **changed})
        replace_file(self.home.edge_bundle, bundle.sign(Signer(self.key)))


@pytest.fixture
def home() -> Iterator[Home]:
    """A home with a short path, so that its sockets stay inside it."""
    with tempfile.TemporaryDirectory(prefix="pgb", dir="/tmp") as folder:
        yield Home.open(folder)


@pytest.fixture
def hub(home: Home) -> Hub:
    return Hub(home)


def standing(home: Home) -> EdgeStanding:
    return EdgeStanding(home, URL, ("127.0.0.1",), 8400)


def servers(edge: EdgeStanding) -> int | None:
    edge.look()
    snapshot = edge.snapshot(time.time())
    return None if snapshot is None else len(snapshot.servers)


def test_without_a_bundle_there_is_nothing_to_decide_with(home: Home) -> None:
    assert servers(standing(home)) is None


def test_a_bundle_of_ten_thousand_servers_is_taken(home: Home, hub: Hub) -> None:
    hub.write(1, servers=10_000)
    assert servers(standing(home)) == 10_000


def test_a_later_bundle_replaces_an_earlier_one_and_never_the_other_way(home: Home, hub: Hub) -> None:
    edge = standing(home)
    hub.write(5, servers=2)
    assert servers(edge) == 2
    hub.write(6, servers=3)
    assert servers(edge) == 3
    hub.write(5, servers=2)
    assert servers(edge) == 3
    assert servers(standing(home)) == 3, "a restart must not bring back what was replaced"


def test_an_earlier_signature_of_the_same_version_does_not_make_it_younger(home: Home, hub: Hub) -> None:
    edge = standing(home)
    now = int(time.time())
    hub.write(1, issued_at=now, servers=1)
    assert servers(edge) == 1
    hub.write(1, issued_at=now - 100, servers=2)
    assert servers(edge) == 1


@pytest.mark.parametrize("changed", [{"consumer": "prod/presto"}, {"issuer": "http://elsewhere"}])
def test_a_bundle_for_somebody_else_is_not_used(home: Home, hub: Hub, changed: dict[str, object]) -> None:
    edge = standing(home)
    hub.write(1, servers=1)
    assert servers(edge) == 1
    hub.write(2, servers=2, **changed)
    assert servers(edge) == 1


def test_a_strangers_signature_is_not_believed(home: Home, hub: Hub) -> None:
    edge = standing(home)
    hub.write(1, servers=1)
    assert servers(edge) == 1
    known = hub.home.bundle_keys.read_text()
    stranger = Hub(home)
    replace_file(home.bundle_keys, known)
    stranger.write(2, servers=2)
    assert servers(edge) == 1


def test_keys_that_come_after_the_bundle_are_waited_for(home: Home, hub: Hub) -> None:
    keys = home.bundle_keys.read_text()
    home.bundle_keys.unlink()
    edge = standing(home)
    hub.write(1)
    assert servers(edge) is None
    replace_file(home.bundle_keys, keys)
    assert servers(edge) == 1


def test_a_bundle_past_its_age_closes_the_edge(home: Home, hub: Hub) -> None:
    hub.write(1, max_age_s=60)
    edge = standing(home)
    edge.look()
    now = time.time()
    fresh, late = edge.snapshot(now), edge.snapshot(now + 62)
    assert fresh is not None
    assert late is not None
    assert (fresh.expired, late.expired) == (False, True)


@pytest.mark.parametrize(
    ("after_s", "expired", "stops_unknown"), [(299, False, False), (302, False, True), (86_402, True, True)]
)
def test_five_minutes_without_contact_close_the_sensitive_servers_and_a_day_all(
    home: Home, hub: Hub, after_s: int, expired: bool, stops_unknown: bool
) -> None:
    now = int(time.time())
    hub.write(1, issued_at=now)
    edge = standing(home)
    edge.look()
    found = edge.snapshot(now + after_s)
    assert found is not None
    assert (found.expired, found.stops_unknown) == (expired, stops_unknown)
    hub.write(1, issued_at=now + after_s)
    edge.look()
    renewed = edge.snapshot(now + after_s)
    assert renewed is not None
    assert (renewed.expired, renewed.stops_unknown) == (False, False)


def test_ages_can_be_tightened_and_a_bundle_that_loosens_them_is_refused(home: Home, hub: Hub) -> None:
    edge = standing(home)
    hub.write(1, stops_max_age_s=10)
    edge.look()
    late = edge.snapshot(time.time() + 12)
    assert late is not None
    assert late.stops_unknown
    for loose in ({"max_age_s": 86_401}, {"stops_max_age_s": 301}):
        with pytest.raises(ValueError, match="less than or equal"):
            hub.write(2, **loose)


def test_the_copy_of_a_run_on_another_public_url_is_set_aside_once_and_without_alarm(
    home: Home, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    hub.write(1, servers=1, issuer="http://localhost:8500")
    last_run = EdgeStanding(home, "http://localhost:8500", ("127.0.0.1",), 8500)
    assert servers(last_run) == 1
    home.edge_bundle.unlink()
    edge = standing(home)
    for _ in range(3):
        assert servers(edge) is None
    hub.write(2, servers=2)
    assert servers(edge) == 2
    told = [record for record in caplog.records if "kept from the last run" in record.getMessage()]
    assert [(record.levelname, record.getMessage()) for record in told] == [
        (
            "INFO",
            f"the bundle kept from the last run is not used: it is for http://localhost:8500, and this edge is {URL}",
        )
    ]
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 1, "only that there is no bundle yet"


@pytest.mark.parametrize(
    "path",
    ["internal/internal.sock", "hub/hub.sock", "edge/admin.sock", "operator.token", "sx/a.sock", "s/" + "a" * 110],
)
def test_nothing_is_sent_to_a_socket_that_no_server_has(
    home: Home, hub: Hub, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    edge = standing(home)
    endpoints = tuple(Endpoint(address=f"unix:{each}", release="r" * 64) for each in (path, "s/prod.a/1.sock"))
    server = BundledServer(
        server="prod/presto", owner="o", support_channel="#o", release="r" * 64, endpoints=endpoints
    )
    hub.write(1, 0, server)
    edge.look()
    snapshot = edge.snapshot(time.time())
    assert snapshot is not None
    [[replica]] = [each.replicas for each in snapshot.servers]
    assert replica.socket == home.run / "s/prod.a/1.sock"
    assert "nothing is sent there" in caplog.text
    hub.write(2, 0, server.model_copy(update={"endpoints": endpoints[:1]}))
    edge.look()
    snapshot = edge.snapshot(time.time())
    assert snapshot is not None
    [known] = snapshot.servers
    assert known.replicas == ()
    assert known.socket != home.socket(ServerName.parse("prod/presto"))
