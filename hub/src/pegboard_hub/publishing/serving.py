"""A release begins to be what is called: what is open then, and what it may reach.

What reviews approved *with* a release holds from its switch on, and not before: the release that serves until then
was never looked at for those who come with the next. Going back is the same the other way round: who came with the
newer release does not stay for the older one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import reduce

from pegboard.core.grants import GrantsFile
from pegboard.core.names import ServerName
from pegboard.core.release import Declaration
from pegboard_hub.publishing import submissions
from pegboard_hub.publishing.deployment_store import Deployable
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.registry import store
from pegboard_hub.registry.changes import Change, Changing
from pegboard_hub.registry.following import reviewed
from pegboard_hub.registry.history import PEGBOARD, Actor, granted_with
from pegboard_hub.registry.model import Access, RegisteredServer
from pegboard_hub.registry.reviews.rules import common, together
from pegboard_hub.registry.reviews.store import asked_still, open_reviews


async def serve(
    changing: Changing, file: GrantsFile, submission: Submission, actor: Actor, action: str, why: str
) -> RegisteredServer:
    """Make a submission's release the one that is called.

    Args:
        changing: the transaction, in which its state and its deployment change too.
        file: the grants file in force.
        submission: approved, at some time.
        actor: who has it deployed.
        action: for the history, for example `deploy` or `roll back`.
        why: for the history.

    Raises:
        ValueError: its release was never approved.
        UnknownServer: there is no such server.
    """
    name, connection = submission.server, changing.connection
    if submission.release is None or not await store.is_approved(connection, name, submission.release):
        raise ValueError(f"{submission.id} is not approved")
    server = changing.server(name)
    release = await store.load_release(connection, name, submission.release)
    granted = await _granted(changing, file, submission, server)
    # What somebody asked for on a page meanwhile is looked at with the release that serves.
    pending = {} if server.waiting else await asked_still(connection, server, server.requested)
    after = await changing.apply(Change(name, actor, action, why, granted=granted, release=release))
    if pending and server.release is not release:
        told = f"release {release.digest[:12]} came while access was asked for"
        await open_reviews(
            connection, name, pending, release.digest, after.requested, PEGBOARD.sub, told, changing.now_ms
        )
    return after


async def _granted(changing: Changing, file: GrantsFile, submission: Submission, server: RegisteredServer) -> Access:
    """What is granted once the release serves.

    To what holds comes what was approved with it, as far as it is still asked for. Nobody stays for whom it was never
    looked at: who got in since with another release, or with a newer one that it takes the place of again. What the
    operator's file grants is the operator's own word, for every release.
    """
    approval = submission.access
    adds = common(approval.adds, server.requested) if approval else Access()
    granted = together(server.granted, adds)
    if not reviewed(file, server) or server.takes_any or server.release is None:
        return granted
    if submission.release == server.release.digest:
        return granted
    served = (await granted_with(changing.connection, server)).get(str(submission.release))
    looked_at = [each for each in (served, approval.covers if approval else None) if each is not None]
    if not looked_at:
        return granted
    said = (await store.imported(changing.connection)).get(submission.server, {})
    operators = Access(*(tuple(said.get(field, ())) for field in Access._fields))
    return common(granted, reduce(together, looked_at, together(adds, operators)))


def egress_of(file: GrantsFile, server: str, declaration: Declaration) -> tuple[str, ...]:
    """What a release may reach: what it declares, as far as it is granted.

    Where servers are reviewed, what is approved is what its manifest says: a change of it is reviewed. Elsewhere the
    operator's file says what may be reached, for all of them or for this one.
    """
    asked, name = declaration.manifest.egress, ServerName.parse(server)
    if name.namespace not in file.reviews.unreviewed:
        return tuple(asked)
    allowed = allowed_egress(file, server)
    return tuple(each for each in asked if each in allowed)


def serving_by(
    file: Callable[[], GrantsFile | None],
) -> Callable[[Changing, Deployable, Actor, str, str], Awaitable[RegisteredServer]]:
    """`serve`, as those who drive deployments call it."""

    async def begin(changing: Changing, release: Deployable, actor: Actor, action: str, why: str) -> RegisteredServer:
        found = await submissions.find(changing.connection, release.id)
        if found is None:
            raise ValueError(f"there is no submission {release.id}")
        return await serve(changing, file() or GrantsFile(), found, actor, action, why)

    return begin


def reaching_by(file: Callable[[], GrantsFile | None]) -> Callable[[Deployable], tuple[str, ...]]:
    """`egress_of`, as those who drive deployments call it; without a grants file nothing is reached."""

    def reach(release: Deployable) -> tuple[str, ...]:
        known = file()
        return egress_of(known, release.server, release.declaration) if known is not None else ()

    return reach


def allowed_egress(file: GrantsFile, server: str) -> tuple[str, ...]:
    """What the operator's file lets a server reach that nobody reviews."""
    own = file.servers[server].egress if server in file.servers else ()
    return tuple(dict.fromkeys((*file.publishing.egress, *own)))
