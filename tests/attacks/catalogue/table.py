"""Every attack of the catalogue."""

from __future__ import annotations

from tests.attacks.catalogue import (
    bodies,
    framings,
    heads,
    hostile,
    hub,
    paths,
    people,
    services,
    sessions,
    tokens,
)
from tests.attacks.catalogue.attack import Attack

_FAMILIES = (tokens, heads, framings, paths, bodies, sessions, people, services, hostile, hub)
ATTACKS: tuple[Attack, ...] = tuple(attack for family in _FAMILIES for attack in family.TABLE)
