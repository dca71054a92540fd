"""Where a client's answers may go, and what counts as the same place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pegboard.core.redirects import is_loopback_redirect, surface_of
from pegboard_hub.identity.clients.errors import RedirectRefused
from pegboard_hub.identity.clients.redirects import (
    LONGEST,
    MOST,
    NEVER_SCHEMES,
    check_redirect,
    check_redirects,
    matches,
    scheme_fault,
)

GOOD = [
    "https://app.example.com/callback",
    "https://app.example.com",
    "https://app.example.com:8443/callback?tenant=a%2Fb",
    "https://vscode.dev/redirect",
    "https://xn--bcher-kva.example/callback",
    "https://chat/callback",
    "http://127.0.0.1/callback",
    "http://127.0.0.1:33418",
    "http://127.0.0.1:33418/",
    "http://localhost:6274/oauth/callback/debug",
    "http://[::1]:8080/callback",
    "cursor://anysphere.cursor-mcp/oauth/callback",
    "vscode://vscode.microsoft-authentication/cb",
    "com.example.app:/oauth2redirect",
    "com.example.app://callback/x",
]

TRICKS = [
    # fragment, user, and hosts that only look like one
    ("https://app.example.com/cb#", "fragment"),
    ("https://app.example.com/cb#x", "fragment"),
    ("https://app.example.com@evil.com/cb", "user"),
    ("https://user:secret@app.example.com/cb", "user"),
    ("com.example.app://app.example.com@evil/cb", "user"),
    ("https://app.example.com%2eevil.com/cb", "percent-encoded"),
    ("https://app.example.com%40evil.com/cb", "percent-encoded"),
    ("https://app.example.com./cb", "without a dot at its end"),
    ("https://.example.com/cb", "no domain name"),
    ("https://App.Example.com/cb", "no domain name in lower case"),
    ("https://-app.example.com/cb", "no domain name"),
    ("https://*.example.com/cb", "no domain name"),
    ("https://app_x.example.com/cb", "no domain name"),
    ("https://" + "a" * 64 + ".example.com/cb", "no domain name"),
    ("https:///cb", "name a host"),
    ("https:/app.example.com/cb", "name a host"),
    ("https:app.example.com/cb", "name a host"),
    # addresses, and what browsers read as one
    ("https://10.0.0.5/cb", "an address"),
    ("https://0x7f.1/cb", "an address"),
    ("https://2130706433/cb", "an address"),
    ("https://017700000001/cb", "an address"),
    ("https://app.example.0x/cb", "an address"),
    ("https://[::1]/cb", "no domain name"),
    ("https://[::ffff:127.0.0.1]/cb", "no"),
    # http to what looks like this machine
    ("http://app.example.com/cb", "use https"),
    ("http://127.0.0.1.evil.com/cb", "use https"),
    ("http://localhost.evil.com/cb", "use https"),
    ("http://evil.localhost/cb", "use https"),
    ("http://localhost./cb", "use https"),
    ("http://LOCALHOST/cb", "use https"),
    ("http://127.0.0.2/cb", "use https"),
    ("http://127.1/cb", "use https"),
    ("http://0.0.0.0/cb", "use https"),
    ("http://0/cb", "use https"),
    ("http://0x7f.1/cb", "use https"),
    ("http://2130706433/cb", "use https"),
    ("http://[::]/cb", "use https"),
    ("http://[0:0:0:0:0:0:0:1]/cb", "use https"),
    ("http://[::ffff:7f00:1]/cb", "use https"),
    ("http://[::ffff:127.0.0.1]/cb", "port"),
    ("http://[::1%25lo]/cb", "percent-encoded"),
    ("http://127.0.0.1@evil.com/cb", "user"),
    ("http://127.0.0.1:80@evil.com/cb", "user"),
    # ports
    ("https://app.example.com:/cb", "port"),
    ("https://app.example.com:0/cb", "port"),
    ("https://app.example.com:0443/cb", "port"),
    ("https://app.example.com:65536/cb", "port"),
    ("https://app.example.com:44 3/cb", "RFC 3986"),
    ("https://app.example.com:443:80/cb", "port"),
    ("http://127.0.0.1:evil.com/cb", "port"),
    # what browsers read in another way than servers
    ("//evil.com/cb", "no absolute URI"),
    ("/cb", "no absolute URI"),
    ("", "no absolute URI"),
    ("app.example.com/cb", "no absolute URI"),
    ("https://app.example.com\\@evil.com/cb", "RFC 3986"),
    ("https:\\\\app.example.com/cb", "RFC 3986"),
    ("https://app.example.com/cb\\..", "RFC 3986"),
    ("https://app.example.com/c b", "RFC 3986"),
    (" https://app.example.com/cb", "RFC 3986"),
    ("https://app.example.com/cb\n", "RFC 3986"),
    ("https://app.example.com/cb\r\nSet-Cookie:x", "RFC 3986"),
    ("https://app.\texample.com/cb", "RFC 3986"),
    ("https://app.example.com/\x00", "RFC 3986"),
    ("https://\u0430pp.example.com/cb", "ASCII"),
    ("https://app.example\u3002com/cb", "ASCII"),
    ("https://app.example.com/\u202egpj", "ASCII"),
    ("https://app.example.com/%zz", "RFC 3986"),
    ('https://app.example.com/"><script>', "RFC 3986"),
    # paths that mean another path, and queries that answer in advance
    ("https://app.example.com/cb/../evil", "'..'"),
    ("https://app.example.com/./cb", "'.'"),
    ("https://app.example.com/cb/%2e%2e/evil", "hides"),
    ("https://app.example.com/cb%2Fevil", "hides"),
    ("https://app.example.com/cb%5Cevil", "hides"),
    ("https://app.example.com/cb%0d%0aX:y", "hides"),
    ("https://app.example.com/cb?x=%0D%0A", "hides"),
    ("com.example.app:/../cb", "'..'"),
    ("https://app.example.com/cb?code=1", "code"),
    ("https://app.example.com/cb?a=1&state=x&iss=y", "iss, state"),
    ("https://app.example.com/cb?%63ode=1", "code"),
    # schemes
    ("HTTPS://app.example.com/cb", "lower case"),
    ("HtTp://127.0.0.1/cb", "lower case"),
    ("JavaScript:alert(1)", "lower case"),
    ("evil:/cb", "not known here"),
    ("myapp://cb", "not known here"),
    (".evil:/cb", "scheme"),
    ("com..evil:/cb", "not known here"),
    ("com.example.app:", "com.example.app:/path"),
    ("com.example.app:cb", "com.example.app:/path"),
    ("urn:ietf:wg:oauth:2.0:oob", "not known here"),
    *[(f"{scheme}:/x", "answers never go to") for scheme in sorted(NEVER_SCHEMES)],
    ("javascript:alert(document.domain)//", "answers never go to"),
    ("data:text/html,x", "answers never go to"),
    ("https://app.example.com/" + "a" * LONGEST, "is the most"),
]


@pytest.mark.parametrize("uri", GOOD)
def test_a_redirect_that_leads_somewhere_known_may_be_registered(uri: str) -> None:
    check_redirect(uri)
    assert matches(uri, uri)


@pytest.mark.parametrize(("uri", "words"), TRICKS)
def test_a_redirect_trick_is_refused_with_its_mend(uri: str, words: str) -> None:
    with pytest.raises(RedirectRefused, match=words.replace(".", r"\.")) as refused:
        check_redirect(uri, {"javascript", "data", "file"})
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("registered", "asked", "same"),
    [
        ("https://app.example.com/cb", "https://app.example.com/cb", True),
        ("https://app.example.com/cb", "https://app.example.com/cb/", False),
        ("https://app.example.com/cb", "https://app.example.com/cb?x=1", False),
        ("https://app.example.com/cb", "https://app.example.com:443/cb", False),
        ("https://app.example.com/cb", "https://app.example.com:8443/cb", False),
        ("https://app.example.com/cb", "https://a.app.example.com/cb", False),
        ("https://app.example.com/cb", "https://app.example.com.evil.com/cb", False),
        ("https://app.example.com/cb", "https://APP.example.com/cb", False),
        ("https://app.example.com/cb", "http://app.example.com/cb", False),
        ("https://app.example.com/cb", "https://app.example.com/%63b", False),
        ("https://app.example.com/cb", "https://app.example.com/cb#x", False),
        ("https://app.example.com/", "https://app.example.com", False),
        ("cursor://a/cb", "cursor://b/cb", False),
        ("cursor://a/cb", "cursor://a:1/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:49152/cb", True),
        ("http://127.0.0.1:1/cb", "http://127.0.0.1/cb", True),
        ("http://localhost:1/cb", "http://localhost:2/cb", True),
        ("http://[::1]:1/cb", "http://[::1]:2/cb", True),
        ("http://127.0.0.1/cb?a=1", "http://127.0.0.1:9/cb?a=1", True),
        ("http://127.0.0.1/cb?a=1", "http://127.0.0.1:9/cb?a=2", False),
        ("http://127.0.0.1/cb", "http://localhost/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:65536/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:09/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:9/other", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:9@evil.com/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1.evil.com/cb", False),
        ("http://127.0.0.1/cb", "https://127.0.0.1:9/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:9/cb\n", False),
        ("http://127.0.0.1", "http://127.0.0.1:9", True),
        ("http://127.0.0.1", "http://127.0.0.1:9/", False),
        ("http://127.0.0.1", "http://127.0.0.1:9@evil.com", False),
    ],
)
def test_redirects_are_compared_as_they_are_but_for_the_port_of_this_machine(
    registered: str, asked: str, same: bool
) -> None:
    assert matches(registered, asked) is same


@given(st.sampled_from(GOOD), st.text(max_size=20), st.integers(min_value=0, max_value=60))
def test_whatever_is_put_into_a_redirect_it_is_another_or_differs_in_its_loopback_port(
    registered: str, inserted: str, at: int
) -> None:
    asked = registered[:at] + inserted + registered[at:]
    if asked != registered and matches(registered, asked):
        assert is_loopback_redirect(registered)
        assert is_loopback_redirect(asked)
        check_redirect(asked)


@given(st.text(alphabet="htps:/.@#?%[]0x127evil\\ \n\u3002", max_size=40))
def test_what_may_be_registered_goes_to_this_machine_a_named_host_or_an_app(uri: str) -> None:
    try:
        check_redirect(uri)
    except RedirectRefused:
        return
    assert uri.isascii()
    assert not set(uri) & set("#@\\ \n")
    assert uri.startswith("https://") or is_loopback_redirect(uri) or "." in uri.partition(":")[0]


def test_a_client_has_a_few_redirects_each_once() -> None:
    assert check_redirects([GOOD[0], GOOD[1], GOOD[0]]) == (GOOD[0], GOOD[1])
    with pytest.raises(RedirectRefused, match="empty"):
        check_redirects([])
    with pytest.raises(RedirectRefused, match="is the most"):
        check_redirects([f"https://app.example.com/{number}" for number in range(MOST + 1)])


def test_the_operator_can_allow_a_scheme_of_their_own() -> None:
    check_redirect("acme-ide://cb", {"acme-ide"})
    assert scheme_fault("acme-ide") == ""


@pytest.mark.parametrize("scheme", ["https", "http", "javascript", "data", "file", "Acme", "acme:", "", "acme ide"])
def test_the_operator_cannot_allow_a_scheme_that_is_not_an_apps(scheme: str) -> None:
    assert scheme_fault(scheme)


@pytest.mark.parametrize(
    ("uris", "surface"),
    [
        (["http://127.0.0.1/cb"], "cli"),
        (["http://localhost:1/cb", "http://[::1]/cb"], "cli"),
        (["http://127.0.0.1/cb", "https://vscode.dev/redirect"], "ide"),
        (["cursor://a/cb"], "ide"),
        (["https://app.example.com/cb"], "ide"),
    ],
)
def test_the_surface_class_follows_from_the_redirects(uris: list[str], surface: str) -> None:
    assert surface_of(uris) == surface
