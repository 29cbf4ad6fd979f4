"""Many clients, and one that never reads. `RXLLM_LOAD_SECONDS=30` gives it its full length."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from rxllm.chunks import End, Start, Token
from rxllm.server import Limits, create_app
from rxllm.server.app_keys import STREAMS
from rxllm.server.memory import MemoryStreams
from tests.benchmarks.load import RATE, load
from tests.server.serving import Stepwise, all_events, port_of, said, serving, until

SECONDS = float(os.environ.get("RXLLM_LOAD_SECONDS", "5"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(SECONDS * 5 + 60)
def test_500_clients_at_20_tokens_a_second_and_none_is_starved() -> None:
    seen = load(500, SECONDS)
    assert seen.completed == 500
    assert set(seen.tokens) == {int(RATE * SECONDS)}  # none lost, none repeated
    assert seen.longest_silence < 5.0  # on a machine that does other things as well
    assert seen.bytes_per_stream < 200 * 1024


async def test_a_client_that_never_reads_is_put_out_and_harms_no_other() -> None:
    text = "x" * 4000
    model = Stepwise(Start("r", "m"), *[Token(text)] * 2000, End("stop"))
    limits = Limits(reader_stall=0.3, reader_lag=50, stream_characters=10_000_000)
    app = create_app({"tiny": model}, limits=limits)
    streams = app[STREAMS]
    assert isinstance(streams, MemoryStreams)
    async with serving(app) as client:
        model.let(1)
        first = await client.get("/stream", params={"prompt": "Hi", "id": "mine"})
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(client))
        writer.write(b"GET /stream/mine HTTP/1.1\r\nHost: localhost\r\n\r\n")
        log = streams._find("mine").log
        await until(lambda: log.readers == 2)
        model.let(3000)
        assert said(await all_events(first)) == text * 2000
        await until(lambda: log.readers == 0)
        writer.transport.abort()
