"""Dependencies: locked, as pyproject.toml says, by hash, from where the operator allows, and not known to be bad."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from packaging.version import InvalidVersion, Version

from pegboard.core.check.model import LockedPackage, PackageFacts, Subject
from pegboard.core.check.npm import npm_packages
from pegboard.core.check.rules import RULES
from pegboard.core.checks import parse_toml
from pegboard.core.publishing import Finding, Severity

KIT: Final = "pegboard"
"""The kit's distribution. The platform installs its own, by digest, whatever a lock file has of it."""

LOCK, PROJECT, NPM_LOCK = "uv.lock", "pyproject.toml", "package-lock.json"
LOOKED_UP: Final = ("registry", "npm")
"""Kinds of packages of which something can be known."""


LARGEST_TOML: Final = 8 * 1024 * 1024
"""Bytes of one of them that is read."""

_ENDINGS: Final = re.compile(r"\.(?:whl|zip|tgz|tar\.(?:gz|bz2|xz|zst))$")
_REQUIREMENT: Final = re.compile(
    r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[(?P<extras>[^\]]*)\])?\s*(?P<rest>[^;]*)(?P<marker>;.*)?",
    re.DOTALL,
)


class Locked(NamedTuple):
    """One package of a lock file.

    Attributes:
        kind: `registry`, `git`, `url`, `path`, or `own` for the project itself.
        source: index, repository, address or path that it comes from.
        unhashed: names of its files without a hash.
        strange: names of its files that are of another package, or of another version of it.
    """

    name: str
    version: str
    kind: str
    source: str
    unhashed: tuple[str, ...]
    strange: tuple[str, ...] = ()


def findings(subject: Subject) -> Iterator[Finding]:
    """What is wrong with what a release is built from. Without files nothing was handed in, and nothing is said."""
    if not subject.files:
        return
    project, lock = _toml(subject.files.get(PROJECT)), _toml(subject.files.get(LOCK))
    if project is None:
        yield RULES["PB402"].at(PROJECT, "there is no pyproject.toml that is valid TOML", "A server is a uv project.")
        return
    if KIT not in {each.name for each in _requirements(_table(project, "project").get("dependencies"))}:
        yield RULES["PB411"].at(PROJECT, "dependencies do not name pegboard")
    if lock is None:
        yield RULES["PB401"].at(LOCK, "there is no uv.lock that is valid TOML")
        return
    yield from (RULES["PB402"].at(LOCK, each) for each in _differences(project, lock))
    yield from of_packages(locked_packages(lock), subject, LOCK)
    yield from _of_backend(subject)


def _of_backend(subject: Subject) -> Iterator[Finding]:
    """The packages of a server that somebody else wrote, which are locked beside it."""
    folder = backend_folder(subject)
    if (lock := _toml(subject.files.get(f"{folder}/{LOCK}"))) is not None:
        yield from of_packages(locked_packages(lock), subject, f"{folder}/{LOCK}")
    if npm := npm_packages(subject.files.get(f"{folder}/{NPM_LOCK}")):
        listed = [Locked(each.name, each.version, "npm", "", ()) for each in npm]
        yield from of_packages(listed, subject, f"{folder}/{NPM_LOCK}")


def backend_folder(subject: Subject) -> str:
    """The folder of a server that somebody else wrote; empty where the server is its author's own."""
    proxy = subject.declaration.manifest.proxy
    return proxy.backend if proxy is not None else ""


def of_packages(locked: list[Locked], subject: Subject, place: str) -> Iterator[Finding]:
    """What is wrong with the packages of one lock file, which is at `place`."""
    for each in locked:
        yield from _of_source(each, subject, place)
        if _is_kit(each, place) and each.kind != "registry" and subject.allowed.indexes is not None:
            # Where it is released, the kit is the platform's: another under its name would hold to nothing.
            fix = "Take it from your instance's index: `pegboard new` shows how; then run `uv lock`."
            yield RULES["PB411"].at(LOCK, f"{KIT} is a package of the project's own ({each.source[:100]!a})", fix)
    if subject.packages is None:
        yield RULES["PB410"].at(place, "nobody looked whether a version was yanked, is malicious or is vulnerable")
        return
    for each in locked:
        if each.kind in LOOKED_UP and not _is_kit(each, place):
            yield from _of_facts(each, subject, place)
    yield from _unknown(locked, subject.packages, place)


