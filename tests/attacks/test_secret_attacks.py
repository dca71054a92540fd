"""Secrets come by file or variable, by reference: a literal one is refused, and none is where it can be read.

Rules (design, Rules of trust): secrets live in files or the environment by reference, never in the database, logs,
ledger or pages; the process that holds signing keys runs no author's code. What is refused is never repeated: a
message with the secret in it would be one more place where it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from pegboard.cli.app import run
from pegboard.core.errors import ConfigurationError
from pegboard.core.grants import read_grants
from pegboard.core.manifest import read_manifest
from pegboard_hub.common.database_url import read_database_url
from pegboard_hub.identity.settings import open_sign_in
from pegboard_hub.runtime import procfs
from pegboard_hub.runtime.preflight import origin
from tests.folders import new_folder
from tests.hub.company import Hub, found_company, opened
from tests.leaks import files
from tests.rings import keys_in
from tests.system.instance import Instance, running

LITERAL = "hunter2-s3cr3t"

MANIFEST = """
name = "presto"
entry = "presto:server"
description = "Query"
owner = "platform"
support_channel = "#data"
"""


def manifest(tail: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        (folder / "pegboard.toml").write_text(MANIFEST + tail)
        return read_manifest(folder)

    return read


def sign_in(text: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        (folder / "sign-in.toml").write_text(text)
        return open_sign_in(folder / "sign-in.toml", {})

    return read


def grants(text: str) -> Callable[[Path], object]:
    return lambda _folder: read_grants(text, "grants.toml")


PROVIDER = '[provider]\nissuer = "https://login.acme.example"\nclient_id = "pegboard"\n'
CLIENT = '[clients.registered.x]\nname = "x"\nsurface = "ide"\nredirect_uris = ["https://acme.example/"]\n'
SERVER = '[servers."prod/presto"]\nsource = "presto"\nreason = "r"\n'

LITERALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "manifest: the secret itself": (manifest(f'[secrets]\nTOKEN = "{LITERAL}"\n'), "never the secret itself"),
    "manifest: behind env": (manifest(f'[secrets]\nTOKEN = "env:{LITERAL}"\n'), "must name a variable"),
    "manifest: behind another word": (manifest(f'[secrets]\nTOKEN = "value:{LITERAL}"\n'), "never the secret itself"),
    "manifest: as a table": (manifest(f'[secrets]\nTOKEN = {{ value = "{LITERAL}" }}\n'), "secrets"),
    "manifest: a key of its own": (manifest(f'password = "{LITERAL}"\n'), "password"),
    "manifest: in a link": (manifest(f'[links]\ndocs = "https://me:{LITERAL}@wiki.example/"\n'), "no user"),
    "sign-in: the secret itself": (sign_in(f'{PROVIDER}client_secret = "{LITERAL}"\n'), "client_secret"),
    "sign-in: as a value": (sign_in(f'{PROVIDER}client_secret = {{ value = "{LITERAL}" }}\n'), "client_secret"),
    "sign-in: a user in the issuer": (
        sign_in(PROVIDER.replace("https://", f"https://me:{LITERAL}@")),
        "issuer",
    ),
    "sign-in: a client's secret": (sign_in(f'{CLIENT}secret = "{LITERAL}"\n'), "secret"),
    "sign-in: a client's secret as a value": (sign_in(f'{CLIENT}secret = {{ value = "{LITERAL}" }}\n'), "secret"),
    "sign-in: a proxy with one": (
        sign_in(f'[clients]\ndocument_proxy = "http://me:{LITERAL}@proxy:3128"\n'),
        "without a user",
    ),
    "grants: a key of its own": (grants(f'{SERVER}secret = "{LITERAL}"\n'), "secret"),
    "grants: a server's secrets": (grants(f'{SERVER}secrets = {{ TOKEN = "{LITERAL}" }}\n'), "secrets"),
    "public URL: a user": (lambda _: origin(f"https://me:{LITERAL}@pegboard.example"), "names a user"),
    "database: no URL": (lambda _: read_database_url({"PEGBOARD_DATABASE_URL": LITERAL}), "PEGBOARD_DATABASE_URL"),
    "database: another scheme": (
        lambda _: read_database_url({"PEGBOARD_DATABASE_URL": f"mysql://me:{LITERAL}@db/x"}),
        "PEGBOARD_DATABASE_URL",
    ),
}
"""Where somebody might write a secret, and what of the refusal says so."""


@pytest.mark.parametrize("case", LITERALS)
def test_a_literal_secret_is_refused_by_its_place_and_never_repeated(tmp_path: Path, case: str) -> None:
    read, said = LITERALS[case]
    with pytest.raises((ConfigurationError, ValueError)) as caught:
        read(tmp_path)
    told = "".join((str(caught.value), *getattr(caught.value, "problems", ())))
    assert said in told
    assert LITERAL not in told


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o606], ids=oct)
def test_a_file_that_others_may_read_is_no_secret(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "url"
    file.write_text(f"postgresql://me:{LITERAL}@db/x")
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match="others may read this password") as caught:
        read_database_url({"PEGBOARD_DATABASE_URL_FILE": str(file)})
    assert LITERAL not in str(caught.value)


@pytest.mark.parametrize("option", ["--database-url", "--client-secret", "--secret", "--password", "--token"])
def test_no_command_takes_a_secret_as_an_argument_which_everybody_on_the_machine_could_read(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["up", option, LITERAL]) == 2
    assert f"No such option: {option}" in capsys.readouterr().err


# --- the API, and with it the pages, whose forms go through the same rules

DRAFT = {
    "server": "prod/weather",
    "title": "Weather",
    "description": "Forecasts",
    "owner": "search-eng",
    "support_channel": "#weather",
    "sensitivity": "internal",
    "why": "planning asks for it",
}
WITH_A_SECRET: dict[str, dict[str, object]] = {
    "a field of that name": {"secret": LITERAL},
    "a server's secrets": {"secrets": {"TOKEN": LITERAL}},
    "a credential": {"credentials": {"password": LITERAL}},
    "the environment": {"env": {"TOKEN": LITERAL}},
    "a user in a link": {"links": {"docs": f"https://me:{LITERAL}@wiki.example/"}},
    "where its code is": {"source": f"https://me:{LITERAL}@git.example/x.git"},
    "headers to send": {"headers": {"authorization": f"Bearer {LITERAL}"}},
}


@pytest.fixture(scope="module")
async def hub() -> AsyncIterator[Hub]:
    root = new_folder()
    async with opened(found_company(root)) as found:
        yield found
    shutil.rmtree(root)


@pytest.mark.anyio
@pytest.mark.parametrize("case", WITH_A_SECRET)
@pytest.mark.parametrize("path", ["servers", "drafts:check"])
async def test_the_api_takes_no_secret_in_any_field_and_repeats_none(
    hub: Hub, case: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Authorization": f"Bearer {await hub.token('sam')}"}
    answer = await hub.public.post(f"/api/v1/{path}", json=DRAFT | WITH_A_SECRET[case], headers=headers)
    assert answer.status_code in (400, 422), answer.text
    assert next(iter(WITH_A_SECRET[case])) in answer.text, "the field is named"
    assert LITERAL not in answer.text + caplog.text
    files_of_it = [path for path in files(hub.parts.rotation.keys.home.root) if LITERAL.encode() in path.read_bytes()]
    assert files_of_it == []


@pytest.mark.anyio
async def test_the_same_without_a_secret_is_taken(hub: Hub) -> None:
    headers = {"Authorization": f"Bearer {await hub.token('sam')}"}
    answer = await hub.public.post("/api/v1/drafts:check", json=DRAFT, headers=headers)
    assert answer.status_code == 200, answer.text


# --- a whole instance

VARIABLE, VALUE = "PEGBOARD_SECRET_PROD__PRESTO__KEY", "the-secret-of-prod-presto-9f2c"


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    """One to whose supervisor a server's secret was given, which no manifest of the demo names."""
    with running(variables={VARIABLE: VALUE}) as found:
        found.token("ana")
        yield found


