"""What `pegboard doctor` must never do: tell a secret, follow a server's links, or hang on a server's files.

Rules (design, Rules of trust): secrets live in files and are never shown; tokens are never logged.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator

import pytest

from pegboard.core.names import ServerName
from pegboard_hub.upkeep.checks import records
from pegboard_hub.upkeep.doctor import _lines, _row, examine, gather
from tests.folders import new_folder
from tests.hub.company import Company, found_company, opened
from tests.ports import free_port
from tests.rings import key_in

PRESTO = ServerName("prod", "presto")
SECRETS = ("channel-token-of-presto", "digest-key-of-presto", "operator-token-of-the-test", "hunter2", "env-secret")


@pytest.fixture
def company() -> Iterator[Company]:
    made = found_company(new_folder())

    async def run() -> None:
        async with opened(made):
            pass

    asyncio.run(run())
    yield made
    shutil.rmtree(made.home.root.parent)


def told(company: Company, *, offline: bool = True) -> str:
    """Everything the command says, for a person and as JSON."""
    found = examine(gather(company.home.root, free_port(), company.grants, offline=offline))
    return "\n".join(_lines(found)) + json.dumps([_row(finding) for _, finding in found])


def test_it_tells_no_key_no_token_and_no_secret_whatever_is_wrong_with_them(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = company.home
    home.credentials(PRESTO).write_text(json.dumps({"channel_token": SECRETS[0], "digest_key": SECRETS[1]}))
    home.secrets(PRESTO).mkdir()
    (home.secrets(PRESTO) / "PASSWORD").write_text("hunter2")
    monkeypatch.setenv("PEGBOARD_SECRET_PROD__PRESTO__KEY", "env-secret")
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://me:hunter2@127.0.0.1:{free_port()}/simple")
    rings = {path: json.loads(path.read_text()) for path in home.keys.glob("*.json")}
    keys = {path: key_in(path) for path in rings}
    assert len(keys) == 3
    private = [key["d"] for key in keys.values()]
    spoiled = [
        lambda key: json.dumps(key),
        lambda key: json.dumps(key)[:-10],
        lambda key: json.dumps([key["d"]]),
        lambda key: json.dumps(key | {"d": key["d"][:-4]}),
        lambda key: json.dumps(key | {"crv": key["d"]}),
        lambda key: json.dumps({"keys": [key["d"]]}),
        lambda key: key["d"],
    ]
    in_ring = [
        lambda ring, key: ring | {"format": key["d"]},
        lambda ring, key: ring | {"purpose": key["d"]},
        lambda ring, key: ring | {"keys": [{**ring["keys"][0], "state": key["d"]}]},
        lambda ring, key: ring | {"keys": [{**ring["keys"][0], "jwk": key["d"]}]},
        lambda ring, key: ring | {"keys": [{**ring["keys"][0], "jwk": key | {"d": key["d"][:-4]}}]},
    ]
    spoiled += [lambda key, of=of: json.dumps(of(rings_by_kid[key["kid"]], key)) for of in in_ring]
    rings_by_kid = {keys[path]["kid"]: ring for path, ring in rings.items()}
    for spoil in spoiled:
        for path, key in keys.items():
            path.write_text(spoil(key))
        said = told(company, offline=False)
        assert [secret for secret in (*SECRETS, *private) if secret in said] == []


def test_a_servers_files_neither_lead_it_astray_nor_hold_it_up(company: Company) -> None:
    spool = company.home.spool(PRESTO)
    os.mkfifo(spool / "cursor.json")
    os.mkfifo(spool / "1-1-1.jsonl")
    (spool / "2-1-1.jsonl").symlink_to("/dev/zero")
    (spool / "3-1-1.jsonl").symlink_to(next(company.home.keys.iterdir()))
    with (spool / "4-1-1.jsonl").open("wb") as sparse:
        sparse.truncate(1 << 40)
    (spool / "5-1-1.jsonl").write_text("{}\n")
    (spool / "6-1-1.jsonl").mkdir()
    facts = gather(company.home.root, free_port(), company.grants, offline=True)
    [finding] = records.undelivered(facts)
    assert finding.found.startswith("1 record and ")


def test_what_others_wrote_is_one_harmless_line(company: Company) -> None:
    company.grants.write_text('[servers."\\u001b]0;owned\\u0007\\n\\u202eprod/x"]\n')
    company.home.instance_file.write_text(json.dumps({"port": 8400, "public_url": "http://\x1b[2J\nlocalhost"}))
    assert all(line.isprintable() for line in told(company).splitlines())
