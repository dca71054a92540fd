"""Lock files and links of npm that lead elsewhere than they say."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import pytest

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


def test_no_link_leads_through_another(tmp_path: Path) -> None:
    links = {"a/b/c/d": "../../..", "e": "a/b/c/d/../..", "e/evil": "x"}
    assert backends._through_a_link({PurePosixPath(link): target for link, target in links.items()})
    assert not backends._through_a_link(
        {PurePosixPath(".bin/x"): "../x/cli.js", PurePosixPath(".bin/y"): "../x/y.js"}
    )
