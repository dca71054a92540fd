"""Reviewing: who asks for what, who decides on it, and the grant that comes of it.

submit / ask for access / a release that differs ──▶ reviews, one of each kind that is concerned, of one exact subject
each is decided by its approvers, never by an author    ──▶ rejected: the subject stays out
the last one approved ──▶ in the same transaction what all of them approved is granted, and the release is deployed

This is the one door to it. Each thing that people do is one transaction, whose steps are in the file of that name:
`asking`, `deciding`, `reopening`, `talking`, `lifecycle`; `rights` says who may, `granting` what approvals come to.
"""

from __future__ import annotations

from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.registry.ending import NO_ENDING, Ending
from pegboard_hub.registry.model import Access, RegisteredServer
from pegboard_hub.registry.record import check_why
from pegboard_hub.registry.reviews import asking, deciding, lifecycle, reopening, talking
from pegboard_hub.registry.reviews.asking import Asked, Wish
from pegboard_hub.registry.reviews.deciding import Verdict
from pegboard_hub.registry.reviews.reading import Reading
from pegboard_hub.registry.reviews.texts import check_access, check_long


class Reviewing(Reading):
    """Everything that people do about reviews, and what can be asked about them."""

    async def submit(self, person: PersonFacts, name: str, asked: Access, why: str, expected: int) -> Asked:
        """Submit a draft: to its reviews, or where its namespace needs none, at once to what it asks for.

        Args:
            person: of the team that owns it, or an operator.
            name: the server's.
            asked: the access that it asks for.
            why: for the reviewers.
            expected: the server's version that the person saw.

        Raises:
            UnknownServer: there is no such server.
            NotYours: somebody else submits it.
            ChangeConflict: somebody changed it meanwhile.
            ChangeRefused: it is no draft, or asks for what there is not.
        """
        wish = Wish(person, check_access(asked), check_why(why), expected)
        async with self._registry.changing() as changing:
            return await asking.submit(changing, self.rights, name, wish)

    async def ask_access(self, person: PersonFacts, name: str, asked: Access, why: str, expected: int) -> Asked:
        """Ask for another access. What is asked for no more ends at once; what is asked for anew wants reviews.

        Args, Raises: as `submit`; a draft is submitted instead.
        """
        wish = Wish(person, check_access(asked), check_why(why), expected)
        async with self._registry.changing() as changing:
            return await asking.ask_access(changing, self.rights, name, wish)

    async def decide(self, person: PersonFacts, review_id: str, verdict: Verdict) -> Access | None:
        """Decide on a review; with the last approval its server gets what all of them approved.

        Args:
            person: as the login tells of them now.
            review_id: the review's.
            verdict: the decision.

        Returns:
            What holds from now on, where every review of the subject is approved; None otherwise.

        Raises:
            UnknownReview: there is no such review.
            NotYours: the person does not decide on it.
            ReviewConflict: it was decided, superseded or changed meanwhile.
            ChangeRefused: it cannot be decided like this; for example it shares nothing with the other approvals.
        """
        async with self._registry.changing() as changing:
            return await deciding.decide(changing, self.rights, person, review_id, verdict)

    async def put_down(self, person: PersonFacts, review_id: str, verdict: Verdict) -> None:
        """Keep everything that somebody has filled in, before a decision; what `verdict` approves does not matter.

        Raises:
            UnknownReview, NotYours, ReviewConflict: as `decide`.
            ChangeRefused: it is for more than what is asked for, or a text cannot be.
        """
        async with self._registry.changing() as changing:
            await deciding.put_down(changing, self.rights, person, review_id, verdict)

    async def comment(self, person: PersonFacts, review_id: str, text: str) -> None:
        """Say something about a review.

        Raises:
            UnknownReview: there is no such review.
            NotYours: the person may not read what it is about.
            ChangeRefused: the text is empty, too long, or hides something.
        """
        text = check_long("comment", text)
        async with self._registry.changing() as changing:
            await talking.comment(changing, self.rights, person, review_id, text)

    async def reopen(self, person: PersonFacts, review_id: str, why: str) -> str:
        """Have a review that was rejected looked at again; gives the new review's id.

        Args:
            person: an owner, an operator, or one who decides on its kind.
            review_id: the review's.
            why: what is otherwise now.

        Raises:
            UnknownReview: there is no such review.
            NotYours: somebody else asks.
            ReviewConflict: it is not rejected, or its subject is not asked for any more.
            ChangeRefused: `why` cannot be.
        """
        why = check_why(why)
        async with self._registry.changing() as changing:
            return await reopening.reopen(changing, self.rights, person, review_id, why)

    async def ask_genai(self, person: PersonFacts, review_id: str, why: str) -> str:
        """Ask for a GenAI review beside a security review that is open; gives its id.

        Raises:
            UnknownReview: there is no such review.
            NotYours: the person does not decide on that security review.
            ReviewConflict: it is not open any more, or there is a GenAI review already.
            ChangeRefused: `why` cannot be.
        """
        why = check_why(why)
        async with self._registry.changing() as changing:
            return await reopening.ask_genai(changing, self.rights, person, review_id, why)

    async def lift_genai(self, person: PersonFacts, review_id: str, why: str) -> str:
        """Have later releases looked at for GenAI no longer because somebody asked for it; gives the review's id.

        Args:
            person: one who decides on GenAI reviews, and is no author of the server.
            review_id: a GenAI review of the server.
            why: for whoever wonders later.

        Raises:
            UnknownReview: there is no such review.
            NotYours: the person does not decide on it, or it is of another kind.
            ReviewConflict: nobody asks for it any more.
            ChangeRefused: `why` cannot be.
        """
        why = check_why(why)
        async with self._registry.changing() as changing:
            return await reopening.lift_genai(changing, self.rights, person, review_id, why)

    async def move(
        self,
        person: PersonFacts,
        name: str,
        action: str,
        why: str,
        expected: int | None,
        ending: Ending = NO_ENDING,
    ) -> RegisteredServer:
        """Deprecate or retire a server, bring it back, or take what was submitted back to a draft.

        Args:
            person: of the team that owns it, or an operator.
            name: the server's.
            action: of `OWNERS_MAY`.
            why: shown to everybody who uses it.
            expected: the server's version that the person saw; None: whichever it is.
            ending: of one that is deprecated, when it closes and what takes its place.

        Raises:
            UnknownServer: there is no such server.
            NotYours: somebody else wants it.
            ChangeConflict: somebody changed it meanwhile.
            ChangeRefused: that cannot be done with it.
        """
        why = check_why(why)
        async with self._registry.changing() as changing:
            return await lifecycle.move(changing, self.rights, person, name, action, why, expected, ending)
