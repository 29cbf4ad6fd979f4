"""A process that asks for an answer and keeps its process alive: python -m ... URL."""

from __future__ import annotations

import asyncio
import sys

from rxllm import operators as ops
from rxllm.models.scripted import ScriptedModel
from rxllm.redis import RedisCache


async def ask(url: str) -> None:
    store = RedisCache(url, "x", lease=1.0)
    await ScriptedModel(["never"], delay=60).stream("Hi").pipe(ops.cache(store, "key"))


if __name__ == "__main__":
    asyncio.run(ask(sys.argv[1]))
