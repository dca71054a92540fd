"""Releases are signed anew once the keys that signed them are believed no more: those that serve before all others.

Whoever had the old key may have had more. So nothing is signed that is not, to the byte, what was checked: what a
release consists of must still have the digests that the tables and the release itself name. What is not whole is left
as it is, and said: no runtime starts it, and what runs of it ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard_hub.publishing import artifacts, submissions
from pegboard_hub.publishing.model import deployments
from pegboard_hub.publishing.signing import Signing
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.publishing.transitions import tell
from pegboard_hub.storage.database import Database

log = logging.getLogger(__name__)

_SWEPT: Final = "what it consists of is not kept any more"

NOT_SIGNED: Final = "not signed anew"
"""Step of a release that is not what was checked any more."""


async def sign_anew(
    database: Database, signing: Signing, now_ms: Callable[[], int], told: Callable[[], None] = lambda: None
) -> int:
    """Sign again what was signed with a key that is believed no more; gives how many there were.

    Args:
        database: has the releases.
        signing: by the keys of now.
        now_ms: milliseconds since the epoch.
        told: called once those that serve are signed, and at the end: whoever runs them waits for it.

    Raises:
        StorageUnavailable: the database takes no writes; what was signed until then is.
    """
    if not signing.renewed:
        return 0
    keys = signing.keys
    signing.not_signed.clear()
    async with database.read() as connection:
        first = await submissions.found(connection, await _in_use(connection))
    count = await _sign(database, signing, now_ms, first, serving=True)
    if count:
        told()
    after = ""
    while part := await _signed(database, after):
        # Of all releases that ever were signed hardly any is to be signed anew: no other is read.
        if others := [id_ for id_, signature in part if not signing.believes(signature)]:
            async with database.read() as connection:
                found = await submissions.found(connection, others)
            count += await _sign(database, signing, now_ms, found, serving=False)
        after = part[-1][0]
    signing.settled(keys)
    if count:
        log.info("releases were signed anew", extra={"releases": count})
        told()
    return count


async def _signed(database: Database, after: str) -> list[tuple[str, str]]:
    async with database.read() as connection:
        return await submissions.signatures(connection, after)


async def _sign(
    database: Database, signing: Signing, now_ms: Callable[[], int], releases: Sequence[Submission], *, serving: bool
) -> int:
    count = 0
    for each in releases:
        if each.signature is None or signing.believes(each.signature):
            continue
        fault = await _fault(database, each)
        if fault == _SWEPT and not serving:
            continue  # it was let go: nobody runs it again
        async with database.write() as connection:
            if fault:
                what = f"It is not signed anew, and does not run any more: {fault}."
                await tell(connection, each.id, each.state, NOT_SIGNED, now_ms(), what=what)
            else:
                await submissions.sign(connection, each.id, each.signature, signing.sign(each, now_ms()))
                count += 1
        if fault:
            signing.not_signed[each.id] = f"{each.server} {str(each.release)[:12]}: {fault}"
            facts = {"server": each.server, "submission": each.id, "fault": fault}
            log.error("a release is not signed anew: it is not what was checked", extra=facts)
    return count


async def _in_use(connection: AsyncConnection) -> set[str]:
    """What is live, on its way, or kept to go back to."""
    columns = deployments.c
    rows = await connection.execute(select(columns.live, columns.candidate, columns.previous, columns.leaving))
    return {id_ for row in rows for id_ in row if id_ is not None}


async def _fault(database: Database, of: Submission) -> str:
    """What of a release is not as it was checked; empty: it is whole."""
    artifact, declaration = of.artifact, of.declaration
    if artifact is None or declaration is None or of.sbom is None:
        return "it is not built"
    same = {
        "what it declares": (declaration.digest, of.release),
        "its artifact": (declaration.artifact, artifact.digest),
        "the server in its artifact": (artifact.server, of.server),
        "its source": (artifact.source, of.source),
    }
    if different := [name for name, (one, two) in same.items() if one != two]:
        return f"{' and '.join(different)} is another than was checked"
    own = [each.sha256 for each in artifact.files if each.origin == "own"]
    for digest in dict.fromkeys((artifact.source, artifact.project, of.sbom, *own)):
        whole = await artifacts.is_whole(database, digest)
        if whole is None:
            return _SWEPT
        if not whole:
            return f"{digest[:12]}, which it consists of, was changed where it is kept"
    return ""
