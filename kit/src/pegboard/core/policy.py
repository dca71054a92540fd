"""Fine rules: a tool's named Cedar policy, evaluated alone (the one door to cedarpy).

The model: principals `Person` and `Service` in `Group`s; actions `list` and `call`; a `Tool` in its `Server`
in its `Namespace`; a context of `surface`, `namespace`, `channel` (bots only) and, for `call` alone, `args` with
the arguments the policy file declares by an annotation on any of its policies:

    @arguments("table, limit")
    permit (principal in Group::"ads-eng", action, resource) unless { context has args && context.args.limit > 10 };

Any diagnostic error is a denial: Cedar itself skips a `forbid` that errs, which would turn it into an allow.

A policy is an author's text, and the hub reads it. Cedar's parser goes as deep as the text does and takes the whole
process with it when the stack ends, so the text is measured before Cedar sees it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import cedarpy

from pegboard.core.caller import Caller
from pegboard.core.errors import ConfigurationError
from pegboard.core.names import ServerName
from pegboard.core.vocabulary import constants_in, named_entities, unknown_names

Action = Literal["list", "call"]

MOST_BYTES = 64 * 1024
MOST_WORDS = 4_000
"""Words and signs in one file. Cedar's parser needs stack for every operator in a row; it ends at some 16,000."""

DEEPEST = 64
"""Brackets inside one another. Cedar's parser ends the process at some 330."""

LONGEST_PATH = 32
"""Attributes in a row (`a.b.c`). The time that `has` takes grows with the square of their number."""

_WORD = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n\r]*|\s+|\w+|.', re.DOTALL)


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """What a policy said.

    Attributes:
        reason: why, for whoever may know the tool.
        detail: what Cedar said of a failure; for the owners alone, as it quotes the policy.
    """

    allowed: bool
    reason: str
    detail: str = ""


class Policy:
    """One Cedar file, parsed once.

    Attributes:
        name: the file's name without `.cedar`, which is what a tool refers to.
        version: the first 12 hex digits of the text's SHA-256; it stands in every record.
        arguments: names of the call arguments the policy may see.
        names: every entity it names, as (type, id): groups, persons, services, tools, servers.
        lists_for_all: it surely permits `list` to every caller, whoever that is: a tool is hidden from nobody by it.
        constants: texts and numbers that it compares with, those of `like` without their stars.
        reasons: what its `@reason` annotations say.
    """

    def __init__(self, name: str, text: str) -> None:
        """Parse.

        Raises:
            ConfigurationError: the text is not Cedar, is larger than any policy needs to be, is a template, which
                authorizes nothing, or uses a name that nobody has (`vocabulary`).
        """
        if problem := _too_much(text):
            raise ConfigurationError(f"policies/{name}.cedar", [problem])
        try:
            parsed = json.loads(cedarpy.policies_to_json_str(text))
            self._set = cedarpy.PolicySet.from_str(text)
        except RecursionError as error:
            problem = "has too many operators in a row: split it into several policies"
            raise ConfigurationError(f"policies/{name}.cedar", [problem]) from error
        except ValueError as error:
            raise ConfigurationError(f"policies/{name}.cedar", [f"not valid Cedar: {error}"]) from error
        if parsed["templates"] or not parsed["staticPolicies"]:
            raise ConfigurationError(f"policies/{name}.cedar", ["needs at least one policy, and no templates"])
        self.name = name
        self.text = text
        self.version = hashlib.sha256(text.encode()).hexdigest()[:12]
        self.arguments = _declared_arguments(parsed["staticPolicies"])
        self.names = named_entities(parsed["staticPolicies"])
        self.lists_for_all = _lists_for_all(parsed["staticPolicies"])
        self.constants = constants_in(parsed["staticPolicies"])
        self.reasons = _annotated(parsed["staticPolicies"], "reason")
        if faults := unknown_names(parsed["staticPolicies"], self.arguments):
            raise ConfigurationError(f"policies/{name}.cedar", faults)

    def misfits(self, schema: Mapping[str, Any]) -> list[str]:
        """What Cedar's validator says of it, held to a schema in Cedar's JSON format; empty where it fits."""
        result = cedarpy.validate_policies(self.text, dict(schema))
        return [str(each.error) for each in result.errors]

    def decide(
        self,
        caller: Caller,
        server: ServerName,
        tool: str,
        action: Action,
        arguments: Mapping[str, Any] | None = None,
    ) -> PolicyDecision:
        """Evaluate for one caller, tool and action. `arguments` count for `call` only."""
        context: dict[str, Any] = {"surface": caller.surface, "namespace": server.namespace}
        if caller.channel is not None:
            context["channel"] = caller.channel
        if action == "call" and self.arguments:
            try:
                context["args"] = _cedar_record(arguments or {}, self.arguments)
            except ValueError as error:
                return PolicyDecision(False, f"argument cannot be judged: {error}")
        principal = {"type": "Person" if caller.sub_type == "person" else "Service", "id": caller.sub}
        request = {
            "principal": principal,
            "action": {"type": "Action", "id": action},
            "resource": {"type": "Tool", "id": f"{server}/{tool}"},
            "context": context,
        }
        result = cedarpy.is_authorized(request, self._set, _entities(principal, caller.groups, server, tool))
        errors = result.diagnostics.errors
        if errors:
            return PolicyDecision(False, f"policy {self.name} cannot be evaluated for this call", str(errors[0]))
        if not result.allowed:
            return PolicyDecision(False, f"policy {self.name} does not permit it")
        return PolicyDecision(True, f"policy {self.name} permits it")


