"""Secrets in a project's files: those that issuers give a form of their own, keys, and texts that look like one.

A table of our own, and no library: the one that is made for it (detect-secrets) has had no release since 2024, keeps
its settings in globals, and by default asks issuers over the network whether a find is good.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from pegboard.core.check.model import Subject
from pegboard.core.check.rules import RULES
from pegboard.core.publishing import Finding

LARGEST_FILE: Final = 1024 * 1024
"""Bytes of a file that is looked through; the rest of a larger one is not."""

LONGEST_LINE: Final = 4_000

ALLOWED: Final = "pegboard: no secret"
"""What a line says that only looks as if a secret stood in it."""


class Form(NamedTuple):
    """A secret by its form. `hint` is a text that stands wherever it matches, for a quick look."""

    name: str
    hint: str
    pattern: re.Pattern[str]


def _form(name: str, hint: str, pattern: str) -> Form:
    return Form(name, hint, re.compile(rf"(?<![A-Za-z0-9_-]){pattern}(?![A-Za-z0-9_])"))


FORMS: Final[tuple[Form, ...]] = (
    Form(
        "a private key",
        "PRIVATE KEY",
        re.compile(r"-----BEGIN (?:[A-Z]+ ){0,2}PRIVATE KEY(?: BLOCK)?-----"),
    ),
    Form("a private key as JWK", '"d"', re.compile(r'"d"\s{0,4}:\s{0,4}"[A-Za-z0-9_-]{40,}"')),
    _form("an AWS access key", "A", r"(?:AKIA|ASIA)[A-Z2-7]{16}"),
    _form("a GitHub token", "gh", r"gh[pousr]_[A-Za-z0-9]{36,251}"),
    _form("a GitHub token", "github_pat_", r"github_pat_[A-Za-z0-9_]{60,251}"),
    _form("a GitLab token", "gl", r"gl(?:pat|ptt|rt|dt|cbt|ft|soat|agent)-[A-Za-z0-9_-]{20,}"),
    _form("a Slack token", "xox", r"xox[abeprs]-[A-Za-z0-9-]{10,}"),
    _form("a Slack token", "xapp-", r"xapp-\d-[A-Za-z0-9-]{10,}"),
    Form(
        "a Slack webhook",
        "hooks.slack.com",
        re.compile(r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/+_-]{20,}"),
    ),
    _form("a Stripe key", "_live_", r"[rs]k_live_[A-Za-z0-9]{16,}"),
    _form("an OpenAI key", "sk-", r"sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,}T3BlbkFJ[A-Za-z0-9_-]{20,}"),
    _form("an Anthropic key", "sk-ant-", r"sk-ant-[a-z0-9]+-[A-Za-z0-9_-]{60,}"),
    _form("a Google API key", "AIza", r"AIza[A-Za-z0-9_-]{35}"),
    _form("a Google OAuth secret", "GOCSPX-", r"GOCSPX-[A-Za-z0-9_-]{28}"),
    _form("a Hugging Face token", "hf_", r"hf_[A-Za-z]{30,}"),
    _form("a PyPI token", "pypi-", r"pypi-AgE[A-Za-z0-9_-]{60,}"),
    _form("an npm token", "npm_", r"npm_[A-Za-z0-9]{36}"),
    _form("a SendGrid key", "SG.", r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    _form("a Databricks token", "dapi", r"dapi[a-f0-9]{32}"),
    _form("a DigitalOcean token", "do", r"do[opr]_v1_[a-f0-9]{64}"),
    _form("a Grafana token", "glsa_", r"glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}"),
    _form("an Atlassian token", "ATATT3", r"ATATT3[A-Za-z0-9_=-]{150,}"),
    _form("a HashiCorp Vault token", "hv", r"hv[sbr]\.[A-Za-z0-9_-]{24,}"),
    _form("a Linear key", "lin_api_", r"lin_api_[A-Za-z0-9]{40}"),
    _form("a Notion token", "ntn_", r"ntn_[A-Za-z0-9]{40,}"),
    _form("a 1Password token", "ops_", r"ops_eyJ[A-Za-z0-9_-]{250,}"),
    _form("an age key", "AGE-SECRET-KEY-", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    _form("a JSON Web Token", "eyJ", r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}"),
    Form(
        "an Azure storage key",
        "AccountKey",
        re.compile(r"AccountKey=[A-Za-z0-9+/]{80,}={0,2}"),
    ),
    Form(
        "a password in an address",
        "://",
        re.compile(r"[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>{}$]{1,64}:(?P<value>[^\s/@\"'<>{}$]{6,128})@[\w.-]+"),
    ),
)
"""Issuers' own forms: what fits one is a secret, or was made to look like one."""

