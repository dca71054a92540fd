"""Tokens that must not work, many of them signed with the hub's own key (RFC 8725, RFC 7515, RFC 9068).

Each says that it is the victim's, and calls a tool of the server that the attacker may not use.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.jwk import ECKey

from pegboard.core.jose import public_jwks
from tests.attacks.catalogue.attack import (
    ACTED,
    ATTACKER,
    BOTH,
    CLOSED,
    HALTED,
    HIDDEN,
    HOSTILE,
    OPEN,
    SERVER,
    STOPPED,
    VICTIM,
    WRITE,
    Attack,
    Held,
    Request,
    Token,
)
from tests.attacks.catalogue.stand import Stand, encoded

Made = Callable[["Stand", dict[str, Any], dict[str, Any]], str]


_OTHER_PROMISES = {"key-of-bundles": "keys", "typ-bundle": "keys", "bundle": "keys", "oversized": "abuse"}
"""Of those that test another promise than that nothing is open by itself."""


def _attack(
    id_: str,
    sends: str,
    token: Token | str | None,
    held: Held = BOTH,
    answer: tuple[int, ...] = (401,),
    hopeless: str = "",
    **more: Any,
) -> Attack:
    promise = _OTHER_PROMISES.get(id_, "closed")
    return Attack(f"token-{id_}", promise, sends, Request(token, CLOSED, **more), answer, held, hopeless=hopeless)


def _header(
    id_: str, sends: str, key: Any = "hub", made: Made | None = None, held: Held = BOTH, **header: Any
) -> Attack:
    return _attack(id_, sends, Token(header=header, key=key, made=made), held)


def _claims(
    id_: str,
    sends: str,
    answer: tuple[int, ...] = (401,),
    held: Held = BOTH,
    hopeless: str = "",
    **claims: Any,
) -> Attack:
    return _attack(id_, sends, Token(claims=claims), held, answer, hopeless)


# How the odd ones are made


def _parts(header: dict[str, Any], claims: dict[str, Any]) -> tuple[bytes, bytes]:
    return json.dumps(header).encode(), json.dumps(claims).encode()


def _unsigned(stand: Stand, header: dict[str, Any], claims: dict[str, Any]) -> str:
    return stand.jws(*_parts(header, claims)).rpartition(".")[0] + "."


def _signed_by(signature: bytes) -> Made:
    def made(stand: Stand, header: dict[str, Any], claims: dict[str, Any]) -> str:
        return f"{stand.jws(*_parts(header, claims)).rpartition('.')[0]}.{encoded(signature)}"

    return made


def _of_another(stand: Stand, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """The attacker's own good token, with what it says replaced."""
    own = stand.token(Token(ATTACKER, OPEN)) or ""
    changed = stand.jws(*_parts(header, claims)).split(".")
    return ".".join((changed[0], changed[1], own.split(".")[2]))


