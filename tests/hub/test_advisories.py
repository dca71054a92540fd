"""What the operator keeps of advisories is held against every package of a release, its backend's among them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from pegboard.core.publishing import ArtifactFile
from pegboard_hub.packages.advisories import SETTING
from pegboard_hub.runtime.building.knowing import Locks, components, known_of
from pegboard_hub.runtime.confined import OutsideFailed

pytestmark = pytest.mark.anyio

NPM = b'{"packages": {"node_modules/@evil/pad": {"version": "2.0.0", "license": "MIT"}}}'


def advisory(ecosystem: str, name: str, version: str) -> str:
    affected = [{"package": {"ecosystem": ecosystem, "name": name}, "versions": [version]}]
    return json.dumps({"id": "MAL-2026-1", "summary": "steals keys", "affected": affected})


async def test_a_malicious_package_is_known_where_the_operator_keeps_advisories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    (project / "backend").mkdir(parents=True)
    (project / "backend" / "package-lock.json").write_bytes(NPM)
    locks = Locks.of(project, "backend")
    assert not (await known_of(locks, (), tmp_path))["npm:@evil/pad", "2.0.0"].advisories
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("MAL-2026-1.json", advisory("npm", "@evil/pad", "2.0.0"))
        archive.writestr("MAL-2026-2.json", advisory("PyPI", "evil-pad", "2.0.0"))
    monkeypatch.setenv(SETTING, str(tmp_path / "all.zip"))
    facts = (await known_of(locks, (), tmp_path))["npm:@evil/pad", "2.0.0"]
    assert [each.id for each in facts.advisories] == ["MAL-2026-1"]
    assert (facts.advisories[0].malicious, facts.licence) == (True, "MIT")
    assert Locks.of(project, "") == Locks(())


async def test_nothing_is_released_while_the_advisories_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, str(tmp_path / "nowhere.zip"))
    with pytest.raises(OutsideFailed, match="the platform team's advisories: cannot be read"):
        await known_of(Locks(()), (), tmp_path)


def test_a_backends_packages_are_components_of_what_it_is_made_of() -> None:
    file = {"sha256": "0" * 64, "size": 1, "origin": "index", "url": "https://files.pythonhosted.org/x"}
    wheels = [
        ArtifactFile(name="backend/fastmcp-4.1.2-py3-none-any.whl", version="4.1.2", **file),
        ArtifactFile(name="cedarpy-4.12-py3-none-any.whl", version="4.12", **file),
    ]
    found = list(components(wheels, NPM))
    assert [each["purl"] for each in found] == ["pkg:pypi/fastmcp@4.1.2", "pkg:npm/%40evil/pad@2.0.0"]
