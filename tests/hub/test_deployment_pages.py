"""A server's releases as people watch them: the deployment, one submission, and logs, on pages of their own."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest

from pegboard_hub.publishing.logs import LogsAway
from pegboard_hub.publishing.orders import LogLine, LogPage, LogQuestion
from tests.hub.company import URL, Company, call, plain
from tests.hub.rolling import SERVER, Rig, declared, rig_of
from tests.oauth import Browser

pytestmark = pytest.mark.anyio

PATH = f"/servers/{SERVER}"
HOSTILE = "<script>alert(1)</script> \u202eevil"


class Lines:
    """Logs as a runtime would tell them."""

    def __init__(self) -> None:
        self.asked: list[LogQuestion] = []
        self.lines: tuple[LogLine, ...] = ()
        self.away = False

    async def ask(self, question: LogQuestion) -> LogPage:
        self.asked.append(question)
        if self.away:
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
        await found.live(1)
        yield found


async def pat(rig: Rig) -> Browser:
    browser = Browser(URL, rig.hub.public)
    await browser.sign_in("pat")
    return browser


async def part(rig: Rig, browser: Browser, address: str) -> str:
    """What a page that is open asks for again by itself."""
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    headers = {"hx-request": "true", "hx-request-type": "partial", "Cookie": cookies}
    return (await rig.hub.public.get(address, headers=headers)).text


def words(page: httpx2.Response) -> str:
    assert page.status_code == 200, page.text
    return plain(page.text)


async def test_the_watch_window_is_read_beside_the_release_before_and_follows_by_itself(rig: Rig) -> None:
    browser = await pat(rig)
    now = int(rig.clock() * 1000)
    await rig.deliver(1, [r for n in range(30) for r in call(f"before-{n}", now - 60_000 + n, tool="forecast")])
    await rig.approve(2)
    await rig.look()
    await rig.deliver(2, [r for n in range(5) for r in call(f"after-{n}", now + n, tool="forecast")])
    rig.clock.pass_s(3)
    page = await browser.get(f"{URL}{PATH}/deployment")
    said = words(page)
    assert "A release takes all calls, and is watched" in said
    assert "Nothing is said yet: 5 of 20 calls that are wanted have come." in said
    assert "How many came 30 5" in said
    assert "Failed 0 % 0 % more than 5 % above" in said
    assert "Half took at most 12.5 ms 12.5 ms 3 times as long" in said
    again = await part(rig, browser, f"{PATH}/deployment")
    assert again.lstrip().startswith('<div id="results"')
    assert "<form" not in again


async def test_who_owns_it_goes_back_on_the_page_and_others_have_no_switch(rig: Rig) -> None:
    browser = await pat(rig)
    await rig.approve(2)
    await rig.look()
    page = await browser.get(f"{URL}{PATH}/deployment")
    done = await browser.press(page, "Go back", why="figures are wrong")
    assert done.headers["location"] == f"{PATH}/deployment?done=rollback"
    assert rig.serves() == declared(1).digest
    sol = Browser(URL, rig.hub.public)
    await sol.sign_in("sol")
    page = await sol.get(f"{URL}{PATH}/deployment")
    assert "Release 1.0.0 takes all calls" in words(page)
    assert '<h2 id="decide">' not in page.text
    ana = Browser(URL, rig.hub.public)
    await ana.sign_in("ana")
    assert (await ana.get(f"{URL}{PATH}/deployment")).status_code == 403
    assert "Deployment" not in words(await ana.get(f"{URL}{PATH}"))


async def test_each_switch_says_what_it_will_do_before_it_is_thrown(rig: Rig) -> None:
    browser = await pat(rig)
    said = words(await browser.get(f"{URL}{PATH}/deployment"))
    assert "Now 1 to 1, as its manifest says." in said
    assert "Go back" not in said
    await rig.approve(2)
    await rig.look()
    said = words(await browser.get(f"{URL}{PATH}/deployment"))
    assert "1.0.0 takes all calls again within seconds: its replicas are warm. 1.0.1 ends as rolled back" in said
    assert "The watch ends now: what is worse does not go back by itself any more." in said
    rig.clock.pass_s(301)
    await rig.look()
    said = words(await browser.get(f"{URL}{PATH}/deployment"))
    assert "1.0.0 is started first, and takes all calls when its replicas answer." in said
    assert "Deprecate it, or retire it" in said


async def test_a_server_is_started_again_on_its_page(rig: Rig) -> None:
    browser = await pat(rig)
    page = await browser.get(f"{URL}{PATH}/deployment")
    assert "New replicas of 1.0.0 come up with the secrets as they are now" in words(page)
    done = await browser.press(page, "Start it again", why="its password changed")
    assert done.headers["location"] == f"{PATH}/deployment?done=restart"
    assert (await rig.now()).turn == 1


async def test_an_open_page_says_when_what_it_offers_is_not_what_can_be_decided_any_more(rig: Rig) -> None:
    browser = await pat(rig)
    page = await browser.get(f"{URL}{PATH}/deployment")
    again = html.unescape(re.search(r'hx-get="([^"]+)"', page.text).group(1))  # type: ignore[union-attr]
    assert "Open it again" not in await part(rig, browser, again)
    await rig.approve(2)
    await rig.look()
    said = await part(rig, browser, again)
    assert "Open it again" in said
    assert again in html.unescape(said)


async def test_how_callers_are_shared_is_a_picture_with_words(rig: Rig) -> None:
    browser = await pat(rig)
    now = int(rig.clock() * 1000)
    await rig.deliver(1, [r for n in range(400) for r in call(f"before-{n}", now - 60_000 + n, tool="forecast")])
    await rig.approve(2, rollout={"steps": [10, 50], "step_minutes": 60})
    await rig.look()
    page = await browser.get(f"{URL}{PATH}/deployment")
    assert 'aria-label="10 percent of the callers have 1.0.1, on its way; 90 percent' in page.text
    assert 'aria-current="step"' in page.text


async def test_what_a_runtime_notes_of_a_release_is_read_beside_it_and_by_programs(rig: Rig) -> None:
    rig.machine.notes[declared(1).digest] = ("somebody changed its Deployment: " + HOSTILE,)
    await rig.look()
    page = await (await pat(rig)).get(f"{URL}{PATH}/deployment")
    assert "Somebody changed its Deployment" in words(page)
    assert "<script>alert" not in page.text
    assert "\u202e" not in page.text
    found = (await rig.hub.api("pat", f"servers/{SERVER}/deployment")).json()
    assert found["live"]["notes"] == list(rig.machine.notes[declared(1).digest])


async def test_a_live_release_of_which_nothing_answers_is_not_said_to_be_well(rig: Rig) -> None:
    rig.machine.broken[declared(1).digest] = "out of memory: it used 300 MiB of 256"
    await rig.look()
    browser = await pat(rig)
    said = words(await browser.get(f"{URL}{PATH}/deployment"))
    assert "Release 1.0.0 has all calls, and does not answer" in said
    assert "out of memory" in said
    page = await browser.get(f"{URL}{PATH}")
    assert f'href="{PATH}/deployment' in page.text.split("It does not run as it should.")[1].split("</div>")[0]


async def test_the_newest_submission_that_came_to_nothing_is_said_beside_what_is_live(rig: Rig) -> None:
    browser = await pat(rig)
    await rig.approve(2)
    rig.machine.broken[declared(2).digest] = "ended with 1"
    await rig.look()
    rig.clock.pass_s(200)
    await rig.machine.turn()
    await rig.look()
    said = words(await browser.get(f"{URL}{PATH}/deployment"))
    assert "Release 1.0.0 takes all calls" in said
    assert "The newest submission failed." in said
    assert "What happened to it" in said


async def test_what_nothing_runs_of_is_taken_back_on_its_page_with_a_reason(rig: Rig) -> None:
    browser = await pat(rig)
    second = await rig.approve(2)
    path = f"{URL}{PATH}/submissions/{second}"
    page = await browser.get(path)
    assert "What is live goes on, and the same files can be submitted again." in words(page)
    answer = await browser.press(page, "Take it back", why=" ")
    assert answer.status_code == 422
    assert "Nothing was done." in plain(answer.text)
    assert (await browser.press(page, "Take it back", why="the wrong branch")).status_code == 303
    page = await browser.get(path)
    assert "A newer one took its place" not in words(page)
    assert "taken back: the wrong branch" in words(page)
    assert "Take it back" not in words(page)
    assert (await browser.get(f"{path}/take-back")).status_code == 303
    sol = Browser(URL, rig.hub.public)
    await sol.sign_in("sol")
    assert "Take it back" not in words(await sol.get(f"{URL}{PATH}/submissions/{await rig.approve(3)}"))


async def test_what_cannot_be_done_is_said_on_the_page_and_what_was_filled_in_stays(rig: Rig) -> None:
    browser = await pat(rig)
    page = await browser.get(f"{URL}{PATH}/deployment")
    answer = await browser.press(page, "Keep it so", why="a busy week", min="9", max="2")
    assert answer.status_code == 422
    assert "Nothing was done. min: It is more than max." in plain(answer.text)
    assert 'value="a busy week"' in answer.text


async def test_a_server_that_is_followed_from_a_folder_is_not_said_to_be_undeployed(rig: Rig) -> None:
    said = words(await (await pat(rig)).get(f"{URL}/servers/prod/presto/deployment"))
    assert "Its releases come from a folder" in said
    assert "Nothing is deployed" not in said
    assert "pegboard submit" not in said


async def test_a_submission_tells_its_way_what_it_changes_and_where_it_comes_from(rig: Rig) -> None:
    browser = await pat(rig)
    second = await rig.approve(2)
    await rig.look()
    said = words(await browser.get(f"{URL}{PATH}/submissions/{second}"))
    assert "It is live" in said
    assert "Deploying: starting" in said
    assert "Live: watching" in said
    assert "What it changes of release 1.0.0" in said
    assert "tool forecast: description" in said
    assert "signed by this instance" in said
    assert (await browser.get(f"{URL}/servers/prod/presto/submissions/{second}")).status_code == 404
    assert (await browser.get(f"{URL}{PATH}/submissions/nothing")).status_code == 404


async def test_a_submission_that_failed_says_what_to_do_and_hides_nothing_of_a_strangers_text(rig: Rig) -> None:
    browser = await pat(rig)
    second = await rig.approve(2)
    rig.machine.broken[declared(2).digest] = HOSTILE
    await rig.look()
    rig.clock.pass_s(200)
    await rig.machine.turn()
    await rig.look()
    page = await browser.get(f"{URL}{PATH}/submissions/{second}")
    assert "It failed" in words(page)
    assert "<script>alert" not in page.text
    assert "\u202e" not in page.text
    assert "Look at its logs, mend it, and submit it again." in words(page)


async def test_logs_are_searched_by_everything_that_is_asked_for(rig: Rig, logs: Lines) -> None:
    browser = await pat(rig)
    logs.lines = (
        LogLine(at="2027-01-31T14:00:00Z", level="ERROR", release="a" * 64, replica="aaaaaaaa-0", text=HOSTILE),
        LogLine(release="a" * 64, replica="aaaaaaaa-0", request_id="r-1", text="it\nhas lines", more={"n": 1}),
    )
    asked = {"q": "boom", "request_id": "r-1", "release": "aaaa", "replica": "aaaaaaaa-0", "since": "2027-01-31"}
    page = await browser.get(f"{URL}{PATH}/logs?{urlencode(asked)}")
    assert "has lines" in words(page)
    assert "<script>alert" not in page.text
    assert "\u202e" not in page.text
    assert logs.asked[-1] == LogQuestion(server=SERVER, **asked)
    token = await rig.hub.token("pat")
    answer = await rig.hub.public.get(
        f"/api/v1{PATH}/logs", params=asked, headers={"Authorization": f"Bearer {token}"}
    )
    assert [line["replica"] for line in answer.json()["lines"]] == ["aaaaaaaa-0", "aaaaaaaa-0"]


WRONG: tuple[dict[str, Any], ...] = ({"release": "xyz"}, {"since": "yesterday"}, {"replica": "../x"})


async def test_what_cannot_be_looked_for_is_named_and_a_runtime_that_is_away_is_said(rig: Rig, logs: Lines) -> None:
    browser = await pat(rig)
    for query in WRONG:
        answer = await browser.get(f"{URL}{PATH}/logs?{urlencode(query)}")
        assert answer.status_code == 422
        assert 'class="problem"' in answer.text
    assert logs.asked == []
    logs.away = True
    assert "cannot be read now: the runtime does not answer" in words(await browser.get(f"{URL}{PATH}/logs"))


async def test_logs_are_for_nobody_but_owners_and_operators(rig: Rig, logs: Lines) -> None:
    for person in ("sol", "ana", "lea"):
        browser = Browser(URL, rig.hub.public)
        await browser.sign_in(person)
        assert (await browser.get(f"{URL}{PATH}/logs")).status_code == 403
        assert (await rig.hub.api(person, f"servers/{SERVER}/logs")).status_code == 403
    assert logs.asked == []