def _is_kit(each: Locked, place: str) -> bool:
    """Whether it is the kit, which comes from the platform: of a backend's lock file none is."""
    return each.name == KIT and place == LOCK


def _unknown(locked: list[Locked], known: Mapping[tuple[str, str], PackageFacts], place: str) -> Iterator[Finding]:
    """What could not be found out, in one line each: there are many of them, or none."""
    asked = [each for each in locked if each.kind in LOOKED_UP and not _is_kit(each, place)]
    absent = [each for each in asked if (each.name, each.version) not in known]
    if absent:
        yield RULES["PB410"].at(place, f"{_named(absent)} could not be looked up")
    unlicensed = [each for each in asked if each not in absent and not known[each.name, each.version].licence]
    if unlicensed:
        yield RULES["PB408"].at(place, f"no licence is given of {_named(unlicensed)}")


def _named(packages: list[Locked]) -> str:
    names = [f"{each.name} {each.version}" for each in packages]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def packages(subject: Subject) -> tuple[LockedPackage, ...]:
    """What the server runs with, by name, with its licence where that is known; its development groups left out."""
    lock = _toml(subject.files.get(LOCK))
    if lock is None:
        return ()
    needed = runtime_names(lock)
    facts = subject.packages or {}
    wanted = [each for each in locked_packages(lock) if each.name in needed and each.kind != "own"]
    wanted += _backends_packages(subject)
    return tuple(
        LockedPackage(
            name=each.name,
            version=each.version,
            licence=facts[each.name, each.version].licence if (each.name, each.version) in facts else "",
            source=each.source,
        )
        for each in wanted
    )


def _backends_packages(subject: Subject) -> list[Locked]:
    folder = backend_folder(subject)
    npm = npm_packages(subject.files.get(f"{folder}/{NPM_LOCK}")) if folder else []
    lock = _toml(subject.files.get(f"{folder}/{LOCK}")) if folder else None
    found = [Locked(each.name, each.version, "npm", "", ()) for each in npm]
    if lock is not None:
        needed = runtime_names(lock)
        found += [each for each in locked_packages(lock) if each.name in needed and each.kind != "own"]
    return found


def parse_lock(content: bytes) -> list[Locked]:
    """The packages of a lock file; none where it cannot be read."""
    lock = _toml(content)
    return locked_packages(lock) if lock is not None else []


def locked_packages(lock: Mapping[str, Any]) -> list[Locked]:
    """The packages of a lock file, by name."""
    found = [_locked(each) for each in _list(lock.get("package")) if isinstance(each, dict)]
    return sorted(found)


def _locked(package: Mapping[str, Any]) -> Locked:
    source = _table(package, "source")
    kind, place = "registry", str(source.get("registry", ""))
    for name in ("editable", "directory", "virtual", "path"):
        if isinstance(local := source.get(name), str):
            kind, place = ("own" if local == "." else "path"), local
    for name in ("git", "url"):
        if name in source:
            kind, place = name, str(source[name])
    files = [package.get("sdist"), *_list(package.get("wheels"))]
    unhashed = [_file_name(each) for each in files if isinstance(each, dict) and not _is_hash(each.get("hash"))]
    if kind in ("registry", "url") and not any(isinstance(each, dict) for each in files):
        unhashed.append("no file at all")
    name, version = normalized(str(package.get("name", ""))), str(package.get("version", ""))
    named = [unquote(str(each.get("url", "")).rpartition("/")[2]) for each in files if isinstance(each, dict)]
    strange = tuple(each for each in named if each and kind == "registry" and not is_of(each, name, version))
    return Locked(name, version, kind, place, tuple(unhashed) if kind != "own" else (), strange)


