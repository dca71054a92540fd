"""What is said of a release on this machine fits how its replicas do at the very moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from pegboard.core.names import ServerName
from pegboard_hub.publishing import orders
from pegboard_hub.publishing.orders import DesiredRelease, ReplicaState
from pegboard_hub.runtime.machine.judging import judged
from pegboard_hub.runtime.machine.replica import Replica
from pegboard_hub.runtime.machine.run import ReleaseRun


@dataclass
class Told:
    """A replica, as far as anything is said from it."""

    state: ReplicaState
    hopeless: bool = False
    failure: str = ""

    def observed(self) -> orders.Replica:
        return orders.Replica(id="r", address="unix:r", state=self.state)


def replicas(*told: Told) -> list[Replica]:
    return cast("list[Replica]", list(told))


BAD = Told("failing", hopeless=True, failure="ended with status 3")


@pytest.mark.parametrize(
    ("told", "hindered", "waits", "step", "trouble"),
    [
        ((), "", "", "starting", ""),
        ((Told("starting"),), "", "", "starting", ""),
        ((Told("asleep"),), "", "", "running", ""),
        ((Told("ready"), BAD), "no space left", "1 replica waits", "running", ""),
        ((BAD, Told("starting")), "", "", "starting", "does not come up: ended with status 3"),
        ((Told("failing", hopeless=True),), "", "", "starting", "does not come up: it does not answer"),
        ((), "no space left", "", "starting", "no space left"),
        ((Told("asleep"),), "", "1 replica waits", "starting", "1 replica waits"),
        ((Told("asleep"), Told("starting")), "", "1 replica waits", "starting", ""),
    ],
)
def test_a_trouble_is_told_where_no_replica_answers_and_waiting_will_not_help(
    told: tuple[Told, ...], hindered: str, waits: str, step: str, trouble: str
) -> None:
    found, why = judged(replicas(*told), hindered, waits)
    assert (found, why.what if why else "") == (step, trouble)
    assert why is None or why.mend


def test_step_and_trouble_are_of_the_same_moment_as_the_replicas() -> None:
    wanted = DesiredRelease.model_construct(release="a" * 64)
    run = ReleaseRun(cast(Any, None), cast(Any, None), ServerName.parse("dev/one"), wanted)
    replica = Told("failing", hopeless=True)
    run._step, run._replicas = "starting", {0: cast(Replica, replica)}
    seen = run.observed()
    assert (seen.step, seen.trouble is None) == ("starting", False)
    # Nobody has looked since: it is the replica that knows.
    replica.state, replica.hopeless = "ready", False
    seen = run.observed()
    assert (seen.step, seen.trouble, seen.replicas[0].state) == ("running", None, "ready")
