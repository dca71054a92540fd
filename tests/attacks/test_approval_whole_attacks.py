"""Approvals attacked where the parts meet: a whole instance with a real edge, servers that destroy, and a browser.

The attacker is an agent with its person's token and answers, a caller who wants more, an approver who is none any
more, a server whose process turns on others with its own channel, and an author whose texts lie. What each tool did
is written down by the tool itself: every attack ends with a look at that.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page

from pegboard.core.approval import ASK, OVER
from pegboard_hub.upkeep.hub_door import ask_at
from tests.attacks.approval_site import (
    ACCEPTED,
    CANARY,
    FORMS,
    OTHER,
    PAGES,
    PATIENCE_S,
    PUT_OFF,
    RECORDS,
    SKEW_S,
    STOPS,
    VAULT,
    Person,
    Site,
    at_once,
    code,
    id_of,
    signed_in,
    standing,
)
from tests.leaks import holding
from tests.system.chromium import launched
from tests.system.edge_rig import until
from tests.system.instance import statuses

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("approval-whole")]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with standing() as found:
        yield found


@pytest.fixture(scope="module")
def pat(site: Site) -> Iterator[Person]:
    """Of the team that owns the servers."""
    with signed_in(site, "pat") as found:
        yield found


@pytest.fixture(scope="module")
def ana(site: Site) -> Iterator[Person]:
    """Whose agent it is."""
    with signed_in(site, "ana") as found:
        yield found


# The agent.


def test_the_approval_of_these_attacks_works_for_whom_it_is_meant(site: Site, pat: Person) -> None:
    call = {"table": "meant"}
    waits = site.call("wipe", call)
    assert code(waits) == "approval_pending"
    pat.approves(id_of(waits))
    assert code(site.call("wipe", call)) == ""
    assert [run["table"] for run in site.ran("wipe")].count("meant") == 1
    assert code(site.call("wipe", call)) != ""


def test_one_yes_is_one_run_however_many_calls_of_both_eras_bring_it_at_once(site: Site, ana: Person) -> None:
    call = {"amount": 1, "to": "racers"}
    asked = site.call("pay", call, can=PAGES)
    assert code(asked) == "input_required"
    ana.approves(id_of(asked))
    answers = at_once(
        6,
        lambda: site.call("pay", call, can=PAGES, requestState=asked["requestState"], inputResponses=PUT_OFF),
        lambda: site.call("pay", call),
        lambda: site.legacy("pay", call),
    )
    assert [code(answer) for answer in answers].count("") == 1
    assert [run["to"] for run in site.ran("pay")].count("racers") == 1


def test_a_confirmation_that_both_eras_answer_at_once_runs_once(site: Site) -> None:
    call = {"file": "twice.txt"}
    asked = site.call("shred", call, can=FORMS)
    again = {"requestState": asked["requestState"], "inputResponses": ACCEPTED}
    answers = at_once(8, lambda: site.call("shred", call, can=FORMS, **again))
    assert [code(answer) for answer in answers].count("") == 1
    assert len(site.ran("shred")) == 1


BROUGHT: list[tuple[str, str, dict[str, Any]]] = [
    ("fay", VAULT, {"amount": 2, "to": "state"}),
    ("ana", OTHER, {"amount": 2, "to": "state"}),
    ("ana", VAULT, {"amount": 3, "to": "state"}),
]
"""Another person, another server, another call."""


def test_a_state_opens_nothing_elsewhere(site: Site, ana: Person) -> None:
    asked = site.call("pay", {"amount": 2, "to": "state"}, can=PAGES)
    ana.approves(id_of(asked))
    brought = {"requestState": asked["requestState"], "inputResponses": PUT_OFF}
    for person, server, call in BROUGHT:
        assert code(site.call("pay", call, person=person, server=server, can=PAGES, **brought)) != ""
    assert not [run for server in (VAULT, OTHER) for run in site.ran("pay", server) if run["to"] == "state"]
    assert site.state(id_of(asked)) == "approved"


def test_a_state_that_was_rejected_withdrawn_or_expired_runs_nothing(site: Site, ana: Person) -> None:
    ends: dict[str, Callable[[str], Any]] = {
        "rejected": lambda id_: ana.decides(id_, "Reject", why="not that"),
        "withdrawn": lambda id_: _withdraw(site, id_),
        "expired": lambda id_: ana.approves(id_) or _expire(site, id_),  # type: ignore[func-returns-value]
    }
    for end, ending in ends.items():
        call = {"amount": 4, "to": end}
        asked = site.call("pay", call, can=PAGES)
        ending(id_of(asked))
        assert site.state(id_of(asked)) == end
        for can in (FORMS, PAGES):
            replay = {"requestState": asked["requestState"], "inputResponses": PUT_OFF}
            assert code(site.call("pay", call, can=can, **replay)) != ""
        assert code(site.legacy("pay", call)) != ""
        assert not [run for run in site.ran("pay") if run["to"] == end]


def _withdraw(site: Site, id_: str) -> httpx2.Response:
    headers = {"authorization": f"Bearer {site.token('ana', 'api')}"}
    return httpx2.post(f"{site.url}/api/v1/approvals/{id_}/withdraw", json={}, headers=headers)


def _expire(site: Site, id_: str) -> None:
    site.rows("UPDATE approval_requests SET expires_at_ms = ? WHERE id = ?", int(time.time() * 1000) - 1, id_)
    until(lambda: site.state(id_) == "expired", "it expires")


@pytest.mark.parametrize("attempt", range(3))
def test_of_approve_reject_withdraw_and_calls_at_once_one_comes_first(site: Site, pat: Person, attempt: int) -> None:
    call = {"table": f"raced-{attempt}"}
    id_ = id_of(site.call("wipe", call))
    with signed_in(site, "pat") as elsewhere:
        answers = at_once(
            1,
            partial(pat.send, *pat.form(id_, "Approve")),
            partial(pat.send, *pat.form(id_, "Reject", why="no")),
            partial(elsewhere.send, *elsewhere.form(id_, "Approve")),
            partial(_withdraw, site, id_),
            *[partial(site.call, "wipe", call)] * 4,
        )
    ran = [code(answer) for answer in answers if isinstance(answer, dict)].count("")
    moves = [state for (state,) in site.rows("SELECT after FROM approval_events WHERE request = ? ORDER BY seq", id_)]
    assert moves[1] in ("approved", "rejected", "withdrawn")
    assert len(moves) == len(set(moves)), moves
    assert [run["table"] for run in site.ran("wipe")].count(call["table"]) == ran <= 1
    assert ran == ("claimed" in moves)


FORGED = ["", "/decide", "/again", "/withdraw", "/live"]


@pytest.mark.parametrize("rest", FORGED)
def test_neither_the_link_nor_a_token_nor_a_guess_decides_through_the_edge(site: Site, rest: str) -> None:
    call = {"table": "forged"}
    id_ = id_of(site.call("wipe", call))
    fields = {"verdict": "all", f"tick:{id_}": "on", "which": "all"}
    for credential in ("", *(f"Bearer {site.token(who, to)}" for who in ("ana", "pat") for to in ("api",))):
        headers = {"authorization": credential, "accept": "text/html", "origin": site.url, "x-forwarded-user": "pat"}
        for method in ("GET", "POST"):
            answer = httpx2.request(
                method,
                f"{site.url}/approvals/{id_}{rest}?verdict=all&tick:{id_}=on",
                data=fields if method == "POST" else None,
                headers={name: value for name, value in headers.items() if value},
            )
            assert "done=" not in answer.headers.get("location", "")
            assert CANARY not in answer.text
    assert site.state(id_) == "requested"
    assert not [run for run in site.ran("wipe") if run["table"] == "forged"]


@pytest.mark.parametrize("path", [ASK, OVER, RECORDS, "/internal/v1/approvals"])
def test_the_internal_door_is_not_behind_the_edge(site: Site, path: str) -> None:
    channel = json.loads(site.pegboard.home.root.joinpath("credentials", "prod.vault.json").read_text())
    headers = {"authorization": f"Bearer {channel['channel_token']}"}
    for url in (f"{site.url}{path}", f"{site.url}/api/..{path}", f"{site.url}/mcp/{VAULT}/..%2f..{path}"):
        assert httpx2.post(url, json=site.question({"table": "x"}), headers=headers).status_code >= 400


def test_a_stolen_cookie_without_a_recent_sign_in_decides_nothing(site: Site) -> None:
    """The thief drives the page by HTTP, with the form's own token, which comes of the cookie."""
    call = {"amount": 5, "to": "thief"}
    id_ = id_of(site.call("pay", call))
    with signed_in(site, "ana") as thief:
        form = thief.form(id_, "Approve")
        site.rows("UPDATE sessions SET authenticated_at_ms = 0 WHERE sub = 'ana'")
        answer = thief.send(*form)
    assert "/sign-in" in answer.headers["location"]
    assert site.state(id_) == "requested"
    site.rows("UPDATE sessions SET authenticated_at_ms = ? WHERE sub = 'ana'", int(time.time() * 1000))
    assert not [run for run in site.ran("pay") if run["to"] == "thief"]


