"""Writing down a call: intent before, outcome after, or one denial. Nothing here decides."""

from __future__ import annotations

import re
import time
from typing import Any, Literal

import rfc8785

from pegboard.call.ports import Meter, Recorder
from pegboard.core.caller import Caller
from pegboard.core.decide import GovernedTool
from pegboard.core.record import TOKEN_ID_LENGTH, Denial, Intent, Outcome, Who
from pegboard.core.refusal import Refusal

Status = Literal["ok", "tool_error", "crashed", "cancelled", "input_required"]


STRANGE = "?"
"""In the place of a token's id that the hub never gave."""

_TOKEN_ID = re.compile(rf"[\x21-\x7e]{{1,{TOKEN_ID_LENGTH}}}")


def who(caller: Caller) -> Who:
    """The caller as records name it."""
    return Who(
        sub=caller.sub,
        sub_type=caller.sub_type,
        surface=caller.surface,
        channel=caller.channel,
        client_id=caller.client_id,
        act=caller.act,
        # Ours are plain; whoever has a key that leaked may write anything there, and must be recorded all the same.
        token_id=caller.token_id if _TOKEN_ID.fullmatch(caller.token_id) else STRANGE,
    )


class Measure:
    """Writes the records of one server process, and tells the meter of each."""

    def __init__(self, recorder: Recorder, release: str, meter: Meter) -> None:
        self._recorder = recorder
        self._release = release
        self._meter = meter

    def begin(
        self,
        caller: Caller,
        tool: GovernedTool,
        arguments: dict[str, Any],
        ids: CallIds,
        protocol: str,
        approval: tuple[str, ...] = (),
    ) -> RunningCall:
        """Write the intent of an allowed call; `approval` names the requests that were claimed for it.

        Raises:
            OSError: it cannot be made durable; the tool must not run.
        """
        with self._meter.step("intent"):
            document = canonical(arguments)
            self._recorder.write(
                Intent(
                    id=ids.call_id,
                    at_ms=now_ms(),
                    release=self._release,
                    who=who(caller),
                    tool=tool.name,
                    policy=tool.policy.name,
                    policy_version=tool.policy.version,
                    arguments_digest=self._recorder.digest(document),
                    arguments_bytes=len(document),
                    request_id=ids.request_id,
                    trace_id=ids.trace_id,
                    protocol=protocol,
                    approval=approval,
                )
            )
        return RunningCall(self._recorder, ids, self._meter, tool.name, caller.surface)

    def deny(
        self,
        refusal: Refusal,
        ids: CallIds,
        caller: Caller | None,
        tool: str = "",
        detail: str = "",
        policy: Any = None,
        approval: tuple[str, ...] = (),
    ) -> None:
        """Write a denial; `detail` is for the owner, `approval` names the requests that it waits for.

        Raises:
            OSError: it cannot be made durable.
        """
        self._meter.refused(refusal.code, refusal.reason)
        if tool and caller is not None:
            self._meter.call_refused(tool, caller.surface)
        self._recorder.write(
            Denial(
                id=ids.call_id,
                at_ms=now_ms(),
                release=self._release,
                who=who(caller) if caller else None,
                tool=_unicode(tool[:64]),
                code=refusal.code,
                reason=refusal.reason,
                detail=_unicode(detail),
                policy=policy.name if policy else "",
                policy_version=policy.version if policy else "",
                request_id=ids.request_id,
                trace_id=ids.trace_id,
                approval=approval,
            )
        )


class CallIds:
    """The names one call goes by: its own, the edge's request id, the trace's."""

    __slots__ = ("call_id", "request_id", "trace_id")

    def __init__(self, call_id: str, request_id: str, trace_id: str) -> None:
        self.call_id = call_id
        self.request_id = request_id
        self.trace_id = trace_id

    @property
    def told(self) -> str:
        """The name that callers and logs use: what the caller was told where the edge told one."""
        return self.request_id or self.call_id


class RunningCall:
    """A call whose intent is written and whose outcome is not."""

    def __init__(self, recorder: Recorder, ids: CallIds, meter: Meter, tool: str, surface: str) -> None:
        self._recorder = recorder
        self.ids = ids
        self._meter = meter
        self._tool = tool
        self._surface = surface
        self._started = time.perf_counter()

    def end(self, status: Status, result: bytes = b"", error_type: str = "") -> None:
        """Write the outcome.

        Raises:
            OSError: it cannot be made durable; the answer must not leave as if it were.
        """
        took = time.perf_counter() - self._started
        self._meter.ended(self._tool, self._surface, status, took)
        with self._meter.step("outcome"):
            self._recorder.write(
                Outcome(
                    id=self.ids.call_id,
                    at_ms=now_ms(),
                    status=status,
                    error_type=error_type,
                    result_digest=self._recorder.digest(result) if result else "",
                    result_bytes=len(result),
                    duration_ms=round(took * 1000, 3),
                )
            )


def _unicode(text: str) -> str:
    """Text that a record can hold, whatever bytes a caller put into a header."""
    return text.encode("utf-8", "backslashreplace").decode()


def canonical(document: Any) -> bytes:
    """The canonical JSON (RFC 8785) of a value that came as JSON; of one it cannot hold (huge integers), its repr."""
    try:
        return rfc8785.dumps(document)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        return repr(document).encode("utf-8", "surrogatepass")


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
