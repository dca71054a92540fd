"""Taking over what the sources say: the operator's grants file, and the release that each server declares.

the file's entry ── merge ──▶ what is granted, stopped, and where the code is
the declaration  ── pin ────▶ a release ── nothing a review looks at changed, or nobody reviews ──▶ deployed
                                      └─ a review is concerned ──▶ it waits, and nobody may call the server
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pegboard.core.grants import Grant, GrantsFile
from pegboard_hub.registry import store
from pegboard_hub.registry.changes import Change, Changing
from pegboard_hub.registry.history import GRANTS_FILE, PEGBOARD, granted_with, registered_by_a_person
from pegboard_hub.registry.importing import Merge, entry_of, granted, held, merge, stops
from pegboard_hub.registry.model import Access, Lifecycle, RegisteredServer, Release
from pegboard_hub.registry.reviews.model import Difference, Kind, subject_of
from pegboard_hub.registry.reviews.rules import ACCESS, access_differences, differences, needed, within
from pegboard_hub.registry.reviews.store import (
    also_needed,
    asked_still,
    open_reviews,
    record_approved,
    round_of,
    supersede,
)

NAMED_NO_MORE = "the grants file no longer names it"
_AGREE = "Let the file say what holds, which pegboard registry export prints, or change it in the registry"

MOST_COMPARED = 100
"""Releases approved last that a new one is compared with."""

Imported = dict[str, dict[str, Any]]
"""What was last taken over of each entry of the file."""


def reviewed(file: GrantsFile, server: RegisteredServer) -> bool:
    """Whether a server needs reviews: its namespace is not among those that need none."""
    return server.name.namespace not in file.reviews.unreviewed


class Following:
    """Takes the sources over, server by server, inside one transaction.

    Attributes:
        imported: what was taken over of each entry, with what this transaction takes over.
        conflicts: what of the file is not taken over, by server, a line each.
    """

    def __init__(self, changing: Changing, file: GrantsFile, imported: Imported) -> None:
        self._changing = changing
        self._file = file
        self.imported = imported
        self.conflicts: dict[str, tuple[str, ...]] = {}

    async def take_over(self, name: str, declared: Release | None) -> None:
        """What the file and the declaration say of one server that the file names."""
        grant = self._file.servers[name]
        server = self._changing.find(name)
        if server is None:
            server = await self._changing.register(name, {}, GRANTS_FILE, grant.reason, source=grant.source)
        server = await self._take_entry(server, grant)
        if not grant.source:
            return  # its releases are submitted: what serves is the pipeline's to say
        if declared is not None:
            server = await self._take_release(server, declared)
        elif server.release is not None or server.waiting is not None:
            await self._apply(server, "undeploy", "its release is gone", undeploys=True, waits_no_more=True)

    async def take_submitted(self, name: str, declared: Release, by: str, message: str) -> bool:
        """Take over a release that was submitted; whether it waits for reviews.

        Args:
            name: of a server that is there.
            declared: the release.
            by: who submitted it: it is theirs, and not theirs to approve.
            message: what they say is new.

        Whatever is deployed stays so meanwhile, and one that waits for nothing is not deployed by this: that is the
        pipeline's to do, once its replicas answer.
        """
        connection, now_ms = self._changing.connection, self._changing.now_ms
        server = self._changing.server(name)
        if server.waiting is not None and server.waiting.digest == declared.digest:
            return True
        await store.add_release(connection, name, declared, now_ms)
        asked = _asked(server, declared)
        concerned = await self._concerned(server, declared)
        pending = await asked_still(connection, server, asked)
        why = f"release {declared.digest[:12]} was submitted" + (f": {message}" if message else "")
        if not concerned:
            await store.approve_release(connection, name, declared.digest, now_ms)
            await self._wait_no_more(server, pending, asked, why)
            lifecycle = {} if server.lifecycle not in _BEFORE else {"lifecycle": Lifecycle.APPROVED}
            await self._apply(
                server, "approve", "an approved release", values=lifecycle, waits_no_more=True, requested=asked
            )
            return False
        await supersede(connection, name, tuple(Kind))
        opened = {kind: [*concerned.get(kind, ()), *pending.get(kind, ())] for kind in {**concerned, **pending}}
        await open_reviews(connection, name, opened, declared.digest, asked, by, why, now_ms)
        serves = server.release is not None
        await self._apply(
            server,
            "wait for review",
            why,
            values={} if serves or server.lifecycle in _KEEP else {"lifecycle": Lifecycle.IN_REVIEW},
            waiting=declared,
            describes=not await self._is_described(name),
            requested=asked,
        )
        return True

    async def _wait_no_more(
        self, server: RegisteredServer, pending: Mapping[Kind, Sequence[Difference]], asked: Access, why: str
    ) -> None:
        """End the reviews of a release that waited; what was asked for on a page is looked at with what serves."""
        if server.waiting is None:
            return
        connection, name = self._changing.connection, str(server.name)
        await supersede(connection, name, tuple(Kind))
        release = server.release.digest if server.release else ""
        await open_reviews(connection, name, pending, release, asked, PEGBOARD.sub, why, self._changing.now_ms)

    async def let_go(self, name: str) -> None:
        """A server that the file named until now. What was taken over of it is kept, for when it comes back."""
        server = self._changing.find(name)
        if server is not None and server.source:
            values: dict[str, Any] = {"source": ""}
            if server.lifecycle is not Lifecycle.RETIRED:  # by somebody: a file that names it again ends that not
                values |= {"lifecycle": Lifecycle.RETIRED, "lifecycle_why": NAMED_NO_MORE}
            await self._apply(server, "retire", NAMED_NO_MORE, values=values)

    async def _take_entry(self, server: RegisteredServer, grant: Grant) -> RegisteredServer:
        name = str(server.name)
        entry, last = entry_of(grant), self.imported.get(name)
        merged = merge(last, entry, held(server))
        values: dict[str, Any] = {"source": grant.source}
        if grant.source and server.submitted:
            values["submitted"] = False  # the operator names a folder, and follows that from now on
        if server.lifecycle_why == NAMED_NO_MORE and not server.source:
            values |= {"lifecycle": Lifecycle.APPROVED, "lifecycle_why": ""}
        if "reason" in merged.take:
            values["reason"] = merged.take["reason"]
        if "releases" in merged.take:
            values["takes_any"] = merged.take["releases"] == "any"
        access = granted(merged.take, server)
        if server.lifecycle is Lifecycle.DRAFT and (any(access) or not reviewed(self._file, server)):
            # The operator's own word is an approval; where nothing is reviewed none is wanted.
            values["lifecycle"] = Lifecycle.APPROVED
        told = Change(
            str(server.name),
            GRANTS_FILE,
            "import",
            _why(merged, server),
            values=values,
            granted=access,
            stops=stops(merged.take, server),
        )
        after = await self._changing.apply(told)
        if access != server.granted:
            await self._note_approval(server, access, after.reason)
        if not within(server.granted, access):
            await self._review_anew(after)
        self._tell(name, merged.conflicts)
        if merged.accepted != last:
            await self._keep_import(name, merged.accepted)
        return after

    async def _note_approval(self, server: RegisteredServer, access: Access, why: str) -> None:
        """Write down that the operator approved an access, of a server that is reviewed and runs."""
        if not reviewed(self._file, server) or server.release is None or server.waiting is not None:
            return
        await record_approved(
            self._changing.connection,
            str(server.name),
            needed(server.release.manifest),
            server.release.digest,
            access,
            GRANTS_FILE.sub,
            why,
            self._changing.now_ms,
            supersedes=within(server.requested, access),
        )

    async def _review_anew(self, server: RegisteredServer) -> None:
        """Begin open reviews again where the operator took access away: what was approved before saw it granted."""
        connection = self._changing.connection
        found = await round_of(connection, server)
        if not any(review.open for review in found.values()):
            return
        access = access_differences(server.granted, server.requested)
        opened = {
            kind: [*(each for each in review.changes if not each.what.startswith(ACCESS)), *access]
            for kind, review in found.items()
        }
        subject, by = subject_of(server), GRANTS_FILE.sub
        why = "the operator took access away meanwhile"
        await open_reviews(
            connection, str(server.name), opened, subject.release, subject.requested, by, why, self._changing.now_ms
        )

    async def _take_release(self, server: RegisteredServer, declared: Release) -> RegisteredServer:
        name, connection, now_ms = str(server.name), self._changing.connection, self._changing.now_ms
        in_hand = {each.digest for each in (server.release, server.waiting) if each is not None}
        if declared.digest in in_hand and not (server.waiting and server.takes_any):
            return server
        await store.add_release(connection, name, declared, now_ms)
        asked = _asked(server, declared)
        concerned = await self._concerned(server, declared)
        # What is open looks at another release. What somebody asked for on a page is asked for with this one.
        pending = await asked_still(connection, server, asked)
        await supersede(connection, name, tuple(Kind))
        if not concerned:
            why = f"release {declared.digest[:12]} came while access was asked for"
            await open_reviews(connection, name, pending, declared.digest, asked, PEGBOARD.sub, why, now_ms)
            await store.approve_release(connection, name, declared.digest, now_ms)
            return await self._apply(
                server, "deploy", "an approved release", release=declared, waits_no_more=True, requested=asked
            )
        changes = bool(await store.last_approved(connection, name))
        did = "changes what is reviewed" if changes else "is the first that is looked at"
        why = f"release {declared.digest[:12]} {did}"
        opened = {kind: [*concerned.get(kind, ()), *pending.get(kind, ())] for kind in {**concerned, **pending}}
        await open_reviews(connection, name, opened, declared.digest, asked, PEGBOARD.sub, why, now_ms)
        return await self._apply(
            server,
            "wait for review",
            why,
            values={} if server.lifecycle in _KEEP else {"lifecycle": Lifecycle.IN_REVIEW},
            undeploys=True,
            waiting=declared,
            # Until it is approved, neither what callers read nor whose the server is is its author's to change.
            describes=not await self._is_described(name),
            requested=asked,
        )

    async def _is_described(self, name: str) -> bool:
        """Whether what a server is stands: a release of it was approved, or a person registered it."""
        connection = self._changing.connection
        return bool(await store.last_approved(connection, name)) or await registered_by_a_person(connection, name)

    async def _concerned(self, server: RegisteredServer, declared: Release) -> Mapping[Kind, Sequence[Difference]]:
        """The reviews that a release must pass, each with what differs; none where it may be deployed."""
        name, connection = str(server.name), self._changing.connection
        if not reviewed(self._file, server) or server.takes_any:
            return {}
        approved = await store.last_approved(connection, name, MOST_COMPARED)
        if not approved:
            return await self._concerned_by_the_first(server, declared)
        # A release was approved for those who could call it: it is no way for others into what it was alone.
        access_of = await granted_with(connection, server)
        covers = {digest for digest, access in access_of.items() if within(server.granted, access)}
        if declared.digest in covers and await store.is_approved(connection, name, declared.digest):
            return {}
        compared = [digest for digest in approved if digest in covers] or approved[:1]
        known = await store.load_releases(connection, {(name, digest) for digest in compared})
        before = [known[name, digest] for digest in compared]
        # Once all of a release was kept, what earlier ones did not keep is no excuse any more.
        whole = [release for release in before if not release.unrecorded]
        also = await also_needed(connection, name)
        found = [differences(release, declared, also) for release in whole or before]
        # As one that was approved, be it one that its author went back to, it is deployed.
        return found[0] if all(found) else {}

    async def _concerned_by_the_first(
        self, server: RegisteredServer, declared: Release
    ) -> Mapping[Kind, Sequence[Difference]]:
        """The same of a server of which no release was approved yet."""
        name = str(server.name)
        if server.submitted:
            # What the operator granted a name covers the code that the operator named with it, and no other.
            return differences(None, declared, await also_needed(self._changing.connection, name))
        said = Access(*(tuple(self.imported.get(name, {}).get(field, ())) for field in Access._fields))
        if not any(said) or not within(server.granted, said):
            return differences(None, declared, await also_needed(self._changing.connection, name))
        # The operator granted it before it declared anything: that covers what it declares first. What reviewers
        # granted it without code, be it beside that, does not: they have not seen any.
        await record_approved(
            self._changing.connection,
            name,
            needed(declared.manifest),
            declared.digest,
            server.granted,
            GRANTS_FILE.sub,
            server.reason,
            self._changing.now_ms,
        )
        return {}

    async def _apply(self, server: RegisteredServer, action: str, why: str, **what: Any) -> RegisteredServer:
        return await self._changing.apply(Change(str(server.name), PEGBOARD, action, why, **what))

    async def _keep_import(self, name: str, entry: dict[str, Any]) -> None:
        await store.save_import(self._changing.connection, name, entry, self._changing.now_ms)
        self.imported[name] = entry

    def _tell(self, name: str, conflicts: Mapping[str, tuple[Any, Any]]) -> None:
        if conflicts:
            self.conflicts[name] = tuple(
                f"{name}: the grants file now says {field} = {_told(file)}, and the registry, changed since, "
                f"{_told(here)}. {_AGREE}"
                for field, (file, here) in conflicts.items()
            )


def _asked(server: RegisteredServer, declared: Release) -> Access:
    """The access that is asked for with a release: its manifest's, unless that says what the last one said.

    What somebody asked for on a page meanwhile is then still asked for.
    """
    before = server.waiting or server.release
    if before is not None and before.manifest.requests == declared.manifest.requests:
        return server.requested
    return Access(*(declared.manifest.requests.model_dump()[field] for field in _REQUESTS))


def _why(merged: Merge, server: RegisteredServer) -> str:
    """Why the file changes something: for an access its reason, for a stop what the stop says."""
    reason = merged.take.get("reason", server.reason) if merged.grants else ""
    before, after = stops({}, server), stops(merged.take, server)
    begun = [why for name, why in after.items() if before.get(name) != why]
    ended = "the grants file lets go on what it stopped" if before.keys() - after.keys() else ""
    return "; ".join(dict.fromkeys(filter(None, [reason, *begun, ended]))) or "the grants file was saved"


def _told(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


_REQUESTS = ("business_groups", "surfaces", "channels", "services")
_KEEP = frozenset({Lifecycle.DEPRECATED, Lifecycle.RETIRED})
_BEFORE = frozenset({Lifecycle.DRAFT, Lifecycle.IN_REVIEW})
