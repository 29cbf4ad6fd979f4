"""An agent: CPU time per token of a step, beyond that of the bare stream, against its budget."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import rxllm
from rxllm import Token
from rxllm.chunks import Chunk, End, Start
from rxllm.requests import ModelInfo
from rxllm.stream import Stream
from tests.benchmarks.side_by_side import Result, compare, cost_of

TOKENS = 50_000
BUDGET = 0.3  # microseconds per token
_chunks: list[Chunk] = [
    Start("1", "model"),
    *(Token(f"word{number % 97} ") for number in range(TOKENS)),
    End("stop"),
]


class AtOnce:
    """A model that pushes its tokens in a loop, so that they cost next to nothing."""

    info = ModelInfo("at once", "benchmark")

    def stream(self, prompt: object, **options: object) -> Stream[Chunk]:
        def subscribe(observer: Any, scheduler: Any = None) -> Any:
            for chunk in _chunks:
                observer.on_next(chunk)
            observer.on_completed()
            return lambda: None

        return Stream(subscribe, "at once", of_chunks=True)


def look() -> str:
    """Look around."""
    return "there"


def cost_through(model: rxllm.Model) -> float:
    def work() -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            model.stream("Hi").subscribe(scheduler=rxllm.StreamScheduler(loop))

        asyncio.run(main())

    return cost_of(work, TOKENS)


def benchmarks() -> Iterator[Result]:
    model = AtOnce()
    agent = rxllm.Agent(model, [look])
    yield compare(
        "a step of an agent, beyond the bare stream",
        lambda: cost_through(agent) - cost_through(model),
        lambda: BUDGET,
        unit="us per token",
        limit=1,
        kind="at most",
    )
