"""The figures of a stream that traces and metrics report; OpenTelemetry calls it an operation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable

from rxllm.chunks import (
    ApprovalRequest,
    Chunk,
    End,
    Notice,
    Outcome,
    Reasoning,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
    Usage,
    has_output,
)
from rxllm.operators.analytics._answers import Answer, Answers
from rxllm.operators.analytics._loading import LoadingTime
from rxllm.operators.analytics._run import Call, Run
from rxllm.operators.analytics._watcher import Watcher
from rxllm.restart import matching_sources

__all__ = ["Operation", "check_names"]


class Operation(Watcher):
    """Collects the figures of one subscription, and reports once how it ended.

    If the stream is a run, its answers and tool calls are reported too, each once it has ended.

    Args:
        clock: in seconds.
        is_run: whether the stream is known to be a run; otherwise it is one from the first chunk
            on that shows it.

    Attributes:
        run: its steps and calls.
        start: the last `Start`, if any, without those of nested runs.
        finish_reasons: from each `End`, without those of nested runs.
        time_to_first: seconds to the first content, without those in which a local model was
            loaded; `None` before it.
    """

    def __init__(self, clock: Callable[[], float], *, is_run: bool = False) -> None:
        self.run = Run(clock)
        self.is_run = is_run
        self.start: Start | None = None
        self.finish_reasons: list[str] = []
        self.time_to_first: float | None = None
        self._clock = clock
        self._begun = clock()
        self._loading = LoadingTime(clock)
        self._finished: list[Usage] = []  # of earlier attempts
        self._usage: dict[str | None, Usage] = {}  # of the current attempts
        self._answers = Answers(clock, self._loading)
        self._held: list[Answer] = []  # ended, while it isn't known what they are part of
        self._is_over = False  # whether the last answer has ended

    @property
    def elapsed(self) -> float:
        """Seconds since the subscription."""
        return self._clock() - self._begun

    @property
    def used(self) -> Usage | None:
        """The sum of all usage, over sources and attempts, as billed; `None` if not reported."""
        usages = [*self._finished, *self._usage.values()]
        return sum(usages[1:], usages[0]) if usages else None

    @abstractmethod
    def ended(self, outcome: Outcome, error: Exception | None = None) -> None:
        """Called once, when the stream has ended."""

    def started(self, start: Start) -> None:
        """Called when a model has accepted the request, but not inside a tool."""

    def noticed(self, notice: Notice) -> None:
        """Called at each `Notice`."""

    def first_content(self) -> None:
        """Called at the first content."""

    def run_begun(self) -> None:
        """Called once if the stream turns out to be a run."""

    def answered(self, answer: Answer, call: Call | None) -> None:
        """Called at the end of each answer of a run; `call` is the one that it is inside of."""

    def called(self, call: Call) -> None:
        """Called at the end of each tool call."""

    def chunk(self, chunk: Chunk) -> None:
        if type(chunk) is Token or has_output(chunk) or type(chunk) is Reasoning:
            if self.time_to_first is None:
                self.time_to_first = self.elapsed - self._loading.seconds
                self.first_content()
            if self._answers.silent:
                self._answers.note_first(chunk.source)
            if type(chunk) is ToolCall:
                self.run.note(chunk)
        elif type(chunk) is Usage:
            self._usage[chunk.source] = chunk  # replaces an earlier one of the same attempt
            self._answers.use(chunk)
        elif type(chunk) is Start:
            self._on_start(chunk)
        elif type(chunk) is End:
            self._on_end(chunk)
        elif type(chunk) is ToolResult:
            self._on_result(chunk)
        elif type(chunk) is Notice:
            self._loading.add(chunk)
            if chunk.kind == "restart":
                self._close(matching_sources(self._usage, chunk.source))
                self.run.note(chunk)
            self.noticed(chunk)
        elif type(chunk) is Steering:
            self._answers.ask(chunk.source)
        elif type(chunk) is ApprovalRequest:
            self.run.note(chunk)
            self._note_run()

    def completed(self) -> None:
        self._end("completed")

    def failed(self, error: Exception) -> None:
        self._end("failed", error)

    def cancelled(self) -> None:
        self._end("cancelled")

    def _on_start(self, start: Start) -> None:
        self._loading.add(start)
        self._close([start.source])
        call = self.run.call_around(start.source)
        self.run.note(start)
        self._answers.attempt(start, call)
        if call is None:
            self._is_over = False
            self.start = start
            self.started(start)
        else:
            call.is_running = True

    def _on_end(self, end: End) -> None:
        source = end.source
        call = self.run.call_around(source)
        self.run.note(end)
        if end.more:
            self._close([source])
            self._answers.ask(source)
            self._note_run()
        if call is None:
            self._is_over = not end.more
            self.finish_reasons.append(end.finish_reason)
        if source not in self._answers.open:
            return
        answer = self._answers.end(source, end.finish_reason)
        if call is not None or (self.is_run and source is None):
            self.answered(answer, call)
        else:
            self._held.append(answer)

    def _on_result(self, result: ToolResult) -> None:
        inside = self.run.open(result).path
        self._note_run()
        if not result.preliminary:
            self._end_inside(inside, "cancelled")
            call = self.run.note(result)
            if call is not None:
                self.called(call)
            self._answers.ask(result.source)

    def _note_run(self) -> None:
        if not self.is_run:
            self.is_run = True
            self.run_begun()
        own = [answer for answer in self._held if answer.source is None]
        if own:
            self._held = [answer for answer in self._held if answer.source is not None]
            for answer in own:
                self.answered(answer, None)

    def _end(self, outcome: Outcome, error: Exception | None = None) -> None:
        if self.is_run:
            kind = None if error is None else type(error).__name__
            if outcome != "completed" and self._awaits_answer():
                awaited = self._answers.expect(None)
                awaited.end(self._clock(), outcome, kind)
                self.answered(awaited, None)
            self._end_inside(None, outcome, kind)
        self.ended(outcome, error)

    def _awaits_answer(self) -> bool:
        """Whether a model was asked that hasn't begun to answer."""
        calls = self.run.calls.values()
        is_between = None not in self._answers.open and all(call.source for call in calls)
        is_one_run = self.start is None or self.start.source is None
        return is_between and is_one_run and not self._is_over

    def _end_inside(self, path: str | None, outcome: Outcome, error: str | None = None) -> None:
        """End what is open inside a tool, or everything: inner calls before those around them."""
        for answer in [each for each in self._held if _is_inside(path, each.source)]:
            self._held.remove(answer)
            self.answered(answer, self.run.call_around(answer.source))
        for source in [each for each in self._answers.open if _is_inside(path, each)]:
            answer = self._answers.end(source, None, outcome, error)
            self.answered(answer, self.run.call_around(source))
        for call in reversed(list(self.run.calls.values())):
            if _is_inside(path, call.source):
                self.run.abandon(call, "cancelled" if outcome == "completed" else outcome, error)
                if call.is_running or outcome != "completed":  # otherwise it is somebody else's
                    self.called(call)

    def _close(self, sources: Iterable[str | None]) -> None:
        """Finish the current attempts of `sources`."""
        for source in sources:
            usage = self._usage.pop(source, None)
            if usage is not None:
                self._finished.append(usage)


def _is_inside(path: str | None, source: str | None) -> bool:
    return path is None or (source is not None and f"{source}/".startswith(f"{path}/"))


def check_names(**names: object) -> None:
    """Raise a `TypeError` unless each of these arguments is a string or `None`."""
    for name, value in names.items():
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name} must be a string, got {value!r}")
