"""`pegboard up`: run one instance in the foreground until told to stop."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from pegboard_hub.common.home import Home, unusable
from pegboard_hub.common.noted import noted
from pegboard_hub.common.settings import DEMO, ServiceSettings
from pegboard_hub.runtime import as_before, detached, preflight, procfs
from pegboard_hub.runtime.as_before import DEMO_LOGIN, NOBODY_IS_TOLD, TLS_OFF
from pegboard_hub.runtime.instance import ELSEWHERE, HERE, Instance, InstanceSettings
from pegboard_hub.runtime.isolation import SETTING
from pegboard_hub.runtime.launch import PR_SET_PDEATHSIG
from pegboard_hub.runtime.launching import leave_no_core
from pegboard_hub.runtime.options import DEFAULT_HOME, HomeOption
from pegboard_hub.runtime.progress import Progress, ProgressHandler
from pegboard_hub.runtime.up_options import (
    BindOption,
    DetachOption,
    GrantsAgeOption,
    GrantsOption,
    HubsOption,
    MtlsPortOption,
    NotifyOption,
    PortOption,
    PublicUrlOption,
    QuietOption,
    SignInOption,
    StopsAgeOption,
    StoryOption,
    SubmittedOption,
    TlsCertOption,
    TlsKeyOption,
    TrustDomainOption,
    WorkloadApiOption,
)
from pegboard_hub.runtime.welcome import DEFAULT_PORT, welcome

SAME_REQUEST_S = 0.5
"""Signals this close together, in seconds, are one request to stop."""

STORY_FAILED = 1
"""Exit status when the story went wrong; the instance stays up until it is stopped, so that one can look."""


def up(
    home: HomeOption = DEFAULT_HOME,
    port: PortOption = DEFAULT_PORT,
    public_url: PublicUrlOption = "",
    grants: GrantsOption = None,
    sign_in: SignInOption = None,
    bind: BindOption = "",
    grants_max_age: GrantsAgeOption = None,
    stops_max_age: StopsAgeOption = None,
    story: StoryOption = None,
    detach: DetachOption = False,
    quiet: QuietOption = False,
    hubs: HubsOption = None,
    mtls_port: MtlsPortOption = None,
    trust_domain: TrustDomainOption = None,
    workload_api: WorkloadApiOption = "",
    tls_cert: TlsCertOption = "",
    tls_key: TlsKeyOption = "",
    notify: NotifyOption = None,
    submitted: SubmittedOption = "",
    die_with_parent: Annotated[bool, typer.Option("--die-with-parent", hidden=True)] = False,
    kept: Annotated[bool, typer.Option("--kept", hidden=True)] = False,
    called: Annotated[str, typer.Option("--called", hidden=True)] = "",
) -> None:
    """Run Pegboard: hub, edge and every granted server, until Ctrl-C or, with --detach, until `pegboard down`.

    \b
    Example:
      pegboard up --port 8500 --home /srv/pegboard
      pegboard up --detach
    """
    if die_with_parent:
        # Under `make up`: should make be killed outright, its child is asked to stop rather than left behind.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    tls = as_before.tls_files(home, tls_cert, tls_key)
    url = public_url or f"http{'s' if tls else ''}://localhost:{port}"
    if detach and story:
        raise typer.BadParameter("the story is shown in the foreground: leave out --detach, or --story.")
    granted, login, ages = as_before.files_and_ages(home, grants, sign_in, grants_max_age, stops_max_age)
    database_url, count = as_before.data_of(home, hubs)
    isolation = os.environ.get(SETTING, "auto")
    services = as_before.services_of(mtls_port, port, tuple(trust_domain or ()), workload_api)
    settings = InstanceSettings(
        home,
        port,
        url,
        granted,
        login,
        bind,
        isolation,
        ages,
        database_url,
        count,
        services,
        tls,
        as_before.notifications_of(home, notify),
        submitted_here=(submitted or noted(Home.at(home)).get("submitted") or HERE) == HERE,
    )
    anyone = as_before.check_reach(settings)
    if detach:
        raise typer.Exit(_detach(settings, quiet=quiet))
    progress = Progress(quiet)
    demo = anyone and _same_file(granted, DEMO / "grants.toml")
    if story and not demo:
        progress.say("The story is about the demo's servers and people, and these are others: it is skipped.")
    logging.basicConfig(level=logging.WARNING, handlers=[ProgressHandler(progress)])
    story = demo and story is not False and not kept
    try:
        status = asyncio.run(_run(settings, progress, called or _program(), demo=demo, story=story, kept=kept))
    except OSError as error:
        raise unusable(home.absolute(), error) from error
    raise typer.Exit(status)


def _detach(settings: InstanceSettings, *, quiet: bool) -> int:
    home, ages = settings.home, settings.ages
    options = ["--called", _program(), "--home", str(home.expanduser().absolute()), "--port", str(settings.port)]
    options += ["--public-url", settings.public_url, "--grants", str(settings.grants)]
    options += ["--sign-in", str(settings.sign_in or DEMO_LOGIN)]
    options += ["--notify", str(settings.notify or NOBODY_IS_TOLD)]
    options += [*(["--bind", settings.bind] if settings.bind else []), *(["--quiet"] if quiet else [])]
    options += ["--hubs", str(settings.hubs)] if settings.hubs > 1 else []
    options += ["--submitted", HERE if settings.submitted_here else ELSEWHERE]
    options += _service_options(settings.services)
    tls = settings.tls
    options += ["--tls-cert", str(tls.certificate), "--tls-key", str(tls.key)] if tls else ["--tls-cert", TLS_OFF]
    options += ["--grants-max-age", str(ages.grants_s), "--stops-max-age", str(ages.stops_s)]
    preflight.check_place(home)
    opened = Home.open(home)
    status = detached.start(opened, options, lambda line: print(line, flush=True))
    if status != 0 and procfs.flock_holder(opened.lock) is None:
        print(f"This start left nothing running. What it said is kept in {opened.log('up')}.")
    elif status != 0:
        print(f"What ran on this home before goes on. What this start said is kept in {opened.log('up')}.")
    elif not quiet:
        print(f"It runs in the background, and comes back by itself. Its progress: {opened.log('up')}")
        for verb, what in (("status", "shows how it is"), ("down", "ends it")):
            print(f"  {_program()} {verb}{_home_option(home)}  {what}")
    return status


def _service_options(services: ServiceSettings | None) -> list[str]:
    if services is None:
        return []
    options = ["--mtls-port", str(services.port)]
    options += [part for name in services.trust_domains for part in ("--trust-domain", name)]
    return [*options, *(["--workload-api", services.workload_api] if services.workload_api else [])]


def _home_option(home: Path) -> str:
    return "" if home == DEFAULT_HOME else f" --home {shlex.quote(str(home))}"


def _same_file(one: Path, other: Path) -> bool:
    return one.expanduser().resolve() == other.resolve()


async def _run(
    settings: InstanceSettings, progress: Progress, program: str, *, demo: bool, story: bool, kept: bool
) -> int:
    """Start, stay, stop. The second request to stop kills. With `kept` it is brought back when it is killed."""
    leave_no_core()
    instance = Instance(settings, progress)
    told = asyncio.Event()
    on_signals(told, instance.kill)
    starting = asyncio.create_task(_start(instance, settings, progress, program, demo, story))
    stopping = asyncio.create_task(told.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        status = await starting if starting.done() else 0
        if not told.is_set():
            await _stay(instance, progress, stopping, kept=kept)
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        progress.step("stopping")
        await instance.stop()
        stopping.cancel()
    progress.step("stopped; nothing is left running")
    return status


async def _stay(instance: Instance, progress: Progress, stopping: asyncio.Task[Literal[True]], *, kept: bool) -> None:
    if not kept:
        progress.say("Running. Ctrl-C stops everything.")
        await stopping
        return
    detached.want(instance.home)
    keeping = asyncio.create_task(detached.keep(instance.home), name="keep a keeper")
    await stopping
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    detached.release(instance.home)


async def _start(
    instance: Instance, settings: InstanceSettings, progress: Progress, program: str, demo: bool, story: bool
) -> int:
    await instance.start()
    status = 0
    if story:
        from pegboard_hub.demo.story import run_story  # the story is no part of a start without it

        if not await run_story(settings.public_url, instance.home, progress.say):
            status = STORY_FAILED
            progress.problem("the story did NOT go as it should; see ✗ above")
    for line in welcome(instance, settings, program, demo=demo):
        progress.say(line)
    return status


def _program() -> str:
    """How the command is called from here: by its path in a clone, else by its name."""
    program = Path(sys.argv[0])
    if program.is_absolute() and program.is_relative_to(Path.cwd()) and program.name != "__main__.py":
        return str(program.relative_to(Path.cwd()))
    return sys.argv[0] if "/" in sys.argv[0] and program.name != "__main__.py" else "pegboard"


def on_signals(told: asyncio.Event, kill: Callable[[], None]) -> None:
    """The first signal stops in order, a later Ctrl-C kills; one delivered twice, as by timeout(1), does not."""
    since = 0.0

    def tell(number: signal.Signals) -> None:
        nonlocal since
        if not told.is_set():
            since = time.monotonic()
            told.set()
        elif number is signal.SIGINT and time.monotonic() - since > SAME_REQUEST_S:
            kill()
            os._exit(128 + number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, tell, number)
