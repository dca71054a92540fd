"""Lock files and links of npm that lead elsewhere than they say."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import pytest

from pegboard.core.check.npm import is_npm_file
from pegboard.core.errors import ConfigurationError
from pegboard_hub.runtime import backends


@pytest.mark.parametrize(
    "package",
    [
        {"version": "git+https://evil.example/x.git"},
        {"version": "https://evil.example/x.tgz"},
        {"version": "1.0.0", "name": "git+https://evil.example/x.git"},
    ],
)
def test_npm_is_told_no_address_in_place_of_a_version_or_a_name(tmp_path: Path, package: dict[str, str]) -> None:
    said = {"packages": {"node_modules/x": {"integrity": "sha512-x", **package}}}
    (tmp_path / "package-lock.json").write_text(json.dumps(said))
    with pytest.raises(ConfigurationError):
        backends.check_npm_lock(tmp_path)


REGISTRY = "https://registry.npmjs.org/"


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("clean", f"{REGISTRY}evil/-/evil-1.0.0.tgz"),
        ("clean", f"{REGISTRY}clean/-/clean-0.9.0.tgz"),
        ("clean", f"{REGISTRY}@evil/clean/-/clean-1.0.0.tgz"),
        ("@good/clean", f"{REGISTRY}@evil/clean/-/clean-1.0.0.tgz"),
        ("clean", f"{REGISTRY}evil/-/clean/-/clean-1.0.0.tgz"),
    ],
)
def test_no_package_comes_under_the_name_of_another(tmp_path: Path, name: str, address: str) -> None:
    """What is looked up, listed and warned of is the name; what npm fetches is the address."""
    entry = {"version": "1.0.0", "integrity": "sha512-x", "resolved": address}
    (tmp_path / "package-lock.json").write_text(json.dumps({"packages": {f"node_modules/{name}": entry}}))
    with pytest.raises(ConfigurationError, match="another package or version"):
        backends.check_npm_lock(tmp_path)
    assert is_npm_file(f"{REGISTRY}{name}/-/clean-1.0.0.tgz", REGISTRY, name, "1.0.0")


def test_a_registry_of_the_companys_own_keeps_files_as_it_likes() -> None:
    own = "https://npm.example.com/"
    assert is_npm_file(f"{own}download/@good/clean/1.0.0/abc", own, "@good/clean", "1.0.0")
    assert not is_npm_file(f"{own}download/@evil/clean/1.0.0/abc", own, "clean", "1.0.0")
    assert not is_npm_file(f"{own}evil/-/evil-1.0.0.tgz", own, "clean", "1.0.0")


def test_no_link_leads_through_another(tmp_path: Path) -> None:
    links = {"a/b/c/d": "../../..", "e": "a/b/c/d/../..", "e/evil": "x"}
    assert backends._through_a_link({PurePosixPath(link): target for link, target in links.items()})
    assert not backends._through_a_link(
        {PurePosixPath(".bin/x"): "../x/cli.js", PurePosixPath(".bin/y"): "../x/y.js"}
    )
