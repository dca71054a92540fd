"""Bodies that are not plain JSON, that say two things, or that say another thing than the headers."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

from tests.attacks.catalogue.attack import (
    ATTACKER,
    BOTH,
    HIDDEN,
    LOOK,
    OPEN,
    SERVER,
    WRITE,
    Attack,
    Held,
    Request,
    Token,
)
from tests.attacks.wire import LEGACY, META, MODERN

CALL = json.dumps(
    {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": LOOK, "arguments": {}, "_meta": META}}
).encode()


def _json(
    id_: str, sends: str, body: bytes, held: Held = BOTH, answer: tuple[int, ...] = (400,), **more: Any
) -> Attack:
    """A call of the tool that the attacker may use, written so that it must not run."""
    promise = "abuse" if id_ in ("nested", "nested-lists", "number-huge") else "one-meaning"
    return Attack(f"json-{id_}", promise, sends, Request(body=body, **more), answer, held)


def _with(old: bytes, new: bytes) -> bytes:
    assert old in CALL
    return CALL.replace(old, new, 1)


_NAME = b'"name": "look"'

JSON = (
    _json("key-twice-top", "says two methods", _with(b'"method":', b'"method": "tools/list", "method":')),
    _json("key-twice-params", "says params twice", _with(b'"params":', b'"params": {}, "params":')),
    _json("key-twice-name", "names two tools", _with(_NAME, b'"name": "crown_jewels", "name": "look"')),
    _json("key-twice-name-behind", "names another tool behind the first", _with(_NAME, _NAME + b', "name": "amend"')),
    _json(
        "key-twice-arguments", "has an argument twice", _with(b'"arguments": {}', b'"arguments": {"x": 1, "x": 2}')
    ),
    _json(
        "key-twice-deep",
        "has a key twice, ten levels down",
        _with(b'"arguments": {}', b'"arguments": ' + b'{"a":' * 10 + b'{"x":1,"x":2}' + b"}" * 10),
    ),
    _json(
        "key-twice-in-list",
        "has a key twice in an object of a list",
        _with(b'"arguments": {}', b'"arguments": {"a": [{"x":1,"x":2}]}'),
        held=SERVER,
    ),
    _json(
        "key-twice-meta",
        "has its version twice",
        _with(b'"_meta": {', b'"_meta": {"io.modelcontextprotocol/protocolVersion": "2025-11-25", '),
    ),
    _json("key-twice-escaped", "has a key twice, once in escapes", _with(_NAME, b'"n\\u0061me": "amend", ' + _NAME)),
    _json("key-twice-id", "has two ids", _with(b'"id": 1', b'"id": 1, "id": 2')),
    _json(
        "key-twice-jsonrpc",
        "says two revisions of JSON-RPC",
        _with(b'"jsonrpc": "2.0"', b'"jsonrpc": "1.0", "jsonrpc": "2.0"'),
    ),
    _json("key-twice-case", "has its name in two cases", _with(_NAME, b'"Name": "look", "NAME": "look"')),
    _json(
        "nested",
        "nests 5,000 deep",
        _with(b'"arguments": {}', b'"arguments": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000),
    ),
    _json(
        "nested-lists",
        "nests 100,000 lists",
        _with(b'"arguments": {}', b'"arguments": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ),
    _json("number-huge", "has an id of 5,000 digits", _with(b'"id": 1', b'"id": ' + b"1" * 5000)),
    _json("number-infinite", "has an id that is infinite", _with(b'"id": 1', b'"id": 1e999')),
    _json("number-nan", "has an id that is no number", _with(b'"id": 1', b'"id": NaN')),
    _json("number-minus-infinity", "has an id of minus infinity", _with(b'"id": 1', b'"id": -Infinity')),
    _json("number-leading-zero", "has an id with a leading zero", _with(b'"id": 1', b'"id": 01')),
    _json("number-hex", "has an id in hexadecimal", _with(b'"id": 1', b'"id": 0x1')),
    _json("number-plus", "has an id with a plus", _with(b'"id": 1', b'"id": +1')),
    _json("batch", "sends a batch", b"[" + CALL + b"]"),
    _json(
        "batch-two",
        "sends a batch with a harmless message first",
        b'[{"jsonrpc":"2.0","id":2,"method":"ping"},' + CALL + b"]",
    ),
    _json("batch-empty-then", "sends an empty batch and a call behind it", b"[]" + CALL),
    _json("bom", "begins with a byte order mark", b"\xef\xbb\xbf" + CALL),
    _json("utf-16", "is in UTF-16", CALL.decode().encode("utf-16")),
    _json("utf-16-le", "is in UTF-16 without a mark", CALL.decode().encode("utf-16-le")),
    _json("utf-16-be", "is in UTF-16, the other way round", CALL.decode().encode("utf-16-be")),
    _json("utf-32", "is in UTF-32", CALL.decode().encode("utf-32")),
    _json("latin-1", "has a letter in Latin-1", _with(b'"attacker"', b'"\xe9"')),
    _json("overlong", "has a letter in overlong UTF-8", _with(b'"attacker"', b'"\xc0\xaf"')),
    _json("surrogate-raw", "has half a surrogate pair in bytes", _with(b'"attacker"', b'"\xed\xa0\x80"')),
    _json("surrogate", "has half a surrogate pair in an escape", _with(b'"attacker"', b'"\\ud800"')),
    _json("trailing-document", "has a second document behind the first", CALL + CALL),
    _json("trailing-word", "has a word behind the document", CALL + b"x"),
    _json("trailing-nul", "has a NUL behind the document", CALL + b"\0"),
    _json("trailing-comma", "has a comma too many", CALL[:-1] + b",}", held=SERVER),
    _json("leading-word", "has a word before the document", b"x" + CALL),
    _json("leading-prefix", "has the guard against JSON hijacking before it", b")]}',\n" + CALL),
    _json("comment", "has a comment", _with(b'"id": 1', b'/* */ "id": 1')),
    _json("comment-line", "has a comment to the end of a line", b"// x\n" + CALL),
    _json("single-quotes", "has single quotes", CALL.replace(b'"', b"'"), held=SERVER),
    _json("bare-keys", "has keys without quotes", _with(b'"method":', b"method:"), held=SERVER),
    _json("control", "has a control character in a text", _with(b'"attacker"', b'"\x01"'), held=SERVER),
    _json("line-end", "has a line end in a text", _with(b'"attacker"', b'"a\nb"'), held=SERVER),
    _json("bad-escape", "has an escape that JSON does not know", _with(b'"attacker"', b'"\\x41"'), held=SERVER),
    _json("truncated", "ends too soon", CALL[:-1]),
    _json("gzip", "is compressed", gzip.compress(CALL), lines=("Content-Encoding: gzip",)),
    _json("deflate", "is deflated", zlib.compress(CALL), lines=("Content-Encoding: deflate",)),
    _json("gzip-unsaid", "is compressed and says nothing of it", gzip.compress(CALL)),
    _json("text", "is a text that holds a message", json.dumps(CALL.decode()).encode()),
    _json("form", "is a form", b"jsonrpc=2.0&method=tools/call&name=look"),
    _json(
        "multipart",
        "is the part of a form",
        b'--x\r\nContent-Disposition: form-data; name="m"\r\n\r\n' + CALL + b"\r\n--x--\r\n",
        lines=("Content-Type: multipart/form-data; boundary=x",),
        without=("content-type",),
    ),
    _json(
        "type-text",
        "says that it is plain text",
        CALL,
        BOTH,
        (400, 415),
        lines=("Content-Type: text/plain",),
        without=("content-type",),
    ),
    _json(
        "type-charset",
        "says that it is in UTF-7",
        CALL.replace(b'"look"', b'"+AGw-ook"'),
        lines=("Content-Type: application/json; charset=utf-7",),
        without=("content-type",),
        answer=(400, 200),
    ),
    _json("jsonrpc-1", "speaks JSON-RPC 1.0", _with(b'"2.0"', b'"1.0"')),
    _json("jsonrpc-missing", "does not say that it is JSON-RPC", _with(b'"jsonrpc": "2.0", ', b"")),
    _json("method-list", "has a list for a method", _with(b'"tools/call"', b'["tools/call"]')),
    _json(
        "method-case",
        "has its method in capitals",
        _with(b'"tools/call"', b'"Tools/Call"'),
        SERVER,
        (400, 404, 200),
        without=("mcp-method", "mcp-name", "mcp-protocol-version"),
    ),
    _json("params-list", "has a list for params", _with(b'"params": {', b'"params": [{').replace(b"}}}", b"}}]}")),
    _json("name-list", "has a list for a name", _with(_NAME, b'"name": ["look"]')),
    _json("name-object", "has an object for a name", _with(_NAME, b'"name": {"look": 1}')),
    _json("prototype", "names what objects inherit", _with(_NAME, b'"__proto__": {"name": "look"}')),
    _json(
        "result",
        "puts a call into an answer",
        b'{"jsonrpc":"2.0","id":1,"result":' + CALL + b"}",
        answer=(400, 202, 200, 404),
    ),
    _json("notification", "sends a call without an id", _with(b'"id": 1, ', b""), SERVER, (400, 202)),
    _json("id-null", "sends a call with no id in its id", _with(b'"id": 1', b'"id": null'), SERVER),
    _json("id-object", "sends a call with an object for an id", _with(b'"id": 1', b'"id": {"a": 1}'), SERVER),
    _json("empty", "sends nothing at all", b""),
)


def _lie(
    id_: str, sends: str, *lines: str, held: Held = BOTH, answer: tuple[int, ...] = (400,), **more: Any
) -> Attack:
    """Routing headers that say another thing than the body."""
    without = tuple(line.partition(":")[0].lower() for line in lines)
    request = Request(lines=lines, without=(*without, *more.pop("gone", ())), **more)
    return Attack(f"header-{id_}", "one-meaning", sends, request, answer, held)


AGREEMENT = (
    _lie("name", "names another tool in its header", "Mcp-Name: amend"),
    _lie("name-hidden", "names a tool that it may see, and calls one that is hidden", "Mcp-Name: look", tool=HIDDEN),
    _lie("name-write", "names a tool that reads, and calls one that writes", "Mcp-Name: look", tool=WRITE),
    _lie("name-empty", "names no tool in its header", "Mcp-Name: "),
    _lie("name-case", "names the tool in capitals", "Mcp-Name: LOOK"),
    _lie("name-space", "names the tool with a word behind", "Mcp-Name: look amend"),
    _lie("name-twice", "names two tools in two headers", "Mcp-Name: look", "Mcp-Name: amend", held=SERVER),
    _lie("name-encoded", "names another tool in base64", "Mcp-Name: =?base64?YW1lbmQ=?="),
    _lie("name-percent", "names another tool in percents", "Mcp-Name: %61mend"),
    _lie("method", "says that it lists, and calls", "Mcp-Method: tools/list"),
    _lie("method-case", "says its method in capitals", "Mcp-Method: TOOLS/CALL"),
    _lie(
        "method-twice",
        "says two methods in two headers",
        "Mcp-Method: tools/call",
        "Mcp-Method: tools/list",
        held=SERVER,
    ),
    _lie("method-gone", "says a name and no method", gone=("mcp-method",)),
    _lie("method-ping", "says that it pings, and calls", "Mcp-Method: ping", gone=("mcp-name",)),
    _lie("both", "says a whole other call", "Mcp-Method: resources/read", "Mcp-Name: file:///etc/passwd"),
    _lie(
        "of-nested-name",
        "has the name that it says in another place",
        "Mcp-Name: amend",
        message={"params": {"arguments": {"name": "amend"}}},
    ),
)


def _era(
    id_: str,
    sends: str,
    *lines: str,
    held: Held = BOTH,
    answer: tuple[int, ...] = (400,),
    promise: str = "one-meaning",
    **more: Any,
) -> Attack:
    """One revision of MCP in the other's clothes."""
    without = tuple(line.partition(":")[0].lower() for line in lines)
    request = Request(lines=lines, without=(*without, *more.pop("gone", ())), **more)
    return Attack(f"era-{id_}", promise, sends, request, answer, held)


