"""What PostgreSQL alone may do to a hub: be away, be another database than it should, have a password, be shared."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import text

from pegboard.core.errors import ConfigurationError
from pegboard_hub.common.database_url import EMBEDDED, FILE_VARIABLE, anchored, read_database_url
from pegboard_hub.common.home import Home
from pegboard_hub.common.noted import server_of
from pegboard_hub.common.settings import HubSettings
from pegboard_hub.identity.clients.store import restore as restore_clients
from pegboard_hub.identity.person import LoginEnded, PersonFacts, SignedIn
from pegboard_hub.identity.revocations import Revocations
from pegboard_hub.identity.sealing import Sealer
from pegboard_hub.identity.sessions.service import Sessions
from pegboard_hub.ledger.verify import verify_server
from pegboard_hub.storage import database as databases
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.errors import DatabaseUnreadable, StorageUnavailable
from pegboard_hub.storage.locks import Locks
from pegboard_hub.storage.migrate import migrate
from pegboard_hub.storage.postgresql import address_of, see
from pegboard_hub.upkeep.archive import write_archive
from pegboard_hub.upkeep.backup import back_up
from pegboard_hub.upkeep.commands import _backup_lines as backup_lines
from pegboard_hub.upkeep.errors import BackupRefused
from pegboard_hub.upkeep.members import Member, Part
from pegboard_hub.upkeep.restore import restore
from tests.hub.company import Company, beside, call, opened
from tests.ports import free_port
from tests.postgres import Postgres, execute
from tests.postgres import running as running_postgres

pytestmark = pytest.mark.anyio

SECRET = "a-pass%2Fword"
AWAY = f"postgresql://pegboard:{SECRET}@127.0.0.1:1/pegboard"
PATIENCE_S = 60.0


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as found:
        yield found


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    found = Database(url)
    yield found
    await found.close()


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """A server that the test may stop."""
    with running_postgres() as found:
        yield found


async def test_a_server_that_is_away_is_said_with_what_mends_it_and_never_with_the_password() -> None:
    database = Database(AWAY)
    for transaction in (database.read, database.write):
        with pytest.raises(StorageUnavailable, match="is it up, and are address, user and password in") as refused:
            async with transaction():
                pass
        chain = [refused.value, refused.value.__cause__]
        assert not [error for error in chain if "a-pass" in repr(error) or "a-pass" in str(error)]
    assert database.refuses_writes
    await database.close()
    assert database.shown == "postgresql://127.0.0.1:1/pegboard"
    assert "a-pass" not in repr(HubSettings("http://localhost:1", database_url=AWAY))
    with pytest.raises(DatabaseUnreadable, match="is it up"):
        see(AWAY)


async def test_a_url_that_came_from_a_file_is_said_to_be_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILE_VARIABLE, "/etc/pegboard/database")
    database = Database(AWAY)
    with pytest.raises(StorageUnavailable, match=f"in {FILE_VARIABLE} right"):
        async with database.read():
            pass
    await database.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@db.example.com/pegboard", "postgresql://db.example.com/pegboard"),
        ("postgres://u:p@[::1]:5433/x?sslmode=require", "postgresql://::1:5433/x"),
        ("postgresql://u:p@a:1,b:2/x?target_session_attrs=read-write", "postgresql://a:1,b:2/x"),
        ("postgresql:///x?host=/run/postgresql&password=p", "postgresql:///run/postgresql/x"),
        ("postgresql://u:p@db", "postgresql://db/u"),
    ],
)
def test_of_a_url_only_the_address_is_shown(url: str, shown: str) -> None:
    assert address_of(url) == shown


@pytest.mark.parametrize(
    "url", ["postgresql://u:se/cret@h/x", "postgresql://u:se cret@h/x?nonsense=secret", "p://se"]
)
def test_a_url_that_cannot_be_read_is_refused_without_its_text(url: str) -> None:
    with pytest.raises(ConfigurationError, match="PEGBOARD_DATABASE_URL") as refused:
        address_of(read_database_url({"PEGBOARD_DATABASE_URL": url}) or "")
    assert "se" + "cret" not in str(refused.value)
    assert "se/" not in str(refused.value)


def test_the_url_comes_by_the_environment_or_from_a_file_that_others_may_not_read(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://u:p@h/x\n")
    file.chmod(0o600)
    by_file = {"PEGBOARD_DATABASE_URL_FILE": str(file)}
    assert read_database_url(by_file) == "postgresql://u:p@h/x"
    assert read_database_url({"PEGBOARD_DATABASE_URL": "sqlite"}) == EMBEDDED
    assert read_database_url({}) is None
    with pytest.raises(ConfigurationError, match="set one of them"):
        read_database_url({**by_file, "PEGBOARD_DATABASE_URL": "postgresql://h/x"})
    file.chmod(0o604)
    with pytest.raises(ConfigurationError, match="chmod o="):
        read_database_url(by_file)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_database_url({"PEGBOARD_DATABASE_URL_FILE": str(tmp_path / "none")})


def test_the_url_s_file_is_the_same_one_for_a_process_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = {"PEGBOARD_DATABASE_URL_FILE": "an.url", "HOME": "/root"}
    assert anchored(told) == {**told, "PEGBOARD_DATABASE_URL_FILE": str(tmp_path / "an.url")}
    assert anchored({"HOME": "/root"}) == {"HOME": "/root"}


async def test_requests_fail_with_the_reason_while_the_server_is_away_and_go_on_by_themselves(
    company: Company, own_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "TRY_AGAIN_S", 0.0)
    with own_server.database() as url:
        company.database_url = url
        async with opened(company) as hub:
            channel = company.open_channel("prod/presto", "r" * 64)
            assert (await hub.public.get("/readyz")).status_code == 200
            own_server.stop()
            assert (await hub.public.get("/healthz")).status_code == 200
            answer = await hub.deliver(channel, *call("1", 1))
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
            assert (await hub.public.get("/readyz")).status_code == 503
            own_server.start()
            assert (await hub.public.get("/readyz")).status_code == 200
            own_server.restart()  # every connection of the pool is broken, and no request meets one
            assert (await hub.deliver(channel, *call("1", 1))).status_code == 200
            assert [each["id"] for each in await hub.calls("ana")] == ["1"]


async def test_a_database_that_keeps_text_otherwise_is_refused_with_the_command_that_makes_a_good_one(
    postgres: Postgres,
) -> None:
    url = postgres.create(more="LOCALE 'C' ENCODING 'SQL_ASCII'")
    try:
        database = Database(url)
        with pytest.raises(DatabaseUnreadable, match=r"the encoding SQL_ASCII.*ENCODING 'UTF8' LOCALE 'C'"):
            await migrate(database)
        await database.close()
        with pytest.raises(DatabaseUnreadable, match="SQL_ASCII"):
            see(url)
    finally:
        postgres.drop(url)


async def test_a_character_that_the_server_cannot_hold_fails_nothing(database: Database) -> None:
    async with database.write() as connection:
        row = {"consumer": "a\0b", "content": "\0"}
        await connection.execute(text("INSERT INTO bundles VALUES (:consumer, 1, :content)"), row)
    async with database.read() as connection:
        found = await connection.scalar(text("SELECT consumer FROM bundles WHERE content = :content"), row)
    assert found == "a\ufffdb"


async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(StorageUnavailable, match="takes no writes"):
        async with database.read() as connection:
            await connection.execute(text("INSERT INTO bundles VALUES ('edge', 1, 'x')"))


async def test_one_hub_leads_and_another_when_its_connection_is_lost(url: str) -> None:
    async with AsyncExitStack() as ended:
        first, second = Database(url, name="pegboard hub"), Database(url, name="pegboard hub-2")
        one, other = Locks(first), Locks(second)
        for each in (first, second, one, other):
            ended.push_async_callback(each.close)
        assert [await one.look(), await other.look(), await one.look()] == [True, False, True]
        assert await second.leader() == "pegboard hub"
        assert see(url).leader == "pegboard hub"
        execute(
            url,
            "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        assert [await other.look(), await other.look()] == [False, True]  # its own connection was lost as well
        assert [await one.look(), await one.look()] == [False, False]
        await other.close()
        async with asyncio.timeout(PATIENCE_S):  # the server frees a session's locks a moment after its client went
            while not await one.look():
                pass


async def test_a_leader_that_hears_nothing_stops_leading_by_itself(url: str) -> None:
    now = 100.0
    database = Database(url)
    locks = Locks(database, lambda: now)
    assert await locks.look()
    now += 3.9
    assert locks.leads
    now += 0.2
    assert not locks.leads
    await locks.close()
    await database.close()


async def test_on_sqlite_the_one_hub_leads_and_no_lock_is_waited_for(company: Company) -> None:
    database = Database.at(company.home.database)
    locks = Locks(database)
    assert locks.leads
    assert await locks.look()
    async with locks.held("anything"), locks.held("anything"):
        pass
    await database.close()


async def test_hubs_do_one_after_the_other_what_is_named_alike(url: str) -> None:
    first, second = Database(url), Database(url)
    one, other = Locks(first), Locks(second)
    order: list[str] = []
    inside, may_end = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with one.held("renew a"):
            inside.set()
            await may_end.wait()
            order.append("one")

    async def wait() -> None:
        await inside.wait()
        async with other.held("renew b"):
            order.append("another name")
        may_end.set()
        async with other.held("renew a"):
            order.append("other")

    await asyncio.gather(hold(), wait())
    assert order == ["another name", "one", "other"]
    for each in (one, other, first, second):
        await each.close()


class OnceOnly:
    """A login whose renewals are good once: the second use of one is a theft (RFC 9700 §4.14.2)."""

    name = issuer = "a login"

    def __init__(self) -> None:
        self.good = "1"
        self.asked = 0

    async def renew(self, renewal: str, facts: PersonFacts) -> SignedIn:
        """Tell it again, and what is good for the next time."""
        self.asked += 1
        if renewal != self.good:
            raise LoginEnded("a refresh token came twice")
        await asyncio.sleep(0.1)
        self.good = str(int(renewal) + 1)
        return SignedIn(facts, "subject", renewal=self.good)


async def test_two_hubs_renew_one_session_one_after_the_other(url: str) -> None:
    login, now = OnceOnly(), 1_000_000.0
    databases = [Database(url), Database(url)]
    locks = [Locks(each) for each in databases]
    sealer = Sealer(b"k" * 32, "session renewal")
    one, other = (
        Sessions(database, login, sealer, Revocations(database), clock=lambda: now, alone=lock.held)
        for database, lock in zip(databases, locks, strict=True)
    )
    session, _ = await one.open(SignedIn(PersonFacts("ana", "Ana"), "subject", renewal="1"), "a browser")
    now += 600
    found = await asyncio.gather(one.current(session.sid), other.current(session.sid), one.current(session.sid))
    assert [each.facts.sub for each in found] == ["ana"] * 3
    assert (login.asked, login.good) == (1, "2")
    for each in (*locks, *databases):
        await each.close()


async def test_a_hub_sees_what_another_revokes_and_lets_in_again(url: str) -> None:
    databases = [Database(url), Database(url)]
    one, other = (Revocations(each) for each in databases)
    told = asyncio.Event()
    other.on_change(told.set)
    async with beside(other.follow()):
        async with databases[0].write() as connection:
            await one.add(connection, "client", ["a", "b"])
        await asyncio.wait_for(told.wait(), PATIENCE_S)
        assert other.current.clients == {"a", "b"}
        told.clear()
        async with databases[0].write() as connection:
            await restore_clients(connection, ["a"])
        await asyncio.wait_for(told.wait(), PATIENCE_S)
        assert other.current.clients == {"b"}
    for each in databases:
        await each.close()


async def test_a_second_hub_of_a_home_follows_what_the_leading_one_does(url: str, company: Company) -> None:
    company.database_url = url
    async with opened(company) as leading, opened(company) as following:
        assert leading.parts.locks.leads
        assert not following.parts.locks.leads
        await following.parts.registry.follow_tables()
        assert following.parts.registry.current.servers == leading.parts.registry.current.servers
        # A change of the grants file comes to it by the tables, once the leading one has taken it over.
        changed = company.grants.read_text().replace('"ads-eng"', '"ads-ops"')
        company.grants.write_text(changed)
        before = company.home.edge_bundle.read_text()
        await following.parts.registry.follow_tables()
        assert company.home.edge_bundle.read_text() == before
        while not await leading.parts.registry.refresh():
            await asyncio.sleep(0.01)
        await following.parts.registry.follow_tables()
        assert following.parts.registry.current.servers == leading.parts.registry.current.servers
        # A key that is on its way is known to it before anybody signs with it.
        key, _ = leading.parts.rotation.begin("tokens")
        following.parts.rotation.follow()
        assert key.kid in {each["kid"] for each in following.parts.rotation.keys.token_jwks["keys"]}


async def test_the_ledger_of_a_server_is_counted_again(url: str, company: Company) -> None:
    company.database_url = url
    async with opened(company) as hub:
        channel = company.open_channel("prod/presto", "r" * 64)
        await hub.deliver(channel, *call("1", 1), *call("2", 2))
        verdict = verify_server(url)
        assert (verdict.calls, verdict.findings) == ({"ok": 2}, [])
    execute(url, "UPDATE usage_totals SET calls = calls + 1")
    assert {finding.promise for finding in verify_server(url).findings} == {"totals add up"}


async def test_a_backup_holds_everything_but_the_server_s_database_and_says_so(
    company: Company, url: str, tmp_path: Path
) -> None:
    company.database_url = url
    async with opened(company):
        pass
    company.home.instance_file.write_text(json.dumps({"database": "postgresql://db/x", "port": 8400}))
    made = back_up(company.home, tmp_path / "backup.tar.gz", lambda _: None)
    assert (Part.DATABASE in made.parts, Part.KEYS in made.parts, made.manifest.db_schema) == (False, True, "")
    said = "\n".join(backup_lines(made, "postgresql://db/x"))
    assert "It does not hold the database, which is in postgresql://db/x" in said
    assert "pg_dump" in said
    home = restore(made.file, tmp_path / "restored", lambda _: None).home
    assert (home / "keys" / "sealing.key").read_bytes() == company.home.sealing_key.read_bytes()
    assert server_of(Home.at(home)) == "postgresql://db/x"
    assert not (home / "data" / "pegboard.db").exists()


async def test_a_backup_that_has_no_database_and_names_none_is_refused(
    company: Company, url: str, tmp_path: Path
) -> None:
    company.home.instance_file.write_text(json.dumps({"database": "postgresql://db/x"}))
    made = back_up(company.home, tmp_path / "backup.tar.gz", lambda _: None)
    folder = tmp_path / "members"
    for member in made.manifest.members:
        (folder / member.name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "instance.json").write_text("{}")
    content = (folder / "instance.json").read_bytes()
    kept = Member(name="instance.json", size=len(content), sha256=hashlib.sha256(content).hexdigest())
    write_archive(
        tmp_path / "other", made.manifest.model_copy(update={"members": (kept,)}), lambda m: folder / m.name
    )
    with pytest.raises(BackupRefused, match="it holds no database, and names none"):
        restore(tmp_path / "other", tmp_path / "restored", lambda _: None)


def up(home: Path, *options: str, **variables: str) -> str:
    """What `pegboard up` says when it refuses."""
    command = [sys.executable, "-m", "pegboard.cli", "up", "--home", str(home), *options]
    environment = {**os.environ, **variables, "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode != 0
    return " ".join((done.stdout + done.stderr).replace("│", " ").split())


def test_several_hubs_are_refused_on_sqlite(tmp_path: Path) -> None:
    said = up(tmp_path / "home", "--hubs", "2")
    assert "several hubs need a database that they share" in said
    assert "PEGBOARD_DATABASE_URL" in said
    assert not (tmp_path / "home").exists()


def test_a_home_whose_data_is_at_a_server_does_not_start_on_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "instance.json").write_text('{"database": "postgresql://db/x", "hubs": 2}')
    assert "kept its data in postgresql://db/x, and nothing names it now" in up(tmp_path)


def test_a_server_that_is_away_ends_the_start_before_anything_is_built(tmp_path: Path) -> None:
    url = f"postgresql://hub:x@127.0.0.1:{free_port()}/none"
    options = ("--port", str(free_port()))
    said = up(tmp_path / "home", *options, PEGBOARD_DATABASE_URL=url, PEGBOARD_ISOLATION="off")
    assert "the database cannot be used" in said
    assert "prod/presto" not in said
