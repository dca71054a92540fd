"""Get a token for the author of a message, as a registered surface: a statement and a credential, both signed, once.

    python act.py ads-bot.json http://localhost:8400 ads-bot ana prod/presto '#data-help'

The key file is what `pegboard surfaces key` wrote; it stays with the surface. Name no channel for a chat.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
from joserfc import jws
from joserfc.jwk import ECKey

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT = "urn:ietf:params:oauth:token-type:jwt"


def signed(key: dict[str, Any], typ: str, **claims: str) -> str:
    """A JWT of this moment, good once (RFC 7519)."""
    now = int(time.time())
    said = {"iat": now, "exp": now + 60, "jti": uuid4().hex, **claims}
    header = {"alg": "ES256", "typ": typ, "kid": key["kid"]}
    return jws.serialize_compact(header, json.dumps(said).encode(), ECKey.import_key(key))


def token_for(
    key: dict[str, Any], origin: str, client_id: str, person: str, server: str, channel: str = ""
) -> dict[str, Any]:
    """The token endpoint's answer (RFC 8693 §2.2).

    Raises:
        httpx2.HTTPStatusError: it was refused; the body says why.
    """
    ours = {"iss": client_id, "aud": origin}
    form = {
        "grant_type": GRANT,
        "client_id": client_id,
        "client_assertion_type": ASSERTION,
        "client_assertion": signed(key, "JWT", sub=client_id, **ours),
        "subject_token_type": JWT,
        "subject_token": signed(
            key, "pegboard-author+jwt", sub=person, **ours, **({"channel": channel} if channel else {})
        ),
        "resource": f"{origin}/mcp/{server}",
    }
    answer = httpx2.post(f"{origin}/oauth/token", data=form, timeout=30)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


if __name__ == "__main__":
    file, *rest = sys.argv[1:]
    try:
        print(json.dumps(token_for(json.loads(Path(file).read_text(encoding="utf-8")), *rest)))
    except httpx2.HTTPStatusError as error:
        sys.exit(error.response.text)
