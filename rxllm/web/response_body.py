"""A stream as an iterable of bytes, for the responses of any web framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from inspect import GEN_CLOSED, getgeneratorstate
from typing import Any, Final
from uuid import uuid4

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxllm.chunks import Carried
from rxllm.consumer import check_stream
from rxllm.errors import RxLLMError
from rxllm.iteration import to_async, to_sync
from rxllm.stream import Stream
from rxllm.valve import StreamScheduler, valve_of
from rxllm.web.delivery import DeliveryReport, OnEnd, check_name
from rxllm.web.encoded_stream import EncodedStream
from rxllm.web.frame_sender import HEADERS
from rxllm.web.response_writer import check_times
from rxllm.web.wire import WireFormat
from rxllm.web.wires import wire_format
from rxllm.wire_names import WireName

__all__ = ["Events", "events"]


def events(
    stream: Observable[Carried],
    wire: WireName = "sse",
    *,
    stream_id: str | None = None,
    heartbeat: float | None = 15.0,
    on_end: OnEnd | None = None,
    **options: Any,
) -> Events:
    """Return a stream as an iterable of bytes, in a wire format.

    It is the body of a streamed response: `async for` on an event loop (Starlette, FastAPI, Quart,
    Django with ASGI), `for` without one (Flask, Django with WSGI). Send its `headers` with it::

        body = events(model.stream(prompt), wire="ui_messages")
        return StreamingResponse(body, headers=body.headers)

    - Subscribes at the first step; each iteration subscribes anew.
    - Completion and error: the last bytes are the final event of the wire, and the iteration ends.
      An error is never raised, since the client could not see it. For an exception that isn't an
      `RxLLMError`, the client receives only that it was internal, and without an `on_end` the
      exception goes to the loop's exception handler.
    - Restart: as the wire has it.
    - Leaving the iteration, or `close()`, disposes the stream at once, which stops its model.
      Frameworks do that when the client has left.
    - Demand: the stream is held while 16 frames wait here.

    Args:
        stream: the chunks.
        wire: the name of the wire format.
        stream_id: the stream's id on the wire; `None` to generate one.
        heartbeat: seconds of silence, above 0, after which a ping is sent, or `None` for none.
        on_end: called with a `DeliveryReport` at the end of each iteration.
        options: those of the format, which its sink describes (`model`, `include_usage`, ...).

    Raises:
        TypeError: `stream` is not a stream, or an option is not one of the format.
        ValueError: `wire` is unknown, or an argument is out of range.
    """
    check_stream(stream, "events")
    check_times(heartbeat, 1.0)
    found = wire_format(wire)
    name = uuid4().hex if stream_id is None else check_name(stream_id)
    found.writer(name, **options)  # refuses what isn't one of its options
    return Events(stream, found, name, heartbeat, on_end, options)


class Events:
    """The bytes of a response. Made by `events`.

    Attributes:
        headers: the headers of the response.
        content_type: its content type, which is in the headers, too.
    """

    def __init__(
        self,
        stream: Observable[Carried],
        wire: WireFormat,
        stream_id: str,
        heartbeat: float | None,
        on_end: OnEnd | None,
        options: dict[str, Any],
    ) -> None:
        self.content_type: Final = wire.content_type
        self.headers: Final[dict[str, str]] = {
            "Content-Type": wire.content_type,
            **HEADERS,
            **wire.headers,
            "X-Stream-Id": stream_id,
        }
        self._iterators: list[Generator[bytes, None, None]] = []

        def subscribe(
            observer: abc.ObserverBase[bytes], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            encoded = EncodedStream(stream, stream_id, wire.writer(stream_id, **options))
            reading = _Reading(encoded, observer, on_end)
            return reading.start(scheduler, wire.ping, heartbeat)

        self._bytes: Stream[bytes] = Stream(subscribe, "events", of_chunks=False)

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        return to_async(self._bytes)

    def __iter__(self) -> Generator[bytes, None, None]:
        iterator = to_sync(self._bytes)
        live = [each for each in self._iterators if getgeneratorstate(each) != GEN_CLOSED]
        self._iterators = [*live, iterator]
        return iterator

    def close(self) -> None:
        """Stop the synchronous iterations: WSGI calls this when the client has left."""
        while self._iterators:
            self._iterators.pop().close()


class _Reading:
    """One iteration: its events, its pings and its end."""

    def __init__(
        self,
        encoded: EncodedStream,
        observer: abc.ObserverBase[bytes],
        on_end: Callable[[DeliveryReport], object] | None,
    ) -> None:
        self._encoded = encoded
        self._observer = observer
        self._on_end = on_end
        self._has_ended = False
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def start(
        self, scheduler: abc.SchedulerBase | None, ping: bytes | None, heartbeat: float | None
    ) -> abc.DisposableBase:
        if isinstance(scheduler, StreamScheduler):
            scheduler = scheduler.with_sink(self._encoded.run.fail)
        if ping is not None and heartbeat is not None:
            self._schedule(scheduler, ping, heartbeat)
        subscription = self._encoded.frames.subscribe(
            self._on_next, self._observer.on_error, self._on_completed, scheduler=scheduler
        )
        return CompositeDisposable(subscription, Disposable(self._leave))

    def _on_next(self, data: bytes) -> None:
        self._sent_at = self._loop.time()
        self._observer.on_next(data)

    def _on_completed(self) -> None:
        self._finish(left=False)
        self._observer.on_completed()

    def _leave(self) -> None:
        if not self._has_ended:
            self._finish(left=True)

    def _finish(self, *, left: bool) -> None:
        self._has_ended = True
        if self._timer is not None:
            self._timer.cancel()
        run = self._encoded.run
        if self._on_end is not None:
            self._on_end(DeliveryReport(result=run.result, error=run.error, left=left))
        elif run.error is not None and not isinstance(run.error, RxLLMError):
            self._loop.call_exception_handler(
                {"message": "a stream that was being sent failed", "exception": run.error}
            )

    def _schedule(self, scheduler: abc.SchedulerBase | None, ping: bytes, heartbeat: float) -> None:
        def beat() -> None:
            silence = self._loop.time() - self._sent_at
            if silence >= heartbeat and valve_of(scheduler).is_open:
                self._sent_at = self._loop.time()
                self._observer.on_next(ping)
            self._timer = self._loop.call_at(
                max(self._sent_at, self._loop.time()) + heartbeat, beat
            )

        self._timer = self._loop.call_later(heartbeat, beat)
