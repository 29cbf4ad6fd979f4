"""The running stream behind `callbacks`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple

from reactivex import Observable

from rxllm.answer_counts import AnswerCounts
from rxllm.arguments import refuse_coroutine
from rxllm.chunks import (
    Batch,
    Carried,
    Chunk,
    End,
    Notice,
    Progress,
    Start,
    Status,
    Token,
    ToolResult,
    is_bare_state,
    is_restart,
)
from rxllm.consumer import Consumer
from rxllm.errors import StreamStateError
from rxllm.expected_tokens import ExpectedTokens
from rxllm.result import Result, per_second
from rxllm.sinks._token_event import Answer, TokenEvent
from rxllm.stream import Stream
from rxllm.valve import Valve, running_loop

__all__ = ["CallbackStream", "Callbacks"]

_TOKENS_BETWEEN_PROGRESS: Final = 10


class Callbacks(NamedTuple):
    """The functions of one stream, as described in `callbacks`."""

    on_start: Callable[[Start], object] | None
    on_token: Callable[[TokenEvent], object] | None
    on_progress: Callable[[Progress], object] | None
    on_notice: Callable[[Notice], object] | None
    on_complete: Callable[[Result], object] | None
    on_cancel: Callable[[Result], object] | None
    on_error: Callable[[Exception], object] | None


class CallbackStream:
    """A stream that calls functions, with methods to start, pause, resume and stop it.

    Made by `callbacks`, and used on the event loop's thread. Any number of tasks may await it, also
    after its end; the first `await` starts it if it hasn't been started. Cancelling a task that
    awaits it disposes the stream at once.

    An error that neither `on_error` nor an `await` has received goes to the loop's exception
    handler.
    """

    def __init__(self, stream: Observable[Carried], callbacks: Callbacks, max_pause: float) -> None:
        self._stream = stream
        self._callbacks = callbacks
        self._max_pause = max_pause
        self._valve = Valve()
        self._status: Status = "ready"
        self._consumer: Consumer | None = None
        self._task: asyncio.Task[Result] | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._answers: dict[str | None, Answer] = {}
        self._characters = AnswerCounts()
        self._makes_progress = callbacks.on_progress is not None and not (
            isinstance(stream, Stream) and stream.has_progress
        )
        self._expected = ExpectedTokens(None)
        self._tens = 0
        self._error_handled = False

    @property
    def status(self) -> Status:
        """`"ready"`, `"running"`, `"paused"`, then `"completed"`, `"failed"` or `"cancelled"`."""
        return self._status

    def start(self) -> None:
        """Start the stream; it is subscribed to in the loop's next iteration.

        Raises:
            StreamStateError: the stream was started before.
            NoEventLoopError: no event loop is running.
        """
        if self._task is not None:
            raise StreamStateError(f"this stream is {self._status}: it can't be started twice")
        loop = running_loop()
        self._consumer = Consumer(self._stream, self._on_chunk, self._valve)
        self._status = "running"
        self._task = loop.create_task(self._run(self._consumer), name="rxllm callbacks")
        self._task.add_done_callback(self._ended)

    def pause(self) -> None:
        """Hold the stream; pausing a paused stream does nothing.

        A source with demand stops pulling, and emits at most the chunk that was in flight. A source
        without demand still emits: put `ops.pausable` in the pipe to buffer its chunks.

        Raises:
            StreamStateError: the stream has not started, or has ended.
        """
        self._check_live("paused")
        if self._status == "running":
            self._status = "paused"
            self._limit = running_loop().call_later(self._max_pause, self.stop)
            self._valve.close()

    def resume(self) -> None:
        """Let the stream continue; resuming a running stream does nothing.

        Raises:
            StreamStateError: the stream has not started, or has ended.
        """
        self._check_live("resumed")
        if self._status == "paused":
            self._status = "running"
            self._end_pause()
            self._valve.open()

    def stop(self) -> None:
        """Dispose the stream at once; its result has the finish reason `"cancelled"`.

        Stopping a stream that has ended does nothing.

        Raises:
            StreamStateError: the stream has not started.
        """
        if self._consumer is None:
            self._check_live("stopped")
        elif self._is_live:
            self._status = "cancelled"
            self._end_pause()
            self._consumer.stop()

    async def wait(self) -> None:
        """Wait until the stream has ended and cleaned up; return at once if it was never started.

        This doesn't raise the stream's error, and doesn't count as having received it.
        """
        if self._task is not None:
            await asyncio.wait([self._task])

    def __await__(self) -> Generator[Any, None, Result]:
        if self._task is None:
            self.start()
        assert self._task is not None  # noqa: S101 - `start` has set it
        return self._task.__await__()

    async def _run(self, consumer: Consumer) -> Result:
        try:
            result = await consumer.run()
        except Exception:
            self._status = "failed"
            if consumer.error is not None and self._callbacks.on_error is not None:
                self._callbacks.on_error(consumer.error)
                self._error_handled = True
            raise
        if result.finish_reason == "cancelled":
            self._status = "cancelled"
            self._call(self._callbacks.on_cancel, result)
        else:
            self._status = "completed"
            self._call(self._callbacks.on_complete, result)
        return result

    def _ended(self, task: asyncio.Task[Result]) -> None:
        self._end_pause()
        if task.cancelled():
            self._status = "cancelled"
        elif self._error_handled:
            task.exception()  # retrieved, so that asyncio doesn't report it as never retrieved

    def _on_chunk(self, chunk: Chunk) -> None:
        match chunk:
            case Token() if not is_bare_state(chunk):
                self._on_token(chunk)
            case Batch():
                for piece in chunk.chunks:
                    if isinstance(piece, Token) and self._is_live:
                        self._on_token(piece)
            case Start():
                self._expected.start(chunk, self._tokens)
                self._call(self._callbacks.on_start, chunk)
            case Notice():
                self._expected.notice(chunk)
                self._on_notice(chunk)
            case End(more=True) | ToolResult():
                self._characters.note(chunk)
                if isinstance(chunk, End):
                    self._answers.pop(chunk.source, None)
            case Progress():
                if chunk.stage not in ("prompt", "queue"):
                    self._makes_progress = False
                self._call(self._callbacks.on_progress, chunk)
        if self._makes_progress and self._is_live:
            self._make_progress()

    def _on_token(self, token: Token) -> None:
        answer = self._answers.get(token.source)
        if answer is None:
            answer = self._answers[token.source] = Answer()
        self._characters[token.source] = self._characters.get(token.source, 0) + len(token.text)
        self._call(self._callbacks.on_token, TokenEvent(token, answer))

    def _on_notice(self, notice: Notice) -> None:
        self._characters.note(notice)
        if is_restart(notice):
            if notice.source is None:
                self._answers.clear()
            else:
                self._answers.pop(notice.source, None)
        self._call(self._callbacks.on_notice, notice)

    def _make_progress(self) -> None:
        assert self._consumer is not None  # noqa: S101 - chunks come from it
        tokens, before, elapsed = self._tokens, self._tens, self._consumer.record.elapsed
        self._tens = tokens // _TOKENS_BETWEEN_PROGRESS
        if self._tens > before:
            speed = per_second(tokens, elapsed)
            characters = sum(self._characters.values())
            progress = Progress.of(
                tokens,
                elapsed,
                speed,
                self._expected.total,
                characters_per_second=per_second(characters, elapsed),
            )
            self._call(self._callbacks.on_progress, progress)

    @property
    def _tokens(self) -> int:
        return 0 if self._consumer is None else self._consumer.record.tokens

    def _call(self, function: Callable[[Any], object] | None, event: object) -> None:
        if function is not None:
            refuse_coroutine(function(event), function)

    def _end_pause(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    @property
    def _is_live(self) -> bool:
        return self._status in ("running", "paused")

    def _check_live(self, what: str) -> None:
        if not self._is_live:
            when = "has not started" if self._status == "ready" else f"is {self._status}"
            raise StreamStateError(f"a stream that {when} can't be {what}")
