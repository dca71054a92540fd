"""The package index: authors get the kit that this instance runs with, by uv or pip. Nobody puts anything on it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from email.parser import BytesParser
from importlib.metadata import distribution
from pathlib import Path

import httpx2
import pytest

from pegboard import core
from pegboard_hub.packages.shelf import Shelf, platform_wheels
from pegboard_hub.packages.simple import HTML_TYPE, JSON_TYPE, chosen_type
from pegboard_hub.packages.wheel import kit_wheel
from tests.hub.company import Company, Hub

pytestmark = pytest.mark.anyio

UV = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
WHEEL = f"pegboard-{distribution('pegboard').version}-py3-none-any.whl"


async def get(hub: Hub, path: str, accept: str = "*/*") -> httpx2.Response:
    """As uv or pip asks: without a sign-in."""
    return await hub.public.get(path, headers={"Accept": accept})


async def test_uv_finds_the_kit_without_a_sign_in(hub: Hub) -> None:
    projects = await get(hub, "/packages/simple/", UV)
    assert (projects.headers["content-type"], projects.json()["projects"]) == (JSON_TYPE, [{"name": "pegboard"}])
    page = (await get(hub, "/packages/simple/pegboard/", UV)).json()
    assert page["meta"] == {"api-version": "1.0"}
    assert page["files"] == [
        {
            "filename": WHEEL,
            "url": f"../../files/{WHEEL}",
            "hashes": {},
            "core-metadata": True,
            "requires-python": ">=3.11",
        }
    ]
    wheel = await get(hub, f"/packages/files/{WHEEL}")
    metadata = await get(hub, f"/packages/files/{WHEEL}.metadata")
    assert (wheel.status_code, metadata.status_code) == (200, 200)
    with zipfile.ZipFile(io.BytesIO(wheel.content)) as archive:
        assert archive.testzip() is None
        [named] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        assert archive.read(named) == metadata.content
    assert BytesParser().parsebytes(metadata.content)["Name"] == "pegboard"


async def test_pip_finds_it_on_pages(hub: Hub) -> None:
    for accept, kind in (("text/html", "text/html"), ("*/*", "text/html"), (f"{HTML_TYPE}, */*;q=0.1", HTML_TYPE)):
        page = await get(hub, "/packages/simple/pegboard/", accept)
        assert page.headers["content-type"] == f"{kind}; charset=utf-8"
        assert f'href="../../files/{WHEEL}" data-requires-python="&gt;=3.11"' in page.text


async def test_a_locked_kit_is_there_by_its_digest_for_ever(hub: Hub, company: Company) -> None:
    [(digest, path)] = platform_wheels(company.home).items()
    exact = await get(hub, f"/packages/sha256/{digest}/{path.name}")
    assert hashlib.sha256(exact.content).hexdigest() == digest
    assert "immutable" in exact.headers["cache-control"]
    for other in (f"{'0' * 64}/{path.name}", f"{digest}/other.whl", f"..%2f..%2fgrants.toml/{path.name}"):
        assert (await get(hub, f"/packages/sha256/{other}")).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "simple/requests/",
        "simple/pegboard-hub/",
        "files/pegboard-0.0.9-py3-none-any.whl",
        "files/..%2f..%2fdata%2fpegboard.db",
        "files/newest.json",
    ],
)
async def test_there_is_nothing_else(hub: Hub, path: str) -> None:
    assert (await get(hub, f"/packages/{path}")).status_code == 404


async def test_nothing_can_be_put_on_it(hub: Hub) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = await hub.public.request(method, f"/packages/files/{WHEEL}", content=b"x")
        assert answer.status_code == 405


def test_the_wheel_is_the_kit_that_runs_byte_for_byte_each_time() -> None:
    first = kit_wheel()
    kit_wheel.cache_clear()
    assert kit_wheel().content == first.content
    package = Path(core.__file__).parents[1]
    with zipfile.ZipFile(io.BytesIO(first.content)) as archive:
        for name in archive.namelist():
            assert archive.getinfo(name).date_time == (1980, 1, 1, 0, 0, 0)
            if name.startswith("pegboard/"):
                assert archive.read(name) == (package.parent / name).read_bytes()
        assert "pegboard/py.typed" in archive.namelist()
        assert not [name for name in archive.namelist() if "__pycache__" in name]


def test_wheels_of_earlier_kits_stay_and_a_changed_one_is_none(company: Company) -> None:
    shelf = Shelf(company.home)
    now = shelf.keep_current()
    old = b"an earlier kit"
    digest = hashlib.sha256(old).hexdigest()
    folder = company.home.packages / digest
    folder.mkdir()
    (folder / "pegboard-0.0.9-py3-none-any.whl").write_bytes(old)
    assert shelf.keep_current() == now
    assert shelf.of_version(now.version) == now
    assert shelf.of_version("0.0.9") is None  # it was never the newest of its version here
    assert set(shelf.wheels()) == {now.digest, digest}
    (folder / "pegboard-0.0.9-py3-none-any.whl").write_bytes(b"tampered")
    assert shelf.by_digest(digest) is None


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "text/html"),
        ("*/*", "text/html"),
        (UV, JSON_TYPE),
        ("application/vnd.pypi.simple.latest+json", JSON_TYPE),
        ("text/html;q=0.9, application/vnd.pypi.simple.v1+json;q=0.1", "text/html"),
        ("application/vnd.pypi.simple.v1+json;q=0", ""),
        ("application/vnd.pypi.simple.v2+json", ""),
        ("image/png", ""),
        ("text/html;q=abc", ""),
    ],
)
def test_what_a_client_asks_for(accept: str, chosen: str) -> None:
    assert chosen_type(accept) == chosen
