"""What the answers of the authorization server have in common."""

from __future__ import annotations

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""RFC 6749 §5.1: nobody keeps a copy of a token response."""