def _too_much(text: str) -> str:
    """Why a text is more than Cedar's parser may be given, in words; empty when it is not."""
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        return f"is larger than {MOST_BYTES // 1024} KiB: name groups rather than people"
    count = depth = path = 0
    for word in _words(text):
        count += 1
        depth += (word in _OPENING) - (word in _CLOSING and depth > 0)
        path = path + 1 if word == "." else path if word.isidentifier() else 0
        if depth > DEEPEST:
            return f"nests deeper than {DEEPEST} brackets: split it into several policies"
        if path > LONGEST_PATH:
            return f"has more than {LONGEST_PATH} attributes in a row: flatten the argument it looks at"
    return f"has more than {MOST_WORDS} words and signs: split the file" if count > MOST_WORDS else ""


_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


def _words(text: str) -> Iterator[str]:
    found = (match.group() for match in _WORD.finditer(text))
    return (word for word in found if not word.isspace() and not word.startswith("//"))


def _declared_arguments(policies: Mapping[str, Any]) -> tuple[str, ...]:
    names: set[str] = set()
    for policy in policies.values():
        declared = policy.get("annotations", {}).get("arguments") or ""
        names.update(name.strip() for name in declared.split(",") if name.strip())
    return tuple(sorted(names))


def _annotated(policies: Mapping[str, Any], name: str) -> tuple[str, ...]:
    said = (policy.get("annotations", {}).get(name) for policy in policies.values())
    return tuple(text for text in said if isinstance(text, str) and text.strip())


def _lists_for_all(policies: Mapping[str, Any]) -> bool:
    """Whether one permits everything without a condition, and none forbids anything but calls."""
    everybody, look = {"op": "All"}, {"type": "Action", "id": "list"}
    call = {"op": "==", "entity": {"type": "Action", "id": "call"}}

    def for_all(policy: Mapping[str, Any]) -> bool:
        action = policy["action"]
        named = [action.get("entity"), *action.get("entities", ())]
        anything = policy["principal"] == policy["resource"] == everybody and (action == everybody or look in named)
        return policy["effect"] == "permit" and not policy["conditions"] and anything

    forbidding = [policy for policy in policies.values() if policy["effect"] != "permit"]
    return any(map(for_all, policies.values())) and all(policy["action"] == call for policy in forbidding)


def _cedar_record(arguments: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The declared arguments as Cedar values. A null is left out: Cedar has none."""
    return {name: _cedar_value(name, arguments[name]) for name in names if arguments.get(name) is not None}


def _cedar_value(name: str, value: Any) -> Any:
    match value:
        case bool() | str():
            return value
        case int() if -(2**63) <= value < 2**63:
            return value
        case list():
            return [_cedar_value(name, item) for item in value]
        case dict() if not {"__entity", "__extn", "__expr"} & value.keys():
            return {key: _cedar_value(name, item) for key, item in value.items()}
    raise ValueError(f"{name} is {type(value).__name__}, which Cedar cannot compare")


def _entities(
    principal: Mapping[str, str], groups: tuple[str, ...], server: ServerName, tool: str
) -> cedarpy.Entities:
    def entity(uid: Mapping[str, str], *parents: Mapping[str, str]) -> dict[str, Any]:
        return {"uid": uid, "attrs": {}, "parents": list(parents)}

    namespace = {"type": "Namespace", "id": server.namespace}
    place = {"type": "Server", "id": str(server)}
    members = [{"type": "Group", "id": group} for group in groups]
    document = [
        entity(namespace),
        entity(place, namespace),
        entity({"type": "Tool", "id": f"{server}/{tool}"}, place),
        entity(principal, *members),
    ]
    return cedarpy.Entities.from_json_str(json.dumps(document))
