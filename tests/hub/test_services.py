"""Services' identities: the development CA, a Workload API, and what the hub gives for a certificate."""

from __future__ import annotations

import json
import logging
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from spiffe._proto import workload_pb2, workload_pb2_grpc

from pegboard.cli.app import run
from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.home import Home
from pegboard_hub.common.requests import PEER_HEADER, SPIFFE_ENDS_HEADER, SPIFFE_HEADER
from pegboard_hub.common.settings import ServiceSettings
from pegboard_hub.services.authority import LONGEST_S, Authority
from pegboard_hub.services.keeper import Development, Keeper
from pegboard_hub.services.material import Files, Material, Svid
from pegboard_hub.services.workload import WorkloadApi
from pegboard_hub.stopping.service import MACHINE
from tests.hub.company import URL, Company, Hub, opened, scratch
from tests.hub.test_registry import edge_bundle
from tests.oauth import claims_of

NOW = 1_800_000_000.0
TD = "example.org"
REPORT = f"spiffe://{TD}/report"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> Authority:
    made = Authority(tmp_path / "ca", TD, clock, settle_s=60)
    made.open()
    return made


def read(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


class TestAuthority:
    def test_its_key_is_the_operators_alone(self, authority: Authority) -> None:
        key = authority.signer.with_suffix(".key")
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(authority.folder.stat().st_mode) == 0o700
        key.chmod(0o640)
        with pytest.raises(ConfigurationError, match="others may read it"):
            authority.open()

    def test_an_svid_names_one_spiffe_id_and_signs_nothing(self, authority: Authority) -> None:
        svid = authority.mint(REPORT, 600, ("localhost", "127.0.0.1"))
        found = read(svid.chain)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [REPORT]
        assert names.get_values_for_type(x509.DNSName) == ["localhost"]
        assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert not found.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
        assert svid.ends_at == NOW + 600
        assert "PRIVATE" not in repr(svid)

    @pytest.mark.parametrize("name", ["spiffe://other.org/a", f"spiffe://{TD}", "ana", f"{REPORT},{REPORT}", ""])
    def test_it_signs_for_nobody_else(self, authority: Authority, name: str) -> None:
        with pytest.raises(ValueError, match="no SPIFFE ID of"):
            authority.mint(name)

    @pytest.mark.parametrize("ttl_s", [0, -1, LONGEST_S + 1])
    def test_it_signs_nothing_that_lives_long(self, authority: Authority, ttl_s: int) -> None:
        with pytest.raises(ValueError, match="is not from 1 to"):
            authority.mint(REPORT, ttl_s)

    def test_a_home_of_another_trust_domain_is_not_taken_over(self, authority: Authority) -> None:
        with pytest.raises(ConfigurationError, match=TD):
            Authority(authority.folder, "other.org").open()

    def test_a_new_one_is_told_of_first_then_signs_and_the_last_one_counts_as_long_as_what_it_signed(
        self, authority: Authority, clock: Clock
    ) -> None:
        first = authority.signer
        authority.rotate()
        assert authority.signer == first
        assert authority.bundle.count("BEGIN") == 2
        clock.now += 61
        assert authority.signer != first
        authority.mint(REPORT)
        assert not first.with_suffix(".key").exists()
        assert authority.bundle.count("BEGIN") == 2
        clock.now += LONGEST_S
        assert authority.bundle.count("BEGIN") == 1
        assert authority.bundle == authority.signer.read_text()

    def test_two_new_ones_at_once_leave_the_last_one_signing(self, authority: Authority, clock: Clock) -> None:
        first = authority.signer
        for _ in range(2):
            authority.rotate()
            clock.now += 31
            authority.mint(REPORT)
        assert [path.stem for path in (first, authority.signer)] == ["0001", "0002"]
        clock.now += 31
        authority.mint(REPORT)
        assert authority.signer.stem == "0003"
        assert sorted(path.stem for path in authority.folder.glob("*.key")) == ["0003"]


class TestKeeper:
    def test_the_edges_certificate_is_renewed_at_half_of_its_life(
        self, authority: Authority, clock: Clock, tmp_path: Path
    ) -> None:
        files = Files(tmp_path / "svid.json", tmp_path / "trust.json")
        keeper = Keeper(Development(authority, ("localhost",), 600, clock), files)
        assert keeper.look()
        before = files.svid.read_text()
        assert stat.S_IMODE(files.svid.stat().st_mode) == 0o400
        clock.now += 299
        assert not keeper.look()
        clock.now += 2
        assert keeper.look()
        assert files.svid.read_text() != before
        (secret,) = json.loads(files.svid.read_text())["resources"]
        chain = secret["tls_certificate"]["certificate_chain"]["inline_string"]
        assert read(chain).not_valid_after_utc.timestamp() == clock.now + 600

    def test_a_source_in_trouble_leaves_the_last_files(
        self, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        material = Development(authority, ()).look()

        class Source:
            def __init__(self) -> None:
                self.says: Material | None = material

            def look(self) -> Material | None:
                if self.says is None:
                    raise OSError("it is away")
                return self.says

        source, beats = Source(), list[int]()
        keeper = Keeper(source, Files(tmp_path / "s", tmp_path / "t"), lambda: beats.append(1))
        assert keeper.look()
        before = (tmp_path / "s").read_text()
        source.says = None
        with caplog.at_level(logging.WARNING):
            assert not keeper.look()
            assert not keeper.look()
        assert (tmp_path / "s").read_text() == before
        assert [record.message for record in caplog.records].count(
            "the edge's identity cannot be renewed, and is tried again: it is away"
        ) == 1
        assert beats == [1]


@dataclass
class Endpoint(workload_pb2_grpc.SpiffeWorkloadAPIServicer):  # type: ignore[misc]
    """A Workload API, as SPIRE's agent has one: it says who the caller is, and says so anew when that changes."""

    says: workload_pb2.X509SVIDResponse | None = None
    changed: threading.Event = field(default_factory=threading.Event)
    ended: bool = False
    headers: list[dict[str, str]] = field(default_factory=list)

    def FetchX509SVID(self, _request: Any, context: Any) -> Iterator[workload_pb2.X509SVIDResponse]:  # noqa: N802
        self.headers.append(dict(context.invocation_metadata()))
        if self.says is None:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
        while not self.ended:
            self.changed.clear()
            yield self.says
            while not self.ended and not self.changed.wait(0.05):
                if not context.is_active():
                    return

    def tell(self, svid: Svid, own: str, federated: dict[str, str] | None = None) -> None:
        key = serialization.load_pem_private_key(svid.key.encode(), None)
        private = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        told = workload_pb2.X509SVID(
            spiffe_id=svid.spiffe_id, x509_svid=der(svid.chain), x509_svid_key=private, bundle=der(own)
        )
        others = {f"spiffe://{name}": der(pem) for name, pem in (federated or {}).items()}
        self.says = workload_pb2.X509SVIDResponse(svids=[told], federated_bundles=others)
        self.changed.set()


def der(pem: str) -> bytes:
    found = x509.load_pem_x509_certificates(pem.encode())
    return b"".join(each.public_bytes(serialization.Encoding.DER) for each in found)


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[tuple[Endpoint, str]]:
    served, address = Endpoint(), f"unix://{tmp_path}/agent.sock"
    server = grpc.server(futures.ThreadPoolExecutor(4))
    workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(served, server)
    server.add_insecure_port(f"unix:{tmp_path}/agent.sock")
    server.start()
    yield served, address
    served.ended = True
    server.stop(None).wait()


def eventually(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestWorkloadApi:
    def test_its_updates_become_the_edges_files(
        self, endpoint: tuple[Endpoint, str], authority: Authority, tmp_path: Path
    ) -> None:
        served, address = endpoint
        first = authority.mint(f"spiffe://{TD}/edge", 600)
        served.tell(first, authority.bundle)
        source, files = WorkloadApi(address, (TD,)), Files(tmp_path / "s", tmp_path / "t")
        keeper = Keeper(source, files)
        try:
            assert keeper.look()
            assert served.headers[0]["workload.spiffe.io"] == "true"
            assert source.look().bundles == {TD: authority.bundle}  # type: ignore[union-attr]
            authority.rotate()
            served.tell(authority.mint(f"spiffe://{TD}/edge", 600), authority.bundle)
            eventually(keeper.look)
            found = source.look()
            assert found is not None
            assert found.svid.chain != first.chain
            assert found.bundles[TD].count("BEGIN") == 2
        finally:
            source.close()

    def test_a_federated_domain_counts_only_if_the_operator_names_it(
        self, endpoint: tuple[Endpoint, str], authority: Authority, tmp_path: Path, clock: Clock
    ) -> None:
        partner = Authority(tmp_path / "partner", "partner.example", clock)
        partner.open()
        served, address = endpoint
        svid = authority.mint(f"spiffe://{TD}/edge")
        served.tell(svid, authority.bundle, {"partner.example": partner.bundle})
        for named, trusted in (((TD,), {TD}), ((TD, "partner.example"), {TD, "partner.example"})):
            source = WorkloadApi(address, named)
            try:
                found = source.look()
                assert found is not None
                assert set(found.bundles) == trusted
            finally:
                source.close()

    def test_one_that_gives_no_identity_changes_nothing_and_is_asked_again(
        self, endpoint: tuple[Endpoint, str], authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pegboard_hub.services.workload.FIRST_S", 0.2)
        served, address = endpoint
        source, files = WorkloadApi(address, (TD,)), Files(tmp_path / "s", tmp_path / "t")
        keeper = Keeper(source, files)
        try:
            assert not keeper.look()
            assert not files.svid.exists()
            served.tell(authority.mint(f"spiffe://{TD}/edge"), authority.bundle)
            eventually(keeper.look)
            assert files.svid.exists()
        finally:
            source.close()


SERVICES = ServiceSettings(8443, (TD,))
SCRATCH = f"{URL}/mcp/dev/scratch"


@pytest.fixture
async def hub(company: Company, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    granting = f'["cli", "service"]\nservices = ["{REPORT}"]'
    company.grants.write_text(company.grants.read_text().replace('["cli", "web"]', granting))
    tools = [{"name": "echo", "policy": "granted", "read_only": True}]
    company.deploy("dev/scratch", scratch() | {"tools": [*tools, {"name": "remember", "policy": "granted"}]})
    settings = replace(company.settings, services=SERVICES)
    monkeypatch.setattr(Company, "settings", property(lambda _self: settings))
    async with opened(company) as hub:
        yield hub


def told(spiffe_id: str = REPORT, ends_in: float = 600) -> dict[str, str]:
    """What the edge writes at the port for services."""
    return {SPIFFE_HEADER: spiffe_id, SPIFFE_ENDS_HEADER: str(int(time.time() + ends_in)), PEER_HEADER: "192.0.2.1"}


@pytest.mark.anyio
class TestTokens:
    async def test_a_certificate_is_exchanged_for_a_short_token(self, hub: Hub) -> None:
        form = {"grant_type": "client_credentials", "resource": SCRATCH}
        answer = await hub.public.post("/oauth/token", data=form, headers=told())
        claims = claims_of(answer.json()["access_token"])
        now = claims.pop("iat")
        assert claims.pop("jti")
        assert claims.pop("exp") == now + 300
        assert claims == {
            "iss": URL,
            "sub": REPORT,
            "sub_type": "service",
            "groups": [],
            "client_id": REPORT,
            "surface": "service",
            "scope": "tools:read",
            "aud": SCRATCH,
        }

    async def test_the_metadata_says_where_services_ask(self, hub: Hub) -> None:
        document = (await hub.public.get("/.well-known/oauth-authorization-server")).json()
        assert "client_credentials" in document["grant_types_supported"]
        assert "tls_client_auth" in document["token_endpoint_auth_methods_supported"]
        assert document["mtls_endpoint_aliases"] == {"token_endpoint": "https://localhost:8443/oauth/token"}

    @pytest.mark.parametrize(
        ("headers", "error"),
        [
            (dict, "invalid_client"),
            (lambda: {SPIFFE_HEADER: REPORT}, "invalid_client"),
            (lambda: told(ends_in=-1), "invalid_client"),
            (lambda: told(f"{REPORT},{REPORT}"), "invalid_client"),
            (lambda: told("spiffe://other.org/report"), "invalid_client"),
            (lambda: told(f"spiffe://{TD}/other"), "invalid_target"),
        ],
    )
    async def test_refused_attempts_are_counted_by_their_error(
        self, hub: Hub, headers: Callable[[], dict[str, str]], error: str
    ) -> None:
        form = {"grant_type": "client_credentials", "resource": SCRATCH}
        answer = await hub.public.post("/oauth/token", data=form, headers=headers())
        assert answer.json()["error"] == error
        line = f'pegboard_hub_service_tokens_refused_total{{error="{error}"}} 1.0'
        assert line in hub.parts.meter.page().decode()

    @pytest.mark.parametrize(("kind", "name"), [("service", REPORT), ("surface", "service")])
    async def test_one_that_is_stopped_gets_none_until_it_is_resumed_and_is_told_why(
        self, hub: Hub, kind: str, name: str
    ) -> None:
        form = {"grant_type": "client_credentials", "resource": SCRATCH}
        await hub.parts.stopping.stop(MACHINE, kind, name, "it runs in a loop")
        answer = await hub.public.post("/oauth/token", data=form, headers=told())
        assert (answer.status_code, answer.json()["error"]) == (400, "access_denied")
        assert "stopped: it runs in a loop." in answer.json()["error_description"]
        await hub.parts.stopping.resume(MACHINE, kind, name)
        assert (await hub.public.post("/oauth/token", data=form, headers=told())).status_code == 200

    async def test_a_stopped_server_is_told_of_to_those_alone_whom_it_is_granted(self, hub: Hub) -> None:
        form = {"grant_type": "client_credentials", "resource": SCRATCH}
        await hub.parts.stopping.stop(MACHINE, "server", "dev/scratch", "it runs in a loop")
        for name, knows in ((REPORT, True), (f"spiffe://{TD}/other", False)):
            answer = await hub.public.post("/oauth/token", data=form, headers=told(name))
            assert answer.json()["error"] == "invalid_target"
            assert ("loop" in answer.json()["error_description"]) is knows

    @pytest.mark.parametrize(("tool", "at_the_edge"), [("echo", True), ("remember", False)])
    async def test_a_stop_of_a_tool_that_writes_is_its_servers_alone_where_services_call(
        self, hub: Hub, company: Company, tool: str, at_the_edge: bool
    ) -> None:
        """It is hidden from them, and the edge would tell them of it."""
        await hub.parts.stopping.stop(MACHINE, "tool", f"dev/scratch/{tool}", "it runs in a loop")
        await hub.parts.registry._bundles.write(hub.parts.registry.current, time.time(), refresh=False)
        [scratch] = [each for each in edge_bundle(company).servers if each.server == "dev/scratch"]
        assert (tool in scratch.stopped_tools, tool in scratch.open_tools) == (True, at_the_edge)

    async def test_a_header_that_came_twice_is_nobodys(self, hub: Hub) -> None:
        headers = [*told().items(), (SPIFFE_HEADER, REPORT)]
        form = {"grant_type": "client_credentials", "resource": SCRATCH}
        answer = await hub.public.post("/oauth/token", data=form, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.anyio
async def test_where_services_may_not_call_there_is_no_such_grant(company: Company) -> None:
    async with opened(company) as hub:
        document = (await hub.public.get("/.well-known/oauth-authorization-server")).json()
        form = {"grant_type": "client_credentials", "resource": SCRATCH}
        answer = await hub.public.post("/oauth/token", data=form, headers=told())
    assert "client_credentials" not in document["grant_types_supported"]
    assert "mtls_endpoint_aliases" not in document
    assert answer.json()["error"] == "unsupported_grant_type"


class TestCommand:
    @pytest.fixture
    def home(self, tmp_path: Path) -> Home:
        home = Home.open(tmp_path / "home")
        self.note(home, {"port": 8443, "trust_domains": [TD], "workload_api": ""})
        return home

    def note(self, home: Home, services: Any) -> None:
        home.instance_file.write_text(json.dumps({"services": services}))

    def sign(self, home: Home, *words: str) -> int:
        return run(["svid", *words, "--home", str(home.root)])

    def test_it_writes_what_a_service_needs(self, home: Home, tmp_path: Path) -> None:
        assert self.sign(home, "report", "--ttl", "10m", "--out", str(tmp_path / "out")) == 0
        chain = read((tmp_path / "out" / "svid.pem").read_text())
        assert REPORT in str(chain.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        assert stat.S_IMODE((tmp_path / "out" / "svid_key.pem").stat().st_mode) == 0o600
        assert (tmp_path / "out" / "bundle.pem").read_text() == Authority(home.services, TD).bundle

    @pytest.mark.parametrize(
        "words", [(), ("a b",), ("x", "--ttl", "2h"), ("x", "--ttl", "0"), ("spiffe://o.org/x",)]
    )
    def test_what_it_cannot_sign_is_said(self, home: Home, tmp_path: Path, words: tuple[str, ...]) -> None:
        assert self.sign(home, *words, "--out", str(tmp_path / "out")) == 2
        assert not (tmp_path / "out").exists()

    def test_an_instance_without_services_or_with_spire_has_no_such_key(
        self, home: Home, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for services, words in ((None, "takes no services"), ({"workload_api": "unix:///x"}, "register the service")):
            self.note(home, services)
            assert self.sign(home, "report") == 2
            assert words in " ".join(capsys.readouterr().err.replace("│", " ").split())
            assert not home.services.exists()
