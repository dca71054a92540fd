"""Where a release's code comes from is read where it is reviewed: by whom, from where, with which packages."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import update

from pegboard.core.publishing import Artifact, ArtifactFile
from pegboard_hub.publishing.model import submissions
from pegboard_hub.web.origins import Package, changed_packages, origin_of
from tests.hub.company import URL, Company, Hub, plain
from tests.hub.publishing_rig import Project, released
from tests.hub.rolling import SERVER, Rig, artifact_of, declared, rig_of
from tests.oauth import Browser

pytestmark = pytest.mark.anyio

HOSTILE = "<script>alert(1)</script> \u202eevil"


def wheel(name: str, version: str, digest: str = "a", origin: str = "index") -> ArtifactFile:
    found = {
        "name": f"{name}-{version}-py3-none-any.whl",
        "version": version,
        "sha256": digest * 64,
        "origin": origin,
    }
    return ArtifactFile.model_validate(found)


def artifact(*files: ArtifactFile) -> Artifact:
    return artifact_of(1).model_copy(update={"files": files})


def test_packages_that_came_went_or_are_another_are_told_and_the_projects_own_file_is_not() -> None:
    before = artifact(
        wheel("six", "1.0"), wheel("gone_one", "2.0"), wheel("same", "1"), wheel("weather", "1", "b", "own")
    )
    now = artifact(wheel("six", "1.1"), wheel("requests", "3"), wheel("same", "1"), wheel("weather", "1", "c", "own"))
    assert changed_packages(before, now) == (
        Package("gone-one", "2.0", ""),
        Package("requests", "", "3"),
        Package("six", "1.0", "1.1"),
    )
    assert [each.kind for each in changed_packages(before, now)] == ["gone", "added", "changed"]


def test_another_file_of_the_same_version_is_a_change_with_both_digests() -> None:
    found = changed_packages(artifact(wheel("six", "1.0", "a")), artifact(wheel("six", "1.0", "b")))
    assert found == (Package("six", f"1.0 {'a' * 12}", f"1.0 {'b' * 12}"),)


@pytest.fixture
async def rig(company: Company) -> AsyncIterator[Rig]:
    async with rig_of(company) as found:
        await found.live(1)
        yield found


async def test_a_release_that_declares_the_same_with_another_package_says_so_on_its_page(rig: Rig) -> None:
    second = await rig.approve(2)
    told = artifact(wheel("requests", "3")).model_dump(mode="json")
    finding = {"code": "PB301", "severity": "warning", "place": "uv.lock", "what": HOSTILE, "fix": ""}
    values = {"artifact": told, "findings": [finding], "provenance": {"repository": "https://git.example.com/x"}}
    async with rig.hub.parts.database.write() as connection:
        await connection.execute(update(submissions).where(submissions.c.id == second).values(**values))
    async with rig.hub.parts.database.read() as connection:
        found = await origin_of(connection, SERVER, declared(2).digest)
        assert await origin_of(connection, "prod/presto", declared(2).digest) is None
    assert found is not None
    assert (found.submission.id, found.first, found.packages) == (second, False, (Package("requests", "", "3"),))
    assert [each.code for each in found.warnings] == ["PB301"]
    pat = Browser(URL, rig.hub.public)
    await pat.sign_in("pat")
    page = await pat.get(f"{URL}/servers/{SERVER}/submissions/{second}")
    assert "requests added — 3" in plain(page.text)
    assert "<script>alert" not in page.text


async def test_programs_read_of_a_deployment_who_submitted_it_from_which_commit_in_which_job(rig: Rig) -> None:
    second = await rig.approve(2)
    said = {"kind": "ci", "repository": "https://git.example.com/x", "commit": "0123abcd", "job": "https://ci/7"}
    values = {"provenance": said, "actor": "spiffe://example.org/ci/x", "actor_kind": "service"}
    async with rig.hub.parts.database.write() as connection:
        await connection.execute(update(submissions).where(submissions.c.id == second).values(**values))
    await rig.look()
    told = (await rig.hub.api("pat", f"servers/{SERVER}/deployment")).json()["live"]
    assert (told["submitted_by"], told["submitted_by_kind"]) == ("spiffe://example.org/ci/x", "service")
    assert {name: told[name] for name in said} == said


@pytest.mark.reviewed
async def test_who_reviews_a_release_reads_who_submitted_it_and_that_its_code_says_more_than_it_declares(
    hub: Hub,
) -> None:
    id_ = await released(hub, "sam", "prod/wiki", Project())
    review = (await hub.parts.reviewing.listed(server="prod/wiki"))[0]
    sol = Browser(URL, hub.public)
    await sol.sign_in("sol")
    page = await sol.get(f"{URL}/reviews/{review.id}")
    said = plain(page.text)
    assert "Where its code comes from" in said
    assert "by sam" in said
    assert "Code that declares the same can do something else" in said
    assert "Nothing of it was live before, so all its packages are new." in said
    assert f"/servers/prod/wiki/submissions/{id_}" in page.text
    told = (await hub.api("sol", f"reviews/{review.id}")).json()["origin"]
    assert (told["submission"], told["submitted_by"], told["submitted_by_kind"]) == (id_, "sam", "person")
    assert (told["first"], told["same_code"], told["packages"]) == (True, False, [])
    assert (await hub.api("ana", f"reviews/{review.id}")).json()["origin"] is None
    ana = Browser(URL, hub.public)
    await ana.sign_in("ana")
    assert "Where its code comes from" not in plain((await ana.get(f"{URL}/reviews/{review.id}")).text)
