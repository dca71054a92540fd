"""The kit's error tree.

PegboardError
├── ConfigurationError      a file or setting is wrong: names the place and the mend
├── DeclarationError        an author's server says something impossible, or too little
├── Unreachable             Pegboard does not answer, or nothing of it runs
├── ApprovalsAway           the hub cannot be asked whether somebody approved a call
├── ApprovalImpossible      the hub says that nobody can approve such a call
├── TokenRefused            a bearer token did not verify
└── BundleRefused           a bundle is missing, forged, too old, or older than the one in use
    └── StopsUnknown        it is good, but a stop may have been missed since, and the server is sensitive
"""

from __future__ import annotations


class PegboardError(Exception):
    """Base of every error Pegboard raises on purpose."""


class ConfigurationError(PegboardError):
    """A file or setting is wrong. `problems` has one line per fault, each with its place and its mend."""

    def __init__(self, where: str, problems: list[str]) -> None:
        self.where = where
        self.problems = problems
        super().__init__(f"{where}: " + "; ".join(problems))


def unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Why a text file cannot be read, after "cannot be read:"."""
    return error.strerror or "unknown" if isinstance(error, OSError) else "it is no text in UTF-8"


class DeclarationError(PegboardError):
    """A server's declarations are impossible or incomplete; the server does not start.

    `problems` has one line per fault, each with its mend.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class Unreachable(PegboardError):
    """Pegboard does not answer, or does not know who asks. The message says what to do."""


class ApprovalsAway(PegboardError):
    """The hub does not answer whether a call was approved, or not so that it can be read. The call does not run."""


class ApprovalImpossible(PegboardError):
    """The hub says that nobody can approve such a call. The message says why, and is told to the caller."""


class TokenRefused(PegboardError):
    """A bearer token did not verify. `reason` is a word from `token.REASONS`, safe to log and to show."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class BundleRefused(PegboardError):
    """A bundle cannot be used. `reason` says why in words for the operator."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class StopsUnknown(BundleRefused):
    """The bundle may be decided with, but is too old to rule out a stop of this sensitive server."""
