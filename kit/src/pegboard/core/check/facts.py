"""What is known of locked packages: asked of their indexes, looked up in advisories. Without input or output.

`asking` says what to fetch and reads what came; whoever has a network drives it (the command, and the hub's runtime).
An index gives whether a version was yanked (PEP 592) and its licence (core metadata, PEP 658 and 639). Advisories are
documents of the OSV schema (ossf.github.io/osv-schema), from a folder that the operator points at: those of the
Python Packaging Advisory Database, and `MAL-…` of OpenSSF's malicious packages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Generator, Iterable, Mapping
from dataclasses import replace
from email.parser import BytesHeaderParser
from html.parser import HTMLParser
from typing import Any, Final, NamedTuple
from urllib.parse import urljoin

from packaging.version import InvalidVersion, Version
from pydantic import TypeAdapter

from pegboard.core.check.dependencies import KIT, is_of, normalized, parse_lock, same_version
from pegboard.core.check.model import Advisory, PackageFacts
from pegboard.core.check.npm import NPM, npm_packages

ACCEPT: Final = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
LARGEST_ANSWER: Final = 32 * 1024 * 1024
"""Bytes of an index's page, or of a package's metadata."""

Known = dict[tuple[str, str], PackageFacts]
"""Facts by name and version."""


class Wanted(NamedTuple):
    """A locked version to look up, and the index that it comes from."""

    name: str
    version: str
    source: str


class Ask(NamedTuple):
    """An address to fetch by GET."""

    url: str
    accept: str = "*/*"


class Answer(NamedTuple):
    """What came: of status 200, and not larger than `LARGEST_ANSWER`."""

    content_type: str
    content: bytes


def wanted(lock: bytes, indexes: Iterable[str] | None = None) -> list[Wanted]:
    """The locked versions to look up.

    Args:
        lock: the file, which is its author's text.
        indexes: those that may be asked; of packages from others nothing is fetched. None: any, for an author's own
            machine.
    """
    may = None if indexes is None else {each.rstrip("/") for each in indexes}
    return [
        Wanted(each.name, each.version, each.source.rstrip("/"))
        for each in parse_lock(lock)
        if each.kind == "registry" and each.name != KIT and (may is None or each.source.rstrip("/") in may)
    ]


def asking(package: Wanted, advisories: Advisories) -> Generator[Ask, Answer | None, PackageFacts | None]:
    """Look one version up: yields what to fetch, is sent what came (None: nothing did), and returns what is known.

    None where neither its index nor an advisory says anything of it.
    """
    listed = advisories.of(package.name, package.version)
    unasked = PackageFacts(advisories=listed) if listed else None
    if not re.match(r"https?://", package.source):
        return unasked
    address = f"{package.source}/{package.name}/"
    answer = yield Ask(address, ACCEPT)
    files = _files(answer, address) if answer is not None else []
    mine = [each for each in files if is_of(each.name, package.name, package.version)]
    if not mine:
        return unasked
    licence = ""
    if (described := next((each for each in mine if each.metadata), None)) is not None:
        answer = yield Ask(f"{described.url}.metadata")
        licence = licence_in(answer.content) if answer is not None else ""
    taken_back = [each.yanked for each in mine]
    yanked = next((each for each in taken_back if each is not None), None) if None not in taken_back else None
    return PackageFacts(yanked, listed, licence)


class _File(NamedTuple):
    name: str
    url: str
    yanked: str | None
    metadata: bool


def _files(answer: Answer, address: str) -> list[_File]:
    """The files of an index's page, JSON (PEP 691) or HTML (PEP 503); none where it is neither."""
    if "json" in answer.content_type:
        try:
            listed = json.loads(answer.content).get("files", [])
        except (ValueError, RecursionError, AttributeError):
            return []
        return [
            _File(str(each.get("filename", "")), urljoin(address, str(each.get("url", ""))), *_said(each))
            for each in listed
            if isinstance(each, dict)
        ]
    page = _Page()
    page.feed(answer.content.decode("utf-8", "replace"))
    return [
        _File(
            text.strip(),
            urljoin(address, str(values.get("href", "")).partition("#")[0]),
            (values["data-yanked"] or "") if "data-yanked" in values else None,
            "data-core-metadata" in values or "data-dist-info-metadata" in values,
        )
        for text, values in page.links
    ]


def _said(file: Mapping[str, Any]) -> tuple[str | None, bool]:
    yanked = file.get("yanked", False)
    metadata = file.get("core-metadata") or file.get("dist-info-metadata")
    return (yanked if isinstance(yanked, str) else "" if yanked else None), bool(metadata)


class _Page(HTMLParser):
    """The links of a page, with their texts."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[str, dict[str, str | None]]] = []
        self._open: dict[str, str | None] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._open = dict(attrs)

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.links.append((data, self._open))
            self._open = None


def licence_in(metadata: bytes) -> str:
    """The licence that core metadata give: an SPDX expression (PEP 639), else a classifier's, else the free text."""
    said = BytesHeaderParser().parsebytes(metadata)
    if expression := said.get("License-Expression"):
        return str(expression).strip()[:200]
    named = [
        each.rpartition("::")[2].strip()
        for each in said.get_all("Classifier", [])
        if each.startswith("License ::") and each.count("::") > 1
    ]
    free = str(said.get("License", "")).strip()
    return ", ".join(named)[:200] or (free.splitlines()[0][:100] if free else "")


