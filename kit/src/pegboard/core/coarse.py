"""Coarse rules as data: what security refuses, and slows down, of that which was granted.

    version = 7

    [rules.no-bots-on-finance]
    effect  = "deny"
    surfaces = ["bot", "chat"]
    servers  = ["prod/ledger"]
    methods  = ["tools/call"]
    except_groups = ["finance"]
    why = "figures before they are published, SEC-31"
    ask = "security in #sec-help"

    [rules.chat-is-slow]
    effect   = "limit"
    surfaces = ["chat"]
    per      = "person"
    requests = 60
    why = "one page of answers a second is enough for anybody"
    ask = "platform in #data-platform"

`version` says on which version of the rules the file was made, so that nobody undoes what they have not seen.

A rule is about a call for which all that it names holds; what it leaves out holds always, and of a list one is
enough. Namespaces and servers are one list of places. No rule opens anything: without a grant there is no access,
whatever rules say, and rules refuse more. So no order matters to *whether* a call is refused; which rule is told,
where several refuse, is the first of `Rules.deny`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from pegboard.core.caller import Caller
from pegboard.core.checks import load_toml
from pegboard.core.errors import ConfigurationError
from pegboard.core.manifest import Name, known_surfaces
from pegboard.core.methods import METHODS
from pegboard.core.names import NAME_PATTERN, SERVICE, SURFACES, ServerName
from pegboard.core.rates import LONGEST_S, MOST_REQUESTS, RateLimit
from pegboard.core.text import hidden_in

Effect = Literal["deny", "limit"]
LimitPer = Literal["person", "surface", "server"]

MOST_RULES = 20_000
"""Rules of one instance."""

MOST_FOR_ONE = 200
"""Rules that can be about one server, those that name no server among them: each is looked at for each call."""

MOST_LIMITS = 50
"""Limit rules of one instance: the edge looks at each of them for each request."""

LONGEST_TEXT = 200
"""Characters of a reason, and of whom to ask: they stand in refusals."""

MOST_BYTES = 8 * 1024 * 1024
"""Of a file of rules."""

RULES_SOURCE = "the coarse rules"
"""Where a rule is from, in words."""

RULE_MEND = "Ask those whom the rule names, and say which rule it was."
"""What somebody whom a rule refuses can do."""


def _server(text: str) -> str:
    return str(ServerName.parse(text))


def _method(text: str) -> str:
    if text not in METHODS:
        near = get_close_matches(text, METHODS, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no method of MCP is called {text[:80]!r}{meant}")
    return text


def _sentence(text: str) -> str:
    """One line, without its full stop, ready to stand within another sentence."""
    sentence = text.strip().rstrip(".").rstrip()
    if not sentence:
        raise ValueError("is empty; whoever is refused reads it")
    if len(sentence) > LONGEST_TEXT:
        raise ValueError(f"is longer than {LONGEST_TEXT} characters")
    if not sentence.isprintable() or hidden_in(sentence):
        raise ValueError("has line breaks or characters that hide; write one line of text")
    return sentence


RuleName = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$", min_length=2, max_length=64)]
_Surfaces = Annotated[tuple[str, ...], AfterValidator(known_surfaces)]
_Server = Annotated[str, AfterValidator(_server)]
_Method = Annotated[str, AfterValidator(_method)]
_Sentence = Annotated[str, AfterValidator(_sentence)]


class RuleBody(BaseModel):
    """One rule, as the file has it under its name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    effect: Effect = Field(description="deny: refuse such calls; limit: let so many of them through")
    surfaces: _Surfaces = Field(default=(), description=f"calls from these, of {', '.join(SURFACES)}")
    namespaces: tuple[Name, ...] = Field(default=(), description="calls of servers in these namespaces")
    servers: tuple[_Server, ...] = Field(default=(), description="and calls of these servers, `namespace/name`")
    methods: tuple[_Method, ...] = Field(default=(), description="requests of these methods of MCP; for deny alone")
    groups: tuple[Name, ...] = Field(default=(), description="callers in one of these groups")
    except_groups: tuple[Name, ...] = Field(default=(), description="but nobody in one of these")
    per: LimitPer | None = Field(default=None, description="whose calls are counted together; none: a person's")
    requests: int | None = Field(default=None, ge=1, le=MOST_REQUESTS, description="for limit: how many")
    seconds: int | None = Field(default=None, ge=1, le=LONGEST_S, description="in how many seconds; none: 60")
    why: _Sentence = Field(description="the reason, in one line; callers are told")
    ask: _Sentence = Field(description="whom those ask who are refused, for example security in #sec-help")

    @model_validator(mode="after")
    def _makes_sense(self) -> RuleBody:
        counts = {"per": self.per, "requests": self.requests, "seconds": self.seconds}
        if self.effect == "deny":
            if given := [name for name, value in counts.items() if value is not None]:
                raise ValueError(f"{', '.join(given)}: only a limit counts; take it out, or make the effect limit")
            if not self.narrowed:
                raise ValueError("it would refuse everything; name surfaces, places, methods or groups")
        elif self.requests is None:
            raise ValueError("requests: missing; a limit says how many")
        elif self.methods:
            raise ValueError("methods: a limit counts every method; take them out, or make the effect deny")
        if both := set(self.groups) & set(self.except_groups):
            raise ValueError(f"except_groups: {', '.join(sorted(both))} stands in groups as well; keep one")
        if self.groups and self.surfaces == (SERVICE,):
            raise ValueError("groups: no service is in a group, so the rule is about nobody; take them out")
        return self

    @property
    def narrowed(self) -> bool:
        """Whether it is about less than everything."""
        names = (self.surfaces, self.namespaces, self.servers, self.methods, self.groups, self.except_groups)
        return any(names)

    @property
    def general(self) -> bool:
        """Whether it is about more than servers that it names."""
        return bool(self.namespaces) or not self.servers


