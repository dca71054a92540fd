"""What is told of a submission, for the API and for the operator at the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pegboard.core.differences import differences
from pegboard.core.text import sentence
from pegboard_hub.common.requests import refuse
from pegboard_hub.publishing.deployment_store import live_before
from pegboard_hub.publishing.errors import STATUSES, PublishingRefused
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.registry import store
from pegboard_hub.registry.errors import ChangeRefused, NameTaken, TooManyDrafts, UnknownServer
from pegboard_hub.web.knowing import no_server
from pegboard_hub.web.origins import Origin
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.submission_shapes import (
    ChangedPackage,
    FindingBody,
    ReleaseOrigin,
    SubmissionChange,
    SubmissionDetail,
    SubmissionReview,
    SubmissionSummary,
    TroubleBody,
)

CAME_FROM = {"kind", "repository", "commit", "dirty", "job"}
"""What is told of where a project came from, beside its message, which has a place of its own."""

MOST_CHANGES = 500
"""Differences that are told of one submission."""


@contextmanager
def refusals_told() -> Iterator[None]:
    """What is said of a submission that is not taken, as it is answered over HTTP."""
    try:
        yield
    except PublishingRefused as error:
        code = "not_found" if error.code == "unknown_submission" else error.code
        raise refuse(STATUSES[error.code], code, error.message, error.mend) from error
    except NameTaken as error:
        raise refuse(409, "name_taken", f"{error.field}: {error.fault}.", error.mend) from error
    except TooManyDrafts as error:
        raise refuse(409, "too_many_drafts", f"owner: {error.fault}.", error.mend) from error
    except ChangeRefused as error:
        mend = error.mend or "Mend what is named."
        raise refuse(422, "invalid_request", f"{error.field}: {sentence(error.fault)}", mend) from error
    except UnknownServer as error:
        raise no_server() from error


async def versions(parts: Parts, found: list[Submission]) -> dict[str, str]:
    """The version of each release, by digest, as far as the registry has it."""
    wanted = {(each.server, each.release) for each in found if each.release is not None}
    async with parts.database.read() as connection:
        return {digest: await store.semver(connection, server, digest) for server, digest in wanted}


def summary(parts: Parts, found: Submission, version: str) -> SubmissionSummary:
    """A submission in short."""
    return SubmissionSummary(**_summary(parts, found, version))


async def detail(parts: Parts, found: Submission) -> SubmissionDetail:
    """A submission whole."""
    known = await versions(parts, [found])
    artifact, trouble = found.artifact, found.trouble
    return SubmissionDetail(
        **_summary(parts, found, known.get(found.release or "", "")),
        trouble=TroubleBody(**trouble.model_dump()) if trouble else None,
        findings=[FindingBody(**each.model_dump(mode="json")) for each in found.findings],
        changes=await _changes(parts, found),
        reviews=await _reviews(parts, found),
        **found.provenance.model_dump(include=CAME_FROM),
        sbom=found.sbom,
        artifact=artifact.digest if artifact else None,
        sandboxed=found.sandboxed,
        attempt=found.attempt,
    )


def release_origin(parts: Parts, origin: Origin) -> ReleaseOrigin:
    """Where a release that is reviewed comes from."""
    found = origin.submission
    return ReleaseOrigin(
        submission=found.id,
        page=page_of(parts, found),
        submitted_by=found.actor,
        submitted_by_kind=found.actor_kind,
        submitted_at=found.created_at_ms,
        **found.provenance.model_dump(include={*CAME_FROM, "message"}),
        source=found.source,
        same_code=origin.same_code,
        first=origin.first,
        packages=[ChangedPackage(**each._asdict()) for each in origin.packages],
        more_packages=origin.more,
        warnings=[FindingBody(**each.model_dump(mode="json")) for each in origin.warnings],
    )


def page_of(parts: Parts, found: Submission) -> str:
    """Where people look at a submission."""
    return f"{parts.public_url}/servers/{found.server}/submissions/{found.id}"


def _summary(parts: Parts, found: Submission, version: str) -> dict[str, Any]:
    return {
        "id": found.id,
        "server": found.server,
        "state": found.state,
        "step": found.step,
        "source": found.source,
        "release": found.release,
        "version": version or None,
        "message": found.provenance.message,
        "submitted_by": found.actor,
        "submitted_by_kind": found.actor_kind,
        "at": found.created_at_ms,
        "updated_at": found.updated_at_ms,
        "page": page_of(parts, found),
    }


async def _changes(parts: Parts, found: Submission) -> list[SubmissionChange]:
    """What a release says otherwise than the one that served before it; all of it where none did."""
    if found.declaration is None:
        return []
    async with parts.database.read() as connection:
        last = await live_before(connection, found.server, found.id, found.created_at_ms)
    before = last.declaration if last else None
    return [
        SubmissionChange(what=f"{each.subject} {each.field}".strip(), before=each.before, after=each.after)
        for each in differences(before, found.declaration)[:MOST_CHANGES]
    ]


async def _reviews(parts: Parts, found: Submission) -> list[SubmissionReview]:
    if found.release is None:
        return []
    listed = await parts.reviewing.listed(server=found.server)
    return [
        SubmissionReview(
            id=review.id,
            kind=review.kind.value,
            state=review.state.value,
            page=f"{parts.public_url}/reviews/{review.id}",
        )
        for review in listed
        if review.subject.release == found.release and review.state.value != "superseded"
    ]