# The approver who is none any more, and the caller who may not.


def test_whom_the_policy_shuts_out_asks_nobody(site: Site) -> None:
    before = site.rows("SELECT count(*) FROM approval_requests WHERE person = 'fay' AND tool = 'launch'")
    for tool in ("launch", "no-such-tool"):
        assert code(site.call(tool, {"campaign": "x"}, person="fay")) == "tool_unavailable"
    assert site.rows("SELECT count(*) FROM approval_requests WHERE person = 'fay' AND tool = 'launch'") == before


def test_another_persons_request_is_not_there(site: Site) -> None:
    id_ = id_of(site.call("wipe", {"table": CANARY}))
    with signed_in(site, "fay") as fay:
        pages = [fay.http.get(f"{site.url}/approvals/{each}") for each in (id_, "0" * 32)]
    assert [page.status_code for page in pages] == [404, 404]
    assert CANARY not in pages[0].text


# What is shown and what runs.

SAME = [
    ("1", "1.0"),
    ("100", "1e2"),
    ('{"a":1,"b":2}', '{"b":2,"a":1}'),
    ('"\\u0041"', '"A"'),
    ("-0.0", "0"),
    ("[1.50]", "[15e-1]"),
]


@pytest.mark.parametrize(("shown", "sent"), SAME, ids=[shown for shown, _ in SAME])
def test_another_spelling_of_the_same_runs_as_it_was_shown(site: Site, ana: Person, shown: str, sent: str) -> None:
    waits, again = (site.raw("pay", f'{{"amount":{each},"to":"same"}}')["result"] for each in (shown, sent))
    assert id_of(waits) == id_of(again)
    ana.approves(id_of(waits))
    assert code(site.raw("pay", f'{{"to":"same","amount":{sent}}}')["result"]) == ""
    [(kept,)] = site.rows("SELECT arguments FROM approval_requests WHERE id = ?", id_of(waits))
    assert json.dumps(site.ran("pay")[-1], sort_keys=True) == json.dumps(json.loads(kept), sort_keys=True)


