"""What it costs a tool to declare an approval that a call does not need: beside the same tool that declares none.

    .venv/bin/python bench/approvals.py [--quick] [--rounds 4000] [--save]

One instance with one server (`bench/asking`), called through the edge. The tools take turns call by call, so that all
share the weather of the machine; each figure is a ratio to `echo`, which declares nothing. `echo` stands there twice,
and the ratios are to both together: what they differ from each other is what these figures cannot tell.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import keeping
from bench.calls.load import in_turn
from bench.calls.rival import Target
from bench.instances import Instance, detached
from tests.system.instance import REPOSITORY

SERVER = "prod/asking"
PLAIN, AGAIN = "echo", "echo once more"
TOOLS = {
    PLAIN: "echo",
    AGAIN: "echo",
    "approval, async when": "echo_approved",
    "approval, plain when": "echo_approved_plain",
    "confirmation, async when": "echo_confirmed",
}
"""What is compared, and the tool that it is."""

MOST = 1.05
"""The promise: a tool that declares an approval and does not need it costs at most so much of one without."""

_GRANTS = f"""
[limits]  # in force, and never reached
address = 10_000_000
address_in_all = 0
person = 10_000_000
server = 10_000_000

[servers."{SERVER}"]
source = "{REPOSITORY}/bench/asking"
groups = ["ads-eng"]
surfaces = ["cli"]
reason = "the bench calls its tools"
"""


BLOCK = 100
"""Rounds before the token is renewed, and the older era's session with it."""


def main() -> None:
    """Run, print, keep if asked to; a broken promise is the exit status."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--quick", action="store_true", help="few rounds, to see that it works")
    arguments.add_argument("--rounds", type=int, default=4000, help="calls of each tool in each era")
    arguments.add_argument("--save", action="store_true", help="keep the results in bench/results/approvals.json")
    options = arguments.parse_args()
    before = keeping.load_average()
    with tempfile.TemporaryDirectory(prefix="pgb", dir="/tmp", ignore_cleanup_errors=True) as folder:
        place = Path(folder, "bench")
        place.mkdir()
        grants = place / "grants.toml"
        grants.write_text(_GRANTS, encoding="utf-8")
        Path(folder).chmod(0o755)
        with detached("--grants", str(grants), folder=place) as instance:
            rows = asyncio.run(_measured(instance, 200 if options.quick else options.rounds))
    for row in rows:
        print(f"{row['what']:26}{row['era']:8}{row['calls']:>7} calls  {row['p50_ms']:7.3f} ms  {row['ratio']:.3f}")
    if options.save:
        print(keeping.save("approvals", [before, keeping.load_average()], idle=rows))
    if dear := [f"{row['what']} ({row['era']})" for row in rows if row["ratio"] > MOST]:
        sys.exit(f"more than {MOST} of a tool that declares nothing: {', '.join(dear)}")


async def _measured(instance: Instance, rounds: int) -> list[dict[str, Any]]:
    rows = []
    for era in ("modern", "legacy"):
        took: list[list[float]] = [[] for _ in TOOLS]
        await in_turn(_targets(instance), era, BLOCK)  # warms up
        for _ in range(0, rounds, BLOCK):
            for mine, more in zip(took, await in_turn(_targets(instance), era, BLOCK), strict=True):
                mine += more
            print(f"{era} {len(took[0])}/{rounds}", end="\r", flush=True)
        medians = [statistics.median(mine) * 1000 for mine in took]
        plain = statistics.median([*took[0], *took[1]]) * 1000
        for what, mine, median in zip(TOOLS, took, medians, strict=True):
            ratio = round(median / plain, 3)
            rows.append({"what": what, "era": era, "calls": len(mine), "p50_ms": round(median, 3), "ratio": ratio})
    return rows


def _targets(instance: Instance) -> list[Target]:
    headers = {"Authorization": f"Bearer {instance.token('ana', SERVER)}"}
    return [Target(instance.port, f"/mcp/{SERVER}", tool=tool, headers=headers) for tool in TOOLS.values()]


if __name__ == "__main__":
    main()
