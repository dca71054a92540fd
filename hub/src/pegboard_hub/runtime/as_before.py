"""What an instance is started with: as it is given now, else as at the home's last start.

A start that says nothing of something must not bring back what was taken away, nor open what was closed.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import typer

from pegboard.core.bundle import MAX_AGE_S, STOPS_MAX_AGE_S, Ages
from pegboard.core.errors import ConfigurationError
from pegboard.core.spiffe import is_trust_domain
from pegboard_hub.common.certificates import CERTIFICATE, KEY, TlsFiles, noted_files
from pegboard_hub.common.database_url import EMBEDDED, FILE_VARIABLE, VARIABLE, read_database_url
from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import noted, read_instance
from pegboard_hub.common.settings import DEMO, ServiceSettings
from pegboard_hub.identity.clients.rules import loopback_fault
from pegboard_hub.identity.settings import SignInFile, read_sign_in
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.instance import InstanceSettings
from pegboard_hub.services.authority import TRUST_DOMAIN
from pegboard_hub.storage.postgresql import address_of

DEMO_LOGIN: Final = Path("demo")
"""As --sign-in: go back to the demo directory."""

NOBODY_IS_TOLD: Final = Path("nobody")
"""As --notify: no webhooks any more."""

TLS_OFF: Final = "off"
"""In place of a certificate's file: the port is HTTP's."""


def notifications_of(home: Path, notify: Path | None) -> Path | None:
    """The notification file: as it is given, else as at this home's last start."""
    file = notify or Path(noted(Home.at(home)).get("notify") or NOBODY_IS_TOLD)
    return None if file == NOBODY_IS_TOLD else file.expanduser().absolute()


def services_of(
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


def tls_files(home: Path, certificate: str, key: str) -> TlsFiles | None:
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


def check_reach(settings: InstanceSettings) -> bool:
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


def files_and_ages(
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


def data_of(home: Path, hubs: int | None) -> tuple[str, int]:
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