class CoarseRule(RuleBody):
    """One rule with its name."""

    name: RuleName

    def is_about(self, server: ServerName) -> bool:
        """Whether calls of this server can be what it is about."""
        if not self.namespaces and not self.servers:
            return True
        return server.namespace in self.namespaces or str(server) in self.servers

    def matches(self, caller: Caller, server: ServerName) -> bool:
        """Whether it is about calls by `caller` of `server`, as far as their method does not decide."""
        return self.is_for(caller) and self.is_about(server)

    def is_for(self, caller: Caller) -> bool:
        """Whether it is about calls by `caller`, of some server."""
        return (
            (not self.surfaces or caller.surface in self.surfaces)
            and (not self.groups or not _apart(self.groups, caller.groups))
            and _apart(self.except_groups, caller.groups)
        )

    def covers(self, other: RuleBody) -> bool:
        """Whether it refuses at least whatever `other` refuses.

        It errs to the safe side: several rules that do so together are not seen.
        """
        if self.effect != other.effect or (self.effect == "limit" and not self._is_no_looser(other)):
            return False
        return (
            _within(other.surfaces, self.surfaces)
            and _within(other.methods, self.methods)
            and _within(other.groups, self.groups)
            and set(self.except_groups) <= set(other.except_groups)
            and self._is_wherever(other)
        )

    def _is_wherever(self, other: RuleBody) -> bool:
        if not self.namespaces and not self.servers:
            return True
        if not other.namespaces and not other.servers:
            return False
        here = {server for server in other.servers if server.partition("/")[0] not in self.namespaces}
        return set(other.namespaces) <= set(self.namespaces) and here <= set(self.servers)

    def _is_no_looser(self, other: RuleBody) -> bool:
        mine, others = self.counted, other_counted(other)
        return mine == others or (
            mine[0] == others[0] and mine[1] <= others[1] and mine[1] * others[2] <= others[1] * mine[2]
        )

    @property
    def counted(self) -> tuple[LimitPer, int, int]:
        """Of a limit: whose calls count together, how many there may be, and in how many seconds."""
        return other_counted(self)

    @property
    def rate(self) -> RateLimit:
        """A limit as the edge takes it."""
        per, requests, seconds = self.counted
        return RateLimit(
            per=per,
            requests=requests,
            seconds=seconds,
            surfaces=self.surfaces,
            namespaces=self.namespaces,
            servers=self.servers,
            groups=self.groups,
            except_groups=self.except_groups,
        )

    @property
    def told(self) -> str:
        """What somebody reads whom it refuses whatever the method, without the full stop."""
        return f"{TOLD_ALWAYS}{self.name} refuses this: {self.why} (ask {self.ask})"

    def told_of(self, method: str) -> str:
        """What somebody reads whom it refuses a method, without the full stop."""
        return f"{TOLD_METHOD}{method} is refused by rule {self.name}, which says: {self.why} (ask {self.ask})"


