"""Many callback streams, by id, in one scope."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

from rxllm.chunks import Status
from rxllm.errors import StreamStateError
from rxllm.sinks._callback_stream import CallbackStream

__all__ = ["Streams"]


class Streams(Mapping[str, CallbackStream]):
    """Callback streams by id, stopped when their scope is left.

    A stream stays in here after its end, to be looked up, until it is removed. Leaving the scope,
    also by an exception, stops the streams that run, waits for their clean-up, and keeps them all.
    It raises none of their errors: those go to `on_error`, to whoever awaits the stream, or else to
    the loop's exception handler. One that was never started stays as it is.

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
        """Take `stream` in, and return it; it is not started.

        Raises:
            StreamStateError: the id is taken, or the scope was left.
            TypeError: `stream` was not made by `callbacks`.
        """
        if not isinstance(stream, CallbackStream):
            raise TypeError(
                f"a stream in here is made by sinks.callbacks(...), not {type(stream).__name__}"
            )
        if self._left:
            raise StreamStateError("the scope of these streams was left: make new Streams")
        if stream_id in self._streams:
            raise StreamStateError(f"there is a stream {stream_id!r} already: remove it first")
        self._streams[stream_id] = stream
        return stream

    def remove(self, stream_id: str) -> CallbackStream:
        """Forget a stream that does not run, and return it.

        Raises:
            KeyError: there is none of this id.
            StreamStateError: it runs.
        """
        status = self._streams[stream_id].status
        if status in ("running", "paused"):
            raise StreamStateError(f"the stream {stream_id!r} is {status}: stop it first")
        return self._streams.pop(stream_id)

    def states(self) -> dict[str, Status]:
        """The status of each stream, by id, in the order in which they were added."""
        return {stream_id: stream.status for stream_id, stream in self._streams.items()}

    def stop(self) -> None:
        """Stop all that run, at once."""
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