class Advisories:
    """Advisories of packages of PyPI and npm, by package; a name of npm's has `npm:` before it.

    Args:
        documents: as JSON of the OSV schema; what is none is passed over, and counted.
        names: packages of which something is to be known; None: all.
    """

    def __init__(self, documents: Iterable[bytes] = (), names: Collection[str] | None = None) -> None:
        self.unread = 0
        self._names = frozenset(map(_name, names)) if names is not None else None
        self._found: dict[str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
        for content in documents:
            self._add(content)

    def __len__(self) -> int:
        return sum(map(len, self._found.values()))

    def _add(self, content: bytes) -> None:
        try:
            document = json.loads(content)
            affected = document["affected"]
            listed = [(name, each) for each in affected if (name := _affected_name(each))]
            str(document["id"])
        except (ValueError, KeyError, TypeError, RecursionError):
            self.unread += 1
            return
        if document.get("withdrawn"):
            return
        for name, each in listed:
            if self._names is None or name in self._names:
                self._found.setdefault(name, []).append((document, each))

    def of(self, name: str, version: str) -> tuple[Advisory, ...]:
        """Those that a version is affected by, malicious ones first."""
        found: dict[str, Advisory] = {}
        for document, affected in self._found.get(_name(name), ()):
            if (fixed := _affects(affected, version)) is not None:
                about = str(document.get("summary") or document.get("details") or "")
                advisory = Advisory(str(document["id"])[:64], " ".join(about.split())[:200], fixed)
                found.setdefault(advisory.id, advisory)
        return tuple(sorted(found.values(), key=lambda each: (not each.malicious, each.id)))


def _affected_name(affected: Mapping[str, Any]) -> str:
    """The package that an advisory is of; empty where its ecosystem is none that servers are made of."""
    prefix = {"PyPI": "", "npm": NPM}.get(str(affected["package"]["ecosystem"]).partition(":")[0])
    return _name(f"{prefix}{affected['package']['name']}") if prefix is not None else ""


def _name(name: str) -> str:
    return name.lower() if name.startswith(NPM) else normalized(name)


def npm_facts(lock: bytes | None, advisories: Advisories) -> Known:
    """What advisories and the lock file itself say of the packages of npm."""
    return {
        (each.name, each.version): PackageFacts(
            advisories=advisories.of(each.name, each.version), licence=each.licence
        )
        for each in npm_packages(lock)
    }


def _affects(affected: Mapping[str, Any], version: str) -> str | None:
    """The version that mends it, empty without one; None where the version is not affected (OSV, "Evaluation").

    A version that nobody can order is taken for affected by whatever has a range: it is better looked at.
    """
    listed = affected.get("versions")
    named = isinstance(listed, list) and any(same_version(str(each), version) for each in listed)
    fixed = ""
    inside = False
    for each in affected.get("ranges") or ():
        if isinstance(each, dict) and each.get("type") in ("ECOSYSTEM", "SEMVER"):
            within, mended = _in_range(each.get("events") or (), version)
            inside |= within
            fixed = mended or fixed
    return fixed if named or inside else None


def _in_range(events: Iterable[Any], version: str) -> tuple[bool, str]:
    at = _version(version)
    ordered = sorted(
        ((kind, str(text)) for event in events if isinstance(event, dict) for kind, text in event.items()),
        key=lambda each: _version(each[1]),
    )
    inside, fixed = False, ""
    for kind, text in ordered:
        if kind == "introduced" and (text == "0" or _version(text) <= at):
            inside = True
        elif kind == "fixed" and _version(text) <= at:
            inside = False
        elif kind == "fixed" and inside and not fixed:
            fixed = text
        elif kind == "last_affected" and _version(text) < at:
            inside = False
    return inside, fixed


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


_KNOWN: Final = TypeAdapter(dict[str, dict[str, PackageFacts]])


def with_licences(known: Known, metadata: Iterable[bytes]) -> Known:
    """The facts, with the licences that installed packages' metadata give where an index gave none."""
    found = dict(known)
    for content in metadata:
        said = BytesHeaderParser().parsebytes(content)
        key = normalized(str(said.get("Name", ""))), str(said.get("Version", ""))
        if key in found and not found[key].licence:
            found[key] = replace(found[key], licence=licence_in(content))
    return found


def to_json(known: Known) -> dict[str, dict[str, Any]]:
    """Facts as JSON, by name and then version."""
    nested: dict[str, dict[str, PackageFacts]] = {}
    for (name, version), facts in known.items():
        nested.setdefault(name, {})[version] = facts
    said: dict[str, dict[str, Any]] = _KNOWN.dump_python(nested, mode="json")
    return said


def from_json(said: Any) -> Known:
    """Facts as `to_json` wrote them.

    Raises:
        ValueError: they are not.
    """
    nested = _KNOWN.validate_python(said)
    return {(name, version): facts for name, each in nested.items() for version, facts in each.items()}
