"""What is said of a release on this machine, from how its replicas do at one moment."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

from pegboard.core.publishing import Trouble
from pegboard_hub.runtime.machine.replica import Replica
from pegboard_hub.runtime.mending import mend_of

Step = Literal["fetching", "installing", "starting", "running", "stopping", "failed"]
"""As `ObservedRelease.step`."""

_LOOK: Final = "see its log (`pegboard logs`), mend it and submit again"
_ROOM: Final = "it starts by itself when others end; ask for less memory in pegboard.toml, or for a larger machine"


def judged(replicas: Collection[Replica], hindered: str, waits: str) -> tuple[Step, Trouble | None]:
    """What a release is at that is installed, and why it does not come up.

    Args:
        replicas: those that take calls, or should.
        hindered: why none can be started just now; empty: nothing is in the way.
        waits: why fewer run than should, for want of memory; empty: there is enough.

    Returns:
        The step, and a trouble only where no replica answers: one that does is worth more than one that cannot start.
    """
    states = {replica.state for replica in replicas}
    if "ready" in states:
        return "running", None
    if hopeless := [replica for replica in replicas if replica.hopeless]:
        failure = hopeless[0].failure or "it does not answer"
        mend = f"{found}; {_LOOK}" if (found := mend_of(failure)) else _LOOK
        return "starting", Trouble(step="starting", what=f"does not come up: {failure}", mend=mend)
    if hindered:
        return "starting", Trouble(step="starting", what=hindered, mend="it is tried again by itself")
    if waits and states == {"asleep"}:
        return "starting", Trouble(step="starting", what=waits, mend=_ROOM)
    return ("running" if states == {"asleep"} else "starting"), None
