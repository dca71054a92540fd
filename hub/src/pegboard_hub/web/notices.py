"""What is hardly meant in the grants file, for the home page and the operator's own process."""

from __future__ import annotations

from pegboard.core.names import SERVICE
from pegboard_hub.registry.notices import Surroundings, notices
from pegboard_hub.web.parts import Parts


def current_notices(parts: Parts) -> tuple[str, ...]:
    """The notices on the grants in force, held against the directory and what runs."""
    demo = parts.identity.demo
    people = demo.directory.people.values() if demo else ()
    services = {SERVICE} if parts.settings.services else set()
    around = Surroundings(
        groups=frozenset(group for person in people for group in person.groups) if demo else None,
        surfaces=frozenset(demo.directory.surfaces) | services if demo else None,
        started_with=parts.status.read().started_with,
    )
    return notices(parts.registry.current, around)
