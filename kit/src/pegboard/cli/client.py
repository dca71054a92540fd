"""The hub as the command sees it: tokens and the API, over HTTP through the edge."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2

from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.http import API_S, CONNECT_S, Token, document, failure_of, reaching, trusts_proxies
from pegboard.cli.options import Options
from pegboard.cli.text import line
from pegboard.core.names import ServerName, api_audience

if TYPE_CHECKING:
    from pegboard.cli.service import Service

DEMO_GRANT = "urn:pegboard:params:oauth:grant-type:demo-person"
TOKEN_VARIABLE = "PEGBOARD_TOKEN"  # noqa: S105 - a variable's name
TOKEN_FILE_VARIABLE = "PEGBOARD_TOKEN_FILE"  # noqa: S105 - as above
"""Where a CI job has the token of its service; no login is looked at then."""

NOBODY = "?"
"""No person can be called this (`core.names.NAME_PATTERN`)."""

NEAR = 0.7
"""How alike a mistyped server and its suggestion are (`difflib`): a slip of the hand, or the other namespace."""

PAGE = 200
"""Entries of each further page of a list: the most that the API gives."""

T = TypeVar("T")


class HubClient:
    """One connection to the hub for one command. Use it as a context manager."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._http = httpx2.Client(
            base_url=options.url,
            timeout=httpx2.Timeout(API_S, connect=CONNECT_S),
            trust_env=trusts_proxies(options.url),
        )
        self._service = _service(options)

    def __enter__(self) -> HubClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._http.close()

    def server_token(self, server: ServerName, scope: str | None = None) -> Token:
        """A token bound to one server's URL, of the widest scope unless one is named.

        Raises:
            Failure: no such server, not signed in, unreachable.
        """
        try:
            return self._token(server.resource_url(self._options.url), scope)
        except Failure as failure:
            # RFC 8707 §2: the resource is unknown. That is OAuth's word for it; a person named a server.
            if failure.error["code"] == "invalid_target":
                raise self.no_such_server(server) from failure
            raise

    def api_token(self, scope: str | None = None) -> Token:
        """A token bound to the hub's own API."""
        return self._token(api_audience(self._options.url), scope)

    def get(self, path: str, **query: str | None) -> dict[str, Any]:
        """What the API answers under `/api/v1/`.

        Raises:
            Failure: refused, unreachable, or not an answer of Pegboard's.
        """
        params = {name: value for name, value in query.items() if value is not None}
        return self._request("GET", path, params=params)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What the API answers to a document that is sent to it, under `/api/v1/`.

        Raises:
            Failure: as `get`.
        """
        return self._request("POST", path, json=body)

    def delete(self, path: str) -> dict[str, Any]:
        """What the API answers to taking something away, under `/api/v1/`; {} where it has nothing to say.

        Raises:
            Failure: as `get`.
        """
        return self._request("DELETE", path)

    def upload(
        self, path: str, content: bytes, media_type: str, query: Mapping[str, str]
    ) -> tuple[dict[str, Any], bool]:
        """What the API answers to bytes that are sent to it, under `/api/v1/`; and whether something new came of it.

        Raises:
            Failure: as `get`.
        """
        params = {name: value for name, value in query.items() if value}
        sent = {"params": params, "content": content, "headers": {"Content-Type": media_type}}
        answer, status = self._answer("POST", path, sent)
        return answer, status != httpx2.codes.OK

    def every(self, path: str, key: str, most: int | None = None, **query: str | None) -> list[dict[str, Any]]:
        """All entries of a list of the API, page after page, or so many at most.

        Args:
            path: under `/api/v1/`.
            key: of the list in each answer.
            most: where to end; None for all.
            query: as `get`.

        Raises:
            Failure: as `get`.
        """
        return self.every_of(path, key, most, **query)[0]

    def every_of(
        self, path: str, key: str, most: int | None = None, **query: str | None
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """As `every`, with the first answer for what else it says.

        Raises:
            Failure: as `get`.
        """
        answer = first = self.get(path, **query)
        found: list[dict[str, Any]] = list(answer.get(key, ()))
        while isinstance(answer.get("next"), str) and (most is None or len(found) < most):
            answer = self.get(path, **query, cursor=answer["next"], limit=str(PAGE))
            found += answer.get(key, ())
        return found[:most], first

    def with_server(self, server: ServerName, use: Callable[[Token], T]) -> T:
        """What `use` makes of a token for a server.

        Raises:
            Failure: as `server_token`, and as `use`. A kept token that is refused is renewed, for the next command:
                `use` may have called a tool, and is not run twice.
        """
        token = self.server_token(server)
        try:
            return use(token)
        except Failure as failure:
            if failure.error["code"] == "unauthenticated" and self._drops(token):
                self.server_token(server)  # where the login has ended, that is what there is to say
                failure.hints = ("The token is renewed: run it again.",)
            raise

    def record(self, server: ServerName) -> dict[str, Any] | None:
        """All of a server of that name; None where there is none that this caller may know of.

        Raises:
            Failure: as `get`.
        """
        try:
            return self.get(f"servers/{server}")
        except Failure as failure:
            if failure.error["code"] == "unknown_server":
                return None
            raise

    def knows(self, server: ServerName) -> bool:
        """Whether the edge has a server of that name, whatever it lets this caller do there.

        Raises:
            Failure: unreachable, or there is no token for it, as for a job that may only submit.
        """
        headers = {"Authorization": f"Bearer {self.server_token(server).value}"}
        with reaching(self._options.url):
            answer = self._http.post(server.resource_url(self._options.url), json={}, headers=headers)
        return answer.status_code != httpx2.codes.NOT_FOUND

    def no_such_server(self, server: ServerName) -> Failure:
        """The failure for a server that nobody can call.

        It says why, where this caller may know of the server; else it names the nearest one that they may use.
        """
        mine: list[str] = []
        with suppress(Failure):
            why = line((self.record(server) or {}).get("out_of_reach") or "")
            if why:
                return Failure.here(ExitStatus.DENIED, "out_of_reach", f"{server} is {why}.")
        with suppress(Failure):  # a suggestion is worth no second error
            mine = [str(each.get("server", "")) for each in self.every("servers", "servers")]
        near = get_close_matches(str(server), set(mine) - {str(server)}, n=1, cutoff=NEAR)
        if near:
            message, mend = f"There is no server {server} here.", f"Did you mean {near[0]}?"
        else:
            message = f"There is no server {server} here, or it is not deployed."
            mend = f"See what you may use: pegboard servers{self._options.as_arguments()}"
        return Failure.here(ExitStatus.DENIED, "unknown_server", message, mend)

    def _request(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        return self._answer(method, path, sent)[0]

    def _answer(self, method: str, path: str, sent: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        token = self.api_token()
        response = self._send(token, method, path, sent)
        if response.status_code == httpx2.codes.UNAUTHORIZED and self._drops(token):
            response = self._send(self.api_token(), method, path, sent)
        answer = {} if response.status_code == httpx2.codes.NO_CONTENT else document(response)
        if response.is_success and answer is not None:
            return answer, response.status_code
        raise failure_of(response.status_code, answer, self._options.url)

    def _token(self, resource: str, scope: str | None = None) -> Token:
        if self._options.person is None:
            if resource == api_audience(self._options.url) and (given := given_token(os.environ)):
                return Token(given, resource, {"access_token": given, "token_type": "Bearer"})
            return self._service.token(resource) if self._service else self._login_token(resource)
        response = self._ask(
            {
                "person": self._options.person,
                "surface": self._options.surface or "cli",
                "channel": self._options.channel or "",
                "resource": resource,
                "scope": scope or "",
            }
        )
        answer = document(response)
        if response.is_success and answer is not None and isinstance(answer.get("access_token"), str):
            return Token(answer["access_token"], resource, answer)
        if (answer or {}).get("error") == "unsupported_grant_type":
            raise Failure.here(
                ExitStatus.USAGE,
                "no_demo_directory",
                f"--as works with the demo directory alone, and people sign in to {self._options.url} by a login.",
                f"Leave --as out, and sign in: pegboard login{self._options.url_argument}",
            )
        raise _token_failure(response.status_code, answer, self._options.url)

    def _login_token(self, resource: str) -> Token:
        """A token by the login that is kept on this machine."""
        from pegboard.cli.login.server import OAuthError, now
        from pegboard.cli.login.tokens import Tokens

        try:
            found = Tokens(self._options.url).access(resource)
        except OAuthError as error:
            said = {"error": error.code, "error_description": error.description}
            raise _token_failure(httpx2.codes.BAD_REQUEST, said, self._options.url) from error
        if found is None:
            raise self._not_signed_in()
        left = {"expires_in": max(0, int(found.expires_at - now())), "scope": found.scope}
        return Token(found.value, resource, {"access_token": found.value, "token_type": "Bearer", **left})

    def _drops(self, token: Token) -> bool:
        """Whether another token may be had in place of one that was refused; it is forgotten then."""
        if self._options.person is not None or given_token(os.environ):
            return False
        if self._service:
            self._service.drop()
            return True
        from pegboard.cli.login.tokens import Tokens

        Tokens(self._options.url).drop(token.resource, token.value)
        return True

    def _send(self, token: Token, method: str, path: str, sent: Mapping[str, Any]) -> httpx2.Response:
        headers = {**sent.get("headers", {}), "Authorization": f"Bearer {token.value}"}
        with reaching(self._options.url):
            return self._http.request(method, f"/api/v1/{path}", **{**sent, "headers": headers})

    def _ask(self, form: Mapping[str, str]) -> httpx2.Response:
        fields = {name: value for name, value in form.items() if value}
        with reaching(self._options.url):
            return self._http.post("/oauth/token", data={"grant_type": DEMO_GRANT, **fields})

    def _not_signed_in(self) -> Failure:
        """Nobody is signed in. A hub with the demo directory names its people when asked for one who cannot exist."""
        answer = document(
            self._ask({"person": NOBODY, "surface": "cli", "resource": api_audience(self._options.url)})
        )
        said = (answer or {}).get("error_description") if (answer or {}).get("error") == "invalid_grant" else ""
        known = str(said or "").partition("; ")[2]
        mend = f"Sign in: pegboard login{self._options.url_argument}"
        if known:
            mend += f" (or use --as PERSON: {known})"
        return Failure.here(ExitStatus.UNREACHABLE, "not_signed_in", "You are not signed in.", mend)


def _service(options: Options) -> Service | None:
    """The program that this runs as, where the environment names its certificate."""
    from pegboard.cli.service import SVID_VARIABLE, Service

    folder = os.environ.get(SVID_VARIABLE)
    return Service(Path(folder), options.url) if folder and options.person is None else None


def given_token(variables: Mapping[str, str]) -> str:
    """The token for the API that the environment holds, as a CI job's does; empty where there is none.

    Raises:
        Failure: the file that should hold it cannot be read.
    """
    if given := variables.get(TOKEN_VARIABLE, "").strip():
        return given
    if not (place := variables.get(TOKEN_FILE_VARIABLE, "")):
        return ""
    try:
        return Path(place).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure.usage(f"{TOKEN_FILE_VARIABLE}={place} cannot be read.") from error


def _token_failure(status: int, answer: Mapping[str, Any] | None, url: str) -> Failure:
    """The failure for an error of the token endpoint, which speaks RFC 6749 §5.2."""
    code = (answer or {}).get("error")
    if not isinstance(code, str):
        return failure_of(status, answer, url)
    said = (answer or {}).get("error_description")
    message = said if isinstance(said, str) and said else f"No token: {code}."
    if status >= 500:
        return Failure.here(ExitStatus.UNREACHABLE, code, message)
    if code in ("invalid_target", "access_denied"):
        return Failure(ExitStatus.DENIED, Failure.here(ExitStatus.DENIED, code, message).error | {"layer": "hub"})
    return Failure.here(ExitStatus.USAGE, code, message)
