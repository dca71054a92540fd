"""Fixed limits that an operator meets, each read from the constant that holds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from typing import Any, NamedTuple

from docs.generate.markdown import code, table
from pegboard_hub.common.settings import HubSettings
from pegboard_hub.runtime.processes import Timing


class Limit(NamedTuple):
    """One limit: what it bounds, and `module:NAME` of its constant, in the unit that its value has."""

    what: str
    place: str
    unit: str


LIMITS: dict[str, tuple[Limit, ...]] = {
    "Requests": (
        Limit("body of a request to a server, at the edge", "pegboard_hub.edge.filters:MAX_BODY_BYTES", "bytes"),
        Limit("body of a request, at the server", "pegboard.transport.http:MAX_BODY_BYTES", "bytes"),
        Limit("silence of a call or a stream, then it ends", "pegboard_hub.edge.snapshot:IDLE_S", "s"),
        Limit("the head of a request, and a connection's handshake", "pegboard_hub.edge.snapshot:HEAD_S", "s"),
        Limit("a whole request, from its first byte to its last", "pegboard_hub.edge.snapshot:REQUEST_S", "s"),
        Limit("a connection without a request", "pegboard_hub.edge.snapshot:UNUSED_S", "s"),
        Limit("calls under way when the edge is ended", "pegboard_hub.edge.command:DRAIN_S", "s"),
        Limit("callers' connections at the edge", "pegboard_hub.edge.config:MOST_CONNECTIONS", ""),
        Limit("one may be unused where nearly all are taken", "pegboard_hub.edge.config:UNUSED_S", "s"),
        Limit("requests at once in one HTTP/2 connection", "pegboard_hub.edge.listener:MOST_STREAMS", ""),
        Limit("the head of a request", "pegboard_hub.edge.listener:MOST_HEADER_KB", "KiB"),
        Limit("header fields of a request", "pegboard_hub.edge.listener:MOST_HEADERS", ""),
        Limit("memory of the edge", "pegboard_hub.edge.config:MOST_MEMORY", "bytes"),
        Limit("people, addresses or servers with a bucket of their own", "pegboard_hub.edge.rates:MOST_BUCKETS", ""),
        Limit(
            "refusals of a kind that the ledger is told of one second", "pegboard_hub.edge.delivery:MOST_A_SECOND", ""
        ),
        Limit("edges that join an instance", "pegboard_hub.edges.service:MOST_EDGES", ""),
        Limit("a joined edge is not heard of, then it is away", "pegboard_hub.edges.service:AWAY_S", "s"),
        Limit("legacy sessions of one server", "pegboard.transport.sessions:MAX_SESSIONS", ""),
        Limit(
            "legacy sessions of one caller and surface there", "pegboard.transport.sessions:MAX_SESSIONS_OF_ONE", ""
        ),
        Limit("an unused legacy session, then it ends", "pegboard.transport.sessions:SESSION_IDLE_S", "s"),
        Limit("a token request", "pegboard_hub.identity.oauth.forms:FORM_LIMIT", "bytes"),
        Limit("the reason of a stop", "pegboard.core.stops:LONGEST_WHY", "characters"),
        Limit("coarse rules", "pegboard.core.coarse:MOST_RULES", ""),
        Limit("coarse rules that can be about one server", "pegboard.core.coarse:MOST_FOR_ONE", ""),
        Limit("coarse rules that limit", "pegboard.core.coarse:MOST_LIMITS", ""),
        Limit("a file of coarse rules", "pegboard.core.coarse:MOST_BYTES", "bytes"),
        Limit("a body of the API, but of the access check", "pegboard_hub.web.api.bodies:BODY_LIMIT", "bytes"),
        Limit("entries on a page of a list of the API", "pegboard_hub.web.paging:MOST_ON_A_PAGE", ""),
        Limit("drafts of one team", "pegboard_hub.registry.changes:MOST_DRAFTS", ""),
        Limit("arguments in a question to `explain`", "pegboard_hub.web.questions:MOST_ARGUMENTS", "characters"),
    ),
    "Declarations": (
        Limit("a declaration as a whole", "pegboard.core.declared:MOST_BYTES", "bytes"),
        Limit("tools of one server", "pegboard.core.declared:MOST_TOOLS", ""),
        Limit("the title of a server or a tool", "pegboard.core.declared:LONGEST_TITLE", "characters"),
        Limit("the description of a tool", "pegboard.core.declared:LONGEST_DESCRIPTION", "characters"),
        Limit("a tool's schema", "pegboard.core.schemas:MOST_BYTES", "bytes"),
        Limit("properties in one schema", "pegboard.core.schemas:MOST_PROPERTIES", ""),
        Limit("objects and lists inside one another in a schema", "pegboard.core.schemas:DEEPEST", ""),
        Limit("subschemas once every $ref is followed", "pegboard.core.schemas:MOST_FOLLOWED", ""),
    ),
    "Reviews": (
        Limit("comments on one review", "pegboard_hub.registry.reviews.talking:MOST_COMMENTS", ""),
        Limit("cases that one answer on who would gain what decides", "pegboard_hub.registry.impact:MOST_CASES", ""),
        Limit("since a person signed in, to decide", "pegboard_hub.web.pages.recent:RECENT_S", "s"),
        Limit(
            "values of one kind of access that are asked for", "pegboard_hub.registry.reviews.texts:MOST_VALUES", ""
        ),
        Limit("a comment, a condition or a reason", "pegboard_hub.registry.reviews.texts:LONGEST_TEXT", "characters"),
    ),
    "Codes to type": (
        Limit("codes that wait at once", "pegboard_hub.identity.connections.devices:MOST_WAITING", ""),
        Limit("of them, of one client", "pegboard_hub.identity.connections.devices:MOST_OF_CLIENT", ""),
        Limit("of them, asked for from one address", "pegboard_hub.identity.connections.devices:MOST_OF_ADDRESS", ""),
        Limit(
            "codes that one person mistypes, then must wait",
            "pegboard_hub.identity.connections.devices:MOST_GUESSES",
            "",
        ),
        Limit("how long those count", "pegboard_hub.identity.connections.devices:GUESSES_IN_S", "s"),
    ),
    "Ages": (
        Limit("a token", "pegboard.core.token:MAX_LIFETIME_S", "s"),
        Limit("clock skew allowed, at both layers", "pegboard.core.token:CLOCK_SKEW_S", "s"),
        Limit(
            "a bundle that the hub does not renew, then every call is refused", "pegboard.core.bundle:MAX_AGE_S", "s"
        ),
        Limit(
            "a bundle that the hub does not renew, then servers with confidential or restricted data refuse",
            "pegboard.core.bundle:STOPS_MAX_AGE_S",
            "s",
        ),
        Limit(
            "a code to type for a program without a browser",
            "pegboard_hub.identity.connections.devices:LIFETIME_S",
            "s",
        ),
        Limit("the calls under way at a server that is withdrawn", "pegboard_hub.runtime.servers:DRAIN_S", "s"),
        Limit("a rotation of keys, then `doctor` warns", "pegboard_hub.upkeep.checks.trust:ROTATED_S", "s"),
        Limit("a call without an outcome that counts as running", "pegboard_hub.ledger.service:RUNNING_FOR_MS", "ms"),
        Limit("an unreadable record among the problems", "pegboard_hub.ledger.service:PROBLEM_FOR_MS", "ms"),
    ),
    "Clients": (
        Limit(
            "unknown clients that may make themselves known in a minute",
            "pegboard_hub.identity.clients.service:NEW_PER_MINUTE",
            "",
        ),
        Limit(
            "clients kept that nobody used, then the oldest makes room",
            "pegboard_hub.identity.clients.service:MOST_UNUSED",
            "",
        ),
        Limit(
            "a client that nobody uses, then it is forgotten",
            "pegboard_hub.identity.clients.service:FORGOTTEN_AFTER_MS",
            "ms",
        ),
        Limit("a registration", "pegboard_hub.identity.oauth.register:REGISTRATION_LIMIT", "bytes"),
        Limit("redirect URIs of one client", "pegboard_hub.identity.clients.redirects:MOST", ""),
        Limit("one redirect URI", "pegboard_hub.identity.clients.redirects:LONGEST", "characters"),
        Limit("a client's document", "pegboard_hub.identity.clients.fetching:MOST_BYTES", "bytes"),
        Limit("fetching a document", "pegboard_hub.identity.clients.fetching:FETCH_S", "s"),
        Limit(
            "a document is used at least, whatever its headers say",
            "pegboard_hub.identity.clients.documents:SHORTEST_S",
            "s",
        ),
        Limit(
            "a document is used at most, also while its address does not answer",
            "pegboard_hub.identity.clients.documents:LONGEST_S",
            "s",
        ),
        Limit("unknown documents fetched in a minute", "pegboard_hub.identity.clients.documents:PER_MINUTE", ""),
        Limit("and of one host", "pegboard_hub.identity.clients.documents:PER_HOST_AND_MINUTE", ""),
    ),
    "Records": (
        Limit("one record", "pegboard.remote.spool:RECORD_BYTES", "bytes"),
        Limit("records of one delivery", "pegboard.remote.spool:BATCH_RECORDS", ""),
        Limit("one delivery, as a server sends it", "pegboard.remote.spool:BATCH_BYTES", "bytes"),
        Limit("one delivery, as the hub takes it", "pegboard_hub.ledger.api:BODY_LIMIT", "bytes"),
        Limit("pause between two deliveries while the hub is away", "pegboard.remote.delivery:LONGEST_WAIT_S", "s"),
        Limit("the edge's access log is written at least every", "pegboard_hub.edge.command:FLUSH_MS", "ms"),
        Limit("unreadable records kept for a server", "pegboard_hub.ledger.store:REJECTED_KEPT", ""),
        Limit("minutes that one call can save", "pegboard_hub.ledger.model:MOST_MINUTES", "minutes"),
    ),
    "What authors submit": (
        Limit("records that a server delivers in an hour", "pegboard_hub.ledger.pace:AN_HOUR", "bytes"),
        Limit("an archive", "pegboard.core.publishing:LARGEST_SOURCE", "bytes"),
        Limit("what it unfolds to", "pegboard.core.archive:MOST_UNPACKED", "bytes"),
        Limit("its files", "pegboard.core.archive:MOST_FILES", ""),
        Limit("one file that a builder makes", "pegboard_hub.publishing.artifacts:LARGEST", "bytes"),
        Limit("archives that are received at once", "pegboard_hub.publishing.submitting:RECEIVED_AT_ONCE", ""),
        Limit(
            "of one person or service; what else they send waits",
            "pegboard_hub.publishing.submitting:SENT_AT_ONCE",
            "",
        ),
        Limit("that they may have on their way at once", "pegboard_hub.publishing.submitting:MOST_SENT", ""),
        Limit("an archive must have come within", "pegboard_hub.publishing.submitting:RECEIVED_S", "s"),
        Limit("reading or checking one: processor", "pegboard_hub.publishing.reader:CPU_S", "s"),
        Limit("reading or checking one: memory", "pegboard_hub.publishing.reader:MEMORY", "bytes"),
        Limit("reading or checking one: in all", "pegboard_hub.publishing.reading:DEADLINE_S", "s"),
        Limit("reading its policies: processor", "pegboard_hub.publishing.examining:MOST_POLICIES_S", "s"),
        Limit("a build is given out so often", "pegboard_hub.publishing.building:MOST_ATTEMPTS", ""),
        Limit(
            "releases of a server that are kept, whatever became of them",
            "pegboard_hub.publishing.sweeping:KEPT_OF_A_SERVER",
            "",
        ),
        Limit("bytes of what is over are kept for", "pegboard_hub.publishing.sweeping:KEPT_MS", "ms"),
    ),
    "Notifications": (
        Limit("destinations", "pegboard_hub.notify.settings:MOST_DESTINATIONS", ""),
        Limit("one attempt", "pegboard_hub.notify.sending:WHOLE_S", "s"),
        Limit("a message is tried for", "pegboard_hub.notify.service:GIVE_UP_S", "s"),
        Limit("messages that wait for one destination", "pegboard_hub.notify.service:MOST_WAITING", ""),
        Limit("requests that one message names", "pegboard_hub.notify.message:MOST_NAMED", ""),
        Limit("messages that were given up are counted for", "pegboard_hub.notify.service:GIVEN_UP_KEPT_S", "s"),
    ),
    "Disk": (
        Limit("room without which nothing is started", "pegboard_hub.runtime.preflight:LEAST_ROOM", "bytes"),
        Limit("room below which a disk counts as full", "pegboard_hub.runtime.looking:LEAST_FREE", "bytes"),
        Limit("room below which `doctor` warns", "pegboard_hub.upkeep.checks.place:FEW_FREE", "bytes"),
        Limit("a process's log, then it is rotated", "pegboard_hub.runtime.logs:LARGEST_BYTES", "bytes"),
        Limit("the access log, then it is rotated", "pegboard_hub.edge.rotation:LARGEST_BYTES", "bytes"),
        Limit("old parts of a log that are kept", "pegboard_hub.common.rotation:KEPT", ""),
        Limit("copies from before migrations that are kept", "pegboard_hub.storage.copies:COPIES_KEPT", ""),
        Limit("room that a restore leaves", "pegboard_hub.upkeep.restore:SPARE_BYTES", "bytes"),
    ),
    "Servers": (
        Limit("processes and threads of one server", "pegboard_hub.runtime.isolation:MAX_PROCESSES", ""),
        Limit("reading a server's tools", "pegboard_hub.runtime.workshop:DESCRIBE_TIMEOUT_S", "s"),
        Limit("what a server declares", "pegboard_hub.runtime.workshop:DESCRIBE_BYTES", "bytes"),
        Limit("a build of a submitted server", "pegboard_hub.runtime.building.orders:BUILD_S", "s"),
        Limit("replicas of one release", "pegboard_hub.runtime.machine.run:MOST_REPLICAS", ""),
        Limit("callers that wait for a replica", "pegboard_hub.runtime.machine.replica:BACKLOG", ""),
        Limit("calls at a replica that ends", "pegboard_hub.runtime.machine.run:DRAIN_S", "s"),
        Limit("fewer replicas after a calm of", "pegboard_hub.runtime.machine.scaling:CALM_S", "s"),
        Limit("building a package without a wheel", "pegboard_hub.runtime.sdists:BUILD_TIMEOUT_S", "s"),
        Limit("building one of the project's packages", "pegboard_hub.runtime.packages:BUILD_TIMEOUT_S", "s"),
        Limit("one policy file", "pegboard.core.policy:MOST_BYTES", "bytes"),
    ),
    "Waiting": (
        Limit("the hub at a start, until it answers", "pegboard_hub.runtime.instance:HUB_LIMIT_S", "s"),
        Limit("a server at a start", "pegboard_hub.runtime.servers:LIVE_S", "s"),
        Limit(
            "calls of a server that was withdrawn or is made anew, to end",
            "pegboard_hub.runtime.servers:DRAIN_S",
            "s",
        ),
        Limit("the edge at a start", "pegboard_hub.runtime.instance:EDGE_LIMIT_S", "s"),
        Limit("`pegboard down`", "pegboard_hub.runtime.detached:STOP_LIMIT_S", "s"),
        Limit("the keeper, before the first try", "pegboard_hub.runtime.keeper:FIRST_PAUSE_S", "s"),
        Limit("the keeper, between tries that fail, at most", "pegboard_hub.runtime.keeper:LONGEST_PAUSE_S", "s"),
        Limit("the supervisor's word, then it is not believed", "pegboard_hub.runtime.looking:STALE_S", "s"),
    ),
}


def tables() -> str:
    """Every limit, a table for each subject, and how patient hub and supervisor are."""
    parts = [
        f"### {subject}\n\n{table(('what', 'limit', 'constant'), map(_row, rows))}"
        for subject, rows in LIMITS.items()
    ]
    parts.append(f"### How patient the supervisor is\n\n{_defaults(Timing)}")
    parts.append(f"### What the hub does by itself\n\n{_defaults(HubSettings)}")
    return "\n".join(parts)


def _row(limit: Limit) -> tuple[str, str, str]:
    module, _, name = limit.place.partition(":")
    return limit.what, in_words(getattr(import_module(module), name), limit.unit), code(limit.place)


def in_words(value: float, unit: str) -> str:
    """A value for people: bytes in MiB, times in their largest whole unit."""
    if unit == "ms" and value >= 1000:
        return in_words(value / 1000, "s")
    scales = {
        "bytes": (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)),
        "s": (("days", 86_400), ("hours", 3600), ("minutes", 60)),
    }
    for word, size in scales.get(unit, ()):
        if (value >= 2 * size and value % size == 0) or (value == size and unit == "bytes"):
            return f"{value / size:,.0f} {word}"
    return f"{value:,g} {unit}".strip()


def _defaults(settings: type[Any]) -> str:
    """The numbers among a class's fields, with the words of its docstring."""
    told = attributes(settings)
    rows = [
        (code(field.name), f"{field.default:g}", told[field.name])
        for field in fields(settings)
        if isinstance(field.default, int | float)
    ]
    return table(("setting", "default", "meaning"), rows)


def attributes(described: type[Any]) -> dict[str, str]:
    """What a class's docstring says of each of its fields, under `Attributes:`.

    Raises:
        ValueError: it says nothing of one; the message names it.
    """
    found: dict[str, str] = {}
    for line in _lines_of(described):
        name, colon, meaning = line.strip().partition(": ")
        if colon and name.isidentifier() and line.startswith(" " * 8) and not line.startswith(" " * 9):
            found[name] = meaning
        elif found:
            found[list(found)[-1]] += f" {line.strip()}"
    if missing := [field.name for field in fields(described) if field.name not in found]:
        raise ValueError(f"{described.__name__}: its docstring says nothing of {', '.join(missing)}")
    return {name: meaning.strip() for name, meaning in found.items()}


def _lines_of(described: type[Any]) -> Iterator[str]:
    _, _, text = (described.__doc__ or "").partition("Attributes:\n")
    yield from text.rstrip().splitlines()
