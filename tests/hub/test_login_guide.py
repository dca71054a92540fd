"""The guide to connecting a company's login: each of its examples is a sign-in file that works."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from pegboard_hub.identity.provider.claims import MOST_GROUPS, facts_of
from pegboard_hub.identity.provider.fetch import MOST_BYTES, WHOLE_S
from pegboard_hub.identity.provider.id_token import SKEW_S
from pegboard_hub.identity.provider.login import BACK_CHANNEL, CALLBACK, SIGNED_OUT
from pegboard_hub.identity.settings import Provider, SignInFile

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "connect-your-companys-login.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"^### (?P<name>.+?)\n.*?^```toml\n(?P<text>.+?)^```", re.M | re.S)
EXAMPLES = {found["name"]: found["text"] for found in EXAMPLE.finditer(GUIDE)}

TOLD = {
    "Okta": ({"sub": "00u1", "groups": ["pegboard-ads-eng", "Everyone"]}, ("ads-eng",)),
    "Microsoft Entra ID": (
        {
            "sub": "x",
            "oid": "0f3c",
            "email": "ana@acme.com",
            "groups": ["0f3c9a52-1d5e-4b7a-9c1f-2e8d7b6a5c4d", "other"],
        },
        ("ads-eng",),
    ),
    "Google": (
        {"sub": "1234", "hd": "acme.com", "email": "Ana@acme.com", "email_verified": True},
        ("ads-eng", "platform", "staff"),
    ),
    "Keycloak": ({"sub": "f:1", "groups": ["ads-eng", "/sales"]}, ("ads-eng",)),
}
"""What each login says of somebody, and the business groups that are to come of it."""


def provider_of(name: str) -> Provider:
    found = SignInFile.model_validate(tomllib.loads(EXAMPLES[name])).provider
    assert found is not None
    return found


def test_every_login_that_the_guide_names_has_an_example() -> None:
    assert set(EXAMPLES) == set(TOLD)


@pytest.mark.parametrize("name", TOLD)
def test_an_example_makes_of_what_that_login_says_the_groups_it_promises(name: str) -> None:
    claims, groups = TOLD[name]
    assert facts_of(dict(claims), provider_of(name)).groups == groups


def test_what_is_tried_on_ones_own_machine_is_a_sign_in_file_that_works() -> None:
    text = GUIDE.partition("## Try it on your own machine")[2].partition("```toml")[2].partition("```")[0]
    provider = SignInFile.model_validate(tomllib.loads(text)).provider
    assert provider is not None
    assert provider.issuer.startswith("http://localhost:")
    assert facts_of({"sub": "1"}, provider).groups == ("ads-eng",)


def test_the_paths_to_register_and_the_limits_are_those_of_the_code() -> None:
    for path in (CALLBACK, BACK_CHANNEL, SIGNED_OUT):
        assert f"`https://pegboard.acme.com{path}`" in GUIDE
    assert f"A person may be in {MOST_GROUPS} business groups" in GUIDE
    assert f"with more than {MOST_BYTES // 2**20} MiB, or not within {WHOLE_S:g} s" in GUIDE
    assert f"wrong by more than {SKEW_S} s" in GUIDE
