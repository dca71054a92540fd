"""What is told to the ledger from Envoy's access log, and from where it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pegboard_hub.edge.accesslog import AccessLog, Line
from pegboard_hub.edge.delivery import refusal_of

LINE: Line = {
    "at": "2026-11-23T06:18:41.975Z",
    "request_id": "r1",
    "connection": 7,
    "server": "dev/scratch",
    "status": 403,
    "details": "rbac_access_denied_matched_policy[none]",
    "reason": "surface_not_granted",
    "sub": "ana",
    "sub_type": "person",
    "surface": "chat",
    "channel": None,
    "client_id": "pegboard-chat",
    "mcp_method": "tools/call",
    "tool": "echo",
}


def test_a_refusal_is_told_with_its_time_and_code() -> None:
    refusal = refusal_of(LINE)
    assert refusal is not None
    assert (refusal["at_ms"], refusal["code"], refusal["who"]["sub"]) == (1795414721975, "access_denied", "ana")


@pytest.mark.parametrize(
    "changed",
    [
        {"details": "via_upstream"},
        {"reason": None, "status": 200},
        {"reason": "server_gone", "status": 502},
        {"reason": "server_timeout", "status": 504},
    ],
)
def test_what_a_server_answered_or_may_have_run_is_no_refusal(changed: dict[str, Any]) -> None:
    assert refusal_of({**LINE, **changed}) is None


@pytest.mark.parametrize("changed", [{"sub": None}, {"sub_type": "robot"}, {"surface": ""}, {"client_id": 3}])
def test_nobody_is_named_on_incomplete_claims(changed: dict[str, Any]) -> None:
    refusal = refusal_of({**LINE, **changed})
    assert refusal is not None
    assert refusal["who"] is None


def test_a_request_without_an_id_is_counted_once_by_its_connection() -> None:
    first = refusal_of({**LINE, "request_id": None})
    again = refusal_of({**LINE, "request_id": None})
    other = refusal_of({**LINE, "request_id": None, "connection": 8})
    assert first == again != other


def test_long_names_are_cut() -> None:
    refusal = refusal_of({**LINE, "tool": "x" * 100_000})
    assert refusal is not None
    assert len(refusal["tool"]) == 128


class TestReading:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "edge-access.log"

    def log(self, path: Path) -> AccessLog:
        return AccessLog(path, path.with_name("mark"))

    def ids(self, log: AccessLog) -> list[str]:
        """Read everything there is, and be done with it."""
        found: list[str] = []
        while True:
            lines, place = log.read()
            log.done(place)
            if not lines:
                return found
            found += [line["id"] for line in lines]

    def write(self, path: Path, *ids: str, end: str = "\n") -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps({"id": name}) + end for name in ids))

    def test_a_line_is_read_once_also_over_a_restart(self, path: Path) -> None:
        self.write(path, "a", "b")
        assert self.ids(self.log(path)) == ["a", "b"]
        self.write(path, "c")
        assert self.ids(self.log(path)) == ["c"]

    def test_what_was_not_dealt_with_is_read_again(self, path: Path) -> None:
        self.write(path, "a")
        log = self.log(path)
        assert len(log.read()[0]) == 1
        assert len(log.read()[0]) == 1

    def test_half_a_line_waits_for_its_end(self, path: Path) -> None:
        self.write(path, "a")
        self.write(path, "b", end="")
        log = self.log(path)
        assert self.ids(log) == ["a"]
        with path.open("a") as file:
            file.write("\n")
        assert self.ids(log) == ["b"]

    def test_rotated_files_are_read_to_their_end_in_order(self, path: Path) -> None:
        log = self.log(path)
        self.write(path, "a")
        assert self.ids(log) == ["a"]
        self.write(path, "b")
        path.rename(path.with_name("edge-access.log.2"))
        self.write(path, "c")
        path.rename(path.with_name("edge-access.log.1"))
        self.write(path, "d")
        assert self.ids(log) == ["b", "c", "d"]

    def test_lines_that_come_after_a_rotation_into_the_old_file_are_not_passed_over(self, path: Path) -> None:
        log = self.log(path)
        self.write(path, "a")
        assert self.ids(log) == ["a"]
        old = path.with_name("edge-access.log.1")
        path.rename(old)
        path.touch()
        assert self.ids(log) == []
        self.write(old, "b")  # whoever writes has not opened the new file yet
        assert self.ids(log) == ["b"]
        self.write(path, "c")
        assert self.ids(log) == ["c"]

    def test_files_are_needed_until_they_were_dealt_with(self, path: Path) -> None:
        log = self.log(path)
        self.write(path, "a")
        old = path.with_name("edge-access.log.1")
        path.rename(old)
        self.write(path, "b")
        assert log.needed() == {old.stat().st_ino, path.stat().st_ino}
        assert self.ids(log) == ["a", "b"]
        assert log.needed() == {path.stat().st_ino}

    def test_a_log_cut_in_place_starts_again(self, path: Path) -> None:
        log = self.log(path)
        self.write(path, "a", "b")
        assert self.ids(log) == ["a", "b"]
        path.write_text("")
        self.write(path, "c")
        assert self.ids(log) == ["c"]

    def test_a_line_that_is_no_json_is_left_out(self, path: Path) -> None:
        path.write_text("garbage\n[1]\n")
        self.write(path, "a")
        assert self.ids(self.log(path)) == ["a"]

    def test_no_log_yet_is_nothing_to_read(self, path: Path) -> None:
        assert self.ids(self.log(path)) == []
