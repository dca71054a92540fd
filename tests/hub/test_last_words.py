"""Why a process ended is told in its own last words, and in nobody else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pegboard_hub.runtime.machine.last_words import last_words
from pegboard_hub.runtime.mending import line_of


def kit(message: str, level: str = "info", logger: str = "stderr", **more: str) -> str:
    return json.dumps({"level": level, "logger": logger, "message": message, **more})


OVER = line_of("ended with status 1")

LOGS = {
    "what it printed last": ([kit("one"), kit("ModuleNotFoundError: No module named 'x'"), OVER], "ModuleNotFound"),
    "plain output": (["Segmentation fault", OVER], "Segmentation fault"),
    "an error before what it printed": ([kit("it differs", "error", "app"), kit("bye"), OVER], "it differs"),
    "an error's exception": (
        [kit("a tool failed", "error", "app", exception="Traceback\nKeyError: 'a'"), OVER],
        "a tool failed: KeyError: 'a'",
    ),
    "nothing that others noted in passing": ([kit("smoke call: ok", logger="pegboard.transport.smoke"), OVER], ""),
    "nothing of the process before": ([kit("the first", "error"), OVER, kit("the second"), OVER], "the second"),
    "nothing where it said nothing": ([kit("the first", "error"), OVER, OVER], ""),
    "before our own word is there": ([OVER, kit("just now")], "just now"),
    "what is no object": (["[1, 2]", "3", OVER], "3"),
    "an empty log": ([], ""),
}


@pytest.mark.parametrize("case", LOGS)
def test_the_last_words_are(tmp_path: Path, case: str) -> None:
    lines, told = LOGS[case]
    log = tmp_path / "log"
    log.write_text("".join(f"{line}\n" for line in lines))
    assert last_words(log).startswith(told) if told else last_words(log) == ""


def test_no_log_says_nothing(tmp_path: Path) -> None:
    assert last_words(tmp_path / "none") == ""
