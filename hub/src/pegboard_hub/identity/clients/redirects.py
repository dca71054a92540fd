"""Where answers may go: which redirect URIs a client may register, and whether a request names one of them.

Text is judged as it stands. Nothing is normalised, because the browser that follows a redirect normalises in its own
way, and what two readers understand differently is where codes leak to: such text is refused instead.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from urllib.parse import parse_qsl

from pegboard.core.redirects import LOOPBACK
from pegboard_hub.identity.clients.errors import RedirectRefused

LONGEST = 1000
"""Characters of one redirect URI."""

MOST = 16
"""Redirect URIs of one client. VS Code registers six."""

APP_SCHEMES = frozenset(
    {
        "code-oss",
        "cursor",
        "kiro",
        "trae",
        "vscode",
        "vscode-insiders",
        "vscodium",
        "windsurf",
        "windsurf-next",
        "zed",
    }
)
"""Schemes of editors that came before RFC 8252 §7.1 asked for a dot, as their MCP clients use them."""

NEVER_SCHEMES = frozenset(
    {
        "about",
        "blob",
        "chrome",
        "chrome-extension",
        "content",
        "data",
        "edge",
        "file",
        "filesystem",
        "ftp",
        "intent",
        "jar",
        "javascript",
        "mailto",
        "ms-settings",
        "resource",
        "search-ms",
        "sms",
        "ssh",
        "tel",
        "vbscript",
        "view-source",
        "ws",
        "wss",
    }
)
"""Schemes that a browser runs, reads the machine with, or hands to a program with another purpose. No setting opens
them."""

ANSWER_PARAMETERS = frozenset({"code", "state", "iss", "error", "error_description", "error_uri", "response"})
"""What an answer adds to the redirect URI; one that has them already could make the client read the wrong one."""

_CHARACTERS = re.compile(r"(?:[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
"""RFC 3986 without '#': no spaces, controls, backslashes, quotes or anything beyond ASCII."""

_PARTS = re.compile(r"(?P<scheme>[^:/?]+):(?://(?P<authority>[^/?]*))?(?P<path>[^?]*)(?:\?(?P<query>.*))?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:]+\]|[^:]*)(?::(?P<port>[1-9][0-9]{0,4}))?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_HIDDEN = re.compile(r"%(?:[01][0-9a-f]|7f)", re.IGNORECASE)
_HIDDEN_IN_PATH = re.compile(r"%(?:2e|2f|5c)", re.IGNORECASE)


def check_redirects(uris: Sequence[str], schemes: Collection[str] = ()) -> tuple[str, ...]:
    """The redirect URIs a client may have, each once, in the order given.

    Args:
        uris: as the client gives them.
        schemes: private-use schemes that the operator allows beside `APP_SCHEMES`.

    Raises:
        RedirectRefused: there are none or too many, or one may not be registered.
    """
    if not uris:
        raise RedirectRefused("redirect_uris is empty: name where answers go")
    if len(uris) > MOST:
        raise RedirectRefused(f"redirect_uris has {len(uris)} entries; {MOST} is the most")
    for uri in uris:
        check_redirect(uri, schemes)
    return tuple(dict.fromkeys(uris))


def check_redirect(uri: str, schemes: Collection[str] = ()) -> None:
    """Let one redirect URI pass.

    Raises:
        RedirectRefused: it may not be registered.
    """
    if fault := _fault(uri, schemes):
        raise RedirectRefused(f"redirect URI {uri[:100]!a}: {fault}")


def matches(registered: str, given: str) -> bool:
    """Whether a request's redirect URI is the registered one.

    They are compared as they are (RFC 9700 §2.1), but for the port of http to the person's own machine, which a
    program chooses at every start (RFC 8252 §7.3).
    """
    if registered == given:
        return True
    ours, theirs = LOOPBACK.fullmatch(registered), LOOPBACK.fullmatch(given)
    return (
        ours is not None
        and theirs is not None
        and _is_port(theirs["port"])
        and (ours["host"], ours["rest"]) == (theirs["host"], theirs["rest"])
    )


def scheme_fault(scheme: str) -> str:
    """Why the operator cannot allow a private-use scheme; empty where they can."""
    if not _SCHEME.fullmatch(scheme):
        return f"{scheme[:40]!a} is not a scheme: write it in lower case and without ':', for example cursor"
    if scheme in ("http", "https"):
        return f"{scheme} is no private-use scheme; its redirects have rules of their own"
    if scheme in NEVER_SCHEMES:
        return f"answers never go to {scheme}:"
    return ""


def host_fault(host: str) -> str:
    """Why a text is no host's name; empty where it is one. Addresses are none, nor what browsers read as one."""
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return "its host is no domain name in lower case, without a dot at its end"
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        return "its host is an address, or is read as one; use a domain name"
    return ""


