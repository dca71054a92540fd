"""Fixtures every suite shares."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import ssl
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import httpcore2
import hypothesis
import pytest
import typer

from pegboard.cli import app, plugins
from tests.system.instance import Instance, running

# Until all is collected (`pytest_collection_finish`): nothing of it is garbage, and looking through it as it grows
# took a third of the collecting, in each worker.
gc.disable()

# The same examples each time, so that a change fails for what it changed; `make explore` looks for new ones.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", print_blob=True, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def pegboard() -> Iterator[Instance]:
    """One running Pegboard, on real parts. All tests that use it run in one worker (`xdist_group`)."""
    with running() as instance:
        yield instance


@pytest.fixture(scope="session", autouse=True)
def made_once() -> Iterator[None]:
    """What each process of a user's makes for itself is made once for all tests of this one.

    It is the same each time: which certificates of authorities count, and what subcommands there are.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore2, "default_ssl_context", _trusting_once(httpcore2.default_ssl_context))
        patch.setattr(app, "get_command", _commands_once(app.get_command))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_sockets_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home with a long path has its sockets in a short one beside it, of which pytest knows nothing."""
    yield
    for place in ("*/run", "*/*/run", "*/*/*/run"):
        for link in tmp_path_factory.getbasetemp().glob(place):
            if link.is_symlink() and (short := link.readlink()).match("/tmp/pegboard-*"):  # noqa: S108 - to remove it
                shutil.rmtree(short, ignore_errors=True)


def _trusting_once(make: Callable[..., ssl.SSLContext]) -> Callable[..., ssl.SSLContext]:
    @cache
    def made(*_: object, trusts: bool) -> ssl.SSLContext:
        return make(_trust_env=trusts)

    def trusting(*, _trust_env: bool = True) -> ssl.SSLContext:
        return made(*map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR")), trusts=_trust_env)

    return trusting


def _commands_once(make: Callable[[typer.Typer], Any]) -> Callable[[typer.Typer], Any]:
    @cache
    def made(_found: object, of: typer.Typer) -> Any:
        return make(of)

    # Tests of plugins replace what is found, and it only.
    return lambda of: made(plugins.entry_points, of)


LONGEST_ID = 100


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a long text by its beginning and its length: each worker sends the names of all tests, once megabytes."""
    if isinstance(val, str | bytes) and len(val) > LONGEST_ID:
        return f"{val[:40]!a} of {len(val)}"
    return None


SLOWEST_FIRST = {"system": 0, "conformance": 1, "attacks": 2, "hub": 3}
"""Folders in the order in which workers get them, and then all others: what is left for the end should be short."""

WAITING = {"system", "conformance", "attacks"}
"""Folders whose tests mostly wait for processes that they started. Those of the others compute."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give a worker whole files, so that what a file's tests share is made once; those of a group stay together."""
    if not hasattr(config, "workerinput"):
        return
    here = Path(__file__).parent
    groups: dict[pytest.Item, str] = {}
    folders: dict[str, str] = {}
    for item in items:
        file = item.path.relative_to(here)
        mark = item.get_closest_marker("xdist_group")
        group = groups[item] = str(mark.args[0]) if mark else str(file)
        if mark is None:
            item.add_marker(pytest.mark.xdist_group(group))
        folders.setdefault(group, file.parts[0])
    place = _places(folders)
    items.sort(key=lambda item: place[groups[item]])


def _places(folders: Mapping[str, str]) -> dict[str, float]:
    """When each group begins: those that wait spread evenly over those that compute, so that no core is left idle.

    Args:
        folders: of each group, the folder that its first test is in.
    """
    kinds: dict[bool, list[str]] = {True: [], False: []}
    for group in sorted(folders, key=lambda group: SLOWEST_FIRST.get(folders[group], len(SLOWEST_FIRST))):
        kinds[folders[group] in WAITING].append(group)
    spread = {group: (number + 1) / len(kind) for kind in kinds.values() for number, group in enumerate(kind)}
    return {**spread, "instance": 0}  # a third of the run, and all of it in one worker


def pytest_collection_finish() -> None:
    """Leave thousands of collected tests, and what they import, out of later garbage collections.

    Looking through them took a tenth of the run. What tests themselves leave behind is found as before.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


# A shell that starts the suite in the background has it ignore Ctrl-C, and every process it starts inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
