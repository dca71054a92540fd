"""The page that explains: a call walked through every layer, and at its top what would come of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from pegboard.core.caller import Caller
from pegboard.core.decide import Decision
from pegboard.core.names import PERSON_SURFACES
from pegboard.core.refusal import Refusal
from pegboard.core.text import sentence
from pegboard_hub.registry.approving import APPROVAL
from pegboard_hub.registry.explain import visible_tools
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.out_of_reach import out_of_reach
from pegboard_hub.registry.releases import outcomes
from pegboard_hub.registry.visibility import insider
from pegboard_hub.registry.walk import Outcome, Step, walk
from pegboard_hub.web.knowing import known, knows
from pegboard_hub.web.pages.frame import Frame, Framer, Viewer, with_query
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.questions import LONGEST, Answer, Question, Unanswerable, answer, read_arguments

PATH = "/explain"
MOST_EXAMPLES = 3
MOST_OFFERED = 500
"""Names that one field offers; any other can be typed."""

FIELDS = {
    "server": "server",
    "tool": "tool",
    "person": "person",
    "surface": "on",
    "channel": "channel",
    "arguments": "arguments",
}
"""The question's fields, and what each is called in the page's address: `surface` there is where the viewer is."""

TITLES = {
    "route": "The address leads to a server",
    "token": "The token is good",
    "audience": "The token is for this server",
    "scope": "The token may be used at servers",
    "surface": "The surface is granted",
    "channel": "The channel is granted",
    "group": "A group, or the service, is granted",
    "surface-stop": "The surface is not stopped",
    "client-stop": "The client is not stopped",
    "person-stop": "The person is not stopped",
    "service-stop": "The service is not stopped",
    "rule": "No coarse rule refuses it",
    "stop": "The server is not stopped",
    "method": "No coarse rule refuses tools/call",
    "server": "The server runs",
    "gate": "The server checks all that again",
    "tool": "The tool is there",
    "policy:list": "Its policy lets the tool be seen",
    "tool:stop": "The tool is not stopped",
    "tool:scope": "The token may do what the tool does",
    "policy:call": "Its policy lets it be called like this",
    "tool:approval": "A person has said yes",
}
"""What each step asks, in words; one without words goes by its name."""


class Stage(NamedTuple):
    """The steps of the walk that one part of the way looks at."""

    title: str
    about: str
    steps: tuple[Step, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of its steps, but that a token must come with a call: `word` says that."""
        found = [step.outcome for step in self.steps if not self._needs_token(step)]
        return next((outcome for outcome in _WORST_FIRST if outcome in found), "holds")

    @property
    def word(self) -> str:
        """The outcome as it is read."""
        if self.outcome == "holds" and any(map(self._needs_token, self.steps)):
            return "holds, with a good token"
        return self.outcome

    @staticmethod
    def _needs_token(step: Step) -> bool:
        return step.rule == "token" and step.outcome == "depends"


_WORST_FIRST: tuple[Outcome, ...] = ("fails", "not reached", "depends")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What would come of the call.

    Attributes:
        kind: for its looks; the words say it too.
        sentence: the verdict.
        more: what it rests on, or what to do; empty where there is nothing to say.
        refusal: what the caller would read; None where nothing refuses.
    """

    kind: str
    sentence: str
    more: str = ""
    refusal: Refusal | None = None


class Offer(NamedTuple):
    """A value that a field offers, and a word on it."""

    value: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class ExplainView:
    """A question and its answer.

    Attributes:
        asked: what the form says, by field.
        problems: what is wrong with it, by field.
        offers: what fields offer, by field; of tools only those that the asker may know.
        what: the call in words; empty without an answer.
        verdict: None without an answer.
        stages: the walk, by parts of the way.
        command: what asks the same in a terminal; empty without an answer.
        examples: questions to begin with, as words and address.
        kept: what keeps the question when the viewer changes.
        status: of the page's answer.
    """

    asked: Mapping[str, str]
    problems: Mapping[str, str]
    offers: Mapping[str, tuple[Offer, ...]]
    what: str = ""
    verdict: Verdict | None = None
    stages: tuple[Stage, ...] = ()
    command: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    kept: tuple[tuple[str, str], ...] = ()
    status: int = 200
    titles: Mapping[str, str] = field(default_factory=lambda: TITLES)


def add_explain_routes(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the route of the page."""

    @router.get(PATH)
    async def explained(request: Request) -> HTMLResponse:
        frame = framer.frame(request, PATH)
        view = await explain_view(parts, frame, request.query_params)
        return framer.answer("explain.html", frame, view, view.status)