_VERSION = "io.modelcontextprotocol/protocolVersion"
_OTHER = {**META, _VERSION: LEGACY}
_SESSION = ("mcp-protocol-version", "mcp-method", "mcp-name")

ERAS = (
    _era(
        "modern-body-denies", "is modern in its header, and legacy in its body", message={"params": {"_meta": _OTHER}}
    ),
    _era(
        "modern-header-denies",
        "is modern in its body, and legacy in its header",
        f"MCP-Protocol-Version: {LEGACY}",
        held=SERVER,
        answer=(400, 404),
    ),
    _era(
        "header-gone",
        "is modern in its body, and says no version",
        gone=("mcp-protocol-version",),
        held=SERVER,
        answer=(400, 404),
    ),
    _era(
        "modern-without-meta",
        "is modern in its header, and says nothing in its body",
        body=b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look","arguments":{}}}',
    ),
    _era("modern-without-method", "is modern without routing headers", gone=("mcp-method", "mcp-name")),
    _era("version-unknown", "speaks a revision that nobody knows", "MCP-Protocol-Version: 2099-01-01", held=SERVER),
    _era(
        "version-old", "speaks a revision from before there were any", "MCP-Protocol-Version: 1999-01-01", held=SERVER
    ),
    _era(
        "version-twice",
        "speaks two revisions",
        f"MCP-Protocol-Version: {MODERN}",
        f"MCP-Protocol-Version: {LEGACY}",
        held=SERVER,
    ),
    _era("version-list", "speaks a list of revisions", f"MCP-Protocol-Version: {MODERN}, {LEGACY}", held=SERVER),
    _era("legacy-without-session", "calls as of old, without a session", era="legacy", session="=", held=SERVER),
    _era(
        "legacy-made-up-session",
        "calls as of old, in a session of its own making",
        era="legacy",
        held=SERVER,
        session="=00000000000000000000000000000000",
        answer=(400, 404),
        promise="bound",
    ),
    _era(
        "modern-in-made-up-session",
        "calls in the modern way and names a session that is not",
        f"MCP-Protocol-Version: {LEGACY}",
        "Mcp-Session-Id: careless",
        held=SERVER,
        answer=(400, 404),
        promise="bound",
    ),
    _era(
        "initialize-is-call",
        "initializes in its header, and calls in its body",
        "Mcp-Method: initialize",
        gone=("mcp-name",),
    ),
    _era(
        "legacy-hidden",
        "calls the hidden tool in the older revision",
        era="legacy",
        tool=HIDDEN,
        answer=(200,),
        held=SERVER,
        promise="hidden",
    ),
    _era(
        "legacy-lying-name",
        "calls the hidden tool in the older revision, under another name in its header",
        "Mcp-Method: tools/call",
        "Mcp-Name: look",
        era="legacy",
        tool=HIDDEN,
    ),
    _era(
        "legacy-write-with-read",
        "writes in the older revision with a token that may only look",
        era="legacy",
        tool=WRITE,
        token=Token(ATTACKER, OPEN, {"scope": "tools:read"}),
        answer=(403,),
        held=SERVER,
        promise="bound",
    ),
    _era(
        "legacy-batch",
        "sends a batch, as one older revision allowed",
        "MCP-Protocol-Version: 2025-03-26",
        era="legacy",
        body=b"[{call},{call}]",
        answer=(400,),
    ),
    _era(
        "listen-is-call",
        "listens in its header, and calls in its body",
        "Mcp-Method: subscriptions/listen",
        gone=("mcp-name",),
    ),
)


def _spelled(id_: str, sends: str, name: str) -> Attack:
    request = Request(tool=name, era="legacy")
    return Attack(f"hidden-{id_}", "hidden", sends, request, (200, 400), SERVER)


SPELLINGS = (
    _spelled("nul", "calls the hidden tool with a NUL behind", f"{HIDDEN}\0"),
    _spelled("space", "calls the hidden tool with a space behind", f"{HIDDEN} "),
    _spelled("case", "calls the hidden tool in capitals", HIDDEN.upper()),
    _spelled("space-for-underscore", "calls the hidden tool with a space in the middle", HIDDEN.replace("_", " ")),
    _spelled("slash", "calls the hidden tool behind its server's name", f"prod/ledger/{HIDDEN}"),
    _spelled("dot", "calls the hidden tool behind a dot", f"ledger.{HIDDEN}"),
)

TABLE = (*JSON, *AGREEMENT, *ERAS, *SPELLINGS)
