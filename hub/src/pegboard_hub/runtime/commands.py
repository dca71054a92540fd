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
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from pegboard.core.bundle import MAX_AGE_S, STOPS_MAX_AGE_S, Ages
from pegboard.core.errors import ConfigurationError
from pegboard.core.spiffe import is_trust_domain
from pegboard_hub.common.certificates import CERTIFICATE, KEY, TlsFiles, noted_files
from pegboard_hub.common.database_url import EMBEDDED, FILE_VARIABLE, VARIABLE, read_database_url
from pegboard_hub.common.home import Home, noted, read_instance, unusable
from pegboard_hub.common.settings import DEMO, ServiceSettings
from pegboard_hub.identity.clients.rules import loopback_fault
from pegboard_hub.identity.settings import SignInFile, read_sign_in
from pegboard_hub.runtime import detached, preflight, procfs
from pegboard_hub.runtime.instance import ELSEWHERE, HERE, Instance, InstanceSettings
from pegboard_hub.runtime.isolation import SETTING
from pegboard_hub.runtime.launch import PR_SET_PDEATHSIG
from pegboard_hub.runtime.launching import leave_no_core
from pegboard_hub.runtime.options import DEFAULT_HOME as DEFAULT_HOME
from pegboard_hub.runtime.options import HomeOption as HomeOption
from pegboard_hub.runtime.preflight import HIGHEST_PORT, LOWEST_PORT
from pegboard_hub.runtime.welcome import DEFAULT_PORT, welcome
from pegboard_hub.services.authority import TRUST_DOMAIN
from pegboard_hub.storage.postgresql import address_of

SAME_REQUEST_S = 0.5
"""Signals this close together, in seconds, are one request to stop."""

LEAST_AGE_S = 5
"""The least age that can be set: the hub renews five times in it, and a busy machine may take a second for that."""

MOST_HUBS = 9
"""Hub processes of one home. They share a machine, so that more serve nobody."""

LONGEST_STEP = 2_000
"""Characters of a line of progress."""

STORY_FAILED = 1
"""Exit status when the story went wrong; the instance stays up until it is stopped, so that one can look."""


DEMO_LOGIN = Path("demo")
"""As --sign-in: go back to the demo directory."""


NOBODY_IS_TOLD = Path("nobody")
"""As --notify: no webhooks any more."""


def checked(check: Callable[[str], str]) -> Callable[[str], str]:
    """A check of an option whose fault is told as typer tells it."""

    def answer(text: str) -> str:
        try:
            return check(text) if text else ""
        except ValueError as error:
            raise typer.BadParameter(f"{error}.") from error

    return answer


def _where(text: str) -> str:
    if text not in (HERE, ELSEWHERE):
        raise ValueError(f"{text[:40]!r} is neither {HERE!r} nor {ELSEWHERE!r}")
    return text


TLS_OFF = "off"
"""In place of a certificate's file: the port is HTTP's."""

PortOption = Annotated[
    int,
    typer.Option(
        envvar="PEGBOARD_PORT",
        min=LOWEST_PORT,
        max=HIGHEST_PORT,
        help="Port of the edge. Ports up to 1023 are closed to the user that the edge runs as.",
    ),
]

PublicUrlOption = Annotated[
    str,
    typer.Option(
        envvar="PEGBOARD_PUBLIC_URL",
        callback=checked(preflight.origin),
        show_default=False,
        help="Origin that callers use: with https, or on loopback; with the demo directory on loopback alone. "
        "[default: http://localhost:PORT]",
    ),
]

GrantsOption = Annotated[
    Path | None,
    typer.Option(
        envvar="PEGBOARD_GRANTS",
        show_default=False,
        help="The operator's grants file. [default: that of this home's last start; at the first the demo's]",
    ),
]

