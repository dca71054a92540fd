"""What a runtime makes sure of before it starts anything: that the hub checked this very release of this server.

The hub signs a release once it is checked, by a ring that signs nothing else (`core.publishing.SignedRelease`). What
comes at the internal door is not taken on trust: who could speak there could have any code run as any server.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from pegboard.core.errors import PegboardError
from pegboard.core.jose import Verifier
from pegboard.core.publishing import RELEASE_TYPE, SignedRelease, Trouble
from pegboard_hub.publishing.orders import DesiredRelease

_ASK = "submit it again; should that not help, ask the platform team: this is none of your code's"


class NotStarted(PegboardError):
    """A release cannot be started, and waiting alone does not mend it."""

    def __init__(self, what: str, mend: str, step: str = "starting") -> None:
        self.trouble = Trouble(step=step, what=what, mend=mend)
        super().__init__(f"{what}; {mend}")


class NotSigned(NotStarted):
    """Its signature is by no key that is believed now: somebody else's, or of before a key leaked."""


RENEWED_S = 60.0
"""Seconds for which what runs goes on although its signature is believed no more, counted to the hub's last word.

It was verified when it started. Once a key leaked the hub signs anew what it has, within seconds; while the hub is
away it says nothing."""


def check_release(server: str, wanted: DesiredRelease, keys: Path) -> SignedRelease:
    """See that `wanted` is a release of `server` that the hub has checked and signed, with every digest as signed.

    Args:
        server: `namespace/name` that it should run as.
        wanted: what the hub says should run.
        keys: file with the public JWKS of the ring that signs releases.

    Raises:
        NotSigned: no key signed it that is believed now.
        NotStarted: it is not such a release.
    """
    try:
        payload = Verifier(json.loads(keys.read_text(encoding="utf-8"))).verify(wanted.signature, RELEASE_TYPE)
        signed = SignedRelease.model_validate(payload)
    except OSError as error:
        words = f"the keys that releases are verified with cannot be read ({error.strerror}: {keys})"
        raise NotStarted(words, "the hub writes them when it starts; see its log", "verifying") from error
    except (ValueError, ValidationError, KeyError, TypeError) as error:
        raise NotSigned("its signature does not verify", _ASK, "verifying") from error
    said = {
        "the server": (signed.server, server),
        "the server in its artifact": (signed.server, wanted.artifact.server),
        "the release": (signed.release, wanted.release),
        "what it declares": (signed.release, wanted.declaration.digest),
        "the artifact": (signed.artifact, wanted.artifact.digest),
        "the artifact in what it declares": (signed.artifact, wanted.declaration.artifact),
        "the source": (signed.source, wanted.artifact.source),
    }
    if different := [name for name, (one, two) in said.items() if one != two]:
        raise NotStarted(f"is not what was signed: {', '.join(different)}", _ASK, "verifying")
    return signed


def check_egress(wanted: DesiredRelease) -> None:
    """See that all the egress that a release asks for is granted.

    Raises:
        NotStarted: some is not; which, and where it is granted.
    """
    if missing := [place for place in wanted.manifest.egress if place not in wanted.egress]:
        raise NotStarted(
            f"asks for egress to {', '.join(missing)}, which is not granted",
            "have it granted in the registry or by the operator, or take it out of pegboard.toml and submit again",
        )
