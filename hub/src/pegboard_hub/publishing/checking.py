"""What was built, held against what was submitted, and checked: what the hub does before it signs.

A builder is believed in nothing that the hub can see for itself: manifest and policies are read from the source, and
what it says of tools is compared with the rules for declarations. What only the builder can know (what the code
declares) is what the kit holds the process to at every start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pegboard.core.archive import ArchiveRefused, File, unpack
from pegboard.core.check import Allowed, OtherServer, PackageFacts, Subject, check
from pegboard.core.declared import declaration_problems
from pegboard.core.grants import GrantsFile
from pegboard.core.names import ServerName
from pegboard.core.publishing import Artifact, Finding, Severity, Trouble
from pegboard.core.release import Declaration
from pegboard_hub.publishing.serving import allowed_egress
from pegboard_hub.publishing.source import Project
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.registry.model import RegisteredServer, Release

BACKEND = "backend/"
"""Folder of what stands behind a proxy: what is built of it is in its process's folder, too."""

STEP = "check"
_LIE = "Tell the platform team the submission's id: its builder is not to be trusted, or broken."


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check.

    Attributes:
        findings: errors first.
        trouble: why the release is not taken; None where it is.
    """

    findings: tuple[Finding, ...] = ()
    trouble: Trouble | None = None


def examine(
    submission: Submission,
    project: Project,
    told: bytes,
    file: GrantsFile,
    servers: Iterable[RegisteredServer],
    index: str,
) -> Checked:
    """Check what was built of a submission. It takes up to seconds: call it in a thread.

    Args:
        submission: that is built.
        project: its source.
        told: the archive that its processes are given.
        file: the grants file in force.
        servers: those that there are.
        index: address of the hub's own package index.
    """
    artifact, declaration = submission.artifact, submission.declaration
    assert artifact is not None  # noqa: S101 - it is built
    assert declaration is not None  # noqa: S101
    if lie := (_artifact_lie(submission, project, artifact, declaration) or _project_lie(project, told)):
        what = f"What was built is not what was submitted: {lie}."
        return Checked((), Trouble(step=STEP, what=what, mend=_LIE))
    if problems := list(_problems(declaration)):
        what = f"What its code declares cannot be: {'; '.join(problems[:5])}."
        return Checked((), Trouble(step=STEP, what=what, mend="Mend what is named, and submit it again."))
    if beyond := _beyond(submission, declaration, file):
        what = f"It asks to reach {', '.join(beyond[:5])}, which the operator allows to nothing that nobody reviews."
        mend = "Ask the operator for [publishing] egress in the grants file, or submit it where servers are reviewed."
        return Checked((), Trouble(step=STEP, what=what, mend=mend))
    findings = check(_subject(submission, project, declaration, file, servers, index)).findings
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


def _artifact_lie(submission: Submission, project: Project, artifact: Artifact, declaration: Declaration) -> str:
    """What of an artifact and its declaration the hub sees to be otherwise; empty where it sees nothing."""
    name = ServerName.parse(submission.server).name
    seen: tuple[tuple[bool, str], ...] = (
        (artifact.server == submission.server, f"the artifact is of {artifact.server}"),
        (artifact.source == submission.source, "the artifact is of another source"),
        (artifact.lock == project.lock, "it was built from another lock file"),
        (declaration.artifact == artifact.digest, "the declaration is of another artifact"),
        (declaration.digest == submission.release, "the release is of another declaration"),
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
    release = Release.of(declaration)
    missing = sorted({tool.policy for tool in release.tools} - release.policies.keys())
    if missing:
        yield f"tools name policies that are not there: {', '.join(missing)}"
        return
    try:
        _ = release.governed
    except Exception as error:
        yield f"a policy cannot be read: {str(error)[:300]}"


def _beyond(submission: Submission, declaration: Declaration, file: GrantsFile) -> list[str]:
    """What a server that nobody reviews asks to reach, and may not."""
    if ServerName.parse(submission.server).namespace not in file.reviews.unreviewed:
        return []
    allowed = allowed_egress(file, submission.server)
    return [each for each in declaration.manifest.egress if each not in allowed]


def _subject(
    submission: Submission,
    project: Project,
    declaration: Declaration,
    file: GrantsFile,
    servers: Iterable[RegisteredServer],
    index: str,
) -> Subject:
    name = ServerName.parse(submission.server)
    unreviewed = name.namespace in file.reviews.unreviewed
    egress = allowed_egress(file, submission.server) if unreviewed else None
    return Subject(
        declaration,
        namespace=name.namespace,
        files=contents(project.files),
        packages=packages_of(submission.packages),
        others=tuple(_other(each, declaration.manifest.owner) for each in servers if each.name != name),
        allowed=Allowed(egress=egress, indexes=(*file.publishing.indexes, index)),
    )


def contents(files: Mapping[str, File]) -> dict[str, bytes]:
    """The bytes of each file."""
    return {path: file.content for path, file in files.items()}


def packages_of(told: Mapping[str, Any] | None) -> dict[tuple[str, str], PackageFacts] | None:
    """What a builder told of packages, by name and version; None where nothing of it can be read."""
    advisories = (told or {}).get("advisories") or {}
    try:
        known = _FACTS.validate_python(advisories)
    except ValidationError:
        return None
    found = {(name, version): facts for name, versions in known.items() for version, facts in versions.items()}
    return found or None


_FACTS = TypeAdapter(dict[str, dict[str, PackageFacts]])


def _other(server: RegisteredServer, owner: str) -> OtherServer:
    """A server as findings may speak of it: of another team's an author learns neither tools nor drafts."""
    release = server.release or server.waiting
    return OtherServer(
        str(server.name), tuple(tool.name for tool in release.tools) if release else (), server.owner == owner
    )
