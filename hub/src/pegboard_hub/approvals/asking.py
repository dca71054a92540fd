"""A server's question: found or made, and claimed where people have said yes. All of it within one transaction."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import rfc8785
from sqlalchemy.ext.asyncio import AsyncConnection

from pegboard.core.approval import (
    CALLER,
    OPEN,
    Ask,
    Preview,
    Requirement,
    State,
    Unbindable,
    binding,
    canonical_arguments,
)
from pegboard.core.caller import Caller
from pegboard.core.names import NAME_PATTERN, TOOL_PATTERN
from pegboard_hub.approvals import store
from pegboard_hub.approvals.clock import SKEW_MS
from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.approvals.model import Request
from pegboard_hub.approvals.store import Step
from pegboard_hub.ledger.channels import Channel

TOGETHER_MS: Final = 60_000
"""Separate calls of one person on one server are one batch where they follow within this time."""

MOST_OPEN_ON_SERVER: Final = 200
MOST_OPEN: Final = 500
"""Open requests of one person, on one server and on all: more than that nobody reads."""

MOST_AN_HOUR_ON_SERVER: Final = 500
MOST_AN_HOUR: Final = 2000
"""Requests that one person's calls may make within an hour, on one server and on all, also if they are withdrawn:
no server alone uses up what the person's calls of others need."""

SHOWN_FOR_MS: Final = 60_000
"""How long what is shown stays as it is at least, so that repeating a call keeps nobody from deciding."""

LONGEST_PREVIEW: Final = 256 * 1024
"""Bytes of what is shown beside the arguments."""

EXPIRED: Final = "nobody claimed it in time"
NOT_DECIDED: Final = "nobody decided in time"
CLOCK_WENT_BACK: Final = "the hub’s clock was set back, so its age is not known"
DECLINED: Final = "declined in the client"


@dataclass(frozen=True, slots=True)
class Bound:
    """One action with what it is bound to."""

    binding: str
    arguments: Mapping[str, object]
    digest: str
    preview: Preview | None
    shown: str


@dataclass(frozen=True, slots=True)
class Question:
    """An `Ask` of a verified caller.

    Attributes:
        stopped: people whose yes counts no more, as it is when that is asked.
    """

    channel: Channel
    caller: Caller
    ask: Ask
    actions: Sequence[Bound]
    stopped: Callable[[], Collection[str]] = frozenset

    @property
    def bindings(self) -> list[str]:
        """Of the actions, in their order."""
        return [action.binding for action in self.actions]


@dataclass(slots=True)
class Standing:
    """How the actions of a question stand.

    Attributes:
        requests: an entry for each action, in their order; after a no there may be none for some.
        claimed: whether those in the state `claimed` are this call's.
        made: what is new, for those who are told of it.
        moved: ids of what was changed, for those who wait.
    """

    requests: list[Request]
    claimed: bool = False
    made: list[Request] = field(default_factory=list)
    moved: set[str] = field(default_factory=set)

    @property
    def waits(self) -> bool:
        """Whether people are still to decide."""
        return not self.claimed and any(request.state is State.REQUESTED for request in self.requests)

    def is_about(self, ids: Sequence[str]) -> bool:
        """Whether all that waits is among these, which the caller was shown; where none are named, it is."""
        return not ids or all(each.id in ids for each in self.requests if each.state is State.REQUESTED)

    def put(self, request: Request) -> None:
        """A request as it is since."""
        self.requests = [request if each.id == request.id else each for each in self.requests]
        self.moved.add(request.id)

    def claimable(self) -> list[Request]:
        """What may be claimed: all that was approved, once nothing waits and no other call has any of it.

        Where another call has one, nothing is claimed: a server that is told `claimed` runs what is `claimed`.
        """
        states = {request.state for request in self.requests}
        if self.claimed or states & {State.REQUESTED, State.CLAIMED}:
            return []
        return [request for request in self.requests if request.state is State.APPROVED]


def bound(channel: Channel, caller: Caller, ask: Ask) -> list[Bound]:
    """The actions of a question with what each is bound to. The hub computes all of it itself.

    Raises:
        ApprovalRefused: one cannot be bound, shows too much, or stands there twice.
    """
    found = [_bound(channel, caller, ask, place) for place in range(len(ask.actions))]
    if len({action.binding for action in found}) < len(found):
        message = "The same action stands there twice, and would be shown once."
        raise ApprovalRefused("same_action_twice", "actions", message, "Name each action once.")
    return found


