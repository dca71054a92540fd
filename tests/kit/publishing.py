"""A stand-in for the hub's routes of publishing: it takes archives, and each goes the way its server tells.

`dev/…` goes live, `prod/…` waits for reviews, and a server that is called `broken` fails while it is built.
"""

from __future__ import annotations

import json
from typing import Any

from pegboard.core.archive import unpack
from pegboard.core.publishing import SOURCE_TYPE, sha256

AT = 1_800_000_000_000
WAYS = {
    "live": [
        ("submitted", "received", "", "ana"),
        ("submitted", "installing", "34 packages", ""),
        ("built", "built", "", ""),
        ("checked", "checked", "nothing found", ""),
        ("approved", "approved", "dev needs no review", ""),
        ("deploying", "smoke calls", "1 of 1", ""),
        ("live", "live", "", ""),
    ],
    "in review": [("submitted", "received", "", "ana"), ("in review", "security", "", "")],
    "failed": [("submitted", "received", "", "ana"), ("failed", "installing", "no such package", "")],
}
TROUBLE = {"step": "installing", "what": "there is no package nosuch", "mend": "Take it out of pyproject.toml."}


class Publishing:
    """Submissions, and what runs.

    Attributes:
        found: submissions by id.
        queries: what each submission said of itself.
        done: what an owner asked of a deployment: (server, verb, body).
        hostile: text that stands wherever somebody else writes.
        stage: of every deployment.
    """

    def __init__(self, hostile: str) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self.queries: list[dict[str, str]] = []
        self.done: list[tuple[str, str, dict[str, Any]]] = []
        self.hostile = hostile
        self.told: list[str] = []
        self.stage = "stepping"

    def api(
        self, method: str, path: str, query: dict[str, str], body: bytes, person: str, kind: str
    ) -> tuple[int, dict[str, Any]] | None:
        """The answer to a request under /api/v1/; None where it is about something else."""
        match path.split("/"):
            case ["servers", namespace, name, "submissions"] if method == "POST":
                assert kind == SOURCE_TYPE
                return self._take(f"{namespace}/{name}", query, body, person)
            case ["servers", "dev", "nothing", "submissions"]:
                return 200, {"submissions": [], "next": None}
            case ["servers", namespace, name, "submissions"]:
                mine = [self._shown(each) for each in self.found.values() if each["server"] == f"{namespace}/{name}"]
                return 200, {"submissions": mine[::-1], "next": None}
            case ["submissions", which, *rest] if which in self.found:
                return self._one(self.found[which], method, rest, query, body)
            case ["servers", namespace, name, "deployment", *rest] if name in ("weather", "broken"):
                if rest:
                    self.done.append((f"{namespace}/{name}", rest[0], json.loads(body)))
                return 200, self.deployment(f"{namespace}/{name}")
            case ["servers", "prod", "presto", "deployment"]:
                return 200, {"server": "prod/presto", "stage": "settled", "live": None, "replicas": []}
            case ["servers", namespace, name, "logs"] if name == "weather":
                return 200, self._logs(query)
            case ["servers", namespace, name, ("deprecate" | "retire") as verb] if name == "weather":
                self.done.append((f"{namespace}/{name}", verb, json.loads(body)))
                return 200, {"server": f"{namespace}/{name}", "lifecycle": f"{verb}d"}
        return None

    def _take(self, server: str, query: dict[str, str], body: bytes, person: str) -> tuple[int, dict[str, Any]]:
        assert "pegboard.toml" in unpack(body)
        self.queries.append(query)
        source = sha256(body)
        there = next((e for e in self.found.values() if (e["server"], e["source"]) == (server, source)), None)
        if there is not None:
            return 200, self._shown(there)
        return 202, self._shown(self._new(server, source, query, person))

    def _new(self, server: str, source: str, query: dict[str, str], person: str) -> dict[str, Any]:
        namespace, name = server.split("/")
        way = "failed" if name == "broken" else "in review" if namespace == "prod" else "live"
        made = {
            "id": f"sub-{len(self.found) + 1}",
            "server": server,
            "source": source,
            "way": way,
            "submitted_by": person,
            "at": AT,
            "message": query.get("message", ""),
            "commit": query.get("commit", ""),
        }
        self.found[str(made["id"])] = made
        return made

    def _shown(self, found: dict[str, Any]) -> dict[str, Any]:
        way = found["way"]
        shown = {name: value for name, value in found.items() if name != "way"}
        shown |= {"state": WAYS[way][-1][0], "release": None, "version": None, "findings": [], "trouble": None}
        finding = {
            "code": "PB204",
            "severity": "warning",
            "place": "src/server.py:3",
            "what": self.hostile,
            "fix": "x",
        }
        if way == "failed":
            return shown | {"trouble": TROUBLE}
        page = "http://127.0.0.1/reviews/r1"
        reviews = [{"id": "r1", "kind": "security", "state": "open", "page": page}] if way == "in review" else []
        changes = [{"what": f"tool look_up: {self.hostile}", "before": "", "after": "a"}]
        release = {"release": sha256(found["id"].encode()), "version": "1.0.0"}
        return shown | release | {"findings": [finding], "reviews": reviews, "changes": changes}

    def _one(
        self, found: dict[str, Any], method: str, rest: list[str], query: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, Any]]:
        if rest == ["again"] and method == "POST":
            asked = json.loads(body)
            server = f"{asked['namespace']}/{found['server'].split('/')[1]}"
            return 202, self._shown(self._new(server, found["source"], asked, found["submitted_by"]))
        if rest == ["events"]:
            events = [
                {"seq": n + 1, "at_ms": AT + n * 400, "state": s, "step": step, "what": what, "who": who}
                for n, (s, step, what, who) in enumerate(WAYS[found["way"]])
            ]
            after = int(query.get("after", "0"))
            assert after >= 0
            # Two at a time, as they come.
            some = [event for event in events if event["seq"] > after][: 2 if "wait_s" in query else None]
            self.told += [event["step"] for event in some]
            return 200, {"events": some, "state": some[-1]["state"] if some else events[-1]["state"]}
        if method == "DELETE":
            if found["way"] == "live":
                told = {
                    "code": "too_late",
                    "message": f"It is live. {self.hostile}",
                    "layer": "hub",
                    "what_to_do": "Go back.",
                }
                return 409, {"error": {**told, "reason": "too_late", "request_id": ""}}
            self.done.append((found["server"], "withdraw", query))
            return 200, self._shown(found)
        return 200, self._shown(found)

    def deployment(self, server: str) -> dict[str, Any]:
        """What runs of a server."""
        one = {
            "submission": next((e["id"] for e in self.found.values() if e["server"] == server), ""),
            "release": "ab" * 32,
            "version": "1.0.0",
            "state": "live",
            "submitted_by": "spiffe://example.org/ci/weather",
            "submitted_by_kind": "service",
            "commit": "0123abcd",
            "repository": f"https://git.example.org/{self.hostile}",
            "dirty": False,
            "ready": 2,
            "wanted": 2,
            "percent": 75,
        }
        figures = {"calls": 40, "error_percent": 2.5, "median_ms": 12.0, "denial_percent": 0.0}
        return {
            "server": server,
            "stage": self.stage,
            "since": AT,
            "until": AT + 60_000,
            "percent": 25,
            "paused": True,
            "paused_why": self.hostile,
            "live": one,
            "candidate": {**one, "version": "1.1.0", "percent": 25},
            "previous": None,
            "replicas": [
                {
                    "id": "abab-1",
                    "release": "ab" * 32,
                    "role": "live",
                    "state": "ready",
                    "in_flight": 3,
                    "restarts": 1,
                    "memory_mb": 80,
                    "last_failure": self.hostile,
                }
            ],
            "scale": {"min": 2, "max": 4, "declared_min": 1, "declared_max": 1, "overridden": True},
            "watch": {
                "calls": 40,
                "wanted_calls": 50,
                "unsaid": "10 calls more",
                "after": figures,
                "before": figures,
            },
        }

    def _logs(self, query: dict[str, str]) -> dict[str, Any]:
        every = [
            {
                "at": "2027-01-15T08:00:00.000Z",
                "level": "info",
                "replica": "abab-1",
                "text": "hello",
                "request_id": "",
            },
            {
                "at": "2027-01-15T08:00:01.000Z",
                "level": "error",
                "replica": "abab-1",
                "text": self.hostile,
                "request_id": "req-9",
            },
        ]
        wanted = [each for each in every if query.get("q", "") in each["text"]]
        wanted = [each for each in wanted if query.get("request_id", each["request_id"]) == each["request_id"]]
        return {"lines": wanted, "more": False}
