"""`StreamRegistry`: the streams of a program, by id."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import count
from threading import RLock

from rxllm.arguments import check_int, check_number
from rxllm.errors import StreamStateError
from rxllm.operators.controlling._tracked_stream import StreamInfo, TrackedStream
from rxllm.pump import stopping_pumps
from rxllm.valve import runs_elsewhere

__all__ = ["StreamRegistry"]

_CLEAN_UP_SECONDS = 5.0


class StreamRegistry(Mapping[str, TrackedStream]):
    """The streams that have `track(registry)` in their pipe, by id.

    The registry is a mapping: `registry["story"]` is a `TrackedStream`. The last `keep` streams
    that have ended can still be looked up. An empty registry is truthy. Streams of several event
    loops may share one.

    Args:
        keep: ended streams to keep, 0 or more; the oldest is dropped first.
        max_idle: seconds without a chunk after which a stream counts as abandoned and is
            cancelled, above 0, or `None` for no limit. A subscriber that stops reading makes a
            stream idle; `TrackedStream.pause` does not, since a pause has its own limit.
        max_pause: seconds after which a paused stream is cancelled, above 0.

    Raises:
        TypeError: an argument is not a number or not an integer.
        ValueError: a number is out of range.

    >>> registry = StreamRegistry()
    >>> list(registry), registry.active
    ([], [])
    """

    def __init__(
        self, *, keep: int = 100, max_idle: float | None = 600.0, max_pause: float = 300.0
    ) -> None:
        if max_idle is not None:
            max_idle = check_number(
                "max_idle", max_idle, "the seconds a stream may be idle", above=0
            )
        self.max_idle = max_idle
        self.max_pause: float = check_number(
            "max_pause", max_pause, "the seconds a pause may last", above=0
        )
        self._keep = check_int("keep", keep, "the number of ended streams to keep", minimum=0)
        self._streams: dict[str, TrackedStream] = {}
        self._live: dict[str, TrackedStream] = {}
        self._ended: deque[TrackedStream] = deque()
        self._numbers = count(1)
        self._lock = RLock()  # streams of several event loops may share the registry
        self._refusing = False
        self._shutdown: asyncio.Future[None] | None = None

    @property
    def active(self) -> list[TrackedStream]:
        """The running and paused streams, in the order in which they started."""
        return list(self._live.values())

    @property
    def refusing(self) -> bool:
        """True once a shutdown has started: new streams are refused."""
        return self._refusing

    def snapshot(self) -> list[StreamInfo]:
        """The current state of each stream, in the order in which they started."""
        return [stream.info for stream in tuple(self._streams.values())]

    def cancel(self, stream_id: str) -> None:
        """Cancel a stream: dispose upstream, emit `End("cancelled")` and complete.

        Cancelling a stream that has ended does nothing.

        Raises:
            KeyError: there is no stream with this id.
        """
        self._streams[stream_id].cancel()

    def cancel_all(self) -> None:
        """Cancel all active streams, each as `cancel` does.

        All are cancelled even if a subscriber raises; the first such exception is then raised.
        """
        failure: Exception | None = None
        for stream in self.active:
            try:
                stream.cancel()
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    async def shutdown(self, deadline: float = 30.0) -> None:
        """Refuse new streams, let active ones finish, and cancel the rest at the deadline.

        Returns once no stream is active and the cancelled sources have cleaned up, for which they
        have 5 more seconds. A second call joins the first and keeps its deadline; `cancel_all`
        ends the wait early. The shutdown continues even if a caller is cancelled.

        Args:
            deadline: seconds, 0 or more.

        Raises:
            TypeError: `deadline` is not a number.
            ValueError: `deadline` is out of range.
        """
        check_number(
            "deadline", deadline, "the seconds that active streams have to finish", minimum=0
        )
        loop = asyncio.get_running_loop()
        if self._shutdown is None:
            self._refusing = True
            self._shutdown = ended = loop.create_future()
            if self._live:
                timer = loop.call_later(deadline, self.cancel_all)
                ended.add_done_callback(lambda _: timer.cancel())
            else:
                ended.set_result(None)
        if not self._shutdown.done():
            await asyncio.shield(self._shutdown)
        if stopping := stopping_pumps(loop):
            await asyncio.wait(stopping, timeout=_CLEAN_UP_SECONDS)

    def free_id(self) -> str:
        """Return an unused id. Called by `track`."""
        while True:
            stream_id = f"stream-{next(self._numbers)}"
            if stream_id not in self._streams:
                return stream_id

    def enter(self, stream: TrackedStream) -> None:
        """Register a stream that is about to start. Called by `track`.

        Raises:
            StreamStateError: a stream with this id is active, or a shutdown has started.
        """
        with self._lock:
            if self._refusing:
                raise StreamStateError(
                    f"the registry is shutting down and refuses stream {stream.id!r}"
                )
            if stream.id in self._live:
                raise StreamStateError(
                    f"a stream {stream.id!r} already exists and is "
                    f"{self._live[stream.id].status}: use another id, or cancel it first"
                )
            earlier = self._streams.pop(stream.id, None)
            if earlier is not None:
                self._ended.remove(earlier)
            self._streams[stream.id] = self._live[stream.id] = stream

    def leave(self, stream: TrackedStream) -> None:
        """Record that a stream has ended. Called by `track`."""
        with self._lock:
            del self._live[stream.id]
            self._ended.append(stream)
            while len(self._ended) > self._keep:
                del self._streams[self._ended.popleft().id]
        if self._shutdown is not None and not self._live:
            if runs_elsewhere(loop := self._shutdown.get_loop()):
                loop.call_soon_threadsafe(_finish, self._shutdown)
            else:
                _finish(self._shutdown)

    def __getitem__(self, stream_id: str) -> TrackedStream:
        return self._streams[stream_id]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._streams))

    def __len__(self) -> int:
        return len(self._streams)

    def __bool__(self) -> bool:
        return True  # so that `given or StreamRegistry()` doesn't replace an empty one


def _finish(shutdown: asyncio.Future[None]) -> None:
    if not shutdown.done():
        shutdown.set_result(None)
