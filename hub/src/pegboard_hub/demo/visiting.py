"""A person's browser, as far as the story needs one: it keeps cookies, follows redirects and sends a page's forms."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx2

MOST_STEPS = 5
"""Redirects in a row."""


@dataclass(slots=True)
class Form:
    """A form of a page: where it goes, and what it carries by itself."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: set[tuple[str, str]] = field(default_factory=set)


class Visitor:
    """One browser, in which nobody is signed in at first."""

    def __init__(self, http: httpx2.AsyncClient, origin: str) -> None:
        self._http = http
        self._origin = origin
        self._cookies: dict[str, str] = {}

    async def open(self, url: str) -> httpx2.Response:
        """A page, wherever its address leads."""
        return await self._onward(await self._send("GET", url))

    async def press(self, page: httpx2.Response, name: str, value: str) -> httpx2.Response:
        """The page that a button leads to.

        Raises:
            LookupError: there is no such button on the page.
        """
        reader = _Reader()
        reader.feed(page.text)
        for form in reader.forms:
            if (name, value) in form.buttons:
                sent = {**form.fields, name: value}
                return await self._onward(await self._send("POST", urljoin(str(page.url), form.action), sent))
        raise LookupError(f"no button {value!r} on {page.url}")

    async def _onward(self, answer: httpx2.Response) -> httpx2.Response:
        for _ in range(MOST_STEPS):
            if not answer.is_redirect:
                break
            answer = await self._send("GET", urljoin(str(answer.url), answer.headers["location"]))
        return answer

    async def _send(self, method: str, url: str, form: dict[str, str] | None = None) -> httpx2.Response:
        headers = {"accept": "text/html", "cookie": "; ".join(f"{n}={v}" for n, v in self._cookies.items())}
        if method == "POST":
            headers |= {"origin": self._origin, "sec-fetch-site": "same-origin"}
        answer = await self._http.request(method, url, data=form, headers=headers, follow_redirects=False)
        self._http.cookies.clear()  # they are this browser's, and not of whoever else uses the connection
        for header in answer.headers.get_list("set-cookie"):
            name, _, value = header.partition(";")[0].partition("=")
            self._cookies[name] = value
        return answer


class _Reader(HTMLParser):
    """Finds the forms of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", "")))
        elif self.forms and tag == "input" and given.get("type") == "hidden":
            self.forms[-1].fields[given.get("name", "")] = given.get("value", "")
        elif self.forms and tag == "button":
            self.forms[-1].buttons.add((given.get("name", ""), given.get("value", "")))
