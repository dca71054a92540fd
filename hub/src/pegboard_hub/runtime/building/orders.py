"""Builds as the hub orders them: claimed, worked on, told as they go, and told how they ended."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass

from pegboard.core.errors import ConfigurationError
from pegboard.core.publishing import Trouble
from pegboard_hub.common.home import Home, replace_file
from pegboard_hub.common.removing import remove_tree
from pegboard_hub.publishing.orders import CLAIM_S, BuildOrder, BuildResult
from pegboard_hub.runtime.building.builder import Builder, Made
from pegboard_hub.runtime.confined import OutsideFailed, ReleaseFailed
from pegboard_hub.runtime.hub_door import HubAway, HubDoor, NotOurs, ResultRefused

logger = logging.getLogger(__name__)

BUILD_S = 900.0
"""The longest a build may take, in seconds."""

HEARD_S = CLAIM_S / 4
"""How often the hub hears of a build that is at one thing for long, in seconds."""

AGAIN_S = 2.0
LONGEST_AGAIN_S = 30.0
"""The first and the longest pause while the hub is away, in seconds."""

LONGEST_WORDS = 2_000
"""Characters of what is said of a fault."""

SETTING = "PEGBOARD_BUILDS"

MEMORY_OF_ONE = 4 * 1024**3
DEFAULT_MOST = 4
"""Of a machine, each build wants so much memory; there are no more at once unless the operator says so."""

MOST_AT_ONCE = 32
MOST_GONE = 64


@dataclass(slots=True)
class _At:
    """What a build is at."""

    step: str = "claimed"
    what: str = ""
    told_at: float = 0.0


class Building:
    """Builds one order after another, until cancelled.

    Args:
        home: where builds work; what one left that was killed is removed at the start.
        hub: who orders.
        builder: who builds.
        name: of this builder.
        gone: builders of an earlier run, whose orders are free.
    """

    def __init__(self, home: Home, hub: HubDoor, builder: Builder, name: str, gone: tuple[str, ...] = ()) -> None:
        self._home = home
        self._hub = hub
        self._builder = builder
        self._name = name
        self._gone = gone

    async def run(self) -> None:
        """Build until cancelled. Nothing that goes wrong with one ends it."""
        pause, said = AGAIN_S, ""
        while True:
            try:
                order = await self._claimed()
                pause, said = AGAIN_S, ""
                if order is not None:
                    await self.build(order)
                continue
            except HubAway as error:
                if (words := str(error)) != said:
                    logger.warning("no build can be claimed, and it is tried again: %s", words)
                said = words
            except Exception:
                logger.exception("a build could not be worked on")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_AGAIN_S)

    async def _claimed(self) -> BuildOrder | None:
        """The next order; what builders of an earlier run had is free once the hub has heard of it."""
        order = await self._hub.claim(self._name, gone=self._gone)
        self._gone = ()
        return order

    async def build(self, order: BuildOrder) -> None:
        """Work on one order to its end, whatever that is."""
        at = _At()
        heard = asyncio.create_task(self._be_heard(order, at), name=f"be heard of {order.id}")
        working = asyncio.create_task(self._result(order, at), name=f"build {order.id}")
        try:
            await asyncio.wait({heard, working}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                logger.warning("build %s of %s is not ours any more", order.id, order.server)
                return
            await self._tell(order, working.result())
        except NotOurs:
            logger.warning("build %s of %s is not ours any more", order.id, order.server)
        finally:
            for task in (heard, working):
                task.cancel()
            await asyncio.gather(heard, working, return_exceptions=True)

    async def _result(self, order: BuildOrder, at: _At) -> BuildResult:
        began = time.monotonic()

        async def tell(step: str, what: str) -> None:
            at.step, at.what = step, what
            with suppress(HubAway):  # it is told again soon
                await self._hub.progress(order, self._name, step, what)
            at.told_at = time.monotonic()

        try:
            async with asyncio.timeout(BUILD_S):
                await tell("fetching the source", "")
                archive = await self._hub.artifact(order.source)
                made = await self._builder.build(order.id, order.server, archive, tell)
                await tell("keeping", f"{made.artifact.digest[:12]}, after {time.monotonic() - began:.1f} s")
                return await self._kept(made)
        except NotOurs:
            raise
        except TimeoutError:
            slow = "its packages' index is slow: submit it again later, or ask the platform team"
            mend = slow if at.step == "fetching" else "let it depend on less, or on packages that have wheels"
            return _failed(at, f"took longer than {BUILD_S / 60:.0f} minutes", mend)
        except (OutsideFailed, HubAway) as error:
            return _failed(at, str(error), "it is tried again by itself", again=True)
        except ReleaseFailed as error:
            return _failed(at, str(error), "mend it in the project, and submit again")
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            mend = "the platform team must make room on its disk" if full else "ask the platform team"
            words = f"the machine that builds cannot write or read a file ({error.strerror or error})"
            return _failed(at, words, f"{mend}; it is tried again by itself", again=True)
        except Exception as error:
            logger.exception("build %s of %s", order.id, order.server)
            return _failed(at, f"failed unexpectedly ({type(error).__name__})", "ask the platform team", again=True)

    async def _kept(self, made: Made) -> BuildResult:
        for content, kind in made.own:
            await self._hub.put_artifact(content, kind)
        sbom = await self._hub.put_artifact(made.sbom, "sbom")
        return BuildResult(
            artifact=made.artifact,
            declaration=made.declaration,
            sbom=sbom,
            sandboxed=made.sandboxed,
            packages=made.packages,
            advisories=made.advisories,
        )

    async def _tell(self, order: BuildOrder, result: BuildResult) -> None:
        pause, deadline = AGAIN_S, time.monotonic() + CLAIM_S
        while True:
            try:
                await self._hub.result(order, self._name, result)
                return
            except ResultRefused as error:
                refused = Trouble(
                    step="keeping", what=f"the hub does not take it: {error}", mend="ask the platform team"
                )
                if result.trouble is not None:
                    raise
                result = BuildResult(trouble=refused)
            except HubAway:
                if time.monotonic() > deadline:
                    raise  # somebody else has it by now, or will
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_AGAIN_S)

    async def _be_heard(self, order: BuildOrder, at: _At) -> None:
        """Say now and then that it goes on; comes back when it is not ours any more."""
        while True:
            await asyncio.sleep(HEARD_S)
            if time.monotonic() - at.told_at < HEARD_S:
                continue
            try:
                await self._hub.progress(order, self._name, at.step, at.what)
                at.told_at = time.monotonic()
            except NotOurs:
                return
            except HubAway:
                continue


def builders(home: Home, hub: HubDoor, builder: Builder, stem: str, count: int) -> list[Building]:
    """As many builders as build at once, each under a name of its own.

    Their names are noted in the home, so that the next run can say that these are gone: what a killed one was at is
    built again at once, and not when nothing was heard of it for long.

    Args:
        home: where builds work.
        hub: who orders.
        builder: who builds.
        stem: of the names, another in each run.
        count: how many.

    Raises:
        OSError: the names cannot be noted.
    """
    noted = home.root / "builds" / ".builders"
    try:
        gone = tuple(noted.read_text(encoding="utf-8").split())[:MOST_GONE]
    except (FileNotFoundError, UnicodeDecodeError):
        gone = ()
    names = [f"{stem}-{number}" for number in range(count)]
    replace_file(noted, "\n".join(names) + "\n")
    return [Building(home, hub, builder, name, gone) for name in names]


def at_once() -> int:
    """How many builds there are at once, as the operator says, or as this machine allows.

    Raises:
        ConfigurationError: what the operator says is no such number.
    """
    said = os.environ.get(SETTING, "")
    if not said:
        cores = len(os.sched_getaffinity(0))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEMORY_OF_ONE
        return max(1, min(cores, memory, DEFAULT_MOST))
    if not said.isdecimal() or not 1 <= int(said) <= MOST_AT_ONCE:
        raise ConfigurationError(SETTING, [f"{said[:20]!a} is no number of builds from 1 to {MOST_AT_ONCE}"])
    return int(said)


def clear_builds(home: Home) -> None:
    """Remove what builds of an earlier run left when they were killed. None may run."""
    for folder in (home.root / "builds").glob("*"):
        remove_tree(folder)


def _failed(at: _At, what: str, mend: str, *, again: bool = False) -> BuildResult:
    text = "".join(sign if sign.isprintable() else " " for sign in what[:LONGEST_WORDS])
    return BuildResult(trouble=Trouble(step=at.step, what=text, mend=mend), again=again)
