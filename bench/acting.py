"""What an exchange costs, and how soon what a person takes back is refused at both layers.

    .venv/bin/python bench/acting.py [--exchanges 300] [--rounds 10]

A whole instance as users start it. An exchange verifies what surface and hub signed, signs a token, and writes to the
database twice. What is taken back is measured from the answer to the person's button until the first refused call,
through the edge and at the server's own socket.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx2

sys.path.insert(0, str(Path(__file__).parent.parent))

from pegboard.core.names import ServerName
from tests.acting import ACCESS_TOKEN, Acting
from tests.attacks.wire import ACCEPT, META, MODERN, PRESTO
from tests.oauth import Browser, claims_of
from tests.system.instance import REPOSITORY, Instance, running

AT_ONCE = 8


def register(pegboard: Instance, surface: Acting) -> None:
    """As the operator does."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.json"
        keys.write_text(json.dumps(surface.jwks))
        words = ["register", surface.client_id, "--surface", "chat", "--keys", str(keys), "--why", "a bench"]
        words += [
            "--group",
            "ads-eng",
            "--server",
            "prod/*",
            "--redirect",
            surface.registration()["redirect_uris"][0],
        ]
        command = [sys.executable, "-m", "pegboard.cli", "surfaces", *words, "--home", str(pegboard.home.root)]
        subprocess.run(command, check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)


async def exchanges(chat: Acting, subject: str, count: int) -> None:
    """Print how long an exchange takes, one after the other and some at once."""
    forms = [chat.form(subject, ACCESS_TOKEN) for _ in range(2 * count)]
    took: list[float] = []

    async def one(form: dict[str, str]) -> None:
        began = time.perf_counter()
        answer = await chat.http.post(f"{chat.url}/oauth/token", data=form)
        took.append(time.perf_counter() - began)
        answer.raise_for_status()

    for form in forms[:count]:
        await one(form)
    print(f"one after the other: p50 {_ms(took, 0.5)} ms, p99 {_ms(took, 0.99)} ms")
    took.clear()
    gate = asyncio.Semaphore(AT_ONCE)

    async def gated(form: dict[str, str]) -> None:
        async with gate:
            await one(form)

    began = time.perf_counter()
    await asyncio.gather(*(gated(form) for form in forms[count:]))
    rate = count / (time.perf_counter() - began)
    print(f"{AT_ONCE} at once: {rate:.0f} a second, p50 {_ms(took, 0.5)} ms, p99 {_ms(took, 0.99)} ms")


async def taken_back(pegboard: Instance, chat: Acting, ana: Browser, rounds: int) -> None:
    """Print how soon a token is refused whose person took back that the surface acts for them."""
    found: dict[str, list[float]] = {"edge": [], "socket": []}
    transport = httpx2.AsyncHTTPTransport(uds=str(pegboard.home.socket(ServerName("prod", "presto"))))
    async with httpx2.AsyncClient(transport=transport, base_url="http://server", timeout=20) as behind:
        await ana.press(await ana.get(f"{chat.url}/acting?client={chat.client_id}"), "end")
        for _ in range(rounds):
            await chat.let_in(ana)
            token = await chat.for_("ana")
            assert (await _called(chat.http, chat.url, token)).status_code == 200
            page = await ana.get(f"{chat.url}/acting?client={chat.client_id}")
            await ana.press(page, "end")
            asked = ("edge", chat.http, chat.url), ("socket", behind, "http://server")
            took = await asyncio.gather(*(_refused_after(http, url, token) for _, http, url in asked))
            for (layer, *_), each in zip(asked, took, strict=True):
                found[layer].append(each)
    for layer, took in found.items():
        print(f"taken back, {layer}: p50 {median(took):.2f} s, worst {max(took):.2f} s, of {rounds}")


async def _refused_after(http: httpx2.AsyncClient, url: str, token: str) -> float:
    """Seconds from now until a token is refused."""
    began = time.perf_counter()
    while (await _called(http, url, token)).status_code != 401:
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


async def _called(http: httpx2.AsyncClient, url: str, token: str) -> httpx2.Response:
    groups = json.dumps(claims_of(token)["groups"])
    identity = {"x-forwarded-user": "ana", "x-forwarded-groups": groups, "x-forwarded-surface": "chat"}
    routing = {"mcp-protocol-version": MODERN, "mcp-method": "tools/list", "authorization": f"Bearer {token}"}
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}}
    return await http.post(f"{url}{PRESTO}", json=body, headers={**ACCEPT, **identity, **routing})


def _ms(took: list[float], part: float) -> str:
    return f"{sorted(took)[min(int(len(took) * part), len(took) - 1)] * 1000:.1f}"


async def measure(pegboard: Instance, count: int, rounds: int) -> None:
    """Everything."""
    async with httpx2.AsyncClient(timeout=60) as http:
        ana, chat = Browser(pegboard.public_url, http), Acting(pegboard.public_url, http, "bench-chat", "chat")
        register(pegboard, chat)
        await ana.sign_in("ana")
        subject = (await chat.sign_in(ana))["access_token"]
        await exchanges(chat, subject, count)
        await taken_back(pegboard, chat, ana, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}")
    with running() as instance:
        asyncio.run(measure(instance, options.exchanges, options.rounds))
