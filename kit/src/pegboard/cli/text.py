"""Making text that others wrote safe to print on a terminal."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Any

# Whole sequences first (ECMA-48: CSI, then the strings OSC, DCS, SOS, PM and APC, then two-byte escapes), so that
# no harmless-looking rest of one stays behind.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]).*?(?:\x07|\x1b\\|\x9c|$)"
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)
# What is left of C0 (but tab and line feed) and C1, and the characters that reorder or hide text
# (Unicode TR 36 §3.1: bidirectional controls, zero-width marks, line and paragraph separators, tags).
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f\ud800-\udfff]"
)


def clean(value: Any) -> str:
    """`value` as text without escape sequences, control characters and invisible ones; lines stay lines."""
    return _CONTROLS.sub("", _SEQUENCES.sub("", str(value)))


def line(value: Any) -> str:
    """`clean`, and all on one line: what must not look like two things."""
    return " ".join(clean(value).split())


REVIEWS = {"security": "Security", "privacy": "Legal and privacy", "genai": "GenAI"}


def review_title(kind: Any) -> str:
    """What people call a kind of review; options and --json have the kind itself."""
    return REVIEWS.get(kind) or line(kind)


def moment(at_ms: Any) -> str:
    """A time in milliseconds since the epoch, in UTC; empty where there is none."""
    if not isinstance(at_ms, int) or isinstance(at_ms, bool):
        return ""
    with suppress(ValueError, OverflowError, OSError):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at_ms / 1000))
    return ""
