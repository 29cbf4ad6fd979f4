"""The `Result` that a sink returns, and the recorder that builds it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

import msgspec

from rxllm.answer import assistant_message
from rxllm.answer_schema import AnyAnswerSchema
from rxllm.chunks import (
    ApprovalRequest,
    Chunk,
    Citation,
    FileOutput,
    FinishReason,
    Notice,
    Token,
    ToolCall,
    Usage,
    has_output,
    is_chunk,
)
from rxllm.messages import Message, Part
from rxllm.transcript import Transcript

__all__ = ["Recorder", "Result", "Timings", "per_second"]


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """When a stream started, and how fast it was.

    Attributes:
        started: when it was subscribed to, in Unix seconds.
        elapsed: seconds from then to its end, including pauses and abandoned attempts.
        first_token: seconds from then to the first content (a token, a piece of reasoning, a tool
            call, JSON); `None` if there was none.
        tokens: tokens of the answer: from `Usage` if it was sent, otherwise the number of pieces of
            text and reasoning.
        characters: those of the text; of a run, that of all answers.
    """

    started: float
    elapsed: float
    first_token: float | None
    tokens: int
    characters: int = 0

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens divided by the elapsed time; `None` if no time has passed."""
        return per_second(self.tokens, self.elapsed)

    @property
    def characters_per_second(self) -> float | None:
        """Characters divided by the elapsed time; `None` if no time has passed."""
        return per_second(self.characters, self.elapsed)


class Result(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The outcome of a stream.

    After a restart it describes the restarted answer; notices and timings cover the whole stream.
    After a merge, `text` holds the answers one after another, in the order in which they began.

    Attributes:
        text: the answer.
        reasoning: the text of its thinking blocks.
        tool_calls: its tool calls, each with the arguments received so far.
        json: the newest value of `ops.parse_json`; `None` if there was none.
        finish_reason: that of the last `End`; `"cancelled"` if the sink stopped the stream; `None`
            if the stream completed without an `End`.
        stop_sequence: the one that matched, if any.
        usage: tokens and cost, if the stream reported them; summed over the sources of a merge and
            over attempts, as they are billed.
        model, provider, request_id: those of the last `Start`.
        timings: when it started, and how fast it was.
        notices: all notices of the stream, in order.
        citations, files: the sources that the answer cites, and its output that isn't text.
        texts: the text of each source, by the `source` of its chunks.
        parts: text, reasoning and complete calls in order, as parts of a message.
        messages: what the stream adds to the conversation. Of a run of several answers: the
            answers, the results of their tools, and messages of the user that joined it. Empty
            after a merge, whose answers belong to several conversations.
        pending: the tool calls that wait for an approval.
        steps: the number of answers of the run.
        answer_schema: what reads the answer as `value`; `None` without a `response_format`.

    Of a run, everything else is that of its last answer; usage, notices and timings are those of
    all.
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
    citations: tuple[Citation, ...] = ()
    files: tuple[FileOutput, ...] = ()
    parts: tuple[Part, ...] = ()
    messages: tuple[Message, ...] = ()
    pending: tuple[ApprovalRequest, ...] = ()
    steps: int = 1
    answer_schema: AnyAnswerSchema | None = None

    @cached_property
    def value(self) -> Any:
        """The answer as an instance of the type given as `response_format`; `json` without one.

        With a JSON Schema or `"json"`, the JSON value.

        Raises:
            InvalidAnswerError: the answer isn't JSON of the type, or doesn't follow the schema
                (which is checked if the package jsonschema is installed). Awaiting the stream
                doesn't raise it, so the text, the usage and the rest of the result can be read all
                the same.
        """
        schema = self.answer_schema
        if schema is None:
            return self.json
        if self.json is not None and not self.text:  # `parse_json` has read it
            return schema.convert(self.json)
        return schema.read(self.text, self.finish_reason)

    @property
    def message(self) -> Message:
        """The answer as a message for the history.

        Its content is a string, or parts in order if the model wants anything else back, such as
        signed reasoning. Incomplete calls are left out.
        """
        return assistant_message(self.parts)


class Recorder:
    """Records chunks for a `Result`.

    Args:
        clock: returns monotonic seconds.
        answer_schema: the schema of the type that the answer was asked for, if there is one.
    """

    def __init__(
        self, clock: Callable[[], float], answer_schema: AnyAnswerSchema | None = None
    ) -> None:
        self.transcript: Final = Transcript()
        self.answer_schema = answer_schema
        self._clock = clock
        self._begun = clock()
        self._started = time.time()
        self._first_token: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._begun

    @property
    def tokens(self) -> int:
        """The number of pieces of text and reasoning so far."""
        return self.transcript.tokens

    @property
    def text(self) -> str:
        """The text so far."""
        return self.transcript.text

    def add(self, chunk: Chunk) -> None:
        """Record the next chunk.

        Raises:
            TypeError: it is not a chunk.
        """
        if type(chunk) is not Token and not is_chunk(chunk):
            raise TypeError(
                f"a sink takes a stream of chunks, but got {chunk!r}: read a stream of "
                "other items with `async for`, `for` or `subscribe`"
            )
        if self._first_token is None and has_output(chunk):
            self._first_token = self.elapsed
        self.transcript.add(chunk)

    def result(self, *, cancelled: bool = False) -> Result:
        """Return the result of the stream, which ends now."""
        transcript = self.transcript
        start, end = transcript.start, transcript.end
        reason = None if end is None else end.finish_reason
        text = transcript.text
        return Result(
            text=text,
            timings=Timings(
                started=self._started,
                elapsed=self.elapsed,
                first_token=self._first_token,
                tokens=transcript.output_tokens,
                characters=transcript.characters,
            ),
            finish_reason="cancelled" if cancelled else reason,
            stop_sequence=None if end is None else end.stop_sequence,
            usage=transcript.usage,
            model=None if start is None else start.model,
            provider=None if start is None else start.provider,
            request_id=None if start is None else start.request_id,
            notices=transcript.notices,
            reasoning=transcript.reasoning,
            tool_calls=transcript.tool_calls,
            json=transcript.json,
            citations=transcript.citations,
            files=transcript.files,
            parts=transcript.parts,
            messages=transcript.messages,
            pending=transcript.pending,
            steps=transcript.steps,
            answer_schema=self.answer_schema,
            texts={
                source: answer.text
                for source, answer in transcript.answers.items()
                if source is not None
            },
        )


def per_second(count: int, seconds: float) -> float | None:
    """Return `count` divided by `seconds`; `None` if no time has passed."""
    return count / seconds if seconds > 0 else None
