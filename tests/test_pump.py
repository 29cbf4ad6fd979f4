"""Which pumps count as stopping, and so are awaited by `run` and by a shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from rxllm import from_async
from rxllm.pump import stopping_pumps


class Source:
    """Waits forever; its clean-up waits until it may end."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def __call__(self) -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            await self.may_end.wait()


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_stopping_pumps_are_the_disposed_ones_that_still_clean_up() -> None:
    async def begin(source: Source, *, stop: bool) -> None:
        before = asyncio.all_tasks()
        subscription = from_async(source).subscribe()
        (task,) = asyncio.all_tasks() - before
        tasks.append(task)
        await turns()
        if stop:
            subscription.dispose()
            await turns()

    async def end(*sources: Source) -> None:
        for source in sources:
            source.may_end.set()
        await turns()

    tasks: list[asyncio.Task[object]] = []
    live, stopping, elsewhere = Source(), Source(), Source()
    with asyncio.Runner() as here, asyncio.Runner() as there:
        loop, other = here.get_loop(), there.get_loop()
        here.run(begin(live, stop=False))
        assert stopping_pumps(loop) == set()
        here.run(begin(stopping, stop=True))
        there.run(begin(elsewhere, stop=True))
        assert stopping_pumps(loop) == {tasks[1]}
        assert stopping_pumps(other) == {tasks[2]}
        here.run(end(stopping))
        assert stopping_pumps(loop) == set()
        assert stopping_pumps(other) == {tasks[2]}
        there.run(end(elsewhere))
        live.may_end.set()
