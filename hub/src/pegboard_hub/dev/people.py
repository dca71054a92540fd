"""Who there is in an instance of `pegboard dev`, and what the server is granted there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pegboard.core.checks import load_toml
from pegboard.core.manifest import Manifest
from pegboard.core.names import ServerName
from pegboard_hub.common.settings import DEMO
from pegboard_hub.identity.directory import DemoDirectory

PERSON = '\n[people.{id}]\nname = {name}\nemail = "{id}@example.com"\ngroups = [{group}]\n'


def directory_text(manifest: Manifest) -> str:
    """The demo's people, and one more for each group of the server's that none of them is in."""
    text = (DEMO / "directory.toml").read_text(encoding="utf-8")
    known = {
        group
        for person in load_toml(DemoDirectory, text, "directory.toml").people.values()
        for group in person.groups
    }
    wanted = dict.fromkeys((manifest.owner, *manifest.requests.business_groups))
    return text + "".join(_person(group) for group in wanted if group not in known)


def _person(group: str) -> str:
    return PERSON.format(id=f"in-{group}"[:32].rstrip("-"), name=json.dumps(f"In {group}"), group=json.dumps(group))


def grants_text(server: ServerName, project: Path, manifest: Manifest) -> str:
    """All that the server asks for is granted, as `dev` grants it where nothing else is said."""
    requests = manifest.requests
    rows = [
        f'[servers."{server}"]',
        f"source = {_toml(str(project))}",
        f"groups = {_list(requests.business_groups)}",
        f"surfaces = {_list(requests.surfaces)}",
        f"channels = {_list(requests.channels)}",
        f"egress = {_list(manifest.egress)}",
        'reason = "pegboard dev"',
    ]
    return (
        "# Written by pegboard dev at each start and reload: what pegboard.toml asks for is granted here.\n"
        + "\n".join([*rows, ""])
    )


def who_may(manifest: Manifest, directory: DemoDirectory) -> list[str]:
    """People who are in a group of the server's, the owner's team first."""
    groups = set(manifest.requests.business_groups)
    found = [name for name, person in directory.people.items() if groups & set(person.groups)]
    owners = {name for name, person in directory.people.items() if manifest.owner in person.groups}
    return sorted(found, key=lambda name: name not in owners)


def read_directory(text: str) -> DemoDirectory:
    """The people of a file's text."""
    return load_toml(DemoDirectory, text, "directory.toml")


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(_toml(value) for value in values)}]"
