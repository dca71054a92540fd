"""The hub's own check of what was built, before it signs: what is known here goes along, the rest is read apart."""

from __future__ import annotations

from collections.abc import Iterable

from pegboard.core.grants import GrantsFile
from pegboard.core.names import ServerName
from pegboard_hub.publishing.examining import Case
from pegboard_hub.publishing.serving import allowed_egress
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.registry.model import RegisteredServer


def case_of(submission: Submission, file: GrantsFile, servers: Iterable[RegisteredServer], index: str) -> Case:
    """What a check is told beside source and artifact.

    Args:
        submission: that is built.
        file: the grants file in force.
        servers: those that there are.
        index: address of the hub's own package index.
    """
    artifact, declaration = submission.artifact, submission.declaration
    assert artifact is not None  # noqa: S101 - it is built
    assert declaration is not None  # noqa: S101
    name, owner = ServerName.parse(submission.server), declaration.manifest.owner
    unreviewed = name.namespace in file.reviews.unreviewed
    return Case(
        server=submission.server,
        source=submission.source,
        release=submission.release or "",
        artifact=artifact,
        declaration=declaration,
        packages=dict(submission.packages) if submission.packages else None,
        others=tuple(_other(each, owner) for each in servers if each.name != name),
        egress=allowed_egress(file, submission.server) if unreviewed else None,
        indexes=(*file.publishing.indexes, index),
    )


def _other(server: RegisteredServer, owner: str) -> tuple[str, tuple[str, ...], bool]:
    """A server as findings may speak of it: of another team's an author learns neither tools nor drafts."""
    release = server.release or server.waiting
    return str(server.name), tuple(tool.name for tool in release.tools) if release else (), server.owner == owner
