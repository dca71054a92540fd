"""What the forms of a review's page do."""

from __future__ import annotations

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.reviews.deciding import Verdict
from pegboard_hub.registry.reviews.granting import reaches_somebody
from pegboard_hub.web.pages.browser import Form
from pegboard_hub.web.pages.reviews.forms import item_field, ticked_access, version_of
from pegboard_hub.web.parts import Parts

DONE = {
    "approve": "Approved. The other reviews of this are still wanted.",
    "granted": "Approved. It was the last one: what all reviews approved holds now.",
    "vain": "Approved. It was the last one, and what all reviews approved lets nobody in.",
    "reject": "Rejected. What is asked for stays out.",
    "keep": "Kept as you filled it in. Nothing is decided yet.",
    "comment": "Said.",
    "reopen": "This is to be looked at again.",
    "genai": "This GenAI review is wanted, too.",
    "lift": "Later releases are looked at for GenAI only where they say that they use models.",
}
"""What was done, by the word in the address."""


async def _decide(parts: Parts, person: PersonFacts, review: str, form: Form) -> tuple[str, str]:
    """Approve, reject, or keep all of it for later, as the button says."""
    found = await parts.reviewing.find(review)
    held = frozenset(item for item in parts.reviewing.rights.checklist(found) if item_field(item) in form)
    chosen, version = form.get("verdict", ""), version_of(form)
    verdict = Verdict(
        version=version,
        approves=chosen == "approve",
        why=form.get("why", ""),
        access=ticked_access(form),
        conditions=form.get("conditions", ""),
        held=held,
    )
    if chosen not in ("approve", "reject"):
        await parts.reviewing.put_down(person, review, verdict)
        return review, "keep"
    granted = await parts.reviewing.decide(person, review, verdict)
    if granted is None:
        return review, chosen
    return review, "granted" if reaches_somebody(granted) else "vain"


async def _comment(parts: Parts, person: PersonFacts, review: str, form: Form) -> tuple[str, str]:
    await parts.reviewing.comment(person, review, form.get("comment", ""))
    return review, "comment"


async def _reopen(parts: Parts, person: PersonFacts, review: str, form: Form) -> tuple[str, str]:
    return await parts.reviewing.reopen(person, review, form.get("why", "")), "reopen"


async def _genai(parts: Parts, person: PersonFacts, review: str, form: Form) -> tuple[str, str]:
    return await parts.reviewing.ask_genai(person, review, form.get("why", "")), "genai"


async def _lift(parts: Parts, person: PersonFacts, review: str, form: Form) -> tuple[str, str]:
    return await parts.reviewing.lift_genai(person, review, form.get("why", "")), "lift"


ACTS = {"decide": _decide, "comment": _comment, "reopen": _reopen, "genai": _genai, "lift": _lift}
"""The forms of the page, by the end of the address that they are sent to; each gives the review to go on to, and a
word for what was done."""

REASONS = ("reopen", "genai", "lift")
"""Those of them that are one line, which says why."""