_NAMED: Final = re.compile(
    r"(?P<name>[\w.-]{0,40}(?:secret|token|passw(?:or)?d|api[_-]?key|credential|private[_-]?key|access[_-]?key)\w{0,20})"
    r"[\"']?\s{0,8}(?::\s{0,4}str\s{0,4})?(?:=|:|=>)\s{0,8}[rbf]?[\"'](?P<value>[^\s\"']{12,256})[\"']",
    re.IGNORECASE,
)
_PLACEHOLDER: Final = re.compile(
    r"(?i)example|changeme|change-me|placeholder|dummy|fake|sample|redacted|your[-_]|<[^>]*>|\$\{|\{\{|x{4,}|\*{4,}"
)
_KEY_FILES: Final = re.compile(
    r"(?:^|/)(?:\.env(?:\.(?!example$|sample$|template$)[\w.-]+)?|id_(?:rsa|dsa|ecdsa|ed25519)|\.netrc|\.pypirc|\.npmrc|"
    r"\.git-credentials|credentials\.json|client_secret[\w.-]*\.json|service[-_]account[\w.-]*\.json|[\w.-]+\."
    r"(?:pem|key|p12|pfx|jks|keystore|kdbx))$",
    re.IGNORECASE,
)
_PUBLIC: Final = re.compile(rb"-----BEGIN (?:CERTIFICATE|PUBLIC KEY)-----")

LEAST_BITS: Final = 3.5
"""Bits of each character, beyond which a text is as random as secrets are."""


def findings(subject: Subject) -> Iterator[Finding]:
    """Secrets in files, and in texts that the code puts together from parts."""
    told: set[tuple[str, str]] = set()
    for name in sorted(subject.files):
        content = subject.files[name]
        if _KEY_FILES.search(name) and not _is_public(content):
            yield RULES["PB503"].at(name, "its name is that of a file with secrets")
        if name.rpartition("/")[2] == "uv.lock" or b"\0" in content[:4096]:
            continue
        text = content[:LARGEST_FILE].decode("utf-8", "replace")
        for finding in _in_lines(name, text):
            told.add((name, finding.what))
            yield finding
    for each in subject.code.texts:
        found = form_of(each.text)
        if found and (each.place.rpartition(":")[0], found) not in told:
            yield RULES["PB501"].at(each.place, f"{found}, put together from parts")


def _is_public(content: bytes) -> bool:
    return _PUBLIC.search(content) is not None and b"PRIVATE KEY" not in content


def _in_lines(name: str, text: str) -> Iterator[Finding]:
    for number, whole in enumerate(text.splitlines(), 1):
        line = whole[:LONGEST_LINE]
        if found := form_of(line):
            yield RULES["PB501"].at(f"{name}:{number}", found)
        elif ALLOWED not in line and (named := _looks_like(line)):
            yield RULES["PB502"].at(f"{name}:{number}", f"{named!r} is given a long random text")


def form_of(text: str) -> str:
    """What secret stands in a text, by its issuer's form; empty without one. The secret itself is never told."""
    for form in FORMS:
        if form.hint in text and (found := form.pattern.search(text)):
            value = found.groupdict().get("value") or found[0]
            if not _PLACEHOLDER.search(value):
                return form.name
    return ""


def _looks_like(line: str) -> str:
    for found in _NAMED.finditer(line):
        value = found["value"]
        if not _PLACEHOLDER.search(value) and is_random(value):
            return found["name"][:64]
    return ""


def is_random(text: str) -> bool:
    """Whether a text looks drawn rather than written: many kinds of signs, and no words."""
    kinds = sum(bool(re.search(pattern, text)) for pattern in (r"[a-z]", r"[A-Z]", r"\d"))
    if len(text) < 16 or kinds < 2 or not re.search(r"\d", text):
        return False
    if re.search(r"[A-Za-z]{10,}", text) and not re.search(r"[A-Z][a-z]?[A-Z]", text):
        return False
    counts = Counter(text).values()
    bits = -sum(count / len(text) * math.log2(count / len(text)) for count in counts)
    return bits >= min(LEAST_BITS, math.log2(len(text)) * 0.85)
