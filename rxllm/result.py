"""What a sink gives back at the end, and how it is gathered."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    FinishReason,
    Json,
    Notice,
    Progress,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
    is_content,
    is_restart,
)
from rxllm.errors import TruncatedStreamError

__all__ = ["Recorder", "Result", "Timings", "per_second"]


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """When a stream began, and how fast it was.

    Attributes:
        started: when it was subscribed to, in Unix seconds.
        elapsed: seconds from then to its end, pauses and attempts that were given up included.
        first_token: seconds from then to the first content (a token, a piece of reasoning, a tool
            call, JSON); None if none came.
        tokens: tokens of the answer: those of `Usage` where it came, else counted pieces of text
            and reasoning.
    """

    started: float
    elapsed: float
    first_token: float | None
    tokens: int

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens over the elapsed time; None if no time has passed."""
        return per_second(self.tokens, self.elapsed)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a stream.

    After a restart it is about the answer that began again; notices and times go on. After a
    merge, `text` holds the answers one after another, in the order in which they began.

    Attributes:
        text: the answer.
        finish_reason: of the last `End`; `"cancelled"` if the sink stopped the stream; None if the
            stream completed without an `End`.
        stop_sequence: the one that was met, if any.
        usage: tokens and cost, where the stream told; summed over the sources of a merge.
        model, provider, request_id: of the last `Start`.
        timings: when it began, and how fast it was.
        notices: everything that happened on the way, in its order.
        texts: the text of each source that chunks were tagged with.
    """

    text: str
    timings: Timings
    finish_reason: FinishReason | None = None
    stop_sequence: str | None = None
    usage: Usage | None = None
    model: str | None = None
    provider: str | None = None
    request_id: str | None = None
    notices: tuple[Notice, ...] = ()
    texts: dict[str, str] = {}


class _Answer:
    """What one source has said since it last began."""

    __slots__ = ("pieces", "tokens", "usage")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.tokens = 0
        self.usage: Usage | None = None


class Recorder:
    """Gathers chunks for a `Result`, at a cost that does not grow with what has gone by.

    Args:
        clock: gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun = clock()
        self._started = time.time()
        self._first_token: float | None = None
        self._answers: dict[str | None, _Answer] = {}
        self._notices: list[Notice] = []
        self._start: Start | None = None
        self._end: End | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._begun

    @property
    def tokens(self) -> int:
        """Pieces of text and reasoning so far."""
        return sum(answer.tokens for answer in self._answers.values())

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(["".join(answer.pieces) for answer in self._answers.values()])

    def add(self, chunk: Chunk) -> None:
        """Take note of `chunk`.

        Raises:
            TypeError: it is no chunk.
        """
        if self._first_token is None and is_content(chunk):
            self._first_token = self.elapsed
        match chunk:
            case Token(text=text):
                answer = self._answers.get(chunk.source) or self._answer(chunk.source)
                answer.pieces.append(text)
                answer.tokens += 1
            case Batch(text=text):
                answer = self._answer(chunk.source)
                answer.pieces.append(text)
                answer.tokens += len(chunk.chunks)
            case Reasoning():
                self._answer(chunk.source).tokens += 1
            case Usage():
                self._answer(chunk.source).usage = chunk
            case Start():
                self._start = chunk
            case End():
                self._end = chunk
            case Notice():
                self._note(chunk)
            case ToolCall() | Json() | Progress():
                pass  # for handlers: no part of the text
            case _:
                raise TypeError(
                    f"a sink takes a stream of chunks, and got {chunk!r}: read a stream of "
                    "something else with `subscribe` or `to_async`"
                )

    def truncated(self) -> TruncatedStreamError | None:
        """What it is for the stream to complete now: an error, unless its end marker has come."""
        if self._end is not None:
            return None
        error = TruncatedStreamError("the stream ended without its end marker")
        error.partial = self.text
        return error

    def result(self, *, cancelled: bool = False) -> Result:
        """The result, if the stream is at its end now."""
        start, end = self._start, self._end
        return Result(
            text=self.text,
            timings=Timings(
                started=self._started,
                elapsed=self.elapsed,
                first_token=self._first_token,
                tokens=sum(_tokens(answer) for answer in self._answers.values()),
            ),
            finish_reason="cancelled"
            if cancelled
            else (None if end is None else end.finish_reason),
            stop_sequence=None if end is None else end.stop_sequence,
            usage=_sum([answer.usage for answer in self._answers.values() if answer.usage]),
            model=None if start is None else start.model,
            provider=None if start is None else start.provider,
            request_id=None if start is None else start.request_id,
            notices=tuple(self._notices),
            texts={
                source: "".join(answer.pieces)
                for source, answer in self._answers.items()
                if source is not None
            },
        )

    def _answer(self, source: str | None) -> _Answer:
        answer = self._answers.get(source)
        if answer is None:
            answer = self._answers[source] = _Answer()
        return answer

    def _note(self, notice: Notice) -> None:
        self._notices.append(notice)
        if not is_restart(notice):
            return
        if notice.source is None:
            self._answers.clear()
            self._end = None
        else:
            self._answers.pop(notice.source, None)
            if self._end is not None and self._end.source == notice.source:
                self._end = None


def per_second(count: int, seconds: float) -> float | None:
    """`count` over `seconds`; None if no time has passed."""
    return count / seconds if seconds > 0 else None


def _tokens(answer: _Answer) -> int:
    told = answer.usage.output_tokens if answer.usage is not None else 0
    return told or answer.tokens


def _sum(usages: list[Usage]) -> Usage | None:
    if len(usages) < 2:
        return usages[0] if usages else None
    fields = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost")
    known = {name: [getattr(usage, name) for usage in usages] for name in fields}
    return Usage(
        **{
            name: sum(value for value in values if value is not None)
            for name, values in known.items()
            if any(value is not None for value in values)
        }
    )
