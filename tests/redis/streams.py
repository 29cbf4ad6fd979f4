"""Streams and waits for these tests, which run in real time against a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from rxllm import from_async
from rxllm.chunks import Chunk, End, Start, Token
from rxllm.stream import Stream

__all__ = ["Gate", "eventually", "start"]


class Gate:
    """A source that says "a" and ends once it is opened.

    Attributes:
        running: how many subscriptions have begun and not ended.
        begun: how many have begun.
        order: the names of those that have begun.
    """

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.running = 0
        self.begun = 0
        self.order: list[Any] = []

    def stream(self, name: Any = None) -> Stream[Chunk]:
        async def chunks() -> AsyncIterator[Chunk]:
            self.running += 1
            self.begun += 1
            self.order.append(name)
            try:
                yield Start("r", "m")
                yield Token("a")
                await self.opened.wait()
                yield End("stop")
            finally:
                self.running -= 1

        return from_async(chunks)


async def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Return once `condition` is true, which happens in another process or in Redis."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not become true"
        await asyncio.sleep(0.005)


def start(stream: Stream[Any], *operators: Any) -> asyncio.Task[Any]:
    """Ask in a task, whose result is that of the stream."""

    async def ask() -> Any:
        return await stream.pipe(*operators)

    return asyncio.create_task(ask())
