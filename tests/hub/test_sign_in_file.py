"""The sign-in file: what it may say, where its secrets are, and who may then reach the instance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pegboard.core.errors import ConfigurationError
from pegboard_hub.identity.settings import SECRETS, open_sign_in, read_sign_in
from pegboard_hub.runtime import preflight
from pegboard_hub.runtime.as_before import DEMO_LOGIN, files_and_ages

PROVIDER = """
[provider]
issuer = "https://login.acme.example"
client_id = "pegboard"
client_secret = { file = "secret" }
"""


def write(folder: Path, text: str, secret: str | None = "hush", mode: int = 0o600) -> Path:  # noqa: S107
    path = folder / "sign-in.toml"
    path.write_text(text)
    if secret is not None:
        (folder / "secret").write_text(secret)
        (folder / "secret").chmod(mode)
    return path


def test_without_a_file_people_are_the_demo_directorys() -> None:
    opened = open_sign_in(None)
    assert opened.demo
    assert opened.file.operators == ("platform",)
    assert opened.file.clients.dynamic_registration
    assert opened.file.clients.documents


def test_a_secret_is_read_from_its_file_and_shown_nowhere(tmp_path: Path) -> None:
    opened = open_sign_in(write(tmp_path, PROVIDER), {})
    assert opened.file.provider is not None
    assert opened.secret(opened.file.provider.client_secret) == "hush"
    assert "hush" not in f"{opened!r}{opened}{opened.file!r}"


def test_a_secret_may_be_in_a_variable(tmp_path: Path) -> None:
    text = PROVIDER.replace('file = "secret"', 'env = "OIDC_SECRET"')
    opened = open_sign_in(write(tmp_path, text), {"OIDC_SECRET": "hush"})
    assert opened.file.provider is not None
    assert opened.secret(opened.file.provider.client_secret) == "hush"


def test_the_supervisor_hands_secrets_on_that_the_hub_cannot_read(tmp_path: Path) -> None:
    opened = open_sign_in(write(tmp_path, PROVIDER, None), {SECRETS: json.dumps({"file:secret": "handed"})})
    assert dict(opened.secrets) == {"file:secret": "handed"}


@pytest.mark.parametrize(
    ("secret", "mode", "said"),
    [
        (None, 0, "cannot be read: No such file"),
        ("", 0o600, "is empty"),
        ("hush", 0o604, "others may read"),
        ("two\nlines", 0o600, "one line of ASCII text"),
        ("x" * 5000, 0o600, "one line of ASCII text"),
    ],
)
def test_a_secret_that_cannot_be_used_is_named_by_its_place(
    tmp_path: Path, secret: str | None, mode: int, said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_sign_in(write(tmp_path, PROVIDER, secret, mode), {})
    [problem] = caught.value.problems
    assert problem.startswith("provider.client_secret: ")
    assert said in problem
    assert "hush" not in problem


FAULTS = {
    "a key that is not known": ("client_secrt = 1", "did you mean 'client_secret'"),
    "no openid": ('scopes = ["profile"]', "must have openid"),
    "a shared key's algorithm": ('algorithms = ["HS256"]', "'HS256' cannot be used"),
    "no algorithm": ('algorithms = ["none"]', "'none' cannot be used"),
    "a parameter that is ours": ('parameters = { state = "x" }', "state is made anew"),
    "an operator's group that is no name": ("[provider.groups]\neveryone = ['Ads Eng']", "groups.everyone"),
    "a client's wildcard": (
        '[clients.registered.x]\nname = "x"\nsurface = "ide"\nredirect_uris = ["https://*.acme.example/"]',
        "its host is no domain name",
    ),
    "a client's redirect over http": (
        '[clients.registered.x]\nname = "x"\nsurface = "ide"\nredirect_uris = ["http://acme.example/"]',
        "http goes to 127.0.0.1, [::1] or localhost alone; use https",
    ),
    "a client with Pegboard's own id": (
        '[clients.registered.pegboard-cli]\nname = "x"\nsurface = "cli"\nredirect_uris = ["https://acme.example/"]',
        "choose another",
    ),
    "a scheme that browsers run": ('[clients]\nredirect_schemes = ["javascript"]', "answers never go to javascript:"),
    "a scheme with a colon": ('[clients]\nredirect_schemes = ["acme:"]', "without ':'"),
    "a host of documents that is an address": ('[clients]\ndocument_hosts = ["10.0.0.1"]', "use a domain name"),
    "a proxy with a secret": ('[clients]\ndocument_proxy = "http://me:hush@proxy:3128"', "without a user"),
    "a client that is a service": (
        '[clients.registered.x]\nname = "x"\nsurface = "service"\nredirect_uris = ["https://acme.example/"]',
        "unknown surface 'service'",
    ),
    "a client that acts for many": (
        '[clients.registered.x]\nname="x"\nsurface="bot"\nredirect_uris=["https://acme.example/"]',
        "pegboard surfaces register",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named_with_its_key(tmp_path: Path, case: str) -> None:
    line, said = FAULTS[case]
    with pytest.raises(ConfigurationError, match=r"sign-in\.toml") as caught:
        read_sign_in(write(tmp_path, PROVIDER + line))
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "issuer",
    ["http://login.acme.example", "login.acme.example", "https://me@acme.example", "https://acme.example/?x=1"],
)
def test_an_issuer_is_an_https_url(tmp_path: Path, issuer: str) -> None:
    with pytest.raises(ConfigurationError, match="issuer"):
        read_sign_in(write(tmp_path, PROVIDER.replace("https://login.acme.example", issuer)))


def test_a_variable_that_every_process_gets_holds_no_secret(tmp_path: Path) -> None:
    text = PROVIDER.replace('file = "secret"', 'env = "PEGBOARD_OIDC"')
    with pytest.raises(ConfigurationError, match="begin it with PEGBOARD_SECRET_"):
        read_sign_in(write(tmp_path, text))


OPEN = {
    "demo, elsewhere": ("https://pegboard.acme.example", "", True, "demo directory"),
    "demo, elsewhere in the clear": ("http://10.0.0.7:8400", "", True, "demo directory"),
    "demo, listening everywhere": ("http://localhost:8400", "0.0.0.0", True, "leave out --bind"),  # noqa: S104
    "demo, listening everywhere by IPv6": ("http://localhost:8400", "::", True, "leave out --bind"),
    "demo, listening on the network": ("http://localhost:8400", "192.0.2.7", True, "leave out --bind"),
    "a login, in the clear": ("http://pegboard.acme.example", "", False, "must begin with https://"),
}


@pytest.mark.parametrize("case", OPEN)
def test_nobody_reaches_what_is_not_safe_to_reach(case: str) -> None:
    public_url, bind, demo, said = OPEN[case]
    with pytest.raises(ValueError, match=said):
        preflight.check_reach(public_url, bind, demo=demo)


@pytest.mark.parametrize(
    ("public_url", "bind", "demo"),
    [
        ("http://localhost:8400", "", True),
        ("http://localhost:8400", "127.0.0.1", True),
        ("https://pegboard.acme.example", "", False),
        ("https://pegboard.acme.example", "0.0.0.0", False),  # noqa: S104
        ("http://localhost:8400", "0.0.0.0", False),  # noqa: S104
    ],
)
def test_what_is_safe_to_reach_is_reached(public_url: str, bind: str, demo: bool) -> None:
    preflight.check_reach(public_url, bind, demo=demo)


def test_a_later_start_goes_on_with_the_login_until_the_demo_is_named(tmp_path: Path) -> None:
    noted = {"grants": "/etc/grants.toml", "sign_in": "/etc/sign-in.toml"}
    (tmp_path / "instance.json").write_text(json.dumps(noted))
    assert files_and_ages(tmp_path, None, None, None, None)[1] == Path("/etc/sign-in.toml")
    assert files_and_ages(tmp_path, None, Path("/other.toml"), None, None)[1] == Path("/other.toml")
    assert files_and_ages(tmp_path, None, DEMO_LOGIN, None, None)[1] is None


def test_a_start_that_cannot_read_what_was_noted_does_not_fall_back_to_the_demo(tmp_path: Path) -> None:
    (tmp_path / "instance.json").write_text("no JSON")
    with pytest.raises(ConfigurationError):
        files_and_ages(tmp_path, tmp_path / "grants.toml", None, None, None)