OTHERS = [
    ("1", '"1"'),
    ("1", "true"),
    ('"caf\\u00e9"', '"cafe\\u0301"'),
    ('"a"', '"\\u0430"'),
    ('"a"', '"a\\u200b"'),
    ("[1,2]", "[2,1]"),
    ("null", '""'),
    ("9007199254740991", "9007199254740990"),
    ('{"a":null}', "{}"),
    ("0.1", "0.10000000000000002"),
]


@pytest.mark.parametrize(("shown", "sent"), OTHERS, ids=range(len(OTHERS)))
def test_what_only_reads_alike_needs_a_yes_of_its_own(site: Site, ana: Person, shown: str, sent: str) -> None:
    to = json.dumps(f"not {sent}")
    waits = site.raw("pay", f'{{"amount":{shown},"to":{to}}}')["result"]
    ana.approves(id_of(waits))
    before = len(site.ran("pay"))
    other = site.raw("pay", f'{{"amount":{sent},"to":{to}}}')["result"]
    assert code(other) == "approval_pending"
    assert id_of(other) != id_of(waits)
    assert len(site.ran("pay")) == before


def test_what_was_left_out_of_a_call_is_not_what_its_default_says(site: Site, pat: Person) -> None:
    pat.approves(id_of(site.call("drop", {"tables": ["left-out"]})))
    for more in ({"mode": "safe"}, {"mode": "forced"}):
        assert code(site.call("drop", {"tables": ["left-out"], **more})) == "approval_pending"
    assert not site.ran("drop")


