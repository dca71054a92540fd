"""The pages of coarse rules: what holds and why, each rule with its history, and the way to another set of them.

Whoever edits has just proved who they are: what they apply may let others do more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from pegboard.core.coarse import LONGEST_TEXT, CoarseRule, written
from pegboard.core.methods import CALL, METHODS
from pegboard.core.names import SURFACES
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.registry.history import Actor
from pegboard_hub.ruling.errors import RulesRefused
from pegboard_hub.ruling.model import Version
from pegboard_hub.ruling.service import Proposed, with_version
from pegboard_hub.stopping.service import Who
from pegboard_hub.web.failures import Problem
from pegboard_hub.web.pages.browser import HereSession, signed_in
from pegboard_hub.web.pages.frame import Framer
from pegboard_hub.web.pages.freshness import keep_fresh, told_now
from pegboard_hub.web.pages.onward import see_other
from pegboard_hub.web.pages.recent import is_recent, recently_authenticated
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.rules_view import (
    STATUSES,
    DifferenceAnswer,
    EffectiveAnswer,
    EffectiveQuery,
    PreviewAnswer,
    RuleEntry,
    differing,
    effective_of,
    entries,
    previewed,
)

PATH = "/rules"
EDIT = f"{PATH}/edit"
PREVIEW = f"{PATH}/preview"
APPLY = f"{PATH}/apply"
TITLE = "Rules"

FORM_LIMIT = 1024 * 1024
"""Bytes of the form with a set of rules; a larger set is applied with the command."""

MOST_SHOWN = 200
"""Rules on one page."""

EXAMPLE = """[rules.no-chat-on-finance]
effect = "deny"
surfaces = ["chat", "bot"]
servers = ["prod/ledger"]
except_groups = ["finance"]
why = "figures before they are published"
ask = "security in #sec-help"
"""
"""What the first file begins with, as a comment."""


@dataclass(frozen=True, slots=True)
class OneRule:
    """One rule by itself.

    Attributes:
        text: as the file has it.
        made: who made it what it is; None where that is not known any more.
    """

    entry: RuleEntry
    text: str
    made: Version | None


@dataclass(frozen=True, slots=True)
class RulesView:
    """What the page shows.

    Attributes:
        shown: rules of the list; `more` are not on the page.
        asked: the question of what holds, as it was asked.
        holds: its answer; `unheld` says why there is none.
        one: the rule that was asked for by name.
        change: what one version changed, where that was asked for.
    """

    version: int
    made: Version | None
    total: int
    shown: tuple[RuleEntry, ...]
    more: int
    history: tuple[Version, ...]
    asked: EffectiveQuery | None
    holds: EffectiveAnswer | None = None
    unheld: Problem | None = None
    one: OneRule | None = None
    change: DifferenceAnswer | None = None
    find: str = ""
    surfaces: tuple[str, ...] = SURFACES
    methods: tuple[str, ...] = METHODS
    done: str = ""


@dataclass(frozen=True, slots=True)
class EditView:
    """The page that makes another set: the file, and once it was previewed, what it comes to.

    Attributes:
        text: the file, in the field.
        on: the version that it is made on.
        reverts_to: the version that is brought back, where the file is not edited.
        lines: what is wrong with the file, or what somebody changed meanwhile.
    """

    text: str
    on: int
    reverts_to: int | None = None
    preview: PreviewAnswer | None = None
    why: str = ""
    recent: bool = True
    problem: Problem | None = None
    lines: Sequence[str] = ()
    longest_why: int = LONGEST_TEXT
    diff: list[tuple[Literal["ins", "del", "span"], str]] = field(default_factory=list)


def add_rule_pages(router: APIRouter, parts: Parts, framer: Framer) -> None:
    """Add the routes of the pages."""

    @router.get(PATH)
    async def look(request: Request, _session: HereSession) -> HTMLResponse:
        await keep_fresh(parts, request)
        governor(parts, signed_in(request))
        return shown(request, await rules_view(parts, request))

    @router.get(EDIT)
    async def edit(request: Request, session: HereSession) -> HTMLResponse:
        governor(parts, session)
        asked = request.query_params.get("revert_to", "")
        back = urlencode({"revert_to": asked}) if asked.isdecimal() and len(asked) < 10 else ""
        recently_authenticated(request, session, f"{EDIT}?{back}" if back else EDIT)
        if back:
            return await tried(request, session, {"revert_to": asked})
        kept = parts.ruling.kept
        comment = "".join(f"# {line}\n" for line in EXAMPLE.splitlines())
        text = with_version(kept) if kept.text else f"version = {kept.version}\n\n{comment}"
        return edited(request, EditView(text, kept.version))

    @router.post(PREVIEW)
    async def preview(request: Request, _session: HereSession) -> HTMLResponse:
        await keep_fresh(parts, request)
        session, form = signed_in(request), await framer.browsers.form(request, FORM_LIMIT)
        governor(parts, session)
        return await tried(request, session, form)

    @router.post(APPLY)
    async def apply(request: Request, session: HereSession) -> Response:
        form = await framer.browsers.form(request, FORM_LIMIT)
        session = await told_now(parts, request, session, at_most_s=0)
        by = governor(parts, session)
        try:
            proposed = await _proposed(parts, form)
            kept = await parts.ruling.apply(proposed, by, form.get("why", ""), widening=is_recent(session))
        except RulesRefused as error:
            return edited(request, _again(parts, form, error))
        return see_other(f"{PATH}?done={kept.version}")

    @router.get(PREVIEW)
    @router.get(APPLY)
    async def back(_session: HereSession) -> Response:
        """Where a form was sent to, opened again."""
        return see_other(PATH)

    async def tried(request: Request, session: Session, form: dict[str, str]) -> HTMLResponse:
        """The page with what a file, or a version to bring back, comes to."""
        try:
            proposed = await _proposed(parts, form)
        except RulesRefused as error:
            return edited(request, _again(parts, form, error))
        found = await previewed(parts, proposed)
        return edited(
            request,
            EditView(
                text=f"version = {proposed.on.version}\n\n{proposed.text}",
                on=proposed.on.version,
                reverts_to=proposed.reverts_to,
                preview=found,
                why=form.get("why", ""),
                recent=is_recent(session),
                diff=_diff(found.difference),
            ),
        )

    def shown(request: Request, view: RulesView) -> HTMLResponse:
        status = view.unheld.status if view.unheld else 200
        return framer.answer("rules.html", framer.frame(request, PATH, TITLE), view, status)

    def edited(request: Request, view: EditView) -> HTMLResponse:
        status = view.problem.status if view.problem else 200
        return framer.answer("rules_edit.html", framer.frame(request, PATH, "Change the rules"), view, status)


async def rules_view(parts: Parts, request: Request) -> RulesView:
    """The page, as it was asked for."""
    query, kept = request.query_params, parts.ruling.kept
    find = query.get("find", "").strip()[:255]
    about = [rule for rule in kept.rules.rules if not find or _has(rule, find)]
    asked, holds, unheld = None, None, None
    if query.get("server"):
        groups = [name for name in query.get("groups", "").replace(",", " ").split() if name][:50]
        surface, method = query.get("surface", ""), query.get("method", "")
        asked = EffectiveQuery.model_construct(
            server=query["server"].strip()[:255],
            surface=surface if surface in SURFACES else "cli",
            method=method if method in METHODS else CALL,
            group=[name[:64] for name in groups],
        )
        try:
            holds = await effective_of(parts, asked)
        except Refused as error:
            unheld = Problem(error.status, error.refusal.message, error.refusal.what_to_do)
    done = query.get("done", "")
    return RulesView(
        version=kept.version,
        made=kept.made,
        total=len(kept.rules.rules),
        shown=tuple(entries(kept, about[:MOST_SHOWN])),
        more=max(0, len(about) - MOST_SHOWN),
        history=tuple(await parts.ruling.history(50)),
        asked=asked,
        holds=holds,
        unheld=unheld,
        one=await _one(parts, query.get("rule", "")),
        change=await _change(parts, query.get("version", "")),
        find=find,
        done=done if done == str(kept.version) else "",
    )


async def _one(parts: Parts, name: str) -> OneRule | None:
    kept = parts.ruling.kept
    rule = kept.rules.by_name.get(name)
    if rule is None:
        return None
    (entry,) = entries(kept, [rule])
    made = (await parts.ruling.find(entry.since)).made
    return OneRule(entry, written([rule]).rstrip("\n"), made)


async def _change(parts: Parts, version: str) -> DifferenceAnswer | None:
    if not version.isdecimal() or len(version) > 9 or not 0 < int(version) <= parts.ruling.kept.version:
        return None
    return await differing(parts, None, int(version))


def _has(rule: CoarseRule, text: str) -> bool:
    """Whether a rule has a text in its name or its reason, or names it."""
    lists = (rule.surfaces, rule.namespaces, rule.servers, rule.methods, rule.groups, rule.except_groups)
    return text in rule.name or text in rule.why or any(text in names for names in lists)


async def _proposed(parts: Parts, form: dict[str, str]) -> Proposed:
    """What a form asks for.

    Raises:
        RulesRefused: it cannot come into force.
    """
    on = _number(form.get("on", ""))
    if (to := form.get("revert_to", "")) != "":
        return await parts.ruling.propose_revert(_number(to), on)
    # A browser sends a field's lines with both of the old ends.
    return await parts.ruling.propose(form.get("text", "").replace("\r\n", "\n"), on)


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _again(parts: Parts, form: dict[str, str], error: RulesRefused) -> EditView:
    """The page with what was sent and what is wrong with it."""
    kept = parts.ruling.kept
    text = form.get("text", "").replace("\r\n", "\n") or with_version(kept)
    problem = Problem(STATUSES[error.reason], f"Nothing was changed. {error.message}", error.mend)
    lines = () if error.reason == "moved" else error.lines
    diff = _diff(error.lines) if error.reason == "moved" else []
    return EditView(text, kept.version, why=form.get("why", ""), problem=problem, lines=lines, diff=diff)


def _diff(lines: Sequence[str]) -> list[tuple[Literal["ins", "del", "span"], str]]:
    kinds: dict[str, Literal["ins", "del", "span"]] = {"+": "ins", "-": "del"}
    return [(kinds.get(line[:1], "span"), line[2:]) for line in lines]


def governor(parts: Parts, session: Session) -> Actor:
    """Whoever is signed in, who governs what everybody may do.

    Raises:
        Refused: somebody else looks.
    """
    if not parts.stopping.governs(Who.person(session.facts.sub, session.facts.groups)):
        message = "Coarse rules are for operators and security to look at and to change."
        raise refuse(403, "access_denied", message, "Ask one of them.", "not_an_operator")
    return Actor(session.facts.sub)
