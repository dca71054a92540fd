"""The home page: what it shows to whom, and what it never shows."""

from __future__ import annotations

import time

import pytest

from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.model import Lifecycle
from pegboard_hub.web.pages.home import first_setting
from tests.hub.company import Company, Hub, call, denial, edge_refusal, opened, plain, presto

pytestmark = pytest.mark.anyio

NOW = int(time.time() * 1000)


def live(
    company: Company, mode: str = "user", why: str = "", age_s: float = 0, servers: dict[str, str] | None = None
) -> None:
    company.report(
        servers=servers,
        at=time.time() - age_s,
        isolation={"mode": mode, "why": why},
        processes=[
            {"name": "prod/presto", "state": "live", "pid": 7, "since": 1, "restarts": 0, "last_error": ""},
            {"name": "dev/scratch", "state": "down", "pid": None, "since": 1, "restarts": 3, "last_error": "x"},
        ],
    )


async def test_every_server_is_shown_with_whose_it_is_and_how_it_stands(hub: Hub, company: Company) -> None:
    live(company)
    page = await hub.page()
    for words in (
        "prod/presto",
        "Query the warehouse",
        "#data-platform",
        "confidential",
        "dev/scratch",
        'class="state live">live',
        'class="state down">down',
    ):
        assert words in page


async def test_nobody_in_particular_sees_no_tool(hub: Hub) -> None:
    page = await hub.page()
    assert "Choose a person to see this page as they see it." in page
    for words in ("run_query", "get_revenue_metrics", "echo", "Run SQL.", "Recent calls"):
        assert words not in page


@pytest.mark.parametrize(
    ("person", "surface", "seen", "hidden"),
    [
        ("ana", "cli", {"run_query", "get_revenue_metrics", "echo"}, set()),
        ("ana", "chat", {"run_query", "get_revenue_metrics"}, {"echo"}),
        ("fay", "cli", {"run_query", "echo"}, {"get_revenue_metrics"}),
        ("sam", "cli", {"echo"}, {"run_query", "get_revenue_metrics"}),
        ("gus", "cli", set(), {"run_query", "get_revenue_metrics", "echo"}),
    ],
)
async def test_a_person_sees_their_own_tools_and_no_others(
    hub: Hub, person: str, surface: str, seen: set[str], hidden: set[str]
) -> None:
    page = await hub.page(**{"as": person, "surface": surface})
    for tool in seen:
        assert f"{tool}</bdi></code>" in page
    for tool in hidden:
        assert tool not in page


async def test_somebody_without_any_server_is_told_whom_to_ask(hub: Hub) -> None:
    page = plain(await hub.page(**{"as": "gus"}))
    assert "Gus may use no server from cli yet." in page
    assert "is not granted to any of your groups. Ask platform in #data-platform." in page
    assert "Gus has called nothing yet." in page


async def test_an_unknown_person_is_told_who_there_is(hub: Hub) -> None:
    page = await hub.page(**{"as": "<b>eve"})
    assert "&lt;b&gt;eve" in page
    assert "<b>eve" not in page
    assert "ana, fay, sam, pat, sol, lea, gus" in page


async def test_what_authors_write_is_text_and_never_markup(company: Company) -> None:
    evil = "<script>alert(1)</script>"
    declared = presto(description=evil, support_channel='"><img src=x>')
    declared["tools"][0]["description"] = evil
    company.deploy("prod/presto", declared)
    async with opened(company) as hub:
        page = await hub.page(**{"as": "ana"})
    assert page.count("&lt;script&gt;") == 1
    assert "<script" not in page
    assert "<img src=x" not in page


async def test_figures_and_calls_are_told(hub: Hub, company: Company) -> None:
    channel = company.open_channel("prod/presto", company.deploy("prod/presto", presto()))
    await hub.deliver(
        channel,
        *(record for n in range(5) for record in call(f"a{n}", NOW, tool="get_revenue_metrics")),
        *call("p", NOW, sub="pat", tool="get_revenue_metrics"),
        denial("3", NOW),
    )
    await hub.deliver_edge(edge_refusal("e", NOW))
    page = " ".join((await hub.page(**{"as": "ana"})).split())
    assert '<dt>Hours saved</dt><dd>2.5</dd><dd class="note">as declared by owners</dd>' in page
    assert '<dt>Calls</dt><dd>6</dd><dd class="note">that ended well</dd>' in page
    assert "<dt>Callers</dt><dd>2</dd>" in page
    assert "surface not granted" in page
    assert "Try it" not in page
    own = " ".join((await hub.page(**{"as": "fay"})).split())
    assert "tool unavailable" in own
    assert "ads-revenue" not in own


async def test_records_that_cannot_be_read_are_a_problem_of_their_server(hub: Hub, company: Company) -> None:
    presto, scratch = company.open_channel("prod/presto", "r"), company.open_channel("dev/scratch", "r")
    assert "could not be read" not in await hub.page()
    await hub.deliver(presto, *({"kind": "rumour", "n": n} for n in range(3)))
    await hub.deliver(scratch, {"kind": "<b>"})
    page = await hub.page()
    assert "prod/presto: 3 records could not be read; see the hub&#39;s log." in page
    assert "dev/scratch: 1 record could not be read; see the hub&#39;s log." in page


