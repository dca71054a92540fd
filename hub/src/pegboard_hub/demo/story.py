"""The demo story: the main job and its refusals, shown on a running instance, step by step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx2

from pegboard_hub.common.home import Home
from pegboard_hub.demo.stage import Shown, Stage, Step
from pegboard_hub.demo.steps import STEPS
from pegboard_hub.demo.wire import Wire

Report = Callable[[str], None]


async def run_story(public_url: str, home: Home, report: Report) -> bool:
    """Tell the story against the instance at `public_url`.

    Args:
        public_url: the edge's origin.
        home: the instance's folder; the story reads the edge's bundle there.
        report: takes each line as soon as it is known.

    Returns:
        Whether everything was decided as it should be.
    """
    shown = await tell(public_url, home, report)
    wrong = [line for line in shown if not line.right]
    report("")
    report(f"{len(shown) - len(wrong)} of {len(shown)} as they should be" + ("." if not wrong else ": see ✗ above."))
    return not wrong


async def tell(public_url: str, home: Home, report: Report) -> list[Shown]:
    """The story's lines, reported as they come."""
    everything: list[Shown] = []
    async with httpx2.AsyncClient(timeout=30) as http:
        stage = Stage(Wire(http, public_url), home)
        for number, step in enumerate(STEPS, 1):
            report("")
            report(f"{number}. {step.__doc__}")
            async for shown in _told(step, stage):
                everything.append(shown)
                report(f"   {shown.line}")
    return everything


async def _told(step: Step, stage: Stage) -> AsyncIterator[Shown]:
    """A step's lines. One that breaks is a line of its own, and the story goes on."""
    try:
        async for shown in step(stage):
            yield shown
    except (httpx2.HTTPError, OSError, LookupError, ValueError) as error:
        yield Shown("this step", "broke off", "", f"{type(error).__name__}: {error}", right=False)
