"""An API held to its own document by Schemathesis: no 5xx, no status or shape that it does not tell of, no open door.

Cases are generated from the document, valid ones and broken ones, with what exists and with what does not. They are
the same in every run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

NOT_HELD = {
    # Whether a value fits the schema is not all that decides: a server must exist, an owner be one of yours.
    "positive_data_acceptance",
    # They follow one case with the next; ours are one by one.
    "use_after_free",
    "ensure_resource_availability",
    "object_level_authorization",
    # Held here, for each operation: what is generated leaves the header out, and what is sent has it.
    "ignored_auth",
}

_STEADY = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

LONGEST_ADDRESS = 60_000
"""Characters. What is much longer is no request to an HTTP server: h11 takes 65,536 bytes, and answers by itself."""

Known = Mapping[str, Mapping[str, Any]]
"""Parameters of paths that exist, by a path's beginning: half of all cases have them."""


def hold(
    document: Mapping[str, Any],
    url: str,
    headers: Mapping[str, str],
    examples: int,
    known: Known | None = None,
    leave_out: Iterable[str] = (),
) -> Counter[str]:
    """Hold the API at `url` to its document.

    Args:
        document: OpenAPI.
        url: origin of the API.
        headers: of every request, such as whose token it brings.
        examples: cases for each operation and way of making them.
        known: see `Known`.
        leave_out: names of checks that say nothing here.

    Returns:
        How often each operation gave each status, as `GET /path 200`.

    Raises:
        FailureGroup: something was not as the document says; with the request that shows it.
    """
    load_all_checks()
    left_out = NOT_HELD | set(leave_out)
    guarded = bool(document.get("security"))
    schema = schemathesis.openapi.from_dict({**document, "security": []})
    seen: Counter[str] = Counter()
    with requests.Session() as session:
        session.trust_env = False
        for found in schema.get_all_operations():
            operation = found.ok()
            exist = next((dict(v) for path, v in (known or {}).items() if operation.path.startswith(path)), {})
            named = {name: value for name, value in exist.items() if f"{{{name}}}" in operation.path}
            ways = [
                operation.as_strategy(GenerationMode.POSITIVE),
                *([operation.as_strategy(GenerationMode.POSITIVE, path_parameters=named)] if named else ()),
            ]
            # A broken query may be whole again once it is an address: an empty list has no place there.
            unheld = left_out if len(operation.body) else left_out | {"negative_data_rejection"}
            checks = [check for check in CHECKS.get_all() if check.__name__ not in unheld]
            # What takes nothing, or any text, cannot be asked wrongly.
            with suppress(Unsatisfiable):
                _hold(operation.as_strategy(GenerationMode.NEGATIVE), examples, url, headers, session, checks, seen)
            for cases in ways:
                _hold(cases, examples, url, headers, session, checks, seen)
            if guarded:
                _hold_shut(operation.as_strategy(GenerationMode.POSITIVE), url, session)
    return seen


def _hold_shut(cases: st.SearchStrategy[Case], url: str, session: requests.Session) -> None:
    """Nobody gets past the door without a token that counts."""

    @settings(_STEADY, max_examples=2)
    @given(case=cases)
    def shut(case: Case) -> None:
        for headers in ({}, {"Authorization": "Bearer x.y.z"}, {"Authorization": "Basic YTpi"}):
            answer = case.call(base_url=url, headers=headers, session=session, timeout=60)
            assert answer.status_code == 401, f"{case.operation.label} without a token: {answer.status_code}"

    shut()


def _hold(
    cases: st.SearchStrategy[Case],
    examples: int,
    url: str,
    headers: Mapping[str, str],
    session: requests.Session,
    checks: list[Any],
    seen: Counter[str],
) -> None:
    @settings(_STEADY, max_examples=examples)
    @given(case=cases)
    def holds(case: Case) -> None:
        asked = requests.Request(**case.as_transport_kwargs(base_url=url)).prepare()
        assume(len(asked.url or "") < LONGEST_ADDRESS)
        response = case.call_and_validate(
            base_url=url, headers=dict(headers), session=session, checks=checks, timeout=60
        )
        seen[f"{case.operation.method.upper()} {case.operation.path} {response.status_code}"] += 1

    holds()
