"""The figures of a stream that traces and metrics report; OpenTelemetry calls it an operation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable

from rxllm.answer_counts import AnswerCounts, nested_in
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Notice,
    Outcome,
    Reasoning,
    Start,
    Token,
    ToolResult,
    Usage,
    has_output,
    is_bare_state,
    tokens_of,
)
from rxllm.operators.analytics._loading import LoadingTime
from rxllm.operators.analytics._watcher import Watcher
from rxllm.restart import matching_sources

__all__ = ["Operation", "check_names"]


class Operation(Watcher):
    """Collects the figures of one subscription, and reports once how it ended.

    Attributes:
        start: the last `Start`, if any.
        finish_reason: from the last `End`.
        time_to_first: seconds to the first content, without those in which a local model was
            loaded; `None` before it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.start: Start | None = None
        self.finish_reason: str | None = None
        self.time_to_first: float | None = None
        self._clock = clock
        self._begun = clock()
        self._loading = LoadingTime(clock)
        self._finished: list[Usage] = []  # of earlier attempts
        self._usage: dict[str | None, Usage] = {}  # of the current attempts
        self._pieces = AnswerCounts()  # tokens of text and reasoning

    @property
    def elapsed(self) -> float:
        """Seconds since the subscription."""
        return self._clock() - self._begun

    @property
    def used(self) -> Usage | None:
        """The sum of all usage, over sources and attempts, as billed; `None` if not reported."""
        usages = [*self._finished, *self._usage.values()]
        return sum(usages[1:], usages[0]) if usages else None

    @property
    def output_tokens(self) -> int:
        """Output tokens of the current attempts: per source, from `Usage` or else counted."""
        counts = dict(self._pieces)
        for source, usage in self._usage.items():
            if usage.output_tokens:
                counts[source] = self._pieces.committed(source) + usage.output_tokens
        return sum(counts.values())

    @abstractmethod
    def ended(self, outcome: Outcome, error: Exception | None = None) -> None:
        """Called once, when the stream has ended."""

    def started(self, start: Start) -> None:
        """Called when a model has accepted the request."""

    def noticed(self, notice: Notice) -> None:
        """Called at each `Notice`."""

    def first_content(self) -> None:
        """Called at the first content."""

    def chunk(self, chunk: Chunk) -> None:
        if (type(chunk) is Token or type(chunk) is Reasoning) and not is_bare_state(chunk):
            self._pieces[chunk.source] = self._pieces.get(chunk.source, 0) + tokens_of(chunk)
            if self.time_to_first is None:
                self._first()
        elif has_output(chunk):
            if type(chunk) is Batch:
                self._pieces[chunk.source] = self._pieces.get(chunk.source, 0) + tokens_of(chunk)
            if self.time_to_first is None:
                self._first()
        elif type(chunk) is Usage:
            self._usage[chunk.source] = chunk  # replaces an earlier one of the same attempt
        elif type(chunk) is Start:
            self._loading.add(chunk)
            self._close([chunk.source])
            self.start = chunk
            self.started(chunk)
        elif type(chunk) is End:
            self.finish_reason = chunk.finish_reason
            if chunk.more:
                self._book([chunk.source])
            self._pieces.note(chunk)
        elif type(chunk) is ToolResult:
            self._book(nested_in(self._pieces, chunk))
            self._pieces.note(chunk)
        elif type(chunk) is Notice:
            self._loading.add(chunk)
            if chunk.kind == "restart":
                self._close(matching_sources(self._usage, chunk.source))
                self._pieces.note(chunk)
            self.noticed(chunk)

    def completed(self) -> None:
        self.ended("completed")

    def failed(self, error: Exception) -> None:
        self.ended("failed", error)

    def cancelled(self) -> None:
        self.ended("cancelled")

    def _book(self, sources: Iterable[str | None]) -> None:
        """Count the tokens of answers that are complete as their usage reports them."""
        for source in sources:
            usage = self._usage.get(source)
            if usage is not None and usage.output_tokens:
                self._pieces[source] = self._pieces.committed(source) + usage.output_tokens
            self._close([source])

    def _close(self, sources: Iterable[str | None]) -> None:
        """Finish the current attempts of `sources`."""
        for source in sources:
            usage = self._usage.pop(source, None)
            if usage is not None:
                self._finished.append(usage)

    def _first(self) -> None:
        self.time_to_first = self.elapsed - self._loading.seconds
        self.first_content()


def check_names(model: object, provider: object) -> None:
    """Raise a `TypeError` unless each of these arguments is a string or `None`."""
    for name, value in (("model", model), ("provider", provider)):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name} must be a string, got {value!r}")
