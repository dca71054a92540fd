"""What a form of a request's page says: what it decides, and what is kept of it while somebody signs in again."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from zlib import compress, decompress

from fastapi import Request

from pegboard_hub.approvals.errors import ApprovalRefused
from pegboard_hub.approvals.model import Verdict
from pegboard_hub.identity.sessions.model import Session
from pegboard_hub.web.pages.approvals.batch import Found
from pegboard_hub.web.pages.approvals.looking import PATH, actions_of
from pegboard_hub.web.pages.browser import Form
from pegboard_hub.web.pages.recent import with_filled_in
from pegboard_hub.web.parts import Parts

_SEEN, TICK = "seen:", "tick:"

ALONE = "alone"
"""Says that a request is looked at without its batch: in the page's address, and in its form."""


def is_alone(request: Request) -> bool:
    """Whether a page's address asks for one request without its batch."""
    return request.query_params.get(ALONE) == "1"


def verdicts_of(parts: Parts, found: Found, form: Form) -> list[Verdict]:
    """What a form decides: on those that stood on its page, and on nothing else.

    Raises:
        ApprovalRefused: it decides on nothing, or on what was folded and not read.
    """
    seen = {name.removeprefix(_SEEN): digest for name, digest in form.items() if name.startswith(_SEEN)}
    verdict = form.get("verdict", "")
    if verdict not in ("all", "ticked", "some", "none") or not seen.keys() <= {each.id for each in found.batch}:
        raise ApprovalRefused("invalid", "verdict", "The form decides on nothing here.", "Open the page again.")
    ticks = verdict in ("ticked", "some")
    chosen = {id for id in seen if verdict == "all" or (ticks and f"{TICK}{id}" in form)}
    if ticks and not chosen:
        message = "Nothing is ticked."
        raise ApprovalRefused("invalid", "tick", message, "Tick what may run, or reject all of them.")
    approved = [each for each in found.batch if each.id in chosen]
    if "read" not in form and any(actions_of(parts, [each])[0].folded for each in approved):
        message = "Some of what you approve is folded."
        raise ApprovalRefused("invalid", "read", message, "Unfold it, read it, and say that you did.")
    return [Verdict(id, digest, id in chosen) for id, digest in seen.items() if id in chosen or verdict != "some"]


def kept_path(parts: Parts, session: Session, id: str, form: Form) -> str:
    """The page with what was filled in, so that signing in again loses none of it. It is signed for this person: a
    link that somebody else made fills in nothing."""
    fields = {name: value for name, value in form.items() if value and _is_kept(name)}
    if not fields:
        return f"{PATH}/{id}"
    kept = urlsafe_b64encode(compress(json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace"))).decode()
    return with_filled_in(f"{PATH}/{id}", [("kept", kept), ("by", _signed(parts, session, id, kept))])


def kept_of(parts: Parts, request: Request, session: Session, id: str) -> Form:
    """What was filled in before signing in again."""
    kept, by = request.query_params.get("kept", ""), request.query_params.get("by", "")
    if not kept or not hmac.compare_digest(by.encode(), _signed(parts, session, id, kept).encode()):
        return {}
    fields: Form = json.loads(decompress(urlsafe_b64decode(kept)))
    return fields


def _is_kept(name: str) -> bool:
    return name in ("why", ALONE) or name.startswith(TICK)


def _signed(parts: Parts, session: Session, id: str, kept: str) -> str:
    return parts.cursors.write("", [PATH, id, session.facts.sub, kept])