SignInOption = Annotated[
    Path | None,
    typer.Option(
        envvar="PEGBOARD_SIGN_IN",
        show_default=False,
        help="The sign-in file: the company's login, and which clients may connect; `demo` for the demo directory. "
        "[default: as at this home's last start; at the first `demo`]",
    ),
]

NotifyOption = Annotated[
    Path | None,
    typer.Option(
        envvar="PEGBOARD_NOTIFY",
        show_default=False,
        help="The notification file: who is told of approvals, over webhooks; `nobody` for none. "
        "[default: as at this home's last start; at the first `nobody`]",
    ),
]

BindOption = Annotated[
    str,
    typer.Option(
        envvar="PEGBOARD_BIND",
        callback=checked(preflight.address),
        show_default=False,
        help="IP address that the edge listens on; with the demo directory a loopback one. [default: loopback]",
    ),
]

GrantsAgeOption = Annotated[
    int | None,
    typer.Option(
        envvar="PEGBOARD_GRANTS_MAX_AGE",
        min=LEAST_AGE_S,
        max=MAX_AGE_S,
        show_default=False,
        help="Seconds without contact with the hub after which every call is refused. "
        f"[default: as at the last start; at the first {MAX_AGE_S}]",
    ),
]

StopsAgeOption = Annotated[
    int | None,
    typer.Option(
        envvar="PEGBOARD_STOPS_MAX_AGE",
        min=LEAST_AGE_S,
        max=STOPS_MAX_AGE_S,
        show_default=False,
        help="Seconds without contact with the hub after which servers with sensitive data refuse. "
        f"[default: as at the last start; at the first {STOPS_MAX_AGE_S}]",
    ),
]

HubsOption = Annotated[
    int | None,
    typer.Option(
        envvar="PEGBOARD_HUBS",
        min=1,
        max=MOST_HUBS,
        show_default=False,
        help=f"How many hub processes; several need a PostgreSQL ({VARIABLE}). "
        "[default: as at this home's last start; at the first 1]",
    ),
]

SubmittedOption = Annotated[
    str,
    typer.Option(
        envvar="PEGBOARD_SUBMITTED",
        callback=checked(_where),
        show_default=False,
        help=f"Where submitted servers are built and run: `{HERE}`, or `{ELSEWHERE}`, by runtimes that `pegboard "
        "runtime add` made alone, so that no submitted code comes to this machine. "
        f"[default: as at this home's last start; at the first {HERE}]",
    ),
]

MtlsPortOption = Annotated[
    int | None,
    typer.Option(
        envvar="PEGBOARD_MTLS_PORT",
        min=LOWEST_PORT,
        max=HIGHEST_PORT,
        show_default=False,
        help="Port at which services call with their certificate (X.509 SVID), 8443 by custom. "
        "[default: none may call]",
    ),
]

TrustDomainOption = Annotated[
    list[str] | None,
    typer.Option(
        envvar="PEGBOARD_TRUST_DOMAIN",
        show_default=False,
        help="SPIFFE trust domain whose services may call; may be repeated, the edge's own first. "
        f"[default: {TRUST_DOMAIN}, of the development CA]",
    ),
]

WorkloadApiOption = Annotated[
    str,
    typer.Option(
        envvar="PEGBOARD_WORKLOAD_API",
        show_default=False,
        help="Where the SPIFFE Workload API is, for example unix:///run/spire/agent.sock. "
        "[default: none, but the development CA in the home]",
    ),
]

TlsCertOption = Annotated[
    str,
    typer.Option(
        envvar=CERTIFICATE,
        show_default=False,
        help="File of the edge's certificate chain, in PEM; replaced without a restart. `off`: no TLS of its own. "
        "[default: as at this home's last start]",
    ),
]

TlsKeyOption = Annotated[
    str,
    typer.Option(envvar=KEY, show_default=False, help="File of the certificate's private key, in PEM, mode 0600."),
]

StoryOption = Annotated[
    bool | None,
    typer.Option(
        "--story/--no-story",
        show_default=False,
        help="Show the main job once everything is up. [default: with the demo's grants]",
    ),
]

