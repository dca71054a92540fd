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

UNREADY: Mapping[str, str] = {
    BUNDLE_UNUSABLE: "its grants do not verify, or are too old",
    STOPS_UNKNOWN: "its grants are too old to rule out a stop, and its data is sensitive",
}
"""Why every call would be refused, with the words for people."""
