"""A submitted project, read and never run: what its archive holds, and what its `pegboard.toml` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pegboard.core.archive import ArchiveRefused, File, pack, unpack
from pegboard.core.checks import load_toml
from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import FILE_NAME, Manifest
from pegboard.core.publishing import sha256
from pegboard_hub.publishing.errors import PublishingRefused

LOCK: Final = "uv.lock"
POLICIES: Final = "policies/"
POLICY: Final = ".cedar"
PINS: Final = "tools.pins.json"

LARGEST_TEXT: Final = 1024 * 1024
"""Bytes of one of the files that the hub itself reads."""


@dataclass(frozen=True, slots=True)
class Project:
    """A submitted project.

    Attributes:
        archive: as the hub packed it: equal projects are equal bytes.
        files: by path.
        manifest: what its author says of it.
    """

    archive: bytes
    files: Mapping[str, File]
    manifest: Manifest

    @property
    def digest(self) -> str:
        """Of the archive: what the source is named by."""
        return sha256(self.archive)

    @property
    def lock(self) -> str:
        """Digest of its lock file; of nothing where there is none, as with a server of another framework."""
        found = self.files.get(LOCK)
        return sha256(found.content if found else b"")

    @property
    def policies(self) -> dict[str, str]:
        """Its policies by name, as text.

        Raises:
            PublishingRefused: one is no text.
        """
        return {
            path.removeprefix(POLICIES).removesuffix(POLICY): _text(self.files, path)
            for path in sorted(self.files)
            if is_policy(path)
        }

    @property
    def told(self) -> dict[str, File]:
        """The part of it that a process of the server is given: manifest, policies and pins."""
        return {path: file for path, file in self.files.items() if path in (FILE_NAME, PINS) or is_policy(path)}


@dataclass(frozen=True, slots=True)
class Submitted:
    """What the hub knows of a project without reading its files.

    Attributes:
        archive: as it was packed anew.
        manifest: what its author says of it.
    """

    archive: bytes
    manifest: Manifest

    @classmethod
    def of(cls, project: Project) -> Submitted:
        """That of a project."""
        return cls(project.archive, project.manifest)

    @property
    def digest(self) -> str:
        """Of the archive: what the source is named by."""
        return sha256(self.archive)


def is_policy(path: str) -> bool:
    """Whether a file is one of the server's policies."""
    return path.startswith(POLICIES) and path.endswith(POLICY) and "/" not in path.removeprefix(POLICIES)


def read_project(archive: bytes) -> Project:
    """What somebody submitted.

    Raises:
        PublishingRefused: the archive or the manifest cannot be; it names what is wrong.
    """
    try:
        files = unpack(archive)
        packed = pack(files)
    except ArchiveRefused as error:
        mend = "Submit the project's folder with pegboard submit, or a tar.gz of its files."
        raise PublishingRefused("invalid_archive", f"The archive is not taken: {error}.", mend) from error
    if FILE_NAME not in files:
        mend = "Pack the project's folder itself: pegboard.toml is at its top."
        raise PublishingRefused("invalid_project", f"There is no {FILE_NAME} in the archive.", mend)
    try:
        manifest = load_toml(Manifest, _text(files, FILE_NAME), FILE_NAME)
    except ConfigurationError as error:
        raise PublishingRefused("invalid_project", f"{error}.", "Mend it; pegboard check says the same.") from error
    return Project(packed, files, manifest)


def _text(files: Mapping[str, File], path: str) -> str:
    content = files[path].content
    if len(content) > LARGEST_TEXT:
        raise PublishingRefused("invalid_project", f"{path} is larger than 1 MiB.", "Write less into it.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise PublishingRefused("invalid_project", f"{path} is no text in UTF-8.", "Save it as UTF-8.") from None
