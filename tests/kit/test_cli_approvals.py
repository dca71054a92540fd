"""The command shows what waits for a yes, waits for it, and never gives it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from pegboard.cli import pending, verbatim
from pegboard.cli.app import run
from pegboard.cli.approval_words import body_of, facts_of, what_of
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.pending import Pending
from tests.kit.cli_instance import Instance, running
from tests.kit.guarding import ID, LATER, Guard
from tests.kit.terminals import Terminal

DROP = ["call", "dev/guard", "drop", "--as", "ana"]
URL = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with running(tmp_path_factory.mktemp("guard")) as found:
        yield found


@pytest.fixture
def guard(instance: Instance) -> Guard:
    instance.guard.reset()
    return instance.guard


@pytest.fixture(autouse=True)
def _at_the_instance(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEGBOARD_PUBLIC_URL", instance.url)
    monkeypatch.delenv("PEGBOARD_DEBUG", raising=False)
    monkeypatch.setattr(pending, "LOOK_EVERY_S", 0)


ANA = ["--as", "ana"]
STATUSES: list[tuple[int, str, list[str]]] = [
    (0, "Waits for your yes: id expires asked by", ["approvals", *ANA]),
    (0, "h fay prod/presto drop_tables drops <U+001B>[31mred", ["approvals", "list", *ANA]),
    (0, "You wait for: id expires state to run who decides", ["approvals", "--as", "sam"]),
    (0, "who decides what would happen", ["approvals", "--as", "sam"]),
    (0, "Answer: {url}/approvals, in a browser", ["approvals", *ANA]),
    (0, "Nothing waits for your yes, and you wait for nobody's.", ["approvals", "--as", "gus"]),
    (0, "No request that you may see fits.", ["approvals", "history", "--state", "expired", *ANA]),
    (0, "Older ones: the same command with --cursor more", ["approvals", "history", *ANA]),
    (2, "--state open: choose one of requested,", ["approvals", "history", "--state", "open", *ANA]),
    (0, "requested, and waits for your yes", ["approvals", "show", ID, *ANA]),
    (0, "Answer it in a browser: {url}/approvals/" + ID, ["approvals", "show", ID, *ANA]),
    (0, "because it cannot be undone", ["approvals", "show", ID, *ANA]),
    (0, "with it 1 more: 01k8wz3f6n", ["approvals", "show", ID, *ANA]),
    (3, "There is no request no-such here for you.", ["approvals", "show", "no-such", *ANA]),
    (2, "is none of a request's", ["approvals", "show", "../reviews", *ANA]),
    (2, "is none of a request's", ["approvals", "withdraw", ID, "a/../b", *ANA]),
    (0, "{url}/approvals/" + ID, ["approvals", "open", ID, "--no-browser", *ANA]),
    (0, f"Withdrawn: {ID}, prod/presto drop_tables", ["approvals", "withdraw", ID, "--why", "x", *ANA]),
    (3, "There is no request no-such here for you.", ["approvals", "withdraw", "no-such", *ANA]),
    (4, "never by a command", ["approvals", "approve", ID, "--no-browser", *ANA]),
    (4, "Go on there: {url}/approvals/" + ID, ["approvals", "reject", ID, "--no-browser", *ANA]),
    (
        4,
        "waiting: dev/guard drop has not run: a person must say yes to exactly this call. who the team platform",
        DROP,
    ),
    (4, "who the team platform page {url}/approvals/" + ID, DROP),
    (4, "take back pegboard approvals withdraw " + ID + " --as ana", DROP),
    (4, "pegboard call dev/guard drop --as ana --arg 'tables=[\"a b\"]' --wait", [*DROP, "--arg", 'tables=["a b"]']),
    (4, "or wait for it with --wait look", [*DROP, "--arg", f'tables=["{"x" * 300}"]']),
    (4, "UTC go on run it again once they have answered", [*DROP, "--era", "legacy"]),
    (5, "not signed in", ["approvals"]),
]


@pytest.mark.parametrize(("status", "words", "line"), STATUSES)
def test_exit_status_and_words(
    capsys: pytest.CaptureFixture[str], guard: Guard, instance: Instance, status: int, words: str, line: list[str]
) -> None:
    assert run(line) == status, capsys.readouterr()
    out, err = capsys.readouterr()
    assert words.format(url=instance.url) in " ".join((out + err).split())
    assert guard.ran == 0


AS_JSON = [
    ["approvals", *ANA],
    ["approvals", "--as", "gus"],
    ["approvals", "history", *ANA],
    ["approvals", "show", ID, *ANA],
    ["approvals", "show", "no-such", *ANA],
    ["approvals", "open", ID, "--no-browser", *ANA],
    ["approvals", "withdraw", ID, *ANA],
    ["approvals", "approve", ID, "--no-browser", *ANA],
    DROP,
]


@pytest.mark.parametrize("line", AS_JSON)
def test_json_is_one_document(capsys: pytest.CaptureFixture[str], guard: Guard, line: list[str]) -> None:
    status = run([*line, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert ("error" in document) == (status != 0)


def test_a_pending_call_tells_programs_what_it_waits_for(capsys: pytest.CaptureFixture[str], guard: Guard) -> None:
    assert run([*DROP, "--json"]) == ExitStatus.WAITING
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["code"] == "approval_pending"
    assert document["approval"]["ids"] == [ID]
    assert document["approval"]["expires_at_ms"] <= LATER


@pytest.mark.parametrize("era", ["auto", "modern", "legacy"])
def test_with_wait_the_same_call_goes_on_once_somebody_has_said_yes(
    capsys: pytest.CaptureFixture[str], guard: Guard, era: str
) -> None:
    guard.reset("requested", "requested", "approved")
    assert run([*DROP, "--wait", "--era", era]) == 0
    out, err = capsys.readouterr()
    assert (out, guard.ran) == ("dropped\n", 1)
    assert "Waiting for the team platform" in err
    assert "Approved by pat: going on." in err


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        ("rejected", "approval_rejected", "pat said no; nothing ran."),
        ("expired", "approval_expired", "nothing ran"),
        ("withdrawn", "approval_withdrawn", "It was withdrawn; nothing ran."),
        ("claimed", "approval_claimed", "Another call has run it"),
        ("unknown", "approval_claimed", "Another call has run it"),
    ],
)
def test_with_wait_a_request_that_ends_otherwise_runs_nothing_and_makes_no_new_one(
    capsys: pytest.CaptureFixture[str], instance: Instance, guard: Guard, state: str, code: str, words: str
) -> None:
    guard.reset("requested", state)
    before = len(instance.called)
    assert run([*DROP, "--wait"]) == ExitStatus.DENIED
    calls = len(instance.called) - before
    assert words in capsys.readouterr().err
    assert run(DROP) == ExitStatus.WAITING
    assert len(instance.called) - before == 2 * calls, "it was called again"
    guard.reset("requested", state)
    capsys.readouterr()
    assert run([*DROP, "--wait", "--json"]) == ExitStatus.DENIED
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert guard.ran == 0


def test_a_hub_that_is_away_for_a_while_is_waited_for(capsys: pytest.CaptureFixture[str], guard: Guard) -> None:
    guard.reset("approved", missing=3)
    assert run([*DROP, "--wait"]) == 0
    assert capsys.readouterr().err.count("Still waiting.") == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [("approval_rejected", 3), ("approval_expired", 3), ("approvals_unavailable", 5), ("confirmation_refused", 3)],
)
def test_other_ends_of_an_approval_have_the_status_that_fits(
    capsys: pytest.CaptureFixture[str], guard: Guard, code: str, status: int
) -> None:
    guard.reset(code=code)
    assert run([*DROP, "--wait"]) == status
    assert ("approval" in code and "Rule by rule" not in capsys.readouterr().err) or code == "confirmation_refused"


def test_ctrl_c_while_it_waits_leaves_the_request_and_says_how_to_go_on(instance: Instance, guard: Guard) -> None:
    line = [sys.executable, "-m", "pegboard.cli", *DROP, "--wait"]
    with subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert first.startswith("Waiting for the team platform")
    assert (process.returncode, out) == (ExitStatus.INTERRUPTED, "")
    assert "The request stays, and can be answered until" in err
    assert "Go on:        pegboard call dev/guard drop --as ana" in err
    assert f"Take it back: pegboard approvals withdraw {ID} --as ana" in err
    assert "Traceback" not in err
    assert guard.withdrawn == []


@dataclass
class Seat:
    """A person at the terminal of a command that runs in process.

    Attributes:
        types: what they type, line by line; then they end the input.
        opened: the pages that their browser was sent to.
    """

    types: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    def typed(self) -> str:
        return f"{self.types.pop(0)}\n" if self.types else ""


@pytest.fixture
def seat(monkeypatch: pytest.MonkeyPatch) -> Seat:
    seat = Seat()

    def opens(page: str) -> threading.Thread:
        seat.opened.append(page)
        (done := threading.Thread()).start()
        return done

    monkeypatch.setattr("pegboard.cli.call.somebody_is_here", lambda: True)
    monkeypatch.setattr("pegboard.cli.asking.typed", seat.typed)
    monkeypatch.setenv("BROWSER", "true")
    monkeypatch.setattr("pegboard.cli.asking.open_page", opens)
    monkeypatch.setattr("pegboard.cli.login.browser.open_page", opens)
    return seat


CONFIRM = ["call", "dev/guard", "confirm", "--as", "ana"]


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["y"], ("accept", {})),
        ([" YES "], ("accept", {})),
        ([""], ("decline", None)),
        (["n"], ("decline", None)),
        (["yess"], ("decline", None)),
        ([], ("cancel", None)),
    ],
)
def test_a_confirmation_is_asked_at_the_terminal_and_silence_is_no_yes(
    guard: Guard, seat: Seat, capsys: pytest.CaptureFixture[str], era: str, typed: list[str], answer: tuple[str, Any]
) -> None:
    seat.types = list(typed)
    assert run([*CONFIRM, "--era", era]) == 0
    out, err = capsys.readouterr()
    assert (out, guard.answers) == (f"{answer[0]}\n", [answer])
    assert "| Overwrite <U+001B>[31mred" in err
    assert "\x1b" not in err


def test_at_a_real_terminal_the_question_is_shown_and_read_beside_the_answer(guard: Guard) -> None:
    with Terminal(*CONFIRM) as person:
        person.until("Go on? [y/N]")
        person.type("y\n")
        assert person.end() == (0, "accept\n")
    assert guard.answers == [("accept", {})]


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_where_nobody_sits_no_form_is_answered_and_the_call_waits_on_the_page(
    guard: Guard, era: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*CONFIRM, "--era", era]) == ExitStatus.WAITING
    assert guard.answers == []


@pytest.mark.parametrize("option", ["--yes", "-y", "--force", "--no-confirm"])
def test_no_option_says_yes_beforehand(guard: Guard, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*CONFIRM, option]) == ExitStatus.USAGE
    assert guard.answers == []


FIELDS = {
    "sure": {"type": "boolean", "title": "Sure"},
    "rows": {"type": "integer"},
    "mode": {"type": "string", "enum": ["fast", "safe"]},
    "note": {"type": "string"},
}


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["y", "many", "7", "slow", "safe", ""], ("accept", {"sure": True, "rows": 7, "mode": "safe"})),
        (["", "7", "", "a b"], ("accept", {"sure": False, "rows": 7, "note": "a b"})),
        (["y", ""], ("cancel", None)),
        (["y", "7"], ("cancel", None)),
    ],
)
def test_a_form_of_several_fields_is_asked_until_each_fits_or_is_given_up(
    guard: Guard, seat: Seat, typed: list[str], answer: tuple[str, Any]
) -> None:
    guard.schema = {"type": "object", "properties": FIELDS, "required": ["rows"]}
    seat.types = list(typed)
    assert run(CONFIRM) == 0
    assert guard.answers == [answer]


@pytest.mark.heavy
def test_ctrl_c_at_a_question_answers_nothing(guard: Guard) -> None:
    with Terminal(*CONFIRM) as person:
        person.until("Go on? [y/N]")
        person.process.send_signal(signal.SIGINT)
        assert person.end() == (ExitStatus.INTERRUPTED, "")
    assert guard.answers == []


HERE = ["call", "dev/guard", "drop_here", "--as", "ana", "--era", "modern"]


@pytest.mark.parametrize("browser", [True, False])
def test_with_wait_a_modern_server_s_link_is_shown_and_its_call_goes_on(
    guard: Guard, instance: Instance, seat: Seat, capsys: pytest.CaptureFixture[str], browser: bool
) -> None:
    guard.reset("requested", "requested", "approved")
    assert run([*HERE, "--wait", *([] if browser else ["--no-browser"])]) == 0
    out, err = capsys.readouterr()
    page = f"{instance.url}/approvals/{ID}"
    assert (out, err.count(page), seat.opened) == ("dropped\n", 1, [page] if browser else [])
    assert (guard.answers[0], guard.ran) == (("accept", None), 1)


def test_without_wait_the_link_is_not_opened_and_the_request_stays(
    guard: Guard, instance: Instance, seat: Seat, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(HERE) == ExitStatus.WAITING
    assert (guard.answers, seat.opened) == ([("cancel", None)], [])
    assert f"{instance.url}/approvals/{ID}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "action"), [([""], "decline"), (["n"], "decline"), ([], "cancel"), (["y"], "accept")]
)
def test_a_page_that_is_not_pegboard_s_is_opened_only_when_the_person_says_so(
    guard: Guard, seat: Seat, capsys: pytest.CaptureFixture[str], typed: list[str], action: str
) -> None:
    guard.reset("requested", "requested", "approved")
    guard.page = "https://evil.example/approvals/" + ID
    seat.types = list(typed)
    run([*HERE, "--wait"])
    assert "a page of evil.example, which is not Pegboard's" in capsys.readouterr().err
    assert guard.answers[0] == (action, None)
    assert seat.opened == ([guard.page] if action == "accept" else [])


@pytest.mark.parametrize(
    "page",
    [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://localhost@evil.example/",
        "https://\u0435vil.example/",
        "https://evil.example/\x1b[2J",
        "https://[evil/",
        "//evil.example",
    ],
)
def test_what_is_no_plain_address_is_never_opened(
    guard: Guard, seat: Seat, capsys: pytest.CaptureFixture[str], page: str
) -> None:
    guard.page = page
    seat.types = ["y", "y"]
    assert run(HERE) == ExitStatus.WAITING
    assert (guard.answers[0], seat.opened) == (("decline", None), [])
    err = capsys.readouterr().err
    assert "it was not opened" in err
    assert "\x1b" not in err


def test_a_long_line_is_cut_between_words_and_nothing_of_it_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbatim, "_width", lambda: 72)
    for text in ("Write 16 rows to table late_10; there is none so far. 語" * 4, "x" * 300, f"a {'y' * 200}"):
        rows = list(verbatim.block(text))
        assert "".join(row[2:] for row in rows) == text
        assert all(verbatim._columns(row) <= 72 for row in rows)
    assert next(verbatim.block("one word after another " * 4)).endswith("another ")


def test_a_long_batch_and_a_tool_that_says_nothing_are_told_in_a_line() -> None:
    shown = dict(facts_of({"id": "a", "beside": [f"b{number}" for number in range(20)]}))
    assert shown["with it"] == "20 more: b0 b1 b2 b3 b4 b5 b6 b7 …, on the page"
    assert what_of({"what": ""}).startswith("the tool does not say")


def test_withdrawing_gives_the_reason(guard: Guard) -> None:
    assert run(["approvals", "withdraw", ID, "--why", "the wrong table", *ANA]) == 0
    assert guard.withdrawn == ["the wrong table"]


@pytest.mark.parametrize("words", [["show", ID], ["list"], ["history"]])
def test_nothing_of_a_stranger_reaches_the_terminal_as_more_than_it_is(
    capsys: pytest.CaptureFixture[str], guard: Guard, words: list[str]
) -> None:
    assert run(["approvals", *words, *ANA]) == 0
    out, err = capsys.readouterr()
    assert not re.search(r"[^\n\x20-\x7e…─━]", out + err), "something that is no plain character"
    assert [line for line in out.splitlines() if re.match(r"state +approved", line)] == []


def test_what_would_run_is_shown_whole_and_nothing_is_pushed_out_of_sight(
    capsys: pytest.CaptureFixture[str], guard: Guard
) -> None:
    assert run(["approvals", "show", ID, *ANA]) == 0
    out = capsys.readouterr().out
    assert "(3,000 spaces)DROP TABLE flights" in out
    assert "(50 empty lines)" in out
    assert "zero<U+200B>width" in out
    assert "| 1.0" in out
    assert "Look closely: some characters do not show" in out


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        "x",
        {},
        {"id": 1},
        {"id": "../reviews/1"},
        {"ids": []},
        {"ids": [ID, "\x1b[2J"]},
        {"ids": ID},
        {"ids": {ID: 1}},
        {"ids": [ID] * 101},
    ],
)
def test_what_a_server_makes_up_of_an_approval_is_not_followed(told: Any) -> None:
    assert Pending.read(told, URL) is None


def test_a_server_s_link_is_never_what_the_command_shows_or_opens() -> None:
    told = {"id": ID, "page": "https://evil.example", "asks": "\x1b[2Jyou\nnow", "expires_at_ms": 10**30, "yours": 1}
    found = Pending.read(told, URL)
    assert found is not None
    assert (found.page, found.asks, found.yours) == (f"{URL}/approvals/{ID}", "you now", False)
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", found.until)


@pytest.mark.parametrize(
    "page",
    [
        f"https://evil.example/approvals/{ID}",
        f"{URL}/approvals/{ID}/decide",
        f"{URL}/approvals/../sign-out",
        f"{URL}/approvals/{ID}?verdict=approve",
        f"{URL}.evil.example/approvals/{ID}",
        f"{URL}/reviews/{ID}",
        "",
    ],
)
def test_only_an_approval_s_page_of_this_instance_is_taken_for_one(page: str) -> None:
    assert Pending.of_page(page, URL) is None
    assert Pending.of_page(f"{URL}/approvals/{ID}", URL) == Pending((ID,), URL)


def test_a_batch_is_waited_for_until_all_of_it_is_decided(capsys: pytest.CaptureFixture[str]) -> None:
    states = {"a001": ["requested", "approved"], "a002": ["rejected", "rejected"]}
    found = Pending(("a001", "a002"), URL)
    looks: list[str] = []

    def look(request: str) -> dict[str, Any]:
        looks.append(request)
        return {"state": states[request].pop(0), "decided_by": "pat"}

    pending.wait_for(found, look, sleep=lambda _: None)
    assert looks == ["a001", "a002", "a001", "a002"]
    assert "Approved 1 of 2 by pat" in capsys.readouterr().err


def test_who_is_no_longer_signed_in_waits_no_longer() -> None:
    def look(request: str) -> dict[str, Any]:
        raise Failure.here(ExitStatus.UNREACHABLE, "not_signed_in", request)

    with pytest.raises(Failure, match=ID):
        pending.wait_for(Pending((ID,), URL), look)


WIPE = ["call", "dev/desk", "wipe", "--as", "ana", "--arg"]


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_governed_call_waits_and_the_same_command_goes_on_once(
    capsys: pytest.CaptureFixture[str], instance: Instance, era: str
) -> None:
    line = [*WIPE, f'tables=["again_{era}"]', "--era", era]
    assert run(line) == run(line) == ExitStatus.WAITING
    [request] = instance.hub.approvals.waiting
    err = capsys.readouterr().err
    assert f"{instance.url}/approvals/{request.id}" in err
    instance.hub.approvals.approve(by="fay")
    assert run(line) == 0
    assert capsys.readouterr().out == f"wiped again_{era}\n"
    assert run(line) == ExitStatus.WAITING
    instance.hub.approvals.withdraw()


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_governed_batch_is_waited_for_and_runs_with_what_was_approved(
    capsys: pytest.CaptureFixture[str], instance: Instance, era: str
) -> None:
    instance.verdicts = ["look", "look", "some"]
    assert run([*WIPE, f'tables=["a_{era}", "b_{era}"]', "--era", era, "--wait"]) == 0
    out, err = capsys.readouterr()
    assert f"wiped b_{era}" in out
    assert "Approved 1 of 2 by fay: going on." in err
    assert f'left out: "a_{era}", rejected: not this one' in err


def test_a_governed_call_that_is_rejected_says_by_whom_and_why(
    capsys: pytest.CaptureFixture[str], instance: Instance
) -> None:
    instance.verdicts = ["reject"]
    line = [*WIPE, 'tables=["rejected"]']
    assert run([*line, "--wait"]) == ExitStatus.DENIED
    err = capsys.readouterr().err
    assert "fay said no; nothing ran." in err
    assert "not today" in err
    assert run(line) == ExitStatus.DENIED
    err = capsys.readouterr().err
    assert "said no to this call" in err
    assert "Rule by rule" not in err


def test_a_governed_call_waits_at_the_link_that_a_modern_client_opens(
    instance: Instance, seat: Seat, capsys: pytest.CaptureFixture[str]
) -> None:
    instance.hub.approvals.longest_wait_s = 0.05
    instance.verdicts = ["approve"]
    assert run([*WIPE, 'tables=["linked"]', "--era", "modern", "--wait"]) == 0
    out, err = capsys.readouterr()
    assert (out, err.count("/approvals/"), len(seat.opened)) == ("wiped linked\n", 1, 1)


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize(("typed", "status", "out"), [("y", 0, "overwrote flights\n"), ("", 3, "")])
def test_a_governed_confirmation_is_the_person_s_at_the_terminal(
    instance: Instance, seat: Seat, capsys: pytest.CaptureFixture[str], era: str, typed: str, status: int, out: str
) -> None:
    seat.types = [typed]
    assert run(["call", "dev/desk", "overwrite", "--as", "ana", "--arg", "table=flights", "--era", era]) == status
    told = capsys.readouterr()
    assert told.out == out
    assert "Overwrite" in told.err
    assert seat.types == []


def test_a_governed_confirmation_waits_on_its_page_where_nobody_sits(
    capsys: pytest.CaptureFixture[str], instance: Instance
) -> None:
    assert run(["call", "dev/desk", "overwrite", "--as", "ana", "--arg", "table=alone"]) == ExitStatus.WAITING
    assert "/approvals/" in capsys.readouterr().err
    instance.hub.approvals.withdraw()


def test_arguments_that_are_no_longer_kept_are_not_told_as_none() -> None:
    told = {"server": "prod/presto", "tool": "drop_tables", "preview": None}
    assert "no longer kept" in "\n".join(body_of(told | {"arguments": None}))
    assert "without arguments" in "\n".join(body_of(told | {"arguments": {}}))
