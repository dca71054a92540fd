"""`make attacks`: run the catalogue and tell what became of each attack, by promise."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.attacks.catalogue.attack import OWN, Attack, Request
from tests.attacks.catalogue.judging import excused, judge
from tests.attacks.catalogue.outside import Outside
from tests.attacks.catalogue.promises import PROMISES
from tests.attacks.catalogue.stand import DOORS, WHOLE, standing
from tests.attacks.catalogue.table import ATTACKS

Line = tuple[Attack, str, tuple[str, ...]]
"""An attack, what became of it in short, and what is wrong."""


def main() -> int:
    """Run, and give the exit status: 1 if something got through."""
    parser = argparse.ArgumentParser(prog="make attacks", description=__doc__)
    parser.add_argument("--url", default="", help="an instance of your own, for example https://pegboard.example.com")
    parser.add_argument("--server", default="", help="one of its servers, for example prod/presto")
    parser.add_argument("--token", type=Path, help="a file with a token for that server (`pegboard token --server`)")
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    if not options.url:
        return _tell(_rehearsed(), len(ATTACKS))
    if not options.server or options.token is None:
        parser.error("an instance wants --server (SERVER=) and --token (TOKEN=, a file)")
    outside = Outside(options.url, options.server, options.token.read_text(encoding="utf-8").strip())
    ready = outside.send(WHOLE, Request(OWN, options.server, tool="no_such_tool"))
    if ready.status != 200:
        print(f"The token is no good for {options.server}: {ready.status}. Nothing was tried.\n{ready.text[-300:]}")
        return 2
    fitting = [attack for attack in ATTACKS if outside.fits(attack)]
    print(f"{len(fitting)} of {len(ATTACKS)} attacks can be tried from outside on {options.url}.\n")
    return _tell(_from_outside(outside, fitting), len(fitting))


def _rehearsed() -> Iterator[Line]:
    with standing() as stand:
        for attack in ATTACKS:
            verdict = judge(stand, attack)
            doors = "".join("·" if excused(attack, door) else "✗" if verdict.through[door] else "✓" for door in DOORS)
            yield attack, f"{doors} {verdict.status or 'closed':>6}", verdict.faults


def _from_outside(outside: Outside, attacks: list[Attack]) -> Iterator[Line]:
    for attack in attacks:
        seen, through = outside.attempt(attack)
        yield attack, f"{'✗' if through else '✓'} {seen.status or 'closed':>6}", through


def _tell(lines: Iterator[Line], number: int) -> int:
    told = list(lines)
    for key, sentence in PROMISES.items():
        own = [line for line in told if line[0].promise == key]
        if own:
            print(f"{key}: {sentence}")
        for attack, short, faults in own:
            print(f"  {short}  {attack.id:<34} {attack.sends}")
            for fault in faults:
                print(f"          !! {fault}")
        if own:
            print()
    wrong = [line for line in told if line[2]]
    if len({len(short) for _, short, _ in told}) and any("·" in short for _, short, _ in told):
        print("Doors: " + ", ".join(door.name for door in DOORS) + ". ✓ held, · the layer that holds it is opened.\n")
    print(f"{number} attacks, {len(wrong)} of them not as promised.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
