"""What hub and runtime say to each other at the internal door.

The hub says what should run (`Desired`), a runtime brings that about and says what does (`Observed`). Neither
remembers a conversation: whatever dies in between, the next word has all of it. The same goes for builds: an order is
claimed for a while, and claimed again by whoever comes next when its builder was not heard of.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from pegboard.core.manifest import Manifest
from pegboard.core.publishing import Artifact, ArtifactFile, Digest, Trouble
from pegboard.core.release import Declaration

CLAIM: Final = "/internal/v1/runtime/claim"
PROGRESS: Final = "/internal/v1/runtime/builds/{id}/progress"
RESULT: Final = "/internal/v1/runtime/builds/{id}/result"
ARTIFACTS: Final = "/internal/v1/runtime/artifacts/{digest}"
DESIRED: Final = "/internal/v1/runtime/desired"
OBSERVED: Final = "/internal/v1/runtime/observed"

RELEASE_KEYS: Final = "/internal/v1/runtime/release-keys"
PLATFORM_WHEEL: Final = "/internal/v1/runtime/packages/{digest}"

BUILDING: Final = "/internal/v1/runtime/building"

LONGEST_WAIT_S: Final = 20.0
"""Seconds for which the hub holds a question open until there is something to say."""

CLAIM_S: Final = 60.0
"""Seconds without a word of progress after which a build is given to whoever asks next."""

_STRICT: Final = ConfigDict(extra="forbid", frozen=True)


class Claim(BaseModel):
    """Whoever builds asks for an order. Nothing to do is answered with 204."""

    model_config = _STRICT

    builder: str = Field(min_length=1, max_length=64, description="its name; another for each process")
    wait_s: float = Field(default=0.0, ge=0.0, le=LONGEST_WAIT_S, description="for which the question is held open")
    gone: tuple[Annotated[str, Field(max_length=64)], ...] = Field(
        default=(),
        max_length=64,
        description="builders that have ended: what they had is given out at once",
    )


class Progress(BaseModel):
    """What a builder is at. It is heard by this; 409 says that the order is not its own any more."""

    model_config = _STRICT

    builder: str = Field(min_length=1, max_length=64)
    attempt: int = Field(ge=1, description="as the order said")
    step: str = Field(min_length=1, max_length=100)
    what: str = Field(default="", max_length=2000)


class BuildOrder(BaseModel):
    """Build this source. Its archive is fetched by digest."""

    model_config = _STRICT

    id: str
    server: str
    source: Digest
    attempt: int = Field(ge=1)


class BuildResult(BaseModel):
    """What came of a build. Files of origin `own`, project and SBOM are put under their digests before it is told.

    Attributes:
        declaration: as the code declares in the sandbox; its `artifact` is the artifact's digest.
        sandboxed: it was read in a sandbox without network; else with limits alone, which the release says.
        sbom: digest of the CycloneDX document.
        advisories: what is known of its packages: yanked, malicious, licences, as `core.check` takes it.
    """

    model_config = _STRICT

    artifact: Artifact | None = None
    declaration: Declaration | None = None
    sbom: Digest | None = None
    sandboxed: bool = True
    packages: tuple[ArtifactFile, ...] = ()
    advisories: dict[str, Any] = {}
    trouble: Trouble | None = None
    again: bool = Field(default=False, description="the trouble was outside it, as an index that is away")


class Told(BaseModel):
    """What came of an order. Told again it is taken as told; 409 says that it is somebody else's by now."""

    model_config = _STRICT

    builder: str = Field(min_length=1, max_length=64)
    attempt: int = Field(ge=1)
    result: BuildResult


class KitFile(BaseModel):
    """A wheel of the kit that the hub has; it is fetched by digest."""

    model_config = _STRICT

    version: str
    digest: Digest
    file: str = Field(pattern=r"^pegboard-[A-Za-z0-9._+!-]{1,150}\.whl$")


class Grounds(BaseModel):
    """What any builder goes by.

    Attributes:
        indexes: package indexes that lock files may name.
        kit: the newest wheel of each version of the kit.
    """

    model_config = _STRICT

    indexes: tuple[str, ...]
    kit: tuple[KitFile, ...]


class Role(StrEnum):
    """What a release is there for, in the order in which a runtime gives up things when it must."""

    LIVE = "live"
    CANDIDATE = "candidate"
    WARM = "warm"
    DRAINING = "draining"


