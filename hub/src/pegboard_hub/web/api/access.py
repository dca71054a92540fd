"""The access check: may this person or service use this server or tool? One question, or many at once.

For programs that decide what to offer before a call, such as a surface that shows a person's tools. Edge and server
decide on the call itself, with the same function; whoever asks here still has to let them.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from pegboard.core.caller import Caller
from pegboard_hub.common.requests import request_id
from pegboard_hub.web.api.auth import SignedIn
from pegboard_hub.web.api.bodies import checked, invalid, read_object
from pegboard_hub.web.api.examples import EXAMPLES
from pegboard_hub.web.api.openapi import refusals
from pegboard_hub.web.api.schema import AccessQuestion, AccessVerdict, AccessVerdicts
from pegboard_hub.web.api.views import approvals
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.questions import MOST_ARGUMENTS, Question, Unanswerable, answer

MOST_QUESTIONS = 100
BODY_LIMIT = MOST_QUESTIONS * (MOST_ARGUMENTS + 4096)
"""Bytes of a request: the largest batch with the longest of everything."""

_ONE = AccessQuestion.model_json_schema()
_MANY = {
    "title": "AccessQuestions",
    "description": "Many questions; one that cannot be answered refuses them all, and is named.",
    "type": "object",
    "properties": {"questions": {"type": "array", "items": _ONE, "minItems": 1, "maxItems": MOST_QUESTIONS}},
    "required": ["questions"],
    "additionalProperties": False,
}
_EXAMPLE = EXAMPLES["AccessQuestion"]
_EXAMPLES = {"one": {"value": _EXAMPLE}, "many": {"value": {"questions": [_EXAMPLE]}}}
_BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"oneOf": [_ONE, _MANY]}, "examples": _EXAMPLES}},
}
"""For OpenAPI. The body is read here, after the sign-in and within a limit, which FastAPI's own reading is not."""


def add_access_routes(router: APIRouter, parts: Parts) -> None:
    """Add the route; the router sees to the sign-in."""

    @router.post(
        "/access:check",
        summary="May they use this server or tool? Of others: for owners and security only",
        openapi_extra={"requestBody": _BODY},
        responses=refusals(400, 404, 413),
    )
    async def check_access(request: Request, caller: SignedIn) -> AccessVerdict | AccessVerdicts:
        body = await read_object(request, BODY_LIMIT)
        if "questions" not in body:
            return await _verdict(parts, request, caller, body, "")
        questions = _list(body)
        return AccessVerdicts(
            answers=[
                await _verdict(parts, request, caller, question, f"questions.{number}.")
                for number, question in enumerate(questions)
            ]
        )


def _list(body: dict[str, Any]) -> list[Any]:
    if unknown := sorted(body.keys() - {"questions"}):
        raise invalid(unknown[0][:64], "Nothing stands beside questions.")
    questions = body["questions"]
    if not isinstance(questions, list) or not 0 < len(questions) <= MOST_QUESTIONS:
        raise invalid("questions", f"It is not a list of 1 to {MOST_QUESTIONS} questions.")
    return questions


async def _verdict(parts: Parts, request: Request, asker: Caller, asked: Any, place: str) -> AccessVerdict:
    question = Question(**dict(checked(AccessQuestion, asked, place)))
    try:
        subject, server, decision = await answer(parts, asker, question)
    except Unanswerable as error:
        raise error.named(place) from error
    refusal = decision.refusal
    return AccessVerdict(
        server=str(server.name),
        tool=question.tool,
        subject=subject.sub,
        sub_type=subject.sub_type,
        surface=subject.surface,
        channel=subject.channel,
        allowed=decision.allowed,
        depends_on=list(decision.depends_on),
        layer=refusal.layer if refusal else None,
        rule=decision.checks[-1].rule if refusal else None,
        reason=refusal.reason if refusal else None,
        approvals=approvals(server, question.tool, decision),
        refusal=refusal.for_request(request_id(request)).as_json() if refusal else None,
    )
