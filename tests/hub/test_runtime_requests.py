"""What an author asks of the machine, network and secrets, is had only when the operator gives it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import Manifest
from pegboard.core.names import ServerName
from pegboard.core.release import Declaration
from pegboard_hub.common.home import Home
from pegboard_hub.runtime.credentials import resolve_secrets
from pegboard_hub.runtime.isolation import Isolation, Mode
from pegboard_hub.runtime.releases import Release
from pegboard_hub.runtime.table import server_process

ONE = ServerName("prod", "one")
FACTS = {"name": "one", "entry": "one:server", "description": "d", "owner": "platform", "support_channel": "#one"}


def release(**asked: object) -> Release:
    declaration = Declaration(manifest=Manifest.model_validate(FACTS | asked), tools=(), policies={})
    return Release(ONE, declaration, Path(sys.executable), "")


@pytest.mark.parametrize("granted", [(), ("other.example:443",), ("warehouse.example:80",)])
def test_egress_that_is_not_granted_keeps_the_server_from_starting(tmp_path: Path, granted: tuple[str, ...]) -> None:
    asked = release(egress=["warehouse.example:443"])
    isolation = Isolation(Mode.OFF, "", Path(sys.executable))
    with pytest.raises(ConfigurationError, match=r"egress to warehouse\.example:443 is asked for and not granted"):
        server_process(Home.open(tmp_path / "h"), isolation, asked, "http://localhost:1", granted)


def test_egress_that_is_granted_lets_it_start(tmp_path: Path) -> None:
    asked = release(egress=["warehouse.example:443"])
    isolation = Isolation(Mode.OFF, "", Path(sys.executable))
    spec = server_process(
        Home.open(tmp_path / "h"), isolation, asked, "http://localhost:1", ("warehouse.example:443", "x.example:1")
    )
    assert spec.name == "prod/one"


@pytest.mark.parametrize(
    ("server", "key"),
    [
        (ServerName("prod", "one"), "TWO_KEY"),
        (ServerName("prod", "one-two"), "KEY"),
        (ServerName("prod-one", "two"), "KEY"),
    ],
    ids=str,
)
def test_each_servers_secret_has_a_variable_that_no_other_can_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ServerName, key: str
) -> None:
    """The three would share one variable if names were joined by a single underscore."""
    home = Home.open(tmp_path / "h")
    monkeypatch.setenv("PEGBOARD_SECRET_PROD__ONE__TWO_KEY", "of prod/one")
    monkeypatch.setenv("PEGBOARD_SECRET_PROD__ONE_TWO__KEY", "of prod/one-two")
    monkeypatch.setenv("PEGBOARD_SECRET_PROD_ONE__TWO__KEY", "of prod-one/two")
    assert resolve_secrets(home, server, {"S": f"env:{key}"}) == {"S": f"of {server}"}


@pytest.mark.parametrize("name", ["one--two", "one-", "-one", "One", "o", "x" * 33, "one_two"])
def test_name_that_could_spell_another_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        ServerName("prod", name)


@pytest.mark.parametrize(
    "secrets",
    [
        {"LD_PRELOAD": "env:X"},
        {"PYTHONPATH": "env:X"},
        {"PATH": "env:X"},
        {"PEGBOARD_SOCKET": "env:X"},
        {"KEY": "env:A__B"},
        {"KEY": "env:_B"},
        {"KEY": "env:"},
        {"KEY": "s3cret"},
        {"key": "env:X"},
    ],
    ids=str,
)
def test_secret_that_would_steer_the_process_or_reach_elsewhere_is_refused(secrets: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="secrets"):
        Manifest.model_validate(FACTS | {"secrets": secrets})
