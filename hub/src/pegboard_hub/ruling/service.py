"""Changing coarse rules: one door for the page, the API and the operator's command.

The whole set changes at once, as one version, or not at all. A change says on which version it was made: after
somebody else's it is refused and shown the difference, so that nobody undoes what they have not seen. What only
refuses more may come with a token; what lets anybody do more wants a person at a browser or somebody at the machine,
which the doors see to (`widening`).
"""

from __future__ import annotations

import asyncio
import difflib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pegboard.core.coarse import LONGEST_TEXT, CoarseRule, RuleSet, read_rules, version_line, written
from pegboard.core.errors import ConfigurationError
from pegboard_hub.registry.history import Actor
from pegboard_hub.ruling import store
from pegboard_hub.ruling.current import CoarseRules
from pegboard_hub.ruling.errors import RulesRefused
from pegboard_hub.ruling.model import Action, Kept, Version
from pegboard_hub.storage.database import Database

log = logging.getLogger(__name__)

MOST_VERSIONS = 200
"""Of the history in one answer."""

MOST_LINES = 400
"""Of one difference."""

FILE = "rules.toml"


@dataclass(frozen=True, slots=True)
class Proposed:
    """A set that could come into force.

    Attributes:
        rules: it; its version is that of the set in force.
        text: as it was written.
        on: the version that it was made on, and that is in force.
        widened: rules in force that it does not have as strictly.
        reverts_to: the version that it brings back.
    """

    rules: RuleSet
    text: str
    on: Kept
    widened: tuple[CoarseRule, ...]
    reverts_to: int | None = None

    @property
    def changes(self) -> bool:
        """Whether any rule is another than in force."""
        return self.rules.rules != self.on.rules.rules

    @property
    def difference(self) -> list[str]:
        """What changes, rule by rule."""
        return difference(self.on.rules, self.rules)


