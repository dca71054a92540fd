"""Where a login is kept on this machine: in the system's keyring where there is one, else in a file of its owner's.

Each instance has a file of its own. It holds the login, or says that the keyring does; without it nobody is signed
in, and the keyring is not even looked for. Several commands may run at once: whoever changes a login holds its lock.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.login.system import KeyringFailed, find_keyring

VERSION = 1
FOLDER = "pegboard"
LONGEST = 1024 * 1024
"""Bytes of a file that is read; a login with hundreds of servers' tokens has some 500,000."""

LOCK_PATIENCE_S = 60.0
LOCK_ROUND_S = 0.02


@dataclass(frozen=True, slots=True)
class Access:
    """An access token for one resource, as it was issued. `expires_at` is in seconds since the epoch."""

    value: str = field(repr=False)
    expires_at: float
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """A sign-in to one instance, with what renews it.

    Attributes:
        url: of the instance, which is also the issuer.
        refresh_token: good for one renewal; the answer brings the next.
        sub: whom the instance signed in; `email` is theirs, empty where it tells none.
        sid: the session at the instance that it belongs to.
        since: when, in seconds since the epoch.
        token_endpoint: where it is renewed.
        revocation_endpoint: where it is given back; empty where there is none.
        access: the access tokens in hand, by resource.
    """

    url: str
    client_id: str
    refresh_token: str = field(repr=False)
    sub: str
    email: str
    sid: str
    since: int
    token_endpoint: str
    revocation_endpoint: str = ""
    access: Mapping[str, Access] = field(default_factory=dict)

    @property
    def person(self) -> str:
        """Whom the instance signed in, for people."""
        return f"{self.sub} ({self.email})" if self.email else self.sub

    @classmethod
    def read(cls, value: Any) -> Login:
        """A login as `asdict` wrote it.

        Raises:
            ValueError: it is none.
        """
        try:
            access = {resource: Access(**each) for resource, each in value["access"].items()}
            found = cls(**{**value, "access": access})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not a login") from error
        texts = (found.url, found.refresh_token, found.token_endpoint, *(each.value for each in access.values()))
        if not all(isinstance(text, str) and text for text in texts):
            raise ValueError("not a login")
        if not all(isinstance(each.expires_at, int | float) for each in access.values()):
            raise ValueError("not a login")
        return found


class Keyring(Protocol):
    """A place of the system's for secrets; one text for each instance."""

    name: str
    """What people call it."""

    def read(self, url: str) -> str | None:
        """What is kept for an instance; None for nothing. Raises KeyringFailed."""

    def write(self, url: str, secret: str) -> None:
        """Keep it in place of what was there. Raises KeyringFailed."""

    def forget(self, url: str) -> None:
        """Keep nothing. Raises KeyringFailed."""