async def explain_view(parts: Parts, frame: Frame, query: Mapping[str, str]) -> ExplainView:
    """What the page shows to the viewer; nothing is answered to nobody."""
    asked = {name: query.get(key, "").strip() for name, key in FIELDS.items()}
    kept = tuple((FIELDS[name], value) for name, value in asked.items() if value)
    viewer = frame.viewer
    if viewer is None:
        return ExplainView(asked, {}, {}, kept=kept)
    offers = _offers(parts, viewer.caller, asked["server"])
    if not kept:
        return ExplainView(asked, {}, offers, examples=tuple(_examples(parts, viewer)))
    question, problems = _read(asked)
    status = 422
    if question is not None:
        try:
            found = await answer(parts, viewer.caller, question)
        except Unanswerable as error:
            said = await _why_out_of_reach(parts, viewer.caller, asked["server"], error)
            problems, status = {error.field: said} | problems, error.status
    if problems:
        return ExplainView(asked, problems, offers, kept=kept, status=status)
    view = ExplainView(asked, {}, offers, command=_command(asked, viewer), kept=kept)
    return _answered(parts, view, found)


async def _why_out_of_reach(parts: Parts, asker: Caller, name: str, error: Unanswerable) -> str:
    """What the page says of a question without an answer: of a server that the asker may know of, why it has none."""
    found = parts.registry.current.servers.get(name)
    if error.refusal.code != "unknown_server" or found is None or not knows(parts, asker, found):
        return error.refusal.message
    async with parts.database.read() as connection:
        reviews = await outcomes(connection, name)
    ask = f" Ask {found.owner} in {found.support_channel}." if found.owner and found.support_channel else ""
    return f"{name} is {out_of_reach(found, reviews, parts.public_url)}.{ask}"


def _read(asked: Mapping[str, str]) -> tuple[Question | None, dict[str, str]]:
    """The question that the form asks, as far as it can be read, and what is wrong with it, by field."""
    too_long = [name for name, value in asked.items() if len(value) > LONGEST and name != "arguments"]
    problems = dict.fromkeys(too_long, f"It is longer than {LONGEST} characters.")
    given = None
    try:
        given = read_arguments(asked["arguments"]) if asked["arguments"] else None
    except Unanswerable as error:
        problems[error.field] = error.refusal.message
    if not asked["server"]:
        problems["server"] = "Choose a server."
    if "server" in problems:
        return None, problems
    names = {name: value for name, value in asked.items() if value and name not in ("arguments", *problems)}
    return Question(**names, arguments=given), problems


def _answered(parts: Parts, view: ExplainView, found: Answer) -> ExplainView:
    subject, server, decision = found
    tool = view.asked["tool"] or None
    state, url = parts.status.read().state(server), server.name.resource_url(parts.public_url)
    steps = walk(decision, server, tool, state, url)
    return replace(
        view,
        what=_what(subject, server, tool),
        verdict=_verdict(decision, steps),
        stages=tuple(_stages(server, tool, steps)),
    )


def _what(subject: Caller, server: RegisteredServer, tool: str | None) -> str:
    where = f"{subject.surface} in {subject.channel}" if subject.channel else subject.surface
    return f"{subject.sub} from {where} → {server.name} {tool or ''}".strip()


