"""What became of an attack: tried whole, with each layer opened, and with both, where it must get through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.attacks.catalogue.attack import Attack
from tests.attacks.catalogue.stand import BARE, BOTH_OPENED, DOORS, WHOLE, Door, Stand


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one attack.

    Attributes:
        status: that came back where both layers are whole.
        through: what got through at each door, in words.
        faults: what is wrong, in words; none where the promise is kept and the row says the truth.
    """

    attack: Attack
    status: int
    through: Mapping[Door, tuple[str, ...]]
    faults: tuple[str, ...]


FAILED = 500
"""Status of an answer that nobody meant to give."""


def excused(attack: Attack, door: Door) -> bool:
    """Whether the one layer that holds this attack is the one that is opened."""
    return attack.held in door.opened


def judge(stand: Stand, attack: Attack) -> Verdict:
    """Try an attack at every door, and hold what happens to what its row says."""
    through, status, faults = {}, 0, []
    for door in DOORS:
        seen, through[door] = stand.attack(door, attack)
        if door == WHOLE:
            status = seen.status
        if seen.status == FAILED:
            faults.append(f"{door.name}: it made something fail: {seen.text[-200:]}")
    faults += [
        f"{door.name}: got through: {'; '.join(found)}"
        for door, found in through.items()
        if found and not excused(attack, door)
    ]
    if status not in attack.answer:
        faults.append(f"both layers whole: answered {status}, and not one of {attack.answer}")
    alone = [door for door in DOORS if excused(attack, door)]
    if alone and not any(through[door] for door in alone):
        faults.append(f"held is {attack.held!r}: no layer needs an excuse, for it is held by both")
    if not attack.hopeless and not any(stand.attack(door, attack)[1] for door in (BOTH_OPENED, BARE)):
        faults.append("it does not get through where nobody looks, and so proves nothing")
    return Verdict(attack, status, through, tuple(faults))
