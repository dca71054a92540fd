"""Migrations that this version does not have, for tests of what comes of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pegboard_hub.storage import schema

REVISION = """
from alembic import op
revision = "{revision}"
down_revision = "{before}"
def upgrade():
{body}
"""

AddRevisions = Callable[..., None]


def adding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AddRevisions:
    """Give this version migrations that it does not have, each a body of `upgrade`."""

    def add(*bodies: str) -> None:
        folder = tmp_path / "migrations"
        shutil.copytree(schema.VERSIONS.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
        before = schema.revisions()[-1]
        for body in bodies:
            revision = f"{int(before) + 1:04}"
            lines = "".join(f"    {line}\n" for line in body.splitlines())
            text = REVISION.format(revision=revision, before=before, body=lines)
            (folder / "versions" / f"{revision}_of_the_test.py").write_text(text)
            before = revision
        monkeypatch.setattr(schema, "VERSIONS", folder / "versions")

    return add
