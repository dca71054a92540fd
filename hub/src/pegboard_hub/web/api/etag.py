"""Entity tags of the API (RFC 9110 §8.8.3): what has not changed is not sent again, and no edit undoes another.

A tag is strong: a digest of the answer's bytes and of who asked. What has a version and can be edited has that in
front of it, with what it is, for those who may see every version: `"7.2c26b46b.1f0c…"`. `If-None-Match` compares the
whole tag; `If-Match` asks only whether the version is still the one that the editor saw, whatever else of the answer
has changed since, such as whether the server is live. Nobody else's tag says anything of a version: it counts changes
that they may not see.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel

from pegboard.core.caller import Caller
from pegboard_hub.common.requests import Refused, refuse
from pegboard_hub.registry.errors import ChangeConflict
from pegboard_hub.registry.history import Entry

LONGEST_HEADER = 1024
_EDITABLE = re.compile(r'"(\d{1,18})\.([0-9a-f]{8})\.[0-9a-f]{32}"')
_LIST = re.compile(r'\s*(?:W/)?("[!#-~\x80-\xff]*")\s*(?:,|$)')

_GET_AGAIN = "Get it again, look at what has changed, and send your change with its new ETag."


class Version(NamedTuple):
    """Which version of what.

    Attributes:
        of: what it is, by a name that nothing else has: a server's, a review's id.
        number: counts up with each change.
    """

    of: str
    number: int


def tagged(
    request: Request, body: BaseModel | bytes, caller: Caller, *, version: Version | None = None, status: int = 200
) -> Response:
    """An answer with its tag, or 304 where the asker has it already.

    Args:
        request: what it answers; `If-None-Match` counts for GET and HEAD (RFC 9110 §13.1.2).
        body: the answer; bytes are JSON already.
        caller: who asked.
        version: of what is answered, where the caller may see every change that it counts.
        status: where it is sent.
    """
    content = body if isinstance(body, bytes) else body.model_dump_json().encode()
    tag = tag_of(content, caller, version)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if request.method in ("GET", "HEAD") and _names(request.headers.getlist("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(content, status, headers, media_type="application/json")


def tag_of(content: bytes, caller: Caller, version: Version | None = None) -> str:
    """The strong tag of some bytes for one caller, in its quotes."""
    who = f"{caller.sub_type} {caller.sub} {caller.surface} {caller.channel}\n".encode()
    digest = hashlib.sha256(who + content).hexdigest()[:32]
    return f'"{digest}"' if version is None else f'"{version.number}.{_named(version.of)}.{digest}"'


def expected_version(request: Request, of: str) -> int:
    """The version that an editor saw, of `If-Match`.

    Args:
        request: that of the change.
        of: what is to be changed, as its `Version` names it.

    Raises:
        Refused: 428, there is none (RFC 6585 §3); 412, it is no tag of something that can be edited.
    """
    given = request.headers.getlist("if-match")
    if not given:
        message = "If-Match: It is missing, so this change could undo somebody else’s."
        raise refuse(428, "precondition_required", message, "Send the ETag of what you are changing as If-Match.")
    found = _EDITABLE.fullmatch(given[0].strip()) if len(given) == 1 else None
    if found is None or found[2] != _named(of):
        message = "If-Match: It is not an ETag that you were given for this."
        raise refuse(412, "precondition_failed", message, _GET_AGAIN)
    return int(found[1])


def _named(of: str) -> str:
    return hashlib.sha256(of.encode()).hexdigest()[:8]


def conflict(error: ChangeConflict) -> Refused:
    """The refusal of a change that came too late: what has changed since, and by whom."""
    told = "; ".join(_missed(entry) for entry in error.missed) or "it is at another version"
    message = f"If-Match: {error.current.name} has changed since you got it: {told}."
    refused = refuse(412, "precondition_failed", message, _GET_AGAIN, "changed_since")
    refused.details = {"changes": [_told(entry) for entry in error.missed]}
    return refused


def _missed(entry: Entry) -> str:
    return f"{entry.actor} changed {', '.join(entry.fields) or entry.action}"


def _told(entry: Entry) -> dict[str, Any]:
    return {
        "version": entry.version,
        "at": entry.at_ms,
        "actor": entry.actor,
        "action": entry.action,
        "why": entry.why,
        "fields": sorted(entry.fields),
    }


def _names(given: list[str], tag: str) -> bool:
    """Whether a header names a tag; comparison is weak here (RFC 9110 §13.1.2)."""
    text = ",".join(given)
    if not text or len(text) > LONGEST_HEADER:
        return False
    return text.strip() == "*" or tag in _LIST.findall(text)
