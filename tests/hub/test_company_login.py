"""The company's login, against a provider that says what a test has it say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2
import pytest

from pegboard_hub.identity.person import LoginEnded, LoginRefused, LoginUnavailable, SignedIn
from pegboard_hub.identity.provider.fetch import MOST_BYTES, Fetcher
from pegboard_hub.identity.provider.login import ProviderLogin
from pegboard_hub.identity.provider.metadata import GOOD_FOR_S, LOOK_AGAIN_S, RETRY_S
from pegboard_hub.identity.settings import Provider
from tests.hub.company import URL
from tests.providers.scripted import CLIENT, SECRET, Scripted, changed

pytestmark = pytest.mark.anyio

NOW = 1_790_000_000.0


@dataclass
class Desk:
    """A login at a scripted provider, under a clock that a test moves."""

    provider: Scripted
    login: ProviderLogin
    times: dict[str, float]

    def wait(self, seconds: float) -> None:
        self.times["now"] += seconds

    async def sign_in(self, sub: str = "ana", then: str = "/") -> SignedIn:
        begun = await self.login.begin(then)
        return (await self.login.complete(self.provider.authorize(begun.url, sub), begun.sealed)).signed_in

    async def renew(self, signed_in: SignedIn) -> SignedIn:
        return await self.login.renew(signed_in.renewal, signed_in.facts)


def desk_of(provider: Scripted, **settings: Any) -> Desk:
    times = {"now": NOW}
    provider.now = lambda: times["now"]
    configured = Provider.model_validate({"issuer": provider.issuer, "client_id": CLIENT, **settings})
    fetcher = Fetcher(transport=provider.transport)
    key = b"k" * 32
    login = ProviderLogin(configured, SECRET, URL, key, fetcher, provider.now, provider.now)
    return Desk(provider, login, times)


@pytest.fixture
def provider() -> Scripted:
    found = Scripted()
    found.hire("ana", "ads-eng", "sales")
    return found


@pytest.fixture
async def desk(provider: Scripted) -> AsyncIterator[Desk]:
    found = desk_of(provider)
    yield found
    await found.login.close()


async def test_a_person_comes_in_with_what_the_login_says(desk: Desk) -> None:
    found = await desk.sign_in()
    assert found.facts.sub == found.subject == "ana"
    assert found.facts.name == "Ana"
    assert found.facts.email == "ana@acme.example"
    assert found.facts.groups == ("ads-eng", "sales")
    assert found.session == "at-ana"


async def again(desk: Desk, told: int | None) -> SignedIn:
    """A sign-in for which the login is asked to ask again; it says that the person proved it then."""
    begun = await desk.login.begin("/", again=True)
    desk.provider.lies["claims"] = changed(auth_time=told)
    return (await desk.login.complete(desk.provider.authorize(begun.url, "ana"), begun.sealed)).signed_in


async def test_whoever_is_to_decide_is_asked_again_by_the_login_itself(desk: Desk) -> None:
    begun = await desk.login.begin("/reviews/1", again=True)
    asked = parse_qs(urlsplit(begun.url).query)
    assert (asked["prompt"], asked["max_age"]) == (["login"], ["0"])
    assert "prompt" not in parse_qs(urlsplit((await desk.login.begin("/")).url).query)


@pytest.mark.parametrize("told", [int(NOW) - 3600, int(NOW) - 31, "now", True])
async def test_a_login_that_remembers_instead_of_asking_again_is_not_believed(desk: Desk, told: Any) -> None:
    with pytest.raises(LoginRefused):
        await again(desk, told)


async def test_a_sign_in_counts_as_recent_only_from_when_the_person_proved_who_they_are(desk: Desk) -> None:
    assert (await again(desk, int(NOW))).authenticated_at == NOW
    assert (await again(desk, None)).authenticated_at is None
    desk.provider.lies["claims"] = changed(auth_time=int(NOW) - 3600)
    assert (await desk.sign_in()).authenticated_at == NOW - 3600
    desk.provider.lies["claims"] = changed(auth_time=None)
    assert (await desk.sign_in()).authenticated_at == 0


async def test_the_request_is_bound_to_the_browser_the_attempt_and_the_code(desk: Desk) -> None:
    begun = await desk.login.begin("/explain")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.url).query).items()}
    assert asked["redirect_uri"] == f"{URL}/sign-in/callback"
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["state"]) >= 43
    assert len(asked["nonce"]) >= 43
    for secret in (asked["state"], asked["nonce"], "explain"):
        assert secret not in begun.sealed
    again = await desk.login.begin("/explain")
    assert again.url != begun.url


async def test_one_goes_on_to_where_one_was_going(desk: Desk) -> None:
    begun = await desk.login.begin("/explain?server=prod%2Fpresto")
    completed = await desk.login.complete(desk.provider.authorize(begun.url, "ana"), begun.sealed)
    assert completed.continue_to == "/explain?server=prod%2Fpresto"


async def test_several_attempts_in_one_browser_do_not_disturb_one_another(desk: Desk) -> None:
    first, second = await desk.login.begin("/1"), await desk.login.begin("/2")
    assert first.cookie != second.cookie
    for begun, then in ((second, "/2"), (first, "/1")):
        completed = await desk.login.complete(desk.provider.authorize(begun.url, "ana"), begun.sealed)
        assert completed.continue_to == then


async def test_a_cookie_of_an_attempt_fits_in_a_browser(desk: Desk) -> None:
    begun = await desk.login.begin("/" + "x" * 2499)
    assert len(begun.sealed) + 100 <= 4096


async def test_an_attempt_has_its_time(desk: Desk) -> None:
    begun = await desk.login.begin("/")
    answer = desk.provider.authorize(begun.url, "ana")
    desk.wait(601)
    with pytest.raises(LoginRefused, match="too long ago"):
        await desk.login.complete(answer, begun.sealed)


async def test_what_the_provider_says_no_to_is_told_to_the_person(desk: Desk) -> None:
    begun = await desk.login.begin("/")
    answer = changed(code=None, error="access_denied")(desk.provider.authorize(begun.url, "ana"))
    with pytest.raises(LoginRefused, match="did not let you in"):
        await desk.login.complete(answer, begun.sealed)


GROUPS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "as they are": ({}, {"groups": ["ads-eng", "Ads Engineering", "x"]}, ("ads-eng",)),
    "one as a text": ({}, {"groups": "ads-eng"}, ("ads-eng",)),
    "many in one text": ({"separator": ","}, {"groups": "ads-eng, sales"}, ("ads-eng", "sales")),
    "none": ({}, {"groups": None}, ()),
    "of no kind": ({}, {"groups": [{"name": "ads-eng"}, 7, None, ["sales"]]}, ()),
    "nested": (
        {"claim": ["realm_access", "roles"]},
        {"realm_access": {"roles": ["sales"]}, "groups": ["ads-eng"]},
        ("sales",),
    ),
    "under a URL": (
        {"claim": "https://acme.example/groups"},
        {"https://acme.example/groups": ["sales"], "groups": []},
        ("sales",),
    ),
    "by id": ({"map": {"0f-3c": "ads-eng"}}, {"groups": ["0f-3c", "sales"]}, ("ads-eng",)),
    "one for several": ({"map": {"0f-3c": ["ads-eng", "sales"]}}, {"groups": ["0f-3c"]}, ("ads-eng", "sales")),
    "by prefix": ({"prefix": "pegboard-"}, {"groups": ["pegboard-sales", "ads-eng"]}, ("sales",)),
    "by prefix of a path": ({"prefix": "/"}, {"groups": ["/sales", "/sales/emea"]}, ("sales",)),
    "by prefix or by id": (
        {"prefix": "pegboard-", "map": {"0f-3c": "ads-eng"}},
        {"groups": ["pegboard-sales", "0f-3c", "platform"]},
        ("ads-eng", "sales"),
    ),
    "for everyone": ({"everyone": ["staff"]}, {"groups": ["sales"]}, ("sales", "staff")),
    "by address": ({"people": {"Ana@acme.example": ["sales"]}}, {"groups": None}, ("sales",)),
    "by an address nobody verified": (
        {"people": {"ana@acme.example": ["sales"]}},
        {"groups": None, "email_verified": False},
        (),
    ),
}


@pytest.mark.parametrize("case", GROUPS)
async def test_groups_become_business_groups_as_the_settings_say(provider: Scripted, case: str) -> None:
    settings, claims, wanted = GROUPS[case]
    provider.hire("ana", **{"groups": None, **claims})
    desk = desk_of(provider, groups=settings)
    assert (await desk.sign_in()).facts.groups == wanted


async def test_an_address_counts_where_it_is_verified_or_the_operator_says_so(provider: Scripted) -> None:
    provider.hire("ana", email_verified=None)
    assert (await desk_of(provider).sign_in()).facts.email is None
    told = await desk_of(provider, claims={"email_is_verified": True}).sign_in()
    assert told.facts.email == "ana@acme.example"


async def test_a_person_may_be_known_by_another_claim(provider: Scripted) -> None:
    provider.hire("ana", oid="0f3c")
    found = await desk_of(provider, claims={"sub": "oid"}).sign_in()
    assert found.facts.sub == "0f3c"
    assert found.subject == "ana"


async def test_a_claim_that_is_required_keeps_others_out(provider: Scripted) -> None:
    desk = desk_of(provider, claims={"require": {"hd": "acme.example"}})
    with pytest.raises(LoginRefused, match=r"\(hd\)"):
        await desk.sign_in()
    provider.hire("ana", hd="acme.example")
    await desk.sign_in()


async def test_a_lost_group_is_gone_with_the_next_renewal(desk: Desk) -> None:
    first = await desk.sign_in()
    desk.provider.hire("ana", "sales")
    second = await desk.renew(first)
    assert second.facts.groups == ("sales",)
    desk.provider.hire("ana")
    assert (await desk.renew(second)).facts.groups == ()


async def test_without_refresh_tokens_userinfo_says_what_is_new(provider: Scripted) -> None:
    provider.refreshes = False
    desk = desk_of(provider)
    first = await desk.sign_in()
    provider.hire("ana", "sales")
    second = await desk.renew(first)
    assert second.facts.groups == ("sales",)
    del provider.people["ana"]
    with pytest.raises(LoginEnded):
        await desk.renew(second)


async def test_one_who_has_left_is_out_with_the_next_renewal(desk: Desk) -> None:
    first = await desk.sign_in()
    del desk.provider.people["ana"]
    with pytest.raises(LoginEnded):
        await desk.renew(first)


async def test_one_who_is_not_admitted_any_more_is_out(provider: Scripted) -> None:
    desk = desk_of(provider, claims={"require": {"hd": "acme.example"}})
    provider.hire("ana", hd="acme.example")
    first = await desk.sign_in()
    provider.hire("ana")
    with pytest.raises(LoginEnded):
        await desk.renew(first)


async def test_groups_that_the_id_token_told_are_not_lost_by_silence(provider: Scripted) -> None:
    """Of a provider whose userinfo knows no groups, and whose renewals bring no id token, nothing is known."""
    desk = desk_of(provider)
    provider.lies["userinfo"] = changed(groups=None)
    first = await desk.sign_in()
    assert first.facts.groups == ("ads-eng", "sales")
    provider.lies["tokens"] = changed(id_token=None)
    with pytest.raises(LoginEnded):
        await desk.renew(first)


async def test_where_nothing_renews_the_sign_in_is_over(provider: Scripted) -> None:
    provider.refreshes = False
    desk = desk_of(provider, userinfo=False)
    first = await desk.sign_in()
    with pytest.raises(LoginEnded):
        await desk.renew(first)
    with pytest.raises(LoginEnded):
        await desk.login.renew("", first.facts)


async def test_a_provider_that_is_away_ends_nothing_and_lets_nobody_in(desk: Desk) -> None:
    first = await desk.sign_in()
    desk.provider.down = True
    with pytest.raises(LoginUnavailable):
        await desk.renew(first)
    with pytest.raises(LoginUnavailable):
        await desk.sign_in()
    desk.provider.down = False
    assert (await desk.renew(first)).facts.sub == "ana"


async def test_a_renewal_that_cannot_be_believed_ends_nothing(desk: Desk) -> None:
    first = await desk.sign_in()
    desk.provider.lies["claims"] = changed(iss="https://evil.example")
    with pytest.raises(LoginUnavailable):
        await desk.renew(first)


async def test_a_signature_that_does_not_count_is_named_with_the_setting_that_says_so(desk: Desk) -> None:
    desk.provider.lies["header"] = changed(alg="RS512")
    with pytest.raises(LoginRefused) as refused:
        await desk.sign_in()
    assert "its algorithm 'RS512' is not one of provider.algorithms" in f"{refused.value.__cause__}"


async def test_what_is_known_of_the_provider_serves_while_it_is_away(desk: Desk) -> None:
    await desk.login.begin("/")
    desk.provider.down = True
    desk.wait(GOOD_FOR_S + 1)
    await desk.login.begin("/")


async def test_a_provider_that_is_away_is_not_asked_by_everybody(desk: Desk) -> None:
    desk.provider.down = True
    for _ in range(5):
        with pytest.raises(LoginUnavailable):
            await desk.login.begin("/")
    assert len(desk.provider.asked) == 1
    desk.wait(RETRY_S + 1)
    desk.provider.down = False
    await desk.login.begin("/")


async def test_a_new_key_of_the_provider_counts_at_once(desk: Desk) -> None:
    await desk.sign_in()
    desk.wait(LOOK_AGAIN_S + 1)
    desk.provider.rotate()
    assert (await desk.sign_in()).facts.sub == "ana"


async def test_forgeries_do_not_make_the_provider_be_asked_for_keys_each_time(desk: Desk) -> None:
    desk.wait(1)
    token = desk.provider.logout_token(sub="ana", header=changed(kid="another"))
    for _ in range(5):
        with pytest.raises(LoginRefused):
            await desk.login.signed_out(token)
    assert desk.provider.asked.count("/keys") <= 2


async def test_a_sign_out_at_the_login_names_the_person_or_the_session(desk: Desk) -> None:
    by_person = await desk.login.signed_out(desk.provider.logout_token(sub="ana"))
    assert (by_person.subject, by_person.session) == ("ana", "")
    by_session = await desk.login.signed_out(desk.provider.logout_token(sid="at-ana"))
    assert (by_session.subject, by_session.session) == ("", "at-ana")


async def test_signing_out_leads_to_the_login_too_where_the_operator_says_so(provider: Scripted) -> None:
    assert await desk_of(provider).login.sign_out_url("", "back") is None
    desk = desk_of(provider, sign_out=True)
    first = await desk.sign_in()
    url = await desk.login.sign_out_url(first.renewal, "back")
    assert url is not None
    query = parse_qs(urlsplit(url).query)
    assert url.startswith("https://login.acme.example/logout?")
    assert query["client_id"] == [CLIENT]
    assert query["post_logout_redirect_uri"] == [f"{URL}/sign-out"]
    assert query["state"] == ["back"]
    assert query["id_token_hint"][0].count(".") == 2
    assert await desk.login.sign_out_url("", "back") is not None


async def test_a_provider_without_a_place_to_sign_out_leads_nowhere(provider: Scripted) -> None:
    provider.lies["metadata"] = changed(end_session_endpoint=None)
    assert await desk_of(provider, sign_out=True).login.sign_out_url("", "back") is None


async def test_the_secret_goes_in_the_form_where_the_provider_wants_it_there(provider: Scripted) -> None:
    provider.lies["metadata"] = changed(token_endpoint_auth_methods_supported=["client_secret_post"])
    desk = desk_of(provider)
    with pytest.raises(LoginRefused, match="does not accept Pegboard"):
        await desk.sign_in()  # this one takes it in the header alone


ODD = {
    "a redirect": httpx2.Response(302, headers={"location": "https://evil.example/"}),
    "too many requests": httpx2.Response(429),
    "an error of its own": httpx2.Response(500),
    "an endless answer": httpx2.Response(200, content=b" " * (MOST_BYTES + 1)),
}


@pytest.mark.parametrize("case", ODD)
async def test_an_answer_that_says_nothing_is_none(case: str) -> None:
    fetcher = Fetcher(transport=httpx2.MockTransport(lambda _: ODD[case]))
    with pytest.raises(LoginUnavailable):
        await fetcher.get("https://login.acme.example/")
    await fetcher.close()


async def test_a_provider_that_is_silent_is_waited_for_no_longer_than_the_limit() -> None:
    class Silent(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            await anyio.sleep_forever()
            raise AssertionError(request)

    fetcher = Fetcher(transport=Silent(), whole_s=0.05)
    with pytest.raises(LoginUnavailable):
        await fetcher.get("https://login.acme.example/")
    await fetcher.close()


RENEWALS: dict[str, tuple[int, str, type[Exception]]] = {
    "the sign-in is over": (400, "invalid_grant", LoginEnded),
    "the person is locked, as Canaille says it": (400, "invalid_request", LoginEnded),
    "the person must do something, as Entra says it": (400, "interaction_required", LoginEnded),
    "Pegboard is not known any more": (401, "invalid_client", LoginUnavailable),
    "Pegboard may not renew": (400, "unauthorized_client", LoginUnavailable),
    "something is in between": (404, "", LoginUnavailable),
    "a proxy wants something": (407, "", LoginUnavailable),
}


@pytest.mark.parametrize("case", RENEWALS)
async def test_a_refused_renewal_ends_the_sign_in_where_the_person_is_the_reason(desk: Desk, case: str) -> None:
    status, error, wanted = RENEWALS[case]
    first = await desk.sign_in()
    answer = Scripted.answer

    def refusing(*asked: Any) -> tuple[int, dict[str, Any]]:
        return (status, {"error": error}) if asked[1].endswith("/token") else answer(desk.provider, *asked)

    desk.provider.answer = refusing  # type: ignore[method-assign]
    with pytest.raises(wanted):
        await desk.renew(first)


async def test_an_access_token_that_was_just_given_and_is_not_taken_ends_nothing(desk: Desk) -> None:
    """As Canaille does with two tokens of one second: the provider said a moment ago that the person is in."""
    first = await desk.sign_in()
    desk.provider.lies["tokens"] = changed(access_token="stale")
    with pytest.raises(LoginUnavailable):
        await desk.renew(first)


async def test_a_renewal_that_fails_halfway_is_gone_on_with(desk: Desk) -> None:
    """The provider has replaced the refresh token, and then does not say who the person is."""
    first = await desk.sign_in()
    for _ in range(3):
        desk.provider.lies["userinfo"] = changed(sub="somebody else")
        with pytest.raises(LoginUnavailable):
            await desk.renew(first)
    desk.provider.lies.clear()
    second = await desk.renew(first)
    assert second.facts.sub == "ana"
    third = await desk.renew(second)
    assert (await desk.renew(third)).facts.sub == "ana"


async def test_what_is_kept_of_a_sign_in_has_no_more_than_it_needs(provider: Scripted) -> None:
    assert "eyJ" not in (await desk_of(provider).sign_in()).renewal
    assert "eyJ" in (await desk_of(provider, sign_out=True).sign_in()).renewal
