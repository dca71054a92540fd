"""Asking an instance over HTTP: how long, through which proxies, and what its errors mean to who typed a command."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from pegboard.cli.exit import ExitStatus, Failure, read_refusal, refused

CONNECT_S = 10.0
API_S = 30.0
TOOL_S = 300.0
"""A tool may take its time; nothing else here does."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Token:
    """An access token as it was issued. It lives in memory, for one run of the command."""

    value: str = field(repr=False)
    resource: str
    answer: Mapping[str, Any] = field(repr=False)

    def claims(self) -> dict[str, Any]:
        """What the token states (`claims_of`).

        Raises:
            Failure: the hub issued something that is not a JWT.
        """
        claims = claims_of(self.value)
        if not claims:
            raise not_pegboard(self.resource)
        return claims


START = "Start it with: make up. Is it on another port? Name it with PEGBOARD_PORT or --url."


@contextmanager
def reaching(url: str, mend: str = START) -> Iterator[None]:
    """Turn what goes wrong on the way to `url` into the one failure that says so.

    Args:
        url: where the way leads.
        mend: what to do where nothing answers; without it, what there is to do for an instance.
    """
    try:
        yield
    except httpx2.ConnectError as error:
        raise Failure.here(ExitStatus.UNREACHABLE, "unreachable", f"Nothing answers at {url}.", mend) from error
    except httpx2.TimeoutException as error:
        raise Failure.here(ExitStatus.UNREACHABLE, "unreachable", f"{url} did not answer in time.") from error
    except httpx2.HTTPError as error:
        raise Failure.here(
            ExitStatus.UNREACHABLE, "unreachable", f"The connection to {url} broke: {type(error).__name__}."
        ) from error


def failure_of(status: int, answer: Mapping[str, Any] | None, url: str) -> Failure:
    """The failure for an HTTP answer that is an error: a refusal where it is one, else what the status says."""
    refusal = read_refusal((answer or {}).get("error"))
    if refusal is None:
        return not_pegboard(url)
    if status in (400, 422) or refusal["code"] == "unknown_person":
        return Failure(ExitStatus.USAGE, refusal)
    if status == 500:
        return Failure(ExitStatus.FAILED, refusal)
    return refused(refusal, status)


def not_pegboard(url: str) -> Failure:
    """Something answers, but not as Pegboard does."""
    return Failure.here(
        ExitStatus.UNREACHABLE,
        "not_pegboard",
        f"What answers at {url} is not a working Pegboard.",
        "Check --url, PEGBOARD_PUBLIC_URL and PEGBOARD_PORT.",
    )


def trusts_proxies(url: str) -> bool:
    """Whether proxies named in the environment apply: never for this machine itself."""
    return (urlsplit(url).hostname or "") not in LOOPBACK


def claims_of(token: str) -> dict[str, Any]:
    """What a JWT states, decoded for reading and not verified: the edge and the server verify it. {} of another."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def document(response: httpx2.Response) -> dict[str, Any] | None:
    """The JSON object that an answer is; None of another."""
    try:
        answer = response.json()
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