def _fault(uri: str, schemes: Collection[str]) -> str:
    """What is wrong with a redirect URI, with its mend; empty where nothing is."""
    if len(uri) > LONGEST:
        return f"it has {len(uri)} characters; {LONGEST} is the most"
    if "#" in uri:
        return "it has a fragment; leave out '#' and what follows (RFC 6749 §3.1.2)"
    parts = _PARTS.fullmatch(uri) if _CHARACTERS.fullmatch(uri) else None
    if parts is None:
        return "it is no absolute URI of RFC 3986; write host names in ASCII, and other characters percent-encoded"
    scheme, authority, path, query = parts.group("scheme", "authority", "path", "query")
    return (
        _scheme_fault(scheme, authority, path, schemes)
        or _authority_fault(scheme, authority)
        or _path_fault(path)
        or _query_fault(query)
    )


def _scheme_fault(scheme: str, authority: str | None, path: str, schemes: Collection[str]) -> str:
    if not _SCHEME.fullmatch(scheme):
        return f"write the scheme in lower case, not {scheme[:40]!a}"
    if scheme in NEVER_SCHEMES:
        return f"answers never go to {scheme}:"
    if scheme in ("http", "https"):
        return "" if authority else f"name a host after {scheme}://"
    if scheme not in APP_SCHEMES and scheme not in schemes and not _is_reverse_domain(scheme):
        return (
            f"scheme {scheme[:40]} is not known here; use https, http to 127.0.0.1, or a private-use scheme "
            "in the form of your own domain reversed, as com.example.app (RFC 8252 §7.1)"
        )
    return "" if authority is not None or path.startswith("/") else f"write it as {scheme}:/path"


def _is_reverse_domain(scheme: str) -> bool:
    """Whether a private-use scheme belongs to somebody by its name (RFC 8252 §7.1)."""
    labels = scheme.split(".")
    return len(labels) > 1 and all(_LABEL.fullmatch(label) for label in labels)


def _authority_fault(scheme: str, authority: str | None) -> str:
    if authority is None:
        return ""
    if "@" in authority:
        return "it has a user before the host; leave out '@' and what comes before it"
    if "%" in authority:
        return "its host is percent-encoded; write it plainly"
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None or not _is_port(parts["port"]):
        return "its port is no number from 1 to 65535; leave the port out or write one"
    host = parts["host"]
    if scheme == "http":
        here = host in ("127.0.0.1", "localhost", "[::1]")
        return "" if here else "http goes to 127.0.0.1, [::1] or localhost alone; use https"
    return host_fault(host) if scheme == "https" else ""


def _path_fault(path: str) -> str:
    if any(segment in (".", "..") for segment in path.split("/")):
        return "its path has '.' or '..'; write the path it means"
    if _HIDDEN.search(path) or _HIDDEN_IN_PATH.search(path):
        return "its path hides a dot, a slash, a backslash or a control character behind a percent sign"
    return ""


def _query_fault(query: str | None) -> str:
    if query is None:
        return ""
    if _HIDDEN.search(query):
        return "its query hides a control character behind a percent sign"
    taken = sorted({name for name, _ in parse_qsl(query, keep_blank_values=True)} & ANSWER_PARAMETERS)
    return f"its query has {', '.join(taken)}, which answers add; leave it out" if taken else ""


def _is_port(port: str | None) -> bool:
    """Whether it is a port, or none is named."""
    return port is None or int(port) <= 65535
