"""Rechunk, buffer, and slow a stream down in five ways.

A model may be faster than its reader, and may send in bursts. Each line of the output shows the
same text at a different pace. The buffer never holds more than its capacity, however fast the model
is.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import rxllm
from rxllm import Token, to_async
from rxllm import operators as ops

PROMPT = "Tell me a story about a gardener"


async def show(name: str, *shaping: Callable[[Any], Any]) -> None:
    stream = rxllm.model("tiny").stream(PROMPT, max_tokens=12, temperature=0)
    begun = time.monotonic()
    chunks = [chunk async for chunk in stream.pipe(*shaping)]
    pieces = [chunk.text for chunk in chunks if isinstance(chunk, Token)]
    print(f"{name}: {len(pieces)} pieces in {time.monotonic() - begun:.1f} s: {pieces[:3]}")


async def through_a_buffer() -> None:
    """A slow reader: the model runs ahead until the buffer is full, then waits."""
    status = ops.BufferStatus()
    chunks = most = 0
    stream = rxllm.model("tiny").stream(PROMPT, max_tokens=60, temperature=0)
    async for _ in to_async(stream.pipe(ops.buffered(8, status=status)), capacity=1):
        await asyncio.sleep(0.01)
        chunks, most = chunks + 1, max(most, status.queued)
    print(f"buffered: at most {most} waited of {chunks} chunks, in a buffer of 8")


async def main() -> None:
    await show("as it comes")
    await show("rechunk", ops.rechunk("small"))
    await show("rechunk, adaptive", ops.rechunk("adaptive"))
    await show("rate_limit", ops.rate_limit(per_second=40, burst=4))
    await show("typewriter", ops.typewriter(characters_per_second=200))
    await show("smooth by word", ops.smooth(by="word", seconds=0.02))
    await show("pace", ops.pace(gap=0.015, window=10))
    await show("throttle", ops.throttle(0.1))
    await through_a_buffer()


rxllm.run(main())
