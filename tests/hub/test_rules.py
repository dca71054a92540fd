"""Coarse rules at the hub's doors: versions, previews, who may change what, and that every bundle has them."""

from __future__ import annotations

import time
from typing import Any

import httpx2
import pytest
from sqlalchemy import delete, update
from sqlalchemy.exc import SQLAlchemyError

from pegboard_hub.ruling.model import rule_versions
from tests.hub.company import OPERATOR, Company, Hub, opened
from tests.hub.test_registry import edge_bundle, own_bundle

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

ENDS = 'why = "the audit, SEC-31"\nask = "security in #sec-help"\n'
NO_CHAT = f'[rules.no-chat]\neffect = "deny"\nsurfaces = ["chat"]\nservers = ["prod/presto"]\n{ENDS}'
NO_CALLS = (
    '[rules.no-calls]\neffect = "deny"\nnamespaces = ["prod"]\n'
    f'methods = ["tools/call"]\ngroups = ["finance"]\n{ENDS}'
)
FEW = f'[rules.few]\neffect = "limit"\nrequests = 60\nsurfaces = ["chat"]\n{ENDS}'


def file(*rules: str, on: int | None = 0) -> str:
    head = f"version = {on}\n\n" if on is not None else ""
    return head + "\n".join(rules)


async def ask(hub: Hub, what: str, person: str = "pat", /, **body: Any) -> httpx2.Response:
    """By the API, with a person's token."""
    headers = {"Authorization": f"Bearer {await hub.token(person, 'cli')}"}
    if not body:
        return await hub.public.get(f"/api/v1/{what}", headers=headers)
    return await hub.public.post(f"/api/v1/{what}", json=body, headers=headers)


async def machine(hub: Hub, what: str = "rules", /, **body: Any) -> httpx2.Response:
    """At the internal door, as `pegboard rules --home` does."""
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    if not body:
        return await hub.internal.get(f"/internal/v1/{what}", headers=headers)
    return await hub.internal.post(f"/internal/v1/{what}", json=body, headers=headers)


async def bundled(hub: Hub) -> None:
    await hub.parts.registry._bundles.write(hub.parts.registry.current, time.time(), refresh=False)


def refusal(response: httpx2.Response) -> dict[str, Any]:
    return dict(response.json()["error"])


async def test_a_set_stands_in_the_bundles_of_those_whom_it_is_about(hub: Hub, company: Company) -> None:
    answer = await ask(hub, "rules", text=file(NO_CHAT, NO_CALLS, FEW), why="the audit")
    assert answer.status_code == 201, answer.text
    assert {**answer.json(), "at": 0} == {
        "version": 1,
        "at": 0,
        "by": "pat",
        "why": "the audit",
        "reverts_to": None,
    }
    await bundled(hub)
    edge = edge_bundle(company)
    named = {server.server: [rule.name for rule in server.rules] for server in edge.servers}
    assert ([rule.name for rule in edge.rules], named["prod/presto"], named["dev/scratch"]) == (
        ["no-calls"],
        ["no-chat"],
        [],
    )
    assert edge.limits.rates[-1].surfaces == ("chat",)
    presto, scratch = own_bundle(company, "prod/presto"), own_bundle(company, "dev/scratch")
    assert [rule.name for rule in (*presto.rules, *presto.servers[0].rules)] == ["no-calls", "no-chat"]
    assert [*scratch.rules, *scratch.servers[0].rules] == []
    assert presto.limits.rates == ()


async def test_rules_outlive_the_hub(company: Company) -> None:
    async with opened(company) as hub:
        await machine(hub, text=file(NO_CHAT), why="the audit")
    async with opened(company) as hub:
        await hub.parts.registry.refresh()
        await bundled(hub)
        assert (await machine(hub)).json()["rules"][0]["name"] == "no-chat"
        assert own_bundle(company, "prod/presto").servers[0].rules[0].name == "no-chat"


async def test_a_change_of_rules_for_one_server_makes_no_other_servers_bundle_anew(
    hub: Hub, company: Company
) -> None:
    await bundled(hub)
    before = own_bundle(company, "dev/scratch").version, own_bundle(company, "prod/presto").version
    await machine(hub, text=file(NO_CHAT), why="the audit")
    await bundled(hub)
    after = own_bundle(company, "dev/scratch").version, own_bundle(company, "prod/presto").version
    assert after[0] == before[0]
    assert after[1] > before[1]


