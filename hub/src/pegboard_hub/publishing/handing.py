"""Handing a checked release to the registry and its reviews, and following what they make of it.

A submission that is checked is taken over as releases are: what differs in what a review looks at waits for people,
and all else is approved. From then on it is the registry's state that says where the submission is: whatever changes
there moves it in the same transaction (`settle`), so that nothing is decided without being told.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from sqlalchemy.exc import DBAPIError

from pegboard.core.grants import Grant, GrantsFile
from pegboard.core.publishing import State, Trouble
from pegboard_hub.publishing import submissions
from pegboard_hub.publishing.leaving import leave
from pegboard_hub.publishing.submissions import Approval, Submission
from pegboard_hub.publishing.transitions import move
from pegboard_hub.registry import store
from pegboard_hub.registry.changes import Change, Changing
from pegboard_hub.registry.following import Following, reviewed
from pegboard_hub.registry.history import PEGBOARD, Actor
from pegboard_hub.registry.model import Access, Lifecycle, RegisteredServer, Release
from pegboard_hub.registry.reviews.granting import granted_by
from pegboard_hub.registry.reviews.model import TITLES, Kind, Review
from pegboard_hub.registry.reviews.model import State as ReviewState
from pegboard_hub.registry.reviews.rules import UNREVIEWED_SURFACES, common, left_of, together
from pegboard_hub.registry.reviews.store import round_of, supersede
from pegboard_hub.storage.errors import StorageUnavailable

log = logging.getLogger(__name__)

TELL_US: Final = "Tell the platform team the submission's id; submitting it again begins anew."

REVIEW: Final = "review"
"""The step at which a reviewer's no ends a submission."""

FURTHER: Final = (State.CHECKED, State.IN_REVIEW, State.APPROVED, State.DEPLOYING, State.LIVE)
"""Where a newer submission must have come for an older one to be of no use any more."""

TAKEN_BACK: Final = (State.SUBMITTED, State.BUILT, State.CHECKED, State.IN_REVIEW, State.APPROVED)
"""States in which a submission can be taken back: nothing of it runs yet."""

_WAITS: Final = (State.CHECKED, State.IN_REVIEW)


async def hand_over(changing: Changing, file: GrantsFile, submission: Submission) -> list[str]:
    """Take a checked release over into the registry; gives the submissions that moved, itself before all others."""
    if await submissions.newer(changing.connection, submission, FURTHER):
        moved = await _supersede(changing, submission, "a newer one was submitted and checked meanwhile")
        return [submission.id] if moved else []
    server = changing.server(submission.server)
    if why := _closed(server):
        moved = await _fail_closed(changing, submission, why)
        return [submission.id] if moved else []
    assert submission.declaration is not None  # noqa: S101 - it is checked
    declared = Release.of(submission.declaration)
    following = Following(changing, file, await store.imported(changing.connection))
    waits = await following.take_submitted(
        submission.server, declared, submission.actor, submission.provenance.message
    )
    older = await _take_place(changing, submission, declared)
    moved = await (_waits(changing, submission) if waits else _approve(changing, file, submission))
    return [*([submission.id] if moved else []), *older]


async def _fail_closed(changing: Changing, submission: Submission, why: str) -> bool:
    trouble = Trouble(step=REVIEW, what=why, mend="Bring the server back, and submit the release again.")
    return await move(
        changing.connection,
        submission.id,
        State.CHECKED,
        State.FAILED,
        trouble.step,
        changing.now_ms,
        what=trouble.what,
        trouble=trouble.model_dump(mode="json"),
    )


async def _take_place(changing: Changing, submission: Submission, declared: Release) -> list[str]:
    """End the older ones that wait; gives them."""
    found = await submissions.listed(changing.connection, submission.server, _WAITS)
    return [
        older.id
        for older in found
        if older.created_at_ms < submission.created_at_ms
        and await _supersede(changing, older, f"release {declared.digest[:12]} takes its place")
    ]


async def _approve(changing: Changing, file: GrantsFile, submission: Submission) -> bool:
    """Approve what no review is concerned by."""
    server = changing.server(submission.server)
    approval = await _covered(changing, file, submission.server)
    return await move(
        changing.connection,
        submission.id,
        State.CHECKED,
        State.APPROVED,
        "waiting for its turn to be deployed",
        changing.now_ms,
        what="nothing that a review looks at differs" if reviewed(file, server) else "nobody reviews its namespace",
        access=submissions.told(approval),
    )


