"""Limit concurrent streams, list and cancel them, and shut down gracefully."""

import asyncio

import rxllm
from rxllm import operators as ops
from rxllm.models.scripted import ScriptedModel
from rxllm.settings import Settings

settings = Settings(local_streams=3, shutdown=3.0)
model = ScriptedModel(" word" * 10, by="word", delay=0.01)
endless = ScriptedModel(" and on" * 1000, by="word", delay=0.01)

pool = ops.Pool(**settings.local_pool)
registry = ops.StreamRegistry(max_pause=settings.max_pause)


async def read(name: str, asked: ScriptedModel) -> None:
    stream = asked.stream("Hi").pipe(ops.limit_concurrency(pool), ops.track(registry, name))
    await stream


async def main() -> None:
    result = await ops.parallel(["a", "b", "c", "d"], model, pool)
    print(f"4 prompts on {pool.limit} slots: {sum(map(len, result.texts.values()))} characters")

    reading = [asyncio.create_task(read(f"short {number}", model)) for number in (1, 2)]
    reading += [asyncio.create_task(read(f"endless {number}", endless)) for number in (1, 2)]
    await asyncio.sleep(0.05)
    print(pool)
    registry.cancel("endless 2")
    await registry.shutdown(settings.shutdown)
    for stream in registry.snapshot():
        print(f"{stream.id}: {stream.status}")
    await asyncio.gather(*reading)
    print(pool)


rxllm.run(main())
