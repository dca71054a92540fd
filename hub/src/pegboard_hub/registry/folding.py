"""Text as search compares it: without case, accents and signs."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")


def folded(text: str) -> str:
    """Words of letters and digits with one space between them: `Prod/Café_Ads` becomes `prod cafe ads`.

    Case folding and compatibility forms are Unicode's (https://www.unicode.org/reports/tr15/, NFKC); accents go.
    """
    if text.isascii():
        return " ".join(_WORD.findall(text.lower()))
    plain = _unaccented(_unaccented(text).casefold())
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", plain)))


def _unaccented(text: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
