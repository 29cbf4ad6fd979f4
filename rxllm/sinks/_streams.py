"""Several callback streams, by id, in one scope."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

from rxllm.chunks import Status
from rxllm.errors import StreamStateError
from rxllm.sinks._callback_stream import CallbackStream

__all__ = ["Streams"]


class Streams(Mapping[str, CallbackStream]):
    """Callback streams by id, stopped when the `async with` block is left.

    A stream stays in the mapping after its end, until it is removed. Leaving the block, also by an
    exception, stops the running streams and waits for their clean-up; all streams stay in the
    mapping. It raises none of their errors: those go to `on_error`, to the code that awaits the
    stream, or else to the loop's exception handler. A stream that was never started is left alone.

    >>> from rxllm import run
    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.sinks import callbacks
    >>> async def main():
    ...     async with Streams() as streams:
    ...         story = callbacks(ScriptedModel("Once upon a time").stream("Tell me a story"))
    ...         streams.add("story", story).start()
    ...         await streams["story"]
    ...     return streams.states()
    >>> run(main())
    {'story': 'completed'}
    """

    def __init__(self) -> None:
        self._streams: dict[str, CallbackStream] = {}
        self._left = False

    def add(self, stream_id: str, stream: CallbackStream) -> CallbackStream:
        """Add `stream` without starting it, and return it.

        Raises:
            StreamStateError: the id is taken, or the block has been left.
            TypeError: `stream` was not made by `callbacks`.
        """
        if not isinstance(stream, CallbackStream):
            raise TypeError(
                f"Streams holds streams made by sinks.callbacks(...), got {type(stream).__name__}"
            )
        if self._left:
            raise StreamStateError("the block of these Streams has been left: make new Streams")
        if stream_id in self._streams:
            raise StreamStateError(f"there is already a stream {stream_id!r}: remove it first")
        self._streams[stream_id] = stream
        return stream

    def remove(self, stream_id: str) -> CallbackStream:
        """Remove a stream that isn't running, and return it.

        Raises:
            KeyError: there is no stream of this id.
            StreamStateError: the stream is running or paused.
        """
        status = self._streams[stream_id].status
        if status in ("running", "paused"):
            raise StreamStateError(f"the stream {stream_id!r} is {status}: stop it first")
        return self._streams.pop(stream_id)

    def states(self) -> dict[str, Status]:
        """Return the status of each stream by id, in the order in which they were added."""
        return {stream_id: stream.status for stream_id, stream in self._streams.items()}

    def stop(self) -> None:
        """Stop all running streams at once."""
        for stream in self._streams.values():
            if stream.status != "ready":
                stream.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._left = True
        self.stop()
        for stream in self._streams.values():
            await stream.wait()

    def __getitem__(self, stream_id: str) -> CallbackStream:
        return self._streams[stream_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._streams)

    def __len__(self) -> int:
        return len(self._streams)