def secrets_of(instance: Instance) -> dict[str, bytes]:
    """Everything that an instance must keep to itself, by what it is."""
    home = instance.home
    found = {
        "the token key": keys_in(home.token_ring)[0]["jwk"]["d"],
        "the bundle key": keys_in(home.bundle_ring)[0]["jwk"]["d"],
        "the sealing key": home.sealing_key.read_text().strip(),
        "the operator's credential": home.operator_token.read_text().strip(),
        "the prober's credential": home.prober_token.read_text().strip(),
        "the collector's credential": home.scrape_token.read_text().strip(),
        "a server's secret": VALUE,
    }
    for path in sorted((home.root / "credentials").glob("*.json")):
        for name, value in json.loads(path.read_text()).items():
            found[f"{name} of {path.stem}"] = value
    assert len(found) > 10
    return {name: str(value).encode() for name, value in found.items()}


def processes(instance: Instance) -> dict[int, str]:
    """Every process of the instance, by what it runs."""
    return {pid: _read(pid, "cmdline").replace(b"\0", b" ").decode() for pid in procfs.tree(instance.process.pid)}


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def held_in(text: bytes, secrets: dict[str, bytes]) -> list[str]:
    return [name for name, secret in secrets.items() if secret in text]


system = pytest.mark.system


