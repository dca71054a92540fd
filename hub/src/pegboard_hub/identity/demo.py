"""Tokens for the people of the demo directory, without a sign-in: for trying things out on one machine."""

from __future__ import annotations

from pegboard.core.caller import Caller
from pegboard.core.names import ACTING_SURFACES
from pegboard_hub.identity.directory import DemoDirectory, Person
from pegboard_hub.identity.errors import OAuthRefused
from pegboard_hub.identity.issue import Bearer, Issued, TokenIssuer
from pegboard_hub.identity.person import LoginEnded, PersonFacts, SignedIn, caller_of
from pegboard_hub.identity.secrets import new_id

DEMO_GRANT = "urn:pegboard:params:oauth:grant-type:demo-person"


class DemoSignIn:
    """The demo directory as a login: whoever asks is whom they say they are.

    Args:
        directory: the people and clients.
        issuer: signs the tokens.
    """

    name = "the demo directory"
    issuer = "demo"

    def __init__(self, directory: DemoDirectory, issuer: TokenIssuer) -> None:
        self.directory = directory
        self._issuer = issuer

    def everybody(self) -> list[PersonFacts]:
        """All people of the directory."""
        return [_facts(sub, person) for sub, person in self.directory.people.items()]

    def sign_in(self, person: str) -> SignedIn:
        """Somebody of the directory, signed in.

        Raises:
            OAuthRefused: there is no such person.
        """
        found = self._person(person)
        return SignedIn(_facts(person, found), subject=person)

    async def renew(self, renewal: str, facts: PersonFacts) -> SignedIn:
        """The person as the directory has them now.

        Raises:
            LoginEnded: it does not have them any more.
        """
        found = self.directory.people.get(facts.sub)
        if found is None:
            raise LoginEnded(f"{facts.sub} is not in the demo directory any more")
        return SignedIn(_facts(facts.sub, found), subject=facts.sub, renewal=renewal)

    def issue(
        self,
        person: str,
        surface: str,
        channel: str | None,
        resource: str,
        lifetime_s: int | None = None,
        scope: str | None = None,
    ) -> Issued:
        """A token for one person on one surface, bound to one resource (RFC 8707).

        Args:
            person: name in the directory.
            surface: where the calls will come from.
            channel: the bot's channel.
            resource: a registered server's URL, or the API's.
            lifetime_s: a shorter life than the usual, in seconds; never a longer one.
            scope: what it shall be good for; the widest that the resource has unless given.

        Raises:
            OAuthRefused: person, surface, channel, resource or scope is not one of the known ones, which are named.
        """
        found = self._person(person)
        client_id = self._client(surface, channel)
        granted = self._issuer.scope_for(resource, scope)
        # The directory's own chat and bot stand for registered ones: with it anybody may act as anybody.
        acts = surface in ACTING_SURFACES
        bearer = Bearer(_facts(person, found), client_id, surface, new_id(), channel, acts=acts)
        return self._issuer.issue(bearer, resource, granted, lifetime_s)

    def caller(self, person: str, surface: str, channel: str | None = None) -> Caller:
        """The caller a person of the directory would be on a surface; bound to nothing yet.

        Raises:
            OAuthRefused: as `issue`.
        """
        found = self._person(person)
        client_id = self._client(surface, channel)
        return caller_of(_facts(person, found), surface, client_id, channel)

    def _person(self, person: str) -> Person:
        found = self.directory.people.get(person)
        if found is None:
            known = ", ".join(self.directory.people)
            raise OAuthRefused("invalid_grant", f"unknown person {person!r}; the demo directory has {known}")
        return found

    def _client(self, surface: str, channel: str | None) -> str:
        found = self.directory.client_of(surface)
        if found is None:
            known = ", ".join(self.directory.surfaces)
            raise OAuthRefused("invalid_request", f"unknown surface {surface!r}; known are {known}")
        client_id, client = found
        if channel is not None and channel not in client.channels:
            known = ", ".join(client.channels) or "none"
            raise OAuthRefused("invalid_request", f"{client_id} is not in channel {channel!r}; its channels: {known}")
        return client_id


def _facts(sub: str, person: Person) -> PersonFacts:
    return PersonFacts(sub, person.name, person.groups, person.email)