DetachOption = Annotated[
    bool,
    typer.Option("--detach", "-d", help="Return once everything runs; `pegboard down` ends it. No story."),
]

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but problems.")]


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
    tls = _tls(home, tls_cert, tls_key)
    url = public_url or f"http{'s' if tls else ''}://localhost:{port}"
    if detach and story:
        raise typer.BadParameter("the story is shown in the foreground: leave out --detach, or --story.")
    granted, login, ages = _as_before(home, grants, sign_in, grants_max_age, stops_max_age)
    database_url, count = _data(home, hubs)
    isolation = os.environ.get(SETTING, "auto")
    services = _services(mtls_port, port, tuple(trust_domain or ()), workload_api)
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
        _notify(home, notify),
        submitted_here=(submitted or noted(Home.at(home)).get("submitted") or HERE) == HERE,
    )
    anyone = _check_reach(settings)
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


def _notify(home: Path, notify: Path | None) -> Path | None:
    """The notification file: as it is given, else as at this home's last start."""
    file = notify or Path(noted(Home.at(home)).get("notify") or NOBODY_IS_TOLD)
    return None if file == NOBODY_IS_TOLD else file.expanduser().absolute()


def _services(
    mtls_port: int | None, port: int, trust_domains: tuple[str, ...], workload_api: str
) -> ServiceSettings | None:
    """How services call; None where no port is named for them.

    Raises:
        typer.BadParameter: the settings contradict one another.
    """
    if mtls_port is None:
        if trust_domains or workload_api:
            raise typer.BadParameter("services have no port: name one with --mtls-port, 8443 by custom.")
        return None
    if mtls_port == port:
        raise typer.BadParameter(f"--mtls-port and --port are both {port}: services have a port of their own.")
    for name in trust_domains:
        if not is_trust_domain(name):
            raise typer.BadParameter(f"--trust-domain {name[:80]!r} is no trust domain, for example example.org.")
    if workload_api and not workload_api.startswith(("unix:///", "tcp://")):
        raise typer.BadParameter("--workload-api is no address such as unix:///run/spire/agent.sock.")
    if workload_api and not trust_domains:
        raise typer.BadParameter("with --workload-api name whose services may call: --trust-domain example.org.")
    if workload_api and find_spec("spiffe") is None:
        raise typer.BadParameter("--workload-api needs the extra: pip install 'pegboard-hub[spire]'.")
    if not workload_api and len(trust_domains) > 1:
        raise typer.BadParameter("the development CA signs for one trust domain: name one, or a --workload-api.")
    return ServiceSettings(mtls_port, trust_domains or (TRUST_DOMAIN,), workload_api)


def _tls(home: Path, certificate: str, key: str) -> TlsFiles | None:
    """The certificate's files: as they are given, else as at this home's last start.

    A start that says nothing of them must not bring back HTTP in the clear.

    Raises:
        typer.BadParameter: one of the two is missing.
    """
    if certificate == TLS_OFF:
        return None
    if not certificate and not key:
        return noted_files(noted(Home.at(home)))
    if not certificate or not key:
        raise typer.BadParameter(f"a certificate and its key go together: {CERTIFICATE} and {KEY}.")
    return TlsFiles(Path(certificate).expanduser().absolute(), Path(key).expanduser().absolute())


def _check_reach(settings: InstanceSettings) -> bool:
    """Whether people are those of the demo directory; nobody reaches the instance who must not.

    Raises:
        typer.BadParameter: somebody would.
    """
    sign_in = read_sign_in(settings.sign_in) if settings.sign_in else SignInFile()
    try:
        preflight.check_reach(
            settings.public_url, settings.bind, demo=sign_in.provider is None, tls=settings.tls is not None
        )
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from error
    if sign_in.clients.documents_from_loopback and (fault := loopback_fault(settings.public_url)):
        raise typer.BadParameter(f"{settings.sign_in}: clients.documents_from_loopback: {fault}.")
    return sign_in.provider is None


