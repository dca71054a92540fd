"""Questions about access: who may ask them, whose call they are about, and what the core's decide function says.

Explain, the access check and the page behind them are three forms of one question and get one answer from here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pegboard.core.caller import Caller
from pegboard.core.decide import Decision
from pegboard.core.names import ACTING_SURFACES, PERSON_SURFACES, SERVICE, ServerName
from pegboard.core.refusal import Refusal
from pegboard.core.scopes import SCOPE_TOOLS, SCOPE_TOOLS_READ
from pegboard.core.spiffe import is_spiffe_id
from pegboard.core.stops import Stops
from pegboard.core.text import sentence
from pegboard_hub.common.requests import Refused
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.registry.explain import explain
from pegboard_hub.registry.model import RegisteredServer
from pegboard_hub.registry.visibility import insider, is_person
from pegboard_hub.stopping.service import Who
from pegboard_hub.web.parts import Parts

MOST_ARGUMENTS = 16 * 1024
"""Characters of the arguments in a question, as JSON: policies look at short ones, and a page has them in its URL."""

LONGEST = 255
"""Characters of a name in a question."""

LONGEST_TOOL = 255

_SCOPE = re.compile(r"(?:[!#-\[\]-~]+(?: [!#-\[\]-~]+)*)?")
"""RFC 6749 §3.3; an empty one is asked about too."""


class Unanswerable(Refused):
    """A question that gets no answer, with the field that is to blame."""

    def __init__(self, field: str, status: int, code: str, message: str, what_to_do: str) -> None:
        self.field = field
        super().__init__(status, Refusal(code, message, "hub", code, what_to_do))

    def named(self, place: str = "") -> Refused:
        """The same refusal, saying where in the request the field is. `place` ends in a full stop, or is empty."""
        refusal = self.refusal
        message = f"{place}{self.field}: {refusal.message}"
        return Unanswerable(self.field, self.status, refusal.code, message, refusal.what_to_do)


@dataclass(frozen=True, slots=True)
class Question:
    """May this caller use this server, or this tool of it?

    Attributes:
        person: whose call it would be; without person and service, the asker's own.
        service: SPIFFE ID of the service whose call it would be.
        surface: where it would come from; without it, from where the asker asks.
        arguments: the call's; None leaves open what depends on them.
        scope: of the token that it would come with; without it, one that may call any tool.
    """

    server: str
    tool: str | None = None
    person: str | None = None
    service: str | None = None
    surface: str | None = None
    channel: str | None = None
    arguments: Mapping[str, Any] | None = None
    scope: str | None = None


class Answer(NamedTuple):
    """What a question was about, and the decision, already veiled for an asker who may not know."""

    subject: Caller
    server: RegisteredServer
    decision: Decision


async def answer(parts: Parts, asker: Caller, question: Question) -> Answer:
    """Answer one question of one asker.

    Raises:
        Unanswerable: it makes no sense, or the asker may not ask it.
    """
    if question.person is not None and question.service is not None:
        raise _invalid("service", "It names a person and a service.", "Ask about one of them.")
    if question.arguments is not None and question.tool is None:
        raise _invalid("arguments", "They need a tool.", "Name the tool that they are for.")
    server = find_server(parts, question.server)
    knows = insider(asker, server)
    if not knows and not _is_own(asker, question):
        raise _not_yours(server, "person" if question.service is None else "service")
    subject = await _subject(parts, asker, question)
    scope = SCOPE_TOOLS if question.scope is None else question.scope
    if not _SCOPE.fullmatch(scope):
        raise _invalid(
            "scope", "It is not a scope.", f"Write it as {SCOPE_TOOLS_READ}, more than one with a space between."
        )
    decision = explain(
        subject,
        server,
        question.tool,
        parts.public_url,
        insider=knows,
        arguments=question.arguments,
        scope=scope,
        stops=_stops_told(parts, asker, subject),
        rules=parts.rules.current.of(server.name),
    )
    return Answer(subject, server, decision)


def _stops_told(parts: Parts, asker: Caller, subject: Caller) -> Stops:
    """The stops of callers, as one who asks may know them: of others that they are, and not why."""
    own = (asker.sub_type, asker.sub) == (subject.sub_type, subject.sub)
    governs = is_person(asker) and parts.stopping.governs(Who.person(asker.sub, asker.groups))
    return parts.stops.current if own or governs else parts.stops.current.veiled(WHY_FOR_THEM)


WHY_FOR_THEM = "why is for them and for operators"


def read_arguments(text: str) -> dict[str, Any]:
    """The arguments of a call, written as JSON. What no call could carry past both layers is refused here too.

    Raises:
        Unanswerable: it is not one JSON object, names a key twice, or is too long.
    """
    if len(text) > MOST_ARGUMENTS:
        raise _invalid("arguments", f"They are longer than {MOST_ARGUMENTS} characters.", "Ask with shorter ones.")
    try:
        value = strict_json(text)
    except ValueError as error:
        problem = f"They are not a JSON object: {error}."
        raise _invalid("arguments", problem, 'Write them as {"name": value}.') from error
    if not isinstance(value, dict):
        raise _invalid("arguments", "They are not a JSON object.", 'Write them as {"name": value}.')
    return value


def strict_json(text: str | bytes) -> Any:
    """JSON that can be read in one way only, as the layers want it of a call (`pegboard.call.agree`).

    Raises:
        ValueError: it cannot; the message says why and quotes nothing.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from error
    except UnicodeError as error:
        raise ValueError("it is not Unicode") from error
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    """A number that can be written as JSON again: 1e400 reads as infinite."""
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def find_server(parts: Parts, name: str) -> RegisteredServer:
    """The deployed server of that name.

    Raises:
        Unanswerable: the name has another form, or nobody has it.
    """
    try:
        found = parts.registry.current.deployed(str(ServerName.parse(name)))
    except ValueError as error:
        raise _invalid("server", f"{error}.", "Name it as NAMESPACE/NAME.") from error
    if found is None:
        what_to_do = "List the servers you may use, or ask the platform team to register it."
        message = f"No server {name} is registered and deployed here."
        raise Unanswerable("server", 404, "unknown_server", message, what_to_do)
    return found