async def test_an_owner_sees_all_calls_on_their_servers_with_reasons(hub: Hub, company: Company) -> None:
    await hub.deliver(company.open_channel("prod/presto", "r"), denial("3", NOW))
    page = await hub.page(**{"as": "pat"})
    assert "policy ads-revenue does not permit it" in page
    assert ">fay<" in page


async def test_servers_that_nobody_can_call_are_not_counted(hub: Hub) -> None:
    assert "<dt>Servers</dt><dd>2</dd>" in await hub.page()
    async with hub.parts.registry.changing() as changing:
        values = {"lifecycle": Lifecycle.RETIRED, "lifecycle_why": "it ends"}
        await changing.apply(Change("dev/scratch", Actor("pat"), "retire", "it ends", values=values))
    assert "<dt>Servers</dt><dd>1</dd>" in await hub.page()
    assert ">dev/scratch</a>" not in await hub.page(**{"as": "pat"})


async def test_servers_are_called_open_to_somebody_only_where_all_that_are_shown_are(hub: Hub) -> None:
    assert "<h2>Open to Ana</h2>" in await hub.page(**{"as": "ana"})
    shown = await hub.page(**{"as": "sam"})
    assert "Not for Sam." in plain(shown)
    assert "<h2>Servers</h2>" in shown
    assert "<h2>Open to Sam</h2>" not in shown


@pytest.mark.parametrize(
    ("url", "setting"),
    [
        ("http://localhost:8400", ""),
        ("http://localhost:8500", "export PEGBOARD_PORT=8500"),
        ("https://mcp.acme.com", "export PEGBOARD_PUBLIC_URL=https://mcp.acme.com"),
        ("http://localhost", "export PEGBOARD_PUBLIC_URL=http://localhost"),
    ],
)
def test_a_terminal_is_told_where_the_instance_is_as_the_tutorial_says(url: str, setting: str) -> None:
    assert first_setting(url) == setting


async def test_a_newcomer_finds_three_commands_to_try(hub: Hub) -> None:
    page = await hub.page()
    assert page.count("\npegboard ") + page.count("<code>pegboard ") == 3


@pytest.mark.parametrize("age_s", [60.0, None])
async def test_a_supervisor_that_does_not_report_makes_every_state_unknown(
    hub: Hub, company: Company, age_s: float | None
) -> None:
    if age_s is not None:
        live(company, age_s=age_s)
    page = await hub.page()
    assert page.count('class="state unknown"') == 2
    assert "isolation: unknown" in page


@pytest.mark.parametrize("text", ["", "{", "[]", '{"at": "soon"}'])
async def test_a_broken_status_file_makes_every_state_unknown(hub: Hub, company: Company, text: str) -> None:
    company.home.status.write_text(text)
    assert (await hub.page()).count('class="state unknown"') == 2


async def test_isolation_that_is_off_is_said_plainly(hub: Hub, company: Company) -> None:
    live(company, mode="off", why="bwrap is not installed")
    page = await hub.page()
    assert "Isolation is off." in page
    assert "bwrap is not installed" in page
    live(company, mode="bubblewrap")
    assert "Isolation is off." not in await hub.page()


async def test_visitors_are_told_how_servers_are_kept_apart_and_no_more(hub: Hub, company: Company) -> None:
    live(company, mode="user", why="bwrap is not installed")
    page = await hub.page()
    assert "isolation: user ·" in page
    assert "bwrap" not in page


async def test_an_empty_registry_says_how_a_server_gets_here(company: Company) -> None:
    company.grants.write_text("# none\n")
    async with opened(company) as hub:
        page = await hub.page()
    assert "No server is registered." in page
    assert "it is built and started at once" in page


async def test_a_server_that_the_supervisor_has_not_taken_on_yet_is_said_to_start_soon(
    hub: Hub, company: Company
) -> None:
    live(company, servers={"prod/presto": "../../../../servers/presto"})
    company.grants.write_text(company.grants.read_text() + '[servers."dev/weather"]\nsource = "w"\n')
    await hub.parts.registry.refresh()
    page = await hub.page()
    assert page.count('class="state not-started">starting soon') == 2
    assert "Its release is being made." in page
    assert "not deployed" not in page
    listed = (await hub.api("ana", "servers")).json()["servers"]
    assert {each["server"]: each["status"] for each in listed} == {
        "prod/presto": "live",
        "dev/scratch": "not started",
    }


async def test_pages_run_no_script_load_nothing_from_elsewhere_and_are_not_kept(hub: Hub) -> None:
    response = await hub.public.get("/")
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "script-src" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["cache-control"] == "no-store"
    assert "style=" not in response.text
    assert "//" not in response.text.replace("http://localhost:8400", "")


async def test_the_pages_own_files_are_served(hub: Hub) -> None:
    page = await hub.page()
    style = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
    assert (await hub.public.get(style)).headers["content-type"].startswith("text/css")
    assert (await hub.public.get("/static/pegboard.svg")).status_code == 200
    assert (await hub.public.get("/static/%2e%2e/routes.py")).status_code == 404