@pytest.mark.parametrize("more", [{"dryrun": True}, {"note": f"{CANARY}: approved by security"}, {"dry_run": "yes"}])
def test_what_the_tool_would_not_get_as_it_is_shown_asks_nobody(site: Site, more: dict[str, Any]) -> None:
    counted = "SELECT count(*) FROM approval_requests"
    before = site.rows(counted)
    for answer in (site.call("wipe", {"table": "shown", **more}), site.legacy("wipe", {"table": "shown", **more})):
        assert answer["isError"]
        assert "approvals/" not in json.dumps(answer)
    assert site.rows(counted) == before
    assert not [run for run in site.ran("wipe") if run["table"] == "shown"]


NO_READING = {
    "duplicate keys": '{"amount":1,"amount":2}',
    "duplicate keys within": '{"amount":{"a":1,"a":2}}',
    "duplicate keys by escape": '{"amount":{"a":1,"\\u0061":2}}',
    "not a number": '{"amount":NaN}',
    "beyond numbers": '{"amount":1e999}',
    "a big integer": '{"amount":9007199254740993}',
    "an endless integer": '{"amount":1' + "0" * 400 + "}",
    "half a letter": '{"amount":"\\ud800"}',
    "half a letter as a name": '{"amount":{"\\udfff":1}}',
    "very deep": '{"amount":' + "[" * 5000 + "]" * 5000 + "}",
    "deep objects": '{"amount":' + '{"a":' * 150 + "1" + "}" * 150 + "}",
}


@pytest.mark.parametrize("what", NO_READING)
def test_what_has_no_one_reading_asks_nobody_and_runs_nothing(site: Site, what: str) -> None:
    counted = "SELECT count(*) FROM approval_requests"
    before, ran = site.rows(counted), site.ran("pay")
    answer = site.raw("pay", NO_READING[what])
    assert code(answer.get("result", answer)) not in ("", "approval_pending")
    assert (site.rows(counted), site.ran("pay")) == (before, ran)


def test_depth_that_the_edge_lets_through_can_be_read_and_decided(site: Site, ana: Person) -> None:
    """What is asked is also shown: nothing waits for a yes on a page that cannot be opened."""
    for depth in (20, 50, 90):
        answer = site.raw("pay", f'{{"amount":{"[" * depth}"the core"{"]" * depth}}}')
        id_ = id_of(answer["result"])
        assert "the core" in ana.http.get(f"{site.url}/approvals/{id_}").text
        assert "done=approved" in ana.decides(id_, read="on").headers["location"]


LIES = (
    '</pre></main><script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'">',
    '<form action="/approvals"><button>Approve</button></form><h1>Pegboard: this is only a test</h1>',
    "drop nothing\u202e elbat eht pord\u2066 \u200b\u200d\u2069 \ufeff",
    "javascript:alert(1) \x1b[2J \u2028Approved by security\u2029",
    "harmless " + " " * 300 + "\n" * 60 + "and then everything is gone",
    "{{ 7*7 }} {% raw %} ${7*7} &lt;b&gt;",
)