async def test_a_bad_file_changes_nothing_and_is_told_line_by_line(hub: Hub) -> None:
    await ask(hub, "rules", text=file(NO_CHAT), why="the audit")
    for text, words in (
        (file(NO_CHAT.replace("chat", "fax"), on=1), "unknown surface 'fax'"),
        ("[rules", "not valid TOML"),
        ('version = "1"\n', "version: is a whole number"),
    ):
        answer = await ask(hub, "rules", text=text, why="x")
        assert answer.status_code == 422
        assert words in refusal(answer)["message"]
        assert any(words in line for line in answer.json()["lines"])
    now = (await ask(hub, "rules")).json()
    assert (now["version"], now["rules"][0]["surfaces"]) == (1, ["chat"])


async def test_a_change_says_on_which_version_it_was_made_and_is_refused_after_somebody_elses(hub: Hub) -> None:
    await ask(hub, "rules", text=file(NO_CHAT), why="one")
    assert refusal(await ask(hub, "rules", text=file(NO_CHAT, FEW, on=None), why="two"))["message"].startswith("on: ")
    both = await ask(hub, "rules", text=file(NO_CHAT, FEW, on=0), on=1, why="two")
    assert (both.status_code, "made on version 0" in refusal(both)["message"]) == (422, True)
    await machine(hub, text=file(NO_CHAT, NO_CALLS, on=1), why="two")
    for what, body in (("rules", {"why": "three"}), ("rules:preview", {})):
        answer = await ask(hub, what, text=file(NO_CHAT, FEW, on=1), **body)
        assert (answer.status_code, refusal(answer)["reason"]) == (409, "rules_moved")
        assert "version 2 by operator is in force" in refusal(answer)["message"]
        assert "+ [rules.no-calls]" in answer.json()["lines"]
    answer = await ask(hub, "rules", text=file(NO_CHAT, NO_CALLS, FEW, on=2), why="three")
    assert answer.json()["version"] == 3


WIDER: dict[str, str] = {
    "taken out": file(NO_CALLS, FEW, on=1),
    "for fewer": file(NO_CHAT.replace('"chat"', '"chat", "ide"').replace("prod/presto", "dev/scratch"), on=1),
    "with an exception": file(NO_CHAT + 'except_groups = ["finance"]\n', NO_CALLS, FEW, on=1),
    "a limit of more": file(NO_CHAT, NO_CALLS, FEW.replace("60", "61"), on=1),
    "no rules at all": file(on=1),
}


@pytest.mark.parametrize("case", WIDER)
async def test_what_lets_anybody_do_more_is_not_for_a_token(hub: Hub, case: str) -> None:
    await ask(hub, "rules", text=file(NO_CHAT, NO_CALLS, FEW), why="the audit")
    answer = await ask(hub, "rules", text=WIDER[case], why="please")
    assert (answer.status_code, refusal(answer)["reason"]) == (403, "rules_widens")
    assert (await ask(hub, "rules")).json()["version"] == 1
    assert (await machine(hub, text=WIDER[case], why="please")).json()["version"] == 2


async def test_a_version_is_reverted_to_and_the_history_shows_it(hub: Hub) -> None:
    await machine(hub, text="# ours\n" + file(NO_CHAT, on=None), why="one")
    await machine(hub, text=file(NO_CALLS, on=1), why="two")
    assert refusal(await ask(hub, "rules", revert_to=1, why="back"))["reason"] == "rules_widens"
    assert (await machine(hub, revert_to=1, on=2, why="back")).json()["reverts_to"] == 1
    shown = (await ask(hub, "rules/history")).json()["versions"]
    assert [(each["version"], each["why"], each["by"], each["reverts_to"]) for each in shown] == [
        (3, "back", "operator", 1),
        (2, "two", "operator", None),
        (1, "one", "operator", None),
    ]
    assert (await ask(hub, "rules/file")).json()["text"] == f"version = 3\n\n# ours\n{NO_CHAT}"
    lines = (await ask(hub, "rules/difference?old=1&new=2")).json()["lines"]
    assert ("- [rules.no-chat]" in lines, "+ [rules.no-calls]" in lines) == (True, True)
    assert (await ask(hub, "rules/difference?old=1&new=3")).json()["lines"] == []
    assert (await machine(hub, revert_to=9, why="x")).status_code == 404
    assert refusal(await machine(hub, revert_to=3, why="x"))["reason"] == "rules_same"


