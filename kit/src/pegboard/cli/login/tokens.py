"""Using a stored login: an access token for a resource, from those in hand or by a renewal that nobody doubles.

A refresh token is good once; one that comes a second time counts as stolen, and ends the login. So a renewal is made
by one command at a time, and those that waited for it look again before they make one of their own.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pegboard.cli import render
from pegboard.cli.exit import ExitStatus, Failure
from pegboard.cli.http import not_pegboard
from pegboard.cli.login import server
from pegboard.cli.login.store import Access, Login, Store

MARGIN_S = 30
"""A token this near its end is not begun with: what it is for may take a while to reach."""

OVER = ("invalid_grant", "unauthorized_client", "invalid_client")
"""Errors of the token endpoint after which the login is of no more use."""


class Tokens:
    """Access tokens of the login to one instance.

    Args:
        url: the instance's public URL.
        store: where its login is kept.
    """

    def __init__(self, url: str, store: Store | None = None) -> None:
        self._url = url
        self._store = store or Store(url)

    def access(self, resource: str) -> Access | None:
        """A token for one resource; None when nobody is signed in.

        Raises:
            Failure: the login has ended, cannot be used, or cannot be renewed now.
            server.OAuthError: the instance gives no token for that resource.
        """
        found, login = self._in_hand(resource)
        if found is not None or login is None:
            return found
        with self._store.alone():
            found, login = self._in_hand(resource)
            if found is not None or login is None:
                return found
            return self._renew(login, resource)

    def drop(self, resource: str, value: str) -> None:
        """Forget an access token that is refused; another, that came meanwhile, stays."""
        with self._store.alone():
            login = self._store.read()
            if login is not None and resource in login.access and login.access[resource].value == value:
                kept = {name: each for name, each in login.access.items() if name != resource}
                self._keep(replace(login, access=kept))

    def _renew(self, login: Login, resource: str) -> Access:
        form = {"grant_type": "refresh_token", "refresh_token": login.refresh_token, "resource": resource}
        asked_at = server.now()
        with _uninterrupted(), server.connection(self._url) as http:
            try:
                answer = server.AuthorizationServer(self._url, http).post(login.token_endpoint, form)
            except server.OAuthError as error:
                if error.code not in OVER:
                    raise
                self._store.forget()
                raise self._ended() from error
            found, renewal = server.access_of(answer, asked_at), answer.get("refresh_token")
            if found is None:
                raise not_pegboard(self._url)
            # What has ended meanwhile goes, so that a login does not grow with every server ever used.
            still = {name: each for name, each in login.access.items() if each.expires_at > asked_at}
            renewed = renewal if isinstance(renewal, str) and renewal else login.refresh_token
            self._keep(replace(login, refresh_token=renewed, access={**still, resource: found}))
        return found

    def _keep(self, login: Login) -> None:
        if trouble := self._store.rewrite(login):
            render.hint(f"{trouble}. Your login is in {self._store.path} now, which only you can read.")

    def _in_hand(self, resource: str) -> tuple[Access | None, Login | None]:
        """The token for a resource that can be used as it is, and the login."""
        login = self._store.read()
        found = login.access.get(resource) if login else None
        return (found if found and found.expires_at - MARGIN_S > server.now() else None), login

    def _ended(self) -> Failure:
        said = f"Your login to {self._url} has ended."
        return Failure.here(ExitStatus.UNREACHABLE, "login_ended", said, "Sign in again: pegboard login")


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back for the moment in which the old refresh token is used up and the new one not yet kept."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
