"""What is stopped for everybody: surfaces, people, clients and services, each with why.

A stop is not a revocation: nothing is void, and nobody signs in again. It is a standing refusal that tells its reason
and ends when somebody resumes it. Stops of servers and tools stand beside what was granted them (`core.access`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal

from pydantic import ConfigDict

from pegboard.core.caller import Caller

LONGEST_WHY = 200
"""Characters of the reason of a stop: it goes into every refusal, beside the names of the server and its owner."""

CallerKind = Literal["surface", "person", "client", "service"]
StopKind = Literal["tool", "server", "surface", "person", "client", "service"]

CALLER_KINDS: tuple[CallerKind, ...] = ("surface", "client", "person", "service")
"""Stops that every bundle carries, in the order in which they are looked at."""

STOP_KINDS: tuple[StopKind, ...] = ("tool", "server", "surface", "person", "client", "service")
"""Everything that one switch closes, the narrowest first."""

ASK = "Ask the operators of Pegboard, who alone can resume it."
"""Whom those ask who are refused."""


def stop_reason(text: str) -> str:
    """A stop's reason as one sentence without its full stop, ready to stand within another.

    Raises:
        ValueError: it is empty, longer than `LONGEST_WHY`, or has line breaks or control characters.
    """
    sentence = text.strip().rstrip(".").rstrip()
    if not sentence:
        raise ValueError("say in a few words why, for those who are refused")
    if len(sentence) > LONGEST_WHY:
        raise ValueError(f"is longer than {LONGEST_WHY} characters")
    if not sentence.isprintable():
        raise ValueError("has line breaks or control characters; write one line of text")
    return sentence


@dataclass(frozen=True, slots=True)
class Stops:
    """Who and what is stopped, by the claim that names it, each with why.

    Attributes:
        surfaces: values of `surface`.
        people: values of `sub` of people.
        clients: values of `client_id`.
        services: SPIFFE IDs, the `sub` of services.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    surfaces: Mapping[str, str] = field(default_factory=dict, hash=False)
    people: Mapping[str, str] = field(default_factory=dict, hash=False)
    clients: Mapping[str, str] = field(default_factory=dict, hash=False)
    services: Mapping[str, str] = field(default_factory=dict, hash=False)

    def why(self, kind: CallerKind, caller: Caller) -> str:
        """Why calls by `caller` are stopped by a stop of this kind; empty where they are not."""
        match kind:
            case "surface":
                return self.surfaces.get(caller.surface, "")
            case "client":
                return self.clients.get(caller.client_id, "")
            case "person":
                return self.people.get(caller.sub, "") if caller.sub_type == "person" else ""
            case "service":
                return self.services.get(caller.sub, "") if caller.sub_type == "service" else ""

    def veiled(self, words: str) -> Stops:
        """The same with `words` in the place of every reason."""
        return Stops(**{each.name: dict.fromkeys(getattr(self, each.name), words) for each in fields(self)})

    def as_json(self) -> dict[str, dict[str, str]]:
        """The tables in order, so that equal ones read the same in two processes."""
        return {each.name: dict(sorted(getattr(self, each.name).items())) for each in fields(self)}


NOTHING_STOPPED = Stops()

STOPPED: Mapping[CallerKind, str] = {
    "surface": "Calls from here are stopped",
    "client": "The program that you call with is stopped",
    "person": "Your access is stopped",
    "service": "This service is stopped",
}
"""How the refusal of each begins. It names nobody: the caller knows who it is, and others learn nothing by it."""


def told(kind: CallerKind, why: str) -> str:
    """What a refused caller reads, without its full stop."""
    return f"{STOPPED[kind]}: {why}"
