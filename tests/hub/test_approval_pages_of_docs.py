"""What the guide on webhooks and the reference on approvals over HTTP say is what the code takes and sends."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pegboard_hub
from pegboard.core.approval import Answer, Ask, Over, Told
from pegboard.core.record import RECORD
from pegboard_hub.approvals.errors import Code
from pegboard_hub.notify.message import TEST, body
from pegboard_hub.notify.settings import EVENTS, NotifyFile
from tests.hub.webhooks import notice

DOCS = Path(__file__).resolve().parents[2] / "docs"
GUIDE = (DOCS / "guides" / "tell-people-that-an-approval-waits.md").read_text("utf-8")
REFERENCE = (DOCS / "reference" / "approvals-over-http.md").read_text("utf-8")


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)


def first_column(page: str, head: str) -> set[str]:
    """The names in the first column of the table that begins with `head`."""
    [table] = re.findall(rf"^\| {head} \|.*?\n\|[-|]+\|\n(.*?)(?:\n\n|\Z)", page, re.DOTALL | re.MULTILINE)
    return {name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])}


def test_the_file_of_the_guide_is_one() -> None:
    [file] = blocks(GUIDE, "toml")
    assert set(NotifyFile.model_validate(tomllib.loads(file)).destinations) == {"platform-chat", "ads-pager"}


def test_the_guide_names_every_type_and_shows_a_message_as_it_is_sent() -> None:
    assert first_column(GUIDE, "type") == {f"approval.{event}" for event in EVENTS} | {TEST}
    [shown] = [json.loads(each) for each in blocks(GUIDE, "json")]
    sent: dict[str, Any] = json.loads(body("requested", [notice()], 1, "https://pegboard.acme.example"))
    assert (shown.keys(), list(shown["data"])) == (sent.keys(), list(sent["data"]))
    decided: dict[str, Any] = json.loads(body("decided", [notice(decided_by="oli")], 1, ""))["data"]
    more = decided.keys() - sent["data"].keys()
    assert [name for name in more if f"`{name}`" not in GUIDE] == []


def test_the_reference_has_every_field_of_a_question_and_of_its_answer() -> None:
    assert first_column(REFERENCE, "field") == set(Ask.model_fields)
    answer, records = blocks(REFERENCE, "json")
    shown = json.loads(answer)
    assert set(shown) == set(Answer.model_fields)
    assert set(shown["actions"][0]) == set(Told.model_fields)
    assert [RECORD.validate_python(each).kind for each in json.loads(records)["records"]] == ["intent", "outcome"]
    assert set(Over.model_fields) == {"processes"}


def test_the_codes_of_the_reference_are_there() -> None:
    told = set(re.findall(r"`([a-z]+_[a-z_]+)`", REFERENCE.partition("| status | code |")[2].partition("\n\n")[0]))
    doors = ("unauthenticated", "too_large", "invalid_request", "storage_unavailable")
    known = {*get_args(Code), *Ask.model_fields, *doors}
    assert told - known == set()


PAGES = Path(pegboard_hub.__file__).parent / "web" / "pages"
SHOWN = (
    *("What happens", "For whom", "Cost", "Good for", "Exactly this would run", "Look closely", "Folded"),
    *("Its server runs another release now", "Approve", "Reject", "outcome unknown"),
    *("The tool does not declare this argument", "not sent, so as the tool has it"),
)
"""What the approver's guide says that one reads on the page."""


def test_the_approvers_guide_names_what_is_on_the_page() -> None:
    guide = (DOCS / "guides" / "approve-in-two-minutes.md").read_text("utf-8")
    files = [*PAGES.glob("templates/approval*.html"), *PAGES.glob("approvals/*.py")]
    pages = "".join(file.read_text("utf-8") for file in files).replace("’", "'")
    assert [words for words in SHOWN if words.lower() not in guide.lower()] == []
    assert [words for words in SHOWN if words not in pages] == []
