"""A backend that means harm, spoken to over HTTP: what it answers costs one call, and leads nowhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from pegboard.core.pins import FILE_NAME, read_pins
from pegboard.proxy import backend, stdio
from pegboard.testing import InMemoryHub
from tests.foreign.projects import pinned, write_project

pytestmark = pytest.mark.anyio


def hostile(folder: Path, how: str) -> Path:
    project = write_project(
        folder, how, "{port}", backend="hostile_http.py", proxy='url = "http://127.0.0.1:{port}/mcp"'
    )
    manifest = project / "pegboard.toml"
    text = manifest.read_text().replace("timeout_s = 30", "timeout_s = 2")
    manifest.write_text(text.replace('[proxy.tools.wipe]\nconfirm = "Empty {drawer}?"\n', ""))
    return project


@pytest.fixture(scope="module")
def pins(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = hostile(tmp_path_factory.mktemp("pinning") / "project", "behave")
    return read_pins(anyio.run(pinned, folder)).text()


@asynccontextmanager
async def struck(tmp_path: Path, pins: str, how: str) -> AsyncIterator[object]:
    project = hostile(tmp_path / "project", how)
    (project / FILE_NAME).write_text(pins)
    async with InMemoryHub(project).client("ana", groups=["ads-eng"]) as client:

        async def call(tool: str, text: str = "") -> tuple[str, bool]:
            with anyio.fail_after(20):
                result = await client.call_tool(tool, {"text": text})
            return "\n".join(block.text for block in result.content), bool(result.is_error)  # type: ignore[union-attr]

        yield call


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stdio, "END_S", 0.3)
    monkeypatch.setattr(backend, "PING_S", 1.0)


@pytest.mark.parametrize(
    "how",
    [
        "oversize",
        "compressed",
        "never ends a stream",
        "never ends an event",
        "redirects",
        "answers in no form",
        "hangs up",
    ],
)
async def test_an_answer_that_is_none_fails_its_call_alone(tmp_path: Path, pins: str, how: str) -> None:
    async with struck(tmp_path, pins, how) as call:
        words, refused = await call("strike")  # type: ignore[operator]
        assert refused
        assert "strike" in words
        assert await call("echo", "as ever") == ("as ever", False)  # type: ignore[operator]


async def test_neither_a_cookie_nor_a_token_of_the_callers_reaches_it(tmp_path: Path, pins: str) -> None:
    async with struck(tmp_path, pins, "sets a cookie") as call:
        assert await call("strike") == ("struck", False)  # type: ignore[operator]
        seen, _ = await call("echo", "what did you see")  # type: ignore[operator]
    assert "Bearer" not in seen
    assert "id=you" not in seen


async def test_a_session_that_is_gone_is_opened_anew_and_the_call_was_not_run(tmp_path: Path, pins: str) -> None:
    async with struck(tmp_path, pins, "forgets sessions") as call:
        assert await call("strike") == ("struck", False)  # type: ignore[operator]
        words, refused = await call("echo", "x")  # type: ignore[operator]
        assert refused
        assert "was not run" in words
        assert await call("echo", "again") == ("again", False)  # type: ignore[operator]
