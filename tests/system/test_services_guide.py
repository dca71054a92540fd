"""The guide for services, followed on an instance: its commands, and the example, do what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.ports import free_port
from tests.system.edge_rig import until
from tests.system.instance import REPOSITORY, Instance, running

pytestmark = [pytest.mark.system, pytest.mark.heavy]

GUIDE = (REPOSITORY / "docs" / "guides" / "let-a-service-call.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
(GRANT,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture(scope="module")
def mtls_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory, mtls_port: int) -> Iterator[Instance]:
    grants = tmp_path_factory.mktemp("grants") / "grants.toml"
    grants.write_text(GRANT.replace("servers/scratch", str(REPOSITORY / "servers" / "scratch")))
    options = ("--mtls-port", str(mtls_port), "--grants", str(grants))
    with running(*options, expected={"hub", "edge", "prober", "identity", "dev/scratch"}) as instance:
        yield instance


def followed(instance: Instance, mtls_port: int, folder: Path, command: str) -> str:
    """What a command of the guide prints, with this instance's addresses and home."""
    here = command.replace("http://localhost:8400", instance.public_url)
    here = here.replace("localhost:8443", f"localhost:{mtls_port}")
    here = here.replace("pegboard svid", f"{sys.executable} -m pegboard.cli svid --home {instance.home.root}")
    here = here.replace("python examples", f"{sys.executable} {REPOSITORY}/examples")
    done = subprocess.run(
        ["/bin/sh", "-c", here], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_service_calls_as_the_guide_says(instance: Instance, mtls_port: int, tmp_path: Path) -> None:
    start, sign, token, call = COMMANDS
    assert start == "pegboard up --mtls-port 8443\n"
    assert "spiffe://dev.pegboard.local/reporting until" in followed(instance, mtls_port, tmp_path, sign)
    told = json.loads(followed(instance, mtls_port, tmp_path, token))
    assert (told["token_type"], told["scope"], told["expires_in"]) == ("Bearer", "tools:read", 300)
    assert followed(instance, mtls_port, tmp_path, call) == "hello\n"
    assert f"services call at https://localhost:{mtls_port}" in instance.said
    log = instance.home.log("hub").read_text() + instance.home.log("identity").read_text()
    assert told["access_token"] not in log
    assert "PRIVATE KEY" not in log


def test_the_ledger_names_the_service(instance: Instance, mtls_port: int, tmp_path: Path) -> None:
    for command in COMMANDS[1:]:
        followed(instance, mtls_port, tmp_path, command)
    headers = {"authorization": f"Bearer {instance.token('pat', 'api')}"}

    def found() -> list[str]:
        answer = httpx2.get(f"{instance.public_url}/api/v1/calls", headers=headers)
        return [str(call) for call in answer.json()["calls"]]

    until(lambda: any("spiffe://dev.pegboard.local/reporting" in call for call in found()), "it is in the ledger")


def test_the_public_port_has_no_grant_for_services_without_a_certificate(instance: Instance) -> None:
    form = {"grant_type": "client_credentials", "resource": f"{instance.public_url}/mcp/dev/scratch"}
    answer = httpx2.post(f"{instance.public_url}/oauth/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
