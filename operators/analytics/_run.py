"""The steps and the tool calls of a stream, as its chunks show them."""

from __future__ import annotations

from collections.abc import Callable

from rxllm.answer_counts import AnswerCounts, nested_in
from rxllm.chunks import (
    ApprovalRequest,
    Chunk,
    End,
    Outcome,
    Start,
    ToolCall,
    ToolResult,
    is_restart,
)
from rxllm.restart import forget

__all__ = ["Call", "Run"]


class Call:
    """A tool call that is being made, or was made.

    It begins with the end of the answer that makes it. The chunks don't show how long it then waits
    for other calls.

    Attributes:
        id, name, source: those of the call.
        begun, ended: when, by the clock of the run.
        is_running: whether anything of the tool has been seen, other than the call.
        outcome: `"failed"` if the result is an error.
        error: the name of the class of the error; `None` without one.
    """

    __slots__ = ("begun", "ended", "error", "id", "is_running", "name", "outcome", "source")

    def __init__(self, call: ToolCall | ToolResult, begun: float) -> None:
        self.id: str = call.id
        self.name: str = call.name
        self.source: str | None = call.source
        self.begun: float = begun
        self.ended: float = begun
        self.is_running: bool = False
        self.outcome: Outcome = "completed"
        self.error: str | None = None

    @property
    def path(self) -> str:
        """The source of what runs inside the tool."""
        return self.id if self.source is None else f"{self.source}/{self.id}"

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return self.ended - self.begun


class Run:
    """Follows the answers and calls of one subscription.

    Attributes:
        calls: the open calls by their paths; the outer ones come before those inside them.
        has_begun: whether the stream is known to be a run: an answer that others follow has ended,
            or a call has a result or waits for an approval.
        tool_calls: number of results, without those of nested runs.
    """

    __slots__ = ("_begun", "_clock", "_made", "_steps", "calls", "has_begun", "tool_calls")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.calls: dict[str, Call] = {}
        self.has_begun: bool = False
        self.tool_calls: int = 0
        self._clock = clock
        self._begun = clock()
        self._made: dict[str | None, dict[str, ToolCall]] = {}  # by the answers under way
        self._steps = AnswerCounts()

    @property
    def steps(self) -> int:
        """The number of answers, without those of nested runs and those that began again."""
        return sum(self._steps.values())

    def call_around(self, source: str | None) -> Call | None:
        """Return the innermost open call inside which the stream `source` runs, if any."""
        while source and self.calls:
            if source in self.calls:
                return self.calls[source]
            source = source.rpartition("/")[0]
        return None

    def note(self, chunk: Chunk) -> Call | None:
        """Note any chunk but text. Returns the call whose final result it is."""
        if type(chunk) is ToolCall:
            if chunk.complete:
                self._made.setdefault(chunk.source, {})[chunk.id] = chunk
        elif type(chunk) is Start:
            if self.call_around(chunk.source) is None:
                self._steps[chunk.source] = self._steps.committed(chunk.source) + 1
        elif type(chunk) is End:
            self._end_answer(chunk)
        elif type(chunk) is ToolResult:
            call = self.open(chunk)
            return None if chunk.preliminary else self._end_call(call, chunk)
        elif type(chunk) is ApprovalRequest:
            self.has_begun = True
        elif is_restart(chunk):
            forget(self._made, chunk.source)
            self._steps.note(chunk)
        return None

    def open(self, result: ToolResult) -> Call:
        """Return the call of a result.

        One that an earlier run has made is new here; it has been running since the subscription.
        """
        self.has_begun = True
        call = Call(result, self._begun)
        if call.path in self.calls:
            call = self.calls[call.path]
        else:
            self.calls[call.path] = call
            for nested in nested_in(self._steps, result):
                del self._steps[nested]
        call.is_running = True
        return call

    def abandon(self, call: Call, outcome: Outcome, error: str | None) -> None:
        """End an open call that gets no result."""
        del self.calls[call.path]
        call.ended, call.outcome, call.error = self._clock(), outcome, error

    def _end_answer(self, end: End) -> None:
        made = self._made.pop(end.source, {})
        self._steps.note(end)
        if end.more:
            self.has_begun = True
            for each in made.values():
                call = Call(each, self._clock())
                self.calls[call.path] = call

    def _end_call(self, call: Call, result: ToolResult) -> Call:
        del self.calls[call.path]
        call.ended = self._clock()
        if result.error is not None:
            call.outcome, call.error = "failed", result.error.type
        self.tool_calls += self.call_around(call.source) is None
        return call
