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

    It is a mapping: `registry["story"]` is a `TrackedStream`. Those that have ended stay to be
    looked up, the last `keep` of them. With no stream in it, it is true all the same. Streams of
    several event loops may share it.

    Args:
        keep: streams that are kept after their end, 0 or more; the oldest is forgotten first.
        max_idle: seconds without a chunk after which a stream counts as abandoned, and is
            cancelled, above 0; None: never. A subscriber that does not read on makes a stream
            idle; `TrackedStream.pause` does not, since a pause has a limit of its own.
        max_pause: seconds after which a paused stream is cancelled, above 0.

    Raises:
        TypeError: an argument is not a number or not an integer.
        ValueError: a number is out of its range.

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
        self._lock = RLock()  # streams of several event loops may share it
        self._refusing = False
        self._shutdown: asyncio.Future[None] | None = None

    @property
    def active(self) -> list[TrackedStream]:
        """The streams that live (they run, or are paused), in the order of their beginnings."""
        return list(self._live.values())

    @property
    def refusing(self) -> bool:
        """True once a shutdown has begun: no new stream is taken."""
        return self._refusing

    def snapshot(self) -> list[StreamInfo]:
        """What is known of each stream now, in the order of their beginnings."""
        return [stream.info for stream in tuple(self._streams.values())]

    def cancel(self, stream_id: str) -> None:
        """Stop a stream: upstream is disposed, `End("cancelled")` and completion go down.

        A stream that has ended is left as it is.

        Raises:
            KeyError: there is none of this id.
        """
        self._streams[stream_id].cancel()

    def cancel_all(self) -> None:
        """Stop all streams that live, each as `cancel` does.

        All are stopped, also if a subscriber raises; the first such exception is raised then.
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
        """Refuse new streams, let those that live finish, and cancel what is left at the deadline.

        Returns once no stream lives and, within 5 s more, the sources that were stopped have
        cleaned up. A second call joins the first, whose deadline counts; `cancel_all` makes it
        short. It goes on if a caller of it is cancelled.

        Args:
            deadline: seconds, 0 or more.

        Raises:
            TypeError: `deadline` is not a number.
            ValueError: `deadline` is out of its range.
        """
        check_number(
            "deadline", deadline, "the seconds that live streams have to finish", minimum=0
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
        """An id that no stream has had. Called by `track`."""
        while True:
            stream_id = f"stream-{next(self._numbers)}"
            if stream_id not in self._streams:
                return stream_id

    def enter(self, stream: TrackedStream) -> None:
        """Take a stream that begins. Called by `track`.

        Raises:
            StreamStateError: a stream of this id lives, or a shutdown has begun.
        """
        with self._lock:
            if self._refusing:
                raise StreamStateError(
                    f"the registry is being shut down, and takes no stream {stream.id!r}"
                )
            if stream.id in self._live:
                raise StreamStateError(
                    f"there is a stream {stream.id!r}, and it is {self._live[stream.id].status}: "
                    "give this one another id, or cancel that"
                )
            earlier = self._streams.pop(stream.id, None)
            if earlier is not None:
                self._ended.remove(earlier)
            self._streams[stream.id] = self._live[stream.id] = stream

    def leave(self, stream: TrackedStream) -> None:
        """Take note that a stream has ended. Called by `track`."""
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
        return True  # so that `given or StreamRegistry()` does not replace an empty one


def _finish(shutdown: asyncio.Future[None]) -> None:
    if not shutdown.done():
        shutdown.set_result(None)
