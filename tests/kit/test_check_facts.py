"""What is known of packages: yanked, licences, and advisories, from indexes as they answer and from OSV documents."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pegboard.advisories import read_advisories
from pegboard.cli.app import run
from pegboard.core.check import PackageFacts
from pegboard.core.check.facts import Advisories, from_json, licence_in, to_json, wanted
from pegboard.core.errors import ConfigurationError
from pegboard.lookup import look_up
from pegboard_hub.packages import facts as hub
from pegboard_hub.packages.advisories import SETTING, kept_advisories
from tests.kit.test_check_rules import LOCK, locked

pytestmark = pytest.mark.anyio

PYPI = "https://pypi.org/simple"
FILE = "https://files.pythonhosted.org/duckdb-2.0.1-cp311-cp311-manylinux_2_28_x86_64.whl"
METADATA = b"Metadata-Version: 2.4\nName: duckdb\nVersion: 2.0.1\nLicense-Expression: MIT\n\nText\n"
HEAD = "<!DOCTYPE html><html><body>"

Index = Callable[[httpx2.Request], httpx2.Response]


def as_json(*files: dict[str, Any], kind: str = "application/vnd.pypi.simple.v1+json") -> httpx2.Response:
    return httpx2.Response(200, json={"files": files}, headers={"content-type": kind})


def as_html(links: str) -> httpx2.Response:
    return httpx2.Response(200, text=f"{HEAD}{links}", headers={"content-type": "text/html"})


def file(name: str = FILE.rpartition("/")[2], **said: Any) -> dict[str, Any]:
    return {"filename": name, "url": f"https://files.pythonhosted.org/{name}", **said}


def index(page: httpx2.Response) -> Index:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/simple/duckdb/":
            return httpx2.Response(page.status_code, headers=page.headers, content=page.content)
        if str(request.url) == f"{FILE}.metadata":
            return httpx2.Response(200, content=METADATA)
        return httpx2.Response(404)

    return answer


async def found(answer: Index, advisories: Advisories | None = None, lock: str = LOCK) -> PackageFacts | None:
    """What command and hub say, which is the same."""
    listed = advisories or Advisories()
    mine = look_up(lock.encode(), listed, httpx2.Client(transport=httpx2.MockTransport(answer)))
    theirs = await hub.look_up(lock.encode(), [PYPI], listed, transport=httpx2.MockTransport(answer))
    assert mine == theirs
    return mine.get(("duckdb", "2.0.1"))


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (as_json(file()), PackageFacts()),
        (as_json(file(**{"core-metadata": {"sha256": "00"}})), PackageFacts(licence="MIT")),
        (as_json(file(yanked=False)), PackageFacts()),
        (as_json(file(yanked=True)), PackageFacts(yanked="")),
        (as_json(file(yanked="leaks memory")), PackageFacts(yanked="leaks memory")),
        # One file of a version that was not taken back is what an installer takes.
        (as_json(file(yanked="old glibc"), file("duckdb-2.0.1.tar.gz")), PackageFacts()),
        (as_json(file("duckdb-2.0.10-py3-none-any.whl", yanked=True), file()), PackageFacts()),
        (as_json(file("duckdb-2.0.2.tar.gz")), None),
        (as_json(file("DuckDB-2.0.1.tar.gz", yanked=True)), PackageFacts(yanked="")),
        (as_html(f'<a href="{FILE}#sha256=00">{FILE.rpartition("/")[2]}</a>'), PackageFacts()),
        (as_html(f'<a data-yanked="bad" href="{FILE}">{FILE.rpartition("/")[2]}</a>'), PackageFacts(yanked="bad")),
        (as_html(f'<a data-yanked href="{FILE}">{FILE.rpartition("/")[2]}</a>'), PackageFacts(yanked="")),
        (
            as_html(f'<a data-core-metadata="true" href="{FILE}">{FILE.rpartition("/")[2]}</a>'),
            PackageFacts(licence="MIT"),
        ),
        (httpx2.Response(404), None),
        (httpx2.Response(302, headers={"location": "http://169.254.169.254/"}), None),
        (httpx2.Response(200, text="no json", headers={"content-type": "application/json"}), None),
        (httpx2.Response(200, text='{"files": [1, {"url": 2}]}', headers={"content-type": "application/json"}), None),
    ],
)
async def test_what_an_index_says(page: httpx2.Response, expected: PackageFacts | None) -> None:
    assert await found(index(page)) == expected


async def test_an_index_that_is_away_is_no_error() -> None:
    def away(_request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("nobody there")

    assert await found(away) is None


async def test_the_hub_asks_no_index_that_only_the_lock_file_names() -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return as_json(file())

    evil = locked(PYPI, "http://169.254.169.254/latest")["uv.lock"]
    known = await hub.look_up(evil, [PYPI], Advisories(), transport=httpx2.MockTransport(answer))
    assert (known, asked) == ({}, [])
    assert [each.source for each in wanted(evil)] == ["http://169.254.169.254/latest"]


def osv(id_: str = "GHSA-1", **affected: Any) -> bytes:
    whole = {"package": {"ecosystem": "PyPI", "name": "DuckDB"}} | affected
    return json.dumps({"id": id_, "summary": "reads files", "affected": [whole]}).encode()


def between(*events: dict[str, str], kind: str = "ECOSYSTEM") -> dict[str, Any]:
    return {"ranges": [{"type": kind, "events": list(events)}]}


@pytest.mark.parametrize(
    ("affected", "fixed"),
    [
        ({"versions": ["2.0.1"]}, ""),
        ({"versions": ["2.0.1.0"]}, ""),
        ({"versions": ["2.0.2"]}, None),
        ({}, None),
        (between({"introduced": "0"}), ""),
        (between({"introduced": "0"}, {"fixed": "2.0.2"}), "2.0.2"),
        (between({"introduced": "0"}, {"fixed": "2.0.1"}), None),
        (between({"introduced": "2.0.2"}), None),
        (between({"introduced": "2.0.1"}, {"last_affected": "2.0.1"}), ""),
        (between({"introduced": "0"}, {"last_affected": "2.0.0"}), None),
        (between({"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "2.0"}, {"fixed": "2.1"}), "2.1"),
        (between({"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "3.0"}, {"fixed": "3.1"}), None),
        (between({"introduced": "0"}, kind="GIT"), None),
        ({**between({"introduced": "0"}, {"fixed": "1.0"}), "versions": ["2.0.1"]}, ""),
    ],
)
def test_which_versions_an_advisory_affects(affected: dict[str, Any], fixed: str | None) -> None:
    said = Advisories([osv(**affected)]).of("duckdb", "2.0.1")
    assert [each.fixed for each in said] == ([] if fixed is None else [fixed])


def test_malicious_ones_come_first_and_withdrawn_ones_not_at_all() -> None:
    withdrawn = json.loads(osv("GHSA-2", versions=["2.0.1"])) | {"withdrawn": "2026-01-01T00:00:00Z"}
    listed = Advisories(
        [
            osv("GHSA-1", versions=["2.0.1"]),
            osv("MAL-2026-1", versions=["2.0.1"]),
            json.dumps(withdrawn).encode(),
            osv("GHSA-3", versions=["2.0.1"], package={"ecosystem": "npm", "name": "duckdb"}),
            b"{}",
            b"no json",
        ]
    )
    assert [each.id for each in listed.of("DUCKDB", "2.0.1")] == ["MAL-2026-1", "GHSA-1"]
    assert listed.of("duckdb", "2.0.1")[0].malicious
    assert listed.unread == 2


def written(place: Path, documents: Iterable[bytes]) -> None:
    for number, content in enumerate(documents):
        (place / "PyPI").mkdir(exist_ok=True)
        (place / "PyPI" / f"{number}.json").write_bytes(content)


def test_advisories_are_read_from_a_folder_and_from_an_archive(tmp_path: Path) -> None:
    written(tmp_path, [osv(versions=["2.0.1"])])
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "PyPI" / "0.json", "0.json")
    assert [len(read_advisories(tmp_path)), len(read_advisories(tmp_path / "all.zip"))] == [1, 1]
    assert len(read_advisories(None)) == 0


def test_the_operators_advisories_are_read_wherever_they_lie_and_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [tmp_path / each for each in ("folder", "shelf/deep", "all.zip")]
    monkeypatch.setenv(SETTING, os.pathsep.join(map(str, places)))
    for place in places[:2]:
        place.mkdir(parents=True)
    written(places[0], [osv("GHSA-1", versions=["2.0.1"])])
    for number, archive in enumerate((places[1] / "pypi.zip", places[2])):
        with pytest.raises(ConfigurationError, match=r"has no advisories|No such file"):
            kept_advisories({"duckdb"})
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr("any.json", osv(f"MAL-2026-{number}", versions=["2.0.1"]))
    found = kept_advisories({"duckdb"}).of("duckdb", "2.0.1")
    assert [each.id for each in found] == ["MAL-2026-0", "MAL-2026-1", "GHSA-1"]


async def test_what_is_known_to_be_malicious_is_so_also_while_its_index_is_away() -> None:
    known = await found(lambda _: httpx2.Response(503), Advisories([osv("MAL-2026-7", versions=["2.0.1"])]))
    assert known is not None
    assert known.advisories[0].malicious


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: MIT OR Apache-2.0", "MIT OR Apache-2.0"),
        ("Classifier: License :: OSI Approved :: MIT License", "MIT License"),
        ("License: BSD\n something", "BSD"),
        ("License-Expression: MIT\nLicense: other", "MIT"),
        ("Name: x", ""),
    ],
)
def test_a_licence_in_metadata(metadata: str, licence: str) -> None:
    assert licence_in(f"{metadata}\n\nText\n".encode()) == licence


def test_licences_of_what_is_installed_are_taken_where_the_index_gives_none(tmp_path: Path) -> None:
    place = tmp_path / "lib" / "duckdb-2.0.1.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_bytes(METADATA)
    [text] = hub.metadata_in(tmp_path)
    assert text == METADATA


def test_facts_can_be_handed_on_as_json() -> None:
    known = {("duckdb", "2.0.1"): PackageFacts("bad", Advisories([osv(versions=["1"])]).of("duckdb", "1"), "MIT")}
    assert from_json(json.loads(json.dumps(to_json(known)))) == known
    with pytest.raises(ValueError, match="yanked"):
        from_json({"duckdb": {"2.0.1": {"yanked": 3}}})


def test_advisories_without_looking_up_are_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(tmp_path), "--advisories", str(tmp_path)]) == 2
    assert run(["check", str(tmp_path), "--look-up", "--advisories", str(tmp_path / "nowhere.zip")]) == 2
    assert "cannot be read" in capsys.readouterr().err
