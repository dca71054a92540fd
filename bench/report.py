"""Make `docs/performance.md` with its chart, and `docs/comparison.md`, of what is in `bench/results/`.

.venv/bin/python bench/report.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench import keeping
from bench.reporting.budgets import budgets
from bench.reporting.calls import Calls
from bench.reporting.chart import chart

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"

KEPT = (
    "calls",
    "edge",
    "memory",
    "first_call",
    "sign_in",
    "health",
    "registry",
    "approvals",
    "approvals_inbox",
)
"""Files of `bench/results/` that the page of performance tells of."""

WAYS = ("ten_minutes", "elsewhere")
"""And those of the page that compares what publishing takes."""


def main() -> None:
    """Write the files."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """The text of the files, by their names in `docs/`."""
    kept = {name: keeping.load(name) for name in KEPT}
    ways = {name: keeping.load(name) for name in WAYS}
    run = Calls(kept["calls"])
    templates = Environment(  # noqa: S701 - the page is Markdown, and nothing in it is a stranger's
        loader=FileSystemLoader(REPOSITORY / "bench" / "reporting"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page = templates.get_template("performance.md.j2").render(kept, run=run, budgets=budgets(run, kept))
    comparison = templates.get_template("comparison.md.j2").render(ways)
    return {"performance.md": page, "performance.svg": chart(run), "comparison.md": comparison}


if __name__ == "__main__":
    main()
