"""Text that models read: every published attack is found, and no ordinary description is taken for one."""

from __future__ import annotations

import pytest

from pegboard.core.check import Subject, check
from pegboard.core.manifest import Manifest
from pegboard.core.publishing import Finding, Severity
from pegboard.core.release import Declaration, ToolDeclaration
from tests.kit.harmless import HARMLESS
from tests.kit.poisoned import ATTACKS, Attack

MANIFEST = Manifest(
    name="sums",
    entry="sums:server",
    description="Sums of numbers.",
    owner="platform",
    support_channel="#sums",
)


def about_texts(*tools: ToolDeclaration, instructions: str = "") -> list[Finding]:
    declaration = Declaration(manifest=MANIFEST, tools=tools, policies={}, instructions=instructions)
    return [each for each in check(Subject(declaration)).findings if each.code.startswith("PB6")]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_published_attack_is_an_error(attack: Attack) -> None:
    tool = ToolDeclaration(
        name=attack.tool,
        title=attack.title,
        description=attack.description,
        policy="granted",
        input_schema=dict(attack.schema),
    )
    errors = {each.code for each in about_texts(tool) if each.severity is Severity.ERROR}
    assert errors & set(attack.codes), about_texts(tool)


@pytest.mark.parametrize("text", HARMLESS)
def test_an_ordinary_description_is_no_attack(text: str) -> None:
    tool = ToolDeclaration(name="look", description=text, policy="granted")
    described = {"type": "object", "properties": {"value": {"type": "string", "description": text}}}
    argument = ToolDeclaration(name="see", description="See a value.", policy="granted", input_schema=described)
    assert about_texts(tool, argument) == []


@pytest.mark.parametrize("attack", [each for each in ATTACKS if not each.schema and each.tool == "add"][:12])
def test_instructions_are_read_as_descriptions_are(attack: Attack) -> None:
    errors = {each.code for each in about_texts(instructions=attack.description) if each.severity is Severity.ERROR}
    assert errors & set(attack.codes)


@pytest.mark.parametrize("text", HARMLESS[:8])
def test_ordinary_instructions_are_no_attack(text: str) -> None:
    assert about_texts(instructions=text) == []
