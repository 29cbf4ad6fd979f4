"""A replica takes the place of Redis: no stream loses or repeats anything."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.sentinel import Sentinel

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Batch, Notice, Token
from rxllm.errors import StoreUnavailableError
from rxllm.models.scripted import ScriptedModel
from rxllm.redis import RedisClaims, RedisConnections, RedisStreams
from rxllm.server import Limits
from rxllm.testing import no_leaks
from rxllm.web.stream_messages import StreamChunk
from tests.redis.sentinels import Sentinels

NUMBERS = [f"{number} " for number in range(110)]
SECONDS = 0.05


@pytest.mark.parametrize("fault", ["killed", "hangs"])
async def test_streams_go_on_when_a_replica_takes_over(tmp_path: Path, fault: str) -> None:
    """The first Sentinel fails with the master, as on one machine."""
    with Sentinels(tmp_path) as sentinels:
        async with (
            no_leaks(),
            RedisConnections(sentinels.client()) as first,
            RedisConnections(sentinels.client()) as second,
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
                    sentinels.fail(fault)
            await other.close()
            await own.close()
    assert text == "".join(NUMBERS)


def test_a_client_of_a_sentinel_serves_many_event_loops(tmp_path: Path) -> None:
    with Sentinels(tmp_path) as sentinels:
        claims = RedisClaims(sentinels.client(), "x")
        assert asyncio.run(claims("t"))
        assert not asyncio.run(claims("t"))


def test_a_replica_is_refused() -> None:
    sentinel: Any = Sentinel([("127.0.0.1", 1)])  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match=r"use Sentinel\.master_for"):
        RedisConnections(sentinel.slave_for("mine"))


async def test_no_sentinel_answers() -> None:
    sentinel: Any = Sentinel([("127.0.0.1", 1)] * 3)  # type: ignore[no-untyped-call]
    async with RedisConnections(sentinel.master_for("mine")) as connections, no_leaks():
        with pytest.raises(StoreUnavailableError, match="Redis can't be reached"):
            await RedisClaims(connections, "x")("t")
