"""Secrets in files are found by their issuers' forms and by how they look; what only looks like one is left alone.

Every secret here is made up, and put together at run time: as a literal it would be one for others' scanners.
"""

from __future__ import annotations

import random
import string

import pytest

from pegboard.core.check import check_files
from pegboard.core.publishing import Finding

_DRAWN = random.Random(7)  # noqa: S311 - the same test each time


def drawn(length: int, letters: str = string.ascii_letters + string.digits) -> str:
    return "".join(_DRAWN.choice(letters) for _ in range(length))


HEX = "0123456789abcdef"
BASE32 = string.ascii_uppercase + "234567"
JWT = f"eyJ{drawn(30)}.eyJ{drawn(40)}.{drawn(43)}"

ISSUED = {
    "private key": "-----BEGIN RSA PRIVATE " + "KEY-----",
    "private key of OpenSSH": "-----BEGIN OPENSSH PRIVATE " + "KEY-----",
    "private key as JWK": '{"kty": "EC", "d": "' + drawn(43) + '"}',
    "AWS": f"AKIA{drawn(16, BASE32)}",
    "GitHub": f"ghp_{drawn(36)}",
    "GitHub, fine-grained": f"github_pat_{drawn(82)}",
    "GitLab": f"glpat-{drawn(20)}",
    "Slack bot": f"xoxb-{drawn(12, string.digits)}-{drawn(24)}",
    "Slack webhook": f"https://hooks.slack.com/services/T{drawn(8)}/B{drawn(8)}/{drawn(24)}",
    "Stripe": f"sk_live_{drawn(24)}",
    "OpenAI": f"sk-proj-{drawn(40)}T3BlbkFJ{drawn(40)}",
    "Anthropic": f"sk-ant-api03-{drawn(93)}AA",
    "Google": f"AIza{drawn(35)}",
    "Hugging Face": f"hf_{drawn(34, string.ascii_letters)}",
    "PyPI": f"pypi-AgEIcHlwaS5vcmc{drawn(120)}",
    "npm": f"npm_{drawn(36)}",
    "SendGrid": f"SG.{drawn(22)}.{drawn(43)}",
    "Databricks": f"dapi{drawn(32, HEX)}",
    "Vault": f"hvs.{drawn(24)}",
    "JWT": JWT,
    "password in an address": f"postgresql://app:{drawn(14)}@db.acme.com:5432/x",
}


def found(text: str, name: str = "src/s.py") -> list[Finding]:
    report = check_files({name: text.encode(), "pyproject.toml": b"", "uv.lock": b""})
    return [each for each in report.findings if each.code.startswith("PB5")]


@pytest.mark.parametrize("secret", ISSUED.values(), ids=ISSUED)
@pytest.mark.parametrize("name", ["src/s.py", "pegboard.toml", "README.md", "data/x.json"])
def test_an_issued_secret_is_an_error_wherever_it_stands(secret: str, name: str) -> None:
    [finding] = found(f"# first\nvalue = '{secret}'\n", name)
    assert (finding.code, finding.place) == ("PB501", f"{name}:2")
    assert secret[-8:] not in finding.model_dump_json()  # nobody learns it from the finding


@pytest.mark.parametrize(
    "code",
    [
        'KEY = "AKIA" + "{rest}"',
        'KEY = "".join(["AK", "IA", "{rest}"])',
        "KEY = f\"AKIA{{'{rest}'}}\"",
        'KEY = ("AKIA" + "{rest}").strip()',
        'KEY = "A" + "K" + "I" + "A" + "{rest}"',
        'KEY = ("AKIA"\n    "{rest}")',
    ],
)
def test_a_secret_in_parts_is_one(code: str) -> None:
    assert [each.code for each in found(code.format(rest=drawn(16, BASE32)))] == ["PB501"]


def test_a_long_random_text_beside_a_word_for_secrets_is_warned_of() -> None:
    value = drawn(32)
    line = f'api_token = "{value}"'
    assert [(each.code, each.place) for each in found(f"\n{line}\n")] == [("PB502", "src/s.py:2")]
    assert found(f"{line}  # pegboard: no secret") == []
    assert [each.code for each in found(f'{{"client_secret": "{value}"}}', "x.json")] == ["PB502"]


@pytest.mark.parametrize(
    "text",
    [
        'api_token = os.environ["API_TOKEN"]',
        'token = "your-token-goes-here-please"',
        'password = "correct horse battery staple"',
        'token_url = "https://login.acme.com/oauth/token"',
        'secret = "env:WAREHOUSE_PASSWORD"',
        'API_KEY = "<the key of your account>"',
        'token: str = Field(description="a token of the ticket system")',
        'digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"',
        'url = "postgresql://app:{password}@db.acme.com/x"',
        'url = "postgresql://app:${PASSWORD}@db.acme.com/x"',
        'git = "ssh://git@github.com:22/acme/x.git"',
        "AKIAIOSFODNN7EXAMPLE",
        'access_token_lifetime = "PT15M0S000000000"',
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_what_is_none_is_left_alone(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize("name", [".env", "conf/.env.production", "id_ed25519", "tls/server.key", "credentials.json"])
def test_files_of_secrets_do_not_belong_into_a_release(name: str) -> None:
    assert [(each.code, each.place) for each in found("X=1\n", name)] == [("PB503", name)]


def test_examples_and_certificates_may_be_there() -> None:
    assert found("X=\n", ".env.example") == []
    assert found("-----BEGIN CERTIFICATE-----\nabc\n", "ca.pem") == []


def test_a_lock_file_is_full_of_hashes_and_none_is_a_secret() -> None:
    assert found('hash = "sha256:' + drawn(64, HEX) + '"\ntoken = "' + drawn(40) + '"\n', "uv.lock") == []
