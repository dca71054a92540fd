"""A ring of signing keys for one purpose, in one file: next → current → retired → gone (docs/decisions/0011).

The file is replaced as a whole before the hub acts on what it says, so a hub that is killed at any point finds a ring
that was in force. Of a retired key only the public half is kept.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pegboard.core.errors import ConfigurationError, PegboardError
from pegboard.core.jose import Jwk, Jwks, Signer, new_private_key, public_jwks
from pegboard.core.token import CLOCK_SKEW_S
from pegboard_hub.common.home import locked, replace_file
from pegboard_hub.identity.leaks import Purpose as Purpose
from pegboard_hub.identity.leaks import leaked_kids, leaks_file

FORMAT = 1

MOST_KEYS = 16
"""Keys of a ring: each is in every bundle, and every consumer names them all in its acknowledgement."""


class RingFull(PegboardError):
    """There are so many keys that things are verified with already, that no other is made now."""


class KeyState(StrEnum):
    """What a key is for now. Whatever is in the ring is verified with."""

    NEXT = "next"
    CURRENT = "current"
    RETIRED = "retired"


class RingKey(BaseModel):
    """One key. Times are seconds since the epoch.

    Attributes:
        kid: its public name, an RFC 7638 thumbprint.
        state: what it is for now.
        made_at: when it was made.
        signs_since: when it became the current one.
        until: of a retired key, when nothing that it signed is good any more.
        good_for_s: the longest time that anything it signed is good for.
        jwk: the key; of a retired one its public half alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kid: str
    state: KeyState
    made_at: float
    signs_since: float | None = None
    until: float | None = None
    good_for_s: float
    jwk: Jwk = Field(repr=False)

    @property
    def signs(self) -> bool:
        """Whether it is the one that signs now."""
        return self.state is KeyState.CURRENT

    @model_validator(mode="after")
    def _has_its_half(self) -> RingKey:
        if self.jwk.get("kid") != self.kid or ("d" in self.jwk) == (self.state is KeyState.RETIRED):
            raise ValueError("a key that signs is private, and a retired one is not")
        return self


class _RingFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    purpose: Purpose
    keys: tuple[RingKey, ...]

    @model_validator(mode="after")
    def _has_one_that_signs(self) -> _RingFile:
        states = [key.state for key in self.keys]
        if states.count(KeyState.CURRENT) != 1 or states.count(KeyState.NEXT) > 1:
            raise ValueError("one key is the current one, and one at most the next")
        return self