def _is_own(asker: Caller, question: Question) -> bool:
    """Whether the question is about the asker. A person and a service of one name are two."""
    asked = ("service", question.service) if question.service is not None else ("person", question.person)
    return asked in ((asker.sub_type, asker.sub), ("person", None))


async def _subject(parts: Parts, asker: Caller, question: Question) -> Caller:
    """Whose call is decided on: the asker's own as it is, one of the directory's people's, or a service's."""
    if question.service is not None:
        return _service(question.service, question)
    if asker.sub_type == "service" and question.person is None:
        return _service(asker.sub, question)
    if question.surface is None and question.channel is None and question.person in (None, asker.sub):
        return asker
    person = asker.sub if question.person is None else question.person
    surface = asker.surface if question.surface is None else question.surface
    demo = parts.identity.demo
    if demo is None:
        return await _signed_in(parts, asker, person, surface, question.channel)
    try:
        return demo.caller(person, surface, question.channel)
    except OAuthRefused as error:
        description = sentence(error.description)
        if person not in demo.directory.people:
            raise Unanswerable("person", 404, "unknown_person", description, "Use one of the known ones.") from error
        field = "channel" if surface in demo.directory.surfaces else "surface"
        raise _invalid(field, description, "Use one of the known ones.") from error


async def _signed_in(parts: Parts, asker: Caller, person: str, surface: str, channel: str | None) -> Caller:
    """The asker on another surface, or somebody else as the company's login told of them when they signed in."""
    if surface not in PERSON_SURFACES:
        raise _invalid("surface", f"Unknown surface; known are {', '.join(PERSON_SURFACES)}.", "Use one of those.")
    if channel is not None and surface != "bot":
        raise _invalid("channel", "Only a bot is in a channel.", "Leave it out, or ask for the surface bot.")
    subject = asker
    if person != asker.sub:
        sessions = await parts.identity.sessions.of(person)
        if not sessions:
            message = f"{person[:64]} is not signed in, and the login tells of nobody else’s groups."
            raise Unanswerable("person", 404, "unknown_person", message, "Have them sign in, or look themselves.")
        facts = max(sessions, key=lambda session: session.facts_at_ms).facts
        subject = replace(asker, sub=facts.sub, groups=facts.groups, email=facts.email)
    return replace(subject, surface=surface, channel=channel, act=SOMEBODY if surface in ACTING_SURFACES else None)


SOMEBODY = "a registered surface"
"""Who acts for a person in a call that nobody has made."""


def _service(service: str, question: Question) -> Caller:
    """A service as a token would state it: in no group, on the surface of services, in no channel."""
    if not is_spiffe_id(service):
        raise _invalid("service", "It is not a SPIFFE ID.", "Write it as spiffe://example.org/reporting.")
    if question.surface not in (None, SERVICE):
        raise _invalid("surface", "A service calls from service alone.", "Leave it out.")
    if question.channel is not None:
        raise _invalid("channel", "A service is in no channel.", "Leave it out.")
    return Caller(
        sub=service,
        sub_type="service",
        groups=(),
        surface=SERVICE,
        client_id=service,
        audience="",
        expires_at=0,
        token_id="",
    )


def _invalid(field: str, message: str, what_to_do: str) -> Unanswerable:
    return Unanswerable(field, 422, "invalid_request", message, what_to_do)


def _not_yours(server: RegisteredServer, field: str) -> Unanswerable:
    access = server.bundled()
    ask = f"Ask {access.owner} in {access.support_channel}, or somebody in security."
    whose = "Another person's" if field == "person" else "A service's"
    message = f"{whose} access to {server.name} is for its owners and security to look at. {ask}"
    return Unanswerable(field, 403, "not_owner", message, ask)
