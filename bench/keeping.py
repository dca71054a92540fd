"""Results of the benches as files, with the machine and the time they are of. `report.py` makes the docs of them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def save(name: str, loads: list[float], **result: Any) -> Path:
    """Write `results/NAME.json`. `loads` is the machine's load average before and after."""
    document: dict[str, Any] = {
        "command": _command(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "load": loads,
    }
    document |= {"commit": _commit(), "machine": machine(), **result}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


def load(name: str) -> dict[str, Any]:
    """A result that was saved.

    Raises:
        FileNotFoundError: it was not.
    """
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def machine() -> dict[str, Any]:
    """What these figures are of."""
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.partition(":")[2].strip() for line in cpus.splitlines() if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


def load_average() -> float:
    """Of the last minute."""
    return round(os.getloadavg()[0], 2)


def _command() -> str:
    script = Path(sys.argv[0]).resolve()
    return " ".join([".venv/bin/python", f"bench/{script.name}", *sys.argv[1:]])


def _commit() -> str:
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=RESULTS.parent, capture_output=True, text=True
    )
    return said.stdout.strip()
