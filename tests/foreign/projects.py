"""Projects with a `[proxy]`, made for a test."""

from __future__ import annotations

import sys
from pathlib import Path

from pegboard.core.manifest import read_manifest
from pegboard.core.pins import FILE_NAME, Pins
from pegboard.proxy.snapshot import take

HERE = Path(__file__).parent
EVERYBODY = "permit (principal, action, resource);\n"

MANIFEST = """
name = "desk"
description = "A desk that somebody else wrote."
owner = "platform"
support_channel = "#desk"

[requests]
business_groups = ["ads-eng"]
surfaces = ["cli"]

[resources]
processes = 128

[proxy]
command = {command}
policy = "everybody"
tell_caller = false
timeout_s = 30
start_s = 20
result_kb = 64
{proxy}

[proxy.tools.wipe]
confirm = "Empty {{drawer}}?"

[proxy.tools.echo]
minutes_saved = 3
{more}
"""


def write_project(
    folder: Path, *arguments: str, backend: str = "desk_backend.py", proxy: str = "", more: str = ""
) -> Path:
    """A project in `folder` whose backend is a program of this folder, run with our own Python."""
    files = folder / "backend"
    files.mkdir(parents=True)
    (folder / "policies").mkdir()
    (folder / "policies" / "everybody.cedar").write_text(EVERYBODY)
    (files / backend).write_bytes((HERE / backend).read_bytes())
    command = [sys.executable, backend, *arguments]
    (folder / "pegboard.toml").write_text(
        MANIFEST.format(command=str(command).replace("'", '"'), proxy=proxy, more=more)
    )
    return folder


async def pinned(folder: Path) -> Path:
    """The project with its backend's tools pinned."""
    pins = await take(folder, read_manifest(folder))
    (folder / FILE_NAME).write_text(pins.text())
    return folder


def change_pins(folder: Path, pins: Pins) -> None:
    """Write other pins."""
    (folder / FILE_NAME).write_text(pins.text())
