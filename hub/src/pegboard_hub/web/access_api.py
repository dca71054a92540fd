"""The access check: may this person or service use this server or tool? One question, or many at once.

For programs that decide what to offer before a call, such as a surface that shows a person's tools. Edge and server
decide on the call itself, with the same function; whoever asks here still has to let them.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError

from pegboard.core.caller import Caller
from pegboard_hub.common.requests import Refused, read_body, refuse, request_id
from pegboard_hub.web.auth import SignedIn
from pegboard_hub.web.parts import Parts
from pegboard_hub.web.questions import MOST_ARGUMENTS, Question, Unanswerable, answer, strict_json
from pegboard_hub.web.schema import AccessQuestion, AccessVerdict, AccessVerdicts

MOST_QUESTIONS = 100
BODY_LIMIT = MOST_QUESTIONS * (MOST_ARGUMENTS + 4096)
"""Bytes of a request: the largest batch with the longest of everything."""

_MEND = "Mend the named field; /api/v1/openapi.json says what there is."

_ONE = AccessQuestion.model_json_schema()
_MANY = {
    "title": "AccessQuestions",
    "description": "Many questions; one that cannot be answered refuses them all, and is named.",
    "type": "object",
    "properties": {"questions": {"type": "array", "items": _ONE, "minItems": 1, "maxItems": MOST_QUESTIONS}},
    "required": ["questions"],
    "additionalProperties": False,
}
_BODY = {"required": True, "content": {"application/json": {"schema": {"oneOf": [_ONE, _MANY]}}}}
"""For OpenAPI. The body is read here, after the sign-in and within a limit, which FastAPI's own reading is not."""


def access_routes(parts: Parts) -> APIRouter:
    """The route; whoever includes it sees to the sign-in."""
    router = APIRouter()

    @router.post(
        "/access:check",
        summary="May they use this server or tool? Of others: for owners and security only",
        openapi_extra={"requestBody": _BODY},
    )
    async def check(request: Request, caller: SignedIn) -> AccessVerdict | AccessVerdicts:
        body = _json(await read_body(request, BODY_LIMIT))
        if "questions" not in body:
            return await _verdict(parts, request, caller, body, "")
        questions = _list(body)
        return AccessVerdicts(
            answers=[
                await _verdict(parts, request, caller, question, f"questions.{number}.")
                for number, question in enumerate(questions)
            ]
        )

    return router


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = strict_json(body)
    except ValueError as error:
        raise refuse(400, "invalid_request", f"The body is not JSON: {error}.", "Send one JSON object.") from error
    if not isinstance(value, dict):
        raise _invalid("The body is not an object.")
    return value


def _list(body: dict[str, Any]) -> list[Any]:
    if unknown := sorted(body.keys() - {"questions"}):
        raise _invalid(f"{unknown[0][:64]}: Nothing stands beside questions.")
    questions = body["questions"]
    if not isinstance(questions, list) or not 0 < len(questions) <= MOST_QUESTIONS:
        raise _invalid(f"questions: It is not a list of 1 to {MOST_QUESTIONS} questions.")
    return questions


async def _verdict(parts: Parts, request: Request, asker: Caller, asked: Any, place: str) -> AccessVerdict:
    try:
        question = Question(**dict(AccessQuestion.model_validate(asked, strict=True)))
        subject, server, decision = await answer(parts, asker, question)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part)[:64] for part in fault["loc"])
        raise _invalid(f"{(place + field).rstrip('.') or 'body'}: {fault['msg']}.") from error
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
        refusal=refusal.for_request(request_id(request)).as_json() if refusal else None,
    )


def _invalid(message: str) -> Refused:
    return refuse(422, "invalid_request", message, _MEND)
