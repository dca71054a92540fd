"""The process that keeps the edge's identity: `python -m pegboard_hub.services.keeper --home DIR …`.

It asks its source every second and replaces a file when the source says something else. It is nobody's server and in
nobody's way: without it the edge goes on with the last files until the certificate in them ends.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from pegboard.core.errors import PegboardError
from pegboard_hub.common.home import Home
from pegboard_hub.common.logs import configure_logging
from pegboard_hub.services.authority import LONGEST_S, TRUST_DOMAIN, Authority
from pegboard_hub.services.material import Files, Material, Svid

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often the source is asked, in seconds."""

EDGE_PATH = "/pegboard/edge"
"""Path of the edge's own SPIFFE ID."""


class Source(Protocol):
    """Where identities come from."""

    def look(self) -> Material | None:
        """What counts now; None while the source has said nothing yet."""


class Development:
    """The development CA as a source: the edge's own SVID is signed anew once half of its life is over.

    Args:
        authority: the CA.
        hosts: names and addresses under which the edge is reached.
        ttl_s: seconds that an SVID of the edge's lives.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        authority: Authority,
        hosts: tuple[str, ...],
        ttl_s: int = LONGEST_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        authority.open()
        self._authority = authority
        self._hosts = hosts
        self._ttl_s = ttl_s
        self._clock = clock
        self._signed: tuple[Path, Svid] | None = None

    def look(self) -> Material:
        """What counts now."""
        signer = self._authority.signer
        if self._signed is None or self._signed[0] != signer or self._half_over(self._signed[1]):
            spiffe_id = f"spiffe://{self._authority.trust_domain}{EDGE_PATH}"
            self._signed = signer, self._authority.mint(spiffe_id, self._ttl_s, self._hosts)
        return Material(self._signed[1], {self._authority.trust_domain: self._authority.bundle})

    def _half_over(self, svid: Svid) -> bool:
        return svid.ends_at - self._clock() < self._ttl_s / 2


class Keeper:
    """Keeps files true to a source. No trouble with either ends it."""

    def __init__(self, source: Source, files: Files, beat: Callable[[], None] = lambda: None) -> None:
        self._source = source
        self._files = files
        self._beat = beat
        self._fault = ""

    def look(self) -> bool:
        """Ask the source once. True when a file was replaced."""
        try:
            material = self._source.look()
            written = material is not None and self._files.write(material)
            if written and material is not None:
                facts = {"spiffe_id": material.svid.spiffe_id, "ends_at": int(material.svid.ends_at)}
                log.info("the edge's identity was renewed", extra=facts | {"trusts": sorted(material.bundles)})
            self._fault = ""
            self._beat()
            return written
        except Exception as error:
            if repr(error) != self._fault:
                log.warning("the edge's identity cannot be renewed, and is tried again: %s", error)
            self._fault = repr(error)
            return False

    def run(self, ended: threading.Event) -> None:
        """Look every second until `ended` is set."""
        while True:
            self.look()
            if ended.wait(LOOK_S):
                return


def _source(options: argparse.Namespace, home: Home, closing: ExitStack) -> Source:
    if not options.workload_api:
        domain = options.trust_domain[0] if options.trust_domain else TRUST_DOMAIN
        return Development(Authority(home.services, domain), tuple(options.host))
    from pegboard_hub.services.workload import WorkloadApi  # an extra of its own, with gRPC

    source = WorkloadApi(options.workload_api, tuple(options.trust_domain))
    closing.callback(source.close)
    return source


def _owner(text: str) -> tuple[int, int]:
    user, _, group = text.partition(":")
    return int(user), int(group)


def main() -> int:
    """Run until SIGTERM; the exit status is 1 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m pegboard_hub.services.keeper", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="folder of this instance")
    parser.add_argument("--trust-domain", action="append", default=[], help="whose services count; may be repeated")
    parser.add_argument("--workload-api", default="", help="address of a Workload API; without it the development CA")
    parser.add_argument("--host", action="append", default=[], help="name or address of the edge; may be repeated")
    parser.add_argument("--owner", type=_owner, default=None, help="USER:GROUP ids that the edge runs as")
    options = parser.parse_args()
    configure_logging()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    home = Home.open(options.home)
    with ExitStack() as closing:
        try:
            source = _source(options, home, closing)
        except (PegboardError, OSError, ValueError) as error:
            log.error("the keeper of the edge's identity cannot start: %s", error)
            return 1
        files = Files(home.edge_svid, home.edge_trust, options.owner)
        Keeper(source, files, home.identity_beat.touch).run(ended)
    return 0


if __name__ == "__main__":
    sys.exit(main())
