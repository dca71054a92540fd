"""Bytes that no honest client sends: one request, one meaning, and the caller that the token names.

Rule (design, Rules of trust): what the edge saw and what the server ran are the same bytes; identity headers never
survive the edge. Duplicate keys, lying headers, spellings of paths, hosts and tokens in odd places are held in
`tests/system/test_edge_refusals.py`.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable

import httpx2
import pytest

from pegboard_hub.edge.listener import LONGEST_LOGGED
from tests.attacks.wire import PRESTO, head, legacy, message, send, sized, tools_in
from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

BODY = message()
CHUNKED = b"%x\r\n" % len(BODY) + BODY + b"\r\n"
EVERYONES = {"run_query", "list_tables", "describe_table"}
"""What fay, who is not in ads-eng, may see of presto."""


@pytest.fixture(scope="module")
def fay(pegboard: Instance) -> str:
    return pegboard.token("fay")


FRAMING: dict[str, tuple[list[str], bytes]] = {
    "length and chunks": (["Content-Length: 4", "Transfer-Encoding: chunked"], b"0\r\n\r\n"),
    "chunks and length": (["Transfer-Encoding: chunked", f"Content-Length: {len(BODY)}"], CHUNKED + b"0\r\n\r\n"),
    "two lengths": ([f"Content-Length: {len(BODY)}", "Content-Length: 4"], BODY),
    "a list of lengths": ([f"Content-Length: {len(BODY)}, {len(BODY)}"], BODY),
    "a signed length": ([f"Content-Length: +{len(BODY)}"], BODY),
    "a negative length": (["Content-Length: -1"], BODY),
    "a length in hex": ([f"Content-Length: {len(BODY):#x}"], BODY),
    "a huge length": (["Content-Length: 99999999999999999999"], BODY),
    "an unknown coding": (["Transfer-Encoding: xchunked"], CHUNKED + b"0\r\n\r\n"),
    "identity, then chunks": (["Transfer-Encoding: identity, chunked"], CHUNKED + b"0\r\n\r\n"),
    "chunks twice": (["Transfer-Encoding: chunked, chunked"], CHUNKED + b"0\r\n\r\n"),
    "coding in two lines": (["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], CHUNKED + b"0\r\n\r\n"),
    "a space before the colon": (["Transfer-Encoding : chunked"], CHUNKED + b"0\r\n\r\n"),
    "a chunk size that is none": (["Transfer-Encoding: chunked"], b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a huge chunk size": (["Transfer-Encoding: chunked"], b"fffffffffffffffff\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a NUL in a header": ([*sized(BODY), "X-A: a\0b"], BODY),
    "a header of 70 kB": ([*sized(BODY), "X-A: " + "a" * 70_000], BODY),
    "two hundred headers": ([*sized(BODY), *(f"X-{n}: a" for n in range(200))], BODY),
    "a second host": ([*sized(BODY), "Host: evil.example"], BODY),
}


@pytest.mark.parametrize("case", FRAMING)
def test_a_request_that_two_parsers_could_frame_differently_is_refused(
    pegboard: Instance, fay: str, case: str
) -> None:
    headers, body = FRAMING[case]
    answer = send(pegboard, [*head(pegboard, fay), *headers], body)
    assert answer.status in (400, 413, 421, 431, 501), answer
    assert not tools_in(answer.text)


LINES = {
    "NUL": f"POST {PRESTO}\0 HTTP/1.1",
    "lower-case method": f"post {PRESTO} HTTP/1.1",
    "unknown method": f"BREW {PRESTO} HTTP/1.1",
    "trace": f"TRACE {PRESTO} HTTP/1.1",
    "tunnel": "CONNECT localhost:1 HTTP/1.1",
    "old protocol": f"POST {PRESTO} HTTP/1.0",
    "no protocol": f"POST {PRESTO}",
    "another origin's": f"POST http://evil.example{PRESTO} HTTP/1.1",
    "another scheme's": f"POST gopher://localhost{PRESTO} HTTP/1.1",
    "a fragment": f"POST {PRESTO}#x HTTP/1.1",
    "a query": f"POST {PRESTO}?access_token=x HTTP/1.1",
    "a matrix": "POST /mcp/prod;x=y/presto HTTP/1.1",
    "escaped twice": "POST /mcp/prod%252fpresto HTTP/1.1",
    "overlong UTF-8": "POST /mcp/prod%c0%afpresto HTTP/1.1",
    "wide slash": "POST /mcp/prod%ef%bc%8fpresto HTTP/1.1",
    "half an escape": "POST /mcp/prod/presto%2 HTTP/1.1",
    "escaped letter's case": "POST /mcp/prod/%50resto HTTP/1.1",
    "a server's probe": f"POST {PRESTO}/../../../../healthz HTTP/1.1",
    "the hub's internal door": "POST /internal/v1/records HTTP/1.1",
    "the internal door, escaped": "POST /%69nternal%2fv1/records HTTP/1.1",
    "Envoy's administration": "POST /quitquitquit HTTP/1.1",
}


@pytest.mark.parametrize("case", LINES)
def test_an_odd_request_line_reaches_no_server(pegboard: Instance, fay: str, case: str) -> None:
    answer = send(pegboard, [*head(pegboard, fay, LINES[case]), *sized(BODY)], BODY)
    assert answer.status == 0 or 400 <= answer.status < 500 or answer.status == 501, answer
    assert not tools_in(answer.text)


def _with(old: bytes, new: bytes) -> bytes:
    assert old in BODY
    return BODY.replace(old, new, 1)


BODIES: dict[str, bytes] = {
    "a byte order mark": b"\xef\xbb\xbf" + BODY,
    **{encoding: BODY.decode().encode(encoding) for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")},
    "Latin-1": _with(b'"attacker"', b'"\xe9"'),
    "half a surrogate": _with(b'"attacker"', b'"\\ud800"'),
    "overlong UTF-8": _with(b'"attacker"', b'"\xc0\xaf"'),
    "nesting": _with(b'"_meta"', b'"x": ' + b"[" * 5_000 + b"]" * 5_000 + b', "_meta"'),
    "an endless integer": _with(b'"id": 1', b'"id": ' + b"1" * 5_000),
    "an infinite float": _with(b'"id": 1', b'"id": 1e999'),
    "not a number": _with(b'"id": 1', b'"id": NaN'),
    "a leading zero": _with(b'"id": 1', b'"id": 01'),
    "hexadecimal": _with(b'"id": 1', b'"id": 0x1'),
    "a comment": _with(b'"id": 1', b'/* */ "id": 1'),
    "a trailing comma": BODY[:-1] + b",}",
    "single quotes": BODY.replace(b'"', b"'"),
    "two documents": BODY + BODY,
    "a NUL at the end": BODY + b"\0",
    "a bare control character": _with(b'"attacker"', b'"\x01"'),
    "a batch": b"[" + BODY + b"]",
    "gzip": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    "nothing": b"",
    "jsonrpc 1.0": _with(b'"2.0"', b'"1.0"'),
    "a key twice, escaped": _with(b'"method": ', b'"m\\u0065thod": "tools/call", "method": '),
    "a form": b"jsonrpc=2.0&method=tools/list",
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_is_not_plain_json_is_not_run(pegboard: Instance, fay: str, case: str) -> None:
    body = BODIES[case]
    encoding = [f"Content-Encoding: {case}"] if case in ("gzip", "deflate") else []
    answer = send(pegboard, [*head(pegboard, fay), *encoding, *sized(body)], body)
    assert answer.status == 400, answer
    assert not tools_in(answer.text)


LIES: dict[str, tuple[list[str], bytes]] = {
    "hop by hop: user": (["Connection: close, x-forwarded-user"], b""),
    "hop by hop: groups": (["Connection: close, X-Forwarded-Groups, x-forwarded-surface"], b""),
    "a trailer": (
        ["Transfer-Encoding: chunked", "Trailer: x-forwarded-groups"],
        b'X-Forwarded-Groups: ["ads-eng"]\r\n',
    ),
    "a folded line": (['X-A: b\r\n X-Forwarded-Groups: ["ads-eng"]'], b""),
    "a bare CR": (['X-A: b\rX-Forwarded-Groups: ["ads-eng"]'], b""),
    "another case": (['x-FORWARDED-groups: ["ads-eng"]', "X-forwarded-USER: ana"], b""),
    "another separator": (["X-Forwarded-User.: ana", "X~Forwarded~User: ana"], b""),
    "proxies' words": (
        ["Forwarded: for=127.0.0.1;by=edge", "X-Real-IP: 127.0.0.1", "X-Forwarded-For: 127.0.0.1"],
        b"",
    ),
    "Envoy's words": (["X-Envoy-Internal: true", "X-Envoy-External-Address: 127.0.0.1"], b""),
    "Envoy's retries": (["X-Envoy-Retry-On: 5xx,retriable-4xx", "X-Envoy-Max-Retries: 9"], b""),
    "Envoy's route": (["X-Envoy-Original-Path: /mcp/dev/scratch", "X-Envoy-Original-Host: evil.example"], b""),
    "a second name for the token": (["Proxy-Authorization: Bearer x", "X-Authorization: Bearer x"], b""),
    "an upgrade to HTTP/2": (["Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"], b""),
    "an expectation": (["Expect: 200-maybe"], b""),
    "the server's own word for refusals": (["x-pegboard-refused: none"], b""),
}


@pytest.mark.parametrize("case", LIES)
def test_what_a_caller_says_of_itself_beside_the_token_changes_nothing(
    pegboard: Instance, fay: str, case: str
) -> None:
    lies, trailer = LIES[case]
    if "Transfer-Encoding: chunked" in lies:
        framing, body = ["Connection: close"], CHUNKED + b"0\r\n" + trailer + b"\r\n"
    else:
        framing = [line for line in sized(BODY) if not any("Connection:" in lie for lie in lies) or "Length" in line]
        body = BODY
    answer = send(pegboard, [*head(pegboard, fay), *lies, *framing], body)
    # Either it is refused, or it is answered for fay and nobody else.
    assert tools_in(answer.text) == (EVERYONES if answer.status == 200 else set()), answer
    assert answer.status in (200, 400, 401, 403, 417), answer


ORIGINS = ["null", "http://evil.example", "http://localhost", "https://localhost:{port}", "http://localhost.:{port}"]


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_page_of_another_origin_is_refused_by_the_server(pegboard: Instance, fay: str, origin: str) -> None:
    line = "Origin: " + origin.format(port=pegboard.public_url.rpartition(":")[2])
    answer = send(pegboard, [*head(pegboard, fay), line, *sized(BODY)], BODY)
    assert (answer.status, answer.reason) == (403, "foreign_origin")


def test_a_smuggled_second_request_is_answered_as_its_own_or_not_at_all(pegboard: Instance, fay: str) -> None:
    second = "\r\n".join([*head(pegboard, None), *sized(BODY)]).encode() + b"\r\n\r\n" + BODY
    answer = send(pegboard, [*head(pegboard, fay), f"Content-Length: {len(BODY)}"], BODY + second, answers=2)
    assert answer.text.count("HTTP/1.1 ") == 2
    assert answer.text.count("HTTP/1.1 401 ") == 1  # the second has no token of its own


H2: dict[str, tuple[list[str], Callable[[int], bool]]] = {
    "no token": (["-H", "authorization:"], lambda status: status == 401),
    "a caller's identity": (["-H", 'x-forwarded-groups: ["ads-eng"]'], lambda status: status == 200),
    "another authority": (["-H", "Host: evil.example"], lambda status: status in (0, 421)),
    "an underscore": (["-H", "x_forwarded_user: ana"], lambda status: status in (0, 400)),
    "another method": (["-H", "mcp-method: tools/call"], lambda status: status in (0, 400)),
}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl, which speaks HTTP/2 without TLS, is not installed")
@pytest.mark.parametrize("case", H2)
def test_http2_without_tls_is_held_to_the_same_rules(pegboard: Instance, fay: str, case: str) -> None:
    options, expected = H2[case]
    headers = [part for line in head(pegboard, fay)[2:] for part in ("-H", line)]
    if case in ("no token", "another method"):
        skip = "Authorization" if case == "no token" else "Mcp-Method"
        headers = [part for line in head(pegboard, fay)[2:] if not line.startswith(skip) for part in ("-H", line)]
    command = ["curl", "-s", "-m", "10", "--http2-prior-knowledge", "-w", "\n%{http_version} %{http_code}"]
    # Without a body where none would be read: curl takes the answer and the reset that follows it for a failure.
    body = [] if case == "no token" else ["--data-binary", "@-"]
    command += [*headers, *options, *body, f"{pegboard.public_url}{PRESTO}"]
    told = subprocess.run(command, input=BODY, capture_output=True, check=False).stdout.decode()
    text, _, line = told.rpartition("\n")
    version, status = line.split()
    assert expected(int(status)), told
    assert version == "2" or int(status) == 0
    assert tools_in(text) == (EVERYONES if status == "200" else set())


NAMES = {
    "as long as a body may be": "x" * 4_000_000,
    "of what is written longer in a log": "\x01" * 60_000,
    "of characters of three bytes": "\u20ac" * 100,
    "that ends a line": 'x"}\n{"status":200}\r\n',
}


@pytest.mark.parametrize("case", NAMES)
def test_no_name_of_a_tool_keeps_a_refusal_out_of_the_ledger(pegboard: Instance, case: str) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": NAMES[case], "arguments": {}}}
    refused = legacy(pegboard, pegboard.token("gus"), body)
    assert refused.status_code == 403
    request_id = refused.headers["x-request-id"]
    headers = {"authorization": f"Bearer {pegboard.token('gus', 'api')}"}
    deadline, found = time.monotonic() + 60, []
    while not found and time.monotonic() < deadline:
        answer = httpx2.get(f"{pegboard.public_url}/api/v1/calls?request_id={request_id}", headers=headers)
        found = answer.raise_for_status().json()["calls"]
    (call,) = found
    assert (call["person"], call["decision"], call["layer"]) == ("gus", "denied", "edge")
    assert len(call["tool"]) <= LONGEST_LOGGED
    log = pegboard.home.edge_access_log.read_bytes()
    (line,) = [line for line in log.splitlines() if request_id.encode() in line]
    assert len(line) < 4_000
