"""Making a cluster as it should be: apply what is missing or differs, take away what is no longer wanted.

Nothing is touched that is not this runtime's: an object of the same name without our labels is left alone and told,
and only objects with our labels are ever deleted. Fields that others have changed in ours are drift: told with who it
was, and mended; where somebody changes them again and again it is left to people.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pegboard_hub.runtime.kubernetes.api import ApiRefused, Cause, Cluster, FieldConflict
from pegboard_hub.runtime.kubernetes.comparing import differences, was_applied
from pegboard_hub.runtime.kubernetes.manifests import KINDS
from pegboard_hub.runtime.kubernetes.objects import HANDOVER, Json, Manifest, is_ours, ours

logger = logging.getLogger(__name__)

MOST_MENDS: Final = 3
MENDS_WITHIN_S: Final = 600.0
"""An object that was mended so often within so many seconds is being changed by something that will not stop."""

AUTOSCALER: Final = "kube-controller-manager"
"""Field manager of autoscalers."""

_ADDED: Final = " (added)"

Key = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True, slots=True)
class Drift:
    """An object of ours that others have changed.

    Attributes:
        kind: of the object.
        name: of the object.
        fields: what differed.
        managers: who changed it, as far as the API tells.
        mended: it is as it should be again; else it stays so, and `why` says why.
    """

    kind: str
    name: str
    fields: tuple[str, ...]
    managers: tuple[str, ...]
    mended: bool
    why: str = ""

    def __str__(self) -> str:
        who = f" by {', '.join(self.managers)}" if self.managers else ""
        end = "it was mended" if self.mended else self.why
        return f"{self.kind} {self.name}: {', '.join(self.fields[:8])} changed{who}; {end}"


@dataclass(slots=True)
class Outcome:
    """What came of one look at the cluster.

    Attributes:
        applied: objects that were made or changed.
        removed: objects that were taken away.
        drift: what others had changed.
        refused: why an object is not as it should be, by object; what depends on it does not come up.
        found: what is there of ours, by object, as it was before.
    """

    applied: list[Key] = field(default_factory=list)
    removed: list[Key] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    refused: dict[Key, str] = field(default_factory=dict)
    found: dict[Key, Json] = field(default_factory=dict)


class Applying:
    """Keeps a namespace as wanted.

    Args:
        cluster: the namespace.
        runtime: whose objects they are.
        clock: seconds, monotonic.
    """

    def __init__(self, cluster: Cluster, runtime: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._runtime = runtime
        self._clock = clock
        self._mends: defaultdict[Key, deque[float]] = defaultdict(lambda: deque(maxlen=MOST_MENDS))

    async def make_so(self, wanted: Iterable[Manifest], kept: Collection[str] = ()) -> Outcome:
        """Look at everything once, and make it so.

        Args:
            wanted: what should be there.
            kept: names of objects that stay as they are, though they are not wanted.

        Raises:
            ApiAway: the API does not answer; what was done until then is done, and the rest is next time's.
        """
        outcome = Outcome()
        by_key = {(each["kind"], each["metadata"]["name"]): each for each in wanted}
        for kind in KINDS:
            listed, _ = await self._cluster.list(kind, ours(self._runtime))
            outcome.found |= {(kind, each["metadata"]["name"]): each for each in listed}
        for kind in KINDS:
            for key, manifest in by_key.items():
                if key[0] == kind:
                    await self._make_one_so(key, manifest, outcome)
        await self._remove({key for key in outcome.found.keys() - by_key.keys() if key[1] not in kept}, outcome)
        return outcome

    async def _make_one_so(self, key: Key, manifest: Manifest, outcome: Outcome) -> None:
        found = outcome.found.get(key)
        try:
            if found is None:
                await self._create(key, manifest, outcome)
            elif not was_applied(manifest, found):
                await self._change(key, manifest, found, outcome)
            elif differing := differences(manifest, found):
                await self._mend(key, manifest, tuple(differing), outcome)
        except ApiRefused as error:
            outcome.refused[key] = f"the cluster refuses {key[0]} {key[1]} ({error.status}): {error}"

    async def _create(self, key: Key, manifest: Manifest, outcome: Outcome) -> None:
        there = await self._cluster.get(*key)
        if there is not None and not is_ours(there, self._runtime):
            outcome.refused[key] = f"there is a {key[0]} {key[1]} that is somebody else's, and it is left alone"
            return
        try:
            await self._cluster.apply(manifest)
        except FieldConflict as conflict:
            # Somebody was faster with an object of that name.
            outcome.refused[key] = f"{key[0]} {key[1]} is somebody else's: {conflict}"
            return
        outcome.applied.append(key)

    async def _change(self, key: Key, manifest: Manifest, found: Json, outcome: Outcome) -> None:
        """Ours is to be another. Where somebody has changed it as well, theirs is drift."""
        if key[0] == "Deployment" and "replicas" not in manifest["spec"] and (now := found["spec"].get("replicas")):
            await self._cluster.apply(_replicas_alone(manifest, now), force=True, manager=HANDOVER)
        try:
            await self._cluster.apply(manifest)
        except FieldConflict as conflict:
            if drift := tuple(each for each in conflict.causes if not _was_given_away(each)):
                await self._force(key, manifest, (), drift, outcome)
                return
            await self._cluster.apply(manifest, force=True)
        outcome.applied.append(key)

    async def _mend(self, key: Key, manifest: Manifest, differing: tuple[str, ...], outcome: Outcome) -> None:
        added = tuple(each for each in differing if each.endswith(_ADDED))
        if added:
            why = "what somebody adds to a pod is not ours to take away, so people must"
            outcome.drift.append(Drift(*key, added, (), mended=False, why=why))
        if changed := tuple(each for each in differing if not each.endswith(_ADDED)):
            causes: tuple[Cause, ...] = ()
            try:
                await self._cluster.apply(manifest)
            except FieldConflict as conflict:
                causes = conflict.causes
                await self._force(key, manifest, changed, causes, outcome)
            else:
                self._mends[key].append(self._clock())
                outcome.applied.append(key)
                outcome.drift.append(Drift(*key, changed, (), mended=True))

    async def _force(
        self, key: Key, manifest: Manifest, fields: tuple[str, ...], causes: tuple[Cause, ...], outcome: Outcome
    ) -> None:
        fields = fields or tuple(each.field for each in causes)
        managers = tuple(sorted({each.manager for each in causes}))
        now, mends = self._clock(), self._mends[key]
        if len(mends) == MOST_MENDS and now - mends[0] < MENDS_WITHIN_S:
            why = f"it was mended {MOST_MENDS} times in {MENDS_WITHIN_S / 60:.0f} minutes and is left so for now"
            outcome.drift.append(Drift(*key, fields, managers, mended=False, why=why))
            return
        await self._cluster.apply(manifest, force=True)
        mends.append(now)
        outcome.applied.append(key)
        outcome.drift.append(Drift(*key, fields, managers, mended=True))
        logger.warning("%s", outcome.drift[-1])

    async def _remove(self, keys: Iterable[Key], outcome: Outcome) -> None:
        order = {kind: place for place, kind in enumerate(reversed(KINDS))}
        for key in sorted(keys, key=lambda each: (order[each[0]], each[1])):
            if outcome.found[key].get("metadata", {}).get("deletionTimestamp"):
                continue
            try:
                # It may have become another's since it was listed.
                there = await self._cluster.get(*key)
                if there is not None and is_ours(there, self._runtime):
                    await self._cluster.delete(*key)
                    outcome.removed.append(key)
            except ApiRefused as error:
                outcome.refused[key] = f"{key[0]} {key[1]} cannot be removed ({error.status}): {error}"


def _replicas_alone(manifest: Manifest, replicas: int) -> Manifest:
    metadata = manifest["metadata"]
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "spec": {"replicas": replicas},
    }


def _was_given_away(cause: Cause) -> bool:
    """The number of replicas is the autoscaler's while there is one, and comes back by our own change."""
    return cause.field == ".spec.replicas" and cause.manager in (HANDOVER, AUTOSCALER)


def unique(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Each object once: what two releases of a server share is the same for both."""
    found: dict[Key, Manifest] = {}
    for each in manifests:
        found.setdefault((each["kind"], each["metadata"]["name"]), each)
    return list(found.values())


def refused_of(outcome: Outcome, manifests: Iterable[Manifest]) -> str:
    """Why one of these objects is not as it should be; empty where all are."""
    keys = ((each["kind"], each["metadata"]["name"]) for each in manifests)
    return next((words for key in keys if (words := outcome.refused.get(key))), "")


Seen = Mapping[Key, Json]