async def test_the_history_of_rules_is_append_only(hub: Hub) -> None:
    await machine(hub, text=file(NO_CHAT), why="one")
    for statement in (update(rule_versions).values(why="another"), delete(rule_versions)):
        with pytest.raises(SQLAlchemyError):
            async with hub.parts.database.write() as db:
                await db.execute(statement)


@pytest.mark.parametrize("person", ["ana", "fay"])
async def test_rules_are_for_those_who_govern(hub: Hub, person: str) -> None:
    for what in ("rules", "rules/file", "rules/history", "rules/difference", "rules/effective?server=prod/presto"):
        assert (await ask(hub, what, person)).status_code == 403
    for what in ("rules", "rules:preview"):
        assert (await ask(hub, what, person, text=file(NO_CHAT), why="x")).status_code == 403
    assert (await hub.internal.get("/internal/v1/rules")).status_code == 401


async def test_a_preview_names_who_gains_and_who_loses_what(hub: Hub) -> None:
    await machine(hub, text=file(NO_CHAT), why="one")
    found = (await machine(hub, "rules:preview", text=file(NO_CALLS, on=1))).json()
    assert (found["on"], found["changes"], found["widens"]) == (1, True, ["no-chat"])
    rows = {(row["who"], tuple(row["gains"]), tuple(row["loses"])): row for row in found["rows"]}
    finance = rows["finance", (), ("tools/call",)]
    assert (finance["servers"], finance["people"]) == (["prod/presto"], ["fay"])
    assert "chat" not in finance["surfaces"]
    gains = rows["ads-eng", ("everything",), ()]
    assert (gains["surfaces"], gains["servers"]) == (["chat"], ["prod/presto"])
    assert "ana" in gains["people"]
    assert found["losing"] == 1
    assert (await machine(hub)).json()["version"] == 1


async def test_a_preview_names_the_places_of_a_new_rule_that_there_are_none_of(hub: Hub) -> None:
    slip = NO_CHAT.replace("prod/presto", "prod/prestoo")
    later = NO_CALLS.replace('"prod"', '"prod", "far"')
    found = (await machine(hub, "rules:preview", text=file(slip, later))).json()
    assert found["notes"][-2:] == [
        "Rule no-calls is about namespace far, which there is not here: it holds once there is one.",
        "Rule no-chat is about server prod/prestoo, which there is not here; did you mean prod/presto?",
    ]
    await machine(hub, text=file(slip, later), why="known")
    assert "prestoo" not in str(
        (await machine(hub, "rules:preview", text=file(slip, later, FEW, on=1))).json()["notes"]
    )


async def test_explain_and_the_access_check_tell_of_the_rule(hub: Hub) -> None:
    await machine(hub, text=file(NO_CHAT, NO_CALLS), why="one")
    told = (await hub.api("fay", "explain", server="prod/presto", tool="run_query")).json()
    fails = next(step for step in told["steps"] if step["outcome"] == "fails")
    assert (fails["rule"], fails["source"]) == ("method", "the coarse rules")
    assert "rule no-calls refuses tools/call: the audit, SEC-31" in fails["fact"]
    told = (await hub.api("ana", "explain", server="prod/presto", surface="chat")).json()
    fails = next(step for step in told["steps"] if step["outcome"] == "fails")
    assert (fails["rule"], "no-chat" in fails["fact"]) == ("rule", True)
    assert (await hub.api("ana", "explain", server="prod/presto")).json()["allowed"]


async def test_what_holds_is_told_with_where_it_is_from(hub: Hub) -> None:
    await machine(hub, text=file(NO_CHAT), why="one")
    await machine(hub, text=file(NO_CHAT, NO_CALLS, FEW, on=1), why="two")
    path = "rules/effective?server=prod/presto&surface={}&method=tools/call&group={}"
    told = {
        (surface, group): (await ask(hub, path.format(surface, group))).json()
        for surface in ("cli", "chat")
        for group in ("ads-eng", "finance", "nobody")
    }
    assert {case: answer["verdict"] for case, answer in told.items()} == {
        ("cli", "ads-eng"): "allowed",
        ("cli", "finance"): "refused",
        ("cli", "nobody"): "not granted",
        ("chat", "ads-eng"): "refused",
        ("chat", "finance"): "refused",
        ("chat", "nobody"): "not granted",
    }
    rules = {part["rule"]: part["since"] for part in told["chat", "finance"]["parts"] if part["rule"]}
    assert {name: (since["version"], since["why"]) for name, since in rules.items()} == {
        "no-chat": (1, "one"),
        "no-calls": (2, "two"),
        "few": (2, "two"),
    }
