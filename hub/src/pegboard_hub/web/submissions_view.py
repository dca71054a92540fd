"""What is told of a submission, for the API and for the operator at the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pegboard.core.differences import differences
from pegboard.core.publishing import State
from pegboard.core.text import sentence
from pegboard_hub.common.requests import refuse
from pegboard_hub.publishing.errors import STATUSES, PublishingRefused
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.registry import store
from pegboard_hub.registry.errors import ChangeRefused, NameTaken, TooManyDrafts, UnknownServer
from pegboard_hub.web.knowing import no_server
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.submission_shapes import (
    FindingBody,
    SubmissionChange,
    SubmissionDetail,
    SubmissionReview,
    SubmissionSummary,
    TroubleBody,
)

MOST_CHANGES = 500
"""Differences that are told of one submission."""

SERVED = (State.LIVE, State.SUPERSEDED, State.ROLLED_BACK)
MOST_LOOKED_AT = 10
"""Earlier submissions among which the one that served before is looked for."""


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
        **found.provenance.model_dump(include={"kind", "repository", "commit", "dirty", "job"}),
        sbom=found.sbom,
        artifact=artifact.digest if artifact else None,
        sandboxed=found.sandboxed,
        attempt=found.attempt,
    )


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
        "page": f"{parts.public_url}/servers/{found.server}/submissions/{found.id}",
    }


async def _changes(parts: Parts, found: Submission) -> list[SubmissionChange]:
    """What a release says otherwise than the one that served before it; all of it where none did."""
    if found.declaration is None:
        return []
    place = (found.created_at_ms, found.id)
    earlier = await parts.publishing.listed(found.server, SERVED, before=place, limit=MOST_LOOKED_AT)
    # A superseded one may never have been built.
    before = next((each.declaration for each in earlier if each.declaration is not None), None)
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
