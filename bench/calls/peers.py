"""The environments of the others: pinned in `bench/peers/`, installed into `.tools/peers` on first use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_UV = REPOSITORY / ".tools" / "bin" / "uv"


def environment(peer: str) -> Path:
    """The `bin` folder of a peer's environment, which is installed if it is not what its pins say.

    Raises:
        subprocess.CalledProcessError: it cannot be installed.
    """
    folder = REPOSITORY / ".tools" / "peers" / peer
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([_UV, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    pins = REPOSITORY / "bench" / "peers" / f"{peer}.txt"
    subprocess.run([_UV, "pip", "sync", "--quiet", "--python", folder / "bin" / "python", pins], check=True)
    return folder / "bin"


def pinned(peer: str, *packages: str) -> dict[str, str]:
    """Versions of `packages` as the pins of a peer say."""
    pins = (REPOSITORY / "bench" / "peers" / f"{peer}.txt").read_text(encoding="utf-8").splitlines()
    found = dict(line.split("==") for line in pins if "==" in line)
    return {package: found[package] for package in packages}
