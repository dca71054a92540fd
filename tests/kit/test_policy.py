"""Cedar as Pegboard uses it: whatever is not a clean permit is a denial."""

from __future__ import annotations

import dataclasses

import pytest

from pegboard.core.caller import Caller
from pegboard.core.errors import ConfigurationError
from pegboard.core.names import ServerName
from pegboard.core.policy import Policy

PRESTO = ServerName("prod", "presto")
ANA = Caller(
    sub="ana",
    sub_type="person",
    groups=("ads-eng",),
    surface="cli",
    client_id="pegboard-cli",
    audience="x",
    expires_at=0,
    token_id="t",
)

PERMIT_ALL = "permit (principal, action, resource);"


def allowed(text: str, caller: Caller = ANA, **arguments: object) -> bool:
    return Policy("p", text).decide(caller, PRESTO, "query", "call", arguments).allowed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PERMIT_ALL, True),
        ('permit (principal in Group::"ads-eng", action, resource);', True),
        ('permit (principal in Group::"finance", action, resource);', False),
        ('permit (principal == Person::"ana", action == Action::"call", resource);', True),
        ('permit (principal == Service::"ana", action, resource);', False),
        ('permit (principal, action == Action::"list", resource);', False),
        ('permit (principal, action, resource == Tool::"prod/presto/query");', True),
        ('permit (principal, action, resource in Server::"prod/presto");', True),
        ('permit (principal, action, resource in Namespace::"prod");', True),
        ('permit (principal, action, resource in Namespace::"dev");', False),
        ('permit (principal, action, resource) when { context.surface == "cli" };', True),
        ('permit (principal, action, resource) when { context.surface == "chat" };', False),
        (PERMIT_ALL + 'forbid (principal == Person::"ana", action, resource);', False),
    ],
)
def test_policy_sees_person_groups_action_tool_and_context(text: str, expected: bool) -> None:
    assert allowed(text) is expected


def test_forbid_that_errs_denies_instead_of_being_skipped() -> None:
    text = PERMIT_ALL + 'forbid (principal, action, resource) when { context.channel == "#x" };'
    decision = Policy("p", text).decide(ANA, PRESTO, "query", "call")
    assert not decision.allowed
    assert decision.reason == "policy p cannot be evaluated for this call"
    assert "channel" in decision.detail


def test_channel_is_absent_unless_the_caller_has_one() -> None:
    text = 'permit (principal, action, resource) when { context has channel && context.channel == "#ads" };'
    assert not allowed(text)
    assert allowed(text, dataclasses.replace(ANA, surface="bot", channel="#ads"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ads", True),
        ("other", False),
        (None, False),
        (1.5, False),
        (float("nan"), False),
        (2**70, False),
        (["ads"], False),
        ({"__entity": {"type": "Group", "id": "ads"}}, False),
    ],
)
def test_argument_that_cedar_cannot_compare_is_a_denial(value: object, expected: bool) -> None:
    text = (
        '@arguments("table") permit (principal, action, resource) '
        'when { context.args has table && context.args.table == "ads" };'
    )
    assert allowed(text, table=value) is expected


def test_argument_that_is_not_declared_is_not_seen() -> None:
    text = '@arguments("other") permit (principal, action, resource) when { context.args has other };'
    assert not allowed(text, table="ads")
    assert allowed(text, other="x")


def test_list_never_sees_arguments() -> None:
    text = '@arguments("table") permit (principal, action, resource) when { context has args };'
    assert not Policy("p", text).decide(ANA, PRESTO, "query", "list", {"table": "ads"}).allowed


@pytest.mark.parametrize("name", ['an"a', "ana\n", 'Person::"pat"', "", "é" * 200])
def test_strange_names_stay_names(name: str) -> None:
    caller = dataclasses.replace(ANA, sub=name, groups=(name,))
    assert not allowed('permit (principal == Person::"pat", action, resource);', caller)
    assert not allowed('permit (principal in Group::"ads-eng", action, resource);', caller)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'forbid (principal in Grup::"finance", action, resource);',
            "unknown entity type 'Grup'; did you mean 'Group'?",
        ),
        ("permit (principal is Persn, action, resource);", "unknown entity type 'Persn'; did you mean 'Person'?"),
        ('permit (principal, action == Action::"cal", resource);', "unknown action 'cal'; did you mean 'call'?"),
        (
            'permit (principal, action, resource) when { [Grup::"x"].contains(principal) };',
            "unknown entity type 'Grup'; did you mean 'Group'?",
        ),
        (
            'permit (principal, action, resource) when { context.surfce == "cli" };',
            "unknown context attribute 'surfce'; did you mean 'surface'?",
        ),
        ("permit (principal, action, resource) when { context has chanel };", "did you mean 'channel'?"),
        ("permit (principal, action, resource) when { context.args.n > 1 };", "arguments that are declared"),
        (
            '@arguments("table") permit (principal, action, resource) when { context.args has tabel };',
            "undeclared argument 'tabel'; did you mean 'table'?",
        ),
        ('permit (principal, action, resource) when { principal.team == "x" };', "have no attributes"),
        ('@argumnts("n") permit (principal, action, resource);', "unknown annotation 'argumnts'"),
    ],
)
def test_name_that_nobody_has_is_refused_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Policy("p", PERMIT_ALL + text)
    assert message in str(caught.value)


def test_version_follows_the_text() -> None:
    assert Policy("p", PERMIT_ALL).version != Policy("p", PERMIT_ALL + " ").version


def test_text_that_is_not_cedar_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"policies/mine\.cedar: not valid Cedar"):
        Policy("mine", "permit everything")