@pytest.fixture(scope="module")
def page(site: Site) -> Iterator[Page]:
    """A phone on which Pat is signed in, in a real browser."""
    with launched() as browser, browser.new_context(viewport={"width": 375, "height": 700}) as own:
        opened = own.new_page()
        opened.set_default_timeout(PATIENCE_S * 1000)
        opened.goto(f"{site.url}/sign-in")
        opened.get_by_role("button", name="Pat").click()
        opened.wait_for_url(lambda url: "/sign-in" not in url)
        yield opened


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
def test_no_argument_or_preview_makes_the_approvers_page_say_something_else(site: Site, page: Page, lie: str) -> None:
    """The argument is the preview, too: the author helps the liar."""
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(f"{site.url}/approvals/{id_of(site.call('lie', {'said': lie}))}?alone=1")
    assert not dialogs
    assert "owned" not in page.title()
    main = page.locator("#main")
    assert main.locator("script, img, iframe, form form").count() == 0
    assert main.get_by_role("button", name="Approve", exact=True).count() == 1
    assert main.get_by_role("heading", name="only a test").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    shown = main.inner_text()
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\u200d\ufeff\u2028\u2029\x1b]", shown)
    assert "49" not in re.sub(r"[0-9a-f]{8,}|\d{2}(:\d{2})+", "", shown.partition("Yes or no")[0]) or "7*7" in shown
    assert "ana" in shown
    assert "lie" in shown


# A server whose process turns on others.


def test_a_server_asks_with_no_token_but_that_of_a_caller_of_its_own(site: Site) -> None:
    foreign = {
        "of another server": site.token("ana", OTHER),
        "of the api": site.token("ana", "api"),
        "made up": "e30.e30.e30",
    }
    for what, token in foreign.items():
        status, answer = site.knock(ASK, site.question({"table": "foreign"}, token=token))
        assert (status, answer["error"]["code"]) == (403, "token_refused"), what
    other = site.pegboard.home.root / "credentials" / "dev.vault.json"
    looks = f"try:\n    return Path({str(other)!r}).read_text()\nexcept OSError as no:\n    return type(no).__name__"
    assert site.tell(looks) in ("FileNotFoundError", "PermissionError")


def test_an_old_token_asks_nothing(site: Site) -> None:
    """What a server kept of a caller ends with the token: no yes is claimed by it later."""
    short = site.pegboard.token("ana", VAULT, lifetime_s=1)
    until(lambda: _is_over(short), "the token ends")
    status, answer = site.knock(ASK, site.question({"table": "old token"}, token=short))
    assert (status, answer["error"]["code"]) == (403, "token_refused")


def _is_over(token: str) -> bool:
    part = token.split(".")[1]
    ends: float = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["exp"]
    return ends + SKEW_S < time.time()


def test_a_server_ends_settles_and_claims_nothing_of_another(site: Site, pat: Person) -> None:
    question = site.question({"table": "of the vault"}, process="the vault's own")
    _, asked = site.knock(ASK, question)
    [told] = asked["actions"]
    pat.approves(told["id"])
    _, claimed = site.knock(ASK, question)
    assert claimed["claimed"]
    now = int(time.time() * 1000)
    call = question["call_id"]
    outcome = {"kind": "outcome", "id": call, "at_ms": now, "status": "ok", "duration_ms": 1.0}
    denial = {"kind": "denial", "id": call, "at_ms": now, "release": "x", "who": None, "code": "x", "reason": "x"}
    assert site.knock(RECORDS, {"records": [outcome, denial]}, OTHER)[0] == 200
    assert site.knock(OVER, {"processes": ["the vault's own"]}, OTHER)[0] == 204
    assert site.state(told["id"]) == "claimed"
    theirs = {**question, "token": site.token("ana", OTHER), "about": [told["id"]], "answered": "no"}
    site.knock(ASK, theirs, OTHER)
    assert site.state(told["id"]) == "claimed"
    assert site.knock(OVER, {"processes": ["the vault's own"]})[0] == 204
    assert site.state(told["id"]) == "unknown"
    # And a lie about its own end brings no second run by the same yes.
    assert site.knock(RECORDS, {"records": [outcome]})[0] == 200
    assert site.state(told["id"]) == "done"
    _, again = site.knock(ASK, question)
    assert not again["claimed"]


