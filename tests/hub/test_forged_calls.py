"""`pegboard keys forged`: calls with tokens that the hub never issued are found, and no other is."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pegboard.call.measure import STRANGE, who
from pegboard.core.caller import Caller
from pegboard.core.token import MAX_LIFETIME_S
from pegboard_hub.identity.issued import IssuedTokens, issued_since, known_since, mark_of
from pegboard_hub.identity.leaks import NOBODY, TRYING
from pegboard_hub.upkeep.leaked.command import _report
from tests.hub.company import OPERATOR, PRESTO, Company, Hub, denial, intent, opened
from tests.oauth import claims_of

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases(heavy=True)]

NOW_MS = int(time.time() * 1000)
LONG_AGO_S = time.time() - 86_400


@pytest.fixture
async def hub(company: Company) -> AsyncIterator[Hub]:
    """A hub that has kept a record for a day."""
    before = IssuedTokens(company.home.issued, "hub", lambda: LONG_AGO_S)
    before.note({"jti": "of yesterday", "sub": "ana", "client_id": "x", "surface": "cli", "aud": PRESTO, "exp": 1})
    before.close()
    async with opened(company) as found:
        yield found


async def used(hub: Hub, company: Company, claims: dict[str, Any], *, ran: bool = True, **changes: Any) -> None:
    """A call with a token of these claims, as the server records it."""
    channel = company.open_channel("prod/presto", "r")
    named = {
        "sub": claims["sub"],
        "sub_type": "person",
        "surface": claims["surface"],
        "client_id": claims["client_id"],
    }
    of = {"who": {**named, "token_id": claims["jti"], **changes}}
    id_ = f"call-{time.time_ns()}"
    at_ms = int(time.time() * 1000)
    record = intent(id_, at_ms) | of if ran else denial(id_, at_ms) | of
    await hub.deliver(channel, record)


async def found(hub: Hub, since_ms: int = 0) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    answer = await hub.internal.get(f"/internal/v1/keys/forged?since_ms={since_ms}", headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_calls_with_issued_tokens_are_no_finding(hub: Hub, company: Company) -> None:
    for person in ("ana", "sam"):
        claims = claims_of(await hub.token(person, resource=PRESTO))
        await used(hub, company, claims)
        await used(hub, company, claims, ran=False)
    report = await found(hub)
    assert (report["looked_at"], report["found"], report["unnamed"]) == (2, [], 0)
    assert list(_report(report, NOW_MS))[-1] == "Every one of them was issued, to whom it says."


async def test_a_forged_token_is_found_with_whose_name_it_bore_and_what_was_done(hub: Hub, company: Company) -> None:
    real = claims_of(await hub.token("ana", resource=PRESTO))
    await used(hub, company, real)
    forged = real | {"jti": "f" * 32, "sub": "sam"}
    await used(hub, company, forged)
    await used(hub, company, forged)
    await used(hub, company, forged, ran=False)
    (one,) = (await found(hub))["found"]
    assert (one["token_id"], one["fault"], one["sub"]) == ("f" * 32, "never issued", "sam")
    assert (one["allowed"], one["refused"], one["tools"]) == (2, 1, ["get_revenue_metrics", "run_query"])
    told = list(_report(await found(hub), NOW_MS))
    assert any("as sam by pegboard-cli on cli: 2 calls ran, 1 were refused" in line for line in told)


async def test_the_commands_own_tries_are_no_finding_and_whoever_borrows_their_name_is(
    hub: Hub, company: Company
) -> None:
    tries = claims_of(await hub.token("ana", resource=PRESTO)) | {"jti": "t" * 32, "sub": NOBODY, "client_id": TRYING}
    await used(hub, company, tries, ran=False)
    assert (await found(hub))["found"] == []
    await used(hub, company, tries)
    (one,) = (await found(hub))["found"]
    assert (one["sub"], one["allowed"]) == (NOBODY, 1)


async def test_a_whole_token_that_was_copied_and_prolonged_is_found_once_the_real_one_has_ended(
    hub: Hub, company: Company
) -> None:
    real = claims_of(await hub.token("ana", resource=PRESTO))
    await used(hub, company, real)
    assert (await found(hub))["found"] == []
    # As if all this had been half an hour ago, and the forger were still at it.
    lines = [path for path in company.home.issued.iterdir() if real["jti"] in path.read_text()]
    lines[0].write_text(lines[0].read_text().replace(str(real["exp"]), str(real["exp"] - 1800)))
    (one,) = (await found(hub))["found"]
    assert (one["token_id"], one["fault"], one["allowed"]) == (real["jti"], "used after it ended", 1)


async def test_a_bots_token_that_was_copied_into_another_channel_is_found(hub: Hub, company: Company) -> None:
    claims = {"jti": "b" * 32, "sub": "ana", "client_id": "bot", "surface": "bot", "aud": PRESTO}
    issued = IssuedTokens(company.home.issued, "another")
    issued.note(claims | {"channel": "airflow", "exp": int(time.time()) + 300})
    issued.close()
    await used(hub, company, claims, channel="airflow")
    assert (await found(hub))["found"] == []
    await used(hub, company, claims, channel="board")
    (one,) = (await found(hub))["found"]
    assert (one["token_id"], one["fault"]) == ("b" * 32, "issued to somebody else")


@pytest.mark.parametrize("change", [{"sub": "sam"}, {"client_id": "other"}, {"surface": "ide"}], ids=str)
async def test_a_real_id_that_was_copied_into_another_token_is_found(
    hub: Hub, company: Company, change: dict[str, str]
) -> None:
    real = claims_of(await hub.token("ana", resource=PRESTO))
    await used(hub, company, real | change)
    (one,) = (await found(hub))["found"]
    assert (one["token_id"], one["fault"]) == (real["jti"], "issued to somebody else")


async def test_a_real_id_of_a_token_for_another_server_is_found(hub: Hub, company: Company) -> None:
    real = claims_of(await hub.token("ana", resource=PRESTO.replace("prod/presto", "dev/scratch")))
    await used(hub, company, real)
    (one,) = (await found(hub))["found"]
    assert one["fault"] == "issued to somebody else"


@pytest.mark.parametrize(
    "token_id",
    ["x" * 129, "two words", "new\nline", "\ud800", "é", "x" * 60_000, "\x1b[2J"],
    ids=lambda each: ascii(each)[:40],
)
async def test_whatever_a_forger_writes_as_id_is_recorded_and_found(
    hub: Hub, company: Company, token_id: str
) -> None:
    caller = Caller("ana", "person", (), "cli", "pegboard-cli", PRESTO, 0, token_id)
    recorded = who(caller).token_id
    assert recorded == STRANGE
    real = claims_of(await hub.token("ana", resource=PRESTO))
    await used(hub, company, real | {"jti": recorded})
    (one,) = (await found(hub))["found"]
    assert (one["token_id"], one["fault"]) == (STRANGE, "never issued")


async def test_what_cannot_be_told_is_said(company: Company) -> None:
    async with opened(company) as hub:
        assert (await found(hub))["since_ms"] is None
        assert "nothing can be compared" in next(_report(await found(hub), NOW_MS))
        claims = claims_of(await hub.token("ana", resource=PRESTO))
        await used(hub, company, claims | {"jti": "made before the record began"})
        report = await found(hub)
        assert report["found"] == [], "a token of before may be in use for a quarter of an hour yet"
        assert report["since_ms"] > (time.time() + MAX_LIFETIME_S - 60) * 1000
        told = list(_report(report, NOW_MS))
        assert told[0].startswith("Nothing can be compared yet")
        assert not [line for line in told if "Every one" in line], "nobody is set at ease by a time that is to come"
        assert "earlier calls cannot be told apart" in list(_report(report, report["since_ms"]))[1]


async def test_a_call_of_an_older_kit_names_no_token_and_is_counted(hub: Hub, company: Company) -> None:
    await hub.token("ana")
    await hub.deliver(company.open_channel("prod/presto", "r"), intent("older", NOW_MS))
    report = await found(hub)
    assert (report["unnamed"], report["found"]) == (1, [])


async def test_what_a_full_disk_does_not_take_is_on_record_once_it_does(
    hub: Hub, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("pegboard_hub.identity.issued.os.write", full)
        early = claims_of(await hub.token("ana", resource=PRESTO))
    with monkeypatch.context() as disk:
        disk.setattr("pegboard_hub.identity.issued.os.write", lambda file, line: os.writev(file, [line[:10]]))
        partly = claims_of(await hub.token("ana", resource=PRESTO))
    later = claims_of(await hub.token("ana", resource=PRESTO))
    for claims in (early, partly, later):
        await used(hub, company, claims)
    report = await found(hub)
    assert (report["looked_at"], report["found"]) == (3, [])


async def test_the_record_holds_nothing_that_could_be_used_and_is_the_hubs_alone(hub: Hub, company: Company) -> None:
    token = await hub.token("ana", resource=PRESTO)
    claims = claims_of(token)
    (file,) = [path for path in company.home.issued.iterdir() if claims["jti"] in path.read_text()]
    assert file.stat().st_mode & 0o777 == 0o600
    assert company.home.issued.stat().st_mode & 0o777 == 0o700
    text = file.read_text()
    assert not [part for part in (*token.split("."), "ana", claims["sid"]) if part in text]
    assert (claims["jti"], mark_of("ana", claims["client_id"], "cli", PRESTO), claims["exp"]) in list(
        issued_since(file.parent, 0)
    )


def test_a_day_has_a_file_and_a_month_is_kept(tmp_path: Path) -> None:
    now = [0.0]
    tokens = IssuedTokens(tmp_path / "issued", "hub", lambda: now[0])
    for day in range(40):
        now[0] = 1_800_000_000 + day * 86_400
        tokens.note({"jti": str(day), "sub": "s", "client_id": "c", "surface": "cli", "aud": "a", "exp": 1})
    tokens.close()
    assert len(list((tmp_path / "issued").iterdir())) == 32
    assert known_since(tmp_path / "issued") == 1_800_000_000 + 8 * 86_400
    assert [line.token_id for line in issued_since(tmp_path / "issued", now[0])] == ["39"]


@pytest.mark.parametrize("token", [None, "", "wrong"])
async def test_the_report_is_the_operators_alone(hub: Hub, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    assert (await hub.internal.get("/internal/v1/keys/forged", headers=headers)).status_code == 401
    assert (await hub.public.get("/internal/v1/keys/forged", headers=headers)).status_code in (404, 405)
