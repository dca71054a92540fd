"""The hub's internal door as a runtime sees it: orders, artifacts, what should run and what does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from pegboard.core.errors import PegboardError
from pegboard_hub.publishing.orders import (
    ARTIFACTS,
    CLAIM,
    DESIRED,
    LONGEST_WAIT_S,
    OBSERVED,
    PROGRESS,
    RESULT,
    BuildOrder,
    BuildResult,
    Desired,
    Observed,
)

ANSWER_S = 30.0
"""How long the hub may take beyond what it holds a question open, in seconds."""

M = TypeVar("M", bound=BaseModel)

Credential = Callable[[], str]


class HubAway(PegboardError):
    """The hub does not answer, or with something else; it may another time."""


class NotOurs(PegboardError):
    """A build was given to somebody else, or is not wanted any more."""


class ResultRefused(PegboardError):
    """The hub does not take a build's result. The message is the hub's."""


class HubDoor:
    """Asks the hub. Everything it raises but `NotOurs` and `ResultRefused` is `HubAway`.

    Args:
        client: of the internal door.
        credential: what is shown there; read anew each time, since the supervisor makes one at every start.
    """

    def __init__(self, client: httpx2.AsyncClient, credential: Credential) -> None:
        self._client = client
        self._credential = credential

    async def claim(
        self, builder: str, wait_s: float = LONGEST_WAIT_S, gone: tuple[str, ...] = ()
    ) -> BuildOrder | None:
        """The next build; None where there was none for so long. What builders had that are `gone` is free."""
        asked = {"builder": builder, "wait_s": 0.0 if gone else wait_s, "gone": list(gone)}
        answer = await self._ask("POST", CLAIM, json=asked)
        return _read(BuildOrder, answer) if answer.status_code == httpx2.codes.OK else None

    async def progress(self, order: BuildOrder, builder: str, step: str, what: str = "") -> None:
        """Tell what a build is at; it stays ours by that.

        Raises:
            NotOurs: it is not any more.
        """
        told = {"builder": builder, "attempt": order.attempt, "step": step, "what": what}
        await self._ask("POST", PROGRESS.format(id=order.id), json=told)

    async def result(self, order: BuildOrder, builder: str, result: BuildResult) -> None:
        """Tell what came of a build.

        Raises:
            NotOurs: it is not ours any more.
            ResultRefused: the hub does not take it.
        """
        told = {"builder": builder, "attempt": order.attempt, "result": result.model_dump(mode="json")}
        await self._ask("POST", RESULT.format(id=order.id), json=told)

    async def artifact(self, digest: str) -> bytes:
        """Bytes that the hub keeps, as their digest says."""
        answer = await self._ask("GET", ARTIFACTS.format(digest=digest))
        if hashlib.sha256(answer.content).hexdigest() != digest:
            raise HubAway(f"what the hub gave is not {digest[:12]}")
        return answer.content

    async def put_artifact(self, content: bytes, kind: str) -> str:
        """Have the hub keep bytes; their digest. It keeps each once."""
        digest = hashlib.sha256(content).hexdigest()
        await self._ask("PUT", ARTIFACTS.format(digest=digest), content=content, params={"kind": kind})
        return digest

    async def desired(self, known: str, wait_s: float = LONGEST_WAIT_S) -> Desired | None:
        """What should run, once its version is another than `known`; None where it stayed so."""
        answer = await self._ask("GET", DESIRED, params={"version": known, "wait_s": wait_s})
        return _read(Desired, answer) if answer.status_code == httpx2.codes.OK else None

    async def observed(self, observed: Observed) -> None:
        """Tell what runs."""
        await self._ask("POST", OBSERVED, json=observed.model_dump(mode="json"))

    async def close(self) -> None:
        """Ask no more."""
        await self._client.aclose()

    async def _ask(self, method: str, door: str, **more: object) -> httpx2.Response:
        try:
            headers = {"authorization": f"Bearer {self._credential()}"}
            answer = await self._client.request(method, door, headers=headers, **more)  # type: ignore[arg-type]
        except (httpx2.HTTPError, OSError) as error:
            raise HubAway(f"the hub does not answer ({type(error).__name__})") from error
        if answer.status_code == httpx2.codes.CONFLICT:
            raise NotOurs(_words(answer))
        if answer.status_code == httpx2.codes.UNPROCESSABLE_CONTENT:
            raise ResultRefused(_words(answer))
        if not answer.is_success:
            raise HubAway(f"the hub answered {answer.status_code} at {door}")
        return answer


def _read(kind: type[M], answer: httpx2.Response) -> M:
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise HubAway(f"the hub's answer cannot be read ({error.error_count()} faults)") from error


def _words(answer: httpx2.Response) -> str:
    try:
        said = answer.json()
        fault = said.get("error") or {}
        return str(fault.get("message") or said.get("detail") or said.get("message") or said)[:500]
    except (ValueError, AttributeError):
        return f"status {answer.status_code}"
