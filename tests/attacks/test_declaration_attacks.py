"""Hostile declarations: what an author's code prints about itself is refused before anyone reads, shows or pins it.

Rules (design, Rules of trust): tool descriptions are untrusted text, scanned at check, pinned at release; a
declaration is whatever the author's own code prints, so the supervisor and the hub both check it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pegboard_hub.common.home import Home
from pegboard_hub.registry.errors import ChangeRefused
from pegboard_hub.registry.history import Actor
from pegboard_hub.registry.sources import Declarations
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.isolation import choose
from pegboard_hub.runtime.permissions import prepare
from pegboard_hub.runtime.releases import ReleaseMaker
from tests.hub.company import Company, found_company, opened, presto
from tests.system.runtime_kit import ONE, short_folder, write_project

pytestmark = pytest.mark.anyio


def raw(
    tools: str = "[]", policies: str = '{"open": "permit (principal, action, resource);"}', **manifest: str
) -> str:
    """A declaration as text, so that it can hold what no JSON library writes."""
    facts = {"name": '"one"', "entry": '"a:b"', "description": '"d"', "owner": '"ab"', "support_channel": '"#help"'}
    said = ", ".join(f'"{key}": {value}' for key, value in (facts | manifest).items())
    return f'{{"manifest": {{{said}}}, "tools": {tools}, "policies": {policies}}}'


def tool(name: str = '"look"', schema: str = "{}", **more: str) -> str:
    """One tool of it."""
    facts = {"name": name, "policy": '"open"', "input_schema": schema}
    return "{" + ", ".join(f'"{key}": {value}' for key, value in (facts | more).items()) + "}"


def tools(*each: str) -> str:
    """A declaration of these tools."""
    return raw(f"[{', '.join(each)}]")


HOSTILE: dict[str, tuple[str, str]] = {
    "a title that reads backwards": (
        tools(tool(title='"\\u202egnp.exe"')),
        "title: has the invisible character U+202E",
    ),
    "a description that hides orders": (
        tools(tool(description='"ok\\udb40\\udc52"')),
        "description: has the invisible",
    ),
    "a terminal's escape": (tools(tool(description='"\\u001b]0;owned\\u0007"')), "description: has the invisible"),
    "a lone surrogate": (tools(tool(description='"\\ud800"')), "declar"),
    "names that differ by case": (tools(tool('"pay"'), tool('"PAY"')), "their names look the same"),
    "one name twice": (tools(tool(), tool()), "their names look the same"),
    "a name that climbs": (tools(tool('"../../etc"')), "name: use"),
    "a name of half a megabyte": (tools(tool(f'"{"a" * 500_000}"')), "name: use"),
    "an alphabet that passes for another": (tools(tool(title='"P\\u0430y"')), "use one alphabet"),
    "a schema that fetches": (tools(tool(schema='{"$ref": "http://169.254.169.254/"}')), "nothing is fetched"),
    "a schema that never ends": (
        tools(tool(schema='{"type": "object", "anyOf": [{"$ref": "#"}]}')),
        "refers to itself without an end",
    ),
    "a schema as deep as the parser goes": (
        tools(tool(schema='{"a":' * 150 + "1" + "}" * 150)),
        "nests deeper than 32",
    ),
    "a schema deeper than any parser": (tools(tool(schema='{"a":' * 100_000 + "1" + "}" * 100_000)), "declar"),
    "a schema of a million values": (
        tools(tool(schema=f'{{"a": [{"0," * 1_000_000}0]}}')),
        "has more than 5000 values",
    ),
    "a schema of megabytes": (tools(tool(schema=f'{{"description": "{"x" * 3_000_000}"}}')), "larger than 64 KiB"),
    "a schema that is none": (
        tools(tool(schema='{"type": "object", "properties": 5}')),
        "input_schema/properties: must",
    ),
    "an infinite number": (tools(tool(schema='{"type": "object", "default": 1e999}')), "is no number that JSON"),
    "not a number": (tools(tool(schema='{"type": "object", "default": NaN}')), "is no number that JSON"),
    "a number without an end": (tools(tool(schema=f'{{"type": "object", "default": {"9" * 6_000}}}')), "declar"),
    "infinite minutes saved": (tools(tool(minutes_saved="1e999")), "declar"),
    "a hint that is no hint": (tools(tool(destructive='"rm -rf"')), "declar"),
    "a thousand tools": (tools(*[tool(f'"tool{n}x"') for n in range(1_000)]), "256 are the most"),
    "a policy with a hidden name": (
        raw(policies='{"open\\u200b": "permit (principal, action, resource);"}'),
        "its name has",
    ),
    "a link that runs": (raw(links='{"docs": "javascript:alert(document.cookie)"}'), "declar"),
    "a channel that forges a line": (raw(support_channel='"#a\\nprod/two is healthy"'), "support_channel: has the"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_the_hub_takes_nothing_hostile_over(tmp_path: Path, case: str) -> None:
    text, told = HOSTILE[case]
    home = Home.open(tmp_path / "home")
    home.release(ONE).mkdir(parents=True)
    home.declaration(ONE).write_text(text)
    found = Declarations(home).read(str(ONE))
    assert found.release is None
    assert told in found.problem
    assert len(found.problem) < 8_000
    assert found.problem.replace("\n", "").isprintable()


@pytest.fixture
def company() -> Iterator[Company]:
    root = short_folder()
    yield found_company(root)
    shutil.rmtree(root)


async def test_what_was_good_stays_in_force_beside_what_is_hostile(company: Company) -> None:
    async with opened(company) as hub:
        before = hub.parts.registry.current.servers["prod/presto"].release
        hostile = presto()
        hostile["tools"][0]["title"] = "Run\u202e"
        company.deploy("prod/presto", hostile)
        await hub.parts.registry.refresh()
        snapshot = hub.parts.registry.current
        assert snapshot.servers["prod/presto"].release == before
        assert any("'run_query', title: has the invisible character U+202E" in line for line in snapshot.problems)


async def test_html_of_an_author_is_text_on_every_page(company: Company) -> None:
    async with opened(company) as hub:
        marked = presto(title="<img src=x onerror=alert(1)>", description="<script>alert(1)</script>")
        marked["tools"][0] |= {"title": "<b>Run</b>", "description": "<script>alert(2)</script>"}
        company.deploy("prod/presto", marked)
        await hub.parts.registry.refresh()
        for path in ("/", "/servers/prod/presto"):
            page = (await hub.public.get(path, params={"person": "ana"})).text
            assert "<script>alert" not in page
            assert "<img src=x" not in page


DESCRIBES: dict[str, tuple[Any, str]] = {
    case: HOSTILE[case]
    for case in (
        "a title that reads backwards",
        "a schema that fetches",
        "a schema deeper than any parser",
        "a number without an end",
        "a schema that never ends",
    )
}


@pytest.mark.system
@pytest.mark.parametrize("case", DESCRIBES)
async def test_no_release_is_made_of_a_hostile_declaration(case: str) -> None:
    """Through the runtime's own describe: the author's code prints the declaration itself, past the kit's checks."""
    text, told = DESCRIBES[case]
    folder = short_folder()
    try:
        project = write_project(folder / "one", "one", f"print({text!r})\n")
        home = Home.open(folder / "home")
        isolation = choose("auto", home, [str(ONE)], preflight.find_envoy())
        if isolation.mode == "off":
            pytest.skip("isolation is off here: bubblewrap is not installed and this is not root")
        prepare(home, isolation, [ONE])
        with pytest.raises(ReleaseFailed, match=re.escape(told)):
            await ReleaseMaker(home, isolation, preflight.find_uv()).make(ONE, project, lambda _: None)
        assert not home.declaration(ONE).exists()
    finally:
        shutil.rmtree(folder)


RECORD = {"title": "Presto", "description": "d", "owner": "ads-eng", "support_channel": "#ads"}


@pytest.mark.parametrize("name", ["prod/prest0", "prod/pre-sto", "dev/prest0", "pr0d/presto"])
async def test_nobody_registers_a_server_that_passes_for_another(company: Company, name: str) -> None:
    async with opened(company) as hub, hub.parts.registry.changing() as changing:
        with pytest.raises(ChangeRefused, match="is mistaken for"):
            await changing.register(name, RECORD, Actor("eve"), "mine")


@pytest.mark.parametrize(
    "field",
    [
        {"title": "Prеsto"},
        {"title": "Presto\u200b"},
        {"description": "a\u202eb"},
        {"links": {"docs": "javascript:alert(1)"}},
        {"links": {"docs": "https://bank.example@evil.example"}},
        {"support_channel": "#a\nb"},
    ],
    ids=ascii,
)
async def test_what_a_person_writes_of_a_draft_hides_nothing(company: Company, field: dict[str, Any]) -> None:
    async with opened(company) as hub, hub.parts.registry.changing() as changing:
        with pytest.raises(ChangeRefused):
            await changing.register("prod/atlas", RECORD | field, Actor("eve"), "mine")
