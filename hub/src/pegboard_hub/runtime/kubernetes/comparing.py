"""What a cluster has against what should be there: only fields that the manifest says are ours to compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pegboard_hub.runtime.kubernetes.objects import APPLIED, Manifest

_KEYED: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
"""Lists whose elements the API tells apart by these fields, so that others may add their own; `ports` differ by kind,
and are compared whole as all other lists are."""

_ALL_OURS: Final = ("containers", "initContainers", "volumes")
"""In these an element that somebody added is told all the same: it runs in the server's pod."""


def differences(wanted: Manifest, found: Mapping[str, Any]) -> list[str]:
    """Paths of fields that are not as the manifest says, in order; none where all are."""
    told: list[str] = []
    for name in ("spec", "data", "type", "automountServiceAccountToken"):
        if name in wanted:
            told += _differ(wanted[name], found.get(name), name)
    for name in ("labels", "annotations"):
        have = found.get("metadata", {}).get(name)
        told += _differ(wanted["metadata"].get(name, {}), have, f"metadata.{name}")
    return told


def was_applied(wanted: Manifest, found: Mapping[str, Any]) -> bool:
    """Whether this very manifest was applied last."""
    annotations = found.get("metadata", {}).get("annotations") or {}
    return annotations.get(APPLIED) == wanted["metadata"].get("annotations", {}).get(APPLIED)


def _differ(wanted: Any, found: Any, path: str) -> Iterator[str]:
    if isinstance(wanted, dict):
        fields = found if isinstance(found, dict) else {}
        for name, value in wanted.items():
            yield from _differ(value, fields.get(name), f"{path}.{name}")
        if path.endswith((".matchLabels", ".limits", ".requests")) and set(fields) - set(wanted):
            yield path
    elif isinstance(wanted, list) and (keys := _KEYED.get(path.rpartition(".")[2])):
        yield from _keyed(wanted, found if isinstance(found, list) else [], keys, path)
    elif isinstance(wanted, list):
        have = found if isinstance(found, list) else []
        if len(have) != len(wanted):
            yield path
            return
        for place, (one, other) in enumerate(zip(wanted, have, strict=True)):
            yield from _differ(one, other, f"{path}[{place}]")
    elif wanted != found and not (wanted is False and found is None) and not (wanted == 0 and found is None):
        # The API leaves out what is false or nought.
        yield path


def _keyed(wanted: list[Any], found: list[Any], keys: tuple[str, ...], path: str) -> Iterator[str]:
    have = {tuple(each.get(key) for key in keys): each for each in found if isinstance(each, dict)}
    for each in wanted:
        key = tuple(each.get(name) for name in keys)
        yield from _differ(each, have.pop(key, None), f"{path}[{'/'.join(map(str, key))}]")
    if path.rpartition(".")[2] in _ALL_OURS:
        yield from (f"{path}[{'/'.join(map(str, key))}] (added)" for key in have)
