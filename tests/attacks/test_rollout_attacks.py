"""Who may decide on what runs of a server, and who may not: attacked at every door."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from itertools import product
from typing import Any

import httpx2
import pytest

from pegboard_hub.publishing.orders import DESIRED, OBSERVED
from tests.folders import new_folder
from tests.hub.company import URL, Company, call, denial, found_company
from tests.hub.rolling import SERVER, Rig, declared, rig_of
from tests.oauth import Browser, forms_of

pytestmark = pytest.mark.anyio

ACTIONS = ("promote", "rollback", "pause", "resume", "scale")


@pytest.fixture
def company() -> Iterator[Company]:
    root = new_folder()
    yield found_company(root)
    shutil.rmtree(root)


@pytest.fixture
async def rig(company: Company) -> AsyncIterator[Rig]:
    async with rig_of(company) as found:
        await found.live(1, 2)
        yield found


async def state(rig: Rig) -> tuple[Any, ...]:
    now = await rig.now()
    return (now.version, now.live, now.candidate, now.paused, rig.serves())


STRANGERS = ("ana", "fay", "sol", "lea", "gus")
"""People of other teams, of security and of legal, and one of no group."""

NO_RELEASES = (
    *("../../../etc", "%", "______", "a", "' or 1=1 --", "0" * 64, "sub" + "0" * 29),
    "\u0660\u0661\u0662\u0663\u0664\u0665",
)

NO_NUMBERS: tuple[dict[str, Any], ...] = (
    {"min": -1},
    {"max": 0},
    {"max": 101},
    {"min": 3, "max": 2},
    {"min": True},
    {"min": "1"},
)


async def test_nobody_but_owners_and_operators_decides(rig: Rig) -> None:
    before = await state(rig)
    for person, action in product(STRANGERS, [*(f"deployment/{each}" for each in ACTIONS), "deprecate", "retire"]):
        answer = await rig.post(person, action, why="mine now")
        assert answer.status_code in (403, 404), (person, action, answer.text)
    assert await state(rig) == before


async def test_nobody_decides_without_a_token_or_with_one_for_a_server(rig: Rig) -> None:
    token = await rig.hub.token("pat", resource=f"http://localhost:8400/mcp/{SERVER}")
    wrong = ({}, {"Authorization": f"Bearer {token}"}, {"Authorization": "Bearer operator-token-of-the-test"})
    for action, headers in product(ACTIONS, wrong):
        path = f"/api/v1/servers/{SERVER}/deployment/{action}"
        answer = await rig.hub.public.post(path, json={"why": "mine now"}, headers=headers)
        assert answer.status_code == 401, answer.text


async def test_no_release_is_deployed_that_is_not_an_approved_one_of_this_server(rig: Rig) -> None:
    before = await state(rig)
    for release, action in product(NO_RELEASES, ("promote", "rollback")):
        answer = await rig.post("pat", f"deployment/{action}", why="this one", release=release)
        assert answer.status_code in (404, 422), (release, answer.text)
    assert await state(rig) == before


async def test_a_release_that_was_never_approved_is_not_promoted(rig: Rig) -> None:
    third = await rig.approve(3)
    await rig.reject(third)
    answer = await rig.post("pat", "deployment/promote", why="this one", release=declared(3).digest)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert rig.serves() == declared(2).digest


async def test_a_release_of_another_server_is_not_deployed(rig: Rig) -> None:
    await rig.approve(7, "prod/other")
    await rig.look()
    answer = await rig.post("pat", "deployment/rollback", why="this one", release=declared(7, "prod/other").digest)
    assert answer.status_code == 404
    assert rig.serves() == declared(2).digest


async def test_no_number_of_replicas_that_cannot_be(rig: Rig) -> None:
    before = await state(rig)
    for body in NO_NUMBERS:
        assert (await rig.post("pat", "deployment/scale", why="more", **body)).status_code == 422, body
    assert await state(rig) == before


async def test_nobody_but_the_operators_own_process_is_told_what_runs_or_says_what_does(rig: Rig) -> None:
    word = {"runtime": "machine", "version": "", "releases": []}
    for token in ("", "channel-of-prod/presto", "a" * 64):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        assert (await rig.hub.internal.get(DESIRED, headers=headers)).status_code == 401
        assert (await rig.hub.internal.post(OBSERVED, json=word, headers=headers)).status_code == 401
        assert (await rig.hub.public.get(DESIRED, headers=headers)).status_code == 404


async def test_what_a_runtime_says_is_held_to_its_model(rig: Rig) -> None:
    assert rig.machine.told is not None
    sent = rig.machine.observed(rig.machine.told).model_dump(mode="json") | {"more": 1}
    headers = {"Authorization": "Bearer operator-token-of-the-test"}
    assert (await rig.hub.internal.post(OBSERVED, json=sent, headers=headers)).status_code == 422


async def watched(rig: Rig) -> str:
    """Version 4 takes all calls and is watched; others called the one before, and it went well."""
    now = int(rig.clock() * 1000)
    await rig.deliver(2, of_callers("before", {"sam": 40, "ana": 40, "pat": 20}, now - 60_000))
    fourth = await rig.approve(4)
    await rig.look()
    assert await rig.state(fourth) == ("live", "watching")
    return fourth


def of_callers(prefix: str, counts: dict[str, int], at_ms: int, status: str = "ok", ms: float = 10.0) -> list[Any]:
    """Records of so many calls of each."""
    found: list[Any] = []
    for sub, count in counts.items():
        for number in range(count):
            begun, ended = call(f"{prefix}-{sub}-{number}", at_ms + number, tool="forecast", status=status, sub=sub)
            found += [begun, {**ended, "duration_ms": ms}]
    return found


ALONE = [
    ("calls that fail", lambda at: of_callers("x", {"eve": 60}, at, status="tool_error")),
    ("calls that are slow", lambda at: of_callers("x", {"eve": 60}, at, ms=9_000.0)),
    ("calls that are denied", lambda at: [denial(f"x-{number}", at + number, sub="eve") for number in range(60)]),
]


OTHERS = [
    ({"sam": 4, "ana": 4}, "one caller alone meets it"),
    ({"sam": 4}, "one caller alone meets it, and 4 of 5 calls of others that are wanted have come"),
    ({}, "one caller alone meets it, and 0 of 5 calls of others that are wanted have come"),
]


@pytest.mark.parametrize(("others", "said"), OTHERS, ids=["others called", "few called", "nobody else called yet"])
@pytest.mark.parametrize(("how", "made"), ALONE, ids=[how for how, _ in ALONE])
async def test_no_caller_takes_anothers_release_back_by_calls_of_their_own(
    rig: Rig, how: str, made: Any, others: dict[str, int], said: str
) -> None:
    fourth, at = await watched(rig), int(rig.clock() * 1000)
    await rig.deliver(4, of_callers("after", others, at), made(at))
    rig.clock.pass_s(3)
    await rig.look()
    assert await rig.state(fourth) == ("live", "watching"), how
    watch = (await rig.hub.api("pat", f"servers/{SERVER}/deployment")).json()["watch"]
    assert watch["unsaid"].endswith(said)


async def test_who_alone_calls_a_server_has_its_bad_release_taken_back(rig: Rig) -> None:
    now = int(rig.clock() * 1000)
    await rig.deliver(2, of_callers("before", {"eve": 40}, now - 60_000))
    fourth = await rig.approve(4)
    await rig.look()
    await rig.deliver(4, of_callers("after", {"eve": 40}, int(rig.clock() * 1000), status="tool_error"))
    rig.clock.pass_s(3)
    await rig.look()
    assert (await rig.state(fourth))[0] == "rolled back"


async def test_no_caller_keeps_a_bad_release_by_calls_of_their_own_that_go_well(rig: Rig) -> None:
    fourth, at = await watched(rig), int(rig.clock() * 1000)
    good = of_callers("x", {"eve": 60}, at)
    await rig.deliver(4, of_callers("after", {"sam": 10, "ana": 10}, at, status="crashed"), good)
    rig.clock.pass_s(3)
    await rig.look()
    assert (await rig.state(fourth))[0] == "rolled back"


STRAYS = {
    "one address twice": ["unix:s/prod.weather/a.sock", "unix:s/prod.weather/a.sock"],
    "a port beside a socket": ["unix:s/prod.weather/a.sock", "spiffe://x.org/a@10.0.0.1:80"],
    "a port alone": ["spiffe://x.org/a@169.254.169.254:80"],
    "the hub": ["unix:hub/hub.sock"],
    "the internal door": ["unix:internal/internal.sock"],
    "Envoy's administration": ["unix:edge/admin.sock"],
    "another server": ["unix:s/prod.presto/mcp.sock"],
    "a server whose name begins so": ["unix:s/prod.weather-2/mcp.sock"],
    "nowhere": ["nonsense"],
}


@pytest.mark.parametrize("stray", STRAYS)
async def test_no_runtime_sends_calls_elsewhere_or_keeps_edges_from_their_bundles(rig: Rig, stray: str) -> None:
    assert rig.machine.told is not None
    before = {each.address for each in rig.hub.parts.registry.current.servers[SERVER].endpoints}
    word = rig.machine.observed(rig.machine.told).model_dump(mode="json")
    [release] = [each for each in word["releases"] if each["release"] == declared(2).digest]
    [replica] = release["replicas"]
    release["replicas"] = [
        {**replica, "id": f"x{number}", "address": address} for number, address in enumerate(STRAYS[stray])
    ]
    headers = {"Authorization": "Bearer operator-token-of-the-test"}
    await rig.hub.internal.post(OBSERVED, json=word, headers=headers)
    await rig.deployments.look()
    after = rig.hub.parts.registry.current.servers[SERVER]
    assert {each.address for each in after.endpoints} <= before | {"unix:s/prod.weather/a.sock"}
    assert after.bundled().server == SERVER  # edges' bundles can be made


SWITCHES = ("promote", "rollback", "pause", "resume", "scale", "restart")


async def pressed(rig: Rig, browser: Browser, action: str, form: dict[str, str], **headers: str) -> httpx2.Response:
    """A switch's form, sent with a browser's session."""
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    honest = {"Origin": URL, "Sec-Fetch-Site": "same-origin", "Cookie": cookies}
    address = f"/servers/{SERVER}/deployment/{action}"
    return await rig.hub.public.post(address, data=form, headers={**honest, **headers})


async def test_no_page_throws_a_switch_for_somebody_elses_site_or_for_who_may_only_look(rig: Rig) -> None:
    pat, sol = Browser(URL, rig.hub.public), Browser(URL, rig.hub.public)
    await pat.sign_in("pat")
    await sol.sign_in("sol")
    page = await pat.get(f"{URL}/servers/{SERVER}/deployment")
    mine: dict[str, str] = next(f["fields"] for f in forms_of(page) if f["action"].endswith("/deployment/pause"))
    hers = forms_of(await sol.get(f"{URL}/servers/{SERVER}/deployment"))[0]["fields"]
    why = {"why": "mine now"}
    assert (await pressed(rig, pat, "pause", {**mine, **why})).status_code == 303  # as it is meant
    await rig.post("pat", "deployment/resume", why="on")
    before = await state(rig)
    for action in SWITCHES:
        elsewhere = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        for browser, form, headers in (
            (pat, why, {}),  # a form of a site that knows no token
            (pat, {**mine, **why, "form_token": "x"}, {}),
            (pat, {**mine, **why}, elsewhere),
            (sol, {**mine, **why}, {}),  # another's form, with the session of one who may look
            (sol, {**hers, **why}, {}),  # her own form of another page
            (sol, why, {}),
        ):
            answer = await pressed(rig, browser, action, form, **headers)
            assert answer.status_code in (403, 404), (action, form, answer.status_code)
    assert await state(rig) == before
