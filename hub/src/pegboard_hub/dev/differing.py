"""What changed between two states of a project, as its author reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pegboard.core.release import Declaration

FIELDS = {
    "title": "its title",
    "description": "its description",
    "policy": "its policy",
    "minutes_saved": "the minutes that it saves",
    "read_only": "its hints",
    "destructive": "its hints",
    "idempotent": "its hints",
    "open_world": "its hints",
    "input_schema": "its arguments",
    "output_schema": "its answer",
    "approval": "the approval that it asks for",
    "confirmation": "what its callers confirm",
}


def differences(before: Declaration | None, after: Declaration) -> Iterator[str]:
    """A line for each thing that callers or reviewers would see. Of a first declaration, its tools."""
    old = {tool.name: tool for tool in before.tools} if before else {}
    new = {tool.name: tool for tool in after.tools}
    for name in new.keys() - old.keys():
        yield f"+ tool {name} (policy {new[name].policy})"
    for name in old.keys() - new.keys():
        yield f"- tool {name}"
    for name in sorted(old.keys() & new.keys()):
        changed = {
            what: None for field, what in FIELDS.items() if getattr(old[name], field) != getattr(new[name], field)
        }
        if changed:
            yield f"~ tool {name}: {', '.join(changed)}"
    if before is not None:
        yield from _named("policy", before.policies, after.policies)
        yield from _named("pegboard.toml", before.manifest.model_dump(), after.manifest.model_dump())


def _named(what: str, before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            sign = "+" if name not in before else "-" if name not in after else "~"
            yield f"{sign} {what} {name}"
