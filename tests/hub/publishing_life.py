"""A hub in a process of its own in which submissions live whole lives, each step told on standard output once it is
acknowledged: `python -m tests.hub.publishing_life HOME GRANTS DATABASE_URL FIRST`. It is there to be killed."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from pegboard.core.publishing import Provenance, State, Trouble
from pegboard_hub.common.home import Home
from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.publishing.orders import BuildResult
from pegboard_hub.publishing.submissions import Submission
from pegboard_hub.registry.reviews.deciding import Verdict
from pegboard_hub.registry.reviews.model import Kind
from pegboard_hub.registry.reviews.model import State as ReviewState
from tests.hub.company import Company, Hub, beside, opened
from tests.hub.publishing_rig import Builder, Project, build, found, submitter

PROD = "prod/wiki"
REVIEWERS = {
    Kind.SECURITY: PersonFacts("sol", "Sol", ("security",)),
    Kind.PRIVACY: PersonFacts("lea", "Lea", ("legal",)),
}


def project(number: int) -> Project:
    """The project of a number: another source, and what a review looks at differs."""
    return Project(tools={"find_page": f"Find pages of the wiki, as of day {number}. Use it to see where it stands."})


async def live(company: Company, first: int) -> None:
    """Submit, build, be checked and reviewed, again and again; some are refused, taken back, or cannot be built."""
    async with opened(company) as hub, beside(hub.parts.publishing.run()):
        for number in range(first, first + 10_000):
            # What the process before did already is done again, as a command does that got no answer.
            submission, _ = await hub.parts.publishing.submit(
                submitter("sam"), PROD, project(number).archive, Provenance()
            )
            tell(number, submission)
            while (now := await found(hub, submission.id)).state in (State.SUBMITTED, State.BUILT, State.CHECKED):
                if now.state is State.SUBMITTED:
                    await built(hub, number)
                else:
                    await hub.parts.publishing.events(submission.id, 1 << 40, 0.05)
                tell(number, await found(hub, submission.id))
            if now.state is State.IN_REVIEW and number % 4 == 3:
                await hub.parts.publishing.take_back(submitter("sam"), submission.id, "the wrong branch")
            elif now.state is State.IN_REVIEW:
                await decided(hub, yes=number % 3 != 2)
            tell(number, await found(hub, submission.id))


async def built(hub: Hub, number: int) -> None:
    """Build the order that there is; one whose builder was killed is somebody else's soon."""
    if not isinstance(hub.parts.publishing._clock, Later):
        hub.parts.publishing._clock = Later()
    builder = Builder(hub, f"builder-{number}")
    order = await builder.claim()
    if order is not None and number % 5 == 4:
        await builder.tell(order, BuildResult(trouble=Trouble(step="installing", what="no such package")))
    elif order is not None:
        made = build(order, await builder.source(order), project(number))
        await builder.hand_in(made)
        await builder.tell(order, made.result)


class Later:
    """A clock on which a claim is over at once: nobody waits a minute for a builder that was killed."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        self.now += 121
        return self.now


async def decided(hub: Hub, *, yes: bool) -> None:
    """What its reviewers say."""
    reviewing = hub.parts.reviewing
    for review in await reviewing.listed(server=PROD, states=[ReviewState.OPEN]):
        held = frozenset(reviewing.rights.checklist(review))
        verdict = Verdict(review.version, yes, "" if yes else "no", access=review.subject.requested, held=held)
        await reviewing.decide(REVIEWERS[review.kind], review.id, verdict)


def tell(number: int, submission: Submission) -> None:
    """Say where a submission is: whoever reads it was answered so."""
    print(number, submission.state.replace(" ", "-"), submission.id, flush=True)


if __name__ == "__main__":
    home, grants, database_url, start = sys.argv[1:]
    asyncio.run(live(Company(Home.open(Path(home)), Path(grants), database_url=database_url), int(start)))
