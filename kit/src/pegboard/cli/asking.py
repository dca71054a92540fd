"""What a server asks of the person who calls it (MCP elicitation), asked at the terminal.

A form is answered by whoever sits there, and only by them: without a terminal the command does not say that it can
ask, so the server takes its other way. There is no option that says yes beforehand: it would be in every script, and
the question is there so that somebody reads what is about to happen.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

import anyio
from mcp.client import ClientRequestContext
from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult

from pegboard.cli import render
from pegboard.cli.arguments import parse_pairs, type_label
from pegboard.cli.exit import Failure
from pegboard.cli.login.browser import has_browser, open_page
from pegboard.cli.pending import Pending
from pegboard.cli.verbatim import block, visible

AGAIN_S = 2.0
"""Seconds between two looks at the same page, where a server itself does not wait."""

YES = frozenset({"y", "yes"})
CANCEL = ElicitResult(action="cancel")
DECLINE = ElicitResult(action="decline")


class AtTheTerminal:
    """Answers a server's questions by asking the person there.

    Attributes:
        pending: what the call waits for, once a server has named its page.
    """

    def __init__(self, url: str, who: str, *, waits: bool, browser: bool, patience: Callable[[], bool]) -> None:
        """
        Args:
            url: of the instance: its pages are opened without asking, where the command waits.
            who: asks, in words: the server and its tool.
            waits: whether the command waits for people elsewhere.
            browser: whether a browser may be opened.
            patience: whether there is time left to wait in this conversation.
        """
        self.pending: Pending | None = None
        self._url = url
        self._who = who
        self._waits = waits
        self._browser = browser and has_browser(os.environ)
        self._patience = patience
        self._asked_at = 0.0

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:  # noqa: ARG002
        """The answer to one question."""
        if isinstance(params, ElicitRequestFormParams):
            return self._form(params)
        ours = Pending.of_page(params.url, self._url)
        return self._elsewhere(params.message, params.url) if ours is None else await self._approval(ours)

    async def _approval(self, pending: Pending) -> ElicitResult:
        """Pegboard's own page. To accept says only that it will be looked at; who decides it decides there."""
        first, self.pending = pending != self.pending, pending
        if not self._waits or not self._patience():
            return CANCEL
        if first:
            render.hint(f"Waiting for a person's yes, there: {pending.page}")
            self._open(pending.page)
        elif time.monotonic() - self._asked_at < AGAIN_S:
            await anyio.sleep(AGAIN_S)
        self._asked_at = time.monotonic()
        return ElicitResult(action="accept")

    def _elsewhere(self, message: str, url: str) -> ElicitResult:
        """A page of the server's choice: nobody goes there unasked (MCP, Elicitation: safe URL handling)."""
        parts = _parts(url)
        if (
            parts is None
            or parts.scheme not in ("http", "https")
            or not parts.hostname
            or not (url.isascii() and url.isprintable())
            or "@" in parts.netloc
        ):
            render.hint(f"{self._who} asked to open what is no plain address; it was not opened: {visible(url)}")
            return DECLINE
        self._says(message)
        render.hint(f"  It asks you to open a page of {parts.hostname}, which is not Pegboard's:\n  {visible(url)}")
        answer = ask("Open it? [y/N]")
        if answer is None:
            return CANCEL
        if answer.lower() not in YES:
            return DECLINE
        self._open(url)
        return ElicitResult(action="accept")

    def _form(self, params: ElicitRequestFormParams) -> ElicitResult:
        self._says(params.message)
        fields = params.requested_schema.get("properties")
        fields = fields if isinstance(fields, Mapping) else {}
        if not fields:
            answer = ask("Go on? [y/N]")
            if answer is None:
                return CANCEL
            return ElicitResult(action="accept", content={}) if answer.lower() in YES else DECLINE
        found = _fill(fields, params.requested_schema)
        return CANCEL if found is None else ElicitResult(action="accept", content=found)

    def _says(self, message: str) -> None:
        render.hint(f"{self._who} asks:")
        for row in block(message, "  "):
            print(row, file=sys.stderr)

    def _open(self, page: str) -> None:
        if self._browser:
            open_page(page)


def _parts(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def ask(question: str) -> str | None:
    """What the person types; None where they end the input instead.

    Raises:
        KeyboardInterrupt: they interrupt. An event loop would only note it, and the reading go on.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        print(question, end=" ", file=sys.stderr, flush=True)
        line = typed()
    finally:
        signal.signal(signal.SIGINT, before)
    return line.strip() if line else None


def typed() -> str:
    """The next line that the person types; empty at the end of the input."""
    if sys.stdin.isatty():
        _until_typed()
    return sys.stdin.readline()


def _until_typed() -> None:
    """Wait for a line, or for a signal: one that comes just before a read would be seen only after it."""
    told, tells = socket.socketpair()
    with told, tells:
        tells.setblocking(False)
        before = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
        try:
            select.select([sys.stdin, told], [], [])
        finally:
            signal.set_wakeup_fd(before)


def _fill(fields: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """A form's answers, each asked for until it fits; None where the person gives up."""
    filled: dict[str, Any] = {}
    required = schema.get("required") or ()
    for name, field in fields.items():
        field = field if isinstance(field, Mapping) else {}
        title = visible(str(field.get("title") or name))
        if field.get("type") == "boolean":
            answer = ask(f"{title}? [y/N]")
            if answer is None:
                return None
            filled[name] = answer.lower() in YES
            continue
        choices = "|".join(str(each) for each in field.get("enum") or ())
        while True:
            answer = ask(f"{title} ({visible(choices or type_label(field, schema))}):")
            if answer is None or (not answer and name in required):
                return None
            if not answer:
                break
            try:
                found = parse_pairs([f"{name}={answer}"], {"properties": {name: field}})
            except Failure as failure:
                render.hint(failure.error["message"])
                continue
            if choices and found[name] not in field["enum"]:
                render.hint(f"Choose one of {choices}.")
                continue
            filled |= found
            break
    return filled
