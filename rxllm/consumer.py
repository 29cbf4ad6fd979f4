"""The subscription behind every sink, from its start to the end of its clean-up."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Final

from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.answer_schema import schema_of
from rxllm.chunks import Carried, Chunk, Token, carried
from rxllm.errors import RxLLMError
from rxllm.result import Recorder, Result
from rxllm.valve import StreamScheduler, Valve, clock_of_loop, report_failure

__all__ = ["Consumer", "check_function", "check_stream", "consume"]


class Consumer:
    """One subscription of a sink. Create it in a running event loop, and call `run` once.

    Args:
        stream: the stream to subscribe to.
        on_chunk: called with each chunk after it has been recorded. If it raises, the stream is
            disposed and `run` raises the exception; nothing upstream sees it.
        valve: the sink's valve, disposed at the end; `None` means an open one.

    Attributes:
        record: the chunks received so far.
        error: the stream's error, if it has failed.
    """

    def __init__(
        self,
        stream: Observable[Carried],
        on_chunk: Callable[[Chunk], object] | None = None,
        valve: Valve | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.record: Final = Recorder(clock_of_loop(self._loop), schema_of(stream))
        self.error: Exception | None = None
        self._stream = stream
        self._on_chunk = on_chunk
        self._valve = valve if valve is not None else Valve()
        self._subscription = SingleAssignmentDisposable()
        self._ended = asyncio.Event()
        self._outcome: Result | Exception | None = None

    async def run(self) -> Result:
        """Subscribe, and wait for the end of the stream and for its clean-up.

        Raises:
            Exception: the stream's error, with the text so far in `partial` if it is an
                `RxLLMError` without one; or an exception raised by `on_chunk` or an operator.
        """
        scheduler = StreamScheduler(self._loop, self._valve, self.fail)
        try:
            if not self._ended.is_set():
                self._subscription.disposable = self._stream.subscribe(
                    self._on_next, self._on_error, self._on_completed, scheduler=scheduler
                )
            await self._ended.wait()
        finally:
            self._dispose()
            self._valve.dispose()
            await scheduler.settle()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        assert self._outcome is not None  # noqa: S101 - `_end` sets it before the event
        return self._outcome

    def stop(self) -> None:
        """Dispose at once; `run` returns a result with the finish reason `"cancelled"`."""
        if not self._ended.is_set():
            self._end(self.record.result(cancelled=True))

    def fail(self, error: Exception) -> None:
        """Dispose at once; `run` raises `error`, which isn't an error of the stream.

        After the end, `error` goes to the loop's exception handler instead.
        """
        if self._ended.is_set():
            report_failure(self._loop, error)
        else:
            self._end(error)

    def _on_next(self, item: Carried) -> None:
        if self._ended.is_set():
            return  # a source that pushes everything at once has not seen the disposal yet
        try:
            chunk: Chunk = item if type(item) is Token else carried(item)
            self.record.add(chunk)
            if self._on_chunk is not None:
                self._on_chunk(chunk)
        except Exception as error:
            self._end(error)

    def _on_error(self, error: Exception) -> None:
        if self._ended.is_set():
            return
        if isinstance(error, RxLLMError) and not error.partial:
            error.partial = self.record.text
        self.error = error
        self._end(error)

    def _on_completed(self) -> None:
        if not self._ended.is_set():
            self._end(self.record.result())

    def _end(self, outcome: Result | Exception) -> None:
        self._outcome = outcome
        self._ended.set()
        self._dispose()

    def _dispose(self) -> None:
        try:
            self._subscription.dispose()
        except Exception as error:  # it must not prevent the rest of the clean-up
            self._loop.call_exception_handler(
                {"message": "an operator raised while its stream was disposed", "exception": error}
            )


async def consume(
    stream: Observable[Carried], on_chunk: Callable[[Chunk], object] | None = None
) -> Result:
    """Subscribe to `stream`, call `on_chunk` with each chunk, and return the result.

    Errors are those of `Consumer.run`; cancelling the awaiting task disposes the stream at once and
    waits for its clean-up.
    """
    return await Consumer(stream, on_chunk).run()


def check_stream(stream: object, sink: str) -> None:
    """Raise a `TypeError` that says what to pass, if `stream` isn't a stream."""
    if not isinstance(stream, Observable):
        raise TypeError(
            f"{sink} takes a stream, such as model.stream(prompt); got {type(stream).__name__}"
        )


def check_function(function: object, name: str) -> None:
    """Raise a `TypeError` if `function` isn't callable, or is a coroutine function."""
    if not callable(function):
        raise TypeError(f"{name} must be a function, got {type(function).__name__}")
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - for callable objects
    ):
        raise TypeError(
            f"{name} must be a plain function, since a coroutine function would never be awaited: "
            "start a task in it, or read the stream with to_async"
        )