def _as_before(
    home: Path, grants: Path | None, sign_in: Path | None, grants_s: int | None, stops_s: int | None
) -> tuple[Path, Path | None, Ages]:
    """Grants file, sign-in file and ages: as they are given, else as at this home's last start, else the demo's.

    A start that says nothing of them must not bring back what was taken away, let go on what was stopped, or open
    to anyone what a login has kept.

    Raises:
        ConfigurationError: what the last start noted is needed and cannot be read.
    """
    try:
        noted = read_instance(Home.at(home))
    except ConfigurationError:
        if grants is None or sign_in is None:
            raise
        noted = {}
    file = grants or Path(noted.get("grants") or DEMO / "grants.toml")
    ages = Ages(
        grants_s or noted.get("grants_max_age_s", MAX_AGE_S), stops_s or noted.get("stops_max_age_s", STOPS_MAX_AGE_S)
    )
    login = sign_in or Path(noted.get("sign_in") or DEMO_LOGIN)
    return file.expanduser().absolute(), None if login == DEMO_LOGIN else login.expanduser().absolute(), ages


def _data(home: Path, hubs: int | None) -> tuple[str, int]:
    """The URL of the PostgreSQL, if one is named, and how many hubs: else as at this home's last start.

    Raises:
        ConfigurationError: the last start kept its data in a PostgreSQL, which nothing names now; or the URL is none.
        typer.BadParameter: several hubs on SQLite.
    """
    before, url = noted(Home.at(home)), read_database_url(os.environ)
    if url is None and before.get("database"):
        mend = f"set {VARIABLE} (or {FILE_VARIABLE}), or {VARIABLE}={EMBEDDED} for the file in the home"
        words = f"the last start of this home kept its data in {before['database']}, and nothing names it now: {mend}"
        raise ConfigurationError(VARIABLE, [words])
    url = "" if url in (None, EMBEDDED) else str(url)
    if url:
        address_of(url)  # a URL that cannot be read is said at once
    if hubs is not None and hubs > 1 and not url:
        raise typer.BadParameter(
            f"several hubs need a database that they share, and SQLite is one process's: set {VARIABLE} to a "
            "PostgreSQL, or leave out --hubs."
        )
    return url, (hubs or int(before.get("hubs") or 1)) if url else 1


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


class Progress:
    """Lines of progress on stdout, each with the seconds since the start."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._began = time.monotonic()

    def step(self, line: str) -> None:
        """A step on the way."""
        if not self._quiet:
            self.problem(line)

    def problem(self, line: str) -> None:
        """What needs the operator; said in quiet too. It may quote an author's code, so it stays one line of text."""
        elapsed = f"[{time.monotonic() - self._began:5.1f} s] "
        self._print(typer.style(elapsed, dim=True) if sys.stdout.isatty() else elapsed, line)

    def say(self, line: str) -> None:
        """A line without the time."""
        if not self._quiet:
            self._print("", line)

    def _print(self, before: str, line: str) -> None:
        """What nobody can read, as on a full disk or when the reader is gone, must not end what it tells of."""
        with suppress(OSError):
            print(before, _text(line), sep="", flush=True)


def _text(line: str) -> str:
    """One line of text, whatever an author's code put into it."""
    return "".join(sign if sign.isprintable() else " " for sign in line[:LONGEST_STEP])


class ProgressHandler(logging.Handler):
    """Shows what the parts log of trouble as lines of progress, each with the part it comes from."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record; of an unexpected error the whole trace, which only a person can read."""
        part = "edge: " if record.name.startswith("pegboard_hub.edge.") else ""
        trace = logging.Formatter().formatException(record.exc_info).splitlines() if record.exc_info else []
        for line in (record.getMessage(), *trace):
            self._progress.problem(f"{part}{line}")


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
