"""What a sink gives back at the end, and how it is gathered."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from rxllm.chunks import (
    Chunk,
    FinishReason,
    Notice,
    Token,
    ToolCall,
    Usage,
    has_output,
    is_chunk,
)
from rxllm.messages import Message
from rxllm.transcript import Answer, Transcript, assistant_message

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
        reasoning: the text of its thinking blocks.
        tool_calls: what it asks to be called, each as far as it has come.
        json: the newest value of `ops.parse_json`; `None` if there was none.
        finish_reason: of the last `End`; `"cancelled"` if the sink stopped the stream; None if the
            stream completed without an `End`.
        stop_sequence: the one that was met, if any.
        usage: tokens and cost, where the stream told; summed over the sources of a merge and the
            attempts, as they are billed.
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
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    json: Any = None

    @property
    def message(self) -> Message:
        """The answer as a message for the history: its text, and its complete tool calls."""
        return assistant_message(self.text, self.tool_calls)


class Recorder:
    """Gathers chunks for a `Result`.

    Args:
        clock: gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.transcript: Final = Transcript()
        self._clock = clock
        self._begun = clock()
        self._started = time.time()
        self._first_token: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._begun

    @property
    def tokens(self) -> int:
        """Pieces of text and reasoning so far."""
        return self.transcript.tokens

    @property
    def text(self) -> str:
        """The text so far."""
        return self.transcript.text

    def add(self, chunk: Chunk) -> None:
        """Take in the next chunk.

        Raises:
            TypeError: it is not a chunk.
        """
        if type(chunk) is not Token and not is_chunk(chunk):
            raise TypeError(
                f"a sink takes a stream of chunks, and got {chunk!r}: read a stream of "
                "something else with `async for`, `for` or `subscribe`"
            )
        if self._first_token is None and has_output(chunk):
            self._first_token = self.elapsed
        self.transcript.add(chunk)

    def result(self, *, cancelled: bool = False) -> Result:
        """The result of a stream that ends now."""
        said = self.transcript
        start, end = said.start, said.end
        reason = None if end is None else end.finish_reason
        return Result(
            text=said.text,
            timings=Timings(
                started=self._started,
                elapsed=self.elapsed,
                first_token=self._first_token,
                tokens=sum(_tokens(answer) for answer in said.answers.values()),
            ),
            finish_reason="cancelled" if cancelled else reason,
            stop_sequence=None if end is None else end.stop_sequence,
            usage=said.usage,
            model=None if start is None else start.model,
            provider=None if start is None else start.provider,
            request_id=None if start is None else start.request_id,
            notices=said.notices,
            reasoning=said.reasoning,
            tool_calls=said.tool_calls,
            json=said.json,
            texts={
                source: answer.text for source, answer in said.answers.items() if source is not None
            },
        )


def per_second(count: int, seconds: float) -> float | None:
    """`count` over `seconds`; None if no time has passed."""
    return count / seconds if seconds > 0 else None


def _tokens(answer: Answer) -> int:
    told = answer.usage.output_tokens if answer.usage is not None else 0
    return told or answer.tokens
