"""TLS on the public listener, attacked: old versions, what is in the clear, half a pair, a pair that is no good."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from pegboard_hub.common.certificates import TlsFiles, trusting
from tests.system.certificates import make_pair, write_pair
from tests.system.edge_rig import DEADLINE_S, Rig, running_edge, until


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def edge(folder: Path) -> Iterator[Rig]:
    with running_edge(tls=write_pair(folder, *make_pair())) as rig:
        yield rig


def handshake(edge: Rig, context: ssl.SSLContext) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", edge.port), timeout=DEADLINE_S)
    try:
        return context.wrap_socket(raw, server_hostname="localhost")
    except BaseException:
        raw.close()
        raise


def served(edge: Rig) -> str:
    """The certificate that a new connection is shown, in PEM."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with handshake(edge, context) as connection:
        return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True) or b"")


def says(edge: Rig, word: str) -> bool:
    assert edge.agent is not None
    return any(word in fault for fault in edge.agent.faults)


def test_calls_go_over_tls_and_browsers_are_told_to_come_by_it_alone(edge: Rig) -> None:
    answer = edge.call(token=edge.token())
    assert answer.status_code == 200
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert edge.call().headers["strict-transport-security"] == "max-age=31536000"


def test_a_stranger_with_a_certificate_of_their_own_is_not_believed(edge: Rig) -> None:
    with pytest.raises(httpx2.ConnectError), httpx2.Client() as client:
        client.get(f"{edge.public_url}/healthz")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_of_tls_are_refused(edge: Rig, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.minimum_version = context.maximum_version = version
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(edge, context)


def clear(edge: Rig, request: str) -> bytes:
    return edge.raw(f"{request} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n".encode() + b"\r\n")


def test_who_comes_in_the_clear_is_sent_to_our_own_address_and_no_other(edge: Rig) -> None:
    answer = clear(edge, "GET /signin?next=//evil.example")
    assert b" 308 " in answer[:20]
    [location] = [line for line in answer.splitlines() if line.lower().startswith(b"location:")]
    assert location.split(b" ")[1].startswith(f"{edge.public_url}/signin".encode())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_a_call_in_the_clear_is_refused_and_told_that_its_token_is_out(edge: Rig, method: str) -> None:
    before = edge.arrived()
    answer = clear(edge, f"{method} /mcp/prod/presto")
    assert b" 403 " in answer[:20]
    refusal = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert (refusal["code"], refusal["layer"]) == ("tls_required", "edge")
    assert "in the clear" in refusal["what_to_do"]
    assert edge.arrived() == before


def test_a_get_in_the_clear_with_a_token_is_not_sent_on_as_if_nothing_were(edge: Rig) -> None:
    request = f"GET /mcp/prod/presto HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {edge.token()}\r\n\r\n"
    assert b" 403 " in edge.raw(request.encode())[:20]


def test_a_new_pair_is_served_without_a_dropped_call(edge: Rig, folder: Path) -> None:
    edge.presto.release.clear()
    headers = {"authorization": f"Bearer {edge.token()}"}
    with edge.client() as client, client.stream("GET", "/mcp/prod/presto", headers=headers) as stream:
        parts = stream.iter_raw()
        assert next(parts).startswith(b": open")
        chain, key = make_pair()
        write_pair(folder, chain, key)
        until(lambda: served(edge).split() == chain.decode().split(), "the new certificate is served")
        assert edge.call(token=edge.token()).status_code == 200
        edge.presto.release.set()
        assert b"upstream" in b"".join(parts)
    edge.presto.release.clear()


def test_half_a_pair_and_a_pair_that_is_no_good_leave_the_last_good_one(edge: Rig, folder: Path) -> None:
    before = served(edge)
    good_chain, good_key = make_pair()
    for chain, key, word in (
        (good_chain, make_pair()[1], "is not the key of"),
        (b"no certificate", good_key, "holds no certificate"),
        (good_chain, b"no key", "holds no private key"),
        (*make_pair(days=-1), "ended at"),
    ):
        write_pair(folder, chain, key)
        until(lambda word=word: says(edge, word), word)
        assert served(edge) == before
        assert not says(edge, "PRIVATE KEY")
        assert edge.call(token=edge.token()).status_code == 200
    (folder / "edge.key").unlink()
    until(lambda: says(edge, "cannot be read"), "the key is gone")
    edge.stop_agent()
    edge.stop_envoy()
    edge.start_agent()
    edge.start_envoy()
    assert served(edge) == before
    write_pair(folder, good_chain, good_key)
    until(lambda: served(edge).split() == good_chain.decode().split(), "the good pair is served")
    until(lambda: not edge.agent or not edge.agent.faults, "nothing is complained of any more")


def test_the_key_is_readable_by_the_edge_alone_and_told_nowhere(edge: Rig) -> None:
    secrets = edge.home.edge / "sds.json"
    assert secrets.stat().st_mode & 0o777 == 0o640
    assert "PRIVATE KEY" in secrets.read_text()
    others = [path for path in edge.home.root.rglob("*") if path.is_file() and path != secrets]
    assert [path for path in others if b"PRIVATE KEY" in path.read_bytes()] == []
    dump = httpx2.Client(transport=httpx2.HTTPTransport(uds=str(edge.home.edge_admin_socket)))
    with dump as client:
        assert "PRIVATE KEY" not in client.get("http://envoy/config_dump?include_eds").text


def test_the_hub_calls_the_edge_by_its_own_certificate(edge: Rig) -> None:
    context = trusting(edge.home.edge_certificate)
    with handshake(edge, context) as connection:
        assert connection.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(socket.create_connection(("127.0.0.1", edge.port)), server_hostname="evil.example")


def test_files_say_where_they_are_and_nothing_of_what_is_in_them(tmp_path: Path) -> None:
    files = write_pair(tmp_path, *make_pair())
    assert "PRIVATE" not in repr(files)
    assert isinstance(files, TlsFiles)