class Ring:
    """The keys of one purpose. Hubs are the only ones that change them: one at a time, and `follow` tells the others.

    Attributes:
        purpose: what they sign.
        keys: all of them, oldest first.
        signer: signs with the current one.
        jwks: the public halves of all of them; another object after each change.
    """

    def __init__(self, path: Path, purpose: Purpose, good_for_s: float, now: float) -> None:
        """Read the ring, making it at the first start; one key of an older version is taken over as the current one.

        Args:
            path: the file.
            purpose: what the keys sign.
            good_for_s: the longest time that anything signed from now on is good for.
            now: seconds since the epoch.

        Raises:
            ConfigurationError: the file cannot be read, is open to others, holds no key, or is of a newer version.
        """
        self.purpose: Purpose = purpose
        self._path = path
        self._good_for_s = good_for_s
        self._stamp: tuple[int, ...] = ()
        try:
            with locked(self._path.parent):
                self._sweep()
                kept = read_ring(path, purpose, now, good_for_s) if path.exists() else ()
                self._save(self._believed([key for key in kept if not _over(key, now)], now))
        except OSError as error:
            raise ConfigurationError(str(path), [f"cannot be read or made: {error.strerror}"]) from error

    @property
    def current(self) -> RingKey:
        """The key that signs."""
        return next(key for key in self.keys if key.state is KeyState.CURRENT)

    @property
    def next(self) -> RingKey | None:
        """The key that will sign once everybody knows it; there is one while a rotation is under way."""
        return next((key for key in self.keys if key.state is KeyState.NEXT), None)

    @property
    def retired(self) -> tuple[RingKey, ...]:
        """Keys that sign nothing more and are still verified with."""
        return tuple(key for key in self.keys if key.state is KeyState.RETIRED)

    @property
    def kid(self) -> str:
        """Id of the key that signs."""
        return self.signer.kid

    def sign(self, payload: Mapping[str, Any], typ: str) -> str:
        """`payload` as a compact JWS by the current key."""
        return self.signer.sign(payload, typ)

    def follow(self) -> bool:
        """Take over what another process has made of the ring, and leave out what leaked; True where there was news.

        Raises:
            ConfigurationError: the file is no ring of ours any more.
            OSError: it cannot be read.
        """
        if self._stamped() == self._stamp:
            return False
        with locked(self._path.parent):
            return self._follow()

    def _follow(self) -> bool:
        """`follow`, for who has the lock."""
        stamp = self._stamped()
        if stamp == self._stamp:
            return False
        found = read_ring(self._path, self.purpose, math.inf, self._good_for_s)
        believed = self._believed(found, time.time())
        if {key.kid for key in believed} != {key.kid for key in found}:
            self._save(believed)
        else:
            self._use(found)
            self._stamp = stamp
        return True

    def _believed(self, keys: Sequence[RingKey], now: float) -> tuple[RingKey, ...]:
        """The keys without those that leaked. Where none is left that signs, a new one does, and at once."""
        leaked = leaked_kids(self._path.parent)
        kept = [self._measured(key) for key in keys if key.kid not in leaked]
        if any(key.state is KeyState.CURRENT for key in kept):
            return tuple(kept)
        kept = [key for key in kept if key.state is KeyState.RETIRED]
        return (*kept, _new(KeyState.CURRENT, now, self._good_for_s))

    def add_next(self, now: float) -> RingKey:
        """The next key, made now if there is none yet.

        Raises:
            OSError: the ring cannot be written; it is as it was.
            RingFull: it was rotated again and again, and its old keys are still needed.
        """
        with locked(self._path.parent):
            self._follow()
            if self.next is None:
                if len(self.keys) >= MOST_KEYS:
                    first = min(key.until or now for key in self.retired)
                    raise RingFull(
                        f"{len(self.keys)} keys for {self.purpose} are verified with, and no other is made before "
                        f"the oldest goes, in {max(first - now, 0):.0f} s at most"
                    )
                self._save((*self.keys, _new(KeyState.NEXT, now, self._good_for_s)))
        assert self.next is not None  # noqa: S101 - it was just made
        return self.next

    def promote(self, now: float) -> RingKey:
        """Sign with the next key from now on; the one before gives up its private half. Gives the new current one.

        Raises:
            OSError: the ring cannot be written; it is as it was.
        """
        with locked(self._path.parent):
            self._follow()
            before, coming = self.current, self.next
            if coming is None:
                return before
            # The verifiers' skew, and as much again for what is being signed this moment.
            until = now + before.good_for_s + 2 * CLOCK_SKEW_S
            public = public_jwks(before.jwk)["keys"][0]
            retired = before.model_copy(update={"state": KeyState.RETIRED, "until": until, "jwk": public})
            signing = coming.model_copy(update={"state": KeyState.CURRENT, "signs_since": now})
            self._save((*self.retired, retired, signing))
            return signing

    def drop(self, *kids: str) -> None:
        """Verify with these retired keys no more.

        Raises:
            OSError: the ring cannot be written; it is as it was.
        """
        with locked(self._path.parent):
            self._follow()
            self._save(tuple(key for key in self.keys if key.state is not KeyState.RETIRED or key.kid not in kids))

    def over(self, now: float) -> tuple[RingKey, ...]:
        """Retired keys of which nothing that they signed is good any more."""
        return tuple(key for key in self.retired if _over(key, now))

    def _measured(self, key: RingKey) -> RingKey:
        """How long what it signs is good for, under every setting that it ever signed with."""
        if key.state is KeyState.RETIRED:
            return key
        return key.model_copy(update={"good_for_s": max(key.good_for_s, self._good_for_s)})

    def _save(self, keys: tuple[RingKey, ...]) -> None:
        document = _RingFile(purpose=self.purpose, keys=keys).model_dump(mode="json", exclude_none=True)
        text = json.dumps(document, indent=1) + "\n"
        if not self._path.exists() or self._path.read_text(encoding="utf-8") != text:
            replace_file(self._path, text, mode=0o600, sync=True)
        self._use(keys)
        self._stamp = self._stamped()

    def _stamped(self) -> tuple[int, ...]:
        """What changes whenever the ring, or the list of keys that leaked, is replaced."""
        return (*_stamp(self._path), *_stamp(leaks_file(self._path.parent)))

    def _use(self, keys: tuple[RingKey, ...]) -> None:
        self.keys = keys
        self.signer = Signer(self.current.jwk)
        self.jwks: Jwks = public_jwks(*(key.jwk for key in keys))

    def _sweep(self) -> None:
        """Remove what a hub that was killed while it wrote has left: it may hold a key that is no more."""
        for left in self._path.parent.glob(f".{self._path.name}.*"):
            left.unlink(missing_ok=True)


