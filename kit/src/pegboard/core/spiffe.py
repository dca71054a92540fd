"""SPIFFE IDs, the names of services: `spiffe://TRUST-DOMAIN/PATH` (SPIFFE-ID specification §2)."""

from __future__ import annotations

import re

TRUST_DOMAIN = r"[a-z0-9._-]{1,255}"
"""A trust domain's name (§2.1)."""

SPIFFE_ID = rf"spiffe://{TRUST_DOMAIN}(?:/[A-Za-z0-9._-]+)+"
"""A SPIFFE ID of a workload: with a path, and without the `.` and `..` that `is_spiffe_id` looks for (§2.2)."""

LONGEST = 2048
"""Bytes of a SPIFFE ID (§2.3)."""

SCHEME = "spiffe://"

_WHOLE = re.compile(SPIFFE_ID)


def is_spiffe_id(text: str) -> bool:
    """Whether `text` names a workload."""
    if len(text) > LONGEST or not _WHOLE.fullmatch(text):
        return False
    return not {".", ".."}.intersection(text.removeprefix(SCHEME).split("/")[1:])


def is_trust_domain(text: str) -> bool:
    """Whether `text` names a trust domain."""
    return re.fullmatch(TRUST_DOMAIN, text) is not None


def trust_domain_of(spiffe_id: str) -> str:
    """The trust domain of a SPIFFE ID."""
    return spiffe_id.removeprefix(SCHEME).partition("/")[0]
