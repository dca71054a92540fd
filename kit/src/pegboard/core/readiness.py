"""What a server answers to whoever asks whether a call would be served: the same words for kit and prober."""

from __future__ import annotations

from collections.abc import Mapping

HEALTH_PATH = "/healthz"
"""200 while its loop turns, whatever else is wrong."""

READY_PATH = "/readyz"
"""200 with `{"status": "ok"}` while calls are served; else 503 with the reason as status, one of `UNREADY`."""

OK = "ok"

BUNDLE_UNUSABLE = "bundle_unusable"
STOPS_UNKNOWN = "stops_unknown"
SMOKE_RUNNING = "smoke_running"
SMOKE_FAILED = "smoke_failed"

SMOKE = "smoke"
"""Key of the answer to `READY_PATH` under which stands how each smoke call went, by tool: `ok`, or what was wrong."""

UNREADY: Mapping[str, str] = {
    BUNDLE_UNUSABLE: "its grants do not verify, or are too old",
    SMOKE_RUNNING: "its smoke calls are under way",
    SMOKE_FAILED: "its smoke calls did not go as its author says they should",
    STOPS_UNKNOWN: "its grants are too old to rule out a stop, and its data is sensitive",
}
"""Why every call would be refused, with the words for people."""
