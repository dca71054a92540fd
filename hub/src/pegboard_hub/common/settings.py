"""What the hub is started with. Paths of the instance itself come from `pegboard_hub.common.home.Home`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pegboard.core.bundle import MAX_AGE_S, STOPS_MAX_AGE_S

DEMO = Path(__file__).parent.parent / "demo"


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How services call, where they may.

    Attributes:
        port: TCP port of the edge's listener for services.
        trust_domains: whose SPIFFE IDs count; the first is the edge's own.
        workload_api: address of the SPIFFE Workload API that gives the edge its identity; empty: the development CA.
    """

    port: int
    trust_domains: tuple[str, ...]
    workload_api: str = ""

    def origin(self, public_url: str) -> str:
        """Where services reach the edge, which is otherwise at `public_url`."""
        host = urlsplit(public_url).hostname or ""
        return f"https://[{host}]:{self.port}" if ":" in host else f"https://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HubSettings:
    """The hub's settings, read once at the composition root.

    Attributes:
        public_url: origin under which everything is reached; issuer of tokens and base of every audience.
        grants: the operator's grants file; watched while the hub runs.
        directory: the demo directory's file: people, their groups, and the clients they sign in with.
        sign_in: the sign-in file; None for the demo directory.
        notify: the notification file; None where nobody is told of approvals.
        edge: origin at which the hub itself reaches the edge; empty for the public URL.
        poll_s: seconds between looks at the grants file and the declarations.
        grants_max_age_s: seconds without contact after which edge and servers refuse everything.
        stops_max_age_s: seconds without contact after which servers with sensitive data refuse.
        status_stale_s: age in seconds from which the supervisor's status file is no longer believed.
        token_lifetime_s: lifetime of an access token in seconds; 15 minutes at most.
        database_url: of a PostgreSQL, with its password; empty for the file in the home.
        name: of this process among the hubs of its home: hub, hub-2, hub-3…
        hubs: what all of them are called, where there are several.
        services: how services call; None where they may not.
        log_level: lowest level that is logged.
    """

    public_url: str
    grants: Path = DEMO / "grants.toml"
    directory: Path = DEMO / "directory.toml"
    sign_in: Path | None = None
    notify: Path | None = None
    edge: str = ""
    poll_s: float = 0.5
    grants_max_age_s: int = MAX_AGE_S
    stops_max_age_s: int = STOPS_MAX_AGE_S
    status_stale_s: float = 10.0
    token_lifetime_s: int = 15 * 60
    database_url: str = field(default="", repr=False)
    name: str = "hub"
    hubs: tuple[str, ...] = ()
    log_level: str = "INFO"
    services: ServiceSettings | None = None

    @property
    def resign_s(self) -> float:
        """Seconds between fresh signatures of unchanged bundles, by which consumers can tell a living hub.

        A minute, and a fifth of the shorter age where that is less: a few of them may fail before anything refuses.
        """
        return min(60.0, self.grants_max_age_s / 5, self.stops_max_age_s / 5)
