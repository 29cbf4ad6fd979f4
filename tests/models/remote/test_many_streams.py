"""Ten thousand consecutive streams leak no memory, tasks or sockets."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import rxllm
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import openai_events

STREAMS = 10_000
OPEN_FILES = Path("/proc/self/fd")


def census(server: FaultServer) -> dict[str, int]:
    server.requests.clear()
    gc.collect()
    return {
        "tasks": len(asyncio.all_tasks()),
        "files": len(list(OPEN_FILES.iterdir())),
        "connections": server.connections,
    }


@pytest.mark.slow
@pytest.mark.skipif(not OPEN_FILES.exists(), reason="counting open files requires Linux's /proc")
async def test_consecutive_streams_leak_nothing(model_on: Callable[..., rxllm.Model]) -> None:
    body = b"".join(openai_events("Hello", " world"))
    async with FaultServer(Reply([body])) as server:
        model = model_on(server)

        async def listen(count: int) -> None:
            for _ in range(count):
                result = await rxllm.sinks.collect(model.stream("Hi"))
                assert result.text == "Hello world"

        await listen(100)
        before, objects, blocks = census(server), len(gc.get_objects()), sys.getallocatedblocks()
        await listen(STREAMS)
        assert census(server) == before
        assert len(gc.get_objects()) - objects < STREAMS / 10
        assert sys.getallocatedblocks() - blocks < STREAMS / 2
