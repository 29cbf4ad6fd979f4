"""The queue of a server: as many remote streams as it permits, fair among clients, and visible."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rxllm.chunks import Progress
from rxllm.server import Limits, create_app
from rxllm.server.app_keys import SETTINGS
from rxllm.server.messages import StreamChunk
from rxllm.settings import Settings
from tests.server.serving import Stepwise, all_events, events, serving, until


@pytest.mark.parametrize(("limits", "expected"), [(None, 1000), (Limits(streams=40), 40)])
def test_by_default_as_many_remote_streams_run_as_the_server_permits(
    limits: Limits | None, expected: int
) -> None:
    app = create_app({"tiny": Stepwise()}, limits=limits)
    assert app[SETTINGS].remote_streams == expected


async def test_a_client_sees_its_place_and_another_client_is_not_held_up() -> None:
    model = Stepwise()
    app = create_app({"tiny": model}, settings=Settings(remote_streams=1), proxies=["127.0.0.1"])
    async with serving(app) as client:

        async def begin(address: str) -> Any:
            return await client.get("/stream?prompt=Hi", headers={"X-Forwarded-For": address})

        async def samples(name: str) -> list[Any]:
            async with client.get("/metrics") as response:
                families = text_string_to_metric_families(await response.text())
            return next(each.samples for each in families if each.name == name)

        model.let(1)
        first = await begin("1.1.1.1")
        await until(lambda: model.active == 1)
        second = await begin("1.1.1.1")
        third = await begin("2.2.2.2")
        places = []
        for response in (second, third):
            async for event in events(response):
                assert isinstance(event.message, StreamChunk)
                assert isinstance(event.message.chunk, Progress)
                places.append((event.message.chunk.stage, event.message.chunk.place))
                break
        assert places == [("queue", 1), ("queue", 1)]  # the third has overtaken the second
        waiting = {
            each.labels["pool"]: each.value for each in await samples("rxllm_waiting_streams")
        }
        assert waiting == {"local": 0, "remote": 2}
        model.let(1000)
        ends = await asyncio.gather(*map(all_events, (first, second, third)))
        began = [got[-1].message for got in ends]
        assert [each.tokens for each in began] == [6, 6, 6]  # type: ignore[union-attr]
        counts = {
            each.labels["pool"]: each.value
            for each in await samples("rxllm_queue_seconds")
            if each.name.endswith("_count")
        }
        assert counts == {"local": 0, "remote": 3}
