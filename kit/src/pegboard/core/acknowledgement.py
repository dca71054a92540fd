"""What a consumer says of the bundle it uses. The hub signs with a new key only once every live one has said it.

Who says it is known by the credential it comes with, and by nothing in it (docs/decisions/0011).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pegboard.core.bundle import Bundle
from pegboard.core.jose import Verifier, kid_of

MOST_KEYS = 64
"""Keys that one acknowledgement may name; a set has two or three."""

Kid = Annotated[str, Field(max_length=128)]


class Acknowledgement(BaseModel):
    """The bundle in use, and the keys that its consumer verifies with now.

    Attributes:
        version: of the bundle.
        issued_at: when it was signed, in seconds since the epoch.
        signed_by: id of the bundle key that signed it.
        token_keys: ids of the keys that tokens are verified with.
        bundle_keys: ids of the keys that the next bundle is verified with.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: int
    issued_at: int
    signed_by: Kid
    token_keys: tuple[Kid, ...] = Field(max_length=MOST_KEYS)
    bundle_keys: tuple[Kid, ...] = Field(max_length=MOST_KEYS)

    @classmethod
    def of(cls, text: str, bundle: Bundle, verifier: Verifier) -> Acknowledgement:
        """The acknowledgement of a bundle, `text` as it was read, that `verifier` has verified."""
        return cls(
            version=bundle.version,
            issued_at=bundle.issued_at,
            signed_by=kid_of(text),
            token_keys=tuple(str(key["kid"]) for key in bundle.jwks["keys"]),
            bundle_keys=verifier.kids,
        )
