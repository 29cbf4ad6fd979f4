"""Run one stream for its clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.answer_schema import schema_of
from rxllm.chunks import Carried, Chunk, Token, carried
from rxllm.errors import RxLLMError
from rxllm.result import Recorder, Result
from rxllm.valve import clock_of_loop, report_failure
from rxllm.web.failures import failure_message
from rxllm.web.stream_messages import Complete, StreamFailed

__all__ = ["Runner"]


class Runner:
    """Runs one stream: one subscription, one record, one final message.

    Web sinks and stores are built on it, so that completion, failure and partial output mean the
    same on every wire. Create it in a running event loop; `start` it once.

    Args:
        stream_id: the stream's id on the wire.
        on_chunk: called with each chunk, after it was recorded. If it can't send the chunk, it
            calls `fail`.
        on_end: called once with the final message, which has the whole text and no position yet.
        model: the model to report if no `Start` of the stream names one.

    Attributes:
        has_ended: whether `on_end` was called.
        error: the error that the stream ended with, or `None`.
    """

    def __init__(
        self,
        stream_id: str,
        on_chunk: Callable[[Chunk], object],
        on_end: Callable[[Complete | StreamFailed], object],
        model: str | None = None,
    ) -> None:
        self.has_ended: bool = False
        self.error: Exception | None = None
        self._id = stream_id
        self._on_chunk = on_chunk
        self._on_end = on_end
        self._model = model
        self._loop: Final = asyncio.get_running_loop()
        self._record = Recorder(clock_of_loop(self._loop))
        self._result: Result | None = None
        self._subscription = SingleAssignmentDisposable()

    def seed(self, chunks: Iterable[Chunk]) -> None:
        """Record what the stream has said before, in another process."""
        for chunk in chunks:
            self._record.add(chunk)

    def stop(self) -> None:
        """Stop the stream without a final message. Idempotent."""
        self.has_ended = True
        self._subscription.dispose()

    def start(
        self, stream: Observable[Carried], scheduler: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        """Subscribe. Disposing the returned disposable stops the stream without a final message."""
        self._record.answer_schema = schema_of(stream)
        self._subscription.disposable = stream.subscribe(
            self._on_next, self._on_error, self._on_completed, scheduler=scheduler
        )
        return self._subscription

    def fail(self, error: Exception) -> None:
        """Stop the stream and end it with `error`, bypassing its operators.

        After the end, the error is reported to the loop's exception handler.
        """
        if self.has_ended:
            report_failure(self._loop, error)
            return
        try:
            self._subscription.dispose()
        except Exception as raised:  # it must not prevent the final message
            report_failure(self._loop, raised)
        self._on_error(error)

    @property
    def result(self) -> Result:
        """The result so far; its finish reason is `"cancelled"` unless the stream has completed."""
        return self._result or self._record.result(cancelled=True)

    def _on_next(self, item: Carried) -> None:
        if self.has_ended:
            return  # a synchronous source may still emit after it was disposed
        chunk: Chunk = item if type(item) is Token else carried(item)
        try:
            self._record.add(chunk)
        except TypeError as error:
            self.fail(error)
            return
        self._on_chunk(chunk)

    def _on_error(self, error: Exception) -> None:
        if self.has_ended:
            return
        partial = self._record.text
        if isinstance(error, RxLLMError) and not error.partial:
            error.partial = partial
        self.error = error
        self._end(self.result, failure_message(error, self._id, partial=partial))

    def _on_completed(self) -> None:
        if self.has_ended:
            return
        result = self._record.result()
        message = Complete(
            id=self._id,
            tokens=result.timings.tokens,
            seconds=round(result.timings.elapsed, 6),
            finish_reason=result.finish_reason,
            usage=result.usage,
            model=result.model or self._model,
            text=result.text,
        )
        self._end(result, message)

    def _end(self, result: Result, message: Complete | StreamFailed) -> None:
        self.has_ended = True
        self._result = result
        self._on_end(message)
