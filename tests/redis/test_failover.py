"""A replica takes the place of Redis: no stream loses or repeats anything."""

from __future__ import annotations

from pathlib import Path

import pytest

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Batch, Notice, Token
from rxllm.models.scripted import ScriptedModel
from rxllm.redis import RedisStreams
from rxllm.server import Limits
from rxllm.testing import no_leaks
from rxllm.web.stream_messages import StreamChunk
from tests.redis.sentinels import Sentinels

NUMBERS = [f"{number} " for number in range(110)]
SECONDS = 0.05


@pytest.mark.parametrize("fault", ["killed", "hangs"])
async def test_streams_go_on_when_a_replica_takes_over(tmp_path: Path, fault: str) -> None:
    with Sentinels(tmp_path) as sentinels:
        async with (
            no_leaks(),
            sentinels.connections() as first,
            sentinels.connections() as second,
        ):
            registry = ops.StreamRegistry(max_idle=None)
            own = RedisStreams(first, registry, Limits())
            other = RedisStreams(second, ops.StreamRegistry(max_idle=None), Limits())
            await own.start()
            await other.start()
            story = ScriptedModel(NUMBERS, delay=SECONDS).stream("Count")
            await own.begin(lambda: story.pipe(ops.track(registry, "s")), "s")
            text, is_up = "", True
            async for frame in rxllm.to_async(await other.read("s")):
                chunk = frame.message.chunk if isinstance(frame.message, StreamChunk) else None
                assert not isinstance(chunk, Notice)
                if isinstance(chunk, Token | Batch):
                    text += chunk.text
                if is_up and NUMBERS[20] in text:
                    is_up = False
                    sentinels.master.stop() if fault == "killed" else sentinels.master.hang()
            await other.close()
            await own.close()
    assert text == "".join(NUMBERS)
