"""The reference pages say what the code says, and everything that can be set is on them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from docs.generate.__main__ import PAGES, REFERENCE
from docs.generate.limits import in_words
from docs.generate.manifest import EXAMPLE
from docs.generate.models import keys
from pegboard.core.checks import load_toml
from pegboard.core.manifest import Manifest
from pegboard_hub.runtime.credentials import SECRET_VARIABLE

REPOSITORY = Path(__file__).resolve().parents[1]
VARIABLE = re.compile(r"\bPEGBOARD_[A-Z][A-Z_]*[A-Z]\b")
CODE = [
    *(REPOSITORY / "kit" / "src").rglob("*.py"),
    *(REPOSITORY / "hub" / "src").rglob("*.py"),
    *(REPOSITORY / "deploy").rglob("*.*"),
    REPOSITORY / "Makefile",
]
EXAMPLES = {"PEGBOARD_SECRET_PROD__PRESTO__KEY"}
"""Names of variables that only an explanation has."""


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == PAGES[name](), "make it again: make docs"


def test_every_variable_that_the_code_reads_is_in_the_reference_and_no_other() -> None:
    page = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    read = {name for path in CODE for name in VARIABLE.findall(path.read_text(encoding="utf-8"))} - EXAMPLES
    told = set(VARIABLE.findall(page))
    # A server's own are spelled from its fields, so the code need not name them.
    contract = set(VARIABLE.findall(page.partition("## What a server process is given")[2]))
    assert read - told == set()
    assert told - read - contract == set()
    assert f"`{SECRET_VARIABLE}<" in page


def test_a_key_without_a_description_keeps_the_page_from_being_made() -> None:
    class Inner(BaseModel):
        silent: int = 1

    class File(BaseModel):
        inner: Inner = Field(default=Inner(), description="a table")

    with pytest.raises(ValueError, match=r"inner\.silent has no description"):
        keys(File)


def test_the_example_of_a_manifest_is_one_and_has_each_of_its_tables() -> None:
    found = load_toml(Manifest, EXAMPLE, "pegboard.toml")
    tables = {name for name, field in Manifest.model_fields.items() if isinstance(getattr(found, name), BaseModel)}
    assert found.model_fields_set >= tables | {"smoke", "secrets", "egress"}


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (4 * 2**20, "bytes", "4 MiB"),
        (2**20, "bytes", "1 MiB"),
        (24 * 3600, "s", "24 hours"),
        (600_000, "ms", "10 minutes"),
        (100, "ms", "100 ms"),
        (0.2, "s", "0.2 s"),
        (1000, "", "1,000"),
    ],
)
def test_a_limit_is_told_in_a_unit_that_people_read(value: float, unit: str, words: str) -> None:
    assert in_words(value, unit) == words
