"""The bridge and batches: CPU time per token, compared with a bare loop and with RxPY."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import reactivex as rx
from reactivex import Observable
from reactivex import operators as rx_ops

import rxllm
from rxllm import Token
from rxllm import operators as ops
from rxllm.chunks import Chunk, End
from tests.benchmarks.side_by_side import Result, compare, cost_of

TOKENS = 50_000
_chunks: list[Chunk] = [*(Token(f"word{number % 97} ") for number in range(TOKENS)), End("stop")]


async def tokens() -> AsyncIterator[Chunk]:
    for chunk in _chunks:
        yield chunk


async def reads() -> AsyncIterator[list[Chunk]]:
    for start in range(0, len(_chunks), 8):
        yield _chunks[start : start + 8]


def bare_loop() -> float:
    async def main() -> str:
        texts = [chunk.text async for chunk in tokens() if isinstance(chunk, Token)]
        return "".join(texts)

    return cost_of(lambda: asyncio.run(main()), TOKENS)


def collected(stream: Observable[Chunk]) -> float:
    return cost_of(lambda: rxllm.run(rxllm.sinks.collect(stream)), TOKENS)


def operators_alone(*operators: object) -> float:
    """Return the cost of the operators alone, on RxPY's trampoline without an event loop."""
    stream = rx.from_iterable(_chunks).pipe(*operators)  # type: ignore[call-overload]

    def work() -> None:
        async def main() -> None:
            stream.subscribe(scheduler=rxllm.StreamScheduler(asyncio.get_running_loop()))
            await asyncio.sleep(0)

        asyncio.run(main())

    return cost_of(work, TOKENS)


def benchmarks() -> Iterator[Result]:
    yield compare(
        "pump to a collecting sink, one token per read",
        lambda: collected(rxllm.from_async(tokens)),
        bare_loop,
        unit="us per token",
        limit=8,
        kind="at most",
    )
    yield compare(
        "the same, 8 tokens per read",
        lambda: collected(rxllm.from_async(reads, batched=True)),
        bare_loop,
        unit="us per token",
        limit=8,
        kind="at most",
    )
    yield compare(
        "RxPY's buffer_with_time_or_count vs batch(10, 0.1)",
        lambda: operators_alone(rx_ops.buffer_with_time_or_count(0.1, 10)) - operators_alone(),
        lambda: max(operators_alone(ops.batch(10, 0.1)) - operators_alone(), 0.01),
        unit="us per token",
        limit=10,
        kind="at least",
    )