TOLD_ALWAYS = "Rule "
TOLD_METHOD = "Your "
"""How the two sentences begin. The edge tells them apart by that, and tries them in the order of their letters: so
what stands behind a rule's name comes before everything that a name may have."""


def other_counted(rule: RuleBody) -> tuple[LimitPer, int, int]:
    """`CoarseRule.counted` of a rule that may have no name."""
    return rule.per or "person", rule.requests or MOST_REQUESTS, rule.seconds or 60


def _apart(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    return not any(name in others for name in some)


def _within(narrow: tuple[str, ...], wide: tuple[str, ...]) -> bool:
    """Whether `wide` holds wherever `narrow` does; an empty one holds everywhere."""
    return not wide or (bool(narrow) and set(narrow) <= set(wide))


@dataclass(frozen=True, slots=True)
class Rules:
    """The deny rules that can be about one server, in the order in which they are told.

    Those that hold for more than named servers come first, and within both the names' order counts: that of the
    filters at the edge (`pegboard_hub.edge.coarse`).
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    deny: tuple[CoarseRule, ...] = ()

    @classmethod
    def of(cls, rules: Iterable[CoarseRule]) -> Rules:
        """Those of `rules` that deny, in order."""
        denying = (rule for rule in rules if rule.effect == "deny")
        return cls(tuple(sorted(denying, key=lambda rule: (not rule.general, rule.name))))

    def refusing(self, caller: Caller, server: ServerName) -> CoarseRule | None:
        """The rule that refuses every request of `caller` to `server`, if there is one."""
        return next((rule for rule in self.deny if not rule.methods and rule.matches(caller, server)), None)

    def refusing_method(self, caller: Caller, server: ServerName, method: str) -> CoarseRule | None:
        """The rule that refuses requests of one method."""
        for rule in self.deny:
            if method in rule.methods and rule.matches(caller, server):
                return rule
        return None

    @property
    def by_method(self) -> bool:
        """Whether any of them looks at the method."""
        return any(rule.methods for rule in self.deny)


NO_RULES = Rules()


class RuleSet(BaseModel):
    """All rules of an instance at one version; version 0 is none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = 0
    rules: tuple[CoarseRule, ...] = ()

    @cached_property
    def by_name(self) -> Mapping[str, CoarseRule]:
        """Each rule by its name."""
        return {rule.name: rule for rule in self.rules}

    @cached_property
    def general(self) -> tuple[CoarseRule, ...]:
        """Deny rules that are about more than the servers they name."""
        return tuple(rule for rule in self.rules if rule.effect == "deny" and rule.general)

    @cached_property
    def named(self) -> Mapping[str, tuple[CoarseRule, ...]]:
        """Deny rules that are about servers they name alone, by server."""
        found: dict[str, list[CoarseRule]] = {}
        for rule in self.rules:
            if rule.effect == "deny" and not rule.general:
                for server in rule.servers:
                    found.setdefault(server, []).append(rule)
        return {server: tuple(rules) for server, rules in found.items()}

    @cached_property
    def limits(self) -> tuple[RateLimit, ...]:
        """What its limits come to for the edge."""
        return tuple(rule.rate for rule in self.rules if rule.effect == "limit")

    def of_namespace(self, namespace: str) -> tuple[CoarseRule, ...]:
        """Those of `general` that can be about a server in this namespace."""
        return tuple(rule for rule in self.general if _reaches(rule, namespace))

    def of(self, server: ServerName) -> Rules:
        """What can be about one server."""
        return Rules.of((*self.of_namespace(server.namespace), *self.named.get(str(server), ())))

    def widened_by(self, new: RuleSet) -> Iterator[CoarseRule]:
        """Rules of this set that `new` does not have as strictly, so that somebody may gain by it."""
        bodies = {_body(rule) for rule in new.rules}
        for rule in self.rules:
            if _body(rule) in bodies:
                continue
            same = new.by_name.get(rule.name)
            if same is not None and same.covers(rule):
                continue
            if not any(other.covers(rule) for other in new._wide_enough_for(rule)):
                yield rule

    def _wide_enough_for(self, rule: CoarseRule) -> Iterable[CoarseRule]:
        """Rules that may cover another: of thousands few are about the same servers."""
        if rule.effect == "limit":
            return (other for other in self.rules if other.effect == "limit")
        return (*self.general, *(self.named.get(rule.servers[0], ()) if not rule.general else ()))


def _reaches(rule: CoarseRule, namespace: str) -> bool:
    if not rule.namespaces and not rule.servers:
        return True
    return namespace in rule.namespaces or any(server.startswith(f"{namespace}/") for server in rule.servers)


def _body(rule: CoarseRule) -> tuple[Any, ...]:
    """Everything that decides: a rule that has only another name or reason refuses the same."""
    lists = (rule.surfaces, rule.namespaces, rule.servers, rule.methods, rule.groups, rule.except_groups)
    counted = rule.counted if rule.effect == "limit" else ()
    return (rule.effect, counted, *(frozenset(values) for values in lists))


NO_RULE_SET = RuleSet()


class RulesFile(BaseModel):
    """A file of rules: the whole set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: dict[RuleName, RuleBody] = Field(default={}, max_length=MOST_RULES, description="every rule, by its name")


def read_rules(text: str, where: str, version: int = 0) -> RuleSet:
    """Read a file of rules.

    Raises:
        ConfigurationError: it does not fit; every fault is named at once.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise ConfigurationError(where, [f"has more than {MOST_BYTES:,} bytes"])
    if hides := hidden_in(text, lines=True):
        raise ConfigurationError(where, [f"the file {hides}"])
    file = load_toml(RulesFile, text, where)
    found = tuple(CoarseRule(name=name, **body.model_dump()) for name, body in sorted(file.rules.items()))
    rules = RuleSet(version=version, rules=found)
    if problems := list(_too_many(rules)):
        raise ConfigurationError(where, problems)
    return rules


_VERSION = re.compile(r"^[ \t]*version[ \t]*=[ \t]*(\d{1,9})[ \t]*(?:#[^\n]*)?\r?\n?", re.MULTILINE)


def version_line(text: str, where: str) -> tuple[str, int | None]:
    """A file without the line that says on which version of the rules it was made, and that version.

    Raises:
        ConfigurationError: the line says something else.
    """
    try:
        said = tomllib.loads(text).get("version")
    except (ValueError, RecursionError):
        return text, None  # `read_rules` tells what is wrong
    if said is None:
        return text, None
    found = _VERSION.search(text)
    if type(said) is not int or found is None or int(found[1]) != said:
        raise ConfigurationError(where, ["version: is a whole number, in a line of its own"])
    return (text[: found.start()] + text[found.end() :]).lstrip("\n"), said


def _too_many(rules: RuleSet) -> Iterator[str]:
    if (limits := len(rules.limits)) > MOST_LIMITS:
        yield f"has {limits} limits; {MOST_LIMITS} at most, for each is looked at for each request"
    if (general := len(rules.general)) > MOST_FOR_ONE:
        yield (
            f"has {general} rules that name no server, or a namespace; {MOST_FOR_ONE} at most, for each is looked at "
            "for each call: name servers in them"
        )
    counts = Counter({server: len(named) + len(rules.general) for server, named in rules.named.items()})
    for server, count in counts.most_common(3):
        if count > MOST_FOR_ONE and general <= MOST_FOR_ONE:
            yield f"has {count} rules for {server}, those included that name no server; {MOST_FOR_ONE} at most"


def rules_from_json(document: Any, version: int) -> RuleSet:
    """A set as `rules_as_json` wrote it.

    Raises:
        ConfigurationError: it is another.
    """
    try:
        return RuleSet.model_validate({"version": version, "rules": document})
    except ValidationError as error:
        raise ConfigurationError("the rules", ["cannot be read by this version of Pegboard"]) from error


def rules_as_json(rules: Iterable[CoarseRule]) -> list[dict[str, Any]]:
    """The set without what is left out."""
    return [rule.model_dump(mode="json", exclude_defaults=True) for rule in rules]


_KEYS = tuple(name for name in RuleBody.model_fields)


def written(rules: Iterable[CoarseRule]) -> str:
    """The rules as a file that `read_rules` reads back to the same."""
    return "\n".join(_written(rule) for rule in rules)


def _written(rule: CoarseRule) -> str:
    values = {name: getattr(rule, name) for name in _KEYS}
    lines = [f"{name} = {_toml(value)}" for name, value in values.items() if value not in (None, ())]
    return "\n".join((f"[rules.{rule.name}]", *lines, ""))


def _toml(value: Any) -> str:
    """Strings of JSON are strings of TOML, but for DEL, which is not printable and so in no rule."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
