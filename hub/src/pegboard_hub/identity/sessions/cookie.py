"""The cookie that holds a session's secret.

Cookies ignore ports, so its name carries the instance; over TLS the `__Host-` prefix keeps subdomains from setting it
(RFC 6265bis §4.1.3.2). A request that brings two of them was tampered with, and counts as signed out.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class Cookie:
    """One cookie of this instance for its whole origin. Scripts cannot read it; other sites' forms do not send it."""

    name: str
    secure: bool

    @classmethod
    def of(cls, instance: str, public_url: str, purpose: str = "") -> Cookie:
        """The instance's session cookie, or one beside it for another purpose."""
        secure = public_url.startswith("https://")
        suffix = f"_{purpose}" if purpose else ""
        return cls(f"{'__Host-' if secure else ''}pegboard_{instance}{suffix}", secure)

    def read(self, request: HTTPConnection) -> str | None:
        """The value that came with a request; None where none came, or more than one."""
        values = self._values(request)
        return values[0] if len(values) == 1 and values[0] else None

    def is_doubled(self, request: HTTPConnection) -> bool:
        """Whether more than one came: somebody else has set one of them."""
        return len(self._values(request)) > 1

    def set(self, response: Response, value: str, lifetime_s: int) -> None:
        """Give it to the browser for `lifetime_s` seconds."""
        response.set_cookie(
            self.name, value, max_age=lifetime_s, path="/", secure=self.secure, httponly=True, samesite="lax"
        )

    def clear(self, response: Response) -> None:
        """Take it away."""
        response.delete_cookie(self.name, path="/", secure=self.secure, httponly=True, samesite="lax")

    def _values(self, request: HTTPConnection) -> list[str]:
        pairs = (pair.partition("=") for header in request.headers.getlist("cookie") for pair in header.split(";"))
        return [value.strip() for name, _, value in pairs if name.strip() == self.name]
