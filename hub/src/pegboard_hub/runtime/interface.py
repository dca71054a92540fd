"""What a runtime is: something that brings about what the hub desires, and says how it does.

This machine (`runtime/machine/`) is one, a cluster (`runtime/kubernetes/`) another; `tests/hub/runtime_suite.py` is
what both promise. Whatever talks to the hub (`runtime/conversation.py`) is the same for both and knows neither.
"""

from __future__ import annotations

from typing import Protocol

from pegboard_hub.publishing.orders import Desired, LogPage, LogQuestion, Observed


class Runtime(Protocol):
    """Level-triggered: each word of the hub is all of it, and nothing of an earlier one counts any more.

    A runtime takes nothing as right that it can verify: who signed a release, and every digest in it
    (`runtime/verified.py`). What does not verify is not started, and `Observed` says which and why; the others go on.
    """

    @property
    def name(self) -> str:
        """As in `Observed.runtime`."""

    async def bring_about(self, desired: Desired) -> None:
        """Take note of what should run, and see to it from now on; comes back once it is noted.

        The same word again changes nothing. What is no longer desired ends, with the calls under way at it first.
        Never raises for a fault of one release: that is told in `observed`.
        """

    async def observed(self) -> Observed:
        """How everything does now, as far as it is known; asks nobody that may take long."""

    async def changed(self, wait_s: float) -> None:
        """Wait until `observed` may say something new, `wait_s` seconds at most."""

    async def logs(self, question: LogQuestion) -> LogPage:
        """Lines of the logs of one server."""

    async def close(self) -> None:
        """End what this process does for it. What runs on this machine ends with it; a cluster's goes on."""