ODD = {
    "half a letter": ('"odd"', '"\\ud800"'),
    "nothing": ('"odd"', '"\\u0000"'),
    "deep": ('"odd"', "[" * 190 + "1" + "]" * 190),
    "markup in versions": ('"policy_version": "1"', '"policy_version": "</p><script>odd</script>"'),
    "markup in calls": ('"process": "made up"', '"process": "<script>odd</script>"'),
}


@pytest.mark.parametrize("what", ODD)
def test_nothing_odd_that_a_server_asks_makes_an_approvers_pages_fail(site: Site, pat: Person, what: str) -> None:
    question = json.dumps(site.question({"table": f"odd {what}", "more": "odd"}))
    status, answer = site.knock(ASK, question.replace(*ODD[what]))
    assert status in (200, 422)
    pages = ["/approvals", "/approvals/history"]
    pages += [f"/approvals/{answer['actions'][0]['id']}?alone=1"] if status == 200 else []
    for each in pages:
        page = pat.http.get(f"{site.url}{each}", follow_redirects=True)
        assert page.status_code == 200
        assert "<script>odd" not in page.text


def test_a_server_says_yes_for_nobody(site: Site) -> None:
    _, asked = site.knock(ASK, site.question({"table": "says yes itself"}))
    id_ = asked["actions"][0]["id"]
    for changes in (
        {"answered": "yes", "about": [id_]},
        {"kind": "confirm", "answered": "yes", "about": [id_], "requirement": {"by": "caller"}},
        {"requirement": {"by": "caller"}},
        {"requirement": {"by": "owner", "own": True}},
    ):
        _, answer = site.knock(ASK, site.question({"table": "says yes itself"}, **changes))
        assert not answer.get("claimed")
    assert site.state(id_) == "requested"
    asks = site.rows("SELECT requirement FROM approval_requests WHERE tool = 'wipe' AND kind = 'approval'")
    assert {json.loads(each)["by"] for (each,) in asks} == {"owner"}


def test_a_server_speaks_to_approvers_in_nobody_elses_name(site: Site) -> None:
    for changes in (
        {"tool": f"pay http://evil.example {CANARY}"},
        {"tool": "no_such_tool"},
        {"requirement": {"by": f"the CEO {CANARY}"}},
    ):
        assert site.knock(ASK, site.question({"table": "name"}, **changes))[0] == 422
    forged = {"requirement": {"by": "owner", "source": "registry", "why": "security wants it"}}
    status, answer = site.knock(ASK, site.question({"table": "as security"}, **forged))
    assert status == 200
    [(kept,)] = site.rows("SELECT requirement FROM approval_requests WHERE id = ?", answer["actions"][0]["id"])
    assert json.loads(kept)["source"] == "server"


def test_a_server_that_floods_costs_nobody_else_anything(site: Site) -> None:
    token, codes = site.token("fay"), []
    for turn in range(2):
        flood = ({"table": f"flood {turn} {number}"} for number in range(100))
        codes.append(site.knock(ASK, site.question(*flood, token=token))[0])
    codes.append(site.knock(ASK, site.question({"table": "one more"}, token=token))[0])
    assert codes == [200, 200, 429]
    assert code(site.call("wipe", {"table": "others go on"})) == "approval_pending"
    assert code(site.call("wipe", {"table": "elsewhere"}, person="fay", server=OTHER)) == "approval_pending"


# The author who changes what was approved, and who is told of it all.