def read_ring(path: Path, purpose: Purpose, now: float, good_for_s: float) -> tuple[RingKey, ...]:
    """The keys of a ring's file, which may also be the single key of an older version. Nothing is written.

    Raises:
        ConfigurationError: the file is open to others, holds no key, or is of a newer version.
        OSError: it cannot be read.
    """
    stat = path.stat()
    if stat.st_mode & 0o077:
        raise ConfigurationError(str(path), [f"others may read this private key; run: chmod 600 {path}"])
    try:
        document = json.loads(path.read_bytes())
        if isinstance(document, dict) and document.get("format", FORMAT) != FORMAT:
            raise _newer(path, document["format"])
        keys = _keys(document, purpose, min(stat.st_mtime, now), good_for_s)
        for key in keys:
            if key.state is not KeyState.RETIRED:
                Signer(key.jwk)
        public_jwks(*(key.jwk for key in keys))
    except (ValueError, TypeError, KeyError) as error:
        # The fault is not repeated: a parser's message may quote the key.
        fault = "holds no private key; restore it from a backup, or remove it and every token and bundle starts anew"
        raise ConfigurationError(str(path), [fault]) from error
    return keys


def _keys(document: Any, purpose: Purpose, made_at: float, good_for_s: float) -> tuple[RingKey, ...]:
    if "format" not in document:
        signer = Signer(document)
        single = RingKey(
            kid=signer.kid,
            state=KeyState.CURRENT,
            made_at=made_at,
            signs_since=made_at,
            good_for_s=good_for_s,
            jwk=document,
        )
        return (single,)
    try:
        found = _RingFile.model_validate(document)
    except ValidationError:
        raise ValueError("no ring") from None
    if found.purpose != purpose:
        raise ValueError("the ring of another purpose")
    return found.keys


def _newer(path: Path, found: object) -> ConfigurationError:
    words = f"is a ring of format {str(found)[:20]!r}, and this version of Pegboard knows {FORMAT}"
    return ConfigurationError(
        str(path), [words, "run the version that wrote it, or restore a backup from before (pegboard restore)"]
    )


def _new(state: KeyState, now: float, good_for_s: float) -> RingKey:
    jwk = new_private_key()
    since = now if state is KeyState.CURRENT else None
    return RingKey(kid=str(jwk["kid"]), state=state, made_at=now, signs_since=since, good_for_s=good_for_s, jwk=jwk)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _over(key: RingKey, now: float) -> bool:
    return key.state is KeyState.RETIRED and key.until is not None and key.until <= now
