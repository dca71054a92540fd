"""How a refresh token is written: its family, a secret of its own, and a few digits that tell it from a mangled one.

The family is one for all of a connection, and known to those alone who had one of them. So one that was used is
recognised as long as its connection is kept, long after its own row is gone.
"""

from __future__ import annotations

from pegboard_hub.identity.secrets import digest_of, new_secret

CHECK_DIGITS = 8


def new_refresh_token(family: str) -> str:
    """The next of a family."""
    body = f"{family}.{new_secret()}"
    return f"{body}.{_check(body)}"


def family_of(token: str) -> str:
    """The family of a refresh token; empty of what never was one, such as a part of one."""
    body, _, check = token.rpartition(".")
    return body.partition(".")[0] if check == _check(body) else ""


def _check(body: str) -> str:
    return digest_of(body)[:CHECK_DIGITS]
