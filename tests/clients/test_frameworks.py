"""Streams in the responses of other frameworks, as the recipes of the README have them."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import pytest
import uvicorn

from rxllm import Token, sinks
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import no_leaks
from rxllm.web import events
from tests.server.serving import STORY, Stepwise, all_events, said, take, until


def starlette(model: Any, wire: Any) -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    async def answer(request: Request) -> Response:
        body = events(model.stream("Hi"), wire)
        return StreamingResponse(body, headers=body.headers)

    return Starlette(routes=[Route("/", answer)])


def fastapi(model: Any, wire: Any) -> Any:
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse

    app = FastAPI()

    @app.get("/")
    async def answer(prompt: str = "Hi") -> StreamingResponse:
        body = events(model.stream(prompt), wire)
        return StreamingResponse(body, headers=body.headers)

    return app


def quart(model: Any, wire: Any) -> Any:
    from quart import Quart, Response

    app = Quart(__name__)

    @app.get("/")
    async def answer() -> Response:
        body = events(model.stream("Hi"), wire)
        response = Response(aiter(body), headers=body.headers)
        response.timeout = None
        return response

    return app


def django(model: Any, wire: Any) -> Any:
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpRequest, StreamingHttpResponse
    from django.urls import path

    async def answer(request: HttpRequest) -> StreamingHttpResponse:
        body = events(model.stream("Hi"), wire)
        return StreamingHttpResponse(body, headers=body.headers)

    class Urls:
        urlpatterns = [path("", answer)]  # noqa: RUF012 - Django's name

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=Urls, SECRET_KEY="x")
    settings.ROOT_URLCONF = Urls
    from django.urls import clear_url_caches, set_urlconf

    clear_url_caches()
    set_urlconf(None)
    return get_asgi_application()


def asgi(model: Any, wire: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await sinks.asgi(scope, receive, send, model.stream("Hi"), wire=wire)

    return app


APPS = {"starlette": starlette, "fastapi": fastapi, "quart": quart, "django": django, "asgi": asgi}


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Run an ASGI application with uvicorn, and yield its URL."""
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.capture_signals = lambda: _nothing()  # type: ignore[method-assign]
    running = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        async with asyncio.timeout(20):
            while not server.started:
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/"
    finally:
        server.should_exit = True
        await running
        sock.close()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@pytest.fixture(params=APPS)
def make(request: pytest.FixtureRequest) -> Callable[[Any, Any], Any]:
    made: Callable[[Any, Any], Any] = APPS[request.param]
    return made


async def test_fastapi_starlette_and_django_send_events_one_by_one(
    make: Callable[[Any, Any], Any],
) -> None:
    model = Stepwise()
    async with served(make(model, "sse")) as url, aiohttp.ClientSession() as client:
        model.let(2)
        async with client.get(url) as response:
            seen = await take(response, 2)
            assert model.said == 2
            model.let()
            seen += await all_events(response)
            assert response.headers["Content-Type"].startswith("text/event-stream")
            assert response.headers["Cache-Control"] == "no-store, no-transform"
            assert response.headers["X-Stream-Id"] == seen[0].message.id
    assert said(seen) == "abcdef"
    assert seen[-1].kind == "complete"


@pytest.mark.parametrize("allowed", [0, 3])
async def test_a_client_that_leaves_stops_the_model(
    make: Callable[[Any, Any], Any], allowed: int
) -> None:
    """Also before the first token: nothing is sent then, and only the server can tell."""
    model = Stepwise()
    async with served(make(model, "sse")) as url, aiohttp.ClientSession() as client:
        model.let(allowed)
        response = await client.get(url)
        await until(lambda: model.active == 1)
        await take(response, allowed)
        response.close()
        await until(lambda: model.active == 0, seconds=5)
    assert model.said == allowed


async def test_other_wires_have_their_headers(make: Callable[[Any, Any], Any]) -> None:
    model = ScriptedModel(STORY)
    async with (
        served(make(model, "ui_messages")) as url,
        aiohttp.ClientSession() as client,
        client.get(url) as response,
    ):
        assert (await response.text()).endswith("data: [DONE]\n\n")
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"


