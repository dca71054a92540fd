"""Explain, its page and the access check, asked by people who want to learn what is not theirs.

Rules (design, Refusals and Rules of trust): a tool that a person may not use and one that does not exist get the same
answer; another person's access is for a server's owners and security; internals never leave.
"""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from tests.attacks.wire import modern
from tests.system.instance import Instance

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("instance")]

HIDDEN = "get_revenue_metrics"
"""A tool of prod/presto that Fay may not use."""

ABSENT = "no_such_tool_at_all"


def check(pegboard: Instance, person: str, question: Any, surface: str = "cli") -> httpx2.Response:
    headers = {"Authorization": f"Bearer {pegboard.token(person, 'api', surface)}"}
    return httpx2.post(f"{pegboard.public_url}/api/v1/access:check", json=question, headers=headers)


def explained(pegboard: Instance, asker: str, /, **question: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {pegboard.token(asker, 'api')}"}
    return httpx2.get(f"{pegboard.public_url}/api/v1/explain", params=question, headers=headers)


def page(pegboard: Instance, asker: str, /, **question: str) -> httpx2.Response:
    return httpx2.get(f"{pegboard.public_url}/explain", params={"as": asker, **question})


def called(pegboard: Instance, asker: str, /, **question: str) -> httpx2.Response:
    arguments = json.loads(question.get("arguments", "{}"))
    params = {"name": question["tool"], "arguments": arguments}
    return modern(pegboard, pegboard.token(asker), "tools/call", params)


def checked(pegboard: Instance, asker: str, /, **question: str) -> httpx2.Response:
    return check(pegboard, asker, with_arguments(question))


def checked_among_others(pegboard: Instance, asker: str, /, **question: str) -> httpx2.Response:
    first = {"server": "prod/presto", "tool": "run_query"}
    return check(pegboard, asker, {"questions": [first, with_arguments(question)]})


def with_arguments(question: dict[str, str]) -> dict[str, Any]:
    """The question with its arguments as an object, as the check wants them."""
    return {**question, "arguments": json.loads(question["arguments"]) if "arguments" in question else None}


DOORS = {
    "explain": explained,
    "the page": page,
    "the access check": checked,
    "a batch of it": checked_among_others,
    "the call": called,
}


def bare(text: str, tool: str) -> str:
    """An answer without the name that was asked about, and without what is each request's own."""
    while '"request_id":"' in text:
        before, _, after = text.partition('"request_id":"')
        text = before + after.partition('"')[2]
    return text.replace(tool, "TOOL")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("arguments", [None, "{}", '{"days": 7}', '{"days": {"__entity": {}}}'])
def test_a_hidden_tool_and_none_at_all_give_the_same_bytes(
    pegboard: Instance, door: str, arguments: str | None
) -> None:
    question = {"server": "prod/presto"} | ({"arguments": arguments} if arguments else {})
    hidden = DOORS[door](pegboard, "fay", **question, tool=HIDDEN)
    absent = DOORS[door](pegboard, "fay", **question, tool=ABSENT)
    assert hidden.status_code == absent.status_code == 200
    assert bare(hidden.text, HIDDEN) == bare(absent.text, ABSENT)
    assert "ads-revenue" not in hidden.text


@pytest.mark.parametrize("surface", ["cli", "chat", "ide", "bot"])
def test_no_surface_reveals_a_hidden_tool(pegboard: Instance, surface: str) -> None:
    answers = [
        check(pegboard, "fay", {"server": "prod/presto", "tool": tool, "surface": surface}).json()
        for tool in (HIDDEN, ABSENT)
    ]
    assert bare(json.dumps(answers[0], separators=(",", ":")), HIDDEN) == bare(
        json.dumps(answers[1], separators=(",", ":")), ABSENT
    )


def test_the_page_offers_no_tool_to_those_who_may_not_know_it(pegboard: Instance) -> None:
    for query in ({}, {"server": "prod/presto"}, {"server": "prod/presto", "person": "ana"}, {"tool": "get_rev"}):
        assert HIDDEN not in page(pegboard, "fay", **query).text
    assert HIDDEN not in httpx2.get(f"{pegboard.public_url}/explain", params={"server": "prod/presto"}).text
    assert HIDDEN in page(pegboard, "ana", server="prod/presto").text


OTHERS: list[dict[str, Any]] = [
    {"person": "ana"},
    {"person": "ana", "tool": HIDDEN},
    {"person": "nobody-here"},
    {"person": ""},
    {"person": "FAY"},
    {"person": "fay "},
    {"service": "fay"},
    {"service": "spiffe://example.org/reporting"},
]


@pytest.mark.parametrize("more", OTHERS, ids=str)
def test_somebody_elses_access_is_refused_alike_whether_they_exist_or_not(
    pegboard: Instance, more: dict[str, Any]
) -> None:
    answer = check(pegboard, "fay", {"server": "prod/presto", **more})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_owner")
    batch = check(pegboard, "fay", {"questions": [{"server": "prod/presto"}, {"server": "prod/presto", **more}]})
    assert (batch.status_code, batch.json().keys()) == (403, {"error"})


def test_a_person_named_twice_is_not_two_people(pegboard: Instance) -> None:
    """The one who is checked must be the one who is answered about."""
    headers = {"Authorization": f"Bearer {pegboard.token('fay', 'api')}", "content-type": "application/json"}
    body = '{"server": "prod/presto", "person": "fay", "person": "ana"}'
    answer = httpx2.post(f"{pegboard.public_url}/api/v1/access:check", content=body, headers=headers)
    assert answer.status_code == 400
    for query in ("person=fay&person=ana", "person=ana&person=fay"):
        url = f"{pegboard.public_url}/explain?as=fay&server=prod/presto&{query}"
        assert "ana from" not in httpx2.get(url).text


def test_another_surface_is_only_asked_about_and_never_becomes_ones_own(pegboard: Instance) -> None:
    check(pegboard, "fay", {"server": "dev/scratch", "surface": "chat"})
    answer = check(pegboard, "fay", {"server": "dev/scratch"}).json()
    assert (answer["surface"], answer["allowed"]) == ("cli", True)
    assert check(pegboard, "fay", {"server": "dev/scratch"}, "chat").json()["reason"] == "surface_not_granted"


@pytest.mark.parametrize("how", ["nothing", "query", "cookie", "a server's token"])
def test_the_access_check_wants_a_token_in_its_one_place(pegboard: Instance, how: str) -> None:
    token = pegboard.token("ana", "api")
    headers = {"cookie": f"access_token={token}"} if how == "cookie" else {}
    headers |= {"Authorization": f"Bearer {pegboard.token('ana')}"} if how == "a server's token" else {}
    url = f"{pegboard.public_url}/api/v1/access:check" + (f"?access_token={token}" if how == "query" else "")
    assert httpx2.post(url, json={"server": "prod/presto"}, headers=headers).status_code == 401