@pytest.mark.parametrize(
    "changed", ["policies/granted.cedar", pytest.param("src/pegboard_scratch/server.py", marks=pytest.mark.heavy)]
)
def test_a_yes_to_one_policy_or_code_is_none_to_the_next(site: Site, pat: Person, changed: str) -> None:
    call = {"table": f"before {changed}"}
    asked = site.call("wipe", call, server=OTHER, can=PAGES)
    pat.approves(id_of(asked))
    channel = json.loads(site.pegboard.home.root.joinpath("credentials", "dev.vault.json").read_text())
    file = site.sources[OTHER] / changed
    file.write_text(f"{file.read_text()}\n{'//' if file.suffix == '.cedar' else '#'} another version\n")
    whole = site.grants.read_text()
    site.grants.write_text(whole.partition(f'[servers."{OTHER}"]')[0])
    until(lambda: OTHER not in statuses(site.pegboard.home), "it is down")
    site.grants.write_text(whole)
    until(lambda: statuses(site.pegboard.home).get(OTHER) == "live", "it is up again")
    brought = {"requestState": asked["requestState"], "inputResponses": PUT_OFF}
    seen: list[dict[str, Any]] = []

    def waits_anew() -> bool:
        seen.append(site.call("wipe", call, server=OTHER, can=PAGES, **brought))
        return code(seen[-1]) in ("", "approval_pending", "input_required")

    until(waits_anew, "the next release answers")
    assert code(seen[-1]) != ""
    assert id_of(seen[-1]) != id_of(asked)
    assert not site.ran("wipe", OTHER)
    assert site.knock(ASK, site.question({"table": "x"}), channel=channel["channel_token"])[0] == 401


# Whom an operator stops.


def test_an_approver_who_is_stopped_between_look_and_click_decides_nothing(site: Site, pat: Person) -> None:
    id_ = id_of(site.call("wipe", {"table": "stopped-approver"}))
    form = pat.form(id_, "Approve")
    with stopped(site, "person", "pat"):
        pat.send(*form)
    assert site.state(id_) == "requested"


def test_the_yes_of_somebody_who_is_stopped_counts_no_more_from_that_moment_on(site: Site, pat: Person) -> None:
    """Whoever stole an approver's sign-in has said yes already, and the agent is quick."""
    calls = [{"table": f"quick-{number}"} for number in range(4)]
    ids = [id_of(site.call("wipe", call)) for call in calls]
    pat.approves(*ids)
    with stopped(site, "person", "pat"):
        assert "" not in [code(site.call("wipe", call)) for call in calls]
        until(lambda: {site.state(id_) for id_ in ids} == {"withdrawn"}, "they are taken back")
    assert not [run for run in site.ran("wipe") if run["table"].startswith("quick")]


@pytest.mark.parametrize(("kind", "name"), [("person", "ana"), ("tool", f"{VAULT}/wipe"), ("server", VAULT)])
def test_a_yes_is_worth_nothing_while_the_caller_the_tool_or_the_server_is_stopped(
    site: Site, pat: Person, kind: str, name: str
) -> None:
    """From the very moment, before edge and server have heard of it."""
    call = {"table": f"stopped-{kind}"}
    until(lambda: code(site.call("wipe", call)) == "approval_pending", "calls go on after the last stop")
    id_ = id_of(site.call("wipe", call))
    pat.approves(id_)
    with stopped(site, kind, name):
        assert code(site.call("wipe", call)) != ""
        until(lambda: code(site.call("wipe", call)) == "stopped", "it is stopped everywhere")
    assert not [run for run in site.ran("wipe") if run["table"] == call["table"]]
    assert site.state(id_) == "approved"


@contextmanager
def stopped(site: Site, kind: str, name: str) -> Iterator[None]:
    home = site.pegboard.home.root
    ask_at(home, "POST", STOPS, {"kind": kind, "name": name, "why": "an attack"})
    try:
        yield
    finally:
        ask_at(home, "POST", f"{STOPS}/resume", {"kind": kind, "name": name, "why": "the attack is over"})


def test_what_is_told_or_kept_of_all_this_is_no_argument_no_text_of_a_server_and_no_token(site: Site) -> None:
    """The last of these attacks: everything that they asked for was told to a receiver that leads elsewhere."""
    until(lambda: bool(site.told), "it is told")
    told = "".join(site.told)
    for text in (CANARY, "evil.example", "security wants it", "flood 1", "harmless", "of the vault"):
        assert text not in told
    signatures = {token.rpartition(".")[2].encode() for token in site.tokens.values()}
    assert holding(site.pegboard.home.root, signatures) == set()
    tools = {json.loads(each)["data"].get("tool", "") for each in site.told}
    assert tools <= {"", "wipe", "pay", "drop", "shred", "launch", "lie"}
