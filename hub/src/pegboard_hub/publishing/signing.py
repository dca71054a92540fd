"""The hub's word that a release was checked: which artifact of which source it is, and who submitted it.

What is signed can always be signed again: the tables say all of it. So a key that leaked, or that a restored backup
does not have, costs nothing but the signing (docs/decisions/0048).
"""

from __future__ import annotations

from pegboard.core.jose import Jwks, Verifier
from pegboard.core.publishing import RELEASE_TYPE, SignedRelease
from pegboard_hub.identity.ring import Ring
from pegboard_hub.publishing.submissions import Submission


class Signing:
    """Signs releases with the ring's current key, and tells which signatures are good no more.

    Attributes:
        not_signed: why releases were not signed anew when the keys changed last, by submission; a line each.
    """

    def __init__(self, ring: Ring) -> None:
        self.not_signed: dict[str, str] = {}
        self._ring = ring
        self._believed: Jwks | None = None

    @property
    def renewed(self) -> bool:
        """Whether the ring's keys are others than when `believes` was last asked for all."""
        return self._believed is not self._ring.jwks

    @property
    def keys(self) -> Jwks:
        """Public halves of the keys of now; another object after each change."""
        return self._ring.jwks

    def settled(self, keys: Jwks) -> None:
        """Take note that every signature was looked at with these keys."""
        self._believed = keys

    def sign(self, submission: Submission, now_ms: int) -> str:
        """The signature of a submission that was built and checked.

        Raises:
            ValueError: it was not built yet.
        """
        return self._ring.sign(word_of(submission, now_ms).model_dump(mode="json"), RELEASE_TYPE)

    def believes(self, signature: str) -> bool:
        """Whether a runtime believes a signature now."""
        try:
            Verifier(self._ring.jwks).verify(signature, RELEASE_TYPE)
        except ValueError:
            return False
        return True


def word_of(submission: Submission, now_ms: int) -> SignedRelease:
    """What is signed of a submission that was built and checked.

    Raises:
        ValueError: it was not built yet.
    """
    if submission.artifact is None or submission.release is None or submission.sbom is None:
        raise ValueError(f"{submission.id} is not built")
    return SignedRelease(
        server=submission.server,
        release=submission.release,
        artifact=submission.artifact.digest,
        source=submission.source,
        sbom=submission.sbom,
        submitted_by=submission.actor,
        at=now_ms // 1000,
    )