def _in_der(stand: Stand, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """The right signature in the form that X.509 has, not JWS."""
    signed = stand.jws(*_parts(header, claims)).rpartition(".")[0]
    private = ECKey.import_key(stand.private_key("hub")).private_key
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return f"{signed}.{encoded(private.sign(signed.encode(), ec.ECDSA(SHA256())))}"


def _hmac(of: Callable[[dict[str, Any]], bytes]) -> Made:
    """The public key as if it were a shared secret."""

    def made(stand: Stand, header: dict[str, Any], claims: dict[str, Any]) -> str:
        head, payload = (encoded(part) for part in _parts({**header, "alg": "HS256"}, claims))
        secret = of(public_jwks(stand.private_key("hub"))["keys"][0])
        return f"{head}.{payload}.{encoded(hmac.new(secret, f'{head}.{payload}'.encode(), hashlib.sha256).digest())}"

    return made


def _in_pem(jwk: dict[str, Any]) -> bytes:
    return bytes(ECKey.import_key(jwk).as_pem(private=False))


def _with_key_inside(stand: Stand, header: dict[str, Any], claims: dict[str, Any]) -> str:
    own = {**header, "jwk": public_jwks(stand.own_key)["keys"][0]}
    return stand.jws(*_parts(own, claims), stand.own_key)


def _payload(change: Callable[[bytes], bytes]) -> Made:
    """Signed by the hub's key, over a payload as these bytes."""
    return lambda stand, header, claims: stand.jws(json.dumps(header).encode(), change(json.dumps(claims).encode()))


def _text(change: Callable[[str], str]) -> Made:
    """A good token, changed as text."""
    return lambda stand, header, claims: change(stand.jws(*_parts(header, claims)))


def _twice(name: str, other: str) -> Callable[[bytes], bytes]:
    return lambda payload: b'{"' + name.encode() + b'": ' + other.encode() + b", " + payload[1:]


def _twice_behind(name: str, other: str) -> Callable[[bytes], bytes]:
    return lambda payload: payload[:-1] + b', "' + name.encode() + b'": ' + other.encode() + b"}"


def _nested(stand: Stand, header: dict[str, Any], claims: dict[str, Any]) -> str:
    inner = stand.jws(*_parts(header, claims))
    return stand.jws(json.dumps({**header, "cty": "JWT"}).encode(), inner.encode())


def _twice_in_header(stand: Stand, header: dict[str, Any], claims: dict[str, Any]) -> str:
    head, payload = _parts(header, claims)
    return stand.jws(b'{"alg": "none", ' + head[1:], payload, stand.own_key)


def _json_form(stand: Stand, header: dict[str, Any], claims: dict[str, Any]) -> str:
    protected, payload, signature = stand.jws(*_parts(header, claims)).split(".")
    return json.dumps({"payload": payload, "protected": protected, "signature": signature}).replace(" ", "")


def _edges_bundle(stand: Stand, header: dict[str, Any], claims: dict[str, Any]) -> str:
    return stand.home.edge_bundle.read_text().strip()


HEADERS = (
    _header("alg-none", "says that it needs no signature, and has none", alg="none", made=_unsigned),
    _header("alg-none-in-capitals", "the same, spelled NONE", alg="NONE", made=_unsigned),
    _header("alg-none-signed", "says that it needs no signature, and has the attacker's", "own", alg="none"),
    _header("alg-missing", "says no algorithm, signed by the attacker", "own", alg=None),
    _header("alg-empty", "says an empty algorithm", "own", alg=""),
    _header("alg-list", "says a list of algorithms", alg=["ES256", "none"]),
    _header(
        "alg-hmac-jwk",
        "HMAC with the hub's public key, as JSON, for a secret",
        made=_hmac(lambda jwk: json.dumps(jwk, separators=(",", ":")).encode()),
    ),
    _header("alg-hmac-pem", "HMAC with the hub's public key, as PEM, for a secret", made=_hmac(_in_pem)),
    _header("alg-hmac-empty", "HMAC with no secret at all", made=_hmac(lambda _: b"")),
    _header("alg-rsa", "says RSA", alg="RS256"),
    _header("alg-pss", "says PSS", alg="PS256"),
    _header("alg-other-curve", "says another curve", alg="ES384"),
    _header("alg-lower-case", "spells its algorithm in small letters", alg="es256"),
    _header("alg-eddsa", "says Ed25519", alg="EdDSA"),
    _header("forged", "is signed by the attacker under the hub's key id", "own"),
    _header("kid-unknown", "names a key that nobody has", "own", kid="mine"),
    _header("kid-missing", "names no key, signed by the attacker", "own", kid=None),
    _header("kid-path", "names a key by a path", "own", kid="../../public/bundle-keys.json"),
    _header("kid-device", "names /dev/null as its key", "own", kid="/dev/null"),
    _header("kid-sql", "names a key by a piece of SQL", "own", kid="x' UNION SELECT 'AA' --"),
    _header("kid-shell", "names a key by a shell command", "own", kid="| cat /etc/passwd"),
    _header("kid-nul", "names the hub's key and a NUL", "own", kid="\0"),
    _header("kid-url", "names a key by an address", "own", kid="http://127.0.0.1:1/jwks"),
    _header("kid-list", "names a list of keys", "own", kid=["a"]),
    _header("kid-number", "names a number for a key", "own", kid=0),
    _header("jwk", "brings its own key along", made=_with_key_inside),
    _header("jku", "says by which address its keys are", "own", jku="http://127.0.0.1:1/jwks"),
    _header("x5u", "says by which address its certificate is", "own", x5u="http://127.0.0.1:1/x.pem"),
    _header("x5c", "brings a certificate along", "own", x5c=["MIIB"]),
    _header("crit-unknown", "wants an extension understood that nobody knows", crit=["b64x"], b64x=True, held=SERVER),
    _header("crit-empty", "wants no extension understood, in an empty list", crit=[], held=SERVER),
    _header("crit-b64", "says that its payload is not encoded (RFC 7797)", crit=["b64"], b64=False, held=SERVER),
    _header("crit-exp", "has its end in the header", crit=["exp"], exp=99_999_999_999, held=SERVER),
    _header("typ-jwt", "is of type JWT", typ="JWT", held=SERVER),
    _header("typ-id-token", "is of an id token's type", typ="id_token+jwt", held=SERVER),
    _header("typ-missing", "says no type", typ=None, held=SERVER),
    _header("typ-bundle", "is of a bundle's type", typ="pegboard-bundle+jws", held=SERVER),
    _header("typ-logout", "is of a logout token's type", typ="logout+jwt", held=SERVER),
    _header("key-of-bundles", "is signed with the key that signs bundles", "bundle"),
    _header("alg-twice", "says two algorithms", made=_twice_in_header),
)

SHAPES = (
    _attack(
        "bundle",
        "is the edge's own bundle, which the hub has signed",
        Token(made=_edges_bundle),
        answer=(401, 431, 400),
    ),
    _attack("none", "sends no token", None),
    _attack("empty", "sends an empty token", ""),
    _attack("word", "sends a word", "let-me-in"),
    _attack("no-signature", "leaves the signature out", Token(made=_text(lambda t: t.rpartition(".")[0]))),
    _attack("signature-of-another", "puts the signature of its own token to other claims", Token(made=_of_another)),
    _attack("signature-zero", "has a signature of zeros (CVE-2022-21449)", Token(made=_signed_by(bytes(64)))),
    _attack(
        "signature-order",
        "has a signature of the curve's order",
        Token(made=_signed_by(bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551" * 2))),
    ),
    _attack("signature-der", "has the right signature in DER", Token(made=_in_der)),
    _attack("five-parts", "has five parts, as if encrypted", Token(made=_text(lambda t: t + ".e30.e30"))),
    _attack("part-before", "has a part before it", Token(made=_text(lambda t: "e30." + t))),
    _attack("json-form", "comes in JSON serialization", Token(made=_json_form)),
    _attack("nested", "has a good token inside it", Token(made=_nested)),
    _attack(
        "nested-claims", "has its claims one level down", Token(made=_payload(lambda p: b'{"claims": ' + p + b"}"))
    ),
    _attack("claims-list", "has its claims in a list", Token(made=_payload(lambda p: b"[" + p + b"]"))),
    _attack("claims-utf16", "has its claims in UTF-16", Token(made=_payload(lambda p: p.decode().encode("utf-16")))),
    _attack(
        "claims-bom", "has its claims behind a byte order mark", Token(made=_payload(lambda p: b"\xef\xbb\xbf" + p))
    ),
    _attack("oversized", "has 60 kB of claims", Token(claims={"x": "x" * 60_000}, key="own"), answer=(431, 400, 401)),
    _attack("as-basic", "sends the token as a password", None, lines=("Authorization: Basic bWFsOm1hbA==",)),
    _attack(
        "two", "sends a bad token and a good one", "x.y.z", lines=("Authorization: Bearer x",), answer=(401, 400)
    ),
    _attack(
        "in-query", "sends a token in the query", None, path="/mcp/prod/atlas?access_token=x", answer=(401, 404, 400)
    ),
    _attack("in-cookie", "sends a token in a cookie", None, lines=("Cookie: access_token=x; pegboard=x",)),
    _attack("in-form", "sends a token in the body", None, body=b"access_token=x&method=tools/call&name=look"),
)

CLAIMS = (
    _claims("expired", "ended six seconds ago, one past the skew", iat="{now}-60", exp="{now}-6"),
    _claims("expired-long", "ended a day ago", iat="{now}-87000", exp="{now}-86400"),
    _claims("no-end", "never ends", exp=None),
    _claims("end-text", "says its end as text", exp="9999999999"),
    _claims("end-float", "ends in the middle of a second", exp=9_999_999_999.5),
    _claims("end-huge", "ends when the sun does", exp=10**30),
    _claims("end-negative", "ended before time began", exp=-1),
    _claims("end-true", "says true for its end", exp=True),
    _claims("long-life", "lives for an hour", exp="{now}+3600"),
    _claims("long-life-by-a-little", "lives for 16 minutes", exp="{now}+960"),
    _claims("from-tomorrow", "was issued tomorrow", iat="{now}+86400", exp="{now}+86460"),
    _claims("from-soon", "was issued in eight seconds, past the skew", iat="{now}+12", exp="{now}+100", held=SERVER),
    _claims("no-beginning", "says no time of issue", iat=None, held=SERVER),
    _claims("aud-other", "is for another server", aud="{url}/mcp/prod/ledger"),
    _claims("aud-api", "is for the API", aud="{url}/api"),
    _claims("aud-list", "is for a list of servers", aud=["{url}/mcp/prod/atlas", "{url}/mcp/prod/ledger"]),
    _claims("aud-list-of-one", "is for a list of one server", aud=["{url}/mcp/prod/atlas"]),
    _claims("aud-missing", "is for nobody", aud=None),
    _claims("aud-prefix", "is for the namespace", aud="{url}/mcp/prod"),
    _claims("aud-slash", "is for the server with a slash", aud="{url}/mcp/prod/atlas/"),
    _claims("aud-host", "is for the server by another host", aud="http://127.0.0.1:{port}/mcp/prod/atlas"),
    _claims("aud-case", "is for the server in capitals", aud="{url}/MCP/PROD/ATLAS"),
    _claims("aud-star", "is for everything", aud="*"),
    _claims("iss-other", "was issued by somebody else", iss="https://evil.example"),
    _claims("iss-slash", "was issued by us with a slash", iss="{url}/"),
    _claims("iss-missing", "was issued by nobody", iss=None),
    _claims("iss-list", "was issued by a list", iss=["{url}"]),
    _claims("sub-missing", "is nobody's", (401, 403), sub=None, held=SERVER),
    _claims("sub-empty", "is of a person without a name", (401, 403), sub="", held=SERVER),
    _claims("sub-list", "is of a list of people", (401, 403), sub=["ana"]),
    _claims(
        "sub-lines", "has a header in its subject", (401, 403, 502, 400), sub='ana\r\nX-Forwarded-Groups: ["ads-eng"]'
    ),
    _claims(
        "sub-nul",
        "has a NUL in its subject",
        (401, 403, 502, 400, 503),
        sub="ana\0",
        hopeless="no header carries a NUL",
    ),
    _claims("kind-unknown", "is of another kind of subject", (401, 403), sub_type="root"),
    _claims("kind-missing", "says no kind of subject", (401, 403), sub_type=None),
    _claims("kind-service", "says that a person is a service", (401, 403), sub_type="service"),
    _claims("groups-missing", "says no groups", (403,), groups=None),
    _claims("groups-text", "says its groups as text", (403,), groups="ads-eng"),
    _claims("groups-object", "says its groups as an object", (403,), groups={"ads-eng": True}),
    _claims("groups-nested", "has a list in its groups", (403,), groups=[["ads-eng"]]),
    _claims("groups-space", "has a group with a space", (403,), groups=["ads-eng "]),
    _claims("groups-case", "has its group in capitals", (403,), groups=["ADS-ENG"]),
    _claims("groups-pattern", "has a pattern for a group", (403,), groups=["ads-*", ".*", "*"]),
    _claims("groups-comma", "has two groups in one", (403,), groups=["x,ads-eng"]),
    _claims("scope-missing", "has no scope", (403,), scope=None),
    _claims("scope-api", "has the scope of the API", (403,), scope="api"),
    _claims("scope-close", "has a scope that begins like the right one", (403,), scope="tools-x toolsx"),
    _claims("scope-case", "has its scope in capitals", (403,), scope="TOOLS"),
    _claims("surface-other", "is from a surface that is not granted", (403,), surface="ide"),
    _claims("surface-missing", "is from nowhere", (403,), surface=None),
    _claims("surface-service", "is a person's from the surface of services", (403,), surface="service"),
    _claims("surface-list", "is from a list of surfaces", (403,), surface=["cli"]),
    _claims("surface-made-up", "is from a surface that nobody has", (403,), surface="root"),
    _claims("id-missing", "has no id", (401, 403), held=SERVER, jti=None),
    _claims("client-missing", "is of no client", (401, 403), held=SERVER, client_id=None),
)


def _of(promise: str, id_: str, sends: str, request: Request, answer: tuple[int, ...], held: Held = BOTH) -> Attack:
    return Attack(id_, promise, sends, request, answer, held)


def _acts(id_: str, sends: str, **claims: Any) -> Attack:
    """A token in which the wrong one acts, or nobody, at a server where a bot may act for the attacker."""
    request = Request(Token(ATTACKER, OPEN, {"surface": "bot", "channel": "airflow"} | claims))
    return _of("acting", f"acting-{id_}", sends, request, (401, 403))


ACTING = (
    _acts("nobody", "calls from a bot for which nobody acts"),
    _acts("another", "calls from a bot as which another client acts", act={"sub": "another"}),
    _acts("chain", "calls from a bot that somebody acts for", act={"sub": "pegboard-cli", "act": {"sub": "x"}}),
    _acts("nothing", "calls from a bot as which nothing acts", act={}),
    _acts("text", "calls from a bot that is named in words", act="pegboard-cli"),
    _acts("list", "calls from a bot that is one of several", act=[{"sub": "pegboard-cli"}]),
    _acts("elsewhere", "calls from a terminal in which a bot acts", surface="cli", channel=None, **ACTED),
)

USES = (
    _of(
        "closed",
        "grant-none",
        "calls a server that is not granted, with its own good token for it",
        Request(Token(ATTACKER, CLOSED), CLOSED),
        (403,),
    ),
    _of(
        "closed",
        "grant-none-list",
        "lists the tools of a server that is not granted",
        Request(Token(ATTACKER, CLOSED), CLOSED, message={"method": "tools/list"}, without=("mcp-name",)),
        (403,),
    ),
    _of(
        "closed",
        "grant-none-session",
        "opens a legacy session at a server that is not granted",
        Request(
            Token(ATTACKER, CLOSED),
            CLOSED,
            era="legacy",
            session="=",
            message={
                "method": "initialize",
                "params": {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {},
                    "clientInfo": {"name": "x", "version": "1"},
                },
            },
        ),
        (403,),
    ),
    _of(
        "closed",
        "grant-none-stream",
        "opens a stream at a server that is not granted",
        Request(Token(ATTACKER, CLOSED), CLOSED, verb="GET", era="legacy", session="=x"),
        (403,),
    ),
    _of(
        "bound",
        "replay-across-servers",
        "replays the victim's token for one server at another",
        Request(Token(VICTIM, HOSTILE), CLOSED),
        (401,),
    ),
    _of(
        "bound",
        "replay-from-open",
        "replays the victim's token for the open server at the closed one",
        Request(Token(VICTIM, OPEN), CLOSED),
        (401,),
    ),
    _of(
        "bound",
        "replay-of-the-apis",
        "uses the victim's token for the API at a server",
        Request(Token(VICTIM, "api"), CLOSED),
        (401, 403),
    ),
    _of(
        "bound",
        "channel-none",
        "calls as a bot in no channel",
        Request(Token(ATTACKER, OPEN, {"surface": "bot", **ACTED})),
        (403,),
    ),
    _of(
        "bound",
        "channel-other",
        "calls as a bot in a channel that is not granted",
        Request(Token(ATTACKER, OPEN, {"surface": "bot", "channel": "general", **ACTED})),
        (403,),
    ),
    _of(
        "bound",
        "channel-list",
        "calls as a bot in a list of channels",
        Request(Token(ATTACKER, OPEN, {"surface": "bot", "channel": ["airflow"], **ACTED})),
        (403,),
    ),
    _of(
        "bound",
        "scope-read-writes",
        "calls what changes something with a token that may only look",
        Request(Token(ATTACKER, OPEN, {"scope": "tools:read"}), tool=WRITE),
        (403,),
        SERVER,
    ),
    _of(
        "bound",
        "revoked-session",
        "uses a token of a sign-in that has ended",
        Request(Token(VICTIM, CLOSED, {"sid": "a sign-in that has ended"}), CLOSED),
        (401,),
    ),
    _of(
        "stop", "stopped-person", "calls as a person who is stopped", Request(Token(STOPPED, CLOSED), CLOSED), (403,)
    ),
    _of(
        "stop",
        "stopped-person-lists",
        "lists as a person who is stopped",
        Request(Token(STOPPED, CLOSED), CLOSED, message={"method": "tools/list"}, without=("mcp-name",)),
        (403,),
    ),
    _of(
        "stop",
        "stopped-person-other-client",
        "calls as a person who is stopped, from another client and surface",
        Request(Token(STOPPED, OPEN, {"client_id": "another", "surface": "ide", "sid": "new"})),
        (403,),
    ),
    _of("stop", "stopped-tool", "calls a tool that is stopped", Request(tool=HALTED), (403,)),
    _of(
        "stop",
        "stopped-tool-escaped",
        "calls it with its name written in escapes",
        Request(
            tool=HALTED,
            body=b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"h\\u0061lted","arguments":{}}}',
            without=("mcp-name", "mcp-method", "mcp-protocol-version"),
            era="legacy",
        ),
        (400, 403),
    ),
    _of("hidden", "hidden-tool", "calls a tool that is hidden from it", Request(tool=HIDDEN), (200,), SERVER),
)

TABLE = (
    *HEADERS,
    *SHAPES,
    *CLAIMS,
    *ACTING,
    *USES,
    _attack(
        "sub-twice",
        "says the attacker and then the victim, in one token",
        Token(ATTACKER, CLOSED, made=_payload(_twice_behind("sub", '"ana"'))),
        answer=(401, 403),
    ),
    _attack(
        "groups-twice",
        "says its own groups and then the victim's",
        Token(ATTACKER, CLOSED, made=_payload(_twice_behind("groups", '["ads-eng"]'))),
        answer=(401, 403),
    ),
    _attack(
        "aud-twice",
        "says the right server and then another",
        Token(VICTIM, CLOSED, made=_payload(_twice_behind("aud", '"https://evil.example"'))),
        answer=(401,),
    ),
    _attack(
        "exp-twice",
        "ends in time, and then never",
        Token(
            VICTIM, CLOSED, {"iat": "{now}-60", "exp": "{now}-30"}, made=_payload(_twice_behind("exp", "99999999999"))
        ),
        answer=(401,),
    ),
    _attack(
        "iss-twice",
        "was issued by somebody else, and then by us",
        Token(VICTIM, CLOSED, made=_payload(_twice("iss", '"https://evil.example"'))),
        answer=(401, 403),
    ),
)
