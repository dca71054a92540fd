"""The budgets, each beside what was measured."""

from __future__ import annotations

from typing import Any, NamedTuple

from bench.reporting.calls import Calls


class Budget(NamedTuple):
    """One promise, and whether this run kept it."""

    what: str
    promised: str
    measured: str
    met: bool

    @property
    def verdict(self) -> str:
        """In a word."""
        return "met" if self.met else "**not met**"


def budgets(calls: Calls, kept: dict[str, Any]) -> list[Budget]:
    """All of them, in the order in which they were made."""
    return [
        *_costs(calls),
        *_throughputs(calls),
        *_edge(kept["edge"]),
        *_registry(kept["registry"]),
        *_approvals(kept),
        *_memory(kept["memory"]),
        *_starts(kept),
    ]


def _costs(calls: Calls) -> list[Budget]:
    governed, fastmcp, guarded = calls.row("pegboard"), calls.row("fastmcp"), calls.row("envoy-guarded")
    bare, fast = calls.row("mcp"), calls.row("mcp-fast")
    whole = governed.path_us / fastmcp.path_us
    edge = governed.cpu_us["edge"] / guarded.cpu_us["edge"]
    kit = governed.cpu_us["server"] / bare.cpu_us["server"]
    alike = governed.cpu_us["server"] / fast.cpu_us["server"]
    return [
        Budget(
            "CPU of a governed call, edge and server, to one of a FastMCP server",
            "≤ 0.5",
            f"{whole:.2f}",
            whole <= 0.5,
        ),
        Budget("CPU of the edge to Envoy with JWT, RBAC and log", "≤ 1.5", f"{edge:.2f}", edge <= 1.5),
        Budget("CPU of a server on the kit to a bare `mcp` server", "≤ 1.25", f"{kit:.2f}", kit <= 1.25),
        Budget("The same, to one on the event loop and parser of the kit", "≤ 1.25", f"{alike:.2f}", alike <= 1.25),
    ]


def _throughputs(calls: Calls) -> list[Budget]:
    wanted = (("fastmcp-proxy", "modern", 10), ("litellm", "legacy", 50), ("contextforge", "legacy", 50))
    found = []
    for name, era, times in wanted:
        rival = calls.row(name, era)
        ratio = calls.row("pegboard", era).rate / rival.rate
        what = f"Throughput to {rival.label}, {era} era"
        found.append(Budget(what, f"≥ {times} ×", f"{ratio:.1f} ×", ratio >= times))
    return found


def _edge(kept: dict[str, Any]) -> list[Budget]:
    rows, beside = kept["sizes"], kept["beside"]
    few, many = rows[0], rows[-1]
    ratio = max(row["last_us"] for row in rows if row["servers"] == many["servers"]) / few["first_us"]
    slowest = max(row["change_s"] for row in rows)
    largest = max(row["rss_mib"] for row in rows)
    stopped = max(kept["stops"][layer]["worst_s"] for layer in ("edge", "server"))
    dearest = max((figures["ordinary"]["ratio"], name) for name, figures in beside.items())
    return [
        Budget(
            "CPU of the edge alone to the same, one call after the other by an ordinary client, at its dearest",
            "≤ 1.5",
            f"{dearest[0]:.2f} ({dearest[1]})",
            dearest[0] <= 1.5,
        ),
        Budget("Edge: last of 10,000 servers to first of 10", "flat (≤ 1.1)", f"{ratio:.2f}", ratio <= 1.1),
        Budget(
            "A stop is in force, at both layers, under load, at its slowest",
            "< 2 s",
            f"{stopped:.2f} s",
            stopped < 2,
        ),
        Budget("A change reaches the edge, 10,000 servers", "< 2 s", f"{slowest:.1f} s", slowest < 2),
        Budget("Envoy's memory, 10,000 servers", "< 400 MB", f"{largest:.0f} MiB", largest < 400),
    ]


_ASKED = {
    "List": "list, 20 of all",
    "List of what I may use, with their tools": "list, 20 of what I may use",
    "Search": "search, 20 of all",
    "Access check": "access check",
}
"""Rows of the registry's bench that have a budget, by what the table calls them."""


def _registry(kept: dict[str, Any]) -> list[Budget]:
    took = {row["what"]: row["p99_ms"] for row in kept["rows"] if not row["faults"]}
    changed = max(kept["changes_s"])
    return [
        *(
            Budget(f"{label}, p99 at 32 clients, 10,000 servers", "< 50 ms", f"{took[row]:.0f} ms", took[row] < 50)
            for label, row in _ASKED.items()
        ),
        Budget("A saved change is in force at the edge, 10,000 servers", "< 2 s", f"{changed:.1f} s", changed < 2),
    ]


def _approvals(kept: dict[str, Any]) -> list[Budget]:
    inboxes, idle = kept["approvals_inbox"], kept["approvals"]["idle"]
    slowest = max(row["one"]["p99_ms"] for row in inboxes["rows"] if "inbox of" in row["what"])
    what = f"p99 of an inbox with {inboxes['requests']:,} requests that wait, one after the other"
    dearest = max(row["ratio"] for row in idle)
    return [
        Budget(
            "Call of a tool that declares an approval and needs none, to one that declares none",
            "< 1.05",
            f"{dearest:.3f}",
            dearest < 1.05,
        ),
        Budget(what, "< 100 ms", f"{slowest:.0f} ms", slowest < 100),
    ]


def _memory(kept: dict[str, Any]) -> list[Budget]:
    most = {role: max(row["mib"][role] for row in kept["rows"]) for role in kept["rows"][0]["mib"]}
    server = max(most["prod/presto"], most["dev/scratch"])
    calls = [row["mib"] for row in kept["rows"] if row["stage"].endswith("calls")]
    half = calls[len(calls) // 2 - 1]
    grown = {role: calls[-1][role] - half[role] for role in ("hub", "dev/scratch", "edge")}
    worst = max(grown, key=lambda role: grown[role])
    return [
        Budget("Memory of the hub, at its most", "< 250 MB", f"{most['hub']:.0f} MiB", most["hub"] < 250),
        Budget("Memory of a seed server, at its most", "< 120 MB", f"{server:.0f} MiB", server < 120),
        Budget(
            "Memory flat over 100,000 calls: most growth in the second half",
            "none (< 5 MB)",
            f"{grown[worst]:.0f} MiB ({worst})",
            grown[worst] < 5,
        ),
    ]


def _starts(kept: dict[str, Any]) -> list[Budget]:
    _, warm, second = (row["seconds"] for row in kept["first_call"]["rows"])
    return [
        Budget("`make up` to the first governed call, warm package cache", "< 3 min", f"{warm:.0f} s", warm < 180),
        Budget("The second time", "< 15 s", f"{second:.1f} s", second < 15),
    ]
