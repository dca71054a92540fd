"""`make docs`: write every reference page anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from docs.generate import api, attacks, checks, manifest, metrics, settings
from pegboard.cli import reference as commands

REFERENCE = Path(__file__).parents[1] / "reference"

PAGES: dict[str, Callable[[], str]] = {
    "api.md": api.page,
    "attacks.md": attacks.page,
    "checks.md": checks.page,
    "cli.md": commands.page,
    "manifest.md": manifest.page,
    "metrics.md": metrics.page,
    "settings.md": settings.page,
}
"""Each page by its file. `conformance.md` is none: a run of the suite writes it (`tests.conformance.report`)."""


def main() -> None:
    """Write what changed, and name it."""
    for name, page in PAGES.items():
        path, text = REFERENCE / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
