"""Attacks on services: what is not the certificate of a granted service gets no token, and no token helps another.

The stack is real: Envoy, the hub, and servers of the kit, in a town of three servers (`tests/system/one_answer`). One
grants the reporting service, one grants it though its data is sensitive, and one does not.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509

from pegboard_hub.identity.demo import DEMO_GRANT
from pegboard_hub.identity.leaks import Leak, add_leak, leaks_file
from pegboard_hub.identity.oauth.device import DEVICE_GRANT
from pegboard_hub.services.authority import Authority
from pegboard_hub.services.material import Svid
from tests.system.certificates import forged
from tests.system.edge_rig import until
from tests.system.one_answer.policies import OPEN, PolicyFile
from tests.system.one_answer.town import Town, headers_of, message, running_town
from tests.system.one_answer.worlds import SERVERS, TOOLS, Grant, World

pytestmark = pytest.mark.system

REPORTING, BATCH = "spiffe://example.org/reporting", "spiffe://example.org/batch"
OPEN_SERVER, SECRET_SERVER, CLOSED_SERVER = SERVERS
READ, WRITE = "count", "erase"
SPIFFE, ENDS = "x-pegboard-spiffe-id", "x-pegboard-spiffe-ends"


def _grant(services: tuple[str, ...], sensitivity: str = "internal") -> Grant:
    return Grant(("ads-eng",), ("cli", "service"), (), services, "", (), "live", sensitivity)


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    grants = {
        OPEN_SERVER: _grant((REPORTING, BATCH)),
        SECRET_SERVER: _grant((REPORTING,), "confidential"),
        CLOSED_SERVER: _grant(()),
    }
    policies = {server: {tool: PolicyFile((OPEN,)) for tool in TOOLS} for server in SERVERS}
    with running_town() as town:
        town.become(World({"ana": ("ads-eng",)}, grants, policies, ()))
        yield town


def asking(town: Town, server: str = OPEN_SERVER, **more: str) -> dict[str, str]:
    return {"grant_type": "client_credentials", "resource": town.at(server), **more}


def exchange(town: Town, name: str = REPORTING, server: str = OPEN_SERVER, **more: str) -> httpx2.Response:
    return town.by_certificate[name].post("/oauth/token", data=asking(town, server, **more))


def token(town: Town, name: str = REPORTING) -> str:
    return str(exchange(town, name).json()["access_token"])


def call(client: httpx2.Client, bearer: str, server: str = OPEN_SERVER, tool: str = READ) -> httpx2.Response:
    headers = headers_of(bearer, "tools/call", tool)
    return client.post(f"/mcp/{server}", headers=headers, content=message("tools/call", name=tool, arguments={}))


def reason(response: httpx2.Response) -> str:
    return response.text.partition('"reason":"')[2].partition('"')[0]


@pytest.fixture
def nothing_runs(town: Town) -> Iterator[None]:
    before = [len(desk.ran) for desk in town.desks.values()]
    yield
    assert [len(desk.ran) for desk in town.desks.values()] == before


# That it works at all, so that what follows is refused for what it changes


def test_a_granted_service_calls_what_only_reads(town: Town) -> None:
    answer = exchange(town)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    told = answer.json()
    assert (told["token_type"], told["scope"]) == ("Bearer", "tools:read")
    assert 0 < told["expires_in"] <= 300
    ran = len(town.desks[OPEN_SERVER].ran)
    called = call(town.by_certificate[REPORTING], told["access_token"])
    assert called.status_code == 200, called.text
    assert len(town.desks[OPEN_SERVER].ran) == ran + 1


def test_what_forges_certificates_makes_good_ones_too(town: Town) -> None:
    """The cases below fail for what they change, not for how they are made."""
    with town.service(forged(town.authority, [x509.UniformResourceIdentifier(REPORTING)])) as client:
        assert client.post("/oauth/token", data=asking(town)).status_code == 200


# Who gets no connection at all


def _svids(town: Town, folder: Path) -> dict[str, Svid]:
    """Certificates that are not one of a service of this trust domain, and what is wrong with each."""
    own = town.authority
    stranger = Authority(folder / "stranger", "evil.example")
    twin = Authority(folder / "twin", own.trust_domain)
    for each in (stranger, twin):
        each.open()
    past = Authority(own.folder, own.trust_domain, clock=lambda: time.time() - 7200)
    future = Authority(own.folder, own.trust_domain, clock=lambda: time.time() + 7200)
    uri = x509.UniformResourceIdentifier
    return {
        "of another trust domain": stranger.mint("spiffe://evil.example/reporting"),
        "of this trust domain by another authority": twin.mint(REPORTING),
        "that has expired": past.mint(REPORTING, 60),
        "that is not valid yet": future.mint(REPORTING, 60),
        "that signed itself": forged(None, [uri(REPORTING)]),
        "without a SPIFFE ID": forged(own, [x509.DNSName("reporting.example.org")]),
        "without any name": forged(own, []),
        "with a web address for a name": forged(own, [uri("https://example.org/reporting")]),
        "of a foreign name by our authority": forged(own, [uri("spiffe://evil.example/reporting")]),
        "of a name that begins like ours": forged(own, [uri("spiffe://example.org.evil.example/reporting")]),
        "that may sign others": forged(own, [uri(REPORTING)], ca=True),
    }


CERTIFICATES = (
    "of another trust domain",
    "of this trust domain by another authority",
    "that has expired",
    "that is not valid yet",
    "that signed itself",
    "without a SPIFFE ID",
    "without any name",
    "with a web address for a name",
    "of a foreign name by our authority",
    "of a name that begins like ours",
    "that may sign others",
)


@pytest.mark.parametrize("case", CERTIFICATES)
def test_a_certificate_opens_no_connection(town: Town, tmp_path: Path, case: str) -> None:
    with town.service(_svids(town, tmp_path)[case]) as client, pytest.raises(httpx2.TransportError):
        client.post("/oauth/token", data=asking(town))


def test_no_certificate_opens_no_connection(town: Town) -> None:
    with town.service() as client, pytest.raises(httpx2.TransportError):
        client.post("/oauth/token", data=asking(town))


def test_plain_http_opens_no_connection(town: Town) -> None:
    with httpx2.Client(base_url=f"http://localhost:{town.mtls_port}") as client, pytest.raises(httpx2.TransportError):
        client.post("/oauth/token", data=asking(town))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"])
def test_an_old_protocol_opens_no_connection(town: Town, version: str) -> None:
    context = town.context(town.authority.mint(REPORTING))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with socket.create_connection(("127.0.0.1", town.mtls_port), 5) as plain:
        if version in ("TLSv1_2", "TLSv1_3"):
            context.wrap_socket(plain, server_hostname="localhost").close()
            return
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
            context.wrap_socket(plain, server_hostname="localhost")


def test_no_session_is_resumed_without_a_look_at_the_certificate(town: Town) -> None:
    context = town.context(town.authority.mint(REPORTING))
    with httpx2.Client(base_url=f"https://localhost:{town.mtls_port}", verify=context) as client:
        assert client.post("/oauth/token", data=asking(town)).status_code == 200
    sessions = []
    for _ in range(2):
        with (
            socket.create_connection(("127.0.0.1", town.mtls_port), 5) as plain,
            context.wrap_socket(
                plain, server_hostname="localhost", session=sessions[-1] if sessions else None
            ) as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while secure.recv(4096):
                pass
            assert not secure.session_reused
            sessions.append(secure.session)


# Whose connection gets no token

TWO_NAMES = "with two SPIFFE IDs"
ROOT = "with a trust domain and no path"


@pytest.mark.parametrize("case", [TWO_NAMES, ROOT])
def test_a_certificate_of_several_or_nobody_gets_no_token(town: Town, case: str) -> None:
    names = [REPORTING, BATCH] if case == TWO_NAMES else ["spiffe://example.org/"]
    svid = forged(town.authority, [x509.UniformResourceIdentifier(name) for name in names])
    good = token(town)
    with town.service(svid) as client:
        refused = client.post("/oauth/token", data=asking(town))
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
        assert reason(call(client, good)) == "wrong_door"


LIES: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "another service's name as client_id": ({"client_id": BATCH}, {}, "invalid_client"),
    "a person's client": ({"client_id": "pegboard-cli"}, {}, "invalid_client"),
    "a secret beside the certificate": ({"client_secret": "x"}, {}, "invalid_request"),
    "an assertion beside the certificate": ({"client_assertion": "x.y.z"}, {}, "invalid_request"),
    "a scope that writes": ({"scope": "tools"}, {}, "invalid_scope"),
    "the API's scope": ({"scope": "api"}, {}, "invalid_scope"),
    "two scopes": ({"scope": "tools:read tools"}, {}, "invalid_scope"),
    "another's name in our header": ({}, {SPIFFE: BATCH, ENDS: "9999999999"}, ""),
    "a basic header": ({}, {"authorization": "Basic eDp5"}, "invalid_request"),
    "a bearer token of somebody": ({}, {"authorization": "Bearer x.y.z"}, "invalid_request"),
}


@pytest.mark.parametrize("case", LIES)
def test_nothing_that_a_request_says_names_the_service(town: Town, case: str) -> None:
    form, headers, error = LIES[case]
    answer = town.by_certificate[REPORTING].post("/oauth/token", data=asking(town, **form), headers=headers)
    if error:
        assert answer.json()["error"] == error
    else:
        sub = town.by_certificate[REPORTING]
        assert call(sub, answer.json()["access_token"]).status_code == 200  # it is the certificate's own


RESOURCES = ("", "api", "closed", "secret", "nothing", "path", "slash", "foreign", "case", "two")


@pytest.mark.parametrize("case", RESOURCES)
def test_a_token_is_for_one_granted_server_that_is_not_sensitive(town: Town, case: str) -> None:
    own = town.at(OPEN_SERVER)
    resources = {
        "": [],
        "api": [town.api],
        "closed": [town.at(CLOSED_SERVER)],
        "secret": [town.at(SECRET_SERVER)],
        "nothing": [f"{town.public_url}/mcp/dev/nothing"],
        "path": [f"{own}/../../{SECRET_SERVER}"],
        "slash": [f"{own}/"],
        "foreign": [own.replace("localhost", "evil.example")],
        "case": [own.upper()],
        "two": [own, town.at(SECRET_SERVER)],
    }[case]
    form = {"grant_type": "client_credentials", "resource": resources}
    answer = town.by_certificate[REPORTING].post("/oauth/token", data=form)
    error = "invalid_request" if case in ("", "two") else "invalid_target"
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_a_service_learns_nothing_of_servers_that_are_not_granted_to_it(town: Town) -> None:
    closed, absent = exchange(town, server=CLOSED_SERVER), exchange(town, server="prod/absent")
    words = [
        each.json()["error_description"].replace(CLOSED_SERVER, "X").replace("prod/absent", "X")
        for each in (closed, absent)
    ]
    assert words[0] == words[1]


@pytest.mark.parametrize("grant", ["authorization_code", "refresh_token", "password", DEMO_GRANT, DEVICE_GRANT])
def test_a_service_gets_no_persons_token(town: Town, grant: str) -> None:
    form = {"grant_type": grant, "person": "ana", "surface": "cli", "resource": town.at(OPEN_SERVER), "code": "x"}
    answer = town.by_certificate[REPORTING].post("/oauth/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")


@pytest.mark.parametrize(
    "headers",
    [
        {SPIFFE: REPORTING, ENDS: "9999999999"},
        {SPIFFE.upper(): REPORTING, ENDS.title(): "9999999999"},
        {"x-forwarded-client-cert": f"URI={REPORTING}"},
        {"x-spiffe-id": REPORTING, "x-forwarded-user": REPORTING},
    ],
)
def test_a_header_is_no_certificate_on_the_public_port(town: Town, headers: dict[str, str]) -> None:
    answer = town.edge.post("/oauth/token", data=asking(town), headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("path", ["/", "/api/v1/servers", "/oauth/authorize", "/oauth/token/", "/oauth/token?x=1"])
def test_the_hub_has_one_path_on_the_port_for_services(town: Town, path: str) -> None:
    answer = town.by_certificate[REPORTING].post(path, data=asking(town))
    assert (answer.status_code, reason(answer)) == (404, "unknown_server")


# Whose token is of no use


@pytest.mark.usefixtures("nothing_runs")
class TestTokens:
    def test_a_services_token_does_not_count_on_the_public_port(self, town: Town) -> None:
        assert reason(call(town.edge, token(town))) == "wrong_door"

    def test_a_token_counts_with_the_certificate_of_its_own_service_alone(self, town: Town) -> None:
        assert reason(call(town.by_certificate[BATCH], token(town))) == "wrong_door"

    def test_a_persons_token_does_not_count_on_the_port_for_services(self, town: Town) -> None:
        bearer = town.person_pass("ana", "cli", None, town.at(OPEN_SERVER))
        assert reason(call(town.by_certificate[REPORTING], bearer)) == "wrong_door"

    def test_a_token_for_one_server_opens_no_other(self, town: Town) -> None:
        response = call(town.by_certificate[REPORTING], token(town), SECRET_SERVER)
        assert (response.status_code, reason(response)) == (401, "token_wrong_audience")

    def test_a_tool_that_may_write_is_not_there(self, town: Town) -> None:
        written, absent = (
            call(town.by_certificate[REPORTING], token(town), tool=tool) for tool in (WRITE, "no_such_tool")
        )
        assert reason(written) == reason(absent) == "tool_unavailable"
        listed = town.by_certificate[REPORTING].post(
            f"/mcp/{OPEN_SERVER}",
            headers=headers_of(token(town), "tools/list"),
            content=message("tools/list"),
        )
        assert {tool["name"] for tool in listed.json()["result"]["tools"]} == {"count", "look"}

    @pytest.mark.parametrize(
        ("claims", "refused"),
        [
            ({"server": SECRET_SERVER}, "sensitive_server"),
            ({"server": CLOSED_SERVER}, "group_not_granted"),
            ({"surface": "cli"}, "surface_not_granted"),
            ({"surface": "chat"}, "surface_not_granted"),
            ({"sub_type": "person", "groups": ["ads-eng"]}, "wrong_door"),
            ({"sub": BATCH}, "wrong_door"),
            ({"sub": f"{REPORTING},{BATCH}"}, "wrong_door"),
            ({"scope": "api"}, "insufficient_scope"),
            ({"groups": ["ads-eng"]}, "token_bad_claims"),
            ({"sid": "somebodys"}, "token_bad_claims"),
        ],
    )
    def test_a_token_that_the_hub_would_never_sign_is_refused_too(
        self, town: Town, claims: dict[str, Any], refused: str
    ) -> None:
        """As if the hub were broken into: the rules of edge and servers hold without it."""
        said = {name: value for name, value in claims.items() if name != "server"}
        server = claims.get("server", OPEN_SERVER)
        response = call(town.by_certificate[REPORTING], signed(town, server, **said), server)
        assert reason(response) == refused

    def test_a_token_with_more_scope_writes_nothing(self, town: Town) -> None:
        response = call(town.by_certificate[REPORTING], signed(town, scope="tools"), tool=WRITE)
        assert reason(response) == "tool_unavailable"

    def test_a_server_alone_refuses_a_token_beside_another_certificate(self, town: Town) -> None:
        """Should the edge's door stand open: it tells servers the certificate's name, which is not the token's."""
        headers = headers_of(token(town), "tools/call", READ)
        told = {"x-forwarded-user": BATCH, "x-forwarded-surface": "service", "x-forwarded-groups": "[]"}
        response = town.behind[OPEN_SERVER].post(
            f"/mcp/{OPEN_SERVER}",
            headers={**headers, **told},
            content=message("tools/call", name=READ, arguments={}),
        )
        assert reason(response) == "identity_mismatch"


