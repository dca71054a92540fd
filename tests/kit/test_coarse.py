"""Coarse rules: what a file may say, what a rule is about, and that a server holds to them whatever the edge does."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pegboard.core.caller import Caller
from pegboard.core.coarse import MOST_FOR_ONE, CoarseRule, Rules, RuleSet, read_rules, written
from pegboard.core.errors import ConfigurationError
from pegboard.core.methods import METHODS
from pegboard.core.names import SURFACES, ServerName
from pegboard.core.record import Denial
from pegboard.testing import InMemoryHub
from pegboard.transport import streams
from tests.kit.test_gate import LEGACY, OPENINGS, legacy_session, rpc
from tests.kit.test_stops import call, refusal, stop, stream_ends

ENDS = 'why = "SEC-31"\nask = "security in #sec"\n'
GROUPS = ("ads-eng", "finance", "platform")
PLACES = ("dev/atlas", "prod/atlas", "prod/ledger")


def rule(name: str = "no-chat", **about: Any) -> CoarseRule:
    return CoarseRule(**{"name": name, "effect": "deny", "why": "SEC-31", "ask": "security in #sec", **about})


WRONG: dict[str, tuple[str, str]] = {
    "no toml": ("[rules", "not valid TOML"),
    "unknown key": (f'[rules.aa]\neffect = "deny"\nsurface = ["cli"]\n{ENDS}', "did you mean 'surfaces'?"),
    "another table": ("[rule.aa]\n", "did you mean 'rules'?"),
    "no reason": ('[rules.aa]\neffect = "deny"\nsurfaces = ["cli"]\nask = "x"\n', "rules.aa.why: missing"),
    "nobody to ask": ('[rules.aa]\neffect = "deny"\nsurfaces = ["cli"]\nwhy = "x"\n', "rules.aa.ask: missing"),
    "a reason in lines": (
        '[rules.aa]\neffect = "deny"\nsurfaces = ["cli"]\nwhy = "a\\nb"\nask = "x"\n',
        "one line of text",
    ),
    "an effect that opens": (f'[rules.aa]\neffect = "allow"\nsurfaces = ["cli"]\n{ENDS}', "'deny' or 'limit'"),
    "everything": (f'[rules.aa]\neffect = "deny"\n{ENDS}', "it would refuse everything"),
    "unknown surface": (f'[rules.aa]\neffect = "deny"\nsurfaces = ["fax"]\n{ENDS}', "unknown surface 'fax'"),
    "unknown method": (
        f'[rules.aa]\neffect = "deny"\nmethods = ["tool/call"]\n{ENDS}',
        "no method of MCP is called 'tool/call'; did you mean 'tools/call'?",
    ),
    "no server": (f'[rules.aa]\neffect = "deny"\nservers = ["presto"]\n{ENDS}', "NAMESPACE/NAME"),
    "a name in capitals": (f'[rules.AA]\neffect = "deny"\nsurfaces = ["cli"]\n{ENDS}', "rules.AA"),
    "a limit without a number": (f'[rules.aa]\neffect = "limit"\n{ENDS}', "requests: missing"),
    "a limit of methods": (
        f'[rules.aa]\neffect = "limit"\nrequests = 1\nmethods = ["ping"]\n{ENDS}',
        "a limit counts every method",
    ),
    "a denial that counts": (
        f'[rules.aa]\neffect = "deny"\nsurfaces = ["cli"]\nrequests = 5\n{ENDS}',
        "requests: only a limit counts",
    ),
    "both ways": (
        f'[rules.aa]\neffect = "deny"\ngroups = ["xx"]\nexcept_groups = ["xx"]\n{ENDS}',
        "stands in groups as well",
    ),
    "about nobody": (
        f'[rules.aa]\neffect = "deny"\ngroups = ["xx"]\nsurfaces = ["service"]\n{ENDS}',
        "no service is in a group",
    ),
    "too many for all": (
        "".join(f'[rules.r{n}]\neffect = "deny"\nsurfaces = ["cli"]\n{ENDS}' for n in range(10, MOST_FOR_ONE + 11)),
        f"has {MOST_FOR_ONE + 1} rules that name no server",
    ),
    "too many for one": (
        "".join(
            f'[rules.r{n}]\neffect = "deny"\nservers = ["prod/presto"]\n{ENDS}' for n in range(10, MOST_FOR_ONE + 11)
        ),
        f"has {MOST_FOR_ONE + 1} rules for prod/presto",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_with_a_fault_is_refused_with_its_place_and_a_mend(case: str) -> None:
    text, words = WRONG[case]
    with pytest.raises(ConfigurationError) as error:
        read_rules(text, "rules.toml")
    assert words in str(error.value)


def some(values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), unique=True, max_size=2).map(tuple)


@st.composite
def denials(draw: st.DrawFn) -> CoarseRule:
    about: dict[str, tuple[str, ...]] = {
        "surfaces": draw(some(("cli", "chat", "ide"))),
        "namespaces": draw(some(("dev", "prod"))),
        "servers": draw(some(PLACES)),
        "methods": draw(some(("tools/call", "ping"))),
        "groups": draw(some(GROUPS)),
    }
    about["except_groups"] = tuple(name for name in draw(some(GROUPS)) if name not in about["groups"])
    if not any(about.values()):
        about["surfaces"] = ("cli",)
    return rule(draw(st.sampled_from(("aa", "bb", "cc"))), **about)


def sets(least: int = 0) -> st.SearchStrategy[RuleSet]:
    listed = st.lists(denials(), min_size=least, max_size=3, unique_by=lambda one: one.name)
    return listed.map(lambda found: RuleSet(rules=tuple(sorted(found, key=lambda one: one.name))))


def told(rules: RuleSet, caller: Caller, server: ServerName, method: str) -> bool:
    """Whether the design refuses: it shares nothing with the product."""
    for one in rules.rules:
        place = not (one.namespaces or one.servers)
        place = place or server.namespace in one.namespaces or str(server) in one.servers
        held = set(caller.groups)
        if (
            place
            and (caller.surface in one.surfaces or not one.surfaces)
            and (method in one.methods or not one.methods)
            and (held & set(one.groups) or not one.groups)
            and not held & set(one.except_groups)
        ):
            return True
    return False


def refuses(rules: RuleSet, caller: Caller, server: ServerName, method: str) -> bool:
    about = rules.of(server)
    return bool(about.refusing(caller, server) or about.refusing_method(caller, server, method))


callers = st.builds(
    lambda surface, groups: Caller("ana", "person", groups, surface, "c", "a", 0, "t"),
    st.sampled_from(("cli", "chat", "ide")),
    some(GROUPS),
)
CALLS = (
    callers,
    st.sampled_from(PLACES).map(ServerName.parse),
    st.sampled_from(("tools/call", "ping", "initialize")),
)


@given(sets(1), *CALLS)
def test_a_rule_is_about_calls_for_which_all_that_it_names_holds(
    rules: RuleSet, caller: Caller, server: ServerName, method: str
) -> None:
    assert refuses(rules, caller, server, method) == told(rules, caller, server, method)


@given(sets(1), sets(), *CALLS)
def test_a_set_that_does_not_count_as_wider_lets_nobody_do_more(
    old: RuleSet, new: RuleSet, caller: Caller, server: ServerName, method: str
) -> None:
    if not list(old.widened_by(new)) and refuses(old, caller, server, method):
        assert refuses(new, caller, server, method)


@given(sets())
def test_a_set_is_written_as_a_file_that_reads_back_to_the_same(rules: RuleSet) -> None:
    assert read_rules(written(rules.rules), "rules.toml") == rules


def test_whatever_stands_in_a_reason_is_written_and_read_back() -> None:
    odd = (
        "".join(letter for letter in map(chr, range(32, 0x2FF)) if letter.isprintable()).strip(" .")[:190]
        + "\U0001f989"
    )
    one = rule(surfaces=SURFACES, methods=METHODS, why=odd, ask=odd[::-1].strip(" ."))
    assert read_rules(written([one]), "rules.toml").rules == (one,)
    assert tomllib.loads(written([one]))["rules"]["no-chat"]["why"] == odd


def test_sentences_have_the_order_of_the_rules() -> None:
    """The edge tries them in the order of their letters, and the core in that of the rules."""
    names = ("aa", "aa-b", "aa-0", "aa0", "aab", "b0", "b-b", "bb", "no-chat", "no-chat-2", "no-chats")
    rules = [rule(name, methods=methods) for name in names for methods in (("tools/call",), ("ping", "tools/call"))]
    always = [rule(name, surfaces=["cli"]) for name in names]
    assert [one.told for one in Rules.of(always).deny] == sorted(one.told for one in always)
    of_method = [one.told_of("tools/call") for one in Rules.of(rules).deny]
    assert of_method == sorted(one.told_of("tools/call") for one in rules)
    assert max(one.told for one in always) < min(of_method) < "~"


LIMITS: dict[str, tuple[dict[str, Any], bool]] = {
    "the same": ({}, False),
    "fewer": ({"requests": 5}, False),
    "more": ({"requests": 11}, True),
    "as many in less time": ({"seconds": 30}, True),
    "as many in more time": ({"seconds": 120}, False),
    "fewer at once and more in all": ({"requests": 5, "seconds": 10}, True),
    "of everybody together": ({"per": "surface"}, True),
    "for fewer": ({"surfaces": ("chat",)}, True),
}


@pytest.mark.parametrize("case", LIMITS)
def test_a_limit_that_lets_more_through_counts_as_wider(case: str) -> None:
    change, wider = LIMITS[case]
    known: dict[str, Any] = {"effect": "limit", "requests": 10, "seconds": 60, "surfaces": ("chat", "cli")}
    old, new = (RuleSet(rules=(rule(**{**known, **more}),)) for more in ({}, change))
    assert bool(list(old.widened_by(new))) == wider


# A server, whatever the edge let through


def ruled(hub: InMemoryHub, *rules: CoarseRule) -> None:
    stop(hub, rules=Rules.of(rules))


@pytest.mark.anyio
@pytest.mark.parametrize("opening", OPENINGS)
async def test_a_rule_of_every_method_refuses_whatever_the_request(hub: InMemoryHub, opening: str) -> None:
    ruled(hub, one := rule(surfaces=["cli"]))
    headers, method, body = OPENINGS[opening]
    async with hub.http(hub.headers("ana", ["ads-eng"])) as http:
        response = await http.request(method, hub.name.path, headers=headers, json=body)
    assert response.status_code == 403
    found = response.json()["error"]["data"]
    assert (found["code"], found["reason"], found["layer"]) == ("rule_denied", "rule_denied", "server")
    assert found["message"].startswith(f"{one.told}. ")
    assert "ask security in #sec" in found["message"]
    (record,) = hub.records
    assert isinstance(record, Denial)
    assert record.reason == "rule_denied"


@pytest.mark.anyio
@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_rule_of_one_method_refuses_that_in_both_eras_and_nothing_else(hub: InMemoryHub, era: str) -> None:
    async with hub.http(hub.headers("ana", ["ads-eng"])) as http:
        more = await legacy_session(http, hub, LEGACY) if era == "legacy" else {}
        ruled(hub, rule(methods=["tools/call"]))

        async def ask(method: str, **params: Any) -> Any:
            body = rpc(method, **params)
            head = {**LEGACY, **more}
            if era == "modern":
                name = {"mcp-name": str(params["name"])} if "name" in params else {}
                head = {**LEGACY, "mcp-protocol-version": "2026-07-28", "mcp-method": method, **name}
            return await http.post(hub.name.path, headers=head, json={**body, "id": 7})

        refused = await ask("tools/call", name="echo", arguments={"text": "hi"})
        assert refused.status_code == 403
        assert refused.json()["error"]["data"]["message"].startswith(
            "Your tools/call is refused by rule no-chat, which says: "
        )
        assert refused.json()["id"] == 7
        hidden = await ask("tools/call", name="no_such_tool", arguments={})
        assert hidden.json()["error"]["data"]["message"] == refused.json()["error"]["data"]["message"]
        assert (await ask("tools/list")).status_code == 200


@pytest.mark.anyio
async def test_a_rule_for_others_changes_nothing(hub: InMemoryHub) -> None:
    ruled(
        hub,
        rule("aa", surfaces=["chat"]),
        rule("bb", groups=["finance"]),
        rule("cc", except_groups=["ads-eng"]),
        rule("dd", servers=["prod/other"], namespaces=["stage"]),
        rule("ee", methods=["tools/call"], surfaces=["ide"]),
    )
    assert not (await call(hub, "echo")).is_error


@pytest.mark.anyio
async def test_rules_open_nothing(hub: InMemoryHub) -> None:
    """What remains refused is refused in its own words, whichever rules there are."""
    before = refusal(await call(hub, "revenue", "fay", ("finance",)))
    ruled(hub, rule(except_groups=["finance"]))
    assert refusal(await call(hub, "revenue", "fay", ("finance",)))["code"] == before["code"] == "tool_unavailable"


@pytest.mark.anyio
async def test_a_stream_ends_when_a_rule_refuses_its_caller(
    hub: InMemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LOOK_S", 0.01)
    await stream_ends(hub, lambda: ruled(hub, rule(groups=["ads-eng"])))
