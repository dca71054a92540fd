"""`pegboard sessions list | end` against a hub process: the operator sees who is signed in, and signs them out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from pegboard.cli.app import run
from tests.hub.company import URL, Company
from tests.hub.hub_process import Process, arguments
from tests.oauth import Browser, StockClient

pytestmark = pytest.mark.anyio


@pytest.fixture
def hub(company: Company) -> Iterator[Process]:
    process = Process(company)
    process.start(*arguments(company))
    process.ready()
    yield process
    process.end()


def said(capsys: pytest.CaptureFixture[str], *words: str, home: Any) -> tuple[int, str]:
    """Exit status and stdout of `pegboard sessions …`."""
    status = run(["sessions", *words, "--home", str(home.root)])
    return status, capsys.readouterr().out


@pytest.mark.heavy
async def test_the_operator_signs_a_person_out_of_everything(
    hub: Process, company: Company, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "list", home=company.home) == (0, "Nobody is signed in.\n")
    transport = httpx2.AsyncHTTPTransport(uds=str(company.home.hub_socket))
    async with httpx2.AsyncClient(transport=transport, base_url=URL) as http:
        client = StockClient(URL, http)
        tokens = await client.connect(Browser(URL, http), "prod/presto", "ana")
        await Browser(URL, http).sign_in("fay")
        status, out = said(capsys, "list", home=company.home)
        assert (status, [line.split()[0] for line in out.splitlines()]) == (0, ["person", "fay", "ana"])
        assert json.loads(said(capsys, "list", "ana", "--json", home=company.home)[1])["sessions"][0]["sub"] == "ana"
        status, out = said(capsys, "end", "ana@example.com", home=company.home)
        assert (status, out) == (0, "Signed out of 1 browser and all that came of it: ana\n")
        assert (await client.refresh(tokens["refresh_token"])).json()["error"] == "invalid_grant"
    status, out = said(capsys, "list", home=company.home)
    assert [line.split()[0] for line in out.splitlines()] == ["person", "fay"]
    assert run(["sessions", "end", "ana", "--home", str(company.home.root)]) == 1
    assert capsys.readouterr() == ("", "Nobody who is called ana is signed in.\n")
    status, out = said(capsys, "end", "ana", "--json", home=company.home)
    assert (status, json.loads(out)) == (1, {"ended": []})


async def test_nobody_but_the_operator_may_ask(hub: Process, company: Company) -> None:
    transport = httpx2.AsyncHTTPTransport(uds=str(company.home.internal_socket))
    async with httpx2.AsyncClient(transport=transport, base_url="http://hub") as http:
        answers = [await http.get("/internal/v1/sessions"), await http.post("/internal/v1/sessions/end", json={})]
    assert {answer.status_code for answer in answers} == {401}
