"""What was built, held against what was submitted, and checked: pure, and of nothing but strangers' text.

A builder is believed in nothing that the hub can see for itself: manifest and policies are read from the source, and
what it says of tools is compared with the rules for declarations. What only the builder can know (what the code
declares) is what the kit holds the process to at every start. It runs apart from the hub (`reading.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from pegboard.core.archive import ArchiveRefused, unpack
from pegboard.core.check import Allowed, OtherServer, Subject, check
from pegboard.core.check.facts import Known, from_json
from pegboard.core.declared import declaration_problems
from pegboard.core.errors import ConfigurationError
from pegboard.core.names import ServerName
from pegboard.core.policy import Policy
from pegboard.core.publishing import Artifact, Digest, Finding, Severity, Trouble
from pegboard.core.release import Declaration
from pegboard_hub.publishing.source import Project

BACKEND: Final = "backend/"
"""Folder of what stands behind a proxy: what is built of it is in its process's folder, too."""

STEP: Final = "check"

MOST_POLICIES_S: Final = 1.0
"""Seconds of a processor that reading all policies of a release may take: the hub reads them again whenever it
decides with them. A policy as people write them takes a millisecond, one that is made to be slow 300."""

_LIE = "Tell the platform team the submission's id: its builder is not to be trusted, or broken."


class Case(BaseModel):
    """All that a check needs beside the bytes.

    Attributes:
        release: digest that the submission has.
        packages: what its builder told of packages.
        others: the servers there are: name, tools, and whether the author may know of it.
        egress: what it may ask for; None: the reviews decide.
        indexes: package indexes that its lock file may name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: str
    source: Digest
    release: str
    artifact: Artifact
    declaration: Declaration
    packages: dict[str, Any] | None = None
    others: tuple[tuple[str, tuple[str, ...], bool], ...] = ()
    egress: tuple[str, ...] | None = None
    indexes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check.

    Attributes:
        findings: errors first.
        trouble: why the release is not taken; None where it is.
    """

    findings: tuple[Finding, ...] = ()
    trouble: Trouble | None = None


def examine(case: Case, project: Project, told: bytes) -> Checked:
    """Check what was built of a submission. It takes up to seconds.

    Args:
        case: what is known of it.
        project: its source.
        told: the archive that its processes are given.
    """
    if lie := (_artifact_lie(case, project) or _project_lie(project, told)):
        what = f"What was built is not what was submitted: {lie}."
        return Checked((), Trouble(step=STEP, what=what, mend=_LIE))
    if problems := list(_problems(case.declaration)):
        what = f"What its code declares cannot be: {'; '.join(problems[:5])}."
        return Checked((), Trouble(step=STEP, what=what, mend="Mend what is named, and submit it again."))
    if case.egress is not None and (beyond := _beyond(case.declaration.manifest.egress, case.egress)):
        what = f"It asks to reach {', '.join(beyond[:5])}, which the operator allows to nothing that nobody reviews."
        mend = "Ask the operator for [publishing] egress in the grants file, or submit it where servers are reviewed."
        return Checked((), Trouble(step=STEP, what=what, mend=mend))
    findings = check(_subject(case, project)).findings
    return Checked(findings, trouble_of(findings))


def trouble_of(findings: Iterable[Finding]) -> Trouble | None:
    """Why findings keep a release from being taken; None where they do not."""
    errors = [each for each in findings if each.severity is Severity.ERROR]
    if not errors:
        return None
    first = errors[0]
    more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    what = f"{first.place}: {first.what.rstrip('.')} ({first.code}){more}."
    return Trouble(step=STEP, what=what, mend=first.fix or "Mend what is named; pegboard check says the same.")


def _artifact_lie(case: Case, project: Project) -> str:
    """What of an artifact and its declaration is seen to be otherwise; empty where nothing is."""
    name, artifact, declaration = ServerName.parse(case.server).name, case.artifact, case.declaration
    seen: tuple[tuple[bool, str], ...] = (
        (artifact.server == case.server, f"the artifact is of {artifact.server}"),
        (artifact.source == case.source, "the artifact is of another source"),
        (artifact.lock == project.lock, "it was built from another lock file"),
        (declaration.artifact == artifact.digest, "the declaration is of another artifact"),
        (declaration.digest == case.release, "the release is of another declaration"),
        (declaration.manifest.name == name, f"the declaration is of {declaration.manifest.name}"),
        (declaration.manifest == project.manifest, "the declaration has another manifest"),
        (dict(declaration.policies) == project.policies, "the declaration has other policies"),
    )
    return next((what for holds, what in seen if not holds), "")


def _project_lie(project: Project, told: bytes) -> str:
    """What of the folder that processes are given is not the author's; empty where all of it is."""
    try:
        files = unpack(told)
    except ArchiveRefused as error:
        return f"the folder for its processes cannot be read: {error}"
    wanted = project.told
    for path, found in files.items():
        own = project.files.get(path)
        if own is None and not path.startswith(BACKEND):
            return f"{path} for its processes is in no source"
        if own is not None and own.content != found.content:
            return f"{path} for its processes is another than the author's"
    missing = sorted(wanted.keys() - files.keys())
    return f"{missing[0]} is missing for its processes" if missing else ""


def _problems(declaration: Declaration) -> Iterable[str]:
    yield from declaration_problems(declaration)
    missing = sorted({tool.policy for tool in declaration.tools} - declaration.policies.keys())
    if missing:
        yield f"tools name policies that are not there: {', '.join(missing)}"
        return
    began = time.process_time()
    for name, text in declaration.policies.items():
        try:
            Policy(name, text)
        except ConfigurationError as error:
            yield f"a policy cannot be read: {str(error)[:300]}"
        if time.process_time() - began > MOST_POLICIES_S:
            limit = f"{MOST_POLICIES_S:g} s of a processor"
            yield f"reading its policies takes longer than {limit}, the last was {name!r}: write less of them"
            return


def _beyond(asked: Iterable[str], allowed: Iterable[str]) -> list[str]:
    known = frozenset(allowed)
    return [each for each in asked if each not in known]


def _subject(case: Case, project: Project) -> Subject:
    return Subject(
        case.declaration,
        namespace=ServerName.parse(case.server).namespace,
        files={path: file.content for path, file in project.files.items()},
        packages=packages_of(case.packages),
        others=tuple(OtherServer(*each) for each in case.others),
        allowed=Allowed(egress=case.egress, indexes=case.indexes),
    )


def packages_of(told: Mapping[str, Any] | None) -> Known | None:
    """What a builder told of packages, by name and version; None where nothing of it can be read."""
    try:
        return from_json((told or {}).get("advisories") or {}) or None
    except ValueError:
        return None
