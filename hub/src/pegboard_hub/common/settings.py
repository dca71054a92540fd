"""What the hub is started with. Paths of the instance itself come from `pegboard_hub.common.home.Home`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEMO = Path(__file__).parent.parent / "demo"


@dataclass(frozen=True, slots=True)
class HubSettings:
    """The hub's settings, read once at the composition root.

    Attributes:
        public_url: origin under which everything is reached; issuer of tokens and base of every audience.
        grants: the operator's grants file; watched while the hub runs.
        directory: the demo directory's file: people, their groups, and the clients they sign in with.
        poll_s: seconds between looks at the grants file and the declarations.
        resign_s: seconds between fresh signatures of unchanged bundles, so that consumers can tell a living hub.
        status_stale_s: age in seconds from which the supervisor's status file is no longer believed.
        token_lifetime_s: lifetime of an access token in seconds; 15 minutes at most.
        log_level: lowest level that is logged.
    """

    public_url: str
    grants: Path = DEMO / "grants.toml"
    directory: Path = DEMO / "directory.toml"
    poll_s: float = 0.5
    resign_s: float = 60.0
    status_stale_s: float = 10.0
    token_lifetime_s: int = 15 * 60
    log_level: str = "INFO"