def signed(town: Town, server: str = OPEN_SERVER, **claims: Any) -> str:
    now = int(time.time())
    known: dict[str, Any] = {
        "iss": town.public_url,
        "sub": REPORTING,
        "sub_type": "service",
        "groups": [],
        "client_id": REPORTING,
        "surface": "service",
        "scope": "tools:read",
        "aud": town.at(server),
        "iat": now,
        "exp": now + 300,
        "jti": "forged",
    }
    return town.signed({**known, **claims})


def test_a_token_does_not_outlive_the_certificate(town: Town) -> None:
    short = town.authority.mint(REPORTING, 30)
    with town.service(short) as client:
        told = client.post("/oauth/token", data=asking(town)).json()
    assert 0 < told["expires_in"] <= 30


def test_a_certificate_that_ended_on_an_open_connection_gets_no_token(town: Town) -> None:
    """A connection lives on when its certificate has ended; what it is shown for does not."""
    with town.service(town.authority.mint(REPORTING, 2)) as client:
        assert client.post("/oauth/token", data=asking(town)).status_code == 200

        def refused() -> bool:
            answer = client.post("/oauth/token", data=asking(town))
            return answer.status_code == 401 and "expired" in answer.json()["error_description"]

        assert until(refused, "the certificate ended")


# Who opened a connection before the authority was given up


def test_a_connection_that_an_authority_of_before_opened_gets_no_token_whatever_it_says(town: Town) -> None:
    (label,) = x509.load_pem_x509_certificate(town.authority.bundle.encode()).subject.rdns
    name = label.rfc4514_string().removeprefix("CN=")
    assert exchange(town).status_code == 200
    add_leak(town.home.keys, Leak(at=time.time(), by="test", why="", kids={"authority": (name,)}))
    try:
        for said in ({}, {"x-pegboard-spiffe-issuer": "CN=Another"}, {"X-Pegboard-Spiffe-Issuer": ""}):
            answer = town.by_certificate[REPORTING].post("/oauth/token", data=asking(town), headers=said)
            assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
            assert "given up" in answer.json()["error_description"]
    finally:
        leaks_file(town.home.keys).unlink()
    assert exchange(town).status_code == 200
