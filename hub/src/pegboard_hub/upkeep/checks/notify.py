"""Who is told of approvals: the notification file, and what cannot be delivered."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

from pegboard.core.errors import ConfigurationError
from pegboard_hub.notify.settings import Receiver, open_notify
from pegboard_hub.upkeep.checks.running import told
from pegboard_hub.upkeep.finding import Facts, Finding, must_mend, plural, warning, well


def notify(facts: Facts) -> Iterator[Finding]:
    """The notification file, its secrets, and how its destinations stand. A secret is read and never told."""
    try:
        settings = open_notify(facts.notify)
    except ConfigurationError as error:
        yield from (
            must_mend(f"{error.where}: {problem}", "mend the notification file") for problem in error.problems
        )
        return
    if not settings.receivers:
        yield well("nobody is told of approvals over webhooks: people see them on the page Approvals")
        return
    for receiver in settings.receivers.values():
        yield from _certificates(receiver)
    if not facts.running:
        yield well(f"{plural(len(settings.receivers), 'destination')} will be told of approvals")
        return
    yield from told(facts, "notifications", "what destinations are told of approvals", _standing)


def _certificates(receiver: Receiver) -> Iterator[Finding]:
    if receiver.certificates is None:
        return
    try:
        ssl.create_default_context(cafile=str(receiver.certificates))
    except (OSError, ssl.SSLError) as error:
        yield must_mend(
            f"destinations.{receiver.name}.certificates: {receiver.certificates} holds no certificates in PEM "
            f"({error.strerror or 'SSL'})",
            "name a PEM file that the hub's user can read",
        )


def _standing(word: dict[str, Any]) -> Iterator[Finding]:
    troubled = [each for each in word["destinations"] if each["trouble"]]
    for each in troubled:
        yield warning(
            f"{each['name']} is not told of approvals ({each['origin']}): {each['trouble']}",
            f"see to its receiver, then try it: pegboard notify test {each['name']}",
        )
    if not troubled:
        yield well(f"{plural(len(word['destinations']), 'destination')} told of approvals, and nothing waits long")
