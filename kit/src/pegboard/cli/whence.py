"""Where a release's code comes from, in words: the same of reviews, releases and deployments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

KINDS: Final = {"service": ", a service", "operator": ", at the machine"}
"""What is said of who submitted it, beside their name; of a person nothing."""


def submitter_of(found: Mapping[str, Any]) -> str:
    """Who submitted it. The token said so, and nobody else."""
    kind = KINDS.get(str(found.get("submitted_by_kind", "")), "")
    return f"{found.get('submitted_by', '')}{kind}"


def commit_of(found: Mapping[str, Any]) -> str:
    """Which commit of which repository it is, as its submitter says; empty where they said nothing."""
    if not found.get("commit"):
        return ""
    where = f" of {found['repository']}" if found.get("repository") else ""
    return f"{found['commit']}{where}{', with changes in no commit' if found.get('dirty') else ''}"


def came_from(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Commit and CI job, each with its label, as its submitter says; what they did not say is left out."""
    for label, value in (("commit", commit_of(found)), ("CI job", str(found.get("job") or ""))):
        if value:
            yield label, value
