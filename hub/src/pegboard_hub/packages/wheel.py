"""The kit as a wheel (the binary distribution format), made of the kit that is installed beside the hub.

It is the very code that the hub decides with, whether that was installed from a wheel or from a clone. The same code
gives the same bytes anywhere: files are sorted, without times, and stored as they are.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from pegboard import core
from pegboard.core.errors import ConfigurationError

KIT: Final = "pegboard"

_WHEEL: Final = "Wheel-Version: 1.0\nGenerator: pegboard-hub\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip archive can say."""

_KEPT: Final = ("METADATA", "entry_points.txt")


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel.

    Attributes:
        metadata: its core metadata, as a file of their own (PEP 658).
    """

    name: str
    version: str
    requires_python: str
    metadata: bytes
    content: bytes

    @property
    def file_name(self) -> str:
        """As the format demands it."""
        return f"{self.name}-{self.version}-py3-none-any.whl"

    @property
    def digest(self) -> str:
        """SHA-256 of its bytes, in hex."""
        return hashlib.sha256(self.content).hexdigest()


@cache
def kit_wheel() -> Wheel:
    """The kit that this process has imported, as a wheel.

    Raises:
        ConfigurationError: the kit is not installed as a distribution, so that nobody knows what it needs.
    """
    try:
        installed = distribution(KIT)
    except PackageNotFoundError as error:
        raise ConfigurationError(KIT, ["is not installed as a distribution: run `make install`"]) from error
    said = {name: text for name in _KEPT if (text := installed.read_text(name))}
    metadata = said["METADATA"].encode()
    folder = f"{KIT}-{installed.version}.dist-info"
    files = dict(_code(Path(core.__file__).parents[1]))
    files |= {f"{folder}/{name}": text.encode() for name, text in said.items()}
    files[f"{folder}/WHEEL"] = _WHEEL.encode()
    files[f"{folder}/RECORD"] = _record(files, f"{folder}/RECORD")
    requires = installed.metadata["Requires-Python"] or ""
    return Wheel(KIT, installed.version, str(requires), metadata, _archive(files))


def _code(package: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(package.rglob("*")):
        inside = path.relative_to(package)
        if path.is_file() and "__pycache__" not in inside.parts and path.suffix != ".pyc":
            yield f"{package.name}/{inside.as_posix()}", path.read_bytes()


def _record(files: dict[str, bytes], own: str) -> bytes:
    """Every file with its hash, as an installer checks it."""
    lines = []
    for name, content in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    return "".join([*lines, f"{own},,\n"]).encode()


def _archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, wherever it is made
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()
