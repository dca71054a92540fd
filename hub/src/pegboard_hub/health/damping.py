"""From single looks at a server to a state that is worth telling: pure, and the same for every server.

| state      | is entered                                                   | is left                         |
|------------|--------------------------------------------------------------|---------------------------------|
| `unknown`  | before the first look                                        | as the others are entered       |
| `live`     | after `successes` good looks in a row, or a good first one   | for `down` or `flapping`        |
| `down`     | after `failures` bad looks in a row                          | for `live` or `flapping`        |
| `flapping` | once looks turned, from good to bad or back, more than       | for `live` or `down`, once none |
|            | `turns` times within `window_ms`                             | turned for `calm_ms`            |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pegboard_hub.registry.status import ProbedState


class Rules(NamedTuple):
    """How patient damping is. Times are in milliseconds."""

    failures: int = 3
    successes: int = 2
    turns: int = 6
    window_ms: int = 600_000
    calm_ms: int = 180_000


RULES = Rules()


@dataclass(frozen=True, slots=True)
class Damped:
    """What follows from all looks at one server so far.

    Attributes:
        state: what is told.
        since_ms: when it became so, in milliseconds since the epoch.
        why: why it is not live; empty when it is, or before the first look.
        well: what the last look said; None before the first.
        streak: how many looks in a row said that.
        turned_ms: when looks last said something else than the one before, oldest first.
        failure: why the last bad look was bad.
    """

    state: ProbedState = "unknown"
    since_ms: int = 0
    why: str = ""
    well: bool | None = None
    streak: int = 0
    turned_ms: tuple[int, ...] = ()
    failure: str = ""


def observe(before: Damped, at_ms: int, fault: str, rules: Rules = RULES) -> Damped:
    """What follows once one more look is in.

    Args:
        before: what followed from those before.
        at_ms: when this look ended; not before the last one.
        fault: why it was bad; empty when it was good.
        rules: how patient to be.
    """
    well = not fault
    turned = before.well is not None and well != before.well
    streak = before.streak + 1 if well == before.well else 1
    turns = (*before.turned_ms, *([at_ms] if turned else []))
    # One more than may be is enough to tell that there are too many.
    turns = tuple(turn for turn in turns if at_ms - turn < rules.window_ms)[-rules.turns - 1 :]
    failure = fault or before.failure
    state = _state(before.state, well, streak, turns, at_ms, rules)
    if state == before.state:
        return Damped(state, before.since_ms, before.why, well, streak, turns, failure)
    if before.state == "flapping":
        turns = ()  # those that made it so are told
    return Damped(state, at_ms, _why(state, failure, rules), well, streak, turns, failure)


def _state(
    before: ProbedState, well: bool, streak: int, turns: tuple[int, ...], at_ms: int, rules: Rules
) -> ProbedState:
    settled: ProbedState = before
    if well and (streak >= rules.successes or before == "unknown"):
        settled = "live"
    elif not well and streak >= rules.failures:
        settled = "down"
    if before == "flapping":
        calm = not turns or at_ms - turns[-1] >= rules.calm_ms
        return settled if calm else before
    return "flapping" if len(turns) > rules.turns else settled


def _why(state: ProbedState, failure: str, rules: Rules) -> str:
    if state == "flapping":
        minutes = rules.window_ms // 60_000
        return f"it came and went more than {rules.turns} times in {minutes} minutes; last it {failure}"
    return f"it {failure}" if state == "down" else ""
