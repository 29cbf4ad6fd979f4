"""An operator's exception becomes an error event for the client at once, without a retry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from reactivex import Observable, abc

from rxllm import operators as ops
from rxllm import sinks
from rxllm.chunks import Chunk, Token
from rxllm.models.scripted import ScriptedModel
from rxllm.sinks import DeliveryReport
from rxllm.stream import Stream
from rxllm.testing import no_leaks
from rxllm.web.stream_messages import StreamFailed
from tests.sinks.web import read_message, serving


class BugError(Exception):
    """A bug in an operator."""


def buggy(at: str) -> Callable[[Observable[Any]], Observable[Any]]:
    """A user's hand-written operator that raises at a given text."""

    def operator(source: Observable[Any]) -> Observable[Any]:
        def subscribe(
            observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(chunk: Any) -> None:
                if isinstance(chunk, Token) and chunk.text == at:
                    raise BugError("a mistake")
                observer.on_next(chunk)

            return source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Observable(subscribe)

    return operator


def streams(at: str, delay: float) -> tuple[ScriptedModel, Stream[Chunk]]:
    model = ScriptedModel(["a", "b", "c"], delay=delay)
    return model, model.stream("Hi").pipe(buggy(at), ops.retry_with_backoff(3, initial=0.001))


@pytest.mark.parametrize("sink", [sinks.sse, sinks.ndjson])
@pytest.mark.parametrize("delay", [0.0, 0.001])
@pytest.mark.parametrize("at", ["a", "c"])
async def test_over_http(sink: Any, at: str, delay: float) -> None:
    model, stream = streams(at, delay)
    ends: list[DeliveryReport] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response: web.StreamResponse = await sink(request, stream, on_end=ends.append)
        return response

    async with (
        no_leaks(),
        serving(handler) as url,
        aiohttp.ClientSession() as session,
        session.get(url) as response,
    ):
        body = await asyncio.wait_for(response.text(), 10)
    failed = read_message(body.rstrip().splitlines()[-1].removeprefix("data: "))
    assert isinstance(failed, StreamFailed)
    assert (failed.code, failed.retryable) == ("internal", False)
    assert failed.partial == ("ab" if at == "c" else None)
    assert isinstance(ends[0].error, BugError)
    assert (len(model.requests), model.active) == (1, 0)


@pytest.mark.parametrize("at", ["a", "c"])
async def test_over_a_websocket(at: str) -> None:
    model, stream = streams(at, 0.001)
    ends: list[DeliveryReport] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await sinks.websocket(socket, stream, "story", on_end=ends.append)
        await socket.close()
        return socket

    async with (
        no_leaks(),
        serving(handler) as url,
        aiohttp.ClientSession() as session,
        session.ws_connect(url) as socket,
    ):
        messages = [read_message(message.data) async for message in socket]
    assert isinstance(messages[-1], StreamFailed)
    assert isinstance(ends[0].error, BugError)
    assert (len(model.requests), model.active) == (1, 0)
