"""The schemas of Kubernetes, as `kubernetes-validate` brings them: strict, so an unknown field is a fault."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

VERSIONS = ("1.35.0", "1.36.0", "1.37.0")
"""The three newest that there are schemas of."""


def faults(manifest: Any, version: str = VERSIONS[-1]) -> list[str]:
    """What is wrong with a manifest for a version of Kubernetes, a line each."""
    found = _validator(manifest["apiVersion"], manifest["kind"], version).iter_errors(manifest)
    return [f"{'.'.join(map(str, each.absolute_path))}: {each.message[:300]}" for each in found]


@cache
def _validator(api_version: str, kind: str, version: str) -> Draft202012Validator:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}-local-strict"
    # As kubernetes-validate names its files: the group without its domain, as `policy-v1`.
    named = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = json.loads((folder / f"{kind.lower()}-{named}.json").read_text(encoding="utf-8"))
    return Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _definitions(version))


@cache
def _definitions(version: str) -> Registry[Any]:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}-local-strict"
    definitions = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))
    return Resource.from_contents(definitions) @ Registry()
