"""Reading servers from elsewhere: a `server.json` file, or another registry's `/v0.1`.

Whatever is read is a stranger's text. It is bounded here, and what it says is judged one server at a time (`drafts`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.http import API_S, CONNECT_S, reaching, trusts_proxies

CHECK = "Is that the registry's address, and does it answer from here?"

PAGE = 100
"""Servers that are asked for at once; a registry may give fewer."""

MOST_SERVERS = 10_000
LONGEST_PAGE = 16 * 2**20
"""Bytes of a page, or a file. A server.json has a few thousand."""

Entry = Mapping[str, Any]
"""A `server.json`, and beside it what the registry says of it: `{"server": …, "_meta": …}`."""


def read(source: str, search: str = "") -> Iterator[Entry]:
    """The servers that a source tells of, the latest version of each.

    Args:
        source: a file, `-` for stdin, or the URL of a registry, with or without its `/v0.1` or `/v0.1/servers`.
        search: passed on to a registry; a file is read whole.

    Raises:
        Failure: the source cannot be read, or is neither of these.
    """
    if source.lower().startswith(("http://", "https://")):
        yield from _registry(source, search)
    else:
        yield from _entries(_document(source), source)


def told_as(source: str) -> str:
    """What others may read of a source: a registry's URL, or what a file is called, and not where it lies."""
    if source.lower().startswith(("http://", "https://")):
        return source
    return "standard input" if source == "-" else Path(source).name


def _document(source: str) -> dict[str, Any]:
    try:
        document = _json(_file(source), source)
    except Failure as failure:
        failure.status = ExitStatus.USAGE
        raise
    server = document.get("server", document)
    if "servers" not in document and not (isinstance(server, dict) and isinstance(server.get("name"), str)):
        raise Failure.usage(f"{source} is not a server.json.", "It must be one JSON object with the server's `name`.")
    return document


def _file(name: str) -> bytes:
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            return file.read(LONGEST_PAGE + 1)
    except OSError as error:
        mend = "Give a server.json file, - for stdin, or the URL of a registry."
        raise Failure.usage(f"{name} cannot be read: {error.strerror}.", mend) from error


def _registry(source: str, search: str) -> Iterator[Entry]:
    address, cursor, seen, count = _address(source), "", set[str](), 0
    timeout = httpx2.Timeout(API_S, connect=CONNECT_S)
    with httpx2.Client(timeout=timeout, trust_env=trusts_proxies(address), follow_redirects=False) as client:
        while True:
            asked = {"limit": str(PAGE), "version": "latest", "search": search, "cursor": cursor}
            page = _json(_get(client, address, {name: value for name, value in asked.items() if value}), address)
            for entry in _entries(page, address):
                count += 1
                if count > MOST_SERVERS:
                    raise _broken(f"{address} tells of more than {MOST_SERVERS} servers", "Narrow it with --search.")
                yield entry
            metadata = page.get("metadata")
            cursor = metadata.get("nextCursor") or "" if isinstance(metadata, dict) else ""
            if not cursor:
                return
            if not isinstance(cursor, str) or cursor in seen:
                raise _broken(f"{address} goes round in circles: it gave the same cursor twice")
            seen.add(cursor)


def _address(source: str) -> str:
    """Where the registry's list is."""
    try:
        parts = urlsplit(source)
        bad = not parts.hostname or bool(parts.username or parts.query or parts.fragment) or parts.port == 0
    except ValueError:
        bad = True
    if bad:
        raise Failure.usage(f"{source!r} is not the URL of a registry.", "Write it as https://registry.example.")
    base = source.rstrip("/").removesuffix("/servers").removesuffix("/v0.1")
    return f"{base}/v0.1/servers"


def _get(client: httpx2.Client, address: str, query: Mapping[str, str]) -> bytes:
    headers = {"accept": "application/json"}
    with reaching(address, CHECK), client.stream("GET", address, params=query, headers=headers) as got:
        if got.has_redirect_location:
            mend = f"If you trust that address, give it instead: {got.headers['location']}"
            raise _broken(f"{address} leads elsewhere", mend)
        if got.status_code != httpx2.codes.OK:
            raise _broken(f"{address} answers {got.status_code}", "Is it a registry of the MCP registry API, v0.1?")
        body = bytearray()
        for part in got.iter_bytes():
            body += part
            if len(body) > LONGEST_PAGE:
                break
        return bytes(body)


def _json(body: bytes, where: str) -> dict[str, Any]:
    if len(body) > LONGEST_PAGE:
        raise _broken(f"{where} is longer than {LONGEST_PAGE // 2**20} MiB")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _broken(f"{where} is not a server.json and no registry's answer", "It must be one JSON object.")
    return value


def _entries(document: dict[str, Any], where: str) -> Iterator[Entry]:
    """A list's entries; of a single entry or a bare server.json that one."""
    if "servers" in document:
        entries = document["servers"]
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise _broken(f"{where} is not a registry's answer", "Its `servers` must be a list of objects.")
        yield from entries
    elif isinstance(document.get("server"), dict):
        yield document
    else:
        yield {"server": document}


def _broken(what: str, mend: str = "") -> Failure:
    return Failure.here(ExitStatus.FAILED, "unusable_source", f"{what}.", mend)
