"""`pegboard registry export | import --dry-run`: governance kept in git, beside a registry that people decide in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from pegboard.cli.app import run
from pegboard.core.grants import read_grants
from pegboard_hub.registry.changes import Change
from pegboard_hub.registry.history import Actor, entries
from pegboard_hub.registry.importing import BY_FILE
from pegboard_hub.registry.model import Access
from pegboard_hub.registry.reviews.model import Kind, State
from tests.hub.company import OPERATOR, Company, Hub
from tests.hub.hub_process import Process, arguments
from tests.hub.reviewing import PRESTO, ask, decide, move, open_ones, register, server

pytestmark = pytest.mark.anyio

REVIEWERS = 'reason = "security review 0123456789abcdef by sol, privacy review 0123456789abcdef by lea"\n'
"""What an export of earlier versions has, and what reviewers put their names to."""

HEADERS = {"Authorization": f"Bearer {OPERATOR}"}


async def export(hub: Hub) -> str:
    return str((await hub.internal.get("/internal/v1/registry/export", headers=HEADERS)).json()["text"])


async def would(hub: Hub, text: str) -> list[dict[str, Any]]:
    answer = await hub.internal.post("/internal/v1/registry/import", headers=HEADERS, json={"text": text})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["servers"]
    return found


async def more_groups(hub: Hub) -> None:
    """Reviews that grant prod/presto to one group more."""
    before = server(hub).granted
    await ask(hub, "pat", PRESTO, before._replace(groups=(*before.groups, "sales")))
    for kind, person in ((Kind.SECURITY, "sol"), (Kind.PRIVACY, "lea")):
        await decide(hub, person, (await open_ones(hub))[kind])


@pytest.mark.reviewed
async def test_what_is_exported_says_what_the_registry_says_and_changes_nothing(hub: Hub, company: Company) -> None:
    await more_groups(hub)
    text = await export(hub)
    said = read_grants(text, "export").servers[PRESTO]
    assert Access(said.groups, said.surfaces, said.channels, said.services) == server(hub).granted
    assert "sales" in said.groups
    assert said.source == server(hub).source
    assert "# security review" in text
    assert "approved by sol" in text
    assert said.reason == ""
    assert await would(hub, text) == []
    before = hub.parts.registry.current
    company.grants.write_text(text)
    await hub.parts.registry.refresh()
    assert hub.parts.registry.current.servers == before.servers
    assert hub.parts.registry.current.problems == ()


@pytest.mark.parametrize("kept", ["", REVIEWERS])
@pytest.mark.reviewed
async def test_what_an_operator_adds_to_an_export_is_not_signed_with_the_reviewers_names(
    hub: Hub, company: Company, kept: str
) -> None:
    await more_groups(hub)
    entry = f'[servers."{PRESTO}"]\n'
    text = (await export(hub)).replace(entry, entry + kept)
    for said in (text, text.replace('"sales"', '"sales", "interns"', 1)):
        company.grants.write_text(said)
        await hub.parts.registry.refresh()
    assert "interns" in server(hub).granted.groups
    assert server(hub).reason == BY_FILE
    newest = (await hub.parts.reviewing.listed(server=PRESTO, states=[State.APPROVED]))[0]
    assert newest.decided_by == "grants file"
    async with hub.parts.database.read() as connection:
        assert (await entries(connection, PRESTO, limit=1))[0].why == BY_FILE


@pytest.mark.reviewed
async def test_a_retired_server_stays_in_the_file_that_says_where_its_code_is(hub: Hub, company: Company) -> None:
    await move(hub, "pat", PRESTO, "retire")
    before = server(hub)
    company.grants.write_text(await export(hub))
    await hub.parts.registry.refresh()
    assert server(hub) == before
    await move(hub, "pat", PRESTO, "bring back")
    assert server(hub).reachable


@pytest.mark.reviewed
async def test_put_into_another_folder_the_file_says_in_full_where_code_is(hub: Hub, company: Company) -> None:
    asked = {"params": {"into": "/elsewhere"}, "headers": HEADERS}
    text = str((await hub.internal.get("/internal/v1/registry/export", **asked)).json()["text"])
    source = read_grants(text, "export").servers[PRESTO].source
    assert source == str((company.grants.parent / server(hub).source).resolve())
    assert await would(hub, text) == []
    [found] = await would(hub, text.replace(source, "elsewhere"))
    assert found["fields"] == {"source": [server(hub).source, "elsewhere"]}


@pytest.mark.reviewed
async def test_where_the_registry_has_decided_since_is_told_and_changes_nothing(hub: Hub, company: Company) -> None:
    before = server(hub).granted
    await ask(hub, "pat", PRESTO, before._replace(surfaces=("cli",)))
    assert server(hub).granted.surfaces == ("cli",)
    [found] = await would(hub, company.grants.read_text())
    assert (found["what"], found["fields"], found["conflicts"]) == ("differs", {}, {})
    assert found["differs"] == {"surfaces": [list(before.surfaces), ["cli"]]}
    word = (await hub.internal.get("/internal/v1/registry/conflicts", headers=HEADERS)).json()
    assert (word["servers"], word["differing"]) == ([], [PRESTO])


@pytest.mark.reviewed
async def test_an_export_ends_a_conflict_as_the_registry_has_it(hub: Hub, company: Company) -> None:
    await more_groups(hub)
    company.grants.write_text(company.grants.read_text().replace('"ads-eng", "finance"', '"finance"', 1))
    await hub.parts.registry.refresh()
    assert any("sales" in problem for problem in hub.parts.registry.current.problems)
    assert hub.parts.registry.conflicting == (PRESTO,)
    company.grants.write_text(await export(hub))
    await hub.parts.registry.refresh()
    assert hub.parts.registry.conflicting == ()
    assert hub.parts.registry.current.problems == ()
    assert "sales" in server(hub).granted.groups


@pytest.mark.reviewed
async def test_a_dry_run_tells_what_is_new_changes_is_retired_and_conflicts(hub: Hub, company: Company) -> None:
    await more_groups(hub)
    text = company.grants.read_text()
    changed = text[: text.index('[servers."dev/scratch"]')].replace('"ads-eng", "finance"', '"finance"', 1)
    changed = re.sub(r"surfaces = \[.*?\]", 'surfaces = ["cli"]', changed)
    changed += '\n[servers."dev/new"]\nsource = "new"\ngroups = ["finance"]\n'
    found = {each["server"]: each for each in await would(hub, changed)}
    assert {name: each["what"] for name, each in found.items()} == {
        "dev/new": "new",
        "dev/scratch": "retires",
        PRESTO: "conflicts",
    }
    assert found[PRESTO]["fields"]["surfaces"] == [list(server(hub).granted.surfaces), ["cli"]]
    assert "sales" in found[PRESTO]["conflicts"]["groups"][1]
    assert found["dev/new"]["fields"]["groups"] == [[], ["finance"]]
    assert server(hub, "dev/scratch").reachable


@pytest.mark.reviewed
async def test_drafts_and_what_the_file_alone_says_are_neither_lost_nor_made_up(hub: Hub, company: Company) -> None:
    await register(hub)
    own = '[reviews]\nunreviewed = ["dev", "lab"]\n\n[reviews.security]\napprovers = ["red-team"]\n\n'
    company.grants.write_text(
        own + company.grants.read_text().replace("reason =", 'egress = ["db:5432"]\nreason =', 1)
    )
    await hub.parts.registry.refresh()
    text = await export(hub)
    said, file = read_grants(text, "export"), hub.parts.registry.grants_file
    assert file is not None
    assert said.reviews == file.reviews
    assert said.servers[PRESTO].egress == ("db:5432",)
    assert "prod/wiki" not in said.servers
    assert "# prod/wiki: draft" in text


@pytest.mark.reviewed
async def test_texts_of_others_are_values_and_comments_never_keys(hub: Hub) -> None:
    hostile = 'x" } groups = ["everybody"] #'
    async with hub.parts.registry.changing() as changing:
        await changing.apply(Change(PRESTO, Actor("pat"), "stop", "why", stops={"": hostile}))
    said = read_grants(await export(hub), "export").servers[PRESTO]
    assert said.stopped == hostile
    assert "everybody" not in said.groups


@pytest.mark.parametrize("path", ["export", "import"])
@pytest.mark.reviewed
async def test_nobody_but_the_operator_may_ask(hub: Hub, path: str) -> None:
    method = {"export": "GET", "import": "POST"}[path]
    assert (await hub.internal.request(method, f"/internal/v1/registry/{path}", json={})).status_code == 401
    assert (await hub.public.request(method, f"/internal/v1/registry/{path}", headers=HEADERS)).status_code == 404


@pytest.fixture
def process(company: Company) -> Iterator[Process]:
    found = Process(company)
    found.start(*arguments(company))
    found.ready()
    yield found
    found.end()


def test_the_command_prints_the_file_and_what_one_would_change(
    process: Process, company: Company, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(company.home.root)]
    assert run(["registry", "export", *home]) == 0
    text = capsys.readouterr().out
    assert PRESTO in read_grants(text, "export").servers
    saved = company.grants.with_name("other.toml")
    saved.write_text(text)
    assert run(["registry", "import", "--dry-run", str(saved), *home]) == 0
    assert capsys.readouterr().out == "Nothing would change.\n"
    saved.write_text(text.replace('"finance", ', ""))
    assert run(["registry", "import", "--dry-run", "--json", str(saved), *home]) == 0
    assert {each["server"] for each in json.loads(capsys.readouterr().out)["servers"]} == {PRESTO, "dev/scratch"}
    assert run(["registry", "import", str(saved), *home]) == 2
    assert str(company.grants) in capsys.readouterr().err
    assert run(["registry", "import", "--dry-run", str(saved.with_name("none.toml")), *home]) == 1
    assert capsys.readouterr().err.splitlines()[0].endswith("none.toml: cannot be read: No such file or directory")
    written, astray = saved.with_name("written.toml"), saved.with_name("none") / "grants.toml"
    assert run(["registry", "export", "-o", str(written), *home]) == 0
    assert capsys.readouterr() == ("", f"Written to {written}.\n")
    assert PRESTO in read_grants(written.read_text(), "written").servers
    assert run(["registry", "export", "-o", str(astray), *home]) == 1
    assert "there is no such folder" in capsys.readouterr().err
    assert not astray.parent.exists()
