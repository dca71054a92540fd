"""The pages of a package index: PEP 503 (HTML) and PEP 691 (JSON), whichever a client asks for.

The kit is served without hashes, and says so here once for all: a lock file made from these pages does not change
with each change of the kit, and whatever it has of the kit, the platform installs its own wheel by digest. All other
packages come from elsewhere, and are locked by hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any, Final, NamedTuple

from pegboard_hub.packages.wheel import KIT

JSON_TYPE: Final = "application/vnd.pypi.simple.v1+json"
HTML_TYPE: Final = "application/vnd.pypi.simple.v1+html"
PLAIN_HTML: Final = "text/html"
LATEST: Final = {
    "application/vnd.pypi.simple.latest+json": JSON_TYPE,
    "application/vnd.pypi.simple.latest+html": HTML_TYPE,
}

_META: Final = {"api-version": "1.0"}
"""Later versions of the interface want size and time of each file, and a lock file would have them."""


class Offered(NamedTuple):
    """One file of the index, by its name, which is also its address below `files/`."""

    file_name: str
    requires_python: str


def chosen_type(accept: str) -> str:
    """What to answer with, by an `Accept` header (RFC 9110 §12.5.1); empty where nothing of ours will do.

    Without a header, or where anything will do, that is HTML, as the interface says.
    """
    best, most = "", 0.0
    for part in accept.split(",")[:20] if accept.strip() else ["*/*"]:
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        found = PLAIN_HTML if media in ("*/*", "text/*") else LATEST.get(media, media)
        weight = _weight(parameters)
        if found in (JSON_TYPE, HTML_TYPE, PLAIN_HTML) and weight > most:
            best, most = found, weight
    return best


def _weight(parameters: Iterable[str]) -> float:
    for each in parameters:
        if each.startswith("q="):
            try:
                return float(each[2:])
            except ValueError:
                return 0.0
    return 1.0


def projects(media: str) -> str:
    """The page of all projects."""
    if media == JSON_TYPE:
        return json.dumps({"meta": _META, "projects": [{"name": KIT}]})
    return _html("Packages", [f'<a href="{KIT}/">{KIT}</a>'])


def files(media: str, offered: Iterable[Offered]) -> str:
    """The page of the kit's files."""
    if media == JSON_TYPE:
        listed = [_as_json(each) for each in offered]
        return json.dumps({"meta": _META, "name": KIT, "files": listed})
    return _html(f"Files of {KIT}", [_as_link(each) for each in offered])


def _as_json(each: Offered) -> dict[str, Any]:
    said: dict[str, Any] = {
        "filename": each.file_name,
        "url": f"../../files/{each.file_name}",
        "hashes": {},
        "core-metadata": True,
    }
    if each.requires_python:
        said["requires-python"] = each.requires_python
    return said


def _as_link(each: Offered) -> str:
    needs = f' data-requires-python="{escape(each.requires_python)}"' if each.requires_python else ""
    return (
        f'<a href="../../files/{escape(each.file_name)}"{needs} data-core-metadata="true">'
        f"{escape(each.file_name)}</a>"
    )


def _html(title: str, links: Iterable[str]) -> str:
    body = "\n".join(f"    {link}<br>" for link in links)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n  <head>\n    <meta charset="utf-8">\n'
        f'    <meta name="pypi:repository-version" content="{_META["api-version"]}">\n    <title>{title}</title>\n'
        f"  </head>\n  <body>\n    <h1>{title}</h1>\n{body}\n  </body>\n</html>\n"
    )