def _command(asked: Mapping[str, str], viewer: Viewer) -> str:
    words = ["pegboard", "explain"]
    for option, value in (
        ("--server", asked["server"]),
        ("--tool", asked["tool"]),
        ("--person", asked["person"]),
        ("--json-args", asked["arguments"]),
        ("--as", viewer.sub),
        ("--surface", asked["surface"] or viewer.caller.surface),
        ("--channel", asked["channel"]),
    ):
        words += [option, value] if value else []
    return shlex.join(words)


def _verdict(decision: Decision, steps: list[Step]) -> Verdict:
    if refusal := decision.refusal:
        return Verdict("denied", f"Refused by the {refusal.layer}.", refusal=refusal)
    failing = next((step for step in steps if step.outcome == "fails"), None)
    if failing:
        return Verdict("open", "No rule refuses it, but it would fail now.", f"{failing.fact}. {failing.ask}")
    if decision.depends_on:
        names = " and ".join(decision.depends_on)
        return Verdict("open", "Allowed, if its arguments are.", f"Give {names} above to know.")
    waits = next((step for step in steps if step.rule == APPROVAL and step.outcome == "depends"), None)
    if waits:
        return Verdict("open", "Allowed, once it is approved.", sentence(waits.fact))
    return Verdict("allowed", "Allowed: no rule refuses it.")


def _stages(server: RegisteredServer, tool: str | None, steps: list[Step]) -> Iterator[Stage]:
    of_tool = tuple(step for step in steps if step.rule.startswith(("tool", "policy:")))
    for layer, title, about in _LAYERS:
        yield Stage(title, about, tuple(step for step in steps if step.layer == layer and step not in of_tool))
    if tool is not None:
        about = f"Decides by the policies of {server.name}’s release, at every list and call."
        yield Stage(f"The tool {tool}", about, of_tool)


_LAYERS = (
    ("edge", "Layer 1: the edge", "Envoy, before the server hears of the call. Decides by what was granted."),
    ("server", "Layer 2: the server", "The server itself, which does not trust the edge."),
)


def _offers(parts: Parts, asker: Caller, server: str) -> dict[str, tuple[Offer, ...]]:
    """What the fields offer. Servers are no secret here; tools are."""
    demo, deployed = parts.identity.demo, parts.registry.current.all_deployed
    asked_about = [each for each in deployed if str(each.name) == server]
    people = demo.directory.people if demo else {}
    clients = demo.directory.clients.values() if demo else ()
    channels = sorted({channel for client in clients for channel in client.channels})
    return {
        # Of one that nobody can call the answer says why.
        "server": tuple(Offer(str(each.name)) for each in islice(known(parts, asker), MOST_OFFERED)),
        "tool": tuple(_tools(parts, asker, asked_about or deployed))[:MOST_OFFERED],
        "person": tuple(Offer(sub, person.name) for sub, person in people.items())[:MOST_OFFERED],
        "surface": tuple(Offer(surface) for surface in (demo.directory.surfaces if demo else PERSON_SURFACES)),
        "channel": tuple(Offer(channel) for channel in channels),
    }


def _tools(parts: Parts, asker: Caller, servers: list[RegisteredServer]) -> Iterator[Offer]:
    for server in servers:
        if server.release is not None:
            knows = insider(asker, server)
            told = server.release.tools if knows else visible_tools(asker, server, parts.public_url)
            yield from (Offer(tool.name, str(server.name)) for tool in told)


def _examples(parts: Parts, viewer: Viewer) -> Iterator[tuple[str, str]]:
    for server in parts.registry.current.all_deployed[:MOST_EXAMPLES]:
        words = f"May {viewer.name} use {server.name} from {viewer.caller.surface}?"
        yield words, with_query(PATH, [*viewer.query, ("server", str(server.name))])