def _bound(channel: Channel, caller: Caller, ask: Ask, place: int) -> Bound:
    action = ask.actions[place]
    try:
        arguments, digest = canonical_arguments(action.arguments)
    except Unbindable as error:
        message = f"What is asked for cannot be bound: {error}."
        raise ApprovalRefused("invalid", f"actions.{place}", message, "Send other arguments.") from error
    if action.preview and len(action.preview.model_dump_json()) > LONGEST_PREVIEW:
        message = f"The preview is longer than {LONGEST_PREVIEW // 1024} KiB."
        raise ApprovalRefused("invalid", f"actions.{place}.preview", message, "Show less of it.")
    key = binding(
        person=caller.sub,
        server=channel.server,
        release=channel.release,
        source=channel.source,
        tool=ask.tool,
        kind=ask.kind,
        arguments_digest=digest,
        policy=ask.policy,
        policy_version=ask.policy_version,
        requirement=ask.requirement,
    )
    return Bound(key, arguments, digest, action.preview, shown_digest(key, action.preview, ask.requirement))


def shown_digest(key: str, preview: Preview | None, requirement: Requirement) -> str:
    """Digest of what somebody decides on: the binding (and so the arguments), the preview and the requirement."""
    shown = {
        "binding": key,
        "preview": preview.model_dump(mode="json") if preview else None,
        "requirement": requirement.model_dump(mode="json"),
    }
    return hashlib.sha256(rfc8785.dumps(shown)).hexdigest()


async def look(db: AsyncConnection, question: Question, now_ms: int) -> Standing | None:
    """How a question stands, where nothing is to be written for it; else None."""
    if question.ask.answered:
        return None
    found = await store.held(db, question.bindings)
    if len(found) < len(question.actions) or any(is_over(request, now_ms) for request in found.values()):
        return None
    standing = Standing([found[key] for key in question.bindings])
    if standing.claimable() or any(request.call_id == question.ask.call_id for request in standing.requests):
        return None
    if any(_shows_anew(found[action.binding], action, now_ms) for action in question.actions):
        return None
    return standing


async def take(db: AsyncConnection, question: Question, now_ms: int, *, claims: bool = True) -> Standing:
    """Find or make what a question is about, and claim it where everything is decided and something approved.

    Args:
        claims: whether anybody would hear of a claim; without it nothing is claimed.

    Raises:
        ApprovalRefused: the call's id was used for other actions, or there are too many requests.
    """
    known = await _claimed_before(db, question)
    if known is not None:
        return known
    if question.ask.answered == "no":
        return await _decline(db, question, now_ms)
    standing = Standing([])
    held = await store.held(db, question.bindings)
    for key, request in list(held.items()):
        if is_over(request, now_ms):
            await end(db, request, now_ms)
            standing.moved.add(request.id)
            del held[key]
    await _show_anew(db, question, held, standing, now_ms)
    await _make(db, question, held, standing, now_ms)
    standing.requests = [held[key] for key in question.bindings]
    await _confirmed(db, question, standing, now_ms)
    if claims:
        await _claim(db, question, standing, now_ms)
    return standing


async def go_on(db: AsyncConnection, question: Question, ids: Sequence[str], now_ms: int) -> Standing:
    """How the requests that a question has waited for stand now; nothing new is made for what ended meanwhile."""
    known = await _claimed_before(db, question)
    if known is not None:
        return known
    found = await store.by_ids(db, ids)
    standing = Standing([])
    for id_ in ids:
        if is_over(found[id_], now_ms) and found[id_].state is not State.REJECTED:
            found[id_] = await end(db, found[id_], now_ms)
            standing.moved.add(id_)
    standing.requests = [found[id_] for id_ in ids]
    await _claim(db, question, standing, now_ms)
    return standing


async def end(db: AsyncConnection, request: Request, now_ms: int) -> Request:
    """Expire an open request whose time is over; a rejected one no longer answers for its binding."""
    if request.state is State.REJECTED:
        await store.let_go(db, [request.id])
        return request
    why = _why_over(request, now_ms)
    step = Step(now_ms, "clock", why=why)
    await store.move(db, [request], request.state, State.EXPIRED, step, held=None, ended_at_ms=now_ms, why=why)
    return replace(request, state=State.EXPIRED, ended_at_ms=now_ms, why=why)


def is_from_the_future(request: Request, now_ms: int) -> bool:
    """Whether a request was made, or decided, later than now: a clock was set back, and its age is not known."""
    return max(request.requested_at_ms, request.decided_at_ms or 0) > now_ms + SKEW_MS


