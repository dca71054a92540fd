"""What every part of the hub stands on: its home and settings, its keys, its database."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from pegboard_hub.common.home import Home
from pegboard_hub.common.settings import HubSettings
from pegboard_hub.identity.directory import NOBODY, DemoDirectory, open_directory
from pegboard_hub.identity.keys import Keys, open_keys
from pegboard_hub.identity.provider.login import ProviderLogin, open_company_login
from pegboard_hub.identity.sealing import open_sealing_key
from pegboard_hub.identity.settings import SignInSettings, open_sign_in
from pegboard_hub.notify.settings import NotifySettings, notify_or_fault
from pegboard_hub.storage.database import Database
from pegboard_hub.storage.locks import Locks
from pegboard_hub.storage.migrate import migrate
from pegboard_hub.telemetry.meter import HubMeter


@dataclass(frozen=True, slots=True)
class Ground:
    """What every part stands on.

    Attributes:
        sign_in: how people sign in.
        told: who is told of approvals.
        directory: the demo company's people, or nobody.
        login: the company's, where there is one.
        ended: closes in turn what was opened.
    """

    home: Home
    settings: HubSettings
    sign_in: SignInSettings
    told: NotifySettings
    directory: DemoDirectory
    login: ProviderLogin | None
    keys: Keys
    meter: HubMeter
    database: Database
    locks: Locks
    ended: AsyncExitStack

    def leads(self) -> bool:
        """Whether this hub does what one alone may do."""
        return self.locks.leads


async def open_ground(home: Home, settings: HubSettings, ended: AsyncExitStack) -> Ground:
    """Open what every part stands on; the schema is the newest then.

    Raises:
        PegboardError: something the operator must mend; the message says what.
    """
    sign_in, told = open_sign_in(settings.sign_in), notify_or_fault(settings.notify)
    directory = open_directory(settings.directory, settings.public_url) if sign_in.demo else NOBODY
    keys, meter = open_keys(home, settings.token_lifetime_s), HubMeter()
    database = _database(home, settings, meter)
    ended.push_async_callback(database.close)
    login = open_company_login(sign_in, settings.public_url, open_sealing_key(home))
    if login is not None:
        ended.push_async_callback(login.close)
    await migrate(database)
    locks = Locks(database)
    ended.push_async_callback(locks.close)
    await locks.look()
    return Ground(home, settings, sign_in, told, directory, login, keys, meter, database, locks, ended)


def _database(home: Home, settings: HubSettings, meter: HubMeter) -> Database:
    if settings.database_url:
        return Database(settings.database_url, meter, f"pegboard {settings.name}")
    return Database.at(home.database, meter)
