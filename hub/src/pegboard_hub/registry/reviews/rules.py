"""Which reviews a server needs, and which of them a change concerns. Tables, and no input or output."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from pegboard.core.grants import Reviews
from pegboard.core.manifest import Manifest, Requests
from pegboard_hub.registry.model import Access, RegisteredServer, Release
from pegboard_hub.registry.reviews.model import Difference, Kind

APPROVERS = {Kind.SECURITY: ("security",), Kind.PRIVACY: ("legal",), Kind.GENAI: ("security",)}
"""The groups that decide where the operator's file names none."""

CHECKLISTS = {
    Kind.SECURITY: (
        "Each tool’s policy lets in only whom it should",
        "No tool changes or destroys anything without saying so",
        "It reaches no place and holds no secret that it does not need",
        "Tool names, descriptions and schemas give an agent no instructions",
    ),
    Kind.PRIVACY: (
        "Its sensitivity is that of the data its tools show",
        "The groups asked for have a reason to see that data",
        "The surfaces and channels asked for may carry that data",
    ),
    Kind.GENAI: (
        "The models that it sends data to may receive that data",
        "Nothing that a model answers is acted on without a person or a policy",
        "People can tell what a model wrote",
    ),
}
"""What must hold before a review is approved, where the operator's file says nothing else."""

OF_CODE = frozenset((*CHECKLISTS[Kind.SECURITY], CHECKLISTS[Kind.PRIVACY][0]))
"""Those of them that nobody can look at before there is code. They are ticked with its first release."""


def approvers(reviews: Reviews, kind: Kind) -> tuple[str, ...]:
    """The groups whose people decide on reviews of a kind."""
    said = getattr(reviews, kind.value).approvers
    return said or APPROVERS[kind]


def checklist(reviews: Reviews, kind: Kind, *, code: bool) -> tuple[str, ...]:
    """What must hold before a review of a kind is approved; without code, of ours only what can be looked at."""
    said = getattr(reviews, kind.value).checklist
    return said or tuple(item for item in CHECKLISTS[kind] if code or item not in OF_CODE)


ALWAYS = (Kind.SECURITY, Kind.PRIVACY)
"""Reviews of every server in a namespace that is reviewed."""


def needed(manifest: Manifest | None) -> tuple[Kind, ...]:
    """The reviews that a server needs, by what its author declares; GenAI where it sends data to a model."""
    return (*ALWAYS, Kind.GENAI) if manifest is not None and manifest.uses_models else ALWAYS


def needed_of(server: RegisteredServer) -> tuple[Kind, ...]:
    """The reviews that a server needs, also while it has no code yet and its record says what it will do."""
    release = server.waiting or server.release
    if release is not None:
        return needed(release.manifest)
    return (*ALWAYS, Kind.GENAI) if server.uses_models else ALWAYS


UNREVIEWED_SURFACES = ("cli", "web")
"""Surfaces that a server nobody reviews may be opened to by its owners; production uses the others."""


ACCESS = "access: "
"""How differences begin that tell of access that was asked for on a page."""


def access_differences(granted: Access, asked: Access) -> list[Difference]:
    """What somebody asks for beside what is granted, by kind of access."""
    pairs = zip(Access._fields, granted, asked, strict=True)
    return [Difference(f"{ACCESS}{name}", sorted(g), sorted(a)) for name, g, a in pairs if set(g) != set(a)]


def within(inner: Access, outer: Access) -> bool:
    """Whether one access gives nothing that another does not."""
    return all(set(some) <= set(others) for some, others in zip(inner, outer, strict=True))


def together(one: Access, other: Access) -> Access:
    """What either of two gives."""
    return Access(*(tuple(sorted({*some, *others})) for some, others in zip(one, other, strict=True)))


def common(*several: Access) -> Access:
    """What all of several give."""
    return Access(*(tuple(sorted(set.intersection(*map(set, values)))) for values in zip(*several, strict=True)))


def left_of(whole: Access, other: Access) -> Access:
    """What one access gives and another does not."""
    return Access(*(tuple(sorted({*some} - {*others})) for some, others in zip(whole, other, strict=True)))


class _Aspect(NamedTuple):
    """A side of a release: how it is read, and whom a change of it concerns."""

    read: Callable[[Release], dict[str, Any]]
    concerns: tuple[Kind, ...]


def _tools(release: Release) -> dict[str, Any]:
    return {f"tool {tool.name}": tool.model_dump(mode="json") for tool in release.tools}


def _instructions(release: Release) -> dict[str, Any]:
    return {"instructions": release.instructions} if release.instructions else {}


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
    _Aspect(_instructions, (Kind.SECURITY, Kind.GENAI)),
    _Aspect(_policies, (Kind.SECURITY,)),
    _Aspect(_requested, (Kind.SECURITY, Kind.PRIVACY)),
    _Aspect(_of_manifest("sensitivity"), (Kind.SECURITY, Kind.PRIVACY)),
    _Aspect(_of_manifest("owner", "egress", "secrets"), (Kind.SECURITY,)),
    _Aspect(_of_manifest("uses_models"), (Kind.SECURITY, Kind.PRIVACY, Kind.GENAI)),
)


RECORD = _of_manifest("title", "description", "support_channel", "links", "gallery")
"""What nobody reviews by itself. Where a review is open, it shows that this will be otherwise, too."""


def everything(release: Release) -> list[Difference]:
    """All of a release that any review looks at, as if nothing had been there before."""
    return [Difference(what, None, value) for aspect in ASPECTS for what, value in aspect.read(release).items()]


def differences(before: Release | None, after: Release, also: Collection[Kind] = ()) -> dict[Kind, list[Difference]]:
    """What of `after` concerns which review, beside the last release that was approved; nothing where none does.

    Args:
        before: the release that was approved last; None where none was.
        after: the one to look at.
        also: kinds that look at the server beside those that `after` needs by itself.

    With nothing approved before, everything is new to every review that `after` needs. What of `before` was not kept
    when it was pinned makes no difference by itself, and is shown beside one that is. A kind that `before` needed and
    `after` does not looks at it once more: that it does not apply any longer is not its author's alone to say.
    """
    wanted = dict.fromkeys((*needed(after.manifest), *(needed(before.manifest) if before else ()), *also))
    found: dict[Kind, list[Difference]] = {kind: [] for kind in wanted}
    completed = _completed(before, after) if before else None
    for aspect in ASPECTS:
        known, same = (aspect.read(release) if release else {} for release in (before, completed))
        for difference in _between(known, same, aspect.read(after)):
            for kind in aspect.concerns:
                if kind in found:
                    found[kind].append(difference)
    beside = list(_between(*((RECORD(release) if release else {}) for release in (before, before, after))))
    return {kind: [*listed, *beside] for kind, listed in found.items() if listed or before is None}


def _completed(before: Release, after: Release) -> Release:
    """An earlier release with what was not kept of its tools as a later one says it of the same tools."""
    later = {tool.name: {name: getattr(tool, name) for name in before.unrecorded} for tool in after.tools}
    tools = tuple(tool.model_copy(update=later.get(tool.name)) for tool in before.tools)
    told = after.instructions if before.instructions is None else before.instructions
    return replace(before, tools=tools, instructions=told)


def _between(before: dict[str, Any], same: dict[str, Any], after: dict[str, Any]) -> Iterator[Difference]:
    """What differs in `after` from what counts as the same as `before`."""
    for what in [*after, *(what for what in before if what not in after)]:
        if same.get(what) != after.get(what):
            yield Difference(what, before.get(what), after.get(what))
