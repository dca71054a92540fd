"""How people sign in: the sign-in file, its secrets, and whether the company's login answers as it must."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from pegboard.core.errors import ConfigurationError
from pegboard_hub.identity.person import LoginRefused, LoginUnavailable
from pegboard_hub.identity.provider.errors import Unbelievable
from pegboard_hub.identity.provider.fetch import Fetcher
from pegboard_hub.identity.provider.metadata import Place
from pegboard_hub.identity.settings import Provider, SignInSettings, open_sign_in
from pegboard_hub.upkeep.finding import Facts, Finding, must_mend, warning, well


def sign_in(facts: Facts) -> Iterator[Finding]:
    """The sign-in file, and the login that it names. A secret is read and never told."""
    try:
        opened = open_sign_in(facts.sign_in)
    except ConfigurationError as error:
        yield from (must_mend(f"{error.where}: {problem}", "mend the sign-in file") for problem in error.problems)
        return
    provider = opened.file.provider
    if provider is None:
        yield well("people are those of the demo directory, which nothing but this machine may reach")
    elif facts.offline:
        yield well(f"people sign in with {provider.title}, which was not asked (--offline)")
    else:
        yield asyncio.run(_answers(provider, opened))


async def _answers(provider: Provider, opened: SignInSettings) -> Finding:
    try:
        fetcher = Fetcher(opened.folder / provider.certificates if provider.certificates else None)
    except ConfigurationError as error:
        return must_mend(f"{error.where}: {error.problems[0]}", "name a PEM file that the hub's user can read")
    place = Place(provider.issuer, fetcher)
    try:
        await place.metadata()
        await place.keys()
    except LoginUnavailable:
        return warning(
            f"the login does not answer at {provider.issuer}: nobody can sign in, and no token is issued",
            "see that this machine reaches it; sign-ins go on once it answers",
        )
    except LoginRefused as error:
        why = error.why if isinstance(error, Unbelievable) else str(error)
        return must_mend(why, f"see that provider.issuer is what the login calls itself: {provider.issuer}")
    finally:
        await fetcher.close()
    return well(f"people sign in with {provider.title}: {provider.issuer} answers, with keys that can be used")