def is_of(file: str, name: str, version: str) -> bool:
    """Whether a wheel or a source distribution is of that version (binary distribution format, PEP 625).

    What a lock file calls a package is its author's word; what is looked up, listed and warned of goes by that. So
    a file of another package under that name would be one that nobody knows of.

    Args:
        file: its name.
        name: of the package, in whatever spelling.
        version: of it, in whatever spelling.
    """
    stem = _ENDINGS.sub("", file)
    if file.endswith(".whl"):
        told, _, rest = stem.partition("-")
        said = rest.partition("-")[0]
    else:
        told, _, said = stem.rpartition("-")
    return normalized(told) == normalized(name) and same_version(said, version)


def same_version(one: str, two: str) -> bool:
    """Whether two spellings are one version (PEP 440)."""
    try:
        return one == two or Version(one) == Version(two)
    except InvalidVersion:
        return False


def _file_name(file: Mapping[str, Any]) -> str:
    return str(file.get("filename") or file.get("url") or file.get("path") or "a file").rpartition("/")[2]


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"sha(256|384|512):[0-9a-f]{64,128}", value) is not None


def runtime_names(lock: Mapping[str, Any]) -> set[str]:
    """Names of what the project needs to run, at any depth, on whatever machine."""
    packages = {
        normalized(str(each.get("name", ""))): each for each in _list(lock.get("package")) if isinstance(each, dict)
    }
    own = [name for name, each in packages.items() if _locked(each).kind == "own"]
    found: set[str] = set()
    waiting = own
    while waiting:
        name = waiting.pop()
        if name in found or name not in packages:
            continue
        found.add(name)
        optional = packages[name].get("optional-dependencies")
        groups = [packages[name].get("dependencies"), *(optional.values() if isinstance(optional, dict) else ())]
        waiting = [
            *waiting,
            *(
                normalized(str(each.get("name", "")))
                for group in groups
                for each in _list(group)
                if isinstance(each, dict)
            ),
        ]
    return found


def _of_source(each: Locked, subject: Subject, place: str) -> Iterator[Finding]:
    named = f"{each.name} {each.version}".strip()
    allowed = subject.allowed.indexes
    what = f"{named} comes from {each.source[:200]!r}"
    if each.kind in ("git", "url"):
        yield RULES["PB407"].at(place, what)
    elif each.kind == "path" and each.source.startswith(("..", "/", "~")):
        fix = "What is submitted is the project's folder alone: use a package index, or copy it into the project."
        yield RULES["PB407"].at(place, what, fix, Severity.WARNING)
    elif each.kind == "registry" and allowed is not None and each.source.rstrip("/") not in _without_slash(allowed):
        told = f"{named} comes from the index {each.source[:200]!r}"
        # Wherever a lock file has the kit from: a release is made with the instance's own.
        yield RULES["PB407"].at(place, told, *((_KITS_INDEX, Severity.NOTE) if _is_kit(each, place) else ()))
    if each.strange and not _is_kit(each, place):
        told = f"{named} has a file of another package or version: {each.strange[0][:100]!a}"
        yield RULES["PB407"].at(place, told, "Run `uv lock`, and leave the file as it comes.")
    if each.unhashed and each.kind != "path" and not _is_kit(each, place):
        yield RULES["PB403"].at(place, f"{named}: no hash for {each.unhashed[0][:100]}")


_KITS_INDEX: Final = (
    "The release has this instance's own. Lock it from here, too, to work on the project with the same."
)


def _without_slash(indexes: tuple[str, ...]) -> set[str]:
    return {each.rstrip("/") for each in indexes}


def _of_facts(each: Locked, subject: Subject, place: str) -> Iterator[Finding]:
    facts = (subject.packages or {}).get((each.name, each.version))
    named = f"{each.name} {each.version}"
    if facts is None:
        return
    if facts.yanked is not None:
        fix = f"Run `uv lock --upgrade-package {each.name}`, where it is locked."
        yield RULES["PB404"].at(place, f"{named} was yanked: {facts.yanked[:200] or 'no reason given'}", fix)
    for advisory in facts.advisories:
        about = f": {advisory.summary[:160]}" if advisory.summary else ""
        if advisory.malicious:
            yield RULES["PB405"].at(place, f"{named} is malicious ({advisory.id}){about}")
        else:
            mend = f"Version {advisory.fixed} is without it." if advisory.fixed else None
            yield RULES["PB406"].at(place, f"{named}: {advisory.id}{about}", mend)
    licences = set(re.findall(r"[A-Za-z0-9.+-]+", facts.licence))
    if refused := licences & set(subject.allowed.licences_refused):
        yield RULES["PB409"].at(place, f"{named}: {', '.join(sorted(refused))}")


