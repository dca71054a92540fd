"""Documents that authors write: unknown keys are errors, and what was pinned keeps its digest."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Keys that came after releases had been pinned without them are `later`."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)
    later: ClassVar[tuple[str, ...]] = ()

    def as_pinned(self) -> dict[str, Any]:
        """As JSON, without later keys that say what was so before there were any: pinned digests stay theirs."""
        written: dict[str, Any] = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name in self.later and value == field.get_default(call_default_factory=True):
                del written[name]
            elif isinstance(value, Strict):
                written[name] = value.as_pinned()
            elif isinstance(value, dict):
                written[name] |= {key: each.as_pinned() for key, each in value.items() if isinstance(each, Strict)}
        return written