@system
def test_no_secret_is_in_the_arguments_of_a_process(instance: Instance) -> None:
    secrets, found = secrets_of(instance), processes(instance)
    assert len(found) >= 6
    assert {words: held for words in found.values() if (held := held_in(words.encode(), secrets))} == {}


@system
def test_no_process_has_a_secret_in_its_environment_that_is_not_its_own(instance: Instance) -> None:
    secrets, supervisor = secrets_of(instance), instance.process.pid
    held = {
        words: found
        for pid, words in processes(instance).items()
        if pid != supervisor and (found := held_in(_read(pid, "environ"), secrets))
    }
    assert held == {}
    assert held_in(_read(supervisor, "environ"), secrets) == ["a server's secret"], "which the operator gave it"


@system
def test_a_secret_is_in_no_file_but_its_own(instance: Instance) -> None:
    home = instance.home
    own = {"keys", "credentials", "run", "scrape.token"}
    secrets = secrets_of(instance)
    held: dict[str, list[str]] = {}
    for path in files(home.root):
        place = path.relative_to(home.root)
        try:
            text = path.read_bytes()
        except OSError:
            continue
        if place.parts[0] not in own and (found := held_in(text, secrets)):
            held[str(place)] = found
    assert held == {}
    assert held_in(instance.log.read_bytes(), secrets) == []


@system
@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--json"),
        ("doctor", "--offline"),
        ("doctor", "--offline", "--json"),
        ("keys", "list", "--json"),
        ("sessions", "list", "--json"),
        ("registry", "export"),
    ],
    ids=" ".join,
)
def test_no_command_shows_a_secret(
    instance: Instance,
    words: tuple[str, ...],
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, VALUE)
    run([*words, "--home", str(instance.home.root)])
    out, err = capsysbinary.readouterr()
    assert out
    assert held_in(out + err, secrets_of(instance)) == []


@system
def test_no_process_leaves_a_core_that_would_hold_its_keys(instance: Instance) -> None:
    limits = {words: _read(pid, "limits").decode() for pid, words in processes(instance).items() if words}
    assert len(limits) >= 6
    assert {words for words, text in limits.items() if not re.search(r"Max core file size +0 +0 ", text)} == set()


@system
@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("name", ["environ", "mem", "maps"])
def test_another_user_of_the_machine_reads_nothing_of_a_process(instance: Instance, name: str) -> None:
    paths = [f"/proc/{pid}/{name}" for pid in processes(instance)]
    ended = subprocess.run(
        ["/usr/bin/head", "-qc", "64", *paths],
        capture_output=True,
        user=65533,
        group=65533,
        extra_groups=[],
        timeout=60,
    )
    assert ended.stdout == b"", "it may not be said what it was"
    assert ended.stderr.count(b"Permission denied") + ended.stderr.count(b"No such") >= len(paths)
