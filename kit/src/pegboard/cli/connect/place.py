"""A client's configuration file on this machine: where it is, reading it, and replacing it in one step."""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pegboard.cli.exit import ExitStatus, Failure
from pegboard.core.client_configs import ClientConfig, Platform

PRIVATE = 0o600
"""Mode of a file of the person's own that we make: clients keep credentials in some of them later."""

SHARED = 0o666
"""Mode of a project's file that we make, before the umask: it is for everybody who has the project."""

LONGEST = 32 * 1024 * 1024
"""Bytes of a file that is read."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """One configuration file as it was found.

    Attributes:
        path: as it was named.
        target: where the text is: `path`, or what it links to.
        content: what it had; None where there was none.
        mode: of the file; for a new one, the mode it is to have.
    """

    path: Path
    target: Path
    content: bytes | None
    mode: int

    @classmethod
    def find(cls, path: Path, mode: int) -> ConfigFile:
        """Read it.

        Raises:
            Failure: it is there and cannot be read, written, or is no file.
        """
        try:
            target = Path(os.path.realpath(path, strict=False))
            found = target.stat()
            if not stat.S_ISREG(found.st_mode):
                raise unusable(path, "it is not a file")
            if found.st_size > LONGEST:
                raise unusable(path, f"it is longer than {LONGEST} bytes")
            if not os.access(target, os.R_OK | os.W_OK):
                raise unusable(path, "it may not be read and written")
            return cls(path, target, target.read_bytes(), stat.S_IMODE(found.st_mode))
        except FileNotFoundError:
            return cls(path, target, None, mode)
        except OSError as error:
            raise unusable(path, f"{error.strerror}") from error

    @property
    def text(self) -> str:
        """The content as text; empty where there is no file.

        Raises:
            Failure: it is not UTF-8.
        """
        try:
            return (self.content or b"").decode()
        except UnicodeDecodeError as error:
            line = (self.content or b"").count(b"\n", 0, error.start) + 1
            raise unusable(self.path, f"it is not UTF-8 (line {line})") from error

    def replace(self, text: str) -> None:
        """Put `text` in its place, so that at every moment the old or the new is there, whole.

        Raises:
            Failure: it changed since it was read, or cannot be written.
        """
        self._check_unchanged()
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._write(text.encode())
        except OSError as error:
            raise unusable(self.path, f"{error.strerror}") from error

    def delete(self) -> None:
        """Take the file away.

        Raises:
            Failure: it changed since it was read.
        """
        self._check_unchanged()
        self.target.unlink(missing_ok=True)

    def _check_unchanged(self) -> None:
        if self._now() != self.content:
            raise Failure.here(
                ExitStatus.FAILED,
                "file_changed",
                f"{self.path} was changed by somebody else meanwhile; nothing was written.",
                "Run the command again.",
            )

    def _now(self) -> bytes | None:
        try:
            return self.target.read_bytes()
        except OSError:
            return None

    def _write(self, content: bytes) -> None:
        handle, name = tempfile.mkstemp(prefix=f".{self.target.name}.", dir=self.target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(self.mode)
            if self.content is not None and hasattr(os, "chown"):
                owner = self.target.stat()
                with suppress(PermissionError):  # a file of another owner that we may write stays ours, as editors do
                    os.chown(name, owner.st_uid, owner.st_gid)
            Path(name).replace(self.target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def unusable(path: Path, why: str) -> Failure:
    """The failure for a file that is left as it is."""
    mend = "It was left as it is. Mend it, or name another with --path."
    return Failure.here(ExitStatus.FAILED, "file_unusable", f"{path} cannot be used: {why}.", mend)


def user_file(client: ClientConfig, variables: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Where the client keeps the person's own configuration.

    Raises:
        Failure: a variable that says where is not set.
    """
    named = client.files[_platform(platform)]
    if client.folder_variable and variables.get(client.folder_variable):
        return Path(variables[client.folder_variable]) / Path(named).name
    home = variables.get("USERPROFILE" if platform == "win32" else "HOME") or str(Path.home())
    known = {"XDG_CONFIG_HOME": f"{home}/.config", "APPDATA": f"{home}/AppData/Roaming"}
    known |= {name: value for name in known if Path(value := variables.get(name, "")).is_absolute()}
    return Path(re.sub(r"^~|\$(\w+)", lambda found: known[found[1]] if found[1] else home, named))


def _platform(platform: str) -> Platform:
    return "win32" if platform == "win32" else "darwin" if platform == "darwin" else "linux"