async def _covered(changing: Changing, file: GrantsFile, name: str) -> Approval | None:
    """What a release is approved for that nobody need look at: who may call now, or where nobody reviews, will."""
    server = changing.server(name)
    if reviewed(file, server):
        return Approval(Access(), server.granted)
    adds = await _open(changing, file, name)
    return None if adds is None else Approval(adds, together(server.granted, adds))


async def _waits(changing: Changing, submission: Submission) -> bool:
    server = changing.server(submission.server)
    found = await round_of(changing.connection, server)
    kinds = ", ".join(TITLES[kind] for kind in found)
    moved = await move(
        changing.connection,
        submission.id,
        State.CHECKED,
        State.IN_REVIEW,
        "waiting for reviewers",
        changing.now_ms,
        what=f"reviews: {kinds}",
    )
    if moved:
        # The same release again, to which somebody said no: nothing is asked anew.
        await _rejected(changing, server, replace(submission, state=State.IN_REVIEW))
    return moved


async def take_back(changing: Changing, submission: Submission, actor: Actor, why: str) -> bool:
    """End a submission before anything of it runs; what serves goes on. False where it is too late for that."""
    if submission.state not in TAKEN_BACK:
        return False
    connection, name = changing.connection, submission.server
    what = f"taken back: {why}"
    moved = await move(
        connection,
        submission.id,
        submission.state,
        State.SUPERSEDED,
        "taken back",
        changing.now_ms,
        what=what,
        who=actor.sub,
    )
    server = changing.find(name)
    if not moved or server is None:
        return moved
    if server.waiting is not None and server.waiting.digest == submission.release:
        await supersede(connection, name, tuple(Kind), submission.release)
        bare = server.release is None and server.lifecycle is Lifecycle.IN_REVIEW
        back = {"lifecycle": Lifecycle.APPROVED if any(server.granted) else Lifecycle.DRAFT} if bare else {}
        await changing.apply(Change(name, actor, "take back release", why, values=back, waits_no_more=True))
    else:
        await changing.note(name, actor, "take back release", why, {"submission": (submission.id, None)})
    return True


async def settle(changing: Changing) -> list[str]:
    """Move what waits for people to where the registry now is with it; gives the submissions that moved.

    It looks at every server that this transaction changed, and asks what is, not what was done: so it does not matter
    who changed it, and it may be called again. One that cannot be moved fails, and says so: it keeps nobody else's
    change from being made.

    Raises:
        StorageUnavailable: the database takes no writes.
    """
    moved: list[str] = []
    for server in list(changing.changed.values()):
        if not server.submitted:
            moved += await leave(changing, server)
            continue
        for each in await _following(changing, server):
            if await _settle_alone(changing, server, each):
                moved.append(each.id)
    return moved


async def _following(changing: Changing, server: RegisteredServer) -> list[Submission]:
    """What waits for people, and what they said no to where it is the last of the release that still waits.

    Of all others that failed, however many there are, nobody opens a review again.
    """
    connection, name = changing.connection, str(server.name)
    found = await submissions.listed(connection, name, (State.IN_REVIEW,))
    if server.waiting is None:
        return found
    newest = await submissions.listed(connection, name, release=server.waiting.digest, limit=1)
    return found + [each for each in newest if each.state is State.FAILED]


async def _settle_alone(changing: Changing, server: RegisteredServer, submission: Submission) -> bool:
    """`_settle`, undone where it fails: what people decided is kept all the same, and the author is told."""
    try:
        async with changing.connection.begin_nested():
            return await _settle(changing, server, submission)
    except (StorageUnavailable, DBAPIError):
        raise
    except Exception:
        facts = {"server": str(server.name), "submission": submission.id}
        log.exception("a submission could not follow the registry", extra=facts)
    if submission.state is State.FAILED:
        return False
    what = "It could not go on with what was decided of it."
    trouble = Trouble(step="following the registry", what=what, mend=TELL_US)
    return await move(
        changing.connection,
        submission.id,
        submission.state,
        State.FAILED,
        trouble.step,
        changing.now_ms,
        what=what,
        trouble=trouble.model_dump(mode="json"),
    )


async def _settle(changing: Changing, server: RegisteredServer, submission: Submission) -> bool:
    if submission.release is None:
        return False
    if submission.state is State.FAILED:
        return await _reopened(changing, server, submission)
    if server.waiting is not None and server.waiting.digest == submission.release:
        return await _rejected(changing, server, submission)
    if await store.is_approved(changing.connection, submission.server, submission.release):
        return await _approved(changing, server, submission)
    return await _supersede(changing, submission, "it waits no more")


