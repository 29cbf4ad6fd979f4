"""Hold a response open while the store that it would be read from can't be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxllm.errors import RxLLMError, StoreUnavailableError
from rxllm.stream import Stream
from rxllm.web.failures import failure_message
from rxllm.web.stream_store import Frame

__all__ = ["held_open"]

_RETRY: Final = 0.5  # seconds


def held_open(
    find: Callable[[], Awaitable[Observable[Frame]]],
    stream_id: str,
    after: int,
    seconds: float,
) -> Stream[Frame]:
    """Return the frames that `find` returns, once the store can be reached again.

    An `EventSource` that gets a 503 never comes back; this is what is sent instead, with the pings
    of the response.

    - Completion: as that of the frames.
    - Error: a `StoreUnavailableError` after `seconds`, which cuts the connection, so that the
      client comes back; any other one becomes an `error` event.
    - Disposal: ends the waiting, or the reading.
    - Demand: passes through.

    Args:
        find: returns the frames.
        stream_id: of the stream.
        after: the position of the client.
        seconds: how long to wait.
    """

    def subscribe(
        observer: abc.ObserverBase[Frame], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        reading = SingleAssignmentDisposable()

        async def wait() -> None:
            try:
                frames = await _find(find, seconds)
            except StoreUnavailableError as error:
                observer.on_error(error)
            except RxLLMError as error:
                observer.on_next(Frame(after, failure_message(error, stream_id)))
                observer.on_completed()
            else:
                reading.disposable = frames.subscribe(observer, scheduler=scheduler)

        task = asyncio.get_running_loop().create_task(wait(), name="rxllm held open")

        def cancel() -> None:
            task.cancel()

        return CompositeDisposable(Disposable(cancel), reading)

    return Stream(subscribe, f"events of {stream_id}, once they can be read", of_chunks=False)


async def _find(
    find: Callable[[], Awaitable[Observable[Frame]]], seconds: float
) -> Observable[Frame]:
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while True:
        try:
            return await find()
        except StoreUnavailableError:
            if loop.time() >= ends:
                raise
        await asyncio.sleep(_RETRY)
