"""What a `server.json` becomes as a draft here, and what of it does not.

Nothing is cut or changed unsaid: a server whose text does not fit is left out and the reason told, and what a draft
has no place for is named beside it. Pegboard runs its own servers, so an address elsewhere is kept as a link and
packages are not kept at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from pegboard.cli.registry.source import Entry, told_as
from pegboard.core.names import ServerName

OFFICIAL = "io.modelcontextprotocol.registry/official"
LONGEST_TEXT = 100
"""Characters of a title and of a description, here as in the schema of server.json."""

LONGEST_LINK = 500
MOST_LINKS = 10
_OFFICIAL_NAME = re.compile(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the drafts get that no `server.json` says, and which servers are wanted.

    Attributes:
        names: patterns of official names, with * and ?; none for all.
        server: what the one server that is wanted is called here; None for its own name in `namespace`.
    """

    namespace: str
    owner: str
    support_channel: str
    sensitivity: str
    names: Sequence[str] = ()
    server: ServerName | None = None

    def wants(self, official: str) -> bool:
        """Whether a pattern fits, where there are any."""
        return not self.names or any(fnmatchcase(official, pattern) for pattern in self.names)


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft to be made.

    Attributes:
        server: its name here.
        official: its name there.
        body: what the API is sent.
        not_kept: what the draft has no place for.
    """

    server: str
    official: str
    version: str
    body: Mapping[str, Any] = field(repr=False)
    not_kept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A server that becomes no draft, and why."""

    official: str
    why: str


def drafts(entries: Iterable[Entry], wanted: Wanted, source: str) -> Iterator[Draft | LeftOut]:
    """What becomes of each server, in their order. Those that no pattern fits are passed over in silence."""
    taken: dict[str, str] = {}
    for entry in entries:
        server = entry.get("server")
        official = server.get("name") if isinstance(server, Mapping) else None
        if not isinstance(server, Mapping) or not isinstance(official, str) or not _OFFICIAL_NAME.fullmatch(official):
            yield LeftOut(_short(official), "it has no name of the form com.example/name")
        elif wanted.wants(official):
            found = _draft(entry, server, official, wanted, source)
            if isinstance(found, Draft) and found.server in taken:
                found = LeftOut(official, _twice(found, taken[found.server]))
            elif isinstance(found, Draft):
                taken[found.server] = official
            yield found


def _twice(draft: Draft, other: str) -> str:
    if draft.official == other:
        return f"{other} was there before, in another version"
    return f"{draft.server} is what {other} is called here; import it alone, with --name and --server"


def _draft(entry: Entry, server: Mapping[str, Any], official: str, wanted: Wanted, source: str) -> Draft | LeftOut:
    if why := _stale(entry):
        return LeftOut(official, why)
    name = wanted.server or _name(official, wanted.namespace)
    if name is None:
        mend = "name it with --server NS/NAME"
        return LeftOut(official, f"{official.partition('/')[2]} makes no name of 2 to 32 of a-z, 0-9 and '-'; {mend}")
    description = server.get("description")
    if fault := _fault(description):
        return LeftOut(official, f"its description {fault}")
    version = server.get("version")
    version = version if isinstance(version, str) and not _fault(version) else "unknown"
    not_kept: list[str] = []
    body = {
        "server": str(name),
        **_title(server.get("title"), not_kept),
        "description": description,
        "owner": wanted.owner,
        "support_channel": wanted.support_channel,
        "links": _links(server, not_kept),
        "sensitivity": wanted.sensitivity,
        "why": f"imported: {official} {version} from {told_as(source)}"[:1000],
    }
    _note_the_rest(server, not_kept)
    return Draft(str(name), official, version, body, tuple(not_kept))


def _stale(entry: Entry) -> str:
    """Why an entry is none to begin with, as its registry says; empty where it says nothing against it."""
    meta = entry.get("_meta")
    official = meta.get(OFFICIAL) if isinstance(meta, Mapping) else None
    if not isinstance(official, Mapping):
        return ""
    status = official.get("status", "active")
    if status != "active":
        return f"it is {status} there" if status in ("deprecated", "deleted") else "its status there is unknown"
    return "it is not the latest version" if official.get("isLatest") is False else ""


def _name(official: str, namespace: str) -> ServerName | None:
    """The name here: the part after the slash, in lower case, with '-' for '.' and '_'."""
    plain = re.sub(r"[._-]+", "-", official.partition("/")[2].lower()).strip("-")
    try:
        return ServerName(namespace, plain)
    except ValueError:
        return None


def _fault(text: Any) -> str:
    """Why a text cannot stand in a record; empty where it can."""
    if not isinstance(text, str) or not text.strip():
        return "is missing"
    if len(text) > LONGEST_TEXT:
        return f"has {len(text)} characters, and {LONGEST_TEXT} is the most"
    return "" if text.isprintable() else "has characters that cannot be seen"


def _title(title: Any, not_kept: list[str]) -> dict[str, str]:
    if title is None:
        return {}
    if fault := _fault(title):
        not_kept.append(f"title ({fault})")
        return {}
    return {"title": title}


def _links(server: Mapping[str, Any], not_kept: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, url in _addresses(server):
        if not _is_link(url):
            not_kept.append(f"{name} (not a plain https address)")
        elif len(found) == MOST_LINKS:
            not_kept.append(f"{name} (there are {MOST_LINKS} links already)")
        else:
            found[name] = url
    return found


def _addresses(server: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    repository = server.get("repository")
    if isinstance(repository, Mapping) and "url" in repository:
        yield "repository", repository["url"]
    if "websiteUrl" in server:
        yield "website", server["websiteUrl"]
    for number, remote in enumerate(_list(server.get("remotes")), start=1):
        yield "endpoint" if number == 1 else f"endpoint-{number}", remote.get("url")


def _is_link(url: Any) -> bool:
    if not isinstance(url, str) or len(url) > LONGEST_LINK or not url.isascii() or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    plain = not any(character in url for character in "\"'<>` \\{}")
    return plain and parts.scheme == "https" and bool(parts.hostname) and not parts.username


def _note_the_rest(server: Mapping[str, Any], not_kept: list[str]) -> None:
    repository = server.get("repository")
    if isinstance(repository, Mapping) and repository.get("subfolder"):
        not_kept.append(f"the repository's subfolder ({_short(repository['subfolder'])})")
    for package in _list(server.get("packages")):
        told = " ".join(_short(package.get(key, "")) for key in ("registryType", "identifier", "version"))
        not_kept.append(f"package ({told.strip()})")
    if any(_list(remote.get("headers")) for remote in _list(server.get("remotes"))):
        not_kept.append("headers of the endpoint")
    if server.get("icons"):
        not_kept.append("icons")
    if server.get("_meta"):
        not_kept.append("the publisher's own metadata")


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
