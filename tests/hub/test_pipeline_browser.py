"""The pipeline's pages in a real browser, in every state that a release has: looked at by axe, narrow and wide.

The hub is in this process: the browser's requests are answered by it without a port.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from playwright.async_api import Page, Route, async_playwright
from sqlalchemy import update

from pegboard.core.publishing import Trouble
from pegboard_hub.publishing.logs import LogsAway
from pegboard_hub.publishing.model import submissions
from pegboard_hub.publishing.orders import LogLine, LogPage, LogQuestion
from tests.hub.company import URL, Company, call
from tests.hub.rolling import SERVER, Rig, declared, rig_of
from tests.oauth import Browser
from tests.system.chromium import WCAG
from tests.tools.node import NodeTools, NodeToolsError, provide

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("pipeline browser")]

PATH = f"/servers/{SERVER}"
STEPS = {"steps": [10, 50], "step_minutes": 60}
FEW = {
    "A release takes its first callers",
    "It was rolled back",
    "has all calls, and does not answer",
    "It failed",
    "KeyError",
}
"""What says most, by its words, is looked at in every run; all of it, in each width and colours, in the long ones."""

LOOKS = [
    (375, "dark", FEW),
    *(
        pytest.param(width, colours, None, marks=pytest.mark.heavy)
        for width in (375, 1280)
        for colours in ("dark", "light")
    ),
]


class Lines:
    """Logs with a line that is long and one that has lines; then none, then nobody to ask."""

    def __init__(self) -> None:
        self.lines: tuple[LogLine, ...] | None = (
            LogLine(
                at="2027-01-31T14:00:00Z", release="a" * 64, replica="aaaaaaaa-0", text="x" * 400, request_id="r-1"
            ),
            LogLine(
                release="a" * 64, replica="aaaaaaaa-0", text="Traceback:\n  in forecast\nKeyError", more={"n": 1}
            ),
        )

    async def ask(self, _question: LogQuestion) -> LogPage:
        if self.lines is None:
            raise LogsAway("the runtime does not answer")
        return LogPage(lines=self.lines)

    async def close(self) -> None:
        pass


@pytest.fixture
def logs() -> Lines:
    return Lines()


@pytest.fixture
async def rig(company: Company, logs: Lines) -> AsyncIterator[Rig]:
    async with rig_of(company, lambda parts: replace(parts, logs=logs)) as found:
        yield found


@pytest.fixture(scope="module")
def axe() -> str:
    try:
        tools: NodeTools = provide()
    except NodeToolsError as error:
        pytest.skip(str(error))
    return (tools.package("axe-core") / "axe.min.js").read_text()


@asynccontextmanager
async def opened(rig: Rig, width: int, colours: str) -> AsyncIterator[Page]:
    """A browser of somebody who operates, whose requests this process answers."""
    pat = Browser(URL, rig.hub.public)
    await pat.sign_in("pat")

    async def answer(route: Route) -> None:
        asked = route.request
        headers = asked.headers | {"cookie": "; ".join(f"{name}={value}" for name, value in pat.cookies.items())}
        headers |= {"origin": URL, "sec-fetch-site": "same-origin"} if asked.method == "POST" else {}
        found = await rig.hub.public.request(
            asked.method, asked.url, content=asked.post_data_buffer, headers=headers, follow_redirects=False
        )
        if onward := found.headers.get("location"):
            # A redirect that is answered here would be followed past here.
            await route.fulfill(
                content_type="text/html", body=f'<meta http-equiv="refresh" content="0;url={onward}">'
            )
        else:
            await route.fulfill(status=found.status_code, headers=dict(found.headers), body=found.content)

    if (program := shutil.which("chromium")) is None:
        pytest.skip("chromium is not here")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = await chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=colours)  # type: ignore[arg-type]
        await page.route("**/*", answer)
        yield page
        await chromium.close()


def looking(page: Page, axe: str, width: int, only: Set[str] | None) -> Callable[[str, str], Awaitable[None]]:
    """What looks at a page, if its words are among `only`: axe, and whether anything is wider than the window."""

    async def look(path: str, words: str) -> None:
        if only is not None and words not in only:
            return
        await page.goto(URL + path)
        assert words in await page.inner_text("#main"), path
        await page.evaluate("for (const each of document.querySelectorAll('#main details')) each.open = true")
        await page.evaluate(axe)
        found = await page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", WCAG)
        faults = [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]]
        assert not faults, path
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, path

    return look


@pytest.mark.parametrize(("width", "colours", "only"), LOOKS)
async def test_every_state_of_a_release_can_be_read_by_everybody(
    rig: Rig, logs: Lines, axe: str, width: int, colours: str, only: Set[str] | None
) -> None:
    async with opened(rig, width, colours) as page:
        look = looking(page, axe, width, only)
        one = await rig.approve(1)
        await look(f"{PATH}/deployment", "Nothing is deployed yet")
        await look(f"{PATH}/submissions/{one}", "It is approved, and is deployed next")
        for seconds in (0, 301, 61):
            rig.clock.pass_s(seconds)
            await rig.look()
        rig.machine.notes[declared(1).digest] = ("nothing keeps it apart here",)
        now = int(rig.clock() * 1000)
        await rig.deliver(1, [r for n in range(400) for r in call(f"b-{n}", now - 60_000 + n, tool="forecast")])
        two, second = await rig.approve(2, rollout=STEPS), declared(2, rollout=STEPS).digest
        rig.machine.slow.add(second)
        await rig.look()
        await look(f"{PATH}/deployment", "A release comes up")
        rig.machine.slow.clear()
        await rig.look()
        await look(f"{PATH}/deployment", "A release takes its first callers")
        await look(f"{PATH}/submissions/{two}", "It is being deployed")
        assert (await rig.post("pat", "deployment/pause", why="we look at it first")).status_code == 200
        await look(f"{PATH}/deployment", "It is paused")
        assert (await rig.post("pat", "deployment/promote", why="it is good")).status_code == 200
        assert (await rig.post("pat", "deployment/promote", why="it is good")).status_code == 200
        await rig.look()
        await look(f"{PATH}/deployment", "A release takes all calls, and is watched")
        rig.machine.broken[second], rig.machine.restarts[second] = "ended with 1: " + "x" * 200, 3
        await rig.machine.turn()
        await rig.look()
        await look(f"{PATH}/deployment", "The newest submission was rolled back.")
        await look(f"{PATH}/submissions/{two}", "It was rolled back")
        rig.machine.broken[declared(1).digest] = "out of memory: it used 300 MiB of 256"
        await rig.machine.turn()
        await rig.look()
        await look(f"{PATH}/deployment", "has all calls, and does not answer")
        await look(PATH, "Usage")
        await _early_states(rig, look)
        await look(f"{PATH}/logs", "KeyError")
        await look(f"{PATH}/logs?since=yesterday&release=xyz", "Write it as")
        logs.lines = None
        await look(f"{PATH}/logs", "the runtime does not answer")
        await look("/servers/prod/presto/deployment", "Its releases come from a folder")


async def _early_states(rig: Rig, look: Callable[[str, str], Awaitable[None]]) -> None:
    """States in which no runtime has anything of it."""
    three = await rig.approve(3)
    finding = {"code": "PB203", "severity": "error", "place": "src/weather/server.py:12", "what": "no", "fix": "yes"}
    trouble = Trouble(step="checking", what="1 error", mend="Mend it, and submit again.").model_dump(mode="json")
    nothing = {"declaration": None, "release": None, "artifact": None, "signature": None}
    for values, words in (
        ({"state": "in review", "step": "waits for its owners"}, "It waits for reviews"),
        ({"state": "failed", "findings": [finding, finding | {"severity": "note"}], "trouble": trouble}, "It failed"),
        (
            {"state": "submitted", "step": "waits for a builder", "findings": [], "trouble": None, **nothing},
            "It is being built",
        ),
    ):
        async with rig.hub.parts.database.write() as connection:
            await connection.execute(update(submissions).where(submissions.c.id == three).values(**values))
        await look(f"{PATH}/submissions/{three}", words)


async def test_going_back_is_done_by_keyboard_alone(rig: Rig) -> None:
    await rig.live(1)
    await rig.approve(2)
    await rig.look()
    async with opened(rig, 1280, "light") as page:
        await page.goto(f"{URL}{PATH}/deployment")
        await page.locator("summary", has_text="Go back").focus()
        await page.keyboard.press("Enter")
        await page.get_by_text("takes all calls again within seconds").wait_for()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await page.keyboard.type("figures are wrong")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/deployment?done=rollback")
        assert "Done." in await page.inner_text("#main")
    assert rig.serves() == declared(1).digest
