"""Which reviews a server needs, and which of them a change concerns. Tables, and no input or output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pegboard.core.manifest import Manifest, Requests
from pegboard_hub.registry.model import Release
from pegboard_hub.registry.reviews.model import Kind

ALWAYS = (Kind.SECURITY, Kind.PRIVACY)
"""Reviews of every server in a namespace that is reviewed."""


def needed(manifest: Manifest | None) -> tuple[Kind, ...]:
    """The reviews that a server needs, by what its author declares; GenAI where it sends data to a model."""
    return (*ALWAYS, Kind.GENAI) if manifest is not None and manifest.uses_models else ALWAYS


class Difference(NamedTuple):
    """Something that a review looks at, and that is not as it was.

    Attributes:
        what: in words, for example `tool get_revenue_metrics` or `requested groups`.
        before: what it was; None where it was not there.
        after: what it is; None where it is there no more.
    """

    what: str
    before: Any
    after: Any


class _Aspect(NamedTuple):
    """A side of a release: how it is read, and whom a change of it concerns."""

    read: Callable[[Release], dict[str, Any]]
    concerns: tuple[Kind, ...]


def _tools(release: Release) -> dict[str, Any]:
    return {f"tool {tool.name}": tool.model_dump(mode="json") for tool in release.tools}


def _policies(release: Release) -> dict[str, Any]:
    return {f"policy {name}": text for name, text in release.policies.items()}


def _requested(release: Release) -> dict[str, Any]:
    asked = release.manifest.requests.model_dump(mode="json")
    return {f"requested {name.replace('_', ' ')}": sorted(asked[name]) for name in Requests.model_fields}


def _of_manifest(*names: str) -> Callable[[Release], dict[str, Any]]:
    def read(release: Release) -> dict[str, Any]:
        said = release.manifest.model_dump(mode="json")
        return {name.replace("_", " "): said[name] for name in names}

    return read


ASPECTS: tuple[_Aspect, ...] = (
    _Aspect(_tools, (Kind.SECURITY, Kind.GENAI)),
    _Aspect(_policies, (Kind.SECURITY,)),
    _Aspect(_requested, (Kind.SECURITY, Kind.PRIVACY)),
    _Aspect(_of_manifest("sensitivity"), (Kind.SECURITY, Kind.PRIVACY)),
    _Aspect(_of_manifest("owner", "egress", "secrets"), (Kind.SECURITY,)),
    _Aspect(_of_manifest("uses_models"), (Kind.SECURITY, Kind.PRIVACY, Kind.GENAI)),
)


def differences(before: Release | None, after: Release) -> dict[Kind, list[Difference]]:
    """What of `after` concerns which review, beside the last release that was approved; nothing where none does.

    With nothing approved before, everything is new to every review that `after` needs.
    """
    wanted = needed(after.manifest)
    found: dict[Kind, list[Difference]] = {kind: [] for kind in wanted}
    for aspect in ASPECTS:
        for difference in _between(aspect.read(before) if before else {}, aspect.read(after)):
            for kind in aspect.concerns:
                if kind in found:
                    found[kind].append(difference)
    return {kind: listed for kind, listed in found.items() if listed or before is None}


def _between(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Difference]:
    for what in [*after, *(what for what in before if what not in after)]:
        if before.get(what) != after.get(what):
            yield Difference(what, before.get(what), after.get(what))