def is_over(request: Request, now_ms: int) -> bool:
    """Whether the time of a request is over: of one that waits, is approved and not claimed, or was rejected."""
    if request.state not in (State.REQUESTED, State.APPROVED, State.REJECTED):
        return False
    return request.expires_at_ms <= now_ms or (
        request.state is not State.REJECTED and is_from_the_future(request, now_ms)
    )


def _why_over(request: Request, now_ms: int) -> str:
    if request.expires_at_ms > now_ms:
        return CLOCK_WENT_BACK
    return EXPIRED if request.state is State.APPROVED else NOT_DECIDED


async def _claimed_before(db: AsyncConnection, question: Question) -> Standing | None:
    """How what this very call has claimed already stands; None where it has claimed nothing yet."""
    mine = await store.of_call(db, question.channel.server, question.ask.call_id)
    if not mine:
        return None
    # Whatever it did not claim had ended by then: a call claims nothing while anything is open.
    others = await store.newest_turned_down(db, question.bindings)
    if not mine.keys() <= set(question.bindings) <= mine.keys() | others.keys():
        message = "This call has claimed other actions than these."
        raise ApprovalRefused("call_id_used", "call_id", message, "Give each call an id of its own.")
    requests = [mine.get(key) or others[key] for key in question.bindings]
    return Standing(requests, claimed=any(request.state is State.CLAIMED for request in mine.values()))


async def _show_anew(
    db: AsyncConnection, question: Question, held: dict[str, Request], standing: Standing, now_ms: int
) -> None:
    for action in question.actions:
        request = held.get(action.binding)
        if request is not None and _shows_anew(request, action, now_ms):
            step = Step(now_ms, "server", why="what it shows changed")
            await store.show_anew(db, request, action.preview, action.shown, step)
            standing.moved.add(request.id)
            held[action.binding] = replace(
                request, preview=action.preview, shown_digest=action.shown, shown_at_ms=now_ms
            )


def _shows_anew(request: Request, action: Bound, now_ms: int) -> bool:
    """Whether the tool says something else of a request that waits than it did. What was approved stays as it was."""
    changed = request.state is State.REQUESTED and request.shown_digest != action.shown
    return changed and now_ms - request.shown_at_ms >= SHOWN_FOR_MS


async def _make(
    db: AsyncConnection, question: Question, held: dict[str, Request], standing: Standing, now_ms: int
) -> None:
    missing = [action for action in question.actions if action.binding not in held]
    if not missing:
        return
    caller, channel, ask = question.caller, question.channel, question.ask
    await check_room(db, caller.sub, channel.server, len(missing), now_ms)
    ids = new_ids(len(missing), now_ms)
    batch = await store.recent_batch(db, caller.sub, channel.server, now_ms - TOGETHER_MS) or ids[0]
    for id_, action in zip(ids, missing, strict=True):
        request = Request(
            id=id_,
            batch=batch,
            kind=ask.kind,
            state=State.REQUESTED,
            binding=action.binding,
            person=caller.sub,
            person_name=caller.email or "",
            server=channel.server,
            release=channel.release,
            tool=ask.tool,
            policy=ask.policy,
            policy_version=ask.policy_version,
            arguments=action.arguments,
            arguments_digest=action.digest,
            preview=action.preview,
            requirement=ask.requirement,
            surface=caller.surface,
            client=caller.client_id,
            act=caller.act or "",
            requested_at_ms=now_ms,
            expires_at_ms=now_ms + ask.requirement.expires_s * 1000,
            shown_digest=action.shown,
            shown_at_ms=now_ms,
        )
        await store.add(db, request, ask.request_id, Step(now_ms, "server", caller.sub, caller.email or ""))
        held[action.binding] = request
        standing.made.append(request)


async def check_room(db: AsyncConnection, person: str, server: str, more: int, now_ms: int) -> None:
    """Refuse what would flood who decides.

    Raises:
        ApprovalRefused: somebody has too many requests that wait, or made too many lately.
    """
    waiting = await store.count_open(db, person)
    if waiting.get(server, 0) + more > MOST_OPEN_ON_SERVER or sum(waiting.values()) + more > MOST_OPEN:
        message = (
            f"So many requests of yours wait for people that no more are taken: {MOST_OPEN_ON_SERVER} on one server, "
            f"{MOST_OPEN} in all."
        )
        raise ApprovalRefused("too_many", "actions", message, "Withdraw what is not needed, or wait for the answers.")
    made = await store.count_since(db, person, now_ms - 3600 * 1000)
    if made.get(server, 0) + more > MOST_AN_HOUR_ON_SERVER or sum(made.values()) + more > MOST_AN_HOUR:
        message = (
            f"So many requests of yours were made within an hour that no more are taken: {MOST_AN_HOUR_ON_SERVER} on "
            f"one server, {MOST_AN_HOUR} in all."
        )
        raise ApprovalRefused("too_many", "actions", message, "Wait before you ask for more.")


