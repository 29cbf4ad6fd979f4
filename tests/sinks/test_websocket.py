"""`websocket`: streams as messages of a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from socket import SHUT_RDWR
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from rxllm import End, RxLLMError, Token, sinks
from rxllm.errors import LaggedBehindError
from rxllm.models.scripted import ScriptedModel
from rxllm.sinks import DeliveryReport
from rxllm.testing import no_leaks
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed
from tests.sinks.web import Endless, Message, SilentReader, read_message, serving

Talk = Callable[[web.WebSocketResponse], Any]

UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def talking(talk: Talk, **options: Any) -> Any:
    """Run a server that calls `talk` with each socket and reads from it until it closes."""

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(**options)
        await socket.prepare(request)
        talking = asyncio.ensure_future(talk(socket))
        try:
            async for _ in socket:
                pass
        finally:
            await talking
        return socket

    return serving(handler)


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as session, session.ws_connect(url, **options) as socket:
        yield socket


async def read(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[Message]:
    return [read_message(await socket.receive_str()) for _ in range(count)]


async def test_each_chunk_is_a_message_and_the_socket_stays_open(source: Any) -> None:
    ends: list[DeliveryReport] = []

    async def talk(socket: web.WebSocketResponse) -> None:
        stream = source.stream(Token("Once"), Token(" upon"), End("stop"))
        ends.append(await sinks.websocket(socket, stream, "story"))
        await socket.send_str("still here")

    async with no_leaks(), talking(talk) as url, connected(url) as socket:
        messages = await read(socket, 4)
        assert await socket.receive_str() == "still here"
    assert [message.position for message in messages] == [1, 2, 3, 4]
    assert {message.id for message in messages} == {"story"}
    assert [m.chunk for m in messages if isinstance(m, StreamChunk)][1] == Token(" upon")
    assert isinstance(messages[-1], Complete)
    assert messages[-1].tokens == 2
    (delivered,) = ends
    assert (delivered.result.text, delivered.left, delivered.error) == ("Once upon", False, None)


async def test_an_error_is_the_last_message_of_its_stream(source: Any) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        delivered = await sinks.websocket(
            socket, source.stream(Token("so far"), RxLLMError("broken")), "s"
        )
        assert isinstance(delivered.error, RxLLMError)

    async with no_leaks(), talking(talk) as url, connected(url) as socket:
        _, last = await read(socket, 2)
    assert last == StreamFailed(
        code="failed", message="broken", id="s", partial="so far", position=2
    )


async def test_many_streams_share_a_socket_and_are_distinguished_by_id() -> None:
    model = ScriptedModel("one two three four", by="word", delay=0.002)

    async def talk(socket: web.WebSocketResponse) -> None:
        names = ("a", "b", "c")
        await asyncio.gather(*(sinks.websocket(socket, model.stream("x"), name) for name in names))

    async with no_leaks(), talking(talk) as url, connected(url) as socket:
        messages = await read(socket, 24)
    for name in ("a", "b", "c"):
        mine = [message for message in messages if message.id == name]
        assert [message.position for message in mine] == [*range(1, 9)]
        texts = [getattr(m.chunk, "text", "") for m in mine if isinstance(m, StreamChunk)]
        assert "".join(texts) == "one two three four"
    assert [message.id for message in messages[:3]] != ["a", "a", "a"], "they wait for each other"


@pytest.mark.parametrize("emitted", [[], [Token("a")]], ids=["before", "after"])
@pytest.mark.parametrize("way", ["closes", "vanishes"])
async def test_the_streams_of_a_client_end_when_it_disconnects(
    source: Any, emitted: list[Any], way: str
) -> None:
    ends: list[DeliveryReport] = []
    ended = asyncio.Event()

    async def talk(socket: web.WebSocketResponse) -> None:
        streams = (source.stream(*emitted, waits=True) for _ in range(2))
        ends.extend(
            await asyncio.gather(
                *(sinks.websocket(socket, stream, f"{n}") for n, stream in enumerate(streams))
            )
        )
        ended.set()

    async with no_leaks(), talking(talk) as url:
        async with connected(url) as socket:
            await source.emitted_all.wait()
            if way == "vanishes":
                socket.get_extra_info("socket").shutdown(SHUT_RDWR)
        await ended.wait()
        assert source.cleaned_up == source.subscriptions
    assert [delivered.left for delivered in ends] == [True, True]


async def test_a_slow_client_holds_all_its_streams() -> None:
    endless = [Endless("x" * 10_000), Endless("y" * 10_000)]

    async def talk(socket: web.WebSocketResponse) -> None:
        await asyncio.gather(
            *(sinks.websocket(socket, each.stream, f"{n}") for n, each in enumerate(endless))
        )

    async with no_leaks(), talking(talk) as url:
        client = await SilentReader.ask(url, UPGRADE)
        for each in endless:
            await each.held.wait()
        while not all(each.resumed.is_set() for each in endless):
            assert await client.reader.read(65536)
        await client.leave()
        for each in endless:
            await each.disposed.wait()


async def test_cancelling_a_stream_of_a_slow_client_does_not_affect_the_others() -> None:
    endless = [Endless("x" * 10_000), Endless("y" * 10_000)]
    tasks: list[asyncio.Future[DeliveryReport]] = []

    async def talk(socket: web.WebSocketResponse) -> None:
        for n, each in enumerate(endless):
            tasks.append(asyncio.ensure_future(sinks.websocket(socket, each.stream, f"{n}")))
        await asyncio.wait(tasks)

    async with no_leaks(), talking(talk) as url:
        client = await SilentReader.ask(url, UPGRADE)
        for each in endless:
            await each.held.wait()
        tasks[0].cancel()
        await endless[0].disposed.wait()
        while not endless[1].resumed.is_set():
            assert await client.reader.read(65536)
        assert not endless[1].disposed.is_set()
        await client.leave()
        assert (await tasks[1]).left
    assert tasks[0].cancelled()


async def test_a_client_that_stalls_for_too_long_is_disconnected() -> None:
    endless, ends = Endless("x" * 10_000), []

    async def talk(socket: web.WebSocketResponse) -> None:
        ends.append(await sinks.websocket(socket, endless.stream, "s", max_stall=0.05))

    async with no_leaks(), talking(talk) as url:
        client = await SilentReader.ask(url, UPGRADE)
        await endless.disposed.wait()
        await client.leave()
    assert isinstance(ends[0].error, LaggedBehindError)
    assert ends[0].left


async def test_cancelling_stops_the_stream_and_leaves_the_socket_open(source: Any) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        stream = source.stream(Token("a"), waits=True)
        task = asyncio.ensure_future(sinks.websocket(socket, stream, "s"))
        await source.emitted_all.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert source.cleaned_up == 1
        await socket.send_str("still here")

    async with no_leaks(), talking(talk) as url, connected(url) as socket:
        assert "still here" in [await socket.receive_str(), await socket.receive_str()]


async def test_with_a_closed_socket_nothing_is_sent_and_no_model_is_asked(source: Any) -> None:
    ends: list[DeliveryReport] = []

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.close()
        ends.append(await sinks.websocket(socket, source.stream(Token("a")), "s"))

    async with no_leaks(), talking(talk) as url, connected(url) as socket:
        await socket.receive()
    assert ends[0].left
    assert source.subscriptions == 0


async def test_messages_are_correct_with_compression(source: Any) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await sinks.websocket(socket, source.stream(Token("x" * 50_000), End("stop")), "s")

    async with no_leaks(), talking(talk) as url, connected(url, compress=15) as socket:
        first, *_ = await read(socket, 3)
    assert isinstance(first, StreamChunk)
    assert first.chunk == Token("x" * 50_000)


async def test_invalid_arguments_are_rejected_before_anything_is_sent(source: Any) -> None:
    stream = source.stream(Token("a"))
    socket = web.WebSocketResponse()
    with pytest.raises(TypeError, match=r"takes a web\.WebSocketResponse, got Stream"):
        await sinks.websocket(stream, socket, "s")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not prepared"):
        await sinks.websocket(socket, stream, "s")

    async def talk(socket: web.WebSocketResponse) -> None:
        with pytest.raises(TypeError, match="websocket takes a stream"):
            await sinks.websocket(socket, "a prompt", "s")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="first_position"):
            await sinks.websocket(socket, stream, "s", first_position=0)
        with pytest.raises(ValueError, match="max_stall"):
            await sinks.websocket(socket, stream, "s", max_stall=0)
        await socket.send_str("refused")

    async with talking(talk) as url, connected(url) as client:
        assert await client.receive_str() == "refused"
    assert source.subscriptions == 0