class Ruling:
    """Everything that is done about coarse rules. Who may is for the doors to see to.

    Args:
        database: has the table.
        current: the rules in force.
        clock: seconds since the epoch.
    """

    def __init__(self, database: Database, current: CoarseRules, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._current = current
        self._clock = clock

    @property
    def kept(self) -> Kept:
        """The version in force, as this hub knows it."""
        return self._current.kept

    async def propose(self, text: str, on: int | None) -> Proposed:
        """Read a file of rules as a change of those in force.

        Args:
            text: the file.
            on: the version that it was made on; None: the file says so itself, in `version`.

        Raises:
            RulesRefused: it is no set of rules, or was made on another version than the one in force.
        """
        await self._current.reload()
        kept = self.kept
        try:
            rules, text, said = await asyncio.to_thread(_read, text, kept.version)
        except ConfigurationError as error:
            message = "The file is no set of rules, so the last one stays in force."
            raise RulesRefused("invalid", "text", message, _MEND, error.problems) from error
        if said is not None and on not in (None, said):
            message = f"The file says that it was made on version {said}, and the request says {on}."
            raise RulesRefused("invalid", "on", message, "Leave one of the two out.")
        on = said if on is None else on
        if on is None and kept.version:
            message = "It does not say on which version of the rules it was made."
            mend = f"Look at the rules in force, and put version = {kept.version} in its first line."
            raise RulesRefused("invalid", "on", message, mend)
        await self._check_on(on or 0)
        widened = await asyncio.to_thread(lambda: tuple(kept.rules.widened_by(rules)))
        return Proposed(rules, text, kept, widened)

    async def propose_revert(self, to: int | None, on: int | None = None) -> Proposed:
        """An earlier version as a change of the one in force; None: the one before it.

        Raises:
            RulesRefused: there is no such version, or the one in force is not `on`.
        """
        await self._current.reload()
        kept = self.kept
        if on is not None:
            await self._check_on(on)
        before = await self.find(kept.version - 1 if to is None else to)
        rules = before.rules.model_copy(update={"version": kept.version})
        widened = await asyncio.to_thread(lambda: tuple(kept.rules.widened_by(rules)))
        return Proposed(rules, before.text, kept, widened, before.version)

    async def apply(self, proposed: Proposed, by: Actor, why: str, *, widening: bool) -> Kept:
        """Bring a proposed set into force.

        Args:
            proposed: as it was previewed.
            by: who wants it.
            why: for the history.
            widening: whether somebody has just proved who they are, so that it may let others do more.

        Raises:
            RulesRefused: it widens and may not, changes nothing, has no reason, or somebody changed the rules since.
            StorageUnavailable: the database takes no writes; nothing was changed.
        """
        why = _line(why)
        if not proposed.changes:
            raise RulesRefused("same", "text", "It changes no rule.", "Look at the rules in force.")
        if proposed.widened and not widening:
            raise _widens(proposed.widened)
        action: Action = "apply" if proposed.reverts_to is None else "revert"
        async with self._database.write() as db:
            newest = await store.newest(db)
            if newest != proposed.on.version:
                found = await store.find(db, newest)
                raise _moved(proposed.on, found or self.kept)
            number = newest + 1
            kept = Kept(
                proposed.rules.model_copy(update={"version": number}),
                Version(number, int(self._clock() * 1000), action, proposed.reverts_to, why, by),
                proposed.text,
                _since(proposed, number),
            )
            await store.append(db, kept)
        await self._current.reload()
        log.warning(
            "coarse rules changed",
            extra={"version": number, "sub": by.sub, "why": why, "rules": len(kept.rules.rules)},
        )
        return kept

    async def find(self, version: int) -> Kept:
        """One version.

        Raises:
            RulesRefused: there is none of that number.
        """
        try:
            async with self._database.read() as db:
                found = await store.find(db, version) if version >= 0 else None
        except ConfigurationError as error:
            raise RulesRefused("unknown", "version", f"Version {version} cannot be read.", _LIST) from error
        if found is None:
            raise RulesRefused("unknown", "version", f"There is no version {version}.", _LIST)
        return found

    async def history(self, limit: int = MOST_VERSIONS) -> list[Version]:
        """Every version, newest first."""
        async with self._database.read() as db:
            return await store.history(db, min(limit, MOST_VERSIONS))

    async def difference(self, old: int, new: int) -> list[str]:
        """What changed between two versions, rule by rule.

        Raises:
            RulesRefused: there is none of that number.
        """
        before, after = await self.find(old), await self.find(new)
        return await asyncio.to_thread(difference, before.rules, after.rules)

    async def _check_on(self, on: int) -> None:
        if on != self.kept.version:
            try:
                before = await self.find(on)
            except RulesRefused as error:
                raise RulesRefused("invalid", "on", error.message, error.mend) from error
            raise _moved(before, self.kept)


_MEND = "Mend what is named; `pegboard rules check FILE` looks without a hub."
_LIST = "Look at the history: pegboard rules history."


def difference(old: RuleSet, new: RuleSet) -> list[str]:
    """What changes, rule by rule, in lines that begin with a sign as `diff` has them; empty where nothing does."""
    names = sorted({*old.by_name, *new.by_name})
    changed = [name for name in names if old.by_name.get(name) != new.by_name.get(name)]
    lines: list[str] = []
    for name in changed:
        before, after = (
            written([rules.by_name[name]]).splitlines() if name in rules.by_name else [] for rules in (old, new)
        )
        lines += [line for line in difflib.ndiff(before, after) if not line.startswith("?") and line.strip()]
        if len(lines) > MOST_LINES:
            return [*lines[:MOST_LINES], f"  … {len(changed)} rules differ in all"]
    return lines


def with_version(kept: Kept) -> str:
    """The file of a version, saying of which it is."""
    return f"version = {kept.version}\n\n{kept.text}"


def _read(text: str, version: int) -> tuple[RuleSet, str, int | None]:
    """The rules of a file, its text without the version that it was made on, and that version."""
    rest, said = version_line(text, FILE)
    return read_rules(rest, FILE, version), rest, said


def _since(proposed: Proposed, number: int) -> dict[str, int]:
    """Since when each rule is as it is."""
    before, since = proposed.on.rules.by_name, proposed.on.since
    return {
        rule.name: since.get(rule.name, number) if before.get(rule.name) == rule else number
        for rule in proposed.rules.rules
    }


def _line(text: str) -> str:
    found = text.strip()
    if not found or len(found) > LONGEST_TEXT or not found.isprintable():
        message = f"The reason is empty, longer than {LONGEST_TEXT} characters, or more than one line."
        raise RulesRefused("invalid", "why", message, "Say in one line why, for the history.")
    return found


def _widens(widened: Sequence[CoarseRule]) -> RulesRefused:
    names = _some(rule.name for rule in widened)
    message = f"It lets callers do what {names} refused, and a token is not enough for that."
    mend = "Apply it on the page /rules, after proving who you are, or on the machine with --home."
    return RulesRefused("widens", "text", message, mend, [rule.name for rule in widened])


def _moved(before: Kept, now: Kept) -> RulesRefused:
    by = f" by {now.made.by.sub}" if now.made else ""
    message = f"It was made on version {before.version}, and version {now.version}{by} is in force."
    mend = (
        f"Look at pegboard rules diff {before.version} {now.version}, take it over, and say version = {now.version}."
    )
    return RulesRefused("moved", "on", message, mend, difference(before.rules, now.rules))


def _some(names: Iterable[str], most: int = 5) -> str:
    found = list(names)
    rest = len(found) - most
    told = ", ".join(found[:most]) + (f" and {rest} more" if rest > 0 else "")
    return f"{'rule' if len(found) == 1 else 'rules'} {told}"
