"""A process that runs streams in the slots of a pool, and looks how many run in all processes.

python -m tests.redis.pool_worker URL PROCESS SECONDS STREAMS prints how many streams have run, and
how often more than 4 ran at once.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator

import redis.asyncio

from rxllm import from_async
from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Start
from rxllm.redis import RedisPool

LIMIT = 4
LEASE = 1.0
BEGIN = "redis.call('HINCRBY', 'live', ARGV[1], 1) local n = 0 " + (
    "for _, each in ipairs(redis.call('HVALS', 'live')) do n = n + each end return n"
)


async def work(url: str, process: str, seconds: float, streams: int) -> None:
    client = redis.asyncio.Redis.from_url(url)
    pool = RedisPool(url, "shared", LIMIT, lease=LEASE)
    done = over = 0

    async def source() -> AsyncIterator[Chunk]:
        nonlocal over
        over += await client.eval(BEGIN, 0, process) > LIMIT
        try:
            yield Start("r", "m")
            await asyncio.sleep(random.uniform(0.005, 0.02))
            yield End("stop")
        finally:
            await client.hincrby("live", process, -1)

    async def ask_again() -> None:
        nonlocal done
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await from_async(source).pipe(ops.limit_concurrency(pool))
            done += 1

    await asyncio.gather(*[ask_again() for _ in range(streams)])
    print(done, over)
    await pool.close()
    await client.aclose()


if __name__ == "__main__":
    _, url, process, seconds, streams = sys.argv
    asyncio.run(work(url, process, float(seconds), int(streams)))