async def _approved(changing: Changing, server: RegisteredServer, submission: Submission) -> bool:
    connection = changing.connection
    assert submission.release is not None  # noqa: S101 - `_settle` saw to it
    release = await store.load_release(connection, submission.server, submission.release)
    waiting = replace(server, waiting=release)
    found = await round_of(connection, waiting)
    granted = granted_by(found, waiting)
    approval = None
    if granted is not None:
        approval = Approval(left_of(granted, server.granted), together(granted, server.granted))
    by = ", ".join(dict.fromkeys(review.decided_by or "" for review in found.values()))
    return await move(
        connection,
        submission.id,
        State.IN_REVIEW,
        State.APPROVED,
        "waiting for its turn to be deployed",
        changing.now_ms,
        what="; ".join(filter(None, (review.conditions for review in found.values()))),
        who=by,
        access=submissions.told(approval),
        trouble=None,
    )


async def _rejected(changing: Changing, server: RegisteredServer, submission: Submission) -> bool:
    no = _no(await _round(changing, server))
    if no is None:
        return False
    mend = "Mend what the reviewer named and submit it again, or have the review opened again and say why."
    what = f"{TITLES[no.kind]} said no: {no.outcome_why}"
    return await move(
        changing.connection,
        submission.id,
        State.IN_REVIEW,
        State.FAILED,
        REVIEW,
        changing.now_ms,
        what=what,
        who=no.decided_by or "",
        trouble=Trouble(step=REVIEW, what=what, mend=mend).model_dump(mode="json"),
    )


async def _reopened(changing: Changing, server: RegisteredServer, submission: Submission) -> bool:
    if submission.trouble is None or submission.trouble.step != REVIEW or _no(await _round(changing, server)):
        return False
    return await move(
        changing.connection,
        submission.id,
        State.FAILED,
        State.IN_REVIEW,
        "waiting for reviewers",
        changing.now_ms,
        what="its review was opened again",
        trouble=None,
    )


async def _round(changing: Changing, server: RegisteredServer) -> Iterable[Review]:
    return (await round_of(changing.connection, server)).values()


def _no(found: Iterable[Review]) -> Review | None:
    return next((review for review in found if review.state is ReviewState.REJECTED), None)


async def _supersede(changing: Changing, submission: Submission, what: str) -> bool:
    return await move(
        changing.connection,
        submission.id,
        submission.state,
        State.SUPERSEDED,
        "superseded",
        changing.now_ms,
        what=what,
    )


async def _open(changing: Changing, file: GrantsFile, name: str) -> Access | None:
    """What a release that nobody reviews asks for and gets, from its switch on.

    It is what its owners could open on the server's page. What the operator's file says of the server's access is the
    operator's: nothing is added to it.
    """
    server = changing.server(name)
    if name in file.servers and not _ACCESS.isdisjoint(file.servers[name].model_fields_set):
        return None
    wanted = unreviewed_access(server)
    kept = common(server.granted, wanted) if server.release is not None else wanted
    why = "what nobody reviews gets what its manifest asks for, on surfaces that production does not use"
    await changing.apply(Change(name, PEGBOARD, "grant", why, values={"reason": why}, granted=kept))
    return left_of(wanted, kept)


def unreviewed_access(server: RegisteredServer) -> Access:
    """What a server that nobody reviews gets of what it asks for.

    Production's surfaces are the operator's to open. Where one is open already, nobody else gets in by it.
    """
    asked, granted = server.requested, server.granted
    kept = {surface for surface in granted.surfaces if surface not in UNREVIEWED_SURFACES}
    if kept:
        return granted
    surfaces = tuple(surface for surface in asked.surfaces if surface in UNREVIEWED_SURFACES)
    return Access(groups=asked.groups, surfaces=surfaces, channels=(), services=granted.services)


def _closed(server: RegisteredServer) -> str:
    """Why a server takes no release; empty where it takes one."""
    if server.lifecycle is Lifecycle.RETIRED:
        return f"{server.name} was retired meanwhile."
    if not server.submitted:
        return f"{server.name} is followed from a folder that the grants file names."
    return ""


_ACCESS = frozenset(Access._fields) & frozenset(Grant.model_fields)