def _differences(project: Mapping[str, Any], lock: Mapping[str, Any]) -> Iterator[str]:
    """Where a lock file says something else than pyproject.toml: as `uv lock --check` would, without resolving."""
    said = _table(project, "project")
    name = normalized(str(said.get("name", "")))
    mine = [each for each in _list(lock.get("package")) if isinstance(each, dict) and _locked(each).kind == "own"]
    if [normalized(str(each.get("name", ""))) for each in mine] != [name]:
        yield f"it is of another project than {name[:64]!r}"
        return
    if str(lock.get("requires-python", "")).replace(" ", "") != str(said.get("requires-python", "")).replace(" ", ""):
        yield f"it is for Python {lock.get('requires-python')}, and pyproject.toml says {said.get('requires-python')}"
    metadata = _table(mine[0], "metadata")
    optional = _table(said, "optional-dependencies")
    wanted = {
        *_requirements(said.get("dependencies")),
        *(each for group in optional.values() for each in _requirements(group)),
    }
    yield from _between(wanted, _locked_requirements(metadata.get("requires-dist")), "")
    groups = _table(project, "dependency-groups")
    locked_groups = _table(metadata, "requires-dev")
    for group in sorted({*groups, *locked_groups}):
        yield from _between(
            set(_requirements(groups.get(group))), _locked_requirements(locked_groups.get(group)), f"{group}: "
        )
    settings = _table(_table(project, "tool"), "uv")
    manifest = _table(lock, "manifest")
    for key, there in (("override-dependencies", "overrides"), ("constraint-dependencies", "constraints")):
        known = _locked_requirements(manifest.get(there))
        yield from _between(set(_requirements(settings.get(key))), known, f"{key}: ")


class Requirement(NamedTuple):
    """A requirement, as far as a lock file and pyproject.toml write it alike. Markers are written anew by uv."""

    name: str
    extras: frozenset[str] = frozenset()
    specifiers: frozenset[str] = frozenset()

    def __str__(self) -> str:
        extras = f"[{','.join(sorted(self.extras))}]" if self.extras else ""
        return f"{self.name}{extras}{','.join(sorted(self.specifiers))}"


def _between(wanted: set[Requirement], locked: set[Requirement], where: str) -> Iterator[str]:
    for each in sorted(wanted - locked, key=str):
        yield f"{where}it does not have {str(each)[:100]}"
    for each in sorted(locked - wanted, key=str):
        yield f"{where}it has {str(each)[:100]}, and pyproject.toml does not"


def _requirements(listed: Any) -> list[Requirement]:
    found = []
    for text in _list(listed):
        matched = _REQUIREMENT.fullmatch(text) if isinstance(text, str) and len(text) < 2000 else None
        if matched:
            rest = "" if "@" in matched["rest"] else matched["rest"]
            found.append(_requirement(matched["name"], (matched["extras"] or "").split(","), rest))
    return found


def _locked_requirements(listed: Any) -> set[Requirement]:
    return {
        _requirement(str(each.get("name", "")), _list(each.get("extras")), str(each.get("specifier", "")))
        for each in _list(listed)
        if isinstance(each, dict)
    }


def _requirement(name: str, extras: list[Any], specifier: str) -> Requirement:
    parts = specifier.replace(" ", "").strip("()").split(",")
    named = frozenset(normalized(str(each).strip()) for each in extras if str(each).strip())
    return Requirement(normalized(name), named, frozenset(part for part in parts if part and part != "*"))


def normalized(name: str) -> str:
    """A distribution's name in its one form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@lru_cache(maxsize=16)
def _toml(content: bytes | None) -> dict[str, Any] | None:
    if content is None or len(content) > LARGEST_TOML:
        return None
    try:
        return parse_toml(content.decode())
    except ValueError:
        return None


def _table(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