def new_ids(count: int, now_ms: int) -> list[str]:
    """Ids in the order of time, and of their place in a batch; nobody can guess one."""
    return [f"{now_ms:012x}{place:04x}{secrets.token_hex(8)}" for place in range(count)]


async def _confirmed(db: AsyncConnection, question: Question, standing: Standing, now_ms: int) -> None:
    """Take the yes of the caller's form, for what it was asked about alone.

    It counts for requests that were there before and still wait, never for one that this question makes: so an answer
    that comes twice, or a sealed state that is replayed, counts once.
    """
    if question.ask.answered != "yes":
        return
    name = question.caller.email or question.caller.sub
    yes: dict[str, Any] = {"decided_at_ms": now_ms, "decided_by": question.caller.sub, "decided_by_name": name}
    step = Step(now_ms, "form", question.caller.sub, name)
    made = {request.id for request in standing.made}
    for request in list(standing.requests):
        if request.id in question.ask.about and request.id not in made and request.state is State.REQUESTED:
            await store.move(db, [request], request.state, State.APPROVED, step, **yes)
            standing.put(replace(request, state=State.APPROVED, **yes))


async def _decline(db: AsyncConnection, question: Question, now_ms: int) -> Standing:
    """Take back what the caller's client was asked about and said no to; nothing is made or claimed for it."""
    caller, about = question.caller, question.ask.about
    found = await store.newest(db, question.bindings)
    standing = Standing([found[key] for key in question.bindings if key in found])
    step = Step(now_ms, "form", caller.sub, caller.email or caller.sub, DECLINED)
    no: dict[str, Any] = {"ended_at_ms": now_ms, "why": DECLINED}
    for request in list(standing.requests):
        if request.id in about and request.state in OPEN:
            await store.move(db, [request], request.state, State.WITHDRAWN, step, held=None, **no)
            standing.put(replace(request, state=State.WITHDRAWN, **no))
    return standing


async def _claim(db: AsyncConnection, question: Question, standing: Standing, now_ms: int) -> None:
    """Claim what may be claimed for this call: it is durable before the server hears of it.

    A call whose end the ledger has already claims nothing: its server gave up waiting, and nothing would run. Neither
    does one that somebody approved who is stopped now: their yes is taken back at the next look after what time does.
    """
    claimable, stopped = standing.claimable(), question.stopped()
    caller, ask = question.caller, question.ask
    if not claimable or any(request.decided_by in stopped for request in claimable):
        return
    if await store.is_told_of(db, question.channel.server, ask.call_id):
        return
    values: dict[str, Any] = {"claimed_at_ms": now_ms, "call_id": ask.call_id}
    step = Step(now_ms, "server", caller.sub, caller.email or "", f"call {ask.call_id}")
    await store.move(db, claimable, State.APPROVED, State.CLAIMED, step, process=ask.process, **values)
    for request in claimable:
        standing.put(replace(request, state=State.CLAIMED, **values))
    standing.claimed = True


def check(ask: Ask) -> None:
    """Refuse a question that makes no sense.

    Raises:
        ApprovalRefused: a name has characters that do not show or is none, a confirmation is somebody else's, or an
            approval was answered in a form.
    """
    for name, value in (
        ("tool", ask.tool),
        ("policy", ask.policy),
        ("policy_version", ask.policy_version),
        ("call_id", ask.call_id),
        ("process", ask.process),
        ("request_id", ask.request_id),
        ("requirement.by", ask.requirement.by),
    ):
        if not value.isprintable():
            raise ApprovalRefused("invalid", name, f"{name} has characters that do not show.", "Leave them out.")
    # These two stand in sentences of ours and leave with messages: a server's own text has no place there.
    for name, value, pattern in (
        ("tool", ask.tool, TOOL_PATTERN),
        ("requirement.by", ask.requirement.by, NAME_PATTERN),
    ):
        if not re.fullmatch(pattern, value):
            raise ApprovalRefused("invalid", name, f"{name} is not a name.", "Write it as the release declares it.")
    if ask.kind == "confirm" and ask.requirement.by != CALLER:
        message = "Only the caller confirms their own call."
        raise ApprovalRefused("invalid", "requirement.by", message, "Ask for an approval where others decide.")
    if ask.kind == "approval" and ask.answered == "yes":
        message = "An approval is given in a browser, never in a client’s form."
        raise ApprovalRefused("invalid", "answered", message, "Leave it out, and show the page.")
