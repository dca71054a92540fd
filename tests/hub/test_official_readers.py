"""Who may read the official registry API: whom the operator opens it to."""

from __future__ import annotations

import pytest

from pegboard_hub.common.settings import HubSettings
from tests.hub.company import URL, Company, opened
from tests.hub.official import LOCAL, check
from tests.hub.official_registry import PREFIX, ask, grant

pytestmark = pytest.mark.anyio

OPEN, CLOSED = 200, 404


@pytest.mark.parametrize(
    ("says", "url", "address", "status"),
    [
        ("", URL, "127.0.0.1", OPEN),
        ("", URL, "127.8.8.8", OPEN),
        ("", URL, "::1", OPEN),
        ("", URL, "::ffff:127.0.0.1", OPEN),
        ("", URL, "10.1.2.3", CLOSED),
        ("", URL, "", CLOSED),
        ("", URL, "localhost", CLOSED),
        ("", "https://mcp.acme.com", "127.0.0.1", CLOSED),
        ("", "https://mcp.acme.com", "10.1.2.3", CLOSED),
        ("public = true", "https://mcp.acme.com", "203.0.113.9", OPEN),
        ("public = true", "https://mcp.acme.com", "", OPEN),
        ("public = false", URL, "127.0.0.1", CLOSED),
        ('networks = ["10.0.0.0/8"]', "https://mcp.acme.com", "10.255.0.1", OPEN),
        ('networks = ["10.0.0.0/8"]', "https://mcp.acme.com", "::ffff:10.0.0.1", OPEN),
        ('networks = ["10.0.0.0/8"]', "https://mcp.acme.com", "11.0.0.1", CLOSED),
        ('networks = ["10.0.0.0/8"]', "https://mcp.acme.com", "", CLOSED),
        ('networks = ["10.0.0.0/8"]', "https://mcp.acme.com", "10.0.0.1:4711", CLOSED),
        ('networks = ["10.0.0.0/8"]', "https://mcp.acme.com", "10.0.0.1, 10.0.0.1", CLOSED),
        ('networks = ["10.0.0.0/8"]', URL, "127.0.0.1", CLOSED),
        ('networks = ["2001:db8::/32"]', "https://mcp.acme.com", "2001:db8::7", OPEN),
        ('networks = ["2001:db8::/32"]', "https://mcp.acme.com", "10.0.0.1", CLOSED),
    ],
)
async def test_it_is_open_to_whom_the_operator_opens_it(
    company: Company, monkeypatch: pytest.MonkeyPatch, says: str, url: str, address: str, status: int
) -> None:
    grant(company, "prod/presto", registry=f"[registry]\n{says}")
    async with opened(company) as hub:
        monkeypatch.setattr(HubSettings, "public_url", url)
        headers = {"x-forwarded-for": "127.0.0.1, 10.0.0.1", **({"x-pegboard-peer": address} if address else {})}
        answer = await hub.public.get("/v0.1/servers", headers=headers)
        assert answer.status_code == status
        check(answer)
        shared = says == "public = true"
        kept = "public, no-cache" if shared else "private, no-cache" if status == OPEN else "no-store"
        assert answer.headers["cache-control"] == kept


async def test_whom_it_is_closed_to_gets_one_answer_whatever_is_asked(company: Company) -> None:
    grant(company, "prod/presto", registry="[registry]\npublic = false")
    async with opened(company) as hub:
        of_one = [f"servers/{PREFIX}%2Fpresto/versions/latest", "servers/a%2Fb/versions"]
        paths = ["servers", "servers?cursor=x", *of_one]
        bodies = []
        for path in paths:
            answer = await hub.public.get(f"/v0.1/{path}", headers=LOCAL)
            assert answer.status_code == 404
            bodies.append({k: v for k, v in check(answer).items() if k != "request_id"})
        assert bodies == [bodies[0]] * len(paths)


async def test_it_opens_and_closes_while_the_hub_runs(company: Company) -> None:
    grant(company, "prod/presto", registry="[registry]\npublic = false")
    async with opened(company) as hub:
        assert (await ask(hub)).status_code == 404
        grant(company, "prod/presto", registry="[registry]\npublic = true")
        await hub.parts.registry.refresh()
        assert (await ask(hub)).status_code == 200


async def test_without_a_grants_file_that_can_be_read_it_says_so_and_opens_to_nobody(company: Company) -> None:
    async with opened(company):
        pass
    company.grants.write_text("[registry")
    async with opened(company) as hub:
        assert hub.parts.registry.current.servers
        assert (await ask(hub)).status_code == 503


@pytest.mark.parametrize(
    ("says", "complaint"),
    [
        ('prefix = "acme"', "registry.prefix"),
        ('prefix = "Com.Acme"', "registry.prefix"),
        ('prefix = "com.acme/x"', "registry.prefix"),
        ('prefix = "com..acme"', "registry.prefix"),
        ('prefix = "com.acme-"', "registry.prefix"),
        ('prefix = ""', "registry.prefix"),
        (f'prefix = "com.{"a" * 160}"', "registry.prefix"),
        ('networks = ["10.0.0.1/8"]', "registry.networks"),
        ('networks = ["everyone"]', "registry.networks"),
        ('networks = "10.0.0.0/8"', "registry.networks"),
        ('networks = ["10.0.0.0/8"]\npublic = true', "registry: networks and public = true contradict"),
        ("open = true", "registry.open: unknown key"),
    ],
)
async def test_a_fault_in_what_the_operator_says_is_named_and_opens_nothing(
    company: Company, says: str, complaint: str
) -> None:
    grant(company, "prod/presto", registry="[registry]\npublic = false")
    async with opened(company) as hub:
        grant(company, "prod/presto", registry=f"[registry]\n{says}")
        await hub.parts.registry.refresh()
        assert complaint in hub.parts.registry.current.fault
        assert (await ask(hub)).status_code == 404
