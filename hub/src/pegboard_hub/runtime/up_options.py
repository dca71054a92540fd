"""The options of `pegboard up`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pegboard.core.bundle import MAX_AGE_S, STOPS_MAX_AGE_S
from pegboard_hub.common.certificates import CERTIFICATE, KEY
from pegboard_hub.common.database_url import VARIABLE
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.instance import ELSEWHERE, HERE
from pegboard_hub.runtime.preflight import HIGHEST_PORT, LOWEST_PORT
from pegboard_hub.services.authority import TRUST_DOMAIN

LEAST_AGE_S = 5
"""The least age that can be set: the hub renews five times in it, and a busy machine may take a second for that."""

MOST_HUBS = 9
"""Hub processes of one home. They share a machine, so that more serve nobody."""


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
