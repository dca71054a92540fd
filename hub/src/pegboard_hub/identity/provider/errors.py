"""Why what a provider said is not used. To people it is a `LoginRefused` with words for them."""

from __future__ import annotations

from pegboard_hub.identity.person import LoginRefused


class Unbelievable(LoginRefused):
    """The answer is not the provider's, or not for us: nothing is known of the person. `why` is for the operator."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__("What the company's login answered cannot be believed, so nobody was signed in.")


class NotAdmitted(LoginRefused):
    """The provider answered well, and by its answer and the settings this person does not come in."""
