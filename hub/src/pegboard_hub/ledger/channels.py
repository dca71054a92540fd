"""Who may deliver at the internal door: servers by their channel tokens, the edge's agent by the operator's, and the
prober by its own."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pegboard_hub.common.home import Home
from pegboard_hub.common.runtimes import MACHINE, known_runtimes, open_channel_token, runtime_in
from pegboard_hub.ledger.errors import DeliveryRefused
from pegboard_hub.registry.sources import Fingerprint, fingerprint

log = logging.getLogger(__name__)


class Channel(BaseModel):
    """Which server, in which release, speaks on a channel. The record's own word on that does not count.

    Attributes:
        release: digest of what it declares.
        source: digest of everything that release was made from, its code included.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    server: str
    release: str
    source: str = ""


_CHANNELS: TypeAdapter[dict[str, Channel]] = TypeAdapter(dict[str, Channel])


class _Read(NamedTuple):
    state: Fingerprint | None
    channels: dict[str, Channel]


class Channels:
    """The channels the supervisor has opened; its file is read again when it changed."""

    def __init__(self, home: Home) -> None:
        self._path = home.channels
        self._operator = home.operator_token
        self._prober = home.prober_digest
        self._runtimes = home.runtimes
        self._read = _Read(None, {})

    def of(self, token: str) -> Channel:
        """The channel a token opens. The file has digests only, so a look-up tells nothing by its duration.

        Raises:
            DeliveryRefused: no channel has that token.
        """
        if runtime_in(token):
            return self._of_runtime(token)
        state = fingerprint(self._path)
        if state is None or state != self._read.state:
            self._read = self._load(state)
        channel = self._read.channels.get(hashlib.sha256(token.encode()).hexdigest())
        if channel is None:
            raise DeliveryRefused("this channel token is not known")
        return channel

    def _of_runtime(self, token: str) -> Channel:
        """The channel of a server that a runtime of its own runs: the token says whose, and is sealed by that one."""
        known = known_runtimes(self._runtimes).get(runtime_in(token))
        said = open_channel_token(token, known.digest) if known else None
        if known is None or said is None or said.server.namespace not in known.namespaces:
            raise DeliveryRefused("this channel token is not known")
        return Channel(server=str(said.server), release=said.release)

    def runtime(self, token: str) -> str:
        """Which runtime has that credential: the instance's own has the operator's.

        Raises:
            DeliveryRefused: none has.
        """
        digest = hashlib.sha256(token.encode()).hexdigest()
        for name, known in known_runtimes(self._runtimes).items():
            if hmac.compare_digest(known.digest, digest):
                return name
        self.check_operator(token)
        return MACHINE

    def builder(self, token: str) -> str:
        """Which builder has that credential: the instance's own has the operator's.

        Raises:
            DeliveryRefused: none has; also where a runtime has it that builds nothing.
        """
        name = self.runtime(token)
        if name != MACHINE and not known_runtimes(self._runtimes)[name].builds:
            raise DeliveryRefused(f"{name} builds nothing")
        return name

    def check_operator(self, token: str) -> None:
        """Let the supervisor's own credential pass.

        Raises:
            DeliveryRefused: the token is another, or the supervisor left none.
        """
        try:
            expected = self._operator.read_text(encoding="utf-8").strip()
        except OSError:
            expected = ""
        if not expected or not hmac.compare_digest(expected.encode(), token.encode()):
            raise DeliveryRefused("this operator token is not known")

    def check_prober(self, token: str) -> None:
        """Let the prober's own credential pass.

        Raises:
            DeliveryRefused: the token is another, or the supervisor left none.
        """
        try:
            expected = self._prober.read_text(encoding="utf-8").strip()
        except OSError:
            expected = ""
        if not expected or not hmac.compare_digest(expected, hashlib.sha256(token.encode()).hexdigest()):
            raise DeliveryRefused("this prober token is not known")

    def _load(self, state: Fingerprint | None) -> _Read:
        try:
            return _Read(state, _CHANNELS.validate_python(json.loads(self._path.read_bytes())))
        except FileNotFoundError:
            return _Read(None, {})
        except (OSError, ValueError, ValidationError) as error:
            # Nobody delivers meanwhile; without a state it is read again at the next delivery.
            log.error("channels file cannot be read", extra={"path": str(self._path), "error": type(error).__name__})
            return _Read(None, {})