async def test_a_slow_client_holds_the_model(make: Callable[[Any, Any], Any]) -> None:
    model = Stepwise(*[Token("x" * 10_000)] * 2000)
    model.let(10_000)
    async with served(make(model, "sse")) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2][:-1]))
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readline()
        said_before = -1
        while model.said != said_before:  # it is held once nothing more comes for a moment
            said_before = model.said
            await asyncio.sleep(0.3)
        assert model.said < 2000
        writer.close()
        await writer.wait_closed()
        await until(lambda: model.active == 0)


@contextmanager
def flask_served(model: Any) -> Iterator[int]:
    """Run a Flask application with its own server, and yield its port."""
    from flask import Flask, Response
    from werkzeug.serving import make_server

    app = Flask(__name__)

    @app.get("/")
    def answer() -> Response:
        body = events(model.stream("Hi"))
        return Response(body, headers=body.headers)

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


async def test_flask_streams_without_an_event_loop() -> None:
    model = ScriptedModel(STORY, by="word", delay=0.01)
    with flask_served(model) as port:
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{port}/") as response,
        ):
            first = await take(response, 2)
            assert model.active == 1
            rest = await all_events(response)
    assert said([*first, *rest]) == STORY
    assert model.active == 0


async def test_flask_stops_the_model_when_the_client_leaves() -> None:
    model = ScriptedModel("word " * 10_000, by="word", delay=0.01)
    with flask_served(model) as port:
        async with aiohttp.ClientSession() as client:
            response = await client.get(f"http://127.0.0.1:{port}/")
            await take(response, 2)
            response.close()
            await until(lambda: model.active == 0, seconds=10)


async def test_an_asgi_sink_reports_how_it_ended() -> None:
    reports: list[Any] = []
    model = Stepwise()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        stream = model.stream("Hi")
        reports.append(await sinks.asgi(scope, receive, send, stream, on_end=reports.append))

    async with served(app) as url, aiohttp.ClientSession() as client:
        model.let(3)
        response = await client.get(url)
        await take(response, 3)
        response.close()
        await until(lambda: len(reports) == 2)
        model.let()
        async with client.get(url) as response:
            await response.read()
        await until(lambda: len(reports) == 4)
    assert [report.left for report in reports] == [True, True, False, False]
    assert reports[0].result.text == "ab"
    assert reports[-1].result.text == "abcdef"


def test_wrong_arguments_are_refused_at_the_call() -> None:
    stream = ScriptedModel("x").stream("Hi")
    with pytest.raises(ValueError, match="wire must be one of"):
        events(stream, "carrier pigeon")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword"):
        events(stream, "anthropic", logprobs=True)
    with pytest.raises(ValueError, match="heartbeat"):
        events(stream, heartbeat=0)
    with pytest.raises(ValueError, match="printable"):
        events(stream, stream_id="\u00e9")
    with pytest.raises(TypeError, match="stream"):
        events("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="websocket"):
        _ = sinks.asgi({"type": "websocket"}, None, None, stream)  # type: ignore[arg-type]


async def test_pings_fill_the_silence_and_each_iteration_is_a_stream() -> None:
    model = Stepwise()
    body = events(model.stream("Hi"), heartbeat=0.02)
    async with no_leaks():
        pings = 0
        async for data in body:
            if data == b": ping\n":
                pings += 1
                if pings == 2:
                    model.let()
        assert pings >= 2
        model.let()
        assert [data async for data in body][-1].startswith(b"event: complete")


def test_without_a_loop_the_same_is_an_ordinary_iterable() -> None:
    body = events(ScriptedModel(STORY).stream("Hi"), "ndjson")
    lines = b"".join(body).splitlines()
    assert b'"type":"complete"' in lines[-1]
    iterator = iter(body)
    next(iterator)
    body.close()
    assert list(iterator) == []