class Store:
    """The login to one instance, as this machine keeps it.

    Args:
        url: the instance's public URL.
        folder: where the files are; `state_folder` by default.
    """

    def __init__(self, url: str, folder: Path | None = None) -> None:
        self._url = url
        self._folder = folder or state_folder(os.environ)
        # The name alone says nothing to people, so the instance is in the file as well.
        self.path = self._folder / f"login-{sha256(url.encode()).hexdigest()[:16]}.json"

    def read(self) -> Login | None:
        """The login, or None when nobody is signed in.

        Raises:
            Failure: there is one that is not to be trusted, or cannot be read.
        """
        found = self._file()
        if found is None:
            return None
        try:
            if found["version"] != VERSION or found["url"] != self._url:
                raise ValueError("not of this version or instance")
            if found["kept"] == "file":
                return Login.read(found["login"])
            return self._in_keyring()
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise self._unusable(f"The login in {self.path} cannot be read.") from error

    @property
    def kept_in(self) -> str:
        """Where the login is, in words; empty when there is none that can be read."""
        with suppress(Failure):
            found = self._file()
            if found is not None:
                return "file" if found.get("kept") == "file" else "keyring"
        return ""

    def write(self, login: Login, keyring: Keyring | None) -> str:
        """Keep a login in place of the one before; the caller holds the lock.

        Args:
            login: to one instance.
            keyring: of this system; None to use a file.

        Returns:
            Why it is in a file although there is a keyring; empty when it is where it should be.

        Raises:
            Failure: it can be kept nowhere.
        """
        document, trouble = asdict(login), ""
        if keyring is not None:
            text = json.dumps(document)
            try:
                keyring.write(self._url, text)
                if keyring.read(self._url) != text:  # some take everything and keep nothing
                    raise KeyringFailed("it does not give back what it was given")
                self._replace({"kept": "keyring"})
                return ""
            except KeyringFailed as error:
                trouble = f"{keyring.name} took no login: {error}"
                with suppress(KeyringFailed):
                    keyring.forget(self._url)
        self._replace({"kept": "file", "login": document})
        return trouble

    def rewrite(self, login: Login) -> str:
        """Keep a login where the one before it is; else as `write`."""
        return self.write(login, system_keyring() if self.kept_in == "keyring" else None)

    def forget(self) -> None:
        """Keep no login any more."""
        if self.kept_in == "keyring" and (keyring := system_keyring()) is not None:
            with suppress(KeyringFailed):
                keyring.forget(self._url)
        with suppress(OSError):
            self.path.unlink()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While nobody else on this machine changes this login. The kernel lets go of the lock of a dead process.

        Raises:
            Failure: another command holds it for too long.
        """
        import fcntl  # not everywhere, and `pegboard --help` shall be

        self._make_folder()
        path = self.path.with_suffix(".lock")
        try:
            held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise self._not_kept(error) from error
        try:
            deadline = time.monotonic() + LOCK_PATIENCE_S
            while True:
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise self._busy() from None
                    time.sleep(LOCK_ROUND_S)
            yield
        finally:
            os.close(held)

    def _in_keyring(self) -> Login:
        keyring = system_keyring()
        if keyring is None:
            raise self._unusable("Your login is in the system's keyring, which cannot be reached from here.")
        try:
            text = keyring.read(self._url)
        except KeyringFailed as error:
            said = f"Your login is in {keyring.name}, which does not give it: {error}."
            raise self._unusable(said, "Unlock it, or sign in again: pegboard login") from error
        if text is None:
            raise self._unusable(f"Your login is no longer in {keyring.name}.")
        return Login.read(json.loads(text))

    def _file(self) -> dict[str, Any] | None:
        """The instance's file; None when there is none.

        Raises:
            Failure: others can read it, or have written it; or it cannot be read.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise self._unusable(f"{self.path} is a symbolic link, and a login is never behind one.") from error
            raise self._unusable(f"The login in {self.path} cannot be read: {error.strerror}.") from error
        try:
            self._check(os.fstat(descriptor))
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                text = file.read(LONGEST + 1)
        finally:
            os.close(descriptor)
        try:
            document = json.loads(text) if len(text) <= LONGEST else None
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise self._unusable(f"The login in {self.path} cannot be read.")
        return document

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise self._unusable(f"{self.path} is not a plain file.")
        if found.st_uid != os.geteuid():
            raise self._unusable(f"{self.path} belongs to another user, so the login in it is not used.")
        if found.st_mode & 0o077:
            said = f"Others may read {self.path} (mode {stat.S_IMODE(found.st_mode):04o}), so its login is not used."
            mend = f"Nobody else has seen it? chmod 600 {self.path}. Otherwise end it: {self._url}/sessions"
            raise self._unusable(said, mend)

    def _replace(self, content: Mapping[str, Any]) -> None:
        """Write the instance's file, whole or not at all."""
        self._make_folder()
        text = json.dumps({"version": VERSION, "url": self._url, **content})
        try:
            # mkstemp makes it 0600, whatever the umask.
            descriptor, name = tempfile.mkstemp(prefix=".login-", dir=self._folder)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(descriptor)
                Path(name).replace(self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._not_kept(error) from error

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self._folder.stat()
        except OSError as error:
            raise self._not_kept(error) from error
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise self._unusable(
                f"Others may write in {self._folder}, so no login is kept there.", f"chmod 700 {self._folder}"
            )

    def _unusable(self, message: str, mend: str = "Sign in again: pegboard login") -> Failure:
        return Failure.here(ExitStatus.UNREACHABLE, "login_unusable", message, mend)

    def _not_kept(self, error: OSError) -> Failure:
        message = f"The login cannot be kept in {self._folder}: {error.strerror}."
        mend = "Make room or name another place with XDG_STATE_HOME."
        return Failure.here(ExitStatus.FAILED, "login_not_kept", message, mend)

    def _busy(self) -> Failure:
        message = f"Another pegboard command has held {self.path.with_suffix('.lock')} for {LOCK_PATIENCE_S:.0f} s."
        return Failure.here(ExitStatus.FAILED, "login_busy", message, "End it, then try again.")


def state_folder(variables: Mapping[str, str]) -> Path:
    """The folder of logins: `$XDG_STATE_HOME/pegboard`; relative values do not count (XDG Base Directory 0.8)."""
    named = variables.get("XDG_STATE_HOME", "")
    return (Path(named) if Path(named).is_absolute() else Path.home() / ".local" / "state") / FOLDER


def system_keyring() -> Keyring | None:
    """The system's keyring, where the package `keyring` is installed and finds a real one."""
    return find_keyring()
