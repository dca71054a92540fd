"""Which approval a call needs where its server's code and the registry both ask for one."""

from __future__ import annotations

import json

import pytest

from pegboard.core.approval import CALLER, OWNER, Requirement
from pegboard.core.bundle import BundledServer
from pegboard.core.required import asked, effective_requirement, narrows
from pegboard.core.stops import NOTHING_STOPPED

DPO = "data-protection"


def code(by: str, **more: object) -> Requirement:
    return Requirement.model_validate({"by": by, "source": "server"} | more)


def registry(by: str, **more: object) -> Requirement:
    return Requirement.model_validate({"by": by, "source": "registry"} | more)


@pytest.mark.parametrize(
    ("declared", "registered", "by", "source"),
    [
        (None, registry(CALLER), CALLER, "registry"),
        (code(OWNER), None, OWNER, "server"),
        (code(CALLER), registry(OWNER), OWNER, "registry"),
        (code(CALLER), registry(CALLER), CALLER, "registry"),
        (code(OWNER), registry(CALLER), OWNER, "server"),
        (code(OWNER), registry(DPO), DPO, "registry"),
        (code(DPO), registry(OWNER), DPO, "server"),
        (code(DPO), registry("security"), "security", "registry"),
    ],
)
def test_the_stronger_requirement_holds_and_of_equals_the_registrys(
    declared: Requirement | None, registered: Requirement | None, by: str, source: str
) -> None:
    found = effective_requirement(declared, registered)
    assert found is not None
    assert (found.by, found.source) == (by, source)


def test_what_asks_for_nothing_needs_no_approval() -> None:
    assert effective_requirement(None, None) is None


def test_of_two_requirements_the_shorter_time_and_the_stricter_word_on_own_requests_hold() -> None:
    declared, registered = code(DPO, own=True, expires_s=300), registry("security", own=False, expires_s=3600)
    found = effective_requirement(declared, registered)
    assert found == registry("security", own=False, expires_s=300)
    assert effective_requirement(code(DPO), registry("security", own=True)) == registry("security", own=False)
    assert effective_requirement(code(CALLER), registry("security", own=True)) == registry("security", own=True)


def test_a_reason_that_the_registry_does_not_give_is_the_codes() -> None:
    found = effective_requirement(code(OWNER, why="it deletes"), registry(OWNER))
    assert found is not None
    assert found.why == "it deletes"


@pytest.mark.parametrize(
    ("before", "after", "surely"),
    [
        (None, registry(CALLER), True),
        (registry(CALLER), None, False),
        (registry(CALLER), registry(OWNER), True),
        (registry(CALLER), registry(DPO, own=True), True),
        (registry(OWNER), registry(DPO), False),
        (registry(DPO), registry(OWNER), False),
        (registry(DPO), registry("everybody"), False),
        (registry(OWNER), registry(CALLER), False),
        (registry(OWNER), registry(OWNER, own=True), False),
        (registry(OWNER, own=True), registry(OWNER), True),
        (registry(OWNER, expires_s=60), registry(OWNER, expires_s=61), False),
        (registry(OWNER, expires_s=61), registry(OWNER, expires_s=60), True),
        (registry(OWNER, why="a"), registry(OWNER, why="b"), True),
    ],
)
def test_only_what_surely_asks_for_more_narrows(
    before: Requirement | None, after: Requirement | None, surely: bool
) -> None:
    assert narrows(before, after) is surely


def test_who_is_asked_is_said_in_words() -> None:
    assert asked(registry(CALLER), "ads") == "the person whose call it is, in their browser"
    assert asked(registry(OWNER), "ads") == "its owners, ads, and not by whoever asks"
    assert asked(registry(DPO, own=True), "ads") == "somebody of data-protection"


def test_a_bundle_without_requirements_reads_as_it_did_before_there_were_any() -> None:
    """An older kit, and an older edge, refuse a bundle with a key that they do not know."""
    plain = BundledServer(server="prod/presto", owner="ads", support_channel="#ads", release="r")
    assert "approvals" not in json.loads(plain.model_dump_json())
    assert "approvals" not in plain.model_dump(mode="json")
    required = plain.model_copy(update={"approvals": {"drop": registry(OWNER, why="it deletes")}})
    again = BundledServer.model_validate_json(required.model_dump_json())
    assert again == required
    access = again.access("https://pegboard.example", NOTHING_STOPPED, ())
    assert access.approvals["drop"] == registry(OWNER, why="it deletes")
