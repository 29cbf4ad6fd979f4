"""The bridge and the operators: CPU time a token, beside a bare loop and beside RxPY's own."""

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


def in_one_go(*operators: object) -> float:
    """RxPY's trampoline, no event loop: the cost of the operators alone."""
    stream = rx.from_iterable(_chunks).pipe(*operators)  # type: ignore[call-overload]

    def work() -> None:
        async def main() -> None:
            stream.subscribe(scheduler=rxllm.StreamScheduler(asyncio.get_running_loop()))
            await asyncio.sleep(0)

        asyncio.run(main())

    return cost_of(work, TOKENS)


def benchmarks() -> Iterator[Result]:
    yield compare(
        "pump to a collecting sink, a token at a time",
        lambda: collected(rxllm.from_async(tokens)),
        bare_loop,
        unit="us a token",
        limit=8,
        kind="at most",
    )
    yield compare(
        "the same, 8 tokens a read",
        lambda: collected(rxllm.from_async(reads, batched=True)),
        bare_loop,
        unit="us a token",
        limit=8,
        kind="at most",
    )
    yield compare(
        "RxPY's buffer_with_time_or_count beside batch(10, 0.1)",
        lambda: in_one_go(rx_ops.buffer_with_time_or_count(0.1, 10)) - in_one_go(),
        lambda: max(in_one_go(ops.batch(10, 0.1)) - in_one_go(), 0.01),
        unit="us a token",
        limit=10,
        kind="at least",
    )
