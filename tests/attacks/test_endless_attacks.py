"""Files of a stranger that are to be read for ever, or stand for others: everybody else's go on."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pegboard.core.check.dependencies import parse_lock
from pegboard.core.check.poisoning import plain_forms
from pegboard.core.checks import parse_toml
from pegboard_hub.runtime import sdists
from pegboard_hub.runtime.building.locked import Lock
from pegboard_hub.runtime.confined import ReleaseFailed
from pegboard_hub.runtime.isolation import Isolation, Mode
from pegboard_hub.runtime.sdists import take_wheel
from pegboard_hub.runtime.workshop import Workshop

INDEX = "https://pypi.org/simple"


@pytest.mark.parametrize("text", ['a = "' + "a" * 500_000 + '"', "a." * 200_000 + "a = 1", "a " * 200_000])
def test_toml_is_read_or_refused_in_a_time_that_grows_with_its_length(text: str) -> None:
    began = time.process_time()
    with suppress(ValueError):
        parse_toml(text)
    assert time.process_time() - began < 5


def test_a_text_for_models_is_looked_through_in_a_time_that_grows_with_its_length() -> None:
    began = time.process_time()
    for text in ("a@" * 10_000, "a!" * 10_000):
        plain_forms(text)
    assert time.process_time() - began < 5


def lock(
    tmp_path: Path, source: str, url: str = "https://evil.example/x-1-py3-none-any.whl", name: str = "x"
) -> Path:
    path = tmp_path / "uv.lock"
    wheels = f'wheels = [{{ url = "{url}", hash = "sha256:{"a" * 64}" }}]'
    path.write_text(f'[[package]]\nname = "{name}"\nversion = "1"\nsource = {source}\n{wheels}\n')
    return path


@pytest.mark.parametrize(
    "source",
    [
        '{ registry = "https://evil.example", editable = "." }',
        '{ registry = "https://pypi.org/simple", virtual = "." }',
        '{ url = "https://evil.example/x.whl", directory = "." }',
        '{ editable = "." }',
    ],
)
def test_a_package_of_two_sources_is_fetched_from_none(tmp_path: Path, source: str) -> None:
    with pytest.raises(ReleaseFailed, match="no index which may be used"):
        Lock(lock(tmp_path, source), [INDEX])


def test_a_backend_has_no_package_from_elsewhere_by_the_kits_name(tmp_path: Path) -> None:
    path = lock(tmp_path, '{ registry = "https://evil.example" }', name="pegboard")
    Lock(path, [INDEX])
    with pytest.raises(ReleaseFailed, match="no index which may be used"):
        Lock(path, [INDEX], kit="")


def test_a_lock_file_does_not_keep_who_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "uv.lock"
    for text in ("a." * 200_000 + "a = 1", "#" * (9 * 1024 * 1024)):
        path.write_text(text)
        with pytest.raises(ReleaseFailed, match="cannot be read"):
            Lock(path, [INDEX])


def test_a_pipe_or_link_that_a_build_left_is_no_wheel(tmp_path: Path) -> None:
    built, wheels, others = tmp_path / "built", tmp_path / "wheels", tmp_path / "others"
    for folder in (built, wheels, others):
        folder.mkdir()
    (others / "secret-1-py3-none-any.whl").write_bytes(b"another author's")
    (built / "x-1-py3-none-any.whl").symlink_to(others / "secret-1-py3-none-any.whl")
    with pytest.raises(ReleaseFailed):
        take_wheel(built, wheels, "x")
    (built / "x-1-py3-none-any.whl").unlink()
    os.mkfifo(built / "x-1-py3-none-any.whl")
    with pytest.raises(ReleaseFailed):
        take_wheel(built, wheels, "x")
    shutil.rmtree(built)
    built.symlink_to(others)
    with pytest.raises(ReleaseFailed):
        take_wheel(built, wheels, "x")
    assert list(wheels.iterdir()) == []


@pytest.mark.anyio
async def test_an_archive_of_an_index_that_is_read_for_ever_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdists, "READ_TIMEOUT_S", 1)
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 512 * 1024
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + b"1" * info.size))
    isolation = Isolation(Mode.OFF, "a test", Path(sys.executable))
    shop = Workshop("dev/one", tmp_path / "made", tmp_path / "work", isolation, Path("uv"))
    shop.make_ready()
    with pytest.raises(ReleaseFailed, match="longer than 1 s"):
        await sdists.SdistBuilder(shop, tmp_path)._tools(archive, sdists.SourceDistribution("x", "", "", "1"))


@pytest.mark.anyio
async def test_a_file_of_an_index_that_does_not_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sdists, "MOST_BYTES", 1024 * 1024)

    async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(bytes(65_536))
                await writer.drain()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with asyncio.timeout(20):
        with pytest.raises(ReleaseFailed, match="larger than 1 MiB"):
            await sdists.fetch(f"http://{host}:{port}/x-1.tar.gz", "x", tmp_path / "x")
    server.close()


def test_a_lock_file_does_not_keep_the_check() -> None:
    lock = b'[[package]]\nname = "x"\nversion = "1"\nsource = { registry = "https://pypi.org/simple" }\n'
    assert len(parse_lock(lock)) == 1
    assert parse_lock(lock + b"#" * (9 * 1024 * 1024)) == []
