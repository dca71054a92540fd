"""The operator's way to the running hub: its internal socket, with the operator's own credential."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2

from pegboard.core.errors import PegboardError, Unreachable
from pegboard_hub.common.home import Home


class HubRefused(PegboardError):
    """The hub answered, and did not do what it was asked."""


class HubDoor:
    """One connection. It is used as a context manager."""

    def __init__(self, home: Home, patience_s: float = 10.0) -> None:
        """Prepare; `patience_s` is how long an answer may take."""
        self._home = home
        transport = httpx2.HTTPTransport(uds=str(home.internal_socket))
        self._client = httpx2.Client(transport=transport, base_url="http://hub", timeout=patience_s)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The hub's answer to one request.

        Raises:
            Unreachable: no hub answers, or the credential cannot be read.
            HubRefused: it answered with an error.
        """
        try:
            response = self._client.request(method, path, json=body, headers=self._credential())
        except httpx2.HTTPError as error:
            raise Unreachable(
                f"The hub of {self._home.root} does not answer: look with `pegboard status`, start it with "
                "`pegboard up`."
            ) from error
        if response.status_code == httpx2.codes.UNAUTHORIZED:
            raise Unreachable("The hub does not know this credential: it was just started anew. Try again.")
        if not response.is_success:
            raise HubRefused(_words(response))
        return response.json()

    def _credential(self) -> dict[str, str]:
        try:
            token = self._home.operator_token.read_text(encoding="utf-8").strip()
        except PermissionError as error:
            raise Unreachable(
                "Only the operator may ask this: run it as the user that runs `pegboard up`."
            ) from error
        except OSError as error:
            raise Unreachable(
                f"Nothing runs on {self._home.root}: start it with `pegboard up`, or name another with --home."
            ) from error
        return {"authorization": f"Bearer {token}"}

    def __enter__(self) -> HubDoor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._client.close()


def ask_at(home: Path, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """One request to the hub of a home; commands of the kit find it as an entry point.

    Raises:
        Unreachable, HubRefused: as `HubDoor.ask`.
    """
    with HubDoor(Home.at(home)) as hub:
        return hub.ask(method, path, dict(body) if body is not None else None)


def _words(response: httpx2.Response) -> str:
    try:
        error = response.json()["error"]
        return f"{error['message']} {error['what_to_do']}"
    except (ValueError, KeyError, TypeError):
        return f"The hub answered {response.status_code}; its log says why."
