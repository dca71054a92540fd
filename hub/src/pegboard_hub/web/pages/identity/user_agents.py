"""What a person calls the browser they sign in with, read from what it says of itself.

It is for recognising one's own sign-ins and nothing else: a browser may say anything.
"""

from __future__ import annotations

import re

_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("FxiOS", "Firefox"),
    ("Firefox", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chromium", "Chromium"),
    ("Chrome", "Chrome"),
    ("Version", "Safari"),
)
"""Products by their token in `User-Agent`, those that pose as another before it."""

_SYSTEMS = (
    ("iPhone", "an iPhone"),
    ("iPad", "an iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows NT", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def device_of(user_agent: str) -> str:
    """Browser and system in words, for example "Firefox 140 on Linux"; empty where neither is known."""
    browser = next((f"{name} {found[1]}" for token, name in _BROWSERS if (found := _product(token, user_agent))), "")
    system = next((name for token, name in _SYSTEMS if token in user_agent), "")
    if browser and system:
        return f"{browser} on {system}"
    return browser or (f"A browser on {system}" if system else "")


def _product(token: str, user_agent: str) -> re.Match[str] | None:
    return re.search(rf"\b{token}[A-Za-z]*/(\d{{1,4}})", user_agent)
