"""Whatever authors, builders, reviewers, hubs and time do, submissions go as a simple model says."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pegboard.core.publishing import NEXT, Provenance, State, Trouble
from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.publishing.artifacts import Content
from pegboard_hub.publishing.building import MOST_ATTEMPTS, PAUSE_MS
from pegboard_hub.publishing.errors import ClaimLost
from pegboard_hub.publishing.orders import BuildOrder, BuildResult, Progress, Told
from pegboard_hub.publishing.serving import serve
from pegboard_hub.publishing.submissions import STANDING
from pegboard_hub.publishing.transitions import move
from pegboard_hub.registry.history import PEGBOARD
from pegboard_hub.registry.reviews.deciding import Verdict
from pegboard_hub.registry.reviews.model import Kind, Review
from pegboard_hub.registry.reviews.model import State as ReviewState
from tests.folders import new_folder
from tests.hub.company import Hub, found_company, opened
from tests.hub.publishing_rig import Project, build, found, states, submitter

DEV, PROD = "dev/wiki", "prod/wiki"
SOURCES = [
    Project(tools={"find_page": f"Find pages of the wiki, by {what}. Use it when somebody asks where it stands."})
    for what in ("words", "authors", "dates")
]
DECIDE = {
    Kind.SECURITY: PersonFacts("sol", "Sol", ("security",)),
    Kind.PRIVACY: PersonFacts("lea", "Lea", ("legal",)),
}
BUILDERS = ("one", "two")


@dataclass
class Modelled:
    """A submission as the model has it. `said_no`: a reviewer ended it."""

    server: str
    source: int
    number: int
    created_ms: int
    state: State = State.SUBMITTED
    builder: str = ""
    attempt: int = 0
    heard_ms: int = 0
    retry_ms: int = 0
    said_no: bool = False
    path: list[State] = field(default_factory=lambda: [State.SUBMITTED])

    def to(self, state: State) -> None:
        assert state in NEXT[self.state], f"{self.state} → {state}"
        self.state = state
        self.path.append(state)


class Machine(RuleBasedStateMachine):
    """The pipeline up to the approval, and a deployment that takes over at once."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.ended = AsyncExitStack()
        self.known: dict[str, Modelled] = {}
        self.orders: dict[str, list[BuildOrder]] = {name: [] for name in BUILDERS}
        self.approved: set[tuple[str, int]] = set()
        self.now = 1_800_000_000.0

    @initialize()
    def found_it(self) -> None:
        self.folder = new_folder()
        self.company = found_company(self.folder)
        self.open()

    def open(self) -> None:
        self.hub: Hub = self.runner.run(self.ended.enter_async_context(opened(self.company)))
        self.publishing = self.hub.parts.publishing
        self.publishing._clock = lambda: self.now
        self.hub.parts.registry._clock = lambda: self.now

    def teardown(self) -> None:
        self.runner.run(self.ended.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)

    def of(self, server: str, *states: State) -> list[Modelled]:
        """Oldest first."""
        return [each for each in self.known.values() if each.server == server and each.state in states]

    def oldest_first(self) -> list[tuple[str, Modelled]]:
        return sorted(self.known.items(), key=lambda pair: (pair[1].created_ms, pair[0]))

    @property
    def now_ms(self) -> int:
        return int(self.now * 1000)

    # What authors do.

    @rule(server=st.sampled_from([DEV, PROD, PROD]), source=st.sampled_from(range(len(SOURCES))))
    def submit(self, server: str, source: int) -> None:
        told, new = self.runner.run(
            self.publishing.submit(submitter("sam"), server, SOURCES[source].archive, Provenance())
        )
        same = [each for each in self.of(server, *STANDING) if each.source == source]
        assert new is (not same)
        if not new:
            assert self.known[told.id] in same
            return
        for older in self.of(server, State.SUBMITTED):
            if not older.builder:
                older.to(State.SUPERSEDED)
        newest = max((each.created_ms for each in self.known.values() if each.server == server), default=0)
        self.known[told.id] = Modelled(server, source, len(self.known), max(self.now_ms, newest + 1))

    # What builders do.

    @rule(builder=st.sampled_from(BUILDERS))
    def claim(self, builder: str) -> None:
        order = self.runner.run(self.publishing.claim(builder))
        due = None
        for id_, each in self.oldest_first():
            free = not each.builder or each.heard_ms < self.now_ms - 60_000
            if each.state is State.SUBMITTED and free and each.retry_ms <= self.now_ms:
                if each.attempt < MOST_ATTEMPTS:
                    due = id_
                    break
                each.to(State.FAILED)
        assert (order.id if order else None) == due
        if order is not None:
            modelled = self.known[order.id]
            modelled.attempt += 1
            modelled.builder, modelled.heard_ms, modelled.retry_ms = builder, self.now_ms, 0
            assert order.attempt == modelled.attempt
            self.orders[builder].append(order)

    def _holds(self, builder: str, order: BuildOrder) -> bool:
        each = self.known[order.id]
        return (each.builder, each.attempt) == (builder, order.attempt)

    @precondition(lambda self: any(self.orders.values()))
    @rule(builder=st.sampled_from(BUILDERS), place=st.integers(0, 3))
    def progress(self, builder: str, place: int) -> None:
        if not self.orders[builder]:
            return
        order = self.orders[builder][-1 - place % len(self.orders[builder])]
        word = Progress(builder=builder, attempt=order.attempt, step="installing")
        mine = self._holds(builder, order) and self.known[order.id].state is State.SUBMITTED
        assert self._taken(self.publishing.progress(order.id, word)) is mine
        if mine:
            self.known[order.id].heard_ms = self.now_ms

    @precondition(lambda self: any(self.orders.values()))
    @rule(
        builder=st.sampled_from(BUILDERS),
        place=st.integers(0, 3),
        outcome=st.sampled_from(["built", "built", "built", "broken", "again"]),
    )
    def tell(self, builder: str, place: int, outcome: str) -> None:
        if not self.orders[builder]:
            return
        order = self.orders[builder][-1 - place % len(self.orders[builder])]
        modelled = self.known[order.id]
        trouble = Trouble(step="installing", what="no such package")
        result = BuildResult(trouble=trouble, again=outcome == "again")
        if outcome == "built":
            result = self.runner.run(self._build(order, SOURCES[modelled.source]))
        told = Told(builder=builder, attempt=order.attempt, result=result)
        mine = self._holds(builder, order)
        assert self._taken(self.publishing.result(order.id, told)) is mine
        if not mine or modelled.state is not State.SUBMITTED:
            return  # told again it is as it was taken
        if outcome == "built":
            modelled.to(State.BUILT)
        elif outcome == "again" and modelled.attempt < MOST_ATTEMPTS:
            modelled.builder = ""
            modelled.retry_ms = self.now_ms + PAUSE_MS * 2 ** (modelled.attempt - 1)
        else:
            modelled.to(State.FAILED)

    def _taken(self, told: object) -> bool:
        try:
            self.runner.run(told)  # type: ignore[arg-type]
        except ClaimLost:
            return False
        return True

    async def _build(self, order: BuildOrder, project: Project) -> BuildResult:
        source = await self.publishing.fetch(order.source)
        assert source is not None
        made = build(order, source, project)
        for kind, content in made.contents.values():
            await self.publishing.keep(kind, Content.of(content))  # type: ignore[arg-type]
        return made.result

    # What the hub does.

    @rule()
    def work(self) -> None:
        self.runner.run(self.publishing.step())
        waiting = [each for _, each in self.oldest_first() if each.state in (State.BUILT, State.CHECKED)]
        if waiting:
            self._worked(waiting[0])

    @rule()
    def submit_build_and_work(self) -> None:
        self.submit(PROD, len(self.known) % len(SOURCES))
        self.claim("one")
        if self.orders["one"]:
            self.tell("one", 0, "built")
        for _ in range(4):
            self.work()

    def _worked(self, modelled: Modelled) -> None:
        if modelled.state is State.BUILT:
            modelled.to(State.CHECKED)
            return
        server, source = modelled.server, modelled.source
        further = (State.CHECKED, State.IN_REVIEW, State.APPROVED, State.DEPLOYING, State.LIVE)
        if any(each.number > modelled.number for each in self.of(server, *further)):
            modelled.to(State.SUPERSEDED)
            return
        for older in self.of(server, State.IN_REVIEW):
            older.to(State.SUPERSEDED)
        for older in self.of(server, State.CHECKED):
            if older.number < modelled.number:
                older.to(State.SUPERSEDED)
        [id_] = [id_ for id_, each in self.known.items() if each is modelled]
        now = self.runner.run(found(self.hub, id_)).state
        if server == DEV:
            modelled.to(State.APPROVED)
        elif now is State.APPROVED:
            # Only what was approved before may be approved without anybody's look.
            assert (server, source) in self.approved
            modelled.to(State.APPROVED)
        else:
            modelled.to(State.IN_REVIEW)
            if now is State.FAILED:
                assert any(each.said_no and each.source == source for each in self.known.values())
                modelled.to(State.FAILED)
                modelled.said_no = True
        if modelled.state is State.APPROVED:
            self.approved.add((server, source))

    # What reviewers do.

    def _open(self, state: ReviewState) -> list[Review]:
        return self.runner.run(self.hub.parts.reviewing.listed(server=PROD, states=[state]))

    @precondition(lambda self: self.of(PROD, State.IN_REVIEW))
    @rule(yes=st.booleans(), both=st.booleans())
    def decide(self, yes: bool, both: bool) -> None:
        [modelled] = self.of(PROD, State.IN_REVIEW)
        reviews = self._open(ReviewState.OPEN)
        for review in reviews if both else reviews[:1]:
            rights = self.hub.parts.reviewing.rights
            verdict = Verdict(
                review.version,
                yes,
                "" if yes else "no",
                access=review.subject.requested,
                held=frozenset(rights.checklist(review)),
            )
            self.runner.run(self.hub.parts.reviewing.decide(DECIDE[review.kind], review.id, verdict))
        if not yes:
            modelled.to(State.FAILED)
            modelled.said_no = True
        elif not self._open(ReviewState.OPEN):
            modelled.to(State.APPROVED)
            self.approved.add((PROD, modelled.source))

    @rule()
    def reopen(self) -> None:
        server = self.hub.parts.registry.current.servers.get(PROD)
        if server is None or server.waiting is None or self.of(PROD, State.IN_REVIEW):
            return
        no = [each for each in self._open(ReviewState.REJECTED) if each.subject.release == server.waiting.digest]
        newest = {each.kind: each for each in reversed(no)}
        if len(newest) != 1:
            return  # one opened again leaves the other's no
        [review] = newest.values()
        self.runner.run(self.hub.parts.reviewing.reopen(DECIDE[review.kind], review.id, "it was explained"))
        refused = [each for each in self.of(PROD, State.FAILED) if each.said_no]
        modelled = max(refused, key=lambda each: each.number)
        modelled.said_no = False
        modelled.to(State.IN_REVIEW)

    # What becomes of an approved one.

    @rule(server=st.sampled_from([DEV, PROD]))
    def take_over(self, server: str) -> None:
        waiting = self.of(server, State.APPROVED)
        if not waiting:
            return
        newest = max(waiting, key=lambda each: each.number)
        ids = {id_: each for id_, each in self.known.items() if each.server == server}

        async def switch() -> None:
            registry = self.hub.parts.registry
            file = registry.grants_file
            assert file is not None
            async with registry.changing() as changing:
                for id_, each in ids.items():
                    if each is newest:
                        await serve(changing, file, await found(self.hub, id_), PEGBOARD, "deploy", "it answers")
                        for before, after in ((State.APPROVED, State.DEPLOYING), (State.DEPLOYING, State.LIVE)):
                            assert await move(changing.connection, id_, before, after, "", changing.now_ms)
                    elif each.state in (State.APPROVED, State.LIVE):
                        assert await move(changing.connection, id_, each.state, State.SUPERSEDED, "", changing.now_ms)

        self.runner.run(switch())
        for each in ids.values():
            if each is newest:
                each.to(State.DEPLOYING)
                each.to(State.LIVE)
            elif each.state in (State.APPROVED, State.LIVE):
                each.to(State.SUPERSEDED)

    # What happens to all of them.

    @rule(seconds=st.sampled_from([1, 10, 61, 400]))
    def time_goes_on(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        self.runner.run(self.ended.aclose())
        self.ended = AsyncExitStack()
        self.open()

    @rule()
    def sweep(self) -> None:
        self.runner.run(self.publishing.tidy())

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        for id_, modelled in self.known.items():
            submission = self.runner.run(found(self.hub, id_))
            assert submission.state is modelled.state, f"{id_}: {submission.state}, {modelled.path}"
            assert self.runner.run(states(self.hub, id_)) == modelled.path
            assert (submission.signature is not None) is (State.CHECKED in modelled.path)
            assert self.runner.run(self.publishing.fetch(submission.source)) is not None
        for server in (DEV, PROD):
            standing = [each.source for each in self.of(server, *STANDING)]
            assert len(standing) == len(set(standing)), "one submission of one source"
            assert len(self.of(server, State.IN_REVIEW)) <= 1
            self._check_registry(server)

    def _check_registry(self, name: str) -> None:
        server = self.hub.parts.registry.current.servers.get(name)
        if server is None:
            return
        releases = {state: [] for state in State}
        for id_, each in self.known.items():
            if each.server == name:
                releases[each.state].append(self.runner.run(found(self.hub, id_)).release)
        assert releases[State.LIVE] == ([server.release.digest] if server.release else [])
        if releases[State.IN_REVIEW]:
            assert server.waiting is not None
            assert releases[State.IN_REVIEW] == [server.waiting.digest]


Machine.TestCase.settings = settings(
    max_examples=6,
    stateful_step_count=30,
    # An example takes a second: whoever wants a failing one small adds Phase.shrink, and has some minutes.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestSubmitting = Machine.TestCase
