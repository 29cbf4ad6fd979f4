"""Run streams on an event loop with virtual time, and record timed events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from reactivex import Observable

from rxllm.testing import COMPLETED, no_leaks, run_virtual
from rxllm.valve import StreamScheduler, Valve


class Subscriber:
    """One subscription, made on creation: (time, chunk), (time, `COMPLETED`), (time, error)."""

    def __init__(self, stream: Observable[Any]) -> None:
        loop = asyncio.get_running_loop()
        self.events: list[tuple[float, Any]] = []
        self.valve = Valve()
        self.scheduler = StreamScheduler(loop, self.valve)
        self.ended = asyncio.Event()

        def record(event: object) -> None:
            self.events.append((loop.time(), event))

        def end(event: object = COMPLETED) -> None:
            record(event)
            self.ended.set()

        self.subscription = stream.subscribe(record, end, end, scheduler=self.scheduler)

    async def leave(self) -> None:
        """Dispose, and wait for the clean-up, as a sink does."""
        self.subscription.dispose()
        await self.scheduler.settle()


def run(
    stream: Observable[Any], *actions: tuple[float, Callable[[Subscriber], object]]
) -> list[tuple[float, Any]]:
    """Return all events of `stream` until it ends, running each of `actions` at its time.

    Nothing may leak, and no callback may be left on the subscriber's valve.
    """

    async def main() -> list[tuple[float, Any]]:
        async with no_leaks():
            subscriber = Subscriber(stream)
            loop = asyncio.get_running_loop()
            for time, action in actions:
                loop.call_at(time, action, subscriber)
            await subscriber.ended.wait()
            await subscriber.leave()
            assert subscriber.valve._callbacks == {}
            return subscriber.events

    return run_virtual(main())