class Scale(BaseModel):
    """How many replicas.

    Attributes:
        in_flight: calls at once per replica that are aimed at.
        idle_s: seconds without a call after which there are none, where `min` is 0; a call then waits for one.
    """

    model_config = _STRICT

    min: int = Field(ge=0)
    max: int = Field(ge=1)
    in_flight: int = Field(default=8, ge=1)
    idle_s: float = 900.0


class DesiredRelease(BaseModel):
    """A release that should run.

    Attributes:
        signature: of `SignedRelease`; what does not verify is not started.
        egress: what is granted, not what is asked for.
        turn: replicas of an earlier one give way, each once another answers in its place. Raised where somebody wants
            processes started anew.
    """

    model_config = _STRICT

    release: Digest
    artifact: Artifact
    declaration: Declaration
    signature: str
    role: Role
    scale: Scale
    egress: tuple[str, ...] = ()
    turn: int = Field(default=0, ge=0)

    @property
    def manifest(self) -> Manifest:
        """What its author says of it."""
        return self.declaration.manifest


class DesiredServer(BaseModel):
    """Everything that should run of one server; of what is not named here nothing should."""

    model_config = _STRICT

    server: str
    releases: tuple[DesiredRelease, ...]


class Desired(BaseModel):
    """Everything that should run. `version` changes whenever anything else does."""

    model_config = _STRICT

    version: str
    servers: tuple[DesiredServer, ...]


ReplicaState = Literal["starting", "ready", "asleep", "failing", "stopping"]


class Replica(BaseModel):
    """One process, or pod.

    Attributes:
        address: `unix:` and a path from the run folder on, or `host:port`; what edges send calls to.
        state: `asleep`: none runs, and the next call wakes it; `failing`: it ends or does not answer.
        smoke: how its smoke calls went, by tool; empty where it passed or has none.
        last_failure: in words, for the author.
    """

    model_config = _STRICT

    id: str
    address: str
    state: ReplicaState
    in_flight: int = 0
    restarts: int = 0
    memory_mb: int | None = None
    started_at_ms: int | None = None
    smoke: dict[str, str] = {}
    last_failure: str = ""


class ObservedRelease(BaseModel):
    """How one release does.

    Attributes:
        step: what the runtime is at with it, for its author.
        trouble: why it does not come up, when it will not by waiting.
        notes: what its operators should know while it runs, a line each, as that somebody changed it.
    """

    model_config = _STRICT

    server: str
    release: Digest
    step: Literal["fetching", "installing", "starting", "running", "stopping", "failed"]
    replicas: tuple[Replica, ...] = ()
    trouble: Trouble | None = None
    notes: tuple[str, ...] = ()


class Observed(BaseModel):
    """How everything does that this runtime runs. It is told at least every second while anything changes."""

    model_config = _STRICT

    runtime: str = Field(description="its name: `machine` for the instance's own, else the operator's")
    version: str = Field(description="of the `Desired` it goes by")
    releases: tuple[ObservedRelease, ...]


LOGS: Final = "/v1/logs"
"""At a runtime's own door (`Home.runtime_socket` here): GET with `LogQuestion` as query, gives `LogPage`."""

MOST_LINES: Final = 1000
"""Lines of one `LogPage`."""


class LogQuestion(BaseModel):
    """What somebody looks for in the logs of one server.

    Attributes:
        release: whose digest begins so; empty: of all.
        replica: its id; empty: of all.
        q: a text that stands in the line, in any case of letters; empty: any line.
        request_id: of the request that a line was written within.
        since: RFC 3339; lines from then on. Without it, the last ones.
        limit: at most so many lines, the newest.
    """

    model_config = _STRICT

    server: str
    release: str = ""
    replica: str = ""
    q: str = Field(default="", max_length=200)
    request_id: str = Field(default="", max_length=64)
    since: str = Field(default="", max_length=40)
    limit: int = Field(default=200, ge=1, le=MOST_LINES)


class LogLine(BaseModel):
    """One line of a log. All of it is the author's word but `release` and `replica`.

    Attributes:
        at: RFC 3339; empty of what went past the kit's log.
        text: the message, or the whole line where it is none of the kit's.
        more: whatever else stands on it: logger, trace, exception, the author's own fields.
    """

    model_config = _STRICT

    at: str = ""
    level: str = ""
    release: str
    replica: str
    request_id: str = ""
    text: str
    more: dict[str, Any] = {}


class LogPage(BaseModel):
    """What was found, oldest first. `more`: there were further lines that fit, before these."""

    model_config = _STRICT

    lines: tuple[LogLine, ...] = ()
    more: bool = False
