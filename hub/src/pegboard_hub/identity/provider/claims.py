"""What the provider's claims say of a person here. What is not said plainly is not taken over."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pegboard.core.names import NAME_LENGTH, NAME_PATTERN
from pegboard_hub.identity.person import PersonFacts
from pegboard_hub.identity.provider.errors import NotAdmitted, Unbelievable
from pegboard_hub.identity.provider.fetch import Json
from pegboard_hub.identity.provider.id_token import is_subject
from pegboard_hub.identity.settings import Claims, Groups, Provider

MOST_TOLD = 2000
"""Groups that a provider may tell of one person."""

MOST_GROUPS = 64
"""Business groups of one person: they all go into every token, and a token goes into a header."""

LONGEST_NAME = 200
LONGEST_EMAIL = 254

_NAME = re.compile(NAME_PATTERN)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def facts_of(claims: Json, provider: Provider) -> PersonFacts:
    """The person that the claims tell of.

    Raises:
        Unbelievable: they do not say who it is.
        NotAdmitted: by the settings the person does not come in; the message says what is missing.
    """
    wanted = provider.claims
    sub = claims.get(wanted.sub)
    email = _email(claims, wanted)
    if wanted.sub == wanted.email:
        sub = email
    if not isinstance(sub, str) or not is_subject(sub):
        raise Unbelievable(f"the claim {wanted.sub!r} names nobody")
    _admit(claims, wanted.require)
    name = claims.get(wanted.name)
    shown = _line(name) if isinstance(name, str) else ""
    return PersonFacts(sub, shown or email or sub, _groups(claims, provider.groups, email), email)


def tells_groups(claims: Json, groups: Groups) -> bool:
    """Whether the claims say anything of groups."""
    return _at(claims, groups.path) is not None


def _email(claims: Json, wanted: Claims) -> str | None:
    """The address, if nobody else could have claimed it."""
    email = claims.get(wanted.email)
    verified = wanted.email_is_verified or claims.get("email_verified") in (True, "true")
    if not verified or not isinstance(email, str) or len(email) > LONGEST_EMAIL or not email.isprintable():
        return None
    return email if _EMAIL.fullmatch(email) else None


def _admit(claims: Json, require: Mapping[str, str | bool]) -> None:
    for name, value in require.items():
        found = claims.get(name)
        if found is None or not any(each == value and type(each) is type(value) for each in _several(found)):
            raise NotAdmitted(f"The company's login does not say of you what it must say here ({name}).")


def _groups(claims: Json, groups: Groups, email: str | None) -> tuple[str, ...]:
    told = list(_told(claims, groups))
    found = {business for each in told for business in _business(each, groups)}
    found |= set(groups.everyone)
    if email is not None:
        found |= {
            name for address, names in groups.people.items() if address.lower() == email.lower() for name in names
        }
    if len(found) > MOST_GROUPS:
        raise NotAdmitted(
            f"The company's login says that you are in {len(found)} groups that count here, and {MOST_GROUPS} is the "
            "most. Ask the platform team to name those that matter (groups.map or groups.prefix in the sign-in file)."
        )
    return tuple(sorted(found))


def _told(claims: Json, groups: Groups) -> Iterator[str]:
    """The groups as the provider names them."""
    _not_left_out(claims, groups.path[0])
    found = _at(claims, groups.path)
    if found is None:
        return
    if isinstance(found, str) and groups.separator:
        found = [each.strip() for each in found.split(groups.separator) if each.strip()]
    listed = _several(found)
    if len(listed) > MOST_TOLD:
        raise NotAdmitted(
            f"The company's login tells of more than {MOST_TOLD} groups of you. Ask the platform team to have it "
            "tell of those alone that matter here."
        )
    yield from (each for each in listed if isinstance(each, str))


def _not_left_out(claims: Json, name: str) -> None:
    """A provider that has too many groups to tell names a place to ask instead (OpenID Connect Core 1.0 §5.6.2)."""
    elsewhere = claims.get("_claim_names")
    if claims.get("hasgroups") in (True, "true") or (isinstance(elsewhere, Mapping) and name in elsewhere):
        raise NotAdmitted(
            "You are in so many groups that the company's login leaves them out. Ask the platform team to have it "
            "tell of those alone that matter here."
        )


def _business(told: str, groups: Groups) -> Iterator[str]:
    """The business groups that one group of the provider's stands for; none for most."""
    yield from groups.map.get(told, ())
    if groups.prefix and told.startswith(groups.prefix):
        yield from _if_name(told.removeprefix(groups.prefix))
    if not groups.prefix and not groups.map:
        yield from _if_name(told)


def _if_name(text: str) -> Iterator[str]:
    if NAME_LENGTH[0] <= len(text) <= NAME_LENGTH[1] and _NAME.fullmatch(text):
        yield text


def _at(claims: Json, path: tuple[str, ...]) -> object:
    found: object = claims
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _several(found: object) -> list[object]:
    return found if isinstance(found, list) else [found]


def _line(text: str) -> str:
    return "".join(sign for sign in text if sign.isprintable()).strip()[:LONGEST_NAME]
