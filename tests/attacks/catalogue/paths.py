"""Spellings of paths: another server than the token is for, in whatever writing."""

from __future__ import annotations

from tests.attacks.catalogue.attack import (
    ATTACKER,
    BOTH,
    CLOSED,
    OPEN,
    Attack,
    Request,
    Token,
)
from tests.attacks.catalogue.heads import OF_HTTP, OWN_CLOSED


def _path(id_: str, sends: str, path: str, answer: tuple[int, ...] = (400, 404), hopeless: str = "") -> Attack:
    """A spelling of the closed server's path, with the attacker's own good token for the open one."""
    request = Request(Token(ATTACKER, OPEN), CLOSED, line=f"POST {path} HTTP/1.1")
    return Attack(f"path-{id_}", "one-meaning", sends, request, answer, BOTH, hopeless=hopeless)


_SAME = (401,)
"""The spelling is read as the closed server's path, whose audience the token has not."""

PATHS = (
    _path("dots", "climbs from its own server to another", "/mcp/prod/ledger/../atlas", _SAME),
    _path("dots-escaped", "climbs with escaped dots", "/mcp/prod/ledger/%2e%2e/atlas", _SAME),
    _path("dots-half-escaped", "climbs with one escaped dot", "/mcp/prod/ledger/.%2e/atlas", _SAME),
    _path("dots-escaped-twice", "climbs with dots that are escaped twice", "/mcp/prod/ledger/%252e%252e/atlas"),
    _path("dots-slash-escaped", "climbs with an escaped slash", "/mcp/prod/ledger/..%2fatlas", _SAME),
    _path("dots-slash-escaped-twice", "climbs with a slash that is escaped twice", "/mcp/prod/ledger/..%252fatlas"),
    _path("dots-backslash", "climbs with a backslash", "/mcp/prod/ledger/..\\atlas", (401, 400, 404)),
    _path(
        "dots-backslash-escaped", "climbs with an escaped backslash", "/mcp/prod/ledger/..%5catlas", (401, 400, 404)
    ),
    _path("dots-semicolon", "climbs behind a matrix parameter", "/mcp/prod/ledger/..;/atlas", (400, 401, 404)),
    _path(
        "dots-semicolon-only", "puts a matrix parameter into a part", "/mcp/prod/ledger;/../atlas", (401, 400, 404)
    ),
    _path("dots-overlong", "climbs with overlong UTF-8", "/mcp/prod/ledger/%c0%ae%c0%ae/atlas"),
    _path("dots-wide", "climbs with wide dots", "/mcp/prod/ledger/%ef%bc%8e%ef%bc%8e/atlas"),
    _path("dots-to-the-top", "climbs over the top", "/../../mcp/prod/atlas", (401, 400, 404)),
    _path("dot", "has a dot for a part", "/mcp/./prod/atlas", _SAME),
    _path("slash-double", "has two slashes", "/mcp//prod//atlas", _SAME),
    _path("slash-double-first", "begins with two slashes", "//mcp/prod/atlas", _SAME),
    _path("slash-escaped", "has an escaped slash", "/mcp/prod%2fatlas", _SAME),
    _path("slash-escaped-capital", "has an escaped slash in capitals", "/mcp/prod%2Fatlas", _SAME),
    _path("slash-escaped-twice", "has a slash that is escaped twice", "/mcp/prod%252fatlas"),
    _path("slash-wide", "has a wide slash", "/mcp/prod%ef%bc%8fatlas"),
    _path("slash-overlong", "has an overlong slash", "/mcp/prod%c0%afatlas"),
    _path("slash-trailing", "ends with a slash", "/mcp/prod/atlas/"),
    _path("dot-trailing", "ends with a dot", "/mcp/prod/atlas."),
    _path("dot-slash-trailing", "ends with a slash and a dot", "/mcp/prod/atlas/."),
    _path("backslash", "has a backslash for a slash", "/mcp/prod\\atlas", (401, 400, 404)),
    _path("case", "is in capitals", "/MCP/PROD/ATLAS"),
    _path("case-name", "has the server's name in capitals", "/mcp/prod/ATLAS", (404, 400)),
    _path("letter-escaped", "has an escaped letter", "/mcp/prod/%61tlas", (401, 400, 404)),
    _path("letter-accented", "has a letter with a combining accent", "/mcp/prod/a%cc%81tlas"),
    _path("nul", "ends with a NUL", "/mcp/prod/atlas%00"),
    _path("nul-raw", "ends with a NUL that is not escaped", "/mcp/prod/atlas\0", hopeless=OF_HTTP),
    _path("nul-then-own", "has a NUL before its own server", "/mcp/prod/atlas%00/../ledger", (400, 404, 200)),
    _path("space", "ends with an escaped space", "/mcp/prod/atlas%20"),
    _path("tab", "has a tab", "/mcp/prod/atlas%09"),
    _path("line-end", "has an escaped line end", "/mcp/prod/atlas%0d%0aX-Forwarded-User:%20ana"),
    _path("query", "has a query", "/mcp/prod/atlas?server=prod/ledger", (404, 401, 400)),
    _path("query-escaped", "has an escaped question mark", "/mcp/prod/atlas%3fx"),
    _path("fragment", "has a fragment", "/mcp/prod/atlas#/mcp/prod/ledger"),
    _path("matrix", "has a matrix parameter", "/mcp/prod/atlas;x=y"),
    _path("matrix-part", "has a matrix parameter in the namespace", "/mcp/prod;x=y/atlas"),
    _path("half-escape", "ends in half an escape", "/mcp/prod/atlas%2"),
    _path("bad-escape", "has an escape of no number", "/mcp/prod/%zzatlas"),
    _path("star", "asks for everything", "/mcp/prod/*"),
    _path("star-alone", "asks for the star", "*"),
    _path("absolute-own", "is a whole address", "http://localhost:{port}/mcp/prod/atlas", _SAME),
    _path(
        "absolute-scheme",
        "is a whole address of another scheme",
        "gopher://localhost/mcp/prod/atlas",
        (400, 421, 401),
    ),
    _path("userinfo", "has a name before the host", "http://ana@localhost:{port}/mcp/prod/atlas", (400, 421, 401)),
    _path("prefix", "goes on behind the server", "/mcp/prod/atlas/mcp/prod/ledger"),
    _path("probe", "asks for the server's own probe", "/mcp/prod/ledger/../../../healthz", (404, 405, 400)),
    _path("metrics", "asks for the server's own metrics", "/mcp/prod/ledger/metrics"),
    _path("internal", "asks for the hub's internal door", "/internal/v1/records", (404, 405)),
    _path("internal-escaped", "asks for it escaped", "/%69nternal%2fv1/records", (404, 405)),
    _path("admin", "asks for Envoy's administration", "/quitquitquit", (404, 405)),
    _path("admin-config", "asks for Envoy's configuration", "/config_dump", (404, 405)),
    Attack(
        "path-own-token-matches",
        "one-meaning",
        "has the victim's server behind its own in the path",
        Request(
            Token(ATTACKER, OPEN, {"aud": "{url}/mcp/prod/ledger/../atlas"}),
            CLOSED,
            line="POST /mcp/prod/ledger/../atlas HTTP/1.1",
        ),
        (401, 403),
        BOTH,
    ),
    Attack(
        "path-connect",
        "closed",
        "opens a tunnel",
        Request(line="CONNECT localhost:1 HTTP/1.1"),
        (400, 403, 404, 405),
        hopeless="no server opens tunnels",
    ),
    Attack(
        "path-trace",
        "closed",
        "asks for its own request back",
        Request(OWN_CLOSED, CLOSED, verb="TRACE"),
        (400, 403, 404, 405),
        BOTH,
    ),
    Attack(
        "verb-lower",
        "one-meaning",
        "spells its method in small letters",
        Request(OWN_CLOSED, CLOSED, verb="post"),
        (400, 403, 404, 405),
        BOTH,
        hopeless=OF_HTTP,
    ),
    Attack(
        "verb-unknown",
        "one-meaning",
        "has a method of its own",
        Request(OWN_CLOSED, CLOSED, verb="BREW"),
        (400, 403, 404, 405),
        BOTH,
        hopeless=OF_HTTP,
    ),
    Attack("verb-put", "one-meaning", "puts", Request(verb="PUT"), (400, 404, 405), BOTH),
)

TABLE = PATHS
