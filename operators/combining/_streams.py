"""Named streams: shared code of the combining functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec
from reactivex import Observable

from rxllm.answer_counts import AnswerCounts, nested_in
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    ErrorInfo,
    Notice,
    Outcome,
    Reasoning,
    Token,
    ToolResult,
    Usage,
    is_restart,
    text_of,
    tokens_of,
)
from rxllm.errors import AllModelsFailedError
from rxllm.restart import forget

__all__ = [
    "Record",
    "StreamSummary",
    "Streams",
    "all_failed",
    "check_callback",
    "failed",
    "named",
    "note_source",
]

Streams: TypeAlias = Mapping[str, Observable[Chunk]]


class StreamSummary(msgspec.Struct, frozen=True):
    """The outcome of one of several streams.

    Attributes:
        status: `"completed"`, `"failed"`, or `"cancelled"` if it was stopped or never started.
        length: characters of text, counted since the last restart.
        duration: seconds from its subscription to its end.
        error: the error of a failed stream.
        tokens: pieces of text and reasoning since the last restart, or the count reported by
            `Usage`.
        started: seconds from the subscription of the combined stream to its own. With `parallel` it
            includes the wait for the streams before it.
    """

    status: Outcome
    length: int = 0
    duration: float = 0.0
    error: Exception | None = None
    tokens: int = 0
    started: float = 0.0


def named(function: str, streams: object) -> dict[str, Observable[Chunk]]:
    """Validate a mapping or sequence of streams, and return it by name; numbered from 0.

    Raises:
        TypeError: a name is not a string, or a stream is not an Observable.
        ValueError: there is no stream, a name is empty, or one starts with another and a slash.
    """
    if isinstance(streams, Mapping):
        found = dict(streams)
    elif isinstance(streams, Iterable) and not isinstance(streams, str | bytes | Observable):
        found = {str(number): stream for number, stream in enumerate(streams)}
    else:
        raise TypeError(
            f"{function} takes a mapping of names to streams, got {type(streams).__name__}"
        )
    if not found:
        raise ValueError(f"{function} takes at least one stream")
    for name, stream in found.items():
        if not isinstance(name, str):
            raise TypeError(f"the name of a stream must be a string, got {name!r}")
        if not name:
            raise ValueError("the name of a stream must not be empty")
        if not isinstance(stream, Observable):
            raise TypeError(
                f"{function} takes streams, got {type(stream).__name__} for {name!r}: "
                "use model.stream(prompt)"
            )
        for end in (place for place, letter in enumerate(name) if letter == "/"):
            if name[:end] in found:
                raise ValueError(
                    f"the name {name!r} is ambiguous: it could be a source of the merged stream "
                    f"{name[:end]!r}; choose another name"
                )
    return found


def check_callback(name: str, callback: object) -> None:
    """Check an optional callback.

    Raises:
        TypeError: it is neither callable nor `None`.
    """
    if callback is not None and not callable(callback):
        raise TypeError(f"{name} must be a function or None, got {type(callback).__name__}")


class Record:
    """Collects the `StreamSummary` of one stream, of those subscribed to together at `together`."""

    __slots__ = ("_begun", "_clock", "_lengths", "_together", "_tokens", "_usage", "summary")

    def __init__(self, clock: Callable[[], float], together: float) -> None:
        self._clock = clock
        self._together = together
        self._begun = clock()
        self._lengths = AnswerCounts()
        self._tokens = AnswerCounts()
        self._usage: dict[str | None, int] = {}
        self.summary: StreamSummary | None = None

    def noting(self, pass_on: Callable[[Chunk], None]) -> Callable[[Chunk], None]:
        """A function that records each chunk and passes it on."""

        def on_next(chunk: Chunk) -> None:
            source = chunk.source
            if type(chunk) is Token or type(chunk) is Batch or type(chunk) is Reasoning:
                self._lengths[source] = self._lengths.get(source, 0) + len(text_of(chunk))
                self._tokens[source] = self._tokens.get(source, 0) + tokens_of(chunk)
            elif type(chunk) is Usage:
                self._usage[source] = chunk.output_tokens
            else:
                self._note(chunk)
            pass_on(chunk)

        return on_next

    def _note(self, chunk: Chunk) -> None:
        if type(chunk) is End and chunk.more:
            self._book([chunk.source])
        elif type(chunk) is ToolResult:
            self._book(nested_in(self._tokens, chunk))
        elif is_restart(chunk):
            forget(self._usage, chunk.source)
        self._tokens.note(chunk)
        self._lengths.note(chunk)

    def _book(self, sources: Iterable[str | None]) -> None:
        """Count the tokens of answers that have ended as their usage reports them."""
        for source in sources:
            if used := self._usage.pop(source, 0):
                self._tokens[source] = self._tokens.committed(source) + used

    @property
    def error(self) -> Exception | None:
        """The error of the stream, if it has failed."""
        return None if self.summary is None else self.summary.error

    def end(self, status: Outcome, error: Exception | None = None) -> StreamSummary:
        """The summary at the end; the first call counts."""
        if self.summary is None:
            duration = self._clock() - self._begun
            self._book(list(self._usage))
            tokens, length = sum(self._tokens.values()), sum(self._lengths.values())
            started = self._begun - self._together
            self.summary = StreamSummary(status, length, duration, error, tokens, started)
        return self.summary


def failed(source: str, error: Exception) -> Notice:
    """The notice that one of several streams has failed."""
    return Notice("failed", error=ErrorInfo.of(error), source=source)


def all_failed(errors: Sequence[Exception]) -> AllModelsFailedError:
    """The error of several streams that have all failed, with `errors` in order."""
    what = "the only stream" if len(errors) == 1 else f"all {len(errors)} streams"
    last = errors[-1]
    return AllModelsFailedError(
        f"{what} failed, the last one with {type(last).__name__}: {last}", errors
    )


def note_source(error: Exception, source: str) -> None:
    """Add a note that names the stream to `error`, once."""
    note = f"error of the stream {source!r}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
